"""What the prose of notebook 03 promises."""

import pytest


def two_questions_two_winners(ranks):
    """With one question each you can prove whatever you like."""
    pairs = list(zip(ranks["dense"], ranks["bm25"], strict=True))
    assert any(a and (not b or a < b) for a, b in pairs)
    assert any(b and (not a or b < a) for a, b in pairs)


def both_agree(by_hand, in_ragkit):
    """The same two numbers, by hand and in ragkit."""
    assert in_ragkit == pytest.approx(by_hand)


def words_win(result):
    """Words are better than vectors on all questions."""
    assert result.table.loc["bm25", "verdict"] == "better"


def the_kind_decides(by_kind):
    """Words win on pasted names, vectors on needs in other words. On en and multihop: no difference."""
    assert set(by_kind.loc[["en", "multihop"], "verdict"]) == {"no detectable difference"}
    assert by_kind.loc["keyword", "verdict"] == "better"
    assert by_kind.loc["paraphrase", "verdict"] == "worse"


def sizes_do_not_differ(at_budget):
    """No detectable difference, at the same 2,000 tokens."""
    assert at_budget.table.loc["128 tokens", "verdict"] == "no detectable difference"

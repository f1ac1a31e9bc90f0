"""What the prose of notebook 03 promises."""

import pytest


def half_of_the_faq(kinds):
    """FAQ headings of a few pages: far more questions than pages."""
    faq = kinds["faq"]
    assert len(faq) > 3 * len({question.gold[0].doc_id for question in faq})


def few_chunks_survive(same, before):
    """The labels would be lost: almost none of the chunks stay as they were."""
    assert len(same) < len(before) / 10


def two_questions_two_winners(ranks):
    """With one question each you can prove whatever you like."""
    pairs = list(zip(ranks["dense"], ranks["bm25"], strict=True))
    assert any(a and (not b or a < b) for a, b in pairs)
    assert any(b and (not a or b < a) for a, b in pairs)


def both_agree(by_hand, in_ragkit):
    """The same two numbers, by hand and in ragkit."""
    assert in_ragkit == pytest.approx(by_hand)


def twenty_questions_move_the_score(ranges):
    """The score of 20 questions is far less certain than that of 320."""
    width = {n: high - low for n, (low, high) in ranges.items()}
    assert width[20] > 0.25
    assert width[20] > 2.5 * width[320]


def clusters_widen(alone, clustered):
    """By document the interval is wider."""
    assert clustered.high[0] - clustered.low[0] > 1.1 * (alone.high[0] - alone.low[0])


def the_kind_decides(by_kind):
    """Words win on pasted names, vectors on needs in other words. On en and multihop: no difference."""
    assert set(by_kind.loc[["en", "multihop"], "verdict"]) == {"no detectable difference"}
    assert by_kind.loc["keyword", "verdict"] == "better"
    assert by_kind.loc["paraphrase", "verdict"] == "worse"


def sizes_do_not_differ(at_budget):
    """No detectable difference, at the same 2,000 tokens."""
    assert at_budget.table.loc["128 tokens", "verdict"] == "no detectable difference"


def the_winner_of_a_grid(table):
    """The highest mean would win only about half of the draws, and no verdict tells it from the baseline."""
    assert 0.3 < table.loc[table["mrr@10"].idxmax(), "best"] < 0.8
    assert set(table["verdict"]) == {"baseline", "no detectable difference"}


def quotes_become_spans(labelled, text):
    """The quotes have become gold spans, and the question without an answer has none."""
    found = [text[gold.start : gold.end] for question in labelled for gold in question.gold]
    assert found == ["Hold the red button", "Rinse the filter"]
    assert labelled[-1].gold == ()

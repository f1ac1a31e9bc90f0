"""What the prose of notebook 03 promises."""

import pytest


def few_chunks_survive(same, chunks):
    """Almost none of the chunks remain, and those are short documents that fit into one chunk."""
    assert len(same) < len(chunks) / 10
    assert all(name.split("#")[1].startswith("0-") for name in same)


def both_agree(by_hand, in_ragkit):
    """The second column is computed in ragkit: both agree."""
    assert in_ragkit == pytest.approx(by_hand)


def most_score_0_or_1(mrr, corpus, questions):
    """Most questions score 0 or 1. About half of them come from five FAQ pages."""
    assert mrr.isin([0, 1]).mean() > 0.6
    assert 0.4 < len(corpus.questions) / len(questions) < 0.6


def the_choice_of_questions_moves_the_score(middle):
    """The choice of the questions alone moves the score by 0.1 and more. The blue hill is wider."""
    width = middle.loc[0.975] - middle.loc[0.025]
    assert width["questions"] > 0.09
    assert width["documents"] > 0.18


def words_beat_vectors_here(result):
    """Two systems that differ."""
    assert result.table.loc["bm25", "verdict"] == "better"


def vectors_beat_words_on_paraphrases(everyday):
    """The opposite."""
    assert everyday.table.loc["bm25", "verdict"] == "worse"


def sizes_128_and_256_do_not_differ(result):
    """Two systems that do not differ: no detectable difference."""
    assert result.table.loc["128 tokens", "verdict"] == "no detectable difference"


def the_winner_is_no_better_than_its_neighbours(table):
    """128 and 512 each win in fewer than half of the draws. No verdict calls any size better or worse than 256."""
    winners = table["best_in"].nlargest(2)
    assert set(winners.index) == {"128 tokens", "512 tokens"}
    assert winners.min() > 0.35
    assert winners.max() < 0.5
    assert set(table["verdict"]) == {"baseline", "no detectable difference"}


def the_advantage_of_long_chunks_is_their_text(results):
    """With ten results each, the long chunks win, at four times the text. With the same 2,000 tokens for both, nothing
    of that is left."""
    ten, equal = results["ten results"].table, results["2,000 tokens"].table
    assert ten.loc["512 tokens", "verdict"] == "better"
    assert 3.5 < ten.loc["512 tokens", "tokens"] / ten.loc["128 tokens", "tokens"] < 4.5
    assert equal.loc["512 tokens", "verdict"] == "no detectable difference"
    assert equal.loc["512 tokens", "diff"] < 0.02


def fusion_demotes_some(lost):
    """Demoted by fusion: one of the two had it, and the mixture pushed it out of the first ten."""
    assert (lost["fused"] == "demoted by fusion").any()


def bm25_lost_this_one(question, lost):
    """Here is one that `bm25` lost."""
    assert lost.loc[question.id, "bm25"] == "not retrieved"

"""What the prose of notebook 07 promises."""

import numpy as np


def answer_is_ranked_too_low(rank):
    """No star among the first ten, but the answer is among the fifty."""
    assert 10 < rank <= 50


def deeper_is_more(ceiling):
    """The further down you look, the more answers there are."""
    assert ceiling[1] < ceiling[10] < ceiling[50] < ceiling[200]
    assert ceiling[50] > ceiling[10] + 0.08


def heat_finds_boil(cosines, rows, columns):
    """*water* found itself, and *heat* found *boil*."""
    assert columns[cosines[rows.index("water")].argmax()] == "water"
    assert columns[cosines[rows.index("heat")].argmax()] == "boil"


def same_as_by_hand(cosines, store_cosines, by_hand, found, sentences):
    """The cosines are the same, and the best score is the one computed by hand."""
    assert np.allclose(store_cosines, cosines, atol=1e-4)
    assert found[0].chunk.text == sentences[1]
    assert abs(found[0].score - by_hand) < 1e-4


def answer_moves_to_the_top(reranked, gold, rank):
    """A star, near the top: one of the two passages that are shown."""
    assert any(hit.chunk.span.answers(gold) for hit in reranked[:2])


def reranking_is_better(result):
    """*Better*, without a second model and without training."""
    assert result.table.loc["reranked", "verdict"] == "better"


def every_kind_profits(by_kind):
    """In each pair the right bar is the higher one; `keyword` gains least, and `paraphrase` remains low."""
    gain = by_kind["reranked"] - by_kind["hybrid"]
    assert (gain > 0).all()
    assert gain.idxmin() == "keyword"
    assert by_kind["reranked"].idxmin() == "paraphrase"


def ceiling_holds(curves):
    """The ceiling keeps rising, and no hit@10 is above it; MRR and hit@10 gain nothing beyond 50 candidates."""
    ceiling = curves["within fetch (the ceiling)"]
    assert (ceiling.diff().iloc[1:] > 0).all()
    assert (curves["hit@10"] <= ceiling + 1e-9).all()
    lines = curves[["mrr@10", "hit@10"]]
    assert (lines.loc[[100, 200]] <= lines.loc[50] + 1e-9).all(axis=None)


def loss_moves_to_the_reranker(counts):
    """*cut by rerank* is 0 for a fetch of 10, and the larger the fetch, the more of the loss is the reranker's."""
    cut = counts.loc["cut by rerank"]
    assert cut["fetch 10"] == 0 < cut["fetch 50"] < cut["fetch 200"]


def bad_orders_are_harmless(said):
    """A passage that was left out goes to the end; without an order the old one stays, and the source says so."""
    order, source = said["[3] > [1]"]
    assert order == [3, 1, 2]
    assert source == "llm"
    order, source = said["I would rather not."]
    assert order == [1, 2, 3]
    assert source != "llm"


def means_disagree(found):
    """The first is ahead by the arithmetic mean, the second by the geometric one."""
    first, second = found
    assert first.mean() > second.mean()
    assert np.log(first).mean() < np.log(second).mean()


def advanced_beats_naive(result):
    """`advanced` is better than `naive`, and no part of the search is as good as what the reranker makes of it."""
    assert result.table.loc["advanced", "verdict"] == "better"
    assert result.table["mrr@10"].idxmax() in ("MaxSim", "advanced")


def no_specialist_is_missed(duels):
    """The mixture no longer throws away what its better half had found."""
    for duel in duels.values():
        assert "worse" not in duel["verdict"].tolist()
        assert duel.loc["advanced", "diff"] > -0.02

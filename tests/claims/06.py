"""What the prose of notebook 06 promises."""

import numpy as np


def one_passage_has_the_name_and_vectors_miss_it(hits, named, chunks):
    """No star, and yet the word stands in exactly one passage."""
    assert len(hits) == 10
    assert not any(hit.chunk.span.answers(gold) for hit in hits for gold in named.gold)
    assert sum(named.text in chunk.text for chunk in chunks) == 1


def libraries_agree_on_bm25(by_library):
    """Your lines, ragkit and bm25s agree, and the variant okapi agrees with rank-bm25."""
    assert np.allclose(by_library["ragkit"], by_library["by hand"])
    assert np.allclose(by_library["bm25s"], by_library["by hand"])
    assert np.allclose(by_library["ragkit, okapi"], by_library["rank-bm25"])


def only_split_is_worse(table):
    """Only one verdict: cutting at white space is clearly worse."""
    others = table["verdict"].drop(["all", "split"])
    assert table.loc["split", "verdict"] == "worse"
    assert set(others) == {"no detectable difference"}


def names_need_words_and_paraphrases_need_vectors(by_kind):
    """With names, words win. With paraphrases, words find next to nothing."""
    assert by_kind.loc["keyword", "bm25"] > by_kind.loc["keyword", "dense"] + 0.1
    assert by_kind.loc["paraphrase", "bm25"] < 0.02 < 0.1 < by_kind.loc["paraphrase", "dense"]


def dense_has_the_paraphrase_in_first_place(dense, paraphrase):
    """Here is one whose answer dense has in first place."""
    first = dense.search(paraphrase.text, k=1)[0].chunk
    assert any(first.span.answers(gold) for gold in paraphrase.gold)


def hybrid_agrees_with_hand(fusions):
    """They agree."""
    assert np.allclose(fusions["Hybrid, rrf"], fusions["rrf by hand"], rtol=0, atol=1e-6)
    assert np.allclose(fusions["Hybrid, convex"], fusions["convex by hand"], rtol=0, atol=1e-6)


def no_fusion_is_better_than_words(result, table):
    """No verdict says better, RRF is below; from split to real words was a far larger step than from words to both."""
    assert "better" not in result.table["verdict"].tolist()
    assert result.table.loc["rrf", "diff"] < 0
    assert result.table.loc["convex", "diff"] < -table.loc["split", "diff"] / 2


def fusion_can_lose_to_its_own_best_part(by_kind):
    """For en both fusions pass the better half; RRF loses nearly all paraphrases, and is below bm25 for keyword."""
    assert by_kind.loc["en", ["rrf", "convex"]].min() > by_kind.loc["en", ["bm25", "dense"]].max()
    assert by_kind.loc["paraphrase", "rrf"] < by_kind.loc["paraphrase", "dense"] / 5
    assert by_kind.loc["keyword", "rrf"] < by_kind.loc["keyword", "bm25"]
    for kind in ("keyword", "paraphrase"):
        assert by_kind.loc[kind, "rrf"] < by_kind.loc[kind, "convex"]


def rrf_drops_the_answer_out_of_the_first_ten(places):
    """First place for dense, unknown to bm25, and out of the first ten after RRF. The winner was mentioned by both."""
    answer, winner = 0, 1
    assert places["dense"][answer] == 1
    assert places["bm25"][answer] is None
    assert places["rrf"][answer] > 10
    assert places["bm25"][winner] is not None
    assert places["dense"][winner] is not None


def short_lists_recover_much_of_the_loss(result):
    """With short lists nearly half of RRF's loss is gone."""
    mrr = result.table["mrr@10"]
    regained = (mrr["rrf of 10"] - mrr["rrf"]) / (mrr["dense"] - mrr["rrf"])
    assert 0.35 < regained < 0.5


def each_kind_has_its_own_best_weight(lines):
    """For names and for faq the best weight lies right of the middle, for paraphrases at the left edge."""
    best = lines.idxmax()
    assert best["keyword"] > 0.5
    assert best["faq"] > 0.5
    assert best["paraphrase"] < 0.1


def five_pages_cannot_fix_the_weight(fits):
    """The weight's interval spans several steps of the grid, and on other pages it scores what equal weights score."""
    fit = fits["faq"]
    assert fit.high - fit.low > 0.15
    assert abs(fit.cross_validated - fit.equal) < 0.01


def tutorial_hybrid_brings_nothing_detectable(result):
    """Nothing detectable for the second retriever; with real terms and scores, the same idea stands well above it."""
    assert result.table.loc["tutorial hybrid", "verdict"] == "no detectable difference"
    assert result.table.loc["convex", "mrr@10"] > result.table.loc["tutorial hybrid", "mrr@10"] + 0.05


def tutorial_hybrid_demotes_most(counts):
    """Demoted by fusion: the tutorial's hybrid loses more answers so than the convex combination."""
    assert counts.loc["demoted by fusion", "tutorial hybrid"] > counts.loc["demoted by fusion", "convex"]

"""What the prose of notebook 06 promises."""

import numpy as np

from ragkit.retrieval.bm25 import BM25Retriever


def each_search_fails_where_the_other_is_right(ranks, first_and_lost):
    """Vectors miss what people paste, words miss what is said in other words."""
    names = first_and_lost.loc["CELERY_RDBSIG SIGUSR2"]
    assert names["words"] == 1
    assert names["vectors"] > 50
    assert (first_and_lost["words"] > 100).sum() >= 2
    assert ranks.index.is_unique


def by_hand_and_ragkit_agree_on_bm25(by_hand, kitchen, query, terms, b, k1):
    """By hand and in ragkit the scores are the same; the lever wins, and of the two kettles the shorter sentence.

    In rank_bm25 the weight of a term in half of the texts is 0.
    """
    from rank_bm25 import BM25Okapi

    assert sum("kettl" in own for own in terms) == len(terms) / 2
    assert BM25Okapi(terms).idf["kettl"] == 0
    scores = BM25Retriever(kitchen).scores(query)
    assert abs(by_hand - scores[-1]) < 1e-9
    clean, press, fill, lamp = scores
    assert press > fill > clean > lamp == 0
    length = len(terms[1]) / np.mean([len(own) for own in terms])
    assert np.isclose(press, np.log(1 + 3.5 / 1.5) / (1 + k1 * (1 - b + b * length)))


def rank_bm25_gives_a_term_of_half_the_texts_no_weight(weights, terms):
    """In rank_bm25 the weight of a term in half of the texts is 0, and that of a rarer one is more."""
    assert sum("kettl" in own for own in terms) == len(terms) / 2
    assert weights["kettl"] == 0 < weights["lever"]


def by_hand_and_ragkit_agree_on_fusion(parts, query, rrf, weighted, sentences):
    """By hand and in ragkit; RRF finds three sentences equal to four digits, and by the weighted sum the lever wins."""
    from ragkit import Hybrid

    for fusion, by_hand in (("rrf", rrf), ("convex", weighted)):
        hits = Hybrid(parts, fusion=fusion).search(query, k=4)
        assert np.allclose([by_hand[hit.chunk.text] for hit in hits], [hit.score for hit in hits], rtol=0, atol=1e-6)
    assert len({round(rrf[text], 4) for text in sentences[:3]}) == 1
    assert weighted[sentences[1]] > max(weighted[text] for text in sentences if text != sentences[1]) + 0.2


def rrf_drops_what_one_list_alone_has(shares, texts, fused, ranks, questions, rank_of_answer):
    """Nothing is lost that both have, nearly nothing gained that neither has; RRF keeps 2 of 8, the other all 8."""
    lists = (ranks <= 10).sum(axis=1)  # how many of the two lists have the answer in their first ten
    assert (lists == 1).sum() > len(questions) / 10
    assert (texts["RRF"].loc["none", "1"], texts["weighted sum"].loc["none", "1"]) == ("2 of 8", "8 of 8")
    kept = {}
    for name, hybrid in fused.items():
        first_ten = np.array([rank_of_answer(hybrid, question) <= 10 for question in questions])
        assert first_ten[lists == 2].all()
        assert first_ten[lists == 0].sum() <= 0.02 * (lists == 0).sum()
        kept[name] = first_ten[lists == 1].sum()
    assert kept["weighted sum"] > kept["RRF"] + 10
    assert (shares["weighted sum"].loc["none"] >= shares["RRF"].loc["none"]).all()


def fusion_wins_on_names_and_loses_on_paraphrases(result, kinds):
    """Both fusions win on names, as words do, and on multi-hop questions; they lose on paraphrases, RRF most.

    Over all the weighted sum is better, and for RRF no difference is detectable.
    """
    names, paraphrases = (result.only(kinds[kind]).table for kind in ("keyword", "paraphrase"))
    assert result.only(kinds["multihop"]).table.loc[["RRF", "weighted sum"], "diff"].min() > 0.06
    for system in ("RRF", "weighted sum"):
        assert names.loc[system, "verdict"] == names.loc["bm25", "verdict"] == "better"
        assert paraphrases.loc[system, "verdict"] == "worse"
    coverage = paraphrases["coverage@2000"]
    assert coverage["RRF"] < coverage["dense"] / 3 < coverage["weighted sum"]
    assert result.table.loc["weighted sum", "verdict"] == "better"
    assert result.table.loc["RRF", "verdict"] == "no detectable difference"


def sixteen_passages_with_two_votes(fused, question, by_words, by_vectors, rank_of_answer, dense):
    """The answer, first by vectors, is number 17; each of the 16 before it is in both lists, the last at 80 and 42.

    Rank 61 in both lists beats first place in one.
    """
    assert 2 / (60 + 61) > 1 / (60 + 1)
    assert rank_of_answer(dense, question) == 1
    *before, answer = (hit.chunk.id for hit in fused["RRF"].search(question.text, k=17))
    assert rank_of_answer(fused["RRF"], question) == 17
    assert by_vectors.index(answer) == 0
    assert answer not in by_words
    assert all(chunk in by_words and chunk in by_vectors for chunk in before)
    assert (by_words.index(before[-1]) + 1, by_vectors.index(before[-1]) + 1) == (80, 42)

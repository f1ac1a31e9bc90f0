"""Fusion against a brute-force oracle on 1,000 random corpora, its invariances, and the fit of its weights."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Hit, InputError, Question, Retriever, Span
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.hybrid import Hybrid, fuse, minmax


class Listed(Retriever):
    """Returns the hits that it was given for each query."""

    def __init__(self, source, answers):
        self.source, self.answers = source, answers

    def _search(self, query, k):
        scores = self.answers.get(query, {})
        ordered = sorted(scores, key=lambda name: (-scores[name], name))
        return [Hit(Chunk(name, 0, 10, "some words"), scores[name], self.source) for name in ordered[:k]]


def random_inputs(rng):
    names = [f"d{i}" for i in range(rng.randrange(1, 15))]
    sources = rng.sample(["bm25", "dense:pooled", "other"], rng.randrange(1, 4))
    inputs = []
    for source in sources:
        found = rng.sample(names, rng.randrange(len(names) + 1))
        draw = {"bm25": lambda: rng.choice([1.0, 2.0, rng.uniform(0, 20)]), "dense:pooled": lambda: rng.uniform(-1, 1)}
        inputs.append(Listed(source, {"q": {n: draw.get(source, rng.random)() for n in found}}))
    return inputs


def brute_force(inputs, fusion, weights, fetch, k):
    """The definition, one chunk and one list at a time, without arrays."""
    depth = max(fetch, k)
    lists = [{h.chunk.doc_id: h.score for h in r.search("q", depth)} for r in inputs]
    totals = {}
    for name in {name for found in lists for name in found}:
        total = 0.0
        for found, weight in zip(lists, weights, strict=True):
            if not found:
                continue
            ranked, scores = list(found), list(found.values())
            low, high = min(scores), max(scores)
            if fusion == "rrf":
                value = 1 / (60 + ranked.index(name) + 1) if name in found else 0.0
            else:
                value = ((found[name] - low) / (high - low) if high > low else 1.0) if name in found else 0.0
            total += weight * value / (1 if fusion == "rrf" else sum(weights))
        totals[name] = total
    return totals


@pytest.mark.parametrize("fusion", ["rrf", "convex"])
def test_hybrid_equals_brute_force_on_a_thousand_corpora(fusion):
    for seed in range(1_000):
        rng = random.Random(seed)
        inputs = random_inputs(rng)
        weights = [rng.choice([0.0, 1.0, 3 * rng.random()]) for _ in inputs]
        weights = weights if sum(weights) else [1.0] * len(weights)
        fetch, k = rng.choice([1, 3, 5, 100]), rng.choice([1, 3, 10, 50])
        hits = Hybrid(inputs, fusion, weights, fetch).search("q", k)
        expected = brute_force(inputs, fusion, weights, fetch, k)
        assert len(hits) == min(k, len(expected))
        assert [h.score for h in hits] == pytest.approx(sorted(expected.values(), reverse=True)[:k], abs=1e-9)
        assert all(expected[h.chunk.doc_id] == pytest.approx(h.score, abs=1e-9) for h in hits)


@given(st.integers(0, 10_000), st.floats(0.001, 1_000), st.floats(-50, 50))
def test_rrf_does_not_see_the_scale_of_scores(seed, factor, shift):
    inputs = random_inputs(random.Random(seed))
    scaled = [Listed(r.source, {"q": {n: s * factor + shift for n, s in r.answers["q"].items()}}) for r in inputs]
    ties = [[len(set(r.answers["q"].values())) for r in side] for side in (inputs, scaled)]
    if ties[0] == ties[1]:  # rounding may make two scores equal that were not
        assert [(h.chunk, h.score) for h in Hybrid(inputs).search("q", 50)] == [
            (h.chunk, h.score) for h in Hybrid(scaled).search("q", 50)
        ]


@given(scores=st.lists(st.floats(-1, 100), min_size=1, max_size=20))
def test_stretched_scores_lie_in_0_to_1_in_the_same_order(scores):
    values = minmax(np.array(scores))
    assert values.min() >= 0
    assert values.max() == 1
    assert (np.diff(values[np.argsort(scores)]) >= 0).all()


def test_a_chunk_found_twice_is_one_hit_and_keeps_both_scores():
    a, b = Listed("bm25", {"q": {"x": 7.0, "y": 3.0}}), Listed("dense:maxp", {"q": {"x": 0.5, "z": 0.4}})
    hits = Hybrid([a, b]).search("q", 10)
    assert [h.chunk.doc_id for h in hits] == ["x", "y", "z"]
    assert hits[0].scores == {"bm25": 7.0, "dense:maxp": 0.5}
    assert hits[0].source == "hybrid:rrf"
    twice = Hybrid([a, a]).search("q", 10)
    assert twice[0].scores == {"bm25 #1": 7.0, "bm25 #2": 7.0}
    nested = Hybrid([Hybrid([a, b], "convex"), a]).search("q", 1)[0]
    assert set(nested.scores) == {"bm25", "dense:maxp", "hybrid:convex"}


class Doubled(Listed):
    def _search(self, query, k):
        return [hit for hit in super()._search(query, k) for _ in range(2)][:k]


def test_a_list_with_duplicates_counts_each_chunk_once():
    scores = {"q": {"x": 3.0, "y": 2.0}}
    assert Hybrid([Doubled("a", scores)]).search("q") == Hybrid([Listed("a", scores)]).search("q")


def test_searching_changes_no_score():
    inputs = random_inputs(random.Random(3))
    before = copy.deepcopy([r.answers for r in inputs])
    hits = [r.search("q", 10) for r in inputs]
    kept = copy.deepcopy(hits)
    hybrid = Hybrid(inputs, "convex")
    assert hybrid.search("q", 5) == hybrid.search("q", 5) == hybrid.search_many(["q"], 5)[0]
    assert [r.answers for r in inputs] == before
    assert hits == kept


def test_weights_move_the_result():
    a, b = Listed("a", {"q": {"x": 1.0}}), Listed("b", {"q": {"y": 1.0}})
    assert Hybrid([a, b], weights=[2, 1]).search("q", 1)[0].chunk.doc_id == "x"
    assert Hybrid([a, b], weights=[1, 2]).search("q", 1)[0].chunk.doc_id == "y"
    assert Hybrid([a, b], weights=[1, 3]).search("q", 1)[0].score == pytest.approx(3 / 61)
    assert Hybrid([a, b], "convex", weights=[1, 3]).search("q", 1)[0].score == pytest.approx(0.75)


def test_the_score_of_rrf_is_the_published_sum():
    a, b = Listed("a", {"q": {"x": 7.0, "y": 3.0}}), Listed("b", {"q": {"x": 0.5}})
    assert [h.score for h in Hybrid([a, b]).search("q")] == pytest.approx([2 / 61, 1 / 62])
    assert fuse([], 3) == fuse([[], []], 3, "convex") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": []}, "no inputs"),
        ({"fusion": "sum"}, "'rrf' or 'convex'"),
        ({"fetch_k": 0}, "1 or more"),
        ({"fetch_k": 2.5}, "whole number"),
        ({"weights": [1]}, "2 numbers"),
        ({"weights": [0, 0]}, "not all 0"),
        ({"weights": [1, -1]}, "0 or more"),
        ({"weights": [1, math.nan]}, "2 numbers"),
    ],
)
def test_settings_outside_their_range_are_refused(arguments, message):
    inputs = [Listed("a", {}), Listed("b", {})]
    with pytest.raises(InputError, match=message):
        Hybrid(**{"inputs": inputs, **arguments})


def labelled(good_share):
    """200 questions about 20 documents; the first retriever knows ``good_share`` of them, the second is noise."""
    rng = random.Random(0)
    questions, good, noise = [], {}, {}
    names = [f"d{i:02}" for i in range(20)]
    for i in range(200):
        gold = names[i % 20]
        questions.append(Question(str(i), f"q{i}", (Span(gold, 0, 10),)))
        good[f"q{i}"] = {n: rng.random() + (rng.random() < good_share) * (n == gold) for n in names}
        noise[f"q{i}"] = {n: rng.random() for n in names}
    return questions, Listed("good", good), Listed("noise", noise)


@pytest.mark.parametrize("fusion", ["rrf", "convex"])
def test_fit_finds_the_better_retriever(fusion):
    questions, good, noise = labelled(0.9)
    hybrid = Hybrid([noise, good], fusion)
    tuned = hybrid.fit(questions)
    assert tuned.weights[1] > 0.6
    assert tuned.weights[0] == tuned.fitted.weight
    assert tuned.fitted.low <= tuned.fitted.weight <= tuned.fitted.high
    assert tuned.fitted.score_low < tuned.fitted.cross_validated < tuned.fitted.score_high
    assert tuned.fitted.cross_validated > tuned.fitted.equal + 0.05
    assert "cross-validated" in repr(tuned.fitted)
    assert hybrid.weights == (1, 1)
    assert hybrid.fitted is None
    assert hybrid.fit(questions).weights == tuned.weights


def test_the_fitted_score_is_the_score_of_the_search():
    questions, good, noise = labelled(0.6)
    fit = Hybrid([good, noise], "convex").fit(questions).fitted
    for i in (0, 7, 20):
        hybrid = Hybrid([good, noise], "convex", weights=[fit.grid[i], 1 - fit.grid[i]])
        ranks = [[h.chunk.doc_id for h in hybrid.search(q.text, 10)] for q in questions]
        gold = [q.gold[0].doc_id for q in questions]
        found = [1 / (r.index(g) + 1) for r, g in zip(ranks, gold, strict=True) if g in r]
        assert sum(found) / len(questions) == pytest.approx(fit.scores[i])


def test_labels_that_say_nothing_leave_a_wide_interval_and_no_gain():
    questions, _, noise = labelled(0)
    fit = Hybrid([noise, Listed("other", dict(reversed(list(noise.answers.items()))))], "convex").fit(questions).fitted
    assert fit.weight == 0.5  # two equal lists: every weight is as good, and equal weights win ties
    _, other, noise = labelled(0)
    fit = Hybrid([other, noise], "convex").fit(questions).fitted
    assert fit.high - fit.low > 0.3
    assert fit.cross_validated <= fit.scores.max()


def test_fit_needs_gold_in_two_documents():
    questions, good, noise = labelled(0.5)
    with pytest.raises(InputError, match="two documents or more"):
        Hybrid([good, noise]).fit(questions[:1])
    with pytest.raises(InputError, match="0 document"):
        Hybrid([good, noise]).fit([Question("x", "unanswerable")])
    with pytest.raises(InputError, match="3 inputs: expected two"):
        Hybrid([good] * 3).fit(questions)


def test_real_retrievers_and_nothing_found():
    chunks = [Chunk("a", 0, 9, "red house"), Chunk("b", 0, 8, "red wine")]
    hybrid = Hybrid([BM25Retriever(chunks), BM25Retriever(chunks, "okapi")], "convex")
    assert hybrid.search("unknown") == []
    assert [h.chunk.doc_id for h in hybrid.search("wine")] == ["b"]


def test_the_order_depends_on_k_only_above_fetch():
    first = Listed("first", {"q": {"a": 10.0, "b": 9.0, "c": 0.0}})
    second = Listed("second", {"q": {"b": 4.0, "c": 3.9, "a": 0.0}})
    for fusion in ("rrf", "convex"):
        deep = Hybrid([first, second], fusion, fetch_k=3)
        assert [[h.chunk.doc_id for h in deep.search("q", k)] for k in (1, 2, 3)] == [
            [h.chunk.doc_id for h in deep.search("q", 3)][:k] for k in (1, 2, 3)
        ]
    shallow = Hybrid([first, second], "convex", fetch_k=2)
    orders = [[h.chunk.doc_id for h in shallow.search("q", k)] for k in (2, 3)]
    assert orders == [["a", "b"], ["b", "a", "c"]]

"""The metrics against the field's own tools, against brute force, and on rankings worked out by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, InputError, Span
from ragkit.evaluation import metrics as m

LENGTH = 100
METRICS = {
    "hit@1": "success_1",
    "hit@5": "success_5",
    "hit@10": "success_10",
    "recall@10": "recall_10",
    "precision@10": "P_10",
    "mrr@10": "recip_rank",
    "ndcg@10": "ndcg_cut_10",
    "map@10": "map_cut_10",
}


def chunk(doc_id: str, start: int = 0, end: int = LENGTH) -> Chunk:
    return Chunk(doc_id, start, end, "x" * (end - start))


def random_run(rng: random.Random) -> tuple[dict[str, float], dict[str, int]]:
    """Scores with many ties and labels with grades 0 to 3: documents that nobody judged, judged ones that are
    not retrieved, empty results."""
    documents = [f"d{i:02d}" for i in range(30)]
    scores = {d: float(rng.choice((1, 2, 3, 4))) for d in rng.sample(documents, rng.choice((0, 1, 4, 10)))}
    grades = {d: rng.choice((0, 1, 1, 2, 3)) for d in rng.sample(documents, rng.randint(1, 12))}
    grades[rng.choice(documents)] = 1
    return scores, grades


def test_document_labels_give_the_figures_of_trec_eval_on_1000_random_runs() -> None:
    """pytrec_eval runs trec_eval's own C code."""
    rng = random.Random(5)
    pairs = {f"q{i:04d}": random_run(rng) for i in range(1000)}
    # trec_eval breaks ties by document id, last first; a retriever hands over an order that is already final.
    order = {q: sorted(run, key=lambda d: (run[d], d), reverse=True) for q, (run, _) in pairs.items()}
    ours = {
        q: m.score([chunk(d) for d in order[q]], [Span(d, 0, LENGTH, g) for d, g in grades.items()])
        for q, (_, grades) in pairs.items()
    }
    measures = {"success.1,5,10", "recall.10", "P.10", "recip_rank", "ndcg_cut.10", "map_cut.10"}
    evaluator = pytrec_eval.RelevanceEvaluator({q: grades for q, (_, grades) in pairs.items()}, measures)
    # A question without results is absent from a run file, and counts 0 in every figure.
    theirs = evaluator.evaluate({q: run for q, (run, _) in pairs.items() if run})
    for name, measure in METRICS.items():
        values = np.array([ours[q][name] for q in pairs])
        assert len(set(values.tolist())) > 1
        np.testing.assert_allclose(values, [theirs.get(q, {}).get(measure, 0.0) for q in pairs], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 100, True), (90, 200, True), (91, 200, False), (95, 97, True), (100, 120, False), (80, 180, True)],
)
def test_a_chunk_is_relevant_from_half_of_the_shorter_on(start: int, end: int, expected: bool) -> None:
    assert m.is_relevant(chunk("a", start, end), Span("a", 80, 100)) is expected
    assert not m.is_relevant(chunk("b", start, end), Span("a", 80, 100))


def test_an_empty_chunk_is_never_relevant() -> None:
    assert not m.is_relevant(chunk("a", 5, 5), Span("a", 0, 10))


def test_a_chunk_of_a_document_that_is_gold_as_a_whole_is_relevant() -> None:
    assert m.is_relevant(chunk("a", 40, 50), Span("a", 0, LENGTH))


def test_several_chunks_of_one_gold_span_count_once() -> None:
    gold = [Span("a", 0, 100), Span("b", 0, 100)]
    once = m.score([chunk("a", 0, 60), chunk("c"), chunk("c", 100, 200)], gold)
    twice = m.score([chunk("a", 0, 60), chunk("a", 40, 100), chunk("a", 20, 80)], gold)
    for name in METRICS:
        assert once[name] == twice[name]
    assert twice["recall@10"] == 0.5
    assert twice["precision@10"] == 0.1


def test_a_chunk_with_two_gold_spans_finds_both_and_nothing_exceeds_one() -> None:
    gold = [Span("a", 0, 50), Span("a", 50, 100), Span("b", 0, 100)]
    values = m.score([chunk("a"), chunk("c"), chunk("b")], gold)
    assert values["recall@10"] == 1.0
    # Places 1, 2 (the second span of chunk 1) and 3: the ideal order.
    assert values["ndcg@10"] == pytest.approx(1.0)
    assert values["map@10"] == pytest.approx(1.0)
    assert values["precision@10"] == pytest.approx(0.3)
    assert m.score([chunk("a")], gold, k=1)["recall@1"] == pytest.approx(2 / 3)


def test_grades_weigh_in_ndcg_by_hand() -> None:
    gold = [Span("a", 0, LENGTH, 3), Span("b", 0, LENGTH, 1), Span("c", 0, LENGTH, 0)]
    value = m.score([chunk("c"), chunk("b"), chunk("a")], gold)
    discount = [1 / np.log2(n + 1) for n in (1, 2, 3)]
    assert value["ndcg@10"] == pytest.approx((discount[1] + 3 * discount[2]) / (3 * discount[0] + discount[1]))
    assert value["mrr@10"] == 0.5
    assert value["recall@10"] == 1.0


def test_a_span_listed_twice_is_one_span_with_its_highest_grade() -> None:
    assert m.relevant_gold([Span("a", 0, 5), Span("a", 0, 5, 2), Span("b", 0, 5, 0)]) == (Span("a", 0, 5, 2),)


def test_character_metrics_by_hand() -> None:
    # Gold 20-60; retrieved 0-40 and 30-50 (60 characters, 10 of them twice); in both: 20-50.
    values = m.score([chunk("a", 0, 40), chunk("a", 30, 50)], [Span("a", 20, 60)])
    assert values["gold_chars@10"] == 30 / 40
    assert values["token_precision@10"] == 30 / 60
    assert values["iou@10"] == 30 / (40 + 60 - 30)


def test_coverage_by_hand() -> None:
    chunks, gold = [chunk("a", 0, 40), chunk("a", 30, 50), chunk("b", 5, 6)], [Span("a", 20, 60), Span("b", 0, 10)]
    assert m.coverage(chunks, gold) == pytest.approx((30 / 40 + 1 / 10) / 2)
    assert m.coverage(chunks, gold, any_of=True) == 30 / 40
    assert m.coverage([], gold) == m.coverage([], gold, any_of=True) == 0
    for nothing in ([], [Span("a", 3, 3)]):
        with pytest.raises(InputError, match="expected one span or more, each of one character or more"):
            m.coverage(chunks, nothing)


def test_alternatives_are_one_need() -> None:
    gold = [Span("a", 0, 50), Span("b", 0, 10), Span("c", 0, 10)]
    ranking = [chunk("x"), chunk("b"), chunk("a", 0, 50)]
    either = m.score(ranking, gold, k=3, any_of=True)
    assert (either["recall@3"], either["mrr@3"], either["map@3"]) == (1.0, 0.5, 0.5)
    assert either["precision@3"] == pytest.approx(1 / 3)
    assert either["ndcg@3"] == pytest.approx(1 / np.log2(3))
    assert either["gold_chars@3"] == 1.0
    assert m.score(ranking, gold, k=3)["recall@3"] == pytest.approx(2 / 3)
    assert set(m.score(ranking[:1], gold, k=3, any_of=True).values()) == {0.0}
    with pytest.raises(InputError, match="no gold span"):
        m.score(ranking, [], any_of=True)


def test_nothing_retrieved_is_zero_everywhere() -> None:
    assert set(m.score([], [Span("a", 0, 10)]).values()) == {0.0}


def test_no_gold_and_no_k_are_refused() -> None:
    with pytest.raises(InputError, match="no gold span"):
        m.score([chunk("a")], [Span("a", 0, 10, 0)])
    with pytest.raises(InputError, match="k is 0"):
        m.hit(np.array([1]), 0)
    with pytest.raises(InputError, match="empty"):
        m.score([chunk("a")], [Span("a", 3, 3)])


pieces = st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.integers(1, 30))
rankings = st.lists(pieces.map(lambda p: chunk(p[0], p[1], p[1] + p[2])), max_size=14)
golds = st.lists(st.builds(lambda p, g: Span(p[0], p[1], p[1] + p[2], g), pieces, st.integers(1, 3)), min_size=1)


@given(rankings, golds, st.integers(1, 12))
def test_every_metric_lies_in_zero_to_one_and_k_never_hurts_recall(
    chunks: list[Chunk], gold: list[Span], k: int
) -> None:
    values = m.score(chunks, gold, k)
    either = m.score(chunks, gold, k, any_of=True)
    assert all(0 <= value <= 1 + 1e-12 for value in either.values())
    assert all(either[f"{name}@{k}"] >= values[f"{name}@{k}"] - 1e-12 for name in ("hit", "recall", "mrr"))
    assert tuple(values) == m.metric_names(k)
    assert all(0 <= value <= 1 + 1e-12 for value in values.values())
    more = m.score(chunks, gold, k + 1)
    for name in ("hit", "recall", "mrr", "gold_chars"):
        assert more[f"{name}@{k + 1}"] >= values[f"{name}@{k}"] - 1e-12


@given(rankings, golds)
def test_coverage_equals_counting_one_by_one(chunks: list[Chunk], gold: list[Span]) -> None:
    held = {(c.doc_id, i) for c in chunks for i in range(c.start, c.end)}
    shares = [sum((g.doc_id, i) in held for i in range(g.start, g.end)) / len(g) for g in gold]
    assert m.coverage(chunks, gold) == pytest.approx(sum(shares) / len(shares))
    assert m.coverage(chunks, gold, any_of=True) == pytest.approx(max(shares))


@given(rankings, golds)
def test_character_metrics_equal_counting_one_by_one(chunks: list[Chunk], gold: list[Span]) -> None:
    wanted = {(g.doc_id, i) for g in gold for i in range(g.start, g.end)}
    shown = [(c.doc_id, i) for c in chunks for i in range(c.start, c.end)]
    both = len(wanted & set(shown))
    share, precision, iou = m.character_metrics(chunks, gold)
    assert share == both / len(wanted)
    assert precision == (both / len(shown) if shown else 0)
    assert iou == both / (len(wanted) + len(shown) - both)

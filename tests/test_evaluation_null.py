"""The null test: what becomes of each metric if only the chunk size changes, and nobody searches?

A random ranking, cut at a fifth of the corpus' tokens, holds a fifth of the text, whatever the size of the chunks. A
metric whose expected value then moves with the size answers for the size, not for the search: nothing may compare
sizes with it, and its docstring says in which direction it leans.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from ragkit.base import Chunk, Corpus, Hit, Question, Span
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.evaluation import metrics as m
from ragkit.evaluation.compare import compare
from ragkit.evaluation.metrics import CountedOnce, cut
from ragkit.evaluation.tune import COVERAGE
from ragkit.notebook.widgets import LabSettings
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.tokens import minilm_tokenizer

SIZES = (32, 64, 128, 256, 512, 1024)
PARTS = 5  # N is a fifth of the corpus' tokens
TOLERANCE = 0.05
FUNCTIONS: dict[str, Callable[..., object]] = {
    "hit": m.hit,
    "recall": m.recall,
    "precision": m.precision,
    "mrr": m.reciprocal_rank,
    "ndcg": m.ndcg,
    "map": m.average_precision,
    "gold_chars": m.character_metrics,
    "token_precision": m.character_metrics,
    "iou": m.character_metrics,
    "coverage": m.coverage,
    "context_coverage": m.context_coverage,
}
SENTENCE = "At equal tokens a random ranking scores "
SAME = "the same with every chunk size."
SMALLER = "higher with smaller chunks."
LARGER = "higher with larger chunks."
BOTH = "higher with small and with large chunks than with those between."


def stated(name: str) -> str:
    """In which direction a metric leans by its docstring."""
    text = " ".join(str(FUNCTIONS[name].__doc__).split())
    (leaning,) = (words for words in (SAME, SMALLER, LARGER, BOTH) if SENTENCE + words in text)
    return leaning


def measured(by_size: Mapping[int, float]) -> str:
    """In which direction it leans by its expected values: in none if all of them lie within 5 % of each other."""
    of_smallest, *_, of_largest = (by_size[size] for size in SIZES)
    limit = min(by_size.values()) * (1 + TOLERANCE)
    if max(by_size.values()) <= limit:
        return SAME
    if min(of_smallest, of_largest) > limit:
        return BOTH
    return LARGER if of_largest > of_smallest else SMALLER


@dataclass(frozen=True)
class Ranking:
    """The first N tokens of a random ranking: all of it, and each document's part with its ranks."""

    hits: Sequence[Hit]
    of_document: Mapping[str, Sequence[tuple[int, Chunk]]]
    characters: int


def random_rankings(chunks: Sequence[Chunk], tokenizer: CountedOnce, permutations: int) -> Iterator[Ranking]:
    """Permutations of ``chunks``, each read from ``PARTS`` places in equal distances: a chunk comes up equally often,
    so that the mean needs few of them."""
    rng = np.random.default_rng(0)
    tokens = np.array([tokenizer.count(chunk.text) for chunk in chunks])
    budget = int(tokens.sum()) // PARTS
    for order in (rng.permutation(len(chunks)) for _ in range(permutations)):
        begins = np.searchsorted(np.cumsum(tokens[order]), budget * np.arange(PARTS))
        for begin in begins:
            hits = cut([Hit(chunks[i], 0.0) for i in np.roll(order, -begin)], budget, tokenizer)
            of_document = defaultdict(list)
            for rank, hit in enumerate(hits, 1):
                of_document[hit.chunk.doc_id].append((rank, hit.chunk))
            yield Ranking(hits, of_document, sum(len(hit.chunk.text) for hit in hits))


def values(ranking: Ranking, gold: Span) -> dict[str, float]:
    """Every metric of a ranking, for a question with one gold span. Other documents' chunks answer nothing, so that
    their number and their length are all that must be known of them."""
    near = [(rank, chunk) for rank, chunk in ranking.of_document.get(gold.doc_id, ()) if chunk.span.overlap(gold)]
    if not near:
        return {}
    chunks, depth = [chunk for _, chunk in near], len(ranking.hits)
    (first,) = m.first_ranks(chunks, [gold])
    ranks = np.array([near[first - 1][0] if first else 0])
    others = ranking.characters - sum(len(chunk.text) for chunk in chunks)
    in_characters = m.character_metrics([*chunks, Chunk("others", 0, others, "")], [gold])
    return {
        "hit": m.hit(ranks, depth),
        "recall": m.recall(ranks, depth),
        "precision": m.precision(ranks, depth),
        "mrr": m.reciprocal_rank(ranks, depth),
        "ndcg": m.ndcg(ranks, [1], depth),
        "map": m.average_precision(ranks, depth),
        **dict(zip(("gold_chars", "token_precision", "iou"), in_characters, strict=True)),
        "coverage": m.coverage(chunks, [gold]),
    }


def golds(corpus: Corpus) -> list[Span]:
    """The answers of the FAQ pages, and the texts of other sections, which are labelled in the same way."""
    sections = [(d.id, s.body, s.end) for d in corpus.documents for s in d.sections if s.end - s.body > 40]
    picked = np.random.default_rng(0).choice(len(sections), 200, replace=False)
    return [span for question in corpus.questions for span in question.gold] + [Span(*sections[i]) for i in picked]


@pytest.fixture(scope="module")
def expected(tiny: Corpus) -> dict[str, dict[int, float]]:
    """The expected value of every metric under random rankings, by metric and chunk size."""
    tokenizer, spans = CountedOnce(minilm_tokenizer()), golds(tiny)
    few = Corpus("few", tiny.documents[::6])
    few_spans = [span for span in spans if span.doc_id in {document.id for document in few.documents}]
    means: dict[str, dict[int, float]] = {name: {} for name in FUNCTIONS}
    for size in SIZES:
        rows = [
            values(ranking, span)
            for ranking in random_rankings(chunk_corpus(FixedChunker(size, 0), tiny), tokenizer, permutations=4)
            for span in spans
        ]
        for name in FUNCTIONS:
            means[name][size] = sum(row.get(name, 0.0) for row in rows) / len(rows)
        chunks = chunk_corpus(FixedChunker(size, 0), few)
        budget = sum(tokenizer.count(chunk.text) for chunk in chunks) // PARTS
        in_context = [
            m.context_coverage(ranking.hits, few_spans, budget, tokenizer)
            for ranking in random_rankings(chunks, tokenizer, permutations=2)
        ]
        means["context_coverage"][size] = float(np.mean(in_context))
    return means


def test_every_metric_is_tested() -> None:
    assert set(FUNCTIONS) == {name.split("@")[0] for name in m.metric_names(10, budget=2000)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_metric_leans_as_its_docstring_says(name: str, expected: dict[str, dict[int, float]]) -> None:
    assert measured(expected[name]) == stated(name), expected[name]


def test_recall_by_half_of_the_shorter_fails_the_null_test(expected: dict[str, dict[int, float]]) -> None:
    """The control: the test finds a metric that small chunks satisfy with less of the answer."""
    assert measured(expected["recall"]) == SMALLER
    assert expected["recall"][32] > 1.5 * expected["recall"][1024]


def test_a_random_ranking_holds_its_share_of_the_gold(expected: dict[str, dict[int, float]]) -> None:
    assert list(expected["coverage"].values()) == pytest.approx([1 / PARTS] * len(SIZES), rel=TOLERANCE)


def test_sizes_are_compared_by_a_metric_that_does_not_lean(tiny: Corpus) -> None:
    """What is compared by default at equal tokens, in the lab and by ``tune``."""
    chunks = chunk_corpus(FixedChunker(256, 0), tiny)
    question = Question("a", "How?", (chunks[0].span,))
    questions = (question, Question("b", "Why?", (chunks[9].span,)))
    by_default = compare({"a": BM25Retriever(chunks)}, questions, same_budget=500, progress=False).metric
    for metric in (by_default, LabSettings().metric, COVERAGE):
        assert stated(metric.split("@")[0]) == SAME

"""The computation behind the chunk-size lab, without a widget: a setting in, figures out.

Documents are tokenized, analyzed and encoded once, and questions too. What is left to do for a new chunk
size is to cut, to pool and to rank, which is fast enough to follow a slider.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Chunker, Corpus, Hit, InputError, Question, Retriever
from ragkit.chunking import (
    FixedChunker,
    HeadingChunker,
    RecursiveChunker,
    SemanticChunker,
    SentenceChunker,
    chunk_corpus,
    layout_of,
)
from ragkit.evaluation import statistics
from ragkit.evaluation.metrics import BUDGET, coverage, first_ranks, reciprocal_rank, relevant_gold, score
from ragkit.retrieval.analysis import AnalyzedCorpus
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.token_store import TokenStore
from ragkit.tokens import minilm_tokenizer

_CHUNKERS: Mapping[str, type[Any]] = {
    "fixed": FixedChunker,
    "sentence": SentenceChunker,
    "recursive": RecursiveChunker,
    "heading": HeadingChunker,
    "semantic": SemanticChunker,
}
CHUNKERS = tuple(_CHUNKERS)
SCORINGS = ("pooled", "maxp", "bm25", "hybrid")
SIZES = (64, 128, 256, 512, 768, 1024)
"""The sizes at which the curves are measured."""


@dataclass(frozen=True)
class LabSettings:
    """One position of the lab's controls. ``budget`` cuts every ranked list at that many context tokens (None: at
    ``k`` results).

    >>> LabSettings("fixed", 512, 64, "maxp").label
    'fixed 512/64 maxp in 2000 tokens'
    """

    chunker: str = "fixed"
    size: int = 512
    overlap: int = 64
    scoring: str = "pooled"
    k: int = 10
    budget: int | None = BUDGET

    def __post_init__(self) -> None:
        if self.chunker not in CHUNKERS or self.scoring not in SCORINGS:
            raise InputError(
                f"chunker {self.chunker!r}, scoring {self.scoring!r}: expected one of {CHUNKERS} and of {SCORINGS}"
            )
        if self.k < 1 or (self.budget is not None and self.budget < 1):
            raise InputError(f"k = {self.k}, budget = {self.budget}: expected 1 or more")

    @property
    def label(self) -> str:
        limit = "" if self.budget is None else f" in {self.budget} tokens"
        return f"{self.chunker} {self.size}/{self.overlap} {self.scoring}{limit}"

    @property
    def metric(self) -> str:
        """The name of ``Measurement.coverage`` in ``compare``."""
        return f"gold_chars@{self.k}" if self.budget is None else f"coverage@{self.budget}"

    def at(self, size: int) -> LabSettings:
        """This setting with another size; the overlap shrinks to half of a size that it would not fit."""
        return replace(self, size=size, overlap=min(self.overlap, size // 2))

    def code(self) -> str:
        """Three lines of Python that measure this setting, given ``corpus`` and the public names of ragkit."""
        store = "store, " if self.chunker == "semantic" else ""
        chunker = f"{_CHUNKERS[self.chunker].__name__}({store}{self.size}, {self.overlap})"
        chunks = f"[c for d in corpus.documents for c in {chunker}.chunk(d)]"
        retriever = {
            "pooled": "DenseRetriever(chunks, store=store)",
            "maxp": 'DenseRetriever(chunks, store=store, scoring="maxp")',
            "bm25": "BM25Retriever(chunks)",
            "hybrid": 'Hybrid([BM25Retriever(chunks), DenseRetriever(chunks, store=store, scoring="maxp")])',
        }[self.scoring]
        limit = f", metric={self.metric!r}" if self.budget is None else f", same_budget={self.budget}"
        return (
            f"store = TokenStore.open(corpus); chunks = {chunks}\n"
            f"retriever = {retriever}\n"
            f'compare({{"{self.label}": retriever}}, corpus.questions, k={self.k}{limit})'
        )


class Interval(NamedTuple):
    """A mean with its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Measurement:
    """What one setting gives. ``scores (questions, 2)`` are the share of the gold's characters that the cut list
    holds (``coverage``) and the reciprocal rank; bands are 95 % intervals."""

    setting: LabSettings
    chunks: int
    scores: NDArray[np.float64]
    coverage: Interval
    mrr: Interval
    tokens: float
    hits: tuple[tuple[Hit, ...], ...]
    milliseconds: float


class ChunkExperiment:
    """A corpus, its questions and its store, ready to measure settings. Results are remembered.

    Args:
        questions: those with gold are used (default: the corpus's own).

    Raises:
        InputError: fewer than two questions have gold.
    """

    def __init__(self, corpus: Corpus, questions: Sequence[Question] | None = None, store: TokenStore | None = None):
        self.corpus = corpus
        given = corpus.questions if questions is None else questions
        self.questions = tuple(replace(q, gold=gold) for q in given if (gold := relevant_gold(q.gold)))
        if len(self.questions) < 2:
            raise InputError(
                f"{len(self.questions)} questions have gold: a measurement needs two, a verdict some dozens"
            )
        self.texts = [q.text for q in self.questions]
        self.store = (store or TokenStore.open(corpus)).with_queries(self.texts)
        self.units = [q.gold[0].doc_id for q in self.questions]
        self._known: dict[LabSettings, Measurement] = {}

    @cached_property
    def _analyzed(self) -> AnalyzedCorpus:
        return AnalyzedCorpus(self.corpus.documents)

    def chunker(self, setting: LabSettings) -> Chunker:
        """The chunker that ``setting.code()`` names."""
        store = [self.store] if setting.chunker == "semantic" else []
        chunker: Chunker = _CHUNKERS[setting.chunker](*store, setting.size, setting.overlap)
        return chunker

    def retriever(self, setting: LabSettings, chunks: Sequence[Chunk]) -> Retriever:
        """The retriever that ``setting.code()`` names."""
        if setting.scoring == "pooled":
            return DenseRetriever(chunks, store=self.store)
        if setting.scoring == "maxp":
            return DenseRetriever(chunks, store=self.store, scoring="maxp")
        bm25 = BM25Retriever(chunks, analyzed=self._analyzed)
        if setting.scoring == "bm25":
            return bm25
        return Hybrid([bm25, DenseRetriever(chunks, store=self.store, scoring="maxp")])

    def measure(self, setting: LabSettings) -> Measurement:
        """Cut, index, search every question and score, or the remembered result."""
        if setting not in self._known:
            started = time.perf_counter()
            chunks = chunk_corpus(self.chunker(setting), self.corpus)
            retriever = self.retriever(setting, chunks)
            counts = self._token_counts(chunks)
            if setting.budget is None:
                hits = [tuple(row) for row in retriever.search_many(self.texts, setting.k)]
            else:
                hits = self._within_budget(retriever, setting.budget, setting.size, counts)
            scores = np.array([_score(row, q, setting) for row, q in zip(hits, self.questions, strict=True)])
            sums = [sum(counts[_place(hit)] for hit in row) for row in hits]
            tokens = float(np.mean(sums if setting.budget is None else np.minimum(sums, setting.budget)))
            milliseconds = (time.perf_counter() - started) * 1000
            level = statistics.level(scores, self.units)
            covered, mrr = (Interval(*map(float, band)) for band in zip(level.mean, level.low, level.high, strict=True))
            self._known[setting] = Measurement(
                setting, len(chunks), scores, covered, mrr, tokens, tuple(hits), milliseconds
            )
        return self._known[setting]

    def differences(self, rows: Sequence[Measurement]) -> list[tuple[float, float, float, float]]:
        """Each row's paired difference in coverage to the first: ``(mean, low, high, p)``, in one simultaneous test."""
        values = np.stack([row.scores[:, 0] - rows[0].scores[:, 0] for row in rows[1:]], axis=1)
        estimates = statistics.estimate(values, self.units)
        columns = (estimates.mean.tolist(), estimates.low.tolist(), estimates.high.tolist(), estimates.p.tolist())
        return list(zip(*columns, strict=True))

    def _token_counts(self, chunks: Sequence[Chunk]) -> dict[tuple[str, int], int]:
        """The tokens of each chunk, by document and start."""
        places, rows = ((chunk.doc_id, chunk.start) for chunk in chunks), self.store.rows(chunks)
        return dict(zip(places, (rows[:, 1] - rows[:, 0]).tolist(), strict=True))

    def _within_budget(
        self, retriever: Retriever, budget: int, size: int, counts: Mapping[tuple[str, int], int]
    ) -> list[tuple[Hit, ...]]:
        """Each list down to ``budget`` tokens, the chunk that crosses the line cut at it, as ``compare`` does."""

        def is_short(hits: Sequence[Hit]) -> bool:
            return len(hits) == depth and sum(counts[_place(hit)] for hit in hits) < budget

        depth = 16 + budget // size
        lists = retriever.search_many(self.texts, depth)
        while short := [i for i, hits in enumerate(lists) if is_short(hits)]:
            depth *= 2
            for i, hits in zip(short, retriever.search_many([self.texts[i] for i in short], depth), strict=True):
                lists[i] = hits
        return [self._cut(hits, budget, counts) for hits in lists]

    def _cut(self, hits: Sequence[Hit], budget: int, counts: Mapping[tuple[str, int], int]) -> tuple[Hit, ...]:
        within: list[Hit] = []
        for hit in hits:
            if budget <= 0:
                break
            count = counts[_place(hit)]
            within.append(hit if count <= budget else self._beginning(hit, budget))
            budget -= count
        return tuple(within)

    def _beginning(self, hit: Hit, tokens: int) -> Hit:
        chunk = hit.chunk
        layout = layout_of(self.corpus.document(chunk.doc_id), minilm_tokenizer())
        first = int(layout.positions([chunk.start])[0])
        end = min(chunk.end, int(layout.ends[min(first + tokens, len(layout))]))
        return replace(hit, chunk=replace(chunk, end=end, text=chunk.text[: end - chunk.start]))


def _place(hit: Hit) -> tuple[str, int]:
    return hit.chunk.doc_id, hit.chunk.start


def _score(hits: Sequence[Hit], question: Question, setting: LabSettings) -> tuple[float, float]:
    """``compare``'s ``setting.metric``, and the reciprocal rank."""
    chunks = [hit.chunk for hit in hits]
    if setting.budget is None:
        values = score(chunks, question.gold, setting.k, question.any_of)
        return values[setting.metric], values[f"mrr@{setting.k}"]
    ranks = first_ranks(chunks, question.gold)
    return coverage(chunks, question.gold, question.any_of), reciprocal_rank(ranks, max(len(chunks), 1))

"""One contract for everything that retrieves, checked on all of it, alone and nested."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.base import Chunk, ContractError, Hit, Retriever
from ragkit.chunking import RecursiveChunker, chunk_corpus
from ragkit.retrieval.bm25 import VARIANTS, BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.testing import FakeEmbedder, check_retriever
from ragkit.token_store import TokenStore

QUERIES = [
    "How do I heat water?",
    "Which bulbs fit? Which bulbs fit?",
    "zzz unknown",
    "the of and",
    "?!",
    "停止 כל העובדים",
    "👩‍👩‍👧",
    "press the lever " * 300,
]


@pytest.fixture
def parts(small_corpus, ragkit_home):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    return chunk_corpus(RecursiveChunker(8, 2), small_corpus), store


RETRIEVERS = {
    **{f"bm25 {v}": lambda c, s, v=v: BM25Retriever(c, v) for v in VARIANTS},
    "bm25 contextual": lambda c, s: BM25Retriever(c, contextual=True),
    "bm25 empty": lambda c, s: BM25Retriever([]),
    "dense": lambda c, s: DenseRetriever(c, embedder=FakeEmbedder()),
    "dense pooled": lambda c, s: DenseRetriever(c, store=s),
    "dense maxp": lambda c, s: DenseRetriever(c, store=s, scoring="maxp"),
    "dense contextual": lambda c, s: DenseRetriever(c, store=s, contextual=True),
    "dense maxp, contextual": lambda c, s: DenseRetriever(c, store=s, scoring="maxp", contextual=True),
    "dense empty": lambda c, s: DenseRetriever([], store=s),
    "hybrid rrf": lambda c, s: Hybrid([BM25Retriever(c), DenseRetriever(c, store=s)]),
    "hybrid convex": lambda c, s: Hybrid([BM25Retriever(c), DenseRetriever(c, store=s)], "convex", fetch=3),
    "reranked": lambda c, s: Reranked(BM25Retriever(c), LateInteraction(s), fetch=4),
    "reranked, geometric": lambda c, s: Reranked(BM25Retriever(c), LateInteraction(s, "geometric"), fetch=4),
    "reranked, in doubt": lambda c, s: Reranked(BM25Retriever(c), LateInteraction(s, "geometric", doubt=1), fetch=4),
    "nested": lambda c, s: Reranked(
        Hybrid([Hybrid([BM25Retriever(c), DenseRetriever(c, store=s)]), BM25Retriever(c, "okapi")], "convex"),
        LateInteraction(s),
    ),
}


@pytest.mark.parametrize("name", RETRIEVERS)
def test_every_retriever_keeps_the_contract(name, parts):
    retriever = RETRIEVERS[name](*parts)
    for k in (1, 5, 1_000):
        check_retriever(retriever, QUERIES, k)
    if "empty" not in name:
        assert retriever.search("How do I press the lever to heat water?")


CHUNKS = [Chunk("a", 0, 4, "word"), Chunk("b", 0, 4, "word"), Chunk("c", 0, 4, "word")]


def hits(*scores):
    return [Hit(c, s) for c, s in zip(CHUNKS, scores, strict=False)]


class Answers(Retriever):
    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def _search(self, query, k):
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([hits(3, 2, 1)], "3 hits: expected at most 2"),
        ([hits(1, 2)], "best first"),
        ([hits(2, np.nan)], "finite"),
        ([[*hits(2), *hits(1)]], "at most once"),
        ([hits(2, 1), hits(2)], "two different results"),
        ([hits(2, 1), hits(2, 1), hits(2)], "search_many"),
    ],
)
def test_a_broken_contract_is_named(answers, message):
    with pytest.raises(ContractError, match=message):
        check_retriever(Answers(*answers), ["word"], 2)


def test_a_retriever_that_takes_a_blank_query_is_named():
    class Eager(Answers):
        def search(self, query, k=10):
            return self._search(query, k)

    with pytest.raises(ContractError, match="query '' with k = 2 is not refused"):
        check_retriever(Eager([]), ["word"], 2)

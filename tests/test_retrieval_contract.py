"""One contract for everything that retrieves, checked on all of it, alone and nested."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.base import Chunk, ContractError, Hit, Retriever, identity_of
from ragkit.chunking import RecursiveChunker, chunk_corpus
from ragkit.retrieval.bm25 import VARIANTS, BM25Retriever
from ragkit.retrieval.dense import INDEXES, DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.modular import (
    MMR,
    AbstainOnSeveral,
    AverageClassifier,
    Corrective,
    Filtered,
    HitVoteClassifier,
    InCorpus,
    NaiveBayesClassifier,
    NameSplitter,
    Parent,
    RegexClassifier,
    Router,
    SentenceWindow,
    SubQuestions,
)
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.retrieval.rewrite import ClauseSplitter, Rewritten, Spelling
from ragkit.testing import FakeEmbedder, FakeTokenizer, check_retriever
from ragkit.token_store import TokenStore

QUERIES = [
    "How do I heat water?",
    "Which bulbs fit? Which bulbs fit?",
    "How do I clean the kettle, and which bulbs fit the lamp?",
    "How do I stop the wroker?",
    "zzz unknown",
    "the of and",
    "?!",
    "停止 כל העובדים",
    "👩‍👩‍👧",
    "press the lever " * 300,
]
NAMES = {"kettle": "kettle", "lamp": "lamp"}


class Rewrites:
    identity = "rewrites"

    def rewrite(self, question):
        return ["bulbs", " "]


@pytest.fixture
def parts(small_corpus, ragkit_home):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    return small_corpus, chunk_corpus(RecursiveChunker(8, 2, FakeTokenizer()), small_corpus), store


def advanced(c, s, fetch_k=None):
    return Reranked(Hybrid([BM25Retriever(c), DenseRetriever(c, store=s)]), LateInteraction(s), fetch_k)


def router(c, s, threshold=0.5):
    sure = AverageClassifier([NaiveBayesClassifier(c), HitVoteClassifier(DenseRetriever(c, store=s))])
    routes = {name: BM25Retriever([chunk for chunk in c if chunk.metadata["project"] == name]) for name in NAMES}
    return Router(routes, AbstainOnSeveral(RegexClassifier(NAMES), sure), BM25Retriever(c), threshold)


RETRIEVERS = {
    **{f"bm25 {v}": lambda d, c, s, v=v: BM25Retriever(c, v) for v in VARIANTS},
    "bm25 contextual": lambda d, c, s: BM25Retriever(c, contextual=True),
    "bm25 empty": lambda d, c, s: BM25Retriever([]),
    **{f"dense {i}": lambda d, c, s, i=i: DenseRetriever(c, s, index=i) for i in INDEXES if i != "ivfpq"},
    "dense, embedder": lambda d, c, s: DenseRetriever(c, embedder=FakeEmbedder()),
    "dense maxp": lambda d, c, s: DenseRetriever(c, store=s, scoring="maxp"),
    "dense empty": lambda d, c, s: DenseRetriever([], store=s),
    "hybrid rrf": lambda d, c, s: Hybrid([BM25Retriever(c), DenseRetriever(c, store=s)]),
    "hybrid convex": lambda d, c, s: Hybrid([BM25Retriever(c), DenseRetriever(c, store=s)], "convex", fetch_k=3),
    "reranked": lambda d, c, s: Reranked(BM25Retriever(c), LateInteraction(s), fetch_k=4),
    "reranked, 3 k": lambda d, c, s: Reranked(BM25Retriever(c), LateInteraction(s, "geometric")),
    "reranked, in doubt": lambda d, c, s: Reranked(
        BM25Retriever(c), LateInteraction(s, "geometric", pooled_below=1), 4
    ),
    "spelling": lambda d, c, s: Rewritten(BM25Retriever(c), Spelling.of(d.documents)),
    "parts": lambda d, c, s: Rewritten(DenseRetriever(c, s), ClauseSplitter()),
    "router": lambda d, c, s: router(c, s),
    "router, never sure": lambda d, c, s: router(c, s, threshold=1.0),
    "in corpus": lambda d, c, s: InCorpus(DenseRetriever(c, store=s), d.only({"project": "lamp"})),
    "filtered": lambda d, c, s: Filtered(DenseRetriever(c, store=s), {"project": ["kettle", "lamp"]}),
    "parent": lambda d, c, s: Parent(advanced(c, s, 50), d),
    "sentence window": lambda d, c, s: SentenceWindow(DenseRetriever(c, store=s), c, d),
    "mmr": lambda d, c, s: MMR(DenseRetriever(c, store=s), s.pool),
    "sub-questions": lambda d, c, s: SubQuestions(advanced(c, s), ClauseSplitter()),
    "sub-questions by name": lambda d, c, s: SubQuestions(router(c, s), NameSplitter(NAMES)),
    "corrective": lambda d, c, s: Corrective(
        BM25Retriever(c), LateInteraction(s), 0.9, 0.1, rewriter=Rewrites(), fallback=DenseRetriever(c, store=s)
    ),
    "nested": lambda d, c, s: MMR(
        Parent(
            Rewritten(
                SubQuestions(Hybrid([router(c, s), advanced(c, s)], "convex"), ClauseSplitter()), ClauseSplitter()
            ),
            d,
        ),
        s.pool,
    ),
}


@pytest.mark.parametrize("name", RETRIEVERS)
def test_every_retriever_keeps_the_contract(name, parts):
    corpus, chunks, store = parts
    retriever = RETRIEVERS[name](corpus, chunks, store)
    for k in (1, np.int64(5), 1_000):
        check_retriever(retriever, QUERIES, k)
    hits = retriever.search("How do I press the lever to heat water?")
    assert hits or "empty" in name
    texts = {document.id: document.text for document in corpus.documents}
    assert all(texts[h.chunk.doc_id][h.chunk.start : h.chunk.end] == h.chunk.text for h in hits)


@pytest.mark.parametrize("name", RETRIEVERS)
def test_equal_parts_have_equal_identities_and_other_chunks_another(name, parts):
    corpus, chunks, store = parts
    identity = identity_of(RETRIEVERS[name](corpus, chunks, store))
    assert identity == identity_of(RETRIEVERS[name](corpus, list(chunks), store))
    assert (identity == identity_of(RETRIEVERS[name](corpus, chunks[1:], store))) == ("empty" in name)
    assert " at 0x" not in identity


def test_different_settings_have_different_identities(parts):
    corpus, chunks, store = parts
    bm25, late = BM25Retriever(chunks), LateInteraction(store)
    different = [
        *(make(corpus, chunks, store) for make in RETRIEVERS.values()),
        BM25Retriever(chunks, k1=1.2),
        DenseRetriever(chunks, store, scoring="maxp", window=32),
        DenseRetriever(chunks, embedder=FakeEmbedder(seed=1)),
        Hybrid([bm25, DenseRetriever(chunks, store=store)], weights=[1, 2]),
        Reranked(bm25, late, fetch_k=5),
        Rewritten(bm25, Spelling({})),
        router(chunks, store, threshold=0.6),
        Filtered(DenseRetriever(chunks, store=store), {"project": "lamp"}),
        SentenceWindow(DenseRetriever(chunks, store=store), chunks, corpus, before=2),
        MMR(DenseRetriever(chunks, store=store), store.pool, lambda_mult=0.5),
        Corrective(bm25, late, 0.9, 0.1),
        Corrective(bm25, late, 0.8, 0.1),
    ]
    assert len({identity_of(retriever) for retriever in different}) == len(different)


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

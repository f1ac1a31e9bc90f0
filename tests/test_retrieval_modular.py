"""Modular retrieval: every wrapper keeps the retrievers' contract, does its one thing, and says so in ``parts``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Hit, InputError, Retriever
from ragkit.chunking import FixedChunker, RecursiveChunker, chunk_corpus
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.modular import (
    MMR,
    Corrective,
    EachNamed,
    Filtered,
    MultiHop,
    Neighbours,
    Parent,
    Router,
    Rules,
    Vocabulary,
)
from ragkit.retrieval.modular.shaping import marginal
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.rewriting.parts import Parts
from ragkit.testing import FakeEmbedder, FakeTokenizer, check_retriever
from ragkit.token_store import TokenStore

QUERIES = [
    "How do I heat water?",
    "Which bulbs fit? Which bulbs fit?",
    "How do I clean the kettle, and which bulbs fit the lamp?",
    "zzz unknown",
    "?!",
    "停止 כל העובדים",
    "press the lever " * 100,
]


class Fixed(Retriever):
    """Always the same hits; remembers what it was asked."""

    def __init__(self, *scored: tuple[str, float], source: str = "fixed") -> None:
        self.hits = [Hit(Chunk(name, 0, 4, "text", metadata={"project": name[0]}), s, source) for name, s in scored]
        self.asked: list[tuple[str, int]] = []

    def _search(self, query: str, k: int) -> list[Hit]:
        self.asked.append((query, k))
        return self.hits[:k]


class Says:
    def __init__(self, **belief: float) -> None:
        self.belief_ = belief

    def belief(self, query: str) -> dict[str, float]:
        return self.belief_


class Rewrites:
    def __init__(self, *queries: str) -> None:
        self.queries = list(queries)

    def rewrite(self, question: str) -> list[str]:
        return self.queries


def names(hits):
    return [hit.chunk.doc_id for hit in hits]


@pytest.fixture
def parts(small_corpus, ragkit_home):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    return small_corpus, chunk_corpus(RecursiveChunker(8, 2, FakeTokenizer()), small_corpus), store


def by_project(chunks, make):
    projects = sorted({chunk.metadata["project"] for chunk in chunks})
    return {project: make([c for c in chunks if c.metadata["project"] == project]) for project in projects}


def reranked(chunks, store):
    return Reranked(Hybrid([BM25Retriever(chunks), DenseRetriever(chunks, store=store)]), LateInteraction(store))


WRAPPERS = {
    "router": lambda c, ch, s: Router(by_project(ch, BM25Retriever), Vocabulary(ch), BM25Retriever(ch)),
    "router, never sure": lambda c, ch, s: Router(
        by_project(ch, BM25Retriever), Vocabulary(ch), BM25Retriever(ch), threshold=1.0
    ),
    "filtered": lambda c, ch, s: Filtered(DenseRetriever(ch, store=s), {"project": ["kettle", "lamp"]}),
    "parent": lambda c, ch, s: Parent(reranked(ch, s), c),
    "neighbours": lambda c, ch, s: Neighbours(DenseRetriever(ch, store=s), ch, c),
    "mmr": lambda c, ch, s: MMR(DenseRetriever(ch, store=s), s.pool),
    "multihop": lambda c, ch, s: MultiHop(reranked(ch, s), Parts(shortest=3)),
    "multihop, each named": lambda c, ch, s: MultiHop(
        Router(by_project(ch, BM25Retriever), Rules({"kettle": "kettle", "lamp": "lamp"}), BM25Retriever(ch)),
        EachNamed({"kettle": "kettle", "lamp": "lamp"}),
    ),
    "corrective": lambda c, ch, s: Corrective(
        DenseRetriever(ch, store=s), 0.9, 0.1, rewriter=Rewrites("bulbs", " "), wider=BM25Retriever(ch)
    ),
    "nested": lambda c, ch, s: MMR(
        Parent(MultiHop(Router(by_project(ch, BM25Retriever), Vocabulary(ch), BM25Retriever(ch)), Parts()), c), s.pool
    ),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_every_wrapper_keeps_the_contract(name, parts):
    retriever = WRAPPERS[name](*parts)
    for k in (1, 5, 1_000):
        check_retriever(retriever, QUERIES, k)
    hits = retriever.search("How do I press the lever to boil water?")
    assert hits
    texts = {document.id: document.text for document in parts[0].documents}
    assert all(texts[h.chunk.doc_id][h.chunk.start : h.chunk.end] == h.chunk.text for h in hits)
    assert all(h.parts for h in hits) or name in ("filtered", "multihop")


# ---- shaping


def test_filtered_searches_until_enough_pass():
    chunks = [(f"{'ab'[i % 10 == 0]}{i:03}", 1 / (i + 1)) for i in range(100)]
    inner = Fixed(*chunks)
    hits = Filtered(inner, {"project": "b"}).search("q", 3)
    assert names(hits) == ["b000", "b010", "b020"]
    assert [k for _, k in inner.asked] == [12, 48]
    assert len(Filtered(inner, lambda chunk: chunk.doc_id.startswith("b")).search("q", 50)) == 10
    assert Filtered(inner, {"project": "c"}).search("q") == []
    assert Filtered(inner, {"nothing": "b"}).search("q") == []


def test_parent_returns_each_section_once_with_its_best_chunk(small_corpus):
    document = small_corpus.document("kettle/guide")
    cut = [Chunk(document.id, a, b, document.text[a:b]) for a, b in ((0, 10), (10, 30), (48, 60))]
    inner = Fixed()
    inner.hits = [Hit(chunk, score, "dense") for chunk, score in zip(cut, (0.9, 0.8, 0.3), strict=True)]
    hits = Parent(inner, small_corpus).search("q")
    assert [(h.chunk.section[-1], h.score, h.parts["chunks"]) for h in hits] == [
        ("Boiling", 0.9, 2),
        ("Cleaning", 0.3, 1),
    ]
    assert hits[0].chunk.text == "Boiling\nPress the red lever to boil the water."
    assert hits[0].parts["dense"] == 0.9
    assert [h.chunk for h in Parent(inner, small_corpus, most=20).search("q")][:2] == cut[:2]


def test_a_document_without_sections_keeps_its_chunks(small_corpus):
    from ragkit.base import Corpus, Document

    corpus = Corpus("plain", (Document("d", "some words"),))
    chunk = Chunk("d", 0, 4, "some")
    inner = Fixed()
    inner.hits = [Hit(chunk, 1.0)]
    assert [h.chunk for h in Parent(inner, corpus).search("q")] == [chunk]
    with pytest.raises(InputError, match="no document 'd'"):
        Parent(inner, small_corpus).search("q")


def test_neighbours_join_what_stands_around_a_hit(small_corpus):
    chunks = chunk_corpus(FixedChunker(4, 1, FakeTokenizer()), small_corpus)
    own = [c for c in chunks if c.doc_id == "kettle/guide"]
    inner = Fixed()
    inner.hits = [Hit(own[1], 2.0, "bm25"), Hit(own[0], 1.0, "bm25"), Hit(own[-1], 0.5, "bm25")]
    hits = Neighbours(inner, chunks, small_corpus).search("q")
    assert [(h.chunk.start, h.chunk.end) for h in hits] == [(own[0].start, own[2].end), (own[-2].start, own[-1].end)]
    text = small_corpus.document("kettle/guide").text
    assert hits[0].chunk.text == text[own[0].start : own[2].end]
    assert hits[0].parts == {"bm25": 2.0}
    alone = Neighbours(inner, chunks, small_corpus, before=0, after=0).search("q")
    assert [h.chunk for h in alone] == [own[1], own[0], own[-1]]
    elsewhere = Neighbours(inner, [], small_corpus).search("q")
    assert [h.chunk for h in elsewhere] == [own[1], own[0], own[-1]]


def test_mmr_takes_the_unlike_before_the_same_again():
    inner = Fixed(("a", 1.0), ("b", 0.95), ("c", 0.6))
    twins = {"a": [1.0, 0.0], "b": [1.0, 0.0], "c": [0.0, 1.0]}

    def vectors(chunks):
        return np.array([twins[c.doc_id] for c in chunks], dtype=np.float32)

    assert names(MMR(inner, vectors, balance=1.0).search("q")) == ["a", "b", "c"]
    hits = MMR(inner, vectors, balance=0.5).search("q")
    assert names(hits) == ["a", "c", "b"]
    assert hits[1].parts == {"fixed": 0.6}
    assert [k for _, k in inner.asked] == [50, 50]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1), st.integers(1, 15), st.integers(0, 99))
def test_mmr_equals_its_definition(relevance, balance, k, seed):
    n = len(relevance)
    vectors = np.random.default_rng(seed).standard_normal((n, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = vectors @ vectors.T
    order, values = marginal(np.array(relevance), likeness, balance, k)
    assert sorted(order) == sorted(set(order))
    assert len(order) == min(k, n)
    assert values == sorted(values, reverse=True)
    taken: list[int] = []
    for place in order:
        left = {
            i: balance * relevance[i] - (1 - balance) * max([0.0, *(likeness[i, j] for j in taken)])
            for i in range(n)
            if i not in taken
        }
        assert left[place] == pytest.approx(max(left.values()), abs=1e-9)
        taken.append(place)


# ---- more than one search


def test_multihop_searches_the_question_and_each_part_once():
    inner = Fixed(("a", 3.0), ("b", 2.0))
    hop = MultiHop(inner, Rewrites("both", "one", "two", "one", " "))
    assert hop.queries("both") == ["both", "one", "two"]
    hop.search("both", 4)
    assert inner.asked == [("both", 15), ("one", 15), ("two", 15)]
    assert MultiHop(inner, Rewrites("both")).search("both", 2) == inner.search("both", 2)
    assert MultiHop(inner, Rewrites(*"abcdefg"), most=2).queries("q") == ["q", "a", "b"]


def test_multihop_by_ranks_puts_first_what_several_parts_have():
    lists = {"q": "abc", "x": "dcb", "y": "eab"}

    class PerQuery(Retriever):
        def _search(self, query, k):
            return [Hit(Chunk(name, 0, 1, "x"), 9.0 - i, "inner") for i, name in enumerate(lists[query][:k])]

    hits = MultiHop(PerQuery(), Rewrites("x", "y")).search("q", 3)
    assert names(hits) == ["b", "a", "c"]
    assert hits[0].score == pytest.approx(1 / 62 + 1 / 63 + 1 / 63)
    assert hits[1].parts == {"inner": 8.0, "part:0": 9.0, "part:2": 8.0}


def test_a_question_for_each_name():
    each = EachNamed({"celery": r"celery(?:'s)?", "gunicorn": "gunicorn", "scrapy": "scrapy"}, otherwise=Rewrites("x"))
    asked = "How do Gunicorn workers and Celery's workers stop?"
    assert each.rewrite(asked) == [
        "How do workers and Celery's workers stop?",
        "How do Gunicorn workers and workers stop?",
    ]
    assert each.rewrite("How does Scrapy log?") == ["x"]
    assert EachNamed({"a": "b"}).rewrite("How does Scrapy log?") == ["How does Scrapy log?"]
    assert EachNamed({"a": "gunicorn", "b": "celery"}).rewrite("Celery Gunicorn") == ["Gunicorn", "Celery"]


def test_corrective_stops_at_the_first_list_that_is_good():
    good, bad = Fixed(("a", 0.9)), Fixed(("b", 0.2))
    hits = Corrective(good, 0.5, 0.3, rewriter=Rewrites("other"), wider=bad).search("q")
    assert names(hits) == ["a"]
    assert hits[0].parts["corrective:searches"] == 1
    assert bad.asked == []


def test_corrective_rewrites_then_widens_then_gives_up():
    weak, wide = Fixed(("b", 0.2)), Fixed(("c", 0.4))
    steps = Corrective(weak, 0.5, 0.1, rewriter=Rewrites("q", "other"), wider=wide)
    assert [name for name, _, _ in steps.tries("q", 5)] == ["first", "rewritten: other", "wider"]
    hits = steps.search("q")
    assert names(hits) == ["c"]
    assert hits[0].parts == {"corrective:grade": 0.4, "corrective:searches": 3.0}
    assert Corrective(weak, 0.5, 0.3).search("q") == []
    assert names(Corrective(weak, 0.5, 0.2).search("q")) == ["b"]


def test_corrective_grades_every_list_for_the_question_that_was_asked():
    graded = []

    def grade(query, hits):
        graded.append((query, names(hits)))
        return 0.0

    Corrective(Fixed(("a", 1.0)), 0.5, 0.0, grade=grade, rewriter=Rewrites("other")).search("asked")
    assert graded == [("asked", ["a"]), ("asked", ["a"])]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Corrective(Fixed(), good=0.1, bad=0.2), "bad <= good"),
        (lambda: MultiHop(Fixed(), Parts(), most=0), "1 or more"),
        (lambda: MultiHop(Fixed(), Parts(), fetch=0), "1 or more"),
        (lambda: EachNamed({}), "no rules"),
        (lambda: MMR(Fixed(), lambda chunks: np.zeros((0, 2)), balance=2), "0 to 1"),
        (lambda: MMR(Fixed(), lambda chunks: np.zeros((0, 2)), fetch=0), "1 or more"),
        (lambda: Neighbours(Fixed(), [], None, before=-1), "0 or more"),
        (lambda: Parent(Fixed(), None, most=0), "1 character or more"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()

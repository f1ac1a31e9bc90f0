"""Hits from a cache: the same as without it, fewer searches, never another retriever's."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import hypothesis.strategies as st
import pytest
from hypothesis import given
from test_retrieval_contract import QUERIES

from ragkit.base import Chunk, Hit, InputError, Retriever
from ragkit.chunking import RecursiveChunker, chunk_corpus
from ragkit.evaluation.stages import leaves
from ragkit.production.retrieval_cache import CachedRetriever
from ragkit.reranking import LateInteraction, Reranked
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.testing import FakeEmbedder, check_retriever
from ragkit.token_store import TokenStore

HITS = [Hit(Chunk(f"d{i}", 0, 4, "word", ("a",), {"project": "x"}), 1 / (i + 1), "s", {"a": 0.1}) for i in range(9)]


class Fixed(Retriever):
    """Always the same hits; remembers what it was asked."""

    def __init__(self, hits=HITS):
        self.hits, self.asked = hits, []

    def _search(self, query, k):
        self.asked.append((query, k))
        return list(self.hits[:k])


@pytest.fixture(params=["memory", "file"])
def cached(request, tmp_path):
    """Makes a ``CachedRetriever`` in memory, or over one and the same file."""
    if request.param == "memory":
        return CachedRetriever
    return partial(CachedRetriever, path=tmp_path / "hits.db")


RETRIEVERS = {
    "bm25": lambda c, s, w: w(BM25Retriever(c), "a"),
    "hybrid": lambda c, s, w: w(Hybrid([BM25Retriever(c), DenseRetriever(c, store=s)]), "a"),
    "within": lambda c, s, w: Hybrid([w(BM25Retriever(c), "b"), w(DenseRetriever(c, store=s, scoring="maxp"), "c")]),
    "below a reranker": lambda c, s, w: Reranked(w(BM25Retriever(c), "a"), LateInteraction(s), fetch=4),
    "twice": lambda c, s, w: w(w(BM25Retriever(c), "a"), "b"),
    "empty": lambda c, s, w: w(BM25Retriever([]), "a"),
}


@pytest.mark.parametrize("name", RETRIEVERS)
def test_it_keeps_the_contract_and_finds_the_same(name, cached, small_corpus, ragkit_home):
    chunks = chunk_corpus(RecursiveChunker(8, 2), small_corpus)
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    retriever = RETRIEVERS[name](chunks, store, cached)
    plain = RETRIEVERS[name](chunks, store, lambda inner, identity: inner)
    for k in (1, 5):
        check_retriever(retriever, QUERIES, k)
        for query in QUERIES:
            assert retriever.search(query, k) == plain.search(query, k)


def test_an_equal_search_is_made_once(cached):
    inner = Fixed()
    retriever = cached(inner, "a")
    assert retriever.search("one", 3) == retriever.search("one", 3) == HITS[:3]
    assert retriever.search_many(["one", "two", "two", "one"], 3) == [HITS[:3]] * 4
    assert inner.asked == [("one", 3), ("two", 3)]
    assert retriever.stats().hits == 2  # the second search, and "one" among the many


def test_another_k_query_or_identity_is_another_search(cached):
    inner = Fixed()
    retriever = cached(inner, "a")
    for query, k in (("one", 3), ("one", 4), ("One", 3), ("one ", 3), ("1", 13), ("1,1", 3)):
        retriever.search(query, k)
    assert len(inner.asked) == 6
    cached(inner, "b").search("one", 3)
    assert len(inner.asked) == 7


def test_chunks_come_back_identical(cached):
    first, again = (cached(Fixed(), "a").search("one") for _ in range(2))
    assert first == again == HITS
    assert [h.chunk.metadata for h in again] == [h.chunk.metadata for h in HITS]


def test_what_a_caller_does_to_the_list_does_not_matter(cached):
    retriever = cached(Fixed(), "a")
    retriever.search("one").clear()
    retriever.search("one").clear()
    assert retriever.search("one") == HITS


def test_memory_keeps_the_most_recently_used():
    inner = Fixed()
    retriever = CachedRetriever(inner, "a", entries=2)
    for query in ("one", "two", "one", "three", "one", "two"):
        retriever.search(query, 1)
    assert [query for query, _ in inner.asked] == ["one", "two", "three", "two"]
    assert (retriever.stats().evictions, retriever.stats().entries) == (2, 2)


def test_a_file_is_shared_and_outlives_the_object(tmp_path):
    one = CachedRetriever(Fixed(), "a", tmp_path / "h.db")
    one.search("one")
    one.close()
    inner = Fixed([])
    assert CachedRetriever(inner, "a", tmp_path / "h.db").search("one") == HITS
    assert inner.asked == []


def test_hits_live_for_their_time(tmp_path):
    now, inner = [0.0], Fixed()
    retriever = CachedRetriever(inner, "a", tmp_path / "h.db", ttl=10, clock=lambda: now[0])
    for now[0] in (0.0, 9.0, 10.0):
        retriever.search("one")
    assert len(inner.asked) == 2


def test_a_damaged_file_costs_searches_only(tmp_path, caplog):
    (tmp_path / "h.db").write_bytes(b"not a database " * 1000)
    inner = Fixed()
    retriever = CachedRetriever(inner, "a", tmp_path / "h.db")
    with caplog.at_level(logging.WARNING):
        assert retriever.search("one") == retriever.search("one") == HITS
    assert len(inner.asked) == 2
    assert len(caplog.records) == 1
    assert "TROUBLE" in repr(retriever)


def test_what_a_file_can_not_give_back_equal_is_searched_again(tmp_path):
    odd = [Hit(replace(HITS[0].chunk, metadata={"when": (1,)}), 1.0)]
    retriever = CachedRetriever(Fixed(odd), "a", tmp_path / "h.db")
    assert retriever.search("one") == retriever.search("one") == odd
    assert (retriever.stats().refused, len(retriever.retriever.asked)) == (2, 2)
    assert CachedRetriever(Fixed(odd), "a").search("one") == odd


def test_an_error_is_not_remembered(cached):
    class Failing(Fixed):
        def _search(self, query, k):
            super()._search(query, k)
            if len(self.asked) == 1:
                raise InputError("once")
            return HITS

    retriever = cached(Failing(), "a")
    with pytest.raises(InputError, match="once"):
        retriever.search("one")
    assert retriever.search("one") == HITS


@pytest.mark.parametrize(
    "wrong",
    [{"identity": " "}, {"entries": 0}, {"ttl": 5.0}, {"path": "x.db", "ttl": -1}, {"path": "x.db", "max_bytes": 0}],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        CachedRetriever(Fixed(), **{"identity": "a", **wrong})


def test_its_inner_retriever_can_be_seen():
    inner = Fixed()
    assert list(leaves(CachedRetriever(inner, "a"))) == [inner]


@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.integers(1, 3))
def test_many_are_what_each_is(queries, entries):
    retriever = CachedRetriever(Fixed(), "a", entries=entries)
    assert retriever.search_many(queries, 2) == [HITS[:2]] * len(queries)
    assert retriever.stats().entries <= entries

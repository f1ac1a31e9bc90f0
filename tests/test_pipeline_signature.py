"""What tells one part of a pipeline from another: everything that can change an answer, and nothing that can't."""

from __future__ import annotations

import gc
import re
import weakref
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk
from ragkit.llm.chat import ChatModel
from ragkit.pipeline.signature import signature
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.modular import Filtered, Router
from ragkit.retrieval.rerank import LateInteraction, LLMReranker, Reranked
from ragkit.rewriting import Acronyms, Spelling
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore

CHUNKS = [Chunk(f"d{i}", 0, 7, f"text {i:02}", metadata={"project": "a" if i % 2 else "b"}) for i in range(50)]


def bm25(chunks=CHUNKS, **settings):
    return BM25Retriever(chunks, **settings)


def dense(**settings):
    return DenseRetriever(CHUNKS, embedder=FakeEmbedder(), **settings)


def fused(weights):
    return Hybrid([bm25(), dense()], weights=weights)


def filtered(project):
    return Filtered(bm25(), lambda chunk: chunk.metadata["project"] == project)


def model(temperature=0.0):
    return ChatModel("m", base_url="http://127.0.0.1:9/v1", temperature=temperature)


def routed(fetch):
    return Router({"a": Reranked(bm25(), LLMReranker(model()), fetch)}, lambda query: {"a": 1.0}, bm25())


PAIRS = {
    "weights": (partial(fused, (0.5, 0.5)), partial(fused, (1, 2))),
    "filter": (lambda: Filtered(bm25(), {"project": "a"}), lambda: Filtered(bm25(), {"project": "b"})),
    "closure": (partial(filtered, "a"), partial(filtered, "b")),
    "temperature": (lambda: LLMReranker(model()), lambda: LLMReranker(model(0.7))),
    "k1": (bm25, partial(bm25, k1=1.2)),
    "index": (dense, partial(dense, index="hnsw")),
    "as many other chunks": (bm25, lambda: bm25([replace(c, text=c.text + "!") for c in CHUNKS])),
    "as many other words": (lambda: Spelling({"tasks": 3}), lambda: Spelling({"casks": 3})),
    "meanings": (lambda: Acronyms({"WSGI": ["a"]}), lambda: Acronyms({"WSGI": ["b"]})),
    "deep inside": (partial(routed, 50), partial(routed, 51)),
}


@pytest.mark.parametrize("what", PAIRS)
def test_another_setting_is_another_signature(what):
    one, other = PAIRS[what]
    assert signature(one()) == signature(one())
    assert signature(one()) != signature(other())
    assert " at 0x" not in repr(signature(one()))


def test_searching_does_not_change_it():
    parts = [make() for pair in PAIRS.values() for make in pair]
    before = [signature(part) for part in parts]
    for part in parts:
        if hasattr(part, "search") and "LLM" not in repr(signature(part)):
            part.search("text 07", 3)
        if hasattr(part, "rewrite"):
            part.rewrite("What is a task?")
    assert [signature(part) for part in parts] == before


def test_what_is_changed_in_place_is_noticed():
    retriever = Hybrid([bm25(), dense()])
    before = signature(retriever)
    retriever.inputs[0].chunks = [*CHUNKS[:-1], replace(CHUNKS[-1], text="other")]
    between = signature(retriever)
    retriever.fetch += 1
    assert len({repr(before), repr(between), repr(signature(retriever))}) == 3


def test_late_interaction_by_its_store_and_settings(small_corpus, ragkit_home):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    told = {repr(signature(LateInteraction(store, doubt=doubt))) for doubt in (0.0, 0.5, 0.6)}
    assert len(told) == 3


@dataclass(frozen=True, slots=True)
class Slotted:
    size: int
    words: tuple[str, ...]


class Holder:
    def __init__(self, value):
        self.value, self._private = value, object()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.frozensets(st.text()),
    max_leaves=20,
)


@given(values, values)
def test_equal_values_have_equal_signatures_and_others_do_not(one, other):
    assert signature(Holder(one)) == signature(Holder(one))
    if one != other or type(one) is not type(other):
        assert repr(signature(Holder(one))) != repr(signature(Holder(other)))


@given(st.dictionaries(st.text(), st.integers(), min_size=1))
def test_the_order_of_a_mapping_does_not_matter(mapping):
    backwards = dict(reversed(mapping.items()))
    assert signature(Holder(mapping)) == signature(Holder(backwards))


def test_kinds_of_parts():
    def scaled(n):
        return lambda x: x * n

    different = [
        Slotted(3, ("a",)),
        Slotted(4, ("a",)),
        Slotted(3, ("b",)),
        scaled(2),
        scaled(3),
        lambda x: x + 2,
        lambda x: x + 3,
        partial(scaled, 2),
        partial(scaled, 3),
        re.compile("a"),
        re.compile("a", re.I),
        np.zeros(3),
        np.zeros(3, dtype=np.float32),
        np.ones(40),
        Holder,
        Slotted,
        Slotted(3, ("a",)).words.__len__,
    ]
    assert len({repr(signature(Holder(part))) for part in different}) == len(different)


def test_a_part_that_holds_itself_has_an_end():
    holder = Holder(None)
    holder.value = [holder, {"again": holder}]
    assert signature(holder) == signature(holder)


def test_nothing_is_kept_alive():
    holder = Holder([str(i) for i in range(1000)])
    signature(holder)
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None

"""Dense retrieval: FAISS equals NumPy, every index finds what flat finds, and an embedder is held to its contract."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.base import Chunk, ContractError, Corpus, Document, InputError, StoreMismatchError
from ragkit.embedding import unit
from ragkit.retrieval.dense import DenseRetriever, make_index, search_index
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore


def chunks_of(texts: list[str]) -> list[Chunk]:
    return [Chunk(f"d{i}", 0, len(t), t, ("Part", str(i % 3)), {"project": "abc"[i % 3]}) for i, t in enumerate(texts)]


def sentences(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{i}" for i in rng.integers(0, 200, 12)) for _ in range(n)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[list[Chunk], TokenStore]:
    """Chunks of 3 sentences out of documents of 30, with their store."""
    documents = tuple(Document(f"d{i}", " ".join(sentences(30, seed=i))) for i in range(8))
    folder = tmp_path_factory.mktemp("stores") / "s"
    store = TokenStore.open(Corpus("c", documents), FakeEmbedder(context=0.2), folder=folder, progress=False)
    cuts = [(d, a, min(len(d.text), a + 150)) for d in documents for a in range(0, len(d.text), 120)]
    return [Chunk(d.id, a, b, d.text[a:b], metadata={"project": d.id}) for d, a, b in cuts], store


def ids(hits) -> list[str]:
    return [hit.chunk.id for hit in hits]


@settings(max_examples=30)
@given(st.lists(st.text(alphabet="abc ", max_size=12), max_size=20), st.integers(1, 25))
def test_flat_equals_numpy(texts, k):
    fake = FakeEmbedder(dimension=8)
    retriever = DenseRetriever(chunks_of(texts), embedder=fake)
    hits = retriever.search("a b", k)
    scores = fake.encode(texts) @ fake.encode(["a b"], "query")[0]
    assert [h.score for h in hits] == pytest.approx(sorted(scores.tolist(), reverse=True)[:k], abs=1e-5)
    assert len(set(ids(hits))) == len(hits) == min(k, len(texts))
    assert all(h.score == pytest.approx(scores[int(h.chunk.doc_id[1:])], abs=1e-5) for h in hits)
    assert all(h.source == "dense:pooled" for h in hits)


def test_contextual_encodes_the_headings_in_front(stored):
    chunks = chunks_of(["use it", "more words"])
    hits = DenseRetriever(chunks, embedder=FakeEmbedder(), contextual=True).search("a > Part > 0\n\nuse it", 2)
    assert [hit.chunk for hit in hits] == chunks
    assert hits[0].score == pytest.approx(1)
    assert DenseRetriever(chunks, embedder=FakeEmbedder()).search("a > Part > 0\n\nuse it", 2)[0].score < 0.9
    with pytest.raises(InputError, match="not store"):
        DenseRetriever(stored[0], store=stored[1], contextual=True)


def test_many_queries_give_what_single_ones_give(stored):
    chunks, store = stored
    queries = sentences(70, seed=99)
    for scoring in ("pooled", "maxp"):
        retriever = DenseRetriever(chunks, store=store, scoring=scoring)
        many = retriever.search_many(queries, 5)
        for query, hits in zip(queries, many, strict=True):
            single = retriever.search(query, 5)
            assert [h.score for h in hits] == pytest.approx([h.score for h in single], abs=1e-5)
            assert ids(hits) == ids(single)


def test_remembered_queries_cost_no_run_of_the_model(stored):
    chunks, store = stored
    queries = sentences(5, seed=7)
    known = store.with_queries(queries)
    for scoring in ("pooled", "maxp"):
        retriever = DenseRetriever(chunks, store=known, scoring=scoring)
        before = store.encoder.encoded
        many = retriever.search_many(queries, 3)
        single = [retriever.search(query, 3) for query in queries]
        assert store.encoder.encoded == before
        expected = DenseRetriever(chunks, store=store, scoring=scoring).search_many(queries, 3)
        assert store.encoder.encoded > before
        assert [ids(hits) for hits in many] == [ids(hits) for hits in single] == [ids(hits) for hits in expected]


def test_remembered_tokens_cost_no_run_of_the_model_either(stored):
    chunks, store = stored
    queries = sentences(5, seed=8)
    known = store.with_queries(queries, tokens=True)
    before = store.encoder.encoded
    scores = [known.maxsim(query, chunks[:4]) for query in queries]
    assert store.encoder.encoded == before
    assert np.allclose(scores, [store.maxsim(query, chunks[:4]) for query in queries])
    assert store.encoder.encoded > before


def test_scores_are_those_of_the_store(stored):
    chunks, store = stored
    query = store.encode_query("w1 w2 w3")
    expected = {"pooled": store.pool(chunks) @ query, "maxp": store.maxp(query, chunks)}
    for scoring, scores in expected.items():
        hits = DenseRetriever(chunks, store=store, scoring=scoring).search("w1 w2 w3", len(chunks))
        assert len(hits) == len(chunks)
        assert [h.score for h in hits] == pytest.approx(np.sort(scores)[::-1].tolist(), abs=1e-5)


def test_no_chunks_give_no_hits(stored):
    _, store = stored
    for retriever in (
        DenseRetriever([], embedder=FakeEmbedder()),
        DenseRetriever([], store=store),
        DenseRetriever([], store=store, scoring="maxp"),
        DenseRetriever([], embedder=FakeEmbedder(), index="int8"),
    ):
        assert retriever.search("anything", 3) == []
        assert retriever.search_many(["a", "b"], 3) == [[], []]


def test_bad_arguments(stored):
    chunks, store = stored
    with pytest.raises(InputError, match="'pooled' or 'maxp'"):
        DenseRetriever(chunks, store=store, scoring="best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="store=TokenStore"):
        DenseRetriever(chunks, embedder=FakeEmbedder(), scoring="maxp")
    with pytest.raises(InputError, match="flat, int8, hnsw, ivfpq"):
        DenseRetriever(chunks, store=store, index="tree")
    with pytest.raises(InputError, match="9984 vectors"):
        DenseRetriever(chunks, store=store, index="ivfpq")
    with pytest.raises(InputError, match="every window"):
        DenseRetriever(chunks, store=store, scoring="maxp", index="hnsw")
    with pytest.raises(StoreMismatchError):
        DenseRetriever([Chunk("elsewhere", 0, 1, "x")], store=store)


# ---- other indexes


def recall_at_10(index: str, dimension: int = 16, n: int = 10_000) -> float:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((300, dimension))
    vectors = unit((centres[rng.integers(0, 300, n)] + 0.4 * rng.standard_normal((n, dimension))).astype(np.float32))
    queries = unit((vectors[:100] + 0.05 * rng.standard_normal((100, dimension))).astype(np.float32))
    _, exact = search_index(make_index("flat", vectors), queries, 10)
    _, found = search_index(make_index(index, vectors), queries, 10)
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]))


@pytest.mark.parametrize(("index", "least"), [("flat", 1.0), ("int8", 0.9), ("hnsw", 0.95), ("ivfpq", 0.3)])
def test_approximate_indexes_find_what_flat_finds(index, least):
    assert recall_at_10(index) >= least


# ---- what goes in


class Own:
    """Somebody's embedder: good vectors, spoilt by ``how``."""

    name, identity = "own", "own:1"

    def __init__(self, how, dimension=32):
        self.how, self.dimension, self.inner = how, dimension, FakeEmbedder(dimension=32)

    def encode(self, texts, kind="passage"):
        return self.how(self.inner.encode(texts, kind))


def first(rows, value):
    rows = rows.copy()
    rows[0] = value
    return rows


@pytest.mark.parametrize(
    "how", [lambda r: r, lambda r: r.tolist(), lambda r: r.astype(float), np.float16, lambda r: 7 * r]
)
def test_vectors_may_come_as_lists_in_another_precision_or_length(how):
    retriever = DenseRetriever(chunks_of(["red wine", "blue sky"]), embedder=Own(how))
    assert [ids(retriever.search(text, 1)) for text in ("wine", "sky")] == [["d0#0-8"], ["d1#0-8"]]
    assert all(hit.score < 1.001 for hit in retriever.search("red wine"))


@pytest.mark.parametrize(
    ("embedder", "message"),
    [
        (Own(lambda r: r, dimension=16), r"shape \(2, 32\), expected \(2, 16\)"),
        (Own(lambda r: r, dimension=24), r"shape \(2, 32\), expected \(2, 24\)"),
        (Own(lambda r: r[:-1]), r"shape \(1, 32\), expected \(2, 32\)"),
        (Own(lambda r: np.concatenate([r, r])), r"shape \(4, 32\), expected \(2, 32\)"),
        (Own(lambda r: first(r, np.nan)), "NaN or infinity for text 0 of 2"),
        (Own(lambda r: first(r, np.inf)), "NaN or infinity for text 0 of 2"),
    ],
)
def test_an_embedder_that_breaks_its_contract_is_named(embedder, message):
    with pytest.raises(ContractError, match=f"embedder 'own' gave .*{message}"):
        DenseRetriever(chunks_of(["red wine", "blue sky"]), embedder=embedder)


def test_a_query_without_a_number_is_refused_too_and_a_zero_vector_passes():
    retriever = DenseRetriever(chunks_of(["red wine", "blue sky"]), embedder=Own(lambda r: first(r, 0)))
    assert len(retriever.search("sky", 2)) == 2
    retriever.embedder.how = lambda r: first(r, np.nan)
    with pytest.raises(ContractError, match="NaN or infinity for text 0 of 1"):
        retriever.search("sky")


def test_a_chunk_given_twice_counts_once_and_two_files_of_one_name_are_refused():
    chunks = chunks_of(["red wine", "blue sky"])
    hits = DenseRetriever([*chunks, *chunks], embedder=FakeEmbedder()).search("wine", np.int64(5))
    assert ids(hits) == ["d0#0-8", "d1#0-8"]
    with pytest.raises(InputError, match="two folders"):
        DenseRetriever([*chunks, replace(chunks[0], text="red vine")], embedder=FakeEmbedder())


def test_threads_are_those_that_the_environment_permits():
    code = """
import faiss
from ragkit.base import Chunk
from ragkit.retrieval.dense import DenseRetriever
from ragkit.testing import FakeEmbedder

class Watched:
    def __init__(self, index): self.index, self.threads = index, []
    def search(self, *given, **options):
        self.threads.append(faiss.omp_get_max_threads())
        return self.index.search(*given, **options)

retriever = DenseRetriever([Chunk("a", 0, 3, "tea"), Chunk("b", 0, 3, "oil")], embedder=FakeEmbedder())
watched = retriever._faiss = Watched(retriever._faiss)
retriever.search("tea", 1)
retriever.search_many(["tea", "oil"], 1)
print(*watched.threads, faiss.omp_get_max_threads())
"""
    for limit in "13":
        environment = {**os.environ, "OMP_NUM_THREADS": limit}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.split() == ["1", limit, limit]

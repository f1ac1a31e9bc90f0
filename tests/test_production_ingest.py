"""Ingestion: the same shards from any pool of workers, and after any kill every chunk exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ragkit import cli
from ragkit.base import (
    Chunk,
    ContractError,
    Corpus,
    Document,
    EndpointError,
    InputError,
    IntegrityError,
    RagkitError,
    StoreMismatchError,
    Vectors,
)
from ragkit.chunking import FixedChunker, SemanticChunker, chunk_corpus
from ragkit.production.ingest import group_documents, ingest, load_shards, read_shard
from ragkit.retrieval.dense import DenseRetriever
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore

CHUNKER = FixedChunker(8, 2)
SECONDS = 0.15  # that a slow shard takes


class SlowEmbedder(FakeEmbedder):
    def encode_windows(self, windows, kind="passage"):
        time.sleep(SECONDS)
        yield from super().encode_windows(windows, kind)


class WordsOnly(FakeEmbedder):
    """No token vectors, so each chunk is encoded on its own."""

    encode_windows = None

    def encode(self, texts, kind="passage"):
        return FakeEmbedder().encode(texts, kind)


class Broken(FakeEmbedder):
    def encode_windows(self, windows, kind="passage"):
        os.kill(os.getpid(), signal.SIGKILL)


class Wrong(FakeEmbedder):
    def encode_windows(self, windows, kind="passage"):
        raise ContractError("vectors of another shape")


class Memory:
    """A ``ChunkStore`` in this process."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[Chunk, tuple[float, ...]]] = {}
        self.calls: list[str] = []

    def add(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        self.rows |= {c.id: (c, tuple(v)) for c, v in zip(chunks, vectors.tolist(), strict=True)}

    def replace(self, documents: Collection[str], chunks: Sequence[Chunk], vectors: Vectors) -> None:
        self.delete(documents)
        self.add(chunks, vectors)

    def delete(self, documents: Collection[str]) -> int:
        before = len(self.rows)
        self.rows = {key: row for key, row in self.rows.items() if row[0].doc_id not in documents}
        return before - len(self.rows)

    def refresh(self) -> None:
        self.calls.append("refresh")


def page(number: int, words: str = "red wine blue sky") -> Document:
    return Document(
        f"page {number}", f"Page {number} says {words}, and then it says some more of it.", f"Page {number}"
    )


def pages(count: int = 60) -> Corpus:
    return Corpus("pages", tuple(page(n) for n in range(count)))


def run(corpus: Corpus, folder: Path, workers: int = 1, embedder=FakeEmbedder, **options):
    return ingest(corpus, CHUNKER, embedder, folder, workers=workers, progress=False, **options)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def stored(folder: Path) -> dict[str, tuple[Chunk, tuple[float, ...]]]:
    store = Memory()
    load_shards(folder, store, progress=False)
    return store.rows


def assert_complete(folder: Path, corpus: Corpus) -> None:
    """Every chunk exactly once, in the shards and in the store, and no file beside them."""
    chunks = chunk_corpus(CHUNKER, corpus)
    held = [chunk for path in folder.glob("*.parquet") for chunk in read_shard(path)[1]]
    assert sorted(held, key=lambda c: c.id) == sorted(chunks, key=lambda c: c.id)
    rows = stored(folder)
    assert rows.keys() == {chunk.id for chunk in chunks}
    vectors = TokenStore.open(corpus, FakeEmbedder(), save=False).pool(chunks)
    assert np.allclose([rows[chunk.id][1] for chunk in chunks], vectors, atol=1e-6)
    assert {path.suffix for path in folder.iterdir()} == {".parquet", ".json", ""}


@pytest.fixture(autouse=True)
def _own_home(ragkit_home):
    """No token vectors of other runs."""


@pytest.fixture
def one(tmp_path) -> Path:
    """The shards of ``pages()``, made in this process."""
    run(pages(), tmp_path / "one")
    return tmp_path / "one"


# The same shards, whoever makes them


def test_two_processes_make_the_same_files_as_this_one(one, tmp_path):
    report = run(pages(), tmp_path / "two", workers=2)
    assert (report.documents, report.shards, report.made, report.removed) == (60, len(shards(one)), report.shards, 0)
    assert report.shards > 2
    assert report.chunks == len(chunk_corpus(CHUNKER, pages()))
    assert shards(tmp_path / "two") == shards(one)
    assert_complete(one, pages())


RAY = """
from pathlib import Path
from ragkit.production.ingest import _ray
from ragkit.base import RagkitError
from test_production_ingest import Wrong, listening, pages, run

others = listening()
with _ray(2):  # what `run` would start
    run(pages(), Path("ray"), workers=2, ray=True)
    print(*(listening() - others))
    try:
        run(pages(), Path("wrong"), 2, Wrong, ray=True)
    except RagkitError as error:
        print(error)
"""


def listening() -> set[str]:
    """The addresses of this machine's open ports, as Linux writes them."""
    lines = [line for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()]
    return {address for _, address, _, state, *_ in map(str.split, lines) if state == "0A"}


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra `scale` is not installed")
def test_ray_makes_the_same_files_and_listens_on_this_machine_alone(one, tmp_path):
    env = {**environment(), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", RAY]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert shards(tmp_path / "ray") == shards(one)
    addresses, error = done.stdout.splitlines()
    assert {address.split(":")[0][-8:] for address in addresses.split()} == {"0100007F"}  # 127.0.0.1
    assert error.startswith("an actor of Ray failed: ragkit.base.ContractError: vectors of another shape Run it again")
    assert not (tmp_path / ".ray").exists()  # where Ray keeps a token, unless it is given one


def test_the_order_of_documents_does_not_count(one, tmp_path):
    run(Corpus("pages", pages().documents[::-1]), tmp_path / "back")
    assert shards(tmp_path / "back") == shards(one)


def test_a_chunk_comes_back_with_all_that_it_had(tmp_path, small_corpus):
    blank = Document("blank", " \n", metadata={"day": 1})
    corpus = Corpus("small", (*small_corpus.documents, blank))
    run(corpus, tmp_path)
    chunks = {chunk.id: chunk for chunk in chunk_corpus(CHUNKER, corpus)}
    rows = stored(tmp_path)
    for key, (chunk, _) in rows.items():
        assert (chunk, chunk.sections, chunk.pages) == (chunks[key], chunks[key].sections, chunks[key].pages)
    documents = [name for path in tmp_path.glob("*.parquet") for name in read_shard(path)[0]]
    assert sorted(documents) == sorted(d.id for d in corpus.documents)


def test_the_vectors_are_those_of_a_dense_retriever(tmp_path, tiny, minilm):
    corpus = Corpus("two", tuple(d for d in tiny.documents if 1_000 < len(d.text) < 3_000)[:2])
    ingest(corpus, FixedChunker(128, 16), minilm.name, tmp_path / "shards", workers=1, progress=False)
    rows = stored(tmp_path / "shards")
    chunks = [chunk for chunk, _ in rows.values()]
    expected = TokenStore.open(corpus, minilm, progress=False)
    assert len(chunks) >= 4
    assert np.allclose([vector for _, vector in rows.values()], expected.pool(chunks), atol=1e-4)
    query = "How do I change the configuration?"
    scores = {chunk.id: float(np.dot(vector, expected.encode_query(query))) for chunk, vector in rows.values()}
    found = DenseRetriever(chunks, expected).search(query, len(chunks))
    assert [hit.chunk.id for hit in found] == sorted(scores, key=scores.__getitem__, reverse=True)


def test_an_embedder_without_token_vectors_encodes_chunks(tmp_path):
    run(pages(3), tmp_path, embedder=WordsOnly)
    for chunk, vector in stored(tmp_path).values():
        assert np.allclose(vector, FakeEmbedder().encode([chunk.text])[0], atol=1e-6)


# Killed, damaged, changed


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}{os.pathsep}{Path(__file__).parent}"}


@pytest.mark.parametrize(("workers", "made"), [(1, 0), (1, 2), (2, 1), (2, 3)])
def test_after_a_kill_the_next_run_goes_on(workers, made, tmp_path):
    """SIGKILL of the process as soon as ``made`` shards are there, or its plan."""
    script = f"from test_production_ingest import *; run(pages(), Path('out'), {workers}, SlowEmbedder)"
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment(), start_new_session=True) as p:
        deadline = time.monotonic() + 60
        while not (out / "plan.json").exists() or len(shards(out)) < made:
            assert p.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        p.kill()
    before = shards(out)
    with pytest.raises(IntegrityError, match="run the ingestion again"):
        stored(out)
    deadline = time.monotonic() + 10
    while group_is_alive(p.pid):
        assert time.monotonic() < deadline, "workers have outlived the process that started them"
        time.sleep(0.02)
    report = run(pages(), out, workers=1, embedder=SlowEmbedder)
    assert report.made == report.shards - len(before)
    assert made <= len(before) < report.shards
    assert before.items() <= shards(out).items()
    assert_complete(out, pages())


def group_is_alive(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("damage", ["cut", "empty", "changed"])
def test_a_damaged_shard_is_made_again(damage, one):
    path = max(one.glob("*.parquet"), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    place = whole.index(b"PAR1") + 200
    broken = {"cut": whole[:-100], "empty": b"", "changed": whole[:place] + b"\xff\x00\xff" + whole[place + 3 :]}
    path.write_bytes(broken[damage])
    with pytest.raises(IntegrityError, match=path.name):
        stored(one)
    assert run(pages(), one).made == 1
    assert path.read_bytes() == whole


def test_a_changed_document_costs_its_own_shard(one):
    store, before = Memory(), shards(one)
    load_shards(one, store, progress=False)
    old = dict(store.rows)
    changed = Corpus("pages", (page(0, "nothing of the kind"), *pages().documents[1:]))
    report = run(changed, one)
    assert (report.made, report.removed) == (1, 1)
    assert len(before.keys() - shards(one).keys()) == 1
    load_shards(one, store, progress=False)
    assert {key for key in old if old[key] != store.rows.get(key)} == {key for key in old if key.startswith("page 0#")}
    assert {row[0].doc_id for key, row in store.rows.items() if row != old.get(key)} == {"page 0"}
    assert_complete(one, changed)


def test_added_and_removed_documents(one):
    store = Memory()
    store.add([Chunk("of somebody else", 0, 1, "x")], np.ones((1, 32), dtype=np.float32))
    load_shards(one, store, progress=False)
    less = Corpus("pages", pages().documents[1:])
    assert run(less, one).made <= 2
    load_shards(one, store, progress=False)
    assert {row[0].doc_id for row in store.rows.values()} == {d.id for d in less.documents} | {"of somebody else"}
    more = Corpus("pages", (*less.documents, page(200)))
    assert run(more, one).made <= 2
    load_shards(one, store, progress=False)
    assert "page 200" in {row[0].doc_id for row in store.rows.values()}
    assert_complete(one, more)
    late = Memory()  # another store, loaded before the first document went
    late.add([Chunk("page 0", 0, 1, "P")], np.ones((1, 32), dtype=np.float32))
    load_shards(one, late, progress=False)
    assert "page 0" not in {row[0].doc_id for row in late.rows.values()}


def test_loading_that_broke_off_is_done_again(one, monkeypatch):
    store, replace, works = Memory(), Memory.replace, iter([True, True])

    def breaks(*arguments):
        if not next(works, False):
            raise EndpointError("the server went away")
        replace(*arguments)

    monkeypatch.setattr(Memory, "replace", breaks)
    with pytest.raises(EndpointError):
        load_shards(one, store, progress=False)
    monkeypatch.setattr(Memory, "replace", replace)
    assert 0 < len(store.rows) < len(stored(one))
    assert load_shards(one, store, progress=False) == len(store.rows)
    assert store.rows == stored(one)
    assert store.calls == ["refresh"]


def test_groups_hold_about_8_documents_and_nothing_twice():
    documents = [page(n) for n in range(3_000)]
    groups = group_documents(documents)
    assert sorted(d.id for group in groups for d in group) == sorted(d.id for d in documents)
    assert 4 < len(documents) / len(groups) < 16


def test_the_command_line(tmp_path, capsys, monkeypatch):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "tea.md").write_text("# Tea\n\nTwo minutes, no longer, and the water must boil.")
    (notes / "ham.md").write_text("# Ham\n\nEggs go well with it.")
    (tmp_path / "pipeline.toml").write_text(
        'retriever = "a"\nmodules.a.kind = "BM25Retriever"\nchunks.main.size = 8\n'
        'chunks.main.overlap = 0\nchunks.main.kind = "SentenceChunker"'
    )
    monkeypatch.setattr("ragkit.production.ingest.load_embedder", lambda name: FakeEmbedder())
    command = ["ingest", str(notes), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert cli.main([*command, "--config", str(tmp_path / "pipeline.toml")]) == 0
    assert capsys.readouterr().out.startswith("notes: 2 documents, 4 chunks in 1 shards")
    assert {chunk.doc_id for chunk, _ in stored(tmp_path / "out").values()} == {"tea", "ham"}
    assert cli.main(command) == 2  # cut in another way
    assert "FixedChunker(256, 32" in capsys.readouterr().err


# Refused


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(one):
    before = shards(one)
    for corpus, chunker, embedder, says in (
        (pages(), FixedChunker(9, 2), FakeEmbedder, r"shards of the chunker \S+FixedChunker\(8, 2.*, not \S+\(9, 2"),
        (pages(), CHUNKER, WordsOnly, "shards of the vectors mean of token vectors, not one text a chunk"),
        (Corpus("others", pages().documents), CHUNKER, FakeEmbedder, "shards of the corpus pages, not others"),
    ):
        with pytest.raises(StoreMismatchError, match=f"{says}.*: name another folder"):
            ingest(corpus, chunker, embedder, one, workers=1, progress=False)
    assert shards(one) == before


def test_other_files_stay(one):
    (one / "notes.parquet").write_text("mine")
    run(pages(3), one)
    assert (one / "notes.parquet").read_text() == "mine"


def test_a_worker_that_dies_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(RagkitError, match="Run it again"):
        run(pages(), tmp_path, workers=2, embedder=Broken)


def test_an_error_in_a_worker_is_raised_here(tmp_path):
    with pytest.raises(ContractError, match="another shape"):
        run(pages(), tmp_path, workers=2, embedder=Wrong)


def test_settings_that_cannot_work(tmp_path):
    with pytest.raises(InputError, match="workers"):
        run(pages(3), tmp_path, workers=0)
    with pytest.raises(InputError, match="SemanticChunker"):
        ingest(pages(3), SemanticChunker(TokenStore.open(pages(3), FakeEmbedder(), save=False)), FakeEmbedder, tmp_path)
    with pytest.raises(IntegrityError, match="no folder of shards"):
        stored(tmp_path)
    (tmp_path / "plan.json").write_text("{}")  # of something else
    with pytest.raises(IntegrityError, match=r"no readable plan.json .*; name another folder"):
        run(pages(3), tmp_path)

"""The vector cache: nothing is encoded twice, whatever is full, damaged, killed or shared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from endpoint import Endpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.base import ContractError, EndpointError, InputError, IntegrityError
from ragkit.embedding import CachedEmbedder, OpenAIEmbedder, load_embedder
from ragkit.embedding.cache import VectorTable
from ragkit.embedding.models import TransformerEmbedder
from ragkit.testing import FakeEmbedder


class Counting(FakeEmbedder):
    """A fake that remembers what it was given."""

    def __init__(self, dimension=8):
        super().__init__(dimension=dimension)
        self.given = []

    def encode(self, texts, kind="passage"):
        self.given += [(text, kind) for text in texts]
        return super().encode(texts, kind)


TEXTS = ["red wine", "", "blue sky", "red wine", "naïve 中文 \ud800"]


def test_a_text_is_encoded_once_and_the_vectors_are_the_same(tmp_path):
    inner = Counting()
    cached = CachedEmbedder(inner, tmp_path)
    assert np.array_equal(cached.encode(TEXTS), FakeEmbedder(dimension=8).encode(TEXTS))
    assert sorted(inner.given) == sorted((text, "passage") for text in set(TEXTS))
    assert cached.encoded == 4
    cached.encode(TEXTS[:2])
    fresh = CachedEmbedder(inner, str(tmp_path))
    assert np.array_equal(fresh.encode(list(reversed(TEXTS))), FakeEmbedder(dimension=8).encode(TEXTS)[::-1])
    assert len(inner.given) == 4
    assert (cached.identity, cached.name, cached.dimension) == (inner.identity, inner.name, 8)
    assert fresh.encode([]).shape == (0, 8)


def test_kind_and_model_are_part_of_the_key(tmp_path):
    inner, other = Counting(), Counting(dimension=4)
    for embedder, kind in ((inner, "query"), (inner, "passage"), (other, "passage")):
        CachedEmbedder(embedder, tmp_path).encode(["red"], kind)
    assert inner.given == [("red", "query"), ("red", "passage")]
    assert other.given == [("red", "passage")]
    assert len(VectorTable(tmp_path)) == 3


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [1e9]
    monkeypatch.setattr("ragkit.embedding.cache.time.time", lambda: now[0])
    return now


def test_a_full_cache_loses_what_was_not_used_for_longest_and_no_more(tmp_path, clock, monkeypatch):
    monkeypatch.setattr("ragkit.embedding.cache.MAX_BYTES", 2_000_000)
    inner = FakeEmbedder(dimension=384)
    cached = CachedEmbedder(inner, tmp_path)
    for day in range(8):
        clock[0] += 86_400
        cached.encode([f"text {i}" for i in range(day * 100, day * 100 + 100)])
    clock[0] += 86_400
    cached.encode([f"text {i}" for i in range(100)])  # the oldest, used again
    clock[0] += 86_400
    cached.encode([f"new {i}" for i in range(500)])
    table = VectorTable(tmp_path)
    assert table.bytes <= 2_000_000
    assert len(table) > 800
    paid = cached.encoded
    cached.encode([f"text {i}" for i in range(100)])
    cached.encode([f"new {i}" for i in range(500)])
    assert cached.encoded == paid
    cached.encode(["text 100"])
    assert cached.encoded == paid + 1


def test_eviction_by_hand_gives_the_room_back(tmp_path):
    cached = CachedEmbedder(FakeEmbedder(dimension=384), tmp_path)
    cached.encode([f"text {i}" for i in range(600)])
    table = VectorTable(tmp_path)
    table.evict(500_000)
    table.shrink()
    assert 200 < len(table) < 300
    assert table.path.stat().st_size < 600_000
    table.evict(0)
    assert len(table) == 0


@pytest.mark.parametrize("shape", [(1, 8), (2, 7), (3, 8)])
def test_a_model_that_breaks_its_promise_spoils_nothing(tmp_path, shape):
    inner = Counting()
    cached = CachedEmbedder(inner, tmp_path)
    cached.encode(["red"])
    inner.encode = lambda texts, kind="passage": np.ones(shape, dtype=np.float32)
    with pytest.raises(ContractError, match=r"expected \(2, 8\)"):
        cached.encode(["blue", "green"])
    assert len(VectorTable(tmp_path)) == 1


def test_a_damaged_file_is_named_with_what_to_do(tmp_path):
    cached = CachedEmbedder(FakeEmbedder(dimension=384), tmp_path)
    cached.encode([f"text {i}" for i in range(100)])
    cached._table._database.close()
    path = tmp_path / "vectors.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises((IntegrityError, InputError), match=r"vectors\.db"):
        CachedEmbedder(FakeEmbedder(dimension=384), tmp_path).encode([f"text {i}" for i in range(100)])


def test_everybody_may_read_what_the_umask_lets_them(tmp_path):
    old = os.umask(0o022)
    try:
        CachedEmbedder(Counting(), tmp_path / "new").encode(["red"])
    finally:
        os.umask(old)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "new" / "vectors.db").stat().st_mode & 0o777 == 0o644


def test_what_was_paid_before_an_endpoint_failed_is_kept(tmp_path):
    texts = [f"text {i}" for i in range(600)]
    with Endpoint(faults=["ok", "401"]) as endpoint:
        cached = CachedEmbedder(OpenAIEmbedder("m", endpoint.url), tmp_path)
        with pytest.raises(EndpointError, match="401"):
            cached.encode(texts)
        paid = [t for body in endpoint.requests[:1] for t in body["input"]]
        vectors = cached.encode(texts)
        later = [t for body in endpoint.requests[2:] for t in body["input"]]
        assert len(paid) == 256
        assert sorted(paid + later) == sorted(texts), "a text was paid for twice, or left out"
        fresh = CachedEmbedder(OpenAIEmbedder("m", endpoint.url), tmp_path)
        sent = len(endpoint.requests)
        assert np.array_equal(fresh.encode(texts), vectors)
        assert fresh.dimension == 8
        assert len(endpoint.requests) == sent


WORKER = """
import sys
from pathlib import Path
from ragkit.embedding import CachedEmbedder
sys.path.insert(0, sys.argv[2])
from test_embedding_cache import Counting
inner = Counting()
cached = CachedEmbedder(inner, Path(sys.argv[1]))
for start in range(0, 200, 20):
    cached.encode([f"text {i}" for i in range(start, start + 20)])
print(len(inner.given))
"""


def test_processes_share_and_pay_once_between_them(tmp_path):
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(Path(__file__).parent)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(process.communicate(timeout=120)[0]) for process in running) == 200
    checked = Counting()
    texts = [f"text {i}" for i in range(200)]
    vectors = CachedEmbedder(checked, tmp_path).encode(texts)
    assert np.array_equal(vectors, FakeEmbedder(dimension=8).encode(texts))
    assert checked.given == []


KILLED = (
    WORKER.replace("print(", "")
    .replace("(inner.given))", "")
    .replace("len", "")
    .replace("cached.encode([", "print(start, flush=True); cached.encode([")
)


def test_a_kill_leaves_a_cache_that_works(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline() != "60\n":
        pass
    process.kill()
    process.wait()
    inner = Counting()
    texts = [f"text {i}" for i in range(200)]
    vectors = CachedEmbedder(inner, tmp_path).encode(texts)
    assert np.array_equal(vectors, FakeEmbedder(dimension=8).encode(texts))
    assert 0 < len(inner.given) <= 140


def test_load_embedder_puts_a_cache_in_front(ragkit_home):
    cached = load_embedder(cache=True)
    assert isinstance(cached, CachedEmbedder)
    assert isinstance(cached.inner, TransformerEmbedder)
    assert cached.inner is load_embedder()
    vectors = cached.encode(["How do I stop a worker?"], "query")
    again = load_embedder(cache=True)
    assert np.array_equal(vectors, again.encode(["How do I stop a worker?"], "query"))
    assert again.encoded == 0
    assert str(ragkit_home) in str(cached.folder)


@settings(max_examples=40)
@given(st.lists(st.lists(st.text(max_size=5), max_size=6), max_size=6))
def test_any_calls_give_the_models_own_vectors_and_pay_once(tmp_path_factory, calls):
    inner = Counting()
    folder = tmp_path_factory.mktemp("cache")
    cached = CachedEmbedder(inner, folder)
    for texts in calls:
        assert np.array_equal(cached.encode(texts), FakeEmbedder(dimension=8).encode(texts))
    assert len(inner.given) == len(set(inner.given)) == len({text for texts in calls for text in texts})

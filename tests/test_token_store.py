"""The token store: pooled vectors equal the mean of tokens, and no kill, flip or second process spoils it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.base import Chunk, ContractError, Corpus, Document, InputError, IntegrityError, StoreMismatchError
from ragkit.embedding import load_embedder, unit
from ragkit.embedding.vectors import WindowVectors
from ragkit.testing import FakeEmbedder
from ragkit.token_store import BlockSums, TokenStore, quantise, range_max, stored_bytes, unused_folders, windows

LENGTHS = [0, 1, 5, 16, 17, 31, 32, 33, 64, 200, 1000, 5000]


def words(n: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(f"w{i}" for i in rng.integers(0, 300, n))


def corpus_of(*texts: str, name: str = "test") -> Corpus:
    return Corpus(name, tuple(Document(f"d{i}", text) for i, text in enumerate(texts)))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return corpus_of(*(words(n, seed=n) for n in LENGTHS))


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory) -> TokenStore:
    folder = tmp_path_factory.mktemp("stores") / "store"
    return TokenStore.open(corpus, FakeEmbedder(context=0.3), folder=str(folder), progress=False)


def random_chunks(corpus: Corpus, n: int = 300, seed: int = 1) -> list[Chunk]:
    rng = np.random.default_rng(seed)
    chunks = []
    for document in rng.choice(np.array(corpus.documents, dtype=object), n):
        start, end = np.sort(rng.integers(0, len(document.text) + 1, 2)).tolist()
        chunks.append(Chunk(document.id, start, end, document.text[start:end]))
    return chunks


def own_tokens(store: TokenStore, chunk: Chunk) -> np.ndarray:
    """The token vectors of ``chunk``, found one by one."""
    offsets, vectors = store.tokens(chunk.doc_id)
    return vectors[[chunk.start <= start < chunk.end for start, _ in offsets]]


# ---- the arithmetic


@given(st.integers(0, 300), st.integers(1, 60), st.data())
def test_windows_are_equal_cover_every_token_once_and_own_what_is_most_central(tokens, size, data):
    stride = data.draw(st.integers(1, size))
    found = windows(tokens, size, stride)
    owned = [i for _, _, first, last in found for i in range(first, last)]
    assert owned == list(range(tokens))
    assert {end - start for start, end, _, _ in found} == {min(size, tokens)}
    assert all(b[0] - a[0] <= stride for a, b in itertools.pairwise(found))

    def depth(token, window):
        return min(token - window[0], window[1] - 1 - token)

    for window in found:
        for token in {window[2], (window[2] + window[3]) // 2, window[3] - 1} if window[3] > window[2] else ():
            assert all(depth(token, window) >= depth(token, other) for other in found)


@given(st.integers(1, 5), st.integers(1, 200), st.integers(0, 10**6))
def test_block_sums_equal_plain_sums(dimension, blocks, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-127, 128, (32 * blocks, dimension), dtype=np.int8)
    scales = rng.random(32 * blocks).astype(np.float32)
    ranges = np.sort(rng.integers(0, 32 * blocks - 31, (20, 2)), axis=1)
    values = vectors * scales[:, None].astype(np.float64)
    expected = np.array([values[a:b].sum(axis=0) for a, b in ranges])
    assert np.allclose(BlockSums(vectors, scales).between(ranges), expected, rtol=1e-4, atol=0.05)


def test_sums_stay_exact_in_the_millionth_row():
    vectors = np.full((2**20, 2), 100, dtype=np.int8)
    sums = BlockSums(vectors, np.full(2**20, 0.1, dtype=np.float32))
    assert sums.between(np.array([[2**20 - 69, 2**20 - 32]])) == pytest.approx(370, rel=1e-4)


@given(st.integers(0, 10**6))
def test_quantising_keeps_every_component_within_half_a_step(seed):
    vectors = np.random.default_rng(seed).standard_normal((5, 8)).astype(np.float32) * 10.0 ** (seed % 7 - 3)
    vectors[2] = 0
    numbers, scales = quantise(vectors)
    assert (np.abs(numbers * scales[:, None] - vectors) <= scales[:, None] * 0.5001).all()


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30), st.data())
def test_range_max_equals_the_plain_maximum(scores, data):
    pair = st.tuples(st.integers(0, len(scores) - 1), st.integers(1, len(scores))).filter(lambda p: p[0] < p[1])
    ranges = data.draw(st.lists(st.tuples(pair, pair), max_size=6))
    table = np.stack([np.array(scores, dtype=np.float32), -np.array(scores, dtype=np.float32)])
    found = range_max(table, np.array(ranges, dtype=np.int64).reshape(-1, 2, 2))
    assert found.tolist() == [[max(row[a:b].max() for a, b in pair) for pair in ranges] for row in table]


# ---- vectors of chunks


def test_pool_equals_the_mean_of_the_tokens(store, corpus):
    chunks = random_chunks(corpus)
    expected = [unit(own_tokens(store, c).sum(axis=0)) for c in chunks]
    assert np.allclose(store.pool(chunks), expected, atol=1e-5)


def test_tokens_are_those_of_their_most_central_window(store, corpus):
    encoder, document = store.encoder, corpus.documents[-1]
    ids, offsets = encoder.tokenize(document.text)
    found_offsets, found = store.tokens(document.id)
    assert np.array_equal(found_offsets, offsets)
    spans = windows(len(ids), encoder.max_tokens, encoder.max_tokens - encoder.max_tokens // 4)
    vectors = dict(encoder.encode_windows([ids[start:end] for start, end, _, _ in spans]))
    expected = np.concatenate([vectors[i].tokens[f - s : n - s] for i, (s, _, f, n) in enumerate(spans)])
    assert ((unit(found) * unit(expected)).sum(axis=1) > 0.9995).all()


def test_one_window_pools_to_the_direct_vector(tmp_path):
    corpus = corpus_of("red wine and blue cheese", "green tea")
    encoder = FakeEmbedder()
    store = TokenStore.open(corpus, encoder, folder=tmp_path / "s", progress=False)
    chunks = [Chunk(d.id, 0, len(d.text), d.text) for d in corpus.documents]
    direct = encoder.encode([c.text for c in chunks])
    assert ((store.pool(chunks) * direct).sum(axis=1) > 0.9995).all()


@settings(max_examples=30)
@given(st.lists(st.text(max_size=80), max_size=6), st.integers(0, 1000))
def test_any_text_can_be_stored_and_pooled(tmp_path_factory, texts, seed):
    corpus = corpus_of(*texts)
    folder = tmp_path_factory.mktemp("any") / "store"
    store = TokenStore.open(corpus, FakeEmbedder(dimension=4, max_tokens=4), folder=folder, progress=False)
    chunks = random_chunks(corpus, 10, seed) if texts else []
    expected = np.array([unit(own_tokens(store, c).sum(axis=0)) for c in chunks]).reshape(-1, 4)
    assert np.allclose(store.pool(chunks), expected, atol=1e-5)
    assert store.maxsim("a b", chunks).shape == store.maxp(store.encode_query("a b"), chunks).shape == (len(chunks),)


def test_maxp_is_the_best_window_that_lies_in_the_chunk(store, corpus):
    chunks = random_chunks(corpus, 30)
    query = store.encode_query("w1 w2 w3")
    for size in (2, 7, 64):
        found = store.maxp(query, chunks, window=size)
        for chunk, score in zip(chunks, found, strict=True):
            offsets, vectors = store.tokens(chunk.doc_id)
            inside = [i for i, (start, _) in enumerate(offsets) if chunk.start <= start < chunk.end]
            starts = [s for s in range(0, len(offsets), max(1, size // 2)) if {s, s + size - 1} <= set(inside)]
            spans = [range(s, s + size) for s in starts] + [inside[:size], inside[-size:]]
            best = max(float(unit(vectors[list(span)].sum(axis=0)) @ query) for span in spans)
            assert score == pytest.approx(best, abs=1e-5)


def test_maxsim_is_the_weighted_mean_of_the_best_cosines(store, corpus):
    chunks = [*random_chunks(corpus, 50), Chunk("d0", 0, 0, "")]
    query = "w1 w2 never seen w77"
    ids, _ = store.encoder.tokenize(query)
    ((_, vectors),) = store.encoder.encode_windows([ids], "query")
    weights = store.idf(ids)
    for chunk, score in zip(chunks, store.maxsim(query, chunks), strict=True):
        tokens = own_tokens(store, chunk)
        best = (unit(vectors.tokens) @ unit(tokens).T).max(axis=1) if len(tokens) else np.zeros(len(ids))
        assert score == pytest.approx(best @ weights / weights.sum(), abs=1e-4)
    for chunk, score in zip(chunks, store.maxsim(query, chunks, mean="geometric"), strict=True):
        tokens = own_tokens(store, chunk)
        best = (unit(vectors.tokens) @ unit(tokens).T).max(axis=1) if len(tokens) else np.zeros(len(ids))
        product = np.prod(np.maximum(best, 0.05).astype(float) ** (weights / weights.sum()))
        assert score == pytest.approx(product, abs=1e-3)
    with pytest.raises(InputError, match="'arithmetic' or 'geometric'"):
        store.maxsim(query, chunks, mean="harmonic")


def test_token_cosines_show_where_the_query_finds_its_words(store, corpus):
    chunk = Chunk("d2", 0, len(corpus.documents[2].text), corpus.documents[2].text)
    word = chunk.text.split()[3]
    query_offsets, offsets, cosines = store.token_cosines(word, chunk)
    assert cosines.shape == (len(query_offsets), len(offsets))
    start, end = offsets[cosines[0].argmax()]
    assert chunk.text[start:end] == word


def test_rare_words_weigh_more_than_common_ones(tmp_path):
    texts = [f"the cat sat {'zebra' if i == 3 else 'still'} {words(200, i)}" for i in range(12)]
    store = TokenStore.open(corpus_of(*texts), FakeEmbedder(), folder=tmp_path / "s", progress=False)
    the, zebra, unseen = store.idf(store.encoder.tokenize("the zebra unseen")[0])
    assert 0 < the < zebra < unseen


def test_a_query_longer_than_the_window_is_read_to_its_end(store, corpus):
    long = words(100, seed=5)
    assert store.encode_query(long) == pytest.approx(store.encoder.encode([long], "query")[0], abs=1e-5)
    assert store.maxsim(long, [Chunk("d4", 0, 10, corpus.documents[4].text[:10])]).shape == (1,)


def test_chunks_of_another_corpus_are_refused(store):
    with pytest.raises(StoreMismatchError, match="no document 'other'"):
        store.pool([Chunk("other", 0, 1, "x")])
    for chunk in (Chunk("d1", 0, 10**6, "x"), Chunk("d1", 0, 1, "x")):  # too long; another text of the same length
        with pytest.raises(StoreMismatchError, match="another version"):
            store.pool([chunk])
    with pytest.raises(StoreMismatchError):
        store.tokens("other")


def test_equal_texts_share_their_vectors(tmp_path):
    store = TokenStore.open(corpus_of("a b c", "a b c", "d"), FakeEmbedder(), folder=tmp_path / "s", progress=False)
    assert store.n_tokens == 4
    first, second = store.pool([Chunk("d0", 0, 5, "a b c"), Chunk("d1", 0, 5, "a b c")])
    assert np.array_equal(first, second)


# ---- on disk


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.tokens")}


def test_it_is_built_once_and_only_new_texts_are_encoded(ragkit_home):
    encoder = FakeEmbedder()
    texts = [words(50, i) for i in range(6)]
    TokenStore.open(corpus_of(*texts, name="docs"), encoder, progress=False)
    built = encoder.encoded
    assert built >= 300
    TokenStore.open(corpus_of(*texts, name="docs"), encoder, progress=False)
    assert encoder.encoded == built
    # one text is new, one goes, the others get other names
    changed = corpus_of("quite new", *texts[1:], name="docs")
    store = TokenStore.open(changed, encoder, progress=False)
    assert encoder.encoded == built + 2
    assert store.n_tokens == 252
    # another corpus that shares documents takes them over, and nothing was deleted
    TokenStore.open(corpus_of(*texts[2:4], name="part"), encoder, progress=False)
    TokenStore.open(corpus_of(*texts, name="docs"), encoder, progress=False)
    assert encoder.encoded == built + 2
    assert len(files(ragkit_home)) == 7
    # shared vectors are those that would have been encoded
    fresh = TokenStore.open(changed, encoder, folder=ragkit_home / "fresh", progress=False)
    chunks = random_chunks(changed, 20)
    assert np.array_equal(store.pool(chunks), fresh.pool(chunks))
    assert store.identity == fresh.identity


def test_without_saving_nothing_is_written_and_what_is_there_is_read(tmp_path):
    known, both, encoder = corpus_of(words(50)), corpus_of(words(50), words(80, seed=1)), FakeEmbedder()
    TokenStore.open(both, encoder, folder=str(tmp_path / "none"), save=False, progress=False)
    assert list(tmp_path.iterdir()) == []
    TokenStore.open(known, encoder, folder=str(tmp_path), progress=False)
    files, encoded = set(tmp_path.rglob("*")), encoder.encoded
    store = TokenStore.open(both, encoder, folder=str(tmp_path), save=False, progress=False)
    assert set(tmp_path.rglob("*")) == files
    alone = TokenStore.open(corpus_of(words(80, seed=1)), other := FakeEmbedder(), save=False, progress=False)
    assert encoder.encoded - encoded == other.encoded
    assert np.array_equal(store.tokens("d1")[1], alone.tokens("d0")[1])


def test_another_model_has_vectors_of_its_own(tmp_path):
    """Also where the dimension is the same, and where the first build was killed."""
    corpus = corpus_of("red wine and blue sky", "green tea")
    for seed in (1, 2):
        encoder = FakeEmbedder(seed=seed)
        store = TokenStore.open(corpus, encoder, folder=tmp_path, progress=False)
        chunks = [Chunk(d.id, 0, len(d.text), d.text) for d in corpus.documents]
        assert ((store.pool(chunks) * encoder.encode([d.text for d in corpus.documents])).sum(axis=1) > 0.999).all()
    assert len(files(tmp_path)) == 4
    manifests = [json.loads(path.read_text())["settings"] for path in tmp_path.rglob("manifest.json")]
    assert {m["encoder"] for m in manifests} == {FakeEmbedder(seed=1).identity, FakeEmbedder(seed=2).identity}
    assert {(m["window"], m["stride"], m["dimension"]) for m in manifests} == {(16, 12, 32)}


class OwnEncoder(FakeEmbedder):
    """Somebody's encoder, which breaks its promise by ``spoil``."""

    def __init__(self, spoil) -> None:
        super().__init__()
        self.spoil = spoil

    def encode_windows(self, windows, kind="passage"):
        for i, vectors in super().encode_windows(windows, kind):
            yield i, WindowVectors(self.spoil(vectors.tokens), vectors.mean)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[:-1], "of shape"),
        (lambda rows: rows[:, :16], "of shape"),
        (lambda rows: rows * np.nan, "NaN"),
    ],
)
def test_token_vectors_that_break_the_promise_are_refused_and_not_stored(spoil, message, tmp_path):
    with pytest.raises(ContractError, match=f"'fake' gave.*{message}"):
        TokenStore.open(corpus_of("red wine"), OwnEncoder(spoil), folder=tmp_path, progress=False)
    assert files(tmp_path) == {}


def test_what_gives_no_token_vectors_is_refused(corpus):
    class NoTokens:
        name, identity, dimension = "none", "none", 3

        def encode(self, texts, kind="passage"):
            return np.zeros((len(texts), 3), dtype=np.float32)

    with pytest.raises(InputError, match="no token vectors"):
        TokenStore.open(corpus, NoTokens())
    with pytest.raises(InputError, match="fewer than 4 tokens"):
        TokenStore.open(corpus, FakeEmbedder(max_tokens=3))


def test_files_of_the_users_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    TokenStore.open(corpus_of("a b c"), FakeEmbedder(), folder=tmp_path, progress=False)
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


def test_a_corpus_may_have_more_documents_than_a_process_may_open_files(tmp_path):
    resource = pytest.importorskip("resource")
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    corpus = corpus_of(*(f"word{i}" for i in range(150)))
    TokenStore.open(corpus, FakeEmbedder(), folder=tmp_path, progress=False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, most))
    try:
        assert TokenStore.open(corpus, FakeEmbedder(), folder=tmp_path, progress=False).n_tokens == 150
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_everybody_may_read_what_the_umask_lets_them(tmp_path):
    old = os.umask(0o022)
    try:
        TokenStore.open(corpus_of("a b c"), FakeEmbedder(), folder=tmp_path, progress=False)
    finally:
        os.umask(old)
    (folder,) = (path.parent for path in tmp_path.rglob("manifest.json"))
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


@pytest.mark.parametrize("damage", ["cut", "longer", "flip", "empty", "gone"])
def test_a_damaged_document_is_encoded_again(damage, tmp_path):
    corpus = corpus_of(words(40), words(80, 1))
    store = TokenStore.open(corpus, FakeEmbedder(), folder=tmp_path, progress=False)
    before = files(tmp_path)
    path = max(tmp_path.rglob("*.tokens"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    flipped = data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 0x10]) + data[len(data) // 3 + 1 :]
    path.unlink()  # the open store still reads the old file
    if damage != "gone":
        path.write_bytes({"cut": data[:-1], "longer": data + b"x", "flip": flipped}.get(damage, b""))
    encoder = FakeEmbedder()
    again = TokenStore.open(corpus, encoder, folder=tmp_path, progress=False)
    assert encoder.encoded >= 80
    assert files(tmp_path) == before
    chunks = random_chunks(corpus, 20)
    assert np.array_equal(again.pool(chunks), store.pool(chunks))


SLOW = """
import sys, time
from pathlib import Path
import ragkit.token_store as module
from ragkit.base import Corpus, Document
from ragkit.testing import FakeEmbedder

class Slow(FakeEmbedder):
    def encode_windows(self, windows, kind="passage"):
        for item in super().encode_windows(windows, kind):
            time.sleep({pause})
            yield item

texts = [" ".join(f"w{{i * j % 97}}" for j in range(60)) for i in range(40)]
corpus = Corpus("slow", tuple(Document(f"d{{i}}", text) for i, text in enumerate(texts)))
encoder = Slow()
store = module.TokenStore.open(corpus, encoder, folder=Path(sys.argv[1]), progress=False)
print(encoder.encoded, store.n_tokens, len(store.pool([])))
"""


def start(folder: Path, pause: float) -> subprocess.Popen:
    code = SLOW.format(pause=pause)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)


def test_a_killed_build_goes_on_where_it_stopped(tmp_path):
    process = start(tmp_path / "a", pause=0.02)
    deadline = time.monotonic() + 60
    while len(files(tmp_path / "a")) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(files(tmp_path / "a"))
    assert 6 <= done < 40
    out, _ = (second := start(tmp_path / "a", pause=0)).communicate(timeout=60)
    assert second.returncode == 0
    encoded, tokens, _ = map(int, out.split())
    assert tokens == 40 * 60
    whole, _ = start(tmp_path / "b", pause=0).communicate(timeout=60)
    assert encoded == int(whole.split()[0]) * (40 - done) / 40
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_two_processes_at_once_both_get_the_store_and_one_builds_it(tmp_path):
    processes = [start(tmp_path, pause=0.002) for _ in range(2)]
    results = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(int(encoded) > 0 for encoded, _, _ in results) == [False, True]
    assert {tokens for _, tokens, _ in results} == {"2400"}


def test_a_document_longer_than_a_group_is_stored_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("ragkit.token_store._GROUP_TOKENS", 64)
    text = words(1000)
    encoder = FakeEmbedder()
    store = TokenStore.open(corpus_of("first", text, "last one"), encoder, folder=tmp_path, progress=False)
    offsets, vectors = store.tokens("d1")
    assert np.array_equal(offsets, encoder.tokenizer.offsets(text))
    expected = np.stack([encoder._direction(i) for i in encoder.tokenize(text)[0].tolist()])
    assert ((unit(vectors) * unit(expected)).sum(axis=1) > 0.999).all()


def test_doctor_learns_what_is_stored_and_what_nothing_reads(corpus, ragkit_home):
    assert stored_bytes(corpus) == 0
    store = TokenStore.open(corpus, FakeEmbedder(), progress=False)
    assert stored_bytes(corpus) == sum(len(data) for data in files(ragkit_home).values())
    assert f"{sum(LENGTHS)} tokens" in repr(store)
    root = ragkit_home / "token_store"
    assert list(unused_folders(root)) == []
    old = root / "0123" / "docs-4567"
    old.mkdir(parents=True)
    (old / "manifest.json").write_text(json.dumps({"settings": {"format": 2}, "files": {}}))
    assert list(unused_folders(root)) == [(old, "format 2, this version reads 3")]
    path = next(root.rglob("*.tokens"))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match=f"{path.name} is damaged"):
        stored_bytes(corpus)


# ---- the real model


def test_pooled_vectors_equal_direct_ones_in_the_same_window(minilm, tmp_path):
    """Without the special tokens, which are in the mean of a text that is encoded directly."""
    text = "Celery workers can be stopped by a signal. " * 12
    store = TokenStore.open(corpus_of(text), minilm, folder=tmp_path, progress=False)
    pooled = store.pool([Chunk("d0", 0, len(text), text)])[0]
    assert pooled @ minilm.encode([text])[0] > 0.99
    ids, _ = minilm.tokenize(text)
    ((_, vectors),) = minilm.encode_windows([ids])
    assert pooled @ unit(vectors.tokens.mean(axis=0)) > 0.999


def test_each_precision_has_its_own_vectors(minilm, tmp_path):
    corpus = corpus_of("Celery workers can be stopped by a signal.")
    stores = [TokenStore.open(corpus, e, folder=tmp_path) for e in (minilm, load_embedder(precision="bfloat16"))]
    assert stores[0].identity != stores[1].identity
    assert len(files(tmp_path)) == 2

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

from ragkit.base import Chunk, Corpus, Document, InputError, IntegrityError, StoreMismatchError
from ragkit.embedding import load_embedder, unit
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore
from ragkit.token_store.build import quantise, segments, windows
from ragkit.token_store.files import LINES
from ragkit.token_store.sums import BLOCK, BlockSums, products, range_max

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
    return TokenStore.open(corpus, FakeEmbedder(context=0.3), folder=folder, progress=False)


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


@given(st.text(alphabet="ab \n😀", max_size=200), st.integers(1, 20))
def test_segments_join_to_the_text_and_break_at_white_space(text, limit):
    found = list(segments(text, limit))
    assert "".join(text[a:b] for a, b in found) == text
    assert all(b - a <= limit for a, b in found)
    for start, end in found[:-1]:
        middle = text[start + limit // 2 : start + limit]
        assert text[end - 1].isspace() or not any(c.isspace() for c in middle)


@given(st.integers(1, 5), st.integers(1, 300), st.integers(0, 10**6))
def test_block_sums_equal_plain_sums(dimension, blocks, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-127, 128, (blocks * BLOCK, dimension), dtype=np.int8)
    scales = rng.random(len(vectors)).astype(np.float32)
    ranges = np.sort(rng.integers(0, len(vectors) + 1, (20, 2)), axis=1)
    values = vectors * scales[:, None].astype(np.float64)
    expected = np.array([values[a:b].sum(axis=0) for a, b in ranges])
    assert np.allclose(BlockSums(vectors, scales).between(ranges), expected, rtol=1e-4, atol=0.05)


def test_sums_stay_exact_in_the_millionth_row():
    vectors = np.full((2**20, 2), 100, dtype=np.int8)
    sums = BlockSums(vectors, np.full(2**20, 0.1, dtype=np.float32))
    assert sums.between(np.array([[2**20 - 37, 2**20]])) == pytest.approx(370, rel=1e-4)


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


@given(st.integers(0, 300), st.integers(0, 40), st.integers(1, 400))
def test_products_in_blocks_equal_the_plain_product(n, queries, dimension):
    rng = np.random.default_rng(n)
    vectors, others = (rng.standard_normal((m, dimension)).astype(np.float32) for m in (n, queries))
    assert np.allclose(products(vectors, others), vectors @ others.T, atol=1e-3)


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


def test_a_query_longer_than_the_window_is_read_to_its_end(store):
    long = words(100, seed=5)
    assert store.encode_query(long) == pytest.approx(store.encoder.encode([long], "query")[0], abs=1e-5)
    assert store.maxsim(long, [Chunk("d4", 0, 10, "")]).shape == (1,)


def test_chunks_of_another_corpus_are_refused(store):
    with pytest.raises(StoreMismatchError, match="no document 'other'"):
        store.pool([Chunk("other", 0, 1, "x")])
    with pytest.raises(StoreMismatchError, match="another version"):
        store.pool([Chunk("d1", 0, 10**6, "x")])
    with pytest.raises(StoreMismatchError):
        store.tokens("other")


def test_equal_texts_share_their_vectors(tmp_path):
    store = TokenStore.open(corpus_of("a b c", "a b c", "d"), FakeEmbedder(), folder=tmp_path / "s", progress=False)
    assert store.n_tokens == 4
    first, second = store.pool([Chunk("d0", 0, 5, "a b c"), Chunk("d1", 0, 5, "a b c")])
    assert np.array_equal(first, second)


# ---- on disk


def test_it_is_built_once_and_unchanged_documents_are_never_encoded_again(ragkit_home):
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
    # another corpus that shares documents takes them over
    TokenStore.open(corpus_of(*texts[2:4], name="part"), encoder, progress=False)
    assert encoder.encoded == built + 2
    # nothing was deleted: not the older version, not another corpus of the same name
    names = [
        p.name.rpartition("-")[0] for p in (ragkit_home / "token_store").glob("*/*/manifest.json") for p in [p.parent]
    ]
    assert sorted(names) == ["docs", "docs", "part"]
    TokenStore.open(corpus_of(*texts, name="docs"), encoder, progress=False)
    assert encoder.encoded == built + 2
    # what was copied is what would have been encoded
    fresh = TokenStore.open(changed, encoder, folder=ragkit_home / "fresh" / "s", progress=False)
    chunks = random_chunks(changed, 20)
    assert np.allclose(store.pool(chunks), fresh.pool(chunks), atol=1e-6)


def test_another_model_window_or_corpus_is_refused_with_the_reason(corpus, tmp_path):
    folder = tmp_path / "s"
    small = corpus_of("a b c", "d e f")
    TokenStore.open(small, FakeEmbedder(), folder=folder, progress=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        StoreMismatchError, match=r"the encoder is 'fake:32:16:0\.0:0', expected 'fake:32:16:0\.0:1'\. C"
    ):
        TokenStore.open(small, FakeEmbedder(seed=1), folder=folder, progress=False)
    with pytest.raises(StoreMismatchError, match=r"the window in tokens is 16, expected 8; .*rebuild=True"):
        TokenStore.open(small, FakeEmbedder(), folder=folder, window=8, progress=False)
    with pytest.raises(StoreMismatchError, match=r"the texts of the corpus .* is '"):
        TokenStore.open(corpus_of("a b c"), FakeEmbedder(), folder=folder, progress=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    encoder = FakeEmbedder()
    again = TokenStore.open(corpus_of("a b c", "new"), encoder, folder=folder, rebuild=True, progress=False)
    assert again.n_tokens == 4
    assert encoder.encoded == 1


def test_bad_arguments(corpus, tmp_path):
    class NoTokens:
        name, identity, dimension = "none", "none", 3

        def encode(self, texts, kind="passage"):
            return np.zeros((len(texts), 3), dtype=np.float32)

    with pytest.raises(InputError, match="no token vectors"):
        TokenStore.open(corpus, NoTokens())
    for window in (3, 17):
        with pytest.raises(InputError, match="expected 4 to 16"):
            TokenStore.open(corpus, FakeEmbedder(), window=window)


def without(folder: Path, *names: str) -> dict[str, bytes]:
    """The files of ``folder`` and of those beside it, but for ``names``."""
    return {str(p): p.read_bytes() for p in folder.parent.rglob("*") if p.is_file() and p.name not in names}


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize("where", ["s", "s.partial"])
@pytest.mark.parametrize("name", ["thesis.txt", "documents.jsonl", "build.json", "manifest.json"])
def test_a_folder_of_the_users_is_refused_before_anything_is_encoded(name, where, rebuild, tmp_path):
    (tmp_path / where).mkdir()
    (tmp_path / where / name).write_text('{"three": "years of work"}')
    before, encoder = without(tmp_path / "s", ".lock"), FakeEmbedder()
    with pytest.raises((InputError, IntegrityError)):
        TokenStore.open(corpus_of("a b c"), encoder, folder=tmp_path / "s", rebuild=rebuild, progress=False)
    assert without(tmp_path / "s", ".lock") == before
    assert encoder.encoded == 0


def test_a_store_with_a_file_of_the_users_is_not_rebuilt(tmp_path):
    folder = tmp_path / "s"
    TokenStore.open(corpus_of("a b c"), FakeEmbedder(), folder=folder, progress=False)
    (folder / "notes.md").write_text("mine")
    before = without(folder)
    assert TokenStore.open(corpus_of("a b c"), FakeEmbedder(), folder=folder, progress=False).n_tokens == 3
    with pytest.raises(InputError, match=r"notes\.md.*another folder"):
        TokenStore.open(corpus_of("a b c"), FakeEmbedder(), folder=folder, rebuild=True, progress=False)
    assert without(folder) == before


def killed_before_the_seal(corpus: Corpus, encoder: FakeEmbedder, folder: Path, monkeypatch) -> None:
    import ragkit.token_store.build as build

    def kill(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "write_manifest", kill)
        with pytest.raises(KeyboardInterrupt):
            TokenStore.open(corpus, encoder, folder=folder, progress=False)


@pytest.mark.parametrize(
    ("corpus", "encoder", "window"),
    [
        (corpus_of("red wine and blue sky", "green tea"), FakeEmbedder(seed=2), None),
        (corpus_of("red wine and blue sky", "green tea"), FakeEmbedder(seed=1), 8),
        (corpus_of("green tea", "another text of words"), FakeEmbedder(seed=1), None),
    ],
    ids=["model", "window", "corpus"],
)
def test_a_killed_build_is_not_resumed_by_another(corpus, encoder, window, tmp_path, monkeypatch):
    folder = tmp_path / "s"
    killed_before_the_seal(corpus_of("red wine and blue sky", "green tea"), FakeEmbedder(seed=1), folder, monkeypatch)
    store = TokenStore.open(corpus, encoder, folder=folder, window=window, progress=False)
    assert encoder.encoded == sum(encoder.tokenizer.count(d.text) for d in corpus.documents) == store.n_tokens
    for document in corpus.documents:
        vector = store.pool([Chunk(document.id, 0, len(document.text), document.text)])[0]
        assert vector @ FakeEmbedder(seed=encoder.seed).encode([document.text])[0] > 0.999
    assert (folder / LINES).read_bytes().count(b"\n") == 2
    assert not (tmp_path / "s.partial").exists()


def test_a_killed_build_is_resumed_by_its_own(tmp_path, monkeypatch):
    corpus, encoder = corpus_of("red wine and blue sky", "green tea"), FakeEmbedder()
    killed_before_the_seal(corpus, encoder, tmp_path / "s", monkeypatch)
    assert TokenStore.open(corpus, encoder, folder=tmp_path / "s", progress=False).n_tokens == 7
    assert encoder.encoded == 7


@pytest.mark.parametrize("name", ["vectors.i8", "scales.f32", "ids.i32", "offsets.i32", LINES, "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_store_is_detected_and_rebuilt_when_asked(name, damage, tmp_path):
    corpus, folder = corpus_of(words(40), words(80, 1)), tmp_path / "s"
    TokenStore.open(corpus, FakeEmbedder(), folder=folder, progress=False)
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 3] ^= 0x10
    path.write_bytes(content[:-1] if damage == "cut" else content)
    if damage == "gone":
        path.unlink()
    if (name, damage) == ("manifest.json", "gone"):  # then there is no finished store
        assert TokenStore.open(corpus, FakeEmbedder(), folder=folder, progress=False).n_tokens == 120
        return
    with pytest.raises((IntegrityError, StoreMismatchError)):
        TokenStore.open(corpus, FakeEmbedder(), folder=folder, progress=False)
    encoder = FakeEmbedder()
    assert TokenStore.open(corpus, encoder, folder=folder, rebuild=True, progress=False).n_tokens == 120
    assert encoder.encoded >= 120, "nothing may be taken over from a damaged store"


SLOW = """
import sys, time
from pathlib import Path
from ragkit.base import Corpus, Document
from ragkit.embedding import load_embedder
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore, build

class Slow(FakeEmbedder):
    def encode_windows(self, windows, kind="passage"):
        for item in super().encode_windows(windows, kind):
            time.sleep({pause})
            yield item

build._GROUP_TOKENS = 100
texts = [" ".join(f"w{{i * j % 97}}" for j in range(60)) for i in range(40)]
corpus = Corpus("slow", tuple(Document(f"d{{i}}", text) for i, text in enumerate(texts)))
encoder = Slow()
store = TokenStore.open(corpus, encoder, folder=Path(sys.argv[1]), progress=False)
print(encoder.encoded, store.n_tokens, len(store.pool([])))
"""


def start(folder: Path, pause: float) -> subprocess.Popen:
    code = SLOW.format(pause=pause)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)


def finished_documents(folder: Path) -> int:
    lines = folder.with_name(folder.name + ".partial") / LINES
    return lines.read_bytes().count(b"\n") if lines.is_file() else 0


def test_a_killed_build_goes_on_where_it_stopped(tmp_path):
    folder = tmp_path / "stores" / "s"
    process = start(folder, pause=0.02)
    deadline = time.monotonic() + 60
    while finished_documents(folder) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = finished_documents(folder)
    assert 6 <= kept < 40
    with (folder.with_name("s.partial") / "vectors.i8").open("ab") as file:
        file.write(b"rows without a document")
    with (folder.with_name("s.partial") / LINES).open("ab") as file:
        file.write(b'{"sha256": "a line that was cut')
    out, _ = (second := start(folder, pause=0)).communicate(timeout=60)
    assert second.returncode == 0
    encoded, tokens, _ = map(int, out.split())
    assert tokens == 40 * 60
    whole, _ = start(tmp_path / "other" / "s", pause=0).communicate(timeout=60)
    assert encoded <= int(whole.split()[0]) * (40 - kept + 1) / 40
    for name in ("vectors.i8", "scales.f32", "ids.i32", "offsets.i32"):
        assert (folder / name).read_bytes() == (tmp_path / "other" / "s" / name).read_bytes()


def test_two_processes_at_once_both_get_the_store_and_one_builds_it(tmp_path):
    processes = [start(tmp_path / "s", pause=0.002) for _ in range(2)]
    results = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(int(encoded) > 0 for encoded, _, _ in results) == [False, True]
    assert {tokens for _, tokens, _ in results} == {"2400"}
    assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == ["s"]


def test_a_document_longer_than_a_piece_is_stored_whole(tmp_path, monkeypatch):
    import ragkit.token_store.build as build

    monkeypatch.setattr(build.segments, "__defaults__", (500,))
    monkeypatch.setattr(build, "_GROUP_TOKENS", 64)
    text = words(1000)
    corpus = corpus_of("first", text, "last one")
    encoder = FakeEmbedder()
    store = TokenStore.open(corpus, encoder, folder=tmp_path / "s", progress=False)
    offsets, vectors = store.tokens("d1")
    assert np.array_equal(offsets, encoder.tokenizer.offsets(text))
    expected = np.stack([encoder._direction(i) for i in encoder.tokenize(text)[0].tolist()])
    assert ((unit(vectors) * unit(expected)).sum(axis=1) > 0.999).all()
    chunk = Chunk("d1", 400, 700, text[400:700])  # over the border of two pieces
    assert np.allclose(store.pool([chunk])[0], unit(own_tokens(store, chunk).sum(axis=0)), atol=1e-5)


def test_the_manifest_says_what_the_store_is(store, corpus, tmp_path):
    TokenStore.open(corpus_of("a"), FakeEmbedder(), folder=tmp_path / "s", progress=False)
    found = json.loads((tmp_path / "s" / "manifest.json").read_text())["settings"]
    assert found["encoder"] == FakeEmbedder().identity
    assert (found["window"], found["stride"], found["corpus"]) == (16, 12, "test")
    assert store.identity != TokenStore.open(corpus_of("a"), FakeEmbedder(), folder=tmp_path / "s").identity
    assert f"{sum(LENGTHS)} tokens" in repr(store)


# ---- the real model


def test_pooled_vectors_equal_direct_ones_in_the_same_window(minilm, tmp_path):
    """Without the special tokens, which are in the mean of a text that is encoded directly."""
    text = "Celery workers can be stopped by a signal. " * 12
    corpus = corpus_of(text)
    store = TokenStore.open(corpus, minilm, folder=tmp_path / "s", progress=False)
    pooled = store.pool([Chunk("d0", 0, len(text), text)])[0]
    assert pooled @ minilm.encode([text])[0] > 0.99
    ids, _ = minilm.tokenize(text)
    ((_, vectors),) = minilm.encode_windows([ids])
    assert pooled @ unit(vectors.tokens.mean(axis=0)) > 0.999


def test_each_precision_has_its_own_store_and_a_named_one_is_refused(minilm, ragkit_home, tmp_path):
    corpus, half = corpus_of("Celery workers can be stopped by a signal."), load_embedder(precision="bfloat16")
    TokenStore.open(corpus, minilm, progress=False)
    TokenStore.open(corpus, half, progress=False)
    assert len(list((ragkit_home / "token_store").glob("*/*/manifest.json"))) == 2

    named = tmp_path / "store"
    TokenStore.open(corpus, minilm, folder=named, progress=False)
    with pytest.raises(StoreMismatchError, match=r"float32.*bfloat16"):
        TokenStore.open(corpus, half, folder=named, progress=False)
    assert TokenStore.open(corpus, minilm, folder=named, progress=False).n_tokens > 0

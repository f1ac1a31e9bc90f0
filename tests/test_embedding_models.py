"""Embedding: equal to sentence-transformers where that reads everything, and honest where it would cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import ContractError, Embedder, InputError, IntegrityError, ModelNotFoundError
from ragkit.embedding import TokenEncoder, encode, load_embedder, models, models_on_disk, unit
from ragkit.embedding.models import SentenceTransformerEmbedder, TransformerEmbedder, window
from ragkit.embedding.vectors import check_vectors, known_prefixes, split_evenly
from ragkit.testing import FakeEmbedder
from ragkit.tokens import minilm_folder

TEXTS = [
    "How do I stop a worker?",
    "",
    "CELERY_TASK_ACKS_LATE",
    "naïve café 中文 😀",
    "  \n",
    "The quick brown fox. " * 40,
]


@pytest.fixture(scope="module")
def model() -> TransformerEmbedder:
    loaded = load_embedder()
    assert isinstance(loaded, TransformerEmbedder)
    return loaded


@pytest.fixture(scope="module")
def reference():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm_folder()), device="cpu", local_files_only=True)


def test_short_texts_equal_sentence_transformers(model, reference):
    expected = reference.encode(TEXTS, normalize_embeddings=True)
    assert ((model.encode(TEXTS) * expected).sum(axis=1) > 0.999).all()


def test_a_long_text_is_the_mean_of_its_windows_and_its_end_counts(model, reference):
    words = " ".join(f"word{i}" for i in range(400))
    ids, offsets = model.tokenize(words)
    parts = np.array_split(offsets, -(-len(ids) // 254))
    windows = reference.encode([words[p[0, 0] : p[-1, 1]] for p in parts])
    # sentence-transformers normalises each window, ours are averaged as they are: the same up to their lengths
    assert unit(windows.mean(axis=0)) @ model.encode([words])[0] > 0.99
    tail = "The kettle boils water with a red lever. " * 12
    cut = reference.encode([words, words + tail])
    assert np.allclose(cut[0], cut[1], atol=1e-3), "sentence-transformers reads the end now: lesson 03 must change"
    ours = model.encode([words, words + tail]) @ model.encode([tail])[0]
    assert ours[1] > ours[0] + 0.05


def test_vectors_do_not_depend_on_what_else_is_in_the_batch(model):
    alone = np.concatenate([model.encode([text]) for text in TEXTS])
    assert ((model.encode(TEXTS) * alone).sum(axis=1) > 0.9995).all()


def test_shapes_and_roles(model):
    assert model.encode([]).shape == (0, 384)
    assert model.dimension == 384
    assert model.max_tokens == 254
    assert isinstance(model, TokenEncoder)
    assert isinstance(model, Embedder)
    assert model is load_embedder("sentence-transformers/all-MiniLM-L6-v2") or model.identity.startswith("all-MiniLM")
    assert load_embedder() is load_embedder()
    assert model.tokenizer.count("How do I stop a worker?") == 7


def test_a_window_longer_than_the_model_reads_is_refused(model):
    with pytest.raises(InputError, match="255 tokens"):
        list(model.encode_windows([np.full(255, 2000, dtype=np.int32)]))


def test_prefixes_change_vectors_and_identity(model):
    e5 = load_embedder(str(minilm_folder()), prefixes={"query": "query: ", "passage": "passage: "})
    assert e5.identity != model.identity
    assert isinstance(e5, TransformerEmbedder)
    assert e5.max_tokens == 252
    expected = model.encode(["query: red wine", "passage: red wine"])
    assert (e5.encode(["red wine"], "query") @ expected.T)[0] == pytest.approx([1, expected[0] @ expected[1]], abs=2e-3)
    (_, vectors), *_ = e5.encode_windows([e5.tokenize("red wine")[0]], "passage")
    assert vectors.tokens.shape == (2, 384)


def copy_of_the_model(folder: Path) -> Path:
    shutil.copytree(minilm_folder(), folder)
    return folder


def test_a_local_folder_gives_the_same_vectors(model, tmp_path):
    other = load_embedder(str(copy_of_the_model(tmp_path / "mine")))
    assert isinstance(other, TransformerEmbedder)
    assert np.allclose(other.encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    assert other.identity != model.identity


def test_a_model_with_another_pooling_goes_through_its_library(tmp_path, reference):
    folder = copy_of_the_model(tmp_path / "first-token")
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 384, "pooling_mode_cls_token": true}'
    )
    other = load_embedder(str(folder))
    assert isinstance(other, SentenceTransformerEmbedder)
    assert not isinstance(other, TokenEncoder)
    short = other.encode(TEXTS[:4])
    assert np.linalg.norm(short, axis=1) == pytest.approx([1] * 4, abs=1e-5)
    assert abs((short * reference.encode(TEXTS[:4], normalize_embeddings=True)).sum(axis=1)).max() < 0.99
    words = " ".join(f"word{i}" for i in range(400))
    _, middle, _ = (offsets := other.tokenizer.offsets(words))[[0, len(offsets) // 2, -1], 0]
    halves = other.encode([words[: middle - 1], words[middle:]])
    assert other.encode([words])[0] @ unit(halves.mean(axis=0)) > 0.95


def test_an_unknown_model_names_those_on_disk():
    with pytest.raises(ModelNotFoundError, match=r"all-MiniLM-L6-v2.*hf download nobody/nothing"):
        load_embedder("nobody/nothing")
    with pytest.raises(ModelNotFoundError, match="no model"):
        load_embedder("not a name at all / ???")
    assert "all-MiniLM-L6-v2" in models_on_disk()


def test_a_model_in_the_local_cache_is_found_by_name_with_its_prefixes(tmp_path):
    """As ``hf download intfloat/multilingual-e5-large`` would leave it, with smaller weights."""
    repository = tmp_path / "models--intfloat--multilingual-e5-large"
    copy_of_the_model(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    code = (
        "from ragkit.embedding import load_embedder, models_on_disk; import ragkit.embedding.models as e;"
        "m = load_embedder('intfloat/multilingual-e5-large'); assert isinstance(m, e.TransformerEmbedder);"
        "print(m.max_tokens, m.prefixes['query'], models_on_disk()[-1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert done.stdout.split() == ["252", "query:", "intfloat/multilingual-e5-large"], done.stderr


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("intfloat/multilingual-e5-large", "query: ", "passage: "),
        ("/models/e5-small-v2/", "query: ", "passage: "),
        ("BAAI/bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("BAAI/bge-m3", "", ""),
        ("thenlper/gte-small", "", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("all-MiniLM-L6-v2", "", ""),
        ("text-embedding-3-small", "", ""),
    ],
)
def test_prefixes_are_known_by_name(name, query, passage):
    known = known_prefixes(name)
    assert (known.get("query", ""), known.get("passage", "")) == (query, passage)
    assert known_prefixes("intfloat/multilingual-e5-large-instruct")["query"].startswith("Instruct: ")


def test_weights_without_a_safe_format_are_refused(tmp_path):
    folder = copy_of_the_model(tmp_path / "unsafe")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="safetensors"):
        load_embedder(str(folder))


def test_changed_weights_of_the_packaged_model_are_refused(tmp_path, monkeypatch):
    folder = copy_of_the_model(tmp_path / "flipped")
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))
    monkeypatch.setattr(models, "minilm_folder", lambda: folder)
    models._load.cache_clear()
    try:
        with pytest.raises(IntegrityError, match="not the published file"):
            load_embedder()
    finally:
        models._load.cache_clear()


def test_the_packaged_model_computes_in_float32_unless_bfloat16_is_named(minilm):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    half = load_embedder(precision="bfloat16")
    text = ["How do I discard all waiting tasks?"]
    exact, rounded = minilm.encode(text)[0], half.encode(text)[0]
    reference = sentence_transformers.SentenceTransformer(
        str(minilm_folder()), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}
    )
    np.testing.assert_allclose(exact, reference.encode(text, normalize_embeddings=True)[0], rtol=0, atol=1e-5)
    assert 1e-4 < np.abs(exact - rounded).max() < 0.01
    assert minilm.identity.replace("float32", "bfloat16") == half.identity


def test_a_precision_that_cannot_be_had_is_refused():
    with pytest.raises(InputError, match="expected one of float32, bfloat16"):
        load_embedder(precision="float16")


class Own(FakeEmbedder):
    """Somebody's embedder: good vectors, spoilt by ``spoil``."""

    def __init__(self, spoil, dimension: int = 8) -> None:
        super().__init__(dimension=8)
        self.name, self.spoil, self.dimension = "own", spoil, 8
        self._says = dimension

    def encode(self, texts, kind="passage"):
        self.dimension = 8
        vectors = self.spoil(super().encode(texts, kind))
        self.dimension = self._says
        return vectors


@pytest.mark.parametrize("form", [lambda v: v.tolist(), lambda v: v.astype(np.float64), lambda v: 7 * v])
def test_vectors_of_other_forms_become_unit_vectors(form):
    expected = FakeEmbedder(dimension=8).encode(["red wine", "tea"])
    found = encode(Own(form), ["red wine", "tea"])
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-6)
    assert encode(Own(form), []).shape == (0, 8)


@pytest.mark.parametrize(
    ("embedder", "message"),
    [
        (Own(lambda v: v, dimension=4), r"'own' gave vectors of shape \(2, 8\), expected \(2, 4\)"),
        (Own(lambda v: v, dimension=16), r"expected \(2, 16\)"),
        (Own(lambda v: v[:-1]), r"\(1, 8\), expected \(2, 8\)"),
        (Own(lambda v: np.concatenate([v, v])), r"\(4, 8\), expected \(2, 8\)"),
        (Own(lambda v: v * [[1], [np.nan]]), "NaN or infinity for text 1 of 2"),
        (Own(lambda v: v * [[np.inf], [1]]), "NaN or infinity for text 0 of 2"),
        (Own(lambda v: [["a"], ["b"]]), "no table of numbers"),
        (Own(lambda v: [[1.0], [1.0, 2.0]]), "no table of numbers"),
    ],
)
def test_an_embedder_that_breaks_its_promise_is_named(embedder, message):
    with pytest.raises(ContractError, match=message):
        encode(embedder, ["red wine", "tea"])


def test_no_vectors_for_no_texts():
    assert check_vectors([], 0, FakeEmbedder(dimension=8)).shape == (0, 8)
    with pytest.raises(ContractError):
        check_vectors(np.ones((1, 8)), 0, FakeEmbedder(dimension=8))


def test_a_model_that_was_trained_anew_in_its_place_is_read_anew(tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = copy_of_the_model(tmp_path / "mine")
    first = load_embedder(str(folder))
    before = first.encode(["tea"], "query")[0]
    assert load_embedder(str(folder)) is first
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][:] = 0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    second = load_embedder(str(folder))
    assert second.identity != first.identity
    assert second.encode(["tea"], "query")[0] @ before < 0.9


@given(st.integers(0, 200), st.integers(1, 50))
def test_split_evenly_keeps_every_token_in_few_equal_pieces(n, limit):
    pieces = split_evenly(np.arange(n, dtype=np.int32), limit)
    assert np.concatenate(pieces).tolist() == list(range(n))
    lengths = [len(p) for p in pieces]
    assert max(lengths) <= limit
    assert max(lengths) - min(lengths) <= 1
    assert len(pieces) == max(1, -(-n // limit))


@given(st.lists(st.text(), max_size=5))
def test_the_fake_embedder_is_an_embedder(texts):
    fake = FakeEmbedder(dimension=8)
    assert isinstance(fake, TokenEncoder)
    vectors = fake.encode(texts)
    assert vectors.shape == (len(texts), 8)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)
    assert np.array_equal(vectors, FakeEmbedder(dimension=8).encode(texts))


def test_the_window_stands_in_one_of_two_files(tmp_path):
    """sentence-transformers 6.2 saves a model without max_seq_length: the tokenizer's limit counts then."""
    with pytest.raises(IntegrityError, match="neither"):
        window(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 128}')
    assert window(tmp_path) == 128
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    assert window(tmp_path) == 64
    (tmp_path / "sentence_bert_config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    with pytest.raises(IntegrityError, match="neither"):
        window(tmp_path)

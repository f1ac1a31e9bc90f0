"""The adapter: its gradient against differences, what it learns, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, StoreMismatchError
from ragkit.embedding import TokenEncoder, unit
from ragkit.retrieval.dense import DenseRetriever
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore
from ragkit.training.adapter import (
    Adapted,
    AdapterSettings,
    LinearAdapter,
    adapted,
    contrastive_loss,
    fit_matrix,
    loss_gradient,
    passage_groups,
    train_adapter,
)
from ragkit.training.pairs import Pair


def vectors(seed: int, n: int, d: int = 6):
    return unit(np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32))


@given(st.integers(0, 20), st.floats(0.05, 2))
def test_the_loss_is_torchs_cross_entropy(seed, temperature):
    torch = pytest.importorskip("torch")
    queries, passages = vectors(seed, 7), vectors(seed + 100, 7)
    logits = torch.from_numpy(queries @ passages.T / temperature)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(7))
    assert contrastive_loss(queries, passages, temperature) == pytest.approx(float(expected), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("groups", [None, np.array([0, 1, 1, 2, 0])])
def test_the_gradient_is_that_of_the_loss(groups):
    queries, passages = vectors(1, 5).astype(np.float64), vectors(2, 5).astype(np.float64)
    matrix = np.eye(6) + 0.1 * np.random.default_rng(3).standard_normal((6, 6))

    def loss(m):
        turned = queries @ m / np.linalg.norm(queries @ m, axis=1, keepdims=True)
        return contrastive_loss(turned, passages, 0.3, groups)

    found = loss_gradient(matrix, queries, passages, 0.3, groups)
    for i, j in np.ndindex(6, 6):
        step = np.zeros((6, 6))
        step[i, j] = 1e-5
        assert found[i, j] == pytest.approx((loss(matrix + step) - loss(matrix - step)) / 2e-5, abs=1e-4)


def test_a_pairs_own_passage_is_not_its_negative():
    """A heading and a first sentence ask for the same section: neither is wrong for the other's passage."""
    whole, rest = Chunk("d", 0, 30, "One. " + "x" * 25), Chunk("d", 5, 30, "x" * 25)
    groups = passage_groups([whole, rest, Chunk("e", 0, 30, "y" * 30)])
    assert groups.tolist() == [0, 0, 1]
    same = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32)
    assert contrastive_loss(same, same, 0.05, groups) < 1e-6
    assert contrastive_loss(same, same, 0.05) > 0.46  # two thirds of ln 2: it could not get below


def test_a_turned_space_is_turned_back():
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0].astype(np.float32)
    passages = vectors(4, 300)
    queries = passages @ turn
    settings = AdapterSettings(l2_to_identity=0, steps=400, batch=240, learning_rate=0.02)
    matrix, looks = fit_matrix((queries[:240], passages[:240]), (queries[240:], passages[240:]), settings)
    assert min(look[2] for look in looks) < 0.2 * looks[0][2]
    near = unit(queries[240:] @ matrix) @ passages.T
    assert (near.argmax(axis=1) == np.arange(240, 300)).mean() > 0.9


def test_a_strong_pull_learns_nothing_and_noise_keeps_the_identity():
    noise = (vectors(5, 100), vectors(6, 100)), (vectors(7, 30), vectors(8, 30))
    strong, _ = fit_matrix(*noise, AdapterSettings(l2_to_identity=1e4, steps=30))
    assert np.abs(strong - np.eye(6)).max() < 0.02
    kept, looks = fit_matrix(*noise, AdapterSettings(l2_to_identity=0, steps=200, learning_rate=0.05))
    assert looks[-1][1] < looks[0][1]  # it did learn the noise
    assert looks[-1][2] > looks[0][2]  # which helped nobody
    best = min(looks, key=lambda look: look[2])
    assert best[0] < 200
    found = contrastive_loss(unit(noise[1][0] @ kept), noise[1][1], 0.05)
    assert found == pytest.approx(best[2], rel=1e-4)


WORDS = ["red wine", "blue sky", "green tea", "dark ale", "cold milk", "warm soup", "hard bread", "old cheese"]


def word_pairs() -> list[Pair]:
    return [Pair(f"{w.split()[0]} {i}", Chunk(f"d{i % 4}", 0, len(w), w), "heading") for i, w in enumerate(WORDS * 4)]


def test_a_trained_adapter_brings_questions_nearer_and_leaves_passages_alone():
    embedder = FakeEmbedder()
    adapter = train_adapter(
        word_pairs(), embedder, settings=AdapterSettings(steps=60, batch=8, share=0.25, learning_rate=1e-3)
    )
    both = adapted(embedder, adapter)
    query, passage = (embedder.encode(["red 0"], "query"), embedder.encode(["red wine"]))
    assert (both.encode(["red 0"], "query") @ passage.T).item() > (query @ passage.T).item()
    assert np.allclose(both.encode(WORDS), embedder.encode(WORDS))


def test_the_same_seed_gives_the_same_matrix():
    settings = AdapterSettings(steps=20, batch=8, share=0.25)
    first, second = (train_adapter(word_pairs(), FakeEmbedder(), settings=settings) for _ in range(2))
    assert first.identity == second.identity
    other = train_adapter(word_pairs(), FakeEmbedder(), settings=replace(settings, seed=1))
    assert other.identity != first.identity


def some_adapter(embedder, d=32) -> LinearAdapter:
    matrix = np.eye(d, dtype=np.float32) + 0.1 * np.random.default_rng(1).standard_normal((d, d)).astype(np.float32)
    return LinearAdapter(matrix, embedder.identity)


def test_a_query_adapter_takes_the_embedders_own_token_store(small_corpus, tmp_path):
    embedder = FakeEmbedder()
    plain = TokenStore.open(small_corpus, embedder, folder=tmp_path)
    spent = embedder.encoded
    encoder = adapted(embedder, some_adapter(embedder))
    assert isinstance(encoder, TokenEncoder)
    store = TokenStore.open(small_corpus, encoder, folder=tmp_path)
    assert embedder.encoded == spent
    assert store.identity != plain.identity
    assert np.allclose(store.encode_query("red lever"), encoder.encode(["red lever"], "query")[0], atol=1e-6)
    chunks = [Chunk(d.id, 0, len(d.text), d.text) for d in small_corpus.documents]
    assert np.array_equal(store.pool(chunks), plain.pool(chunks))


class NoTokens:
    """Vectors as an API gives them: no tokens, no model here."""

    name, identity, dimension = "api", "api:1", 32

    def encode(self, texts, kind="passage"):
        return FakeEmbedder().encode(texts, kind)


def test_it_works_behind_an_embedder_that_only_gives_vectors():
    encoder = adapted(NoTokens(), train_adapter(word_pairs(), NoTokens(), settings=AdapterSettings(steps=9, batch=8)))
    assert not isinstance(encoder, TokenEncoder)
    assert encoder.identity.startswith("api:1+query:")
    hits = DenseRetriever([Chunk("a", 0, 8, "red wine"), Chunk("b", 0, 8, "blue sky")], embedder=encoder).search(
        "red", 1
    )
    assert hits[0].chunk.doc_id == "a"


def test_a_token_store_lends_the_passages_vectors(small_corpus, tmp_path):
    embedder = FakeEmbedder(max_tokens=64)
    store = TokenStore.open(small_corpus, embedder, folder=tmp_path)
    passages = [Chunk(d.id, s.body, s.end, d.text[s.body : s.end]) for d in small_corpus.documents for s in d.sections]
    pairs = [Pair(f"{p.text[:9]} {i}", p, "heading") for p in passages for i in range(4)]
    settings = AdapterSettings(steps=20, batch=8, share=0.4)
    plain = train_adapter(pairs, embedder, settings=settings)
    spent = embedder.encoded
    lent = train_adapter(pairs, embedder, settings=settings, store=store)
    assert embedder.encoded - spent == sum(embedder.tokenizer.count(pair.query) for pair in pairs)
    assert np.allclose(lent.matrix, plain.matrix, atol=2e-3)  # int8 and contexts apart
    with pytest.raises(StoreMismatchError, match="a store of"):
        train_adapter(pairs, FakeEmbedder(seed=1), settings=settings, store=store)


def test_an_adapter_of_another_embedder_is_refused():
    with pytest.raises(StoreMismatchError, match="train one for it"):
        Adapted(FakeEmbedder(seed=1), some_adapter(FakeEmbedder()))

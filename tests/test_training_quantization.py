"""Fewer numbers, fewer bits: the formulas against NumPy's own, and what a codec may lose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, InputError
from ragkit.embedding import unit
from ragkit.testing import check_retriever
from ragkit.training.quantization import (
    Quantized,
    QuantizedRetriever,
    binary,
    int8,
    knn_recall,
    pca,
    pca_axes,
    truncate,
)


def vectors_of(seed: int, n: int = 40, d: int = 16):
    """Unit vectors that reach further in some directions than in others."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return unit(((rng.standard_normal((n, d)) * 0.8 ** np.arange(d)) @ turn).astype(np.float32))


@given(st.integers(0, 50))
def test_turning_by_the_principal_axes_changes_no_cosine(seed):
    vectors = vectors_of(seed)
    turned = vectors @ pca_axes(vectors)
    assert np.allclose(turned @ turned.T, vectors @ vectors.T, atol=1e-5)


@given(st.integers(0, 50), st.integers(1, 16))
def test_the_first_axes_keep_as_much_as_the_singular_values_say(seed, k):
    vectors = vectors_of(seed)
    kept = (vectors @ pca_axes(vectors))[:, :k]
    assert np.isclose((kept**2).sum(), (np.linalg.svd(vectors)[1][:k] ** 2).sum(), rtol=1e-4)


def test_truncation_to_all_dimensions_keeps_every_neighbour():
    vectors = vectors_of(1)
    assert knn_recall(vectors[:5], vectors, pca(vectors, 16)) == 1.0


def test_principal_axes_keep_more_neighbours_than_the_first_numbers_do():
    vectors = vectors_of(2, n=400)
    cut = truncate(vectors, 4)
    plain = Quantized(cut, lambda queries: truncate(queries, 4) @ cut.T)
    assert knn_recall(vectors[:50], vectors, pca(vectors, 4)) > knn_recall(vectors[:50], vectors, plain)


@given(st.integers(0, 50))
def test_int8_is_wrong_by_half_a_step_at_most(seed):
    vectors = vectors_of(seed)
    step = np.abs(vectors).max(axis=0) / 127
    assert (np.abs(int8(vectors).scores(np.eye(16, dtype=np.float32)).T - vectors) <= step / 2 + 1e-6).all()


def test_binary_scores_are_the_dot_products_with_the_signs():
    vectors, queries = vectors_of(3, d=13), vectors_of(4, n=3, d=13)
    codes = binary(vectors)
    assert codes.codes.shape == (40, 2)
    assert np.allclose(codes.scores(queries), queries @ np.where(vectors > 0, 1, -1).T / np.sqrt(13), atol=1e-6)


def chunks_of(n: int) -> list[Chunk]:
    return [Chunk(f"d{i:02}", 0, 3, "abc") for i in range(n)]


@pytest.mark.parametrize(("make", "size"), [(lambda v: pca(v, 4), 16), (int8, 16), (binary, 2)])
def test_a_quantized_retriever_keeps_the_contract(make, size):
    vectors = vectors_of(5)
    retriever = QuantizedRetriever(chunks_of(40), make(vectors), lambda query: vectors[len(query)])
    check_retriever(retriever, ["a", "bb", "ccc"])
    assert retriever.search("a", 1)[0].chunk.doc_id == "d01"
    assert retriever.quantized.bytes_per_vector == size


def test_equal_codes_come_in_the_order_of_their_ids():
    same = np.ones((40, 4), dtype=np.float32)
    hits = QuantizedRetriever(chunks_of(40)[::-1], binary(same), lambda query: same[0]).search("x", 3)
    assert [hit.chunk.doc_id for hit in hits] == ["d00", "d01", "d02"]


def test_no_chunks_no_hits():
    none = binary(np.zeros((0, 4), dtype=np.float32))
    assert QuantizedRetriever([], none, lambda query: np.ones(4)).search("x") == []


def test_what_cannot_be_fitted_or_measured_is_refused():
    some = np.eye(4, dtype=np.float32)
    for dimensions in (0, 5, -1):
        with pytest.raises(InputError, match="expected 1 to 4"):
            pca(some, dimensions)
    with pytest.raises(InputError, match="3 chunks"):
        QuantizedRetriever(chunks_of(3), binary(some), len)

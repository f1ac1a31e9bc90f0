"""Fewer numbers, fewer bits: the formulas against NumPy's own, and what a codec may lose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, InputError
from ragkit.embedding import unit
from ragkit.testing import check_retriever
from ragkit.training.quantization import Binary, Compressed, Int8, Truncated, neighbours_kept, principal_axes, truncate


def vectors_of(seed: int, n: int = 40, d: int = 16):
    """Unit vectors that reach further in some directions than in others."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return unit(((rng.standard_normal((n, d)) * 0.8 ** np.arange(d)) @ turn).astype(np.float32))


@given(st.integers(0, 50))
def test_turning_by_the_principal_axes_changes_no_cosine(seed):
    vectors = vectors_of(seed)
    turned = vectors @ principal_axes(vectors)
    assert np.allclose(turned @ turned.T, vectors @ vectors.T, atol=1e-5)


@given(st.integers(0, 50), st.integers(1, 16))
def test_the_first_axes_keep_as_much_as_the_singular_values_say(seed, k):
    vectors = vectors_of(seed)
    kept = (vectors @ principal_axes(vectors))[:, :k]
    assert np.isclose((kept**2).sum(), (np.linalg.svd(vectors)[1][:k] ** 2).sum(), rtol=1e-4)


def test_truncation_to_all_dimensions_keeps_every_neighbour():
    vectors = vectors_of(1)
    assert neighbours_kept(vectors[:5], vectors, Truncated.fit(vectors, 16)) == 1.0


def test_principal_axes_keep_more_neighbours_than_the_first_numbers_do():
    vectors = vectors_of(2, n=400)
    plain = Truncated(np.eye(16, dtype=np.float32), 4)
    assert neighbours_kept(vectors[:50], vectors, Truncated.fit(vectors, 4)) > neighbours_kept(
        vectors[:50], vectors, plain
    )


@given(st.integers(0, 50))
def test_int8_is_wrong_by_half_a_step_at_most(seed):
    vectors = vectors_of(seed)
    codec = Int8.fit(vectors)
    assert (np.abs(codec.encode(vectors) * codec.scale - vectors) <= codec.scale / 2 + 1e-7).all()


def test_int8_cuts_off_what_is_larger_than_anything_seen():
    codec = Int8.fit(np.array([[0.5, 0.0]], dtype=np.float32))
    assert codec.encode(np.array([[-5.0, 1.0]], dtype=np.float32)).tolist() == [[-127, 127]]


def test_binary_scores_are_the_dot_products_with_the_signs():
    vectors, queries = vectors_of(3, d=13), vectors_of(4, n=3, d=13)
    codes = Binary().encode(vectors)
    assert codes.shape == (40, 2)
    expected = queries @ np.where(vectors > 0, 1, -1).T / np.sqrt(13)
    assert np.allclose(Binary().scores(queries, codes), expected, atol=1e-6)


def chunks_of(n: int) -> list[Chunk]:
    return [Chunk(f"d{i:02}", 0, 3, "abc") for i in range(n)]


@pytest.mark.parametrize("make", [lambda v: Truncated.fit(v, 8), Int8.fit, lambda v: Binary()])
def test_compressed_keeps_the_retrievers_contract(make):
    vectors = vectors_of(5)
    retriever = Compressed(chunks_of(40), vectors, lambda query: vectors[len(query)], make(vectors))
    check_retriever(retriever, ["a", "bb", "ccc"])
    assert retriever.search("a", 1)[0].chunk.doc_id == "d01"


@pytest.mark.parametrize(
    ("make", "size"), [(lambda v: Truncated.fit(v, 4), 16), (Int8.fit, 16), (lambda v: Binary(), 2)]
)
def test_compressed_says_how_many_bytes_a_vector_takes(make, size):
    vectors = vectors_of(6)
    assert Compressed(chunks_of(40), vectors, len, make(vectors)).bytes_a_vector == size


def test_equal_codes_come_in_the_order_of_their_ids():
    same = np.ones((40, 4), dtype=np.float32)
    hits = Compressed(chunks_of(40)[::-1], same, lambda query: same[0], Binary()).search("x", 3)
    assert [hit.chunk.doc_id for hit in hits] == ["d00", "d01", "d02"]


def test_no_chunks_no_hits():
    assert Compressed([], np.zeros((0, 4), dtype=np.float32), lambda query: np.ones(4), Binary()).search("x") == []


@pytest.mark.parametrize("dimensions", [0, 17, -1])
def test_a_wrong_number_of_dimensions_is_refused(dimensions):
    with pytest.raises(InputError, match="expected 1 to 16"):
        truncate(vectors_of(0), dimensions)
    with pytest.raises(InputError, match="expected 1 to 16"):
        Truncated.fit(vectors_of(0), dimensions)


def test_what_cannot_be_fitted_or_measured_is_refused():
    none, some = np.zeros((0, 4), dtype=np.float32), np.eye(4, dtype=np.float32)
    for fit in (principal_axes, Int8.fit):
        with pytest.raises(InputError, match="no vectors"):
            fit(none)
    with pytest.raises(InputError, match="3 chunks"):
        Compressed(chunks_of(3), some, len, Binary())
    for queries, k in ((none, 1), (some, 5), (some, 0)):
        with pytest.raises(InputError, match="expected some"):
            neighbours_kept(queries, some, Binary(), k)

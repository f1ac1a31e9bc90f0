"""Smaller vectors: fewer numbers, or fewer bits a number, and what that costs in quality.

MiniLM's vector takes 384 * 4 = 1,536 bytes. ``pca``, ``int8`` and ``binary`` store vectors in less; queries stay as
they are and are scored against what was stored. ``QuantizedRetriever`` measures the loss on questions (with
``compare``), ``knn_recall`` without any.

>>> codes = int8(np.array([[0.6, 0.8], [1.0, 0.0]], dtype=np.float32))
>>> codes.bytes_per_vector, codes.scores(np.array([[1, 0]], dtype=np.float32)).round(2).tolist()
(2, [[0.6000000238418579, 1.0]])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Hit, InputError, Retriever, Vectors, best_first
from ragkit.embedding import unit


@dataclass(frozen=True, eq=False)
class Quantized:
    """``codes`` ``(n, width)`` of ``n`` vectors. ``scores(queries)`` of ``(m, d)`` are ``(m, n)`` and order the codes
    as cosines would, or nearly so."""

    codes: NDArray[Any]
    scores: Callable[[Vectors], Vectors]

    @property
    def bytes_per_vector(self) -> int:
        return int(self.codes.itemsize * self.codes.shape[1])


def pca_axes(vectors: Vectors) -> Vectors:
    """The directions ``(d, d)`` in which ``vectors`` ``(n, d)`` reach furthest, the strongest first, as columns.

    The first ``k`` keep more of all dot products than any other ``k`` directions: PCA without taking off the
    mean (Eckart and Young, 1936). Turning by them changes no cosine.
    """
    _, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    return np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)


def truncate(vectors: Vectors, dimensions: int) -> Vectors:
    """The first ``dimensions`` numbers of each vector, at length 1.

    Models trained for it (Matryoshka: Kusupati et al., 2022) put the most important ones first; for others
    ``pca_axes`` does. https://arxiv.org/abs/2205.13147

    >>> truncate(np.array([[3.0, 4.0, 12.0]], dtype=np.float32), 2).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929]]

    Raises:
        InputError: ``dimensions`` is not in 1 to d.
    """
    if not 1 <= dimensions <= vectors.shape[1]:
        raise InputError(f"dimensions = {dimensions}: expected 1 to {vectors.shape[1]}")
    return unit(vectors[:, :dimensions])


def pca(vectors: Vectors, dimensions: int) -> Quantized:
    """``dimensions`` float32 numbers, after a turn by the vectors' principal axes.

    Raises:
        InputError: ``dimensions`` is not in 1 to d.
    """
    axes = pca_axes(vectors)
    codes = truncate(vectors @ axes, dimensions)
    return Quantized(codes, lambda queries: truncate(queries @ axes, dimensions) @ codes.T)


def int8(vectors: Vectors) -> Quantized:
    """One byte a number, in steps of each dimension's largest value / 127."""
    step = (np.abs(vectors).max(axis=0, initial=0) / 127).clip(1e-12).astype(np.float32)
    codes = np.rint(vectors / step).astype(np.int8)
    return Quantized(codes, lambda queries: (queries * step) @ codes.T.astype(np.float32))


def binary(vectors: Vectors) -> Quantized:
    """One bit a number, its sign: 32 times smaller.

    The query keeps its numbers and adds them up with the signs it meets, which orders better than comparing
    signs with signs (asymmetric distance: Jégou et al., 2011). https://doi.org/10.1109/TPAMI.2010.57
    """
    codes = np.packbits(vectors > 0, axis=1)

    def scores(queries: Vectors) -> Vectors:
        d = queries.shape[1]
        signs = np.unpackbits(codes, axis=1, count=d).astype(np.float32) * 2 - 1
        return np.asarray(queries @ signs.T / np.sqrt(d), dtype=np.float32)

    return Quantized(codes, scores)


class QuantizedRetriever(Retriever):
    """The chunks whose codes score best; ``encode_query`` gives the vector of a query.

    >>> chunks = [Chunk("a", 0, 3, "tea"), Chunk("b", 0, 3, "oil")]
    >>> codes = binary(np.eye(2, dtype=np.float32))
    >>> QuantizedRetriever(chunks, codes, lambda query: np.array([0.1, 0.9])).search("?")[0].chunk.doc_id
    'b'

    Raises:
        InputError: there are not as many codes as chunks.
    """

    def __init__(
        self, chunks: Sequence[Chunk], quantized: Quantized, encode_query: Callable[[str], NDArray[Any]]
    ) -> None:
        if len(chunks) != len(quantized.codes):
            raise InputError(f"{len(quantized.codes)} vectors for {len(chunks)} chunks: expected one each")
        self.chunks, self.quantized, self._encode_query = tuple(chunks), quantized, encode_query

    def _search(self, query: str, k: int) -> list[Hit]:
        (scores,) = self.quantized.scores(np.asarray(self._encode_query(query), dtype=np.float32)[None])
        least = np.partition(scores, -k)[-k] if k < len(scores) else -np.inf
        return best_first((Hit(self.chunks[i], float(scores[i]), "codes") for i in np.flatnonzero(scores >= least)), k)


def knn_recall(queries: Vectors, vectors: Vectors, quantized: Quantized, k: int = 10) -> float:
    """The share of the ``k`` nearest vectors that are also among the ``k`` nearest codes, averaged over queries."""
    exact = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
    coded = np.argsort(-quantized.scores(queries), axis=1, kind="stable")[:, :k]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(exact.tolist(), coded.tolist(), strict=True)]))

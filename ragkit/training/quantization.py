"""Smaller vectors: fewer numbers, or fewer bits a number, and what that costs in quality.

MiniLM's vector takes 384 * 4 = 1,536 bytes. A ``Codec`` stores it in less, and scores queries, which stay as they
are, against what it stored. ``Compressed`` makes a retriever of it, so ``compare`` measures the loss on questions;
``neighbours_kept`` measures it without any.

>>> codec = Int8.fit(np.array([[0.6, 0.8], [1.0, 0.0]], dtype=np.float32))
>>> codec.scores(np.array([[1, 0]], dtype=np.float32), codec.encode(np.array([[0.6, 0.8]], dtype=np.float32))).round(2)
array([[0.6]], dtype=float32)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Hit, InputError, Retriever, Vectors, best_first
from ragkit.embedding import unit

Codes = NDArray[Any]


class Codec(Protocol):
    """How vectors are stored, and how a query is scored against what was stored."""

    def encode(self, vectors: Vectors) -> Codes:
        """Codes ``(n, width)`` of vectors ``(n, d)``."""
        ...

    def scores(self, queries: Vectors, codes: Codes) -> Vectors:
        """Scores ``(len(queries), n)`` that order the codes as cosines would, or nearly so."""
        ...


def principal_axes(vectors: Vectors) -> Vectors:
    """The directions ``(d, d)`` in which ``vectors`` ``(n, d)`` reach furthest, the strongest first, as columns.

    The first ``k`` keep more of all dot products than any other ``k`` directions: PCA without taking off the
    mean (Eckart and Young, 1936). Turning by them changes no cosine.

    Raises:
        InputError: there are no vectors.
    """
    if not len(vectors):
        raise InputError("no vectors: expected at least one to find axes in")
    _, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    return np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)


def truncate(vectors: Vectors, dimensions: int) -> Vectors:
    """The first ``dimensions`` numbers of each vector, at length 1.

    Models trained for it (Matryoshka: Kusupati et al., 2022) put the most important ones first; for others
    ``principal_axes`` does. https://arxiv.org/abs/2205.13147

    >>> truncate(np.array([[3.0, 4.0, 12.0]], dtype=np.float32), 2).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929]]

    Raises:
        InputError: ``dimensions`` is not in 1 to d.
    """
    if not 1 <= dimensions <= vectors.shape[1]:
        raise InputError(f"dimensions = {dimensions}: expected 1 to {vectors.shape[1]}")
    return unit(vectors[:, :dimensions])


@dataclass(frozen=True, eq=False)
class Truncated:
    """``axes`` ``(d, d)`` turn the vectors before they are cut to ``dimensions`` float32 numbers."""

    axes: Vectors
    dimensions: int

    @classmethod
    def fit(cls, vectors: Vectors, dimensions: int) -> Truncated:
        """With the principal axes of ``vectors``."""
        truncate(vectors[:1], dimensions)
        return cls(principal_axes(vectors), dimensions)

    def encode(self, vectors: Vectors) -> Codes:
        return truncate(vectors @ self.axes, self.dimensions)

    def scores(self, queries: Vectors, codes: Codes) -> Vectors:
        return np.asarray(truncate(queries @ self.axes, self.dimensions) @ codes.T, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Int8:
    """One byte a number: each dimension has its own step ``scale`` ``(d,)``, the largest value seen / 127."""

    scale: Vectors

    @classmethod
    def fit(cls, vectors: Vectors) -> Int8:
        """With the steps that just hold ``vectors``; larger values are cut off."""
        if not len(vectors):
            raise InputError("no vectors: expected at least one to find the scale of")
        return cls((np.abs(vectors).max(axis=0) / 127).clip(1e-12).astype(np.float32))

    def encode(self, vectors: Vectors) -> Codes:
        return np.asarray(np.clip(np.rint(vectors / self.scale), -127, 127), dtype=np.int8)

    def scores(self, queries: Vectors, codes: Codes) -> Vectors:
        return np.asarray((queries * self.scale) @ codes.T.astype(np.float32), dtype=np.float32)


@dataclass(frozen=True)
class Binary:
    """One bit a number, its sign: 32 times smaller.

    The query keeps its numbers and adds them up with the signs it meets, which orders better than comparing
    signs with signs (asymmetric distance: Jégou et al., 2011). https://doi.org/10.1109/TPAMI.2010.57
    """

    def encode(self, vectors: Vectors) -> Codes:
        return np.packbits(vectors > 0, axis=1)

    def scores(self, queries: Vectors, codes: Codes) -> Vectors:
        signs = np.unpackbits(codes, axis=1, count=queries.shape[1]).astype(np.float32) * 2 - 1
        return np.asarray(queries @ signs.T / np.sqrt(queries.shape[1]), dtype=np.float32)


class Compressed(Retriever):
    """Chunks as codes. ``vectors`` ``(len(chunks), d)`` are encoded once; ``ask`` gives the vector of a query.

    >>> chunks = [Chunk("a", 0, 3, "tea"), Chunk("b", 0, 3, "oil")]
    >>> hits = Compressed(chunks, np.eye(2, dtype=np.float32), lambda query: np.array([0.1, 0.9]), Binary()).search("?")
    >>> hits[0].chunk.doc_id
    'b'

    Raises:
        InputError: there are not as many vectors as chunks.
    """

    def __init__(
        self, chunks: Sequence[Chunk], vectors: Vectors, ask: Callable[[str], NDArray[Any]], codec: Codec
    ) -> None:
        if len(chunks) != len(vectors):
            raise InputError(f"{len(vectors)} vectors for {len(chunks)} chunks: expected one each")
        self.chunks, self.codec, self._ask = tuple(chunks), codec, ask
        self.codes = codec.encode(vectors)

    @property
    def bytes_a_vector(self) -> int:
        """What one chunk takes."""
        return int(self.codes.itemsize * self.codes.shape[1])

    def _search(self, query: str, k: int) -> list[Hit]:
        if not self.chunks:
            return []
        (scores,) = self.codec.scores(np.asarray(self._ask(query), dtype=np.float32)[None], self.codes)
        ahead = np.argpartition(-scores, min(k, len(scores)) - 1)[: k + 1] if k < len(scores) else range(len(scores))
        least = min(scores[i] for i in ahead)
        return best_first((Hit(self.chunks[i], float(scores[i]), "codes") for i in np.flatnonzero(scores >= least)), k)


def neighbours_kept(queries: Vectors, vectors: Vectors, codec: Codec, k: int = 10) -> float:
    """The share of the ``k`` nearest vectors that are also among the ``k`` nearest codes, averaged over queries.

    Raises:
        InputError: no queries, or ``k`` is not in 1 to ``len(vectors)``.
    """
    if not len(queries) or not 1 <= k <= len(vectors):
        raise InputError(f"{len(queries)} queries, k = {k}: expected some, and 1 to {len(vectors)}")
    exact = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
    found = np.argsort(-codec.scores(queries, codec.encode(vectors)), axis=1, kind="stable")[:, :k]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(exact.tolist(), found.tolist(), strict=True)]))

"""Sums, maxima and products over ranges of rows.

A sum over any range of stored token vectors costs the same, however long the range is.

The sum over rows ``[a, b)`` is ``prefix(b) - prefix(a)``. Keeping ``prefix`` for every row would take four
times the room of the vectors themselves, so it is kept for every 32nd row, and the few rows between a
border and the nearest kept one are added or taken away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Vectors

BLOCK = 32
"""Rows between two kept sums. Every document begins at a multiple of it."""
_SPAN = 4096  # float32 sums start anew here, so that they stay exact in a corpus of any length
_GATHER = 64  # borders at a time: their rows stay in the processor's cache
_HALF = BLOCK // 2
_ONE_THREAD = 262_144  # multiplications up to which NumPy's OpenBLAS starts no second thread


class BlockSums:
    """Prefix sums over ``vectors * scales[:, None]``; ``vectors`` ``(rows, d)`` int8, ``rows`` a multiple of 32.

    >>> ones = np.ones((64, 2), dtype=np.int8)
    >>> BlockSums(ones, np.full(64, 0.5, dtype=np.float32)).between(np.array([[3, 50], [7, 7]])).tolist()
    [[23.5, 23.5], [0.0, 0.0]]
    """

    def __init__(self, vectors: NDArray[np.int8], scales: NDArray[np.float32]) -> None:
        self._vectors, self._scales = vectors, scales
        rows, dimension = vectors.shape
        self._inner = np.zeros((rows // BLOCK + 1, dimension), dtype=np.float32)  # within a span, before a block
        self._outer = np.zeros((rows // _SPAN + 2, dimension), dtype=np.float64)  # before a span
        for span, start in enumerate(range(0, rows, _SPAN)):
            part = vectors[start : start + _SPAN].astype(np.float32).reshape(-1, BLOCK, dimension)
            sums = np.cumsum((scales[start : start + _SPAN].reshape(-1, 1, BLOCK) @ part)[:, 0], axis=0)
            self._outer[span + 1] = self._outer[span] + sums[-1]
            first = start // BLOCK + 1
            keep = len(sums) - (len(sums) == _SPAN // BLOCK)  # the last sum of a full span is the next one's zero
            self._inner[first : first + keep] = sums[:keep]

    def between(self, rows: NDArray[np.int64]) -> Vectors:
        """The sum over rows ``[a, b)`` for each pair of ``rows`` ``(n, 2)``: ``(n, d)`` float32."""
        borders, where = np.unique(rows, return_inverse=True)
        first, last = where.reshape(rows.shape).T
        block = (borders + _HALF) // BLOCK
        prefix = self._inner[block]
        for at in np.array_split(ragged := np.flatnonzero(borders % BLOCK), max(1, len(ragged) // _GATHER)):
            kept = block[at] * BLOCK
            index = np.minimum(borders[at], kept)[:, None] + np.arange(_HALF)
            used = np.arange(_HALF) < np.abs(borders[at] - kept)[:, None]
            index = np.minimum(index, len(self._scales) - 1)
            weight = np.where(used, self._scales[index], 0) * np.sign(borders[at] - kept).astype(np.float32)[:, None]
            prefix[at] += (weight[:, None, :] @ self._vectors[index].astype(np.float32))[:, 0]
        span = block * BLOCK // _SPAN
        outer = (self._outer[span[last]] - self._outer[span[first]]).astype(np.float32)
        result: Vectors = prefix[last] - prefix[first] + outer
        return result


def range_max(scores: Vectors, ranges: NDArray[np.int64]) -> Vectors:
    """For each of ``ranges`` ``(n, r, 2)`` the maximum of ``scores[..., a:b]`` over its ``r`` non-empty ranges.

    >>> range_max(np.array([1.0, 5.0, 2.0], dtype=np.float32), np.array([[[0, 1], [2, 3]], [[0, 2], [0, 2]]])).tolist()
    [2.0, 5.0]
    """
    if not len(ranges):
        return np.zeros((*scores.shape[:-1], 0), dtype=np.float32)
    closed = np.concatenate([scores, np.full((*scores.shape[:-1], 1), -np.inf, dtype=np.float32)], axis=-1)
    each = np.maximum.reduceat(closed, ranges.ravel(), axis=-1)[..., ::2]
    result: Vectors = each.reshape(*scores.shape[:-1], *ranges.shape[:-1]).max(axis=-1)
    return result


def products(vectors: Vectors, queries: Vectors) -> Vectors:
    """``vectors @ queries.T`` for few queries, in blocks too small for a second thread.

    Where another program keeps a core busy, the threads of a matrix product wait for each other: 50 products
    of 256 x 16 took 600 ms then, and 7 ms in blocks.

    >>> products(np.eye(3, 2, dtype=np.float32), np.array([[2.0, 3.0]], dtype=np.float32)).ravel().tolist()
    [2.0, 3.0, 0.0]
    """
    block = max(1, _ONE_THREAD // max(1, queries.size))
    full = len(vectors) // block * block
    blocks = vectors[:full].reshape(-1, block, vectors.shape[1]) @ queries.T
    result: Vectors = np.concatenate([blocks.reshape(full, len(queries)), vectors[full:] @ queries.T])
    return result

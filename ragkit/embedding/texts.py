"""What an embedder that hands out token vectors promises, and how the vector of a text is made from its windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Embedder, Kind, Tokenizer, Vectors

Ids = NDArray[np.int32]


class WindowVectors(NamedTuple):
    """What the model says about one window: a vector per token, and the vector of the whole."""

    tokens: Vectors
    """``(n, d)``: the window's own tokens in their context, not normalised, special tokens left out."""
    mean: Vectors
    """``(d,)``: the mean over all tokens, special ones included, as the model was trained; not normalised."""


@runtime_checkable
class TokenEncoder(Embedder, Protocol):
    """An embedder whose text vector is the mean of its token vectors, and which hands these out."""

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def max_tokens(self) -> int:
        """The longest window, in tokens of the text (special tokens not counted)."""
        ...

    def tokenize(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        """Token ids ``(n,)`` and their character offsets ``(n, 2)``, without special tokens."""
        ...

    def encode_windows(self, windows: Sequence[Ids], kind: Kind = "passage") -> Iterator[tuple[int, WindowVectors]]:
        """``(position in windows, vectors)`` for each window, in the order that is quickest to compute."""
        ...


def unit(vectors: Vectors) -> Vectors:
    """The rows of ``vectors`` at length 1; rows of zeros stay zero.

    >>> unit(np.array([[3.0, 4.0]], dtype=np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32)


def split_evenly(ids: Ids, limit: int) -> list[Ids]:
    """``ids`` in as few pieces of at most ``limit`` as possible, all of nearly the same length.

    >>> [len(piece) for piece in split_evenly(np.arange(10, dtype=np.int32), 4)]
    [4, 3, 3]
    """
    return np.array_split(ids, max(1, -(-len(ids) // limit)))


def encode_texts(encoder: TokenEncoder, texts: Sequence[str], kind: Kind) -> Vectors:
    """Unit vectors ``(len(texts), d)``; the vector of a long text is the mean over its windows, by length."""
    windows: list[Ids] = []
    owner: list[int] = []
    for i, text in enumerate(texts):
        pieces = split_evenly(encoder.tokenize(text)[0], encoder.max_tokens)
        windows += pieces
        owner += [i] * len(pieces)
    total = np.zeros((len(texts), encoder.dimension), dtype=np.float32)
    for position, vectors in encoder.encode_windows(windows, kind):
        total[owner[position]] += vectors.mean * max(1, len(windows[position]))
    return unit(total)

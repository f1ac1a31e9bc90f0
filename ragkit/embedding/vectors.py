"""What embedders share: prefixes, vectors of length 1, the check of what comes in, and long texts read in windows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ragkit.base import ContractError, Embedder, Kind, Tokenizer, Vectors

Ids = NDArray[np.int32]

_E5_TASK = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
_BGE_EN = "Represent this sentence for searching relevant passages: "
_BGE_ZH = "为这个句子生成表示以用于检索相关文章："

# The first rule all of whose words are in the model's name decides.
_FAMILIES: tuple[tuple[tuple[str, ...], Mapping[Kind, str]], ...] = (
    (("e5-", "instruct"), {"query": _E5_TASK, "passage": ""}),
    (("e5-",), {"query": "query: ", "passage": "passage: "}),
    (("bge-", "-en"), {"query": _BGE_EN, "passage": ""}),
    (("bge-", "-zh"), {"query": _BGE_ZH, "passage": ""}),
    (("nomic-embed-text",), {"query": "search_query: ", "passage": "search_document: "}),
)


def known_prefixes(name: str) -> Mapping[Kind, str]:
    """The words that the model called ``name`` was trained with in front of queries and passages; ``{}`` for none.

    Without them nothing fails, and the results are a little worse. Sources: the models' cards, such as
    https://huggingface.co/intfloat/multilingual-e5-large (FAQ), https://huggingface.co/BAAI/bge-small-en-v1.5 and
    https://huggingface.co/nomic-ai/nomic-embed-text-v1.5

    >>> known_prefixes("intfloat/multilingual-e5-large")
    {'query': 'query: ', 'passage': 'passage: '}
    >>> known_prefixes("BAAI/bge-m3")
    {}
    """
    model = name.rstrip("/").split("/")[-1].lower()
    return next((prefixes for words, prefixes in _FAMILIES if all(word in model for word in words)), {})


class WindowVectors(NamedTuple):
    """The model's output for one window: a vector per token, and the vector of the whole."""

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


def check_vectors(vectors: Any, count: int, embedder: Embedder) -> Vectors:
    """``vectors`` as float32 ``(count, embedder.dimension)``, if the embedder gave what it promises.

    Lists and other number formats are converted; lengths are left as they are (see ``unit``).

    Raises:
        ContractError: another shape, something else than numbers, NaN or infinity; names the embedder.
    """
    try:
        array: Vectors = np.asarray(vectors, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise ContractError(f"embedder {embedder.name!r} gave no table of numbers ({error})") from error
    expected = (count, embedder.dimension)
    if not count and not array.size:
        return np.zeros(expected, dtype=np.float32)
    if array.shape != expected:
        raise ContractError(f"embedder {embedder.name!r} gave vectors of shape {array.shape}, expected {expected}")
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ContractError(f"embedder {embedder.name!r} gave NaN or infinity for text {bad} of {count}")
    return array


def encode(embedder: Embedder, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
    """Checked unit vectors ``(len(texts), dimension)`` of any embedder, also of one that gives lists or other lengths.

    >>> from ragkit.testing import FakeEmbedder
    >>> encode(FakeEmbedder(dimension=4), ["red wine"]).shape
    (1, 4)

    Raises:
        ContractError: the embedder broke its promise (``check_vectors``).
    """
    return unit(check_vectors(embedder.encode(texts, kind), len(texts), embedder))


def split_evenly(ids: NDArray[Any], limit: int) -> list[NDArray[Any]]:
    """``ids`` in as few pieces of at most ``limit`` as possible, all of nearly the same length.

    >>> [len(piece) for piece in split_evenly(np.arange(10, dtype=np.int32), 4)]
    [4, 3, 3]
    """
    return np.array_split(ids, max(1, math.ceil(len(ids) / limit)))


def encode_texts(encoder: TokenEncoder, texts: Sequence[str], kind: Kind) -> Vectors:
    """Unit vectors ``(len(texts), d)``; the vector of a long text is the mean over its windows, by length."""
    pieces = [split_evenly(encoder.tokenize(text)[0], encoder.max_tokens) for text in texts]
    windows = [window for each in pieces for window in each]
    means = np.zeros((len(windows), encoder.dimension), dtype=np.float32)
    for position, vectors in encoder.encode_windows(windows, kind):
        means[position] = vectors.mean
    owners = [i for i, each in enumerate(pieces) for _ in each]
    return mean_of_windows(means, owners, [max(1, len(window)) for window in windows], len(texts))


def mean_of_windows(vectors: Vectors, owners: Sequence[int], weights: Sequence[int], count: int) -> Vectors:
    """Unit vectors ``(count, d)``: the mean of the windows' ``vectors`` ``(n, d)`` that each text owns, by weight.

    >>> windows = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    >>> mean_of_windows(windows, [0, 0, 1], [3, 4, 1], 2).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 1.0]]
    """
    total = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    np.add.at(total, np.array(owners, dtype=np.int64), vectors * np.array(weights, dtype=np.float32)[:, None])
    return unit(total)

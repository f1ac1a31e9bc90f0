"""Stand-ins for the slow parts, for tests and for trying out ideas: no model, no torch, no network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ragkit.base import ContractError, InputError, Kind, Retriever, Vectors
from ragkit.embedding.vectors import Ids, WindowVectors, encode_texts

_WORD = re.compile(r"\w+|[^\w\s]")


class FakeTokenizer:
    """Words and punctuation marks as tokens.

    >>> FakeTokenizer().offsets("Hi, you").tolist()
    [[0, 2], [2, 3], [4, 7]]
    """

    identity = "fake-words"

    def offsets(self, text: str) -> NDArray[np.int64]:
        return np.array([m.span() for m in _WORD.finditer(text)], dtype=np.int64).reshape(-1, 2)

    def count(self, text: str) -> int:
        return len(self.offsets(text))


class FakeEmbedder:
    """Deterministic vectors in microseconds: every word has a random direction, texts are their mean.

    The same word (in any case) has the same direction, so texts that share words are near each other.
    With ``context`` > 0 a token's vector also depends on where in its window it stands, as a real model's
    does. It is a ``TokenEncoder``; ``encoded`` counts the window tokens it was asked for.

    >>> e = FakeEmbedder()
    >>> near, far = e.encode(["red wine", "blue sky"]) @ e.encode(["wine, red"])[0]
    >>> bool(near > far)
    True
    """

    name = "fake"

    def __init__(self, dimension: int = 32, max_tokens: int = 16, context: float = 0.0, seed: int = 0) -> None:
        self.dimension = dimension
        self.max_tokens = max_tokens
        self.tokenizer = FakeTokenizer()
        self.context = context
        self.seed = seed
        self.encoded = 0
        self.identity = f"fake:{dimension}:{max_tokens}:{context}:{seed}"
        self._direction = lru_cache(maxsize=100_000)(self._make_direction)

    def _make_direction(self, token: int) -> Vectors:
        return np.random.default_rng((self.seed, token)).standard_normal(self.dimension).astype(np.float32)

    def tokenize(self, text: str) -> tuple[Ids, NDArray[np.int64]]:
        offsets = self.tokenizer.offsets(text)
        words = (text[a:b].lower().encode("utf-8", "surrogatepass") for a, b in offsets)
        ids = [int.from_bytes(hashlib.sha256(word).digest()[:2], "little") for word in words]
        return np.array(ids, dtype=np.int32), offsets

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        return encode_texts(self, texts, kind)

    def encode_windows(self, windows: Sequence[Ids], kind: Kind = "passage") -> Iterator[tuple[int, WindowVectors]]:
        for i in sorted(range(len(windows)), key=lambda i: -len(windows[i])):
            self.encoded += len(windows[i])
            tokens = np.zeros((len(windows[i]), self.dimension), dtype=np.float32)
            for j, token in enumerate(windows[i].tolist()):
                tokens[j] = self._direction(token) + self.context * self._direction(100_000 + j)
            yield i, WindowVectors(tokens, tokens.mean(axis=0) if len(tokens) else self._direction(99_999))


def check_retriever(retriever: Retriever, queries: Sequence[str], k: int = 5) -> None:
    """Refuse a retriever that breaks its contract on any of ``queries``.

    At most ``k`` hits, best first, finite scores, no chunk twice; the same twice; ``search_many`` gives the chunks of
    ``search`` (scores may differ in the last digits, where batches are computed together); blank
    queries and ``k`` < 1 are refused.

    >>> from ragkit.retrieval.bm25 import BM25Retriever
    >>> check_retriever(BM25Retriever([]), ["anything"])

    Raises:
        ContractError: says which rule was broken, and by which query.
    """
    searched = [retriever.search(query, k) for query in queries]
    for query, hits in zip(queries, searched, strict=True):
        scores, ids = [hit.score for hit in hits], [hit.chunk.id for hit in hits]
        _agree(len(hits) <= k, query, f"{len(hits)} hits: expected at most {k}")
        _agree(bool(np.isfinite(scores).all()), query, f"scores {scores}: expected finite numbers")
        _agree(scores == sorted(scores, reverse=True), query, f"scores {scores}: expected the best first")
        _agree(len(set(ids)) == len(ids), query, f"chunks {ids}: expected each at most once")
        _agree(retriever.search(query, k) == hits, query, "searched twice, found two different results")
    for query, hits, many in zip(queries, searched, retriever.search_many(queries, k), strict=True):
        same = [h.chunk.id for h in hits] == [h.chunk.id for h in many]
        near = same and np.allclose([h.score for h in hits], [h.score for h in many], rtol=1e-4, atol=1e-5)
        _agree(near, query, "search_many finds something else than search")
    _agree(retriever.search_many([], k) == [], "", "search_many([]) is not empty")
    for query, number in (("", k), (" \n\t", k), ("words", 0), ("words", -1)):
        for search in (retriever.search, lambda q, n: retriever.search_many([q], n)):
            with suppress(InputError):
                search(query, number)
                raise ContractError(f"{retriever!r}: query {query!r} with k = {number} is not refused by InputError")


def _agree(holds: bool, query: str, what: str) -> None:
    if not holds:
        raise ContractError(f"query {query[:60]!r}: {what}")

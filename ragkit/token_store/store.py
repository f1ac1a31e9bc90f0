"""Encode once, chunk later: the vectors of any chunk, from token vectors that are already on disk.

A chunk owns the tokens that start between its first and its last character, so every chunker works, and a
new chunk size costs a few subtractions a chunk instead of a run of the model.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Corpus, Embedder, InputError, Mean, StoreMismatchError, Vectors
from ragkit.embedding import Ids, TokenEncoder, load_embedder, split_evenly, unit
from ragkit.files import MANIFEST, home, lock
from ragkit.token_store.build import build_store, check_store, store_settings
from ragkit.token_store.files import Rows
from ragkit.token_store.sums import BLOCK, BlockSums, products, range_max

_NO_MATCH = 0.05  # the cosine of a word without a match, in a geometric mean
_PASSAGE = 4 * BLOCK  # tokens of the passages in which idf counts a word
_PIECE = 2048  # token vectors at a time: they stay in the processor's cache


class TokenStore:
    """The contextual vectors of all tokens of a corpus. Make one with ``TokenStore.open(corpus)``.

    Vectors lie on disk as int8 with a scale each, and are mapped into memory.
    """

    def __init__(self, rows: Rows, corpus: Corpus, encoder: TokenEncoder, identity: str) -> None:
        self.identity = identity
        self.encoder = encoder
        self.dimension = encoder.dimension
        self._rows = rows
        entries = sorted({rows.entries[d.sha256] for d in corpus.documents}, key=lambda e: e.row)
        place = {entry.sha256: i for i, entry in enumerate(entries)}
        self._place = {d.id: place[d.sha256] for d in corpus.documents}
        self._entries = entries
        self._chars = np.array([e.chars for e in entries], dtype=np.int64)
        self._base = np.concatenate([[0], np.cumsum(self._chars + 1)])[: len(entries)].astype(np.int64)
        self._grids: dict[int, tuple[Vectors, NDArray[np.int64]]] = {}
        self._remembered: dict[str, Vectors] = {}
        # One question's stages share its vectors. More would make a second system look faster than the first.
        self._read_query = lru_cache(maxsize=2)(self._encode_query_tokens)

    @classmethod
    def open(
        cls,
        corpus: Corpus,
        embedder: Embedder | None = None,
        *,
        folder: Path | None = None,
        window: int | None = None,
        rebuild: bool = False,
        verify: bool = True,
        progress: bool = True,
    ) -> TokenStore:
        """The store of ``corpus``, from disk, or built first if there is none.

        ``embedder`` is a ``TokenEncoder`` (default: ``load_embedder()``), ``window`` the tokens it reads at a
        time (default: as many as it can); neighbouring windows share a quarter. Without ``folder`` each
        corpus, model and window has its own place below ``ragkit.files.home()``. What any store beside it
        already holds is copied, so only new and changed documents are encoded. Stores of older versions of a
        corpus stay; ``ragkit doctor`` names those that nothing reads any more. A build that was killed goes on
        where it stopped; a second process waits for the first. ``verify=False`` checks sizes but not the sha256
        of the files (0.2 s for ``core``).

        Raises:
            StoreMismatchError: ``folder`` holds another model, window or corpus; ``rebuild=True`` replaces it.
            IntegrityError: its files are cut or changed; ``rebuild=True`` replaces it.
            InputError: ``folder`` holds files that ragkit did not make (they are never replaced), ``embedder`` has
                no token vectors, or ``window`` is not in [4, its max_tokens].
        """
        encoder = load_embedder() if embedder is None else embedder
        if not isinstance(encoder, TokenEncoder):
            raise InputError(
                f"{encoder.name!r} gives no token vectors (it is not a mean-pooling model on this machine); "
                "a store needs one that does, such as load_embedder()"
            )
        size = encoder.max_tokens if window is None else window
        if not 4 <= size <= encoder.max_tokens:
            raise InputError(f"window = {size}: expected 4 to {encoder.max_tokens} tokens for {encoder.name}")
        settings = store_settings(encoder, size)
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        named = f"{re.sub(r'[^A-Za-z0-9]+', '-', corpus.name)[:40]}-{corpus.fingerprint[:16]}"
        path = home() / "token_store" / key / named if folder is None else Path(folder)
        expected = {**settings, "fingerprint": corpus.fingerprint}
        if rebuild or not (path / MANIFEST).is_file():
            with lock(path.parent / ".lock"):
                if rebuild or not (path / MANIFEST).is_file():  # else another process built it meanwhile
                    build_store(path, corpus, encoder, expected, progress)
        check_store(path, expected, verify)
        asks = [] if settings["encoder"] == encoder.identity else [encoder.identity]
        identity = ":".join([key, corpus.fingerprint[:16], *asks])
        return cls(Rows.open(path, encoder.dimension), corpus, encoder, identity)

    def __repr__(self) -> str:
        return f"TokenStore({len(self._place)} documents, {self.n_tokens} tokens, {self.encoder.name})"

    @property
    def n_tokens(self) -> int:
        """The number of tokens of the corpus (equal texts counted once)."""
        return sum(entry.tokens for entry in self._entries)

    # ---- vectors of chunks

    def pool(self, chunks: Sequence[Chunk]) -> Vectors:
        """Unit vectors ``(len(chunks), d)``: the mean over each chunk's tokens (zero where it has none).

        Cost: two look-ups and at most 32 additions a chunk, whatever its length.

        Raises:
            StoreMismatchError: a chunk is not from this corpus.
        """
        return unit(self._sums.between(self.rows(chunks)))

    def windows(self, chunks: Sequence[Chunk], size: int = 64) -> tuple[Vectors, NDArray[np.int64]]:
        """Unit vectors ``(w, d)`` of windows of ``size`` tokens, and which of them lie in each chunk.

        A chunk owns the windows of its document that lie in it entirely (they stand half a window apart, the
        same for every chunker, so they are made once), and the windows at its own two ends. The second array
        ``(n, 2, 2)`` holds these two ranges ``(first, last)`` of places for each chunk; none is empty.

        Raises:
            InputError: ``size`` < 2.
        """
        grid, starts = self._grid(size)
        rows = self.rows(chunks)
        ends = rows[:, [0, 0, 1, 1]].reshape(-1, 2, 2)
        ends[:, 0, 1] = np.minimum(rows[:, 0] + size, rows[:, 1])
        ends[:, 1, 0] = np.maximum(rows[:, 1] - size, rows[:, 0])
        inside = np.stack([np.searchsorted(starts, rows[:, 0]), np.searchsorted(starts, rows[:, 1] - size, "right")], 1)
        own = len(grid) + 2 * np.arange(len(rows))[:, None] + [0, 2]
        none = inside[:, :1] >= inside[:, 1:]
        ranges = np.stack([np.where(none, own, inside), own], axis=1)
        return np.concatenate([grid, unit(self._sums.between(ends.reshape(-1, 2)))]), ranges

    def maxp(self, query_vector: Vectors, chunks: Sequence[Chunk], window: int = 64) -> Vectors:
        """Scores ``(len(chunks),)``: the cosine of each chunk's best window (Dai and Callan, 2019: MaxP).

        Long chunks do not dilute. https://arxiv.org/abs/1905.09217
        """
        vectors, ranges = self.windows(chunks, window)
        return range_max(vectors @ np.asarray(query_vector, dtype=np.float32), ranges)

    def maxsim(self, query: str, chunks: Sequence[Chunk], mean: Mean = "arithmetic") -> Vectors:
        """Late interaction, scores ``(len(chunks),)`` in [-1, 1].

        Each query token looks for its most similar token in the chunk; the score is the mean of these
        cosines, weighted by idf. ColBERT's MaxSim (https://arxiv.org/abs/2004.12832) without its training.
        In the ``"geometric"`` mean (cosines below .05 count as .05) one word that has no match costs more than
        others can make up for: closer to "all of the words" than to "some of them".

        Raises:
            InputError: another ``mean``.
            StoreMismatchError: a chunk is not from this corpus.
        """
        if mean not in ("arithmetic", "geometric"):
            raise InputError(f"mean {mean!r}: expected 'arithmetic' or 'geometric'")
        ids, tokens, _ = self._read_query(query)
        rows = self.rows(chunks)
        best = np.zeros((len(chunks), len(ids)), dtype=np.float32)
        for i in np.flatnonzero(rows[:, 1] > rows[:, 0]):
            best[i] = np.max([c.max(axis=0) for c in self._cosines(rows[i], unit(tokens))], axis=0)
        weights = self.idf(ids)
        weights = weights / max(float(weights.sum()), 1e-9)
        if mean == "arithmetic" or not len(ids):
            return np.asarray(best @ weights, dtype=np.float32)
        return np.asarray(np.exp(np.log(np.maximum(best, _NO_MATCH)) @ weights), dtype=np.float32)

    def token_cosines(self, query: str, chunk: Chunk) -> tuple[NDArray[np.int64], NDArray[np.int64], Vectors]:
        """What ``maxsim`` sees: character offsets of the query's and the chunk's tokens, and cosines ``(q, t)``."""
        (rows,) = self.rows([chunk])
        _, tokens, _ = self._read_query(query)
        empty = np.zeros((0, len(tokens)), dtype=np.float32)
        cosines = np.concatenate([empty, *self._cosines(rows, unit(tokens))]).T
        return self.encoder.tokenize(query)[1], self._rows.offsets[slice(*rows)].astype(np.int64), cosines

    def tokens(self, doc_id: str) -> tuple[NDArray[np.int64], Vectors]:
        """Character offsets ``(n, 2)`` and vectors ``(n, d)`` (float32, not normalised) of a document's tokens.

        Raises:
            StoreMismatchError: the corpus has no such document.
        """
        entry = self._entries[self._known(doc_id)]
        part = slice(entry.row, entry.row + entry.tokens)
        vectors = self._rows.vectors[part].astype(np.float32) * self._rows.scales[part, None]
        return self._rows.offsets[part].astype(np.int64), vectors

    # ---- queries

    def encode_query(self, query: str) -> Vectors:
        """The unit vector ``(d,)`` of a query."""
        return self._remembered[query] if query in self._remembered else self._read_query(query)[2]

    def encode_queries(self, queries: Sequence[str]) -> Vectors:
        """The unit vectors ``(len(queries), d)`` of many queries, in one batch."""
        new = [query for query in dict.fromkeys(queries) if query not in self._remembered]
        vectors = self._remembered | dict(zip(new, self.encoder.encode(new, "query"), strict=True))
        return np.array([vectors[query] for query in queries], dtype=np.float32).reshape(-1, self.dimension)

    def remembering(self, queries: Sequence[str], tokens: bool = False) -> TokenStore:
        """This store with the vectors of ``queries`` at hand, with ``tokens`` for ``maxsim`` too: they cost no run of
        the model. For experiments that ask the same ones again and again, not for measuring latency."""
        other = copy(self)
        other._remembered = dict(zip(queries, self.encode_queries(queries), strict=True))
        if tokens:
            other._read_query = lru_cache(len(queries) + 2)(self._encode_query_tokens)
            list(map(other._read_query, queries))
        return other

    def _encode_query_tokens(self, query: str) -> tuple[Ids, Vectors, Vectors]:
        """Token ids, token vectors and the unit vector of a query, from one run of the model."""
        ids, _ = self.encoder.tokenize(query)
        pieces = split_evenly(ids, self.encoder.max_tokens)
        found = dict(self.encoder.encode_windows(pieces, "query"))
        total = sum((found[i].mean * max(1, len(piece)) for i, piece in enumerate(pieces)), np.zeros(self.dimension))
        return ids, np.concatenate([found[i].tokens for i in range(len(pieces))]), unit(np.asarray(total))

    def idf(self, ids: Ids) -> Vectors:
        """How rare vocabulary ids are: ``ln(1 + (N - n + .5) / (n + .5))`` over passages of 128 tokens (as BM25)."""
        counts, passages = self._passage_counts
        n = np.where(ids < len(counts), counts[np.minimum(ids, len(counts) - 1)], 0)
        return np.log1p((passages - n + 0.5) / (n + 0.5)).astype(np.float32)

    # ---- inside

    def rows(self, chunks: Sequence[Chunk]) -> NDArray[np.int64]:
        """The rows ``[a, b)`` of each chunk's tokens, ``(n, 2)``.

        Raises:
            StoreMismatchError: a chunk's document is not in the store, or is longer there.
        """
        if not chunks:
            return np.zeros((0, 2), dtype=np.int64)
        place = np.array([self._known(chunk.doc_id) for chunk in chunks])
        start = np.array([chunk.start for chunk in chunks], dtype=np.int64)
        end = np.array([chunk.end for chunk in chunks], dtype=np.int64)
        if (bad := np.flatnonzero(end > self._chars[place])).size:
            chunk = chunks[bad[0]]
            raise StoreMismatchError(
                f"chunk {chunk.id}: the store's {chunk.doc_id!r} has {self._chars[place[bad[0]]]} characters; "
                "the chunk is of another version of the corpus: open the store of that one"
            )
        base = self._base[place]
        found = [np.searchsorted(self._keys, base + at) for at in (start, end)]
        return np.stack(found, axis=1)

    def _known(self, doc_id: str) -> int:
        try:
            return self._place[doc_id]
        except KeyError:
            raise StoreMismatchError(
                f"the store has no document {doc_id!r} (it has {len(self._place)} others): "
                "chunks and store must come from the same corpus"
            ) from None

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        """Where the token of each row starts, in characters from the start of the corpus: one sorted list for all."""
        padded = [entry.padded for entry in self._entries]
        return np.repeat(self._base, padded) + self._rows.offsets[:, 0]

    @cached_property
    def _sums(self) -> BlockSums:
        return BlockSums(self._rows.vectors, self._rows.scales)

    def _grid(self, size: int) -> tuple[Vectors, NDArray[np.int64]]:
        """The windows of all documents, and the row at which each starts."""
        if size < 2:
            raise InputError(f"window size {size}: expected at least 2 tokens")
        if size not in self._grids:
            starts = [np.arange(e.row, e.row + e.tokens - size + 1, max(1, size // 2)) for e in self._entries]
            first = np.concatenate([np.zeros(0, dtype=np.int64), *starts])
            self._grids[size] = unit(self._sums.between(np.stack([first, first + size], axis=1))), first
        return self._grids[size]

    @cached_property
    def _passage_counts(self) -> tuple[NDArray[np.int64], int]:
        """In how many passages each vocabulary id occurs, and the number of passages."""
        real = np.flatnonzero(self._rows.ids >= 0)
        ids = self._rows.ids[real].astype(np.int64)
        width = int(ids.max(initial=0)) + 1
        seen = np.unique(real // _PASSAGE * width + ids)
        return np.bincount(seen % width, minlength=width), len(np.unique(real // _PASSAGE))

    def _cosines(self, rows: NDArray[np.int64], query_tokens: Vectors) -> Iterator[Vectors]:
        """Cosines ``(t, q)`` of the tokens in rows ``[a, b)`` with unit query tokens, in pieces (scales cancel out)."""
        for at in range(rows[0], rows[1], _PIECE):
            vectors = self._rows.vectors[at : min(at + _PIECE, rows[1])].astype(np.float32)
            length = np.sqrt(np.einsum("td,td->t", vectors, vectors))
            yield products(vectors, query_tokens) / np.maximum(length, 1)[:, None]

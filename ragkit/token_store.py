"""Encode once, chunk later: the vectors of any chunk, from token vectors that are already on disk.

Every document goes through the model once, in overlapping windows. A chunk owns the tokens that start between its first
and its last character, so every chunker works, and a new chunk size costs a few subtractions a chunk instead of a run
of the model (late chunking: Günther et al., 2024, https://arxiv.org/abs/2409.04701).

On disk::

    <home>/token_store/<key of the settings>/manifest.json             format, model, window, stride, dimension
                                             <sha256 of a text>.tokens  the document's rows, then their CRC-32

A document is known by the sha256 of its text: a build that was killed goes on where it stopped, corpora share the
documents that they have in common, and only new and changed documents are encoded. A damaged file is encoded again.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Corpus, Embedder, InputError, IntegrityError, Mean, StoreMismatchError, Vectors
from ragkit.embedding import TokenEncoder, load_embedder, unit
from ragkit.embedding.bert import one_thread
from ragkit.embedding.vectors import Ids, check_vectors, split_evenly
from ragkit.files import MANIFEST, atomic_write, home, lock, read_settings
from ragkit.languages import defaults_for

_FORMAT = 3  # 1: bfloat16 where the processor had it; 2: one folder for each version of a corpus
_BLOCK = 32  # rows between two stored sums; a document begins at a multiple of it
_GATHER = 64  # sums, or blocks, at a time: their rows stay in the processor's cache
_GROUP_TOKENS = 65_536  # what is sorted by length and encoded at a time
_PASSAGE = 4 * _BLOCK  # tokens of the passages in which idf counts a word
_CRC = 4  # bytes
_NO_MATCH = 0.05  # the cosine of a word without a match, in a geometric mean


class TokenStore:
    """The contextual vectors of all tokens of a corpus. Make one with ``TokenStore.open(corpus)``.

    Vectors are int8 with a scale each, on disk and in memory. Several threads may use a store.
    """

    def __init__(self, corpus: Corpus, encoder: TokenEncoder, identity: str, documents: dict[str, _Rows]) -> None:
        """``documents`` are the rows of each text of ``corpus``, by its sha256. They move to one array, each document
        from a multiple of 32 on, empty rows behind it; ``documents`` is empty then: nothing is in memory twice."""
        self.encoder, self.dimension, self.identity = encoder, encoder.dimension, identity
        self.language = corpus.language
        texts = _different_texts(corpus)
        places = {sha256: i for i, (sha256, _) in enumerate(texts)}
        self._place = {document.id: places[document.sha256] for document in corpus.documents}
        self._texts = [text for _, text in texts]
        self._counts = [len(documents[sha256].ids) for sha256, _ in texts]
        self._first = np.cumsum(
            [0, *(math.ceil(n / _BLOCK) * _BLOCK for n in self._counts)]
        )  # of each document's rows,
        self._chars = np.cumsum([0, *(len(text) + 1 for text in self._texts)])  # and of its characters
        self._rows = _Rows.empty(int(self._first[-1]) + _BLOCK, self.dimension)  # there are rows behind every document
        # Where the token of each row starts, in characters from the start of the corpus: one sorted list for all.
        # Empty rows lie at the end of their document's text, outside of any chunk.
        self._starts = np.full(len(self._rows.ids), self._chars[-1])
        for i, (sha256, text) in enumerate(texts):
            first, end = self._first[i], self._first[i] + self._counts[i]
            rows = documents.pop(sha256)
            self._rows.vectors[first:end], self._rows.scales[first:end] = rows.vectors, rows.scales
            self._rows.ids[first:end], self._rows.offsets[first:end] = rows.ids, rows.offsets
            self._starts[first:end] = self._chars[i] + rows.offsets[:, 0]
            self._starts[end : self._first[i + 1]] = self._chars[i] + len(text)
        self._sums = BlockSums(self._rows.vectors, self._rows.scales)
        self._grids: dict[int, tuple[Vectors, NDArray[np.int64]]] = {}
        self._query_vectors: dict[str, Vectors] = {}
        # One question's stages share its vectors. More would make a second system look faster than the first.
        self._read_query = lru_cache(maxsize=2)(self._encode_query_tokens)

    @classmethod
    def open(
        cls,
        corpus: Corpus,
        embedder: Embedder | None = None,
        *,
        folder: str | Path | None = None,
        save: bool = True,
        progress: bool = True,
    ) -> TokenStore:
        """The store of ``corpus``: what is on disk is read, the rest is encoded first.

        ``embedder`` is a ``TokenEncoder`` (default: the packaged model for ``corpus.language``, MiniLM for English and
        E5, which is slower, for all others); neighbouring windows share a quarter of what it reads at a time.
        ``folder`` is where stores lie (default: ``token_store`` below ``ragkit.files.home()``);
        nothing in it is ever deleted, and ``ragkit doctor`` names what this version of the code does not read. A second
        process that builds with the same model waits for the first; with ``save=False`` nothing is written, and none
        waits.

        Raises:
            InputError: ``embedder`` has no token vectors, or reads less than 4 tokens at a time.
            ContractError: it gave vectors of another shape, or NaN.
        """
        encoder = load_embedder(defaults_for(corpus.language).encoder) if embedder is None else embedder
        if not isinstance(encoder, TokenEncoder) or encoder.max_tokens < 4:
            raise InputError(
                f"{encoder.name!r} gives no token vectors (it is not a mean-pooling model on this machine), or reads "
                "fewer than 4 tokens at a time; a store needs one that does, such as load_embedder()"
            )
        settings = _settings(encoder)
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        place = Path(folder or home() / "token_store") / key
        texts = _different_texts(corpus)
        rows = _read(place, texts, encoder.dimension)
        if not save:
            rows |= _encode([text for text in texts if text[0] not in rows], encoder, progress)
        elif len(rows) < len(texts):
            with lock(place.with_suffix(".lock")):
                atomic_write(place / MANIFEST, json.dumps({"settings": settings, "files": {}}, indent=1).encode())
                rows |= _read(place, [text for text in texts if text[0] not in rows], encoder.dimension)  # meanwhile
                missing = [text for text in texts if text[0] not in rows]
                for sha256, encoded in _encode(missing, encoder, progress):
                    encoded.write(_path(place, sha256))
                    rows[sha256] = encoded
        own_queries = [] if settings["encoder"] == encoder.identity else [encoder.identity]
        return cls(corpus, encoder, ":".join([key, corpus.fingerprint[:16], *own_queries]), rows)

    def __repr__(self) -> str:
        return f"TokenStore({len(self._place)} documents, {self.n_tokens} tokens, {self.encoder.name})"

    @property
    def n_tokens(self) -> int:
        """The number of tokens of the corpus (equal texts counted once)."""
        return sum(self._counts)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the corpus, equal ones once."""
        return tuple(self._texts)

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
            StoreMismatchError: a chunk is not from this corpus.
        """
        grid, starts = self._grid(size)
        rows = self.rows(chunks)
        first, last = rows[:, 0], rows[:, 1]
        beginning = np.stack([first, np.minimum(first + size, last)], axis=1)
        end = np.stack([np.maximum(last - size, first), last], axis=1)
        ends = np.stack([beginning, end], axis=1)
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
        rows, tokens = self.rows(chunks), unit(tokens)
        best = np.zeros((len(chunks), len(ids)), dtype=np.float32)
        with one_thread():
            for i in np.flatnonzero(rows[:, 1] > rows[:, 0]):
                vectors = self._rows.vectors[slice(*rows[i])].astype(np.float32)
                length = np.sqrt(np.einsum("td,td->t", vectors, vectors))  # of the int8 numbers: scales cancel out
                best[i] = (vectors @ tokens.T / np.maximum(length, 1)[:, None]).max(axis=0)
        weights = self.idf(ids)
        weights = weights / max(float(weights.sum()), 1e-9)
        if mean == "arithmetic" or not len(ids):
            return np.asarray(best @ weights, dtype=np.float32)
        return np.asarray(np.exp(np.log(np.maximum(best, _NO_MATCH)) @ weights), dtype=np.float32)

    def token_cosines(self, query: str, chunk: Chunk) -> tuple[NDArray[np.int64], NDArray[np.int64], Vectors]:
        """What ``maxsim`` sees: character offsets of the query's and the chunk's tokens, and cosines ``(q, t)``."""
        ((first, last),) = self.rows([chunk])
        _, tokens, _ = self._read_query(query)
        cosines = unit(self._rows.vectors[first:last].astype(np.float32)) @ unit(tokens).T
        return self.encoder.tokenize(query)[1], self._rows.offsets[first:last].astype(np.int64), cosines.T

    def tokens(self, doc_id: str) -> tuple[NDArray[np.int64], Vectors]:
        """Character offsets ``(n, 2)`` and vectors ``(n, d)`` (float32, not normalised) of a document's tokens.

        Raises:
            StoreMismatchError: the corpus has no such document.
        """
        i = self._known(doc_id)
        own = slice(self._first[i], self._first[i] + self._counts[i])
        vectors = self._rows.vectors[own].astype(np.float32) * self._rows.scales[own, None]
        return self._rows.offsets[own].astype(np.int64), vectors

    # ---- queries

    def encode_query(self, query: str) -> Vectors:
        """The unit vector ``(d,)`` of a query."""
        return self._query_vectors[query] if query in self._query_vectors else self._read_query(query)[2]

    def encode_queries(self, queries: Sequence[str]) -> Vectors:
        """The unit vectors ``(len(queries), d)`` of many queries, in one batch."""
        new = [query for query in dict.fromkeys(queries) if query not in self._query_vectors]
        encoded = check_vectors(self.encoder.encode(new, "query"), len(new), self.encoder)
        vectors = self._query_vectors | dict(zip(new, encoded, strict=True))
        return np.array([vectors[query] for query in queries], dtype=np.float32).reshape(-1, self.dimension)

    def with_queries(self, queries: Sequence[str], tokens: bool = False) -> TokenStore:
        """This store with the vectors of ``queries`` at hand, with ``tokens`` for ``maxsim`` too: they cost no run of
        the model. For experiments that ask the same ones again and again, not for measuring latency."""
        other = copy(self)
        if tokens:  # from the same run of the model
            other._read_query = lru_cache(len(queries) + 2)(self._encode_query_tokens)
            other._query_vectors = {query: other._read_query(query)[2] for query in queries}
        else:
            other._query_vectors = dict(zip(queries, self.encode_queries(queries), strict=True))
        return other

    def _encode_query_tokens(self, query: str) -> tuple[Ids, Vectors, Vectors]:
        """Token ids, token vectors and the unit vector of a query, from one run of the model."""
        ids, _ = self.encoder.tokenize(query)
        pieces = split_evenly(ids, self.encoder.max_tokens)
        windows = dict(self.encoder.encode_windows(pieces, "query"))
        total = sum((windows[i].mean * max(1, len(piece)) for i, piece in enumerate(pieces)), np.zeros(self.dimension))
        tokens = np.concatenate([windows[i].tokens for i in range(len(pieces))])
        return ids, check_vectors(tokens, len(ids), self.encoder), unit(np.asarray(total))

    def idf(self, ids: Ids) -> Vectors:
        """How rare vocabulary ids are: ``ln(1 + (N - n + .5) / (n + .5))`` over passages of 128 tokens (as BM25)."""
        counts, passages = self._passage_counts
        n = np.where(ids < len(counts), counts[np.minimum(ids, len(counts) - 1)], 0)
        return np.log1p((passages - n + 0.5) / (n + 0.5)).astype(np.float32)

    # ---- inside

    def rows(self, chunks: Sequence[Chunk]) -> NDArray[np.int64]:
        """The rows ``[a, b)`` of each chunk's tokens, ``(n, 2)``.

        Raises:
            StoreMismatchError: a chunk's document is not in the store, or has another text there.
        """
        if not chunks:
            return np.zeros((0, 2), dtype=np.int64)
        place = np.array([self._known(chunk.doc_id) for chunk in chunks])
        for chunk, i in zip(chunks, place.tolist(), strict=True):
            if self._texts[i][chunk.start : chunk.end] != chunk.text:
                raise StoreMismatchError(
                    f"chunk {chunk.id}: the store's {chunk.doc_id!r} has another text there: "
                    "the chunk is of another version of the corpus; open the store of that one"
                )
        chars = self._chars[place]
        ends = [chars + [chunk.start for chunk in chunks], chars + [chunk.end for chunk in chunks]]
        return np.stack([np.searchsorted(self._starts, end) for end in ends], axis=1)

    def _known(self, doc_id: str) -> int:
        if doc_id not in self._place:
            raise StoreMismatchError(
                f"the store has no document {doc_id!r} (it has {len(self._place)} others): "
                "chunks and store must come from the same corpus"
            )
        return self._place[doc_id]

    def _grid(self, size: int) -> tuple[Vectors, NDArray[np.int64]]:
        """The windows of all documents, and the row at which each starts."""
        if size < 2:
            raise InputError(f"window size {size}: expected at least 2 tokens")
        if size not in self._grids:
            places, step = zip(self._first.tolist(), self._counts, strict=False), max(1, size // 2)
            starts = [np.arange(first, first + count - size + 1, step) for first, count in places]
            first = np.concatenate([np.zeros(0, dtype=np.int64), *starts])
            self._grids[size] = unit(self._sums.between(np.stack([first, first + size], axis=1))), first
        return self._grids[size]

    @cached_property
    def _passage_counts(self) -> tuple[NDArray[np.int64], int]:
        """In how many passages each vocabulary id occurs, and the number of passages."""
        rows = np.flatnonzero(self._rows.ids >= 0)
        ids, passage = self._rows.ids[rows], rows // _PASSAGE
        width = int(ids.max(initial=0)) + 1
        seen = np.unique(passage * width + ids)
        return np.bincount(seen % width, minlength=width), len(np.unique(passage))


# ---- building


def _settings(encoder: TokenEncoder) -> dict[str, Any]:
    """What two builds must share to share documents. An encoder that changes queries only says by ``passage_identity``
    whose passages it shares."""
    window = encoder.max_tokens
    return {
        "format": _FORMAT,
        "encoder": getattr(encoder, "passage_identity", encoder.identity),
        "window": window,
        "stride": window - window // 4,
        "dimension": encoder.dimension,
    }


def _path(place: Path, sha256: str) -> Path:
    return place / f"{sha256}.tokens"


def _different_texts(corpus: Corpus) -> list[tuple[str, str]]:
    """Digest and text of the documents of ``corpus``; of equal ones the last."""
    return list({d.sha256: d.text for d in reversed(corpus.documents)}.items())[::-1]


class _Rows(NamedTuple):
    """Tokens, one row each."""

    vectors: NDArray[np.int8]
    """``(n, d)``: times 127 over the largest component."""
    scales: NDArray[np.float32]
    """``(n,)``: what to multiply them with."""
    ids: Ids
    """``(n,)``: numbers in the vocabulary."""
    offsets: NDArray[np.int32]
    """``(n, 2)``: start and end in the text."""

    @classmethod
    def empty(cls, n: int, dimension: int) -> _Rows:
        """``n`` rows without a token: their id is -1."""
        vectors, scales = np.zeros((n, dimension), dtype=np.int8), np.zeros(n, dtype=np.float32)
        return cls(vectors, scales, np.full(n, -1, dtype=np.int32), np.zeros((n, 2), dtype=np.int32))

    def write(self, path: Path) -> None:
        """The arrays one after the other, and their CRC-32."""
        data = b"".join(array.tobytes() for array in self)
        atomic_write(path, data + zlib.crc32(data).to_bytes(_CRC, "little"))

    @classmethod
    def read(cls, path: Path, dimension: int) -> _Rows | None:
        """The arrays of a file; None where it is missing or damaged."""
        try:
            data = np.fromfile(path, dtype=np.uint8)
        except FileNotFoundError:
            return None
        n, rest = divmod(len(data) - _CRC, dimension + 16)
        if rest or zlib.crc32(data[:-_CRC].data).to_bytes(_CRC, "little") != data[-_CRC:].tobytes():
            return None
        borders = n * np.array([dimension, dimension + 4, dimension + 8, dimension + 16])
        vectors, scales, ids, offsets, _ = np.split(data, borders)
        shape = (n, dimension)
        return cls(
            vectors.view(np.int8).reshape(shape),
            scales.view(np.float32),
            ids.view(np.int32),
            offsets.view(np.int32).reshape(n, 2),
        )


def _read(place: Path, texts: Sequence[tuple[str, str]], dimension: int) -> dict[str, _Rows]:
    """The rows of those of ``(sha256, text)`` whose file is there and whole."""
    read = {sha256: _Rows.read(_path(place, sha256), dimension) for sha256, _ in texts}
    return {sha256: rows for sha256, rows in read.items() if rows is not None}


def _encode(texts: Sequence[tuple[str, str]], encoder: TokenEncoder, progress: bool) -> Iterator[tuple[str, _Rows]]:
    """The rows of each of ``(sha256, text)``; texts are encoded in groups, so that windows of equal length meet in a
    batch."""
    from tqdm.auto import tqdm

    tokenized = {sha256: encoder.tokenize(text) for sha256, text in texts}
    total = sum(len(ids) for ids, _ in tokenized.values())
    group: dict[str, _Rows] = {}
    waiting = 0
    with tqdm(total=total, desc="encoding", unit=" tokens", unit_scale=True, disable=not (progress and total)) as bar:
        for sha256, (ids, offsets) in tokenized.items():
            group[sha256] = rows = _Rows.empty(len(ids), encoder.dimension)
            rows.ids[:], rows.offsets[:] = ids, offsets
            waiting += len(ids)
            if waiting >= _GROUP_TOKENS or sha256 == texts[-1][0]:
                yield from _encode_group(group, encoder, bar)
                group, waiting = {}, 0


def _encode_group(group: Mapping[str, _Rows], encoder: TokenEncoder, bar: Any) -> Iterator[tuple[str, _Rows]]:
    """Fill in the vectors of all rows of ``group``; a document is yielded as soon as its last window is encoded."""
    size, stride = encoder.max_tokens, encoder.max_tokens - encoder.max_tokens // 4
    lengths = {sha256: len(rows.ids) for sha256, rows in group.items()}
    jobs = [(sha256, window) for sha256, n in lengths.items() if n for window in windows(n, size, stride)]
    waiting = Counter(sha256 for sha256, _ in jobs)
    yield from ((sha256, rows) for sha256, rows in group.items() if not waiting[sha256])
    for i, vectors in encoder.encode_windows([group[sha256].ids[start:end] for sha256, (start, end, _, _) in jobs]):
        sha256, (start, end, first, last) = jobs[i]
        rows = group[sha256]
        tokens = check_vectors(vectors.tokens, end - start, encoder)[first - start : last - start]
        rows.vectors[first:last], rows.scales[first:last] = quantise(tokens)
        bar.update(last - first)
        waiting[sha256] -= 1
        if not waiting[sha256]:
            yield sha256, rows


def quantise(vectors: Vectors) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """``vectors`` ``(n, d)`` as int8 with one float32 scale a row: ``vectors ~ int8 * scale``.

    >>> quantise(np.array([[1.0, -2.0]], dtype=np.float32))[0].tolist()
    [[64, -127]]
    """
    scales = np.abs(vectors).max(axis=1, initial=0).astype(np.float32) / 127
    rounded = np.rint(vectors / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8)
    return rounded, scales


def windows(tokens: int, size: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Windows ``(start, end, first, last)`` over ``tokens`` tokens; each owns the tokens ``[first, last)``.

    They all have the same length and are spread evenly, at most ``stride`` apart. Where two overlap, each
    token belongs to the one in which it stands further from a border.

    >>> windows(10, size=6, stride=4)
    [(0, 6, 0, 5), (4, 10, 5, 10)]
    """
    free = max(0, tokens - size)
    steps = math.ceil(free / stride)
    starts = [i * free // max(1, steps) for i in range(steps + 1)]
    ends = [min(tokens, start + size) for start in starts]
    borders = [0, *((end + start) // 2 for end, start in zip(ends[:-1], starts[1:], strict=True)), tokens]
    return list(zip(starts, ends, borders[:-1], borders[1:], strict=True))


# ---- sums and maxima over ranges of rows


class BlockSums:
    """Sums over any range of rows of ``vectors * scales[:, None]``, at a cost that does not depend on its length.

    The sum over rows ``[a, b)`` is ``prefix(b) - prefix(a)``. A prefix for every row would take eight times the room of
    the int8 vectors ``(n, d)``, so there is one for every 32nd row, and the few rows between a border and the nearest
    of these are added or taken away. ``n`` is a multiple of 32, and the last 32 rows are in no range.

    >>> sums = BlockSums(np.ones((96, 2), dtype=np.int8), np.full(96, 0.5, dtype=np.float32))
    >>> sums.between(np.array([[3, 50], [7, 7]])).tolist()
    [[23.5, 23.5], [0.0, 0.0]]
    """

    def __init__(self, vectors: NDArray[np.int8], scales: NDArray[np.float32]) -> None:
        self._vectors, self._scales = vectors, scales

    @cached_property
    def _prefixes(self) -> NDArray[np.float64]:
        """The sum of all rows before each block."""
        vectors = self._vectors.reshape(-1, _BLOCK, self._vectors.shape[1])
        scales = self._scales.reshape(-1, 1, _BLOCK)
        prefixes = np.zeros((len(vectors) + 1, vectors.shape[2]))
        for at in range(0, len(vectors), _GATHER):
            sums = scales[at : at + _GATHER] @ vectors[at : at + _GATHER].astype(np.float32)
            prefixes[at + 1 : at + 1 + len(sums)] = prefixes[at] + np.cumsum(sums[:, 0], axis=0, dtype=np.float64)
        return prefixes

    def between(self, rows: NDArray[np.int64]) -> Vectors:
        """The sum over rows ``[a, b)`` for each pair of ``rows`` ``(n, 2)``: ``(n, d)`` float32."""
        prefixes = self._prefixes
        borders, where = np.unique(rows, return_inverse=True)
        nearest = (borders + _BLOCK // 2) // _BLOCK
        few = self._few(borders, nearest * _BLOCK)
        sums: Vectors = np.zeros((len(rows), prefixes.shape[1]), dtype=np.float32)
        for at in range(0, len(rows), _GATHER):
            first, last = where.reshape(rows.shape)[at : at + _GATHER].T
            sums[at : at + _GATHER] = prefixes[nearest[last]] - prefixes[nearest[first]]
            sums[at : at + _GATHER] += few[last] - few[first]
        return sums

    def _few(self, borders: NDArray[np.int64], nearest: NDArray[np.int64]) -> Vectors:
        """The sum over the rows from each of ``nearest`` to its border, at most 16, negative where the border comes
        first."""
        offsets = np.arange(_BLOCK // 2)
        index = np.minimum(borders, nearest)[:, None] + offsets
        signs = np.where(offsets < np.abs(borders - nearest)[:, None], np.sign(borders - nearest)[:, None], 0)
        sums: Vectors = np.zeros((len(borders), self._vectors.shape[1]), dtype=np.float32)
        ragged = np.flatnonzero(borders != nearest)  # most windows of a grid begin and end where a block does
        for at in range(0, len(ragged), _GATHER):
            some = ragged[at : at + _GATHER]
            own = index[some]
            weights = (signs[some] * self._scales[own]).astype(np.float32)
            sums[some] = (weights[:, None] @ self._vectors[own].astype(np.float32))[:, 0]
        return sums


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


# ---- for ``ragkit doctor``


def stored_bytes(corpus: Corpus) -> int:
    """The bytes of the store of ``corpus`` that holds all of its documents, whatever the model; 0 where there is none.

    Raises:
        IntegrityError: a file of it is damaged.
    """
    for manifest in sorted((home() / "token_store").glob(f"*/{MANIFEST}")):
        paths = [_path(manifest.parent, sha256) for sha256, _ in _different_texts(corpus)]
        if all(path.is_file() for path in paths):
            dimension = int(read_settings(manifest.parent)["dimension"])
            if damaged := [path for path in paths if _Rows.read(path, dimension) is None]:
                raise IntegrityError(f"{damaged[0]} is damaged; it is encoded again when the store is opened")
            return sum(path.stat().st_size for path in paths)
    return 0


def unused_folders(root: Path) -> Iterator[tuple[Path, str]]:
    """Folders below ``root`` (``home()/token_store``) that this version does not read, and why."""
    for folder in sorted(root.glob("*/*.partial")):
        yield folder, "an unfinished build of an older version"
    for manifest in sorted((*root.glob(f"*/{MANIFEST}"), *root.glob(f"*/*/{MANIFEST}"))):
        try:
            written = read_settings(manifest.parent).get("format")
        except IntegrityError:
            continue
        if written != _FORMAT:
            yield manifest.parent, f"format {written}, this version reads {_FORMAT}"

"""The chunkers: one cutting loop (``layout.cut``), and for each chunker the borders that it prefers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Document, InputError, StoreMismatchError, Tokenizer
from ragkit.chunking.layout import Layout, cut, layout_of
from ragkit.tokens import minilm_tokenizer

Runs = list[tuple[int, int]]


class TokenVectors(Protocol):
    """The part of a token store that ``SemanticChunker`` reads."""

    @property
    def identity(self) -> str: ...

    def tokens(self, doc_id: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Character offsets ``(n, 2)`` and contextual vectors ``(n, d)`` of one document's tokens."""
        ...


@dataclass(frozen=True)
class _TokenChunker(ABC):
    """At most ``size`` tokens a chunk, at most ``overlap`` of them repeated from the chunk before.

    Raises:
        InputError: ``size`` < 1, or not 0 <= ``overlap`` < ``size``.
    """

    size: int = 512
    overlap: int = 64
    tokenizer: Tokenizer = field(default_factory=minilm_tokenizer, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise InputError(f"chunk size is {self.size!r}: expected a whole number of tokens, 1 or more")
        if not isinstance(self.overlap, int) or not 0 <= self.overlap < self.size:
            raise InputError(f"overlap is {self.overlap!r}: expected 0 to {self.size - 1}, less than the chunk size")

    def chunk(self, document: Document) -> list[Chunk]:
        """The chunks of ``document``, in order; none where it has no visible character."""
        layout = layout_of(document, self.tokenizer)
        if len(layout) == 0:  # nothing, or only characters that the tokenizer drops
            text = document.text.strip()
            start = document.text.find(text)
            spans = [(start, start + len(text))] if text else []
        else:
            runs = np.array(self._runs(layout, document))
            spans = list(zip(layout.starts[runs[:, 0]].tolist(), layout.ends[runs[:, 1]].tolist(), strict=True))
        paths = self._sections(document, spans)
        name, text, metadata = document.id, document.text, document.metadata
        return [Chunk(name, s, e, text[s:e], path, metadata) for (s, e), path in zip(spans, paths, strict=True)]

    @abstractmethod
    def _runs(self, layout: Layout, document: Document) -> Runs: ...

    def _sections(self, document: Document, spans: Runs) -> list[tuple[str, ...]]:
        return _paths(document, [start for start, _ in spans])


@dataclass(frozen=True)
class FixedChunker(_TokenChunker):
    """As many words as fit into ``size`` tokens, wherever that ends.

    >>> document = Document("d", "Tasks are retried. Workers are not.")
    >>> [c.text for c in FixedChunker(size=4, overlap=0).chunk(document)]
    ['Tasks are', 'retried.', 'Workers are not.']
    """

    def _runs(self, layout: Layout, document: Document) -> Runs:
        return cut(layout, self.size, self.overlap)


@dataclass(frozen=True)
class SentenceChunker(_TokenChunker):
    """As many whole sentences as fit; the overlap is whole sentences too.

    >>> document = Document("d", "Tasks are retried. Workers are not.")
    >>> [c.text for c in SentenceChunker(size=8, overlap=0).chunk(document)]
    ['Tasks are retried.', 'Workers are not.']
    """

    def _runs(self, layout: Layout, document: Document) -> Runs:
        return cut(layout, self.size, self.overlap, [layout.sentences])


@dataclass(frozen=True)
class RecursiveChunker(_TokenChunker):
    """Ends a chunk at a blank line, else at a line, else at a sentence, else at a word.

    A coarser border is taken if it leaves the chunk at least half full. This is the idea of LangChain's
    ``RecursiveCharacterTextSplitter``, read forwards in one pass instead of splitting and merging again.
    """

    def _runs(self, layout: Layout, document: Document) -> Runs:
        return _recursive(layout, self.size, self.overlap, [0])


@dataclass(frozen=True)
class HeadingChunker(_TokenChunker):
    """Never mixes two sections; a section longer than ``size`` is cut as ``RecursiveChunker`` cuts.

    ``chunk.section`` is the path of headings to the chunk's text. A heading without text of its own goes
    with the section that follows, and nothing overlaps across a heading. Without sections in the document
    it is a ``RecursiveChunker``.
    """

    def _runs(self, layout: Layout, document: Document) -> Runs:
        starts, bare = [0], False
        for section in document.sections:
            if not bare:
                starts.append(section.start)
            bare = not document.text[section.body : section.end].strip()
        return _recursive(layout, self.size, self.overlap, np.unique(layout.positions(starts)).tolist())

    def _sections(self, document: Document, spans: Runs) -> list[tuple[str, ...]]:
        return _paths(document, [end - 1 for _, end in spans])


@dataclass(frozen=True, init=False)
class SemanticChunker(_TokenChunker):
    """Cuts between two sentences where the text before and after is least alike.

    The likeness at a sentence border is the cosine of the mean token vectors of the ``window`` tokens on
    either side, read from a token store, so nothing is encoded for it. The border is a break if it is the
    lowest within ``window`` tokens and below mean - sd / 2 of its document: the cutoff of TextTiling (Hearst
    1997, "TextTiling: segmenting text into multi-paragraph subtopic passages", section 5.3) on vectors
    instead of word counts. Between breaks it cuts as ``RecursiveChunker`` does.

    Raises:
        StoreMismatchError: the store's tokens do not fit the document.
    """

    store: TokenVectors = field(repr=False, kw_only=True)
    window: int = 64

    def __init__(
        self,
        store: TokenVectors,
        size: int = 512,
        overlap: int = 0,
        window: int = 64,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        values = {"store": store, "size": size, "overlap": overlap, "window": window}
        for name, value in (values | {"tokenizer": tokenizer or minilm_tokenizer()}).items():
            object.__setattr__(self, name, value)
        self.__post_init__()
        if not isinstance(window, int) or window < 1:
            raise InputError(f"window is {window!r}: expected a whole number of tokens, 1 or more")

    def _runs(self, layout: Layout, document: Document) -> Runs:
        # Sizes change nothing about the breaks, so they are kept with the layout: a slider reads each vector once.
        key = f"breaks:{self.store.identity}:{self.window}"
        if key not in layout.derived:
            layout.derived[key] = self._breaks(layout, document)
        return _recursive(layout, self.size, self.overlap, [0, *layout.derived[key].tolist()])

    def _breaks(self, layout: Layout, document: Document) -> NDArray[np.int64]:
        offsets, vectors = self.store.tokens(document.id)
        if len(offsets) and offsets[-1, 1] > len(document.text):
            raise StoreMismatchError(
                f"the store's {document.id!r} has {offsets[-1, 1]} characters, the document {len(document.text)}: "
                "open the store for this corpus"
            )
        borders = layout.sentences.positions
        places = np.searchsorted(offsets[:, 0], layout.starts[borders])
        likeness = border_likeness(vectors, places, self.window)
        if not len(likeness):
            return borders
        low = np.flatnonzero(likeness < likeness.mean() - likeness.std() / 2)
        first = np.searchsorted(borders, borders[low] - self.window)
        last = np.searchsorted(borders, borders[low] + self.window, side="right")
        lowest = [a + int(np.argmin(likeness[a:b])) == i for i, a, b in zip(low, first, last, strict=True)]
        return borders[low[lowest]]


def border_likeness(vectors: NDArray[np.float32], places: NDArray[np.int64], window: int) -> NDArray[np.float64]:
    """Cosine ``(m,)`` between the mean vectors of the ``window`` tokens before and after each place.

    >>> border_likeness(np.eye(2, dtype=np.float32)[[0, 0, 1, 1]], np.array([1, 2]), window=1).tolist()
    [1.0, 0.0]
    """
    means = [(vectors[max(0, p - window) : p].mean(axis=0), vectors[p : p + window].mean(axis=0)) for p in places]
    return np.array([a @ b / max(float(np.sqrt((a @ a) * (b @ b))), 1e-12) for a, b in means], dtype=np.float64)


def _recursive(layout: Layout, size: int, overlap: int, starts: list[int]) -> Runs:
    """Cut each part that begins at one of ``starts`` on its own, at the coarsest border that fits."""
    levels = [layout.paragraphs, layout.lines, layout.sentences]
    parts = zip(starts, [*starts[1:], len(layout)], strict=True)
    return [run for i, j in parts for run in cut(layout, size, overlap, levels, fill=0.5, start=i, stop=j)]


def _paths(document: Document, offsets: Iterable[int]) -> list[tuple[str, ...]]:
    """The section paths at ``offsets``, all at once."""
    paths = [(), *(s.path for s in document.sections)]
    starts = [s.start for s in document.sections]
    return [paths[i] for i in np.searchsorted(starts, list(offsets), side="right").tolist()]

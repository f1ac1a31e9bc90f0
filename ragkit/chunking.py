"""Cutting documents into chunks, with exact character offsets: five chunkers over one cutting loop.

Sizes count in tokens of the embedding model. Whatever the chunker and the document:

- ``document.text[c.start:c.end] == c.text``, and chunk starts strictly increase;
- every visible character of the document is in some chunk;
- no chunk has more than ``size`` tokens (tokens of the document that begin within it);
- the same document gives the same chunks.

All but ``FixedChunker`` keep a fence of code or a table whole where it fits ``size``, and cut a longer one at line
ends. The chunkers are our own because the libraries tokenize again for every size (seconds instead of a tenth of
one, too slow for a slider) or find offsets afterwards by searching for the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain, pairwise
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.base import (
    Chunk,
    Chunker,
    ContractError,
    Corpus,
    Document,
    InputError,
    StoreMismatchError,
    Tokenizer,
    check_whole,
    is_whole,
)
from ragkit.markdown import blocks, sentences
from ragkit.tokens import minilm_tokenizer

Runs = list[tuple[int, int]]

_VISIBLE = re.compile(r"\S+")
_LINE = re.compile(r"[\r\n]\s*")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*|\r\s*\r\s*")


# Where a text may be cut. A chunk is the tokens [i, j); as text it runs from the first character of token i to the
# last visible character before token j. Characters that the tokenizer drops (control characters, some emoji parts)
# lie between two tokens and go with the token before them, so no visible character is ever lost.


class Borders:
    """Token ``positions`` (sorted) where a chunk may begin, and in O(1) the nearest one before and after.

    >>> words = Borders(np.array([0, 3, 5]), n_tokens=6)
    >>> words.before[4], words.after[4]
    (3, 5)
    """

    def __init__(self, positions: NDArray[np.int64], n_tokens: int) -> None:
        floor = np.zeros(n_tokens + 1, dtype=np.int32)
        ceil = np.full(n_tokens + 1, n_tokens, dtype=np.int32)
        floor[positions] = ceil[positions] = positions
        floor[n_tokens] = n_tokens
        # A memoryview reads one integer five times faster than an array does, and the cutting loop is scalar.
        self.before = np.maximum.accumulate(floor).data
        self.after = np.minimum.accumulate(ceil[::-1])[::-1].copy().data


class Layout:
    """The tokens of one text: ``starts (n,)`` and ``ends (n + 1,)`` in characters, and the tokens where it may be cut.

    ``starts[i]`` is the first visible character of token ``i``; ``ends[j]`` is where a chunk ends that stops
    before token ``j``. Tokens that begin at the same character (a Korean syllable is up to three) cannot be
    separated; tokens without a visible character are not counted.
    """

    def __init__(self, text: str, offsets: NDArray[np.int64]) -> None:
        self.text = text
        runs = np.array([m.span() for m in _VISIBLE.finditer(text)], dtype=np.int64).reshape(-1, 2)
        first = np.maximum.accumulate(offsets[:, 0]) if len(offsets) else np.empty(0, dtype=np.int64)
        run = np.searchsorted(runs[:, 1], first, side="right")
        first, run = first[run < len(runs)], run[run < len(runs)]
        starts = np.maximum(first, runs[run, 0])
        if len(starts):
            starts[starts == starts[0]] = runs[0, 0]
        borders = np.append(starts, len(text))
        run = np.searchsorted(runs[:, 0], borders, side="left") - 1
        ends = np.minimum(borders, runs[run, 1]) if len(runs) else borders
        self.starts: NDArray[np.int32] = starts.astype(np.int32)
        self.ends: NDArray[np.int32] = ends.astype(np.int32)
        self.breaks: dict[str, list[int]] = {}  # SemanticChunker's, by its store and window

    def __len__(self) -> int:
        return len(self.starts)

    def positions(self, characters: Iterable[int]) -> NDArray[np.int64]:
        """Token positions ``(m,)`` of the first token at or after each of ``characters``."""
        return np.searchsorted(self.starts, np.fromiter(characters, dtype=np.int32))

    def _at(self, characters: Iterable[int]) -> NDArray[np.int64]:
        inside = np.unique(self.positions(characters))
        return inside[(inside > 0) & (inside < len(self))]

    @cached_property
    def characters(self) -> NDArray[np.int64]:
        """Every token that does not share its first character with the token before it."""
        return np.flatnonzero(np.diff(self.starts, prepend=-1))

    @cached_property
    def words(self) -> NDArray[np.int64]:
        """Tokens that begin a word. Cutting only there keeps words whole, and makes a chunk that is
        tokenized on its own count what it counted within its document."""
        text = self.text
        return self._at(
            s
            for s in dict.fromkeys(self.starts.tolist())
            if not (s and text[s - 1].isalnum() and text[s].isalnum()) or "\u3400" <= text[s] <= "\u9fff"
        )

    @cached_property
    def sentences(self) -> NDArray[np.int64]:
        """Tokens that begin a sentence, a paragraph or a list item; within code and tables, a line."""
        sentence_starts = self._at(start for start, _ in sentences(self.text))
        inside = self.inside(len(self))
        return np.union1d(sentence_starts[~inside[sentence_starts]], self.lines[inside[self.lines]])

    @cached_property
    def lines(self) -> NDArray[np.int64]:
        return self._at(m.end() for m in _LINE.finditer(self.text))

    @cached_property
    def paragraphs(self) -> NDArray[np.int64]:
        """Tokens that follow a blank line."""
        return self._at(m.end() for m in _PARAGRAPH.finditer(self.text))

    @cached_property
    def _wholes(self) -> NDArray[np.int64]:
        """The tokens ``[first, last)`` ``(m, 2)`` of every block of code and every table."""
        places = [(b.start, b.end) for b in blocks(self.text) if b.kind in ("code", "table")]
        return self.positions(chain(*places)).reshape(-1, 2)

    def inside(self, size: int) -> NDArray[np.bool_]:
        """For each token ``(n + 1,)`` whether it is within a block of code or a table of at most ``size`` tokens."""
        wholes = self._wholes[np.diff(self._wholes, axis=1)[:, 0] <= size]
        change = np.zeros(len(self) + 2, dtype=np.int64)
        np.add.at(change, wholes[:, 0] + 1, 1)
        np.subtract.at(change, np.maximum(wholes[:, 1], wholes[:, 0] + 1), 1)
        return np.asarray(np.cumsum(change)[:-1] > 0)

    @cached_property
    def _plain(self) -> list[Borders]:
        return [Borders(self.words, len(self)), Borders(self.characters, len(self))]

    def borders(self, levels: Sequence[str], size: int) -> list[Borders]:
        """The borders of ``levels``, then words, then characters; with levels, none within what stays whole."""
        if not levels:
            return self._plain
        inside = self.inside(size)
        places = [getattr(self, level) for level in (*levels, "words", "characters")]
        return [Borders(at[~inside[at]], len(self)) for at in places]


def layout_of(document: Document, tokenizer: Tokenizer) -> Layout:
    """The layout of ``document``, tokenized on first use and then from memory."""
    return _layout(document.text, tokenizer)


@lru_cache(maxsize=2048)  # documents: six times the course's corpus; with all borders about 50 bytes a token
def _layout(text: str, tokenizer: Tokenizer) -> Layout:
    return Layout(text, tokenizer.offsets(text))


def cut(borders: Sequence[Borders], size: int, overlap: int, start: int, stop: int, fill: float = 0.0) -> Runs:
    """Cut the tokens ``[start, stop)`` into runs ``[i, j)`` of at most ``size`` tokens.

    ``borders`` are some levels from coarse to fine, then words, then characters. Each run ends at the last border
    within reach of the first level that has one and leaves the run more than ``fill * size`` long; where no
    level has one it ends between two words, and in the middle of a word only where the word is longer than
    ``size``. The next run begins at the first border of the last level (without levels: at the first word) that
    repeats at most ``overlap`` tokens.

    >>> words = Borders(np.arange(5), n_tokens=5)
    >>> cut([words, words], size=2, overlap=1, start=0, stop=5)
    [(0, 2), (1, 3), (2, 4), (3, 5)]
    """
    least = int(fill * size)
    ladder = [(level.before, least) for level in borders[:-2]] + [(level.before, 0) for level in borders[-2:]]
    repeat, last = borders[max(0, len(borders) - 3)].after, borders[-1].after
    runs: Runs = []
    i = start
    while i < stop:
        reach = i + size
        if reach >= stop:
            runs.append((i, stop))
            break
        for before, shortest in ladder:
            j = before[reach]
            if j > i + shortest:
                break
        else:
            j = min(last[i + 1], stop)  # one character of more tokens than ``size``: it cannot be cut
        if runs and j <= runs[-1][1]:  # all of it would be repeated: begin where the last run ended
            i = runs[-1][1]
            continue
        runs.append((i, j))
        i = min(repeat[max(j - overlap, i + 1)], j)
    return runs


class _TokenChunker:
    """What the five share: at most ``size`` tokens a chunk, at most ``overlap`` of them repeated from the one before.

    Raises:
        InputError: ``size`` < 1, or not 0 <= ``overlap`` < ``size``.
    """

    size: int
    overlap: int
    tokenizer: Tokenizer
    levels: ClassVar[tuple[str, ...]] = ()
    fill: ClassVar[float] = 0.0
    section_of_end: ClassVar[bool] = False  # else a chunk's section is that of its first character

    def __post_init__(self) -> None:
        check_whole(self.size, "chunk size in tokens")
        if not is_whole(self.overlap) or not 0 <= self.overlap < self.size:
            raise InputError(f"overlap is {self.overlap!r}: expected 0 to {self.size - 1}, less than the chunk size")

    def chunk(self, document: Document) -> list[Chunk]:
        """The chunks of ``document``, in order; none where it has no visible character."""
        layout, text = layout_of(document, self.tokenizer), document.text
        if len(layout):
            starts, ends = layout.starts.data, layout.ends.data
            spans = [(starts[i], ends[j]) for i, j in self._runs(layout, document)]
        else:  # nothing, or only characters that the tokenizer drops
            start = len(text) - len(text.lstrip())
            spans = [(start, len(text.rstrip()))] if text.strip() else []
        paths = [document.section_at(end - 1 if self.section_of_end else start) for start, end in spans]
        name, metadata = document.id, document.metadata
        parts = [(document.sections_in(start, end), document.pages_in(start, end)) for start, end in spans]
        return [
            Chunk(name, start, end, text[start:end], path, metadata, sections, pages)
            for (start, end), path, (sections, pages) in zip(spans, paths, parts, strict=True)
        ]

    def _runs(self, layout: Layout, document: Document) -> Runs:
        size, overlap = int(self.size), int(self.overlap)
        borders, parts = layout.borders(self.levels, size), [*self._parts(layout, document), len(layout)]
        return [run for i, j in pairwise(parts) for run in cut(borders, size, overlap, i, j, self.fill)]

    def _parts(self, layout: Layout, document: Document) -> list[int]:
        """The tokens at which parts begin that are cut on their own; the first is 0."""
        return [0]


@dataclass(frozen=True)
class _Simple(_TokenChunker):
    size: int = 512
    overlap: int = 64
    tokenizer: Tokenizer = field(default_factory=minilm_tokenizer, repr=False)


@dataclass(frozen=True)
class FixedChunker(_Simple):
    """As many words as fit into ``size`` tokens, wherever that ends.

    >>> document = Document("d", "Tasks are retried. Workers are not.")
    >>> [c.text for c in FixedChunker(size=4, overlap=0).chunk(document)]
    ['Tasks are', 'retried.', 'Workers are not.']
    """


@dataclass(frozen=True)
class SentenceChunker(_Simple):
    """As many whole sentences as fit; the overlap is whole sentences too.

    >>> document = Document("d", "Tasks are retried. Workers are not.")
    >>> [c.text for c in SentenceChunker(size=8, overlap=0).chunk(document)]
    ['Tasks are retried.', 'Workers are not.']
    """

    levels = ("sentences",)


@dataclass(frozen=True)
class RecursiveChunker(_Simple):
    """Ends a chunk at a blank line, else at a line, else at a sentence, else at a word.

    A coarser border is taken if it leaves the chunk at least half full. This is the idea of LangChain's
    ``RecursiveCharacterTextSplitter``, read forwards in one pass instead of splitting and merging again.
    """

    levels = ("paragraphs", "lines", "sentences")
    fill = 0.5


@dataclass(frozen=True)
class HeadingChunker(RecursiveChunker):
    """Never mixes two sections; a section longer than ``size`` is cut as ``RecursiveChunker`` cuts.

    ``chunk.section`` is the path of headings to the chunk's text. The sections are ``Document.visible_sections``, and
    nothing overlaps across a heading. Without sections in the document it is a ``RecursiveChunker``.
    """

    section_of_end = True

    def _parts(self, layout: Layout, document: Document) -> list[int]:
        starts = [0, *(section.start for section in document.visible_sections)]
        parts: list[int] = np.unique(layout.positions(starts)).tolist()
        return parts


class TokenVectors(Protocol):
    """The part of a token store that ``SemanticChunker`` reads."""

    @property
    def identity(self) -> str: ...

    def tokens(self, doc_id: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Character offsets ``(n, 2)`` and contextual vectors ``(n, d)`` of one document's tokens."""
        ...


@dataclass(frozen=True)
class SemanticChunker(_TokenChunker):
    """Cuts between two sentences where the text before and after is least alike.

    The likeness at a sentence border is the cosine of the mean token vectors of the ``window`` tokens on
    either side, read from a token store, so nothing is encoded for it. The border is a break if it is the
    lowest within ``window`` tokens and below mean - sd / 2 of all borders of its document. (The idea is that of
    TextTiling, Hearst 1997, on vectors instead of word counts; there the cutoff is on depth scores, how far a
    border lies below the peaks on both sides, which lets more borders pass.) Between breaks it cuts as
    ``RecursiveChunker`` does.

    Raises:
        StoreMismatchError: the store's tokens do not fit the document.
    """

    store: TokenVectors = field(repr=False)
    size: int = 512
    overlap: int = 0
    window: int = 64
    tokenizer: Tokenizer = field(default_factory=minilm_tokenizer, repr=False)

    levels = RecursiveChunker.levels
    fill = RecursiveChunker.fill

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self.window, "window")

    def _parts(self, layout: Layout, document: Document) -> list[int]:
        # Sizes change nothing about the breaks, so they stay with the layout: a slider reads each vector once.
        key = f"{self.store.identity}:{self.window}"
        if key not in layout.breaks:
            layout.breaks[key] = self._breaks(layout, document)
        return [0, *layout.breaks[key]]

    def _breaks(self, layout: Layout, document: Document) -> list[int]:
        offsets, vectors = self.store.tokens(document.id)
        if len(offsets) and offsets[-1, 1] > len(document.text):
            raise StoreMismatchError(
                f"the store's {document.id!r} has {offsets[-1, 1]} characters, the document {len(document.text)}: "
                "open the store for this corpus"
            )
        borders = layout.sentences[~layout.inside(len(layout))[layout.sentences]]
        if not len(borders):
            return []
        likeness = border_likeness(vectors, np.searchsorted(offsets[:, 0], layout.starts[borders]), self.window)
        low = np.flatnonzero(likeness < likeness.mean() - likeness.std() / 2)
        first = np.searchsorted(borders, borders[low] - self.window)
        last = np.searchsorted(borders, borders[low] + self.window, side="right")
        lowest = [a + int(np.argmin(likeness[a:b])) == i for i, a, b in zip(low, first, last, strict=True)]
        breaks: list[int] = borders[low[lowest]].tolist()
        return breaks


def border_likeness(vectors: NDArray[np.float32], places: NDArray[np.int64], window: int) -> NDArray[np.float64]:
    """Cosine ``(m,)`` between the mean vectors of the ``window`` tokens before and after each place.

    >>> border_likeness(np.eye(2, dtype=np.float32)[[0, 0, 1, 1]], np.array([1, 2]), window=1).tolist()
    [1.0, 0.0]
    """
    means = [(vectors[max(0, p - window) : p].mean(axis=0), vectors[p : p + window].mean(axis=0)) for p in places]
    return np.array([a @ b / max(float(np.sqrt((a @ a) * (b @ b))), 1e-12) for a, b in means], dtype=np.float64)


def chunk_corpus(chunker: Chunker, corpus: Corpus) -> list[Chunk]:
    """The chunks of all documents, in order, each document checked by ``check_chunks``.

    Sizes are checked where the chunker has ``size`` and ``tokenizer``, as all of ragkit's have.

    Raises:
        ContractError: the chunker lost text, changed it, or cut too long; the message has the position.
    """
    size, tokenizer = getattr(chunker, "size", None), getattr(chunker, "tokenizer", None)
    chunks: list[Chunk] = []
    for document in corpus.documents:
        own = chunker.chunk(document)
        check_chunks(document, own, size, tokenizer)
        chunks += own
    return chunks


def check_chunks(
    document: Document, chunks: Sequence[Chunk], size: int | None = None, tokenizer: Tokenizer | None = None
) -> None:
    """Refuse chunks that break the contract.

    1. ``document.text[c.start:c.end] == c.text``, not blank, and ``c.doc_id`` is the document's.
    2. Starts strictly increase.
    3. Every visible (non-whitespace) character is in some chunk.
    4. With ``size`` and ``tokenizer``: at most ``size`` tokens. A chunk has the tokens of its document that
       begin within it. One character that alone has more tokens is let through, as it cannot be cut.

    Raises:
        ContractError: names the rule, the chunk and the position in the text.
    """
    text, covered, previous = document.text, 0, -1
    for chunk in chunks:
        start, end = chunk.start, chunk.end
        if chunk.doc_id != document.id or text[start:end] != chunk.text or len(chunk.text) != end - start:
            raise _broken(document, chunk, "its text is not the document's at these characters")
        if not chunk.text.strip():
            raise _broken(document, chunk, "it is blank: leave it out")
        if start <= previous:
            raise _broken(document, chunk, f"it does not start after the chunk before it, which starts at {previous}")
        _check_gap(document, covered, start)
        covered, previous = max(covered, end), start
    _check_gap(document, covered, len(text))
    if size is not None and tokenizer is not None:
        _check_sizes(document, chunks, size, layout_of(document, tokenizer))


def _broken(document: Document, chunk: Chunk, rule: str) -> ContractError:
    return ContractError(f"a chunk of {document.id!r}, {chunk.id}: {rule}")


def _check_gap(document: Document, start: int, end: int) -> None:
    if start < end and (lost := document.text[start:end].strip()):
        at = document.text.index(lost, start)
        raise ContractError(f"chunks of {document.id!r}: the text {lost[:40]!r} at position {at} is in no chunk")


def _check_sizes(document: Document, chunks: Sequence[Chunk], size: int, layout: Layout) -> None:
    first, last = layout.positions(chain((c.start for c in chunks), (c.end for c in chunks))).reshape(2, -1)
    for i in np.flatnonzero(last - first > size).tolist():
        if layout.starts[first[i]] != layout.starts[last[i] - 1]:
            raise _broken(document, chunks[i], f"it has {last[i] - first[i]} tokens: expected at most {size}")

"""Where a document may be cut: its tokens and words, found once and kept for every later chunk size.

Everything here counts in token positions. A chunk is the tokens ``[i, j)``; as text it runs from the first
character of token ``i`` to the last visible character before token ``j``. Characters that the tokenizer
drops (control characters, some emoji parts) lie between two tokens and go with the token before them, so
no visible character is ever lost.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from functools import cached_property
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Document, Tokenizer

_VISIBLE = re.compile(r"\S+")
_LINE = re.compile(r"[\r\n]\s*")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*|\r\s*\r\s*")
_ITEM = r"\n\s*(?=[-*•]\s|\d+[.)]\s)"
_SENTENCE = re.compile(rf"""[.!?…]['")\]”’»]*\s+(?=[\W_]*[^\W_a-z])|[。！？]\s*|{_PARAGRAPH.pattern}|{_ITEM}""")


class Borders:
    """Token ``positions`` (sorted) where a chunk may begin, and in O(1) the nearest one before and after.

    >>> words = Borders(np.array([0, 3, 5]), n_tokens=6)
    >>> words.before[4], words.after[4]
    (3, 5)
    """

    def __init__(self, positions: NDArray[np.int64], n_tokens: int) -> None:
        self.positions = positions
        floor = np.zeros(n_tokens + 1, dtype=np.int32)
        ceil = np.full(n_tokens + 1, n_tokens, dtype=np.int32)
        floor[positions] = ceil[positions] = positions
        floor[n_tokens] = n_tokens
        # A memoryview reads one integer five times faster than an array does, and the cutting loop is scalar.
        self.before = np.maximum.accumulate(floor).data
        self.after = np.minimum.accumulate(ceil[::-1])[::-1].copy().data


class Layout:
    """The tokens of one text: ``starts (n,)`` and ``ends (n + 1,)`` in characters.

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
        self.derived: dict[str, NDArray[np.int64]] = {}  # what others found in this text, kept as long as it is

    def __len__(self) -> int:
        return len(self.starts)

    def count(self, starts: Iterable[int], ends: Iterable[int]) -> NDArray[np.int64]:
        """The sizes ``(m,)`` of the chunks ``[start, end)``: the tokens that begin within them."""
        return self.positions(ends) - self.positions(starts)

    def at(self, characters: Iterable[int]) -> Borders:
        """Borders at the first token that begins at or after each of ``characters``."""
        inside = np.unique(self.positions(characters))
        return Borders(inside[(inside > 0) & (inside < len(self))], len(self))

    def positions(self, characters: Iterable[int]) -> NDArray[np.int64]:
        """Token positions ``(m,)`` of the first token at or after each of ``characters``."""
        return np.searchsorted(self.starts, np.fromiter(characters, dtype=np.int64)).astype(np.int64)

    @cached_property
    def characters(self) -> Borders:
        """Every token that does not share its first character with the token before it."""
        return Borders(np.flatnonzero(np.diff(self.starts, prepend=-1)), len(self))

    @cached_property
    def words(self) -> Borders:
        """Tokens that begin a word. Cutting only there keeps words whole, and makes a chunk that is
        tokenized on its own count what it counted within its document."""
        text = self.text
        return self.at(
            s
            for s in dict.fromkeys(self.starts.tolist())
            if not (s and text[s - 1].isalnum() and text[s].isalnum()) or "\u3400" <= text[s] <= "\u9fff"
        )

    @cached_property
    def sentences(self) -> Borders:
        """Tokens that begin a sentence, a paragraph or a list item, by punctuation and layout."""
        return self.at(m.end() for m in _SENTENCE.finditer(self.text))

    @cached_property
    def lines(self) -> Borders:
        return self.at(m.end() for m in _LINE.finditer(self.text))

    @cached_property
    def paragraphs(self) -> Borders:
        """Tokens that follow a blank line."""
        return self.at(m.end() for m in _PARAGRAPH.finditer(self.text))


class _Layouts:
    """The layouts used last, up to ``limit`` tokens in all, by tokenizer and text."""

    def __init__(self, limit: int) -> None:
        self.limit, self.tokens = limit, 0
        self.kept: OrderedDict[tuple[str, str], Layout] = OrderedDict()
        self.lock = Lock()

    def get(self, document: Document, tokenizer: Tokenizer) -> Layout:
        key = (tokenizer.identity, document.sha256)
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
        layout = Layout(document.text, tokenizer.offsets(document.text))
        with self.lock:
            if key not in self.kept:
                self.kept[key] = layout
                self.tokens += len(layout)
            while self.tokens > self.limit and len(self.kept) > 1:
                self.tokens -= len(self.kept.popitem(last=False)[1])
        return layout


# 4 million tokens are about four times the course's corpus and, with all borders, about 200 MB.
_LAYOUTS = _Layouts(4_000_000)


def layout_of(document: Document, tokenizer: Tokenizer) -> Layout:
    """The layout of ``document``, tokenized on first use and then from memory."""
    return _LAYOUTS.get(document, tokenizer)


def cut(
    layout: Layout,
    size: int,
    overlap: int,
    levels: Iterable[Borders] = (),
    fill: float = 0.0,
    start: int = 0,
    stop: int | None = None,
) -> list[tuple[int, int]]:
    """Cut the tokens ``[start, stop)`` into runs ``[i, j)`` of at most ``size`` tokens.

    Each run ends at the last border within reach of the first of ``levels`` that has one and leaves the run
    more than ``fill * size`` long; where no level has one it ends between two words, and in the middle
    of a word only where the word is longer than ``size``. The next run begins at the first border of the last
    level that repeats at most ``overlap`` tokens.

    >>> text = "one two three four five"
    >>> layout = Layout(text, np.array([m.span() for m in _VISIBLE.finditer(text)]))
    >>> cut(layout, size=2, overlap=1)
    [(0, 2), (1, 3), (2, 4), (3, 5)]
    """
    stop = len(layout) if stop is None else stop
    words, characters = layout.words, layout.characters
    named = list(levels)
    repeat = (named[-1] if named else words).after
    ladder = [(level.before, int(fill * size)) for level in named] + [(words.before, 0), (characters.before, 0)]
    last = characters.after
    runs = []
    i = start
    while i < stop:
        reach = i + size
        if reach >= stop:
            runs.append((i, stop))
            break
        for before, least in ladder:
            j = before[reach]
            if j > i + least:
                break
        else:
            j = min(last[i + 1], stop)  # one character of more tokens than ``size``: it cannot be cut
        if runs and j <= runs[-1][1]:  # all of it would be repeated: begin where the last run ended
            i = runs[-1][1]
            continue
        runs.append((i, j))
        i = min(repeat[max(j - overlap, i + 1)], j)
    return runs

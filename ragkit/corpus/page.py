"""A page as plain text that knows its sections, whatever it was written in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ragkit.base import Section


@dataclass(frozen=True)
class FAQ:
    """A question heading that was taken out, and the characters of its answer (``start == end``: it has none)."""

    question: str
    start: int
    end: int


@dataclass(frozen=True)
class Page:
    """The text of one file with its sections and, from an FAQ page, its questions."""

    text: str
    title: str
    sections: tuple[Section, ...]
    questions: tuple[FAQ, ...] = ()


def fold(text: str) -> str:
    """Text as it counts when two lines are compared: letters and digits in one case.

    >>> fold("- How do I **stop** it?")
    'how do i stop it'
    """
    return " ".join(re.findall(r"\w+", text.casefold()))


def covering(starts: Iterable[tuple[tuple[str, ...], int, int]], length: int) -> tuple[Section, ...]:
    """Sections from ``(path, start, body)`` in order: each ends where the next starts, empty ones are left out."""
    marks = [(path, min(start, length), min(body, length)) for path, start, body in starts]
    ends = [*(start for _, start, _ in marks[1:]), length]
    return tuple(
        Section(path, start, min(body, end), end)
        for (path, start, body), end in zip(marks, ends, strict=True)
        if start < end
    )


def outline(blocks: Iterable[tuple[int, str]]) -> Page:
    """A page from blocks in order: ``(0, text)``, or ``(1..6, heading)`` with the heading's level.

    >>> page = outline([(1, "Guide"), (0, "Hello."), (2, "Stop"), (0, "Press q.")])
    >>> page.title, [s.path for s in page.sections]
    ('Guide', [('Guide',), ('Guide', 'Stop')])
    """
    parts: list[str] = []
    length = 0
    path: list[tuple[int, str]] = []
    starts: list[tuple[tuple[str, ...], int, int]] = [((), 0, 0)]
    for level, block in blocks:
        if not block.strip():
            continue
        start = length + 2 if parts else 0
        parts.append(block)
        length = start + len(block)
        if level:
            path = [*(p for p in path if p[0] < level), (level, block)]
            starts.append((tuple(name for _, name in path), start, length + 2))
    title = next((p[-1] for p, _, _ in starts if p), "")
    return Page("\n\n".join(parts), title, covering(starts, length))

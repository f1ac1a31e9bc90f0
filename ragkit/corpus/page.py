"""A page made of blocks with headings."""

from __future__ import annotations

from collections.abc import Iterable

from ragkit.corpus.markup import FAQ, Page, fold
from ragkit.markdown import covering

__all__ = ["FAQ", "Page", "covering", "fold", "outline"]


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

"""The chunkers: one cutting loop, and for each chunker the borders that it prefers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from ragkit.base import Chunk, Document, InputError, Tokenizer
from ragkit.chunking.layout import Layout, cut, layout_of
from ragkit.tokens import minilm_tokenizer

Runs = list[tuple[int, int]]


@dataclass(frozen=True)
class _TokenChunker(ABC):
    """At most ``size`` tokens a chunk, at most ``overlap`` of them repeated from the chunk before."""

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
            runs = np.array(self._runs(layout, document)).reshape(-1, 2)
            spans = list(zip(layout.starts[runs[:, 0]].tolist(), layout.ends[runs[:, 1]].tolist(), strict=True))
        return _chunks(document, spans)

    @abstractmethod
    def _runs(self, layout: Layout, document: Document) -> Runs: ...


@dataclass(frozen=True)
class FixedChunker(_TokenChunker):
    """As many words as fit into ``size`` tokens, wherever that ends.

    >>> document = Document("d", "Tasks are retried. Workers are not.")
    >>> [c.text for c in FixedChunker(size=4, overlap=0).chunk(document)]
    ['Tasks are', 'retried.', 'Workers are not.']
    """

    def _runs(self, layout: Layout, document: Document) -> Runs:
        return cut(layout, self.size, self.overlap)


def _chunks(document: Document, spans: list[tuple[int, int]]) -> list[Chunk]:
    name, text, metadata = document.id, document.text, document.metadata
    paths = [(), *(s.path for s in document.sections)]
    at = np.searchsorted([s.start for s in document.sections], [s for s, _ in spans], side="right").tolist()
    return [Chunk(name, s, e, text[s:e], paths[i], metadata) for (s, e), i in zip(spans, at, strict=True)]

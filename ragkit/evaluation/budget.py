"""Ranked lists at equal context tokens: searched until they fill a budget, and cut at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Hit, Tokenizer
from ragkit.evaluation.metrics import covered

BUDGET = 2000
"""Context tokens at which chunk sizes are compared, unless somebody says otherwise: what a generator reads."""


@dataclass(frozen=True)
class CountedOnce:
    """A tokenizer that counts each text once: systems on the same chunks return the same texts again and again."""

    tokenizer: Tokenizer
    counts: dict[str, int] = field(default_factory=dict, repr=False)

    @property
    def identity(self) -> str:
        return self.tokenizer.identity

    def offsets(self, text: str) -> NDArray[np.int64]:
        """Character offsets ``(n_tokens, 2)`` of the tokens."""
        return self.tokenizer.offsets(text)

    def count(self, text: str) -> int:
        if text not in self.counts:
            self.counts[text] = self.tokenizer.count(text)
        return self.counts[text]

    def total(self, hits: Sequence[Hit]) -> int:
        """The tokens of all ``hits``; what two of them share counts twice."""
        return sum(self.count(hit.chunk.text) for hit in hits)


def cut(hits: Sequence[Hit], budget: int, tokenizer: CountedOnce) -> tuple[Hit, ...]:
    """The first ``budget`` tokens of a list; the chunk that crosses the line is cut at it."""
    shown: list[Hit] = []
    for hit in hits:
        if budget <= 0:
            break
        tokens, chunk = tokenizer.count(hit.chunk.text), hit.chunk
        if tokens > budget:
            end = int(tokenizer.offsets(chunk.text)[budget - 1][1])
            chunk = replace(chunk, end=chunk.start + end, text=chunk.text[:end])
        shown.append(replace(hit, chunk=chunk))
        budget -= tokens
    return tuple(shown)


def fill(
    search: Callable[[int], Sequence[Hit]], hits: Sequence[Hit], k: int, budget: int, tokenizer: CountedOnce
) -> Sequence[Hit]:
    """``hits``, the first ``k``, or ``search(depth)`` with a ``depth`` that doubles until the list has ``budget``
    tokens without what its chunks share, or has all there is."""
    depth = k
    while len(hits) == depth and _distinct(hits, tokenizer) < budget:
        depth *= 2
        deeper = search(depth)
        hits = deeper if len(deeper) > len(hits) else hits
    return hits


def _distinct(hits: Sequence[Hit], tokenizer: CountedOnce) -> float:
    """The tokens of ``hits`` without their overlaps, by the share of their characters."""
    spans = [hit.chunk.span for hit in hits]
    return tokenizer.total(hits) * covered(spans) / max(1, sum(map(len, spans)))

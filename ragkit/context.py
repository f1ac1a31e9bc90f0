"""From hits to what the generator reads: numbered sources within a token budget, no character shown twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ragkit.base import Chunk, Context, Hit, InputError, Tokenizer
from ragkit.prompts import render
from ragkit.tokens import minilm_tokenizer


def build_context(
    hits: Sequence[Hit],
    budget: int = 2000,
    tokenizer: Tokenizer | None = None,
    order: Literal["best_first", "best_outside"] = "best_first",
) -> Context:
    """Numbered sources within ``budget`` tokens, best hits first, no character shown twice.

    Chunks of one document that overlap or touch become one source, at the rank of the best of them; a text that a
    source already holds is left out. The first chunk that no longer fits is cut at a line (or a token), and the rest
    is dropped. ``order="best_outside"`` puts the best sources at both ends, since models read the middle least
    (Liu et al. 2023, Lost in the Middle, arXiv 2307.03172).

    Args:
        hits: best first.
        budget: tokens of ``Context.text``, at most, counted by ``tokenizer`` (None: the packaged model's).

    Raises:
        InputError: ``budget`` < 1, or an unknown ``order``.

    >>> def hit(start, text):
    ...     return Hit(Chunk("a", start, start + len(text), text), 1.0)
    >>> [h.chunk.text for h in build_context([hit(0, "one two "), hit(4, "two three")]).hits]
    ['one two three']
    """
    if budget < 1:
        raise InputError(f"budget is {budget!r}: expected 1 token or more")
    if order not in ("best_first", "best_outside"):
        raise InputError(f"order is {order!r}: expected 'best_first' or 'best_outside'")
    tokenizer = tokenizer or minilm_tokenizer()
    meter, kept = _Meter(tokenizer), list[Hit]()
    for hit in hits:
        grown = _with(kept, hit)
        if meter(grown) <= budget:
            kept = grown
            continue
        kept = _with_part(kept, hit, budget, meter)
        break
    while True:
        shown = kept[::2] + kept[1::2][::-1] if order == "best_outside" else kept
        text = render([h.chunk for h in shown])
        if (tokens := tokenizer.count(text)) <= budget:
            return Context(text, tuple(shown), tokens)
        kept = kept[:-1]  # the sum was too low: the tokenizer joins words across lines


class _Meter:
    """The tokens of sources, each counted once however often the list around it changes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._counted: dict[str, int] = {}

    def __call__(self, hits: Sequence[Hit]) -> int:
        for hit in hits:
            if hit.chunk.id not in self._counted:
                self._counted[hit.chunk.id] = self.tokenizer.count(render([hit.chunk]))
        return sum(self._counted[hit.chunk.id] for hit in hits)


def _with(kept: list[Hit], hit: Hit) -> list[Hit]:
    """``kept`` and ``hit``, joined with every source of its document that it overlaps or touches."""
    if any(hit.chunk.text in h.chunk.text for h in kept):
        return kept
    chunk, rank, rest = hit.chunk, len(kept), []
    for i, other in enumerate(kept):
        if other.chunk.doc_id == chunk.doc_id and other.chunk.start <= chunk.end and chunk.start <= other.chunk.end:
            chunk, rank = _union(other.chunk, chunk), min(rank, i)
        else:
            rest.append(other)
    best = kept[rank] if rank < len(kept) else hit
    return [*rest[:rank], replace(best, chunk=chunk), *rest[rank:]]


def _union(a: Chunk, b: Chunk) -> Chunk:
    first, second = (a, b) if (a.start, -a.end) <= (b.start, -b.end) else (b, a)
    if second.end <= first.end:
        return first
    return replace(first, end=second.end, text=first.text + second.text[first.end - second.start :])


def _with_part(kept: list[Hit], hit: Hit, budget: int, meter: _Meter) -> list[Hit]:
    """``kept`` and as much of ``hit``'s beginning as the budget allows, found by bisection over its tokens."""
    ends = [int(end) for end in meter.tokenizer.offsets(hit.chunk.text)[:, 1]]
    best, low, high = kept, 0, len(ends)
    while low < high:
        middle = (low + high) // 2
        text = _to_line(hit.chunk.text, ends[middle])
        cut = replace(hit, chunk=replace(hit.chunk, end=hit.chunk.start + len(text), text=text))
        grown = _with(kept, cut)
        if meter(grown) <= budget:
            best, low = grown, middle + 1
        else:
            high = middle
    return best


def _to_line(text: str, end: int) -> str:
    """``text[:end]``, cut back to the last full line where that keeps at least half of it."""
    line = text.rfind("\n", 0, end)
    return text[:line] if line >= end / 2 else text[:end]

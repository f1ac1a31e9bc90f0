"""From hits to what the generator reads: numbered sources within a token budget, no character shown twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from ragkit.base import Chunk, Context, Hit, InputError, Tokenizer
from ragkit.generation.prompts import render
from ragkit.tokens import minilm_tokenizer


def build_context(hits: Sequence[Hit], budget: int = 2000, tokenizer: Tokenizer | None = None) -> Context:
    """Numbered sources within ``budget`` tokens, best hits first, no character shown twice.

    Chunks of one document that overlap or touch become one source, at the rank of the best of them; a text that a
    source already holds is left out. The first chunk that no longer fits is cut at a line (or a token), and the rest
    is dropped: a worse source must not stand where a better one had no room.

    Args:
        hits: best first.
        budget: tokens of ``Context.text``, at most, counted by ``tokenizer`` (None: the packaged model's).

    Raises:
        InputError: ``budget`` < 1.

    >>> def hit(start, text):
    ...     return Hit(Chunk("a", start, start + len(text), text), 1.0)
    >>> [h.chunk.text for h in build_context([hit(0, "one two "), hit(4, "two three")]).hits]
    ['one two three']
    """
    if budget < 1:
        raise InputError(f"budget is {budget!r}: expected 1 token or more")
    tokenizer = tokenizer or minilm_tokenizer()
    count = cache(lambda chunk: tokenizer.count(render([chunk]) + "\n"))

    def excess(sources: Sequence[Hit]) -> int:
        return sum(count(hit.chunk) for hit in sources) - budget

    sources: list[Hit] = []
    for hit in hits:
        grown = _add(sources, hit)
        if excess(grown) > 0:
            sources = _add_part(sources, hit, tokenizer, excess)
            break
        sources = grown
    return Context(render([hit.chunk for hit in sources]), tuple(sources), budget + excess(sources))


def _add(sources: list[Hit], hit: Hit) -> list[Hit]:
    """``sources`` and ``hit``, joined with every source of its document that it overlaps or touches."""
    if any(hit.chunk.text in h.chunk.text for h in sources):
        return sources
    chunk, rank, rest = hit.chunk, len(sources), []
    for i, other in enumerate(sources):
        if (joined := _union(other.chunk, chunk)) is not None:
            chunk, rank = joined, min(rank, i)
        else:
            rest.append(other)
    best = sources[rank] if rank < len(sources) else hit
    return [*rest[:rank], replace(best, chunk=chunk), *rest[rank:]]


def _union(a: Chunk, b: Chunk) -> Chunk | None:
    """The characters of both as one chunk; None if text that neither holds stands between them."""
    if a.doc_id != b.doc_id:
        return None
    first, second = (a, b) if (a.start, -a.end) <= (b.start, -b.end) else (b, a)
    if second.end <= first.end:
        return first
    if second.start > first.end:
        return None
    text = first.text + second.text[first.end - second.start :]
    sections = tuple(dict.fromkeys((*first.sections, *second.sections)))
    pages = tuple(dict.fromkeys((*first.pages, *second.pages)))
    return replace(first, end=second.end, text=text, sections=sections, pages=pages)


def _add_part(sources: list[Hit], hit: Hit, tokenizer: Tokenizer, excess: Callable[[Sequence[Hit]], int]) -> list[Hit]:
    """``sources`` and as much of ``hit``'s beginning as the budget allows."""
    ends = tokenizer.offsets(hit.chunk.text)[:, 1].tolist()
    grown, n = _add(sources, hit), len(ends)
    while (over := excess(grown)) > 0:
        n -= over  # what a source takes is its own tokens and a constant: this ends after two or three rounds
        text = _to_line(hit.chunk.text, ends[n - 1]) if n > 0 else ""
        if not text.strip():
            return sources
        grown = _add(sources, replace(hit, chunk=replace(hit.chunk, end=hit.chunk.start + len(text), text=text)))
    return grown


def _to_line(text: str, end: int) -> str:
    """``text[:end]``, cut back to the last full line where that keeps at least half of it."""
    line = text.rfind("\n", 0, end)
    return text[:line] if line >= end / 2 else text[:end]

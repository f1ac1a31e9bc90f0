"""How good is one ranked list of chunks? Every metric against gold **character spans**.

Gold is a span of a document, never a chunk id, so the same labels judge every chunker. One rule
(``is_relevant``) says when a chunk answers a span; from it follow, for each gold span, the rank of the first chunk that
answers it (``first_ranks``), and from those ranks all ranking metrics:

- A gold span counts once, at its first chunk. Later chunks of it add nothing (they are not new), in recall,
  precision, nDCG and average precision alike.
- A chunk that holds two gold spans finds both. For precision, nDCG and average precision they are read one after
  the other: the second takes the next free place (``places``). So no metric exceeds 1, whatever the chunks.
- Gold spans of grade 0 or less are labelled as not relevant: they count like unlabelled text. A span listed
  twice is one span, with its highest grade.
- Where one of several gold spans is enough (``Question.any_of``), they count as one span, found at the first rank of
  any of them (``one_need``); of the metrics in characters, the span with the highest coverage counts.

Chunk sizes are compared by ``coverage``, at equal context tokens. By the rule above a small chunk answers with less of
the answer, and a rank counts chunks, not text; so each metric's docstring says what happens to it when only the
chunk size changes. ``tests/test_evaluation_null.py`` reads that sentence and measures it.

Document labels (BEIR's qrels) are the special case "gold = the whole document": with documents as chunks
the figures are those of trec_eval and ranx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Hit, InputError, Span, Tokenizer
from ragkit.generation.context import build_context

Ranks = NDArray[np.int64]

BUDGET = 2000
"""Context tokens at which chunk sizes are compared unless another number is given: what a generator reads."""

_AT_K = ("hit", "recall", "precision", "mrr", "ndcg", "map", "gold_chars", "token_precision", "iou")


def is_relevant(chunk: Chunk | Span, gold: Span) -> bool:
    """The rule (``Span.answers``): it overlaps the gold span by at least half of the shorter of the two.

    >>> is_relevant(Span("a", 0, 100), Span("a", 90, 110)), is_relevant(Span("a", 0, 100), Span("a", 95, 110))
    (True, False)
    """
    return chunk.doc_id == gold.doc_id and (chunk.span if isinstance(chunk, Chunk) else chunk).answers(gold)


def relevant_gold(gold: Iterable[Span]) -> tuple[Span, ...]:
    """The spans that count: grade 1 or more, each stretch of text once, with its highest grade."""
    best: dict[tuple[str, int, int], Span] = {}
    for span in gold:
        key = (span.doc_id, span.start, span.end)
        if span.grade >= 1 and (key not in best or span.grade > best[key].grade):
            best[key] = span
    return tuple(best.values())


def first_ranks(chunks: Sequence[Chunk], gold: Sequence[Span]) -> Ranks:
    """For each gold span the rank (from 1) of the first chunk that answers it, 0 where none does: ``(len(gold),)``."""
    ranks = (next((i for i, chunk in enumerate(chunks, 1) if is_relevant(chunk, span)), 0) for span in gold)
    return np.fromiter(ranks, np.int64, len(gold))


def one_need(ranks: Ranks) -> Ranks:
    """The ranks of alternatives as those of one gold span, found at the first rank of any: ``(1,)``.

    >>> one_need(np.array([0, 7, 3])).tolist(), one_need(np.array([0, 0])).tolist()
    ([3], [0])
    """
    return np.array([min((int(rank) for rank in ranks if rank > 0), default=0)], dtype=np.int64)


def places(ranks: Ranks, grades: Sequence[int]) -> list[tuple[int, int]]:
    """``(place, grade)`` of every gold span that was found, in reading order, no place taken twice.

    Spans of one chunk are read highest grade first; each takes its chunk's rank or the next free place.

    >>> places(np.array([1, 0, 1, 4]), [1, 1, 2, 1])
    [(1, 2), (2, 1), (4, 1)]
    """
    ordered = sorted((int(r), -g) for r, g in zip(ranks, grades, strict=True) if r > 0)
    taken: list[tuple[int, int]] = []
    for rank, grade in ordered:
        taken.append((max(rank, taken[-1][0] + 1) if taken else rank, -grade))
    return taken


def _within(ranks: Ranks, k: int) -> NDArray[np.bool_]:
    if k < 1:
        raise InputError(f"k is {k!r}: expected a whole number, 1 or more")
    if ranks.size == 0:
        raise InputError("no gold span of grade 1 or more: leave unanswerable questions out of ranking metrics")
    return (ranks > 0) & (ranks <= k)


def hit(ranks: Ranks, k: int) -> float:
    """1 when any gold span is found in the first ``k`` chunks, else 0 (trec_eval's success@k).

    At equal tokens a random ranking scores higher with smaller chunks.

    >>> hit(np.array([0, 3]), 1), hit(np.array([0, 3]), 3)
    (0.0, 1.0)
    """
    return float(_within(ranks, k).any())


def recall(ranks: Ranks, k: int) -> float:
    """The share of gold spans that the first ``k`` chunks find.

    At equal tokens a random ranking scores higher with smaller chunks.

    >>> recall(np.array([0, 3]), 5)
    0.5
    """
    return float(_within(ranks, k).mean())


def precision(ranks: Ranks, k: int) -> float:
    """The share of the first ``k`` places at which a new gold span is read (missing chunks count as misses).

    At equal tokens a random ranking scores higher with larger chunks.

    >>> precision(np.array([1, 3, 0]), 4)
    0.5
    """
    _within(ranks, k)
    return sum(place <= k for place, _ in places(ranks, [1] * len(ranks))) / k


def reciprocal_rank(ranks: Ranks, k: int) -> float:
    """1 / rank of the first chunk that answers, 0 when none of the first ``k`` does. Its mean over questions is
    MRR@k (Voorhees, TREC-8 1999).

    At equal tokens a random ranking scores higher with larger chunks.

    >>> reciprocal_rank(np.array([0, 4]), 10)
    0.25
    """
    inside = ranks[_within(ranks, k)]
    return 1.0 / int(inside.min()) if inside.size else 0.0


def dcg(taken: Iterable[tuple[int, int]], k: int) -> float:
    """Discounted cumulative gain: the sum of grade / log2(place + 1) up to place ``k`` (Järvelin & Kekäläinen 2002).

    The gain is the grade itself, as in trec_eval and BEIR, not 2^grade - 1.
    """
    return float(sum(grade / np.log2(place + 1) for place, grade in taken if place <= k))


def ndcg(ranks: Ranks, grades: Sequence[int], k: int) -> float:
    """DCG over the DCG of the ideal list, which shows one gold span a place, highest grade first.

    At equal tokens a random ranking scores higher with small and with large chunks than with those between.

    >>> ndcg(np.array([1, 2]), [2, 1], 10), round(ndcg(np.array([2, 1]), [2, 1], 10), 4)
    (1.0, 0.8597)
    """
    _within(ranks, k)
    ideal = dcg(enumerate(sorted(grades, reverse=True), 1), k)
    return dcg(places(ranks, grades), k) / ideal


def average_precision(ranks: Ranks, k: int) -> float:
    """The mean over all gold spans of the precision at the place where each is found (0 beyond ``k``);
    trec_eval's map_cut. Buckley & Voorhees, SIGIR 2000.

    At equal tokens a random ranking scores higher with larger chunks.

    >>> average_precision(np.array([1, 4, 0]), 10)
    0.5
    """
    _within(ranks, k)
    taken = places(ranks, [1] * len(ranks))
    return sum(n / place for n, (place, _) in enumerate(taken, 1) if place <= k) / len(ranks)


def covered(spans: Iterable[Span]) -> int:
    """Characters that at least one of ``spans`` covers.

    >>> covered([Span("a", 0, 10), Span("a", 5, 12), Span("b", 0, 3)])
    15
    """
    total, doc_id, reached = 0, None, 0
    for span in sorted(spans):
        if span.doc_id != doc_id:
            doc_id, reached = span.doc_id, 0
        total += max(0, span.end - max(span.start, reached))
        reached = max(reached, span.end)
    return total


def character_metrics(chunks: Sequence[Chunk], gold: Sequence[Span]) -> tuple[float, float, float]:
    """``(gold_chars, token_precision, iou)``: the share of gold retrieved, of the retrieved that is gold, of both.

    As in Chroma's chunking evaluation (Smith & Troynikov 2024, research.trychroma.com/evaluating-chunking):
    gold is counted once, while the retrieved text is the plain sum of the chunks, so that overlapping chunks
    pay for what they repeat. Counted in characters, as their code does.

    At equal tokens a random ranking scores the same with every chunk size.

    >>> character_metrics([Chunk("a", 0, 4, "abcd"), Chunk("a", 2, 6, "cdef")], [Span("a", 3, 7)])
    (0.75, 0.375, 0.3333333333333333)
    """
    both = covered(part for span in gold for part in _parts(chunks, span))
    wanted, retrieved = covered(gold), sum(len(chunk.span) for chunk in chunks)
    if wanted == 0:
        raise InputError("the gold spans are empty: expected at least one character of gold")
    return both / wanted, both / retrieved if retrieved else 0.0, both / (wanted + retrieved - both)


def _parts(chunks: Iterable[Chunk], gold: Span) -> Iterator[Span]:
    """What each of ``chunks`` holds of one gold span."""
    for chunk in chunks:
        if chunk.doc_id == gold.doc_id and chunk.start < gold.end and gold.start < chunk.end:
            yield Span(gold.doc_id, max(chunk.start, gold.start), min(chunk.end, gold.end))


def coverage(chunks: Sequence[Chunk], gold: Sequence[Span], any_of: bool = False) -> float:
    """The share of a gold span's characters that ``chunks`` hold, each counted once: the mean over the spans, or the
    best of them where one is enough (``any_of``). ``coverage@N`` is that of the first N tokens of a ranking: its
    chunks in order, whatever they repeat, the last one cut at a token (``cut``).

    At equal tokens a random ranking scores the same with every chunk size.

    >>> coverage([Chunk("a", 0, 4, "abcd"), Chunk("a", 2, 6, "cdef")], [Span("a", 3, 7), Span("b", 0, 5)])
    0.375

    Raises:
        InputError: there is no gold span, or an empty one.
    """
    if not gold or not all(gold):
        raise InputError(f"gold {list(gold)}: expected one span or more, each of one character or more")
    shares = [covered(_parts(chunks, span)) / len(span) for span in gold]
    return max(shares) if any_of else sum(shares) / len(shares)


def context_coverage(
    hits: Sequence[Hit], gold: Sequence[Span], budget: int, tokenizer: Tokenizer | None = None, any_of: bool = False
) -> float:
    """The coverage of what a pipeline's context of ``budget`` tokens holds of ``hits``: overlaps joined, every source
    under its heading (``build_context``). A heading costs a small source a larger part of its tokens.

    At equal tokens a random ranking scores higher with larger chunks.

    >>> hits = [Hit(Chunk("a", 0, 4, "abcd"), 2.0), Hit(Chunk("a", 2, 6, "cdef"), 1.0)]
    >>> context_coverage(hits, [Span("a", 0, 8)], budget=50)
    0.75

    Raises:
        InputError: there is no gold span, or an empty one, or ``budget`` < 1.
    """
    if coverage([hit.chunk for hit in hits], gold, any_of) == 0:
        return 0.0  # a context holds nothing that its hits do not, and takes long to build
    context = build_context(hits, budget, tokenizer)
    return coverage([hit.chunk for hit in context.hits], gold, any_of)


class CountedOnce:
    """A tokenizer that counts the tokens of each text once: systems on the same chunks return the same texts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.identity, self.offsets, self.count = tokenizer.identity, tokenizer.offsets, cache(tokenizer.count)

    def total(self, hits: Iterable[Hit]) -> int:
        """The tokens of all ``hits``; what two of them share counts twice."""
        return sum(self.count(hit.chunk.text) for hit in hits)


def cut(hits: Sequence[Hit], budget: int, tokenizer: CountedOnce) -> tuple[Hit, ...]:
    """The first ``budget`` tokens of a ranking; the chunk that crosses the line is cut at it."""
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
    search: Callable[[int], tuple[Hit, ...]], hits: tuple[Hit, ...], k: int, budget: int, tokenizer: CountedOnce
) -> tuple[Hit, ...]:
    """``hits``, the first ``k``, or ``search(depth)`` with a ``depth`` that doubles until the ranking has ``budget``
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


def metric_names(k: int, budget: int | None = None) -> tuple[str, ...]:
    """The names of all metrics, in the order of the table: of the first ``k`` chunks, or of ``budget`` tokens.

    >>> metric_names(10)[:5]
    ('hit@1', 'hit@5', 'hit@10', 'recall@10', 'precision@10')
    >>> metric_names(10, 2000)[2:4], metric_names(10, 2000)[-2:]
    (('hit@2000', 'recall@2000'), ('coverage@2000', 'context_coverage@2000'))
    """
    names = _AT_K if budget is None else (*_AT_K, "coverage", "context_coverage")
    first = [f"hit@{n}" for n in (1, 5) if n < k]
    return tuple(dict.fromkeys([*first, *(f"{name}@{budget or k}" for name in names)]))


def score(
    chunks: Sequence[Chunk], gold: Iterable[Span], k: int = 10, any_of: bool = False, budget: int | None = None
) -> dict[str, float]:
    """Every metric of one ranked list, by name (``metric_names``), but for ``context_coverage``.

    Args:
        chunks: the ranking; its first ``k`` count, or with ``budget`` all of it.
        any_of: one of the gold spans is enough.
        budget: the tokens at which the ranking was cut (``cut``): the metrics are then named after it.

    Raises:
        InputError: ``gold`` has no span of grade 1 or more, or ``k`` < 1.
    """
    spans = relevant_gold(gold)
    depth = k if budget is None else max(len(chunks), 1)
    shown = chunks[:depth]
    ranks, grades = first_ranks(shown, spans), [span.grade for span in spans]
    if any_of and spans:
        ranks, grades = one_need(ranks), grades[:1]
        spans = (max(spans, key=lambda span: coverage(shown, [span])),)
    values = {f"hit@{n}": hit(ranks, n) for n in (1, 5) if n < k}
    at_depth = [hit(ranks, depth), recall(ranks, depth), precision(ranks, depth), reciprocal_rank(ranks, depth)]
    at_depth += [ndcg(ranks, grades, depth), average_precision(ranks, depth), *character_metrics(shown, spans)]
    values |= {f"{name}@{budget or k}": value for name, value in zip(_AT_K, at_depth, strict=True)}
    return values if budget is None else values | {f"coverage@{budget}": coverage(shown, spans)}

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

Document labels (BEIR's qrels) are the special case "gold = the whole document": with documents as chunks
the figures are those of trec_eval and ranx.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, InputError, Span

Ranks = NDArray[np.int64]

_AT_K = ("hit", "recall", "precision", "mrr", "ndcg", "map", "gold_chars", "token_precision", "iou")


def is_relevant(chunk: Chunk | Span, gold: Span) -> bool:
    """The rule (``Span.answers``): it overlaps the gold span by at least half of the shorter of the two.

    >>> is_relevant(Span("a", 0, 100), Span("a", 90, 110)), is_relevant(Span("a", 0, 100), Span("a", 95, 110))
    (True, False)
    """
    return (chunk.span if isinstance(chunk, Chunk) else chunk).answers(gold)


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
    ranks = np.zeros(len(gold), dtype=np.int64)
    spans = [chunk.span for chunk in chunks]
    for j, span in enumerate(gold):
        ranks[j] = next((i for i, found in enumerate(spans, 1) if is_relevant(found, span)), 0)
    return ranks


def places(ranks: Ranks, grades: Sequence[int]) -> list[tuple[int, int]]:
    """``(place, grade)`` of every gold span that was found, in reading order, no place taken twice.

    Spans of one chunk are read highest grade first; each takes its chunk's rank or the next free place.

    >>> places(np.array([1, 0, 1, 4]), [1, 1, 2, 1])
    [(1, 2), (2, 1), (4, 1)]
    """
    found = sorted((int(r), -g) for r, g in zip(ranks, grades, strict=True) if r > 0)
    taken: list[tuple[int, int]] = []
    for rank, grade in found:
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

    >>> hit(np.array([0, 3]), 1), hit(np.array([0, 3]), 3)
    (0.0, 1.0)
    """
    return float(_within(ranks, k).any())


def recall(ranks: Ranks, k: int) -> float:
    """The share of gold spans that the first ``k`` chunks find.

    >>> recall(np.array([0, 3]), 5)
    0.5
    """
    return float(_within(ranks, k).mean())


def precision(ranks: Ranks, k: int) -> float:
    """The share of the first ``k`` places at which a new gold span is read (missing chunks count as misses).

    >>> precision(np.array([1, 3, 0]), 4)
    0.5
    """
    _within(ranks, k)
    return sum(place <= k for place, _ in places(ranks, [1] * len(ranks))) / k


def reciprocal_rank(ranks: Ranks, k: int) -> float:
    """1 / rank of the first chunk that answers, 0 when none of the first ``k`` does. Its mean over questions is
    MRR@k (Voorhees, TREC-8 1999).

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

    >>> ndcg(np.array([1, 2]), [2, 1], 10), round(ndcg(np.array([2, 1]), [2, 1], 10), 4)
    (1.0, 0.8597)
    """
    _within(ranks, k)
    ideal = dcg(enumerate(sorted(grades, reverse=True), 1), k)
    return dcg(places(ranks, grades), k) / ideal


def average_precision(ranks: Ranks, k: int) -> float:
    """The mean over all gold spans of the precision at the place where each is found (0 beyond ``k``);
    trec_eval's map_cut. Buckley & Voorhees, SIGIR 2000.

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

    >>> character_metrics([Chunk("a", 0, 4, "abcd"), Chunk("a", 2, 6, "cdef")], [Span("a", 3, 7)])
    (0.75, 0.375, 0.3333333333333333)
    """
    pairs = ((chunk.span, span) for chunk in chunks for span in gold if chunk.span.overlap(span))
    both = covered(Span(c.doc_id, max(c.start, g.start), min(c.end, g.end)) for c, g in pairs)
    wanted, retrieved = covered(gold), sum(len(chunk.span) for chunk in chunks)
    if wanted == 0:
        raise InputError("the gold spans are empty: expected at least one character of gold")
    return both / wanted, both / retrieved if retrieved else 0.0, both / (wanted + retrieved - both)


def metric_names(k: int) -> tuple[str, ...]:
    """The names that ``score`` returns, in the order of the table.

    >>> metric_names(10)[:5]
    ('hit@1', 'hit@5', 'hit@10', 'recall@10', 'precision@10')
    """
    hits = [f"hit@{n}" for n in (1, 5) if n < k]
    return (*hits, *(f"{name}@{k}" for name in _AT_K))


def score(chunks: Sequence[Chunk], gold: Iterable[Span], k: int = 10, depth: int | None = None) -> dict[str, float]:
    """Every metric of one ranked list, by name (``metric_names(k)``).

    ``depth`` is where the list ends for the metrics named ``@k``: ``k`` unless the list was cut by another
    rule, such as a token budget.

    Raises:
        InputError: ``gold`` has no span of grade 1 or more, or ``k`` < 1.
    """
    spans = relevant_gold(gold)
    depth = k if depth is None else max(depth, 1)
    shown = chunks[:depth]
    ranks, grades = first_ranks(shown, spans), [span.grade for span in spans]
    values = [hit(ranks, n) for n in (1, 5) if n < k]
    values += [hit(ranks, depth), recall(ranks, depth), precision(ranks, depth), reciprocal_rank(ranks, depth)]
    values += [ndcg(ranks, grades, depth), average_precision(ranks, depth), *character_metrics(shown, spans)]
    return dict(zip(metric_names(k), values, strict=True))

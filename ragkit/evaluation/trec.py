"""TREC run and qrels files, so that trec_eval, ir_measures and ranx can check our figures.

A run line is ``question Q0 document rank score tag``, a qrels line ``question 0 document grade``.
trec_eval ignores the rank column: it sorts by score (in single precision) and ties by document id, last
first. ``write_run`` therefore writes scores that strictly fall in the order that was meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ragkit.base import Hit, InputError, Span
from ragkit.evaluation.metrics import first_ranks, one_need, places, relevant_gold
from ragkit.files import atomic_write

Run = Mapping[str, Sequence[tuple[str, float]]]
Qrels = Mapping[str, Mapping[str, int]]


def gold_id(span: Span) -> str:
    """The name of a gold span in a file: a chunk id, with white space (which separates columns) as ``%20``."""
    return _no_space(f"{span.doc_id}#{span.start}-{span.end}")


def labelled(hits: Sequence[Hit], gold: Sequence[Span], any_of: bool = False) -> list[tuple[str, float]]:
    """A ranking in which a chunk that finds a gold span carries the name of that span, so that labels of spans
    become labels of documents. A chunk that finds two stands for two places in a row (``metrics.places``); one
    that answers only what was found before keeps its own id (with a ``+`` where that is a gold span's name).
    ``any_of``: the first chunk that finds any of the gold spans carries the name of the first span."""
    spans = relevant_gold(gold)
    ranks = first_ranks([hit.chunk for hit in hits], spans)
    if any_of:
        ranks, spans = one_need(ranks), spans[:1]
    found = [j for j in sorted(range(len(spans)), key=lambda j: (ranks[j], -spans[j].grade)) if ranks[j] > 0]
    taken = {place: spans[j] for j, (place, _) in zip(found, places(ranks, [s.grade for s in spans]), strict=True)}
    names, entries = {gold_id(span) for span in spans}, []
    for place in range(1, max([len(hits), *taken]) + 1):
        hit = hits[min(place, len(hits)) - 1]
        name = gold_id(taken[place]) if place in taken else _no_space(hit.chunk.id)
        entries.append((name + "+" if place not in taken and name in names else name, hit.score))
    return entries


def write_run(path: Path, run: Run) -> None:
    """Write rankings: for each question its ``(document, score)`` pairs, best first.

    Raises:
        InputError: an id is empty or holds white space, a document is listed twice, a score is not finite.
    """
    lines = []
    for question, ranking in run.items():
        last = np.float32(np.inf)
        for rank, (document, score) in enumerate(ranking, 1):
            if not np.isfinite(score):
                raise InputError(f"run, question {question!r}: document {document!r} has the score {score}")
            last = min(np.float32(score), np.nextafter(last, np.float32(-np.inf)))
            lines.append(f"{_id(question)} Q0 {_id(document)} {rank} {float(last)!r} ragkit\n")
        _unique([document for document, _ in ranking], f"run, question {question!r}")
    atomic_write(path, "".join(lines).encode())


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write labels: for each question its documents and their grades.

    Raises:
        InputError: an id is empty or holds white space.
    """
    lines = [f"{_id(q)} 0 {_id(d)} {grade:d}\n" for q, grades in qrels.items() for d, grade in grades.items()]
    atomic_write(path, "".join(lines).encode())


def _id(text: str) -> str:
    if not text or len(text.split()) != 1 or text != text.strip():
        raise InputError(f"id {text!r}: a TREC file needs ids without white space")
    return text


def _no_space(text: str) -> str:
    return "".join(f"%{ord(c):02X}" if c.isspace() else c for c in text)


def _unique(ids: Sequence[str], where: str) -> None:
    if len(set(ids)) != len(ids):
        twice = next(i for n, i in enumerate(ids) if i in ids[:n])
        raise InputError(f"{where}: {twice!r} is listed twice")

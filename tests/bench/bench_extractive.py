"""Quotes before and now: how often the first is right, how often any is, how long answers are, what "unsure" is worth.

A quote is right if it shares at least half of itself, or half of the gold, with the gold (``Span.answers``). Every
question is answered, also those on which a pipeline would be silent. ``RAGKIT_BENCH_EXTENDED=1`` adds a corpus on which
nothing was chosen. p-values are paired, the questions about one document being one cluster.

"Before" is the edition of commit cd316fb. What became of each question then is in the file ``BEFORE``, made by::

    git worktree add ../before cd316fb
    PYTHONPATH=../before python tests/bench/bench_extractive.py results/rows/extractive_before.json
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ragkit.base import Corpus, Generation, Question, Span
from ragkit.corpus import load_pydocs, load_questions
from ragkit.evaluation.statistics import p_values
from ragkit.generation.context import build_context
from ragkit.generation.extractive import Extractive
from ragkit.pipeline import advanced
from ragkit.token_store import TokenStore

Row = tuple[str, float | str, str, str]
BEFORE = Path(__file__).resolve().parents[2] / "results" / "rows" / "extractive_before.json"
CHUNKS = ((512, 64), (256, 32))
"""Sizes and overlaps of chunks, in tokens; the presets of the edition before had the first."""
KINDS = ("faq", "keyword", "paraphrase", "multihop", "en")
TARGETS = {
    ("core 512/64 faq", "first quote right"): 1.4,
    ("core 512/64 en", "first quote right"): 1.2,
    ("core 512/64 keyword", "first quote right"): 1.0,
    ("core 512/64 all", "any quote right"): 1.0,
    ("extended 512/64 faq", "first quote right"): 1.0,
    ("extended 512/64 faq", "any quote right"): 1.0,
}
"""How many times as often as before; the chunks are those that the edition before was measured with."""


class Outcome(NamedTuple):
    """What became of one question: is the first quote right, is any; characters of the answer; all word for word?"""

    first: bool
    any: bool
    characters: int
    exact: bool
    unsure: bool


def main() -> list[Row]:
    before = json.loads(BEFORE.read_text())
    rows = list(measure("core", before))
    if os.environ.get("RAGKIT_BENCH_EXTENDED"):
        rows += measure("extended", before)
    else:
        rows.append(("extended", "RAGKIT_BENCH_EXTENDED=1 make bench BENCH=extractive", "", ""))
    return rows


def measure(name: str, before: Mapping[str, Mapping[str, Sequence[int]]]) -> Iterator[Row]:
    corpus = load_pydocs(name)
    asked = questions(corpus)
    for size, overlap in CHUNKS:
        where = f"{name} {size}/{overlap}"
        yield from compared(where, asked, answered(corpus, asked, size, overlap), before[where])


def questions(corpus: Corpus) -> dict[str, Sequence[Question]]:
    """The questions of each kind that have an answer in ``corpus``."""
    written = {kind: load_questions(kind, corpus) for kind in KINDS[1:]} if corpus.name == "core" else {}
    return {"faq": corpus.questions, **written}


def answered(corpus: Corpus, asked: Mapping[str, Sequence[Question]], size: int, overlap: int) -> dict[str, Outcome]:
    """The outcome of each question, by its id."""
    store = TokenStore.open(corpus)
    llm = Extractive(store.maxsim, threshold=0)
    retriever = advanced(corpus, llm=llm, store=store, size=size, overlap=overlap).retriever
    outcomes: dict[str, Outcome] = {}
    for question in (q for group in asked.values() for q in group):
        context = build_context(retriever.search(question.text, 10))
        outcomes[question.id] = outcome(asyncio.run(llm.generate(question.text, context)), question, corpus)
    return outcomes


def outcome(said: Generation, question: Question, corpus: Corpus) -> Outcome:
    quotes = [
        Span(c.chunk.doc_id, start, start + len(c.quote))
        for c in said.citations
        for start in [c.chunk.start + c.chunk.text.find(c.quote)]
    ]
    right = [any(quote.answers(gold) for gold in question.gold) for quote in quotes]
    exact = all(
        corpus.document(quote.doc_id).text[quote.start : quote.end] == c.quote
        for quote, c in zip(quotes, said.citations, strict=True)
    )
    unsure = said.reason.startswith("unsure: ")
    return Outcome(right[:1] == [True], any(right), len(said.text), exact, unsure)


def compared(
    where: str,
    asked: Mapping[str, Sequence[Question]],
    now: Mapping[str, Outcome],
    before: Mapping[str, Sequence[int]],
) -> Iterator[Row]:
    everything = [question for group in asked.values() for question in group]
    groups = {"all": everything, **asked} if len(asked) > 1 else asked
    for kind, group in groups.items():
        then, new = (np.array([rows[q.id][:3] for q in group], dtype=float) for rows in (before, now))
        documents = [q.gold[0].doc_id for q in group]
        p = p_values(new[:, :2] - then[:, :2], documents, simultaneous=False)
        for i, what in enumerate(("first quote right", "any quote right")):
            name = f"{where} {kind} ({len(group)}): {what}"
            yield f"{name}, before", float(then[:, i].mean()), "", ""
            factor = TARGETS.get((f"{where} {kind}", what))
            yield name, float(new[:, i].mean()), "", f">= {factor * then[:, i].mean():.4f}" if factor else ""
            yield f"{name}, p", float(p[i]), "", ""
        name = f"{where} {kind} ({len(group)}): length of an answer, median"
        yield f"{name}, before", float(np.median(then[:, 2])), "characters", ""
        yield name, float(np.median(new[:, 2])), "characters", "<= 500" if group is next(iter(groups.values())) else ""
    exact = np.mean([now[q.id].exact for q in everything])
    yield f"{where}: answers whose quotes stand word for word where they say", float(exact), "", ">= 1"
    yield from doubted(where, [now[q.id] for q in everything], [q.gold[0].doc_id for q in everything])


def doubted(where: str, outcomes: Sequence[Outcome], documents: Sequence[str]) -> Iterator[Row]:
    """The share of answers that are unsure, how many first quotes are right among them and among the others.

    The p-value is that of their covariance, which is 0 where doubt says nothing.
    """
    right, unsure = np.array([(o.first, o.unsure) for o in outcomes], dtype=float).T
    yield f"{where}: unsure answers", float(unsure.mean()), "share", ""
    yield f"{where}: first quote right, of the unsure", float(right[unsure == 1].mean()), "", ""
    yield f"{where}: first quote right, of the others", float(right[unsure == 0].mean()), "", ""
    together = (right - right.mean()) * (unsure - unsure.mean())
    yield f"{where}: doubt and being right, p", float(p_values(together[:, None], documents)[0]), "", ""


def record(path: Path) -> None:
    """What becomes of each question, in the edition of ``ragkit`` that is imported, as a file like ``BEFORE``."""
    outcomes: dict[str, dict[str, list[int]]] = {}
    for corpus in map(load_pydocs, ("core", "extended")):
        for size, overlap in CHUNKS:
            found = answered(corpus, questions(corpus), size, overlap)
            outcomes[f"{corpus.name} {size}/{overlap}"] = {i: [int(v) for v in one[:3]] for i, one in found.items()}
    path.write_text(json.dumps(outcomes) + "\n")


if __name__ == "__main__":
    record(Path(sys.argv[1]))

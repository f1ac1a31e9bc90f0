"""What benches share: one stratified sample of questions, rows that survive a kill, a retriever that remembers."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from run_bench import RESULTS, machine

from ragkit.base import Corpus, Hit, InputError, Question, Retriever
from ragkit.corpus import load_questions

KINDS = ("faq", "keyword", "paraphrase", "multihop", "en", "unanswerable")


def split(
    corpus: Corpus, each: int = 20, seed: int = 16
) -> tuple[dict[str, list[Question]], dict[str, list[Question]]]:
    """``each`` questions of every kind to measure on, and all the others to choose prompts with.

    >>> from ragkit import load_pydocs
    >>> measured, others = split(load_pydocs("core"))
    >>> sum(map(len, measured.values()))
    120
    """
    measured, others = {}, {}
    for kind in KINDS:
        questions = list(corpus.questions if kind == "faq" else load_questions(kind, corpus))
        random.Random(f"{seed} {kind}").shuffle(questions)
        measured[kind], others[kind] = questions[:each], questions[each:]
    return measured, others


class Rows:
    """A file ``results/rows/NAME.jsonl``: a head (date, machine, command, models), then one row a measurement.

    A row is appended as soon as it is measured, and a run that starts again skips what is there. A row holds what a
    model wrote; of the documents it holds spans, never text.

    Args:
        about: what must be the same for rows to be comparable, such as the models' sha256. A file with another one is
            refused: delete it to measure anew.
    """

    def __init__(self, name: str, about: Mapping[str, Any], folder: Path = RESULTS / "rows") -> None:
        self.path = folder / f"{name}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.is_file():
            head = {"date": date.today().isoformat(), "machine": machine(), "command": f"make bench BENCH={name}"}
            self._append({**head, "about": dict(about)})
        head, *rows = [json.loads(line) for line in self.path.read_text().splitlines() if line.endswith("}")]
        if head["about"] != dict(about):
            raise InputError(f"{self.path} was measured with {head['about']}, now it is {dict(about)}: delete it")
        self.rows: dict[tuple[str, ...], dict[str, Any]] = {tuple(row["key"]): row for row in rows}

    def add(self, key: tuple[str, ...], **row: Any) -> None:
        """Append a row, at once."""
        self.rows[key] = {"key": list(key), **row}
        self._append(self.rows[key])

    def _append(self, row: Mapping[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


class SearchedOnce(Retriever):
    """Searches a query once: most rewriters leave most questions as they are, and several systems ask for the same."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever, self.lists = retriever, dict[tuple[str, int], list[Hit]]()

    def _search(self, query: str, k: int) -> list[Hit]:
        if (query, k) not in self.lists:
            self.lists[query, k] = self.retriever.search(query, k)
        return self.lists[query, k]

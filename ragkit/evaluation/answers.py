"""The answers of several systems to the same questions, scored without a model, in one table.

    answers = {"extractive": await rag.query_many([q.text for q in questions])}
    scores = score_answers(answers, questions, store=store)
    scores.table.loc["extractive", ("faithfulness", "mean")]

What can't be scored is **missing, with a reason** (``scores.missing``): an answer that abstains is not an unfaithful
one, and a question without gold says nothing about citations. So every mean comes with its coverage: the share of
the answers that it is a mean of. Nothing is ever NaN, and nothing is 0 because it could not be measured.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ragkit.base import Answer, Chunk, InputError, Question, require
from ragkit.evaluation import answer_metrics as metrics
from ragkit.evaluation import statistics
from ragkit.evaluation.alignment import relevance
from ragkit.evaluation.faithfulness import Faithfulness, Support
from ragkit.evaluation.judged import JudgeRun
from ragkit.generation.context import build_context
from ragkit.token_store import TokenStore

if TYPE_CHECKING:
    import pandas as pd

OFFLINE = (
    *("faithfulness", "relevance", "token_f1", "rouge_l", "similarity"),
    *("citation_precision", "citation_recall", "support_precision", "support_recall"),
)
COSINES = ("relevance", "similarity", "ragas_answer_relevancy")
SUPPORTED = 0.5  # a statement at least this likely to be supported counts as supported


@dataclass(frozen=True)
class Missing:
    """A score that there is not, and why."""

    system: str
    question: str
    metric: str
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class AnswerScores:
    """One row a system (``table``), one a system and question (``per_answer``), and why what is missing is missing.

    ``table`` has two levels of columns: ``("answers", "total" | "failed" | "abstained")`` and, for each metric,
    ``"mean"``, its 95 % interval ``"low"``, ``"high"`` (other questions on other documents), and ``"coverage"``; a
    judge's metrics have ``"spread"`` too: how far the means of its runs lie apart. ``<NA>``: there is nothing to say.
    Intervals are those of ``statistics.level``; for ``COSINES``, which are not in [0, 1], of ``statistics.estimate``.
    ``supports`` holds, by system and question, what the faithfulness of each statement rests on.
    """

    table: pd.DataFrame
    per_answer: pd.DataFrame
    missing: pd.DataFrame
    supports: Mapping[tuple[str, str], tuple[Support, ...]] = field(repr=False)
    judged: JudgeRun | None = None

    @property
    def caption(self) -> tuple[str, ...]:
        """What one must know to read the table, in sentences."""
        lines = ["Mean [95 % interval] over the answers that could be scored; coverage is their share."]
        if len(self.missing):
            reasons = self.missing["reason"].value_counts()
            first = f"{reasons.index[0]} ({int(reasons.iloc[0])})"
            lines.append(f"{len(self.missing)} scores are missing, most often: {first}; all of them in .missing.")
        lines.append(self.judged.caption if self.judged else "No judge model has been run for this table.")
        return tuple(lines)

    def _shown(self) -> pd.DataFrame:
        """The table as people read it: a cell a metric."""
        shown: dict[str, Any] = {"answers": self.table["answers", "total"].map(str)}
        for column, word in (("abstained", "abstained"), ("failed", "failed")):
            if (counts := self.table["answers", column]).any():
                shown[word] = counts.map(str)
        for metric in dict.fromkeys(self.table.columns.get_level_values(0)):
            if metric != "answers":
                shown[metric] = [_cell(self.table.loc[name, metric].to_dict()) for name in self.table.index]
        return require("pandas", "notebook").DataFrame(shown, index=self.table.index).T  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return "\n".join((self._shown().to_string(), "", *self.caption))

    def _repr_html_(self) -> str:
        lines = "".join(f"<p style='margin:.2em 0'>{html.escape(line)}</p>" for line in self.caption)
        return f"{self._shown().to_html(escape=True, border=0)}{lines}"


def _cell(values: Mapping[str, Any]) -> str:
    pandas = require("pandas", "notebook")
    if pandas.isna(values["mean"]):
        return "– (none could be scored)"
    interval = "" if pandas.isna(values["low"]) else f" [{values['low']:.2f}, {values['high']:.2f}]"
    spread = "" if pandas.isna(values.get("spread", pandas.NA)) else f", runs {values['spread']:.2f} apart"
    part = "" if values["coverage"] == 1 else f", of {values['coverage']:.0%}"
    return f"{values['mean']:.2f}{interval}{part}{spread}"


def score_answers(
    answers: Mapping[str, Sequence[Answer | BaseException]],
    questions: Sequence[Question],
    *,
    store: TokenStore,
    judged: JudgeRun | None = None,
    budget: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> AnswerScores:
    """Score every system's answers to ``questions`` and put them in one table.

    Args:
        answers: by the system's name, its answers in the order of ``questions``; in the place of an answer that
            failed, the exception (``asyncio.gather(..., return_exceptions=True)`` gives both).
        questions: with gold spans and a reference ``answer`` where there are some.
        store: vectors and idf for faithfulness, relevance and similarity.
        judged: what a judge model said of the same answers (``judges.RagasJudge``, or a recorded run).
        budget: tokens of the context that the answers were made from, as the pipeline's.
        seed: of the intervals.
        progress: show a bar when it takes longer than a second: about a third of a second an answer.

    Raises:
        InputError: no system, fewer than two questions, a question id twice, answers that are not to these questions.

    >>> score_answers({}, [], store=None)
    Traceback (most recent call last):
    ragkit.base.InputError: no system: expected answers by name, such as {'extractive': answers}
    """
    _check(answers, questions)
    pandas = require("pandas", "notebook")
    scorer = Faithfulness(store)
    rows, missing, supports = [], [], {}
    pairs = [(name, q, a) for name, given in answers.items() for q, a in zip(questions, given, strict=True)]
    # With progress, nothing is said about `disable`, so that the environment (TQDM_DISABLE) can still say no.
    bar = partial(tqdm, unit="answer", delay=1, leave=False) if progress else partial(tqdm, disable=True)
    for name, question, answer in bar(pairs):
        scored = _Scored(question, answer, scorer, budget)
        values, reasons = scored.offline()
        supports[name, question.id] = scored.supports
        if judged:
            for metric in judged.metrics:
                values[metric], reasons[metric] = judged.score(name, question.id, metric)
        missing += [(name, question.id, metric, why) for metric, why in reasons.items() if values[metric] is None]
        rows.append({"system": name, "question": question.id, **values})
    names = [*OFFLINE, *(judged.metrics if judged else ())]
    per_answer = pandas.DataFrame(rows).set_index(["system", "question"])[names].astype("Float64")
    units = [q.gold[0].doc_id if q.gold else q.id for q in questions]
    table = pandas.DataFrame(
        {name: dict(_row(name, given, per_answer.loc[name], units, judged, seed)) for name, given in answers.items()}
    ).T
    table.columns = pandas.MultiIndex.from_tuples(table.columns)
    table = table.astype({c: "Int64" if c[0] == "answers" else "Float64" for c in table.columns})
    reasons_table = pandas.DataFrame(missing, columns=["system", "question", "metric", "reason"])
    return AnswerScores(table, per_answer, reasons_table, supports, judged)


def _check(answers: Mapping[str, Sequence[Answer | BaseException]], questions: Sequence[Question]) -> None:
    if not answers:
        raise InputError("no system: expected answers by name, such as {'extractive': answers}")
    ids = [question.id for question in questions]
    if len(ids) < 2 or len(set(ids)) < len(ids):
        raise InputError(f"{len(ids)} questions with {len(set(ids))} different ids: expected two or more, each once")
    for name, given in answers.items():
        if len(given) != len(questions):
            raise InputError(f"system {name!r}: {len(given)} answers to {len(questions)} questions")
        for question, answer in zip(questions, given, strict=True):
            if isinstance(answer, Answer) and answer.question != question.text:
                raise InputError(
                    f"system {name!r}: an answer to {answer.question!r} in the place of {question.text!r}: "
                    "give the answers in the order of the questions"
                )


class _Scored:
    """One answer beside its question, and all that is scored of it."""

    def __init__(self, question: Question, answer: Answer | BaseException, scorer: Faithfulness, budget: int) -> None:
        self.question, self.answer, self.scorer, self.budget = question, answer, scorer, budget
        self.supports: tuple[Support, ...] = ()

    def offline(self) -> tuple[dict[str, float | None], dict[str, str]]:
        """The value of each metric, or None; and for each that is None, why."""
        values: dict[str, float | None] = dict.fromkeys(OFFLINE)
        reasons: dict[str, str] = {}
        for metric, compute in self._metrics():
            try:
                values[metric] = compute()
            except InputError as error:
                reasons[metric] = str(error)
        return values, reasons

    def _metrics(self) -> Iterator[tuple[str, Callable[[], float]]]:
        answer, question = self.answer, self.question
        if isinstance(answer, BaseException):
            yield from _none(f"the system failed: {type(answer).__name__}: {answer}")
        elif answer.abstained:
            yield from _none(f"the system abstained: {answer.reason}" if answer.reason else "the system abstained")
        elif not answer.text.strip():
            yield from _none("the answer is empty")
        else:
            said = metrics.statements(answer)
            text = "\n".join(statement.text for statement in said)
            reference, store = question.answer, self.scorer.store
            yield "faithfulness", lambda: self._faithfulness(answer, said)
            yield "relevance", lambda: relevance(question.text, text, store)
            yield "token_f1", lambda: metrics.token_f1(text, _given(reference))
            yield "rouge_l", lambda: metrics.rouge_l(text, _given(reference))
            yield "similarity", lambda: metrics.similarity(text, _given(reference), store.encoder)
            yield "citation_precision", lambda: metrics.citation_precision(answer.citations, question.gold)
            yield "citation_recall", lambda: metrics.citation_recall(answer.citations, question.gold)
            cited = {citation.number: citation.chunk for citation in answer.citations}
            yield "support_precision", lambda: metrics.support_precision(said, cited, self._supported)
            yield "support_recall", lambda: metrics.support_recall(said, cited, self._supported)

    def _faithfulness(self, answer: Answer, said: Sequence[metrics.Statement]) -> float:
        """The mean support of its statements by the context that was built from its hits."""
        sources = [hit.chunk for hit in build_context(answer.hits, self.budget).hits]
        if not sources:
            raise InputError("the answer comes without sources")
        if not said:
            raise InputError("the answer has no statements")
        self.supports = tuple(self.scorer.support(statement.text, sources) for statement in said)
        return float(np.mean([support.score for support in self.supports]))

    def _supported(self, text: str, chunks: Sequence[Chunk]) -> bool:
        return self.scorer.support(text, chunks).score >= SUPPORTED


def _none(reason: str) -> Iterator[tuple[str, Callable[[], float]]]:
    def compute() -> float:
        raise InputError(reason)

    yield from ((metric, compute) for metric in OFFLINE)


def _given(reference: str | None) -> str:
    if reference is None or not reference.strip():
        raise InputError("the question has no reference answer" if reference is None else "the reference is empty")
    return reference


def _row(
    name: str,
    given: Sequence[Answer | BaseException],
    scores: pd.DataFrame,
    units: Sequence[str],
    judged: JudgeRun | None,
    seed: int,
) -> Iterator[tuple[tuple[str, str], float | None]]:
    """The cells of one system's row, by their two levels of columns."""
    yield ("answers", "total"), len(given)
    yield ("answers", "failed"), sum(isinstance(answer, BaseException) for answer in given)
    yield ("answers", "abstained"), sum(isinstance(answer, Answer) and answer.abstained for answer in given)
    for metric in map(str, scores.columns):
        there = scores[metric].notna().to_numpy()
        values = scores[metric][there].to_numpy(dtype=np.float64)
        own = [unit for unit, known in zip(units, there, strict=True) if known]
        # One answer has a mean, but no spread to make an interval of.
        low, high = _interval(metric, values, own, seed) if len(values) > 1 else (None, None)
        yield (metric, "mean"), float(values.mean()) if len(values) else None
        yield (metric, "low"), low
        yield (metric, "high"), high
        yield (metric, "coverage"), float(there.mean())
        if judged and metric in judged.metrics:
            yield (metric, "spread"), judged.spread(name, metric)


def _interval(metric: str, values: NDArray[np.float64], units: Sequence[str], seed: int) -> tuple[float, float]:
    if metric in COSINES:
        cosine = statistics.estimate(values[:, None], units, seed=seed)
        return max(float(cosine.low[0]), -1), min(float(cosine.high[0]), 1)
    level = statistics.level(values[:, None], units)
    return float(level.low[0]), float(level.high[0])

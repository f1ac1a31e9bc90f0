"""The answers of several systems to the same questions, scored without a model, in one table.

    answers = {"extractive": [await rag.query(q.text) for q in questions]}
    scores = score_answers(answers, questions, store=store)
    scores.table.loc["extractive", ("faithfulness", "mean")]

Against the sources: ``faithfulness``. Against the question: ``relevance``. Against the reference: ``token_f1``, whose
likeness is no sign of truth. Of the citations: ``citation_precision`` and ``citation_recall`` against gold spans,
``support_precision`` and ``support_recall`` against what the cited sources say, as ``ragkit.evaluation.faithfulness``
judges it.

What can't be scored is **missing, with a reason** (``scores.missing``): an answer that abstains is not an unfaithful
one, and a question without gold says nothing about citations. So every mean comes with its coverage: the share of
the answers that it is a mean of. Nothing is ever NaN, and nothing is 0 because it could not be measured.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ragkit.base import Answer, Chunk, Citation, InputError, Question, Span, require
from ragkit.evaluation import statistics
from ragkit.evaluation.compare import as_html
from ragkit.evaluation.faithfulness import Faithfulness, relevance
from ragkit.evaluation.judge import JudgeRun, unscorable
from ragkit.evaluation.metrics import is_relevant, relevant_gold
from ragkit.generation.answer import citation_markers
from ragkit.generation.context import build_context
from ragkit.markdown import blocks, sentences, unfenced
from ragkit.token_store import TokenStore

if TYPE_CHECKING:
    import pandas as pd

OFFLINE = (
    *("faithfulness", "relevance", "token_f1"),
    *("citation_precision", "citation_recall", "support_precision", "support_recall"),
)
COSINES = ("relevance", "ragas_answer_relevancy")
SUPPORTED = 0.5  # a statement at least this likely to be supported counts as supported

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S)")


@dataclass(frozen=True, eq=False, repr=False)
class AnswerScores:
    """One row a system (``table``), one a system and question (``per_answer``), and why what is missing is missing.

    ``table`` has two levels of columns: ``("answers", "total" | "failed" | "abstained")`` and, for each metric,
    ``"mean"``, its 95 % interval ``"low"``, ``"high"`` (other questions on other documents), and ``"coverage"``; a
    judge's metrics have ``"spread"`` too: how far the means of its runs lie apart. ``<NA>``: there is nothing to say.
    Intervals are those of ``statistics.level``; for ``COSINES``, which are not in [0, 1], of ``statistics.estimate``.
    """

    table: pd.DataFrame
    per_answer: pd.DataFrame
    missing: pd.DataFrame
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
        """The table as people read it: a row a metric, a column a system."""
        shown: dict[str, Any] = {"answers": self.table["answers", "total"].map(str)}
        for column in ("abstained", "failed"):
            if (counts := self.table["answers", column]).any():
                shown[column] = counts.map(str)
        for metric in map(str, self.per_answer):
            shown[metric] = [_cell(values) for _, values in self.table[metric].astype(object).iterrows()]
        return require("pandas", "notebook").DataFrame(shown, index=self.table.index).T  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return "\n".join((self._shown().to_string(), "", *self.caption))

    def _repr_html_(self) -> str:
        return as_html(self._shown(), self.caption)


def _cell(values: pd.Series[Any]) -> str:
    known = values.dropna()
    if "mean" not in known:
        return "– (none could be scored)"
    interval = f" [{known['low']:.2f}, {known['high']:.2f}]" if "low" in known else ""
    part = f", of {known['coverage']:.0%}" if known["coverage"] < 1 else ""
    spread = f", runs {known['spread']:.2f} apart" if "spread" in known else ""
    return f"{known['mean']:.2f}{interval}{part}{spread}"


def score_answers(
    answers: Mapping[str, Sequence[Answer | BaseException]],
    questions: Sequence[Question],
    *,
    store: TokenStore,
    judged: JudgeRun | None = None,
    budget: int = 2000,
) -> AnswerScores:
    """Score every system's answers to ``questions`` and put them in one table.

    Args:
        answers: by the system's name, its answers in the order of ``questions``; in the place of an answer that
            failed, the exception (``rag.query_many(..., return_exceptions=True)`` gives both).
        questions: with gold spans and a reference ``answer`` where there are some.
        store: vectors and idf for faithfulness and relevance.
        judged: the verdicts of a judge model on the same answers (``judge.RagasJudge``, or a recorded run).
        budget: tokens of the context that the answers were made from, as the pipeline's.

    Raises:
        InputError: no system, fewer than two questions, a question id twice, answers that are not to these questions.

    >>> score_answers({}, [], store=None)
    Traceback (most recent call last):
    ragkit.base.InputError: no system: expected answers by name, such as {'extractive': answers}
    """
    _check(answers, questions)
    pandas = require("pandas", "notebook")
    scorer = Faithfulness(store)
    rows, missing = [], []
    pairs = [(name, q, a) for name, own in answers.items() for q, a in zip(questions, own, strict=True)]
    for name, question, answer in tqdm(pairs, unit="answer", delay=1, leave=False):
        values, reasons = _scores(question, answer, scorer, budget)
        if judged:
            for metric in judged.metrics:
                values[metric], reason = judged.score(name, question.id, metric)
                reasons |= {metric: reason} if reason else {}
        rows.append({"system": name, "question": question.id, **values})
        missing += [(name, question.id, metric, reason) for metric, reason in reasons.items()]
    per_answer = pandas.DataFrame(rows).set_index(["system", "question"]).astype("Float64")
    units = pandas.Series({q.id: q.gold[0].doc_id if q.gold else q.id for q in questions})
    table = pandas.DataFrame(
        {name: _row(name, own, per_answer.loc[name], units, judged) for name, own in answers.items()}
    ).T
    table = table.astype({c: "Int64" if c[0] == "answers" else "Float64" for c in table.columns})
    reasons_table = pandas.DataFrame(missing, columns=["system", "question", "metric", "reason"])
    return AnswerScores(table, per_answer, reasons_table, judged)


def _check(answers: Mapping[str, Sequence[Answer | BaseException]], questions: Sequence[Question]) -> None:
    if not answers:
        raise InputError("no system: expected answers by name, such as {'extractive': answers}")
    ids = [question.id for question in questions]
    if len(ids) < 2 or len(set(ids)) < len(ids):
        raise InputError(f"{len(ids)} questions with {len(set(ids))} different ids: expected two or more, each once")
    for name, own in answers.items():
        if len(own) != len(questions):
            raise InputError(f"system {name!r}: {len(own)} answers to {len(questions)} questions")
        for question, answer in zip(questions, own, strict=True):
            if isinstance(answer, Answer) and answer.question != question.text:
                found = f"an answer to {answer.question!r} in the place of {question.text!r}"
                raise InputError(f"system {name!r}: {found}: give the answers in the order of the questions")


def _row(
    name: str,
    given: Sequence[Answer | BaseException],
    scores: pd.DataFrame,
    units: pd.Series[Any],
    judged: JudgeRun | None,
) -> dict[tuple[str, str], Any]:
    """The cells of one system's row, by their two levels of columns."""
    row: dict[tuple[str, str], Any] = {
        ("answers", "total"): len(given),
        ("answers", "failed"): sum(isinstance(answer, BaseException) for answer in given),
        ("answers", "abstained"): sum(isinstance(answer, Answer) and answer.abstained for answer in given),
    }
    for metric in map(str, scores):
        values = scores[metric].dropna()
        low, high = _interval(metric, values.to_numpy(dtype=np.float64), units[values.index].tolist())
        row |= {(metric, "mean"): values.mean(), (metric, "low"): low, (metric, "high"): high}
        row[metric, "coverage"] = len(values) / len(scores)
        if judged and metric in judged.metrics:
            row[metric, "spread"] = judged.spread(name, metric)
    return row


def _interval(
    metric: str, values: NDArray[np.float64], units: Sequence[str]
) -> tuple[float, float] | tuple[None, None]:
    """Of the mean; none where nothing varies that could be measured: one answer, or cosines that are all the same."""
    if len(values) < 2 or (metric in COSINES and np.ptp(values) == 0):
        return None, None
    if metric in COSINES:
        cosine = statistics.estimate(values[:, None], units)
        return max(float(cosine.low[0]), -1), min(float(cosine.high[0]), 1)
    level = statistics.level(values[:, None], units)
    return float(level.low[0]), float(level.high[0])


# ---- one answer


def _scores(
    question: Question, answer: Answer | BaseException, scorer: Faithfulness, budget: int
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The value of each metric, or None; and for each that is None, why."""
    values: dict[str, float | None] = dict.fromkeys(OFFLINE)
    if (reason := unscorable(answer)) or isinstance(answer, BaseException):
        return values, dict.fromkeys(OFFLINE, reason)
    parts, citations, gold = statements(answer), answer.citations, question.gold
    text = "\n".join(statement.text for statement in parts)
    sources = [hit.chunk for hit in build_context(answer.hits, budget).hits]
    cited = {citation.number: citation.chunk for citation in citations}

    def supported(sentence: str, chunks: Sequence[Chunk]) -> bool:
        return scorer.support(sentence, chunks).score >= SUPPORTED

    metrics: dict[str, Callable[[], float]] = {
        "faithfulness": lambda: faithfulness(parts, sources, scorer),
        "relevance": lambda: relevance(question.text, text, scorer.store),
        "token_f1": lambda: token_f1(text, question.answer or ""),
        "citation_precision": lambda: citation_precision(citations, gold),
        "citation_recall": lambda: citation_recall(citations, gold, question.any_of),
        "support_precision": lambda: support_precision(parts, cited, supported),
        "support_recall": lambda: support_recall(parts, cited, supported),
    }
    reasons = {}
    for metric, compute in metrics.items():
        try:
            values[metric] = compute()
        except InputError as error:
            reasons[metric] = str(error)
    return values, reasons


@dataclass(frozen=True)
class Statement:
    """A sentence of an answer (or a list item, or a code block) and the numbers of the sources that it cites."""

    text: str
    cited: frozenset[int] = frozenset()


def statements(answer: Answer) -> tuple[Statement, ...]:
    """The statements of an answer, in order, without their markers.

    A marker cites the statement before it. A statement that stands in the quote of a citation cites that source, too.

    >>> chunk = Chunk("d", 0, 9, "Use purge")
    >>> answer = Answer("How?", "Use purge [1]. It is fast.", citations=(Citation(1, chunk),))
    >>> [(s.text, sorted(s.cited)) for s in statements(answer)]
    [('Use purge.', [1]), ('It is fast.', [])]
    """
    text, markers = _without_markers(answer.text, {citation.number for citation in answer.citations})
    ranges = [
        (block.start + a, block.start + b)
        for block in blocks(text)
        for a, b in _parts(text[block.start : block.end], block.kind)
        if any(c.isalnum() for c in text[block.start + a : block.start + b])
    ]
    result = []
    for (start, end), (next_start, _) in pairwise([*ranges, (len(text) + 1, 0)]):
        quoted = {citation.number for citation in answer.citations if unfenced(text[start:end]) in citation.quote}
        marked = {number for place, numbers in markers if start < place <= next_start for number in numbers}
        result.append(Statement(text[start:end].strip(), frozenset(quoted | marked)))
    return tuple(result)


def _without_markers(text: str, known: Collection[int]) -> tuple[str, list[tuple[int, set[int]]]]:
    """The text without its markers, and where each stood. ``[7]`` is a marker only if source 7 is cited."""
    plain, markers, end = "", [], 0
    for marker in citation_markers(text):
        if (numbers := set(marker.numbers) & set(known)) and not marker.glued:
            plain += text[end : marker.start].rstrip(" ")
            markers.append((len(plain), numbers))
            end = marker.end
    return plain + text[end:], markers


def _parts(block: str, kind: str) -> list[tuple[int, int]]:
    """The ranges of a block's statements: prose by sentence, a list by item, anything else whole."""
    if kind == "paragraph":
        return sentences(block)
    if kind != "list":
        return [(0, len(block))]
    return list(pairwise([0, *(m.end() for m in _ITEM.finditer(block)), len(block)]))


# ---- the metrics


def faithfulness(given: Sequence[Statement], sources: Sequence[Chunk], scorer: Faithfulness) -> float:
    """The mean support that ``sources`` give to the statements, 0 to 1.

    Raises:
        InputError: there are no sources, or no statements.
    """
    if not sources:
        raise InputError("the answer comes without sources")
    if not given:
        raise InputError("the answer has no statements")
    return float(np.mean([scorer.support(statement.text, sources).score for statement in given]))


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall over the words that both have, each counted as often as it stands.

    As in SQuAD's evaluation script (Rajpurkar et al. 2016, arXiv 1606.05250): lower case, without punctuation and
    articles.

    >>> token_f1("Purge the queue!", "purge a queue now")
    0.8

    Raises:
        InputError: one of the texts has no words.
    """
    left, right = (_ARTICLES.sub(" ", t.lower().translate(_NO_PUNCTUATION)).split() for t in (answer, reference))
    if not left or not right:
        raise InputError("token F1 needs words in the answer and in the question's reference answer")
    both = sum((Counter(left) & Counter(right)).values())
    return 2 * both / (len(left) + len(right))


def citation_precision(citations: Sequence[Citation], gold: Sequence[Span]) -> float:
    """The share of the cited sources that answer a gold span (each source counted once).

    >>> cited = [Citation(1, Chunk("d", 0, 4, "abcd")), Citation(2, Chunk("d", 4, 8, "efgh"))]
    >>> citation_precision(cited, [Span("d", 0, 4)])
    0.5

    Raises:
        InputError: there is no citation, or no gold.
    """
    answers = _answered(citations, gold)
    if not citations:
        raise InputError("no citations: their precision is undefined")
    return float(answers.any(axis=1).mean())


def citation_recall(citations: Sequence[Citation], gold: Sequence[Span], any_of: bool = False) -> float:
    """The share of the gold spans that a cited source answers; 0 without citations. ``any_of``: one of them is enough.

    >>> citation_recall([Citation(1, Chunk("d", 0, 4, "abcd"))], [Span("d", 0, 4), Span("d", 8, 12)])
    0.5

    Raises:
        InputError: there is no gold.
    """
    answered = _answered(citations, gold).any(axis=0)
    return float(answered.any() if any_of else answered.mean())


def _answered(citations: Sequence[Citation], gold: Sequence[Span]) -> NDArray[np.bool_]:
    """Whether a cited source (row, each once) answers a gold span of grade 1 or more (column)."""
    spans = relevant_gold(gold)
    if not spans:
        raise InputError("no gold span of grade 1 or more: citations can't be compared with any")
    chunks = {citation.number: citation.chunk for citation in citations}.values()
    answers = [[is_relevant(chunk, span) for span in spans] for chunk in chunks]
    return np.array(answers, dtype=bool).reshape(len(chunks), len(spans))


Supported = Callable[[str, Sequence[Chunk]], bool]


def support_recall(given: Sequence[Statement], sources: dict[int, Chunk], supported: Supported) -> float:
    """The share of the statements that their cited sources, taken together, support.

    ALCE's citation recall (Gao et al. 2023, arXiv 2305.14627, section 4.3), with ``supported`` in the place of its
    model. A statement without a citation counts as not supported.

    >>> holds = lambda text, chunks: any(text in c.text for c in chunks)
    >>> support_recall([Statement("a", frozenset({1})), Statement("b")], {1: Chunk("d", 0, 2, "ab")}, holds)
    0.5

    Raises:
        InputError: there is no statement.
    """
    if not given:
        raise InputError("no statements: nothing can be supported")
    return sum(_holds(s.text, s.cited, sources, supported) for s in given) / len(given)


def support_precision(given: Sequence[Statement], sources: dict[int, Chunk], supported: Supported) -> float:
    """The share of the citations that are needed: they support the statement alone, or the others do not without them.

    ALCE's citation precision (as above): a citation of a statement that is not supported counts as not needed.

    >>> holds = lambda text, chunks: any(text in c.text for c in chunks)
    >>> both = {1: Chunk("d", 0, 2, "ab"), 2: Chunk("d", 2, 4, "cd")}
    >>> support_precision([Statement("a", frozenset({1, 2}))], both, holds)
    0.5

    Raises:
        InputError: no statement cites anything.
    """
    needed = [
        _holds(s.text, s.cited, sources, supported)
        and (_holds(s.text, {number}, sources, supported) or not _holds(s.text, s.cited - {number}, sources, supported))
        for s in given
        for number in s.cited
    ]
    if not needed:
        raise InputError("no statement cites a source: the precision of citations is undefined")
    return sum(needed) / len(needed)


def _holds(text: str, numbers: Collection[int], sources: dict[int, Chunk], supported: Supported) -> bool:
    chunks = [sources[number] for number in sorted(numbers) if number in sources]
    return bool(chunks) and supported(text, chunks)

"""The answers of several systems to the same questions, scored without a model, in one table.

    answers = {"extractive": [await rag.query(q.text) for q in questions]}
    scores = score_answers(answers, questions, store=store)
    scores.table.loc["extractive", ("faithfulness", "mean")]

Against the reference: ``token_f1``, ``rouge_l``, ``similarity``. Against the question: ``relevance``. Of the
citations: ``citation_precision`` and ``citation_recall`` against gold spans, ``support_recall`` and
``support_precision`` against what the cited sources say, as ``ragkit.evaluation.faithfulness`` judges it. Likeness to a
reference is no sign of truth.

What can't be scored is **missing, with a reason** (``scores.missing``): an answer that abstains is not an unfaithful
one, and a question without gold says nothing about citations. So every mean comes with its coverage: the share of
the answers that it is a mean of. Nothing is ever NaN, and nothing is 0 because it could not be measured.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ragkit.base import Answer, Chunk, Citation, Embedder, InputError, Question, Span, Vectors, require
from ragkit.evaluation import statistics
from ragkit.evaluation.compare import as_html
from ragkit.evaluation.faithfulness import Faithfulness, Support, relevance
from ragkit.evaluation.judge import JudgeRun
from ragkit.evaluation.metrics import is_relevant, relevant_gold
from ragkit.generation.answer import citation_markers
from ragkit.generation.context import build_context
from ragkit.markdown import blocks, sentences
from ragkit.token_store import TokenStore

if TYPE_CHECKING:
    import pandas as pd

OFFLINE = (
    *("faithfulness", "relevance", "token_f1", "rouge_l", "similarity"),
    *("citation_precision", "citation_recall", "support_precision", "support_recall"),
)
COSINES = ("relevance", "similarity", "ragas_answer_relevancy")
SUPPORTED = 0.5  # a statement at least this likely to be supported counts as supported

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")
_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S)")


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
        return as_html(self._shown(), self.caption)


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
        judged: the verdicts of a judge model on the same answers (``judge.RagasJudge``, or a recorded run).
        budget: tokens of the context that the answers were made from, as the pipeline's.
        seed: of the intervals.
        progress: show a bar when it takes longer than a second.

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
    # `disable` is set only to turn the bar off, so that the environment (TQDM_DISABLE) can do so, too.
    bar = partial(tqdm, unit="answer", delay=1, leave=False) if progress else partial(tqdm, disable=True)
    for name, question, answer in bar(pairs):
        supports[name, question.id], computations = _computations(question, answer, scorer, budget)
        values, reasons = _computed(computations)
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


def _computed(computations: Mapping[str, Callable[[], float]]) -> tuple[dict[str, float | None], dict[str, str]]:
    """The value of each metric, or None; and for each that is None, why."""
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for metric, compute in computations.items():
        try:
            values[metric] = compute()
        except InputError as error:
            values[metric], reasons[metric] = None, str(error)
    return values, reasons


def _computations(
    question: Question, answer: Answer | BaseException, scorer: Faithfulness, budget: int
) -> tuple[tuple[Support, ...], dict[str, Callable[[], float]]]:
    """What each statement of the answer rests on, and how each metric of it is computed."""
    reason = _unscorable(answer)
    if reason or isinstance(answer, BaseException):
        return (), dict.fromkeys(OFFLINE, partial(_missing, reason))
    parts, gold, store = statements(answer), question.gold, scorer.store
    text = "\n".join(statement.text for statement in parts)
    supports: tuple[Support, ...] = ()
    try:
        supports = _supports(parts, [hit.chunk for hit in build_context(answer.hits, budget).hits], scorer)
    except InputError as error:
        reason = str(error)
    cited = {citation.number: citation.chunk for citation in answer.citations}

    def supported(sentence: str, chunks: Sequence[Chunk]) -> bool:
        return scorer.support(sentence, chunks).score >= SUPPORTED

    return supports, {
        "faithfulness": lambda: float(np.mean([s.score for s in supports])) if supports else _missing(reason),
        "relevance": lambda: relevance(question.text, text, store),
        "token_f1": lambda: token_f1(text, _reference(question)),
        "rouge_l": lambda: rouge_l(text, _reference(question)),
        "similarity": lambda: similarity(text, _reference(question), store.encoder),
        "citation_precision": lambda: citation_precision(answer.citations, gold),
        "citation_recall": lambda: citation_recall(answer.citations, gold, question.any_of),
        "support_precision": lambda: support_precision(parts, cited, supported),
        "support_recall": lambda: support_recall(parts, cited, supported),
    }


def _supports(parts: Sequence[Statement], sources: Sequence[Chunk], scorer: Faithfulness) -> tuple[Support, ...]:
    if not sources:
        raise InputError("the answer comes without sources")
    if not parts:
        raise InputError("the answer has no statements")
    return tuple(scorer.support(part.text, sources) for part in parts)


def _unscorable(answer: Answer | BaseException) -> str:
    if isinstance(answer, BaseException):
        return f"the system failed: {type(answer).__name__}: {answer}"
    if answer.abstained:
        return f"the system abstained: {answer.reason}" if answer.reason else "the system abstained"
    return "" if answer.text.strip() else "the answer is empty"


def _missing(reason: str) -> float:
    raise InputError(reason)


def _reference(question: Question) -> str:
    if question.answer is None or not question.answer.strip():
        _missing("the question has no reference answer" if question.answer is None else "the reference is empty")
    return question.answer or ""


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
        # One answer has a mean, but no spread to make an interval of; nor have cosines that are all the same.
        spread = len(values) > 1 and (metric not in COSINES or np.ptp(values) > 0)
        low, high = _interval(metric, values, own, seed) if spread else (None, None)
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


@dataclass(frozen=True)
class Statement:
    """A sentence of an answer (or a list item, or a code block) and the numbers of the sources that it cites."""

    text: str
    cited: frozenset[int] = frozenset()


def statements(answer: Answer) -> tuple[Statement, ...]:
    """The statements of an answer, in order, without their markers.

    A marker cites the statement before it. A statement that stands in the quote of a citation cites that source, too.

    >>> chunk = Chunk("d", 0, 9, "Use purge")
    >>> given = Answer("How?", "Use purge [1]. It is fast.", citations=(Citation(1, chunk),))
    >>> [(s.text, sorted(s.cited)) for s in statements(given)]
    [('Use purge.', [1]), ('It is fast.', [])]
    """
    known = {citation.number for citation in answer.citations}
    text, markers = _without_markers(answer.text, known)
    ranges = [
        (block.start + a, block.start + b)
        for block in blocks(text)
        for a, b in _parts(text[block.start : block.end], block.kind)
        if any(c.isalnum() for c in text[block.start + a : block.start + b])
    ]
    starts = np.array([a for a, _ in ranges], dtype=np.int64)
    cited: list[set[int]] = [set() for _ in ranges]
    for place, numbers in markers:
        if (i := int(np.searchsorted(starts, place, side="left")) - 1) >= 0:
            cited[i] |= numbers
    for i, (a, b) in enumerate(ranges):
        cited[i] |= {c.number for c in answer.citations if text[a:b] in c.quote}
    return tuple(Statement(text[a:b].strip(), frozenset(c)) for (a, b), c in zip(ranges, cited, strict=True))


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
    cuts = [0, *(m.end() for m in _ITEM.finditer(block)), len(block)]
    return [(a, b) for a, b in pairwise(cuts) if block[a:b].strip()]


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall over the words that both have, each counted as often as it stands.

    As in SQuAD's evaluation script (Rajpurkar et al. 2016, arXiv 1606.05250): lower case, without punctuation and
    articles.

    >>> token_f1("Purge the queue!", "purge a queue now")
    0.8

    Raises:
        InputError: one of the texts has no words.
    """
    left, right = _squad_words(answer), _squad_words(reference)
    if not left or not right:
        raise InputError("token F1 needs words on both sides: leave the answer unscored")
    both = sum((Counter(left) & Counter(right)).values())
    return 2 * both / (len(left) + len(right))


def _squad_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def rouge_l(answer: str, reference: str) -> float:
    """The F1 of the longest common subsequence of words (Lin 2004, ROUGE, section 3.1, with beta = 1).

    Words are runs of letters and digits in lower case, as in Google's ``rouge-score`` without its stemmer.

    >>> round(rouge_l("The quick brown fox", "The brown quick fox"), 4)
    0.75

    Raises:
        InputError: one of the texts has no words.
    """
    left, right = (_NOT_ALPHANUMERIC.sub(" ", text.lower()).split() for text in (answer, reference))
    if not left or not right:
        raise InputError("ROUGE-L needs words on both sides: leave the answer unscored")
    return 2 * common_subsequence(left, right) / (len(left) + len(right))


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """The length of the longest common subsequence, with a bit for each word of ``left`` (Hyyrö 2004).

    >>> common_subsequence("abcbdab", "bdcaba")
    4
    """
    places: dict[str, int] = {}
    for i, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << i
    row = full = (1 << len(left)) - 1
    for word in right:
        step = row & places.get(word, 0)
        row = (row + step | row - step) & full
    return len(left) - row.bit_count()


def similarity(answer: str, reference: str, embedder: Embedder) -> float:
    """The cosine of the two texts' vectors, -1 to 1.

    >>> class Letters:
    ...     def encode(self, texts, kind="passage"):
    ...         return np.array([[t.count("a"), t.count("b")] for t in texts]) / 2.0
    >>> similarity("aa", "bb", Letters()), similarity("aa", "aac", Letters())
    (0.0, 1.0)

    Raises:
        InputError: one of the texts is blank.
    """
    if not answer.strip() or not reference.strip():
        raise InputError("similarity needs text on both sides: leave the answer unscored")
    hashable: Any = embedder
    return float(_vector(answer, hashable) @ _vector(reference, hashable))


@lru_cache(maxsize=4096)  # every system's answers meet the same references
def _vector(text: str, embedder: Any) -> Vectors:
    vector: Vectors = embedder.encode([text], "query")[0]  # the kind for which no heavy library is loaded
    return vector


def citation_precision(citations: Sequence[Citation], gold: Sequence[Span]) -> float:
    """The share of the cited sources that answer a gold span (each source counted once).

    >>> cited = [Citation(1, Chunk("d", 0, 4, "abcd")), Citation(2, Chunk("d", 4, 8, "efgh"))]
    >>> citation_precision(cited, [Span("d", 0, 4)])
    0.5

    Raises:
        InputError: there is no citation, or no gold.
    """
    chunks, spans = _cited_chunks(citations), _gold(gold)
    if not chunks:
        raise InputError("no citations: their precision is undefined")
    return sum(any(is_relevant(chunk, span) for span in spans) for chunk in chunks) / len(chunks)


def citation_recall(citations: Sequence[Citation], gold: Sequence[Span], any_of: bool = False) -> float:
    """The share of the gold spans that a cited source answers; 0 without citations. ``any_of``: one of them is enough.

    >>> citation_recall([Citation(1, Chunk("d", 0, 4, "abcd"))], [Span("d", 0, 4), Span("d", 8, 12)])
    0.5

    Raises:
        InputError: there is no gold.
    """
    spans, chunks = _gold(gold), _cited_chunks(citations)
    answered = [any(is_relevant(chunk, span) for chunk in chunks) for span in spans]
    return float(any(answered) if any_of else np.mean(answered))


def _cited_chunks(citations: Sequence[Citation]) -> list[Chunk]:
    return list({citation.number: citation.chunk for citation in citations}.values())


def _gold(gold: Sequence[Span]) -> tuple[Span, ...]:
    spans = relevant_gold(gold)
    if not spans:
        raise InputError("no gold span of grade 1 or more: citations can't be compared with any")
    return spans


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

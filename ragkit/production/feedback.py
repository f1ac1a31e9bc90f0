"""What people say about answers, bound to the trace of the answer; and what can be made of it.

    feedback = FeedbackStore(monitor, cache=cache)
    feedback.add(answer.trace_id, thumb=-1, reasons=["outdated"], correction="Since 5.0 it is ...", who="ann")
    feedback.queue()[0]                                         # the question that is most worth a look

Few users give feedback, and they are a biased sample: ``simulation.SimulatedUsers`` shows how far thumbs can be wrong.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ragkit.base import Chunk, Corpus, InputError, RagkitError, Span, question_key, require
from ragkit.evaluation.statistics import auroc, auroc_interval
from ragkit.files import Database, home
from ragkit.production.monitoring import encodable, redact
from ragkit.production.regression import RegressionSet
from ragkit.tokens import minilm_tokenizer
from ragkit.training.pairs import Pair

if TYPE_CHECKING:
    import pandas as pd

Thumb = Literal[-1, 1]

REASONS = MappingProxyType(
    {
        "wrong": "what it says is not true",
        "incomplete": "true, but something is missing",
        "not in the sources": "the sources do not say that",
        "outdated": "it was true of an older version",
        "source irrelevant": "a source has nothing to do with the question",
        "unclear": "hard to read or to follow",
        "slow": "it took too long",
        "should have abstained": "there is no answer, and it should have said so",
        "should not have abstained": "there is an answer, and it said that there is none",
        "right": "it is right",
    }
)
"""Why a thumb points where it points. A fixed list, so that reasons can be counted."""

LONGEST = 20_000
"""Characters of a correction or a comment."""

_SCHEMA = """
CREATE TABLE feedback (number INTEGER PRIMARY KEY AUTOINCREMENT, trace_id TEXT, who TEXT, record TEXT);
CREATE INDEX feedback_trace ON feedback (trace_id, who);
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Feedback:
    """One opinion on one answer. ``flagged`` and ``shown`` are chunk ids; ``question``, ``answer`` and ``shown`` are
    the trace's, stored here so that the record says something when the trace is gone.

    ``number`` counts records: the later one of the same ``who`` on the same trace is the one that counts.
    ``forgotten``: the cache held this answer and has dropped it (known to whoever called ``add``, and not stored).
    """

    number: int
    at: float
    trace_id: str
    thumb: Thumb
    reasons: tuple[str, ...] = ()
    correction: str = ""
    flagged: tuple[str, ...] = ()
    comment: str = ""
    who: str = ""
    question: str = ""
    answer: str = ""
    shown: tuple[str, ...] = ()
    tenant: str = ""
    forgotten: bool = False


@dataclass(frozen=True)
class ReviewItem:
    """A question of a tenant with at least one thumb down: the feedback on its answers, and its priority.

    ``asked`` counts the traces of the question, ``up`` and ``down`` the thumbs that count, ``sure`` is how the best
    score ranks among the other questions', 0..1. ``weight = asked * share of thumbs down * sure`` is high where
    many people are told something wrong by a system that is sure of it; the share is (down + 1) / (down + up + 2), so
    that one thumb is less than ten of ten. ``answers`` are those that got a thumb down.
    """

    question: str
    weight: float
    asked: int
    up: int
    down: int
    sure: float
    traces: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()
    flagged: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    tenant: str = ""


class Cache(Protocol):
    """A cache that can be told to forget one answer."""

    def invalidate(self, digest: str) -> bool: ...


class Traces(Protocol):
    """What feedback needs of a ``TraceMonitor``."""

    @property
    def text(self) -> str:
        """Which texts may be stored: "redacted", "all" or "none"."""
        ...

    def trace(self, trace_id: str) -> Any:
        """The trace, or ``InputError``."""
        ...

    def dataframe(self, since: float | None = None) -> pd.DataFrame: ...


class FeedbackStore:
    """Opinions on answers, in one SQLite file. What ``add`` has returned survives a kill of the process.

    Args:
        monitor: knows the traces that opinions are about; and which texts may be stored (its ``text=``).
        path: the file (``home()/"production"/"feedback.db"``).
        cache: forgets an answer that gets a thumb down.
        clock: seconds since 1970.

    Raises:
        InputError: the file is not a store of feedback.
    """

    def __init__(
        self,
        monitor: Traces,
        path: str | Path | None = None,
        cache: Cache | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.monitor, self.cache, self.clock = monitor, cache, clock
        self.path = Path(path or home() / "production" / "feedback.db")
        self._database = Database(self.path, "feedback", 1, _SCHEMA)

    def __repr__(self) -> str:
        return f"FeedbackStore({str(self.path)!r})"

    def __enter__(self) -> FeedbackStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self._database.close()

    def add(
        self,
        trace_id: str,
        thumb: Thumb,
        reasons: Sequence[str] = (),
        correction: str = "",
        flagged: Sequence[str] = (),
        comment: str = "",
        who: str = "",
    ) -> Feedback:
        """Store an opinion; the same ``who`` may change it by another ``add``.

        Of correction and comment is stored what the monitor would store of them: without what looks like a secret,
        everything, or nothing. A thumb down makes the cache forget the answer: the next to ask gets a new one. (Of a
        pipeline that has not changed, the same one; it is the fix that helps.)

        Raises:
            InputError: no such trace; a thumb that is not -1 or 1; a reason that is not in ``REASONS``; a flagged chunk
                that the answer did not show; a text longer than ``LONGEST``. Nothing is written.
            RagkitError: the file is locked, full or damaged. Nothing is written.
        """
        if isinstance(thumb, bool) or thumb not in (-1, 1):
            raise InputError(f"thumb is {thumb!r}: expected 1 (up) or -1 (down)")
        if isinstance(reasons, str) or isinstance(flagged, str):
            raise InputError("reasons and flagged are lists of texts: expected ['wrong'], not 'wrong'")
        if unknown := [reason for reason in reasons if reason not in REASONS]:
            raise InputError(f"reason {unknown[0]!r}: expected some of {', '.join(REASONS)}")
        if (longest := max(len(correction), len(comment))) > LONGEST:
            raise InputError(f"a text of {longest} characters: expected at most {LONGEST}")
        trace = self.monitor.trace(trace_id)
        # A context joins neighbouring hits to one source, so what an answer cites need not be one of them.
        shown = _once([*(chunk_id for chunk_id, _ in trace.hits), *trace.citations])
        if unknown := [chunk_id for chunk_id in flagged if chunk_id not in shown]:
            raise InputError(
                f"flagged {unknown[0]!r} was not shown with the answer of trace {trace_id!r}: expected a hit or "
                "a source of it"
            )
        opinion = Feedback(
            0,
            self.clock(),
            trace.id,
            thumb,
            _once(reasons),
            self._stored(correction.strip()),
            _once(flagged),
            self._stored(comment.strip()),
            encodable(who),
            trace.question,
            trace.answer,
            shown,
            trace.tenant,
        )
        row = (opinion.trace_id, opinion.who, json.dumps(asdict(opinion)))
        try:
            with self._database.transaction() as database:
                insert = "INSERT INTO feedback (trace_id, who, record) VALUES (?, ?, ?)"
                number = database.execute(insert, row).lastrowid
        except sqlite3.Error as error:
            raise RagkitError(f"{error}; nothing was written, so try again") from error
        # Only now, when nothing can be lost any more.
        return replace(opinion, number=int(number or 0), forgotten=thumb < 0 and self._forgotten(trace.cache_key))

    def all(self) -> tuple[Feedback, ...]:
        """The opinions that count, oldest first: of each ``who`` on each trace the last one.

        Raises:
            RagkitError: the file can't be read.
        """
        last = "SELECT max(number) FROM feedback GROUP BY trace_id, who"  # by number: a clock may be set back
        try:
            with self._database.transaction() as database:
                rows = database.execute(f"SELECT * FROM feedback WHERE number IN ({last}) ORDER BY number").fetchall()
        except sqlite3.Error as error:
            raise RagkitError(f"feedback can't be read: {error}") from error
        return tuple(_record(row["number"], json.loads(row["record"])) for row in rows)

    def queue(self, done: Collection[str] = (), days: float = 30.0) -> tuple[ReviewItem, ...]:
        """The questions whose answers somebody disliked, the worst first (``ReviewItem.weight``), each once a tenant.

        ``question_key`` says which questions are the same. Those in ``done`` (the texts of a regression set) are left
        out. Opinions count however old they are; how often a question was asked, and how it scored, is read off the
        traces of the last ``days``. Of a monitor that stores no text, digests are counted.

        Raises:
            RagkitError: one of the two files can't be read.
        """
        traces, opinions = self.monitor.dataframe(since=self.clock() - days * 86_400), self.all()
        keys = [*zip(traces["tenant"], map(question_key, traces["question"]), strict=True)]
        # Scores of two pipelines are not on one scale, so each is ranked among its own.
        ranks = traces.groupby("settings")["top_score"].rank(pct=True).fillna(0.5)
        asked, sure = Counter(keys), dict(zip(traces["trace_id"], ranks.astype(float), strict=True))
        questions: dict[tuple[str, str], list[Feedback]] = {}
        for opinion in opinions:
            questions.setdefault((opinion.tenant, question_key(opinion.question)), []).append(opinion)
        skip = {"", *map(question_key, done)}
        flags = [
            _flag(own, max(asked[key], 1), sure)
            for key, own in questions.items()
            if key[1] not in skip and any(opinion.thumb < 0 for opinion in own)
        ]
        return tuple(sorted(flags, key=lambda flag: (-flag.weight, -flag.down, flag.question, flag.tenant)))

    def _stored(self, text: str) -> str:
        if self.monitor.text == "none":
            return ""
        return encodable(text if self.monitor.text == "all" else redact(text))

    def _forgotten(self, digest: str) -> bool:
        """Whether the cache has dropped the answer. Its failure is logged: the opinion is stored, and must be seen."""
        try:
            return self.cache is not None and bool(digest) and self.cache.invalidate(digest)
        except Exception:
            _log.exception("the cache could not forget an answer that got a thumb down")
            return False


def _record(number: int, record: dict[str, Any]) -> Feedback:
    lists = {name: tuple(record[name]) for name in ("reasons", "flagged", "shown")}
    return Feedback(**{**record, **lists, "number": number})


def _flag(opinions: Sequence[Feedback], asked: int, sure: Mapping[str, float]) -> ReviewItem:
    bad = [opinion for opinion in opinions if opinion.thumb < 0]
    down, up = len(bad), len(opinions) - len(bad)
    surest = max(sure.get(opinion.trace_id, 0.5) for opinion in bad)
    return ReviewItem(
        question=bad[-1].question,
        weight=asked * (down + 1) / (down + up + 2) * surest,
        asked=asked,
        up=up,
        down=down,
        sure=surest,
        traces=_once(opinion.trace_id for opinion in bad),
        reasons=tuple(reason for reason, _ in Counter(r for opinion in bad for r in opinion.reasons).most_common()),
        corrections=_once(opinion.correction for opinion in bad),
        flagged=_once(chunk_id for opinion in bad for chunk_id in opinion.flagged),
        answers=_once(opinion.answer for opinion in bad),
        comments=_once(opinion.comment for opinion in bad),
        tenant=bad[-1].tenant,
    )


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


def training_pairs(feedback: FeedbackStore, regressions: RegressionSet) -> tuple[Pair, ...]:
    """For each confirmed question and each place of its answer: the question, that place, and passages that were shown.

    The place is cut at 128 tokens, as in ``make_pairs``. Negatives are the first three of: flagged passages, then those
    that a disliked answer had before it, best first; none that answers the question. Questions that nobody has
    confirmed give nothing: what a thumb down is about is a guess.

    Raises:
        RagkitError: the feedback or the set can't be read.
    """
    wrong: dict[str, list[str]] = {}
    bad = [opinion for opinion in feedback.all() if opinion.thumb < 0]
    for opinion in bad:
        wrong.setdefault(question_key(opinion.question), []).extend(opinion.flagged)
    for opinion in bad:
        wrong[question_key(opinion.question)].extend(opinion.shown)
    corpus = regressions.corpus
    ids = {document.id for document in corpus.documents}
    pairs = []
    for question in regressions.questions:
        spans = [span_of(chunk_id) for chunk_id in _once(wrong.get(question_key(question.text), ()))]
        others = [s for s in spans if s.doc_id in ids and not any(s.answers(gold) for gold in question.gold)]
        negatives = tuple(_chunk(corpus, span) for span in others[:3])
        for gold in question.gold:
            end = minilm_tokenizer().offsets(_chunk(corpus, gold).text)[:128][-1, 1]
            place = Span(gold.doc_id, gold.start, gold.start + int(end))
            pairs.append(Pair(question.text, _chunk(corpus, place), "feedback", negatives))
    return tuple(pairs)


def span_of(chunk_id: str) -> Span:
    """Where the chunk called ``chunk_id`` stands.

    >>> span_of("celery/faq#0-43")
    Span(doc_id='celery/faq', start=0, end=43, grade=1)

    Raises:
        InputError: this is not the id of a chunk.
    """
    match = re.fullmatch(r"(.*)#(\d+)-(\d+)", chunk_id, re.DOTALL)
    if match is None:
        raise InputError(f"{chunk_id!r} is not a chunk's id: expected document#start-end")
    return Span(match[1], int(match[2]), int(match[3]))


def _chunk(corpus: Corpus, span: Span) -> Chunk:
    document = corpus.document(span.doc_id)
    text = document.text[span.start : span.end]
    section = document.section_at(span.start)
    return Chunk(document.id, span.start, span.start + len(text), text, section, document.metadata)


def agreement(feedback: Sequence[Feedback], scores: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """One row a scorer: how well its scores of answers tell thumbs up from thumbs down.

    ``auroc`` is how often an answer with a thumb up scores higher than one with a thumb down, with its 95 % interval
    from drawing questions again: opinions on one question are not independent. ``verdict`` is about it. ``kappa``
    (Cohen 1960; 1: always, 0: as by chance) is how thumbs agree with "scores .5 or more".

    Args:
        feedback: opinions that count, as ``FeedbackStore.all()``.
        scores: for each scorer the scores by trace id. Answers without a score are left out (``n`` counts the others).

    Raises:
        InputError: no scorer, or one that has no scores for both a thumb up and a thumb down.
    """
    if not scores:
        raise InputError("no scorer: expected scores by name, such as {'faithfulness': {trace_id: 0.9}}")
    rows = {}
    for name, values in scores.items():
        scored = [f for f in feedback if np.isfinite(values.get(f.trace_id, np.nan))]
        given, up = np.array([values[f.trace_id] for f in scored]), np.array([f.thumb > 0 for f in scored], dtype=bool)
        if up.all() or not up.any():
            raise InputError(f"{name}: {up.sum()} thumbs up, {(~up).sum()} down with a score: expected some of both")
        low, high = auroc_interval(given, up, [question_key(f.question) or f.trace_id for f in scored])
        rows[name] = {
            "n": len(scored),
            "auroc": auroc(given[up], given[~up]),
            "low": low,
            "high": high,
            "kappa": float(require("sklearn.metrics", "notebook").cohen_kappa_score(given >= 0.5, up)),
            "verdict": "agrees" if low > 0.5 else "contradicts" if high < 0.5 else "no detectable agreement",
        }
    return require("pandas", "notebook").DataFrame(rows).T.infer_objects()  # type: ignore[no-any-return]

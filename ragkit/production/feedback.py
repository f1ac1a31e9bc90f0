"""What people say about answers, bound to the trace of the answer; and what can be made of it.

    feedback = FeedbackStore(monitor, cache=cache)
    feedback.add(answer.trace_id, thumb=-1, reasons=["outdated"], correction="Since 5.0 it is ...", who="ann")
    flag = feedback.queue()[0]                                  # the question that is most worth a look
    suggestion = suggest(flag, corpus, rag)                     # places where its answer may stand
    regressions = RegressionSet("regression.jsonl", corpus)
    confirm(suggestion, regressions, who="ann")                 # or span=..., where none of the places is right

Few users give feedback, and they are a biased sample: ``simulation.SimulatedUsers`` shows how far thumbs can be wrong.
And nothing becomes a test that nobody has looked at, because a suggestion is often wrong.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from ragkit.base import Chunk, Corpus, Document, Hit, InputError, Question, RagkitError, Span, question_key
from ragkit.files import Database, home
from ragkit.generation.extractive import idf, passages, stems
from ragkit.markdown import blocks
from ragkit.pipeline import RAGPipeline
from ragkit.production.caching import SQLiteCache
from ragkit.production.monitoring import TraceMonitor, encodable, redact
from ragkit.production.regression import RegressionSet
from ragkit.production.semantic import SemanticCache
from ragkit.tokens import minilm_tokenizer
from ragkit.training.pairs import Pair

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

_SOURCES_FINE = {"incomplete", "unclear", "slow"}  # reasons that do not say that the quoted passages are wrong
_DAYS = 30.0  # whose traces say how often a question is asked
_HITS = 50  # in which a place for the answer is looked for
_PLACES = 3  # that are suggested
_SECTION = 1_600  # characters of a section that is suggested as a whole; of a longer one, neighbouring paragraphs are
_RUN = 2_500  # characters of the longest run of paragraphs that is compared with a correction
_PARAGRAPHS = 100  # of such a run
_ASKED = 600  # characters of a correction that are searched for
_QUOTED = 40  # characters: a shorter passage may stand in an answer by chance
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
    """A question of a tenant with at least one thumb down, and its priority.

    ``asked`` counts the traces of the question, ``up`` and ``down`` the thumbs that count, ``sure`` is how the best
    score ranks among the other questions', 0..1. ``weight = asked * share of thumbs down * sure`` is high where
    many people are told something wrong by a system that is sure of it; the share is (down + 1) / (down + up + 2), so
    that one thumb is less than ten of ten. ``reasons`` are those of the ``complaints``, the most frequent first.
    """

    question: str
    weight: float
    asked: int
    up: int
    down: int
    sure: float
    reasons: tuple[str, ...]
    complaints: tuple[Feedback, ...]
    tenant: str = ""


class FeedbackStore:
    """Opinions on answers, in one SQLite file. What ``add`` has returned survives a kill of the process.

    Args:
        monitor: knows the traces that opinions are about; and which texts may be stored (its ``text=``).
        path: the file (``home()/"production"/"feedback.db"``).
        cache: forgets an answer that gets a thumb down.

    Raises:
        InputError: the file is not a store of feedback.
    """

    def __init__(
        self, monitor: TraceMonitor, path: str | Path | None = None, cache: SQLiteCache | SemanticCache | None = None
    ) -> None:
        self.monitor, self.cache = monitor, cache
        self._database = Database(path or home() / "production" / "feedback.db", "feedback", 1, _SCHEMA)

    def __repr__(self) -> str:
        return f"FeedbackStore({str(self._database.path)!r})"

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
                that the answer did not show. Nothing is written.
            RagkitError: the file is locked, full or damaged. Nothing is written.
        """
        if thumb not in (-1, 1):
            raise InputError(f"thumb is {thumb!r}: expected 1 (up) or -1 (down)")
        if unknown := [reason for reason in reasons if reason not in REASONS]:
            raise InputError(f"reason {unknown[0]!r}: expected some of {', '.join(REASONS)}")
        trace = self.monitor.trace(trace_id)
        # A context joins neighbouring hits to one source, so what an answer cites need not be one of them.
        shown = _once([*(chunk_id for chunk_id, _ in trace.hits), *trace.citations])
        if unknown := [chunk_id for chunk_id in flagged if chunk_id not in shown]:
            raise InputError(f"flagged {unknown[0]!r} was not shown with the answer: expected a hit or a source of it")
        correction, comment = self._stored(correction.strip()), self._stored(comment.strip())
        verdict = (thumb, _once(reasons), correction, _once(flagged), comment, encodable(who))
        about = (trace.question, trace.answer, shown, trace.tenant)
        opinion = Feedback(0, time.time(), trace.id, *verdict, *about)
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
            sqlite3.Error: the file can't be read.
        """
        last = "SELECT max(number) FROM feedback GROUP BY trace_id, who"  # by number: a clock may be set back
        with self._database.transaction() as database:
            rows = database.execute(f"SELECT * FROM feedback WHERE number IN ({last}) ORDER BY number").fetchall()
        records = [json.loads(row["record"]) | {"number": row["number"]} for row in rows]
        lists = ("reasons", "flagged", "shown")
        return tuple(Feedback(**record | {name: tuple(record[name]) for name in lists}) for record in records)

    def queue(self) -> tuple[ReviewItem, ...]:
        """The questions whose answers somebody disliked, the worst first (``ReviewItem.weight``), each once a tenant.

        ``question_key`` says which questions are the same. Opinions count however old they are; how often a question
        was asked, and how it scored, is read off the traces of the last 30 days. Of a monitor that stores no text,
        digests are counted.

        Raises:
            sqlite3.Error: one of the two files can't be read.
        """
        traces = self.monitor.dataframe(since=time.time() - _DAYS * 86_400)
        times = Counter(zip(traces["tenant"], map(question_key, traces["question"]), strict=True))
        # Scores of two pipelines are not on one scale, so each is ranked among its own.
        ranks = traces.groupby("settings")["top_score"].rank(pct=True).fillna(0.5)
        sure = dict(zip(traces["trace_id"], ranks.tolist(), strict=True))
        questions = defaultdict(list)
        for opinion in self.all():
            questions[opinion.tenant, question_key(opinion.question)].append(opinion)
        flags = [
            _review_item(opinions, max(times[key], 1), sure)
            for key, opinions in questions.items()
            if any(opinion.thumb < 0 for opinion in opinions)
        ]
        return tuple(sorted(flags, key=lambda flag: (-flag.weight, -flag.down, flag.question, flag.tenant)))

    def _stored(self, text: str) -> str:
        return encodable({"all": text, "redacted": redact(text), "none": ""}[self.monitor.text])

    def _forgotten(self, digest: str) -> bool:
        """Whether the cache has dropped the answer. Its failure is logged: the opinion is stored, and must be seen."""
        try:
            return self.cache is not None and self.cache.invalidate(digest)
        except sqlite3.Error:
            _log.exception("the cache could not forget an answer that got a thumb down")
            return False


def _review_item(opinions: Sequence[Feedback], asked: int, sure: Mapping[str, float]) -> ReviewItem:
    complaints = tuple(opinion for opinion in opinions if opinion.thumb < 0)
    down, up = len(complaints), len(opinions) - len(complaints)
    surest = max(sure.get(opinion.trace_id, 0.5) for opinion in complaints)
    reasons = Counter(reason for opinion in complaints for reason in opinion.reasons)
    weight = asked * (down + 1) / (down + up + 2) * surest
    ordered, last = tuple(reason for reason, _ in reasons.most_common()), complaints[-1]
    return ReviewItem(last.question, weight, asked, up, down, surest, ordered, complaints, last.tenant)


@dataclass(frozen=True)
class Suggestion:
    """Places for the answer to a flagged question, the likeliest first (none, where nothing was found), and ``why``:
    by what they were ranked. Scores of one suggestion can be compared."""

    flag: ReviewItem
    places: tuple[Hit, ...]
    why: str

    def __repr__(self) -> str:
        lines = [f"{self.flag.question!r}: {len(self.places)} places by {self.why}"]
        for number, place in enumerate(self.places, 1):
            where = " › ".join((place.chunk.doc_id, *place.chunk.section))
            lines.append(f"{number}  {place.score:.2f}  {where}  {' '.join(place.chunk.text.split())[:80]}")
        return "\n".join(lines)


def suggest(flag: ReviewItem, corpus: Corpus, rag: RAGPipeline) -> Suggestion:
    """Three places that do not overlap by half, looked for in the 50 best hits of ``rag``.

    With a corrected answer: the paragraphs that share most of its words (``f_measure`` of stems, weighted by idf).
    Without: the sections that ``rag``'s reranker puts first (without a reranker: those that hold most of the question's
    words), but not what was flagged, nor what the disliked answer quotes. ``rag`` need not be the pipeline that failed,
    and a better one is better here.

    Raises:
        InputError: the question's text was not stored, or ``rag`` searches another corpus.
    """
    if re.fullmatch(r"question:[0-9a-f]{16}", flag.question):
        raise InputError(f"{flag.question}: the monitor keeps no text, so nobody knows what was asked")
    corrections = _once(complaint.correction for complaint in flag.complaints)
    hits = [hit for text in (flag.question, *corrections) for hit in rag.retriever.search(text[:_ASKED], _HITS)]
    chunks = _candidates(hits, corpus, every_run=bool(corrections))
    if corrections:
        return Suggestion(flag, _distinct(_by_words(chunks, corrections, hits)), "the words of the corrected answer")
    beside = [_span(chunk_id) for complaint in flag.complaints for chunk_id in complaint.flagged]
    chunks = [c for c in chunks if not any(2 * c.span.overlap(span) >= len(c.span) for span in beside)]
    if rag.reranker is not None and chunks:
        why, again = "the reranker", [Hit(chunk, 0.0) for chunk in chunks]
        ranked = rag.reranker.rerank(flag.question, again, len(again))
    else:
        why, ranked = "the words of the question", _by_words(chunks, [flag.question], hits)
    if not _SOURCES_FINE.intersection(flag.reasons):
        answers = _once(complaint.answer for complaint in flag.complaints)
        ranked = [hit for hit in ranked if not _quoted(hit.chunk, answers)]
    return Suggestion(flag, _distinct(ranked), why)


def confirm(
    suggestion: Suggestion, regressions: RegressionSet, span: Span | Sequence[Span] | None = None, *, who: str
) -> Question:
    """Make a flagged question a test: the first place of ``suggestion`` is its gold, or ``span`` if given.

    Raises:
        InputError: nobody confirms; no place was suggested and no span given; a span outside its document; the question
            is in the set already.
        CorpusError: the set's file can't be read.
    """
    flag = suggestion.flag
    if span is None and not suggestion.places:
        raise InputError(f"{flag.question!r}: no place was suggested, so give span=Span(document, start, end)")
    gold = (suggestion.places[0].chunk.span,) if span is None else (span,) if isinstance(span, Span) else tuple(span)
    return regressions.add(flag.question, gold, who=who, trace_id=flag.complaints[-1].trace_id)


def f_measure(words: set[str], wanted: set[str], weight: Mapping[str, float] | None = None) -> float:
    """``5 P R / (4 P + R)``: P, the share of ``words`` that is wanted, and R, of ``wanted`` that is there.

    van Rijsbergen, Information Retrieval (1979), ch. 7, with beta = 2: recall counts twice as much, because a
    correction is seldom longer than the place that it is from. ``weight`` is that of each word (default: all alike).

    >>> f_measure({"a", "b"}, {"a", "c"})
    0.5
    """
    weight = dict.fromkeys(words | wanted, 1.0) if weight is None else weight
    both = sum(weight[term] for term in words & wanted)
    if not both:
        return 0.0
    precision, recall = both / sum(weight[term] for term in words), both / sum(weight[term] for term in wanted)
    return 5 * precision * recall / (4 * precision + recall)


def _candidates(hits: Iterable[Hit], corpus: Corpus, every_run: bool) -> list[Chunk]:
    """What can be suggested at the places of ``hits``, each once."""
    spans: dict[Span, None] = {}
    for span in (hit.chunk.span for hit in hits):
        near = spans_around(corpus.document(span.doc_id), span, every_run)
        spans |= dict.fromkeys(each for each in near if each.overlap(span))
    return [_chunk(corpus, span) for span in spans]


def spans_around(document: Document, hit: Span, every_run: bool) -> Iterator[Span]:
    """The sections that ``hit`` touches, as a reader sees them; of long ones groups of their paragraphs. With
    ``every_run``, every section and every run of its neighbouring paragraphs."""
    for begin, end in [(s.body, s.end) for s in document.visible_sections] or [(0, len(document.text))]:
        text = document.text[begin:end]
        start = begin + len(text) - len(text.lstrip())
        body = Span(document.id, start, start + len(text.strip()))
        if not body.overlap(hit):
            continue
        parts = [(start + block.start, start + block.end) for block in blocks(text.strip())]
        if every_run or len(body) <= _SECTION:
            yield body
        groups: list[tuple[int, int]] = []
        if every_run:
            runs = [(first, last) for i, (first, _) in enumerate(parts) for _, last in parts[i : i + _PARAGRAPHS]]
            groups = [(first, last) for first, last in runs if last - first <= _RUN]
        elif len(body) > _SECTION:
            for first, last in parts:
                joined = groups and last - groups[-1][0] <= _SECTION // 2
                groups.append((groups.pop()[0] if joined else first, last))
        yield from (Span(document.id, first, last) for first, last in groups)


def _by_words(chunks: Sequence[Chunk], texts: Iterable[str], hits: Sequence[Hit]) -> list[Hit]:
    """``chunks`` by their likeness to the most similar of ``texts``; the shorter one first where two are equal."""
    wanted, known = [stems(text) for text in texts], [stems(text) for text in {hit.chunk.text for hit in hits}]
    words = [stems(chunk.text) for chunk in chunks]
    weight = {term: idf(term, known) for term in set().union(*words, *wanted)}
    scores = [max(f_measure(own, text, weight) for text in wanted) for own in words]
    ranked = [Hit(chunk, score) for score, chunk in zip(scores, chunks, strict=True) if score > 0]
    return sorted(ranked, key=lambda hit: (-hit.score, len(hit.chunk.text), hit.chunk.id))


def _quoted(chunk: Chunk, answers: Iterable[str]) -> bool:
    """Whether one of ``answers`` quotes from ``chunk``."""
    parts = [chunk.text[p.start : p.end].strip() for p in passages(chunk.text, cut=True)]
    return any(part in answer for answer in answers for part in parts if len(part) >= _QUOTED)


def _distinct(ranked: Iterable[Hit]) -> tuple[Hit, ...]:
    """The first three that do not cover each other by half."""
    places: list[Hit] = []
    for hit in ranked:
        if len(places) < _PLACES and not any(hit.chunk.span.answers(place.chunk.span) for place in places):
            places.append(hit)
    return tuple(places)


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


def training_pairs(feedback: FeedbackStore, regressions: RegressionSet) -> tuple[Pair, ...]:
    """For each confirmed question and each place of its answer: the question, that place, and passages that were shown.

    The place is cut at 128 tokens, as in ``make_pairs``. Negatives are the first three of: flagged passages, then those
    that a disliked answer had before it, best first; none that answers the question. Questions that nobody has
    confirmed give nothing: what a thumb down is about is a guess.

    Raises:
        CorpusError, sqlite3.Error: the set or the feedback can't be read.
    """
    complaints = defaultdict(list)
    for opinion in feedback.all():
        if opinion.thumb < 0:
            complaints[question_key(opinion.question)].append(opinion)
    corpus = regressions.corpus
    ids = {document.id for document in corpus.documents}
    pairs = []
    for question in regressions.questions:
        about = complaints[question_key(question.text)]
        wrong = _once(chain.from_iterable([o.flagged for o in about] + [o.shown for o in about]))
        spans = [_span(chunk_id) for chunk_id in wrong]
        others = [s for s in spans if s.doc_id in ids and not any(s.answers(gold) for gold in question.gold)]
        negatives = tuple(_chunk(corpus, span) for span in others[:3])
        for gold in question.gold:
            end = minilm_tokenizer().offsets(_chunk(corpus, gold).text)[:128][-1, 1]
            place = Span(gold.doc_id, gold.start, gold.start + int(end))
            pairs.append(Pair(question.text, _chunk(corpus, place), "feedback", negatives))
    return tuple(pairs)


def _span(chunk_id: str) -> Span:
    """Where the chunk called ``chunk_id`` stands (``Chunk.id``)."""
    doc_id, _, place = chunk_id.rpartition("#")
    start, _, end = place.partition("-")
    return Span(doc_id, int(start), int(end))


def _chunk(corpus: Corpus, span: Span) -> Chunk:
    document = corpus.document(span.doc_id)
    text = document.text[span.start : span.end]
    section, pages = document.section_at(span.start), document.pages_in(span.start, span.end)
    return Chunk(document.id, span.start, span.start + len(text), text, section, document.metadata, pages=pages)

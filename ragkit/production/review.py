"""From a flag to a labelled question: where the answer probably stands, for a person to confirm.

    flag = feedback.queue()[0]
    suggestion = suggest(flag, corpus, rag)                     # places to look at, the likeliest first
    regressions = RegressionSet("regression.jsonl", corpus)
    confirm(suggestion, regressions, who="ann")                 # or span=..., where none of the places is right

Nothing becomes a test that nobody has looked at, because a suggestion is often wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ragkit.base import Chunk, Corpus, Document, Hit, InputError, Question, Section, Span
from ragkit.generation.extractive import idf, passages, stems
from ragkit.markdown import blocks
from ragkit.pipeline import RAGPipeline
from ragkit.production.feedback import ReviewItem, span_of
from ragkit.production.regression import RegressionSet

_SECTION = 1_600  # characters of a section that is suggested as a whole; of a longer one, neighbouring paragraphs are
_RUN = 2_500  # characters of the longest run of paragraphs that is compared with a correction
_PARAGRAPHS = 100  # of such a run
_ASKED = 600  # characters of a correction that are searched for
_BETA = 2.0  # a correction is seldom longer than the place that it is from: what it holds counts more
_QUOTED = 40  # characters: a shorter passage may stand in an answer by chance
_SOURCES_FINE = {"incomplete", "unclear", "slow"}  # reasons that do not say that the quoted passages are wrong


@dataclass(frozen=True)
class CandidateSpan:
    """Where the answer may stand: ``text`` is the document's in ``span``. Scores of one suggestion can be compared."""

    span: Span
    text: str
    section: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class Suggestion:
    """Places for the answer to a flagged question, the likeliest first (none, where nothing was found), and ``why``:
    by what they were ranked."""

    flag: ReviewItem
    places: tuple[CandidateSpan, ...]
    why: str

    def __repr__(self) -> str:
        lines = [f"{self.flag.question!r}: {len(self.places)} places by {self.why}"]
        for number, place in enumerate(self.places, 1):
            where = " › ".join((place.span.doc_id, *place.section))
            lines.append(f"{number}  {place.score:.2f}  {where}  {' '.join(place.text.split())[:80]}")
        return "\n".join(lines)


def suggest(flag: ReviewItem, corpus: Corpus, rag: RAGPipeline, *, limit: int = 3, fetch: int = 50) -> Suggestion:
    """``limit`` places that do not overlap by half, looked for in the ``fetch`` best hits of ``rag``.

    With a corrected answer: the paragraphs that share most of its words (``f_measure`` of stems, weighted by idf).
    Without: the sections that ``rag``'s reranker puts first (without a reranker: those that hold most of the question's
    words), but not what was flagged, nor what the disliked answer quotes. ``rag`` need not be the pipeline that failed,
    and a better one is better here.

    Raises:
        InputError: ``limit`` or ``fetch`` < 1, the question's text was not stored, or ``rag`` searches another corpus.
    """
    if limit < 1 or fetch < 1:
        raise InputError(f"limit is {limit!r}, fetch {fetch!r}: expected 1 or more")
    if re.fullmatch(r"question:[0-9a-f]{16}", flag.question):
        raise InputError(f"{flag.question}: the monitor keeps no text, so nobody knows what was asked")
    texts = [flag.question, *(correction[:_ASKED] for correction in flag.corrections)]
    hits = [hit for text in texts for hit in rag.retriever.search(text, fetch)]
    chunks = _candidates(hits, corpus, every_run=bool(flag.corrections))
    if flag.corrections:
        places = _distinct(_by_words(chunks, flag.corrections, hits), limit)
        return Suggestion(flag, places, "the words of the corrected answer")
    irrelevant = [span_of(chunk_id) for chunk_id in flag.flagged]
    chunks = [c for c in chunks if not any(2 * c.span.overlap(span) >= len(c.span) for span in irrelevant)]
    ranked: Iterable[tuple[float, Chunk]]
    if rag.reranker is not None and chunks:
        again = rag.reranker.rerank(flag.question, [Hit(chunk, 0.0) for chunk in chunks], len(chunks))
        why, ranked = "the reranker", [(hit.score, hit.chunk) for hit in again]
    else:
        why, ranked = "the words of the question", _by_words(chunks, [flag.question], hits)
    if not _SOURCES_FINE.intersection(flag.reasons):
        ranked = ((score, chunk) for score, chunk in ranked if not _quoted(chunk, flag.answers))
    return Suggestion(flag, _distinct(ranked, limit), why)


def confirm(
    suggestion: Suggestion, regressions: RegressionSet, span: Span | Sequence[Span] | None = None, *, who: str
) -> Question:
    """Make a flagged question a test: the first place of ``suggestion`` is its gold, or ``span`` if given.

    Raises:
        InputError: nobody confirms; no place was suggested and no span given; a span outside its document; the question
            is in the set already.
        CorpusError: the set's file can't be read.
    """
    if span is None and not suggestion.places:
        raise InputError(
            f"{suggestion.flag.question!r}: no place was suggested, so give span=Span(document, start, end)"
        )
    gold = (suggestion.places[0].span,) if span is None else (span,) if isinstance(span, Span) else tuple(span)
    trace = suggestion.flag.traces[-1] if suggestion.flag.traces else ""
    return regressions.add(suggestion.flag.question, gold, who=who, trace_id=trace)


def f_measure(words: set[str], wanted: set[str], weight: Mapping[str, float], beta: float = _BETA) -> float:
    """``(1 + b²) P R / (b² P + R)``: P, the share of ``words`` that is wanted, and R, of ``wanted`` that is there.

    van Rijsbergen, Information Retrieval (1979), ch. 7, with weighted words; recall counts ``beta`` times as much.

    >>> f_measure({"a", "b"}, {"a", "c"}, {"a": 1.0, "b": 1.0, "c": 1.0})
    0.5
    """
    both = sum(weight[term] for term in words & wanted)
    if not both:
        return 0.0
    precision, recall = both / sum(weight[term] for term in words), both / sum(weight[term] for term in wanted)
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def _candidates(hits: Iterable[Hit], corpus: Corpus, every_run: bool) -> list[Chunk]:
    """What can be suggested at the places of ``hits``, each once."""
    chunks: dict[Span, Chunk] = {}
    for hit in hits:
        document = corpus.document(hit.chunk.doc_id)
        for span in spans_around(document, hit.chunk.span, every_run):
            if span not in chunks and span.overlap(hit.chunk.span):
                text, path = document.text[span.start : span.end], document.section_at(span.start)
                chunks[span] = Chunk(document.id, span.start, span.end, text, path, document.metadata)
    return list(chunks.values())


def spans_around(document: Document, hit: Span, every_run: bool) -> Iterator[Span]:
    """The sections that ``hit`` touches; of long ones groups of their paragraphs. With ``every_run``, every section and
    every run of its neighbouring paragraphs."""
    for section in document.sections or (Section((), 0, 0, len(document.text)),):
        text = document.text[section.body : section.end]
        start = section.body + len(text) - len(text.lstrip())
        body = Span(document.id, start, start + len(text.strip()))
        if not text.strip() or not (body.start < hit.end and hit.start < body.end):
            continue
        parts = [(start + b.start, start + b.end) for b in blocks(text.strip())]
        if every_run or len(body) <= _SECTION:
            yield body
        groups: list[tuple[int, int]] = []
        for i, (first, end) in enumerate(parts):
            if every_run:
                groups += [(first, last) for _, last in parts[i : i + _PARAGRAPHS] if last - first <= _RUN]
            elif len(body) > _SECTION:
                joined = bool(groups) and end - groups[-1][0] <= _SECTION // 2
                groups.append((groups.pop()[0] if joined else first, end))
        yield from (Span(document.id, first, end) for first, end in groups)


def _by_words(chunks: Sequence[Chunk], texts: Iterable[str], hits: Sequence[Hit]) -> list[tuple[float, Chunk]]:
    """``chunks`` by their likeness to the most similar of ``texts``; the shorter one first where two are equal."""
    wanted, known = [stems(text) for text in texts], [stems(text) for text in {hit.chunk.text for hit in hits}]
    words = [stems(chunk.text) for chunk in chunks]
    weight = {term: idf(term, known) for term in set().union(*words, *wanted)}
    scores = [max(f_measure(own, asked, weight) for asked in wanted) for own in words]
    ranked = [(score, chunk) for score, chunk in zip(scores, chunks, strict=True) if score > 0]
    return sorted(ranked, key=lambda one: (-one[0], len(one[1].text), one[1].id))


def _quoted(chunk: Chunk, answers: Iterable[str]) -> bool:
    """Whether one of ``answers`` quotes from ``chunk``."""
    parts = [chunk.text[p.start : p.end].strip() for p in passages(chunk.text, cut=True)]
    return any(part in answer for answer in answers for part in parts if len(part) >= _QUOTED)


def _distinct(ranked: Iterable[tuple[float, Chunk]], limit: int) -> tuple[CandidateSpan, ...]:
    """The first ``limit`` that do not cover each other by half."""
    places: list[CandidateSpan] = []
    for score, chunk in ranked:
        if len(places) == limit:
            break
        if not any(chunk.span.answers(place.span) for place in places):
            places.append(CandidateSpan(chunk.span, chunk.text, chunk.section, score))
    return tuple(places)

"""From a flag to a labelled question: where the answer probably stands, for a person to confirm.

    flag = feedback.queue()[0]
    suggestion = suggest(flag, corpus, rag)                     # places to look at, the likeliest first
    regressions = RegressionSet("regression.jsonl", corpus)
    confirm(suggestion, regressions, who="ann")                 # or span=..., where none of the places is right

Nothing becomes a test that nobody has looked at, because a suggestion is often wrong. How often its first place, and
one of its first three, answers the question: on the 208 of 314 questions about ``core`` that ``naive`` answers wrongly
or not at all, searched again by ``advanced`` (``python tests/run_bench.py feedback``)::

    the reviewer gave                 first   first three
    only a thumb down                  .22        .38
    the right passage, copied         1.00       1.00
    its first sentence                 .73        .78
    half of its words, shuffled        .95        .96
    a fifth of its words, shuffled     .81        .85
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from ragkit.base import Chunk, Corpus, Document, Hit, InputError, Question, Section, Span
from ragkit.generation.extractive import idf, stems
from ragkit.passages import blocks, passages
from ragkit.pipeline import RAGPipeline
from ragkit.production.opinions import Flag
from ragkit.production.regression import RegressionSet

LONGEST = 1_600
"""Characters of a section that is suggested as a whole; of a longer one, neighbouring paragraphs are."""

_RUN = 2_500  # characters of the longest run of paragraphs that is compared with a correction
_ASKED = 600  # characters of a correction that are searched for
_BETA = 2.0  # a correction is seldom longer than the place that it is from: what it holds counts more
_QUOTED = 40  # characters: a shorter passage may stand in an answer by chance
_KEPT = frozenset({"incomplete", "unclear", "slow"})  # reasons that do not say that the quoted passages are wrong


@dataclass(frozen=True)
class Place:
    """Where the answer may stand: ``text`` is the document's in ``span``. Scores of one suggestion can be compared."""

    span: Span
    text: str
    section: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class Suggestion:
    """Places for the answer to a flagged question, the likeliest first (none, where nothing was found), and ``why``:
    by what they were ranked."""

    flag: Flag
    places: tuple[Place, ...]
    why: str

    def __repr__(self) -> str:
        lines = [f"{self.flag.question!r}: {len(self.places)} places by {self.why}"]
        for number, place in enumerate(self.places, 1):
            where = " › ".join((place.span.doc_id, *place.section))
            lines.append(f"{number}  {place.score:.2f}  {where}  {' '.join(place.text.split())[:80]}")
        return "\n".join(lines)


def suggest(flag: Flag, corpus: Corpus, rag: RAGPipeline, *, most: int = 3, fetch: int = 50) -> Suggestion:
    """``most`` places that do not overlap by half, looked for in the ``fetch`` best hits of ``rag``.

    With a corrected answer: the paragraphs that share most of its words (F-measure of stems, weighted by idf; recall
    counts ``_BETA`` times as much as precision, van Rijsbergen 1979, ch. 7). Without: the sections that ``rag``'s
    reranker puts first (without a reranker: those that hold most of the question's words), but not what was flagged,
    nor what the disliked answer quotes. ``rag`` need not be the pipeline that failed, and better is not.

    Raises:
        InputError: ``most`` or ``fetch`` < 1, the question's text was not kept, or ``rag`` searches another corpus.
    """
    if most < 1 or fetch < 1:
        raise InputError(f"most is {most!r}, fetch {fetch!r}: expected 1 or more")
    if re.fullmatch(r"question:[0-9a-f]{16}", flag.question):
        raise InputError(f"{flag.question}: the monitor keeps no text, so nobody knows what was asked")
    texts = [flag.question, *(correction[:_ASKED] for correction in flag.corrections)]
    hits = list(chain.from_iterable(rag.retriever.search(text, fetch) for text in texts))
    if flag.corrections:
        found = _cut(hits, corpus, runs)
        ranked = _by_words(found, [stems(correction) for correction in flag.corrections], hits)
        return Suggestion(flag, _distinct(ranked, most), "the words of the corrected answer")
    found = [chunk for chunk in _cut(hits, corpus, windows) if not _flagged(chunk, flag)]
    if rag.reranker is not None and found:
        again = rag.reranker.rerank(flag.question, [Hit(chunk, 0.0) for chunk in found], len(found))
        ranked, why = [(hit.score, hit.chunk) for hit in again], "the reranker"
    else:
        ranked, why = _by_words(found, [stems(flag.question)], hits), "the words of the question"
    unquoted = ((score, chunk) for score, chunk in ranked if not _quoted(chunk, flag))
    return Suggestion(flag, _distinct(unquoted, most), why)


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


def windows(document: Document, start: int, end: int) -> Iterator[Span]:
    """What of ``[start, end)`` can be suggested: sections, and of long ones groups of their paragraphs."""
    for section, body in _sections(document, start, end):
        if len(body) <= LONGEST:
            yield body
            continue
        group: Span | None = None
        for part in _paragraphs(document, section, body):
            if group is not None and part.end - group.start <= LONGEST // 2:
                group = Span(document.id, group.start, part.end)
                continue
            if group is not None:
                yield group
            group = part
        if group is not None:
            yield group


def runs(document: Document, start: int, end: int) -> Iterator[Span]:
    """All that a correction is compared with: every run of neighbouring paragraphs of a section, and the section."""
    for section, body in _sections(document, start, end):
        parts = _paragraphs(document, section, body)
        for i, first in enumerate(parts):
            for last in parts[i:]:
                if last.end - first.start > _RUN:
                    break
                yield Span(document.id, first.start, last.end)
        yield body


def _sections(document: Document, start: int, end: int) -> Iterator[tuple[Section, Span]]:
    """The sections that have text of their own in ``[start, end)``, and that text."""
    for section in document.sections or (Section((), 0, 0, len(document.text)),):
        text = document.text[section.body : section.end]
        body = section.body + len(text) - len(text.lstrip())
        if text.strip() and body < end and start < body + len(text.strip()):
            yield section, Span(document.id, body, body + len(text.strip()))


def _paragraphs(document: Document, section: Section, body: Span) -> list[Span]:
    found = blocks(document.text[body.start : body.end])
    return [Span(document.id, body.start + b.start, body.start + b.end) for b in found]


def _cut(hits: Iterable[Hit], corpus: Corpus, how: Callable[[Document, int, int], Iterator[Span]]) -> list[Chunk]:
    """What ``how`` makes of the places of ``hits``, each once; of a cut group, only what touches a hit."""
    found: dict[Span, Chunk] = {}
    for hit in hits:
        document = corpus.document(hit.chunk.doc_id)
        for span in how(document, hit.chunk.start, hit.chunk.end):
            if span not in found and span.overlap(hit.chunk.span):
                text = document.text[span.start : span.end]
                path = document.section_at(span.start)
                found[span] = Chunk(document.id, span.start, span.end, text, path, document.metadata)
    return list(found.values())


def _by_words(chunks: Sequence[Chunk], wanted: Sequence[set[str]], hits: Sequence[Hit]) -> list[tuple[float, Chunk]]:
    """``chunks`` by their likeness to the most similar of ``wanted``; the shorter one first where two are equal."""
    texts = [stems(text) for text in dict.fromkeys(hit.chunk.text for hit in hits)]
    words = [stems(chunk.text) for chunk in chunks]
    weight = {term: idf(term, texts) for term in set().union(*words, *wanted)}
    scores = [max(f_measure(own, asked, weight) for asked in wanted) for own in words]
    found = [(score, chunk) for score, chunk in zip(scores, chunks, strict=True) if score > 0]
    return sorted(found, key=lambda one: (-one[0], len(one[1].text), one[1].id))


def f_measure(words: set[str], wanted: set[str], weight: Mapping[str, float], beta: float = _BETA) -> float:
    """``(1 + b²) P R / (b² P + R)``: P, the share of ``words`` that is wanted, and R, of ``wanted`` that is there.

    van Rijsbergen, Information Retrieval (1979), ch. 7, with weighted words.

    >>> f_measure({"a", "b"}, {"a", "c"}, {"a": 1.0, "b": 1.0, "c": 1.0})
    0.5
    """
    both = sum(weight[term] for term in words & wanted)
    if not both:
        return 0.0
    precision, recall = both / sum(weight[term] for term in words), both / sum(weight[term] for term in wanted)
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def _flagged(chunk: Chunk, flag: Flag) -> bool:
    """Whether at least half of ``chunk`` lies in a passage that somebody flagged."""
    return any(2 * chunk.span.overlap(span) >= len(chunk.span) for span in map(span_of, flag.flagged))


def _quoted(chunk: Chunk, flag: Flag) -> bool:
    """Whether an answer that is said to be wrong quotes from ``chunk``."""
    if _KEPT.intersection(flag.reasons):
        return False
    parts = [chunk.text[p.start : p.end].strip() for p in passages(chunk.text)]
    return any(part in answer for answer in flag.answers for part in parts if len(part) >= _QUOTED)


def _distinct(ranked: Iterable[tuple[float, Chunk]], most: int) -> tuple[Place, ...]:
    """The first ``most`` that do not cover each other by half."""
    kept: list[Place] = []
    for score, chunk in ranked:
        if len(kept) == most:
            break
        if not any(chunk.span.answers(place.span) for place in kept):
            kept.append(Place(chunk.span, chunk.text, chunk.section, score))
    return tuple(kept)


def span_of(chunk_id: str) -> Span:
    """Where the chunk called ``chunk_id`` stands.

    >>> span_of("celery/faq#0-43")
    Span(doc_id='celery/faq', start=0, end=43, grade=1)

    Raises:
        InputError: this is not the id of a chunk.
    """
    found = re.fullmatch(r"(.*)#(\d+)-(\d+)", chunk_id, re.DOTALL)
    if found is None:
        raise InputError(f"{chunk_id!r} is not a chunk's id: expected document#start-end")
    return Span(found[1], int(found[2]), int(found[3]))

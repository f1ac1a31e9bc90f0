"""Simulated users, so that monitors, caches, alerts and feedback have something to look at.

**These questions and opinions are simulated.** The needs are real: the questions of the corpus's own FAQ
pages, and ours. Who asks what and when, how it is typed, and who says what about the answer, is drawn by chance.

The stream of questions (``simulate``) has the shapes of logs of search engines:

- popularity follows Zipf's law: the need of rank r is asked in proportion to ``r ** -exponent``. Breslau et al. 1999
  ("Web Caching and Zipf-like Distributions", INFOCOM) found .64 to .83 for requests to web caches; Xie and O'Hallaron
  2002 ("Locality in Search Engine Queries", INFOCOM) found Zipf's law in the queries of two search engines.
- a session has 2 questions on average, as in Silverstein et al. 1999 ("Analysis of a very large web search engine query
  log", SIGIR Forum 33(1): 2.02); ours is geometric, and stays on one topic.
- arrivals are a Poisson process whose rate changes with the hour (``HOURS``): an assumption, as are the shares of
  rephrasings, of ways of typing and of unanswerable questions.

It lacks needs that are each other's opposite, follow-up questions that mean nothing alone, and attacks. What looks safe
on this stream is not shown to be safe on yours.

    corpus, clock = load_pydocs("core"), SimulatedClock()
    stream = simulate(corpus, n=2000, weeks=4, drift=TopicDrift("scrapy", after=2))
    rag = advanced(exclude_project(corpus, "scrapy"), monitor=TraceMonitor())
    rag.clock = clock
    answers = await replay(rag, stream, clock)

The thumbs (``SimulatedUsers``) are wrong in known ways, whose shares are assumptions, too. Whether an answer is right
is known: it quotes the gold, or says that there is no answer where there is none.
"""

from __future__ import annotations

import json
import random
import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from ragkit.base import Answer, Corpus, InputError, Question, RagkitError, Span
from ragkit.corpus import load_questions
from ragkit.files import data_file
from ragkit.retrieval.rewrite import misspelt

if TYPE_CHECKING:
    from ragkit.pipeline import RAGPipeline

START = 1_767_571_200.0
"""Monday, 5 January 2026, 00:00 UTC: where a stream begins."""

WEEK = 7 * 24 * 3600.0

HOURS = (1, 1, 1, 1, 1, 2, 5, 15, 45, 80, 95, 100, 70, 75, 95, 100, 90, 60, 30, 15, 10, 8, 4, 2)
"""Sessions that begin in each hour of a working day, relative to the busiest."""

WEEKEND = 0.15
"""A Saturday's or Sunday's sessions, relative to a working day's."""

TENANTS = ("acme", "globex", "initech")
"""Made-up names; each has as many sessions as the others."""

FORMS = {"as written": 0.60, "lower case": 0.12, "white space": 0.08, "reworded": 0.08, "typo": 0.07, "polite": 0.05}
"""How a question is typed, and how often."""

UNANSWERABLE = 0.05
"""The share of sessions that begin with a question to which the corpus has no answer."""

REPHRASED, REPHRASED_IN_VAIN = 0.15, 0.6
"""The share of questions that are asked again in other words: where there is an answer, and where there is none."""

_LONGEST = 8  # questions of a session
_GAP = (15.0, 75.0)  # seconds between the questions of a session: at least, and on average on top of it
_BEGINNINGS = {
    r"(?i)^(?:how (?:do|can|might|would|should) (?:i|we|you)|how to) ": (
        *("How can I ", "How to ", "How would I ", "What is the way to "),
    ),
    r"(?i)^(?:can|could|may) (?:i|we|you) ": ("Is it possible to ", "Can you ", "Is there a way to "),
}
_FUNCTION_WORDS = """a am an and any are as at be been but by can could did do does doing done for from get had has have
having how i if in into is isn't it its may me might must my of on or our ours please shall should so that the their
them then there these they this those to up us was we were what what's when where which while who why will with would
you your"""
_GREETINGS = ("Hi, ", "Hello! ", "Quick question: ", "Please: ")


# ---- what people need, and how they word it


@dataclass(frozen=True)
class Intent:
    """One thing that somebody wants to know. ``wordings[0]`` is the question it was made from; all have its gold.

    ``topics`` are the projects that it is about (the first one files it).
    """

    wordings: tuple[Question, ...]
    topics: tuple[str, ...]


def needs(corpus: Corpus) -> list[Intent]:
    """The needs that ``corpus`` answers: its own questions with gold, and ours where it has the documents; with the
    rewordings of ``data/wordings.jsonl``, which were written by hand."""
    lines = map(json.loads, data_file("wordings.jsonl").read_text(encoding="utf-8").splitlines())
    rewordings = {entry["id"]: entry["wordings"] for entry in lines}
    ours = [q for kind in ("keyword", "paraphrase", "multihop") for q in load_questions(kind, corpus)]
    result = []
    for question in (*corpus.questions, *ours):
        if question.gold:
            texts = enumerate(rewordings.get(question.id, ()), 1)
            others = (replace(question, id=f"{question.id}~{i}", text=text) for i, text in texts)
            projects = (str(corpus.document(g.doc_id).metadata.get("project", "")) for g in question.gold)
            result.append(Intent((question, *others), tuple(dict.fromkeys(projects))))
    return result


def unanswerable(corpus: Corpus) -> list[Intent]:
    """Our questions about projects of ``corpus`` that it has no answer to."""
    projects = {document.metadata.get("project", "") for document in corpus.documents}
    questions = load_questions("unanswerable", corpus)
    about = [(question, tuple(tag for tag in question.tags if tag in projects)) for question in questions]
    return [Intent((question,), topics) for question, topics in about if topics]


def typed(question: Question, rng: random.Random) -> Question:
    """``question`` as somebody typed it, in one of ``FORMS``; the form is the last tag. Its id and gold stay.

    >>> typed(Question("q", "How do I stop a worker?"), random.Random(5))
    Question(id='q', text='how do i stop a worker', gold=(), tags=('lower case',), answer=None)
    """
    text, form = question.text, rng.choices(list(FORMS), list(FORMS.values()))[0]
    if form == "lower case":
        text = text.lower().rstrip("?!. ")
    elif form == "white space":
        text = rng.choice((f"{text} ", f" {text}", f"{text}\n", text.replace(" ", "  ", 1)))
    elif form == "typo":
        text = misspelt([question], 0.2, rng.randrange(1_000_000))[0].text
    elif form == "polite":
        text = rng.choice(_GREETINGS) + text
    elif form == "reworded":
        for pattern, others in _BEGINNINGS.items():
            text = re.sub(pattern, rng.choice(others), text)
    return replace(question, text=text, tags=(*question.tags, form))


def rephrased(need: Intent, last: Question, rng: random.Random) -> Question:
    """``need`` in other words than ``last``: another wording where there is one, else its content words alone.

    >>> only = Intent((Question("q", "How do I stop a worker?"),), ())
    >>> rephrased(only, only.wordings[0], random.Random(0)).text
    'stop worker'
    """
    if others := [wording for wording in need.wordings if wording.id != last.id]:
        return rng.choice(others)
    words, empty = (word.strip("?!,;:") for word in last.text.split()), _FUNCTION_WORDS.split()
    content = " ".join(word for word in words if word and word.lower() not in empty)
    return replace(last, id=f"{need.wordings[0].id}~words", text=content or last.text)


Popular = list[tuple[Intent, float]]
"""Needs, and how often each is asked relative to the others."""


# ---- who asks what, and when


@dataclass(frozen=True, slots=True)
class SimulatedQuery:
    """One simulated question: ``at`` (seconds since 1970), by whom, and whether it is about the new topic.

    ``question.text`` is as typed, ``question.gold`` what answers it. ``question.id`` names the wording: what stands
    before its ``~`` is the same for all wordings of one need.
    """

    at: float
    question: Question
    session: str
    tenant: str
    drifted: bool


@dataclass(frozen=True, slots=True)
class TopicDrift:
    """People begin to ask about ``project``, of which nobody spoke before.

    From ``after`` weeks on, ``share`` of the sessions (above 0, at most 1) are about it. Ask an index that lacks its
    documents (``exclude_project``): those questions are rephrased as often as unanswerable ones. A drift that never
    sets in (``after=math.inf``) leaves the stream as it was before it.
    """

    project: str
    after: float = 2.0
    share: float = 0.5


def exclude_project(corpus: Corpus, project: str) -> Corpus:
    """``corpus`` before the documents of ``project`` came: for an index that does not have them yet.

    A store of the whole corpus serves it, too:
    ``advanced(exclude_project(corpus, "scrapy"), store=TokenStore.open(corpus))``.

    Raises:
        InputError: no document is of that project.
    """
    projects = {str(document.metadata.get("project", "")) for document in corpus.documents}
    if project not in projects:
        raise InputError(f"corpus {corpus.name!r} has no project {project!r}; there are: {', '.join(sorted(projects))}")
    documents = tuple(d for d in corpus.documents if d.metadata.get("project") != project)
    ids = {document.id for document in documents}
    questions = tuple(q for q in corpus.questions if all(span.doc_id in ids for span in q.gold))
    return Corpus(f"{corpus.name} without {project}", documents, questions, corpus.notes)


def simulate(
    corpus: Corpus,
    n: int = 2000,
    weeks: int = 4,
    seed: int = 0,
    drift: TopicDrift | None = None,
    *,
    exponent: float = 0.8,
    tenants: Sequence[str] = TENANTS,
) -> tuple[SimulatedQuery, ...]:
    """``n`` simulated questions in ``weeks`` weeks from ``START`` on, in the order in which they come.

    This module's docstring says how they are drawn. With ``drift``, ``corpus`` is the one that has the new project's
    documents, too; nothing is asked about it before. The same arguments give the same stream on every machine, and two
    streams that differ in ``drift.after`` or ``.share`` are the same up to the earlier drift.

    >>> from ragkit import load_pydocs
    >>> simulate(load_pydocs("tiny"), n=3, weeks=1)[0].question.text        # doctest: +SKIP
    'gunicorn --reload-extra-file glob patterns, .env dotfiles'

    Raises:
        InputError: the corpus has nothing to ask, or nothing about the new project.
    """
    new = drift.project if drift else None
    known = [need for need in needs(corpus) if new not in need.topics]
    fresh = [need for need in needs(corpus) if new in need.topics]
    if not known or (drift and not fresh):
        what = f"about {new!r}" if known else "with gold that it could begin with"
        raise InputError(f"corpus {corpus.name!r} has no question {what}: expected one at least")
    popular = _by_popularity(known, exponent, random.Random(f"{seed}:popular"))
    drifting = _by_popularity(fresh, exponent, random.Random(f"{seed}:fresh"))
    in_vain = [need for need in unanswerable(corpus) if new not in need.topics]
    rates = list(accumulate(HOURS[h % 24] * (WEEKEND if h // 24 % 7 >= 5 else 1.0) for h in range(weeks * 168)))
    stream: list[SimulatedQuery] = []
    number = 0
    while len(stream) < n:
        # Drift has a generator of its own, so that a stream with drift is the one without until it sets in.
        rng, drifts = random.Random(f"{seed}:{number}"), random.Random(f"{seed}:drift:{number}")
        # Given their number, the arrivals of a Poisson process are independent draws in proportion to its rate (Ross,
        # Introduction to Probability Models, section 5.3).
        at = START + (bisect(rates, rng.random() * rates[-1]) + rng.random()) * 3600
        tenant = rng.choices(tenants)[0]
        length = next(i for i in range(1, _LONGEST + 1) if i == _LONGEST or rng.random() < 0.5)  # 2 on average
        if drift and at >= START + drift.after * WEEK and drifts.random() < drift.share:
            session = _session(at, length, drifting, [], new, drifts)
        else:
            session = _session(at, length, popular, in_vain, new, rng)
        stream += [SimulatedQuery(at, asked, f"s{seed}-{number}", tenant, drifted) for at, asked, drifted in session]
        number += 1
    return tuple(sorted(stream[:n], key=lambda asked: (asked.at, asked.session)))


def _by_popularity(needs: Sequence[Intent], exponent: float, order: random.Random) -> Popular:
    """Needs in an order drawn by lot, each with its weight by Zipf's law."""
    return [(need, rank**-exponent) for rank, need in enumerate(order.sample(needs, len(needs)), 1)]


def _draw(popular: Popular, rng: random.Random, topic: str = "") -> Intent:
    """A need; with a ``topic`` that somebody asks about, one of those."""
    among = [pair for pair in popular if topic in pair[0].topics[:1]] or popular
    return rng.choices([need for need, _ in among], [weight for _, weight in among])[0]


def _session(
    at: float, length: int, popular: Popular, in_vain: Sequence[Intent], new: str | None, rng: random.Random
) -> Iterator[tuple[float, Question, bool]]:
    """``length`` questions of somebody who begins at ``at``: when, what, and whether it is about the ``new`` topic.

    Half of the people choose the most usual wording.
    """
    need = rng.choice(in_vain) if in_vain and rng.random() < UNANSWERABLE else _draw(popular, rng)
    wording, again = need.wordings[0], False
    for position in range(length):
        if again:
            wording = rephrased(need, wording, rng)
        else:
            need = _draw(popular, rng, *need.topics[:1]) if position else need
            wording = need.wordings[0] if rng.random() < 0.5 else rng.choice(need.wordings)
        drifted = new in need.topics
        yield round(at, 3), typed(wording, rng), drifted
        at += _GAP[0] + rng.expovariate(1 / _GAP[1])
        again = rng.random() < (REPHRASED if wording.gold and not drifted else REPHRASED_IN_VAIN)


@dataclass
class SimulatedClock:
    """A clock that is set by hand: ``clock.now = ...``, and ``clock()`` reads it. It never moves by itself.

    >>> clock = SimulatedClock()
    >>> clock.now += 60
    >>> clock() - START
    60.0
    """

    now: float = START

    def __call__(self) -> float:
        return self.now


async def replay(rag: RAGPipeline, stream: Sequence[SimulatedQuery], clock: SimulatedClock) -> list[Answer]:
    """Ask ``rag`` the questions of ``stream``, one after the other; the answers, in order.

    Before each, ``clock`` is set to the moment at which it was asked: give the same clock to the pipeline, its monitor
    and its cache. A question that fails (RagkitError) gets an empty answer whose ``reason`` begins with ``failed: ``: a
    stream goes on, as users do.
    """
    answers = []
    for query in stream:
        clock.now, text = query.at, query.question.text
        try:
            answers.append(await rag.query(text, tenant=query.tenant, session=query.session))
        except RagkitError as error:
            answers.append(Answer(text, "", reason=f"failed: {type(error).__name__}: {error}"))
    return answers


# ---- who says what about an answer


@dataclass(frozen=True)
class SimulatedFeedback:
    """What one simulated reader makes of one answer. ``right`` is the truth, ``thumb`` what they think, ``speaks``
    whether anybody hears of it; ``flagged`` are chunks that they read and found beside the point."""

    reader: str
    trace_id: str
    right: bool
    thumb: Literal[-1, 1]
    speaks: bool
    reasons: tuple[str, ...] = ()
    flagged: tuple[str, ...] = ()


@dataclass(frozen=True)
class SimulatedUsers:
    """People whose thumbs are wrong in known ways. The same seed gives the same opinions.

    Args:
        position: of an answer's quotes, the one at place i is read with probability ``(1 / i) ** position``, as results
            of a search are looked at (the position-based model; Joachims et al. 2017, arXiv 1608.04468).
        trust: the share of readers who take a wrong answer that reads well for right.
        noise: the share of thumbs that point the wrong way.
        response_rate_positive: of those who are content, the share that says so.
        response_rate_negative: of those who are not, the share that says so.
        seed: of all that is drawn.
    """

    position: float = 1.0
    trust: float = 0.3
    noise: float = 0.05
    response_rate_positive: float = 0.03
    response_rate_negative: float = 0.3
    seed: int = 0

    def judge(self, question: Question, answer: Answer, reader: str = "reader") -> SimulatedFeedback:
        """What ``reader`` makes of ``answer``; the same every time.

        >>> careful = SimulatedUsers(position=0, trust=0, noise=0, response_rate_positive=1, response_rate_negative=1)
        >>> careful.judge(Question("q", "Why?"), Answer("Why?", "Because.")).reasons
        ('should have abstained',)
        """
        rng, right = random.Random(f"{self.seed}\0{reader}\0{question.id}"), is_right(question, answer)
        quoted = enumerate(quotes(answer), 1)
        read = [quote for place, quote in quoted if rng.random() < (1 / place) ** self.position]
        if answer.abstained:
            content, reason = right, "should not have abstained"
        else:
            content = any(_in_gold(span, question) for span, _ in read) or rng.random() < self.trust
            reason = "wrong" if question.gold else "should have abstained"
        if rng.random() < self.noise:
            content = not content
        speaks = rng.random() < (self.response_rate_positive if content else self.response_rate_negative)
        if content:
            return SimulatedFeedback(reader, answer.trace_id, right, 1, speaks)
        beside = dict.fromkeys(chunk_id for span, chunk_id in read if not _in_gold(span, question))
        flagged = () if answer.abstained else tuple(beside)
        return SimulatedFeedback(reader, answer.trace_id, right, -1, speaks, (reason,), flagged)

    def thumbs(self, stream: Sequence[SimulatedQuery], answers: Sequence[Answer]) -> dict[str, Literal[-1, 1]]:
        """The thumbs of those who speak, by trace id; ``answers`` are those of ``replay(rag, stream, clock)``."""
        pairs = zip(stream, answers, strict=True)
        opinions = [self.judge(query.question, answer, query.session) for query, answer in pairs]
        return {opinion.trace_id: opinion.thumb for opinion in opinions if opinion.speaks}


def is_right(question: Question, answer: Answer) -> bool:
    """Whether the answer quotes something of the gold; where there is no gold, whether it says so."""
    if answer.abstained or not question.gold:
        return answer.abstained and not question.gold
    return any(_in_gold(span, question) for span, _ in quotes(answer))


def quotes(answer: Answer) -> Iterator[tuple[Span, str]]:
    """Where each quote of the answer stands, and the chunk that it is from; a citation without quote is all of it."""
    for citation in answer.citations:
        chunk = citation.chunk
        start = chunk.start + max(0, chunk.text.find(citation.quote))
        yield Span(chunk.doc_id, start, min(chunk.end, start + (len(citation.quote) or len(chunk.text)))), chunk.id


def _in_gold(span: Span, question: Question) -> bool:
    return any(span.overlap(gold) for gold in question.gold)

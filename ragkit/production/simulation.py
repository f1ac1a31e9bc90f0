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
import math
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

_KINDS = ("keyword", "paraphrase", "multihop")  # of our own questions, asked beside those of the corpus
_LONGEST = 8  # questions of a session
_REPHRASED, _REPHRASED_IN_VAIN = 0.15, 0.6  # of later questions in a session: after one with an answer, and without
_GAP = (15.0, 75.0)  # seconds between the questions of a session: at least, and on average on top of it
_HOW = r"(?i)^(?:how (?:do|can|might|would|should) (?:i|we|you)|how to) "
_CAN = r"(?i)^(?:can|could|may) (?:i|we|you) "
_BEGINNINGS = {
    _HOW: ("How can I ", "How to ", "How would I ", "What is the way to "),
    _CAN: ("Is it possible to ", "Can you ", "Is there a way to "),
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

    id: str
    wordings: tuple[Question, ...]
    topics: tuple[str, ...]


def needs(corpus: Corpus) -> tuple[Intent, ...]:
    """The needs that ``corpus`` answers: its own questions with gold, and ours where it has the documents; with the
    rewordings of ``data/wordings.jsonl``, which were written by hand."""
    lines = map(json.loads, data_file("wordings.jsonl").read_text(encoding="utf-8").splitlines())
    more = {entry["id"]: entry["wordings"] for entry in lines}
    ours = (question for kind in _KINDS for question in load_questions(kind, corpus))
    result = []
    for question in (*corpus.questions, *ours):
        if question.gold:
            texts = enumerate(more.get(question.id, ()), 1)
            others = (replace(question, id=f"{question.id}~{i}", text=text) for i, text in texts)
            projects = (str(corpus.document(g.doc_id).metadata.get("project", "")) for g in question.gold)
            result.append(Intent(question.id, (question, *others), tuple(dict.fromkeys(projects))))
    return tuple(result)


def unanswerable(corpus: Corpus) -> tuple[Intent, ...]:
    """Our questions about projects of ``corpus`` that it has no answer to."""
    projects = {document.metadata.get("project", "") for document in corpus.documents}
    questions = load_questions("unanswerable", corpus)
    about = [(question, tuple(tag for tag in question.tags if tag in projects)) for question in questions]
    return tuple(Intent(question.id, (question,), topics) for question, topics in about if topics)


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

    >>> only = Intent("q", (Question("q", "How do I stop a worker?"),), ())
    >>> rephrased(only, only.wordings[0], random.Random(0)).text
    'stop worker'
    """
    if others := [wording for wording in need.wordings if wording.id != last.id]:
        return rng.choice(others)
    words, empty = (word.strip("?!,;:") for word in last.text.split()), _FUNCTION_WORDS.split()
    content = " ".join(word for word in words if word and word.lower() not in empty)
    return replace(last, id=f"{need.id}~words", text=content or last.text)


# ---- who asks what, and when


@dataclass(frozen=True, slots=True)
class SimulatedQuery:
    """One simulated question: ``at`` (seconds since 1970), by whom, and about what.

    ``question.text`` is as typed, ``question.gold`` what answers it, ``question.id`` names the wording; ``need`` is the
    same for all wordings of one need. ``topic`` is the project that it is about. ``drifted``: its topic is the new one.
    ``rephrased``: the question before it in the session, in other words.
    """

    at: float
    question: Question
    session: str
    tenant: str
    topic: str
    drifted: bool
    need: str = ""
    rephrased: bool = False


@dataclass(frozen=True, slots=True)
class TopicDrift:
    """People begin to ask about ``project``, of which nobody spoke before.

    From ``after`` weeks on, ``share`` of the sessions are about it. Ask an index that lacks its documents
    (``exclude_project``): those questions are rephrased as often as unanswerable ones. A drift that never sets in
    (``after=math.inf``) leaves the stream as it was before it.

    Raises:
        InputError: ``after`` is negative, or ``share`` is not above 0 and at most 1.
    """

    project: str
    after: float = 2.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.after < 0:
            raise InputError(f"share is {self.share}, after {self.after}: expected a share above 0, 0 weeks or more")


def exclude_project(corpus: Corpus, project: str) -> Corpus:
    """``corpus`` before the documents of ``project`` came: for an index that does not have them yet.

    A store of the whole corpus serves it, too:
    ``advanced(exclude_project(corpus, "scrapy"), store=TokenStore.open(corpus))``.

    Raises:
        InputError: no document is of that project.
    """
    documents = tuple(d for d in corpus.documents if d.metadata.get("project") != project)
    if len(documents) == len(corpus.documents):
        projects = sorted({str(d.metadata.get("project", "")) for d in corpus.documents})
        raise InputError(f"corpus {corpus.name!r} has no project {project!r}; there are: {', '.join(projects)}")
    ids = {document.id for document in documents}
    questions = tuple(q for q in corpus.questions if all(span.doc_id in ids for span in q.gold))
    return Corpus(f"{corpus.name} without {project}", documents, questions, corpus.notes)


def simulate(
    corpus: Corpus,
    n: int = 2000,
    weeks: float = 4.0,
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
        InputError: ``n`` < 1, ``weeks`` not above 0, no tenant, or nothing to ask.
    """
    if n < 1 or not weeks > 0 or not tenants:
        raise InputError(f"n is {n}, weeks {weeks}, tenants {list(tenants)}: expected 1 or more, above 0, at least one")
    new = drift.project if drift else None
    known = [need for need in needs(corpus) if new not in need.topics]
    fresh = [need for need in needs(corpus) if new in need.topics]
    if not known or (drift and not fresh):
        what = f"about {new!r}" if known else f"that is not about {new!r}" if new else "with gold"
        raise InputError(f"corpus {corpus.name!r} has no question {what}: expected one at least")
    popular = _Popular(known, exponent, random.Random(f"{seed}:popular"))
    drifting = _Popular(fresh, exponent, random.Random(f"{seed}:fresh"))
    in_vain = [need for need in unanswerable(corpus) if new not in need.topics]
    hours = [HOURS[h % 24] * (WEEKEND if h // 24 % 7 >= 5 else 1.0) for h in range(math.ceil(weeks * 168))]
    hours[-1] *= weeks * 168 - (len(hours) - 1)
    rates = list(accumulate(hours))
    stream: list[SimulatedQuery] = []
    number = 0
    while len(stream) < n:
        # Drift has a generator of its own, so that a stream with drift is the one without until it sets in.
        rng, drifts = random.Random(f"{seed}:{number}"), random.Random(f"{seed}:drift:{number}")
        at, tenant = _moment(rates, weeks, rng), rng.choices(tenants)[0]
        length = next(i for i in range(1, _LONGEST + 1) if i == _LONGEST or rng.random() < 0.5)  # 2 on average
        if drift and at >= START + drift.after * WEEK and drifts.random() < drift.share:
            session = _session(at, length, drifting, [], drift, drifts)
        else:
            session = _session(at, length, popular, in_vain, drift, rng)
        stream += [replace(asked, session=f"s{seed}-{number}", tenant=tenant) for asked in session][: n - len(stream)]
        number += 1
    return tuple(sorted(stream, key=lambda asked: (asked.at, asked.session)))


class _Popular:
    """Needs in the order of their popularity, drawn by Zipf's law; with a ``topic``, among those of it only."""

    def __init__(self, needs: Sequence[Intent], exponent: float, order: random.Random) -> None:
        self.among: dict[str, tuple[list[Intent], list[float]]] = {}
        for rank, need in enumerate(order.sample(needs, len(needs)), 1):
            for topic in {"", *need.topics[:1]}:
                found, weights = self.among.setdefault(topic, ([], []))
                found.append(need)
                weights.append(rank**-exponent)

    def draw(self, rng: random.Random, topic: str = "") -> Intent:
        return rng.choices(*self.among.get(topic, self.among[""]))[0]


def _moment(hours: Sequence[float], weeks: float, rng: random.Random) -> float:
    """A moment of the whole time: given their number, the arrivals of a Poisson process are independent draws in
    proportion to its rate (Ross, Introduction to Probability Models, section 5.3). ``hours``: the rates, added up."""
    hour = min(bisect(hours, rng.random() * hours[-1]), len(hours) - 1)
    return START + (hour + rng.random() * min(1.0, weeks * 168 - hour)) * 3600


def _session(
    at: float, length: int, popular: _Popular, in_vain: Sequence[Intent], drift: TopicDrift | None, rng: random.Random
) -> Iterator[SimulatedQuery]:
    """``length`` questions of somebody who begins at ``at``; half of the people choose the most usual wording."""
    need = rng.choice(in_vain) if in_vain and rng.random() < UNANSWERABLE else popular.draw(rng)
    wording, again = need.wordings[0], False
    for position in range(length):
        if again:
            wording = rephrased(need, wording, rng)
        else:
            need = popular.draw(rng, *need.topics[:1]) if position else need
            wording = need.wordings[0] if rng.random() < 0.5 else rng.choice(need.wordings)
        drifted = drift is not None and drift.project in need.topics
        yield SimulatedQuery(
            round(at, 3), typed(wording, rng), "", "", "".join(need.topics[:1]), drifted, need.id, again
        )
        at += _GAP[0] + rng.expovariate(1 / _GAP[1])
        again = rng.random() < (_REPHRASED_IN_VAIN if drifted or need in in_vain else _REPHRASED)


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
    for asked in stream:
        clock.now, text = asked.at, asked.question.text
        try:
            answers.append(await rag.query(text, tenant=asked.tenant, session=asked.session))
        except RagkitError as error:
            answers.append(Answer(text, "", reason=f"failed: {type(error).__name__}: {error}"))
    return answers


# ---- who says what about an answer


@dataclass(frozen=True)
class SimulatedFeedback:
    """What one simulated reader makes of one answer. ``right`` is the truth, ``thumb`` what they think, ``speaks``
    whether anybody hears of it; ``flagged`` are chunks that they read and found beside the point."""

    reader: str
    question: str
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

    Raises:
        InputError: a share outside 0..1, or ``position`` < 0.
    """

    position: float = 1.0
    trust: float = 0.3
    noise: float = 0.05
    response_rate_positive: float = 0.03
    response_rate_negative: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.position < 0 or not all(
            0 <= s <= 1 for s in (self.trust, self.noise, self.response_rate_positive, self.response_rate_negative)
        ):
            raise InputError(f"{self}: expected shares from 0 to 1, and position 0 or more")

    def judge(self, question: Question, answer: Answer, reader: str = "reader") -> SimulatedFeedback:
        """What ``reader`` makes of ``answer``; the same every time.

        >>> careful = SimulatedUsers(position=0, trust=0, noise=0, response_rate_positive=1, response_rate_negative=1)
        >>> careful.judge(Question("q", "Why?"), Answer("Why?", "Because.")).reasons
        ('should have abstained',)
        """
        rng, right = random.Random(f"{self.seed}\0{reader}\0{question.id}"), is_right(question, answer)
        quoted = enumerate(quotes(answer), 1)
        read = [quote for place, quote in quoted if rng.random() < (1 / place) ** self.position]
        flagged = dict.fromkeys(chunk_id for span, chunk_id in read if not _in_gold(span, question))
        if answer.abstained:
            content, reason, flagged = right, "should not have abstained", {}
        else:
            content = any(_in_gold(span, question) for span, _ in read) or rng.random() < self.trust
            reason = "wrong" if question.gold else "should have abstained"
        if rng.random() < self.noise:
            content = not content
        speaks = rng.random() < (self.response_rate_positive if content else self.response_rate_negative)
        if content:
            return SimulatedFeedback(reader, question.id, answer.trace_id, right, 1, speaks)
        return SimulatedFeedback(reader, question.id, answer.trace_id, right, -1, speaks, (reason,), tuple(flagged))


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

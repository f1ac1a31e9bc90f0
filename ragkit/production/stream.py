"""A simulated stream of questions, so that monitors, caches and alerts have something like users to look at.

**Nobody asked these questions.** The needs are real: the questions of the corpus's own FAQ pages, and ours. When they
come, how often, from whom and how they are typed is simulated, in shapes that logs of search engines have:

- popularity follows Zipf's law: the need of rank r is asked in proportion to ``r ** -exponent``. Breslau et al. 1999
  ("Web Caching and Zipf-like Distributions", INFOCOM) found .64 to .83 for requests to web caches; Xie and O'Hallaron
  2002 ("Locality in Search Engine Queries", INFOCOM) found Zipf's law in the queries of two search engines.
- a session has 2 questions on average, as in Silverstein et al. 1999 ("Analysis of a very large web search engine query
  log", SIGIR Forum 33(1): 2.02); ours is geometric, and stays on one topic.
- arrivals are a Poisson process whose rate changes with the hour; the hours are those of an office (``HOURS``), and
  are our assumption, as are the shares of rephrasings, bursts and unanswerable questions.

What it lacks: needs that are each other's opposite, follow-up questions that mean nothing alone, attacks, and what
nobody thought of. What looks safe on this stream is not shown to be safe on yours.

    corpus, clock = load_pydocs("core"), SimulatedClock()
    stream = simulate(corpus, n=2000, weeks=4, drift=Drifting("scrapy", after=2))
    rag = advanced(without(corpus, "scrapy"), monitor=TraceMonitor(clock=clock))
    rag.clock = clock
    answers = await replay(rag, stream, clock)
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from ragkit.base import Answer, Corpus, InputError, Question, RagkitError
from ragkit.production.wordings import Need, Popular, needs, rephrased, typed, unanswerable

if TYPE_CHECKING:
    from ragkit.pipeline import RAGPipeline

START = 1_767_571_200.0
"""Monday, 5 January 2026, 00:00 UTC: where a stream begins unless told otherwise."""

WEEK = 7 * 24 * 3600.0

HOURS = (1, 1, 1, 1, 1, 2, 5, 15, 45, 80, 95, 100, 70, 75, 95, 100, 90, 60, 30, 15, 10, 8, 4, 2)
"""Sessions that begin in each hour of a working day, relative to the busiest."""

WEEKEND = 0.15
"""A Saturday's or Sunday's sessions, relative to a working day's."""

TENANTS = ("acme", "globex", "initech")
"""Half of the sessions are the first one's, a third the second's, a sixth the last one's. Made-up names."""

_MEAN_SESSION = 2.0
_LONGEST_SESSION = 8
_REPHRASED = 0.15  # of the questions after the first in a session, where the one before could be answered
_REPHRASED_AFTER_NOTHING = 0.6  # ... where it could not
_GAP = (15.0, 75.0)  # seconds between the questions of a session: at least, and on average on top of it
_BURST = 0.03  # of the sessions belong to a burst: one need, many people, one a week
_BURST_SECONDS = 600.0  # mean time after its beginning at which somebody joins a burst


@dataclass(frozen=True, slots=True)
class Asked:
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
class Drifting:
    """People begin to ask about ``project``, of which nobody spoke before.

    From ``after`` weeks on, ``share`` of the sessions are about it. An index ``without`` its documents should be asked:
    those questions are rephrased as often as unanswerable ones. A drift that never sets in (``after=math.inf``) leaves
    the stream as it was before it.

    Raises:
        InputError: ``after`` is negative, or ``share`` is not above 0 and at most 1.
    """

    project: str
    after: float = 2.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"share is {self.share}: expected more than 0, at most 1")
        if self.after < 0:
            raise InputError(f"after is {self.after}: expected 0 or more weeks")

    @property
    def begins(self) -> float:
        """When it sets in, in seconds since 1970."""
        return START + self.after * WEEK


def without(corpus: Corpus, project: str) -> Corpus:
    """``corpus`` before the documents of ``project`` came: for an index that does not have them yet.

    A store of the whole corpus serves it, too: ``advanced(without(corpus, "scrapy"), store=TokenStore.open(corpus))``.

    Raises:
        InputError: no document is of that project.
    """
    documents = tuple(d for d in corpus.documents if d.metadata.get("project") != project)
    if len(documents) == len(corpus.documents):
        found = sorted({str(d.metadata.get("project", "")) for d in corpus.documents})
        raise InputError(f"corpus {corpus.name!r} has no project {project!r}; there are: {', '.join(found)}")
    there = {document.id for document in documents}
    questions = tuple(q for q in corpus.questions if all(span.doc_id in there for span in q.gold))
    return Corpus(f"{corpus.name} without {project}", documents, questions, corpus.notes)


def simulate(
    corpus: Corpus,
    n: int = 2000,
    weeks: float = 4.0,
    seed: int = 0,
    drift: Drifting | None = None,
    *,
    exponent: float = 0.8,
    unanswered: float = 0.05,
    tenants: Sequence[str] = TENANTS,
) -> tuple[Asked, ...]:
    """``n`` simulated questions in ``weeks`` weeks from ``START`` on, in the order in which they come.

    This module's docstring says how they are drawn. ``unanswered`` is the share of sessions that begin with a question
    that the corpus does not answer. The first of three tenants has three shares of the sessions, the last one has one.
    With ``drift``, ``corpus`` is the one that has the new project's documents, too; nothing is asked about it before.
    The same arguments give the same stream on every machine, and two streams that differ in ``drift.after``
    or ``.share`` are the same up to the earlier drift.

    >>> from ragkit import load_pydocs
    >>> simulate(load_pydocs("tiny"), n=3, weeks=1)[0].question.text        # doctest: +SKIP
    'gunicorn --reload-extra-file glob patterns, .env dotfiles'

    Raises:
        InputError: ``n`` < 1, ``weeks`` not above 0, no tenant, or nothing to ask.
    """
    if n < 1 or not weeks > 0 or not 0 <= unanswered <= 1 or not tenants:
        raise InputError(
            f"n is {n}, weeks {weeks}, unanswered {unanswered}, tenants {list(tenants)}: expected n >= 1, weeks > 0, "
            "unanswered from 0 to 1, at least one tenant"
        )
    return _Simulation(corpus, n, weeks, seed, drift, exponent, unanswered, tenants).stream()


class _Simulation:
    def __init__(
        self,
        corpus: Corpus,
        n: int,
        weeks: float,
        seed: int,
        drift: Drifting | None,
        exponent: float,
        unanswered: float,
        tenants: Sequence[str],
    ) -> None:
        self.n, self.weeks, self.seed, self.drift = n, weeks, seed, drift
        self.unanswered, self.tenants = unanswered, tenants
        new = drift.project if drift else None
        known = [need for need in needs(corpus) if new not in need.topics]
        fresh = [need for need in needs(corpus) if new in need.topics]
        if not known or (drift and not fresh):
            what = f"about {new!r}" if known else f"that is not about {new!r}" if new else "with gold"
            raise InputError(f"corpus {corpus.name!r} has no question {what}: expected one at least")
        self.popular = Popular(known, exponent, random.Random(f"{seed}:popular"))
        self.fresh = Popular(fresh, exponent, random.Random(f"{seed}:fresh")) if fresh else self.popular
        self.hopeless = [need for need in unanswerable(corpus) if new not in need.topics]
        hours = [HOURS[h % 24] * (WEEKEND if h // 24 % 7 >= 5 else 1.0) for h in range(math.ceil(weeks * 168))]
        hours[-1] *= weeks * 168 - (len(hours) - 1)
        self.hours = list(accumulate(hours))
        rng = random.Random(f"{seed}:bursts")
        self.bursts = [(self._moment(rng), self.popular.draw(rng)) for _ in range(max(1, round(weeks)))]

    def stream(self) -> tuple[Asked, ...]:
        asked: list[Asked] = []
        number = 0
        while len(asked) < self.n:
            asked += list(self._session(number))[: self.n - len(asked)]
            number += 1
        return tuple(sorted(asked, key=lambda a: (a.at, a.session)))

    def _moment(self, rng: random.Random) -> float:
        """A moment of the whole time: given their number, the arrivals of a Poisson process are independent draws
        in proportion to its rate (Ross, Introduction to Probability Models, section 5.3)."""
        hour = min(bisect(self.hours, rng.random() * self.hours[-1]), len(self.hours) - 1)
        return START + (hour + rng.random() * min(1.0, self.weeks * 168 - hour)) * 3600

    def _session(self, number: int) -> Iterator[Asked]:
        # Drift has dice of its own, so that a stream with drift is the one without until it sets in.
        dice, drifts = random.Random(f"{self.seed}:{number}"), random.Random(f"{self.seed}:drift:{number}")
        burst = dice.choice(self.bursts) if dice.random() < _BURST else None
        at = burst[0] + dice.expovariate(1 / _BURST_SECONDS) if burst else self._moment(dice)
        length = 1
        while length < _LONGEST_SESSION and dice.random() < 1 - 1 / _MEAN_SESSION:
            length += 1
        shares = range(len(self.tenants), 0, -1)
        session, tenant = f"s{self.seed}-{number}", dice.choices(self.tenants, shares)[0]
        drifted = self.drift is not None and at >= self.drift.begins and drifts.random() < self.drift.share
        popular, dice = (self.fresh, drifts) if drifted else (self.popular, dice)
        hopeless = not drifted and bool(self.hopeless) and dice.random() < self.unanswered
        need = dice.choice(self.hopeless) if hopeless else burst[1] if burst and not drifted else popular.draw(dice)
        wording, again = self._wording(need, dice), False
        for position in range(length):
            if position:
                at += _GAP[0] + dice.expovariate(1 / _GAP[1])
                again = dice.random() < (_REPHRASED_AFTER_NOTHING if self._in_vain(need) else _REPHRASED)
                if again:
                    wording = rephrased(need, wording, dice)
                else:
                    need = popular.of(need.topic, dice) if need.topic else popular.draw(dice)
                    wording = self._wording(need, dice)
            question = typed(wording, dice)
            yield Asked(round(at, 3), question, session, tenant, need.topic, drifted, need.id, again)

    def _wording(self, need: Need, dice: random.Random) -> Question:
        """The first wording is the most usual: half of the people choose it."""
        return need.wordings[0] if dice.random() < 0.5 else dice.choice(need.wordings)

    def _in_vain(self, need: Need) -> bool:
        """Whether an index without the new project could answer nothing but "I don't know"."""
        return not need.answerable or (self.drift is not None and self.drift.project in need.topics)


@dataclass
class SimulatedClock:
    """A clock that shows what it is told: ``clock.now = ...``, and ``clock()`` reads it. It never moves by itself.

    >>> clock = SimulatedClock()
    >>> clock.now += 60
    >>> clock() - START
    60.0
    """

    now: float = START

    def __call__(self) -> float:
        return self.now


async def replay(rag: RAGPipeline, stream: Sequence[Asked], clock: SimulatedClock) -> list[Answer]:
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

"""Simulated users: the rates, popularity, order and drift of their questions; the faults of their thumbs."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ragkit.base import Answer, Chunk, Citation, Corpus, EndpointError, InputError, Question, Span
from ragkit.files import data_file
from ragkit.production.simulation import (
    FORMS,
    HOURS,
    START,
    TENANTS,
    WEEK,
    WEEKEND,
    Intent,
    SimulatedClock,
    SimulatedQuery,
    SimulatedUsers,
    TopicDrift,
    exclude_project,
    is_right,
    needs,
    quotes,
    rephrased,
    replay,
    simulate,
    typed,
    unanswerable,
)


@pytest.fixture(scope="module")
def quiet(core: Corpus) -> tuple[SimulatedQuery, ...]:
    return simulate(core, n=12_000, weeks=4, seed=3)


def need_of(asked: SimulatedQuery) -> str:
    return asked.question.id.split("~")[0]


def fitted_exponent(counts: list[int], ranks: np.ndarray) -> float:
    """The maximum-likelihood exponent of Zipf's law over finitely many ranks (Clauset et al. 2009, section 3.1)."""
    logs = np.log(ranks)

    def loss(exponent: float) -> float:
        return exponent * float(np.dot(counts, logs)) + sum(counts) * math.log(np.exp(-exponent * logs).sum())

    return float(minimize_scalar(loss, bounds=(0.01, 3), method="bounded").x)


@pytest.mark.parametrize("exponent", [0.64, 1.1])
def test_popularity_follows_zipf_with_the_exponent_that_was_asked_for(core, exponent):
    stream = simulate(core, n=8_000, exponent=exponent, seed=5)
    counts = Counter(need_of(asked) for asked in stream)
    order = random.Random("5:popular").sample([n.wordings[0].id for n in needs(core)], len(needs(core)))
    found = fitted_exponent([counts[i] for i in order], np.arange(1, len(order) + 1))
    assert found == pytest.approx(exponent, abs=0.05)


def test_the_hours_of_an_office_quiet_nights_and_weekends(quiet):
    began = {a.session: a.at for a in reversed(quiet)}.values()
    when = [datetime.fromtimestamp(at, UTC) for at in began]
    weekdays = [w for w in when if w.weekday() < 5]
    assert len(when) - len(weekdays) == pytest.approx(len(weekdays) * 2 * WEEKEND / 5, rel=0.2)
    by_hour = Counter(w.hour for w in weekdays)
    busiest = max(HOURS)
    for hour, weight in enumerate(HOURS):
        if weight > busiest / 2:
            share = by_hour[hour] / len(weekdays)
            assert share == pytest.approx(weight / sum(HOURS), rel=0.15), hour
    assert sum(by_hour[h] for h in range(5)) < 0.02 * len(weekdays)


def test_sessions_are_short_stay_on_one_topic_and_with_one_tenant(core, quiet):
    sessions: dict[str, list[SimulatedQuery]] = {}
    for asked in quiet:
        sessions.setdefault(asked.session, []).append(asked)
    lengths = [len(s) for s in sessions.values()]
    assert np.mean(lengths) == pytest.approx(2.0, abs=0.05)
    assert max(lengths) <= 8
    topics = {need.wordings[0].id: need.topics[0] for need in (*needs(core), *unanswerable(core))}
    assert all(len({topics[need_of(a)] for a in s}) == len({a.tenant for a in s}) == 1 for s in sessions.values())
    assert all(a.at < b.at for s in sessions.values() for a, b in pairwise(s))
    tenants = Counter(s[0].tenant for s in sessions.values())
    for tenant in TENANTS:
        assert tenants[tenant] / len(sessions) == pytest.approx(1 / 3, abs=0.02)


def test_questions_without_an_answer_are_asked_and_rephrased_more_often(quiet):
    first = {a.session: a for a in reversed(quiet)}
    assert np.mean([not a.question.gold for a in first.values()]) == pytest.approx(0.05, abs=0.01)
    after: dict[bool, list[bool]] = {True: [], False: []}
    last: dict[str, SimulatedQuery] = {}
    for asked in quiet:
        if before := last.get(asked.session):
            again = need_of(asked) == need_of(before) and asked.question.id != before.question.id
            after[bool(before.question.gold)].append(again)
        last[asked.session] = asked
    assert np.mean(after[False]) == pytest.approx(0.6, abs=0.1)
    assert np.mean(after[True]) == pytest.approx(0.15, abs=0.03)


def test_it_is_in_order_of_time_and_within_the_time(core, quiet):
    assert list(quiet) == sorted(quiet, key=lambda a: a.at)
    assert len(quiet) == 12_000
    assert quiet[0].at >= START
    assert quiet[-1].at < START + 4 * WEEK + 3600


def test_near_duplicates_meet(quiet):
    """An exact cache finds less than a perfect semantic one: people word one need in several ways."""
    texts, found, exact, same = set(), set(), 0, 0
    for asked in quiet[:2000]:
        text, need = (asked.tenant, " ".join(asked.question.text.split())), (asked.tenant, need_of(asked))
        exact, same = exact + (text in texts), same + (need in found)
        texts.add(text)
        found.add(need)
    assert 0.3 < exact / 2000 < same / 2000 - 0.15


def test_forms_have_their_shares(quiet):
    forms = Counter(a.question.tags[-1] for a in quiet)
    for form, share in FORMS.items():
        assert forms[form] / len(quiet) == pytest.approx(share, abs=0.02), form
    by_id = {q.id: q for a in quiet for q in [a.question] if q.tags[-1] == "as written"}
    spaced = [a.question for a in quiet if a.question.tags[-1] == "white space"]
    same = [q.text.split() == by_id[q.id].text.split() for q in spaced if q.id in by_id]
    assert len(same) > 500
    assert all(same)
    assert all(a.question.text.strip() for a in quiet)


def test_it_is_the_same_stream_on_every_machine(tiny):
    """Pinned: a lesson says numbers about a stream."""
    stream = simulate(tiny, n=300, seed=1, drift=TopicDrift("black"))
    assert stream == simulate(tiny, n=300, seed=1, drift=TopicDrift("black"))
    assert stream != simulate(tiny, n=300, seed=2, drift=TopicDrift("black"))
    assert simulate(tiny, n=50, seed=1)[0].question.id == PINNED[0]
    assert [a.question.text for a in stream[:3]] == PINNED[1]


PINNED = (
    "paraphrase-012",
    [
        "AIOHTTP_NO_EXTENSIONS",
        "Visitors tell our backend which pages to fetch; how do I stop them from peeking into our LAN?",
        "I zipped the payload myself before sending; how does the receiver learn that?",
    ],
)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), after=st.floats(0, 1), share=st.floats(0.1, 1))
def test_no_drift_before_it_sets_in_and_the_same_stream_until_then(tiny, seed, after, share):
    never = simulate(tiny, n=150, weeks=1, seed=seed, drift=TopicDrift("black", after=math.inf))
    drift = TopicDrift("black", after, share)
    stream = simulate(tiny, n=150, weeks=1, seed=seed, drift=drift)
    began = {a.session: a.at for a in reversed(stream)}
    assert not any(a.drifted for a in never)
    assert all(("black" in {span.doc_id.split("/")[0] for span in a.question.gold}) == a.drifted for a in stream)
    assert all(began[a.session] >= START + after * WEEK for a in stream if a.drifted)
    before = START + after * WEEK
    assert [a for a in stream if a.at < before] == [a for a in never if a.at < before]
    assert len(stream) == len(never) == 150


def test_drift_takes_its_share_of_the_sessions(core):
    stream = simulate(core, n=8000, weeks=4, seed=1, drift=TopicDrift("scrapy", after=2, share=0.4))
    sessions = {a.session: a for a in reversed(stream)}
    later = [a.drifted for a in sessions.values() if a.at >= START + 2 * WEEK]
    assert np.mean(later) == pytest.approx(0.4, abs=0.04)


def test_questions_about_the_new_project_are_rephrased_as_if_they_had_no_answer(core):
    stream = simulate(core, n=8000, weeks=4, drift=TopicDrift("scrapy", after=1, share=0.8))
    again, last = [], {}
    for asked in stream:
        if asked.drifted and (before := last.get(asked.session)):
            again.append(need_of(asked) == need_of(before) and asked.question.id != before.question.id)
        last[asked.session] = asked
    assert np.mean(again) == pytest.approx(0.6, abs=0.06)


def test_the_corpus_without_a_project_can_answer_all_but_the_new_questions(core):
    smaller = exclude_project(core, "scrapy")
    there = {d.id for d in smaller.documents}
    assert {d.id for d in core.documents} - there == {d.id for d in core.documents if d.id.startswith("scrapy/")}
    for asked in simulate(core, n=3000, drift=TopicDrift("scrapy")):
        if asked.question.gold:
            assert all(span.doc_id in there for span in asked.question.gold) != asked.drifted


def test_needs_of_a_corpus_of_ones_own(small_corpus):
    assert [need.wordings[0].id for need in needs(small_corpus)] == ["boil", "bulb"]
    assert unanswerable(small_corpus) == []
    stream = simulate(small_corpus, n=20, weeks=1)
    assert {a.question.gold for a in stream} <= {q.gold for q in small_corpus.questions if q.gold}


def test_the_rewordings_belong_to_questions_that_there_are(core):
    lines = [json.loads(line) for line in data_file("wordings.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = {q.id: q.text for q in core.questions}
    assert len({entry["id"] for entry in lines}) == len(lines) >= 80
    everything = [texts[entry["id"]] for entry in lines] + [text for entry in lines for text in entry["wordings"]]
    assert len({text.lower() for text in everything}) == len(everything)
    assert all(len(entry["wordings"]) == 2 for entry in lines)
    assert sum(len(need.wordings) == 3 for need in needs(core)) == len(lines)


@settings(max_examples=30)
@given(st.text(min_size=1).filter(str.strip), st.integers())
def test_what_is_typed_is_never_blank(text, seed):
    rng = random.Random(seed)
    question = Question("q", text)
    assert typed(question, rng).text.strip() or not text.strip("?!. \t\n")
    assert rephrased(Intent((question,), ()), question, rng).text.strip()


def test_a_corpus_without_the_questions_is_refused(small_corpus):
    with pytest.raises(InputError, match="no question about 'toaster'"):
        simulate(small_corpus, drift=TopicDrift("toaster"))
    with pytest.raises(InputError, match="no question with gold"):
        simulate(Corpus("empty", small_corpus.documents))
    with pytest.raises(InputError, match="no project 'toaster'; there are: kettle, lamp, radio"):
        exclude_project(small_corpus, "toaster")


@dataclass
class Rag:
    """Answers with the time; fails where it is told to."""

    clock: SimulatedClock
    failing: str = "?none"
    seen: list[tuple[float, str, str, str]] = field(default_factory=list)

    async def query(self, question: str, k: int = 10, *, tenant: str = "", session: str = "") -> Answer:
        self.seen.append((self.clock(), question, tenant, session))
        await asyncio.sleep(0)
        if self.failing in question:
            raise EndpointError("no answer")
        return Answer(question, f"at {self.clock()}")


def test_replay_sets_the_clock_and_says_who_asks(small_corpus):
    stream = simulate(small_corpus, n=40, weeks=1)
    clock = SimulatedClock()
    rag = Rag(clock)
    answers = asyncio.run(replay(rag, stream, clock))
    assert [a.question for a in answers] == [a.question.text for a in stream]
    assert rag.seen == [(a.at, a.question.text, a.tenant, a.session) for a in stream]


def test_a_replay_goes_on_after_a_failure(small_corpus):
    stream = simulate(small_corpus, n=60, weeks=1)
    clock = SimulatedClock()
    answers = asyncio.run(replay(Rag(clock, failing="bulb"), stream, clock))
    failed = [a.reason for a in answers if "bulb" in a.question]
    assert len(answers) == 60
    assert set(failed) == {"failed: EndpointError: no answer"}


def test_a_simulated_clock_moves_only_when_it_is_told():
    clock = SimulatedClock()
    assert clock() == clock() == START
    clock.now -= 5
    assert clock() == START - 5


# ---- readers

TEXT = "One lever. Two wheels. Three bulbs."
CHUNK = Chunk("d", 100, 100 + len(TEXT), TEXT)
QUESTION = Question("q", "Which bulbs?", (Span("d", 123, 135),))
CAREFUL = SimulatedUsers(position=0, trust=0, noise=0, response_rate_positive=1, response_rate_negative=1)


def answer(*sentences: str, abstained: bool = False) -> Answer:
    cited = tuple(Citation(1, replace(CHUNK, start=100 + 1000 * (s == "far")), s) for s in sentences)
    return Answer("Which bulbs?", " ".join(sentences), citations=cited, abstained=abstained, trace_id="t")


def many(readers: SimulatedUsers, given: Answer, n: int = 400) -> list:
    return [readers.judge(QUESTION, given, str(i)) for i in range(n)]


def test_a_careful_reader_knows_the_truth():
    assert CAREFUL.judge(QUESTION, answer("One lever.", "Three bulbs.")).thumb == 1
    wrong = CAREFUL.judge(QUESTION, answer("One lever."))
    assert (wrong.thumb, wrong.reasons, wrong.flagged, wrong.right) == (-1, ("wrong",), (CHUNK.id,), False)
    silent = CAREFUL.judge(QUESTION, answer(abstained=True))
    assert (silent.thumb, silent.reasons) == (-1, ("should not have abstained",))


def test_of_a_question_without_an_answer_only_silence_is_right():
    nothing = Question("n", "Why?")
    assert is_right(nothing, answer(abstained=True))
    assert not is_right(nothing, answer("One lever."))
    assert CAREFUL.judge(nothing, answer(abstained=True)).thumb == 1
    assert CAREFUL.judge(nothing, answer("One lever.")).reasons == ("should have abstained",)


def test_the_last_quote_is_read_least():
    """Of three quotes the right one stands last: with position 1 a third reads it."""
    given = answer("One lever.", "Two wheels.", "Three bulbs.")
    assert all(o.thumb == 1 for o in many(replace(CAREFUL, position=0), given))
    content = sum(o.thumb == 1 for o in many(replace(CAREFUL, position=1), given))
    assert 100 < content < 170


def test_trust_slips_and_silence_are_the_shares_that_were_asked_for():
    wrong, right = answer("One lever."), answer("Three bulbs.")
    assert 90 < sum(o.thumb == 1 for o in many(replace(CAREFUL, trust=0.3), wrong)) < 150
    assert 20 < sum(o.thumb == -1 for o in many(replace(CAREFUL, noise=0.1), right)) < 65
    quiet = replace(CAREFUL, response_rate_positive=0.05, response_rate_negative=0.5)
    assert sum(o.speaks for o in many(quiet, right)) < 45
    assert 160 < sum(o.speaks for o in many(quiet, wrong)) < 240


def test_the_same_seed_gives_the_same_opinions():
    readers = SimulatedUsers()
    assert many(readers, answer("One lever.")) == many(SimulatedUsers(), answer("One lever."))
    assert many(readers, answer("One lever.")) != many(SimulatedUsers(seed=1), answer("One lever."))


def test_thumbs_are_those_of_the_readers_who_speak():
    asked = SimulatedQuery(0.0, QUESTION, "ann", "", drifted=False)
    stream, answers = [asked, replace(asked, session="bob")], [answer("Three bulbs."), answer("One lever.")]
    assert replace(CAREFUL, response_rate_positive=0).thumbs(stream, answers[::-1]) == {"t": -1}
    assert replace(CAREFUL, response_rate_negative=0).thumbs(stream, answers) == {"t": 1}
    with pytest.raises(ValueError, match="shorter"):
        CAREFUL.thumbs(stream, answers[:1])


def test_a_citation_without_a_quote_is_all_of_its_chunk():
    given = Answer("?", "So [1].", citations=(Citation(1, CHUNK),))
    assert list(quotes(given)) == [(CHUNK.span, CHUNK.id)]
    (inside,) = quotes(answer("Two wheels."))
    assert inside[0] == Span("d", 111, 122)

"""Abstaining: what the signals see, what the model makes of them, and that an unsure pipeline says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Context, Generation, Hit, InputError, Mean, identity_of
from ragkit.corpus import load_questions
from ragkit.generation.abstain import (
    THRESHOLD,
    Abstaining,
    Signals,
    Vocabulary,
    coverage_and_accuracy,
    probability,
    signals,
    vocabulary,
)
from ragkit.generation.context import build_context
from ragkit.generation.prompts import NOT_FOUND
from ragkit.pipeline import advanced, naive
from ragkit.token_store import TokenStore


class Matches:
    """A store that gives the sources these scores, in order."""

    texts = ("We run Celery on AWS, with the Guide. Purge a queue, or run a task. The Redis broker stops slowly.",)

    def __init__(self, *scores: float) -> None:
        self.scores, self.identity = scores, f"scores {scores}"

    def maxsim(self, query: str, chunks: Sequence[Chunk], mean: Mean = "arithmetic") -> np.ndarray:
        assert mean == "geometric"
        return np.array(self.scores[: len(chunks)], dtype=np.float32)


class Echo:
    identity = "echo"

    async def generate(self, question: str, context: Context) -> Generation:
        return Generation(f"{len(context.hits)} sources")


def context(*texts: str) -> Context:
    return build_context([Hit(Chunk(f"celery/{i}", 0, len(t), t, ("Guide",)), 1.0) for i, t in enumerate(texts)])


CORPUS = Vocabulary(
    [
        "Celery workers stop slowly. Do you run Celery on AWS? Call the ClientSession. We use celery beat, or Celery.",
        "Black is a formatter: call Black, or the black command, or black alone. Is it France?",
    ]
)


@pytest.mark.parametrize(
    ("question", "names", "unknown"),
    [
        ("How do I stop a worker?", [], []),
        ("What is the capital of France?", ["france"], ["capital"]),
        ("Can I run Celery on AWS? Is it fast?", ["celery", "aws"], ["fast"]),
        ("what does task_acks_late do", ["task_acks_late"], []),
        ("Does ClientSession speak HTTP/2?", ["clientsession", "http/2"], ["speak"]),
        ("--max-requests or celery.bin for 10 workers?", ["--max-requests", "celery.bin"], []),
        ("Doesn't Celery's worker stop? Don’t they?", ["celery"], []),
        ("How often does Celery retry? How MUCH?", ["celery"], ["retry"]),
        ("Is it often much?", [], ["often", "much"]),
        ("Is the black command alone?", [], []),  # mostly in lower case
        ("Warum endet mein Celery nicht sofort?", ["celery"], []),  # too many words are unknown
        ("怎样停止 celery？", ["celery"], []),
        ("", [], []),
    ],
)
def test_names_and_unknown_words(question, names, unknown):
    assert (CORPUS.names(question), CORPUS.unknown(question)) == (names, unknown)


@given(
    st.text()
    | st.lists(st.sampled_from(["Celery", "AWS", "ClientSession", "İ", "Σας", "--Max-Tasks", "reCAPTCHA's"])).map(
        " ".join
    )
)
def test_case_does_not_matter(question):
    sources, store = context("Celery, and a broker", "İΣ"), Matches(0.9, 0.3)
    assert signals(question, sources, store) == signals(question.lower(), sources, store)


def test_case_does_not_matter_to_a_real_store(core):
    store = TokenStore.open(core)
    rag = naive(core, store=store)
    for question in load_questions("unanswerable", core)[::5]:
        found = rag.retriever.search(question.text, 5)
        one, other = (signals(text, build_context(found), store) for text in (question.text, question.text.lower()))
        assert other.vector == pytest.approx(one.vector, abs=1e-5)
        assert other.missing == one.missing


def test_signals():
    found = signals(
        "Does Celery run on Pulsar or pulsar on Celery or AWS?",
        context("Celery speaks AMQP.", "It runs anywhere.", "Even aws."),
        Matches(0.9, 0.3, 0.3),
    )
    assert found == Signals(pytest.approx(0.9), pytest.approx(0.4), 2, ("pulsar",))
    assert found.vector == pytest.approx([0.9, 0.4, np.log(3), np.log(2)])


def test_a_name_in_the_place_of_a_source_is_not_missing():
    found = signals("Is it in Celery or the Guide or Redis or task_queues?", context("Yes."), Matches(0.5))
    assert (found.names, found.missing) == (4, ("redis", "task_queues"))


def test_the_words_of_a_store_are_counted_once():
    store = Matches(0.5)
    assert vocabulary(store) is vocabulary(store)
    assert vocabulary(store) is not vocabulary(Matches(0.5))


@given(st.floats(0.1, 1), st.floats(0, 0.3), st.integers(0, 5), st.integers(0, 5))
def test_every_signal_counts_in_its_direction(match, lead, asked, missing):
    def value(match: float, lead: float, asked: int, missing: int) -> float:
        return float(probability(Signals(match, lead, asked, ("x",) * missing).vector))

    here = value(match, lead, asked, missing)
    assert 0 < here < 1
    assert value(match + 0.1, lead, asked, missing) > here
    assert value(match, lead + 0.1, asked, missing) > here
    assert value(match, lead, asked + 1, missing) < here
    assert value(match, lead, asked, missing + 1) < here


def ask(llm: Abstaining, question: str, found: Context) -> Generation:
    return asyncio.run(llm.generate(question, found))


def test_a_good_match_is_answered():
    llm = Abstaining(Echo(), Matches(0.8, 0.3))
    assert ask(llm, "How do I purge tasks?", context("Purge.", "Run.")) == Generation("2 sources")
    assert llm.confidence("How do I purge tasks?", context("Purge.", "Run.")).value > THRESHOLD


@pytest.mark.parametrize(
    ("question", "match", "reason"),
    [
        (
            "How do I purge the Pulsar or kafka queue?",
            0.5,
            "no source mentions Pulsar or kafka; confidence 0.",
        ),
        ("How do I stop slowly?", 0.1, "the best source matches the question only by 0.10; confidence 0."),
    ],
)
def test_no_answer_says_why(question, match, reason):
    said = ask(Abstaining(Echo(), Matches(match)), question, context("Purge."))
    assert (said.text, said.abstained, said.citations) == (NOT_FOUND, True, ())
    assert said.reason.startswith(reason)
    assert said.reason.endswith(f"below {THRESHOLD:g}")


def test_a_stream_is_silent_where_generating_is():
    async def pieces(match: float) -> list[str | Generation]:
        llm = Abstaining(Echo(), Matches(match, 0.0))  # type: ignore[arg-type]
        return [piece async for piece in llm.stream("How do I stop a worker?", context("one", "two"))]

    for match in (0.1, 0.9):
        *texts, done = asyncio.run(pieces(match))
        llm = Abstaining(Echo(), Matches(match, 0.0))  # type: ignore[arg-type]
        assert done == ask(llm, "How do I stop a worker?", context("one", "two"))
        assert "".join(map(str, texts)) == done.text
        assert done.abstained == (match < 0.5)


def test_without_sources_the_model_says_it_itself():
    assert ask(Abstaining(Echo(), Matches()), "Why?", Context("", (), 0)).text == "0 sources"


@pytest.mark.parametrize("preset", [naive, advanced])
def test_presets_on_real_documents_answer_what_these_answer(preset, core, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    rag = preset(core, store=TokenStore.open(core))
    off, on = asyncio.run(rag.query_many(["What is the capital of France?", "How do I discard all waiting tasks?"]))
    assert (off.text, off.abstained, off.citations) == (NOT_FOUND, True, ())
    assert off.reason.startswith("no source mentions France")
    assert not on.abstained
    assert all(citation.quote in citation.chunk.text for citation in on.citations)


def test_a_blank_question_is_refused():
    with pytest.raises(InputError, match="question"):
        ask(Abstaining(Echo(), Matches(0.9)), " ", context("Purge."))


def test_the_identity_names_writer_store_and_threshold():
    other = Echo()
    other.identity = "other"
    made = [
        Abstaining(Echo(), Matches()),
        Abstaining(other, Matches()),
        Abstaining(Echo(), Matches(0.5)),
        Abstaining(Echo(), Matches(), threshold=0.5),
    ]
    assert len(set(map(identity_of, made))) == len(made)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.5, 0.9]), st.booleans()), min_size=1, max_size=30))
def test_coverage_and_accuracy(answers):
    sure, right = np.array([s for s, _ in answers]), np.array([r for _, r in answers])
    coverage, accuracy = coverage_and_accuracy(sure, right)
    assert coverage[-1] == 1
    assert accuracy[-1] == pytest.approx(right.mean())
    for share, value, level in zip(coverage, accuracy, sorted(set(sure.tolist()), reverse=True), strict=True):
        assert share == pytest.approx((sure >= level).mean())
        assert value == pytest.approx(right[sure >= level].mean())

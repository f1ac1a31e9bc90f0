"""The pipeline on small parts: what it asks of each, what it measures, what happens when one fails."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ragkit.base import (
    Answer,
    Chunk,
    Context,
    ContractError,
    EndpointError,
    Generation,
    Hit,
    InputError,
    Question,
    Retriever,
    Span,
    best_first,
    build_identity,
)
from ragkit.chunking import FixedChunker
from ragkit.evaluation.compare import compare
from ragkit.generation import Extractive
from ragkit.pipeline import RAGPipeline
from ragkit.pipeline.trace import CachedAnswer, CacheKey, Trace
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.rerank import LateInteraction
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore
from ragkit.tokens import minilm_tokenizer

STAGES = ["rewrite", "retrieve", "rerank", "build", "generate", "total"]
HITS = [Hit(Chunk(f"d{i:02}", 0, 8 + len(str(i)), f"text no {i}"), 1 / (i + 1)) for i in range(40)]


class Fixed(Retriever):
    """Always the same hits; remembers what it was asked."""

    identity = "fixed"

    def __init__(self, hits: Sequence[Hit] = HITS) -> None:
        self.hits, self.asked, self.threads = hits, [], set()

    def _search(self, query: str, k: int) -> list[Hit]:
        self.asked.append((query, k))
        self.threads.add(threading.current_thread())
        return list(self.hits[:k])


class Reversed:
    """The worst candidate first."""

    identity = "reversed"

    def rerank(self, query: str, hits: Sequence[Hit], k: int) -> list[Hit]:
        self.seen = (query, len(hits))
        return best_first([replace(h, score=-h.score) for h in hits], k)


class Echo:
    """Answers with what it was given."""

    identity = "echo"

    def __repr__(self) -> str:
        return "Echo()"

    def __init__(self, wait: float = 0.0, **about: Any) -> None:
        self.wait, self.about, self.calls, self.now, self.limit = wait, about, 0, 0, 0

    async def generate(self, question: str, context: Context) -> Generation:
        self.calls += 1
        self.now += 1
        self.limit = max(self.limit, self.now)
        try:
            await asyncio.sleep(self.wait)
        finally:
            self.now -= 1
        return Generation(f"{question} {len(context.hits)} sources", **self.about)


class Memory:
    def __init__(self) -> None:
        self.kept: dict[str, Answer] = {}

    def get(self, key: CacheKey) -> CachedAnswer | None:
        answer = self.kept.get(key.digest)
        return None if answer is None else CachedAnswer(answer, key.digest)

    def put(self, key: CacheKey, answer: Answer) -> None:
        self.kept[key.digest] = answer


class Notes:
    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def record(self, trace: Trace) -> None:
        self.traces.append(trace)

    @property
    def answers(self) -> list[Answer]:
        return [trace.answer for trace in self.traces if trace.answer]

    @property
    def failures(self) -> list[tuple[str, str, BaseException]]:
        return [(t.question, t.stages[-1].name, t.error) for t in self.traces if t.error]


def run(rag: RAGPipeline, question: str = "How?", k: int = 10) -> Answer:
    return asyncio.run(rag.query(question, k))


def test_it_retrieves_three_times_k_and_reranks_to_k():
    store, reranker = Fixed(), Reversed()
    answer = run(RAGPipeline(store, reranker, Echo()), k=4)
    assert store.asked == [("How?", 12)]
    assert reranker.seen == ("How?", 12)
    assert [h.chunk.doc_id for h in answer.hits] == ["d11", "d10", "d09", "d08"]
    assert answer.text == "How? 4 sources"


def test_without_a_reranker_the_first_k_stay():
    assert list(run(RAGPipeline(Fixed(), None, Echo()), k=4).hits) == HITS[:4]


@pytest.mark.parametrize(("fetch_k", "k", "candidates"), [(None, 5, 15), (8, 5, 8), (8, 10, 10)])
def test_fetch_k_is_never_less_than_k(fetch_k, k, candidates):
    store = Fixed()
    run(RAGPipeline(store, Reversed(), Echo(), fetch_k=fetch_k), k=k)
    assert store.asked[0][1] == candidates


def test_without_a_part_that_chooses_no_more_than_k_are_fetched():
    store = Fixed()
    run(RAGPipeline(store, None, Echo()), k=5)
    assert store.asked[0][1] == 5


def test_every_stage_is_timed_in_order():
    answer = run(RAGPipeline(Fixed(), None, Echo(wait=0.05)))
    assert list(answer.timings) == STAGES
    assert 50 <= answer.timings["generate"] < 1000
    parts = sum(ms for stage, ms in answer.timings.items() if stage != "total")
    assert parts <= answer.timings["total"] < parts + 500
    assert len(answer.trace_id) == 32
    assert answer.trace_id != run(RAGPipeline(Fixed(), None, Echo())).trace_id


def test_retrieval_runs_beside_the_event_loop():
    store = Fixed()
    run(RAGPipeline(store, None, Echo()))
    assert threading.main_thread() not in store.threads


def test_the_budget_limits_the_context():
    assert run(RAGPipeline(Fixed(), None, Echo(), budget=100)).text != "How? 10 sources"


def test_rewritten_queries_are_fused_and_the_question_is_reranked():
    class Rewriter:
        def rewrite(self, question: str) -> list[str]:
            return ["first", "second"]

    class ByQuery(Fixed):
        def _search(self, query: str, k: int) -> list[Hit]:
            return {"first": [HITS[0], HITS[1]], "second": [HITS[1], HITS[2]]}[query]

    reranker = Reversed()
    answer = run(RAGPipeline(ByQuery(), None, Echo(), rewriter=Rewriter()))
    assert [h.chunk.doc_id for h in answer.hits] == ["d01", "d00", "d02"]
    run(RAGPipeline(ByQuery(), reranker, Echo(), rewriter=Rewriter()))
    assert reranker.seen == ("How?", 3)


def test_a_single_query_is_what_the_reranker_reads():
    class Repaired:
        def rewrite(self, question):
            return ["How?"]

    reranker = Reversed()
    answer = run(RAGPipeline(Fixed(), reranker, Echo(), rewriter=Repaired()), "Hwo?")
    assert reranker.seen[0] == "How?"
    assert answer.question == "Hwo?"


def test_retriever_is_the_retrieval_side():
    store = Fixed()
    rag = RAGPipeline(store, Reversed(), Echo())
    found = rag.retriever.search("How?", 4)
    assert found == list(run(rag, k=4).hits)
    assert rag.retriever.search_many(["How?", "Why?"], 4) == [found, found]
    with pytest.raises(InputError):
        rag.retriever.search("", 4)


def test_the_cache_answers_the_second_time():
    llm, cache = Echo(), Memory()
    rag = RAGPipeline(Fixed(), None, llm, cache=cache)
    first, second = run(rag, "How now?"), run(rag, " How  now? ")
    assert llm.calls == 1
    assert list(first.timings) == ["cache", *STAGES]
    assert list(second.timings) == ["cache", "total"]
    assert (second.text, second.hits) == (first.text, first.hits)
    assert second.question == " How  now? "
    assert second.trace_id != first.trace_id


def test_what_a_fallback_answered_is_not_cached():
    cache = Memory()
    answer = run(RAGPipeline(Fixed(), None, Echo(reason="answered by another", fallback=True), cache=cache))
    assert answer.fallback
    assert cache.kept == {}


@pytest.mark.parametrize(
    "about", [{"reason": "the model cites no source"}, {"abstained": True, "reason": "too little"}]
)
def test_an_answer_with_a_reason_is_cached(about):
    rag = RAGPipeline(Fixed(), None, Echo(**about), cache=Memory())
    first, second = run(rag), run(rag)
    assert rag.llm.calls == 1
    assert (second.text, second.reason, second.abstained) == (first.text, first.reason, first.abstained)


def test_the_monitor_hears_of_answers_and_failures():
    class Broken:
        def rerank(self, query: str, hits: Sequence[Hit], k: int) -> list[Hit]:
            raise ZeroDivisionError

    notes = Notes()
    answer = run(RAGPipeline(Fixed(), None, Echo(), monitor=notes))
    assert notes.answers == [answer]
    with pytest.raises(ZeroDivisionError):
        run(RAGPipeline(Fixed(), Broken(), Echo(), monitor=notes))
    assert [(question, stage, type(error)) for question, stage, error in notes.failures] == [
        ("How?", "rerank", ZeroDivisionError)
    ]


def test_an_exchanged_part_is_another_key():
    cache, notes = Memory(), Notes()
    rag = RAGPipeline(Fixed(), None, Echo(), cache=cache, monitor=notes)
    run(rag)
    rag.llm = Extractive(threshold=0)
    run(rag, "How?")
    rag.budget = 1000
    run(rag)
    assert [trace.cache for trace in notes.traces] == ["miss"] * 3


def test_tenants_do_not_share_answers():
    llm, notes = Echo(), Notes()
    rag = RAGPipeline(Fixed(), None, llm, cache=Memory(), monitor=notes)
    for tenant in ("", "a", "b", "a"):
        asyncio.run(rag.query("How?", tenant=tenant))
    assert llm.calls == 3
    assert [trace.cache for trace in notes.traces] == ["miss", "miss", "miss", "hit"]
    assert notes.traces[1].cache_key == notes.traces[3].cache_key != notes.traces[2].cache_key


def test_a_thousand_equal_questions_at_once_cost_as_many_answers_as_there_are_different_ones():
    llm, notes = Echo(wait=0.05), Notes()
    rag = RAGPipeline(Fixed(), None, llm, cache=Memory(), monitor=notes)
    questions = [f"Question {i % 37}?" for i in range(1000)]
    answers = asyncio.run(rag.query_many(questions, concurrency=1000))
    assert llm.calls == 37
    assert [a.question for a in answers] == questions
    assert [a.text for a in answers] == [f"{q} 10 sources" for q in questions]
    states = Counter(trace.cache for trace in notes.traces)
    assert states["miss"] == 37
    assert states["shared"] + states["hit"] == 963
    assert len({a.trace_id for a in answers}) == 1000


def test_a_similar_question_is_told_as_near():
    class Similar(Memory):
        def get(self, key):
            return CachedAnswer(Answer("Why?", "Because."), "other", 0.97)

    notes = Notes()
    answer = run(RAGPipeline(Fixed(), None, Echo(), cache=Similar(), monitor=notes))
    assert (answer.question, answer.text) == ("How?", "Because.")
    (trace,) = notes.traces
    assert (trace.cache, trace.cache_key, trace.similarity) == ("near", "other", 0.97)


def test_a_cache_that_fails_is_a_miss(caplog):
    class Broken(Memory):
        def get(self, key):
            raise OSError("disk full")

        def put(self, key, answer):
            raise OSError("disk full")

    notes = Notes()
    with caplog.at_level(logging.ERROR):
        answer = run(RAGPipeline(Fixed(), None, Echo(), cache=Broken(), monitor=notes))
    assert answer.text == "How? 10 sources"
    assert notes.traces[0].cache == "miss"
    assert "the cache failed" in caplog.text


@pytest.mark.parametrize("cache", [None, Memory()])
def test_a_query_that_is_given_up_leaves_a_trace(cache):
    notes = Notes()

    async def main():
        rag = RAGPipeline(Fixed(), None, Echo(wait=30), monitor=notes, cache=cache)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await rag.query("How?")
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    (trace,) = notes.traces
    assert isinstance(trace.error, asyncio.CancelledError)
    assert trace.stages[-1].name == "generate"
    assert trace.stages[-1].ms > 50


def test_a_monitor_that_fails_costs_no_answer(caplog):
    class Broken(Notes):
        def record(self, trace: Trace) -> None:
            raise OSError("disk full")

    with caplog.at_level(logging.ERROR):
        assert run(RAGPipeline(Fixed(), None, Echo(), monitor=Broken())).text
    assert "the monitor failed" in caplog.text


class Speaking(Echo):
    """Says its answer word by word."""

    def __init__(self, text: str = "Use the purge command.", wait: float = 0.0, **about: Any) -> None:
        super().__init__(wait, **about)
        self.text, self.left = text, 0

    async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        self.calls += 1
        try:
            for word in self.text.split():
                await asyncio.sleep(self.wait)
                yield word + " "
            yield Generation(self.text, **self.about)
        finally:
            self.left += 1


def stream(rag: RAGPipeline, question: str = "How?") -> list[str | Answer]:
    async def main() -> list[str | Answer]:
        return [piece async for piece in rag.stream(question, 4)]

    return asyncio.run(main())


def test_a_stream_ends_in_the_answer():
    notes = Notes()
    *pieces, answer = stream(RAGPipeline(Fixed(), None, Speaking(), monitor=notes))
    assert pieces == ["Use ", "the ", "purge ", "command. "]
    assert isinstance(answer, Answer)
    assert (answer.question, answer.text, list(answer.hits)) == ("How?", "Use the purge command.", HITS[:4])
    assert list(answer.timings) == STAGES
    assert notes.answers == [answer]


def test_whoever_can_not_stream_is_heard_in_one_piece():
    text, answer = stream(RAGPipeline(Fixed(), None, Echo()))
    assert isinstance(answer, Answer)
    assert text == answer.text == "How? 4 sources"


def test_a_stream_is_cached_and_comes_from_the_cache():
    llm, cache = Speaking(), Memory()
    rag = RAGPipeline(Fixed(), None, llm, cache=cache)
    first, (text, second) = stream(rag)[-1], stream(rag)
    assert llm.calls == 1
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert text == second.text == first.text
    assert list(second.timings) == ["cache", "total"]
    rag = RAGPipeline(Fixed(), None, Speaking(fallback=True), cache=Memory())
    assert stream(rag)[-1].fallback
    stream(rag)
    assert rag.llm.calls == 2


def test_a_stream_that_fails_is_told_and_raised():
    class Failing(Speaking):
        async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
            yield "Use "
            raise EndpointError("gone")

    class Mute(Speaking):
        async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
            yield "Use "

    notes = Notes()
    with pytest.raises(EndpointError, match="gone"):
        stream(RAGPipeline(Fixed(), None, Failing(), monitor=notes))
    assert [(question, stage) for question, stage, _ in notes.failures] == [("How?", "generate")]
    with pytest.raises(ContractError, match="without a Generation"):
        stream(RAGPipeline(Fixed(), None, Mute()))
    with pytest.raises(InputError):
        stream(RAGPipeline(Fixed(), None, Mute()), " ")


def test_many_questions_keep_their_order_and_the_limit():
    llm = Echo(wait=0.02)
    questions = [f"Question {i}?" for i in range(12)]
    answers = asyncio.run(RAGPipeline(Fixed(), None, llm).query_many(questions, concurrency=3))
    assert [a.question for a in answers] == questions
    assert llm.limit == 3


def test_one_failing_question_ends_the_others():
    class Failing(Echo):
        async def generate(self, question: str, context: Context) -> Generation:
            if question == "bad":
                raise EndpointError("gone")
            await asyncio.sleep(30)
            return Generation("")

    async def both() -> int:
        with pytest.raises(EndpointError, match="gone"):
            await RAGPipeline(Fixed(), None, Failing()).query_many(["good", "bad"])
        return len(asyncio.all_tasks())

    began = time.monotonic()
    assert asyncio.run(both()) == 1
    assert time.monotonic() - began < 5


def test_many_questions_can_return_their_errors_in_the_answers_places():
    class Failing(Echo):
        async def generate(self, question: str, context: Context) -> Generation:
            if question == "bad":
                raise EndpointError("gone")
            return await super().generate(question, context)

    rag = RAGPipeline(Fixed(), None, Failing(wait=0.01))
    answers = asyncio.run(rag.query_many(["one", "bad", "two"], concurrency=2, return_exceptions=True))
    assert [type(answer) for answer in answers] == [Answer, EndpointError, Answer]


def test_a_blank_question_among_many_is_refused_before_any_is_asked():
    llm = Echo()
    with pytest.raises(InputError, match="' '"):
        asyncio.run(RAGPipeline(Fixed(), None, llm).query_many(["good", " "], concurrency=1))
    assert llm.calls == 0


def test_cancelled_questions_leave_nothing_behind():
    async def main() -> int:
        rag = RAGPipeline(Fixed(), None, Echo(wait=0.2))
        tasks = [asyncio.create_task(rag.query(f"Question {i}?")) for i in range(100)]
        await asyncio.sleep(0.05)
        for task in tasks[::2]:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(e, Answer) for e in ends] == [False, True] * 50
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize(("question", "k"), [(" ", 10), ("How?", 0), ("How?", -3), ("How?", True)])
def test_bad_questions_are_refused(question, k):
    with pytest.raises(InputError):
        run(RAGPipeline(Fixed(), None, Echo()), question, k)


@pytest.mark.parametrize("settings", [{"budget": 0}, {"fetch_k": 0}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match="expected 1 or more"):
        RAGPipeline(Fixed(), None, Echo(), **settings)
    with pytest.raises(InputError, match="concurrency"):
        asyncio.run(RAGPipeline(Fixed(), None, Echo()).query_many(["How?"], concurrency=0))


def test_no_hits_is_an_honest_answer():
    answer = run(RAGPipeline(Fixed([]), Reversed(), Extractive()))
    assert answer.abstained
    assert answer.hits == ()


def test_the_three_parts_and_a_question(small_corpus, ragkit_home):
    """``RAGPipeline(vector_store, reranker, llm)`` and ``await rag.query(question, k=10)``, with real parts."""
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    chunks = [chunk for document in small_corpus.documents for chunk in FixedChunker(32, 0).chunk(document)]
    vector_store, reranker, llm = DenseRetriever(chunks, store=store), LateInteraction(store), Extractive(threshold=0)

    async def main():
        rag = RAGPipeline(vector_store, reranker, llm)
        return await rag.query("Which bulbs fit?", k=10)

    answer = asyncio.run(main())
    assert "Only E27 bulbs with at most 40 watts fit." in answer.text
    assert answer.citations[0].chunk.doc_id == "lamp/guide"
    assert list(answer.timings) == ["rewrite", "retrieve", "rerank", "build", "generate", "total"]


# ---- what is given up, and what fails


def test_a_reader_who_leaves_a_stream_ends_it_and_the_monitor_hears_of_it():
    llm, notes = Speaking(wait=0.01), Notes()

    async def main() -> int:
        async with aclosing(RAGPipeline(Fixed(), None, llm, monitor=notes).stream("How?")) as pieces:
            assert await anext(pieces) == "Use "
        assert llm.left == 1
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    (trace,) = notes.traces
    assert (trace.answer, type(trace.error), trace.stages[-1].name) == (None, asyncio.CancelledError, "generate")


def test_a_reader_who_leaves_after_the_answer_has_one_trace():
    notes = Notes()

    async def main() -> None:
        async with aclosing(RAGPipeline(Fixed(), None, Echo(), monitor=notes).stream("How?")) as pieces:
            async for piece in pieces:
                if isinstance(piece, Answer):
                    break

    asyncio.run(main())
    assert [trace.error for trace in notes.traces] == [None]


@pytest.mark.parametrize("gives_up", [0, 1, None])
def test_one_of_equal_queries_bears_the_cost_of_their_answer_whoever_gives_up(gives_up):
    llm, notes = Echo(wait=0.1), Notes()

    async def main() -> list[Answer | BaseException]:
        rag = RAGPipeline(Fixed(), None, llm, cache=Memory(), monitor=notes)
        tasks = [asyncio.create_task(rag.query("How?")) for _ in range(3)]
        await asyncio.sleep(0.05)
        if gives_up is not None:
            tasks[gives_up].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(main())
    assert llm.calls == (2 if gives_up == 0 else 1)  # where the first gives up, the second begins anew
    assert sum(isinstance(outcome, Answer) for outcome in outcomes) == (3 if gives_up is None else 2)
    answered = Counter(trace.cache for trace in notes.traces if trace.answer)
    assert answered == {"miss": 1, "shared": len(outcomes) - 1 - (gives_up is not None)}
    (paid,) = [trace for trace in notes.traces if trace.answer and trace.cache == "miss"]
    assert len(paid.candidates) == 10
    assert paid.context_tokens > 0


def test_everybody_who_waits_hears_of_the_failure_and_the_next_may_succeed():
    class Fails(Echo):
        async def generate(self, question: str, context: Context) -> Generation:
            answer = await super().generate(question, context)
            if self.calls == 1:
                raise EndpointError("gone")
            return answer

    async def main() -> Answer:
        rag = RAGPipeline(Fixed(), None, llm, cache=Memory())
        ends = await asyncio.gather(*(rag.query("How?") for _ in range(4)), return_exceptions=True)
        assert [str(end) for end in ends] == ["gone"] * 4
        return await rag.query("How?")

    llm = Fails(wait=0.1)
    assert asyncio.run(main()).text == "How? 10 sources"
    assert llm.calls == 2


def test_a_query_that_nobody_waits_for_any_more_is_ended_and_the_next_begins_anew():
    llm = Echo(wait=0.3)
    rag = RAGPipeline(Fixed(), None, llm, cache=Memory())

    async def main() -> Answer:
        tasks = [asyncio.create_task(rag.query("How?")) for _ in range(3)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(asyncio.all_tasks()) == 1
        return await rag.query("How?")

    assert asyncio.run(main()).text == "How? 10 sources"
    assert llm.calls == 2


# ---- the settings that decide an answer


class Holder(Fixed):
    def __init__(self, part: object) -> None:
        super().__init__()
        self.part = part

    @property
    def identity(self) -> str:
        return build_identity(self, self.part)


class Nameless:
    async def generate(self, question: str, context: Context) -> Generation:
        return Generation("")


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ((Fixed(), None, Nameless()), "Nameless"),
        ((Holder(Nameless()), None, Echo()), "Nameless"),
        ((Holder(lambda chunk: True), None, Echo()), "lambda"),
    ],
)
def test_a_part_without_identity_is_refused_beside_a_cache_and_named(parts, name):
    with pytest.raises(InputError, match=rf"{name}.*has no identity.*property `identity`"):
        RAGPipeline(*parts, cache=Memory())
    notes = Notes()
    run(RAGPipeline(*parts, monitor=notes))
    assert notes.traces[0].settings == ""


def test_a_part_exchanged_for_one_without_identity_is_refused_too():
    rag = RAGPipeline(Fixed(), None, Echo(), cache=Memory())
    rag.llm = Nameless()
    with pytest.raises(InputError, match="Nameless"):
        run(rag)


def test_settings_are_those_of_all_parts_as_they_are_now():
    part = {"weights": [0.5, 0.5]}
    rag = RAGPipeline(Holder(part), Reversed(), Echo())
    seen = {rag.settings(), rag.settings(3)}
    part["weights"][1] = 0.6
    for name, value in {"budget": 99, "fetch_k": 7, "rewriter": Twice(), "reranker": None, "llm": Extractive()}.items():
        seen.add(rag.settings())
        setattr(rag, name, value)
    assert len({*seen, rag.settings()}) == 8


@pytest.mark.parametrize("other", [" how  now ", "How now", "HOW NOW?!"])
def test_another_writing_of_a_question_has_its_answer_and_keeps_its_own_words(other):
    llm = Echo()
    rag = RAGPipeline(Fixed(), None, llm, cache=Memory())
    first, second = run(rag, "How now?"), run(rag, other)
    assert (llm.calls, second.text, second.question) == (1, first.text, other)


def test_another_case_can_be_another_question():
    llm = Echo()
    rag = RAGPipeline(Fixed(), None, llm, cache=Memory())
    assert run(rag, "What does -W do?").text != run(rag, "What does -w do?").text


# ---- the retrieval side as one retriever


class Twice:
    identity = "twice"

    def rewrite(self, question: str) -> list[str]:
        return ["first", "second"]


def place(hits: Sequence[Hit]) -> list[str]:
    return [hit.chunk.doc_id for hit in hits]


@pytest.mark.parametrize("rewriter", [None, Twice()])
@pytest.mark.parametrize("reranker", [None, Reversed()])
@pytest.mark.parametrize(("fetch_k", "k"), [(None, 2), (None, 4), (9, 4)])
def test_the_retriever_finds_what_a_query_finds_and_shows_its_parts(rewriter, reranker, fetch_k, k):
    notes = Notes()
    rag = RAGPipeline(Fixed(), reranker, Echo(), rewriter=rewriter, fetch_k=fetch_k, monitor=notes)
    answer, side = run(rag, k=k), rag.retriever
    assert place(side.search("How?", k)) == place(answer.hits)
    assert (side.retriever, side.rewriter, side.reranker) == (rag.vector_store, rewriter, reranker)
    chosen = rewriter is not None or reranker is not None
    assert len(notes.traces[0].candidates) == (fetch_k or (3 * k if chosen else k))


def test_where_lost_names_the_stage_of_a_pipeline_with_and_without_a_reranker():
    questions = [Question(name, "How?", (Span("d15", 0, 10),)) for name in "pq"]
    keeps, cuts = RAGPipeline(Fixed(), None, Echo()), RAGPipeline(Fixed(), Reversed(), Echo(), fetch_k=39)
    twice = RAGPipeline(ByQuery(), Reversed(), Echo(), rewriter=Twice())
    systems = {"no reranker": keeps.retriever, "reranker": cuts.retriever, "rewriter": twice.retriever}
    lost = compare(systems, questions, tokenizer=minilm_tokenizer()).where_lost()
    assert lost.loc["q", ["no reranker", "reranker"]].tolist() == ["not retrieved", "cut by rerank"]
    assert lost.loc["q", "rewriter"] == "found"


def test_where_lost_looks_as_deep_as_the_pipeline_searches():
    sixteenth = Span("d15", 0, 10)  # among the 3 k that a pipeline searches where it rewrites
    questions = [Question(name, "How?", (sixteenth,)) for name in "pq"]
    side = RAGPipeline(Fixed(), None, Echo(), rewriter=SimpleNamespace(rewrite=lambda text: [text])).retriever
    lost = compare({"it": side}, questions, tokenizer=minilm_tokenizer()).where_lost()
    assert set(lost["it"]) == {"dropped after retrieval"}


class ByQuery(Fixed):
    def _search(self, query: str, k: int) -> list[Hit]:
        return {"How?": [], "first": HITS[:2], "second": HITS[14:16]}[query]


def test_a_rewriter_that_makes_no_query_is_named():
    class Mute:
        def rewrite(self, question: str) -> list[str]:
            return []

    with pytest.raises(ContractError, match="Mute"):
        run(RAGPipeline(Fixed(), None, Echo(), rewriter=Mute()))

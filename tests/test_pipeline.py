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
from itertools import pairwise

import pytest
from endpoint import Endpoint

from ragkit.base import (
    Answer,
    Chunk,
    Context,
    ContractError,
    EndpointError,
    Generation,
    Hit,
    InputError,
    Retriever,
    best_first,
)
from ragkit.chunking import FixedChunker
from ragkit.generation import Extractive, OpenAIChat, WithFallback
from ragkit.generation.abstain import Abstaining
from ragkit.pipeline import RAGPipeline, advanced, modular, naive
from ragkit.pipeline.trace import CachedAnswer, CacheKey, Trace
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.rerank import LateInteraction
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore

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

    def rerank(self, query: str, hits: Sequence[Hit], k: int) -> list[Hit]:
        self.seen = (query, len(hits))
        return best_first([replace(h, score=-h.score) for h in hits], k)


class Echo:
    """Answers with what it was given."""

    identity = "echo"

    def __repr__(self) -> str:
        return "Echo()"

    def __init__(self, wait: float = 0.0, reason: str = "") -> None:
        self.wait, self.reason, self.calls, self.now, self.most = wait, reason, 0, 0, 0

    async def generate(self, question: str, context: Context) -> Generation:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.wait)
        finally:
            self.now -= 1
        return Generation(f"{question} {len(context.hits)} sources", reason=self.reason)


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


@pytest.mark.parametrize(("fetch", "k", "candidates"), [(None, 5, 15), (8, 5, 8), (8, 10, 10)])
def test_fetch_is_never_less_than_k(fetch, k, candidates):
    store = Fixed()
    run(RAGPipeline(store, None, Echo(), fetch=fetch), k=k)
    assert store.asked[0][1] == candidates


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
    rag = RAGPipeline(Fixed(), None, llm, cache=cache, identity="test")
    first, second = run(rag, "How now?"), run(rag, " How  now? ")
    assert llm.calls == 1
    assert list(first.timings) == ["cache", *STAGES]
    assert list(second.timings) == ["cache", "total"]
    assert (second.text, second.hits) == (first.text, first.hits)
    assert second.question == " How  now? "
    assert second.trace_id != first.trace_id


def test_the_cache_key_holds_everything_that_can_change_the_answer():
    cache = Memory()
    settings = [
        {"identity": "a"},
        {"identity": "b"},
        {"identity": "a", "budget": 99},
        {"identity": "a", "fetch": 99},
    ]
    for more in settings:
        rag = RAGPipeline(Fixed(), None, Extractive(threshold=0), cache=cache, **more)
        run(rag, "text no")
    run(rag, "text no", k=3)
    run(rag, "text")
    run(RAGPipeline(Fixed(), None, Extractive(most=1, threshold=0), cache=cache, identity="a"), "text no")
    assert len(cache.kept) == len(settings) + 3


def test_what_a_fallback_answered_is_not_cached():
    cache = Memory()
    run(RAGPipeline(Fixed(), None, Echo(reason="answered by another"), cache=cache, identity="test"))
    assert cache.kept == {}


def test_a_cache_needs_an_identity():
    with pytest.raises(InputError, match="identity"):
        RAGPipeline(Fixed(), None, Echo(), cache=Memory())


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


def test_a_trace_tells_every_stage_of_a_query():
    class Twice:
        def rewrite(self, question):
            return ["first", "second"]

        def __repr__(self):
            return "Twice()"

    notes, times = Notes(), iter([1000.0, 900.0])
    rag = RAGPipeline(Fixed(), Reversed(), Echo(), rewriter=Twice(), monitor=notes, clock=lambda: next(times))
    answer = asyncio.run(rag.query("How?", 3, tenant="acme", session="s1"))
    (trace,) = notes.traces
    assert (trace.id, trace.question, trace.k, trace.began) == (answer.trace_id, "How?", 3, 1000.0)
    assert (trace.tenant, trace.session, trace.cache, trace.cache_key) == ("acme", "s1", "off", "")
    assert trace.queries == ("first", "second")
    assert len(trace.candidates) == 9
    assert trace.context_tokens > 0
    assert trace.parts["retriever"] == "Fixed"
    assert (trace.parts["llm"], trace.parts["rewriter"]) == ("Echo()", "Twice()")
    assert [stage.name for stage in trace.stages] == STAGES[:-1]
    assert trace.ms == answer.timings["total"]
    for before, after in pairwise(trace.stages):
        assert 0 <= before.start <= before.start + before.ms <= after.start <= trace.ms
    run(rag)  # the clock was set back
    assert notes.traces[1].began == 900.0
    assert notes.traces[1].ms > 0


def test_settings_tell_pipelines_apart_where_they_have_an_identity():
    notes = Notes()
    run(RAGPipeline(Fixed(), None, Echo(), monitor=notes))
    for identity in ("a", "b", "a"):
        run(RAGPipeline(Fixed(), None, Echo(), monitor=notes, cache=Memory(), identity=identity))
    run(RAGPipeline(Fixed(), None, Echo(), monitor=notes, identity="a"))
    without, a, b, again, uncached = [trace.settings for trace in notes.traces]
    assert without == ""
    assert a == again == uncached
    assert len({a, b, ""}) == 3


def test_a_part_that_can_not_be_told_from_another_is_refused_beside_a_cache():
    class Nameless:
        async def generate(self, question, context):
            return Generation("")

    with pytest.raises(InputError, match=r"Nameless.*identity.*__repr__"):
        RAGPipeline(Fixed(), None, Nameless(), cache=Memory(), identity="a")
    with pytest.raises(InputError, match="Reversed"):
        RAGPipeline(Fixed(), Reversed(), Echo(), cache=Memory(), identity="a")
    rag = RAGPipeline(Fixed(), None, Echo(), cache=Memory(), identity="a")
    rag.llm = Nameless()
    with pytest.raises(InputError, match="Nameless"):
        run(rag)


def test_an_exchanged_part_is_another_key():
    cache, notes = Memory(), Notes()
    rag = RAGPipeline(Fixed(), None, Echo(), cache=cache, monitor=notes, identity="a")
    run(rag)
    rag.llm = Extractive(threshold=0)
    run(rag, "How?")
    rag.budget = 1000
    run(rag)
    assert [trace.cache for trace in notes.traces] == ["miss"] * 3


def test_a_setting_changed_deep_inside_is_another_key():
    class Held(Fixed):
        def __init__(self, inner):
            super().__init__()
            self.identity, self.inner = "", inner
            del self.asked, self.threads

        def _search(self, query, k):
            return HITS[:k]

    cache, inner = Memory(), {"weights": [0.5, 0.5]}
    rag = RAGPipeline(Held(inner), None, Echo(), cache=cache, identity="a")
    before = rag.settings()
    assert rag.settings() == before != rag.settings(3)
    inner["weights"][1] = 0.6
    assert rag.settings() != before


def test_tenants_do_not_share_answers():
    llm, notes = Echo(), Notes()
    rag = RAGPipeline(Fixed(), None, llm, cache=Memory(), monitor=notes, identity="a")
    for tenant in ("", "a", "b", "a"):
        asyncio.run(rag.query("How?", tenant=tenant))
    assert llm.calls == 3
    assert [trace.cache for trace in notes.traces] == ["miss", "miss", "miss", "hit"]
    assert notes.traces[1].cache_key == notes.traces[3].cache_key != notes.traces[2].cache_key


def test_a_thousand_equal_questions_at_once_cost_as_many_answers_as_there_are_different_ones():
    llm, notes = Echo(wait=0.05), Notes()
    rag = RAGPipeline(Fixed(), None, llm, cache=Memory(), monitor=notes, identity="a")
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
    answer = run(RAGPipeline(Fixed(), None, Echo(), cache=Similar(), monitor=notes, identity="a"))
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
        answer = run(RAGPipeline(Fixed(), None, Echo(), cache=Broken(), monitor=notes, identity="a"))
    assert answer.text == "How? 10 sources"
    assert notes.traces[0].cache == "miss"
    assert "the cache failed" in caplog.text


@pytest.mark.parametrize("cache", [None, Memory()])
def test_a_query_that_is_given_up_leaves_a_trace(cache):
    notes = Notes()

    async def main():
        rag = RAGPipeline(Fixed(), None, Echo(wait=30), monitor=notes, cache=cache, identity="a")
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

    def __init__(self, text: str = "Use the purge command.", wait: float = 0.0, reason: str = "") -> None:
        super().__init__(wait, reason)
        self.text, self.left = text, 0

    async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        self.calls += 1
        try:
            for word in self.text.split():
                await asyncio.sleep(self.wait)
                yield word + " "
            yield Generation(self.text, reason=self.reason)
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
    rag = RAGPipeline(Fixed(), None, llm, cache=cache, identity="test")
    first, (text, second) = stream(rag)[-1], stream(rag)
    assert llm.calls == 1
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert text == second.text == first.text
    assert list(second.timings) == ["cache", "total"]
    stream(RAGPipeline(Fixed(), None, Speaking(reason="by another"), cache=Memory(), identity="test"))


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
        RAGPipeline(Fixed(), None, Mute()).stream(" ")


def test_a_reader_who_leaves_a_stream_ends_it_without_a_failure():
    llm, notes = Speaking(wait=0.01), Notes()

    async def main() -> int:
        async with aclosing(RAGPipeline(Fixed(), None, llm, monitor=notes).stream("How?")) as pieces:
            assert await anext(pieces) == "Use "
        assert llm.left == 1
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    assert (notes.answers, notes.failures) == ([], [])


def test_many_questions_keep_their_order_and_the_limit():
    llm = Echo(wait=0.02)
    questions = [f"Question {i}?" for i in range(12)]
    answers = asyncio.run(RAGPipeline(Fixed(), None, llm).query_many(questions, concurrency=3))
    assert [a.question for a in answers] == questions
    assert llm.most == 3


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


@pytest.mark.parametrize("settings", [{"budget": 0}, {"fetch": 0}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match="expected 1 or more"):
        RAGPipeline(Fixed(), None, Echo(), **settings)
    with pytest.raises(InputError, match="concurrency"):
        asyncio.run(RAGPipeline(Fixed(), None, Echo()).query_many(["How?"], concurrency=0))


def test_no_hits_is_an_honest_answer():
    answer = run(RAGPipeline(Fixed([]), Reversed(), Extractive()))
    assert answer.abstained
    assert answer.hits == ()


@pytest.mark.parametrize("preset", [naive, advanced, modular])
def test_presets_answer_from_the_right_document(preset, small_corpus, ragkit_home, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    rag = preset(small_corpus, store=store)
    answer = run(rag, "Only bulbs fit?", k=2)  # words are all that the fake embedder knows
    assert "Only E27 bulbs with at most 40 watts fit." in answer.text
    assert answer.citations[0].chunk.doc_id == "lamp/guide"
    assert isinstance(rag.llm, Extractive)  # when to be silent was learnt from another model's scores
    lost = run(rag, "Who invented the telephone?", k=2)
    assert (lost.abstained, lost.citations) == (True, ())
    assert "of what is asked" in lost.reason


def test_presets_on_the_packaged_model_know_when_to_be_silent(small_corpus, ragkit_home, minilm, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    rag = naive(small_corpus, store=TokenStore.open(small_corpus, minilm, progress=False))
    assert isinstance(rag.llm, Abstaining)
    assert isinstance(rag.llm.llm, Extractive)
    assert "E27 bulbs" in run(rag, "Which bulbs fit?", k=2).text
    lost = run(rag, "Who invented the telephone?", k=2)
    assert (lost.abstained, lost.citations) == (True, ())
    assert "the best source matches the question only by" in lost.reason


def test_presets_fall_back_visibly_when_the_endpoint_fails(small_corpus, ragkit_home, monkeypatch):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    with Endpoint("Bulbs of type E27 [1].", faults=["400"]) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        rag = naive(small_corpus, store=store)
        assert isinstance(rag.llm, WithFallback)
        first, second = run(rag, "Only bulbs fit?"), run(rag, "Only bulbs fit?")
    assert "E27 bulbs" in first.text
    assert endpoint.url in first.reason
    assert second.text == "Bulbs of type E27 [1]."
    assert second.usage.output_tokens == 7


def test_an_endpoint_without_a_fallback_is_named(small_corpus, ragkit_home):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    llm = OpenAIChat(base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9"):
        run(naive(small_corpus, store=store, llm=llm), "Which bulbs fit?")


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

"""What a query leaves behind: a trace for the monitor, spans for OpenTelemetry, and no secret in either."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import aclosing
from itertools import pairwise

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from test_pipeline_rag import HITS, Echo, Fixed, Memory, Notes, Reversed, Speaking, Twice

from ragkit.base import Answer, Context, EndpointError, Generation, Hit, Usage, without_password
from ragkit.pipeline import RAGPipeline
from ragkit.pipeline import trace as module
from ragkit.pipeline.trace import CacheKey

STAGES = ["rewrite", "retrieve", "rerank", "build", "generate"]
SECRET = "Tr0ub4dor"


class Model(Echo):
    """A model behind an endpoint, whose address has a password in it."""

    def __repr__(self) -> str:
        return f"OpenAIChat('m', base_url='https://app:{SECRET}@host/v1')"

    async def generate(self, question: str, context: Context) -> Generation:
        return Generation(HITS[0].chunk.text, usage=Usage("m", 70, 7))


@pytest.fixture
def exporter(monkeypatch) -> InMemorySpanExporter:
    """The spans of a program that has set up an SDK."""
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(module, "_tracer", provider.get_tracer("ragkit"))
    return memory


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def run(rag: RAGPipeline, question: str = "How?", k: int = 10, **who: str) -> Answer:
    return asyncio.run(rag.query(question, k, **who))


def pipeline(llm: object | None = None, **settings) -> RAGPipeline:
    return RAGPipeline(Fixed(), Reversed(), llm or Model(), rewriter=Twice(), **settings)


# ---- the trace


def test_a_trace_tells_every_stage_of_a_query():
    notes, times = Notes(), iter([1000.0, 900.0])
    rag = pipeline(monitor=notes)
    rag.clock = lambda: next(times)
    answer = run(rag, "How?", 3, tenant="acme", session="s1")
    (trace,) = notes.traces
    assert (trace.id, trace.question, trace.k, trace.began) == (answer.trace_id, "How?", 3, 1000.0)
    assert (trace.tenant, trace.session, trace.cache, trace.cache_key) == ("acme", "s1", "off", "")
    assert trace.queries == ("first", "second")
    assert len(trace.candidates) == 9
    assert trace.context_tokens > 0
    assert trace.parts["retriever"] == "Fixed"
    assert trace.answer == answer
    assert [stage.name for stage in trace.stages] == STAGES
    assert trace.ms == answer.timings["total"]
    for before, after in pairwise(trace.stages):
        assert 0 <= before.start <= before.start + before.ms <= after.start <= trace.ms
    run(rag)  # the clock was set back
    assert notes.traces[1].began == 900.0
    assert notes.traces[1].ms > 0


def test_a_stage_that_is_under_way_when_the_user_gives_up_is_in_the_trace():
    notes = Notes()

    class Slow(Fixed):
        def _search(self, query: str, k: int) -> list[Hit]:
            done.wait(5)
            return []

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await RAGPipeline(Slow(), None, Echo(), monitor=notes).query("How?")
        done.set()

    done = threading.Event()
    asyncio.run(main())
    (trace,) = notes.traces
    assert [stage.name for stage in trace.stages] == ["rewrite", "retrieve"]
    assert 50 < trace.stages[-1].ms <= trace.ms


def test_no_password_of_an_address_is_in_a_trace():
    notes = Notes()
    run(pipeline(monitor=notes))
    assert notes.traces[0].parts["llm"] == "OpenAIChat('m', base_url='https://host/v1')"
    assert without_password("http://a/b@c http://x:y@z me@home") == "http://a/b@c http://z me@home"


def test_a_key_is_that_of_settings_tenant_and_question():
    key = CacheKey("s", "How do I stop it?", "t")
    assert CacheKey("s", key.question, "t").digest == key.digest
    others = [CacheKey("s2", key.question, "t"), CacheKey("s", key.question), CacheKey("s", "How do I start it?", "t")]
    assert len({key.digest, *(other.digest for other in others)}) == 4


# ---- its spans


def test_each_stage_has_a_span_below_the_querys(exporter):
    answer = run(pipeline(), "How?", 3, tenant="acme", session="s1")
    found = spans(exporter)
    root = found.pop("rag")
    assert list(found) == STAGES
    assert {span.parent.span_id for span in found.values()} == {root.context.span_id}
    assert root.attributes == {
        "gen_ai.conversation.id": "s1",
        "ragkit.trace_id": answer.trace_id,
        "ragkit.tenant": "acme",
        "ragkit.cache": "off",
    }


def test_attributes_have_the_names_of_the_conventions(exporter):
    run(pipeline(), k=3)
    retrieve, generate = (spans(exporter)[name].attributes for name in ("retrieve", "generate"))
    assert retrieve["gen_ai.operation.name"] == "retrieval"
    assert (retrieve["gen_ai.data_source.id"], retrieve["gen_ai.request.top_k"]) == ("Fixed", 9.0)
    assert json.loads(retrieve["gen_ai.retrieval.documents"])[0]["id"] == HITS[0].chunk.id
    assert (generate["gen_ai.operation.name"], generate["gen_ai.request.model"]) == ("chat", "m")
    assert (generate["gen_ai.usage.input_tokens"], generate["gen_ai.usage.output_tokens"]) == (70, 7)


def test_no_text_and_no_password_is_in_a_span(exporter):
    run(pipeline(), "What is my question?")
    everything = " ".join(span.to_json() for span in exporter.get_finished_spans())
    for text in ("text no 0", "What is my question?", SECRET):
        assert text not in everything


def test_a_failure_is_named_by_its_class_and_its_message_stays_here(exporter):
    class Failing(Echo):
        async def generate(self, question: str, context: Context) -> Generation:
            raise EndpointError(f"https://app:{SECRET}@host said: {context.text}")

    with pytest.raises(EndpointError):
        run(pipeline(Failing()))
    found = spans(exporter)
    for name in ("rag", "generate"):
        assert found[name].status.status_code is otel.StatusCode.ERROR
        assert found[name].attributes["error.type"] == "EndpointError"
    everything = " ".join(span.to_json() for span in found.values())
    assert SECRET not in everything
    assert "text no" not in everything


def test_a_part_can_open_spans_of_its_own_below_its_stage(exporter):
    class Traced(Fixed):
        def _search(self, query: str, k: int) -> list[Hit]:
            with module._tracer.start_as_current_span("index"):
                return super()._search(query, k)

    run(RAGPipeline(Traced(), None, Echo()))
    found = spans(exporter)
    assert found["index"].parent.span_id == found["retrieve"].context.span_id


def test_a_stream_has_the_same_spans_and_its_reader_none_of_them(exporter):
    async def main() -> set[bool]:
        async with aclosing(RAGPipeline(Fixed(), None, Speaking()).stream("How?")) as pieces:
            return {otel.get_current_span().is_recording() async for _ in pieces}

    assert asyncio.run(main()) == {False}
    assert list(spans(exporter)) == [*STAGES, "rag"]


def test_an_answer_out_of_the_cache_says_so(exporter):
    rag = RAGPipeline(Fixed(), None, Echo(), cache=Memory())
    run(rag)
    exporter.clear()
    run(rag)
    found = spans(exporter)
    assert list(found) == ["cache", "rag"]
    assert found["rag"].attributes["ragkit.cache"] == "hit"
    assert found["rag"].attributes["ragkit.settings"] == rag.settings()


def test_without_an_sdk_nothing_is_recorded_and_nothing_fails():
    code = """if True:
        import asyncio, sys
        from test_pipeline_rag import Echo, Fixed
        from ragkit.pipeline import RAGPipeline
        asyncio.run(RAGPipeline(Fixed(), None, Echo()).query("How?"))
        assert "opentelemetry.sdk" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)

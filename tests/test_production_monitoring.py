"""Every query leaves a trace: in a file that survives, at an endpoint that shares no code, at no query's cost."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from endpoint import Endpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from openinference.semconv.trace import (
    DocumentAttributes,
    OpenInferenceSpanKindValues,
    RerankerAttributes,
    SpanAttributes,
)
from opentelemetry import trace as global_api
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from receiver import Receiver

from ragkit.base import Answer, Chunk, Citation, EndpointError, Hit, InputError, Usage
from ragkit.chunking import FixedChunker
from ragkit.generation import Extractive, OpenAIChat
from ragkit.pipeline import RAGPipeline
from ragkit.pipeline.trace import Monitor, Stage, Trace
from ragkit.production import ledger as ledger_module
from ragkit.production import spans as span_module
from ragkit.production.database import DatabaseTrouble
from ragkit.production.monitoring import Losses, TraceMonitor
from ragkit.retrieval.bm25 import BM25Retriever

SECRET = "sk-proj-" + "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z"
STAGES = ("rewrite", "retrieve", "rerank", "build", "generate")
COLUMNS = [
    *("trace_id", "began", "question", "tenant", "session", "k", "ms", "cache_ms", "rewrite_ms", "retrieve_ms"),
    *("rerank_ms", "build_ms", "generate_ms", "top_score", "scores", "hits", "candidates", "context_tokens", "cache"),
    *("similarity", "model", "input_tokens", "output_tokens", "cost", "abstained", "reason", "error", "failed_stage"),
    "settings",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "production" / "traces.db"


@pytest.fixture(autouse=True)
def endpoint_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """No endpoint but the test's own, and no long wait for it."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ragkit.production.sending.DELAY", 50)
    monkeypatch.setattr("ragkit.production.sending.CLOSE", 0.5)


def hits(count: int, text: str = "Press the red lever.") -> tuple[Hit, ...]:
    return tuple(Hit(Chunk("kettle", 100 * i, 100 * i + len(text), text), 1 / (i + 1)) for i in range(count))


def made(question: str = "How do I boil water?", **changes: object) -> Trace:
    """A trace such as the pipeline makes."""
    found = hits(4)
    trace = Trace(
        uuid.uuid4().hex,
        question,
        2,
        1_700_000_000.0,
        25.0,
        stages=tuple(Stage(name, 5.0 * i, 5.0) for i, name in enumerate(STAGES)),
        answer=Answer(
            question, "Press it. [1]", hits=found[:2], citations=(Citation(1, found[0].chunk, "Press the red lever."),)
        ),
        queries=(question,),
        candidates=found,
        context_tokens=12,
        parts={"retriever": "BM25Retriever", "reranker": "LateInteraction()", "llm": "Extractive()"},
        settings="s" * 64,
    )
    return replace(trace, **changes)


class Halved:
    """A reranker that turns the list around."""

    def rerank(self, query: str, hits: list[Hit], k: int) -> list[Hit]:
        return [Hit(hit.chunk, 1.0 - i / 10) for i, hit in enumerate(list(hits)[::-1][:k])]

    def __repr__(self) -> str:
        return "Halved()"


def pipeline(corpus, monitor, llm=None) -> RAGPipeline:
    chunks = [chunk for document in corpus.documents for chunk in FixedChunker(40, 0).chunk(document)]
    return RAGPipeline(BM25Retriever(chunks), Halved(), llm or Extractive(), monitor=monitor, fetch=4)


def spans_of(path: Path, trace_id: str) -> list[sqlite3.Row]:
    """The spans of the stages of a query, in order, as other programs find them in the file."""
    with closing(sqlite3.connect(path)) as reader:
        reader.row_factory = sqlite3.Row
        return reader.execute("SELECT * FROM spans WHERE trace = ? ORDER BY position", (trace_id,)).fetchall()


def ask(rag: RAGPipeline, question: str, **about: object) -> Answer:
    return asyncio.run(rag.query(question, k=2, **about))


def test_a_query_is_in_the_file_and_in_the_table(path, small_corpus):
    with TraceMonitor(path) as monitor:
        assert isinstance(monitor, Monitor)
        answer = ask(pipeline(small_corpus, monitor), "Which lever boils the water?", tenant="acme", session="s1")
        trace = monitor.trace(answer.trace_id)
        assert trace.id == answer.trace_id
        assert (trace.question, trace.answer, trace.k) == (answer.question, answer.text, 2)
        assert trace.hits == tuple((hit.chunk.id, hit.score) for hit in answer.hits)
        assert trace.citations == tuple(citation.chunk.id for citation in answer.citations)
        assert (trace.tenant, trace.session) == ("acme", "s1")
        assert [stage.name for stage in trace.stages] == list(STAGES)
        for stage in trace.stages:
            assert stage.ms == pytest.approx(answer.timings[stage.name], abs=1e-5)
        assert trace.ms == pytest.approx(answer.timings["total"], abs=1e-5)
        assert trace.parts["reranker"] == "Halved()"
        frame = monitor.dataframe()
        assert list(frame.columns) == COLUMNS
        (row,) = frame.to_dict("records")
        assert row["trace_id"] == answer.trace_id
        assert row["hits"] == tuple(hit.chunk.id for hit in answer.hits)
        assert row["scores"] == tuple(hit.score for hit in answer.hits)
        assert row["top_score"] == answer.hits[0].score
        assert row["candidates"] == trace.candidates >= len(answer.hits)
        assert row["retrieve_ms"] == pytest.approx(answer.timings["retrieve"], abs=1e-5)
        assert math.isnan(row["cache_ms"])
        assert math.isnan(row["cost"])
        assert str(frame["began"].dtype) == "datetime64[ns, UTC]"
        assert abs(row["began"] - datetime.now(UTC)) < timedelta(minutes=5)
        assert not monitor.losses
    with TraceMonitor(path) as later:
        assert later.trace(answer.trace_id) == trace


def test_an_independent_receiver_gets_both_conventions(path, small_corpus):
    with Receiver() as receiver, TraceMonitor(path, otlp=receiver.url) as monitor:
        answer = ask(pipeline(small_corpus, monitor), "Which lever boils the water?", tenant="acme", session="s1")
        trace = monitor.trace(answer.trace_id)
        spans = {span["attributes"].get("ragkit.stage", "query"): span for span in receiver.spans(expected=6)}
    assert set(receiver.paths) == {"/v1/traces"}
    assert list(spans) == [*STAGES, "query"]
    whole = spans["query"]
    assert {span["trace"] for span in spans.values()} == {answer.trace_id}
    assert whole["parent"] == ""
    assert {spans[name]["parent"] for name in STAGES} == {whole["id"]}
    assert {span["resource"]["service.name"] for span in spans.values()} == {"ragkit"}
    assert whole["start"] == int(trace.began * 1e9)
    assert whole["end"] - whole["start"] == pytest.approx(answer.timings["total"] * 1e6, abs=2)
    for name in STAGES:
        assert whole["start"] <= spans[name]["start"] <= spans[name]["end"] <= whole["end"]
        assert spans[name]["end"] - spans[name]["start"] == pytest.approx(answer.timings[name] * 1e6, abs=2)

    kinds = OpenInferenceSpanKindValues
    expected = dict.fromkeys(("query", "rewrite", "build"), kinds.CHAIN) | {
        "retrieve": kinds.RETRIEVER,
        "rerank": kinds.RERANKER,
        "generate": kinds.LLM,
    }
    said = {name: span["attributes"] for name, span in spans.items()}
    assert {n: a[SpanAttributes.OPENINFERENCE_SPAN_KIND] for n, a in said.items()} == {
        n: kind.value for n, kind in expected.items()
    }
    assert said["query"][SpanAttributes.INPUT_VALUE] == "Which lever boils the water?"
    assert said["query"][SpanAttributes.OUTPUT_VALUE] == answer.text == said["generate"][SpanAttributes.OUTPUT_VALUE]
    assert said["query"][SpanAttributes.SESSION_ID] == said["query"][gen_ai.GEN_AI_CONVERSATION_ID] == "s1"
    assert said["query"][SpanAttributes.USER_ID] == "acme"

    retrieve = said["retrieve"]
    assert retrieve[gen_ai.GEN_AI_OPERATION_NAME] == gen_ai.GenAiOperationNameValues.RETRIEVAL.value
    assert retrieve[gen_ai.GEN_AI_DATA_SOURCE_ID] == "BM25Retriever"
    assert spans["retrieve"]["name"] == "retrieval BM25Retriever"
    found = json.loads(retrieve[gen_ai.GEN_AI_RETRIEVAL_DOCUMENTS])
    assert len(found) == trace.candidates == retrieve[gen_ai.GEN_AI_REQUEST_TOP_K]
    assert retrieve[gen_ai.GEN_AI_RETRIEVAL_QUERY_TEXT] == "Which lever boils the water?"
    for i, document in enumerate(found):
        prefix = f"{SpanAttributes.RETRIEVAL_DOCUMENTS}.{i}."
        assert retrieve[prefix + DocumentAttributes.DOCUMENT_ID] == document["id"]
        assert retrieve[prefix + DocumentAttributes.DOCUMENT_SCORE] == document["score"]
        doc_id, _, span = document["id"].partition("#")
        start, end = map(int, span.split("-"))
        assert retrieve[prefix + DocumentAttributes.DOCUMENT_CONTENT] == small_corpus.document(doc_id).text[start:end]

    rerank = said["rerank"]
    assert rerank[RerankerAttributes.RERANKER_MODEL_NAME] == "Halved()"
    assert rerank[RerankerAttributes.RERANKER_TOP_K] == 2
    assert rerank[RerankerAttributes.RERANKER_QUERY] == "Which lever boils the water?"
    for i, hit in enumerate(answer.hits):
        prefix = f"{RerankerAttributes.RERANKER_OUTPUT_DOCUMENTS}.{i}."
        assert rerank[prefix + DocumentAttributes.DOCUMENT_ID] == hit.chunk.id
        assert rerank[prefix + DocumentAttributes.DOCUMENT_SCORE] == hit.score
        assert rerank[prefix + DocumentAttributes.DOCUMENT_CONTENT] == hit.chunk.text
    inputs = [k for k in rerank if k.startswith(RerankerAttributes.RERANKER_INPUT_DOCUMENTS) and k.endswith(".id")]
    assert len(inputs) == trace.candidates
    assert said["generate"][gen_ai.GEN_AI_OPERATION_NAME] == "extract"  # no model was called


def test_a_models_call_tells_its_model_tokens_and_cost(path, small_corpus, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with (
        Endpoint(answer="The red one. [1]") as endpoint,
        Receiver() as receiver,
        TraceMonitor(path, otlp=receiver.url) as monitor,
    ):
        llm = OpenAIChat("gpt-4o-mini", base_url=endpoint.url)
        answer = ask(pipeline(small_corpus, monitor, llm), "Which lever boils the water?")
        (span,) = [s for s in receiver.spans(expected=6) if s["attributes"].get("ragkit.stage") == "generate"]
        frame = monitor.dataframe()
    said = span["attributes"]
    assert span["name"] == "chat gpt-4o-mini"
    assert span["kind"] == 3  # CLIENT
    assert said[gen_ai.GEN_AI_OPERATION_NAME] == gen_ai.GenAiOperationNameValues.CHAT.value
    assert said[gen_ai.GEN_AI_PROVIDER_NAME] == gen_ai.GenAiProviderNameValues.OPENAI.value
    assert said[gen_ai.GEN_AI_REQUEST_MODEL] == said[SpanAttributes.LLM_MODEL_NAME] == "gpt-4o-mini"
    read, written = answer.usage.input_tokens, answer.usage.output_tokens
    assert (read > 10, written) == (True, 7)
    assert said[gen_ai.GEN_AI_USAGE_INPUT_TOKENS] == said[SpanAttributes.LLM_TOKEN_COUNT_PROMPT] == read
    assert said[gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS] == said[SpanAttributes.LLM_TOKEN_COUNT_COMPLETION] == written
    assert said[SpanAttributes.LLM_TOKEN_COUNT_TOTAL] == read + written
    (row,) = frame.to_dict("records")
    assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("gpt-4o-mini", read, written)
    assert row["cost"] == said[SpanAttributes.LLM_COST_TOTAL] > 0


NAMES = (
    *("OPERATION_NAME", "PROVIDER_NAME", "CONVERSATION_ID", "REQUEST_MODEL", "USAGE_INPUT_TOKENS"),
    *("USAGE_OUTPUT_TOKENS", "DATA_SOURCE_ID", "REQUEST_TOP_K", "RETRIEVAL_QUERY_TEXT", "RETRIEVAL_DOCUMENTS"),
)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_of_the_convention(name):
    ours = {value for key, value in vars(span_module).items() if key.isupper() and isinstance(value, str)}
    assert getattr(gen_ai, f"GEN_AI_{name}") in ours


def test_a_failure_tells_its_stage(path, small_corpus):
    class Broken:
        async def generate(self, question, context):
            raise EndpointError(f"refused the key {SECRET}")

    with Receiver() as receiver, TraceMonitor(path, otlp=receiver.url) as monitor:
        with pytest.raises(EndpointError):
            ask(pipeline(small_corpus, monitor, Broken()), "Which lever boils the water?")
        spans = {span["attributes"].get("ragkit.stage", "query"): span for span in receiver.spans(expected=6)}
        (row,) = monitor.dataframe().to_dict("records")
        trace = monitor.trace(row["trace_id"])
    assert row["error"] == trace.error == "EndpointError: refused the key [redacted: api key]"
    assert row["failed_stage"] == "generate"
    assert (row["hits"], row["scores"], row["abstained"]) == ((), (), False)
    assert math.isnan(row["top_score"])
    assert row["candidates"] > 0
    assert spans["query"]["status"] == spans["generate"]["status"] == (2, "refused the key [redacted: api key]")
    assert spans["retrieve"]["status"][0] == 0
    ((name, event),) = spans["generate"]["events"]
    assert (name, event["exception.type"]) == ("exception", "EndpointError")
    assert event["exception.message"] == "refused the key [redacted: api key]"
    assert "in generate" in event["exception.stacktrace"]
    assert (
        spans["generate"]["attributes"]["error.type"] == spans["query"]["attributes"]["error.type"] == "EndpointError"
    )
    assert not spans["query"]["events"]
    assert SECRET not in str(spans)


def test_which_operation_it_was(path):
    """A model that failed was called; an answer without a model's name was quoted, whoever was asked before."""
    asked = {"retriever": "BM25Retriever", "llm": "WithFallback(OpenAIChat('gpt-4o-mini'), Extractive())"}
    cases = {
        "extract": made(parts=asked),
        "chat gpt-4o-mini": made(parts=asked, answer=replace(made().answer, usage=Usage("gpt-4o-mini", 10, 1))),
        "chat": made(parts=asked, answer=None, error=EndpointError("no answer")),
    }
    with TraceMonitor(path) as monitor:
        for name, trace in cases.items():
            monitor.record(trace)
            assert spans_of(path, trace.id)[-1]["name"] == name


def test_a_failure_before_the_first_stage(path):
    with TraceMonitor(path) as monitor:
        trace = made(stages=(), answer=None, error=ValueError(""), candidates=(), queries=())
        monitor.record(trace)
        assert (monitor.trace(trace.id).error, monitor.trace(trace.id).failed_stage) == ("ValueError", "")


def test_an_answer_out_of_the_cache_costs_nothing(path):
    usage = Usage("gpt-4o-mini", 1000, 100)
    answer = replace(made().answer, usage=usage)
    with TraceMonitor(path) as monitor:
        for state in ("miss", "hit", "near", "shared"):
            monitor.record(made(answer=answer, cache=state, cache_key="d" * 64, similarity=0.9))
        frame = monitor.dataframe()
    assert list(frame["cache"]) == ["miss", "hit", "near", "shared"]
    assert list(frame["input_tokens"]) == [1000, 0, 0, 0]
    assert list(frame["cost"]) == [pytest.approx(0.00021), 0, 0, 0]
    assert set(frame["model"]) == {"gpt-4o-mini"}
    assert set(frame["similarity"]) == {0.9}


def everything_in(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def test_secrets_are_taken_out(path):
    question = f"Why is {SECRET} refused by kettle?"
    answer = replace(made().answer, text=f"Because {SECRET} is old.", reason=f"answered offline, {SECRET} failed")
    with Receiver() as receiver, TraceMonitor(path, otlp=receiver.url) as monitor:
        monitor.record(made(question, answer=answer, queries=(question, SECRET), candidates=hits(3, f"key {SECRET}")))
        said = str(receiver.spans(expected=6))
        (row,) = monitor.dataframe().to_dict("records")
        kept = everything_in(path)
    assert SECRET not in said
    assert SECRET.encode() not in kept
    assert row["question"] == "Why is [redacted: api key] refused by kettle?"
    assert "refused by kettle" in said


def test_text_all_keeps_texts_as_they_are(path):
    with TraceMonitor(path, text="all") as monitor:
        trace = made(f"Why is {SECRET} refused?")
        monitor.record(trace)
        assert monitor.trace(trace.id).question == trace.question


def test_text_none_keeps_no_text_anywhere(path):
    answer = replace(made().answer, text="Vinegar dissolves limescale.", reason="Vinegar seems to fit", abstained=True)
    asked = {"question": "Does vinegar harm kettles?", "queries": ("vinegar kettles", "limescale")}
    with Receiver() as receiver, TraceMonitor(path, text="none", otlp=receiver.url) as monitor:
        monitor.record(made(answer=answer, candidates=hits(3, "Vinegar is an acid."), **asked))
        monitor.record(made(answer=answer, **{**asked, "question": " Does vinegar  harm kettles? "}))
        monitor.record(made(answer=None, error=ValueError("no vinegar"), **{**asked, "question": "Is vinegar safe?"}))
        said = str(receiver.spans(expected=18))
        frame = monitor.dataframe()
        kept = everything_in(path)
    for words in ("inegar", "limescale", "harm", "acid", "lever"):
        assert words not in said
        assert words.encode() not in kept
    assert frame["question"].nunique() == 2  # equal questions can be counted
    assert frame["question"].str.fullmatch("question:[0-9a-f]{16}").all()
    assert list(frame["reason"]) == ["abstained", "abstained", ""]
    assert list(frame["error"]) == ["", "", "ValueError"]
    assert frame["hits"][0] == ("kettle#0-20", "kettle#100-120")
    with TraceMonitor(path, text="none") as same, TraceMonitor(path.parent / "other.db", text="none") as other:
        for monitor in (same, other):
            monitor.record(made(**asked))
        assert same.dataframe()["question"][3] == frame["question"][0]
        assert other.dataframe()["question"][0] != frame["question"][0]


@pytest.mark.parametrize("fault", ["hang", "reset", "503", "400"])
def test_an_endpoint_in_trouble_delays_no_query_and_is_told_once(path, fault, caplog):
    with Receiver(fault) as receiver:
        monitor = TraceMonitor(path, otlp=receiver.url)
        began = time.monotonic()
        for _ in range(30):
            monitor.record(made())
        recording = time.monotonic() - began
        until = time.monotonic() + 10
        while not receiver.paths and time.monotonic() < until:
            time.sleep(0.02)
        began = time.monotonic()
        monitor.close()
        assert time.monotonic() - began < 15  # the SDK by itself waits 30 s, and the receiver hangs for 60
        assert recording < 15
        assert monitor.losses == Losses(unsent=180)
        assert "180 spans unsent" in repr(monitor)
    assert [r.levelname for r in caplog.records if r.name.startswith(("ragkit", "opentelemetry"))] == ["WARNING"]
    assert "are lost (they are in the local file)" in caplog.text
    with TraceMonitor(path) as later:
        assert len(later.dataframe()) == 30


def test_nobody_listens(path, caplog):
    monitor = TraceMonitor(path, otlp="http://127.0.0.1:9/v1/traces")
    monitor.record(made())
    monitor.close()
    monitor.close()
    assert monitor.losses.unsent == 6
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


def test_a_slow_endpoint_loses_spans_not_time(path, monkeypatch):
    monkeypatch.setattr("ragkit.production.sending.QUEUE", 12)
    with Receiver("hang") as receiver, TraceMonitor(path, otlp=receiver.url) as monitor:
        for _ in range(5):
            monitor.record(made())
        assert monitor.losses.unsent == 18


def test_what_waits_is_sent_when_the_interpreter_exits(path):
    """Also where nobody called close()."""
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_production_monitoring import made; from ragkit.production.monitoring import TraceMonitor\n"
        "monitor = TraceMonitor({path!r}, otlp={url!r}); monitor.record(made())"
    )
    with Receiver() as receiver:
        subprocess.run([sys.executable, "-c", script.format(path=str(path), url=receiver.url)], check=True, timeout=120)
        assert len(receiver.spans(expected=6)) == 6


def test_closing_where_no_thread_can_be_started(path, monkeypatch):
    """As while a newer interpreter exits."""

    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if threading.current_thread() is threading.main_thread():  # the receiver's own may start
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    with Receiver() as receiver:
        monitor = TraceMonitor(path, otlp=receiver.url)
        monitor.record(made())
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            monitor.close()
    assert len(receiver.spans()) == 6
    assert not monitor.losses


def test_a_password_in_the_endpoint_is_not_shown(path):
    with TraceMonitor(path, otlp="http://ada:c0rrecthorse@127.0.0.1:9") as monitor:
        assert "c0rrecthorse" not in repr(monitor)
        assert "http://ada:[redacted: password]@127.0.0.1:9/v1/traces" in repr(monitor)


def test_the_dashboard_is_a_figure_of_the_table(path):
    with TraceMonitor(path) as monitor:
        for i in range(20):
            monitor.record(made(f"question {i % 3}"))
        assert type(monitor.dashboard()).__name__ in ("Figure", "FigureWidget")


def test_the_environment_names_the_endpoint(path, monkeypatch):
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "helpdesk")
        with TraceMonitor(path) as monitor:
            monitor.record(made())
        assert {s["resource"]["service.name"] for s in receiver.spans(expected=6)} == {"helpdesk"}
        with TraceMonitor(path, otlp="") as quiet:
            quiet.record(made())
            assert "otlp" not in repr(quiet)
        assert len(receiver.spans()) == 6


def test_limits_of_the_environment_cut_nothing_that_is_read_again(path, monkeypatch):
    for name in ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"):
        monkeypatch.setenv(name, "5")
    with TraceMonitor(path) as monitor:
        trace = made()
        monitor.record(trace)
        assert monitor.trace(trace.id).parts == trace.parts
        documents = json.loads(json.loads(spans_of(path, trace.id)[1]["attributes"])[gen_ai.GEN_AI_RETRIEVAL_DOCUMENTS])
        assert [document["id"] for document in documents] == [hit.chunk.id for hit in trace.candidates[:10]]


def test_the_file_has_the_first_ten_candidates_and_how_many_there_were(path):
    hits = tuple(Hit(Chunk(f"d{i:02}", 0, 4, "text"), 1 / (i + 1)) for i in range(15))
    with TraceMonitor(path, otlp="") as monitor:
        trace = replace(made(), candidates=hits)
        monitor.record(trace)
        assert monitor.trace(trace.id).candidates == 15
        documents = json.loads(json.loads(spans_of(path, trace.id)[1]["attributes"])[gen_ai.GEN_AI_RETRIEVAL_DOCUMENTS])
        assert [document["id"] for document in documents] == [hit.chunk.id for hit in hits[:10]]


def test_a_disabled_sdk_is_told(path, monkeypatch, caplog):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with TraceMonitor(path) as monitor:
        monitor.record(made())
        assert "OTEL_SDK_DISABLED" in monitor.trouble
        assert "OTEL_SDK_DISABLED" in repr(monitor)
        assert monitor.dataframe().empty
    assert len(caplog.records) == 1


def test_the_global_provider_is_left_alone(path):
    before = global_api.get_tracer_provider()
    with TraceMonitor(path) as monitor:
        monitor.record(made())
        assert global_api.get_tracer_provider() is before
        assert not global_api.get_current_span().get_span_context().is_valid


def test_a_locked_file_is_told_once_and_caught_up(path, small_corpus, caplog, monkeypatch):
    monkeypatch.setattr(ledger_module, "_AGAIN", 0.05)
    with TraceMonitor(path) as monitor:
        monitor.record(made("first"))
        monitor._ledger._delay = 0.05
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        rag = pipeline(small_corpus, monitor)
        answers = [ask(rag, "Which lever boils the water?") for _ in range(3)]
        assert all(answer.text for answer in answers)
        assert "locked by another program" in monitor.trouble
        assert monitor.losses == Losses(waiting=3)
        assert "3 traces wait in memory" in repr(monitor)
        assert "locked by another program" in repr(monitor)
        assert len(monitor.dataframe()) == 4  # what waits is shown
        assert monitor.trace(answers[0].trace_id).question == "Which lever boils the water?"
        assert [stage.name for stage in monitor.trace(answers[0].trace_id).stages] == list(STAGES)
        other.execute("ROLLBACK")
        time.sleep(0.3)
        monitor.record(made("last"))
        assert len(monitor.dataframe()) == 5
        assert not monitor.losses
        assert monitor.trouble == ""
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
    with TraceMonitor(path) as later:
        assert [q[:5] for q in later.dataframe()["question"]] == ["first", "Which", "Which", "Which", "last"]


@pytest.mark.parametrize("content", [b"not a database" * 400, b"SQLite format 3\0" + b"\xff" * 5000, b"x"])
def test_a_file_that_is_none_of_ours_is_left_and_told_once(path, content, small_corpus, caplog):
    path.parent.mkdir()
    path.write_bytes(content)
    with TraceMonitor(path) as monitor:
        rag = pipeline(small_corpus, monitor)
        for _ in range(3):
            assert ask(rag, "Which lever boils the water?").text
        assert monitor.losses == Losses(waiting=3)
        assert str(path) in monitor.trouble
        with pytest.raises(DatabaseTrouble):
            monitor.dataframe()
    assert monitor.losses == Losses(dropped=3)
    assert path.read_bytes() == content
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 2  # at the first query, and what is lost in the end
    assert told[1].startswith("3 traces are lost")


def test_a_full_disk(path, caplog):
    with TraceMonitor(path) as monitor:
        monitor.record(made("first"))
        with monitor._ledger.database.transaction() as connection:
            connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
        for i in range(40):
            monitor.record(made(f"later {i}"))
        assert "free some space" in monitor.trouble
        assert monitor.losses.waiting > 0
        with monitor._ledger.database.transaction() as connection:
            connection.execute("PRAGMA max_page_count = 100000")
        assert len(monitor.dataframe()) == 41
        assert monitor.trouble == ""
    assert len(caplog.records) == 1


def test_what_waits_is_bounded(path, monkeypatch):
    monkeypatch.setattr(ledger_module, "HELD", 5)
    path.mkdir(parents=True)  # a folder stands where the file should be
    with TraceMonitor(path) as monitor:
        for _ in range(8):
            monitor.record(made())
        assert monitor.losses == Losses(waiting=5, dropped=3)


def test_a_clock_that_goes_back_keeps_the_order(path):
    with TraceMonitor(path) as monitor:
        for i in range(4):
            monitor.record(made(str(i), began=1_700_000_000.0 - 3600 * i))
        frame = monitor.dataframe()
        assert list(frame["question"]) == ["0", "1", "2", "3"]
        assert (frame["ms"] >= 0).all()
        recent = monitor.dataframe(since=1_700_000_000.0 - 5400)
        assert list(recent["question"]) == ["0", "1"]
        odd = made("4", ms=-5.0, stages=(Stage("retrieve", -3.0, -2.0),))
        monitor.record(odd)
        assert monitor.trace(odd.id).ms == 0
        assert monitor.trace(odd.id).stages == (Stage("retrieve", 0.0, 0.0),)


def test_a_clock_before_1970_spoils_nothing(path):
    with Receiver() as receiver, TraceMonitor(path, otlp=receiver.url) as monitor:
        monitor.record(made("early", began=-5.0))
        monitor.record(made("now"))
        assert len(receiver.spans(expected=12)) == 12
        assert list(monitor.dataframe()["question"]) == ["early", "now"]


def test_what_was_removed_is_not_in_the_file(path, monkeypatch):
    monkeypatch.setattr(ledger_module, "PRUNE_EVERY", 1)
    with TraceMonitor(path, max_traces=1) as monitor:
        monitor.record(made("a very private question"))
        monitor.record(made("another"))
    assert b"very private" not in everything_in(path)


def test_since_and_until(path):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with TraceMonitor(path) as monitor:
        for day in range(5):
            monitor.record(made(str(day), began=(start + timedelta(days=day)).timestamp()))
        chosen = monitor.dataframe(since=start + timedelta(days=1), until=start + timedelta(days=3))
        assert list(chosen["question"]) == ["1", "2"]
        assert list(chosen["began"]) == [start + timedelta(days=1), start + timedelta(days=2)]
        empty = monitor.dataframe(until=start)
        assert list(empty.columns) == COLUMNS
        assert str(empty["began"].dtype) == "datetime64[ns, UTC]"


def test_the_oldest_go(path, monkeypatch):
    monkeypatch.setattr(ledger_module, "PRUNE_EVERY", 10)
    with TraceMonitor(path, max_traces=25) as monitor:
        traces = [made(str(i), began=1_700_000_000.0 - i) for i in range(60)]
        for trace in traces:
            monitor.record(trace)
        left = list(monitor.dataframe()["question"])
        assert 25 <= len(left) < 35
        assert left == [str(i) for i in range(60 - len(left), 60)]
        with pytest.raises(InputError, match="the oldest traces go"):
            monitor.trace(traces[0].id)
        with sqlite3.connect(path) as other:  # by plain SQL, as another program would
            assert other.execute("SELECT count(DISTINCT trace) FROM spans").fetchone()[0] == len(left)
            spent = other.execute("SELECT stage, avg(ended - began) / 1e6 FROM spans GROUP BY stage").fetchall()
        assert dict(spent) == pytest.approx(dict.fromkeys(STAGES, 5.0))


def test_the_old_go_by_age(path, monkeypatch):
    monkeypatch.setattr(ledger_module, "PRUNE_EVERY", 1)
    now = 1_700_000_000.0
    with TraceMonitor(path, max_days=7, clock=lambda: now) as monitor:
        for days in (30, 8, 6, 9, 0):  # once the clock was set back
            monitor.record(made(str(days), began=now - days * 86400))
        assert list(monitor.dataframe()["question"]) == ["6", "9", "0"]


def test_threads_record_at_once(path):
    with TraceMonitor(path) as monitor, ThreadPoolExecutor(8) as pool:
        traces = [made(str(i)) for i in range(80)]
        list(pool.map(monitor.record, traces))
        assert set(monitor.dataframe()["trace_id"]) == {trace.id for trace in traces}
        for trace in traces[::9]:
            assert monitor.trace(trace.id).question == trace.question
            assert [span["stage"] for span in spans_of(path, trace.id)] == list(STAGES)


PROCESS = """
import sys
sys.path.insert(0, {tests!r})
from test_production_monitoring import made
from ragkit.production.monitoring import TraceMonitor
monitor = TraceMonitor({path!r})
for i in range({count}):
    trace = made({name!r} + str(i))
    monitor.record(trace)
    print(trace.id, flush=True)
assert not monitor.losses, monitor
"""


def started(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    script = PROCESS.format(tests=str(Path(__file__).parent), path=str(path), name=name, count=count)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def test_two_processes_write_one_file(path):
    processes = [started(path, name, 60) for name in "ab"]
    told = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    with TraceMonitor(path) as monitor:
        frame = monitor.dataframe()
        assert len(frame) == 120
        for name, ids in zip("ab", told, strict=True):
            mine = frame[frame["question"].str.startswith(name)]
            assert list(mine["trace_id"]) == ids


def test_what_was_acknowledged_survives_a_kill(path):
    process = started(path, "x", 10**6)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(25)]
    process.kill()
    told += process.stdout.read().split()
    process.wait()
    with TraceMonitor(path) as monitor:
        kept = list(monitor.dataframe()["trace_id"])
        assert kept[: len(told)] == told
        assert len(kept) <= len(told) + 1
        for trace_id in kept[-2:]:
            assert [span["stage"] for span in spans_of(path, trace_id)] == list(STAGES)


def test_recorded_twice_is_kept_once(path):
    with TraceMonitor(path) as monitor:
        trace = made()
        monitor.record(trace)
        monitor.record(trace)
        assert len(monitor.dataframe()) == 1
        assert len(spans_of(path, trace.id)) == len(STAGES)


@pytest.mark.parametrize("trace_id", ["", "abc", "0" * 32, "Z" * 32, "é" * 40])
def test_any_id_can_be_looked_up(path, trace_id):
    with TraceMonitor(path) as monitor:
        with pytest.raises(InputError, match="expected an answer's trace_id"):
            monitor.trace(trace_id)
        monitor.record(made(id=trace_id))
        assert monitor.trace(trace_id).question == "How do I boil water?"


@settings(max_examples=25)
@given(st.text(), st.text(), st.lists(st.floats(allow_nan=False), max_size=3), st.text())
def test_any_text_is_kept_or_shown_replaced(tmp_path_factory, question, said, scores, session):
    path = tmp_path_factory.mktemp("t") / "t.db"
    found = tuple(Hit(Chunk("d", 0, 1, said), score) for score in scores)
    trace = made(question, answer=Answer(question, said, hits=found), candidates=found, session=session)
    with TraceMonitor(path, text="all") as monitor:
        monitor.record(trace)
        kept = monitor.trace(trace.id)
    replaced = [text.encode("utf-8", "replace").decode() for text in (question, said, session)]
    assert [kept.question, kept.answer, kept.session] == replaced
    assert [score for _, score in kept.hits] == scores


@pytest.mark.parametrize("bad", [{"text": "some"}, {"max_traces": 0}, {"max_days": 0}, {"otlp": "localhost:4318"}])
def test_bad_settings_are_refused(path, bad):
    with pytest.raises(InputError, match="expected"):
        TraceMonitor(path, **bad)
    assert not path.exists()


def test_the_default_file_stands_in_ragkits_home(ragkit_home):
    with TraceMonitor() as monitor:
        monitor.record(made())
        assert monitor.path == ragkit_home / "production" / "traces.db"
        assert monitor.path.exists()
        assert repr(monitor) == f"TraceMonitor({str(monitor.path)!r}, text='redacted')"


def test_readers_do_not_hold_up_a_query(path):
    """A program that reads the file, however slowly, does not lock it."""
    with TraceMonitor(path) as monitor:
        monitor.record(made())
        reader = sqlite3.connect(path)
        cursor = reader.execute("SELECT * FROM spans")
        cursor.fetchone()
        done = threading.Event()
        threading.Thread(target=lambda: (monitor.record(made()), done.set())).start()
        assert done.wait(10)
        assert not monitor.losses
        cursor.close()
        reader.close()

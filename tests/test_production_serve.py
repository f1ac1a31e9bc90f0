"""The service over HTTP: a real uvicorn on 127.0.0.1, asked by httpx, by OpenAI's client, and by bare sockets."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from endpoint import Endpoint
from fastapi.testclient import TestClient

from ragkit import cli
from ragkit.base import Context, Corpus, EndpointError, FileReport, Generation, InputError
from ragkit.generation.answer import OpenAIChat, WithFallback
from ragkit.generation.extractive import Extractive
from ragkit.production import serve
from ragkit.production.access import Tokens
from ragkit.production.caching import SQLiteCache
from ragkit.production.feedback import FeedbackStore
from ragkit.production.live import LiveIndex
from ragkit.production.monitoring import TraceMonitor
from ragkit.production.serve import create_app, running
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore

ANN, BOB, EVE = "ann-has-a-token-1", "bob-has-a-token-2", "eve-has-a-token-3"
TENANTS = {
    ANN: {"tenant": "ann", "where": {"project": ["kettle", "kettles"]}},
    BOB: {"tenant": "bob", "where": {"project": "lamp"}},
    EVE: {"tenant": "eve", "where": {"project": ["nothing-of-this-name"]}},
}
JSON = {"Content-Type": "application/json"}
BOIL, BULBS = "How do I boil the water?", "Which bulbs fit?"


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory) -> Iterator[Path]:
    """An empty home, a stand-in for the model, and nothing in the environment."""
    opened, folder = TokenStore.open, tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGKIT_HOME", str(folder))
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "RAGKIT_TOKENS"):
            patch.delenv(name, raising=False)
        patch.setattr(TokenStore, "open", lambda corpus, **_: opened(corpus, FakeEmbedder(), progress=False))
        yield folder


def eventually(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """The first true value of ``condition``."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"still {value!r} after {seconds} s"
        time.sleep(0.02)
    return value


@contextmanager
def client(app: Any, token: str = "", wait: bool = True) -> Iterator[httpx.Client]:
    """A client of ``app``, once its index is there."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with running(app) as url, httpx.Client(base_url=url, headers=headers, timeout=20) as http:
        if wait:
            eventually(lambda: http.get("/ready").status_code == 200)
        yield http


@pytest.fixture(scope="module")
def http(small_corpus) -> Iterator[httpx.Client]:
    """The service without tokens, with a cache."""
    with client(create_app(small_corpus, llm="extractive", cache=SQLiteCache())) as opened:
        yield opened


@pytest.fixture(scope="module")
def tenants(small_corpus) -> Iterator[httpx.Client]:
    """The service for three tenants that share a cache."""
    with client(create_app(small_corpus, llm="extractive", cache=SQLiteCache(), tokens=Tokens(TENANTS))) as opened:
        yield opened


def ask(http: httpx.Client, question: str, token: str = "", **others: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = http.post("/query", json={"question": question, **others}, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def events(text: str) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def metric(http: httpx.Client, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


class Slow:
    """Writes "late" after ``seconds``, in two pieces; ``started`` and ``cancelled`` count."""

    def __init__(self, seconds: float = 0.4, identity: str = "slow") -> None:
        self.seconds, self.identity, self.started, self.cancelled = seconds, identity, 0, 0

    async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        self.started += 1
        try:
            yield "la"
            await asyncio.sleep(self.seconds)
            yield "te"
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        yield Generation("late", writer="slow")

    async def generate(self, question: str, context: Context) -> Generation:
        pieces = [piece async for piece in self.stream(question, context)]
        assert isinstance(pieces[-1], Generation)
        return pieces[-1]


# ---- questions and answers


def test_an_answer_comes_with_citations_passages_times_and_a_trace(http, small_corpus):
    answer = ask(http, BOIL, k=2, session="today")
    (citation,) = answer["citations"]
    assert answer["text"] == "Boiling\nPress the red lever to boil the water. [1]"
    text = small_corpus.document("kettle/guide").text
    assert citation["document"] == "kettle/guide"
    assert (
        text[citation["start"] : citation["end"]]
        == citation["quote"]
        == "Boiling\nPress the red lever to boil the water."
    )
    assert citation["section"] == ["Kettle", "Boiling"]
    assert len(answer["passages"]) == 2
    assert {"retrieve", "generate", "total"} <= answer["timings"].keys()
    trace = TraceMonitor().trace(answer["trace_id"])
    assert (trace.question, trace.k, trace.session, trace.tenant) == (BOIL, 2, "today", "")


@pytest.mark.parametrize("how", ["accept", "stream"])
def test_a_stream_is_pieces_and_then_the_answer_that_counts(http, how):
    body = {"question": BULBS, "stream": how == "stream"}
    response = http.post("/query", json=body, headers={"Accept": "text/event-stream"} if how == "accept" else {})
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, (last, answer) = events(response.text)
    assert {name for name, _ in pieces} == {"piece"}
    assert last == "answer"
    assert "".join(piece["text"] for _, piece in pieces) == answer["text"] == ask(http, BULBS)["text"]


def test_a_second_time_the_cache_answers_until_a_thumb_down(http):
    question, hits = "What do I clean the kettle with?", metric(http, "ragkit_cache_hits_total")
    first, second = ask(http, question), ask(http, question)
    assert "generate" not in second["timings"]
    assert first["text"] == second["text"]
    assert metric(http, "ragkit_cache_hits_total") == hits + 1
    opinion = {"trace_id": second["trace_id"], "thumb": -1, "reasons": ["outdated"], "comment": "no vinegar"}
    assert http.post("/feedback", json=opinion).json() == {"stored": True, "forgotten": True}
    assert "generate" in ask(http, question)["timings"]
    assert metric(http, 'ragkit_feedback_total{thumb="down"}') >= 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"trace_id": "no such"}, 404),
        ({"thumb": 0}, 422),
        ({"reasons": ["boring"]}, 422),
        ({"flagged": ["x#0-1"]}, 422),
    ],
)
def test_feedback_that_says_nothing_is_refused(http, change, status):
    response = http.post("/feedback", json={"trace_id": ask(http, BOIL)["trace_id"], "thumb": 1} | change)
    assert response.status_code == status
    assert "/" not in response.json()["error"]["message"]


def test_feedback_that_cannot_be_stored_now_may_be_sent_again(small_corpus, tmp_path):
    monitor = TraceMonitor(tmp_path / "traces.db")
    feedback = FeedbackStore(monitor, tmp_path / "feedback.db")
    database = feedback._database._connection
    with client(create_app(small_corpus, llm="extractive", monitor=monitor, feedback=feedback)) as http:
        opinion = {"trace_id": ask(http, BOIL)["trace_id"], "thumb": 1}
        database.execute("PRAGMA max_page_count = 1")  # as a full disk: no page more than there are
        response = http.post("/feedback", json=opinion | {"comment": "long " * 4_000})
        assert (response.status_code, response.json()["error"]["type"]) == (503, "unavailable")
        assert int(response.headers["retry-after"]) > 0
        database.execute("PRAGMA max_page_count = 1000")
        assert http.post("/feedback", json=opinion).json() == {"stored": True, "forgotten": False}


def test_another_server_may_run_it_for_a_client_without_an_address(small_corpus):
    with TestClient(create_app(small_corpus, llm="extractive"), base_url="http://localhost") as http:
        response = http.get("/health")  # its client is called "testclient"
        assert (response.status_code, response.json()["error"]["type"]) == (403, "forbidden")


def test_metrics_have_stages_and_statuses(http):
    ask(http, BOIL)
    assert metric(http, 'ragkit_stage_seconds_count{stage="total"}') >= 1
    assert metric(http, 'ragkit_requests_total{path="/query",status="200"}') >= 1
    assert metric(http, "ragkit_in_flight ") == 0


# ---- OpenAI's protocol


@pytest.fixture(scope="module")
def chat(http) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="any", max_retries=0)


def test_a_model_is_a_pipeline(chat):
    assert [model.id for model in chat.models.list()] == ["naive", "advanced", "modular"]
    for model in ("naive", "advanced", "modular"):
        completion = chat.chat.completions.create(model=model, messages=[{"role": "user", "content": BOIL}])
        assert "red lever" in completion.choices[0].message.content
        assert completion.usage.total_tokens == 0  # quotes are no model's tokens
        assert completion.citations[0]["document"] == "kettle/guide"
    with pytest.raises(openai.NotFoundError, match="naive, advanced, modular"):
        chat.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": BOIL}])


def test_a_follow_up_question_is_completed_by_those_before_it(chat, http):
    turns = [("system", "Be nice."), ("user", "Which bulbs fit the lamp?"), ("assistant", "E27."), ("user", "And dim?")]
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    others = [
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "tool", "content": None, "tool_call_id": "1"},
    ]
    completion = chat.chat.completions.create(model="advanced", messages=[*others, *messages], stream=None)
    assert completion.question == "And dim? (bulbs fit lamp)"
    assert ask(http, "And dim?", earlier=["Which bulbs fit the lamp?"])["question"] == completion.question


def test_a_streamed_completion_ends_with_citations_and_usage(chat):
    stream = chat.chat.completions.create(
        model="advanced",
        messages=[{"role": "user", "content": BOIL}],
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last, usage = list(stream)
    assert "".join(chunk.choices[0].delta.content for chunk in chunks).startswith("Boiling\nPress the red lever")
    assert last.choices[0].finish_reason == "stop"
    assert last.citations[0]["number"] == 1
    assert len({chunk.id for chunk in (*chunks, last, usage)}) == 1
    assert usage.usage is not None


def test_the_pieces_and_the_usage_of_a_model_come_through(small_corpus):
    """Real HTTP on both sides; the second answer breaks off, and quotes take its place."""
    messages = [{"role": "user", "content": BOIL}]
    with Endpoint(answer="Press the red lever, then wait. [1]", faults=["ok", "half", "half", "half"]) as endpoint:
        model = OpenAIChat("m", base_url=endpoint.url, api_key="k", max_retries=0)
        with client(create_app(small_corpus, llm=WithFallback(model, Extractive()))) as http:
            create = openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="any", max_retries=0).chat.completions.create
            whole, broken = (
                list(create(model="naive", messages=messages, stream=True, stream_options={"include_usage": True}))
                for _ in range(2)
            )
    assert len(whole) > 4
    assert whole[-1].usage.completion_tokens == 7
    assert "red lever, then wait" in "".join(chunk.choices[0].delta.content or "" for chunk in whole[:-1])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in broken[:-1])
    assert "The answer, in place of the text above:\n\nBoiling\nPress the red lever to boil the water. [1]" in text


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "assistant", "content": "Hello"}],
        [{"role": "user", "content": "  "}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    ],
)
def test_a_conversation_without_a_question_is_refused(chat, messages):
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        chat.chat.completions.create(model="advanced", messages=messages)
    assert refused.value.type == "invalid_request"


# ---- bad input


@pytest.mark.parametrize(
    ("status", "kind", "request_"),
    [
        (422, "invalid_request", {"content": b"{", "headers": JSON}),
        (422, "invalid_request", {"content": b'{"question": "a form of another site"}'}),
        (422, "invalid_request", {"content": b'{"question": "\\ud800"}', "headers": JSON}),
        (400, "invalid_request", {"content": b"[" * 200_000, "headers": JSON}),
        (422, "invalid_request", {"json": {"question": " \n"}}),
        (422, "invalid_request", {"json": {"question": "x" * 4_001}}),
        (422, "invalid_request", {"json": {"question": "x", "k": 51}}),
        (422, "invalid_request", {"json": {"question": "x", "tenant": "bob"}}),
        (413, "too_large", {"json": {"question": "x" * 300_000}}),
        (413, "too_large", {"content": (b"x" * 1000 for _ in range(300)), "headers": JSON}),
        (404, "not_found", {"url": "/nowhere"}),
        (405, "method_not_allowed", {"method": "GET"}),
        (403, "forbidden", {"json": {"question": "x"}, "headers": {"Host": "rebound.example"}}),
    ],
)
def test_what_is_wrong_is_refused_in_one_form(http, status, kind, request_):
    response = http.request(**{"method": "POST", "url": "/query"} | request_)
    assert response.status_code == status
    body = response.json()
    assert body["error"].keys() == {"type", "message"}
    assert body["error"]["type"] == kind


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        ("Content-Type: application/json", {"content": b'{"question": "as curl sends it"}'}),
        ("Content-Type: application/json", {"content": b'{"question": "\xff"}', "headers": JSON}),
        ("expected a JSON object", {"content": b"", "headers": JSON}),
        ("expected a JSON object", {"content": b'{"question": ', "headers": JSON}),
        ("question: Field required", {"json": {}}),
        ("/openapi.json", {"url": "/query/"}),
        ("takes POST", {"method": "GET"}),
        ("127.0.0.1 or localhost", {"json": {"question": "x"}, "headers": {"Host": "box.example"}}),
    ],
)
def test_a_refusal_says_what_to_send(http, words, request_):
    response = http.request(**{"method": "POST", "url": "/query"} | request_)
    assert words in response.json()["error"]["message"]
    assert response.headers.get("allow") == ("POST" if response.status_code == 405 else None)


def test_the_schema_shows_our_errors_and_not_those_of_the_library(http):
    paths = http.get("/openapi.json").json()["paths"]
    assert paths["/query"]["post"]["responses"].keys() == {"200", "default"}


def connected(http: httpx.Client) -> socket.socket:
    return socket.create_connection((http.base_url.host, http.base_url.port), timeout=5)


def request_of(**fields: Any) -> bytes:
    """A question as it goes over the wire."""
    body = json.dumps({"question": BOIL, **fields})
    return HEAD.replace(b"99", str(len(body)).encode()) + b"\r\n" + body.encode()


def talk(http: httpx.Client, data: bytes) -> bytes:
    """What the server sends until it closes the connection; "reset" where it does not read on."""
    with connected(http) as connection:
        try:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65_536), b""))
        except ConnectionError:
            return b"reset"


HEAD = b"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"


@pytest.mark.parametrize("data", [b"", HEAD, HEAD + b'\r\n{"question": '])
def test_a_client_that_does_not_finish_its_request_is_left(http, monkeypatch, data):
    monkeypatch.setattr(serve, "IDLE_SECONDS", 0.2)
    begin = time.monotonic()
    assert talk(http, data) == b""
    assert time.monotonic() - begin < 3
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 1_000_000 + b"\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
)
def test_a_million_headers_do_not_come_in(http, data):
    assert talk(http, data).startswith((b"HTTP/1.1 400", b"reset"))
    assert http.get("/health").status_code == 200


# ---- tenants


def test_without_a_token_only_the_page_and_its_health_are_served(tenants):
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {ANN}"}, {"Authorization": ANN}):
        for method, path in (("POST", "/query"), ("POST", "/feedback"), ("GET", "/v1/models"), ("GET", "/metrics")):
            response = tenants.request(method, path, headers=header, json={"question": BOIL})
            assert (response.status_code, response.json()["error"]["type"]) == (401, "unauthorized")
    assert tenants.get("/health").json() == {"status": "ok", "token_required": True}
    assert tenants.get("/").status_code == 200


def test_a_tenant_sees_its_own_passages_as_if_there_were_no_others(tenants, small_corpus):
    for token, project in ((ANN, "kettle"), (BOB, "lamp")):
        for question in (BOIL, BULBS, "kettle lamp radio"):
            answer = ask(tenants, question, token, k=50)
            places = {each["document"] for each in answer["passages"] + answer["citations"]}
            assert places <= {f"{project}/guide"}
    alone = small_corpus.only({"project": "kettle"})
    with client(create_app(alone, llm="extractive")) as http:
        ours, theirs = ask(tenants, BOIL, ANN, k=5), ask(http, BOIL, k=5)
    assert ours["passages"] == theirs["passages"]  # the scores too: no frequency of another tenant's words is in them


def test_a_cached_answer_is_given_to_its_own_tenant_and_filter_alone(small_corpus, tmp_path):
    same = {ANN: {"tenant": "ann"}, BOB: {"tenant": "bob"}, EVE: {"tenant": "ann", "where": {"project": "lamp"}}}
    app = create_app(small_corpus, llm="extractive", cache=SQLiteCache(tmp_path / "c.db"), tokens=Tokens(same))
    with client(app) as http:
        assert "generate" in ask(http, BOIL, ANN)["timings"]
        assert "generate" in ask(http, BOIL, BOB)["timings"]
        assert "generate" not in ask(http, BOIL, BOB)["timings"]
        assert {passage["document"] for passage in ask(http, BOIL, EVE)["passages"]} <= {"lamp/guide"}


def test_a_tenant_gives_feedback_on_its_own_answers_alone(tenants):
    trace_id = ask(tenants, BOIL, ANN)["trace_id"]
    body = {"trace_id": trace_id, "thumb": 1}
    other = tenants.post("/feedback", json=body, headers={"Authorization": f"Bearer {BOB}"})
    none = tenants.post("/feedback", json=body | {"trace_id": "x"}, headers={"Authorization": f"Bearer {BOB}"})
    assert other.status_code == 404
    assert other.content == none.content
    assert tenants.post("/feedback", json=body, headers={"Authorization": f"Bearer {ANN}"}).status_code == 200


def test_a_token_is_the_key_of_a_chat_client(tenants):
    messages = [{"role": "user", "content": BOIL}]
    mine = openai.OpenAI(base_url=f"{tenants.base_url}/v1", api_key=ANN, max_retries=0)
    assert "red lever" in mine.chat.completions.create(model="naive", messages=messages).choices[0].message.content
    with pytest.raises(openai.AuthenticationError):
        mine.with_options(api_key="another").chat.completions.create(model="naive", messages=messages)
    other = mine.with_options(api_key=BOB).chat.completions.create(model="naive", messages=messages)
    assert {each["document"] for each in other.passages} == {"lamp/guide"}


def test_a_filter_that_matches_nothing_finds_nothing(tenants):
    answer = ask(tenants, BOIL, EVE)
    assert answer["abstained"]
    assert answer["text"] == "Not found in these documents."
    assert answer["passages"] == []


def test_no_token_is_written_anywhere(tenants, home, caplog):
    for token in (ANN, "a-wrong-token-that-is-long"):
        tenants.post("/query", json={"question": BOIL}, headers={"Authorization": f"Bearer {token}"})
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    written += caplog.text.encode() + repr(Tokens(TENANTS)).encode()
    assert b"tenant" in written  # of the traces
    assert not [token for token in (*TENANTS, "a-wrong-token") if token.encode() in written]


@pytest.mark.parametrize(
    "value",
    [
        f'{{"{ANN}": "kettle"}}',
        f'{{"{ANN}": {{"tenant": ""}}}}',
        f'{{"{ANN}": {{"tenant": "ann", "where": {{"project": 1}}}}}}',
        f'{{"{ANN}": {{"tenant": "ann", "filter": {{}}}}}}',
        '{"short": {"tenant": "ann"}}',
        f'{{"{ANN} ": {{"tenant": "ann"}}}}',
        f'{{"{ANN}\\ud800": {{"tenant": "ann"}}}}',
        f'["{ANN}"]',
        "{}",
        f"{ANN}",
        f'{{"{ANN}": ',
    ],
)
def test_tokens_that_are_none_are_refused_and_not_repeated(value, monkeypatch):
    monkeypatch.setenv("RAGKIT_TOKENS", value)
    with pytest.raises(InputError, match="RAGKIT_TOKENS") as refused:
        Tokens.from_environment()
    assert ANN not in str(refused.value)
    assert refused.value.__cause__ is None


def test_tokens_come_from_a_file_too(monkeypatch, tmp_path):
    (tmp_path / "tokens.json").write_text(json.dumps(TENANTS))
    monkeypatch.setenv("RAGKIT_TOKENS", str(tmp_path / "tokens.json"))
    tokens = Tokens.from_environment()
    assert tokens.tenant(f"bearer {BOB}").tenant == "bob"
    assert tokens.tenant(f"Bearer {BOB}x") is tokens.tenant("") is None
    assert tokens.filters == [entry["where"] for entry in TENANTS.values()]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost.example", "192.168.0.7"])
def test_others_are_served_with_tokens_alone(host, small_corpus):
    with pytest.raises(InputError, match="needs tokens"):
        serve.serve(create_app(small_corpus, llm="extractive"), host)


def test_small_packets_are_sent_at_once(small_corpus):
    """asyncio sets TCP_NODELAY only where a socket's protocol is named; accepted sockets have that of the listener."""
    listening, _ = serve._listen(create_app(small_corpus, llm="extractive"), "127.0.0.1", 0)
    with listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_a_part_of_a_corpus_has_a_language_of_its_own(small_corpus):
    files = (FileReport("a.md", "md", characters=90, language="deu"), FileReport("b.md", "md", characters=9))
    documents = tuple(
        replace(d, metadata={"source": s})
        for d, s in zip(small_corpus.documents, ("a.md", "x/b.md", "x/c.md"), strict=True)
    )
    corpus = Corpus("mixed", documents, files=files)
    assert corpus.language == "deu"
    part = corpus.only({"source": "x/*"})
    assert [d.id for d in part.documents] == ["lamp/guide", "radio/guide"]
    assert part.language == ""
    assert corpus.only({"no such": "x"}).documents == ()
    assert [d.id for d in corpus.only({"source": ["a.md", "*/c.md"]}).documents] == ["kettle/guide", "radio/guide"]


# ---- load


def at_once(http: httpx.Client, count: int) -> list[httpx.Response]:
    def post(number: int) -> httpx.Response:
        return http.post("/query", json={"question": f"{BOIL} {number}", "stream": number % 2 == 0})

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(post, range(count)))


def test_what_can_neither_run_nor_wait_is_refused_at_once(small_corpus):
    with client(create_app(small_corpus, llm=Slow(0.5), concurrency=1, queue=1)) as http:
        responses = at_once(http, 5)
        assert sorted(response.status_code for response in responses) == [200, 200, 429, 429, 429]
        refused = [response for response in responses if response.status_code == 429]
        assert all(response.headers["retry-after"] == "1" for response in refused)
        assert max(response.elapsed.total_seconds() for response in refused) < 0.4
        assert metric(http, "ragkit_rejected_total") == 3
        assert ask(http, BOIL)["text"] == "late"


def test_a_query_that_takes_too_long_is_given_up(small_corpus):
    llm = Slow(30)
    with client(create_app(small_corpus, llm=llm, concurrency=1, seconds=0.3)) as http:
        response = http.post("/query", json={"question": BOIL})
        assert (response.status_code, response.json()["error"]["type"]) == (504, "time_limit")
        stream = events(http.post("/query", json={"question": BOIL, "stream": True}).text)
        assert [name for name, _ in stream] == ["piece", "error"]
        assert stream[-1][1]["error"]["type"] == "time_limit"
        create = openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="any", max_retries=0).chat.completions.create
        with pytest.raises(openai.APIError, match="no answer within"):
            list(create(model="naive", messages=[{"role": "user", "content": BOIL}], stream=True))
        assert llm.cancelled == 3
        llm.seconds = 0
        assert ask(http, BOIL)["text"] == "late"  # the turn was given back


@pytest.mark.parametrize("stream", [False, True])
def test_a_query_whose_client_has_gone_is_cancelled(small_corpus, stream):
    llm = Slow(30)
    with client(create_app(small_corpus, llm=llm, concurrency=1)) as http:
        with connected(http) as connection:
            connection.sendall(request_of(stream=stream))
            eventually(lambda: llm.started)
        eventually(lambda: llm.cancelled, 3)
        eventually(lambda: metric(http, "ragkit_in_flight ") == 0, 3)
        last = TraceMonitor().dataframe().iloc[-1]
        assert last["error"].startswith("CancelledError")


def test_an_answer_under_way_ends_before_the_server_does(small_corpus):
    llm = Slow(0.6)
    with ThreadPoolExecutor(1) as thread:
        with client(create_app(small_corpus, llm=llm)) as http:
            url = str(http.base_url)
            answer = thread.submit(httpx.post, f"{url}/query", json={"question": BOIL}, timeout=10)
            eventually(lambda: llm.started)
        assert answer.result().json()["text"] == "late"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")


class Endless:
    identity = "endless"

    async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        while True:
            yield "and so on " * 1000

    async def generate(self, question: str, context: Context) -> Generation:
        raise NotImplementedError


def test_a_client_that_does_not_read_on_is_left(small_corpus, monkeypatch):
    """Also after the time limit of its question, when only the error is still to be sent."""
    monkeypatch.setattr(serve, "IDLE_SECONDS", 0.5)
    with client(create_app(small_corpus, llm=Endless(), seconds=0.2)) as http, connected(http) as connection:
        connection.sendall(request_of(stream=True))
        eventually(lambda: metric(http, 'ragkit_requests_total{path="/query"'), 5)


class Failing:
    identity = "failing"

    async def generate(self, question: str, context: Context) -> Generation:
        raise EndpointError("http://10.0.0.1:9/v1 refused the key sk-1")


class Broken(Failing):
    async def generate(self, question: str, context: Context) -> Generation:
        raise KeyError("/etc/secret")


@pytest.mark.parametrize(("llm", "status", "kind"), [(Failing(), 502, "model_failed"), (Broken(), 500, "internal")])
def test_an_error_says_nothing_of_the_inside(small_corpus, llm, status, kind):
    with client(create_app(small_corpus, llm=llm)) as http:
        for stream in (False, True):
            response = http.post("/query", json={"question": BOIL, "stream": stream})
            assert response.status_code == status
            assert response.json()["error"]["type"] == kind
            assert "10.0.0.1" not in response.text
            assert "secret" not in response.text
        assert metric(http, f'ragkit_requests_total{{path="/query",status="{status}"}}') == 2


def test_the_reason_of_a_fallback_is_in_the_log_and_not_in_the_answer(small_corpus, caplog):
    with client(create_app(small_corpus, llm=WithFallback(Failing(), Extractive()))) as http:
        answer = ask(http, BOIL)
        assert answer["reason"] == "the language model failed, so a fallback answered"
        assert "10.0.0.1" in TraceMonitor().trace(answer["trace_id"]).reason
        assert "10.0.0.1" in caplog.text
        assert metric(http, "ragkit_fallbacks_total") == 1


# ---- documents that change


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "notes"
    place.mkdir()
    (place / "kettle.md").write_text("# Kettle\n\nPress the red lever to boil the water.\n")
    return place


def test_a_changed_folder_shows_and_a_failed_rebuild_does_not(folder):
    with client(create_app(folder, llm="extractive", refresh=0.05)) as http:
        (folder / "lamp.md").write_text("# Lamp\n\nOnly E27 bulbs with at most 40 watts fit.\n")
        eventually(lambda: "E27" in ask(http, BULBS)["text"])
        for file in folder.iterdir():
            file.unlink()
        eventually(lambda: http.get("/ready").json()["stale"])
        assert http.get("/ready").status_code == 200
        assert metric(http, "ragkit_index_failures") >= 1
        assert "E27" in ask(http, BULBS)["text"]
        (folder / "lamp.md").write_text("# Lamp\n\nOnly E14 bulbs fit.\n")
        eventually(lambda: "E14" in ask(http, BULBS)["text"])
        assert not http.get("/ready").json()["stale"]


def test_a_query_under_way_ends_on_the_pipeline_it_began_with(folder):
    llm = Slow(0.6)
    with client(create_app(folder, llm=llm, refresh=0.05)) as http, ThreadPoolExecutor(1) as thread:
        before = http.get("/ready").json()["built_at"]
        answer = thread.submit(ask, http, BULBS)
        eventually(lambda: llm.started)
        (folder / "lamp.md").write_text("# Lamp\n\nOnly E27 bulbs fit.\n")
        eventually(lambda: http.get("/ready").json()["built_at"] > before)
        assert not answer.done()
        assert {passage["document"] for passage in answer.result()["passages"]} == {"kettle"}
        assert "lamp" in {passage["document"] for passage in ask(http, BULBS)["passages"]}


def test_a_changed_configuration_shows(folder, tmp_path):
    config = tmp_path / "pipeline.toml"
    config.write_text('retriever = "words"\nmodules.words = {kind = "BM25Retriever"}')
    with client(create_app(folder, config=config, llm="extractive", refresh=0.05)) as http:
        assert "config" in http.get("/v1/models").text
        assert ask(http, "unrelated")["passages"] == []
        config.write_text('retriever = "words"\nmodules.words = {kind = "DenseRetriever"}')
        eventually(lambda: ask(http, "unrelated")["passages"])
        config.write_text("no toml")
        eventually(lambda: http.get("/ready").json()["stale"])
        assert ask(http, "unrelated")["passages"]


def test_a_build_that_fails_for_one_filter_leaves_the_others_fresh(folder, monkeypatch):
    (folder / "lamp.md").write_text("# Lamp\n\nOnly E27 bulbs fit.\n")
    ann, bob, eve = ({"source": f"{name}*"} for name in ("kettle", "lamp", "radio"))
    index, opened = LiveIndex(folder, llm="extractive", filters=[ann, bob, eve]), TokenStore.open

    def fails(corpus: Corpus, **_: Any) -> TokenStore:
        if any("red lever" in document.text for document in corpus.documents):
            raise InputError("no model for this language")
        return opened(corpus)

    async def texts(where: dict[str, str], question: str) -> str:
        return (await (await index.pipeline("advanced", where)).query(question)).text

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(TokenStore, "open", fails)
            assert await index.refresh()
            assert "no model" in str(index.error)
            assert "E27" in await texts(bob, BULBS)
            with pytest.raises(InputError, match="no model"):
                await texts(ann, BOIL)
        assert await index.refresh()
        assert index.error is None
        assert "red lever" in await texts(ann, BOIL)
        with monkeypatch.context() as patch:
            patch.setattr(TokenStore, "open", fails)
            (folder / "kettle.md").write_text("# Kettle\n\nPress the blue or red lever to boil the water.\n")
            (folder / "lamp.md").write_text("# Lamp\n\nOnly E14 bulbs fit.\n")
            assert await index.refresh()
            assert "E14" in await texts(bob, BULBS)
            assert "Press the red lever" in await texts(ann, BOIL)  # its old documents
        assert await index.refresh()
        assert "Press the blue" in await texts(ann, BOIL)

    asyncio.run(main())


def test_a_filter_that_matches_nothing_is_named_once_beside_what_it_could_match(folder, caplog):
    index = LiveIndex(folder, llm="extractive", filters=[{"project": "acme"}])
    for name in ("lamp", "radio"):
        assert asyncio.run(index.refresh())
        (folder / f"{name}.md").write_text("# Another\n\nOnly E27 bulbs fit.\n")
    warning = re.findall("no document matches.*", caplog.text)
    assert len(warning) == 1
    assert "{'project': 'acme'}" in warning[0]
    assert "'source': 'kettle.md'" in warning[0]


def test_documents_of_others_that_change_leave_a_pipeline_as_it_is(folder, monkeypatch):
    (folder / "lamp.md").write_text("# Lamp\n\nOnly E27 bulbs fit.\n")
    ann, bob = {"source": "kettle*"}, {"source": "lamp*"}
    index = LiveIndex(folder, llm="extractive", filters=[ann, bob])

    async def main() -> Sequence[bool]:
        assert await index.refresh()
        assert not await index.refresh()
        before = [await index.pipeline("advanced", where) for where in (ann, bob)]
        (folder / "lamp.md").write_text("# Lamp\n\nOnly E14 bulbs fit.\n")
        assert await index.refresh()
        after = [await index.pipeline("advanced", where) for where in (ann, bob)]
        return [old is new for old, new in zip(before, after, strict=True)]

    assert asyncio.run(main()) == [True, False]


def test_who_gives_up_waiting_for_a_build_leaves_no_thread_behind(small_corpus, monkeypatch):
    index, go, build, calls = LiveIndex(small_corpus, llm="extractive"), threading.Event(), LiveIndex._build, []

    def slow(self: LiveIndex, name: str, collection: Any) -> None:
        calls.append(name)
        go.wait(10)
        build(self, name, collection)

    async def main() -> None:
        await index.refresh()
        monkeypatch.setattr(LiveIndex, "_build", slow)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(index.pipeline("naive", {}), 0.02)
        go.set()
        several = await asyncio.gather(*(index.pipeline("naive", {}) for _ in range(3)))
        assert len(set(map(id, several))) == 1
        assert calls == ["naive"]

    asyncio.run(main())


def test_it_is_not_ready_before_the_index_is_there(folder, monkeypatch):
    """The index waits; what can be known without it is served."""
    go, build = threading.Event(), LiveIndex._rebuilt
    monkeypatch.setattr(LiveIndex, "_rebuilt", lambda index, before: go.wait(10) and build(index, before))
    with client(create_app(folder, llm="extractive"), wait=False) as http:
        assert http.get("/health").status_code == 200
        for response in (http.get("/ready"), http.post("/query", json={"question": BOIL})):
            assert (response.status_code, response.json()["error"]["type"]) == (503, "unavailable")
            assert int(response.headers["retry-after"]) > 0
        go.set()
        eventually(lambda: http.get("/ready").status_code == 200)


# ---- the page, and the command


def test_the_page_runs_nothing_but_its_own_script(http):
    response = http.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall("sha256-", policy)) == 2
    assert "innerHTML" not in response.text


def test_serve_answers_until_it_is_stopped(folder):
    """A real process, with the real model."""
    options = f"serve --corpus {folder} --port 0 --llm extractive"
    command = [sys.executable, "-m", "ragkit.cli", *options.split()]
    listen_to_ctrl_c = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # ignored behind a shell's "&"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c)
    try:
        url = re.match(r"http://127\.0\.0\.1:\d+", process.stderr.readline())[0]
        assert process.stderr.readline().endswith("the index of 1 documents is built\n")
        assert httpx.get(f"{url}/ready").status_code == 200
        assert "red lever" in httpx.post(f"{url}/query", json={"question": BOIL}, timeout=30).json()["text"]
    finally:
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert error.strip() == "ragkit: interrupted"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "nowhere"], "no corpus 'nowhere'"),
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--host", "0.0.0.0"], "needs tokens"),
        (["--concurrency", "0"], "concurrency >= 1"),
        (["--llm", "nobody"], "llm is 'nobody'"),
        (["--port", "99999"], "port must be 0-65535"),
        (["--host", "localhost", "--port", "{taken}"], "and a free port (0 chooses one)"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(arguments, message, folder, capsys):
    corpus = [] if "--corpus" in arguments else ["--corpus", str(folder)]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = [argument.format(taken=taken.getsockname()[1]) for argument in arguments]
        assert cli.main(["serve", "--port", "0", *corpus, *arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("ragkit: ")
    assert message in last

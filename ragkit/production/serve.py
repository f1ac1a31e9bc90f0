"""The pipelines as an HTTP service: a question comes in as JSON, an answer with its citations and passages goes out.

    ragkit serve --corpus ~/handbook                 # http://127.0.0.1:8000, with a page to ask at

    app = create_app("core")                         # the same from Python: an ASGI app
    with running(app) as url:                        # in a thread of its own, on a free port of 127.0.0.1
        answer = httpx.post(f"{url}/query", json={"question": "How do I stop a worker?"}).json()

``POST /query`` answers (as server-sent events where the client accepts them), ``POST /feedback`` takes a thumb for a
trace id, ``POST /v1/chat/completions`` and ``GET /v1/models`` are OpenAI's for chat clients (a model is the name of a
pipeline), ``GET /health``, ``/ready`` and ``/metrics`` are for whoever runs it, and ``/`` is a page; the fields of each
are in ``/openapi.json``. Every error is ``{"error": {"type": ..., "message": ...}}``; what is no HTTP gets uvicorn's
plain 400.

**Tokens.** Where ``$RAGKIT_TOKENS`` is set (``ragkit.production.access``), every request but those for ``/``,
``/health`` and ``/ready`` needs one. A tenant sees its own traces, cached answers and feedback, and only documents
whose metadata match its ``where``. Without tokens, nobody is served but this machine.

**Load.** ``concurrency`` queries run at once and ``queue`` more wait; a query beyond that gets a 429 at once, one that
takes longer than ``seconds`` a 504, and one whose client has gone is cancelled.
"""

import asyncio
import base64
import hashlib
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, MutableMapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.base import LLM, Answer, Corpus, InputError, RagkitError, require
from ragkit.pipeline import RAGPipeline
from ragkit.production.access import EXAMPLE, Tenant, Tokens
from ragkit.production.caching import SQLiteCache
from ragkit.production.feedback import FeedbackStore
from ragkit.production.live import CONFIG, LiveIndex
from ragkit.production.messages import (
    Chat,
    CompletionFormat,
    FeedbackRequest,
    Query,
    QueryFormat,
    ServiceError,
    event,
    failure_of,
    to_json,
)
from ragkit.production.monitoring import TraceMonitor

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Form = QueryFormat | CompletionFormat

LOOPBACK = ("127.0.0.1", "::1")
MAX_BODY = 256 * 1024  # bytes of a request
MAX_HEAD = 32 * 1024  # bytes of a request line and its headers
IDLE_SECONDS = 10.0  # for a client to send its request, or to read on
SHUTDOWN_SECONDS = 30  # for answers under way to end
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # seconds
_OPEN = ("/", "/health", "/ready")  # paths that need no token
_NO_OBJECT = "the body: expected a JSON object, sent with Content-Type: application/json"
_log = logging.getLogger(__name__)


# ---- the service


class Metrics:
    """Counters for Prometheus, in a registry of their own."""

    def __init__(self, index: LiveIndex) -> None:
        prometheus = require("prometheus_client", "serve")
        self.registry = prometheus.CollectorRegistry()
        counter = partial(prometheus.Counter, registry=self.registry)
        gauge = partial(prometheus.Gauge, registry=self.registry)
        histogram = partial(prometheus.Histogram, registry=self.registry, buckets=BUCKETS)
        self.requests = counter("ragkit_requests", "Requests by path and status.", ["path", "status"])
        self.stages = histogram("ragkit_stage_seconds", "Time of each stage of an answer.", ["stage"])
        self.in_flight = gauge("ragkit_in_flight", "Questions that run or wait.")
        self.rejected = counter("ragkit_rejected", "Questions refused with 429.")
        self.cache_hits = counter("ragkit_cache_hits", "Answers out of the cache.")
        self.fallbacks = counter("ragkit_fallbacks", "Answers of a fallback, as the language model failed.")
        self.feedback = counter("ragkit_feedback", "Thumbs, up and down.", ["thumb"])
        built = gauge("ragkit_index_built_timestamp_seconds", "When the index was last built.")
        built.set_function(lambda: index.built_at)
        failures = gauge("ragkit_index_failures", "Times that building the index has failed.")
        failures.set_function(lambda: index.failures)

    def count(self, answer: Answer) -> None:
        for stage, milliseconds in answer.timings.items():
            self.stages.labels(stage).observe(milliseconds / 1000)
        if "generate" not in answer.timings:
            self.cache_hits.inc()
        if answer.fallback:
            self.fallbacks.inc()
            _log.warning("a fallback answered: %s", answer.reason)


@dataclass
class Service:
    """What the endpoints share."""

    index: LiveIndex
    tokens: Tokens
    metrics: Metrics
    concurrency: int
    queue: int
    seconds: float
    stop: Callable[[], None] = lambda: None  # ends the server that runs this
    admitted: int = 0
    turns: asyncio.Semaphore = field(init=False)  # of the event loop that runs

    @asynccontextmanager
    async def turn(self, tenant: Tenant, name: str, query: Query) -> AsyncIterator[tuple[RAGPipeline, str]]:
        """The pipeline called ``name`` for ``tenant``, and the question, when it is its turn.

        Raises:
            ServiceError: too many wait already; time is up, also in the body; there is no index yet.
        """
        if not self.index.ready:
            raise ServiceError(503, "the index is being built: try again in a few seconds")
        if self.admitted >= self.concurrency + self.queue:
            self.metrics.rejected.inc()
            raise ServiceError(429, "too many questions at once: try again in a second")
        self.admitted += 1
        self.metrics.in_flight.inc()
        try:
            async with asyncio.timeout(self.seconds) as limit:
                try:
                    rag = await self.index.pipeline(name, tenant.where)
                except RagkitError:
                    _log.exception("the pipeline %r could not be built", name)
                    raise ServiceError(503, "the index of these documents could not be built") from None
                question = query.question
                if query.earlier:
                    follow_up = self.index.collection(tenant.where).follow_up
                    question = await asyncio.to_thread(follow_up.rewrite, query.earlier, question)
                async with self.turns:
                    yield rag, question
        except TimeoutError:
            if not limit.expired():
                raise
            raise ServiceError(504, f"no answer within {self.seconds:g} s") from None
        finally:
            self.admitted -= 1
            self.metrics.in_flight.dec()

    async def respond(self, request: "Request", name: str, query: Query, form: Form, send: Send) -> None:
        """Send the answer of the pipeline called ``name`` to a query, as JSON or as server-sent events.

        Raises:
            ServiceError, EndpointError: there is none, and nothing is sent yet. Later, an error is an event.
        """
        tenant, started = request.state.tenant, False
        about = {"k": query.k, "tenant": tenant.tenant, "session": query.session}

        async def write(text: str) -> None:
            nonlocal started
            if not started:
                await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
            started = True
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        if not query.stream:
            async with self.turn(tenant, name, query) as (rag, question):
                answer = await rag.query(question, **about)
            self.metrics.count(answer)
            await _json(form.whole(answer))(request.scope, request.receive, send)
            return
        try:
            async with (
                self.turn(tenant, name, query) as (rag, question),
                aclosing(rag.stream(question, **about)) as pieces,
            ):
                async for piece in pieces:
                    if isinstance(piece, Answer):
                        self.metrics.count(piece)
                    for text in form.events(piece):
                        await write(text)
        except Exception as error:
            if not started:
                raise
            if not isinstance(error, ServiceError):
                _log.exception("a stream failed")
            await write(event(failure_of(error).body, "error"))
        await send({"type": "http.response.body", "body": b""})


_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy must not collect the pieces
]


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> "Response":
    from fastapi import Response

    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return Response(to_json(content), status, headers, "application/json")


def _failure(error: ServiceError) -> "Response":
    return _json(error.body, error.status, error.headers)


class AccessMiddleware:
    """Around the app: lets in who may ask, stops a body that is too large, answers errors, counts by status."""

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], tokens: Tokens, metrics: Metrics
    ) -> None:
        self.app, self.tokens, self.metrics = app, tokens, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        from fastapi import HTTPException

        status = received = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise HTTPException(413, f"a request has at most {MAX_BODY:,} bytes")
            return message

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        tenant = self.tokens.tenant(headers.get("authorization", ""))
        try:
            if not self.tokens and not _is_local(scope, headers.get("host", "")):
                raise ServiceError(403, "without tokens, only this machine is served, at 127.0.0.1 or localhost")
            if tenant is None and scope["path"] not in _OPEN:
                raise ServiceError(401, "expected Authorization: Bearer, with a token of this service")
            scope.setdefault("state", {})["tenant"] = tenant
            await self.app(scope, limited, counted)
        except Exception as error:
            if status:  # half of an answer is sent
                raise
            if not isinstance(error, ServiceError):
                _log.error("a request failed: %s", error, exc_info=None if isinstance(error, RagkitError) else error)
            await _failure(failure_of(error))(scope, receive, counted)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(path, str(status or 499)).inc()  # nginx's, of a client that went away


def _is_local(scope: Scope, host: str) -> bool:
    """Whether a request is from this machine, and means it: a page elsewhere may have its name point to 127.0.0.1."""
    name = re.sub(r":\d+$", "", host).lower()
    return (scope.get("client") or LOOPBACK)[0] in LOOPBACK and name in ("localhost", "127.0.0.1", "[::1]")


def create_app(
    source: Corpus | str | Path = "core",
    *,
    config: str | Path | None = None,
    preset: str = "advanced",
    llm: LLM | str | Path | None = None,
    cache: SQLiteCache | None = None,
    monitor: TraceMonitor | None = None,
    feedback: FeedbackStore | None = None,
    tokens: Tokens | None = None,
    concurrency: int = 8,
    queue: int = 32,
    seconds: float = 60.0,
    refresh: float = 2.0,
) -> "FastAPI":
    """The service as an ASGI app, which any server for such runs (``running`` does, in a thread).

    Args:
        source: a corpus, "tiny", "core", "extended", or a folder, whose changes show within seconds.
        config: the file of a configuration, in place of ``preset`` ("naive", "advanced", "modular").
        llm: as for ``make_llm``.
        cache: answers given before; None keeps none.
        monitor: records every query (default: ``TraceMonitor()``).
        feedback: takes the thumbs (default: a ``FeedbackStore`` beside it).
        tokens: who may ask (default: those of ``$RAGKIT_TOKENS``).
        concurrency: queries at once; ``queue`` more wait, and what comes then is refused.
        seconds: for one query, waiting included.
        refresh: seconds between two looks at the folder and the configuration; ten times that after a failure.

    Raises:
        InputError: a number outside its range, an unknown preset, or tokens that are none.
        MissingExtraError: the extra ``serve`` is not installed.
    """
    require("fastapi", "serve")
    from fastapi import FastAPI, HTTPException, Request, Response
    from fastapi.exceptions import RequestValidationError

    if concurrency < 1 or queue < 0 or seconds <= 0:
        raise InputError(
            f"expected concurrency >= 1, queue >= 0, seconds > 0, not {concurrency!r}, {queue!r}, {seconds!r}"
        )
    tokens = Tokens.from_environment() if tokens is None else tokens
    monitor = monitor or TraceMonitor()
    feedback = feedback or FeedbackStore(monitor, cache=cache)
    name = CONFIG if config else preset
    index = LiveIndex(source, config=config, llm=llm, cache=cache, monitor=monitor, built=name, filters=tokens.filters)
    metrics = Metrics(index)
    service = Service(index, tokens, metrics, concurrency, queue, seconds)

    async def watch() -> None:
        while True:
            await index.refresh()
            if not index.ready:
                service.stop()
            await asyncio.sleep(refresh * 10 if index.error else refresh)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.turns = asyncio.Semaphore(concurrency)
        watching = asyncio.create_task(watch())
        yield
        watching.cancel()

    app = FastAPI(
        title="ragkit",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        responses={"default": {"description": 'An error: {"error": {"type": ..., "message": ...}}'}},
    )
    app.state.service = service
    app.add_middleware(AccessMiddleware, tokens=tokens, metrics=metrics)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][1:]))
        whole = not place or first["type"] == "json_invalid"
        message = _NO_OBJECT if whole else f"{place}: {first['msg'].removeprefix('Value error, ')}"
        return _failure(ServiceError(422, message))

    @app.exception_handler(400)
    @app.exception_handler(404)
    @app.exception_handler(405)
    @app.exception_handler(413)
    async def refused(_: Request, error: HTTPException) -> Response:
        headers = error.headers or {}
        messages = {
            400: _NO_OBJECT,
            404: "no such path: GET /openapi.json has them all",
            405: f"this path takes {headers.get('Allow')}",
        }
        failure = ServiceError(error.status_code, messages.get(error.status_code, error.detail))
        return _json(failure.body, failure.status, headers)

    # ---- questions

    class Reply(Response):
        """Answers a query, for as long as the client is there."""

        def __init__(self, respond: Callable[[Send], Coroutine[Any, Any, None]]) -> None:
            super().__init__()
            self.respond = respond

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def gone() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass

            working, leaving = asyncio.create_task(self.respond(send)), asyncio.create_task(gone())
            try:
                await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                working.cancel()
                leaving.cancel()
                await asyncio.gather(working, leaving, return_exceptions=True)
            if not working.cancelled():
                working.result()

    @app.post("/query")
    async def query(body: Query, request: Request) -> Response:
        """Answer a question, with citations; as server-sent events where the client accepts them."""
        body.stream |= "text/event-stream" in request.headers.get("accept", "")
        return Reply(partial(service.respond, request, name, body, QueryFormat()))

    @app.post("/v1/chat/completions")
    async def chat(body: Chat, request: Request) -> Response:
        """OpenAI's chat completions: the last question of a conversation, answered from the documents."""
        if body.model not in index.names:
            raise ServiceError(404, f"no model of this name: there is {', '.join(index.names)}")
        return Reply(partial(service.respond, request, body.model, body.query, CompletionFormat(body)))

    @app.get("/v1/models")
    async def models() -> Response:
        data = [{"id": each, "object": "model", "created": 0, "owned_by": "ragkit"} for each in index.names]
        return _json({"object": "list", "data": data})

    @app.post("/feedback")
    async def add_feedback(body: FeedbackRequest, request: Request) -> Response:
        """A thumb for an answer of the same tenant."""

        def add() -> bool:
            try:
                own = monitor.trace(body.trace_id).tenant == request.state.tenant.tenant
            except InputError:
                own = False
            if not own:
                raise ServiceError(404, "no trace with this id: expected the trace_id of an answer")
            try:
                return feedback.add(**body.model_dump()).forgotten
            except InputError as error:
                raise ServiceError(422, str(error)) from None
            except RagkitError as error:
                _log.error("a thumb was not stored: %s", error)
                raise ServiceError(503, "the feedback was not stored: try again in a few seconds") from None

        forgotten = await asyncio.to_thread(add)
        metrics.feedback.labels("up" if body.thumb > 0 else "down").inc()
        return _json({"stored": True, "forgotten": forgotten})

    # ---- for whoever runs it

    @app.get("/health")
    async def health() -> Response:
        return _json({"status": "ok", "token_required": bool(tokens)})

    @app.get("/ready")
    async def ready() -> Response:
        """200 once questions can be answered; ``stale`` says that the last rebuild failed, in all or in part."""
        if not index.ready:
            raise ServiceError(503, "the index is being built, or that has failed; the log says why, it is tried again")
        return _json({"ready": True, "built_at": index.built_at, "stale": index.error is not None})

    @app.get("/metrics")
    async def prometheus() -> Response:
        page = require("prometheus_client", "serve").generate_latest(metrics.registry)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    page_headers = {"Content-Security-Policy": _policy(page), "Referrer-Policy": "no-referrer"}
    page_headers |= {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return Response(page, headers=page_headers, media_type="text/html; charset=utf-8")

    return app


def _policy(page: str) -> str:
    """The page's Content-Security-Policy: its own script and style by their digests, this server, and nothing else."""

    def digest(tag: str) -> str:
        text = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; script-src {digest('script')}; style-src {digest('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


# ---- running it


def _server(app: "FastAPI") -> Any:
    """A uvicorn that leaves a client who takes longer than ``IDLE_SECONDS`` to send its request, or to read on."""
    uvicorn = require("uvicorn", "serve")
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class TimedProtocol(H11Protocol):
        due: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.expect(True)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.expect(self.conn.their_state in (h11.IDLE, h11.SEND_BODY))

        def pause_writing(self) -> None:
            super().pause_writing()
            self.expect(True)

        def resume_writing(self) -> None:
            super().resume_writing()
            self.expect(False)

        def expect(self, something: bool) -> None:
            if something and self.due is None:
                self.due = self.loop.call_later(IDLE_SECONDS, self.transport.abort)
            elif not something and self.due is not None:
                self.due.cancel()
                self.due = None

    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def _listen(app: "FastAPI", host: str, port: int) -> tuple[socket.socket, str]:
    """A socket, and its URL.

    Raises:
        InputError: others could reach it, and there are no tokens; or it can't listen there.
    """
    host = "127.0.0.1" if host.lower() == "localhost" else host
    if host not in LOOPBACK and not app.state.service.tokens:
        raise InputError(
            f"at {host} others could reach this service, so it needs tokens: set $RAGKIT_TOKENS to {EXAMPLE}, "
            "or serve at 127.0.0.1"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"{error}; expected an address of this machine and a free port (0 chooses one)") from None
    # asyncio sends at once (TCP_NODELAY) where the protocol is named, else small packets wait for 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, opened.detach())
    return listening, f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


@contextmanager
def running(app: "FastAPI", host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Run ``app`` in a thread and give its URL; port 0 is any free one. At the end, answers under way may end.

    The index is being built when this begins: ``GET /ready`` says when it is there.

    Raises:
        InputError: as ``serve``.
    """
    listening, url = _listen(app, host, port)
    server = _server(app)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        yield url
    finally:
        server.should_exit = True
        thread.join()


def serve(app: "FastAPI", host: str = "127.0.0.1", port: int = 8000) -> None:
    """Run ``app`` until Ctrl-C or SIGTERM; answers under way have 30 s to end then.

    Raises:
        InputError: ``host`` is not this machine's own (127.0.0.1, ::1, localhost), and no tokens are required; or
            the port is taken.
        RagkitError: the index could not be built at the start.
    """
    listening, url = _listen(app, host, port)
    server, service = _server(app), app.state.service
    service.stop = partial(setattr, server, "should_exit", True)
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("ragkit.production").setLevel(logging.INFO)
    sys.stderr.write(f"{url} answers once the index is built, until you press Ctrl-C\n")
    server.run([listening])
    if not service.index.ready and service.index.error:
        raise service.index.error

"""A language model behind an OpenAI-compatible endpoint: one call, whole or in pieces, its errors in words, its price.

Everything that needs a model (generation, rewriting, reranking, judging) calls it through ``ChatModel``::

    text, usage = await model.chat(messages)             # the whole answer
    async for piece in model.pieces(messages): ...       # its text in pieces, and at last the Generation with all of it
    cost(usage)                                          # US dollars, where the price is known
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
import ssl
import time
import tomllib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass, field
from datetime import date
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from ragkit.base import EndpointError, Generation, InputError, RagkitError, Usage, build_identity, require
from ragkit.files import data_file
from ragkit.llm.local import LocalModel
from ragkit.tokens import minilm_tokenizer

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4o-mini"
Messages = Sequence[Mapping[str, str]]

_log = logging.getLogger(__name__)
_NOT_COMPATIBLE = "is it an OpenAI-compatible API? is the model loaded?"


def endpoint_configured() -> bool:
    """Whether ``$OPENAI_BASE_URL`` is set. A key alone, which may be there for other programs, asks for nothing."""
    return bool(os.environ.get("OPENAI_BASE_URL"))


def endpoint_url(base_url: str | None = None) -> str:
    """The address under which an OpenAI-compatible endpoint has ``chat/completions`` and ``embeddings``.

    None is ``$OPENAI_BASE_URL``, else OpenAI's own. An address without a path gets ``/v1``, where Ollama, vLLM,
    llama.cpp and OpenAI have their API; one with a path stays as it is.

    >>> endpoint_url("http://localhost:11434"), endpoint_url("https://host/openai/v1/")
    ('http://localhost:11434/v1', 'https://host/openai/v1')

    Raises:
        InputError: it is no http address.
    """
    url = (base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).strip()
    if not re.match(r"https?://([^/@]*@)?(\[[\da-f:.]+\]|[\w.-]+)(:\d+)?([/?#]|$)", url, re.IGNORECASE):
        raise InputError(
            f"{safe_url(url)!r} is not the address of an endpoint: expected http:// or https:// and a host, such as "
            "http://localhost:11434/v1 (in base_url= or $OPENAI_BASE_URL)"
        )
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") or "/v1"))


def safe_url(url: str) -> str:
    """``url`` without user name, password, query and fragment: what may be shown, traced and stored.

    >>> safe_url("https://app:secret@host/v1?key=secret")
    'https://host/v1'
    """
    return re.split("[?#]", re.sub(r"^(\w+://)?.*@", r"\1", url))[0]


@cache
def certificates() -> ssl.SSLContext:
    """The trusted authorities, read once, as that is slow."""
    certifi = require("certifi", "llm")
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


def open_client(url: str, api_key: str | None, timeout: float, max_retries: int) -> Any:
    """An ``openai.AsyncOpenAI`` for an ``endpoint_url``, whose query goes with every request."""
    openai, parts = require("openai", "llm"), urlsplit(url)
    return openai.AsyncOpenAI(
        api_key=api_key or os.environ.get("OPENAI_API_KEY") or "none",
        base_url=urlunsplit(parts._replace(query="", fragment="")),
        default_query=dict(parse_qsl(parts.query)),
        timeout=timeout,
        max_retries=max_retries,
        http_client=openai.DefaultAsyncHttpxClient(verify=certificates()),
    )


@dataclass(eq=False, repr=False)
class ChatModel:
    """A model behind any OpenAI-compatible ``chat.completions`` (OpenAI, Ollama, vLLM, llama.cpp).

    Thoughts that a model writes before its answer (``<think>...</think>``) are cut off. A parameter that a model
    refuses (``temperature``, ``max_tokens``, ``stream_options``, one of ``extra``, a system message) is left out, or
    sent in its other form, from then on; that is logged once.

    Args:
        model: where none is given, ``$OPENAI_MODEL``, else ``gpt-4o-mini``.
        base_url: where none is given, ``$OPENAI_BASE_URL``, else OpenAI's own; see ``endpoint_url``.
        api_key: None is ``$OPENAI_API_KEY``; local servers need none.
        timeout: seconds for the whole call: all tries, to the last byte. (The client's own limit is per read and per
            try, so it does not bound the call.)
        max_retries: tries after the first, for 408, 409, 429, 5xx and connections that break before any text came;
            ``Retry-After`` is honoured.
        temperature: 0 is the most repeatable; None sends none.
        max_tokens: the most that the model may write; None leaves it to the endpoint.
        extra: other parameters of the request, such as ``{"stop": ["\\n\\n"], "frequency_penalty": 0.4}``. All
            OpenAI-compatible servers know ``stop``, ``seed``, ``frequency_penalty``, ``presence_penalty``,
            ``response_format``, ``logprobs`` and ``logit_bias``; ``repeat_penalty`` and ``grammar`` are llama.cpp's.
        server: a model on this machine in place of ``model``, ``base_url`` and ``api_key``; the first call starts it.
        max_cost: US dollars. A call that would cost more is refused before it is sent: what it reads is estimated, and
            it is taken to write ``max_tokens`` (1,000 where none are given). A model with a ``server`` costs nothing.

    Raises:
        InputError: ``base_url`` is no http address; there is a ``max_cost``, and the model's price is not known.
    """

    model: str = ""
    base_url: str = ""
    _: KW_ONLY
    api_key: str | None = None
    timeout: float = 60.0
    max_retries: int = 2
    temperature: float | None = 0.0
    max_tokens: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    server: LocalModel | None = None
    max_cost: float | None = None

    def __post_init__(self) -> None:
        if self.server is not None:
            self.model, self.base_url = self.server.name, "this machine"
        else:
            self.model = self.model or os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL
            self._url = endpoint_url(self.base_url)
            self.base_url = safe_url(self._url)
        if self.max_cost is not None and self.server is None:
            self.max_tokens = self.max_tokens or 1000
            if price_of(self.model) is None:
                known = ", ".join(name for name, price in prices().items() if price.usd_output)
                raise InputError(
                    f"max_cost is {self.max_cost:g}, and the price of {self.model!r} is not known: expected one of "
                    f"{known}, or no max_cost"
                )
        self._refused: set[str] = set()
        self._thinks = False
        self._clients: dict[asyncio.AbstractEventLoop, tuple[Any, object]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self.base_url!r})"

    @property
    def identity(self) -> str:
        """The settings that can change what the model writes, for cache keys."""
        where = self.server.identity if self.server else self.base_url
        return build_identity(self, where, self.model, self.temperature, self.max_tokens, self.extra)

    async def chat(self, messages: Messages, extra: Mapping[str, Any] | None = None) -> tuple[str, Usage]:
        """One chat completion: its text, and the tokens it took. ``extra`` adds to that of the model, for this call.

        Raises:
            EndpointError: names the endpoint, says what went wrong and what to do.
            InputError: the call would cost more than ``max_cost``; nothing was sent.
        """
        async with aclosing(self.pieces(messages, stream=False, extra=extra)) as pieces:
            [done] = [piece async for piece in pieces if isinstance(piece, Generation)]
        return done.text, done.usage

    async def chat_with_logprobs(
        self, messages: Messages, extra: Mapping[str, Any] | None = None
    ) -> tuple[str, list[Token], Usage]:
        """As ``chat``, and the tokens of the text with their log-probabilities; no tokens if the endpoint sends none.

        Raises:
            EndpointError: as ``chat``.
        """
        extra = {"logprobs": True, "top_logprobs": 20, **(extra or {})}
        async with aclosing(self._replies(messages, False, extra)) as replies:
            [reply] = [reply async for reply in replies]
        done = self._generation(reply)
        return done.text, reply.logprobs, done.usage

    async def pieces(
        self, messages: Messages, stream: bool = True, extra: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[str | Generation, None]:
        """The text in pieces as they come, and at last the ``Generation`` with the whole of it: the text that counts.

        Its ``reason`` says so if the answer was cut. Without ``stream``, all comes at once.

        The time that the reader takes between two pieces does not count towards ``timeout``. Leaving early closes the
        connection, at once within ``async with aclosing(model.pieces(messages))``.

        Raises:
            EndpointError, InputError: while iterating, as ``chat``. The pieces before it are not an answer.
        """
        reply, shown = _Reply(), ""
        async with aclosing(self._replies(messages, stream, extra or {})) as replies:
            async for reply in replies:
                answer = _begun(reply.text, self._thinks)
                if not answer.startswith(shown):
                    shown = ""  # what was shown were thoughts, without a tag before them
                if answer != shown:
                    yield _encodable(answer[len(shown) :])
                    shown = answer
        if stream and not reply.finish:
            what = f"sent half a stream: it ended after {len(reply.text)} characters, before the model was done"
            raise self._error(what, _NOT_COMPATIBLE)
        done = self._generation(reply)
        if not shown:
            yield done.text
        yield done

    def _check_cost(self, body: Mapping[str, Any]) -> None:
        if self.max_cost is None or self.server is not None:
            return
        tokens = estimate(self.model, [message["content"] for message in body["messages"]]).tokens
        written = body.get("max_tokens") or body["max_completion_tokens"]
        usd = cost(Usage(self.model, tokens, written)) or math.inf
        if not usd <= self.max_cost:
            raise InputError(
                f"{self.model} would cost up to ${usd:.2g} (about {tokens:,} tokens to read, at most {written:,} to "
                f"write), above max_cost, ${self.max_cost:g}: nothing was sent. Raise it, or lower k or the budget"
            )

    async def _replies(
        self, messages: Messages, stream: bool, extra: Mapping[str, Any]
    ) -> AsyncGenerator[_Reply, None]:
        """The reply as it grows with every event."""
        reply, left = _Reply(), self.timeout
        async with aclosing(self._events(messages, stream, extra)) as events:
            while True:
                began = time.monotonic()
                try:
                    async with asyncio.timeout(left):  # around each wait, never around a yield (PEP 789)
                        event = await anext(events)
                    reply.add(event)
                except StopAsyncIteration:
                    break
                except RagkitError:
                    raise
                except Exception as error:  # whatever the client and its transport raise: the caller gets one type
                    raise self._error(*failure(error, self.timeout)) from error
                left -= time.monotonic() - began
                yield reply

    async def _events(self, messages: Messages, stream: bool, extra: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The reply, or the events of a stream, as plain JSON: the client's own records would hide odd shapes."""
        reply = await self._post(messages, stream, extra)
        if not stream:
            yield reply
            return
        async with reply:
            if reply.response.headers.get("content-type", "").startswith(("application/json", "text/html")):
                yield json.loads(await reply.response.aread())  # a server that does not stream, or a proxy's page
                return
            async for event in reply:
                yield event

    async def _post(self, messages: Messages, stream: bool, extra: Mapping[str, Any]) -> Any:
        client = await self._client()
        openai = require("openai", "llm")
        more = {"stream": True, "stream_cls": openai.AsyncStream[object]} if stream else {}
        while True:
            body = self._body(messages, stream, extra)
            self._check_cost(body)
            try:
                return await client.post("/chat/completions", cast_to=object, body=body, **more)
            except openai.APIStatusError as error:
                refused = _refused_parameter(error, body)
                if refused is None:
                    raise
                if refused not in self._refused:  # by another call under way
                    _log.warning("%r refuses %s: it is left out, or sent in another form, from now on", self, refused)
                self._refused.add(refused)

    def _body(self, messages: Messages, stream: bool, extra: Mapping[str, Any]) -> dict[str, Any]:
        """The request, without what the model has refused before; every refusal takes something out of it."""
        options: dict[str, Any] = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "stream_options": {"include_usage": True} if stream else None,
            **self.extra,
            **extra,
        }
        body = {name: value for name, value in options.items() if value is not None and name not in self._refused}
        if "max_tokens" in self._refused:
            body["max_completion_tokens"] = options["max_tokens"]
        if "system message" in self._refused:
            messages = _without_system(messages)
        return {"model": self.model, "messages": list(messages), **body, **({"stream": True} if stream else {})}

    def _generation(self, reply: _Reply) -> Generation:
        text, cut = without_thoughts(reply.text), reply.finish == "length"
        self._thinks = self._thinks or text != reply.text
        if not text.strip():
            why = f"finish_reason {reply.finish}" if reply.finish else "no choices"
            why += ", only thoughts" if reply.text.strip() else ""
            why += f", refusal {shortened(reply.refusal)!r}" if reply.refusal else ""
            advice = "ask in another way, or another model" if reply.finish else _NOT_COMPATIBLE
            raise self._error(
                f"sent an empty answer ({why})", "the model needs more room: raise max_tokens=" if cut else advice
            )
        reason = "the model ran out of room, so the answer is cut" if cut else ""
        usage = Usage(self.model, *reply.tokens)
        return Generation(_encodable(text.strip()), usage=usage, reason=reason, writer=self.model)

    async def _client(self) -> Any:
        """The client of this event loop, kept for its open connections: they belong to one loop."""
        await asyncio.to_thread(require, "openai", "llm")  # the first import takes over a second
        loop = asyncio.get_running_loop()
        for ended in [each for each in list(self._clients) if each.is_closed()]:
            self._clients.pop(ended, None)
        if self.server is not None:  # started by the first call, and again if it died
            address = await asyncio.to_thread(self.server.start)
            self._url, self.api_key = address.url, address.key
        if loop not in self._clients:
            client = open_client(self._url, self.api_key, self.timeout, self.max_retries)
            keeper = _until_the_loop_ends(client)
            self._clients[loop] = client, keeper
            await anext(keeper)
        return self._clients[loop][0]

    def _error(self, what: str, advice: str) -> EndpointError:
        return EndpointError(f"{self.base_url} (model {self.model!r}) {what}; {advice}")


async def _until_the_loop_ends(client: Any) -> AsyncGenerator[None, None]:
    async with client:
        yield  # ``asyncio.run`` closes the generators that are still open


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a reply, the log-probability that it had, and those of the likeliest tokens in its place.

    llama.cpp's are from before a grammar or a schema leaves only some tokens.
    """

    text: str
    logprob: float
    others: Mapping[str, float]


@dataclass
class _Reply:
    """What a model wrote, from a whole completion or from one event of a stream after the other."""

    text: str = ""
    finish: str = ""
    refusal: str = ""
    tokens: tuple[int, int] = (0, 0)
    logprobs: list[Token] = field(default_factory=list)

    def add(self, reply: Any) -> None:
        """Raises ``ValueError`` where ``reply`` is of another shape. Text, reason to stop and usage may be missing."""
        try:
            choice = (reply["choices"] or [{}])[0] if "choices" in reply or "usage" not in reply else {}
            message = choice.get("delta") or choice.get("message") or {}
            content, used = message.get("content") or "", reply.get("usage") or {}
            if isinstance(content, list):
                content = "".join(part["text"] for part in content if part["type"] == "text")
            self.text += content
            self.refusal += message.get("refusal") or ""
            self.finish = choice.get("finish_reason") or self.finish or ("stop" if "message" in choice else "")
            for token in (choice.get("logprobs") or {}).get("content") or []:
                others = {other["token"]: float(other["logprob"]) for other in token.get("top_logprobs") or []}
                self.logprobs.append(Token(token["token"], float(token["logprob"]), others))
            if used:
                self.tokens = int(used.get("prompt_tokens") or 0), int(used.get("completion_tokens") or 0)
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"no chat completion but {shortened(repr(reply))}") from error


def without_thoughts(text: str) -> str:
    """``text`` after the thoughts that some models write before their answer, with or without an opening tag.

    >>> without_thoughts("<think>2, or 3?</think>It is 3. [1]"), without_thoughts("<think>2, or"), without_thoughts("3")
    ('It is 3. [1]', '', '3')
    """
    answer = re.split("</think(?:ing)?>", text)[-1]
    return "" if re.match(r"\s*<think(?:ing)?>", answer) else answer


def _begun(text: str, thinks: bool) -> str:
    """What can be shown of an answer that is still being written; ``thinks``: this model has thought aloud before."""
    if thinks and not re.search("</think(?:ing)?>", text):
        return ""
    answer = without_thoughts(text).lstrip()
    return "" if "<thinking>".startswith(answer) else answer


def _without_system(messages: Messages) -> list[dict[str, str]]:
    """The system messages as the beginning of the first other one."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    first, *others = (dict(message) for message in messages if message["role"] != "system")
    return [first | {"content": "\n\n".join((*system, first["content"]))}, *others]


_SYSTEM_MESSAGE = r"messages\[0\]\.role|\bsystem\W+(role|message|prompt)|\brole\W[^.]*\bsystem\b"
_NEEDED = ("model", "messages", "stream", "max_completion_tokens")


def _refused_parameter(error: Any, body: Mapping[str, Any]) -> str | None:
    """The part of ``body`` that the server's error names as one that it does not take."""
    if error.status_code not in (400, 422, 500):
        return None
    words = error.param or str(error)
    patterns = {name: rf"\b{name}\b" for name in body if name not in _NEEDED}
    if any(message["role"] == "system" for message in body["messages"]):
        patterns["system message"] = _SYSTEM_MESSAGE
    named = (name for name, pattern in patterns.items() if re.search(pattern, words, re.IGNORECASE))
    return next(named, None)


_KEY = "check $OPENAI_API_KEY"
_ADDRESS = "check the model's name and the address, which usually ends in /v1 ($OPENAI_BASE_URL)"
_ADVICE = {401: _KEY, 403: _KEY, 404: _ADDRESS, 405: _ADDRESS, 429: "slow down, or try again later"}


def may_be_too_long(error: Any) -> bool:
    """Whether ``error`` is how a server refuses a request for its length, among other reasons.

    llama.cpp answers 500 to a text that is longer than its batch.
    """
    status = getattr(error, "status_code", None)
    return status in (400, 413) or (status == 500 and "too large" in str(error))


def failure(
    error: Exception, timeout: float, too_long: str = "is the context longer than the model's window? lower budget="
) -> tuple[str, str]:
    """What went wrong with a request, and what to do about it.

    ``timeout`` is the limit that a ``TimeoutError`` is about; ``too_long`` the advice where the server refuses the
    request as it is (``may_be_too_long``).

    >>> failure(ValueError("no chat completion but '<html>'"), 60)
    ("sent no chat completion but '<html>'", 'is it an OpenAI-compatible API? is the model loaded?')
    """
    if isinstance(error, TimeoutError):
        what = f"did not answer within {timeout:g} s, all tries together"
        return what, "is it running, or does it ask to wait for longer (429)? raise timeout="
    if isinstance(error, ValueError):
        document = getattr(error, "doc", None)  # of a JSONDecodeError
        return f"sent {error if document is None else f'no JSON but {shortened(repr(document))}'}", _NOT_COMPATIBLE
    status, body = getattr(error, "status_code", None), getattr(error, "body", None)
    words = body.get("message") if isinstance(body, dict) else body
    message = shortened(words if isinstance(words, str) else str(error))
    advice = "try again later, or look at the server's log"
    if status is not None:
        return f"answered {status}: {message}", too_long if may_be_too_long(error) else _ADVICE.get(status, advice)
    if body is not None:
        return f"sent an error within the stream: {message}", advice
    cause = error.__cause__ or error
    what = "could not be reached" if "Connect" in type(cause).__name__ else "broke off"
    return f"{what} ({type(cause).__name__}: {shortened(str(cause))})", "is it running?"


def shortened(text: str, length: int = 160) -> str:
    """``text`` in one line of at most ``length`` characters.

    >>> shortened("one  two\\nthree", 10)
    'one two...'
    """
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def _encodable(text: str) -> str:
    """``text`` with half surrogates, which JSON can hold and UTF-8 can't, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# ---- what a call costs

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens that a model reads, and that it writes, on a day.

    A model that embeds writes nothing: its ``usd_output`` is None, and ``dimensions`` the length of its vectors.
    """

    usd: float
    as_of: date
    usd_output: float | None = None
    dimensions: int | None = None
    source: str = ""


@cache
def prices() -> Mapping[str, Price]:
    """Every hosted model whose price is known (``data/prices.toml``), by name."""
    table = tomllib.loads(data_file("prices.toml").read_text(encoding="utf-8"))
    return {model: Price(**row) for model, row in table.items()}


def price_of(model: str) -> Price | None:
    """The price of a model; that of a dated snapshot is its model's. None where it is not known."""
    return prices().get(model) or prices().get(_SNAPSHOT.sub("", model))


def cost(usage: Usage) -> float | None:
    """The US dollars of one call; None where the model's price or its tokens are not known: that is not free.

    A dated snapshot costs what its model costs. A local server that bears a hosted model's name costs nothing, and
    this can't tell.

    >>> cost(Usage("gpt-4o-mini-2024-07-18", 2_000, 100)), cost(Usage("llama3.2", 2_000, 100))
    (0.00036, None)
    """
    price = price_of(usage.model)
    if price is None or not (usage.input_tokens or usage.output_tokens):
        return None
    return round((usage.input_tokens * price.usd + usage.output_tokens * (price.usd_output or 0)) / 1_000_000, 9)


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What embedding some texts would take. ``usd`` is None where the price is not known.

    >>> str(CostEstimate("text-embedding-3-small", 2000, 940_000, 0.0188))
    'text-embedding-3-small: 2,000 texts, about 940,000 tokens, about $0.019'
    """

    model: str
    texts: int
    tokens: int
    usd: float | None

    def __str__(self) -> str:
        money = "price not known" if self.usd is None else f"about ${self.usd:.2g}"
        return f"{self.model}: {self.texts:,} texts, about {self.tokens:,} tokens, {money}"


def estimate(model: str, texts: Sequence[str]) -> CostEstimate:
    """What ``model`` would take to embed ``texts``, in tokens of the packaged tokenizer.

    The model counts in tokens of its own: this is for the order of magnitude, before paying.
    """
    tokens = sum(map(minilm_tokenizer().count, texts))
    return CostEstimate(model, len(texts), tokens, cost(Usage(model, tokens)) if tokens else 0.0)

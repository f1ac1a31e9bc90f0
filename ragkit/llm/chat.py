"""A model behind an OpenAI-compatible endpoint: one call, whole or piece by piece, its limits, and its errors in words.

Whoever asks a model (generation, rewriting, reranking, judging) asks through ``ChatModel``::

    text, usage = await model.chat(messages)             # the whole answer
    async for piece in model.pieces(messages): ...       # its text in pieces, and at last the Completion
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import ssl
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from ragkit.base import EndpointError, InputError, Usage, require
from ragkit.llm.wire import Completion, Event, parse_completion, parse_events, shortened

__all__ = ["DEFAULT_MODEL", "DEFAULT_URL", "ChatModel", "Completion", "Messages", "endpoint_configured"]

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4o-mini"
LONGEST_BACKOFF = 8.0
"""Seconds between two tries, at most, where the server does not ask for more."""

Messages = Sequence[Mapping[str, str]]


def endpoint_configured() -> bool:
    """Whether ``$OPENAI_API_KEY`` or ``$OPENAI_BASE_URL`` is set."""
    return bool(os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"))


@cache
def certificates() -> ssl.SSLContext:
    """The trusted authorities, read once: it takes 90 ms, which a client for every call would pay every time."""
    certifi = require("certifi", "llm")
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


class ChatModel:
    """A model behind any OpenAI-compatible ``chat.completions`` (OpenAI, Ollama, vLLM, llama.cpp).

    Args:
        model: None is ``$OPENAI_MODEL``, else ``gpt-4o-mini``.
        base_url: None is ``$OPENAI_BASE_URL``, else OpenAI's own.
        api_key: None is ``$OPENAI_API_KEY``; local servers need none.
        timeout: seconds for the whole call: waiting for a place, all tries, the last byte. (The client's own limit is
            per read and per try, so it does not bound the call.)
        max_retries: tries after the first, for 408, 409, 429, 5xx and connections that break before any text came.
            ``Retry-After`` is honoured; where it is longer than the time that is left, the call ends at once.
        max_bytes: a longer response is refused before it fills the memory.
        temperature: 0 is the most repeatable.
        concurrency: calls under way at once; the others wait for their place.

    Raises:
        InputError: a number is outside its range.
    """

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 2,
        max_bytes: int = 2_000_000,
        temperature: float = 0.0,
        concurrency: int = 8,
    ) -> None:
        if not timeout > 0 or max_retries < 0 or max_bytes < 1 or concurrency < 1:
            raise InputError(
                f"timeout is {timeout!r}, max_retries {max_retries!r}, max_bytes {max_bytes!r}, concurrency "
                f"{concurrency!r}: expected more than 0 seconds, 0 retries or more, 1 byte or more, 1 call or more"
            )
        self.model = model or os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        self.timeout, self.max_retries, self.max_bytes, self.temperature = timeout, max_retries, max_bytes, temperature
        self.concurrency = concurrency
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        # A semaphore belongs to one event loop, and a notebook, a test and a thread each have their own.
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self.base_url!r})"

    @property
    def identity(self) -> str:
        """The settings that can change what the model writes, for cache keys."""
        return f"{self.base_url}:{self.model}:{self.temperature:g}"

    async def chat(self, messages: Messages) -> tuple[str, Usage]:
        """One chat completion: its text, and the tokens it took.

        Raises:
            EndpointError: names the endpoint, says what went wrong and what to do.
        """
        done = await self.complete(messages)
        return done.text, done.usage

    async def complete(self, messages: Messages) -> Completion:
        """As ``chat``, with the reason for which the model stopped.

        Raises:
            EndpointError: as ``chat``.
        """
        async with aclosing(self._limited(messages, streamed=False)) as pieces:
            return [piece async for piece in pieces if isinstance(piece, Completion)][-1]

    def pieces(self, messages: Messages) -> AsyncGenerator[Event, None]:
        """The text in pieces as they come, and at last the ``Completion`` with the whole of it.

        The time that the reader takes between two pieces does not count towards ``timeout``. Leaving early closes the
        connection, at once within ``async with aclosing(model.pieces(messages))``.

        Raises:
            EndpointError: while iterating, as ``chat``. The pieces before it are not an answer.
        """
        return self._limited(messages, streamed=True)

    async def _limited(self, messages: Messages, streamed: bool) -> AsyncGenerator[Event, None]:
        """The pieces, within ``timeout``.

        The limit is set around each wait and never around a ``yield``, where it would cancel the reader (PEP 789).
        """
        left = self.timeout
        async with aclosing(self._tried(messages, streamed)) as pieces:
            while True:
                began = time.monotonic()
                try:
                    async with asyncio.timeout(left):
                        piece = await anext(pieces, None)
                except TimeoutError as error:
                    what = f"did not answer within {self.timeout:g} s"
                    raise self._error(what, "is it running? raise timeout=") from error
                left -= time.monotonic() - began
                if piece is None:
                    return
                yield piece

    async def _tried(self, messages: Messages, streamed: bool) -> AsyncGenerator[Event, None]:
        """The pieces of the first try that works. There is no other try once a piece was given away."""
        began = time.monotonic()
        openai = await asyncio.to_thread(require, "openai", "llm")  # the first import takes over a second
        async with self._place(), self._client(openai) as client:
            for attempt in range(self.max_retries + 1):
                given = False
                try:
                    async with aclosing(self._once(client, messages, streamed)) as pieces:
                        async for piece in pieces:
                            given = True
                            yield piece
                    return
                except EndpointError:
                    raise
                except Exception as error:  # whatever the client and its transport raise: the caller gets one type
                    wait, again = _pause(error, attempt), _passing(error) and attempt < self.max_retries
                    left = self.timeout - (time.monotonic() - began)
                    if given or not again or wait >= left:
                        raise self._told(openai, error, wait if again and not given else 0.0) from error
                await asyncio.sleep(wait)

    async def _once(self, client: Any, messages: Messages, streamed: bool) -> AsyncGenerator[Event, None]:
        """One request and its response, whole or as server-sent events."""
        more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        async with client.chat.completions.with_streaming_response.create(
            model=self.model, messages=list(messages), temperature=self.temperature, **more
        ) as response:
            kind = response.headers.get("content-type", "")
            async with aclosing(self._bytes(response)) as body:
                try:
                    if streamed and "json" not in kind:  # some servers answer a request for a stream with the whole
                        async for event in parse_events(body, self.model):
                            yield event
                        return
                    done = parse_completion(b"".join([piece async for piece in body]), self.model)
                except ValueError as error:
                    raise self._error(
                        f"sent {error}", "is it an OpenAI-compatible API? is the model loaded?"
                    ) from error
            if streamed:
                yield done.text
            yield done

    async def _bytes(self, response: Any) -> AsyncGenerator[bytes, None]:
        size = 0
        async with aclosing(response.iter_bytes()) as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > self.max_bytes:
                    raise self._error(f"sent more than {self.max_bytes} bytes", "is it an OpenAI-compatible API?")
                yield piece

    def _place(self) -> asyncio.Semaphore:
        return self._places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self.concurrency))

    def _client(self, openai: Any) -> Any:
        # A client for every call: its connections belong to one event loop and end with it, even when cancelled.
        return openai.AsyncOpenAI(
            api_key=self._api_key,
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(verify=certificates()),
        )

    def _told(self, openai: Any, error: Exception, wait: float) -> EndpointError:
        return self._error(
            *failure(openai, error, wait, self.timeout, "is the context longer than the model's window? lower budget=")
        )

    def _error(self, what: str, advice: str) -> EndpointError:
        return EndpointError(f"{self.base_url} (model {self.model!r}) {what}; {advice}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a ``Retry-After`` header asks to wait, given in seconds or as a date (RFC 9110, 10.2.3).

    >>> retry_after({"retry-after": "1.5"}), retry_after({"retry-after": "soon"}), retry_after({})
    (1.5, None, None)
    """
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)


def backoff(attempt: int) -> float:
    """Seconds before the next try: a random share of 0.5 * 2 ** attempt, so that those who failed together part.

    "Equal jitter" of Brooker, Exponential backoff and jitter (AWS Architecture Blog, 2015).
    """
    ceiling = min(LONGEST_BACKOFF, 0.5 * 2.0**attempt)
    return ceiling / 2 + random.uniform(0, ceiling / 2)


def _pause(error: Exception, attempt: int) -> float:
    response = getattr(error, "response", None)
    asked = None if response is None else retry_after(response.headers)
    return backoff(attempt) if asked is None else asked


def _passing(error: Exception) -> bool:
    """Whether another try may help: no status at all (the connection broke), or one of those that pass."""
    status = getattr(error, "status_code", None)
    return status is None or status in (408, 409, 429) or status >= 500


def _message(error: Any) -> str:
    """The server's own words where it uses OpenAI's form, else the client's."""
    said = error.body.get("message") if isinstance(error.body, dict) else None
    return said if isinstance(said, str) else str(error.message)


def failure(openai: Any, error: Exception, wait: float, timeout: float, too_long: str) -> tuple[str, str]:
    """What went wrong with a request, and what to do about it.

    ``wait`` is for how long the next try would have had to wait, if there was one; ``too_long`` the advice where the
    server refuses the request as it is.
    """
    advice = "is it running?"
    if isinstance(error, openai.APIStatusError):
        what = f"answered {error.status_code}: {shortened(_message(error))}"
        by_status = {400: too_long, 413: too_long} | _ADVICE
        advice = by_status.get(error.status_code, "try again later, or look at the server's log")
    else:
        cause = error.__cause__ or error
        what = f"broke off ({type(cause).__name__}: {shortened(str(cause))})"
    if wait:
        what += f", and the next try must wait {wait:.1f} s, longer than what is left of {timeout:g} s"
    return what, advice


_ADVICE = {
    401: "check $OPENAI_API_KEY",
    403: "check $OPENAI_API_KEY",
    404: "check the model's name and $OPENAI_BASE_URL",
    429: "slow down, or try again later",
}

"""A model behind an OpenAI-compatible endpoint: one call, its time limit, and its errors in words.

Whoever asks a model (generation, rewriting, reranking, judging) asks through ``ChatModel.chat``.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import cache
from typing import Any

from ragkit.base import EndpointError, InputError, Usage, require

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4o-mini"


def endpoint_configured() -> bool:
    """Whether ``$OPENAI_API_KEY`` or ``$OPENAI_BASE_URL`` is set."""
    return bool(os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"))


@cache
def _certificates() -> ssl.SSLContext:
    """The trusted authorities, read once: it takes 90 ms, which a client for every call would pay every time."""
    certifi = require("certifi", "llm")
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


class ChatModel:
    """A model behind any OpenAI-compatible ``chat.completions`` (OpenAI, Ollama, vLLM, llama.cpp).

    Args:
        model: None is ``$OPENAI_MODEL``, else ``gpt-4o-mini``.
        base_url: None is ``$OPENAI_BASE_URL``, else OpenAI's own.
        api_key: None is ``$OPENAI_API_KEY``; local servers need none.
        timeout: seconds for the whole call with its retries. The client's own limit is per read and per try, so it
            does not bound the call.
        max_retries: tries after the first, for 408, 409, 429, 5xx and broken connections.
        max_bytes: a longer response is refused before it fills the memory.
        temperature: 0 is the most repeatable.

    Raises:
        InputError: ``timeout``, ``max_retries`` or ``max_bytes`` is outside its range.
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
    ) -> None:
        if timeout <= 0 or max_retries < 0 or max_bytes < 1:
            raise InputError(
                f"timeout is {timeout!r}, max_retries {max_retries!r}, max_bytes {max_bytes!r}: "
                "expected more than 0 seconds, 0 retries or more, 1 byte or more"
            )
        self.model = model or os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        self.timeout, self.max_retries, self.max_bytes, self.temperature = timeout, max_retries, max_bytes, temperature
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or "none"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self.base_url!r})"

    @property
    def identity(self) -> str:
        """The settings that can change what the model writes, for cache keys."""
        return f"{self.base_url}:{self.model}:{self.temperature:g}"

    async def chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[str, Usage]:
        """One chat completion: its text, and the tokens it took.

        Raises:
            EndpointError: names the endpoint, says what went wrong and what to do.
        """
        openai = await asyncio.to_thread(require, "openai", "llm")  # the first import takes over a second
        try:
            async with asyncio.timeout(self.timeout):
                body = await self._post(openai, messages)
        except EndpointError:
            raise
        except TimeoutError as error:
            raise self._error(f"did not answer within {self.timeout:g} s", "is it running? raise timeout=") from error
        except openai.APIStatusError as error:
            raise self._error(f"answered {error.status_code}: {_short(error.message)}", _advice(error)) from error
        except Exception as error:  # whatever the client and its transport raise: the caller gets one type
            cause = error.__cause__ or error
            raise self._error(f"broke off ({type(cause).__name__}: {_short(str(cause))})", "is it running?") from error
        return self._parse(body)

    async def _post(self, openai: Any, messages: Sequence[Mapping[str, str]]) -> bytes:
        # A client for every call: its connections belong to one event loop and end with it, even when cancelled.
        async with (
            openai.AsyncOpenAI(
                api_key=self._api_key,
                base_url=self.base_url,
                timeout=self.timeout,
                max_retries=self.max_retries,
                http_client=openai.DefaultAsyncHttpxClient(verify=_certificates()),
            ) as client,
            client.chat.completions.with_streaming_response.create(
                model=self.model, messages=list(messages), temperature=self.temperature
            ) as response,
        ):
            body = bytearray()
            async with aclosing(response.iter_bytes()) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > self.max_bytes:
                        raise self._error(f"sent more than {self.max_bytes} bytes", "is it an OpenAI-compatible API?")
            return bytes(body)

    def _parse(self, body: bytes) -> tuple[str, Usage]:
        try:
            answer = json.loads(body)
            text, used = answer["choices"][0]["message"]["content"], answer.get("usage") or {}
            usage = Usage(self.model, int(used.get("prompt_tokens", 0)), int(used.get("completion_tokens", 0)))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            what = f"sent no chat completion but {_short(repr(body[:200]))}"
            raise self._error(what, "is it an OpenAI-compatible API?") from error
        if not isinstance(text, str) or not text.strip():
            raise self._error(f"sent an empty answer ({text!r})", "try again, or another model")
        return text.strip(), usage

    def _error(self, what: str, advice: str) -> EndpointError:
        return EndpointError(f"{self.base_url} (model {self.model!r}) {what}; {advice}")


def _short(text: str, length: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def _advice(error: Any) -> str:
    by_status = {
        400: "is the context longer than the model's window? lower budget=",
        401: "check $OPENAI_API_KEY",
        403: "check $OPENAI_API_KEY",
        404: "check the model's name and $OPENAI_BASE_URL",
        413: "is the context longer than the model's window? lower budget=",
        429: "slow down, or try again later",
    }
    return by_status.get(int(error.status_code), "try again later, or look at the server's log")

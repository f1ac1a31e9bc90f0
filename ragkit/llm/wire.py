"""What an OpenAI-compatible server sends, read with care: a chat completion, whole or as server-sent events.

Nothing here talks to a network. Whatever is not a completion is a ``ValueError`` that quotes what came instead.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from ragkit.base import Usage


@dataclass(frozen=True)
class Completion:
    """What a model wrote. ``finish`` says why it stopped: ``stop``, ``length``, ...; empty where it did not say."""

    text: str
    usage: Usage
    finish: str = ""

    @property
    def cut(self) -> bool:
        """Whether the model stopped because it ran out of room, and not because it was done."""
        return self.finish == "length"


Event = str | Completion
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


def parse_completion(body: bytes, model: str) -> Completion:
    """The completion in the body of a response.

    >>> parse_completion(b'{"choices": [{"message": {"content": " Yes. "}}]}', "m").text
    'Yes.'

    Raises:
        ValueError: the body is something else, or the answer is empty.
    """
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        text, finish = choice["message"]["content"], str(choice.get("finish_reason") or "")
        usage = _usage(answer, model)
    except _UNREADABLE as error:
        raise ValueError(f"no chat completion but {shortened(repr(body[:200]))}") from error
    return _checked(text, usage, finish)


async def parse_events(body: AsyncIterator[bytes], model: str) -> AsyncGenerator[Event, None]:
    """The pieces of text in a stream of server-sent events, and at last the completion that they make.

    Read are lines ``data: {...}`` until ``data: [DONE]``
    (https://html.spec.whatwg.org/multipage/server-sent-events.html); comments and other fields are passed over.

    Raises:
        ValueError: an event is not a piece of a completion, the stream ends before the model was done, or the whole
            is empty.
    """
    text, finish, usage, done = "", "", Usage(model), False
    async for line in _lines(body):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            done = True
            break
        piece, finished, used = _piece(data, model)
        finish, usage = finished or finish, used or usage
        if piece:
            text += piece
            yield piece
    if not (done or finish):
        raise ValueError(f"half a stream: it ended after {len(text)} characters, before the model was done")
    yield _checked(text, usage, finish)


def shortened(text: str, length: int = 160) -> str:
    """``text`` in one line of at most ``length`` characters.

    >>> shortened("one  two\\nthree", 10)
    'one two...'
    """
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


async def _lines(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Lines, cut before they are decoded: a piece of the network may end within a character."""
    rest = b""
    async for piece in body:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
    yield rest


def _piece(data: bytes, model: str) -> tuple[str, str, Usage | None]:
    """One event's text, reason to stop and usage; each may be missing."""
    try:
        event = json.loads(data)
        failed, choices = event.get("error"), event.get("choices")
        used = _usage(event, model) if event.get("usage") else None
        choice = choices[0] if choices else {}
        text = (choice.get("delta") or {}).get("content") or ""
        finish = str(choice.get("finish_reason") or "")
        if not (failed or isinstance(choices, list)) or not isinstance(text, str):
            raise ValueError("another schema")
    except _UNREADABLE as error:
        raise ValueError(f"no piece of a chat completion but {shortened(repr(data[:200]))}") from error
    if failed:
        raise ValueError(f"an error within the stream: {shortened(repr(failed))}")
    return _encodable(text), finish, used


def _usage(answer: Mapping[str, Any], model: str) -> Usage:
    used = answer.get("usage") or {}
    return Usage(model, int(used.get("prompt_tokens") or 0), int(used.get("completion_tokens") or 0))


def _checked(text: Any, usage: Usage, finish: str) -> Completion:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"an empty answer ({text!r}{', finish_reason ' + finish if finish else ''})")
    return Completion(_encodable(text.strip()), usage, finish)


def _encodable(text: str) -> str:
    """``text`` with half surrogates, which JSON can hold and UTF-8 can't, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

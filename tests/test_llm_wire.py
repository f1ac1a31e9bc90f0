"""What a server may send: any cut of a good stream is the same stream, and anything else is an error in words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Usage
from ragkit.llm.wire import Completion, Event, parse_completion, parse_events, shortened


def stream(*events: object) -> bytes:
    return b"".join(f"data: {e if isinstance(e, str) else json.dumps(e)}\n\n".encode() for e in events)


def delta(text: str, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


def read(body: bytes, cuts: list[int] | None = None) -> list[Event]:
    async def pieces() -> AsyncIterator[bytes]:
        borders = [0, *sorted(cuts or []), len(body)]
        for start, end in pairwise(borders):
            yield body[start:end]

    async def main() -> list[Event]:
        return [event async for event in parse_events(pieces(), "m")]

    return asyncio.run(main())


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6), st.data())
def test_a_stream_reads_the_same_however_it_is_cut(words, data):
    body = stream(*map(delta, words), {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}, "[DONE]")
    body = b": a comment\r\n\r\nevent: message\n" + body
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=12))
    text = "".join(words)
    if not text.strip():
        with pytest.raises(ValueError, match="an empty answer"):
            read(body, cuts)
        return
    *pieces, done = read(body, cuts)
    assert "".join(pieces) == text
    assert done == Completion(text.strip(), Usage("m", 3, 5))


@given(st.binary(max_size=200))
def test_nonsense_is_a_value_error_and_nothing_else(body):
    for parse in (lambda: parse_completion(body, "m"), lambda: read(b"data: " + body)):
        with pytest.raises(ValueError, match=r"\w"):
            parse()


junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["choices", "message", "delta", "content", "usage"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(junk, st.sampled_from(["prompt_tokens", "completion_tokens"]))
def test_json_of_another_shape_is_a_value_error_or_an_answer(found, key):
    for value in (found, {"choices": [{"message": {"content": "yes"}}], "usage": {key: found}}):
        with suppress(ValueError):
            assert parse_completion(json.dumps(value).encode(), "m").text
    for value in (found, delta("yes") | {"usage": found}, {"choices": [{"delta": found}]}):
        with suppress(ValueError):
            assert isinstance(read(stream(value, delta("!"), "[DONE]"))[-1], Completion)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (stream(delta("Use")), "half a stream: it ended after 3 characters"),
        (stream(delta("Use"), {"error": {"message": "out of memory"}}), "an error within the stream.*out of memory"),
        (stream('{"choices": ['), r"no piece of a chat completion but .*choices"),
        (stream({"result": "fine"}), "no piece of a chat completion"),
        (stream({"choices": [{"delta": {"content": ["a"]}}]}), "no piece of a chat completion"),
        (stream("[DONE]"), "an empty answer"),
        (stream(delta("", "content_filter")), "an empty answer.*content_filter"),
        (b"", "half a stream"),
    ],
)
def test_what_is_wrong_with_a_stream_is_said(body, message):
    with pytest.raises(ValueError, match=message):
        read(body)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"choices": []}', b"[" * 100_000, b'{"error": "x"}', b"\xff"])
def test_what_is_no_completion_is_quoted(body):
    with pytest.raises(ValueError, match="no chat completion but") as error:
        parse_completion(body, "m")
    assert len(str(error.value)) < 300


def test_a_stream_may_end_with_its_reason_instead_of_done():
    assert read(stream(delta("Use"), delta("", "length"))) == ["Use", Completion("Use", Usage("m"), "length")]
    assert read(stream(delta("Use"), delta("", "length")))[-1].cut


def test_half_surrogates_can_be_written_to_a_file():
    body = b'{"choices": [{"message": {"content": "a \\ud83d b \\ud83d\\ude00"}}]}'
    assert parse_completion(body, "m").text.encode().decode() == "a � b 😀"


def test_numbers_that_are_missing_are_no_error():
    answer = {"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": None}}
    assert parse_completion(json.dumps(answer).encode(), "m").usage == Usage("m", 0, 0)


def test_shortened():
    assert shortened("a" * 200, 10) == "aaaaaaa..."
    assert shortened(" a\n b ") == "a b"

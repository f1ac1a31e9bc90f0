"""A model behind an endpoint, over real HTTP: every call ends in time, with an answer or an error that says why."""

from __future__ import annotations

import asyncio
import gc
import random
import re
import time
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from endpoint import FAULTS, Endpoint

from ragkit.base import EndpointError, InputError, Usage
from ragkit.llm.chat import LONGEST_BACKOFF, ChatModel, Completion, backoff, retry_after

pytest.importorskip("openai")  # imported now: short limits below are not about the seconds that this takes
ASK = [{"role": "user", "content": "How?"}]
LASTING = {
    "429": "answered 429.*slow down",
    "500": "answered 500",
    "401": r"answered 401: Incorrect API key.*\$OPENAI_API_KEY",
    "404": "answered 404.*model's name",
    "400": "answered 400.*window",
    "hang": "did not answer within 0.5 s",
    "drip": "did not answer within 0.5 s",
    "reset": "broke off",
    "half": "broke off",
    "bad_json": "sent no",
    "wrong_schema": "sent no|empty answer",
    "empty": "empty answer",
    "error": "sent no chat completion|error within the stream.*out of memory",
    "huge": "more than 2000000 bytes",
}


async def streamed(model: ChatModel) -> list[str | Completion]:
    return [piece async for piece in model.pieces(ASK)]


def ask(model: ChatModel, by: str) -> str:
    if by == "chat":
        return asyncio.run(model.chat(ASK))[0]
    done = asyncio.run(streamed(model))[-1]
    assert isinstance(done, Completion)
    return done.text


both = pytest.mark.parametrize("by", ["chat", "stream"])


def test_a_stream_gives_pieces_and_then_the_whole():
    with Endpoint("Use purge, é 😀. [1]") as endpoint:
        *pieces, done = asyncio.run(streamed(ChatModel("m", endpoint.url)))
    assert pieces == ["Use", " purge,", " é", " 😀.", " [1]"]
    assert done == Completion("Use purge, é 😀. [1]", Usage("m", 11, 7), "stop")


def test_pieces_come_while_the_server_still_writes():
    async def first() -> str:
        model = ChatModel(base_url=endpoint.url, timeout=20)
        async with aclosing(model.pieces(ASK)) as pieces:
            return str(await anext(pieces))

    with Endpoint("one two three four", faults=["drip"]) as endpoint:
        began = time.monotonic()
        assert asyncio.run(first()) == "one"
    assert time.monotonic() - began < 10


@both
@pytest.mark.parametrize("fault", LASTING)
def test_lasting_faults_are_typed_and_name_the_endpoint(fault, by):
    with Endpoint(faults=[fault] * 9) as endpoint:
        model = ChatModel("m", endpoint.url, timeout=0.5 if fault in ("hang", "drip") else 20, max_retries=0)
        with pytest.raises(EndpointError, match=LASTING[fault]) as error:
            ask(model, by)
    assert endpoint.url in str(error.value)
    assert "'m'" in str(error.value)
    assert len(str(error.value)) < 600


def test_a_stream_that_ends_in_the_middle_is_no_answer():
    with (
        Endpoint("one two three four", faults=["end"]) as endpoint,
        pytest.raises(EndpointError, match="half a stream"),
    ):
        ask(ChatModel(base_url=endpoint.url), "stream")


@both
@pytest.mark.parametrize("faults", [["429"], ["500"], ["reset"], ["429", "500"], ["408"], ["409:0"]])
def test_passing_faults_are_tried_again(faults, by):
    with Endpoint(faults=faults) as endpoint:
        assert ask(ChatModel(base_url=endpoint.url, timeout=20), by) == "Yes. [1]"
    assert len(endpoint.requests) == len(faults) + 1


@both
@pytest.mark.parametrize("fault", ["400", "401", "404", "bad_json"])
def test_what_another_try_will_not_mend_is_asked_once(fault, by):
    with Endpoint(faults=[fault] * 3) as endpoint, pytest.raises(EndpointError):
        ask(ChatModel(base_url=endpoint.url, timeout=20), by)
    assert len(endpoint.requests) == 1


def test_once_a_piece_was_given_there_is_no_other_try():
    with Endpoint("one two three four", faults=["half"]) as endpoint, pytest.raises(EndpointError, match="broke off"):
        ask(ChatModel(base_url=endpoint.url), "stream")
    assert len(endpoint.requests) == 1


@both
def test_retry_after_is_honoured(by):
    with Endpoint(faults=["429:0.7", "429:0.7"]) as endpoint:
        began = time.monotonic()
        assert ask(ChatModel(base_url=endpoint.url, timeout=20), by) == "Yes. [1]"
    assert time.monotonic() - began >= 1.4


@both
def test_a_retry_after_that_is_too_long_ends_the_call_at_once(by):
    with Endpoint(faults=["429:50"] * 3) as endpoint:
        began = time.monotonic()
        with pytest.raises(EndpointError, match=r"answered 429.*must wait 50\.0 s, longer than what is left of 20 s"):
            ask(ChatModel(base_url=endpoint.url, timeout=20), by)
    assert time.monotonic() - began < 10
    assert len(endpoint.requests) == 1


def test_retry_after_in_all_its_forms():
    soon = format_datetime(datetime.now().astimezone() + timedelta(seconds=30))
    assert retry_after({"retry-after": soon}) == pytest.approx(30, abs=2)
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "-3"}) == 0
    assert retry_after({"retry-after": "inf"}) == float("inf")
    assert [retry_after({"retry-after": text}) for text in ("nan", "", "soon", "99 Feb")] == [None] * 4


def test_backoff_grows_parts_and_has_an_end():
    for attempt in range(40):
        waits = {backoff(attempt) for _ in range(20)}
        ceiling = min(LONGEST_BACKOFF, 0.5 * 2**attempt)
        assert all(ceiling / 2 <= wait <= ceiling for wait in waits)
        assert len(waits) > 1


def test_nobody_listens():
    with Endpoint() as endpoint:
        url = endpoint.url
    with pytest.raises(EndpointError, match=re.escape(url)):
        ask(ChatModel(base_url=url, max_retries=0, timeout=5), "chat")


@both
def test_a_server_that_does_not_stream_is_read_whole(by, monkeypatch):
    with Endpoint("Whole. [1]") as endpoint:
        monkeypatch.setattr(endpoint, "next_fault", lambda body, headers: body.pop("stream", "ok") and "ok")
        assert ask(ChatModel(base_url=endpoint.url), by) == "Whole. [1]"


def test_wrong_key_missing_model_and_a_prompt_that_is_too_long():
    with Endpoint(keys=["right"], models=["m"], window=5) as endpoint:
        for model, key, messages, said in [
            ("m", "wrong", ASK, r"answered 401: Incorrect API key provided\.; check \$OPENAI_API_KEY"),
            ("n", "right", ASK, r"answered 404: The model does not exist\.; check the model's name"),
            ("m", "right", [{"role": "user", "content": "word " * 9}], "maximum context length.*lower budget="),
        ]:
            with pytest.raises(EndpointError, match=said):
                asyncio.run(ChatModel(model, endpoint.url, api_key=key).chat(messages))
        assert asyncio.run(ChatModel("m", endpoint.url, api_key="right").chat(ASK))[0] == "Yes. [1]"


@both
def test_no_more_calls_at_once_than_allowed(by):
    async def many(model: ChatModel) -> None:
        await asyncio.gather(*(streamed(model) if by == "stream" else model.chat(ASK) for _ in range(12)))

    def slowly(_: object) -> str:
        time.sleep(0.02)
        return "Yes."

    with Endpoint(slowly) as endpoint:
        model = ChatModel(base_url=endpoint.url, concurrency=3)
        asyncio.run(many(model))
        asyncio.run(many(model))  # in another event loop
    assert len(endpoint.requests) == 24
    assert endpoint.most_busy == 3


def test_a_reader_who_takes_his_time_does_not_use_up_the_limit():
    async def slowly(model: ChatModel) -> str:
        text = ""
        async for piece in model.pieces(ASK):
            text += piece if isinstance(piece, str) else "!"
            await asyncio.sleep(0.5)
        return text

    with Endpoint("one two three") as endpoint:
        assert asyncio.run(slowly(ChatModel(base_url=endpoint.url, timeout=1.4))) == "one two three!"


@pytest.mark.parametrize(
    "arguments",
    [{"timeout": 0}, {"timeout": float("nan")}, {"max_retries": -1}, {"max_bytes": 0}, {"concurrency": 0}],
)
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(InputError, match="expected"):
        ChatModel(**arguments)


def test_the_key_is_never_shown():
    model = ChatModel(api_key="sk-secret", base_url="http://127.0.0.1:1/v1", max_retries=0)
    assert "sk-secret" not in repr(model) + model.identity
    with pytest.raises(EndpointError) as error:
        ask(model, "chat")
    assert "sk-secret" not in str(error.value)


# Fault plans

LIMIT, SLACK = 1.5, 2.0  # seconds; the slack is for a machine on which other things run
RETRIED = {"429", "500", "reset", "half"}
NO_ANSWER = {"drip", "hang", "bad_json", "wrong_schema", "empty", "huge"}


def may_answer(plan: list[str], retries: int) -> bool:
    """Whether a call that meets these faults in turn can get an answer.

    A stream that breaks off is tried again where nothing of it had arrived: on a busy machine even its first half may
    not have.
    """
    for fault in plan[: retries + 1]:
        if fault == "ok":
            return True
        name = fault.partition(":")[0]
        if name in NO_ANSWER:
            return False
    return len(plan) <= retries


def sockets() -> int:
    """Open sockets of this process; their two ends are both here."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("no /proc here")
    kinds = []
    for entry in folder.iterdir():
        with suppress(OSError):  # the entry of the folder itself is gone by now
            kinds.append(str(entry.readlink()))
    return sum(kind.startswith("socket:") for kind in kinds)


def settled(before: int) -> int:
    """The sockets that are still open when the server's threads had time to end."""
    gc.collect()
    for _ in range(100):
        if (now := sockets()) <= before:
            break
        time.sleep(0.05)
    return now


def leftover(main: Coroutine[Any, Any, Any]) -> tuple[Any, int]:
    """What ``main`` returns, and the tasks that it leaves behind."""

    async def run() -> tuple[Any, int]:
        result = await main
        await asyncio.sleep(0)
        return result, len(asyncio.all_tasks()) - 1

    return asyncio.run(run())


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_500_random_fault_plans_end_in_time_with_an_answer_or_an_error():
    chance = random.Random(20261122)
    choices = (*FAULTS, "429:0.02", "429:9", "ok", "ok", "ok", "ok")
    plans = {f"m{i}": [chance.choice(choices) for _ in range(chance.randint(1, 4))] for i in range(500)}
    retries = {model: chance.randint(0, 2) for model in plans}
    before = sockets()

    async def one(model: str, gate: asyncio.Semaphore) -> tuple[str, float]:
        async with gate:
            chat = ChatModel(model, endpoint.url, timeout=LIMIT, max_retries=retries[model])
            began = time.monotonic()
            try:
                pieces = (
                    await streamed(chat) if model.endswith(("1", "3", "5", "7", "9")) else [(await chat.chat(ASK))[0]]
                )
                text = "".join(piece for piece in pieces if isinstance(piece, str))
            except EndpointError as error:
                text = f"{type(error).__name__} {endpoint.url in str(error)}"
            return text, time.monotonic() - began

    async def everything() -> list[tuple[str, float]]:
        gate = asyncio.Semaphore(40)
        return await asyncio.gather(*(one(model, gate) for model in plans))

    with Endpoint(plans=plans | {}) as endpoint:
        ends, tasks = leftover(everything())
    assert settled(before) <= before
    assert tasks == 0
    assert max(seconds for _, seconds in ends) < LIMIT + SLACK
    answered = {model for model, (text, _) in zip(plans, ends, strict=True) if text == "Yes. [1]"}
    assert {text for text, _ in ends} == {"Yes. [1]", "EndpointError True"}
    able = {m for m, plan in plans.items() if may_answer(plan, retries[m])}
    assert answered <= able
    assert len(answered) > 0.5 * len(able)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_100_calls_with_random_cancellation_leave_the_process_clean():
    chance = random.Random(7)
    plan = [chance.choice((*FAULTS, "ok", "ok", "ok", "ok", "ok")) for _ in range(150)]
    before = sockets()

    async def one(model: ChatModel, i: int) -> str:
        task = asyncio.create_task(streamed(model) if i % 2 else model.chat(ASK))
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random())
            task.cancel()
        try:
            await task
        except (EndpointError, asyncio.CancelledError) as error:
            return type(error).__name__
        return "answer"

    async def everything() -> list[str]:
        model = ChatModel(base_url=endpoint.url, timeout=LIMIT, concurrency=30)
        ends = await asyncio.gather(*(one(model, i) for i in range(100)))
        # Nothing that was cancelled has kept its place.
        endpoint.faults.clear()
        assert set(await asyncio.gather(*(patient.chat(ASK) for _ in range(60)))) == {("Yes. [1]", Usage("p", 11, 7))}
        return ends

    with Endpoint(faults=plan) as endpoint:
        patient = ChatModel("p", endpoint.url, timeout=30, concurrency=30)
        ends, tasks = leftover(everything())
    assert settled(before) <= before
    assert tasks == 0
    assert set(ends) == {"answer", "EndpointError", "CancelledError"}


def test_a_reader_who_leaves_early_closes_the_connection():
    before = sockets()

    async def leave(model: ChatModel) -> None:
        async with aclosing(model.pieces(ASK)) as pieces:
            async for _ in pieces:
                break
        await model.chat(ASK)  # the only place is free again

    with Endpoint("one two three four", faults=["drip"]) as endpoint:
        _, tasks = leftover(leave(ChatModel(base_url=endpoint.url, concurrency=1, timeout=10)))
    assert tasks == 0
    assert settled(before) <= before

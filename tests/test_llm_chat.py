"""A model behind an endpoint, over real HTTP: every call ends in time, with an answer or an error that says why."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import random
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from endpoint import FAULTS, Endpoint, Reply, event

from ragkit.base import EndpointError, Generation, InputError, Usage
from ragkit.doctor import endpoint as doctor
from ragkit.llm.chat import ChatModel, Token, cost, endpoint_url, estimate, prices, safe_url
from ragkit.llm.local import LocalModel

pytest.importorskip("openai")  # imported now: short limits below are not about the seconds that this takes
ASK = [{"role": "user", "content": "How?"}]
LASTING = {
    "429": "answered 429.*slow down",
    "500": "answered 500",
    "401": r"answered 401: Incorrect API key.*\$OPENAI_API_KEY",
    "404": r"answered 404: The model does not exist.*model's name.*/v1",
    "400": r"answered 400.*maximum context length.*lower budget=",
    "hang": "did not answer within 0.5 s",
    "drip": "did not answer within 0.5 s",
    "429:50": "did not answer within 0.5 s.*429.*raise timeout=",
    "reset": "broke off",
    "half": "broke off",
    "bad_json": "sent no JSON but",
    "wrong_schema": "sent no|empty answer|half a stream",
    "empty": "empty answer|half a stream",
    "error": "sent no chat completion.*out of memory|error within the stream: out of memory",
}
SHORT = ("hang", "drip", "429:50")


async def streamed(model: ChatModel, messages: list[dict[str, str]] = ASK) -> list[str | Generation]:
    return [piece async for piece in model.pieces(messages)]


def ask(model: ChatModel, by: str) -> str:
    if by == "chat":
        return asyncio.run(model.chat(ASK))[0]
    done = asyncio.run(streamed(model))[-1]
    assert isinstance(done, Generation)
    return done.text


both = pytest.mark.parametrize("by", ["chat", "stream"])


def test_a_stream_gives_pieces_and_then_the_whole():
    with Endpoint("Use purge, é 😀. [1]") as endpoint:
        *pieces, done = asyncio.run(streamed(ChatModel("m", endpoint.url)))
    assert pieces == ["Use", " purge,", " é", " 😀.", " [1]"]
    assert done == Generation("Use purge, é 😀. [1]", usage=Usage("m", 11, 7), writer="m")


def test_pieces_come_while_the_server_still_writes():
    async def first() -> str:
        async with aclosing(ChatModel(base_url=endpoint.url, timeout=20).pieces(ASK)) as pieces:
            return str(await anext(pieces))

    with Endpoint("one two three four", faults=["drip"]) as endpoint:  # it never ends
        assert asyncio.run(first()) == "one"


@both
@pytest.mark.parametrize("fault", LASTING)
def test_lasting_faults_are_typed_and_name_the_endpoint(fault, by):
    with Endpoint(faults=[fault] * 9) as endpoint:
        model = ChatModel("m", endpoint.url, timeout=0.5 if fault in SHORT else 20, max_retries=fault in SHORT)
        with pytest.raises(EndpointError, match=LASTING[fault]) as error:
            ask(model, by)
    assert endpoint.url in str(error.value)
    assert "'m'" in str(error.value)
    assert len(str(error.value)) < 600


def test_a_stream_that_ends_in_the_middle_is_no_answer():
    with (
        Endpoint("one two three four", faults=["end"]) as endpoint,
        pytest.raises(EndpointError, match=r"half a stream: it ended after \d+ characters"),
    ):
        ask(ChatModel(base_url=endpoint.url), "stream")


@both
@pytest.mark.parametrize("faults", [["429"], ["429:0.1"], ["reset", "500"]])
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


def test_nobody_listens():
    with Endpoint() as endpoint:
        url = endpoint.url
    with pytest.raises(EndpointError, match=re.escape(url) + ".*is it running"):
        ask(ChatModel(base_url=url, max_retries=0, timeout=5), "chat")


def test_connections_are_used_again_within_an_event_loop():
    async def many(model: ChatModel) -> None:
        for _ in range(4):
            await model.chat(ASK)

    with Endpoint() as endpoint:
        model = ChatModel(base_url=endpoint.url)
        asyncio.run(many(model))
        asyncio.run(many(model))  # in another event loop
    assert len(endpoint.requests) == 8
    assert endpoint.connections == 2


def test_a_reader_who_takes_his_time_does_not_use_up_the_limit():
    async def slowly(model: ChatModel) -> str:
        text = ""
        async for piece in model.pieces(ASK):
            text += piece if isinstance(piece, str) else "!"
            await asyncio.sleep(0.5)
        return text

    with Endpoint("one two three") as endpoint:
        assert asyncio.run(slowly(ChatModel(base_url=endpoint.url, timeout=1.4))) == "one two three!"


# Addresses and secrets


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1"),
        ("http://[::1]:11434/", "http://[::1]:11434/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("https://host/api", "https://host/api"),
        (" https://app:secret@host ", "https://app:secret@host/v1"),
        ("https://host?api-version=1", "https://host/v1?api-version=1"),
    ],
)
def test_an_address_without_a_path_gets_v1(address, url):
    assert endpoint_url(address) == url


def test_doctor_shows_the_address_that_is_called(monkeypatch):
    with Endpoint() as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url.removesuffix("/v1"))
        assert doctor().text.startswith(f"{endpoint.url} accepts")


@pytest.mark.parametrize("address", ["localhost:11434", "host/v1", "ftp://host/v1", "http://", "https://host:port/v1"])
def test_what_is_no_address_is_refused(address, monkeypatch):
    with pytest.raises(InputError, match=rf"'{re.escape(address)}' is not the address.*expected http"):
        ChatModel("m", address)
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    assert doctor().state == "fail"


@pytest.mark.parametrize(
    "url",
    [
        "http://app:Tr0ub4dor@host/v1",
        "http://app:Tr0/b?4#Tr0@host/v1?key=Tr0ub4dor",
        "http://host/v1?api_key=Tr0ub4dor",
    ],
)
def test_the_secrets_of_an_address_are_never_shown(url):
    assert safe_url(url) == "http://host/v1"


def test_keys_and_passwords_are_sent_and_never_shown(monkeypatch):
    def script(body: dict[str, Any]) -> Reply:
        return 500, "application/json", b'{"error": {"message": "no"}}'

    with Endpoint(script=script) as endpoint:
        url = endpoint.url.replace("//", "//app:Tr0ub4dor@") + "?key=s3cret"
        model = ChatModel("m", url, api_key="sk-secret", max_retries=0)
        with pytest.raises(EndpointError) as error:
            ask(model, "chat")
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        shown = [repr(model), str(vars(model)["base_url"]), model.identity, str(error.value), str(doctor())]
    assert not re.search("Tr0ub4dor|s3cret|sk-secret", " ".join(shown))
    assert all(endpoint.url in text for text in shown)
    assert endpoint.paths == ["/v1/chat/completions?key=s3cret"]
    assert endpoint.headers[0]["authorization"].startswith("Basic ")


def test_the_identity_has_every_setting_that_can_change_a_text():
    url = "http://127.0.0.1:1/v1"
    models = [
        ChatModel("m", url),
        ChatModel("n", url),
        ChatModel("m", url + "/other"),
        ChatModel("m", url, temperature=None),
        ChatModel("m", url, max_tokens=5),
    ]
    assert len({model.identity for model in models}) == len(models)
    assert ChatModel("m", url, timeout=3, api_key="other").identity == models[0].identity


# Replies of other shapes


def completion(content: Any, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}


def delta(content: Any = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": content, **more}, "finish_reason": finish}]}


def sends(reply: Any, kind: str = "application/json") -> Callable[[dict[str, Any]], Reply]:
    return lambda _: (200, kind, reply if isinstance(reply, bytes) else json.dumps(reply).encode())


def events(*each: Any, kind: str = "text/event-stream") -> Callable[[dict[str, Any]], Reply]:
    return sends(b": a comment\r\n\r\n" + b"".join(map(event, each)), kind)


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Yes. [1]"}]
END = delta(finish="stop")
YES = {
    "parts": ("chat", sends(completion(PARTS))),
    "reasoning_content": ("chat", sends(completion("Yes. [1]", reasoning_content="Hm."))),
    "no usage, no finish_reason": (
        "chat",
        sends({"choices": [{"message": {"content": " Yes. [1]\n"}}], "usage": None}),
    ),
    "whole instead of a stream": ("stream", sends(completion("Yes. [1]"), "application/json; charset=utf-8")),
    "an event without choices": ("stream", events({"choices": []}, delta("Yes. "), delta("[1]"), END, "[DONE]")),
    "choices null": ("stream", events(delta("Yes. [1]"), END, {"choices": None, "usage": {"prompt_tokens": 3}})),
    "no choices": ("stream", events(delta("Yes. [1]"), END, {"usage": {"prompt_tokens": 3}}, "[DONE]")),
    "parts in a stream": ("stream", events(delta(PARTS[:1]), delta(PARTS[1:]), END)),
    "reasoning first": ("stream", events(delta(None, reasoning_content="Hm."), delta("Yes. [1]"), END)),
    "events as JSON lines": ("stream", events(delta("Yes. [1]"), END, kind="application/x-ndjson")),
}
NO = {
    "cut while thinking": (sends(completion(None, "length", reasoning_content="Hm")), "length.*raise max_tokens="),
    "only thoughts": (sends(completion("<think>Hm. [1]", "length")), "empty.*length, only thoughts.*raise max_tokens="),
    "a tool call": (sends(completion(None, "tool_calls", tool_calls=[{}])), "empty answer.*tool_calls.*another model"),
    "a filter": (sends(completion("", "content_filter")), "empty answer.*content_filter"),
    "a refusal": (sends(completion(None, refusal="I can't help with that.")), "refusal.*help with that"),
    "no choices": (sends({"choices": []}), "(empty answer.*no choices|half a stream).*OpenAI-compatible"),
    "an error": (sends({"error": {"message": "model is loading"}}), "no chat completion but.*model is loading"),
    "another schema": (sends({"message": {"content": "Yes."}}), "no chat completion but.*Yes"),
    "HTML": (sends(b"<html>Sign in</html>", "text/html"), "no (chat completion|JSON) but.*Sign in"),
    "no dict": (sends([1]), r"no chat completion but \[1\]"),
    "null": (sends(None), "no chat completion but None"),
    "no text": (sends(b"\xff"), "sent .*decode"),
    "odd content": (sends(completion({"a": 1})), "no chat completion but"),
    "odd usage": (sends({**completion("Yes."), "usage": {"prompt_tokens": "many"}}), "no chat completion but"),
}


@pytest.mark.parametrize("case", YES)
def test_an_answer_in_another_shape_is_read(case):
    by, script = YES[case]
    with Endpoint(script=script) as endpoint:
        assert ask(ChatModel("m", endpoint.url), by) == "Yes. [1]"


@both
@pytest.mark.parametrize("case", NO)
def test_what_is_no_answer_is_quoted_with_what_to_do(case, by):
    script, words = NO[case]
    with Endpoint(script=script) as endpoint, pytest.raises(EndpointError, match=words) as error:
        ask(ChatModel("m", endpoint.url), by)
    assert len(str(error.value)) < 400


def test_an_answer_that_was_cut_says_so():
    with Endpoint(script=events(delta("Use"), delta("", "length"))) as endpoint:
        done = asyncio.run(streamed(ChatModel("m", endpoint.url)))[-1]
    reason = "the model ran out of room, so the answer is cut"
    assert done == Generation("Use", usage=Usage("m"), reason=reason, writer="m")


@both
def test_half_surrogates_can_be_written_to_a_file(by):
    script = sends(b'{"choices": [{"message": {"content": "a \\ud83d b \\ud83d\\ude00"}}]}')
    with Endpoint(script=script) as endpoint:
        assert ask(ChatModel("m", endpoint.url), by).encode().decode() == "a \ufffd b 😀"


# Models that think aloud

THOUGHTS = "<think>\nSource [3]? No.\n1. [2] fits.\n</think>\n\n"


@pytest.mark.parametrize("thoughts", [THOUGHTS, THOUGHTS.replace("think>", "thinking>")])
def test_thoughts_are_no_part_of_the_answer(thoughts):
    with Endpoint(thoughts + "It is [2]. Or <b>.") as endpoint:
        model = ChatModel("m", endpoint.url)
        assert ask(model, "chat") == "It is [2]. Or <b>."
        *pieces, done = asyncio.run(streamed(ChatModel("m", endpoint.url)))
    assert "".join(map(str, pieces)) == done.text == "It is [2]. Or <b>."
    assert len(pieces) == 5


def test_thoughts_without_an_opening_tag_are_hidden_once_the_model_is_known_to_think():
    with Endpoint(THOUGHTS.removeprefix("<think>\n") + "It is [2].") as endpoint:
        model = ChatModel("m", endpoint.url)
        *pieces, done = asyncio.run(streamed(model))
        assert done.text == "It is [2]."
        assert pieces[0] == "Source"  # nobody can know
        *pieces, done = asyncio.run(streamed(model))
        assert "".join(map(str, pieces)) == done.text == "It is [2]."
        endpoint.answer = "No thoughts now."
        *pieces, done = asyncio.run(streamed(model))
        assert "".join(map(str, pieces)) == done.text == "No thoughts now."


# What a model refuses


def refuses(message: str, takes: Callable[[dict[str, Any]], bool], **error: Any) -> Callable[[dict[str, Any]], Reply]:
    """An endpoint that answers 400 with ``message`` where it does not take the request."""

    def script(body: dict[str, Any]) -> Reply:
        if not takes(body):
            return 400, "application/json", json.dumps({"error": {"message": message, **error}}).encode()
        return (events(delta("Yes."), END) if body.get("stream") else sends(completion("Yes.")))(body)

    return script


REFUSALS = {
    "temperature": refuses(
        "Unsupported value: 0.0 with this model.",
        lambda b: "temperature" not in b,
        param="temperature",
    ),
    "stream_options": refuses(
        "[{'loc': ['body', 'stream_options'], 'msg': 'Extra inputs are not permitted'}]",
        lambda b: "stream_options" not in b,
    ),
    "max_tokens": refuses(
        "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        lambda b: "max_tokens" not in b and b["max_completion_tokens"] == 50,
    ),
    "system message": refuses("System role not supported", lambda b: b["messages"] == MERGED),
    "response_format": refuses(
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        lambda b: "response_format" not in b and b["stop"] == ["\n\n"],
    ),
    "everything": refuses(
        "temperature, max_tokens, stream_options and 'messages[0].role' are not supported",
        lambda b: not {"temperature", "max_tokens", "stream_options"} & set(b) and b["messages"] == MERGED,
    ),
}
SYSTEM = [{"role": "system", "content": "Be short."}, *ASK]
MERGED = [{"role": "user", "content": "Be short.\n\nHow?"}]


@pytest.mark.parametrize("case", REFUSALS)
def test_what_a_model_refuses_is_left_out_from_then_on_and_logged_once(case, caplog):
    with Endpoint(script=REFUSALS[case]) as endpoint:
        extra = {"response_format": {"type": "json_schema"}, "stop": ["\n\n"]}
        model = ChatModel("m", endpoint.url, max_tokens=50, max_retries=0, extra=extra)
        for _ in range(2):
            done = asyncio.run(streamed(model, SYSTEM))[-1]
            assert isinstance(done, Generation)
            assert done.text == "Yes."
        assert asyncio.run(model.chat(SYSTEM))[0] == "Yes."
    refusals = 4 if case == "everything" else 1
    assert len(endpoint.requests) == 3 + refusals
    logged = [record.getMessage() for record in caplog.records if record.name == "ragkit.llm.chat"]
    assert len(logged) == refusals
    assert case == "everything" or f"refuses {case}" in logged[0]


def test_calls_under_way_at_once_log_a_refusal_once(caplog):
    async def three(model: ChatModel) -> None:
        assert {text for text, _ in await asyncio.gather(*(model.chat(ASK) for _ in range(3)))} == {"Yes."}

    with Endpoint(script=REFUSALS["temperature"]) as endpoint:
        asyncio.run(three(ChatModel("m", endpoint.url, max_retries=0)))
    assert len(endpoint.requests) == 6
    assert len([record for record in caplog.records if record.name == "ragkit.llm.chat"]) == 1


def test_another_bad_request_is_asked_once_and_without_a_temperature_none_is_sent():
    script = refuses("max_tokens exceeds the context length", lambda _: False)
    with Endpoint(script=script) as endpoint, pytest.raises(EndpointError, match="answered 400: max_tokens exceeds"):
        ask(ChatModel("m", endpoint.url, temperature=None), "chat")
    assert endpoint.requests == [{"model": "m", "messages": ASK}]


# Other parameters, and log-probabilities


def test_extra_parameters_are_sent_and_those_of_a_call_come_before_those_of_the_model():
    with Endpoint("Yes.") as endpoint:
        model = ChatModel("m", endpoint.url, extra={"stop": ["."], "seed": 1})
        asyncio.run(model.chat(ASK, {"seed": 2, "max_tokens": 5}))
        asyncio.run(model.chat(ASK))
    sent = [{name: body.get(name) for name in ("stop", "seed", "max_tokens")} for body in endpoint.requests]
    assert sent == [{"stop": ["."], "seed": 2, "max_tokens": 5}, {"stop": ["."], "seed": 1, "max_tokens": None}]
    assert model.identity != ChatModel("m", endpoint.url).identity


def test_log_probabilities_are_those_of_each_token_and_may_be_missing():
    two, one = {"token": "2", "logprob": -0.5}, {"token": "1", "logprob": -1}
    reply = completion("2")
    with Endpoint(script=sends(reply)) as endpoint:
        assert asyncio.run(ChatModel("m", endpoint.url).chat_with_logprobs(ASK))[:2] == ("2", [])
    reply["choices"][0]["logprobs"] = {"content": [{**two, "top_logprobs": [two, one]}]}
    with Endpoint(script=sends(reply)) as endpoint:
        text, tokens, _ = asyncio.run(ChatModel("m", endpoint.url).chat_with_logprobs(ASK))
    assert (text, tokens) == ("2", [Token("2", -0.5, {"2": -0.5, "1": -1.0})])
    assert endpoint.requests[0]["logprobs"] is True


# Fault plans

LIMIT, SLACK = 3.0, 5.0  # seconds; the slack is for a machine on which other things run


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
        for _ in range(100):  # a client whose model is gone closes itself
            if len(asyncio.all_tasks()) == 1:
                break
            await asyncio.sleep(0.01)
        return result, len(asyncio.all_tasks()) - 1

    return asyncio.run(run())


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_100_calls_with_random_faults_and_cancellation_end_in_time_and_leave_the_process_clean():
    chance = random.Random(7)
    plan = [chance.choice((*FAULTS, "ok", "ok", "ok", "ok", "ok")) for _ in range(150)]
    before = sockets()

    async def one(model: ChatModel, i: int) -> str:
        task = asyncio.create_task(streamed(model) if i % 2 else model.chat(ASK))
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random())
            task.cancel()
        try:
            await asyncio.wait_for(task, LIMIT + SLACK)
        except (EndpointError, asyncio.CancelledError) as error:
            return type(error).__name__
        return "answer"

    async def everything() -> list[str]:
        model = ChatModel(base_url=endpoint.url, timeout=LIMIT)
        ends = await asyncio.gather(*(one(model, i) for i in range(100)))
        # Nothing that was cancelled has kept its place.
        endpoint.faults.clear()
        patient = ChatModel("p", endpoint.url, timeout=30)
        assert set(await asyncio.gather(*(patient.chat(ASK) for _ in range(60)))) == {("Yes. [1]", Usage("p", 11, 7))}
        return ends

    with Endpoint(faults=plan) as endpoint:
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
        await model.chat(ASK)

    with Endpoint("one two three four", faults=["drip"]) as endpoint:
        _, tasks = leftover(leave(ChatModel(base_url=endpoint.url, timeout=10)))
    assert tasks == 0
    assert settled(before) <= before


# What a call costs


def test_a_call_costs_what_it_reads_and_what_it_writes():
    price = prices()["gpt-4o-mini"]
    assert cost(Usage("gpt-4o-mini", 1_000_000, 0)) == price.usd
    assert cost(Usage("gpt-4o-mini", 0, 1_000_000)) == price.usd_output
    assert cost(Usage("gpt-4o-mini-2024-07-18", 10, 10)) == cost(Usage("gpt-4o-mini", 10, 10))
    assert cost(Usage("text-embedding-3-small", 1_000_000)) == prices()["text-embedding-3-small"].usd


@pytest.mark.parametrize("usage", [Usage(), Usage("llama3.2", 9, 9), Usage("gpt-4o-mini"), Usage("gpt-4o-minimal", 9)])
def test_what_is_not_known_is_not_free(usage):
    assert cost(usage) is None


def test_a_call_above_its_limit_is_refused_before_anything_is_sent():
    messages = [{"role": "user", "content": "word " * 1000}]
    with Endpoint() as endpoint:
        model = ChatModel("gpt-4o-mini", endpoint.url, max_tokens=100, max_cost=0.0002)
        with pytest.raises(InputError, match=r"about 1,000 tokens to read, at most 100 to write.*\$0\.0002: nothing"):
            asyncio.run(model.chat(messages))
        with pytest.raises(InputError):
            asyncio.run(ChatModel("gpt-4o-mini", endpoint.url, max_cost=math.nan).chat(messages))
        assert endpoint.requests == []
        model.max_cost = 0.00022
        assert asyncio.run(model.chat(messages))[0] == "Yes. [1]"


def test_a_limit_bounds_what_is_written_and_needs_a_price():
    with Endpoint() as endpoint:
        asyncio.run(ChatModel("gpt-4o-mini", endpoint.url, max_cost=1).chat([{"role": "user", "content": "Why?"}]))
    assert endpoint.requests[0]["max_tokens"] == 1000
    with pytest.raises(InputError, match=r"the price of 'llama3\.2' is not known: expected one of .*gpt-4o-mini"):
        ChatModel("llama3.2", endpoint.url, max_cost=1)
    assert ChatModel(server=LocalModel(), max_cost=0).max_tokens is None


def test_an_estimate_counts_tokens_and_says_what_it_does_not_know():
    texts = ["How do I stop a worker?"] * 3
    assert str(estimate("text-embedding-3-large", texts)).endswith("3 texts, about 21 tokens, about $2.7e-06")
    assert "price not known" in str(estimate("m", texts))
    assert estimate("text-embedding-3-large", []).usd == 0


def test_every_price_has_its_day_and_is_of_one_kind():
    for price in prices().values():
        assert isinstance(price.as_of, date)
        assert (price.usd_output is None) != (price.dimensions is None)
        assert price.usd > 0

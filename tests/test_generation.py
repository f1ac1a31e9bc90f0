"""A model behind an endpoint: what it is told, what it cites, and that every call ends."""

from __future__ import annotations

import asyncio
import random
import re
import time

import pytest
from endpoint import FAULTS, Endpoint

from ragkit.base import Chunk, Context, EndpointError, Generation, Hit, InputError, Usage
from ragkit.context import build_context
from ragkit.extractive import Extractive
from ragkit.generation import OpenAIChat, WithFallback, default_llm, parse_citations
from ragkit.prompts import ANSWER, NOT_FOUND


def hit(text: str, doc_id: str = "a", start: int = 0, score: float = 1.0) -> Hit:
    return Hit(Chunk(doc_id, start, start + len(text), text), score)


def answer(llm: Extractive | OpenAIChat | WithFallback, question: str, context: Context) -> Generation:
    return asyncio.run(llm.generate(question, context))


CONTEXT = build_context([hit("Use purge."), hit("Use revoke.", "b")])


def test_openai_chat_answers_with_citations_and_usage():
    with Endpoint("Use purge [1]. Or revoke [2, 1]. Not [7].") as endpoint:
        said = answer(OpenAIChat("m", endpoint.url, api_key="k"), "How?", CONTEXT)
    assert [(c.number, c.chunk.doc_id) for c in said.citations] == [(1, "a"), (2, "b")]
    assert said.usage == Usage("m", 11, 7)
    assert endpoint.requests[0]["messages"] == ANSWER.messages("How?", CONTEXT.text)
    assert endpoint.headers[0]["authorization"] == "Bearer k"


def test_openai_chat_abstains_in_our_words():
    with Endpoint(f"{NOT_FOUND} Sorry!") as endpoint:
        said = answer(OpenAIChat(base_url=endpoint.url), "How?", CONTEXT)
        assert (said.text, said.abstained, said.citations) == (NOT_FOUND, True, ())
        assert answer(OpenAIChat(base_url=endpoint.url), "How?", Context("", (), 0)).abstained
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("faults", [["429"], ["500"], ["reset"], ["429", "500"]])
def test_passing_faults_are_tried_again(faults):
    with Endpoint(faults=faults) as endpoint:
        assert answer(OpenAIChat(base_url=endpoint.url, timeout=20), "How?", CONTEXT).text == "Yes. [1]"
    assert len(endpoint.requests) == len(faults) + 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("429", "answered 429.*slow down"),
        ("500", "answered 500"),
        ("401", r"answered 401.*\$OPENAI_API_KEY"),
        ("404", "answered 404.*model's name"),
        ("400", "answered 400.*window"),
        ("hang", "did not answer within 0.5 s"),
        ("reset", "broke off"),
        ("half", "broke off"),
        ("bad_json", "sent no chat completion"),
        ("wrong_schema", "sent no chat completion"),
        ("empty", "empty answer"),
        ("huge", "more than 2000000 bytes"),
    ],
)
def test_lasting_faults_are_typed_and_name_the_endpoint(fault, message):
    with Endpoint(faults=[fault] * 9) as endpoint:
        llm = OpenAIChat("m", endpoint.url, timeout=0.5 if fault == "hang" else 20, max_retries=0)
        with pytest.raises(EndpointError, match=message) as error:
            answer(llm, "How?", CONTEXT)
    assert endpoint.url in str(error.value)
    assert "'m'" in str(error.value)


def test_nobody_listens():
    with Endpoint() as endpoint:
        url = endpoint.url
    with pytest.raises(EndpointError, match=re.escape(url)):
        answer(OpenAIChat(base_url=url, max_retries=0, timeout=5), "How?", CONTEXT)


def test_a_retry_after_longer_than_the_limit_does_not_hold_the_call():
    with Endpoint(faults=["429"] * 3, retry_after="50") as endpoint:
        began = time.monotonic()
        with pytest.raises(EndpointError, match="did not answer within"):
            answer(OpenAIChat(base_url=endpoint.url, timeout=0.5), "How?", CONTEXT)
        assert time.monotonic() - began < 2


def test_random_fault_plans_end_in_time_and_leave_no_task():
    """40 calls at once over one server; a third of them are cancelled on the way."""
    chance = random.Random(7)
    plan = [chance.choice((*FAULTS, "ok", "ok", "ok")) for _ in range(60)]

    async def one(llm: OpenAIChat) -> str:
        task = asyncio.create_task(llm.generate("How?", CONTEXT))
        if chance.random() < 0.33:
            await asyncio.sleep(chance.random() * 0.3)
            task.cancel()
        try:
            return (await task).text
        except (EndpointError, asyncio.CancelledError) as error:
            return type(error).__name__

    async def everything(url: str) -> tuple[list[str], float, int]:
        began = time.monotonic()
        ends = await asyncio.gather(*(one(OpenAIChat(base_url=url, timeout=1.5)) for _ in range(40)))
        took = time.monotonic() - began
        await asyncio.sleep(0.05)
        return ends, took, len(asyncio.all_tasks())

    with Endpoint(faults=plan) as endpoint:
        ends, took, tasks = asyncio.run(everything(endpoint.url))
    assert set(ends) <= {"Yes. [1]", "EndpointError", "CancelledError"}
    assert took < 8
    assert tasks == 1


def test_default_llm_follows_the_environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(default_llm(), Extractive)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_MODEL", "tiny")
    llm = default_llm()
    assert isinstance(llm, OpenAIChat)
    assert (llm.base_url, llm.model) == ("http://127.0.0.1:1/v1", "tiny")
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert isinstance(default_llm(), OpenAIChat)


def test_fallback_answers_and_says_why():
    with Endpoint(faults=["500"]) as endpoint:
        llm = WithFallback(OpenAIChat(base_url=endpoint.url, max_retries=0), Extractive(threshold=0))
        said = answer(llm, "How do I purge?", CONTEXT)
        assert said.text.startswith("Use purge. [1]")
        assert endpoint.url in said.reason
        assert "answered 500" in said.reason
        assert answer(llm, "How do I purge?", CONTEXT) == Generation(
            "Yes. [1]", parse_citations("[1]", CONTEXT), Usage(llm.primary.model, 11, 7)
        )


def test_the_key_is_never_shown():
    llm = OpenAIChat(api_key="sk-secret", base_url="http://127.0.0.1:1/v1", max_retries=0)
    assert "sk-secret" not in repr(llm) + llm.identity
    with pytest.raises(EndpointError) as error:
        answer(llm, "How?", CONTEXT)
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize("arguments", [{"timeout": 0}, {"max_retries": -1}, {"max_bytes": 0}])
def test_openai_chat_refuses_settings_out_of_range(arguments):
    with pytest.raises(InputError, match="expected"):
        OpenAIChat(**arguments)


@pytest.mark.parametrize("llm", [Extractive(), OpenAIChat(base_url="http://127.0.0.1:1/v1")])
def test_a_blank_question_is_refused(llm):
    with pytest.raises(InputError, match="question"):
        answer(llm, " ", CONTEXT)

"""Whole questions against an endpoint that fails in every way: answered, answered by the fallback, or a typed error."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing

import pytest
from endpoint import FAULTS, Endpoint
from test_endpoint import SLACK, leftover, settled, sockets

from ragkit.base import Answer, Chunk, EndpointError, Hit, Retriever
from ragkit.generation import OpenAIChat, WithFallback
from ragkit.generation.extractive import Extractive
from ragkit.generation.prompts import NOT_FOUND
from ragkit.pipeline import RAGPipeline

pytest.importorskip("openai")
HITS = [Hit(Chunk(f"d{i}", 0, len(text), text), 1.0) for i, text in enumerate(("Purge with purge.", "Wait for it."))]


LONG = 5.0  # seconds: 100 questions at once share one core with retrieval and with the server


class Fixed(Retriever):
    def _search(self, query: str, k: int) -> list[Hit]:
        return HITS[:k]


class Nothing(Retriever):
    def _search(self, query: str, k: int) -> list[Hit]:
        return []


async def ask(rag: RAGPipeline, streamed: bool) -> Answer:
    if not streamed:
        return await rag.query("How do I purge?")
    async with aclosing(rag.stream("How do I purge?")) as pieces:
        return [piece async for piece in pieces if isinstance(piece, Answer)][-1]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fallback", [False, True])
def test_100_questions_with_random_cancellation_leave_the_process_clean(fallback):
    chance = random.Random(8 + fallback)
    plan = [chance.choice((*FAULTS, *["ok"] * 8)) for _ in range(250)]
    before = sockets()

    async def one(rag: RAGPipeline, streamed: bool) -> str:
        task = asyncio.create_task(ask(rag, streamed))
        if chance.random() < 0.3:
            await asyncio.sleep(2 * chance.random())
            task.cancel()
        try:
            answer = await task
        except (EndpointError, asyncio.CancelledError) as error:
            return type(error).__name__
        return "fallback" if "answered by Extractive, because" in answer.reason else answer.text

    async def everything(url: str) -> list[str]:
        llm = OpenAIChat(base_url=url, timeout=LONG, concurrency=50, max_retries=1)
        rag = RAGPipeline(Fixed(), None, WithFallback(llm, Extractive(threshold=0)) if fallback else llm)
        return await asyncio.gather(*(one(rag, i % 2 == 0) for i in range(100)))

    with Endpoint(faults=plan) as endpoint:
        began = time.monotonic()
        ends, tasks = leftover(everything(endpoint.url))
        took = time.monotonic() - began
    assert settled(before) <= before
    assert tasks == 0
    assert took < LONG + 1 + 2 * SLACK
    assert set(ends) == {"Yes. [1]", "CancelledError", "fallback" if fallback else "EndpointError"}


# Whatever the settings, a reader gets words: an error that says what to do, or an answer that says who gave it.
BAD = {
    "no endpoint": ({}, {}, "broke off"),
    "wrong key": ({"keys": ["right"]}, {"api_key": "wrong"}, r"check \$OPENAI_API_KEY"),
    "no such model": ({"models": ["other"]}, {"model": "m"}, "'m'.*The model does not exist.*check the model's name"),
    "window too small": ({"window": 20}, {}, "maximum context length.*lower budget="),
    "prose that is no JSON": ({"faults": ["bad_json"]}, {}, "sent no chat completion"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("streamed", [False, True])
def test_bad_settings_are_an_error_in_words_or_a_visible_fallback(case, streamed):
    served, settings, message = BAD[case]
    with Endpoint(**served) as endpoint:
        url = "http://127.0.0.1:9/v1" if case == "no endpoint" else endpoint.url
        message = "broke off|no piece of" if "prose" in case and streamed else message
        llm = OpenAIChat(settings.get("model"), url, api_key=settings.get("api_key"), max_retries=0, timeout=20)
        with pytest.raises(EndpointError, match=message) as error:
            asyncio.run(ask(RAGPipeline(Fixed(), None, llm), streamed))
        assert url in str(error.value)
        endpoint.faults = list(served.get("faults", ()))
        both = RAGPipeline(Fixed(), None, WithFallback(llm, Extractive(threshold=0)))
        answer = asyncio.run(ask(both, streamed))
    assert answer.text.startswith("Purge with purge. [1]")
    assert answer.reason.startswith(f"answered by Extractive, because {url}")


@pytest.mark.parametrize("streamed", [False, True])
def test_without_hits_nobody_is_asked(streamed):
    with Endpoint() as endpoint:
        answer = asyncio.run(ask(RAGPipeline(Nothing(), None, OpenAIChat(base_url=endpoint.url)), streamed))
    assert (answer.text, answer.abstained, answer.hits) == (NOT_FOUND, True, ())
    assert "no sources" in answer.reason
    assert endpoint.requests == []

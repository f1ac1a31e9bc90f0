"""A short context, and an answer that a model can only choose."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from endpoint import Endpoint, Reply

from ragkit.base import Chunk, Context, Generation, Hit, InputError, StreamingLLM, identity_of
from ragkit.generation import OpenAIChat, stream_answer
from ragkit.generation.context import build_context
from ragkit.generation.prompts import NOT_FOUND
from ragkit.generation.small import Focused, QuotingChat
from ragkit.tokens import minilm_tokenizer

GUIDE = (
    "# Purging\n\nPurge the queue with `celery purge`.\n\n# Stopping\n\nStop a worker with TERM.\n\n# Colours\n\nRed."
)
QUESTION = "How do I stop a worker?"


def words_in_common(question: str, chunks: Sequence[Chunk]) -> np.ndarray:
    words = set(re.findall(r"\w+", question.lower()))
    return np.array([len(words & set(re.findall(r"\w+", chunk.text.lower()))) for chunk in chunks], dtype=np.float32)


def context(*texts: str) -> Context:
    return build_context([Hit(Chunk(f"d{i}", 0, len(text), text), 1.0) for i, text in enumerate(texts)])


class Reads:
    """An LLM that keeps the context that it is given."""

    async def generate(self, question: str, context: Context) -> Generation:
        self.context = context
        return Generation("Yes.")


def read(focused_budget: int, *texts: str) -> list[Chunk]:
    llm = Reads()
    asyncio.run(Focused(llm, words_in_common, budget=focused_budget).generate(QUESTION, context(*texts)))
    return [hit.chunk for hit in llm.context.hits]


@pytest.mark.parametrize("budget", [1, 5, 8, 20, 300])
def test_the_best_passages_within_the_budget_each_at_its_place_in_the_document(budget):
    other = "Nothing about it here. " * 30
    chunks = read(budget, other, GUIDE)
    assert 0 < sum(minilm_tokenizer().count(chunk.text) for chunk in chunks) <= budget
    for chunk in chunks:
        assert {"d0": other, "d1": GUIDE}[chunk.doc_id][chunk.start : chunk.end] == chunk.text
    if budget > 5:
        assert (chunks[0].text, chunks[0].section) == ("Stop a worker with TERM.", ("Stopping",))


def test_without_sources_there_is_nothing_to_narrow():
    assert read(300) == []


def test_a_budget_below_1_and_a_blank_question_are_refused():
    with pytest.raises(InputError, match="budget is 0: expected a whole number, 1 or more"):
        Focused(Reads(), words_in_common, budget=0)
    for llm in (Focused(Reads(), words_in_common), QuotingChat("m", "http://localhost:1")):
        with pytest.raises(InputError, match="question"):
            asyncio.run(llm.generate(" ", context(GUIDE)))


def test_a_narrowed_answer_streams_and_cites_the_passage():
    async def pieces() -> list[object]:
        llm = Focused(OpenAIChat("m", endpoint.url), words_in_common)
        assert isinstance(llm, StreamingLLM)
        return [piece async for piece in stream_answer(llm, QUESTION, context(GUIDE))]

    with Endpoint("Send TERM [1].") as endpoint:
        *shown, done = asyncio.run(pieces())
    assert shown == ["Send", " TERM", " [1]."]
    assert [c.chunk.text for c in done.citations] == ["Stop a worker with TERM."]


class Store:
    identity = "store"

    def maxsim(self, question: str, chunks: Sequence[Chunk]) -> np.ndarray:
        return words_in_common(question, chunks)


def test_what_can_change_an_answer_is_in_the_identity():
    models = [
        Focused(QuotingChat(name, "http://h"), Store().maxsim, budget=b) for name, b in (("a", 1), ("b", 1), ("a", 2))
    ]
    assert len(set(map(identity_of, models))) == 3


# Choosing


def chooses(best: str, logprobs: bool = True, prefers_first: float = 0.0) -> Any:
    """A model that knows a little that the source with ``best`` in it answers, and loves the first place more.

    Without a question, only the place counts. It replies 0 where no source has ``best`` in it.
    """

    def script(body: dict[str, Any]) -> Reply:
        text = body["messages"][-1]["content"]
        places = {int(n): source for n, source in re.findall(r"^\[(\d)\] (.*)$", text, re.MULTILINE)}
        scores = {n: -2.0 - prefers_first * n for n in range(1, len(places) + 1)} | {0: -20.0}
        if "Question: N/A" not in text:
            right = next((n for n, source in places.items() if best in source), 0)
            scores[right] += 0.5 if right else 20
        top = max(scores, key=lambda n: scores[n])
        tokens = [{"token": '{"source": ', "logprob": 0.0, "top_logprobs": []}]
        others = [{"token": str(n), "logprob": value} for n, value in scores.items()]
        tokens.append({"token": str(top), "logprob": scores[top], "top_logprobs": others})
        message = {"role": "assistant", "content": json.dumps({"source": top})}
        choice: dict[str, Any] = {"message": message, "finish_reason": "stop"}
        if logprobs:
            choice["logprobs"] = {"content": tokens}
        reply = {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 2}}
        return 200, "application/json", json.dumps(reply).encode()

    return script


THREE = context("Purge with `celery purge`.", "Stop a worker with TERM.", "Red.")


def choose(script: Any) -> tuple[Generation, list[dict[str, Any]]]:
    with Endpoint(script=script) as endpoint:
        return asyncio.run(QuotingChat("m", endpoint.url).generate(QUESTION, THREE)), endpoint.requests


@pytest.mark.parametrize("prefers_first", [0.0, 1.0, 5.0])
def test_the_chosen_source_is_quoted_whatever_place_the_model_prefers(prefers_first):
    for number, best in enumerate(("purge", "TERM", "Red"), 1):
        done, requests = choose(chooses(best, prefers_first=prefers_first))
        assert done.text == f"{THREE.hits[number - 1].chunk.text} [{number}]"
        assert [(c.number, c.quote) for c in done.citations] == [(number, THREE.hits[number - 1].chunk.text)]
        assert (done.abstained, done.reason) == (False, "")
    assert done.usage.input_tokens == 10 * len(requests)
    schema = requests[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["source"]["enum"] == [0, 1, 2, 3]


def test_none_of_them_is_an_answer_too():
    done, _ = choose(chooses("blue"))
    assert (done.text, done.abstained, done.citations) == (NOT_FOUND, True, ())
    assert "m chose none of the sources" in done.reason


def test_without_log_probabilities_the_number_counts_and_the_reason_says_so():
    done, _ = choose(chooses("TERM", logprobs=False))
    assert done.text == "Stop a worker with TERM. [2]"
    assert "sends no log-probabilities" in done.reason


def test_an_endpoint_without_response_format_is_named():
    def script(body: dict[str, Any]) -> Reply:
        if "response_format" in body:
            return 400, "application/json", b'{"error": {"message": "response_format is not supported"}}'
        text = "It is source 2, I think." if QUESTION in body["messages"][-1]["content"] else "What question?"
        reply = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        return 200, "application/json", json.dumps(reply).encode()

    done, _ = choose(script)
    assert done.text == "Stop a worker with TERM. [2]"
    assert "takes no response_format: it replied 'It is source 2, I think.'" in done.reason


def test_without_sources_nothing_is_chosen():
    with Endpoint() as endpoint:
        done = asyncio.run(QuotingChat("m", endpoint.url).generate(QUESTION, Context("", (), 0)))
    assert (done.text, done.abstained, endpoint.requests) == (NOT_FOUND, True, [])

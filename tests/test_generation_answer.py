"""A model behind an endpoint: what it is told, what it cites, and that every call ends."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from endpoint import Endpoint
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import (
    LLM,
    Chunk,
    Context,
    EndpointError,
    Generation,
    Hit,
    InputError,
    StreamingLLM,
    Usage,
    identity_of,
)
from ragkit.generation import OpenAIChat, WithFallback, parse_citations, stream_answer, unknown_citations
from ragkit.generation.context import build_context
from ragkit.generation.extractive import Extractive
from ragkit.generation.prompts import ANSWER, DEFENCES, NOT_FOUND


def hit(text: str, doc_id: str = "a", start: int = 0, score: float = 1.0) -> Hit:
    return Hit(Chunk(doc_id, start, start + len(text), text), score)


def answer(llm: Extractive | OpenAIChat | WithFallback, question: str, context: Context) -> Generation:
    return asyncio.run(llm.generate(question, context))


CONTEXT = build_context([hit("Use purge."), hit("Use revoke.", "b")])


def test_openai_chat_answers_with_citations_and_usage():
    with Endpoint("Use purge [1]. Or revoke [2, 1]. Not [7].", reads=99) as endpoint:
        said = answer(OpenAIChat("m", endpoint.url, api_key="k"), "How?", CONTEXT)
    assert [(c.number, c.chunk.doc_id) for c in said.citations] == [(1, "a"), (2, "b")]
    assert said.usage == Usage("m", 99, 7)
    assert endpoint.requests[0]["messages"] == ANSWER.messages("How?", CONTEXT)
    assert endpoint.headers[0]["authorization"] == "Bearer k"


@pytest.mark.parametrize(
    "text",
    [
        f"{NOT_FOUND} Sorry! [1]",
        f"**{NOT_FOUND}**",
        f'"{NOT_FOUND}"',
        NOT_FOUND[:-1],
        NOT_FOUND.lower(),
        f"Sorry. {NOT_FOUND}",
    ],
)
def test_openai_chat_abstains_in_our_words(text):
    for words in (NOT_FOUND, NOT_FOUND.lower(), NOT_FOUND.rstrip(".")):
        with Endpoint(text.format(words)) as endpoint:
            said = answer(OpenAIChat(base_url=endpoint.url), "How?", CONTEXT)
        assert (said.text, said.abstained, said.citations) == (NOT_FOUND, True, ())


def test_half_an_answer_is_one():
    with Endpoint(f"Use purge [1]. Revoke: {NOT_FOUND}") as endpoint:
        assert not answer(OpenAIChat(base_url=endpoint.url), "How?", CONTEXT).abstained


def test_without_sources_the_model_is_not_asked():
    with Endpoint() as endpoint:
        said = answer(OpenAIChat(base_url=endpoint.url), "How?", Context("", (), 0))
    assert (said.text, said.abstained, endpoint.requests) == (NOT_FOUND, True, [])
    assert "no sources" in said.reason


@pytest.mark.parametrize(
    ("text", "known", "unknown"),
    [
        ("Purge [1][2].", [1, 2], []),
        ("Purge [2, 1]; or [ 2 ].", [2, 1], []),
        ("Purge [1-2].", [1, 2], []),
        ("Purge [1 and 2] or [1;2].", [1, 2], []),
        ("Purge [Source 2].", [2], []),
        ("Purge [sources 1, 2].", [1, 2], []),
        ("Purge 【1】.", [1], []),
        ("Purge[1].", [1], []),
        ("Purge [^2].", [2], []),
        ("Purge [[2]].", [2], []),
        ("Purge ［２］.", [2], []),
        ("Purge [1†source] 【2†L1-L2】.", [1, 2], []),
        ("Purge [Source: 2] or [source number=1].", [2, 1], []),
        ('Purge <source 2> <source number="1">.', [2, 1], []),
        ("Purge [3]. Revoke [0] [1-4] [3].", [1, 2], [3, 0, 4]),
        ("`sys.argv[1]` and ```\nx[2] [1]\n``` say nothing, nor does ```\n[1]", [], []),
        ("args[0] is code [1].", [1], []),
        ("Written in [1999], [12345] or [a1].", [], []),
        ("Backwards [2-1].", [2], []),
    ],
)
def test_citations_are_read_as_models_write_them(text, known, unknown):
    assert [c.number for c in parse_citations(text, CONTEXT)] == known
    assert list(unknown_citations(text, CONTEXT)) == unknown


@given(st.text(st.sampled_from("[]【】0123456789,-–; sourceandx`"), max_size=40), st.integers(0, 3))
def test_any_text_has_citations_of_known_sources_only(text, n):
    context = Context("", tuple(hit("x", f"d{i}") for i in range(n)), 0)
    numbers = [c.number for c in parse_citations(text, context)]
    assert set(numbers) <= set(range(1, n + 1))
    assert len(set(numbers)) == len(numbers)
    assert not set(unknown_citations(text, context)) & set(range(1, n + 1))


LONG = build_context([hit("Use purge. " * 40)])


@pytest.mark.parametrize(
    ("settings", "context", "reason"),
    [
        ({"answer": "Use purge [1]."}, CONTEXT, ""),
        ({"answer": "Use purge [1][4]."}, CONTEXT, r"the model cites \[4\], and the sources are 1 to 2"),
        ({"answer": "Use purge."}, CONTEXT, "the model cites no source"),
        ({"reads": 20}, LONG, "the endpoint has read 20 tokens, and the sources alone are about .*budget=.*"),
        ({"reads": 90}, LONG, ""),
    ],
)
def test_the_reason_says_what_a_reader_should_know(settings, context, reason):
    with Endpoint(**settings) as endpoint:
        assert re.fullmatch(reason, answer(OpenAIChat(base_url=endpoint.url), "How?", context).reason)


def test_an_answer_that_was_cut_is_said_to_be_cut():
    choice = {"message": {"content": "Use pur"}, "finish_reason": "length"}
    body = json.dumps({"choices": [choice]}).encode()
    with Endpoint(script=lambda _: (200, "application/json", body)) as endpoint:
        said = answer(OpenAIChat(base_url=endpoint.url), "How?", CONTEXT)
    assert said.reason == "the model ran out of room, so the answer is cut; the model cites no source"


def pieces(llm: LLM, context: Context = CONTEXT, question: str = "How do I purge?") -> list[str | Generation]:
    async def main() -> list[str | Generation]:
        return [piece async for piece in stream_answer(llm, question, context)]

    return asyncio.run(main())


def test_a_stream_ends_in_what_generate_would_return():
    with Endpoint("Use purge [1]. Or revoke [2].") as endpoint:
        llm = OpenAIChat("m", endpoint.url)
        assert isinstance(llm, StreamingLLM)
        *texts, said = pieces(llm)
        assert said == answer(llm, "How do I purge?", CONTEXT)
    assert texts == ["Use", " purge", " [1].", " Or", " revoke", " [2]."]


def test_whoever_can_not_stream_answers_in_one_piece():
    said = answer(Extractive(threshold=0), "How do I purge?", CONTEXT)
    assert pieces(Extractive(threshold=0)) == [said.text, said]
    assert pieces(OpenAIChat(base_url="http://127.0.0.1:1/v1"), Context("", (), 0))[0] == NOT_FOUND


def test_a_stream_falls_back_before_its_first_piece_and_after():
    with Endpoint("Use purge [1].", faults=["500", "half"]) as endpoint:
        llm = WithFallback(OpenAIChat(base_url=endpoint.url, max_retries=0), Extractive(threshold=0))
        text, said = pieces(llm)
        assert isinstance(said, Generation)
        assert text == said.text
        assert "answered by Extractive, because" in said.reason
        *begun, said = pieces(llm)
        assert isinstance(said, Generation)
        assert "".join(map(str, begun)) != said.text
        assert said.text.startswith("Use purge. [1]")
        assert "broke off" in said.reason
        assert pieces(llm)[-1] == answer(llm, "How do I purge?", CONTEXT)


def test_fallback_answers_and_says_why():
    with Endpoint(faults=["500"], reads=99) as endpoint:
        llm = WithFallback(OpenAIChat("m", endpoint.url, max_retries=0), Extractive(threshold=0))
        said = answer(llm, "How do I purge?", CONTEXT)
        assert said.text.startswith("Use purge. [1]")
        assert (said.writer, said.fallback) == ("quotes", True)
        assert endpoint.url in said.reason
        assert "answered 500" in said.reason
        assert answer(llm, "How do I purge?", CONTEXT) == Generation(
            "Yes. [1]", parse_citations("[1]", CONTEXT), Usage("m", 99, 7), writer="m"
        )


# Whatever the settings, a reader gets words: an error that says what to do, or an answer that says who gave it.
BAD = {
    "no endpoint": (None, "could not be reached.*is it running"),
    "wrong key": ("401", r"check \$OPENAI_API_KEY"),
    "no such model": ("404", "'m'.*The model does not exist.*check the model's name"),
    "window too small": ("400", "maximum context length.*lower budget="),
    "prose that is no JSON": ("bad_json", "sent no JSON but"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("ask", [answer, lambda *call: pieces(call[0], call[2])[-1]])
def test_bad_settings_are_an_error_in_words_or_a_visible_fallback(case, ask):
    fault, message = BAD[case]
    with Endpoint(faults=[fault] * 2 if fault else ()) as endpoint:
        url = endpoint.url if fault else "http://127.0.0.1:9/v1"
        llm = OpenAIChat("m", url.replace("//", "//app:Tr0ub4dor@"), max_retries=0, timeout=20)
        with pytest.raises(EndpointError, match=message) as error:
            ask(llm, "How do I purge?", CONTEXT)
        said = ask(WithFallback(llm, Extractive(threshold=0)), "How do I purge?", CONTEXT)
    assert said.text.startswith("Use purge. [1]")
    assert said.reason.startswith(f"answered by Extractive, because {url} (model 'm')")
    assert "?." not in said.reason
    assert "Tr0ub4dor" not in str(error.value) + said.reason + repr(llm)


def test_the_identity_names_model_prompt_and_fallback():
    def llm(model: str = "m", **settings: Any) -> OpenAIChat:
        return OpenAIChat(model, "http://127.0.0.1:1/v1", **settings)

    made = [
        llm(),
        llm("n"),
        llm(temperature=None),
        llm(max_tokens=9),
        llm(prompt=DEFENCES["marked"]),
        WithFallback(llm(), llm("n")),
        WithFallback(llm("n"), llm()),
    ]
    assert len(set(map(identity_of, made))) == len(made)


@pytest.mark.parametrize("llm", [Extractive(), OpenAIChat(base_url="http://127.0.0.1:1/v1")])
def test_a_blank_question_is_refused(llm):
    with pytest.raises(InputError, match="question"):
        answer(llm, " ", CONTEXT)
    with pytest.raises(InputError, match="question"):
        pieces(llm, question=" ")

"""What helps a small model: a short context, and an answer that it can only choose.

    Focused(OpenAIChat(server=LocalModel(), prompt=SHORT), store.maxsim)       # reads 300 tokens, and writes
    Focused(QuotingChat(server=LocalModel()), store.maxsim)                    # reads 300 tokens, and chooses

How much each of them helps: ``python tests/run_bench.py generation``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit.base import LLM, Chunk, Citation, Context, Generation, Hit, Usage, check_query, check_whole
from ragkit.generation.answer import stream_answer
from ragkit.generation.context import build_context
from ragkit.generation.extractive import Candidate, Similarity, candidates
from ragkit.generation.prompts import NOT_FOUND, numbered
from ragkit.llm.chat import ChatModel, Token, shortened
from ragkit.markdown import closed
from ragkit.tokens import minilm_tokenizer


@dataclass(frozen=True)
class Focused:
    """``llm``, which reads only the passages of the context that are most similar to the question.

    The answer cites these passages, each a chunk with its own place in the document.

    Args:
        similarity: ``(question, chunks) -> (n,)`` scores, for example ``store.maxsim``.
        budget: tokens of the passages' text, at most, counted by the packaged tokenizer.

    Raises:
        InputError: ``budget`` is no whole number, or below 1.
    """

    llm: LLM
    similarity: Similarity = field(repr=False)
    _: KW_ONLY
    budget: int = 300

    def __post_init__(self) -> None:
        check_whole(self.budget, "budget")

    def narrow(self, question: str, context: Context) -> Context:
        """The best passages as a context of their own, best first; those that touch are one source.

        A passage that no longer fits is left out; where even the best does not fit, its beginning is taken.
        """
        passages = [_under_its_heading(candidate) for candidate in candidates(context)]
        if not passages:
            return context
        scores, left, chosen = self.similarity(question, passages), self.budget, list[Hit]()
        for i in np.argsort(-scores, kind="stable").tolist():
            passage = passages[i] if chosen else _beginning(passages[i], self.budget)
            tokens = minilm_tokenizer().count(passage.text)
            if tokens <= left:
                chosen.append(Hit(passage, float(scores[i])))
                left -= tokens
        return build_context(chosen, 100 * self.budget)

    async def generate(self, question: str, context: Context) -> Generation:
        """The answer of ``llm`` from the best passages.

        Raises:
            InputError: ``question`` is blank. EndpointError: as ``llm``.
        """
        check_query(question, 1)
        return await self.llm.generate(question, await asyncio.to_thread(self.narrow, question, context))

    async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        """As ``generate``, in pieces, and at last the ``Generation``."""
        check_query(question, 1)
        narrowed = await asyncio.to_thread(self.narrow, question, context)
        async with aclosing(stream_answer(self.llm, question, narrowed)) as pieces:
            async for piece in pieces:
                yield piece


def _under_its_heading(candidate: Candidate) -> Chunk:
    """The passage as a chunk whose section ends with the heading that it stands under, if there is one."""
    section = (*candidate.chunk.section[:-1], candidate.heading) if candidate.heading else candidate.chunk.section
    return replace(candidate.as_chunk, section=section)


def _beginning(passage: Chunk, tokens: int) -> Chunk:
    """The first ``tokens`` tokens of ``passage``."""
    ends = minilm_tokenizer().offsets(passage.text)[:, 1]
    end = int(ends[tokens - 1]) if len(ends) > tokens else len(passage.text)
    return replace(passage, end=passage.start + end, text=passage.text[:end])


_MOST = 9  # sources: so the number of each is one digit
_ASK = """\
{sources}

Question: {question}
Which source answers the question? Reply with its number as JSON, or with 0 if none does."""
_NO_QUESTION = "N/A"


@dataclass(eq=False, repr=False)
class QuotingChat(ChatModel):
    """Quotes the source that a model chooses. The model writes nothing of its own, so it can't invent.

    It may only reply with the number of one of the first nine sources, or with 0 for none: a JSON schema lets nothing
    else through. A small model loves some places in a list, whatever is asked: so from the log-probability of each
    source's number is taken away what that number has without a question (contextual calibration: Zhao et al. 2021,
    Calibrate Before Use, arXiv 2102.09690). Where the endpoint sends no log-probabilities, the reply counts as it is.

    ``Generation.reason`` says so if the endpoint takes no ``response_format`` or sends no log-probabilities.
    """

    async def generate(self, question: str, context: Context) -> Generation:
        """The chosen source, quoted whole with its ``[n]``, or that none answers.

        Raises:
            InputError: ``question`` is blank.
            EndpointError: names the endpoint and says what went wrong.
        """
        check_query(question, 1)
        sources = [hit.chunk for hit in context.hits[:_MOST]]
        if not sources:
            return Generation(NOT_FOUND, abstained=True, reason="the context holds no sources")
        reply = await self._ask(question, sources)
        if reply.chosen == 0:
            reason = "; ".join(filter(None, [f"{self.model} chose none of the sources", reply.reason]))
            return Generation(NOT_FOUND, (), reply.usage, abstained=True, reason=reason, writer=self.model)
        best, usage = reply.chosen, reply.usage
        if reply.scores is not None and len(sources) > 1:
            free = await self._ask(_NO_QUESTION, sources)
            if free.scores is not None:
                best = 1 + int(np.argmax(reply.scores - free.scores))
            read, written = free.usage.input_tokens, free.usage.output_tokens
            usage = Usage(self.model, usage.input_tokens + read, usage.output_tokens + written)
        chunk = sources[best - 1]
        cited = (Citation(best, chunk, chunk.text),)
        quote = f"{closed(chunk.text)} [{best}]"
        return Generation(quote, cited, usage, reason=reply.reason, writer=self.model)

    async def _ask(self, question: str, sources: Sequence[Chunk]) -> _Choice:
        numbers = list(range(len(sources) + 1))
        schema = {
            "type": "object",
            "properties": {"source": {"type": "integer", "enum": numbers}},
            "required": ["source"],
            "additionalProperties": False,
        }
        text, tokens, usage = await self.chat_with_logprobs(
            [{"role": "user", "content": _ASK.format(sources=numbered(sources), question=question)}],
            {
                "max_tokens": 60,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "choice", "strict": True, "schema": schema},
                },
            },
        )
        number = re.search(r"\d+", text)
        chosen = int(number[0]) if number and int(number[0]) in numbers else 0
        scores = _of_numbers(tokens, len(sources))
        reason = "" if scores is not None else f"{self.model} at {self.base_url} sends no log-probabilities"
        if not re.fullmatch(r'\s*\{\s*"source"\s*:\s*\d+\s*\}\s*', text):
            reason = f"{self.model} at {self.base_url} takes no response_format: it replied {shortened(text, 40)!r}"
        return _Choice(chosen, scores, usage, reason)


class _Choice(NamedTuple):
    """The number in a reply, and the log-probability that each source's number had, where they are known."""

    chosen: int
    scores: NDArray[np.float64] | None
    usage: Usage
    reason: str


def _of_numbers(tokens: Sequence[Token], n: int) -> NDArray[np.float64] | None:
    """The log-probabilities of 1 to n in the place of the reply's number; a rarer one has that of the last listed."""
    for token in tokens:
        if token.text.strip().isdecimal() and token.others:
            numbers = {other.strip(): value for other, value in token.others.items()}
            return np.array([numbers.get(str(i), min(numbers.values())) for i in range(1, n + 1)])
    return None

"""From hits to an answer: the numbered context, and a model behind an OpenAI-compatible endpoint.

build_context(hits, budget) -> Context          what the generator reads
Extractive() / OpenAIChat()                     who writes the answer, both ``base.LLM``
WithFallback(OpenAIChat(), Extractive())        the second answers, and says so, when the first can't
"""

from __future__ import annotations

import re
from dataclasses import replace

from ragkit.base import (
    LLM,
    Citation,
    Context,
    EndpointError,
    Generation,
    check_query,
)
from ragkit.context import build_context
from ragkit.endpoint import ChatModel, endpoint_configured
from ragkit.extractive import Extractive, by_embedder
from ragkit.prompts import ANSWER, NOT_FOUND

__all__ = [
    "ANSWER",
    "NOT_FOUND",
    "Extractive",
    "OpenAIChat",
    "WithFallback",
    "build_context",
    "by_embedder",
    "default_llm",
    "endpoint_configured",
    "parse_citations",
]

_CITED = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")


def parse_citations(text: str, context: Context) -> tuple[Citation, ...]:
    """The sources that ``text`` cites as ``[n]`` or ``[n, m]``, in order, once each; unknown numbers are left out."""
    numbers = [int(n) for group in _CITED.findall(text) for n in group.split(",")]
    return tuple(Citation(n, context.hits[n - 1].chunk) for n in dict.fromkeys(numbers) if 1 <= n <= len(context.hits))


def default_llm() -> LLM:
    """``OpenAIChat()`` where an endpoint is configured, else ``Extractive()``."""
    return OpenAIChat() if endpoint_configured() else Extractive()


class OpenAIChat(ChatModel):
    """Answers through a model behind an OpenAI-compatible endpoint; the arguments are ``ChatModel``'s."""

    @property
    def identity(self) -> str:
        """The settings that can change an answer, for cache keys."""
        return f"{super().identity}:prompt {ANSWER.identity}"

    async def generate(self, question: str, context: Context) -> Generation:
        """The model's answer with the sources it cites; without sources the model isn't asked.

        Raises:
            InputError: ``question`` is blank.
            EndpointError: names the endpoint and says what went wrong.
        """
        check_query(question, 1)
        if not context.hits:
            return Generation(NOT_FOUND, abstained=True, reason="the context holds no sources")
        text, usage = await self.chat(ANSWER.messages(question, context.text))
        if text.startswith(NOT_FOUND):
            return Generation(NOT_FOUND, (), usage, abstained=True, reason=f"{self.model} found no answer in them")
        return Generation(text, parse_citations(text, context), usage)


class WithFallback:
    """``primary``, or visibly ``fallback`` when its endpoint fails: ``Generation.reason`` then says what happened."""

    def __init__(self, primary: LLM, fallback: LLM) -> None:
        self.primary, self.fallback = primary, fallback

    def __repr__(self) -> str:
        return f"WithFallback({self.primary!r}, {self.fallback!r})"

    @property
    def identity(self) -> str:
        """The primary's: what the fallback answers is not cached."""
        return str(getattr(self.primary, "identity", repr(self.primary)))

    async def generate(self, question: str, context: Context) -> Generation:
        """The primary's answer, or the fallback's with the reason."""
        try:
            return await self.primary.generate(question, context)
        except EndpointError as error:
            generation = await self.fallback.generate(question, context)
            said = f" {generation.reason}" if generation.reason else ""
            return replace(generation, reason=f"answered by {type(self.fallback).__name__}, because {error}.{said}")

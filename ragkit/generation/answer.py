"""Who writes the answer: the best passages word for word, or a model behind an OpenAI-compatible endpoint.

Extractive() / OpenAIChat()                     both ``base.LLM``
WithFallback(OpenAIChat(), Extractive())        the second answers, and says so, when the first can't
in_pieces(llm, question, context)               any of them, piece by piece
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from copy import copy
from dataclasses import replace

from ragkit.base import LLM, Citation, Context, EndpointError, Generation, StreamingLLM, check_query
from ragkit.generation.defences import SEPARATED, Defence
from ragkit.generation.prompts import NOT_FOUND
from ragkit.llm.chat import ChatModel, Completion

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_CITED = re.compile(
    r"(?P<glued>[\w)]?)[\[【]\s*(?:sources?\s*|\^)?(?P<numbers>\d{1,3}(?:\s*(?:[,;&–-]|and)\s*\d{1,3})*)\s*[\]】]",
    re.IGNORECASE,
)


def parse_citations(text: str, context: Context) -> tuple[Citation, ...]:
    """The sources that ``text`` cites, in order, once each; numbers without a source are ``unknown_citations``.

    Read as citations are ``[1]``, ``[1][2]``, ``[1, 2]``, ``[1-3]``, ``[source 1]`` and ``【1】``, except within code.

    >>> from ragkit.base import Chunk, Hit
    >>> two = Context("", (Hit(Chunk("a", 0, 1, "x"), 1.0), Hit(Chunk("b", 0, 1, "y"), 0.5)), 0)
    >>> [c.chunk.doc_id for c in parse_citations("Use `argv[1]` [2]. Or not [2, 7].", two)]
    ['b']
    """
    known = range(1, len(context.hits) + 1)
    numbers = dict.fromkeys(n for n, _ in _cited(text) if n in known)
    return tuple(Citation(n, context.hits[n - 1].chunk) for n in numbers)


def unknown_citations(text: str, context: Context) -> tuple[int, ...]:
    """The numbers that ``text`` cites and no source has, in order, once each.

    A number that touches the word before it, as in ``args[0]``, is then taken for code.

    >>> unknown_citations("Use purge [7], as args[0] says [1].", Context("", (), 0))
    (7, 1)
    """
    known = range(1, len(context.hits) + 1)
    return tuple(dict.fromkeys(n for n, glued in _cited(text) if n not in known and not glued))


def _cited(text: str) -> Iterator[tuple[int, bool]]:
    """Every number in brackets outside of code, and whether it touches a word."""
    for found in _CITED.finditer(_CODE.sub(" ", text)):
        glued = bool(found["glued"])
        for part in re.split(r"\s*(?:[,;&]|and)\s*", found["numbers"], flags=re.IGNORECASE):
            first, *last = (int(n) for n in re.split(r"\s*[–-]\s*", part))
            for number in range(first, max([first, *last]) + 1):
                yield number, glued


async def in_pieces(llm: LLM, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
    """``llm``'s answer in pieces, and at last the ``Generation``; in one piece where it can't stream."""
    if isinstance(llm, StreamingLLM):
        async with aclosing(llm.stream(question, context)) as pieces:
            async for piece in pieces:
                yield piece
    else:
        said = await llm.generate(question, context)
        yield said.text
        yield said


class OpenAIChat(ChatModel):
    """Answers through a model behind an OpenAI-compatible endpoint; the arguments are ``ChatModel``'s.

    ``Generation.reason`` says what a reader should know of an answer: that it was cut, that it cites no source or one
    that does not exist, that the endpoint has read only a part of the context.
    """

    defence: Defence = SEPARATED
    """How sources are kept apart from orders; see ``with_defence``."""

    def with_defence(self, defence: Defence) -> OpenAIChat:
        """The same model and endpoint, with another defence against instructions within the sources."""
        other = copy(self)
        other.defence = defence
        return other

    @property
    def identity(self) -> str:
        """The settings that can change an answer, for cache keys."""
        return f"{super().identity}:prompt {self.defence.identity}"

    async def generate(self, question: str, context: Context) -> Generation:
        """The model's answer with the sources it cites; without sources the model isn't asked.

        Raises:
            InputError: ``question`` is blank.
            EndpointError: names the endpoint and says what went wrong.
        """
        check_query(question, 1)
        if not context.hits:
            return _NO_SOURCES
        return self._generation(await self.complete(self.defence.messages(question, context)), context)

    async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        """As ``generate``, in pieces as they come, and at last the ``Generation``: the text that counts.

        Raises:
            InputError, EndpointError: as ``generate``, while iterating.
        """
        check_query(question, 1)
        if not context.hits:
            yield _NO_SOURCES.text
            yield _NO_SOURCES
            return
        async with aclosing(self.pieces(self.defence.messages(question, context))) as pieces:
            async for piece in pieces:
                yield piece if isinstance(piece, str) else self._generation(piece, context)

    def _generation(self, done: Completion, context: Context) -> Generation:
        if done.text.startswith(NOT_FOUND):
            return Generation(NOT_FOUND, (), done.usage, abstained=True, reason=f"{self.model} found no answer in them")
        citations = parse_citations(done.text, context)
        reason = "; ".join(_caveats(done, context, bool(citations)))
        return Generation(done.text, citations, done.usage, reason=reason)


_NO_SOURCES = Generation(NOT_FOUND, abstained=True, reason="the context holds no sources")


def _caveats(done: Completion, context: Context, cited: bool) -> Iterator[str]:
    """What a reader should know of a model's answer."""
    if done.cut:
        yield "the model ran out of room, so the answer is cut"
    if unknown := unknown_citations(done.text, context):
        yield f"the model cites {', '.join(f'[{n}]' for n in unknown)}, and the sources are 1 to {len(context.hits)}"
    elif not cited:
        yield "the model cites no source"
    # Some servers drop what exceeds the model's window and say nothing. Tokenizers differ, but not by half.
    if 0 < done.usage.input_tokens < context.tokens / 2:
        yield (
            f"the endpoint has read {done.usage.input_tokens} tokens, and the sources alone are about "
            f"{context.tokens}: lower budget=, or give the model a larger window"
        )


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
            return await self._instead(question, context, error)

    async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        """The primary's pieces and ``Generation``; where it fails, the fallback's ``Generation`` ends the stream.

        Pieces given before the failure are no answer then: show the text of the ``Generation`` in their place.
        """
        given, failed = False, None
        try:
            async with aclosing(in_pieces(self.primary, question, context)) as pieces:
                async for piece in pieces:
                    given = True
                    yield piece
        except EndpointError as error:
            failed = error
        if failed is not None:
            said = await self._instead(question, context, failed)
            if not given:
                yield said.text
            yield said

    async def _instead(self, question: str, context: Context, error: EndpointError) -> Generation:
        generation = await self.fallback.generate(question, context)
        said = f" {generation.reason}" if generation.reason else ""
        writer = type(getattr(self.fallback, "llm", self.fallback)).__name__  # Abstaining only lets its llm write
        return replace(generation, reason=f"answered by {writer}, because {error}.{said}")

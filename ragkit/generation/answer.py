"""Generators: the best passages word for word, or a model behind an OpenAI-compatible endpoint.

Extractive() / OpenAIChat()                     both ``base.LLM``
WithFallback(OpenAIChat(), Extractive())        the second answers, and says so, when the first can't
stream_answer(llm, question, context)           any of them, piece by piece
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from ragkit.base import LLM, Citation, Context, EndpointError, Generation, StreamingLLM, check_query, identity_of
from ragkit.generation.prompts import ANSWER, NOT_FOUND, Prompt
from ragkit.llm.chat import ChatModel

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_NUMBERS = r"(?P<numbers>\d{1,3}(?:\s*(?:[,;&–-]|and)\s*\d{1,3})*)"
_CITED = re.compile(
    r"(?P<glued>[\w)]?)(?:[\[【［]\s*(?:sources?\s*(?:number)?\s*[:=#]?\s*|\^)?|<source\s*(?:number=)?\"?)"
    + _NUMBERS
    + r"\s*(?:†[^\]】］\n]{0,40})?\"?\s*[\]】］>]",
    re.IGNORECASE,
)


def parse_citations(text: str, context: Context) -> tuple[Citation, ...]:
    """The sources that ``text`` cites, in order, once each; numbers without a source are ``unknown_citations``.

    Read as citations are ``[1]``, ``[1][2]``, ``[1, 2]``, ``[1-3]``, ``[source 1]``, ``【1†source】`` and
    ``<source 1>``, except within code.

    >>> from ragkit.base import Chunk, Hit
    >>> two = Context("", (Hit(Chunk("a", 0, 1, "x"), 1.0), Hit(Chunk("b", 0, 1, "y"), 0.5)), 0)
    >>> [c.chunk.doc_id for c in parse_citations("Use `argv[1]` [2]. Or not [2, 7].", two)]
    ['b']
    """
    known = range(1, len(context.hits) + 1)
    numbers = dict.fromkeys(n for marker in citation_markers(text) for n in marker.numbers if n in known)
    return tuple(Citation(n, context.hits[n - 1].chunk) for n in numbers)


def unknown_citations(text: str, context: Context) -> tuple[int, ...]:
    """The numbers that ``text`` cites and no source has, in order, once each.

    A number that touches the word before it, as in ``args[0]``, is then taken for code.

    >>> unknown_citations("Use purge [7], as args[0] says [1].", Context("", (), 0))
    (7, 1)
    """
    known = range(1, len(context.hits) + 1)
    markers = [marker for marker in citation_markers(text) if not marker.glued]
    return tuple(dict.fromkeys(n for marker in markers for n in marker.numbers if n not in known))


@dataclass(frozen=True)
class Marker:
    """The characters ``[start, end)`` that cite the sources ``numbers``; ``glued``: they touch the word before them."""

    start: int
    end: int
    numbers: tuple[int, ...]
    glued: bool


def citation_markers(text: str) -> Iterator[Marker]:
    """Every marker of a citation outside of code, in order.

    >>> [(m.start, m.end, m.numbers) for m in citation_markers("Use it [1-3].")]
    [(7, 12, (1, 2, 3))]
    """
    for match in _CITED.finditer(_CODE.sub(lambda code: " " * len(code[0]), text)):
        numbers: list[int] = []
        for part in re.split(r"\s*(?:[,;&]|and)\s*", match["numbers"], flags=re.IGNORECASE):
            first, *last = (int(n) for n in re.split(r"\s*[–-]\s*", part))
            numbers += range(first, max([first, *last]) + 1)
        yield Marker(match.start() + len(match["glued"]), match.end(), tuple(numbers), bool(match["glued"]))


async def stream_answer(llm: LLM, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
    """``llm``'s answer in pieces, and at last the ``Generation``; in one piece where it can't stream."""
    if isinstance(llm, StreamingLLM):
        async with aclosing(llm.stream(question, context)) as pieces:
            async for piece in pieces:
                yield piece
    else:
        generation = await llm.generate(question, context)
        yield generation.text
        yield generation


@dataclass(eq=False, repr=False)
class OpenAIChat(ChatModel):
    """Answers through a model behind an OpenAI-compatible endpoint.

    ``Generation.reason`` says what a reader should know of an answer: that it was cut, that it cites no source or one
    that does not exist, that the endpoint has read only a part of the context.

    Args:
        prompt: what the model is told, and how sources are kept apart from orders (see ``prompts.DEFENCES``). The other
            arguments are those of ``ChatModel``.
    """

    prompt: Prompt = field(default=ANSWER, kw_only=True)

    @property
    def identity(self) -> str:
        """The settings that can change an answer, for cache keys."""
        return f"{super().identity}:{identity_of(self.prompt)}"

    async def generate(self, question: str, context: Context) -> Generation:
        """The model's answer with the sources it cites; without sources the model isn't asked.

        Raises:
            InputError: ``question`` is blank.
            EndpointError: names the endpoint and says what went wrong.
        """
        async with aclosing(self._answer(question, context, stream=False)) as pieces:
            return [piece async for piece in pieces if isinstance(piece, Generation)][-1]

    def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        """As ``generate``, in pieces as they come, and at last the ``Generation``: the text that counts.

        Raises:
            InputError, EndpointError: as ``generate``, while iterating.
        """
        return self._answer(question, context, stream=True)

    async def _answer(self, question: str, context: Context, stream: bool) -> AsyncGenerator[str | Generation, None]:
        check_query(question, 1)
        if not context.hits:
            yield NOT_FOUND
            yield Generation(NOT_FOUND, abstained=True, reason="the context holds no sources")
            return
        async with aclosing(self.pieces(self.prompt.messages(question, context), stream)) as pieces:
            async for piece in pieces:
                yield piece if isinstance(piece, str) else self._cited(piece, context)

    def _cited(self, done: Generation, context: Context) -> Generation:
        citations = parse_citations(done.text, context)
        if _says_not_found(done.text, cited=bool(citations)):
            reason = f"{self.model} found no answer in them"
            return Generation(NOT_FOUND, (), done.usage, abstained=True, reason=reason, writer=done.writer)
        reason = "; ".join(filter(None, [done.reason, *_warnings(done, context, bool(citations))]))
        return replace(done, citations=citations, reason=reason)


def _says_not_found(text: str, cited: bool) -> bool:
    """Whether the answer begins with our words for "not found", or ends with them and cites nothing."""
    plain, words = text.casefold().strip("\"'*_`“”«».! "), NOT_FOUND.casefold().rstrip(".")
    return plain.startswith(words) or (plain.endswith(words) and not cited)


def _warnings(done: Generation, context: Context, cited: bool) -> Iterator[str]:
    """What a reader should know of a model's answer."""
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


@dataclass(frozen=True)
class WithFallback:
    """``primary``, or visibly ``fallback`` when its endpoint fails.

    ``Generation.fallback`` is then true, and ``Generation.reason`` says what happened.
    """

    primary: LLM
    fallback: LLM

    async def generate(self, question: str, context: Context) -> Generation:
        """The primary's answer, or the fallback's with the reason."""
        try:
            return await self.primary.generate(question, context)
        except EndpointError as error:
            return await self._fall_back(question, context, error)

    async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        """The primary's pieces and ``Generation``; where it fails, the fallback's ``Generation`` ends the stream.

        Pieces given before the failure are no answer then: show the text of the ``Generation`` in their place.
        """
        started = False
        try:
            async with aclosing(stream_answer(self.primary, question, context)) as pieces:
                async for piece in pieces:
                    started = True
                    yield piece
            return
        except EndpointError as error:
            generation = await self._fall_back(question, context, error)
        if not started:
            yield generation.text
        yield generation

    async def _fall_back(self, question: str, context: Context, error: EndpointError) -> Generation:
        generation = await self.fallback.generate(question, context)
        writer = type(getattr(self.fallback, "llm", self.fallback)).__name__  # Abstaining only lets its llm write
        cause = str(error) if str(error).endswith((".", "?", "!")) else f"{error}."
        reason = f"answered by {writer}, because {cause} {generation.reason}"
        return replace(generation, reason=reason.strip(), fallback=True)

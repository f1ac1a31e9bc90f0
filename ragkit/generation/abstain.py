"""Abstaining: answer, or say "not found", by a confidence that is computed from the sources.

No language model is used. Four signals that every retriever's context has are weighed by a logistic regression. It was
fitted on questions that the corpus answers, on questions that it does not (``data/questions/unanswerable.jsonl``), and
on the first ones again with their document, or their whole project, taken out of the corpus: what is asked is then the
same, so that the way a question is put does not give it away.

    llm = Abstaining(Extractive(store.maxsim), store)
    llm.confidence("What is the capital of France?", context).value      # near 0: no source has a match for it

It sees that a question is about something else. It hardly sees that only the one document is missing that has the
answer. ``python tests/run_bench.py answers`` fits it, and measures it on projects that it was not fitted on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragkit.base import LLM, Context, Generation, check_query
from ragkit.generation.answer import stream_answer
from ragkit.generation.prompts import NOT_FOUND
from ragkit.token_store import TokenStore

Floats = NDArray[np.float64]

# The logistic regression, fitted on ``core`` by ``python tests/run_bench.py answers``. Below the threshold we abstain:
# it costs few of the answers that the sources hold, and stops most others.
BIAS, WEIGHTS, THRESHOLD = -2.5, (5.2, 5.6, -1.1, -1.8), 0.4

_TERM = re.compile(r"-{0,2}\w+(?:[-_./]\w+)*")
_IDENTIFIER = re.compile(r"[_\d]|^--|\w\.\w|[a-z][A-Z]|^[A-Z]{2,}$")


def names(question: str) -> list[str]:
    """What a question calls by its name: identifiers, options, abbreviations, capitalised words within a sentence.

    >>> names("How do I set --timeout for a Celery worker over HTTP/3? Is it task_time_limit?")
    ['--timeout', 'Celery', 'HTTP/3', 'task_time_limit']
    """
    terms = []
    for term in _TERM.finditer(question):
        before = question[: term.start()].rstrip()
        inside = bool(before) and before[-1] not in ".?!;:"
        if _IDENTIFIER.search(term[0]) or (inside and term[0][0].isupper() and term[0] != "I"):
            terms.append(term[0])
    return terms


@dataclass(frozen=True, slots=True)
class Signals:
    """What speaks for and against an answer in these sources.

    ``match``: the best source's MaxSim (geometric), -1..1. ``lead``: by how much it is above the mean of the sources;
    where there is no answer, all sources match about as badly. ``names``: how many names the question has: those that
    a source holds raise its match, whatever else is asked. ``missing``: those that no source holds.
    """

    match: float
    lead: float
    names: int
    missing: tuple[str, ...]

    @property
    def vector(self) -> Floats:
        """The four numbers that are weighed; the second name counts less than the first."""
        return np.array([self.match, self.lead, np.log1p(self.names), np.log1p(len(self.missing))])


def signals(question: str, context: Context, store: TokenStore) -> Signals:
    """The signals of a context with at least one source.

    Raises:
        StoreMismatchError: a source is not from the store's corpus.
    """
    chunks = [hit.chunk for hit in context.hits]
    matches = store.maxsim(question, chunks, "geometric")
    sources = " ".join(f"{chunk.context} {chunk.doc_id} {chunk.text}" for chunk in chunks).lower()
    named = names(question)
    missing = tuple(name for name in dict.fromkeys(named) if name.lower() not in sources)
    return Signals(float(matches.max()), float(matches.max() - matches.mean()), len(named), missing)


def probability(vectors: ArrayLike) -> Floats:
    """How likely there is an answer, ``(n,)`` for signals ``(n, 4)``: ``1 / (1 + exp(-(BIAS + WEIGHTS . vector)))``.

    "Likely" among as many answerable questions as others; where nearly all questions have an answer, it is higher.

    >>> probability([[0.8, 0.2, 0, 0], [0.2, 0.0, 1, 1]]).round(2).tolist()
    [0.94, 0.01]
    """
    return np.asarray(1 / (1 + np.exp(-(BIAS + np.asarray(vectors) @ np.array(WEIGHTS)))))


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure we are of an answer, 0..1, and what speaks against it, in words."""

    value: float
    reason: str


@dataclass(frozen=True)
class Abstaining:
    """``llm``, called only where the sources seem to answer the question; else "not found", with the reason.

    ``store`` is the token store of the corpus; ``threshold`` is the confidence that an answer needs, 0..1.
    """

    llm: LLM
    store: TokenStore = field(repr=False)
    threshold: float = THRESHOLD

    def confidence(self, question: str, context: Context) -> Confidence:
        """How sure we are that the context, which has one source or more, answers the question."""
        measured = signals(question, context, self.store)
        reason = f"the best source matches the question only by {measured.match:.2f}"
        if measured.missing:
            reason = f"no source mentions {' or '.join(measured.missing)}"
        return Confidence(float(probability(measured.vector)), reason)

    async def generate(self, question: str, context: Context) -> Generation:
        """The answer of ``llm``, or none and the reason.

        Raises:
            InputError: ``question`` is blank.
        """
        return await self._silence(question, context) or await self.llm.generate(question, context)

    async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        """As ``generate``, in pieces, and at last the ``Generation``."""
        silence = await self._silence(question, context)
        if silence:
            yield silence.text
            yield silence
            return
        async with aclosing(stream_answer(self.llm, question, context)) as pieces:
            async for piece in pieces:
                yield piece

    async def _silence(self, question: str, context: Context) -> Generation | None:
        """That there is no answer, if we are not sure enough of one."""
        check_query(question, 1)
        if not context.hits:
            return None  # ``llm`` says that there are no sources
        sure = await asyncio.to_thread(self.confidence, question, context)
        if sure.value >= self.threshold:
            return None
        reason = f"{sure.reason}; confidence {sure.value:.2f}, below {self.threshold:g}"
        return Generation(NOT_FOUND, abstained=True, reason=reason)


def coverage_and_accuracy(confidence: ArrayLike, right: ArrayLike) -> tuple[Floats, Floats]:
    """What is gained by keeping silent: of the ``i + 1`` most confident answers, their share and how many are right.

    The risk-coverage curve of selective prediction (El-Yaniv and Wiener, JMLR 2010), with accuracy = 1 - risk. Equally
    confident answers are added together, so their order does not matter.

    >>> coverage, accuracy = coverage_and_accuracy([0.9, 0.2, 0.8, 0.2], [True, False, True, True])
    >>> coverage.tolist(), accuracy.tolist()
    ([0.25, 0.5, 1.0], [1.0, 1.0, 0.75])
    """
    sure, good = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    order = np.argsort(-sure, kind="stable")
    count = np.flatnonzero(np.diff(sure[order], append=-np.inf)) + 1
    return count / len(sure), np.cumsum(good[order])[count - 1] / count

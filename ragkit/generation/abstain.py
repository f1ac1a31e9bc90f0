"""To answer, or to say that these documents don't: how sure are we, from what stands in the sources?

No model reads along. Four signals that every retriever's context has are weighed by a logistic regression. It was
fitted on questions that the corpus answers, on questions that it does not (``data/questions/unanswerable.jsonl``), and
on the first ones again with their document, or their whole project, taken out of the corpus: what is asked is then the
same, so that the way a question is put does not give it away.

    llm = Abstaining(Extractive(store.maxsim), store)
    llm.confidence("What is the capital of France?", context).value      # near 0: no source has a match for it

How well it tells answerable questions from others (AUROC with 95 % interval, on projects that it was not fitted on;
``tests/bench/bench_answers.py``): .86 [.81, .91] in the advanced preset, .83 [.78, .88] in the naive one; by kind, in
the advanced one: FAQ .90, keyword .97, plain .95, multihop .76, paraphrase .70. On documents and questions that nothing
was fitted on: .88. It sees that a question is about something else. It hardly sees (.66) that only the one document is
missing that has the answer. Part of the .86 is style: our unanswerable questions name more things than our paraphrases,
whose words match nothing in either case. Without the number of names it is .78, and a coin's .5 on paraphrases.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragkit.base import LLM, Context, Generation, InputError, check_query
from ragkit.generation import in_pieces
from ragkit.generation.prompts import NOT_FOUND
from ragkit.retrieval.rerank import MaxSim

Floats = NDArray[np.float64]

_TERM = re.compile(r"-{0,2}\w+(?:[-_./]\w+)*")
_IDENTIFIER = re.compile(r"[_\d]|^--|\w\.\w|[a-z][A-Z]|^[A-Z]{2,}$")


def names(question: str) -> list[str]:
    """What a question calls by its name: identifiers, options, abbreviations, capitalised words within a sentence.

    >>> names("How do I set --timeout for a Celery worker over HTTP/3? Is it task_time_limit?")
    ['--timeout', 'Celery', 'HTTP/3', 'task_time_limit']
    """
    found = []
    for term in _TERM.finditer(question):
        before = question[: term.start()].rstrip()
        inside = bool(before) and before[-1] not in ".?!;:"
        if _IDENTIFIER.search(term[0]) or (inside and term[0][0].isupper() and term[0] != "I"):
            found.append(term[0])
    return found


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


def signals(question: str, context: Context, store: MaxSim) -> Signals:
    """The signals of a context with at least one source.

    Raises:
        InputError: the context is empty.
        StoreMismatchError: a source is not from the store's corpus.
    """
    chunks = [hit.chunk for hit in context.hits]
    if not chunks:
        raise InputError("the context has no sources: there is nothing to weigh")
    matches = store.maxsim(question, chunks, "geometric")
    held = " ".join(f"{chunk.context} {chunk.doc_id} {chunk.text}" for chunk in chunks).lower()
    asked = names(question)
    missing = tuple(name for name in dict.fromkeys(asked) if name.lower() not in held)
    return Signals(float(matches.max()), float(matches.max() - matches.mean()), len(asked), missing)


@dataclass(frozen=True, slots=True)
class Model:
    """A logistic regression: ``1 / (1 + exp(-(bias + weights . vector)))`` is the probability of an answer.

    "Probability" among as many answerable questions as others; where nearly all questions have an answer, it is higher.
    """

    bias: float
    weights: tuple[float, ...]

    def __call__(self, vectors: ArrayLike) -> Floats:
        """Probabilities ``(n,)`` for signals ``(n, d)``.

        >>> Model(0.0, (1.0, -1.0))([[2.0, 2.0]]).tolist()
        [0.5]
        """
        return np.asarray(1 / (1 + np.exp(-(self.bias + np.asarray(vectors) @ np.array(self.weights)))))

    @classmethod
    def fit(
        cls, vectors: ArrayLike, answerable: ArrayLike, counts: ArrayLike | None = None, ridge: float = 1.0
    ) -> Model:
        """The weights of maximal likelihood by Newton's method (Hastie et al., The Elements of Statistical Learning,
        4.4.1), with an L2 penalty of 1 on signals that are scaled to a standard deviation of 1.

        Args:
            vectors: signals ``(n, d)``.
            answerable: ``(n,)``, true where there is an answer.
            counts: ``(n,)``, how often each one counts (once).

        Raises:
            InputError: all of them, or none of them, are answerable.
        """
        x, y = np.asarray(vectors, dtype=np.float64), np.asarray(answerable, dtype=bool)
        if y.all() or not y.any():
            raise InputError(f"{y.sum()} of {len(y)} questions are answerable: expected some of both kinds")
        n = np.ones(len(y)) if counts is None else np.asarray(counts, dtype=np.float64)
        mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
        z = np.column_stack([np.ones(len(y)), (x - mean) / scale])
        penalty = np.diag([0.0, *np.ones(x.shape[1])])
        w = np.zeros(z.shape[1])
        for _ in range(25):
            p = 1 / (1 + np.exp(-z @ w))
            gradient = z.T @ (n * (y - p)) - penalty @ w
            step = np.linalg.solve(z.T @ (z * (n * p * (1 - p))[:, None]) + penalty, gradient)
            w = w + step
            if np.abs(step).max() < 1e-9:
                break
        weights = w[1:] / scale
        return cls(float(w[0] - weights @ mean), tuple(weights.tolist()))


MODEL = Model(-2.5, (5.2, 5.6, -1.1, -1.8))
"""Fitted on ``core`` by ``python tests/run_bench.py answers``, which also says how it does on projects that it was not
fitted on."""
THRESHOLD = 0.4
"""Below it, we abstain. It costs less than a tenth of the answers that the sources hold, and keeps three in five of the
questions without an answer from getting one."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure we are of an answer, 0..1, and what speaks against it, in words."""

    value: float
    reason: str
    signals: Signals


class Abstaining:
    """``llm``, asked only where the sources seem to answer the question; else "not found", with the reason.

    Args:
        llm: who answers.
        store: the token store of the corpus, for ``maxsim``.
        threshold: the confidence that an answer needs, 0..1.
        model: how signals become confidence.

    Raises:
        InputError: ``threshold`` is outside 0..1.
    """

    def __init__(self, llm: LLM, store: MaxSim, threshold: float = THRESHOLD, model: Model = MODEL) -> None:
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold is {threshold!r}: expected a number from 0 to 1")
        self.llm, self.store, self.threshold, self.model = llm, store, threshold, model

    def __repr__(self) -> str:
        return f"Abstaining({self.llm!r}, threshold={self.threshold})"

    @property
    def identity(self) -> str:
        """The settings that can change an answer, for cache keys."""
        return f"abstaining:{self.threshold}:{self.model}:{getattr(self.llm, 'identity', repr(self.llm))}"

    def confidence(self, question: str, context: Context) -> Confidence:
        """How sure we are that the context answers the question.

        Raises:
            InputError: the context is empty.
        """
        found = signals(question, context, self.store)
        (value,) = self.model(found.vector[None]).tolist()
        if found.missing:
            reason = f"no source mentions {' or '.join(found.missing)}"
        else:
            reason = f"the best source matches the question only by {found.match:.2f}"
        return Confidence(value, reason, found)

    async def generate(self, question: str, context: Context) -> Generation:
        """The answer of ``llm``, or none and the reason.

        Raises:
            InputError: ``question`` is blank.
        """
        return await self._refused(question, context) or await self.llm.generate(question, context)

    async def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]:
        """The same, in the pieces that ``llm`` gives, and at last the ``Generation``."""
        if refused := await self._refused(question, context):
            yield refused.text
            yield refused
            return
        async with aclosing(in_pieces(self.llm, question, context)) as pieces:
            async for piece in pieces:
                yield piece

    async def _refused(self, question: str, context: Context) -> Generation | None:
        check_query(question, 1)
        if not context.hits:
            return None  # whoever writes says that there are no sources
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

    Raises:
        InputError: there are no answers, or not as many of one as of the other.
    """
    sure, good = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if sure.shape != good.shape or not sure.size:
        raise InputError(f"{sure.size} confidences for {good.size} answers: expected as many, and at least one")
    order = np.argsort(-sure, kind="stable")
    last: NDArray[Any] = np.flatnonzero(np.diff(sure[order], append=-np.inf))
    count = last + 1.0
    return count / len(sure), np.cumsum(good[order])[last] / count

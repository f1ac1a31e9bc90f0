"""Abstaining: answer, or say "not found", by a confidence that is computed from the sources.

No language model is used. Four signals that every retriever's context has are weighed by a logistic regression. It was
fitted on questions that the corpus answers, on questions that it does not (``data/questions/unanswerable.jsonl``), and
on the first ones again with their document, or their whole project, taken out of the corpus: what is asked is then the
same, so that the way a question is put does not give it away.

    llm = Abstaining(Extractive(store.maxsim), store)
    llm.confidence("What is the capital of France?", context).value      # near 0: no source has a match for it

Which words of a question are names is read from the corpus, so a question in lower case has the same ones. The
confidence sees that a question is about something else. It hardly sees that only the one document is missing that has
the answer. ``python tests/run_bench.py answers`` fits it, and measures it on projects that it was not fitted on.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragkit.base import LLM, Context, Generation, check_query
from ragkit.generation.answer import stream_answer
from ragkit.generation.extractive import stems
from ragkit.generation.prompts import NOT_FOUND
from ragkit.retrieval.analysis import UNSPACED
from ragkit.token_store import TokenStore

Floats = NDArray[np.float64]

# The logistic regression, fitted on ``core`` by ``python tests/run_bench.py answers``. Below the threshold we abstain:
# it costs few of the answers that the sources hold, and stops most others.
BIAS, WEIGHTS, THRESHOLD = -2.22, (4.59, 6.66, -1.27, -1.29), 0.4

_TERM = re.compile(r"--\w+(?:-\w+)*|\w+(?:[./]\w+)*")
_CONTRACTION = re.compile(r"\b\w+n['’]t\b|['’]\w+")  # "isn't", and what follows the name in "Celery's"
_IDENTIFIER = re.compile(r"[_\d]|^--|\w\.\w")
_IN_SENTENCE = re.compile(r"(?<=[\w,)] )\w+(?:[./]\w+)*")  # not the first word: that has a capital anyway
_CAPITALS = re.compile(r"^[A-Z]|[a-z][A-Z]")
_HOW = re.compile(r"\bhow (?:much|many|often|long|far|old|soon|fast|big|large|high)\b", re.IGNORECASE)
_FEW = 2  # unknown words; a question with more of them is put in other words than the corpus's, or in another language


class Vocabulary:
    """The words of a corpus: which there are, and which of them are names. Case does not matter to a question.

    A word is a name if the corpus writes it with a capital in at least half of the places within a sentence.
    An identifier is one by its shape: it has an underscore, a digit, a dot inside, or two dashes in front.

    >>> corpus = Vocabulary(["Run the Celery worker. A worker of Celery keeps task_queues."])
    >>> corpus.names("does celery's worker read task_time_limit?"), corpus.unknown("does a worker speak amqp?")
    (['celery', 'task_time_limit'], ['speak', 'amqp'])
    """

    def __init__(self, texts: Iterable[str]) -> None:
        words, capitals = Counter[str](), Counter[str]()
        self._stems: set[str] = set()
        for text in texts:
            self._stems |= stems(text)
            for word in _IN_SENTENCE.findall(text):
                words[word.lower()] += 1
                capitals[word.lower()] += bool(_CAPITALS.search(word))
        self._names = {word for word, count in words.items() if capitals[word] >= count / 2}

    def names(self, question: str) -> list[str]:
        """The identifiers of a question, and the words that the corpus writes as names, in lower case."""
        return [term for term in terms(question) if term in self._names or _IDENTIFIER.search(term)]

    def unknown(self, question: str) -> list[str]:
        """The one or two words of a question that the corpus has in no form, in lower case; none where there are more.

        Identifiers are left out, "much" after "how" and the like, and scripts without spaces: where a word of theirs
        ends is not known here.
        """
        content = terms(_HOW.sub("how", question))
        words = [term for term in content if not (_IDENTIFIER.search(term) or UNSPACED.search(term))]
        new = [word for word in words if not stems(word) <= self._stems]
        return new if len(new) <= _FEW else []


def terms(question: str) -> list[str]:
    """The different content words, identifiers and options of a question, in lower case; no numbers.

    >>> terms("Why doesn't Celery's worker stop after 10 s with --max-tasks-per-child over HTTP/3?")
    ['celery', 'worker', 'stop', 'after', '--max-tasks-per-child', 'over', 'http/3']
    """
    words = dict.fromkeys(_TERM.findall(_CONTRACTION.sub("", question.lower())))
    return [term for term in words if len(term) > 1 and not term.isdigit() and stems(term)]


_vocabularies: WeakKeyDictionary[TokenStore, Vocabulary] = WeakKeyDictionary()


def vocabulary(store: TokenStore) -> Vocabulary:
    """The vocabulary of the store's corpus, made at the first call (some tenths of a second for 2 MB of text)."""
    if store not in _vocabularies:
        _vocabularies[store] = Vocabulary(store.texts)
    return _vocabularies[store]


@dataclass(frozen=True, slots=True)
class Signals:
    """What speaks for and against an answer in these sources.

    ``match``: the best source's MaxSim (geometric), -1..1. ``lead``: by how much it is above the mean of the sources;
    where there is no answer, all sources match about as badly. ``names``: how many names the question has: those that
    a source holds raise its match, whatever else is asked. ``missing``: the names and the words unknown to the corpus
    that no source holds, in lower case.
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
    """The signals of a context with at least one source; the question's capitals do not matter.

    Raises:
        StoreMismatchError: a source is not from the store's corpus.
    """
    chunks = [hit.chunk for hit in context.hits]
    matches = store.maxsim(question, chunks, "geometric")
    sources = " ".join(f"{chunk.context} {chunk.doc_id} {chunk.text}" for chunk in chunks).lower()
    held = stems(sources)
    words = vocabulary(store)
    names = words.names(question)
    missing = [
        term
        for term in dict.fromkeys(names + words.unknown(question))
        if (term not in sources if _IDENTIFIER.search(term) else not stems(term) <= held)
    ]
    return Signals(float(matches.max()), float(matches.max() - matches.mean()), len(names), tuple(missing))


def as_written(term: str, question: str) -> str:
    """A term as the question spells it.

    >>> as_written("recaptcha", "Does it solve reCAPTCHA?")
    'reCAPTCHA'
    """
    written = re.search(re.escape(term), question, re.IGNORECASE)
    return written[0] if written else term


def probability(vectors: ArrayLike) -> Floats:
    """How likely there is an answer, ``(n,)`` for signals ``(n, 4)``: ``1 / (1 + exp(-(BIAS + WEIGHTS . vector)))``.

    "Likely" among as many answerable questions as others; where nearly all questions have an answer, it is higher.

    >>> probability([[0.8, 0.2, 0, 0], [0.2, 0.0, 1, 1]]).round(2).tolist()
    [0.94, 0.02]
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
            reason = f"no source mentions {' or '.join(as_written(term, question) for term in measured.missing)}"
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

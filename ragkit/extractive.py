"""An answer without a model: the passages of the context that fit the question best, quoted word for word.

It can't rephrase, so it can't invent. Cut the sources into passages (what a reader would copy: a few sentences, a code
block with the sentence that introduces it, a list), score each against the question, quote the best. Headings are never
quoted; they tell what the passages below them are about.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Citation, Context, Embedder, Generation, InputError, check_query, require
from ragkit.passages import Passage, passages, sentences
from ragkit.prompts import NOT_FOUND

Floats = NDArray[np.float64]
Similarity = Callable[[str, Sequence[Chunk]], NDArray[np.float32]]

_ENDS = re.compile(r"[.!?][\"')\]`]*$")
_WORD = re.compile(r"[^\W_]+")
_STOPWORDS = frozenset(
    _WORD.findall(
        """
        a about an and any are as at be been but by can could did do does doing for from had has have how i if in into
        is it its just me my no not of on or our should so some such than that the their them then there these they this
        to use used using want was way we were what when where which who why will with would you your
        """
    )
)


@cache
def _stemmer() -> Any:
    return require("Stemmer", "search").Stemmer("english")


def stems(text: str) -> set[str]:
    """The stemmed content words of ``text``; identifiers count as their parts.

    >>> sorted(stems("How do I purge all waiting tasks from task_queues?"))
    ['all', 'purg', 'queue', 'task', 'wait']
    """
    words = [w for w in _WORD.findall(text.lower()) if w not in _STOPWORDS]
    return set(_stemmer().stemWords(words))


def idf(term: str, texts: Sequence[set[str]]) -> float:
    """ln(1 + (N - n + 0.5) / (n + 0.5)) for a term in n of N texts: never negative, highest for a term in none.

    Robertson & Zaragoza, The Probabilistic Relevance Framework (2009), eq. 3.3, with Lucene's "1 +".
    """
    n = sum(term in text for text in texts)
    return math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))


def by_embedder(embedder: Embedder) -> Similarity:
    """The cosine between question and passage, for ``Extractive(similarity=by_embedder(embedder))``."""

    def similarity(question: str, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = (
            embedder.encode([c.text for c in chunks]) @ embedder.encode([question], "query")[0]
        )
        return scores

    return similarity


class Extractive:
    """The offline generator: quotes the best passages of the context with ``[n]``, or says that there are none.

    A passage's score is the idf-weighted share of the question's words that it holds, plus the share that its source
    holds, plus ``similarity`` (scaled to 0..1 over the context) and a bonus for a source that was ranked high. What is
    below ``keep`` times the best is left out, so are near-copies, and the rest is quoted in reading order.

    Args:
        similarity: ``(question, chunks) -> (n,)`` scores, for example ``store.maxsim``; None is words alone.
        most: passages quoted, at most.
        keep: the share of the best score that a passage needs, 0..1.
        threshold: the share of the question's words that some source must hold, 0..1; below it, we abstain.

    >>> import asyncio
    >>> from ragkit.base import Hit
    >>> chunk = Chunk("celery/faq", 0, 43, "Stop it with kill.\\n\\nPurge tasks with purge.")
    >>> context = Context("...", (Hit(chunk, 1.0),), 12)
    >>> asyncio.run(Extractive(most=1).generate("How do I purge tasks?", context)).text
    'Purge tasks with purge. [1]'
    """

    def __init__(
        self,
        similarity: Similarity | None = None,
        *,
        most: int = 4,
        keep: float = 0.8,
        threshold: float = 0.3,
    ) -> None:
        if most < 1:
            raise InputError(f"most is {most!r}: expected 1 passage or more")
        if not (0 <= keep <= 1 and 0 <= threshold <= 1):
            raise InputError(f"keep is {keep!r}, threshold {threshold!r}: expected numbers from 0 to 1")
        self.similarity, self.most, self.keep, self.threshold = similarity, most, keep, threshold

    @property
    def identity(self) -> str:
        """The settings that can change an answer, for cache keys."""
        semantic = "with" if self.similarity else "without"
        return f"extractive:{self.most}:{self.keep}:{self.threshold}:{semantic} similarity"

    async def generate(self, question: str, context: Context) -> Generation:
        """The answer, made in a thread: scoring many passages takes milliseconds that others can use.

        Raises:
            InputError: ``question`` is blank.
        """
        check_query(question, 1)
        return await asyncio.to_thread(self._answer, question, context)

    def _answer(self, question: str, context: Context) -> Generation:
        if not context.hits:
            return _nothing("the context holds no sources")
        wanted = stems(question)
        candidates = [
            _Candidate(number, hit.chunk, passage)
            for number, hit in enumerate(context.hits, 1)
            for passage in whole_passages(hit.chunk)
        ]
        if not wanted or not candidates:
            return _nothing("the question has no content words" if not wanted else "the sources hold no words")
        own, source = self._coverage(wanted, candidates)
        if source.max() < self.threshold:
            return _nothing(f"the best source holds {source.max():.0%} of what is asked, below {self.threshold:.0%}")
        scores = own + source + 0.3 / np.array([c.number for c in candidates])
        if self.similarity is not None:
            scores = scores + _to_unit(self.similarity(question, [c.span for c in candidates]))
        return _quote(self._select(candidates, scores))

    def _coverage(self, wanted: set[str], candidates: Sequence[_Candidate]) -> tuple[Floats, Floats]:
        """The idf-weighted shares ``(n,)`` of the question's words in each passage, and in the source it is from.

        A word that only the passage's heading holds counts half for the passage and whole for the source.
        """
        texts = [stems(c.text) for c in candidates]
        heads = [stems(c.heading) for c in candidates]
        both = [text | head for text, head in zip(texts, heads, strict=True)]
        weight = {term: idf(term, both) for term in wanted}
        numbers = [c.number for c in candidates]
        sources = {
            n: set[str]().union(*(b for b, m in zip(both, numbers, strict=True) if m == n)) for n in set(numbers)
        }

        def share(words: set[str]) -> float:
            return sum(w for term, w in weight.items() if term in words) / sum(weight.values())

        own = [(share(text) + share(b)) / 2 for text, b in zip(texts, both, strict=True)]
        return np.array(own), np.array([share(sources[n]) for n in numbers])

    def _select(self, candidates: Sequence[_Candidate], scores: Floats) -> list[_Candidate]:
        """The best ``most`` candidates, no two of them nearly the same, in reading order."""
        chosen: list[_Candidate] = []
        for i in np.argsort(-scores, kind="stable"):
            if len(chosen) == self.most or scores[i] < self.keep * scores.max():
                break
            if all(_jaccard(stems(candidates[i].text), stems(c.text)) < 0.6 for c in chosen):
                chosen.append(candidates[i])
        return sorted(chosen, key=lambda c: (c.number, c.passage.start))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One passage of source ``number``."""

    number: int
    chunk: Chunk
    passage: Passage

    @property
    def text(self) -> str:
        return self.chunk.text[self.passage.start : self.passage.end]

    @property
    def heading(self) -> str:
        return self.passage.heading or " ".join(self.chunk.section[-1:])

    @property
    def span(self) -> Chunk:
        """The passage as a chunk of the document, so that a token store can look its vectors up."""
        start = self.chunk.start
        return replace(self.chunk, start=start + self.passage.start, end=start + self.passage.end, text=self.text)


def whole_passages(chunk: Chunk) -> list[Passage]:
    """The passages of ``chunk`` without a first or last sentence that its edges cut, if anything remains."""
    found = passages(chunk.text)
    whole = list(found)
    if whole and chunk.start > 0 and whole[0].start == 0 and chunk.text[0].islower():
        whole[:1] = _without(chunk.text, whole[0], first=True)
    if whole and whole[-1].kind == "prose" and not _ENDS.search(chunk.text, whole[-1].start, whole[-1].end):
        whole[-1:] = _without(chunk.text, whole[-1], first=False)
    return whole or found


def _without(text: str, passage: Passage, first: bool) -> list[Passage]:
    """``passage`` without its first or last sentence; nothing, if it has only one."""
    inner = list(sentences(text[passage.start : passage.end]))[1 if first else 0 : None if first else -1]
    if not inner:
        return []
    return [
        replace(passage, start=passage.start + inner[0][0], end=passage.end if first else passage.start + inner[-1][1])
    ]


def _quote(chosen: Sequence[_Candidate]) -> Generation:
    """The answer's text: neighbouring passages become one quote, each quote is followed by its ``[n]``."""
    joined: list[_Candidate] = []
    for c in chosen:
        last = joined[-1] if joined else None
        if last and last.number == c.number and not c.chunk.text[last.passage.end : c.passage.start].strip():
            joined[-1] = replace(last, passage=replace(last.passage, end=c.passage.end, kind=c.passage.kind))
        else:
            joined.append(c)
    marked = [f"{c.text}{' ' if c.passage.kind == 'prose' else chr(10) * 2}[{c.number}]" for c in joined]
    return Generation("\n\n".join(marked), tuple(Citation(c.number, c.chunk, c.text) for c in joined))


def _nothing(reason: str) -> Generation:
    return Generation(NOT_FOUND, abstained=True, reason=reason)


def _to_unit(scores: NDArray[np.float32]) -> Floats:
    """Min-max scaling to 0..1; all equal scores become 0."""
    low, high = float(scores.min()), float(scores.max())
    return (scores.astype(np.float64) - low) / (high - low) if high > low else np.zeros(len(scores))


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b) if a | b else 1.0

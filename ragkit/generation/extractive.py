"""An answer without a model: the passages of the context that fit the question best, quoted word for word.

It can't rephrase, so it can't invent. Cut the sources into passages (what a reader would copy: a few sentences, a code
block with the sentence that introduces it, a list), score each against the question, quote the best. Headings are never
quoted; they tell what the passages below them are about. What is code is quoted as code, between its fences.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Citation, Context, Generation, check_query, require
from ragkit.generation.prompts import NOT_FOUND
from ragkit.markdown import Block, blocks, closed, sentences
from ragkit.retrieval.hybrid import minmax

Floats = NDArray[np.float64]
Similarity = Callable[[str, Sequence[Chunk]], NDArray[np.float32]]

_ENDS = re.compile(r"[.!?。！？][\"')\]`]*\Z|\|\Z")
_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t]+\S", re.MULTILINE)
_SHORT = 240  # characters up to which sentences of one paragraph stay together
_LONG = 1200  # characters of a list, above which it is quoted in part
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

# What makes a passage's score, in log odds: rounded weights of a logistic regression that tells passages of the gold
# section from others, on ``core``. ``tests/bench/bench_answers.py`` measures how much of the quotes is gold.
WEIGHTS = {
    "rank": 2.0,  # 1 / the number of its source: the retriever's rank
    "words": 1.0,  # the share of the question's words that the passage holds
    "heading": 4.0,  # ... that the heading above it holds
    "section": 1.0,  # ... that the passages under this heading hold together
    "similarity": 2.0,  # its similarity to the question, from 0 to 1 within the context
    "section similarity": 4.0,  # that of the best passage under this heading
}


@cache
def _stemmer() -> Any:
    return require("Stemmer", "search").Stemmer("english")


def stems(text: str) -> set[str]:
    """The stemmed content words of ``text``; identifiers count as their parts.

    >>> sorted(stems("How do I purge all waiting tasks from task_queues?"))
    ['all', 'purg', 'queue', 'task', 'wait']
    """
    words = set(_WORD.findall(text.lower())) - _STOPWORDS
    return set(_stemmer().stemWords(list(words)))


def idf(term: str, texts: Sequence[set[str]]) -> float:
    """ln(1 + (N - n + 0.5) / (n + 0.5)) for a term in n of N texts: never negative, highest for a term in none.

    Robertson & Zaragoza, The Probabilistic Relevance Framework (2009), eq. 3.3, with Lucene's "1 +".
    """
    n = sum(term in text for text in texts)
    return math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))


@dataclass(frozen=True)
class Extractive:
    """The offline generator: quotes the best passages of the context with ``[n]``, or says that there are none.

    A passage answers a question if the section answers it in which it stands, so what its section holds counts, not
    only its own words: see ``WEIGHTS``. What is far below the best is left out, so are near-copies, and the rest is
    quoted in reading order.

    Args:
        similarity: ``(question, chunks) -> (n,)`` scores, for example ``store.maxsim``; None is words alone. Beside
            a cache, it must have an ``identity``, or be a method of what has one.
        limit: passages quoted, at most.
        keep: the share of the best passage's odds that another one needs to be quoted, 0..1.
        threshold: the share of the question's words, weighted by their idf, that some source must hold, 0..1; below it,
            the answer is ``NOT_FOUND``.

    >>> import asyncio
    >>> from ragkit.base import Hit
    >>> chunk = Chunk("celery/faq", 0, 43, "Stop it with kill.\\n\\nPurge tasks with purge.")
    >>> context = Context("...", (Hit(chunk, 1.0),), 12)
    >>> asyncio.run(Extractive(limit=1).generate("How do I purge tasks?", context)).text
    'Purge tasks with purge. [1]'
    """

    similarity: Similarity | None = field(default=None, repr=False)
    _: KW_ONLY
    limit: int = 4
    keep: float = 0.2
    threshold: float = 0.3

    async def generate(self, question: str, context: Context) -> Generation:
        """The answer, made in a thread: scoring many passages takes milliseconds that others can use.

        Raises:
            InputError: ``question`` is blank.
        """
        check_query(question, 1)
        return await asyncio.to_thread(self._answer, question, context)

    def _answer(self, question: str, context: Context) -> Generation:
        listed = candidates(context)
        if not listed:
            return _nothing("the context holds no sources")
        if not stems(question):
            return _nothing("the question has no content words")
        scores, covered = self._scores(question, listed)
        if covered < self.threshold:
            return _nothing(f"the best source holds {covered:.0%} of what is asked, below {self.threshold:.0%}")
        return _quote(self._select(listed, scores))

    def _scores(self, question: str, listed: Sequence[Candidate]) -> tuple[Floats, float]:
        """The log odds ``(n,)`` that each candidate answers, and the largest share of the question in one source.

        A share is that of the question's words, weighted by their idf among the passages.
        """
        wanted = stems(question)
        words, heads = [stems(c.text) for c in listed], [stems(c.heading) for c in listed]
        both = [own | head for own, head in zip(words, heads, strict=True)]
        weight = {term: idf(term, both) for term in wanted}
        total = sum(weight.values())

        def share(held: set[str]) -> float:
            return sum(weight[term] for term in wanted & held) / total

        def pooled(keys: Sequence[Hashable]) -> list[float]:
            union = defaultdict[Hashable, set[str]](set)
            for key, own in zip(keys, both, strict=True):
                union[key] |= own
            return [share(union[key]) for key in keys]

        similar = np.zeros(len(listed))
        if self.similarity is not None:
            similar = minmax(self.similarity(question, [c.as_chunk for c in listed]).astype(np.float64))
        sections = [(c.number, c.heading) for c in listed]
        nearest = defaultdict[Hashable, float](float)
        for section, value in zip(sections, similar.tolist(), strict=True):
            nearest[section] = max(nearest[section], value)
        features = {
            "rank": [1 / c.number for c in listed],
            "words": [share(own) for own in words],
            "heading": [share(head) for head in heads],
            "section": pooled(sections),
            "similarity": similar,
            "section similarity": [nearest[section] for section in sections],
        }
        scores = sum((weight * np.array(features[name]) for name, weight in WEIGHTS.items()), np.zeros(1))
        return scores, max(pooled([c.number for c in listed]))

    def _select(self, listed: Sequence[Candidate], scores: Floats) -> list[Candidate]:
        """The best ``limit`` candidates, no two of them nearly the same, in reading order."""
        odds = np.exp(scores - scores.max())
        chosen: dict[int, set[str]] = {}
        for i in np.argsort(-scores, kind="stable").tolist():
            if len(chosen) == self.limit or odds[i] < self.keep:
                break
            words = stems(listed[i].text)
            if all(len(words & other) < 0.6 * len(words | other) for other in chosen.values()):
                chosen[i] = words
        return [listed[i] for i in sorted(chosen)]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One passage of source ``number``; ``heading`` is the one that it stands under."""

    number: int
    chunk: Chunk
    passage: Block

    @property
    def text(self) -> str:
        return self.chunk.text[self.passage.start : self.passage.end]

    @property
    def heading(self) -> str:
        return self.passage.heading or " ".join(self.chunk.section[-1:])

    @property
    def as_chunk(self) -> Chunk:
        """The passage as a chunk of the document, so that a token store can look its vectors up."""
        start = self.chunk.start
        return replace(self.chunk, start=start + self.passage.start, end=start + self.passage.end, text=self.text)


def candidates(context: Context) -> list[Candidate]:
    """All that can be quoted from the context, in order."""
    return [
        Candidate(number, hit.chunk, passage)
        for number, hit in enumerate(context.hits, 1)
        for passage in whole_passages(hit.chunk)
    ]


def passages(text: str, cut: bool = False) -> list[Block]:
    """What can be quoted from ``text``: sentences, code with the sentence before it, lists with theirs.

    Sentences of one paragraph stay together up to 240 characters. Of a list of more than 1,200, the sentence before it
    keeps as many whole items as fit, and the others are offered by themselves. A sentence that ends in a colon is never
    offered without what it announces. Headings are offered only where there is nothing else. ``cut``: ``text`` is a
    piece of a document.

    >>> text = "# Purging\\n\\nType:\\n\\n```sh\\npurge\\n```\\n\\nDone. Gone."
    >>> [text[p.start : p.end] for p in passages(text)]
    ['Type:\\n\\n```sh\\npurge\\n```', 'Done. Gone.']
    """
    result: list[Block] = []
    every = blocks(text, cut)
    lead: Block | None = None
    for block in every:
        if block.kind == "heading":
            lead = None
            continue
        parts = [(block.start, block.end)]
        if block.kind in ("paragraph", "quote"):
            parts = _grouped(sentences(text, block.start, block.end))
        elif block.kind == "list" and block.end - block.start > _LONG:
            marks = [m.start() for m in _ITEM.finditer(text, block.start, block.end)] or [block.start]
            parts = [(a, a + len(text[a:b].rstrip())) for a, b in zip(marks, [*marks[1:], block.end], strict=True)]
        offered = [replace(block, start=a, end=b) for a, b in parts]
        if lead and _belongs(text, lead, block):
            fit = sum(p.end - lead.start <= _LONG for p in offered) if block.kind == "list" else 1
            taken = max(1, fit)
            result[-1] = replace(lead, end=offered[taken - 1].end, kind=block.kind)
            offered = offered[taken:]
        result += offered
        lead = result[-1]
    return result or [replace(block, kind="paragraph") for block in every]


def _belongs(text: str, lead: Block, block: Block) -> bool:
    """Whether ``block`` is quoted only with the passage before it: a colon announces it, or it is that text's code."""
    if lead.kind == "list":  # code or a table within an item
        return block.kind in ("code", "table") and text[block.start].isspace() and block.end - lead.start <= _LONG
    return lead.kind == "paragraph" and (block.kind == "code" or text[lead.end - 1] == ":")


def _grouped(parts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring ``parts`` together, as long as they stay within ``_SHORT`` characters."""
    groups: list[tuple[int, int]] = []
    for start, end in parts:
        if groups and end - groups[-1][0] <= _SHORT:
            groups[-1] = (groups[-1][0], end)
        else:
            groups.append((start, end))
    return groups


def whole_passages(chunk: Chunk) -> list[Block]:
    """The passages of ``chunk`` without a first or last sentence (a list: line) that its edges cut, if any remain."""
    text = chunk.text
    result = passages(text, cut=True)
    whole = list(result)
    if whole and chunk.start > 0 and whole[0].start == 0 and text[0].islower() and whole[0].kind == "paragraph":
        after = sentences(text, 0, whole[0].end)[1:]
        whole[:1] = [replace(whole[0], start=after[0][0])] if after else []
    last = whole[-1] if whole else None
    if last and not _ENDS.search(text[last.start : last.end]):
        if last.kind == "paragraph":
            before = sentences(text, last.start, last.end)[:-1]
            whole[-1:] = [replace(last, end=before[-1][1])] if before else []
        elif last.kind in ("list", "table") and last.end == len(text):
            lines = text[last.start :].rpartition("\n")[0].rstrip()
            whole[-1:] = [replace(last, end=last.start + len(lines))] if lines and lines[-1] != ":" else []
    return whole or result


def _quote(chosen: Sequence[Candidate]) -> Generation:
    """The answer's text: neighbouring passages become one quote, each quote is followed by its ``[n]``."""
    joined: list[Candidate] = []
    for c in chosen:
        last = joined[-1] if joined else None
        if last and last.number == c.number and not c.chunk.text[last.passage.end : c.passage.start].strip():
            joined[-1] = replace(last, passage=replace(last.passage, end=c.passage.end, kind=c.passage.kind))
        else:
            joined.append(c)
    gaps = [" " if c.passage.kind == "paragraph" else "\n\n" for c in joined]
    marked = [f"{closed(c.text)}{gap}[{c.number}]" for c, gap in zip(joined, gaps, strict=True)]
    citations = tuple(Citation(c.number, c.chunk, c.text) for c in joined)
    return Generation("\n\n".join(marked), citations, writer="quotes")


def _nothing(reason: str) -> Generation:
    return Generation(NOT_FOUND, abstained=True, reason=reason)

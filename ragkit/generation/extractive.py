"""An answer without a model: the place of the context that fits the question best, quoted word for word.

It can't rephrase, so it can't invent. Cut the sources into passages (what a reader would copy: a few sentences, a code
block with the sentence that introduces it, a list), score each run of neighbouring passages against the question, and
quote the best run; where there is room, runs of other sections follow. Headings are never quoted; they tell what the
passages below them are about. What is code is quoted as code, between its fences.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Citation, Context, Generation, check_query, require
from ragkit.generation.prompts import NOT_FOUND
from ragkit.markdown import Block, blocks, closed, sentences
from ragkit.retrieval.analysis import FUNCTION_WORDS, Analyzer
from ragkit.retrieval.hybrid import minmax

Floats = NDArray[np.float64]
Similarity = Callable[[str, Sequence[Chunk]], NDArray[np.float32]]

_ENDS = re.compile(r"[.!?。！？][\"')\]`]*\Z|\|\Z")
_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t]+\S", re.MULTILINE)
_SHORT = 240  # characters up to which sentences of one paragraph stay together
_LONG = 1200  # characters of a list, above which it is quoted in part
_RUN = 450  # characters up to which neighbouring passages are quoted as one
_ANSWER = 500  # characters of all quotes, up to which runs of other sections follow the best
_NEAR = 0.03  # the odds of a run that may follow, as a share of the best run's
_LEAST = 0.3  # the share of the question that the best run holds, below which the answer is unsure
_MARGIN = 0.5  # the log odds between the best run and another section, below which it is
_WORD = re.compile(r"[^\W_]+")

# What makes a run's score, in log odds: weights in whole numbers, chosen on ``core`` for right first quotes.
# ``tests/bench/bench_extractive.py`` measures how often they are right.
WEIGHTS = {
    "rank": 2.0,  # 1 / the number of its source: the retriever's rank
    "words": 1.0,  # the share of the question's words that the run holds
    "heading": 3.0,  # ... that the heading above it holds
    "section": 1.0,  # ... that the passages under this heading hold together
    "similarity": 2.0,  # its similarity to the question, from 0 to 1 within the context
    "section similarity": 4.0,  # that of the best run under this heading
}


@cache
def _stemmer() -> Any:
    return require("Stemmer", "search").Stemmer("english")


def stems(text: str, analyzer: Analyzer | None = None) -> set[str]:
    """The stemmed content words of an English text, or those that ``analyzer`` finds; identifiers count as their parts.

    >>> sorted(stems("How do I purge all waiting tasks from task_queues?"))
    ['all', 'purg', 'queue', 'task', 'wait']
    """
    if analyzer is not None:
        return set(analyzer.terms(text))
    words = set(_WORD.findall(text.lower())) - FUNCTION_WORDS
    return set(_stemmer().stemWords(list(words)))


def idf(term: str, texts: Sequence[set[str]]) -> float:
    """ln(1 + (N - n + 0.5) / (n + 0.5)) for a term in n of N texts: never negative, highest for a term in none.

    Robertson & Zaragoza, The Probabilistic Relevance Framework (2009), eq. 3.3, with Lucene's "1 +".
    """
    n = sum(term in text for text in texts)
    return math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))


@dataclass(frozen=True)
class Extractive:
    """The offline generator: quotes the best place of the context with ``[n]``, or says that there is none.

    The first quote is the best run of neighbouring passages under one heading, of 450 characters at most (one passage
    alone, a list or a code block, may be longer). A run answers a question if the section answers it in which it
    stands, so what its section holds counts, not only its own words: see ``WEIGHTS``. The best runs of other sections
    follow, as long as all quotes together stay within 500 characters; near-copies and what is far below the best do
    not. ``Generation.reason`` begins with "unsure: " where the best run holds little of what is asked, or where another
    section fits nearly as well.

    Args:
        similarity: ``(question, chunks) -> (n,)`` scores, for example ``store.maxsim``; None is the share of the
            question's words. Beside a cache, it must have an ``identity``, or be a method of what has one.
        threshold: the share of the question's words, weighted by their idf, that some source must hold, 0..1; below it,
            the answer is ``NOT_FOUND``.
        analyzer: the words of another language than English (``Analyzer.for_language``).

    >>> import asyncio
    >>> from ragkit.base import Hit
    >>> chunk = Chunk("celery/faq", 0, 58, "# Purging tasks\\n\\nUse purge.\\n\\n# Beat\\n\\nIt is like a clock.")
    >>> context = Context("...", (Hit(chunk, 1.0),), 12)
    >>> asyncio.run(Extractive().generate("How do I purge tasks?", context)).text
    'Use purge. [1]'
    """

    similarity: Similarity | None = field(default=None, repr=False)
    _: KW_ONLY
    threshold: float = 0.3
    analyzer: Analyzer | None = field(default=None, repr=False)

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
        if not self._stems(question):
            return _nothing("the question has no content words")
        weight, listed = self._idf_weights(question, listed), runs(listed)
        scores, held, covered = self._scores(question, listed, weight)
        if covered < self.threshold:
            return _nothing(f"the best source holds {covered:.0%} of what is asked, below {self.threshold:.0%}")
        return replace(_quote(self._select(listed, scores)), reason=_uncertainty(listed, scores, held))

    def _scores(
        self, question: str, listed: Sequence[Candidate], weight: Mapping[str, float]
    ) -> tuple[Floats, list[float], float]:
        """The log odds ``(n,)`` that each run answers, its share of the question, and the largest share of a source.

        A share is the ``weight`` of the question's words that stand there or in the heading.
        """
        words, heads = [self._stems(c.text) for c in listed], [self._stems(c.heading) for c in listed]
        both = [own | head for own, head in zip(words, heads, strict=True)]

        def share(held: set[str]) -> float:
            return sum(weight[term] for term in weight.keys() & held)

        def pooled(keys: Sequence[Hashable]) -> list[float]:
            union = defaultdict[Hashable, set[str]](set)
            for key, own in zip(keys, both, strict=True):
                union[key] |= own
            return [share(union[key]) for key in keys]

        in_words = [share(own) for own in words]
        compared = in_words if self.similarity is None else self.similarity(question, [c.as_chunk for c in listed])
        similar = minmax(np.asarray(compared, dtype=np.float64))
        sections = [c.section for c in listed]
        nearest = defaultdict[Hashable, float](float)
        for section, value in zip(sections, similar.tolist(), strict=True):
            nearest[section] = max(nearest[section], value)
        features = {
            "rank": [1 / c.number for c in listed],
            "words": in_words,
            "heading": [share(head) for head in heads],
            "section": pooled(sections),
            "similarity": similar,
            "section similarity": [nearest[section] for section in sections],
        }
        scores = sum((factor * np.array(features[name]) for name, factor in WEIGHTS.items()), np.zeros(1))
        return scores, [share(own) for own in both], max(pooled([c.number for c in listed]))

    def _stems(self, text: str) -> set[str]:
        return stems(text, self.analyzer)

    def _idf_weights(self, question: str, listed: Sequence[Candidate]) -> dict[str, float]:
        """The question's stems with their idf among the passages, as shares of 1."""
        texts = [self._stems(c.text) | self._stems(c.heading) for c in listed]
        weights = {term: idf(term, texts) for term in self._stems(question)}
        return {term: weight / sum(weights.values()) for term, weight in weights.items()}

    def _select(self, listed: Sequence[Candidate], scores: Floats) -> list[Candidate]:
        """The best run, then the best ones of other sections that still fit, no two of them nearly the same."""
        chosen: list[tuple[Candidate, set[str]]] = []
        for i in np.argsort(-scores, kind="stable").tolist():
            run, words = listed[i], self._stems(listed[i].text)
            if scores[i] < scores.max() + math.log(_NEAR):
                break
            fits = sum(len(other.text) for other, _ in chosen) + len(run.text) <= _ANSWER
            new = all(run.section != c.section and len(words & other) < 0.6 * len(words | other) for c, other in chosen)
            if not chosen or (fits and new):
                chosen.append((run, words))
        return [run for run, _ in chosen]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage of source ``number``, or several that touch; ``heading`` is the one that it stands under."""

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
    def section(self) -> tuple[int, str]:
        return self.number, self.heading

    @property
    def as_chunk(self) -> Chunk:
        """The passage as a chunk of the document, so that a token store can look its vectors up."""
        start = self.chunk.start
        return replace(self.chunk, start=start + self.passage.start, end=start + self.passage.end, text=self.text)


def candidates(context: Context) -> list[Candidate]:
    """The passages of the context, in order."""
    return [
        Candidate(number, hit.chunk, passage)
        for number, hit in enumerate(context.hits, 1)
        for passage in whole_passages(hit.chunk)
    ]


def runs(listed: Sequence[Candidate]) -> list[Candidate]:
    """All that can be quoted: each passage, and all neighbours up to ``_RUN`` characters that no heading parts.

    >>> chunk = Chunk("d", 0, 24, "# A\\n\\nOne.\\n\\n> Two.\\n\\n# B\\n\\nThree.")
    >>> [run.text for run in runs([Candidate(1, chunk, p) for p in passages(chunk.text)])]
    ['One.', 'One.\\n\\n> Two.', '> Two.', 'Three.']
    """
    result: list[Candidate] = []
    for i, run in enumerate(listed):
        result.append(run)
        for after in listed[i + 1 :]:
            between = run.chunk.text[run.passage.end : after.passage.start]
            if after.number != run.number or between.strip() or after.passage.end - run.passage.start > _RUN:
                break
            run = replace(run, passage=replace(run.passage, end=after.passage.end, kind=after.passage.kind))
            result.append(run)
    return result


def _uncertainty(listed: Sequence[Candidate], scores: Floats, held: Sequence[float]) -> str:
    """Why the first quote is probably not right, or ""."""
    best = int(np.argmax(scores))
    if held[best] < _LEAST:
        return f"unsure: the best passage holds only {held[best]:.0%} of what is asked"
    others = [score for run, score in zip(listed, scores, strict=True) if run.section != listed[best].section]
    if max(others, default=-math.inf) > scores[best] - _MARGIN:
        return "unsure: another section fits nearly as well"
    return ""


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
    """The answer's text: each quote, followed by its ``[n]``."""
    gaps = [" " if c.passage.kind == "paragraph" else "\n\n" for c in chosen]
    marked = [f"{closed(c.text)}{gap}[{c.number}]" for c, gap in zip(chosen, gaps, strict=True)]
    citations = tuple(Citation(c.number, c.chunk, c.text) for c in chosen)
    return Generation("\n\n".join(marked), citations, writer="quotes")


def _nothing(reason: str) -> Generation:
    return Generation(NOT_FOUND, abstained=True, reason=reason)

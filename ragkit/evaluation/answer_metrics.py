"""How good is one answer? One formula, one function; ``ragkit.evaluation.answers`` puts them in a table.

Against the reference: ``token_f1``, ``rouge_l``, ``similarity``. Against the question: ``relevance``. Of the
citations: ``citation_precision`` and ``citation_recall`` against gold spans, ``support_recall`` and
``support_precision`` against what the cited sources say (``ragkit.evaluation.faithfulness`` judges that).

Likeness to a reference is no sign of truth: of labelled sentences that are not quotes (``data/answers.jsonl``), their
section being the reference, true ones score higher than false ones with an AUROC of .63 [.59, .67] by token F1,
.61 [.58, .64] by ROUGE-L, .64 [.59, .69] by similarity; ``faithfulness`` has .88 (``tests/run_bench.py scorers``).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from ragkit.base import Answer, Chunk, Citation, Embedder, InputError, Span, Vectors
from ragkit.evaluation.metrics import is_relevant, relevant_gold
from ragkit.passages import blocks, sentences

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")
_MARKER = re.compile(r"(?<!\w)\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S)")


@dataclass(frozen=True)
class Statement:
    """A sentence of an answer (or a list item, or a code block) and the numbers of the sources that it cites."""

    text: str
    cited: frozenset[int] = frozenset()


def statements(answer: Answer) -> tuple[Statement, ...]:
    """The statements of an answer, in order, without their markers.

    A marker cites the statement before it. A statement that stands in the quote of a citation cites that source, too.

    >>> chunk = Chunk("d", 0, 9, "Use purge")
    >>> given = Answer("How?", "Use purge [1]. It is fast.", citations=(Citation(1, chunk),))
    >>> [(s.text, sorted(s.cited)) for s in statements(given)]
    [('Use purge.', [1]), ('It is fast.', [])]
    """
    known = {citation.number for citation in answer.citations}
    text, markers = _without_markers(answer.text, known)
    ranges = [
        (block.start + a, block.start + b)
        for block in blocks(text)
        for a, b in _parts(text[block.start : block.end], block.kind)
        if any(c.isalnum() for c in text[block.start + a : block.start + b])
    ]
    starts = np.array([a for a, _ in ranges], dtype=np.int64)
    cited: list[set[int]] = [set() for _ in ranges]
    for place, numbers in markers:
        if (i := int(np.searchsorted(starts, place, side="left")) - 1) >= 0:
            cited[i] |= numbers
    for i, (a, b) in enumerate(ranges):
        cited[i] |= {c.number for c in answer.citations if text[a:b] in c.quote}
    return tuple(Statement(text[a:b].strip(), frozenset(c)) for (a, b), c in zip(ranges, cited, strict=True))


def _without_markers(text: str, known: Collection[int]) -> tuple[str, list[tuple[int, set[int]]]]:
    """The text without its markers, and where each stood. ``[7]`` is a marker only if source 7 is cited."""
    kept, markers, end = "", [], 0
    for marker in _MARKER.finditer(text):
        numbers = {int(n) for n in marker[1].split(",")} & set(known)
        if numbers:
            kept += text[end : marker.start()].rstrip(" ")
            markers.append((len(kept), numbers))
            end = marker.end()
    return kept + text[end:], markers


def _parts(block: str, kind: str) -> list[tuple[int, int]]:
    """The ranges of a block's statements: prose by sentence, a list by item, anything else whole."""
    if kind == "prose":
        return list(sentences(block))
    if kind != "list":
        return [(0, len(block))]
    cuts = [0, *(m.end() for m in _ITEM.finditer(block)), len(block)]
    return [(a, b) for a, b in pairwise(cuts) if block[a:b].strip()]


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall over the words that both have, each counted as often as it stands.

    As in SQuAD's evaluation script (Rajpurkar et al. 2016, arXiv 1606.05250): lower case, without punctuation and
    articles.

    >>> token_f1("Purge the queue!", "purge a queue now")
    0.8

    Raises:
        InputError: one of the texts has no words.
    """
    left, right = _squad_words(answer), _squad_words(reference)
    if not left or not right:
        raise InputError("token F1 needs words on both sides: leave the answer unscored")
    both = sum((Counter(left) & Counter(right)).values())
    return 2 * both / (len(left) + len(right))


def _squad_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def rouge_l(answer: str, reference: str) -> float:
    """The F1 of the longest common subsequence of words (Lin 2004, ROUGE, section 3.1, with beta = 1).

    Words are runs of letters and digits in lower case, as in Google's ``rouge-score`` without its stemmer.

    >>> round(rouge_l("The quick brown fox", "The brown quick fox"), 4)
    0.75

    Raises:
        InputError: one of the texts has no words.
    """
    left, right = (_NOT_ALPHANUMERIC.sub(" ", text.lower()).split() for text in (answer, reference))
    if not left or not right:
        raise InputError("ROUGE-L needs words on both sides: leave the answer unscored")
    return 2 * common_subsequence(left, right) / (len(left) + len(right))


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """The length of the longest common subsequence, with a bit for each word of ``left`` (Hyyrö 2004).

    >>> common_subsequence("abcbdab", "bdcaba")
    4
    """
    places: dict[str, int] = {}
    for i, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << i
    row = full = (1 << len(left)) - 1
    for word in right:
        step = row & places.get(word, 0)
        row = (row + step | row - step) & full
    return len(left) - row.bit_count()


def similarity(answer: str, reference: str, embedder: Embedder) -> float:
    """The cosine of the two texts' vectors, -1 to 1.

    >>> class Letters:
    ...     def encode(self, texts, kind="passage"):
    ...         return np.array([[t.count("a"), t.count("b")] for t in texts]) / 2.0
    >>> similarity("aa", "bb", Letters()), similarity("aa", "aac", Letters())
    (0.0, 1.0)

    Raises:
        InputError: one of the texts is blank.
    """
    if not answer.strip() or not reference.strip():
        raise InputError("similarity needs text on both sides: leave the answer unscored")
    known: Any = embedder
    return float(_vector(answer, known) @ _vector(reference, known))


@lru_cache(maxsize=4096)  # every system's answers meet the same references
def _vector(text: str, embedder: Any) -> Vectors:
    vector: Vectors = embedder.encode([text], "query")[0]  # the kind for which nothing heavy is loaded
    return vector


def citation_precision(citations: Sequence[Citation], gold: Sequence[Span]) -> float:
    """The share of the cited sources that answer a gold span (each source counted once).

    >>> cited = [Citation(1, Chunk("d", 0, 4, "abcd")), Citation(2, Chunk("d", 4, 8, "efgh"))]
    >>> citation_precision(cited, [Span("d", 0, 4)])
    0.5

    Raises:
        InputError: there is no citation, or no gold.
    """
    chunks, spans = _cited_chunks(citations), _gold(gold)
    if not chunks:
        raise InputError("no citations: their precision is undefined")
    return sum(any(is_relevant(chunk, span) for span in spans) for chunk in chunks) / len(chunks)


def citation_recall(citations: Sequence[Citation], gold: Sequence[Span]) -> float:
    """The share of the gold spans that a cited source answers; 0 without citations.

    >>> citation_recall([Citation(1, Chunk("d", 0, 4, "abcd"))], [Span("d", 0, 4), Span("d", 8, 12)])
    0.5

    Raises:
        InputError: there is no gold.
    """
    spans = _gold(gold)
    return sum(any(is_relevant(chunk, span) for chunk in _cited_chunks(citations)) for span in spans) / len(spans)


def _cited_chunks(citations: Sequence[Citation]) -> list[Chunk]:
    return list({citation.number: citation.chunk for citation in citations}.values())


def _gold(gold: Sequence[Span]) -> tuple[Span, ...]:
    spans = relevant_gold(gold)
    if not spans:
        raise InputError("no gold span of grade 1 or more: citations can't be compared with any")
    return spans


Supported = Callable[[str, Sequence[Chunk]], bool]


def support_recall(given: Sequence[Statement], sources: dict[int, Chunk], supported: Supported) -> float:
    """The share of the statements that their cited sources, taken together, support.

    ALCE's citation recall (Gao et al. 2023, arXiv 2305.14627, section 4.3), with ``supported`` in the place of its
    model. A statement without a citation counts as not supported.

    >>> holds = lambda text, chunks: any(text in c.text for c in chunks)
    >>> support_recall([Statement("a", frozenset({1})), Statement("b")], {1: Chunk("d", 0, 2, "ab")}, holds)
    0.5

    Raises:
        InputError: there is no statement.
    """
    if not given:
        raise InputError("no statements: nothing can be supported")
    return sum(_holds(s.text, s.cited, sources, supported) for s in given) / len(given)


def support_precision(given: Sequence[Statement], sources: dict[int, Chunk], supported: Supported) -> float:
    """The share of the citations that are needed: they support the statement alone, or the others do not without them.

    ALCE's citation precision (as above): a citation of a statement that is not supported counts as not needed.

    >>> holds = lambda text, chunks: any(text in c.text for c in chunks)
    >>> both = {1: Chunk("d", 0, 2, "ab"), 2: Chunk("d", 2, 4, "cd")}
    >>> support_precision([Statement("a", frozenset({1, 2}))], both, holds)
    0.5

    Raises:
        InputError: no statement cites anything.
    """
    needed = [
        _holds(s.text, s.cited, sources, supported)
        and (_holds(s.text, {number}, sources, supported) or not _holds(s.text, s.cited - {number}, sources, supported))
        for s in given
        for number in s.cited
    ]
    if not needed:
        raise InputError("no statement cites a source: the precision of citations is undefined")
    return sum(needed) / len(needed)


def _holds(text: str, numbers: Collection[int], sources: dict[int, Chunk], supported: Supported) -> bool:
    chunks = [sources[number] for number in sorted(numbers) if number in sources]
    return bool(chunks) and supported(text, chunks)

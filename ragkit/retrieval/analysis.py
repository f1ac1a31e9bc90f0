"""From text to the terms that BM25 counts: words, stems, and identifiers whole and in parts.

A documentation corpus is full of names such as ``CELERY_TASK_ACKS_LATE`` or ``aiohttp.ClientSession``.
Somebody who pastes the name wants exactly it; somebody who asks about "late acks" wants its parts. An
``Analyzer`` can give both, and each step can be switched off to see what it is worth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Document, InputError, require

_WORD = re.compile(r"\w\w+")
_COMPOUND = re.compile(r"\w+(?:[-.:/]+\w+)*")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True)
class Analyzer:
    """Turns a text into terms.

    With ``whole`` and ``parts`` off it is the tokenizer of bm25s: words of two characters and more, lower
    case, without its English stop words, stemmed by Snowball ("Porter 2").

    - ``whole`` adds words joined by ``- . : /`` as one more term, as written but in lower case.
    - ``parts`` adds the parts of words with ``_`` or capitals inside.

    >>> Analyzer().terms("Set aiohttp.ClientSession")
    ['set', 'aiohttp', 'clientsess', 'client', 'session', 'aiohttp.clientsession']
    >>> Analyzer(stem=False, whole=False, parts=False).terms("the --max-requests of a worker")
    ['max', 'requests', 'worker']

    Raises:
        InputError: there is no stemmer, or no stop words, for ``language``.
    """

    stem: bool = True
    stop_words: bool = True
    whole: bool = True
    parts: bool = True
    language: str = "english"

    def terms(self, text: str) -> list[str]:
        """The terms of ``text``, in order, with repetitions."""
        return [term for surface in _COMPOUND.findall(text) for term in self.terms_of(surface)]

    def terms_of(self, surface: str) -> list[str]:
        """The terms of one word or compound."""
        words = _WORD.findall(surface)
        found = list(words)
        if self.parts:
            for word in words:
                # Capitals inside a word of another alphabet are not an identifier's.
                if len(parts := _PART.findall(word) if word.isascii() else word.split("_")) > 1:
                    found += (part for part in parts if len(part) > 1)
        terms = [self._stem(word) for word in map(str.lower, found) if word not in self._stops]
        if self.whole and words != [surface] and len(surface) > 1:
            terms.append(surface.lower())
        return terms

    @cached_property
    def _stops(self) -> frozenset[str]:
        if not self.stop_words:
            return frozenset()
        stopwords = require("bm25s.stopwords", "search")
        name = "EN" if self.language == "english" else self.language.upper()
        words = getattr(stopwords, f"STOPWORDS_{name}", None)
        if words is None:
            raise InputError(f"no stop words for {self.language!r}: pass stop_words=False, or another language")
        return frozenset(words)

    @cached_property
    def _stem(self) -> Callable[[str], str]:
        if not self.stem:
            return str
        stemmers = require("Stemmer", "search")
        try:
            stem: Callable[[str], str] = stemmers.Stemmer(self.language).stemWord
        except KeyError:
            raise InputError(
                f"no stemmer for {self.language!r}: expected one of {', '.join(stemmers.algorithms())}"
            ) from None
        return stem


class AnalyzedCorpus:
    """Documents analyzed once, so that any chunks of them are counted without reading the text again.

    Chunks of unknown documents, and chunks whose border cuts a word, are analyzed from their own text: the
    terms are the same either way. Pass one to many ``BM25Retriever`` to try chunk sizes at the speed of a slider.

    >>> analyzed = AnalyzedCorpus([Document("d", "Workers run tasks")], Analyzer())
    >>> [analyzed.term(i) for i in analyzed.ids(Chunk("d", 8, 17, "run tasks"))]
    ['run', 'task']
    """

    def __init__(self, documents: Iterable[Document] = (), analyzer: Analyzer | None = None) -> None:
        self.analyzer = analyzer or Analyzer()
        self.vocabulary: dict[str, int] = {}
        self._memo = _Memo(self)
        self._documents = {d.id: self._read(d.text) for d in documents}

    def __len__(self) -> int:
        return len(self.vocabulary)

    def term(self, number: int) -> str:
        """The term with this number."""
        return list(self.vocabulary)[number]

    def ids(self, chunk: Chunk) -> NDArray[np.int32]:
        """The numbers of the chunk's terms, in order, with repetitions."""
        if chunk.doc_id in self._documents:
            starts, ends, firsts, ids = self._documents[chunk.doc_id]
            i, j = np.searchsorted(starts, (chunk.start, chunk.end)).tolist()
            if (i == 0 or ends[i - 1] <= chunk.start) and (j == 0 or ends[j - 1] <= chunk.end):
                return ids[firsts[i] : firsts[j]]
        return self.text_ids(chunk.text)

    def text_ids(self, text: str) -> NDArray[np.int32]:
        """The numbers of the terms of any text; new terms get new numbers."""
        memo = self._memo
        return np.fromiter(chain.from_iterable([memo[s] for s in _COMPOUND.findall(text)]), dtype=np.int32)

    def known(self, text: str) -> list[int]:
        """The numbers of those terms of a query that the vocabulary has; nothing is added to it."""
        numbers: list[int] = []
        for surface in _COMPOUND.findall(text):
            seen = self._memo.get(surface)
            if seen is None:
                terms = self.analyzer.terms_of(surface)
                seen = [self.vocabulary[term] for term in terms if term in self.vocabulary]
            numbers += seen
        return numbers

    def _read(self, text: str) -> tuple[NDArray[np.int32], ...]:
        matches = list(_COMPOUND.finditer(text))
        spans = np.array([m.span() for m in matches], dtype=np.int32).reshape(-1, 2)
        terms = [self._memo[m.group()] for m in matches]
        firsts = np.cumsum([0, *map(len, terms)], dtype=np.int32)
        ids = np.fromiter(chain.from_iterable(terms), dtype=np.int32)
        return spans[:, 0].copy(), spans[:, 1].copy(), firsts, ids


class _Memo(dict[str, list[int]]):
    """The term numbers of every word seen: a corpus has few different words."""

    def __init__(self, owner: AnalyzedCorpus) -> None:
        super().__init__()
        self.owner = owner

    def __missing__(self, surface: str) -> list[int]:
        vocabulary = self.owner.vocabulary
        terms = self.owner.analyzer.terms_of(surface)
        self[surface] = numbers = [vocabulary.setdefault(term, len(vocabulary)) for term in terms]
        return numbers

"""Spelling repair against the words of the corpus: "wroker" becomes "worker" before anything is searched.

Keyword search finds nothing for a misspelt word, and an embedding model reads it as a row of word pieces that mean
something else. The corpus itself is the dictionary: it knows words that no other one has ("celeryd", "middleware").
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from ragkit.base import Document, InputError, require
from ragkit.tokens import minilm_tokenizer

_LETTERS = re.compile(r"[^\W\d_]+")
_SURFACE = re.compile(r"\S+")
_UNKNOWN = 10  # unknown words above which a question is in another language
_FOREIGN = 0.3  # the share of unknown words above which a question is in another language
_EDGES = "\"'`.,;:?!()[]{}<>*…“”‘’«»"


def edits_allowed(word: str) -> int:
    """How many edits a word of this length may be away: none up to 2 letters, 1 up to 5, else 2.

    Elasticsearch's ``fuzziness: AUTO``. An edit inserts, deletes or replaces a letter, or swaps two neighbours, which
    made four of five misspellings in Damerau 1964, "A technique for computer detection and correction of spelling
    errors".
    """
    return 0 if len(word) <= 2 else 1 if len(word) <= 5 else 2


class Spelling:
    """Replaces the words of a question that nobody knows by the nearest words of the corpus.

    A word stays as it is where the corpus has it, or a word of the same stem, or where it is among ``known`` words
    (``Spelling.of`` takes those of the packaged model: good English that this corpus happens not to use). Everything
    that may be a name stays too: whatever holds a digit, ``_``, ``-``, another sign, or capitals inside. And a question
    with more than ten unknown words, or more than 30 % of them, is in another language: it is left alone.

    Args:
        vocabulary: the words of the corpus, in lower case, and how often each occurs.
        known: more words that are never touched.
        at_least: a word that occurs less often is no repair, it may be a misspelling itself.

    >>> spelling = Spelling({"worker": 9, "working": 2, "stop": 5, "the": 50}, known={"quickly"})
    >>> spelling.rewrite("Stop the wroker quickly")
    ['Stop the worker quickly']

    Raises:
        InputError: ``at_least`` < 1.
    """

    def __init__(self, vocabulary: Mapping[str, int], known: Iterable[str] = (), at_least: int = 2) -> None:
        if at_least < 1:
            raise InputError(f"at_least is {at_least}: expected 1 or more")
        self.vocabulary, self.at_least = dict(vocabulary), at_least
        self._known = frozenset(known) | self.vocabulary.keys()

    @classmethod
    def of(cls, documents: Iterable[Document], at_least: int = 2) -> Spelling:
        """For the words of ``documents``, with the packaged model's vocabulary as more known words."""
        counts: Counter[str] = Counter()
        for document in documents:
            counts.update(map(str.lower, _LETTERS.findall(document.text)))
        # Its shorter pieces are often no words: "taks", read as a form of "tak", could never be repaired.
        pieces = minilm_tokenizer().fast.get_vocab()
        return cls(counts, (piece for piece in pieces if len(piece) > 3 and piece.isalpha()), at_least)

    def __repr__(self) -> str:
        return f"Spelling({len(self.vocabulary)} words)"

    def rewrite(self, question: str) -> list[str]:
        """The repaired question, as the only query."""
        repairs = self.repairs(question)
        return [_SURFACE.sub(lambda m: _replaced(m.group(), repairs), question)]

    def repairs(self, question: str) -> dict[str, str]:
        """The words that are replaced, as they stand in ``question``, and what replaces them."""
        words = dict.fromkeys(word for surface in _SURFACE.findall(question) if _plain(word := surface.strip(_EDGES)))
        unknown = [word for word in words if not self.knows(word)]
        if len(unknown) > min(_UNKNOWN, max(1, _FOREIGN * len(words))):
            return {}
        found = {word: self._nearest(word.lower()) for word in unknown}
        return {word: _cased(better, word) for word, better in found.items() if better}

    def knows(self, word: str) -> bool:
        """Whether the word, or another one of its stem, is known."""
        return word.lower() in self._known or self._stem(word.lower()) in self._stems

    def _nearest(self, word: str) -> str | None:
        """The repair: fewest edits, then the same first letter, then the most frequent."""
        rapidfuzz = require("rapidfuzz", "search")
        found = rapidfuzz.process.extract(
            word, self._repairs, scorer=rapidfuzz.distance.OSA.distance, score_cutoff=edits_allowed(word), limit=None
        )
        order = [(distance, target[0] != word[0], -self.vocabulary[target], target) for target, distance, _ in found]
        return min(order)[-1] if order else None

    @cached_property
    def _repairs(self) -> list[str]:
        return sorted(word for word, n in self.vocabulary.items() if n >= self.at_least and len(word) > 2)

    @cached_property
    def _stem(self) -> Callable[[str], str]:
        stem: Callable[[str], str] = require("Stemmer", "search").Stemmer("english").stemWord
        return stem

    @cached_property
    def _stems(self) -> frozenset[str]:
        return frozenset(map(self._stem, self._known))


def _plain(word: str) -> bool:
    """Whether it is an ordinary word: letters only, and no capitals inside."""
    return word.isalpha() and (word.islower() or word.istitle())


def _cased(word: str, like: str) -> str:
    return word.capitalize() if like[0].isupper() else word


def _replaced(surface: str, repairs: Mapping[str, str]) -> str:
    word = surface.strip(_EDGES)
    return surface.replace(word, repairs[word], 1) if word in repairs else surface

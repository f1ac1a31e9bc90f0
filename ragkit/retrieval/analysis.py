"""From text to the terms that BM25 counts: words, stems, and identifiers whole and in parts.

Documentation is full of names such as ``CELERY_TASK_ACKS_LATE`` or ``aiohttp.ClientSession``. A pasted name should
find exactly it; "late acks" should find its parts. An ``Analyzer`` gives both. Scripts that put no spaces between
words (Chinese, Japanese, Thai, ...), and Korean, are cut into overlapping pairs of characters, as Lucene's CJK
analyzer does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Document, InputError, build_identity, require
from ragkit.languages import defaults_for

# Signs that belong to the letter before them (vowels of Devanagari, accents that stand alone), which \w leaves out.
_MARKS = "".join(chr(c) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)).startswith("M"))
_LETTER = rf"[\w{_MARKS}\u200c\u200d]"
_PICTOGRAPH = re.compile("[\u2600-\u27bf\U0001f000-\U0001faff]")
_SURFACE = re.compile(rf"\w{_LETTER}*(?:[-.:/]+{_LETTER}+)*(?:(?<!\w\w)(?:\+\+|\#))?|{_PICTOGRAPH.pattern}")
_WORD = re.compile(rf"{_LETTER}{{2,}}")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)
_OPTIONAL = re.compile("[\u0591-\u05c7\u0640\u064b-\u065f\u0670\u200c\u200d]")  # vowel signs of Hebrew and Arabic
_LONGEST = 100  # characters of a term; of a longer one (encoded data), the beginning stands for it

# English words that hold a question together and say nothing of what it is about. (The stop words of ``Analyzer`` are
# those that bm25s leaves out of an index, which are fewer.)
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about an and any are as at be been but by can could did do does doing for from had has have how i if in into
        is it its just me my no not of on or our should so some such than that the their them then there these they this
        to use used using want was way we were what when where which who why will with would you your
        """,
    )
)


@dataclass(frozen=True)
class Analyzer:
    """Turns a text into terms: words of two characters and more in lower case, without stop words, stemmed.

    For English with ``whole`` and ``parts`` off it is the tokenizer of bm25s (its stop words, Snowball's stemmer).

    - ``whole`` adds words joined by ``- . : /`` as one more term, as written but in lower case; ``C++``, ``C#`` and
      pictographs are terms, too.
    - ``parts`` adds the parts of words with ``_`` or capitals inside.

    A text's Unicode form does not matter (NFKC), nor do vowel signs that Arabic and Hebrew may leave out. For words
    of your own making (a segmenter for Chinese, say), override ``terms_of`` and ``identity``.

    >>> Analyzer().terms("Set aiohttp.ClientSession")
    ['set', 'aiohttp', 'clientsess', 'client', 'session', 'aiohttp.clientsession']
    >>> Analyzer().terms("清空队列")
    ['清空', '空队', '队列']

    Raises:
        InputError: (when it is used) there is no stemmer, or there are no stop words, for ``language``.
    """

    stem: bool = True
    stop_words: bool = True
    whole: bool = True
    parts: bool = True
    language: str = "english"

    @classmethod
    def for_language(cls, code: str) -> Analyzer:
        """The analyzer for texts in a language (ISO 639-3; "" is unknown, and taken for English).

        Where there is no stemmer for it, and for "mul" (several languages), words stay as they are.

        >>> Analyzer.for_language("deu").terms("die Häuser"), Analyzer.for_language("mul").terms("die Häuser")
        (['haus'], ['die', 'häuser'])

        Raises:
            InputError: ``code`` is no code of three letters.
        """
        chosen = defaults_for(code)
        return cls(bool(chosen.stemmer), chosen.stop_words, language=chosen.stemmer or "english")

    @property
    def identity(self) -> str:
        return build_identity(self, self.stem, self.stop_words, self.whole, self.parts, self.language)

    def terms(self, text: str) -> list[str]:
        """The terms of ``text``, in order, with repetitions."""
        return [term for surface in _SURFACE.findall(text) for term in self.terms_of(surface)]

    def terms_of(self, surface: str) -> list[str]:
        """The terms of one word, or of words that are joined by ``- . : /``."""
        pairs: list[str] = []
        if not surface.isascii():
            surface = _OPTIONAL.sub("", unicodedata.normalize("NFKC", surface))
            pairs = [pair for run in UNSPACED.findall(surface) for pair in _pairs(run)]
            surface = UNSPACED.sub(" ", surface).strip()
        words = _WORD.findall(surface)
        parts = [part for word in words for part in _parts(word)] if self.parts else []
        terms = [self._stem(word[:_LONGEST]) for word in map(str.lower, words + parts) if word not in self._stops]
        one = " " not in surface and (len(surface) > 1 or _PICTOGRAPH.fullmatch(surface))
        if self.whole and one and words != [surface]:
            terms.append(surface.lower()[:_LONGEST])
        return pairs + terms

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


def _pairs(run: str) -> list[str]:
    """The overlapping pairs of characters of ``run``; a single character is its own."""
    return [run[i : i + 2] for i in range(max(1, len(run) - 1))]


def _parts(word: str) -> list[str]:
    """The parts of an identifier; capitals inside a word of another alphabet are not an identifier's."""
    parts = _PART.findall(word) if word.isascii() else word.split("_")
    return [part for part in parts if len(part) > 1] if len(parts) > 1 else []


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
        self._known: dict[str, list[int]] = {}  # the term numbers of each surface: a corpus has few different ones
        self._documents = {d.id: self._read(d.text) for d in documents}

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
        return np.fromiter(chain.from_iterable(self._numbers(_SURFACE.findall(text))), dtype=np.int32)

    def known(self, text: str) -> list[int]:
        """The numbers of those terms of a query that the vocabulary has; nothing is added to it."""
        numbers: list[int] = []
        for surface in _SURFACE.findall(text):
            own = self._known.get(surface)
            if own is None:
                own = [self.vocabulary[t] for t in self.analyzer.terms_of(surface) if t in self.vocabulary]
            numbers += own
        return numbers

    def _numbers(self, surfaces: Sequence[str]) -> list[list[int]]:
        vocabulary = self.vocabulary
        for surface in dict.fromkeys(surfaces):
            if surface not in self._known:
                terms = self.analyzer.terms_of(surface)
                self._known[surface] = [vocabulary.setdefault(term, len(vocabulary)) for term in terms]
        return [self._known[surface] for surface in surfaces]

    def _read(self, text: str) -> tuple[NDArray[np.int32], ...]:
        """Where each surface starts and ends, where its terms begin, and the numbers of all terms."""
        matches = list(_SURFACE.finditer(text))
        spans = np.array([m.span() for m in matches], dtype=np.int32).reshape(-1, 2)
        terms = self._numbers([m.group() for m in matches])
        firsts = np.cumsum([0, *map(len, terms)], dtype=np.int32)
        ids = np.fromiter(chain.from_iterable(terms), dtype=np.int32)
        return spans[:, 0].copy(), spans[:, 1].copy(), firsts, ids

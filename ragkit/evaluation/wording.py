"""What a careful reader checks in a sentence besides its topic: numbers, names, negations, quantifiers, opposites.

Vectors can't see these: "is dispatched" and "is not dispatched", 30 and 60, ``-P`` and ``-Q`` lie next to each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import require

_WORD = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*|\w+(?:[._/:'’-]\w+)*")
_IDENTIFIER = re.compile(r"_|^-|\w[./]\w|[a-z][A-Z]|^[A-Z]{2,}\d*$|^[A-Z]+\d+$")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?!\w*[A-Za-z_])")
_LINE = re.compile(r"[^\n]+")
_GAP = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z(\"'`$])")
_CLAUSE_END = re.compile(r"[;:()]|\.\s")
_SPELLED = "zero one two three four five six seven eight nine ten eleven twelve"
_SAID_AS_WORD = {m[0]: str(i) for i, m in enumerate(re.finditer(r"\w+", _SPELLED))} | {
    "once": "1",
    "single": "1",
    "twice": "2",
    "thirty": "30",
    "hundred": "100",
}
_CUES = frozenset(
    re.findall(r"\w+", "not no never none nothing nobody neither nor cannot without unless except rarely hardly")
)
_CUE_PHRASES = frozenset({("rather", "than"), ("instead", "of")})
_REACH = 5  # a negation governs the words that follow it, this many at most
_QUANTIFIERS = frozenset(
    re.findall(
        r"\w+", "always never every all any only none nobody everybody everything each entire whatever however must"
    )
)
_OPPOSITES = """
before after|enable disable|more less fewer|high low|higher lower|highest lowest|first last|allow forbid disallow
encourage discourage|include exclude|accept refuse reject|start stop end|begin end|increase decrease|raise lower
success fail succeed|single multiple several many|client server|upper lower|synchronous asynchronous|binary text
add remove delete|optional required|open close|keep drop discard lose forget|read write|send receive|input output
internal external|inside outside|public private|common rare|commonly rarely|often rarely|minimum maximum|long short
longest shortest|new old|early late|earlier later|local remote|parent child|slow fast|cheap expensive|dangerous safe
possible impossible|same different|trusted untrusted|recommended discouraged|automatic manual|temporary permanent
visible hidden|true false|on off|with without|above below|better worse|most least|upload download|sequential parallel
"""
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    a about an and any are as at be been but by can could did do does doing for from had has have having he her him his
    how i if in into is it its itself just me my of on or our out own she should so some such than that the their them
    then there these they this those to too up us was we were what when where which while who whom why will with would
    you your yours each may must also
    """,
    )
)


@dataclass(frozen=True, slots=True)
class Word:
    """The characters ``[start, end)`` of a text; ``term`` is its stem, in lower case, numbers in digits."""

    text: str
    start: int
    end: int
    term: str

    @property
    def content(self) -> bool:
        """Whether it says something, rather than holding the sentence together."""
        return self.text.lower() not in FUNCTION_WORDS

    @property
    def absolute(self) -> bool:
        """Whether it leaves no exception (always, never, every, only, ...)."""
        return self.text.lower() in _QUANTIFIERS

    @property
    def identifier(self) -> bool:
        """Whether it is a name of code: a flag, a path, ``snake_case``, ``CamelCase``, ``UPPER`` case.

        >>> [w.text for w in words("Set worker_pool or -P, not the pool of RabbitMQ") if w.identifier]
        ['worker_pool', '-P', 'RabbitMQ']
        """
        return _IDENTIFIER.search(self.text) is not None


@cache
def _stemmer() -> Any:
    return require("Stemmer", "search").Stemmer("english")


@cache
def term(word: str) -> str:
    """The stem of a word, in lower case; a number in words becomes digits.

    >>> term("Thirty"), term("discards")
    ('30', 'discard')
    """
    return str(_stemmer().stemWord(_SAID_AS_WORD.get(word.lower(), word.lower())))


def words(text: str) -> list[Word]:
    """The words of ``text``; a flag, a path or a dotted name is one word.

    >>> [w.term for w in words("Pass --max-requests twice.")]
    ['pass', '--max-request', '2']
    """
    return [Word(m[0], m.start(), m.end(), term(m[0])) for m in _WORD.finditer(text)]


def lines(text: str) -> list[tuple[int, int]]:
    """The character ranges of the sentences of ``text``; a line break ends one, too (settings, tables, lists).

    >>> [text[a:b] for text in ["Default: 30\\nIt is long. It is wide."] for a, b in lines(text)]
    ['Default: 30', 'It is long.', 'It is wide.']
    """
    found = []
    for line in _LINE.finditer(text):
        start = line.start()
        for gap in _GAP.finditer(text, line.start(), line.end()):
            found.append((start, gap.start()))
            start = gap.end()
        found.append((start, line.end()))
    return [(a, b) for a, b in found if text[a:b].strip()]


def numbers(text: str) -> set[str]:
    """The numbers that ``text`` says, in digits or in words.

    >>> sorted(numbers("Between 0.50 and three seconds, in HTTP2"))
    ['0.5', '3']
    """
    said = {_SAID_AS_WORD[w.text.lower()] for w in words(text) if w.text.lower() in _SAID_AS_WORD}
    return {n.rstrip("0").rstrip(".") if "." in n else n for n in _NUMBER.findall(text)} | said


def is_cue(word: str) -> bool:
    """Whether a word negates."""
    word = word.lower().replace("’", "'")
    return word in _CUES or word.endswith("n't")


def negated(text: str, found: Sequence[Word]) -> NDArray[np.bool_]:
    """Which words a negation governs: those after it up to the next full stop, five at most: ``(len(found),)``.

    Pang, Lee & Vaithyanathan, Thumbs up? (EMNLP 2002), who go up to the next punctuation mark.

    >>> text = "It is never stored (but sent)."
    >>> [w.text for w, no in zip(words(text), negated(text, words(text))) if no]
    ['stored']
    """
    inside = np.zeros(len(found), dtype=bool)
    for i, word in enumerate(found):
        for j in range(i - 1, max(-1, i - 1 - _REACH), -1):
            if _CLAUSE_END.search(text, found[j].end, word.start):
                break
            pair = (found[j - 1].text.lower(), found[j].text.lower()) if j else ("", "")
            if is_cue(found[j].text) or pair in _CUE_PHRASES:
                inside[i] = True
                break
    return inside


@cache
def opposites() -> dict[str, frozenset[str]]:
    """Term -> the terms that mean its opposite. In a group, the first word is the opposite of the others.

    >>> sorted(opposites()["more"])
    ['fewer', 'less']
    """
    found: dict[str, frozenset[str]] = {}
    for group in _OPPOSITES.replace("\n", "|").strip("|").split("|"):
        terms = [term(word) for word in group.split()]
        for other in terms[1:]:
            found[terms[0]] = found.get(terms[0], frozenset()) | {other}
            found[other] = found.get(other, frozenset()) | {terms[0]}
    return found


def quantifiers(found: Sequence[Word]) -> set[str]:
    """The terms among ``found`` that leave no exception (always, never, every, only, ...)."""
    return {word.term for word in found if word.absolute}

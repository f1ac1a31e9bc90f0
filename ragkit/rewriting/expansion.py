"""Expansion with what the corpus itself says: what an acronym stands for, and how a name is written in code.

"TTL" and "time to live" are the same thing, and so are "worker concurrency" and ``worker_concurrency``. The corpus
says so somewhere; a question need not know.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ragkit.base import Document
from ragkit.retrieval.analysis import Analyzer

_WORDS = re.compile(r"\w+(?:[-']\w+)*")
_IN_BRACKETS = re.compile(r"\(([A-Za-z][\w-]{1,9})\)")
_BEFORE = re.compile(r"(?:[\w'-]+[ \t\n])+$")
_MOST = 3  # names in code that are added to a question
_REACH = 120  # characters before the bracket in which a long form is looked for
_NAME = re.compile(r"(?<!\w)--[a-z]\w*(?:-\w+)+|\b[A-Za-z]\w*_\w+|\b[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+\b")
_SPLIT = re.compile(r"[_-]+|(?<=[a-z0-9])(?=[A-Z])")


def long_form(before: str, short: str) -> str | None:
    """The words at the end of ``before`` that ``short`` abbreviates, or None.

    The algorithm of Schwartz and Hearst 2003, "A simple algorithm for identifying abbreviation definitions in
    biomedical text" (PSB): read both from the right, find each character of the short form, and its first one at
    the beginning of a word. At most ``min(n + 5, 2 n)`` words for ``n`` characters.

    >>> long_form("messages have a time to live", "TTL")
    'time to live'
    >>> long_form("run it in a pool", "TTL") is None
    True
    """
    words = before.split()[-min(len(short) + 5, 2 * len(short)) :]
    text = " ".join(words)
    at = len(text)
    for i in range(len(short) - 1, -1, -1):
        letter = short[i].lower()
        if not letter.isalnum():
            continue
        at -= 1
        while at >= 0 and (text[at].lower() != letter or (i == 0 and at > 0 and text[at - 1].isalnum())):
            at -= 1
        if at < 0:
            return None
    found = text[at:]
    return found if len(found.split()) > 1 and short.lower() not in found.lower().split() else None


class Acronyms:
    """Adds what an acronym of the question stands for, and the acronym of what it spells out.

    >>> text = "Each message has a time to live (TTL)."
    >>> acronyms = Acronyms.of([Document("d", text)])
    >>> acronyms.rewrite("default TTL?"), acronyms.rewrite("what time to live")
    (['default TTL? time to live'], ['what time to live TTL'])
    """

    def __init__(self, meanings: Mapping[str, Sequence[str]]) -> None:
        self.meanings = {short: tuple(long) for short, long in meanings.items()}

    @classmethod
    def of(cls, documents: Iterable[Document]) -> Acronyms:
        """The acronyms that ``documents`` define as ``long form (ACRONYM)``, the commonest meaning first."""
        seen: dict[str, Counter[str]] = defaultdict(Counter)
        for document in documents:
            for found in _IN_BRACKETS.finditer(document.text):
                before = _BEFORE.search(document.text, max(0, found.start() - _REACH), found.start())
                short = found[1]
                if before and sum(map(str.isupper, short)) >= 2 and (long := long_form(before[0], short)):
                    seen[short][long.lower()] += 1
        return cls({short: [long for long, _ in counts.most_common(2)] for short, counts in sorted(seen.items())})

    def __repr__(self) -> str:
        return f"Acronyms({len(self.meanings)} acronyms)"

    def rewrite(self, question: str) -> list[str]:
        """The question with the other form of each acronym behind it, as the only query."""
        words, lower = set(_WORDS.findall(question)), f" {' '.join(_WORDS.findall(question.lower()))} "
        added: list[str] = []
        for short, meanings in self.meanings.items():
            spelt_out = [long for long in meanings if f" {long} " in lower]
            if short in words and not spelt_out:
                added += meanings
            elif spelt_out and short not in words:
                added.append(short)
        return [" ".join([question, *added])]


class Identifiers:
    """Adds the names in code that are made of words of the question: "worker concurrency" finds ``worker_concurrency``.

    Two words or more, next to each other but for stop words, in the order of the name; stems count. At most three
    names are added, those of the most words first, then the most frequent.

    >>> documents = [Document("d", "Set worker_concurrency or --max-requests.")]
    >>> Identifiers.of(documents).rewrite("What is the concurrency of workers, the maximum of worker concurrency?")
    ['What is the concurrency of workers, the maximum of worker concurrency? worker_concurrency']
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._analyzer = Analyzer(whole=False, parts=False)
        self._names: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name in sorted(counts, key=lambda n: (-counts[n], n)):
            parts = tuple(self._analyzer.terms(" ".join(_SPLIT.split(name.lstrip("-")))))
            if len(parts) > 1:
                self._names[parts].append(name)
        self._longest = max(map(len, self._names), default=0)

    @classmethod
    def of(cls, documents: Iterable[Document]) -> Identifiers:
        """For the names with ``_``, ``--option-names`` and CamelCase names in ``documents``."""
        counts: Counter[str] = Counter()
        for document in documents:
            counts.update(_NAME.findall(document.text))
        return cls(counts)

    def __repr__(self) -> str:
        return f"Identifiers({sum(map(len, self._names.values()))} names)"

    def rewrite(self, question: str) -> list[str]:
        """The question with the names behind it, as the only query."""
        terms = self._analyzer.terms(question)
        runs = (
            tuple(terms[i : i + n]) for n in range(min(self._longest, len(terms)), 1, -1) for i in range(len(terms))
        )
        names = dict.fromkeys(name for run in runs if run in self._names for name in self._names[run])
        added = [name for name in names if name not in question][:_MOST]
        return [" ".join([question, *added])]

"""Misspelt questions, simulated: what people's fingers do to a question, with a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import replace

from ragkit.base import InputError, Question

_WORD = re.compile(r"(?<![\w./:-])[A-Za-z]?[a-z]{4,}(?![\w/:-]|\.\w)")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def typo(word: str, rng: random.Random) -> str:
    """``word`` with one slip: two letters swapped, one left out, one doubled, or one replaced by its neighbour key.

    The kinds of Damerau 1964, each as likely as the others.

    >>> typo("worker", random.Random(1))
    'workr'
    """
    kind, at = rng.randrange(4), rng.randrange(len(word))
    if kind == 0:
        at = min(at, len(word) - 2)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    row = next((r for r in _ROWS if word[at].lower() in r), "")
    near = [row[i] for i in (row.find(word[at].lower()) - 1, row.find(word[at].lower()) + 1) if 0 <= i < len(row)]
    return word[:at] + rng.choice(near or ["e"]) + word[at + 1 :]


def misspelt(questions: Iterable[Question], share: float = 0.25, seed: int = 0) -> tuple[Question, ...]:
    """The same questions with slips in ``share`` of their words of five letters and more, in one word at least.

    Names in code are left alone, as a copied name is rarely misspelt. These are simulated errors: real ones also hit
    short words, split and join words, and are made by people who do not know how a word is written.

    >>> misspelt([Question("q", "How do I stop a worker?")], seed=3)[0].text != "How do I stop a worker?"
    True

    Raises:
        InputError: ``share`` is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise InputError(f"share is {share}: expected more than 0, at most 1")
    result = []
    for question in questions:
        rng = random.Random(f"{seed}:{question.id}")
        words = [m.span() for m in _WORD.finditer(question.text)]
        text = question.text
        hit = rng.sample(words, min(len(words), max(1, round(share * len(words)))))
        for start, end in sorted(hit, reverse=True):
            text = text[:start] + typo(text[start:end], rng) + text[end:]
        result.append(replace(question, id=f"{question.id}-typo", text=text, tags=(*question.tags, "typo")))
    return tuple(result)

"""What an exercise is, and one small module per notebook (``nb00``, ``nb01``, ...) that holds its exercises.

An exercise is a function that takes the learner's answer and returns what is wrong with it, in words, or
``None`` when it is right. Write one for each likely mistake you can think of::

    @exercise("01.1", expects=int, hint="Draw the chunks on paper.", praise="The last one is short.")
    def chunk_count(answer: int) -> str | None:
        if answer == 5:
            return "500 / 100 forgets that chunks overlap."
        ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Judge = Callable[[Any], str | None]


@dataclass(frozen=True)
class Exercise:
    """``hint`` is shown before the first answer, ``praise`` after the right one; ``expects`` is the answer's type."""

    id: str
    expects: type | tuple[type, ...]
    hint: str
    praise: str
    judge: Judge


def exercise(id: str, *, expects: type | tuple[type, ...], hint: str, praise: str) -> Callable[[Judge], Exercise]:
    """Turn a judging function into an ``Exercise``."""
    return lambda judge: Exercise(id, expects, hint, praise, judge)

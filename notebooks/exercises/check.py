"""``check("01.1", answer)``: tell a learner in words whether an answer is right, and if not, why not.

An answer that is still ``...`` is told what kind of answer is expected, and never an exception, so a notebook runs from
top to bottom before anybody has solved anything. A wrong answer gets words of its own, and the exercise's hint.

An exercise is a function that takes the learner's answer and returns what is wrong with it, in words, or
``None`` when it is right. Its module ``nbNN.py`` belongs to notebook NN. Write one line for each likely mistake::

    @exercise("01.1", expects=int, hint="Draw the chunks on paper.", praise="The last one is short.")
    def chunk_count(answer: int) -> str | None:
        return check_number(answer, 6, [(5, "500 / 100 forgets that chunks overlap.")], f"not {answer}.")

The questions at the end of a part have letters to choose from, see ``quiz``; those of part II are in ``quiz_II.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from importlib import import_module
from importlib.util import find_spec
from numbers import Integral
from types import FunctionType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ragkit.base import Answer, InputError
from ragkit.evaluation.compare import Comparison
from ragkit.figures import GREEN, ORANGE, SKY

Judge = Callable[[Any], str | None]
State = Literal["right", "not yet", "your turn"]
_LOOK: dict[State, tuple[str, str]] = {
    "right": ("✓ Right.", GREEN),
    "not yet": ("✗ Not yet:", ORANGE),
    "your turn": ("… Your turn.", SKY),
}
_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    FunctionType: "a function",
    type: "a class",
    list: "a list",
    tuple: "a tuple of labels",
    dict: "a dictionary",
    Answer: "an answer, such as `await rag.query(...)`,",
    Comparison: "a result of compare",
}


@dataclass(frozen=True)
class Exercise:
    """``task`` is shown before the first answer, ``hint`` with what is wrong, ``praise`` after the right answer."""

    id: str
    expects: type | tuple[type, ...]
    task: str
    hint: str
    praise: str
    judge: Judge


def _kind(expects: type | tuple[type, ...]) -> str:
    """What is expected, in words; where there are two types, the last one names both."""
    return _KINDS[expects[-1] if isinstance(expects, tuple) else expects]


def exercise(id: str, *, expects: type | tuple[type, ...], hint: str, praise: str) -> Callable[[Judge], Exercise]:
    """Turn a judging function into an ``Exercise``."""
    task = f"Put {_kind(expects)} in the place of the dots, and run the cell again."
    return lambda judge: Exercise(id, expects, task, hint, praise, judge)


def quiz(id: str, question: str, options: Mapping[str, str], *, right: str, why: Mapping[str, str]) -> Exercise:
    """A question with ``options`` by their letters. ``why`` says of each letter why it is right or wrong."""

    def judge(answer: str) -> str | None:
        letter = answer.strip().lower().strip(".()")
        if letter not in options:
            return f"{answer!r} is none of the letters {', '.join(options)}."
        return None if letter == right else why[letter]

    lines = [question, *(f"({letter}) {text}" for letter, text in options.items())]
    return Exercise(id, str, "\n".join(lines), "", why[right], judge)


def check_number(
    answer: ArrayLike,
    right: ArrayLike,
    mistakes: Iterable[tuple[ArrayLike, str]],
    otherwise: str,
    tolerance: float = 1e-9,
) -> str | None:
    """None if ``answer`` is ``right`` up to ``tolerance``; else the words of the mistake that leads to ``answer``, else
    ``otherwise``. Numbers or arrays of one shape.

    >>> check_number(5, 6, [(5, "5 forgets the overlap.")], "not 5.")
    '5 forgets the overlap.'
    """
    if np.allclose(answer, right, rtol=0, atol=tolerance):
        return None
    return next((words for value, words in mistakes if np.allclose(answer, value, rtol=0, atol=tolerance)), otherwise)


@dataclass(frozen=True)
class Verdict:
    """What ``check`` shows."""

    exercise: str
    state: State
    message: str
    hint: str = ""

    @property
    def passed(self) -> bool:
        return self.state == "right"

    @property
    def _text(self) -> str:
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message

    def __repr__(self) -> str:
        return f"{self.exercise} {_LOOK[self.state][0]} {self._text}"

    def _repr_html_(self) -> str:
        label, colour = _LOOK[self.state]
        text = "<br>".join(map(escape, self._text.split("\n")))
        return (
            f'<div class="mathjax_ignore tex2jax_ignore" style="padding:4px 8px;border-left:4px solid {colour}">'
            f"{self.exercise} <b>{label}</b> {text}</div>"
        )


def check(exercise_id: str, answer: Any = ...) -> Verdict:
    """Judge ``answer`` to the exercise called ``exercise_id``, for example ``"01.1"``.

    >>> check("00.1", ...).state
    'your turn'
    >>> check("I.1", "b").passed
    True

    Raises:
        InputError: there is no such exercise.
    """
    exercise = find_exercise(exercise_id)
    if answer is ...:
        return Verdict(exercise_id, "your turn", exercise.task)
    if problem := _mistyped(exercise, answer):
        return Verdict(exercise_id, "not yet", problem)
    try:
        problem = exercise.judge(answer)
    except Exception as error:  # the answer may be the learner's own function, which may do anything
        problem = f"trying your answer raised {type(error).__name__}: {error}"
    if problem:
        return Verdict(exercise_id, "not yet", problem, exercise.hint)
    return Verdict(exercise_id, "right", exercise.praise)


def find_exercise(exercise_id: str) -> Exercise:
    """The exercise called ``exercise_id``, from the module of its notebook or part.

    Raises:
        InputError: there is none; the message lists the notebook's exercises.
    """
    number = exercise_id.partition(".")[0]
    known = exercises_of(number)
    if exercise_id not in known:
        raise InputError(f"no exercise {exercise_id!r}; {number!r} has: {', '.join(known) or 'none'}")
    return known[exercise_id]


def exercises_of(number: str) -> dict[str, Exercise]:
    """The exercises of a notebook, ``"01"`` or ``"A"``, or the questions of a part, ``"II"``, by id."""
    names = (f"exercises.nb{number}", f"exercises.quiz_{number}")
    modules = [import_module(name) for name in names if number.isalnum() and find_spec(name)]
    found = [e for module in modules for e in vars(module).values() if isinstance(e, Exercise)]
    return {e.id: e for e in sorted(found, key=lambda e: e.id)}


def _mistyped(exercise: Exercise, answer: Any) -> str | None:
    types = exercise.expects if isinstance(exercise.expects, tuple) else (exercise.expects,)
    of_numpy = int in types and isinstance(answer, Integral)
    if (isinstance(answer, types) or of_numpy) and not (isinstance(answer, bool) and bool not in types):
        return None
    return f"your answer is of type {type(answer).__name__}, and is expected to be {_kind(exercise.expects)}."

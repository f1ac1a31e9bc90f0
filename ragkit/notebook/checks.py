"""``check("01.2", answer)``: tell a learner in words whether an answer is right, and if not, why not.

An answer that is still ``...`` gets a hint and never an exception, so a notebook runs from top to bottom
before anybody has solved anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from ragkit.base import InputError
from ragkit.notebook.display import GREEN, ORANGE, SKY
from ragkit.notebook.exercises import Exercise

State = Literal["right", "not yet", "your turn"]
_LOOK: dict[State, tuple[str, str]] = {
    "right": ("✓ Right.", GREEN),
    "not yet": ("✗ Not yet:", ORANGE),
    "your turn": ("… Your turn.", SKY),
}


@dataclass(frozen=True)
class Verdict:
    """What ``check`` shows."""

    exercise: str
    state: State
    message: str

    @property
    def passed(self) -> bool:
        return self.state == "right"

    def __repr__(self) -> str:
        return f"{self.exercise} {_LOOK[self.state][0]} {self.message}"

    def _repr_html_(self) -> str:
        label, colour = _LOOK[self.state]
        return (
            f'<div class="mathjax_ignore tex2jax_ignore" style="padding:4px 8px;border-left:4px solid {colour}">'
            f"{self.exercise} <b>{label}</b> {escape(self.message)}</div>"
        )


def check(exercise_id: str, answer: Any = ...) -> Verdict:
    """Judge ``answer`` to the exercise called ``exercise_id``, for example ``"01.2"``.

    >>> check("00.1", ...).state
    'your turn'
    >>> check("00.1", "retrieve").passed
    True

    Raises:
        InputError: there is no such exercise.
    """
    exercise = find_exercise(exercise_id)
    if answer is ...:
        return Verdict(exercise_id, "your turn", exercise.hint)
    problem = _mistyped(exercise, answer)
    if problem is None:
        try:
            problem = exercise.judge(answer)
        except Exception as error:  # the answer may be the learner's own function, which may do anything
            problem = f"trying your answer raised {type(error).__name__}: {error}"
    return Verdict(exercise_id, "not yet", problem) if problem else Verdict(exercise_id, "right", exercise.praise)


def find_exercise(exercise_id: str) -> Exercise:
    """The exercise called ``exercise_id``, from the module of its notebook.

    Raises:
        InputError: there is none; the message lists the notebook's exercises.
    """
    number = exercise_id.partition(".")[0]
    known = exercises(number)
    if exercise_id not in known:
        raise InputError(f"no exercise {exercise_id!r}; notebook {number!r} has: {', '.join(known) or 'none'}")
    return known[exercise_id]


def exercises(notebook: str) -> dict[str, Exercise]:
    """The exercises of the notebook with this number (``"01"``), by id."""
    name = f"ragkit.notebook.exercises.nb{notebook}"
    if not notebook.isdigit() or find_spec(name) is None:
        return {}
    found = [e for e in vars(import_module(name)).values() if isinstance(e, Exercise)]
    return {e.id: e for e in sorted(found, key=lambda e: e.id)}


def _mistyped(exercise: Exercise, answer: Any) -> str | None:
    types = exercise.expects if isinstance(exercise.expects, tuple) else (exercise.expects,)
    if isinstance(answer, types) and not (isinstance(answer, bool) and bool not in types):
        return None
    wanted = " or ".join(t.__name__ for t in types)
    return f"this is a {type(answer).__name__}, and the answer is expected to be: {wanted}."

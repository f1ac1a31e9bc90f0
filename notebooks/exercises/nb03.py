"""The exercises of ``03_measure_it``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from exercises.check import check_number, exercise
from ragkit.base import Span


@exercise(
    "03.1",
    expects=FunctionType,
    hint="len(chunk) and len(gold) are lengths in characters, chunk.overlap(gold) is what they have in common.",
    praise="At least half of the shorter one. This one line decides every rank in the course.",
)
def rule(answer: Callable[[Span, Span], Any]) -> str | None:
    gold = Span("guide", 100, 200)
    for chunk, expected, problem in (
        (gold, True, "the chunk is exactly the gold, and you say that it is no answer."),
        (
            Span("news", 100, 200),
            False,
            "these characters stand in another document, so they are another text. Span.overlap compares documents.",
        ),
        (Span("guide", 300, 400), False, "a chunk that does not touch the gold cannot answer."),
        (Span("guide", 190, 290), False, "10 of 100 characters in common is less than half: touching is not enough."),
        (
            Span("guide", 120, 140),
            True,
            "a chunk of 20 characters lies inside the gold. The shorter of the two is the chunk, so its length counts.",
        ),
        (
            Span("guide", 0, 1000),
            True,
            "a long chunk holds the whole gold. The shorter of the two is the gold, so its length counts.",
        ),
        (Span("guide", 150, 250), True, "50 of 100 characters is exactly half, and the rule says *at least* half."),
    ):
        found = answer(chunk, gold)
        if found is ...:
            return "your function still returns `...`: put your own expression there."
        if not isinstance(found, bool):
            return f"you returned {found!r}. The question is yes or no: return True or False."
        if found != expected:
            return f"chunk [{chunk.start}, {chunk.end}) of {chunk.doc_id!r}, gold [100, 200) of 'guide': {problem}"
    return None


@exercise(
    "03.2",
    expects=(int, float),
    hint="Write down for each of the four gold spans whether one of the five results answers it.",
    praise="Two of the four gold spans are found, and the repeated one counts once.",
)
def recall(answer: float) -> str | None:
    return check_number(
        answer,
        0.5,
        [
            (2 / 5, "2 / 5 is the precision: the share of the *results* that answer. Recall is the share of the gold."),
            (
                3 / 5,
                "3 / 5 counts a repeated answer again, and divides by the results. Recall is the share of the gold.",
            ),
            (
                3 / 4,
                "3 / 4 counts the repeated answer. The gold span of rank 3 was found already, rank 4 adds nothing.",
            ),
            (1 / 3, "1 / 3 is the reciprocal rank: it only looks at the first result that answers."),
            (1, "1 is the hit: any gold span found. Recall asks how many of the four were found."),
            (2, "2 is how many were found. Divide by how many there are to find."),
            (50, "50 per cent is right, and metrics are given as a share between 0 and 1."),
        ],
        f"not {answer}. Recall is the number of gold spans found, divided by the number of gold spans.",
        tolerance=0.005,
    )


@exercise(
    "03.3",
    expects=(int, float),
    hint="You want to see a difference that is four times smaller. Halving it takes four times the questions.",
    praise="4 times smaller, 16 times the questions. This is why small improvements are so expensive to prove.",
)
def questions_needed(answer: float) -> str | None:
    if answer == 240:
        return "60 * 4 would be right if noise fell in step with the questions. It falls with their square root."
    if answer == 120:
        return "60 * 2 takes the square root on the wrong side: the noise falls with the root, so you need the square."
    if answer < 60:
        return "fewer questions would only detect larger differences. You want to detect a smaller one."
    if answer != 960:
        return f"not {answer}. By what factor must the noise fall, and how does it fall with the number of questions?"
    return None

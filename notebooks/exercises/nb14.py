"""The exercises of ``14_caching``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from exercises.check import check_number, exercise

_ASKED = ("settings", "acme", "How do I stop it?")
_SIGNS = ("|", " ", ":", "::", "/", ",", ", ", "-", "_", ";", "#", ".", "+", "\n", "\t", "\0", "||")


@exercise(
    "14.1",
    expects=FunctionType,
    hint='" ".join(question.split()) evens out the white space. Then put all three into one text, and keep them apart.',
    praise="Three parts, kept apart, and nothing else: two keys are equal only if nothing that matters differs.",
)
def key(answer: Callable[[str, str, str], Any]) -> str | None:
    found = answer(*_ASKED)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    if isinstance(found, int):
        return "hash() gives another number in each process, so a file could never be read again. Give a text."
    if not isinstance(found, str):
        return f"you return a {type(found).__name__}. A key for a file is a text: json.dumps makes one of a list."
    settings, tenant, question = _ASKED
    for other, problem in (
        ((settings, tenant, "How do I start it?"), "another question gets the same key."),
        (("new settings", tenant, question), "a new index gets the same key: the answers would be stale."),
        ((settings, "globex", question), "another tenant gets the same key, and so the first one's answers."),
        (
            (settings, tenant, "how do i stop it?"),
            "lower case makes `-P` and `-p` one question. Keep the case.",
        ),
        ((settings, tenant, "HowdoIstopit?"), "all white space is gone, so 'work load' is 'workload'. Keep one blank."),
        ((settings + tenant, "", question), "the parts run into each other: ('ab', 'c') and ('a', 'bc') are one key."),
        ((settings, "ac", "me" + question), "the parts run into each other: ('ab', 'c') and ('a', 'bc') are one key."),
    ):
        if answer(*other) == found:
            return problem
    for sign in _SIGNS:
        if answer("a", f"b{sign}c", "d") == answer(f"a{sign}b", "c", "d"):
            return "a tenant may hold the sign that you put between the parts. json.dumps of a list keeps them apart."
    if answer(settings, tenant, "  How do\n I stop it? ") != found:
        return "white space still makes another key. " + '" ".join(question.split()) evens it out.'
    return None


@exercise(
    "14.2",
    expects=(int, float),
    hint="Put 100 questions in order, the fastest first. How long did the one in the middle take?",
    praise="The one in the middle is a miss. Below a hit rate of 50 %, the p50 is the time of a miss.",
)
def median(answer: float) -> str | None:
    return check_number(
        answer,
        50,
        [
            (30.4, "30.4 is the mean. The p50 is the time that half of the questions stay below."),
            (1, "the fastest 40 % take 1 ms. The one in the middle is not among them."),
            (25.5, "25.5 lies in the middle between the two times. No question takes that long."),
            (20, f"{answer} is a share of 50. The p50 is the time of one question: the one in the middle."),
            (30, f"{answer} is a share of 50. The p50 is the time of one question: the one in the middle."),
            (0.05, "that is in seconds. How many milliseconds?"),
        ],
        f"not {answer}. Each question takes 1 ms or 50 ms. Which of them is the one in the middle?",
        tolerance=0.01,
    )


@exercise(
    "14.3",
    expects=float,
    hint="With nothing wrong in n hits, the rate may still be about 3 / n. With 3 wrong ones it may be much more.",
    praise="3 / 320 is just below 1 %. What was seen is not what is promised: the interval counts.",
)
def promise(answer: float) -> str | None:
    return check_number(
        answer,
        0.95,
        [
            (
                0.9,
                "3 of 400 are 0.75 % in this log. But by chance it could have been so few: up to 1.9 % are possible.",
            ),
            (0.98, "nothing wrong in 200 still allows about 3 / 200 = 1.5 %. So few hits can't prove 1 %."),
        ],
        f"{answer} is none of the three: 0.90, 0.95 or 0.98.",
    )

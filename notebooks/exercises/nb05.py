"""The exercises of ``05_embeddings``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exercises.check import check_number, exercise


@exercise(
    "05.1",
    expects=(int, float),
    hint="In the plot, where do E5's cosines of two chunks that have nothing to do with each other begin?",
    praise="A threshold belongs to one model. Whoever changes the model must find it again.",
)
def passing_share(answer: float) -> str | None:
    if answer > 1:
        return "a share lies between 0 and 1."
    if answer < 0.02:
        return f"{answer} is what got through with MiniLM, where strangers score far below 0.6. Look at E5's hump."
    if answer < 0.95:
        return f"{answer} is too few: look at the left end of E5's hump. How much of it lies below 0.6?"
    return None


@exercise(
    "05.2",
    expects=FunctionType,
    hint="vector[:d] are the first d numbers. What is the length of that, and what should it be?",
    praise="Cut, then back to length 1: a dot product is a cosine again.",
)
def truncated(answer: Callable[[NDArray[np.float64], int], Any]) -> str | None:
    vector = np.array([0.48, 0.36, 0.0, 0.8])
    found = answer(vector, 2)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    value = np.asarray(found, dtype=float)
    if value.shape == vector.shape and np.allclose(value[2:], 0):
        return "four numbers come out, two of them zeros: nothing is saved. Keep only the first two: vector[:d]."
    if value.shape != (2,):
        return f"for a vector of 4 numbers and d = 2 you return the shape {value.shape}, expected 2 numbers."
    return check_number(
        value,
        [0.8, 0.6],
        [
            (
                vector[:2],
                f"its length is {np.linalg.norm(vector[:2]):.1f}, not 1. Divide by np.linalg.norm of what is left.",
            ),
            (
                vector[-2:] / np.linalg.norm(vector[-2:]),
                "these are the last two numbers. The important ones come first: vector[:d].",
            ),
            (
                vector[:2] / vector[:2].sum(),
                "divided by the sum, the numbers add up to 1, but a length is np.linalg.norm, the root of the squares.",
            ),
        ],
        f"for (0.48, 0.36, 0, 0.8) and d = 2 you get {value.round(3).tolist()}, expected [0.8, 0.6].",
    )


@exercise(
    "05.3",
    expects=(int, float),
    hint="One vector: 3072 numbers of 4 bytes. Then two million of them, and a gigabyte is 10**9 bytes.",
    praise="That has to fit into memory to be searched fast. Now look at your table: what would 96 dimensions take?",
)
def gigabytes(answer: float) -> str | None:
    if abs(answer - 24.576) < 0.08:
        return None
    for wrong, problem in (
        (6.144, "6.1 counts numbers. Each of them takes 4 bytes."),
        (12.288, "12.3 is for one million chunks. There are two."),
        (24_576, "24,576 are megabytes."),
        (24_576_000_000, "these are bytes. A gigabyte is 10**9 of them."),
        (3.072, "3.1 is for vectors of 384 numbers, as MiniLM's. text-embedding-3-large makes 3072."),
        (49.152, "49.2 takes 8 bytes a number. A float32 has 32 bits."),
        (22.888, "22.9 is in gibibytes (2**30 bytes). Here a gigabyte is 10**9 bytes."),
    ):
        if abs(answer - wrong) < 0.01 * wrong:
            return problem
    return f"not {answer:g}. Multiply: chunks, numbers a vector, bytes a number; then divide by 10**9."

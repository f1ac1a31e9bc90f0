"""The exercises of ``C_many_languages``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exercises.check import check_number, exercise

Floats = NDArray[np.float64]


@exercise(
    "C.1",
    expects=FunctionType,
    hint="cosines.argmax(axis=1) is the column that each row chose. When was it the right one?",
    praise="That is hit@1, in one line. It is the number in the table that comes next.",
)
def found_first(answer: Callable[[Floats], Any]) -> str | None:
    cosines = np.array([[0.9, 0.2, 0.3, 0.1], [0.8, 0.7, 0.1, 0.2], [0.3, 0.1, 0.6, 0.4], [0.2, 0.1, 0.5, 0.4]])
    found = answer(cosines)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    value = np.asarray(found, dtype=float)
    if value.shape:
        return f"you returned {value.size} values of shape {value.shape}. Take their mean: a share is one number."
    own = np.arange(4)
    return check_number(
        value,
        0.5,
        [
            (2.0, "this counts the questions. Divide by how many there are, or take the mean."),
            (
                (cosines.argmax(axis=0) == own).mean(),
                "with axis=0 every original looks for its translation. The translations ask, and they are the rows.",
            ),
            (
                np.diag(cosines).mean(),
                "this is the mean cosine of the right pairs. Was the right pair also the *best*?",
            ),
            (cosines.max(axis=1).mean(), "this is the mean of the best cosines, whether they are right or wrong."),
        ],
        f"in the test, rows 0 and 2 chose their own column and rows 1 and 3 did not: 0.5. You get {value:.3f}.",
    )


@exercise(
    "C.2",
    expects=(int, float),
    hint="Four tokens of Russian say what one token of English says. How many of those are 512?",
    praise="So a setting that you chose on English documents is another setting in Russian.",
)
def russian_chunk(answer: float) -> str | None:
    return check_number(
        answer,
        128,
        [
            (
                2048,
                "512 * 4 = 2048 is how many tokens of *Russian* say what 512 of English say. Here 512 are of Russian.",
            ),
            (512, "512 tokens are 512 tokens, but they do not say as much: in Russian a token is about one letter."),
            (508, "512 - 4 subtracts. Each English token becomes four Russian ones: divide."),
            (384, "512 - 128 is what is lost. What remains?"),
        ],
        f"not {answer}. Divide the 512 tokens by what one token of English becomes in Russian.",
        tolerance=0.5,
    )


@exercise(
    "C.3",
    expects=(int, float),
    hint="Look at the lowest cosine in the table above. Will any best cosine ever lie below 0.5?",
    praise="A threshold belongs to one model. With every new model it has to be chosen again, on labelled questions.",
)
def abstains(answer: float) -> str | None:
    return check_number(
        answer,
        0,
        [
            (
                1,
                "it abstains if the best cosine is *below* 0.5. What does E5 give to two texts without a relation?",
            ),
            (
                100,
                "it abstains if the best cosine is *below* 0.5. What does E5 give to two texts without a relation?",
            ),
            (0.5, "0.5 is the threshold. For which share of the questions is the best cosine below it?"),
        ],
        f"not {answer}. Of all pairs in the table, right or wrong, how many have a cosine below 0.5 with E5?",
    )

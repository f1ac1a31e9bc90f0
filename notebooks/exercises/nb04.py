"""The exercises of ``04_chunk_size_lab``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from exercises.check import exercise


@exercise(
    "04.1",
    expects=FunctionType,
    hint="windows @ query gives the cosine of every window. The chunk counts as much as its best one.",
    praise="One good window is enough, whatever stands around it. Pooling would have averaged it away.",
)
def maxp_score(answer: Callable[[Any, Any], Any]) -> str | None:
    query, windows = np.array([0.6, 0.8]), np.array([[1.0, 0.0], [0.0, 1.0], [0.6, -0.8]])
    found = answer(query, windows)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    if np.shape(found) != ():
        return f"you return {np.size(found)} numbers, one for each window. The chunk needs a single one."
    cosines = windows @ query
    mean = windows.mean(axis=0)
    wrong = {
        "this is the mean of the cosines: two bad windows drag a good one down, and that is dilution.": cosines.mean(),
        "this is the cosine of the averaged vector, in other words pooling.": mean @ query / np.linalg.norm(mean),
        "this is the sum: a chunk would score higher just for being longer.": cosines.sum(),
        "this is the worst window. A reader is after the best one.": cosines.min(),
        "this is the position of the best window. The score is its cosine.": cosines.argmax(),
    }
    if np.isclose(found, cosines.max()):
        return None
    for words, value in wrong.items():
        if np.isclose(found, value):
            return words
    return f"for windows with the cosines 0.6, 0.8 and -0.28 you return {found:.2f}."


@exercise(
    "04.2",
    expects=str,
    hint="What runs out first in her prompt?",
    praise="compare(..., same_budget=2000) does it. At equal results, the longer chunks simply bought more text.",
)
def hold_equal(answer: str) -> str | None:
    word = answer.strip().lower()
    if word == "results":
        return "that is what she did: ten results each, and ten of 512 tokens do not fit into her prompt."
    if word == "overlap":
        return "overlap costs some tokens, but equal overlap leaves ten long chunks against ten short ones."
    if word not in ("tokens", "token"):
        return f'"{answer}" is none of "results", "tokens", "overlap".'
    return None

"""The exercises of ``A_query_rewriting``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exercises.check import check_number, exercise

Floats = NDArray[np.float64]


@exercise(
    "A.1",
    expects=FunctionType,
    hint="Turn `asked` into shares first: asked / asked.sum(). Then (1 - weight) of these and weight of `learnt`.",
    praise="That is RM3: the question keeps most of its say, and what its first hits have in common gets the rest.",
)
def mixed(answer: Callable[[Floats, Floats, float], Any]) -> str | None:
    asked, learnt, weight = np.array([2.0, 1.0, 0.0, 0.0]), np.array([0.1, 0.0, 0.6, 0.3]), 0.2
    found = answer(asked.copy(), learnt.copy(), weight)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    value = np.asarray(found, dtype=float)
    if value.shape != asked.shape:
        return f"you returned an array of shape {value.shape}: expected a weight for each of the 4 terms."
    shares = asked / asked.sum()
    return check_number(
        value,
        (1 - weight) * shares + weight * learnt,
        [
            (
                weight * shares + (1 - weight) * learnt,
                "the weights have changed places: `weight` is the share of `learnt`.",
            ),
            (
                (1 - weight) * asked + weight * learnt,
                "`asked` are counts and `learnt` are shares, so a long question would drown what was learnt. "
                "Divide `asked` by its sum first.",
            ),
            (asked + weight * learnt, "the question keeps all of its weight. It should keep 1 - weight, in shares."),
            (shares + weight * learnt, "the question keeps all of its weight. It should keep 1 - weight."),
            (shares, "nothing was learnt: add weight * learnt."),
            (weight * learnt, "the question is gone: keep (1 - weight) of its shares."),
            (learnt, "the question is gone: keep (1 - weight) of its shares."),
            ((shares + learnt) / 2, "`weight` has no effect."),
        ],
        f"for the first term you get {value[0]:.3f}, expected {0.8 * 2 / 3 + 0.2 * 0.1:.3f}.",
    )


@exercise(
    "A.2",
    expects=int,
    hint="An edit inserts, deletes or replaces a letter, or swaps two neighbours. "
    "Put 'wrokers' right, one edit a time.",
    praise="A swap, and a letter too many: two edits, which is as far as a word of this length may be repaired.",
)
def edits(answer: int) -> str | None:
    return check_number(
        answer,
        2,
        [
            (3, "3 counts the swap of r and o twice, as Levenshtein's distance does. Here a swap is one edit."),
            (1, "1 is the swap of r and o. What is left over at the end of the word?"),
            (0, "0 edits are between a word and itself."),
        ],
        f"fewer than {answer} will do: which two letters have changed places, and which one is too many?",
    )


@exercise(
    "A.3",
    expects=(int, float),
    hint="One call to the model, then a search for the question itself and one for each of the three others.",
    praise="The searches hardly count: it is the call to the model that a rewriter has to earn back.",
)
def milliseconds(answer: float) -> str | None:
    return check_number(
        answer,
        680,
        [
            (660, "660 forgets that the question itself is searched, too."),
            (620, "620 has one search. Four queries are searched: the question and three others."),
            (80, "80 forgets the call to the model."),
            (60, "60 forgets the call to the model, and the question itself."),
            (2480, "2480 calls the model four times. One call writes all three."),
            (1880, "1880 calls the model three times. One call writes all three."),
            (600, "600 is the model alone: nothing has been searched."),
            (0.68, "0.68 is right in seconds. Give it in milliseconds."),
        ],
        f"not {answer}. Add one call to the model and four searches.",
    )

"""The exercises of ``14_caching``."""

from __future__ import annotations

from typing import Any

from exercises.check import exercise
from ragkit.base import Answer, question_key
from ragkit.production.semantic import lexical_guard


@exercise(
    "14.1",
    expects=list,
    hint="Change one word for an opposite that a list might miss, in a long question: soft and hard, warm and cold.",
    praise="What a guard does not know, it lets through. Only you can tell that the two need different answers.",
)
def wrong_hit(answer: list[Any]) -> str | None:
    if len(answer) != 2 or not all(isinstance(each, Answer) for each in answer):
        return "the list is expected to be two answers: first the one that is stored, then the one that is served."
    stored, served = answer
    if question_key(stored.question) == question_key(served.question):
        return "that is one question, asked twice: its hit is right. Ask two that need different answers."
    allowed = lexical_guard(served.question, stored.question)
    if "retrieve" in served.timings:
        if not allowed:
            return "the second was answered anew: the guard has seen a difference in the words. Try others."
        return "the second was answered anew: its cosine is below the threshold. Change fewer words."
    if served.text != stored.text:
        return "the second was served, but with the answer to a third question that was asked before. Try other words."
    if not allowed:
        return "the guard refuses this pair, so another cache has served it: ask `guarded`."
    return None

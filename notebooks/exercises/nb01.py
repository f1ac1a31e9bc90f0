"""The exercises of ``01_naive_rag``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from exercises.check import exercise
from ragkit.base import Hit


@exercise(
    "01.1",
    expects=FunctionType,
    hint='re.findall(r"\\[(\\d+)\\]", reply) gives the numbers in square brackets, as texts and in their order.',
    praise="A model may cite a source that does not exist. What is left are places where a reader can check.",
)
def cited(answer: Callable[[str, int], Any]) -> str | None:
    reply = "Boil the water [2]. Clean the kettle [1], then wait [2]. Descale it [7] now and then [0]."
    found = answer(reply, 3)
    if found is ...:
        return "your function still returns `...`: put your own code there."
    if not isinstance(found, list):
        return f"you return {found!r}, expected a list of numbers."
    if any(isinstance(number, str) for number in found):
        return "your list holds texts. `int` makes a number of a text."
    problem = {
        (2, 1, 2, 7, 0): "every number is in your list, also those of sources that do not exist, and [2] twice.",
        (2, 1, 2): "source 2 is cited twice, and stands twice in your list.",
        (2, 1, 7, 0): "there are 3 sources, and your list holds 7 and 0.",
        (2, 1, 7): "there are 3 sources, and your list holds 7.",
        (2, 1, 0): "sources are numbered from 1, and your list holds 0.",
        (1, 2): "source 2 is cited first, so it should come first.",
        (): "you find no source, though the reply cites [2] and [1].",
    }.get(tuple(found), f"for a reply that cites [2], [1], [2], [7] and [0] of 3 sources you return {found!r}.")
    if found != [2, 1]:
        return problem
    if answer("As the manual says [12].", 12) != [12]:
        return "[12] is one source, with a number of two digits."
    if answer("I do not know.", 3) != []:
        return "for a reply without a number, return an empty list."
    return None


@exercise(
    "01.2",
    expects=list,
    hint="One vector stands for the whole chunk. What else stands in it, beside the answer? Ask for all of it.",
    praise="To find two sentences you had to ask for everything around them. That is dilution, seen from the query.",
)
def a_query_that_finds_it(answer: list[Hit]) -> str | None:
    if not answer or not all(isinstance(hit, Hit) for hit in answer):
        return "your list is expected to be what rag.retriever.search(...) returns."
    ranks = [rank for rank, hit in enumerate(answer, 1) if "By default `SCRIPT_NAME`" in hit.chunk.text]
    if not ranks:
        return f"none of your {len(answer)} hits holds the answer. Search with k=len(chunks), so that it is among them."
    if len(answer[ranks[0] - 1].chunk.text) < 800:
        return "these chunks are shorter than those of rag, and that is another way: search with rag.retriever."
    if ranks[0] > 100:
        return f"with your query the answer has rank {ranks[0]}. It should be among the first ten."
    if ranks[0] > 10:
        return f"rank {ranks[0]} is better than before, and should be among the first ten."
    return None

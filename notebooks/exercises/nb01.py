"""The exercises of ``01_naive_rag``."""

from __future__ import annotations

from exercises.check import exercise
from ragkit.base import Hit


@exercise(
    "01.1",
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

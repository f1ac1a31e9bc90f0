"""The exercises of ``07_reranking``."""

from __future__ import annotations

from collections.abc import Sequence

from exercises.check import exercise
from ragkit.base import Chunk, Hit


@exercise(
    "07.1",
    expects=type,
    hint="Ask the inner reranker for len(hits), fuse its list with `hits`, and return the k best of both.",
    praise="It is a reranker like any other: `Reranked` takes it, and `compare` says whether it is better.",
)
def blend(answer: type) -> str | None:
    hits = [Hit(Chunk(name, 0, 1, name), 1 - rank / 10, "search") for rank, name in enumerate("abcd")]
    if not hasattr(answer, "rerank"):
        return f"{answer.__name__} is expected to be a reranker: a class with a method `rerank(self, query, hits, k)`."
    inner = _InOrder("dbac")
    reranker = answer(inner)
    found = reranker.rerank("query", hits, 4)
    if not isinstance(found, list) or not all(isinstance(hit, Hit) for hit in found):
        return f"rerank returned {type(found).__name__}, expected a list of hits."
    if not inner.asked:
        return "your reranker never asked the inner one: self.reranker.rerank(query, hits, len(hits))."
    order = " ".join(hit.chunk.doc_id for hit in found)
    if order == "a b c d":
        return "this is the order of the search alone. Fuse both lists."
    if order == "d b a c":
        return "this is the inner reranker's order alone. Fuse both lists."
    if order != "a b d c":
        return f"the search says a b c d, the inner reranker d b a c; you return {order}, expected a b d c."
    inner = _InOrder("dbac")
    few = answer(inner).rerank("query", hits, 2)
    if len(few) != 2:
        return f"asked for k = 2, your reranker returned {len(few)} hits."
    if inner.asked != [4]:
        return (
            f"asked for k = 2 of 4 hits, your reranker asked the inner one for {inner.asked[0]}: "
            "a passage that is left out there has lost one of its two votes."
        )
    return None


class _InOrder:
    """A reranker with a fixed order of documents, which notes how many hits it was asked for."""

    def __init__(self, names: str) -> None:
        self.names, self.asked = names, list[int]()

    def rerank(self, query: str, hits: Sequence[Hit], k: int) -> list[Hit]:
        self.asked.append(k)
        ranked = sorted(hits, key=lambda hit: self.names.index(hit.chunk.doc_id))
        return [Hit(hit.chunk, 1 / rank, "inner") for rank, hit in enumerate(ranked[:k], 1)]

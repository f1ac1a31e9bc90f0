"""The exercises of ``10_modular_rag``."""

from __future__ import annotations

from collections.abc import Callable

from exercises.check import exercise
from ragkit.base import Chunk, ContractError, Hit, Retriever
from ragkit.testing import check_retriever


class _Scripted(Retriever):
    """Eight hits, of three documents: a, a, a, b, a, b, c, a. Fewer where fewer are asked for."""

    def _search(self, query: str, k: int) -> list[Hit]:
        texts = enumerate("aaababca")
        return [Hit(Chunk(doc, 10 * n, 10 * n + 5, "words"), 1 - n / 10, "scripted") for n, doc in texts][:k]


@exercise(
    "10.1",
    expects=type,
    hint="Ask self.retriever for more than k hits, keep the first of each chunk.doc_id, and return at most k.",
    praise="A retriever that holds a retriever: it fits everywhere in a pipeline, and `compare` can judge it.",
)
def one_per_document(answer: Callable[[Retriever], Retriever]) -> str | None:
    make = answer
    if not (isinstance(answer, type) and issubclass(answer, Retriever)):
        return "OnePerDocument is expected to be a Retriever: begin with `class OnePerDocument(Retriever):`."
    retriever = make(_Scripted())
    if not isinstance(retriever._search("words", 3), list):
        return "_search returns no list of hits yet."
    try:
        check_retriever(retriever, ["words", "other words"], k=2)
    except ContractError as error:
        return f"check_retriever says: {error}."
    found = [hit.chunk.doc_id for hit in retriever.search("words", 3)]
    if len(set(found)) < len(found):
        return f"of the documents {found} some come twice. Keep the first hit of each hit.chunk.doc_id."
    if found == ["a"]:
        return "you asked the inner retriever for k hits, and all of one document came. Ask it for more than k."
    if found != ["a", "b", "c"]:
        return f"you found the documents {found}, expected ['a', 'b', 'c']. Ask the inner retriever for many hits."
    if [hit.chunk.start for hit in retriever.search("words", 3)] != [0, 30, 60]:
        return "you kept another hit than the *best* of each document: that is the first one that comes."
    return None

"""The exercises of ``10_modular_rag``."""

from __future__ import annotations

from collections.abc import Callable

from exercises.check import check_number, exercise
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
    praise="A retriever that holds a retriever. It keeps the contract, so it fits everywhere in a pipeline.",
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


@exercise(
    "10.2",
    expects=(int, float),
    hint="95 questions gain .02 each, 5 lose .60 each. Add up, and divide by 100.",
    praise="95 % right, and still a loss. What a router may cost depends on what an error costs.",
)
def worth_routing(answer: float) -> str | None:
    return check_number(
        answer,
        -0.011,
        [
            (0.011, "the losses are larger than the gains: 95 * 0.02 against 5 * 0.60. Mind the sign."),
            (0.049, "you have added the losses. They are lost: subtract them."),
            (-1.1, "this is the sum over 100 questions. Divide it by 100."),
            (0.019, "these are the gains alone. Five questions lose something."),
            (-0.03, "these are the losses alone. 95 questions gain something."),
            (-0.58, "0.02 - 0.60 counts a gain and a loss alike. There are 95 of the one and 5 of the other."),
            (-0.29, "the mean of 0.02 and -0.60 counts both alike. There are 95 of the one and 5 of the other."),
        ],
        f"not {answer}. Weigh each change by how many questions it happens to.",
    )


@exercise(
    "10.3",
    expects=str,
    hint="Which of the three would you have to justify by a difference that the questions do not show?",
    praise="The burden of proof is on the change. Nothing was proved, and the best asks for twice the tokens.",
)
def deployed(answer: str) -> str | None:
    said = answer.strip().strip("'\"").lower()
    if said == "best":
        return "its +.009 lies in an interval from -.034 to +.049, and it pays for that with twice the tokens."
    if said == "fastest":
        return "it was chosen by milliseconds, and to be within one standard error is no proof that it is as good."
    if said != "start":
        return f"expected 'start', 'best' or 'fastest', not {answer!r}."
    return None

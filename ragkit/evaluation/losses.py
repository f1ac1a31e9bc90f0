"""Where the answers to labelled questions are lost, from the file to the answer, with the questions of each stage::

result = compare({"mine": rag.retriever}, questions, k=50, same_budget=2000)
answers = [await rag.query(question.text) for question in questions]
show_lost(questions_lost(result, "mine", answers))      # ragkit.notebook.display: bars to unfold
"""

from __future__ import annotations

from collections.abc import Iterable

from ragkit.base import Answer, InputError, Question
from ragkit.evaluation.compare import (
    BUDGET,
    DROPPED,
    FAILED,
    FOUND,
    FUSION,
    IN_PART,
    NO_CHUNK,
    NOT_RETRIEVED,
    RERANK,
    REWRITING,
    Comparison,
)
from ragkit.evaluation.metrics import first_ranks, relevant_gold

NOT_PARSED, UNUSED = "not parsed", "not used by the answer"

ADVICE = {
    FOUND: "Nothing to do.",
    IN_PART: "A part of it was read. Larger chunks, or the neighbours of a hit, bring the rest.",
    NOT_PARSED: "The text of the documents does not hold it: run OCR on the file or save it in another format, or copy "
    "the quote again.",
    NO_CHUNK: "No chunk holds half of it: it was cut at a bad place. Try larger chunks, or another chunker.",
    NOT_RETRIEVED: "No search came near it: its words differ from the question's. Try more candidates.",
    REWRITING: "The question as it was asked would have found it: leave rewriting out.",
    FUSION: "One of the two searches found it, and fusion put it back: try the other one alone.",
    DROPPED: "It was found, and dropped before the end.",
    RERANK: "It was a candidate, and the reranker put it back: read some of these questions.",
    BUDGET: "It was found below what is read: a larger budget, smaller chunks, or a better reranker.",
    UNUSED: "It was among what is read, and the answer is silent or cites something else: try another writer (--llm).",
    FAILED: "The search failed: see the message.",
}
"""What to do about each stage, in the order in which a question passes them; what was found comes first."""


def questions_lost(
    comparison: Comparison, system: str, answers: Iterable[Answer] = (), not_parsed: Iterable[str] = ()
) -> dict[str, list[str]]:
    """The texts of the questions by the stage that lost their gold, one of ``ADVICE``; stages without any are left out.

    Args:
        system: one of ``comparison``; its stages are those of ``Comparison.where_lost``.
        answers: what the pipeline answered to some of the questions. If its hits hold the gold and no citation touches
            it, the answer has not used it; if they do not hold it, it was cut by the budget.
        not_parsed: questions whose gold no document holds (``ragkit.workbench.labels.read_labels`` finds them).

    Raises:
        InputError: there is no such system.
    """
    if system not in comparison.systems:
        raise InputError(f"no system {system!r}: expected one of {', '.join(comparison.systems)}")
    answer_to = {answer.question: answer for answer in answers}
    lost: dict[str, list[str]] = {stage: [] for stage in ADVICE}
    lost[NOT_PARSED] += not_parsed
    for question, stage in zip(comparison.questions, comparison.where_lost()[system], strict=True):
        answer = answer_to.get(question.text)
        if answer is not None and stage in (FOUND, IN_PART):
            stage = _stage_of_answer(stage, question, answer)
        lost[stage].append(question.text)
    return {stage: texts for stage, texts in lost.items() if texts}


def _stage_of_answer(stage: str, question: Question, answer: Answer) -> str:
    gold = relevant_gold(question.gold)
    if any(citation.span.overlap(span) for citation in answer.citations for span in gold):
        return stage
    return UNUSED if first_ranks([hit.chunk for hit in answer.hits], gold).any() else BUDGET

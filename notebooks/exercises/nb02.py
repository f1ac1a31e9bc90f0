"""The exercises of ``02_your_documents``."""

from __future__ import annotations

from exercises.check import exercise
from ragkit.base import Question
from ragkit.evaluation.compare import Comparison

LONGEST = 400  # characters of a quote
KEY = "What if I lose my key?"


@exercise(
    "02.1",
    expects=tuple,
    hint='label(corpus, {"What if I lose my key?": ("handbook.pdf", "...")}), with words copied from the document.',
    praise="A label: it holds for every chunk size, because it names a place in the document.",
)
def one_label(answer: tuple[Question, ...]) -> str | None:
    if len(answer) != 1 or not isinstance(answer[0], Question):
        return f"one labelled question is expected, and there are {len(answer)} things. Use label(corpus, {{...}})."
    [question] = answer
    if not question.gold:
        return "the question has no quote, which says that the documents do not answer it."
    if len(question.gold[0]) > LONGEST:
        return f"the quote has {len(question.gold[0])} characters. Quote only the words that answer."
    if question.text == KEY and "lost card" not in str(question.answer):
        return "the quote is in the document, and does not say what happens. Look for a lost card."
    return None


@exercise(
    "02.2",
    expects=Comparison,
    hint="Use the words of somebody who has not read the documents: a symptom, a colloquial word, half a sentence.",
    praise="Keep these in questions.jsonl. Questions that fail are the ones that can show an improvement.",
)
def questions_that_fail(answer: Comparison) -> str | None:
    if len(answer.questions) < 3:
        return f"there are {len(answer.questions)} questions with an answer. Write three or more."
    if answer.budget is not None or answer.k != 3:
        return "look at the first three results, by k=3 and without same_budget."
    scores = answer.scores(f"mrr@{answer.k}")
    name = "advanced" if "advanced" in scores else scores.columns[-1]
    if (scores[name] > 0).all():
        return f"{name} finds all of your {len(scores)} questions. Use words that the documents do not have."
    return None

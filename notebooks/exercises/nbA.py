"""The exercise of ``A_query_rewriting``."""

from __future__ import annotations

from exercises.check import exercise
from ragkit.evaluation.compare import Comparison
from ragkit.retrieval.rewrite import Rewritten

FEW = 4  # questions


@exercise(
    "A.1",
    expects=Comparison,
    hint='compare({"bm25": bm25, "me": Rewritten(bm25, Me())}, the questions that you answered, same_budget=2000)',
    praise="So the idea works where the writer knows the subject. Now read once more what the small model wrote.",
)
def own_rewriter(answer: Comparison) -> str | None:
    systems = {name: system for name, system in answer.systems.items() if name != answer.baseline}
    if not systems:
        return "there is only one system. Compare bm25 with your rewriter in front of it."
    rewriters = [system.rewriter for system in systems.values() if isinstance(system, Rewritten)]
    if not rewriters:
        return "no system but the baseline rewrites. Put Rewritten(bm25, Me()) into the comparison."
    if all(type(rewriter).__module__.startswith("ragkit.") for rewriter in rewriters):
        return f"{type(rewriters[0]).__name__} is ragkit's. Write a class of your own."
    if answer.budget is None:
        return "you compared ten results of each. Give both systems the same tokens: same_budget=2000."
    if len(answer.questions) < FEW:
        return f"{len(answer.questions)} questions are too few to see anything: write passages for four or more."
    silent = [q.text for q in answer.questions if all(len(set(r.rewrite(q.text))) < 2 for r in rewriters)]
    if silent:
        return f"your rewriter adds nothing to {silent[0]!r}. Compare on the questions that you wrote a passage for."
    scores = answer.scores()
    if scores[list(systems)].eq(scores[answer.baseline], axis=0).all(axis=None):
        return "every question has the score of the baseline. Use the words and names that the documentation would use."
    return None

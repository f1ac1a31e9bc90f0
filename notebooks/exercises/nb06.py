"""The exercises of ``06_hybrid_search``."""

from __future__ import annotations

from exercises.check import exercise
from ragkit.evaluation.compare import Comparison
from ragkit.retrieval.hybrid import Hybrid
from ragkit.workbench import questions_by_kind

FEW = 20  # questions, below which a verdict is not worth asking for


@exercise(
    "06.1",
    expects=Comparison,
    hint="Where words know nothing, give them less: weights=(0.3, 0.7). Where the mediocre win, shorten the lists.",
    praise="A trade: look at `your_comparison.by_group(kinds)`, and at what the names have lost for it.",
)
def worse_on_no_kind(answer: Comparison) -> str | None:
    yours = [name for name in answer.systems if name != answer.baseline]
    if not yours:
        return "there is only one system. Compare your hybrid with `dense`."
    if isinstance(answer.systems[answer.baseline], Hybrid):
        return f'the baseline {answer.baseline!r} is a hybrid itself. Compare with baseline="dense".'
    name = yours[-1]
    if not isinstance(answer.systems[name], Hybrid):
        return f"{name!r} is no Hybrid. Put yours into the last row: Hybrid([bm25, dense], ...)."
    if answer.budget is None:
        return "you compared ten results of each. Give both systems the same tokens: same_budget=2000."
    if len(answer.questions) < FEW:
        return f"{len(answer.questions)} questions show very little. Take all of `questions`."
    verdict = answer.table.loc[name, "verdict"]
    if verdict != "better":
        return f"over all questions the verdict on {name!r} is: {verdict}."
    for kind, group in questions_by_kind(answer.questions).items():
        if len(group) > 1 and answer.only(group).table.loc[name, "verdict"] == "worse":
            return f"{name!r} is better over all questions, and worse on {kind!r}."
    return None

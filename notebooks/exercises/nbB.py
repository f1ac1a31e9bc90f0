"""The exercises of ``B_fine_tuning``."""

from __future__ import annotations

from exercises.check import exercise
from ragkit.evaluation.compare import Comparison
from ragkit.retrieval.dense import DenseRetriever
from ragkit.training.adapter import Adapted

FEW = 20  # questions, below which a verdict is not worth asking for


@exercise(
    "B.1",
    expects=Comparison,
    hint='Train on [pair for pair in pairs[0] if pair.source == "heading"], build DenseRetriever(chunks, '
    "store=adapted_store(...)), and compare it with after[0].",
    praise="Is the verdict *no detectable difference*? Then the other pairs may add nothing to the gain.",
)
def one_source(answer: Comparison) -> str | None:
    systems = list(answer.systems.values())
    if len(systems) < 2:
        return "there is one system. Compare yours with `after[0]`."
    for name, system in answer.systems.items():
        if not isinstance(system, DenseRetriever) or not isinstance(system.embedder, Adapted):
            return f"{name!r} searches without an adapter of its own. Give DenseRetriever an adapted store."
    if len({system.embedder.identity for system in systems}) < len(systems):
        return "two systems have the same matrix: they were trained on the same pairs."
    if len(answer.questions) < FEW:
        return f"{len(answer.questions)} questions show very little. Take all that the second half answers."
    return None

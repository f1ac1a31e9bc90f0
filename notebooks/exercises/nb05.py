"""The exercises of ``05_embeddings``."""

from __future__ import annotations

import numpy as np

from exercises.check import exercise
from ragkit.base import Embedder
from ragkit.embedding import encode
from ragkit.evaluation.compare import Comparison

FEW = 20  # questions, below which a verdict is not worth asking for
_TEA = ["How do I make tea?"]


@exercise(
    "05.1",
    expects=Comparison,
    hint='encode(self, texts, kind="passage") returns e5.encode(texts, "passage"), whatever kind it is asked for.',
    praise="No error, no warning, only worse results: check the calls of `encode` when a new model disappoints.",
)
def questions_as_passages(answer: Comparison) -> str | None:
    embedders = {name: getattr(retriever, "embedder", None) for name, retriever in answer.systems.items()}
    right = embedders.pop(answer.baseline)
    confused = [embedder for embedder in embedders.values() if embedder is not None]
    if not confused:
        return 'expected two systems, each a DenseRetriever with an embedder, as systems["E5"] is one.'
    if right is None or _same(right, right):
        return 'the baseline treats questions and passages alike. Compare with systems["E5"]; MiniLM has no prefixes.'
    problems = [_problem(right, embedder) for embedder in confused]
    if all(problems):
        return problems[0]
    if answer.budget is None:
        return "you compared ten results of each. Give both systems the same tokens: same_budget=2000."
    if len(answer.questions) < FEW:
        return f"{len(answer.questions)} questions show very little. Take all of `questions`."
    return None


def _same(one: Embedder, other: Embedder) -> bool:
    """Whether ``one`` reads a question as ``other`` reads a passage."""
    return bool(np.allclose(encode(one, _TEA, "query"), encode(other, _TEA), atol=1e-4))


def _problem(right: Embedder, embedder: Embedder) -> str | None:
    if not np.allclose(encode(embedder, _TEA), encode(right, _TEA), atol=1e-4):
        return "your class reads passages in another way than E5 does. Only questions were to be confused."
    if np.allclose(encode(embedder, _TEA, "query"), encode(right, _TEA, "query"), atol=1e-4):
        return "your class still reads questions as questions."
    return None if _same(embedder, right) else "your class reads questions neither as questions nor as passages."

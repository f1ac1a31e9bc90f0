"""The exercises of ``C_many_languages``."""

from __future__ import annotations

from exercises.check import exercise
from ragkit.base import Retriever
from ragkit.evaluation.compare import Comparison
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid

FEW = 50  # questions, below which a verdict is not worth asking for


@exercise(
    "C.1",
    expects=Comparison,
    hint='BM25Retriever(as_chunks(spanish)), and another with analyzer=Analyzer(language="spanish"); metric="hit@1".',
    praise="Read the verdict. Close translations have many word forms in common, which leaves a stemmer little to do.",
)
def two_analyzers(answer: Comparison) -> str | None:
    systems = [system for system in answer.systems.values() if isinstance(system, BM25Retriever)]
    languages = {system.analyzed.analyzer.language for system in systems}
    if len(systems) < 2:
        return "two systems with BM25 are expected."
    if "spanish" not in languages:
        return "none of your systems has a Spanish analyzer."
    if languages == {"spanish"}:
        return "all your systems have a Spanish analyzer. Which one do you compare with?"
    if len({tuple(chunk.text for chunk in system.chunks) for system in systems}) > 1:
        return "your systems search different messages, so more than the analyzer differs."
    if any("en" in question.tags or "es" in question.tags for question in answer.questions):
        return "the questions are expected to be Argentine: argentine.questions."
    if len(answer.questions) < FEW:
        return f"{len(answer.questions)} questions show very little. Take all of argentine.questions."
    if answer.metric != "hit@1":
        return f'your metric is {answer.metric}. Each message has one counterpart: metric="hit@1".'
    return None


@exercise(
    "C.2",
    expects=Comparison,
    hint='Hybrid([dense(english[::2]), dense(as_chunks(corpora["de"])[1::2])]), compared with mixed["de"].',
    praise="Each list has one language, so no passage is held back for its language. Reading two lists is the price.",
)
def an_index_a_language(answer: Comparison) -> str | None:
    one = answer.systems[answer.baseline]
    if not isinstance(one, DenseRetriever):
        return 'your baseline is expected to be the mixed index, mixed["de"]: name it with baseline=.'
    hybrids = [system for system in answer.systems.values() if isinstance(system, Hybrid)]
    if not hybrids:
        return "none of your systems is a Hybrid of two retrievers."
    parts = [_texts(part) for part in hybrids[0].inputs]
    if any(a & b for n, a in enumerate(parts) for b in parts[:n]):
        return "the parts of your Hybrid have passages in common. Each takes the passages of one language."
    if set().union(*parts) != _texts(one):
        return "your Hybrid and the mixed index hold different passages, so more than the fusion differs."
    if answer.budget is None:
        return "you compared ten results of each. Give both systems the same tokens: same_budget=100."
    if len(answer.questions) < FEW:
        return f'{len(answer.questions)} questions show very little. Take corpora["de"].questions[::2].'
    return None


def _texts(retriever: Retriever) -> set[str]:
    return {chunk.text for chunk in getattr(retriever, "chunks", ())}

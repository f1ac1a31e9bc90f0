"""How far drafted questions can be trusted to choose a pipeline: do they rank pipelines as the FAQ's questions do?

Coverage in 2,000 tokens of 15 pipelines (three chunk sizes, five ways to search) on drafted questions, on those of the
FAQ pages, and on those that we wrote; Spearman's rank correlation of the two orders, with the interval of drawing the
documents of both sets again. ``RAGKIT_BENCH_EXTENDED=1`` measures the extended corpus, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import spearmanr

from ragkit import BM25Retriever, DenseRetriever, FixedChunker, Hybrid, TokenStore, chunk_corpus, compare, load_pydocs
from ragkit.base import Corpus, Question, Retriever
from ragkit.evaluation.compare import documents_of
from ragkit.evaluation.metrics import BUDGET
from ragkit.evaluation.statistics import Floats, resampled_means
from ragkit.pipeline.config import FETCH_K
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.workbench.draft import draft
from ragkit.workbench.labels import course_corpus

Row = tuple[str, float, str, str]
SIZES = (128, 256, 512)


def main() -> list[Row]:
    corpus, questions = course_corpus()
    faq = [q for q in corpus.questions if q.gold]
    rows = [*correlations("core", corpus, {"faq": faq, "all five sets": questions})]
    if os.environ.get("RAGKIT_BENCH_EXTENDED"):
        other = load_pydocs("extended")
        rows += correlations("extended", other, {"faq": [q for q in other.questions if q.gold]})
    return rows


def correlations(name: str, corpus: Corpus, sets: Mapping[str, Sequence[Question]]) -> Iterator[Row]:
    drafted = draft(corpus, limit=200)
    everything = {"drafted": drafted, **sets}
    store = TokenStore.open(corpus).with_queries([q.text for group in everything.values() for q in group], tokens=True)
    systems = pipelines(corpus, store)
    scores = {key: measured(systems, group) for key, group in everything.items()}
    yield f"{name}: drafted questions", len(drafted), "", ""
    means = {key: resampled_means(values, documents_of(everything[key]), 2000) for key, values in scores.items()}
    for key in sets:
        real = spearmanr(scores["drafted"].mean(axis=0), scores[key].mean(axis=0)).statistic
        drawn = [spearmanr(a, b).statistic for a, b in zip(means["drafted"], means[key], strict=True)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        yield f"{name}: rank correlation with {key}, {len(systems)} pipelines", real, f"[{low:.2f}, {high:.2f}]", ""
        best = int(scores["drafted"].mean(axis=0).argmax())
        loss = scores[key].mean(axis=0).max() - scores[key].mean(axis=0)[best]
        yield f"{name}: coverage lost on {key} by the pipeline that drafts choose", loss, list(systems)[best], ""


def pipelines(corpus: Corpus, store: TokenStore) -> dict[str, Retriever]:
    systems: dict[str, Retriever] = {}
    for size in SIZES:
        chunks = chunk_corpus(FixedChunker(size, size // 8), corpus)
        bm25, maxp = BM25Retriever(chunks), DenseRetriever(chunks, store=store, scoring="maxp")
        hybrid = Hybrid([bm25, maxp], fusion="rrf")
        late = LateInteraction(store, mean="geometric", pooled_below=0.5)
        systems |= {
            f"{size} pooled": DenseRetriever(chunks, store=store),
            f"{size} maxp": maxp,
            f"{size} bm25": bm25,
            f"{size} hybrid": hybrid,
            f"{size} reranked": Reranked(hybrid, late, FETCH_K),
        }
    return systems


def measured(systems: Mapping[str, Retriever], questions: Sequence[Question]) -> Floats:
    """Coverage ``(questions, systems)``."""
    result = compare(systems, questions, k=50, same_budget=BUDGET, progress=False)
    return np.asarray(result.scores()[list(systems)].to_numpy(), dtype=np.float64)

"""How far drafted questions can be trusted to choose a pipeline: do they rank pipelines as the FAQ's questions do?

Coverage in 2,000 tokens of 15 pipelines (three chunk sizes, five ways to search) on drafted questions, on those of the
FAQ pages, and on those that we wrote; on core, and on ``extended``, which no rule was written for. Spearman's rank
correlation of two orders, with the interval of drawing the documents of both sets again. The order by the other
corpus's FAQ stands beside that by the drafts: it is what choosing without any question about these documents brings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

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
DRAFTED, FAQ, ALL = "drafts", "faq", "all five sets"


class Measured(NamedTuple):
    """Coverage of the systems on a set of questions: ``mean`` ``(systems,)``; ``drawn`` ``(resamples, systems)``."""

    questions: Sequence[Question]
    mean: Floats
    drawn: Floats


def main() -> list[Row]:
    core, questions = course_corpus()
    extended = load_pydocs("extended")
    names, on_core = measured(core, {FAQ: core.questions, ALL: questions})
    _, on_extended = measured(extended, {FAQ: extended.questions})
    return [
        *rows_of("core", on_core, on_extended[FAQ], names),
        *rows_of("extended", on_extended, on_core[FAQ], names),
    ]


def rows_of(name: str, sets: Mapping[str, Measured], elsewhere: Measured, systems: Sequence[str]) -> Iterator[Row]:
    """How well drafts, and the FAQ of the other corpus, order and choose the pipelines of a corpus."""
    for key, group in sets.items():
        documents = len(set(documents_of(group.questions)))
        yield f"{name}: questions, {key}", len(group.questions), f"in {documents} documents", ""
    judges = {"drafts": sets[DRAFTED], "the other corpus's faq": elsewhere}
    for key, judge in ((key, judge) for key in sets if key != DRAFTED for judge in judges):
        real, choosing = sets[key], judges[judge]
        drawn = [spearmanr(a, b).statistic for a, b in zip(choosing.drawn, real.drawn, strict=True)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        correlation = float(spearmanr(choosing.mean, real.mean).statistic)
        title = f"{name}: rank correlation of {judge} with {key}, {len(systems)} pipelines"
        yield title, correlation, f"[{low:.2f}, {high:.2f}]", ""
        best = int(choosing.mean.argmax())
        loss = float(real.mean.max() - real.mean[best])
        yield f"{name}: coverage lost on {key} by the pipeline that {judge} would choose", loss, systems[best], ""


def measured(corpus: Corpus, sets: Mapping[str, Sequence[Question]]) -> tuple[list[str], dict[str, Measured]]:
    """The names of the systems, and what they score on drafts and on each of ``sets``."""
    everything = {DRAFTED: draft(corpus, limit=200), **{key: [q for q in some if q.gold] for key, some in sets.items()}}
    store = TokenStore.open(corpus).with_queries([q.text for some in everything.values() for q in some], tokens=True)
    systems = pipelines(corpus, store)
    result = {}
    for key, questions in everything.items():
        compared = compare(systems, questions, k=50, same_budget=BUDGET, progress=False)
        scores = np.asarray(compared.scores()[list(systems)].to_numpy(), dtype=np.float64)
        drawn = resampled_means(scores, documents_of(questions), 2000)
        result[key] = Measured(questions, scores.mean(axis=0), drawn)
    return list(systems), result


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

"""``tune``: many configurations on one half of the questions, the chosen ones on the other.

>>> tuned = tune(corpus, questions)                       # doctest: +SKIP
>>> tuned.table.head(); tuned.report; tuned.cheapest.save("pipeline.toml")      # doctest: +SKIP

The best of 300 is best partly by luck: its score on the questions that chose it is too high. So those questions choose,
and others report. Of the configurations that are not detectably worse than the best, the quickest is shown as well:
it is often the one to take.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import LLM, Corpus, Hit, InputError, Question, Retriever, require
from ragkit.evaluation import statistics
from ragkit.evaluation.budget import BUDGET, CountedOnce, cut, fill
from ragkit.evaluation.compare import Comparison, compare
from ragkit.evaluation.grid import Grid, label
from ragkit.evaluation.metrics import coverage, metric_names, relevant_gold, score
from ragkit.evaluation.report import clusters
from ragkit.evaluation.sharing import Ledger, Shared, SharedMaxSim
from ragkit.generation import Extractive
from ragkit.pipeline.building import Building
from ragkit.pipeline.config import PipelineConfig
from ragkit.pipeline.rag import RAGPipeline
from ragkit.pipeline.settings import LateInteractionSettings
from ragkit.retrieval.rerank import LateInteraction
from ragkit.token_store import TokenStore
from ragkit.tokens import minilm_tokenizer

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

COVERAGE = f"coverage@{BUDGET}"


@dataclass(frozen=True)
class Tuned:
    """What ``tune`` found.

    ``table`` has a row a configuration, the best first: the metric, P(best), the difference to the best with its
    p-value, milliseconds a query (p50; without encoding the question; told from shared work), tokens of the results.
    ``report`` compares the best and the cheapest with ``start`` on the questions that did not choose them.
    """

    table: pd.DataFrame
    start: PipelineConfig
    best: PipelineConfig
    cheapest: PipelineConfig
    report: Comparison
    ledger: Ledger
    chosen_on: tuple[Question, ...]
    reported_on: tuple[Question, ...]
    seconds: float

    def __str__(self) -> str:
        shared = self.ledger
        return (
            f"{len(self.table)} configurations on {len(self.chosen_on)} questions in {self.seconds:.0f} s. "
            f"Searches: {shared.searched}, and {shared.searches_shared} answered from them. Chunks scored: "
            f"{shared.scored}, and {shared.scores_shared} answered from them. Documents encoded: 0.\n"
            f"best:     {label(self.best)}\ncheapest: {label(self.cheapest)}"
        )


def tune(
    corpus: Corpus,
    questions: Iterable[Question] | None = None,
    grid: Grid | Sequence[PipelineConfig] | None = None,
    *,
    store: TokenStore | None = None,
    start: PipelineConfig | None = None,
    k: int = 10,
    metric: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Tuned:
    """Try every configuration of ``grid`` on half of the questions, report on the other half.

    A document's questions are all in one half. Vectors come from the token store, so that no configuration encodes
    a document; searches and late-interaction scores that several configurations need are made once.

    Args:
        questions: labelled (default: the corpus's own).
        grid: what to try (default: ``Grid()``), or the configurations themselves.
        start: what the report compares with (default: ``advanced()``'s settings).
        metric: ``coverage@2000`` unless given, because the grid varies chunk sizes: every list is then as long as
            2000 tokens. Or a name of ``metric_names(k)``, at ``k`` results.

    Raises:
        InputError: gold in fewer than four documents, no configuration, an unknown metric.
    """
    began = time.perf_counter()
    store = store or TokenStore.open(corpus)
    given = corpus.questions if questions is None else tuple(questions)
    asked = tuple(q for q in given if relevant_gold(q.gold))
    chosen_on, reported_on = halves(asked, seed)
    tried = list(grid) if isinstance(grid, Sequence) else (grid or Grid()).configurations()
    metric = metric or COVERAGE
    names = (COVERAGE, *metric_names(k))
    if not tried or metric not in names:
        expected = f"expected one or more, and one of {', '.join(names)}"
        raise InputError(f"{len(tried)} configurations, metric {metric!r}: {expected}")
    fast = store.remembering([q.text for q in asked])
    ledger = Ledger()
    scores, milliseconds, tokens = _measured(tried, corpus, fast, chosen_on, k, metric, ledger, progress)
    table = _table(tried, scores, milliseconds, tokens, clusters(chosen_on, "document"), metric, seed)
    best, cheapest = tried[int(table.index[0])], tried[_cheapest(table)]
    start = start or starting()
    named = {"start": start, "best": best, "cheapest": cheapest}
    systems = {name: _pipeline(config, corpus, store).retriever for name, config in named.items()}
    budget = BUDGET if metric == COVERAGE else False
    report = compare(systems, reported_on, "start", k, budget, metric=metric, seed=seed, progress=progress)
    made = [config.made_on(corpus, store) for config in (start, best, cheapest)]
    seconds = time.perf_counter() - began
    return Tuned(table, made[0], made[1], made[2], report, ledger, chosen_on, reported_on, seconds)


def starting() -> PipelineConfig:
    """The settings of ``advanced()`` as a configuration.

    >>> label(starting())
    'fixed 512/64, hybrid rrf, rerank 50'
    """
    grid = Grid(("fixed",), (512,), (64,), (False,), ("hybrid",), ("maxp",), ("rrf",), (True,), (50,))
    return grid.configurations()[0]


def halves(questions: Sequence[Question], seed: int = 0) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Two halves of nearly equal size, no document in both: the largest documents are dealt first.

    Raises:
        InputError: gold in fewer than four documents.
    """
    documents = clusters(tuple(questions), "document")
    names, counts = np.unique(documents, return_counts=True)
    if len(names) < 4:
        raise InputError(f"gold in {len(names)} documents: expected four or more, two for each half")
    shuffled = np.random.default_rng(seed).permutation(len(names))
    load, half_of = [0, 0], {}
    for i in shuffled[np.argsort(-counts[shuffled], kind="stable")].tolist():
        half = int(load[1] < load[0])
        half_of[str(names[i])] = half
        load[half] += int(counts[i])
    first = tuple(q for q, document in zip(questions, documents, strict=True) if half_of[document] == 0)
    return first, tuple(q for q, document in zip(questions, documents, strict=True) if half_of[document] == 1)


def _measured(
    tried: Sequence[PipelineConfig],
    corpus: Corpus,
    store: TokenStore,
    questions: Sequence[Question],
    k: int,
    metric: str,
    ledger: Ledger,
    progress: bool,
) -> tuple[Floats, Floats, Floats]:
    """The metric ``(questions, configurations)``, and for each the median milliseconds and mean tokens of results."""
    from tqdm.auto import tqdm

    depth = max([k, *(config.fetch or 0 for config in tried)])
    shelf: dict[str, Retriever] = {}
    maxsim = SharedMaxSim(store, ledger)
    cuts: dict[Any, Any] = {}
    tokenizer = CountedOnce(minilm_tokenizer())
    scores = np.zeros((len(questions), len(tried)))
    milliseconds, tokens = np.zeros((2, len(questions), len(tried)))
    for column, config in enumerate(tqdm(tried, unit="configuration", leave=False) if progress else tried):
        site = Building(config, corpus, store, shelf, lambda made: Shared(made, ledger, depth), (), cuts)
        rag = _pipeline(config, corpus, store, site, maxsim)
        for row, question in enumerate(questions):
            began, spared = time.perf_counter(), ledger.spared
            hits: Sequence[Hit] = rag.retriever.search(question.text, k)
            milliseconds[row, column] = (time.perf_counter() - began) * 1000 + ledger.spared - spared
            if metric == COVERAGE:
                hits = fill(partial(rag.retriever.search, question.text), hits, k, BUDGET, tokenizer)
                hits = cut(hits, BUDGET, tokenizer)
            scores[row, column] = _score(hits, question, k, metric)
            tokens[row, column] = tokenizer.total(hits)
    return scores, np.median(milliseconds, axis=0), tokens.mean(axis=0)


def _pipeline(
    config: PipelineConfig,
    corpus: Corpus,
    store: TokenStore,
    site: Building | None = None,
    maxsim: SharedMaxSim | None = None,
) -> RAGPipeline:
    """The pipeline of ``config``, with shared parts where they are given."""
    if site is None:
        return RAGPipeline.from_config(config, corpus, store=store, llm=_NOBODY)
    reranker = config.reranker.build(store) if config.reranker else None
    if maxsim and isinstance(config.reranker, LateInteractionSettings):
        reranker = LateInteraction(maxsim, config.reranker.mean, config.reranker.doubt)
    return RAGPipeline(site.module(config.retriever), reranker, _NOBODY, fetch=config.fetch)


_NOBODY: LLM = Extractive()  # tuning looks at the retrieval side only


def _score(hits: Sequence[Hit], question: Question, k: int, metric: str) -> float:
    chunks, gold = [hit.chunk for hit in hits], relevant_gold(question.gold)
    if metric == COVERAGE:
        return coverage(chunks, gold, question.any_of)
    return score(chunks, gold, k, any_of=question.any_of)[metric]


def _table(
    tried: Sequence[PipelineConfig],
    scores: Floats,
    milliseconds: Floats,
    tokens: Floats,
    units: Sequence[str],
    metric: str,
    seed: int,
) -> pd.DataFrame:
    """A row a configuration, the best first; the index is its place in ``tried``."""
    best = int(np.argmax(scores.mean(axis=0)))
    against = scores - scores[:, [best]]
    columns = {
        "configuration": [label(config) for config in tried],
        metric: scores.mean(axis=0),
        "p_best": statistics.probability_best(scores, units, seed=seed),
        "diff": against.mean(axis=0),
        "p": statistics.p_values(against, units, seed=seed, simultaneous=False),
        "ms": milliseconds,
        "tokens": tokens,
    }
    table: pd.DataFrame = require("pandas", "notebook").DataFrame(columns)
    table.loc[best, "p"] = 1.0  # it can't differ from itself
    return table.sort_values([metric, "ms"], ascending=[False, True], kind="stable")


def _cheapest(table: pd.DataFrame) -> int:
    """The quickest configuration that is not detectably worse than the best.

    The p-values are not corrected for their number: that keeps out more configurations, not fewer.
    """
    alike = table[table["p"] >= statistics.ALPHA]
    return int(alike.index[int(np.argmin(alike["ms"].to_numpy()))])

"""``tune``: many configurations on one half of the questions, the chosen ones on the other.

>>> tuned = tune(corpus, questions)                       # doctest: +SKIP
>>> tuned.table.head(); tuned.report; tuned.chosen.save("pipeline.toml")       # doctest: +SKIP

The best of 300 is best partly by luck: its score on the questions that chose it is too high. So those questions choose,
and others, on other documents, report. Besides the best, the simplest of those that are within one standard error of it
is reported (the one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).
What is chosen in the end is the best only where the questions that report find it better than the start, the
``advanced`` preset; else it is the start.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from tqdm.auto import tqdm

from ragkit.base import Corpus, InputError, Question, Retriever, require
from ragkit.evaluation import statistics
from ragkit.evaluation.compare import Comparison, as_html, compare, documents_of
from ragkit.evaluation.metrics import BUDGET, relevant_gold
from ragkit.generation import Extractive
from ragkit.pipeline.config import FETCH_K, OVERLAP, SIZE, PipelineConfig, Table, read_table
from ragkit.pipeline.rag import RAGPipeline
from ragkit.token_store import TokenStore

if TYPE_CHECKING:
    import pandas as pd

COVERAGE = f"coverage@{BUDGET}"


@dataclass(frozen=True)
class Tuned:
    """The outcome of ``tune``.

    ``table`` has a row a configuration, the best first, measured on the questions in ``tuning``: the coverage, the
    chance that it is the best of all (``p_best``), the difference to the best with its standard error, its ``parts``
    (retrievers, a reranker, headings in front of chunks, a chunker that reads them), milliseconds a query (median;
    without encoding the question), tokens of the results. The simplest has the fewest parts, then the fewest
    candidates. ``report`` compares the best and the simplest with ``start`` on the questions in ``holdout``.
    """

    table: pd.DataFrame
    start: PipelineConfig
    best: PipelineConfig
    simplest: PipelineConfig
    report: Comparison
    tuning: tuple[Question, ...]
    holdout: tuple[Question, ...]
    seconds: float

    @property
    def chosen(self) -> PipelineConfig:
        """``best`` where the questions that report find it better than ``start``, else ``start``."""
        return self.best if self.report.table.loc["best", "verdict"] == "better" else self.start

    def __str__(self) -> str:
        alike = int((self.table["diff"] >= -self.table["error"]).sum())
        lines = [
            f"{len(self.table)} configurations on {len(self.tuning)} questions in {self.seconds:.0f} s; {alike} of "
            "them are within one standard error of the best.",
            f"best: {label(self.best)}",
            f"simplest within one standard error of it: {label(self.simplest)}",
        ]
        if self.report.minimum_detectable > 0:  # 0: no question tells them apart
            lines[0] += (
                f" The other {len(self.holdout)} questions would detect a true difference of "
                f"{self.report.minimum_detectable:.3f} 8 times in 10."
            )
        if self.chosen is self.best:
            lines.append("chosen: the best, which is better on the other questions, too")
        else:
            worse = self.report.table["verdict"].loc["best"] == "worse"
            why = "worse on the other questions" if worse else "not detectably better"
            lines.append(f"chosen: the start, {label(self.start)}; the best is {why}")
            gain = max(0.0, float(self.report.table["diff"].loc["best"]))
            needed = statistics.questions_needed(len(self.holdout), self.report.minimum_detectable, gain)
            if needed > len(self.holdout):
                lines[-1] += f" (about {needed:,} questions would decide about a difference this small)"
        return "\n".join(lines)

    def _best_rows(self) -> pd.DataFrame:
        """The first five rows of ``table``, rounded."""
        return self.table.head().round({COVERAGE: 3, "p_best": 2, "diff": 3, "error": 3, "ms": 1, "tokens": 0})

    def __repr__(self) -> str:
        return f"{self}\n\n{self._best_rows().to_string()}\n\n{self.report!r}"

    def _repr_html_(self) -> str:
        """The sentences, the five best configurations and, below them, the report on the other questions."""
        return as_html(self._best_rows(), str(self).split("\n")) + self.report._repr_html_()


def tune(
    corpus: Corpus,
    questions: Iterable[Question] | None = None,
    grid: Grid | Sequence[PipelineConfig] | None = None,
    *,
    store: TokenStore | None = None,
    k: int = 10,
    progress: bool = True,
) -> Tuned:
    """Try every configuration of ``grid`` on half of the questions, report on the other half.

    Each configuration is built and measured by itself, as ``compare`` would measure its pipeline; what is maximised is
    ``coverage`` in the first 2,000 tokens.

    Args:
        corpus: what is searched.
        questions: the corpus' own unless given; those without gold are left out.
        grid: configurations; ``Grid()`` unless given.
        store: the corpus' token store, opened unless given: no configuration encodes a document.
        k: how many results the timed search returns.

    Raises:
        InputError: no configuration, or gold in documents of fewer than four groups (``split_by_document``).
    """
    began = time.perf_counter()
    store = store or TokenStore.open(corpus)
    questions = corpus.questions if questions is None else questions
    answerable = [question for question in questions if relevant_gold(question.gold)]
    configs = list(grid) if isinstance(grid, Sequence) else (grid or Grid()).configurations()
    if not configs:
        raise InputError("grid is empty: expected one configuration or more")
    tuning, holdout = split_by_document(answerable)
    fast = store.with_queries([question.text for question in answerable])

    results = []
    for config in tqdm(configs, unit="configuration", leave=False) if progress else configs:
        system = {"it": _retriever(config, corpus, fast)}
        result = compare(system, tuning, k=k, same_budget=BUDGET, progress=False)
        results.append((result.scores()["it"].to_numpy(), *result.table.loc["it", ["ms_p50", "tokens"]]))
    table = _table(configs, results, documents_of(tuning))
    alike = table[table["diff"] >= -table["error"]]
    chosen = {
        "start": default_config(),
        "best": configs[table.index[0]],
        "simplest": configs[min(alike.index, key=lambda place: _cost(configs[place]))],
    }
    systems = {name: _retriever(config, corpus, store) for name, config in chosen.items()}
    report = compare(systems, holdout, k=k, same_budget=BUDGET, progress=progress)
    made = {name: config.with_provenance(corpus, store) for name, config in chosen.items()}
    seconds = time.perf_counter() - began
    return Tuned(table, made["start"], made["best"], made["simplest"], report, tuning, holdout, seconds)


def _retriever(config: PipelineConfig, corpus: Corpus, store: TokenStore) -> Retriever:
    """Rewriter, search and reranker of the pipeline; no answer is written."""
    return RAGPipeline.from_config(config, corpus, store=store, llm=Extractive()).retriever


def _table(
    configs: Sequence[PipelineConfig], results: Sequence[tuple[statistics.Floats, float, float]], units: Sequence[str]
) -> pd.DataFrame:
    """A row a configuration, the best first; the index is its place in ``configs``."""
    columns, milliseconds, tokens = zip(*results, strict=True)
    scores = np.array(columns).T
    best = int(np.argmax(scores.mean(axis=0)))
    against = scores - scores[:, [best]]
    table: pd.DataFrame = require("pandas", "notebook").DataFrame(
        {
            "configuration": [label(config) for config in configs],
            COVERAGE: scores.mean(axis=0),
            "p_best": statistics.probability_best(scores, units),
            "diff": against.mean(axis=0),
            "error": statistics.standard_error(*statistics.cluster_parts(against, units)),
            "parts": [_cost(config)[0] for config in configs],
            "ms": milliseconds,
            "tokens": tokens,
        }
    )
    return table.sort_values([COVERAGE, "parts"], ascending=[False, True], kind="stable")


def _cost(config: PipelineConfig) -> tuple[int, int]:
    """How much there is to a configuration: its parts, and its candidates."""
    contextual = any(getattr(module, "contextual", False) for module in config.modules.values())
    reads_headings = config.chunks["main"].kind == "HeadingChunker"
    parts = len(config.modules) + (config.reranker is not None) + contextual + reads_headings
    return parts, config.fetch_k or 0


def split_by_document(questions: Sequence[Question]) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Two halves of the questions that share no document.

    A question's gold can stand in several documents: documents that are linked by such questions stay together. The
    groups are dealt in turn to the half with fewer questions, the largest first, in a drawn order (always the same).

    Raises:
        InputError: fewer than four groups of documents.
    """
    group: dict[str, str] = {}  # each document -> one that it is linked to, or itself

    def first(document: str) -> str:
        while (linked := group.setdefault(document, document)) != document:
            document = linked
        return document

    for question in questions:
        for span in question.gold:
            group[first(span.doc_id)] = first(question.gold[0].doc_id)
    groups = [first(question.gold[0].doc_id) for question in questions]
    names, counts = np.unique(groups, return_counts=True)
    if len(names) < 4:
        raise InputError(
            f"the answers stand in {len(group)} documents, in {len(names)} groups that no question links: expected "
            "four groups or more, two to choose by and two to report by; label questions about more documents"
        )
    shuffled = np.random.default_rng(0).permutation(len(names))
    load, half_of = [0, 0], {}
    for i in shuffled[np.argsort(-counts[shuffled], kind="stable")]:
        half_of[names[i]] = smaller = int(load[1] < load[0])
        load[smaller] += counts[i]
    pairs = list(zip(questions, groups, strict=True))
    return tuple(q for q, own in pairs if half_of[own] == 0), tuple(q for q, own in pairs if half_of[own] == 1)


# ---- the configurations


class Grid(Table):
    """The values that ``tune`` combines; ``retriever``: "hybrid" is of both. Dense retrieval is by MaxP.

    Settings that a combination does not use are not varied: 252 configurations as it stands.

    >>> len(Grid().configurations()), len(Grid(retriever=("bm25",), rerank=(False,)).configurations())
    (252, 24)

    Raises:
        pydantic.ValidationError: a value that a setting cannot have.
    """

    chunker: tuple[Literal["fixed", "sentence", "recursive", "heading", "semantic"], ...] = ("fixed", "heading")
    size: tuple[int, ...] = (256, 512, 1024)
    overlap: tuple[int, ...] = (0, OVERLAP)
    contextual: tuple[bool, ...] = (False, True)
    retriever: tuple[Literal["bm25", "dense", "hybrid"], ...] = ("bm25", "dense", "hybrid")
    fusion: tuple[Literal["rrf", "convex"], ...] = ("rrf", "convex")
    rerank: tuple[bool, ...] = (False, True)
    fetch_k: tuple[int, ...] = (20, FETCH_K)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The grid in a TOML file: lists (or single values) under the names of the fields.

        Raises:
            InputError: not TOML, an unknown key, a value of another type.
        """
        try:
            table = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
            lists = {key: tuple(value) if isinstance(value, list) else (value,) for key, value in table.items()}
            return read_table(cls, lists, "grid")
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, InputError) as error:
            raise InputError(f"{path}: {error}") from None

    def configurations(self) -> list[PipelineConfig]:
        """One configuration for each combination that differs, in order.

        Raises:
            InputError: there is none, as a setting has no value.
        """
        configs = list({config.fingerprint: config for config in self._combinations()}.values())
        if not configs:
            raise InputError(f"no configuration in {self!r}: expected one value or more for each setting")
        return configs

    def _combinations(self) -> Iterator[PipelineConfig]:
        rerankings = [None] * (False in self.rerank) + [n for n in self.fetch_k if True in self.rerank]
        for chunker, size, overlap, contextual, retriever, fusion, fetch_k in product(
            self.chunker, self.size, self.overlap, self.contextual, self.retriever, self.fusion, rerankings
        ):
            modules: dict[str, Any] = {
                "bm25": {"kind": "BM25Retriever", "contextual": contextual},
                "dense": {"kind": "DenseRetriever", "scoring": "maxp"},
                "hybrid": {"kind": "Hybrid", "inputs": ["bm25", "dense"], "fusion": fusion},
            }
            settings = {
                "retriever": retriever,
                "modules": modules if retriever == "hybrid" else {retriever: modules[retriever]},
                "chunks": {"main": {"kind": f"{chunker.capitalize()}Chunker", "size": size, "overlap": overlap}},
            }
            reranking = {"reranker": {"kind": "LateInteraction"}, "fetch_k": fetch_k} if fetch_k else {}
            yield read_table(PipelineConfig, settings | reranking, "grid")


def default_config() -> PipelineConfig:
    """The settings of ``advanced()`` as a configuration."""
    advanced = f"fixed {SIZE}/{OVERLAP}, hybrid rrf, rerank {FETCH_K}"
    return next(config for config in Grid().configurations() if label(config) == advanced)


def label(config: PipelineConfig) -> str:
    """A configuration in a few words, enough to tell those of a grid apart.

    >>> label(Grid().configurations()[-1])
    'heading 1024/32, hybrid convex, contextual, rerank 50'
    """
    chunks, top = config.chunks["main"], config.modules[config.retriever]
    fusion = f" {top.fusion}" if top.kind == "Hybrid" else ""
    words = [f"{chunks.kind.removesuffix('Chunker').lower()} {chunks.size}/{chunks.overlap}", config.retriever + fusion]
    if any(getattr(module, "contextual", False) for module in config.modules.values()):
        words.append("contextual")
    if config.reranker is not None:
        words.append(f"rerank {config.fetch_k or '3 k'}")
    return ", ".join(words)

"""``compare``: same questions, same labels, one row a system; how it is read, plotted, and where the gold was lost.

>>> result = compare({"bm25": bm25, "dense": dense}, corpus.questions, baseline="dense")   # doctest: +SKIP
>>> result.table.loc["bm25", ["mrr@10", "diff", "verdict"]]                                # doctest: +SKIP
>>> result.where_lost()["bm25"].value_counts()                                             # doctest: +SKIP
"""

from __future__ import annotations

import html
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ragkit.base import (
    Chunk,
    ContractError,
    Hit,
    InputError,
    Question,
    Retriever,
    Span,
    Tokenizer,
    check_whole,
    is_whole,
    require,
)
from ragkit.evaluation import statistics
from ragkit.evaluation.metrics import (
    CountedOnce,
    context_coverage,
    cut,
    fill,
    first_ranks,
    is_relevant,
    metric_names,
    relevant_gold,
    score,
)
from ragkit.tokens import minilm_tokenizer

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

WARM_UP = 3  # searches that are not timed

# Okabe & Ito (2008): eight colours that people with any colour vision tell apart; black comes last for dark themes.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon")
_GREY = "#888888"

FOUND, IN_PART, RERANK = "found", "found in part", "cut by rerank"
DROPPED, FUSION, REWRITING = "dropped after retrieval", "demoted by fusion", "lost by rewriting"
NOT_RETRIEVED, NO_CHUNK, FAILED = "not retrieved", "no chunk holds it", "error"
STAGES = (FOUND, IN_PART, RERANK, DROPPED, FUSION, REWRITING, NOT_RETRIEVED, NO_CHUNK, FAILED)
"""What ``Comparison.where_lost`` says of a question, from the last stage to the first."""


@dataclass(frozen=True)
class Failure:
    """A question on which a system raised: it scores 0 there, and the others go on."""

    system: str
    question_id: str
    question: str
    error: str


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """One row a system (``table``), one row a system and question (``per_question``), and what failed (``errors``).

    ``diff`` is the mean paired difference of ``metric`` to the ``baseline`` with its 95 % interval (``diff_low``,
    ``diff_high``) and its ``p``. Both come from one simultaneous test of all comparisons of the table
    (``statistics.estimate``): the ``verdict`` names a difference if and only if the interval leaves out 0.
    ``minimum_detectable`` is the true difference that this many questions would detect 8 times in 10, for the
    system whose differences vary most.
    """

    table: pd.DataFrame
    per_question: pd.DataFrame
    errors: tuple[Failure, ...]
    baseline: str
    metric: str
    k: int
    budget: int | None
    units: tuple[str, ...]
    skipped: tuple[Question, ...]
    minimum_detectable: float
    seed: int
    systems: Mapping[str, Retriever] = field(repr=False)
    questions: tuple[Question, ...] = field(repr=False)
    rankings: Mapping[str, tuple[tuple[Hit, ...], ...]] = field(repr=False)

    @property
    def caption(self) -> tuple[str, ...]:
        """What one must know to read the table, in sentences."""
        lists = f"the best {self.k} results" if self.budget is None else f"the first {self.budget} tokens of results"
        documents = len(set(clusters(self.questions, "document")))
        drawn = len(np.unique(statistics.cluster_codes(self.units)))
        counts = f"{_count(len(self.questions), 'question')} in {_count(documents, 'document')}"
        if drawn > documents:
            counts += " (each drawn by itself: the verdicts speak of more questions on these documents, not of others)"
        elif documents < statistics.FEW:
            counts += " (few: questions on more documents would detect smaller differences)"
        lines = [f"{counts}; {lists} of each system."]
        if self.skipped:
            lines.append(f"{_count(len(self.skipped), 'question')} without gold left out.")
        if len(self.systems) > 1:
            lines.append(
                f"Verdicts on {self.metric} against {self.baseline!r}: a difference where the interval leaves out 0; "
                f"intervals and p are corrected for {_count(len(self.systems) - 1, 'comparison')}."
            )
            if self.minimum_detectable > 0:  # 0: no question tells the systems apart
                lines[-1] += (
                    f" A true difference of {self.minimum_detectable:.3f} or more would be detected 8 times in 10."
                )
        if self.errors:
            first = self.errors[0]
            lines.append(
                f"{_count(len(self.errors), 'failed search', 'failed searches')} scored 0; the first: "
                f"{first.system!r} on {first.question!r}: {first.error} (all in .errors)."
            )
        return tuple(lines)

    def _shown(self) -> pd.DataFrame:
        """The table as people read it: the columns that matter most, rounded, the difference with its interval."""
        table, k = self.table, self.k
        usual = ["hit@1", f"hit@{k}", f"recall@{k}", f"mrr@{k}", f"ndcg@{k}"]
        if self.budget is not None:
            usual = [f"coverage@{self.budget}", f"context_coverage@{self.budget}", f"mrr@{self.budget}"]
        names = dict.fromkeys((self.metric, *usual))
        shown: dict[str, Any] = {name: table[name].map("{:.3f}".format) for name in names}
        shown["tokens"] = table["tokens"].map("{:.0f}".format)
        shown["ms (p50, p95)"] = [f"{a:.1f}, {b:.1f}" for a, b in zip(table["ms_p50"], table["ms_p95"], strict=True)]
        if self.errors:
            shown["errors"] = table["errors"].map(str)
        columns = (table[c] for c in ("diff", "diff_low", "diff_high", "verdict"))
        shown["difference [95 %]"] = [
            "" if v == "baseline" else f"{d:+.3f} [{a:+.3f}, {b:+.3f}]" for d, a, b, v in zip(*columns, strict=True)
        ]
        shown["p"] = ["" if v == "baseline" else f"{p:.4f}" for p, v in zip(table["p"], table["verdict"], strict=True)]
        shown["verdict"] = table["verdict"]
        return require("pandas", "notebook").DataFrame(shown, index=table.index)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return "\n".join((self._shown().to_string(), "", *self.caption))

    def _repr_html_(self) -> str:
        return as_html(self._shown(), self.caption)

    def where_lost(self) -> pd.DataFrame:
        """For each question (row) and system (column) the stage at which the gold was lost: one of ``STAGES``.

        Searches again, stage by stage, where a system missed. A composite retriever is recognised by its attributes:
        ``retriever`` (with ``reranker``, ``rewriter`` and ``fetch`` where it has them) or ``inputs``, whose results
        are fused. A retriever that shows its ``chunks`` also tells whether any of them holds the gold at all.
        ``["bm25"].value_counts()`` sums one up.
        """
        failed = {(failure.system, failure.question_id) for failure in self.errors}
        columns = {}
        for name, retriever in self.systems.items():
            holds = _ChunkLookup(retriever).holds
            columns[name] = [
                FAILED if (name, question.id) in failed else _where_lost(retriever, holds, question, hits, self.k)
                for question, hits in zip(self.questions, self.rankings[name], strict=True)
            ]
        index = [question.id for question in self.questions]
        return require("pandas", "notebook").DataFrame(columns, index=index)  # type: ignore[no-any-return]

    def scores(self, metric: str | None = None) -> pd.DataFrame:
        """One metric of every question (row) and system (column): what the statistics are made of.

        Raises:
            InputError: ``metric`` is no column of ``per_question``.
        """
        metric = metric or self.metric
        if metric not in self.per_question:
            raise InputError(f"metric {metric!r}: expected one of {', '.join(map(str, self.per_question))}")
        wide = self.per_question[metric].unstack("system")
        return wide.loc[[q.id for q in self.questions], list(self.systems)]

    def probability_best(self, metric: str | None = None) -> pd.Series[float]:
        """How often each system is the best when the documents are drawn again: look here before taking the
        winner of a grid (``statistics.probability_best``)."""
        scores = self.scores(metric)
        chance = statistics.probability_best(scores.to_numpy(), self.units, seed=self.seed)
        return require("pandas", "notebook").Series(chance, index=scores.columns)  # type: ignore[no-any-return]

    def plot(self, metric: str | None = None) -> Figure:
        """Quality against milliseconds (median, logarithmic) and against context tokens.

        The bar of a system is the interval of its paired difference to the baseline, around its own mean: it leaves
        out the baseline's dotted line if and only if the verdict on ``metric`` is a difference. Bars are not for
        comparing two other systems: make one of these the baseline.

        Raises:
            InputError: ``metric`` is unknown.
        """
        metric = metric or self.metric
        require("plotly", "notebook")
        from plotly.graph_objects import Scatter
        from plotly.subplots import make_subplots

        scores = self.scores(metric)
        level, means = scores[self.baseline].mean(), scores.mean().to_numpy()
        differences = statistics.estimate(scores.sub(scores[self.baseline], axis=0), self.units, seed=self.seed)
        bars = {"array": differences.high - differences.mean, "arrayminus": differences.mean - differences.low}
        figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
        for column, field_name in ((1, "ms_p50"), (2, "tokens")):
            for i, name in enumerate(self.systems):
                symbol = SYMBOLS[(i + i // len(OKABE_ITO)) % len(SYMBOLS)]
                bar = {side: values[[i]] for side, values in bars.items()} | {"symmetric": False, "thickness": 1.5}
                point = Scatter(
                    x=[max(float(self.table[field_name].iloc[i]), 1e-3)],  # a logarithmic axis has no 0
                    y=[means[i]],
                    error_y=None if name == self.baseline else bar,
                    mode="markers",
                    name=html.escape(name),
                    legendgroup=name,
                    showlegend=column == 1,
                    marker={"color": OKABE_ITO[i % len(OKABE_ITO)], "symbol": symbol, "size": 11},
                )
                figure.add_trace(point, row=1, col=column)
        figure.update_xaxes(title_text="milliseconds a query (median)", type="log", row=1, col=1)
        figure.update_xaxes(title_text="tokens of context", rangemode="tozero", row=1, col=2)
        figure.update_yaxes(title_text=metric, row=1, col=1)
        figure.update_xaxes(gridcolor="rgba(136,136,136,.3)", zeroline=False)
        figure.update_yaxes(gridcolor="rgba(136,136,136,.3)", zeroline=False)
        title = f"{metric} against time and context"
        if len(self.systems) > 1:
            figure.add_hline(level, line={"color": _GREY, "dash": "dot", "width": 1})
            baseline = html.escape(self.baseline)
            title += f"<br><sup>bars: 95 % interval of the paired difference to {baseline} (dotted line)</sup>"
        figure.update_layout(title=title, height=420, margin={"l": 60, "r": 20, "t": 70, "b": 50})
        clear = "rgba(0,0,0,0)"
        return figure.update_layout(paper_bgcolor=clear, plot_bgcolor=clear, font={"color": _GREY})


def as_html(table: pd.DataFrame, caption: Iterable[str]) -> str:
    """A table and the sentences below it, with every name in it escaped."""
    lines = "".join(f"<p style='margin:.2em 0'>{html.escape(line)}</p>" for line in caption)
    return f"{table.to_html(escape=True, border=0)}{lines}"


def clusters(questions: Sequence[Question], unit: Literal["document", "question"]) -> tuple[str, ...]:
    """What the statistics draw again: the document of each question's first gold span, or the question itself.

    Raises:
        InputError: ``unit`` is another word.
    """
    if unit not in ("document", "question"):
        raise InputError(f"unit {unit!r}: expected 'document' or 'question'")
    return tuple(question.gold[0].doc_id if unit == "document" else question.id for question in questions)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


@dataclass(frozen=True)
class _Run:
    """What one system returned for every question, how long each search took, and where it raised. Lists that were
    cut at a budget also stand ``uncut``."""

    lists: tuple[tuple[Hit, ...], ...]
    milliseconds: tuple[float, ...]
    failures: tuple[Failure, ...]
    uncut: tuple[tuple[Hit, ...], ...] = ()


def compare(
    systems: Mapping[str, Retriever],
    questions: Iterable[Question],
    baseline: str | None = None,
    k: int = 10,
    same_budget: bool | int = False,
    *,
    metric: str | None = None,
    unit: Literal["document", "question"] = "document",
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    """Search every question with every system, score the lists, and say which differences are real.

    Questions without gold (unanswerable ones) are left out and counted. Latencies are single queries, one
    after the other, after a warm-up. A system that raises on a question scores 0 there and is listed in ``errors``.

    Args:
        systems: retrievers by name.
        baseline: the system that the others are compared with; the first one unless given.
        k: how many results count.
        same_budget: cut every list at equal context tokens instead of equal ``k``: at the number N given, or
            (True) at the smallest of the systems' mean tokens at ``k``. The last chunk is cut where the budget
            ends, and the metrics of all that fits are named ``@N``, with two more: ``coverage@N``, and
            ``context_coverage@N`` of what a pipeline's context holds of the same hits.
        metric: the one that verdicts are about, a name of ``metrics.metric_names(k, N)``; unless given ``mrr@k``,
            and with ``same_budget`` ``coverage@N``.
        unit: what the statistics draw again. Documents: the verdict speaks of questions about other documents too.
            Questions: it speaks of more questions about these documents, which one must want to say.
        tokenizer: counts context tokens; the packaged model's unless given.
        seed: of the randomisation test: the same input gives the same table, but for the milliseconds.

    Raises:
        InputError: no system, an unknown baseline or metric, a question id twice, fewer than two questions with gold.
        ContractError: a system returned more than k hits, a chunk twice, or a score that is not finite.
    """
    k = check_whole(k, "k")
    if not isinstance(same_budget, bool) and not (is_whole(same_budget) and same_budget >= 1):
        raise InputError(f"same_budget is {same_budget!r}: expected True or a number of tokens, 1 or more")
    answerable, skipped = _checked_questions(questions)
    first = _checked_systems(systems, baseline)
    if same_budget is not True:  # else its number, and with it the names, are known after the first searches
        _check_metric(metric, k, same_budget or None)
    counter = CountedOnce(tokenizer or minilm_tokenizer())
    runs = _run_all(systems, answerable, k, progress)
    budget = _budget(same_budget, runs, counter)
    _check_metric(metric, k, budget)
    if budget is not None:
        runs = {name: _fit(name, run, systems[name], answerable, k, budget, counter) for name, run in runs.items()}
    metric = metric or (f"mrr@{k}" if budget is None else f"coverage@{budget}")
    per_question = _per_question(runs, answerable, k, budget, counter)
    units = clusters(answerable, unit)
    table, detectable = _table(per_question, units, list(runs), first, metric, seed)
    return Comparison(
        table=table,
        per_question=per_question,
        errors=tuple(failure for run in runs.values() for failure in run.failures),
        baseline=first,
        metric=metric,
        k=k,
        budget=budget,
        units=units,
        skipped=skipped,
        minimum_detectable=detectable,
        seed=seed,
        systems=dict(systems),
        questions=answerable,
        rankings={name: run.lists for name, run in runs.items()},
    )


def _check_metric(metric: str | None, k: int, budget: int | None) -> None:
    names = metric_names(k, budget)
    if metric is not None and metric not in names:
        raise InputError(f"metric {metric!r}: expected one of {', '.join(names)}")


def _checked_questions(questions: Iterable[Question]) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    everything = tuple(questions)
    ids = [question.id for question in everything]
    if len(set(ids)) != len(ids):
        twice = next(i for i, count in Counter(ids).items() if count > 1)
        raise InputError(f"question id {twice!r} is there twice: ids must be unique")
    gold = {question.id: relevant_gold(question.gold) for question in everything}
    answerable = tuple(replace(question, gold=gold[question.id]) for question in everything if gold[question.id])
    if len(answerable) < 2:
        raise InputError(
            f"{len(answerable)} of {len(ids)} questions have gold: a comparison needs two, a verdict some dozens"
        )
    return answerable, tuple(question for question in everything if not gold[question.id])


def _checked_systems(systems: Mapping[str, Retriever], baseline: str | None) -> str:
    """The baseline's name."""
    if not systems:
        raise InputError("no system: expected retrievers by name, such as {'bm25': bm25}")
    for name, system in systems.items():
        if not callable(getattr(system, "search", None)):
            hint = ", pass its .retriever" if hasattr(system, "retriever") else ""
            raise InputError(f"system {name!r} is a {type(system).__name__} without search(query, k){hint}")
    first = next(iter(systems)) if baseline is None else baseline
    if first not in systems:
        raise InputError(f"baseline {baseline!r}: expected one of {', '.join(map(repr, systems))}")
    return first


def _run_all(
    systems: Mapping[str, Retriever], answerable: Sequence[Question], k: int, progress: bool
) -> dict[str, _Run]:
    from tqdm.auto import tqdm

    # `disable` is set only to turn the bar off, so that the environment (TQDM_DISABLE) can do so, too.
    start = tqdm if progress else partial(tqdm, disable=True)
    with start(total=len(systems) * len(answerable), unit="query", delay=1, leave=False) as bar:
        runs = {}
        for name, system in systems.items():
            bar.set_description(name, refresh=False)
            runs[name] = _run(name, system, answerable, k, lambda: bar.update(1))
    return runs


def _run(name: str, system: Retriever, answerable: Sequence[Question], k: int, done: Callable[[], object]) -> _Run:
    for question in answerable[:WARM_UP]:
        _search(name, system, question, k)
    lists, milliseconds, failures = [], [], []
    for question in answerable:
        started = time.perf_counter()
        hits, failure = _search(name, system, question, k)
        milliseconds.append((time.perf_counter() - started) * 1000)
        lists.append(_checked_hits(name, question, hits, k))
        failures += [failure] if failure else []
        done()
    return _Run(tuple(lists), tuple(milliseconds), tuple(failures))


def _search(name: str, system: Retriever, question: Question, k: int) -> tuple[Sequence[Hit], Failure | None]:
    # Any exception of a system under test is a result of the comparison, not a reason to lose the others' results.
    try:
        return system.search(question.text, k), None
    except Exception as error:
        return (), Failure(name, question.id, question.text, f"{type(error).__name__}: {error}")


def _checked_hits(name: str, question: Question, hits: Sequence[Hit], k: int) -> tuple[Hit, ...]:
    where = f"system {name!r}, question {question.id!r}"
    if len(hits) > k:
        raise ContractError(f"{where}: {len(hits)} hits, expected at most k = {k}")
    seen = set()
    for hit in hits:
        if not math.isfinite(hit.score):
            raise ContractError(f"{where}: {hit.chunk.id!r} has the score {hit.score}, expected a finite number")
        if hit.chunk.id in seen:
            raise ContractError(f"{where}: returned {hit.chunk.id!r} twice, expected each chunk once")
        seen.add(hit.chunk.id)
    return tuple(hits)


def _budget(same_budget: bool | int, runs: Mapping[str, _Run], tokenizer: CountedOnce) -> int | None:
    if same_budget is not True:
        return same_budget or None
    means = [float(np.mean([tokenizer.total(hits) for hits in run.lists])) for run in runs.values()]
    # A system that finds nothing would set a budget of nothing for everybody.
    return max(1, round(min((mean for mean in means if mean > 0), default=1)))


def _fit(
    name: str, run: _Run, system: Retriever, answerable: Sequence[Question], k: int, budget: int, tokenizer: CountedOnce
) -> _Run:
    """The run cut at ``budget`` tokens; a list that does not fill it is searched deeper (untimed) until it does."""
    failed = {failure.question_id for failure in run.failures}
    lists, uncut = [], []
    for question, hits in zip(answerable, run.lists, strict=True):
        search = partial(_search_deeper, name, system, question)
        uncut.append(hits if question.id in failed else tuple(fill(search, hits, k, budget, tokenizer)))
        lists.append(cut(uncut[-1], budget, tokenizer))
    return replace(run, lists=tuple(lists), uncut=tuple(uncut))


def _search_deeper(name: str, system: Retriever, question: Question, k: int) -> tuple[Hit, ...]:
    hits, _ = _search(name, system, question, k)
    return _checked_hits(name, question, hits, k)


def _per_question(
    runs: Mapping[str, _Run], answerable: Sequence[Question], k: int, budget: int | None, tokenizer: CountedOnce
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name, run in runs.items():
        failed = {failure.question_id: failure.error for failure in run.failures}
        for i, (question, hits) in enumerate(zip(answerable, run.lists, strict=True)):
            gold, any_of = question.gold, question.any_of
            values = score([hit.chunk for hit in hits], gold, k, any_of, budget)
            if budget is not None:
                in_context = context_coverage(run.uncut[i], gold, budget, tokenizer, any_of)
                values[f"context_coverage@{budget}"] = in_context
            extra = {"tokens": tokenizer.total(hits), "ms": run.milliseconds[i], "error": failed.get(question.id, "")}
            rows.append({"system": name, "question": question.id, **values, **extra})
    return require("pandas", "notebook").DataFrame(rows).set_index(["system", "question"])  # type: ignore[no-any-return]


def _table(
    per_question: pd.DataFrame, units: Sequence[str], names: list[str], baseline: str, metric: str, seed: int
) -> tuple[pd.DataFrame, float]:
    """The table, and the smallest detectable difference."""
    pandas = require("pandas", "notebook")
    by_system = per_question.groupby(level="system", sort=False)
    means = by_system[[c for c in per_question if c not in ("ms", "error")]].mean()
    answered = per_question[per_question["error"] == ""].groupby(level="system")["ms"]
    latency = [answered.quantile(q).reindex(names, fill_value=0.0) for q in (0.5, 0.95)]
    errors = (per_question["error"] != "").groupby(level="system", sort=False).sum()

    wide = per_question[metric].to_numpy().reshape(len(names), len(units)).T
    first = names.index(baseline)
    differences = wide - wide[:, [first]]
    result, others = statistics.estimate(differences, units, seed=seed), np.arange(len(names)) != first
    words = [verdict(d, p) if other else "baseline" for d, p, other in zip(result.mean, result.p, others, strict=True)]
    added = {"ms_p50": latency[0], "ms_p95": latency[1], "errors": errors}
    compared = {"diff": result.mean, "diff_low": result.low, "diff_high": result.high, "p": result.p, "verdict": words}
    table = pandas.concat([means, pandas.DataFrame(added | compared, index=names)], axis=1)
    detectable = statistics.minimum_detectable(differences, units, comparisons=len(names) - 1)
    return table, float(detectable.max())


def verdict(difference: float, p: float) -> str:
    """The words for a difference and its p-value of a simultaneous test (``statistics.estimate``).

    >>> verdict(0.1, 0.01), verdict(-0.1, 0.01), verdict(0.1, 0.06)
    ('better', 'worse', 'no detectable difference')
    """
    if p >= statistics.ALPHA:
        return "no detectable difference"
    return "better" if difference > 0 else "worse"


def _leaves(retriever: object) -> Iterator[object]:
    """The retrievers at the bottom that search an index themselves."""
    inner = getattr(retriever, "retriever", None)
    parts = [inner] if inner is not None else list(getattr(retriever, "inputs", ()))
    if not parts:
        yield retriever
    for part in parts:
        yield from _leaves(part)


class _ChunkLookup:
    """Which gold spans can a retriever find at all? Indexes the chunks of its leaves by document, once."""

    def __init__(self, retriever: object) -> None:
        self.by_document: dict[str, list[Chunk]] = {}
        self.complete = True
        for leaf in _leaves(retriever):
            chunks: Sequence[Chunk] | None = getattr(leaf, "chunks", None)
            self.complete = self.complete and chunks is not None
            for chunk in chunks or ():
                self.by_document.setdefault(chunk.doc_id, []).append(chunk)

    def holds(self, span: Span) -> bool:
        """False only when every leaf shows its chunks and none of them answers ``span``."""
        return not self.complete or any(is_relevant(c, span) for c in self.by_document.get(span.doc_id, ()))


def _where_lost(
    retriever: Retriever, holds: Callable[[Span], bool], question: Question, top: Sequence[Hit], k: int
) -> str:
    """The stage at which the gold was lost, given the ``top`` hits. Of several gold spans the furthest one counts."""
    gold = relevant_gold(question.gold)
    ranks = first_ranks([hit.chunk for hit in top], gold)
    if ranks.any():
        return FOUND if question.any_of or ranks.all() else IN_PART
    reachable = [span for span in gold if holds(span)]
    return _lost_in(retriever, [question.text], reachable, k) if reachable else NO_CHUNK


def _lost_in(retriever: Retriever, queries: Sequence[str], gold: Sequence[Span], k: int) -> str:
    """The stage below ``retriever`` that last had the gold; ``retriever`` itself does not return it."""
    inner: Retriever | None = getattr(retriever, "retriever", None)
    if inner is not None:
        original, rewriter = queries, getattr(retriever, "rewriter", None)
        if rewriter is not None:
            queries = [query for text in queries for query in rewriter.rewrite(text)]
        reranks = getattr(retriever, "reranker", None) is not None
        fetch = getattr(retriever, "fetch_k", None)
        depth = max(k, int(fetch or (3 * k if reranks else k)))
        if not _returns(inner, queries, gold, depth):
            rewritten_away = rewriter is not None and _returns(inner, original, gold, depth)
            return REWRITING if rewritten_away else _lost_in(inner, queries, gold, depth)
        return RERANK if reranks else FUSION if len(queries) > 1 else DROPPED
    inputs: Sequence[Retriever] = getattr(retriever, "inputs", ())
    if any(_returns(part, queries, gold, k) for part in inputs):
        return FUSION
    below = [_lost_in(part, queries, gold, k) for part in inputs]
    return min(below, key=STAGES.index, default=NOT_RETRIEVED)


def _returns(retriever: Retriever, queries: Sequence[str], gold: Sequence[Span], k: int) -> bool:
    lists = (retriever.search(query, k) for query in queries)
    return any(first_ranks([hit.chunk for hit in hits], gold).any() for hits in lists)

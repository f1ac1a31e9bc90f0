"""``compare``: same questions, same labels, one row a system; how it is read, plotted, and where the gold was lost.

>>> result = compare({"bm25": bm25, "dense": dense}, corpus.questions, baseline="dense")   # doctest: +SKIP
>>> result.table.loc["bm25", ["mrr@10", "diff", "verdict"]]                                # doctest: +SKIP
>>> result.where_lost()["bm25"].value_counts()                                             # doctest: +SKIP
"""

from __future__ import annotations

import html
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

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
    require,
)
from ragkit.evaluation import metrics, statistics
from ragkit.figures import GREY, colors_of, styled
from ragkit.tokens import minilm_tokenizer

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

WARM_UP = 3  # searches that are not timed

TOKENS_DIFFER = 0.05  # systems whose contexts differ by more than this share are shown with their tokens
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon")

MARKS = {"better": " ▲", "worse": " ▼"}

FOUND, IN_PART, BUDGET, RERANK = "found", "found in part", "cut by the budget", "cut by rerank"
DROPPED, FUSION, REWRITING = "dropped after retrieval", "demoted by fusion", "lost by rewriting"
NOT_RETRIEVED, NO_CHUNK, FAILED = "not retrieved", "no chunk holds it", "error"
STAGES = (FOUND, IN_PART, BUDGET, RERANK, DROPPED, FUSION, REWRITING, NOT_RETRIEVED, NO_CHUNK, FAILED)
"""What ``Comparison.where_lost`` says of a question, from the last stage to the first."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """One row a system (``table``), and one row a system and question (``per_question``).

    ``diff`` is the mean paired difference of ``metric`` to the ``baseline`` with its 95 % interval (``diff_low``,
    ``diff_high``) and its ``p``. Both come from one simultaneous test of all comparisons of the table
    (``statistics.estimate``): the ``verdict`` names a difference if and only if the interval leaves out 0.
    ``minimum_detectable`` is the true difference that this many questions would detect 8 times in 10, for the
    system whose differences vary most.
    """

    table: pd.DataFrame
    per_question: pd.DataFrame
    baseline: str
    metric: str
    k: int
    budget: int | None
    units: tuple[str, ...]
    skipped: tuple[Question, ...]
    minimum_detectable: float
    systems: Mapping[str, Retriever] = field(repr=False)
    questions: tuple[Question, ...] = field(repr=False)
    rankings: Mapping[str, Sequence[tuple[Hit, ...]]] = field(repr=False)

    @property
    def errors(self) -> pd.Series[str]:
        """What failed searches raised, by system and question id: each scored 0, and the others went on."""
        errors = self.per_question["error"]
        return errors[errors != ""]

    @property
    def caption(self) -> tuple[str, ...]:
        """What one must know to read the table, in sentences."""
        lists = f"the best {self.k} results" if self.budget is None else f"the first {self.budget} tokens of results"
        documents = len(set(self.units))
        counts = f"{_count(len(self.questions), 'question')} in {_count(documents, 'document')}"
        if documents < statistics.TOO_FEW:
            counts += " (each drawn by itself: the verdicts speak of more questions on these documents, not of others)"
        elif documents < statistics.FEW:
            counts += " (few: questions on more documents would detect smaller differences)"
        lines = [f"{counts}; {lists} of each system."]
        if self.skipped:
            lines.append(f"{_count(len(self.skipped), 'question')} without gold left out.")
        if len(self.systems) > 1:
            lines.append(
                f"Verdicts on {self.metric} against {self.baseline!r}: a difference where the interval leaves out 0; "
                f"intervals are corrected for {_count(len(self.systems) - 1, 'comparison')}."
            )
            if self.minimum_detectable > 0:  # 0: no question tells the systems apart
                lines[-1] += (
                    f" A true difference of {self.minimum_detectable:.3f} or more would be detected 8 times in 10."
                )
        if len(self.errors):
            (system, question), error = self.errors.index[0], self.errors.iloc[0]
            failed = _count(len(self.errors), "failed search", "failed searches")
            lines.append(f"{failed} scored 0; the first: {system!r} on {question!r}: {error} (all in .errors).")
        return tuple(lines)

    @property
    def full(self) -> pd.DataFrame:
        """What ``table`` holds, rounded for reading: more metrics than are shown unasked, tokens, milliseconds, p."""
        table, at = self.table, self.budget or self.k
        usual = [f"{name}@{at}" for name in ("mrr", "hit", "recall", "ndcg")]
        if self.budget is not None:
            usual += [f"coverage@{at}", f"context_coverage@{at}"]
        full = table[list(dict.fromkeys((self.metric, *usual, "hit@1")))].map("{:.3f}".format)
        full["tokens"] = table["tokens"].map("{:.0f}".format)
        full["ms (p50, p95)"] = [f"{a:.1f}, {b:.1f}" for a, b in zip(table["ms_p50"], table["ms_p95"], strict=True)]
        full["errors"] = table["errors"].map(str)
        estimates = zip(table["diff"], table["diff_low"], table["diff_high"], table["p"], strict=True)
        full["difference [95 %]"] = [difference_text(*estimate) for estimate in estimates]
        full["p"] = table["p"].map("{:.4f}".format)
        full.loc[self.baseline, ["difference [95 %]", "p"]] = ""
        return full.assign(verdict=table["verdict"])

    def _shown(self) -> pd.DataFrame:
        """The columns of ``full`` that a decision needs."""
        at, tokens = self.budget or self.k, self.table["tokens"]
        names = [f"mrr@{at}", f"hit@{at}"] + [f"coverage@{at}"] * (self.budget is not None)
        if self.metric not in names:
            names.insert(0, self.metric)
        if tokens.max() > (1 + TOKENS_DIFFER) * tokens.min():
            names.append("tokens")
        if len(self.systems) > 1:
            names += ["difference [95 %]", "verdict"]
        return self.full[names]

    def __repr__(self) -> str:
        return "\n".join((self._shown().to_string(), "", *self.caption))

    def _repr_html_(self) -> str:
        return as_html(self._shown(), self.caption)

    def where_lost(self) -> pd.DataFrame:
        """For each question (row) and system (column) the stage at which the gold was lost: one of ``STAGES``.

        Searches again, stage by stage, where a system missed. A composite retriever is recognised by its attributes:
        ``retriever`` (with ``reranker``, ``rewriter`` and ``depth`` where it has them) or ``inputs``, whose results
        are fused. A retriever that shows its ``chunks`` also tells whether any of them holds the gold at all.
        ``["bm25"].value_counts()`` sums one up.
        """
        failed = set(self.errors.index)
        columns = {}
        for name, retriever in self.systems.items():
            holds = _chunk_lookup(retriever)
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

    def only(self, questions: Iterable[Question]) -> Comparison:
        """The same comparison on those of its questions that are in ``questions``, such as those of one kind.

        Nothing is searched again; intervals and verdicts are those of the questions that stay.

        >>> {kind: result.only(group).table["verdict"] for kind, group in kinds.items()}       # doctest: +SKIP

        Raises:
            InputError: fewer than two of them were compared.
        """
        wanted = {question.id for question in questions}
        stay = [i for i, question in enumerate(self.questions) if question.id in wanted]
        if len(stay) < 2:
            raise InputError(f"{_count(len(stay), 'question')} in both comparison and list: expected two or more")
        per_question = self.per_question[self.per_question.index.get_level_values("question").isin(wanted)]
        units = tuple(self.units[i] for i in stay)
        table, detectable = _table(per_question, units, list(self.systems), self.baseline, self.metric)
        return replace(
            self,
            table=table,
            per_question=per_question,
            units=units,
            skipped=(),
            minimum_detectable=detectable,
            questions=tuple(self.questions[i] for i in stay),
            rankings={name: [own[i] for i in stay] for name, own in self.rankings.items()},
        )

    def by_group(self, groups: Mapping[str, Iterable[Question]]) -> pd.DataFrame:
        """``metric`` of each system (row) on each group of its questions (column), such as ``questions_by_kind``.

        A value is followed by ▲ where the verdict on these questions alone is *better* than the baseline, and by ▼
        where it is *worse*. The last column, "all", has all questions.

        >>> result.by_group(questions_by_kind(questions))                                      # doctest: +SKIP

        Raises:
            InputError: fewer than two questions of a group were compared.
        """
        columns = {}
        for name, questions in {**groups, "all": self.questions}.items():
            table = self.only(questions).table
            columns[name] = table[self.metric].map("{:.3f}".format) + table["verdict"].map(MARKS).fillna("")
        return require("pandas", "notebook").DataFrame(columns)  # type: ignore[no-any-return]

    def plot(self) -> Figure:
        """Quality against milliseconds (median, logarithmic) and against context tokens.

        The bar of a system is the interval of its paired difference to the baseline, around its own mean: it leaves
        out the baseline's dotted line if and only if the verdict is a difference. Bars are not for comparing two
        other systems: make one of these the baseline.
        """
        require("plotly", "notebook")
        from plotly.graph_objects import Scatter
        from plotly.subplots import make_subplots

        figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
        colors = colors_of(map(str, self.table.index))
        for column, cost in ((1, "ms_p50"), (2, "tokens")):
            for i, (name, line) in enumerate(self.table.iterrows()):
                up, down = float(line["diff_high"] - line["diff"]), float(line["diff"] - line["diff_low"])
                bar = {"array": [up], "arrayminus": [down], "symmetric": False, "thickness": 1.5}
                point = Scatter(
                    x=[max(float(line[cost]), 1e-3)],  # a logarithmic axis has no 0
                    y=[float(line[self.metric])],
                    error_y=None if name == self.baseline else bar,
                    mode="markers",
                    name=html.escape(str(name)),
                    legendgroup=name,
                    showlegend=column == 1,
                    marker={"color": colors[str(name)], "symbol": SYMBOLS[i % len(SYMBOLS)], "size": 11},
                )
                figure.add_trace(point, row=1, col=column)
        title = f"{self.metric} against time and context"
        if len(self.systems) > 1:
            level = self.table[self.metric][self.baseline]
            figure.add_hline(level, line={"color": GREY, "dash": "dot", "width": 1})
            baseline = html.escape(self.baseline)
            title += f"<br><sup>bars: 95 % interval of the paired difference to {baseline} (dotted line)</sup>"
        figure.update_xaxes(title_text="milliseconds a query (median)", type="log", row=1, col=1)
        figure.update_xaxes(title_text="tokens of context a query (mean)", rangemode="tozero", row=1, col=2)
        figure.update_yaxes(title_text=f"{self.metric} (mean)", row=1, col=1)
        return styled(figure, title, 420)


def difference_text(difference: float, low: float, high: float, p: float) -> str:
    """A difference and its interval, in three digits; in more where a verdict is a difference and an end would be 0.

    >>> difference_text(-0.0382, -0.0791, -0.0003, 0.047)
    '-0.0382 [-0.0791, -0.0003]'
    >>> difference_text(-0.0382, -0.0791, 0.0003, 0.052)
    '-0.038 [-0.079, +0.000]'
    """
    digits = 3
    while p < statistics.ALPHA and 0 in (round(low, digits), round(high, digits)):
        digits += 1
    return f"{difference:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def as_html(table: pd.DataFrame, caption: Iterable[str]) -> str:
    """A table and the sentences below it, with every name in it escaped."""
    lines = "".join(f"<p style='margin:.2em 0'>{html.escape(line)}</p>" for line in caption)
    return f"{table.to_html(escape=True, border=0)}{lines}"


def documents_of(questions: Iterable[Question]) -> tuple[str, ...]:
    """The document of each question's first gold span: what the statistics draw again."""
    return tuple(question.gold[0].doc_id for question in questions)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def compare(
    systems: Mapping[str, Retriever],
    questions: Iterable[Question],
    baseline: str | None = None,
    k: int = 10,
    same_budget: int | None = None,
    *,
    metric: str | None = None,
    tokenizer: Tokenizer | None = None,
    progress: bool = True,
) -> Comparison:
    """Search every question with every system, score the lists, and say which differences are real.

    Questions without gold (unanswerable ones) are left out and counted. Latencies are single queries, one
    after the other, after a warm-up. A system that raises on a question scores 0 there and is listed in ``errors``.
    The same input gives the same table, but for the milliseconds.

    Args:
        systems: retrievers by name.
        baseline: the system that the others are compared with; the first one unless given.
        k: how many results count.
        same_budget: cut every list at this number N of context tokens instead of at ``k`` results. The last chunk is
            cut where the budget ends, and the metrics of all that fits are named ``@N``, with two more:
            ``coverage@N``, and ``context_coverage@N`` of what a pipeline's context holds of the same hits.
        metric: the one that verdicts are about, a name of ``metrics.metric_names(k, N)``; unless given ``mrr@k``,
            and with ``same_budget`` ``coverage@N``.
        tokenizer: counts context tokens; the packaged model's unless given.

    Raises:
        InputError: no system, an unknown baseline or metric, a question id twice, fewer than two questions with gold.
        ContractError: a system returned more than k hits, a chunk twice, or a score that is not finite.
    """
    k = check_whole(k, "k")
    budget = None if same_budget is None else check_whole(same_budget, "same_budget")
    metric = metric or (f"mrr@{k}" if budget is None else f"coverage@{budget}")
    if metric not in (names := metrics.metric_names(k, budget)):
        raise InputError(f"metric {metric!r}: expected one of {', '.join(names)}")
    baseline = _checked_baseline(systems, baseline)
    answerable, skipped = _split_questions(questions)
    counter = metrics.CountedOnce(tokenizer or minilm_tokenizer())
    results = _search_all(systems, answerable, k, budget, counter, progress)
    per_question = _per_question(results, answerable, k, budget, counter)
    units = documents_of(answerable)
    table, detectable = _table(per_question, units, list(systems), baseline, metric)
    return Comparison(
        table=table,
        per_question=per_question,
        baseline=baseline,
        metric=metric,
        k=k,
        budget=budget,
        units=units,
        skipped=skipped,
        minimum_detectable=detectable,
        systems=dict(systems),
        questions=answerable,
        rankings={name: [result.shown for result in own] for name, own in results.items()},
    )


def _split_questions(questions: Iterable[Question]) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """The questions with relevant gold, and no other gold, and those without."""
    everything = [(question, metrics.relevant_gold(question.gold)) for question in questions]
    answerable = tuple(replace(question, gold=gold) for question, gold in everything if gold)
    if twice := [name for name, count in Counter(question.id for question, _ in everything).items() if count > 1]:
        raise InputError(f"question id {twice[0]!r} is there twice: ids must be unique")
    if len(answerable) < 2:
        found = f"{len(answerable)} of {len(everything)} questions have gold (the place of their answer)"
        raise InputError(f"{found}: a comparison needs two, a verdict some dozens; label more")
    return answerable, tuple(question for question, gold in everything if not gold)


def _checked_baseline(systems: Mapping[str, Retriever], baseline: str | None) -> str:
    """The baseline's name."""
    if not systems:
        raise InputError("no system: expected retrievers by name, such as {'bm25': bm25}")
    for name, system in systems.items():
        if not hasattr(system, "search"):
            hint = ", pass its .retriever" if hasattr(system, "retriever") else ""
            raise InputError(f"system {name!r} is a {type(system).__name__} without search(query, k){hint}")
    first = next(iter(systems)) if baseline is None else baseline
    if first not in systems:
        raise InputError(f"baseline {baseline!r}: expected one of {', '.join(map(repr, systems))}")
    return first


@dataclass(frozen=True)
class _Result:
    """What one system returned for one question: all hits, those that fit the budget, and its error (else "")."""

    hits: tuple[Hit, ...]
    shown: tuple[Hit, ...]
    milliseconds: float
    error: str


def _search_all(
    systems: Mapping[str, Retriever],
    questions: Sequence[Question],
    k: int,
    budget: int | None,
    counter: metrics.CountedOnce,
    progress: bool,
) -> dict[str, list[_Result]]:
    from tqdm.auto import tqdm

    results: dict[str, list[_Result]] = {name: [] for name in systems}
    # `disable` is set only to turn the bar off, so that the environment (TQDM_DISABLE) can do so, too.
    start = tqdm if progress else partial(tqdm, disable=True)
    with start(total=len(systems) * len(questions), unit="query", delay=1, leave=False) as bar:
        for name, system in systems.items():
            bar.set_description(name, refresh=False)
            for question in questions[:WARM_UP]:
                _search(name, system, question, k)
            for question in questions:
                results[name].append(_result(name, system, question, k, budget, counter))
                bar.update(1)
    return results


def _result(
    name: str, system: Retriever, question: Question, k: int, budget: int | None, counter: metrics.CountedOnce
) -> _Result:
    """One timed search; where its hits do not fill ``budget``, deeper ones (untimed) until they do."""
    started = time.perf_counter()
    hits, error = _search(name, system, question, k)
    milliseconds = (time.perf_counter() - started) * 1000
    if budget is None or error:
        return _Result(hits, hits, milliseconds, error)
    hits = metrics.fill(lambda depth: _search(name, system, question, depth)[0], hits, k, budget, counter)
    return _Result(hits, metrics.cut(hits, budget, counter), milliseconds, "")


def _search(name: str, system: Retriever, question: Question, k: int) -> tuple[tuple[Hit, ...], str]:
    """The hits, and the error if the system raised one: that is a result of the comparison, and the others go on."""
    try:
        hits = tuple(system.search(question.text, k))
    except Exception as error:
        return (), f"{type(error).__name__}: {error}"
    different = {hit.chunk.id for hit in hits}
    if len(hits) > k or len(different) < len(hits) or not all(math.isfinite(hit.score) for hit in hits):
        raise ContractError(
            f"system {name!r}, question {question.id!r}: expected at most k = {k} hits, each chunk once, and finite "
            f"scores; found {len(hits)} hits of {len(different)} chunks, scored {[hit.score for hit in hits]}"
        )
    return hits, ""


def _per_question(
    results: Mapping[str, Sequence[_Result]],
    questions: Sequence[Question],
    k: int,
    budget: int | None,
    counter: metrics.CountedOnce,
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name, own in results.items():
        for question, result in zip(questions, own, strict=True):
            gold, any_of = question.gold, question.any_of
            values = metrics.score([hit.chunk for hit in result.shown], gold, k, any_of, budget)
            if budget is not None:
                in_context = metrics.context_coverage(result.hits, gold, budget, counter, any_of)
                values[f"context_coverage@{budget}"] = in_context
            extra = {"tokens": counter.total(result.shown), "ms": result.milliseconds, "error": result.error}
            rows.append({"system": name, "question": question.id, **values, **extra})
    return require("pandas", "notebook").DataFrame(rows).set_index(["system", "question"])  # type: ignore[no-any-return]


def _table(
    per_question: pd.DataFrame, units: Sequence[str], names: list[str], baseline: str, metric: str
) -> tuple[pd.DataFrame, float]:
    """The table, and the smallest detectable difference."""
    table = per_question.drop(columns=["ms", "error"]).groupby(level="system", sort=False).mean().rename_axis(None)
    failed = per_question["error"] != ""
    answered = per_question["ms"][~failed].groupby(level="system")
    table["ms_p50"] = answered.quantile(0.5).reindex(names, fill_value=0.0)
    table["ms_p95"] = answered.quantile(0.95).reindex(names, fill_value=0.0)
    table["errors"] = failed.groupby(level="system").sum()

    scores = per_question[metric].to_numpy().reshape(len(names), -1).T
    differences = scores - scores[:, [names.index(baseline)]]
    result = statistics.estimate(differences, units)
    table["diff"], table["diff_low"], table["diff_high"], table["p"] = result.mean, result.low, result.high, result.p
    table["verdict"] = list(map(verdict, result.mean, result.p))
    table.loc[baseline, "verdict"] = "baseline"
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


def _chunk_lookup(retriever: Retriever) -> Callable[[Span], bool]:
    """Whether any of a retriever's chunks answers a gold span; always true where an index does not show its chunks."""
    chunks = _chunks_of(retriever)
    by_document: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks or ():
        by_document[chunk.doc_id].append(chunk)
    return lambda span: chunks is None or any(metrics.is_relevant(chunk, span) for chunk in by_document[span.doc_id])


def _chunks_of(retriever: object) -> Sequence[Chunk] | None:
    """The chunks of all indexes at the bottom of ``retriever``; None where one of them does not show its own."""
    inner = getattr(retriever, "retriever", None)
    parts = [inner] if inner is not None else getattr(retriever, "inputs", ())
    if not parts:
        return getattr(retriever, "chunks", None)
    below = [_chunks_of(part) for part in parts]
    return None if None in below else [chunk for chunks in below for chunk in chunks or ()]


def _where_lost(
    retriever: Retriever, holds: Callable[[Span], bool], question: Question, top: Sequence[Hit], k: int
) -> str:
    """The stage at which the gold was lost, given the ``top`` hits. Of several gold spans the furthest one counts."""
    gold = metrics.relevant_gold(question.gold)
    ranks = metrics.first_ranks([hit.chunk for hit in top], gold)
    if ranks.any():
        return FOUND if question.any_of or ranks.all() else IN_PART
    reachable = [span for span in gold if holds(span)]
    if not reachable:
        return NO_CHUNK
    if _returns(retriever, [question.text], reachable, k):  # `top` was cut at equal tokens
        return BUDGET
    return _lost_in(retriever, [question.text], reachable, k)


def _lost_in(retriever: Retriever, queries: Sequence[str], gold: Sequence[Span], k: int) -> str:
    """The stage below ``retriever`` that last had the gold; ``retriever`` itself does not return it."""
    inner: Retriever | None = getattr(retriever, "retriever", None)
    if inner is not None:
        original, rewriter = queries, getattr(retriever, "rewriter", None)
        if rewriter is not None:
            queries = [query for text in queries for query in rewriter.rewrite(text)]
        reranks = getattr(retriever, "reranker", None) is not None
        depth_for = getattr(retriever, "depth", None)
        depth = depth_for(k) if depth_for else max(k, getattr(retriever, "fetch_k", k))
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
    return any(metrics.first_ranks([hit.chunk for hit in hits], gold).any() for hits in lists)

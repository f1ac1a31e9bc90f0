"""What ``compare`` returns: the one table, and the ways to look at it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ragkit.base import Hit, InputError, Question, Retriever, require
from ragkit.evaluation import stages, statistics, trec

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

# Okabe & Ito (2008): eight colours that people with any colour vision tell apart; black comes last for dark themes.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon")
_GREY = "#888888"


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
    left_out: tuple[Question, ...]
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
        asked = f"{_count(len(self.questions), 'question')} in {_count(documents, 'document')}"
        if drawn > documents:
            asked += " (each drawn by itself: the verdicts speak of more questions on these documents, not of others)"
        elif documents < statistics.FEW:
            asked += " (few: questions on more documents would detect smaller differences)"
        lines = [f"{asked}; {lists} of each system."]
        if self.left_out:
            lines.append(f"{_count(len(self.left_out), 'question')} without gold left out.")
        if len(self.systems) > 1:
            lines.append(
                f"Verdicts on {self.metric} against {self.baseline!r}: a difference where the interval leaves out 0; "
                f"intervals and p are corrected for {_count(len(self.systems) - 1, 'comparison')}. A true difference "
                f"of {self.minimum_detectable:.3f} or more would be detected 8 times in 10."
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
            usual = [f"coverage@{self.budget}", f"context_coverage@{self.budget}", f"mrr@{k}"]
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
        lines = "".join(f"<p style='margin:.2em 0'>{html.escape(line)}</p>" for line in self.caption)
        return f"{self._shown().to_html(escape=True, border=0)}{lines}"

    def where_lost(self) -> pd.DataFrame:
        """For each question (row) and system (column) the stage at which the gold was lost (``stages.STAGES``).

        Searches again, stage by stage, where a system missed. ``["bm25"].value_counts()`` sums one up.
        """
        failed = {(failure.system, failure.question_id) for failure in self.errors}
        columns = {}
        for name, retriever in self.systems.items():
            lookup = stages.ChunkLookup(retriever)
            columns[name] = [
                stages.FAILED
                if (name, question.id) in failed
                else stages.where_lost(retriever, lookup, question, [hit.chunk for hit in hits], self.k)
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
        figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
        for column, field_name in ((1, "ms_p50"), (2, "tokens")):
            for i, name in enumerate(self.systems):
                figure.add_trace(
                    Scatter(
                        x=[max(float(self.table[field_name].iloc[i]), 1e-3)],  # a logarithmic axis has no 0
                        y=[means[i]],
                        error_y=None if name == self.baseline else _bars(differences, i),
                        mode="markers",
                        name=html.escape(name),
                        legendgroup=name,
                        showlegend=column == 1,
                        marker={
                            "color": OKABE_ITO[i % len(OKABE_ITO)],
                            "symbol": SYMBOLS[(i + i // len(OKABE_ITO)) % len(SYMBOLS)],
                            "size": 11,
                        },
                    ),
                    row=1,
                    col=column,
                )
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
        figure.update_layout(
            title=title,
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font={"color": _GREY},
            height=420,
            margin={"l": 60, "r": 20, "t": 70, "b": 50},
        )
        return figure

    def save_trec(self, folder: Path | str) -> Path:
        """Write ``qrels.txt`` and one ``<system>.run`` each, with which trec_eval gives this table's figures.

        Gold spans are the documents of these files (see ``trec.labelled``).

        Raises:
            InputError: two systems' names give the same file name.
        """
        folder = Path(folder)
        files = {name: "".join(c if c.isalnum() or c in "-_." else "_" for c in name) for name in self.systems}
        if len(set(files.values())) < len(files):
            raise InputError(f"systems {list(files)}: their names give the same file names, rename one")
        needs = {q.id: q.gold[:1] if q.any_of else q.gold for q in self.questions}
        gold = {name: {trec.gold_id(span): span.grade for span in spans} for name, spans in needs.items()}
        trec.write_qrels(folder / "qrels.txt", gold)
        for name, lists in self.rankings.items():
            pairs = zip(self.questions, lists, strict=True)
            run = {q.id: trec.labelled(hits, q.gold, q.any_of) for q, hits in pairs}
            trec.write_run(folder / f"{files[name]}.run", run)
        return folder


def clusters(questions: tuple[Question, ...], unit: Literal["document", "question"]) -> tuple[str, ...]:
    """What the statistics draw again: the document of each question's first gold span, or the question itself.

    Raises:
        InputError: ``unit`` is another word.
    """
    if unit not in ("document", "question"):
        raise InputError(f"unit {unit!r}: expected 'document' or 'question'")
    return tuple(question.gold[0].doc_id if unit == "document" else question.id for question in questions)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _bars(differences: statistics.Estimate, i: int) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": np.array([differences.high[i] - differences.mean[i]]),
        "arrayminus": np.array([differences.mean[i] - differences.low[i]]),
        "thickness": 1.5,
    }

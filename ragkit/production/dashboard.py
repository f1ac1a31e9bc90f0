"""What happened, on one page: how long each stage takes, what is found, what is not answered, what people ask.

``dashboard(frame)`` draws the figures of ``summary(frame)``, and more, from rows of ``TraceMonitor.dataframe()``.
Colours are Okabe and Ito's on a transparent ground, which reads in a light and in a dark theme.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ragkit.base import require
from ragkit.production.drift import question_key
from ragkit.production.readings import STAGES, Rate, Reading, checked, latency, rate

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

WIDTH, HEIGHT = 940, 980
"""Pixels: what a notebook's page is wide, with room for six questions."""

LISTED = 6
"""Questions in each list."""

_LONGEST = 56  # characters of a question that are shown
_BINS = 24  # at most, on an axis of time
_WIDTHS = ("1min", "5min", "15min", "1h", "6h", "1D", "7D", "28D", "91D", "365D")
_STATES = ("off", "miss", "hit", "near", "shared")
_RATES: tuple[Rate, ...] = ("abstentions", "errors", "cache hits")
_BLUE, _ORANGE, _GREEN, _RED, _SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
_GREY, _GRID, _CLEAR = "#888888", "rgba(136,136,136,.3)", "rgba(0,0,0,0)"


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """The figures behind the dashboard: ``value``, its 95 % interval (``low``, ``high``), over how many ``queries``.

    Rows: ``p50 total``, ``p95 total`` and the same of each stage that ran (milliseconds), ``p05 p50 p95 top_score``,
    ``abstentions``, ``errors``, ``cache hits`` (rates; where they could be), ``distinct questions``, ``cost``.

    Raises:
        InputError: the frame has not the columns of ``TraceMonitor.dataframe()``.
    """
    pd = require("pandas", "notebook")
    checked(frame)
    found: dict[str, Reading | None] = {}
    for stage in ("total", *STAGES):
        found |= {f"p{100 * q:02.0f} {stage}": latency(frame, stage, q) for q in (0.5, 0.95)}
    scored = frame.assign(ms=frame["top_score"])
    found |= {f"p{100 * q:02.0f} top_score": latency(scored, "total", q) for q in (0.05, 0.5, 0.95)}
    found |= {what: rate(frame, what) for what in _RATES}
    distinct, known = float(len(_by_question(frame))), frame["cost"].dropna()
    found["distinct questions"] = Reading(distinct, distinct, distinct, len(frame))
    if len(known):
        found["cost"] = Reading(float(known.sum()), float(known.sum()), float(known.sum()), len(known))
    rows = {name: (r.value, r.low, r.high, r.queries) for name, r in found.items() if r is not None}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "queries"])  # type: ignore[no-any-return]


def most_asked(frame: pd.DataFrame, most: int = LISTED) -> pd.DataFrame:
    """The questions that were asked most (``question``, ``times``); case and white space make no new one."""
    return _by_question(frame).nlargest(most, "times", keep="first")[["question", "times"]].reset_index(drop=True)


def unanswered(frame: pd.DataFrame, most: int = LISTED) -> pd.DataFrame:
    """The questions that were most often not answered, for want of sources or by an error (``question``, ``times``)."""
    return most_asked(frame[frame["abstained"].astype(bool) | (frame["error"] != "")], most)


def slowest(frame: pd.DataFrame, most: int = LISTED) -> pd.DataFrame:
    """The queries that took longest (``question``, ``ms``, ``trace_id``)."""
    found = frame.dropna(subset=["ms"]).nlargest(most, "ms", keep="first")
    return found[["question", "ms", "trace_id"]].reset_index(drop=True)


def dashboard(frame: pd.DataFrame) -> Figure:
    """One figure about the queries in ``frame``. ``summary`` has its numbers.

    Raises:
        InputError: the frame has not the columns of ``TraceMonitor.dataframe()``.
    """
    require("plotly", "notebook")
    from plotly.subplots import make_subplots

    checked(frame)
    figure = make_subplots(
        rows=3,
        cols=2,
        column_widths=[0.56, 0.44],
        row_heights=[0.28, 0.28, 0.44],
        vertical_spacing=0.08,
        horizontal_spacing=0.09,
        specs=[[{}, {}], [{}, {}], [{"type": "table", "colspan": 2}, None]],
        subplot_titles=(
            "Milliseconds by stage: median and 95th percentile",
            "What the cache did, in queries",
            "Best score of each query: 5, 25, 50, 75, 95 %",
            "Not answered, and failed (95 % intervals)",
            "",
        ),
    )
    if frame.empty:
        figure.add_annotation(
            text="No query yet.", showarrow=False, font={"size": 18}, y=0.5, xref="paper", yref="paper"
        )
    else:
        _latencies(figure, frame)
        _cache(figure, frame)
        bins = _binned(frame)
        _scores(figure, bins)
        _failures(figure, bins)
    _lists(figure, frame)
    figure.update_xaxes(gridcolor=_GRID, zeroline=False)
    figure.update_xaxes(matches="x3", row=2)
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, rangemode="tozero")
    figure.update_annotations(font={"color": _GREY, "size": 14})
    figure.update_layout(
        paper_bgcolor=_CLEAR,
        plot_bgcolor=_CLEAR,
        font={"color": _GREY},
        width=WIDTH,
        height=HEIGHT,
        margin={"l": 50, "r": 20, "t": 50, "b": 10},
        legend={"x": 0.0, "y": 0.98, "bgcolor": _CLEAR, "orientation": "h"},
        legend2={"x": 0.61, "y": 0.64, "bgcolor": _CLEAR, "orientation": "h"},
    )
    return figure


def _latencies(figure: Figure, frame: pd.DataFrame) -> None:
    from plotly.graph_objects import Bar

    names = [name for name in (*STAGES, "total") if latency(frame, name) is not None]
    for quantile, colour in ((0.5, _SKY), (0.95, _BLUE)):
        readings = [reading for name in names if (reading := latency(frame, name, quantile)) is not None]
        figure.add_trace(
            Bar(
                x=names,
                y=[reading.value for reading in readings],
                error_y=_whiskers(readings),
                name=f"p{100 * quantile:.0f}",
                marker_color=colour,
            ),
            row=1,
            col=1,
        )


def _cache(figure: Figure, frame: pd.DataFrame) -> None:
    from plotly.graph_objects import Bar

    counts = [int((frame["cache"] == state).sum()) for state in _STATES]
    figure.add_trace(
        Bar(x=list(_STATES), y=counts, text=counts, marker_color=_GREEN, showlegend=False, name="queries"), row=1, col=2
    )


def _scores(figure: Figure, bins: Sequence[tuple[Any, pd.DataFrame]]) -> None:
    from plotly.graph_objects import Box

    scored = [(when, rows["top_score"].dropna()) for when, rows in bins]
    cuts = np.array([np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)) for _, values in scored if len(values)])
    if not len(cuts):
        return
    figure.add_trace(
        Box(
            x=[when for when, values in scored if len(values)],
            lowerfence=cuts[:, 0],
            q1=cuts[:, 1],
            median=cuts[:, 2],
            q3=cuts[:, 3],
            upperfence=cuts[:, 4],
            marker_color=_BLUE,
            name="best score",
            showlegend=False,
        ),
        row=2,
        col=1,
    )


def _failures(figure: Figure, bins: Sequence[tuple[Any, pd.DataFrame]]) -> None:
    from plotly.graph_objects import Scatter

    for what, colour, symbol in (("abstentions", _ORANGE, "circle"), ("errors", _RED, "x")):
        read = [(when, rate(rows, what)) for when, rows in bins]  # type: ignore[arg-type]
        readings = [reading for _, reading in read if reading is not None]
        figure.add_trace(
            Scatter(
                x=[when for when, reading in read if reading is not None],
                y=[reading.value for reading in readings],
                error_y=_whiskers(readings),
                mode="lines+markers",
                name=what,
                marker={"color": colour, "symbol": symbol, "size": 7},
                legend="legend2",
            ),
            row=2,
            col=2,
        )
    figure.update_yaxes(tickformat=".0%", row=2, col=2)


def _lists(figure: Figure, frame: pd.DataFrame) -> None:
    from plotly.graph_objects import Table

    asked, slow, silent = most_asked(frame), slowest(frame), unanswered(frame)
    columns = {
        "Asked most": [shown(text) for text in asked["question"]],
        "times": [f"{times}" for times in asked["times"]],
        "Slowest": [shown(text) for text in slow["question"]],
        "ms": [f"{ms:.0f}" for ms in slow["ms"]],
        "Not answered": [shown(text) for text in silent["question"]],
        "times ": [f"{times}" for times in silent["times"]],
    }
    look = {"fill_color": _CLEAR, "line_color": _GRID, "align": "left"}
    figure.add_trace(
        Table(
            columnwidth=[10, 2.4, 10, 2.4, 10, 2.4],
            header={"values": [f"<b>{name.strip()}</b>" for name in columns], **look},
            cells={"values": list(columns.values()), "height": 34, **look},
        ),
        row=3,
        col=1,
    )


def shown(text: str, longest: int = _LONGEST) -> str:
    """``text`` from a user, in one line, as plotly shows it: its tags would be obeyed, and its dollars typeset.

    >>> shown("<b>$x$</b> " * 2)
    '&lt;b&gt;&#36;x&#36;&lt;/b&gt; &lt;b&gt;&#36;x&#36;&lt;/b&gt;'
    """
    line = " ".join(str(text).split())
    cut = line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
    return html.escape(cut, quote=False).replace("$", "&#36;")


def _by_question(frame: pd.DataFrame) -> pd.DataFrame:
    """The distinct questions, as they were first asked, and how many ``times``."""
    asked = frame.groupby(frame["question"].map(question_key), sort=False)["question"]
    return asked.agg(["first", "size"]).set_axis(["question", "times"], axis=1).reset_index(drop=True)


def _binned(frame: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    """The queries in slices of time, the narrowest of which there are not more than ``_BINS``."""
    pd = require("pandas", "notebook")
    span = frame["began"].max() - frame["began"].min()
    width = next((w for w in _WIDTHS if span / pd.Timedelta(w) < _BINS), _WIDTHS[-1])
    monday = pd.Timestamp("2024-01-01", tz="UTC")
    slices = (frame["began"] - monday).dt.floor(width) + monday
    return list(frame.groupby(slices))


def _whiskers(readings: Sequence[Reading]) -> dict[str, Any]:
    """From value to interval; nothing where too few queries bound it."""
    up = [r.high - r.value if np.isfinite(r.high) else 0.0 for r in readings]
    down = [r.value - r.low if np.isfinite(r.low) else 0.0 for r in readings]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1, "color": _GREY}

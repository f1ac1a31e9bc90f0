"""What happened, on one page: how long each stage takes, what is found, what is not answered, what people ask.

``dashboard(frame)`` draws the figures of ``summary(frame)``, and more, from rows of ``TraceMonitor.dataframe()``.
Colours are Okabe and Ito's on a transparent ground, which reads in a light and in a dark theme.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ragkit.base import question_key, require
from ragkit.production.alerts import STAGES, Measured, checked, quantile, rate

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

LISTED = 6
"""Questions in each list."""

_LONGEST = 56  # characters of a question that are shown
_BINS = 24  # at most, on an axis of time
_WIDTHS = ("1min", "5min", "15min", "1h", "6h", "1D", "7D", "28D", "91D", "365D")
_STATES = ("off", "miss", "hit", "near", "shared")
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
    measured = {
        f"p{100 * q:02.0f} {name}": quantile(values, q)
        for name, values in (*_times(checked(frame)).items(), ("top_score", frame["top_score"]))
        for q in ((0.05, 0.5, 0.95) if name == "top_score" else (0.5, 0.95))
    }
    measured |= {what: rate(frame, what) for what in ("abstentions", "errors", "cache hits")}
    rows = {name: (m.value, m.low, m.high, len(m.each)) for name, m in measured.items() if m is not None}
    counts: dict[str, tuple[float, int]] = {"distinct questions": (len(_by_question(frame)), len(frame))}
    if known := frame["cost"].count():
        counts["cost"] = (frame["cost"].sum(), known)
    rows |= {name: (value, value, value, queries) for name, (value, queries) in counts.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "queries"])  # type: ignore[no-any-return]


def most_asked(frame: pd.DataFrame, limit: int = LISTED) -> pd.DataFrame:
    """The questions that were asked most (``question``, ``times``); another writing makes no new one."""
    return _by_question(frame).nlargest(limit, "times", keep="first").reset_index(drop=True)


def unanswered(frame: pd.DataFrame, limit: int = LISTED) -> pd.DataFrame:
    """The questions that were most often not answered, for want of sources or by an error (``question``, ``times``)."""
    return most_asked(frame[frame["abstained"].astype(bool) | (frame["error"] != "")], limit)


def slowest(frame: pd.DataFrame, limit: int = LISTED) -> pd.DataFrame:
    """The queries that took longest (``question``, ``ms``, ``trace_id``)."""
    return frame.nlargest(limit, "ms", keep="first")[["question", "ms", "trace_id"]].reset_index(drop=True)


def dashboard(frame: pd.DataFrame) -> Figure:
    """One figure about the queries in ``frame``. ``summary`` has its numbers.

    Raises:
        InputError: the frame has not the columns of ``TraceMonitor.dataframe()``.
    """
    require("plotly", "notebook")
    from plotly.graph_objects import Bar, Table
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
        ),
    )
    if frame.empty:
        figure.add_annotation(
            text="No query yet.", showarrow=False, font={"size": 18}, y=0.5, xref="paper", yref="paper"
        )
    for q, colour in ((0.5, _SKY), (0.95, _BLUE)):
        times = {name: m for name, values in _times(frame).items() if (m := quantile(values, q)) is not None}
        bars = Bar(x=list(times), **_values(list(times.values())), name=f"p{100 * q:.0f}", marker_color=colour)
        figure.add_trace(bars, 1, 1)
    counts = [int((frame["cache"] == state).sum()) for state in _STATES]
    states = Bar(x=_STATES, y=counts, text=counts, marker_color=_GREEN, showlegend=False, name="queries")
    figure.add_trace(states, 1, 2)
    _over_time(figure, frame)
    questions, slow, silent = most_asked(frame), slowest(frame), unanswered(frame)
    lists = {
        "Asked most": questions["question"].map(shown),
        "times": questions["times"].map(str),
        "Slowest": slow["question"].map(shown),
        "ms": slow["ms"].map("{:.0f}".format),
        "Not answered": silent["question"].map(shown),
        "times ": silent["times"].map(str),
    }
    look = {"fill_color": _CLEAR, "line_color": _GRID, "align": "left"}
    header = {"values": [f"<b>{name.strip()}</b>" for name in lists], **look}
    cells = {"values": [column.tolist() for column in lists.values()], "height": 34, **look}
    figure.add_trace(Table(columnwidth=[10, 2.4] * 3, header=header, cells=cells), 3, 1)
    figure.update_xaxes(gridcolor=_GRID, zeroline=False)
    figure.update_xaxes(matches="x3", row=2)
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, rangemode="tozero")
    figure.update_yaxes(tickformat=".0%", row=2, col=2)
    figure.update_annotations(font={"color": _GREY, "size": 14})
    legend = {"bgcolor": _CLEAR, "orientation": "h"}
    return figure.update_layout(
        paper_bgcolor=_CLEAR,
        plot_bgcolor=_CLEAR,
        font={"color": _GREY},
        width=940,
        height=980,
        margin={"l": 50, "r": 20, "t": 50, "b": 10},
        legend={"x": 0.0, "y": 0.98, **legend},
        legend2={"x": 0.61, "y": 0.64, **legend},
    )


def _over_time(figure: Figure, frame: pd.DataFrame) -> None:
    """The second row: a box of the best scores, and the rates of abstentions and errors, in each slice of time."""
    from plotly.graph_objects import Box, Scatter

    slices = _slices(frame)
    scores = {when: rows["top_score"].dropna() for when, rows in slices}
    scores = {when: values for when, values in scores.items() if len(values)}
    cuts = np.array([np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)) for values in scores.values()]).reshape(-1, 5)
    ends = dict(zip(("lowerfence", "q1", "median", "q3", "upperfence"), cuts.T, strict=True))
    figure.add_trace(Box(x=list(scores), **ends, marker_color=_BLUE, name="best score", showlegend=False), 2, 1)
    for what, colour, symbol in (("abstentions", _ORANGE, "circle"), ("errors", _RED, "x")):
        rates = {when: m for when, rows in slices if (m := rate(rows, what)) is not None}  # type: ignore[arg-type]
        look = {"mode": "lines+markers", "marker": {"color": colour, "symbol": symbol, "size": 7}, "legend": "legend2"}
        figure.add_trace(Scatter(x=list(rates), **_values(list(rates.values())), name=what, **look), 2, 2)


def shown(text: str, longest: int = _LONGEST) -> str:
    """``text`` from a user, in one line, as plotly shows it: its tags would be obeyed, and its dollars typeset.

    >>> shown("<b>$x$</b> " * 2)
    '&lt;b&gt;&#36;x&#36;&lt;/b&gt; &lt;b&gt;&#36;x&#36;&lt;/b&gt;'
    """
    line = " ".join(str(text).split())
    cut = line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
    return html.escape(cut, quote=False).replace("$", "&#36;")


def _times(frame: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Milliseconds by stage, and of the whole query."""
    return {**{stage: frame[f"{stage}_ms"] for stage in STAGES}, "total": frame["ms"]}


def _by_question(frame: pd.DataFrame) -> pd.DataFrame:
    """The distinct questions, as they were first asked, and how many ``times``."""
    questions = frame.groupby(frame["question"].map(question_key), sort=False)["question"]
    return questions.agg(["first", "size"]).set_axis(["question", "times"], axis=1).reset_index(drop=True)


def _slices(frame: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    """The queries in slices of time, the narrowest of which there are not more than ``_BINS``."""
    pd = require("pandas", "notebook")
    span = frame["began"].max() - frame["began"].min()
    width = next((w for w in _WIDTHS if span / pd.Timedelta(w) < _BINS), _WIDTHS[-1])
    monday = pd.Timestamp("2024-01-01", tz="UTC")
    return list(frame.groupby((frame["began"] - monday).dt.floor(width) + monday))


def _values(measured: Sequence[Measured]) -> dict[str, Any]:
    """Heights, with whiskers over their intervals where there are enough queries to bound them."""
    y, ends = np.array([m.value for m in measured]), np.array([(m.high, m.low) for m in measured]).reshape(-1, 2).T
    up, down = np.where(np.isfinite(ends), np.abs(ends - y), 0.0)
    whiskers = {"type": "data", "symmetric": False, "thickness": 1, "color": _GREY}
    return {"y": y, "error_y": {**whiskers, "array": up, "arrayminus": down}}

"""What happened, on one page: how long each stage takes, what is found, what is not answered, what people ask.

``dashboard(frame)`` draws the figures of ``summary(frame)``, and more, from rows of ``TraceMonitor.dataframe()``.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ragkit.base import question_key, require
from ragkit.figures import BLUE, CLEAR, GREEN, GREY, GRID, ORANGE, SKY, VERMILLION, styled
from ragkit.production.alerts import RATES, Measured, quantile, rate, total

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

_LISTED = 6  # questions in each list
_LONGEST = 56  # characters of a question that are shown
_SLICES = 24  # at most, on an axis of time
_TICKS = 6  # slices of days that have a tick each
_WIDTHS = ("1min", "5min", "15min", "1h", "6h", "1D", "7D", "28D", "91D", "365D")
_STATES = ("off", "miss", "hit", "near", "shared")


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """The figures behind the dashboard: ``value``, its 95 % interval (``low``, ``high``), over how many ``queries``.

    Rows: ``p50 total``, ``p95 total`` and the same of each stage that ran (milliseconds), ``p05 p50 p95 top_score``,
    ``abstentions``, ``errors``, ``cache misses`` (rates; where they could be), ``distinct questions``, ``cost``.
    """
    times = _times(frame).items()
    measured = {f"p{100 * q:.0f} {name}": quantile(values, q) for name, values in times for q in (0.5, 0.95)}
    measured |= {f"p{100 * q:02.0f} top_score": quantile(frame["top_score"], q) for q in (0.05, 0.5, 0.95)}
    measured |= {what: rate(frame, what) for what in RATES}
    measured["cost"] = total(frame["cost"])
    rows = {name: (m.value, m.low, m.high, len(m.each)) for name, m in measured.items() if m}
    distinct = frame["question"].map(question_key).nunique()
    rows["distinct questions"] = (distinct, distinct, distinct, len(frame))
    columns = ["value", "low", "high", "queries"]
    return require("pandas", "notebook").DataFrame.from_dict(rows, orient="index", columns=columns)  # type: ignore[no-any-return]


def dashboard(frame: pd.DataFrame) -> Figure:
    """One figure about the queries in ``frame``. ``summary`` has its numbers."""
    require("plotly", "notebook")
    from plotly.graph_objects import Bar, Box, Scatter, Table
    from plotly.subplots import make_subplots

    cached, slices = bool((frame["cache"] != "off").any()), _slices(frame)
    figure = make_subplots(
        rows=3,
        cols=2,
        row_heights=[0.28, 0.28, 0.44],
        vertical_spacing=0.1,
        horizontal_spacing=0.13,
        specs=[[{}, {}], [{}, {}], [{"type": "table", "colspan": 2}, None]],
        subplot_titles=(
            "Time: median and 95th percentile",
            "What the cache did" if cached else "Time of a query: 95th percentile",
            "Best scores: 5, 25, 50, 75, 95 %",
            "Not answered, failed: 95 % intervals",
        ),
    )
    for q, colour in ((0.5, SKY), (0.95, BLUE)):
        times = {name: m for name, values in _times(frame).items() if (m := quantile(values, q))}
        figure.add_trace(Bar(**_points(times), name=f"p{100 * q:.0f}", marker_color=colour), 1, 1)
    if cached:
        counts = [int((frame["cache"] == state).sum()) for state in _STATES]
        figure.add_trace(Bar(x=_STATES, y=counts, text=counts, marker_color=GREEN, showlegend=False), 1, 2)
    else:
        tails = {when: m for when, rows in slices.items() if (m := quantile(rows["ms"]))}
        figure.add_trace(Scatter(**_points(tails), mode="lines+markers", marker_color=BLUE, showlegend=False), 1, 2)
    scores = {when: rows["top_score"].dropna() for when, rows in slices.items() if rows["top_score"].notna().any()}
    cuts = np.array([np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)) for values in scores.values()]).reshape(-1, 5)
    ends = dict(zip(("lowerfence", "q1", "median", "q3", "upperfence"), cuts.T.tolist(), strict=True))
    figure.add_trace(Box(x=list(scores), **ends, marker_color=BLUE, showlegend=False), 2, 1)
    for what, colour, symbol in (("abstentions", ORANGE, "circle"), ("errors", VERMILLION, "x")):
        rates = {when: m for when, rows in slices.items() if (m := rate(rows, what))}
        marker = {"color": colour, "symbol": symbol, "size": 7}
        figure.add_trace(Scatter(**_points(rates), mode="lines+markers", marker=marker, name=what), 2, 2)
    names, cells = _lists(frame)
    look = {"fill_color": CLEAR, "line_color": GRID, "align": "left"}
    header, values = {"values": [f"<b>{name}</b>" for name in names], **look}, {"values": cells, "height": 34, **look}
    figure.add_trace(Table(columnwidth=[10, 2.4] * 3, header=header, cells=values), 3, 1)
    figure.update_annotations(font_size=14)
    legend = {"orientation": "h", "x": 0.5, "y": 1.06}
    title = f"{len(frame)} queries: how fast, from where, how well, and with what result"
    styled(figure, title, 980).update_layout(legend=legend, margin={"t": 110, "b": 10})
    of_time: dict[str, Any] = {"matches": "x3", "title_text": "time"}
    if len(slices) <= _TICKS and all(when == when.floor("D") for when in slices):
        of_time |= {"tickvals": list(slices), "tickformat": "%b %-d", "tickangle": 0}
    figure.update_xaxes(**of_time, row=2).update_xaxes(title_text="stage", row=1, col=1)
    figure.update_xaxes(**({"title_text": "cache"} if cached else of_time), row=1, col=2)
    second = "queries" if cached else "milliseconds"
    for place, unit in enumerate(("milliseconds", second, "best score", "share of queries")):
        figure.update_yaxes(title_text=unit, rangemode="tozero", row=1 + place // 2, col=1 + place % 2)
    return figure.update_yaxes(tickformat=".0%", row=2, col=2)


def shown(text: str) -> str:
    """``text`` from a user, in one line, as plotly shows it: its tags would be obeyed, and its dollars typeset.

    >>> shown("<b>$x$</b> " * 2)
    '&lt;b&gt;&#36;x&#36;&lt;/b&gt; &lt;b&gt;&#36;x&#36;&lt;/b&gt;'
    """
    line = " ".join(text.split())
    cut = line if len(line) <= _LONGEST else line[: _LONGEST - 1].rstrip() + "…"
    return html.escape(cut, quote=False).replace("$", "&#36;")


def _times(frame: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Milliseconds of each stage, and of the whole query."""
    stages = {name.removesuffix("_ms"): frame[name] for name in frame.columns if name.endswith("_ms")}
    return {**stages, "total": frame["ms"]}


def _points(measured: Mapping[Any, Measured]) -> dict[str, Any]:
    """Places and heights, with whiskers over their intervals where there are enough queries to bound them."""
    y, ends = np.array([[m.value] for m in measured.values()]), [(m.high, m.low) for m in measured.values()]
    up, down = np.nan_to_num(np.abs(np.reshape(ends, (-1, 2)) - y.reshape(-1, 1)), posinf=0).T.tolist()
    whiskers = {"type": "data", "symmetric": False, "thickness": 1, "color": GREY, "array": up, "arrayminus": down}
    return {"x": list(measured), "y": y.ravel().tolist(), "error_y": whiskers}


def _slices(frame: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    """The queries in slices of time, the narrowest of which there are not more than ``_SLICES``; weeks from Monday."""
    pd = require("pandas", "notebook")
    span = frame["began"].max() - frame["began"].min()
    width = next((w for w in _WIDTHS if span / pd.Timedelta(w) < _SLICES), _WIDTHS[-1])
    monday = pd.Timestamp("2024-01-01", tz="UTC")
    return dict(list(frame.groupby((frame["began"] - monday).dt.floor(width) + monday)))


def _lists(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The columns of the table below, and their names: asked most, slowest, most often without an answer."""
    most, silent = _most_asked(frame), _most_asked(frame[frame["abstained"] | (frame["error"] != "")])
    slow = frame.nlargest(_LISTED, "ms")
    columns = [
        *(("Asked most", map(shown, most.index)), ("times", map(str, most))),
        *(("Slowest", map(shown, slow["question"])), ("ms", map("{:.0f}".format, slow["ms"]))),
        *(("Not answered", map(shown, silent.index)), ("times", map(str, silent))),
    ]
    return [name for name, _ in columns], [list(column) for _, column in columns]


def _most_asked(frame: pd.DataFrame) -> pd.Series[int]:
    """How often each question was asked, by how it was first written."""
    keys = frame["question"].map(question_key)
    questions = frame.groupby(keys, sort=False)["question"].agg(["first", "size"])
    return questions.set_index("first")["size"].nlargest(_LISTED)

"""Charts that lessons draw again and again: bars of systems, lines over a setting, and tables as heat maps.

>>> figure = bar_chart({"bm25": 0.52, "dense": 0.61}, "Dense vectors find more", y="MRR@10")
>>> figure.data[0].marker.color
('#E69F00', '#0072B2')
>>> by_kind = result.scores().groupby(kind_of).mean()                                      # doctest: +SKIP
>>> bar_chart(by_kind, "Fusion wins on FAQ questions only", y="MRR@10")                    # doctest: +SKIP
>>> line_chart(curves, "Recall by budget", x="tokens", y="recall", log_x=True)             # doctest: +SKIP
>>> heat_maps({"bm25": shares}, "Names are found", x="kind", y="rank")                     # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from ragkit.base import InputError
from ragkit.figures import BLUE, GREY, SYSTEMS, colors_of, styled

Values: TypeAlias = "Mapping[Any, float] | pd.Series[float] | pd.DataFrame"
Intervals = tuple[ArrayLike, ArrayLike]
"""The lower and the upper ends, each of the shape of the values."""


def bar_chart(values: Values, title: str, y: str, x: str = "", intervals: Intervals | None = None) -> go.Figure:
    """One bar a value; of a table, one group of bars a row and one colour a column.

    ``x``, ``y``: titles of the axes, with the unit. Bars without groups take their names' colours, if they are systems.

    Raises:
        InputError: ``intervals`` have another shape than ``values``.
    """
    table = _table(values)
    figure = go.Figure()
    for name, column, bars in _columns(table, intervals):
        places = [str(place) for place in table.index]
        color: Any = colors_of(table.columns)[name]
        if len(table.columns) == 1:
            color = [SYSTEMS.get(place.casefold(), BLUE) for place in places]
        figure.add_bar(x=places, y=column, name=escape(name), marker_color=color, error_y=bars)
    figure.update_xaxes(title=x, type="category", showgrid=False).update_yaxes(title=y, rangemode="tozero")
    return styled(figure, title).update_layout(barmode="group", showlegend=len(table.columns) > 1)


def line_chart(
    values: Values, title: str, y: str, x: str = "", intervals: Intervals | None = None, log_x: bool = False
) -> go.Figure:
    """One line a column over the table's index, a mark at every value. ``log_x``: each value of the index is a tick.

    ``x``, ``y``: titles of the axes, with the unit.

    Raises:
        InputError: ``intervals`` have another shape than ``values``.
    """
    table = _table(values)
    figure = go.Figure()
    for name, column, bars in _columns(table, intervals):
        color = colors_of(table.columns)[name] if len(table.columns) > 1 else SYSTEMS.get(name.casefold(), BLUE)
        line = {"mode": "lines+markers", "marker_color": color, "name": escape(name), "error_y": bars}
        figure.add_scatter(x=table.index.tolist(), y=column, **line)
    figure.update_xaxes(title=x).update_yaxes(title=y)
    if log_x:
        ticks = table.index.tolist()
        figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    return styled(figure, title).update_layout(showlegend=len(table.columns) > 1)


def heat_maps(
    tables: Mapping[str, pd.DataFrame],
    title: str,
    x: str,
    y: str,
    texts: Mapping[str, pd.DataFrame] | None = None,
    scale: str = "Blues",
    height: int = 400,
) -> go.Figure:
    """One panel a table, of one colour scale from 0 to the highest value; cells that are not a number stay empty.

    ``x``, ``y``: titles of the columns and of the rows. ``texts``: what stands in the cells (default: the values).

    Raises:
        InputError: there is no table.
    """
    if not tables:
        raise InputError("heat_maps got no table: expected one or more, each under its name")
    names = [escape(str(name)) for name in tables] if len(tables) > 1 else None
    figure = make_subplots(1, len(tables), subplot_titles=names, shared_yaxes=True, horizontal_spacing=0.04)
    for column, (name, table) in enumerate(tables.items(), 1):
        written = texts[name] if texts else table.map("{:g}".format)
        cells = {"z": table.to_numpy(float), "text": written.astype(str).where(table.notna(), "").to_numpy()}
        names_of = {"x": [*map(str, table.columns)], "y": [*map(str, table.index)]}
        figure.add_heatmap(**cells, **names_of, texttemplate="%{text}", coloraxis="coloraxis", row=1, col=column)
    highest = max(float(table.max().max()) for table in tables.values())
    figure.update_layout(coloraxis={"colorscale": scale, "cmin": 0, "cmax": highest, "showscale": False})
    figure.update_xaxes(title=x, type="category").update_yaxes(type="category", autorange="reversed")
    figure.update_yaxes(title=y, col=1)
    return styled(figure, title, height).update_xaxes(showgrid=False).update_yaxes(showgrid=False)


def _table(values: Values) -> pd.DataFrame:
    table = values if isinstance(values, pd.DataFrame) else pd.Series(values).rename_axis(None).to_frame()
    return table.rename(columns=str)


def _columns(table: pd.DataFrame, intervals: Intervals | None) -> Iterator[tuple[str, list[float], dict[str, Any]]]:
    """Each column's name, values and error bars."""
    heights = table.to_numpy(dtype=float)
    low, high = (heights, heights) if intervals is None else (np.asarray(end, dtype=float) for end in intervals)
    if low.size != heights.size or high.size != heights.size:
        raise InputError(f"intervals of shapes {low.shape} and {high.shape}: expected {heights.shape}, as the values")
    up, down = high.reshape(heights.shape) - heights, heights - low.reshape(heights.shape)
    for i, name in enumerate(table.columns):
        bars = {"array": up[:, i].tolist(), "arrayminus": down[:, i].tolist(), "symmetric": False}
        bars |= {"visible": intervals is not None, "color": GREY, "thickness": 1.5}
        yield name, heights[:, i].tolist(), bars

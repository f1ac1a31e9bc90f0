"""How every figure looks: one colour a system in the whole course, and readable in light and dark.

>>> color_of("bm25") == color_of("BM25")
True
>>> len(set(colors_of(["bm25", "dense", "mine", "yours"]).values()))
4
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe & Ito (https://jfly.uni-koeln.de/color/): told apart with any colour vision. Without their black and yellow,
# which cannot be seen on a dark and on a white page.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
PALETTE = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)
GREY = "#7a7a7a"  # of text: the same contrast, 4.3:1, on white and on JupyterLab's dark page
GRID, CLEAR = "rgba(128,128,128,0.3)", "rgba(0,0,0,0)"

SYSTEMS = {
    **{"bm25": ORANGE, "dense": BLUE, "hybrid": GREEN, "reranked": VERMILLION},
    **{"naive": SKY, "advanced": VERMILLION, "modular": PURPLE},
    **{"pooled": BLUE, "maxp": SKY},  # two scorings of dense vectors
    **{"minilm": BLUE, "all-minilm-l6-v2": BLUE, "e5": SKY, "multilingual-e5-small": SKY},
    "text-embedding-3-small": PURPLE,
}
"""The colours of the course's systems and models, by their names in small letters."""


def color_of(name: str) -> str:
    """The colour of a system: that of ``SYSTEMS``, whatever its case, or one that depends on the name alone."""
    return SYSTEMS.get(name.casefold()) or PALETTE[zlib.crc32(name.casefold().encode()) % len(PALETTE)]


def colors_of(names: Iterable[str]) -> dict[str, str]:
    """The colour of each system of one figure, such as plotly's ``color_discrete_map``.

    Each is ``color_of(name)``, but a name that is not in ``SYSTEMS`` takes the next colour that is used least: six
    systems have six colours.
    """
    names = list(dict.fromkeys(names))
    colors = {name: color_of(name) for name in names if name.casefold() in SYSTEMS}
    for name in names:
        if name not in colors:
            used, start = Counter(colors.values()), PALETTE.index(color_of(name))
            colors[name] = min(PALETTE[start:] + PALETTE[:start], key=used.__getitem__)
    return {name: colors[name] for name in names}


def styled(figure: Figure, title: str, height: int = 360) -> Figure:
    """``figure`` with a title, grey text on a transparent ground, as wide as the page and ``height`` pixels high.

    >>> styled(px.histogram(cosines), "Cosines of 5,000 random pairs of chunks")   # doctest: +SKIP
    """
    bar = {"bgcolor": CLEAR, "color": GREY, "activecolor": BLUE}
    figure.update_layout(title=title, font_color=GREY, paper_bgcolor=CLEAR, plot_bgcolor=CLEAR, modebar=bar)
    figure.update_layout(autosize=True, height=height, margin={"l": 60, "r": 20, "t": 70, "b": 50})
    return figure.update_xaxes(gridcolor=GRID, zeroline=False).update_yaxes(gridcolor=GRID, zeroline=False)

"""The look of figures: a system's colour never changes, and text can be read on both pages."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations

import plotly.graph_objects as go
import pytest

from ragkit.figures import GREY, PALETTE, SYSTEMS, color_of, colors_of, styled


def luminance(color: str) -> float:
    """The relative luminance of WCAG 2.2 of ``#rrggbb``."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#111111"], ids=["light", "dark"])
def test_text_and_colours_can_be_seen(page):
    assert contrast(GREY, page) > 4.2
    assert min(contrast(color, page) for color in PALETTE) > 2


def test_the_systems_of_one_lesson_have_different_colours():
    for lesson in ("bm25 dense hybrid reranked", "naive advanced modular", "pooled maxp bm25 hybrid", "bm25 minilm e5"):
        for one, other in combinations(lesson.split(), 2):
            assert color_of(one) != color_of(other)


def test_a_colour_depends_on_the_name_alone_in_any_process():
    code = "from ragkit.figures import color_of; print(color_of('fetch 100'))"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert again == color_of("fetch 100") in PALETTE


def test_in_one_figure_known_systems_keep_their_colour_and_the_others_share_none_while_there_are_some():
    names = ["fetch 10", "BM25", "fetch 20", "dense", "fetch 50", "fetch 100"]
    colors = colors_of(names)
    assert list(colors) == names
    assert (colors["BM25"], colors["dense"]) == (SYSTEMS["bm25"], SYSTEMS["dense"])
    assert set(colors.values()) == set(PALETTE)
    twelve = list(colors_of(map(str, range(12))).values())
    assert all(twelve.count(color) == 2 for color in PALETTE)


def test_a_styled_figure_has_a_title_no_ground_and_no_fixed_width():
    figure = styled(go.Figure(), "Tokens by size", height=320)
    assert figure.layout.title.text == "Tokens by size"
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert (figure.layout.width, figure.layout.autosize, figure.layout.height) == (None, True, 320)

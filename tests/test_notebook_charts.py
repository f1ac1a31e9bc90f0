"""The charts of the lessons: what stands where, in which colour, and how far its bar reaches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ragkit.base import InputError
from ragkit.figures import BLUE, color_of
from ragkit.notebook.charts import bar_chart, heat_maps, line_chart

BY_KIND = pd.DataFrame({"bm25": [0.5, 0.2], "dense": [0.4, 0.6]}, index=["faq", "paraphrase"])


def test_a_table_is_drawn_in_groups_with_the_colours_of_its_columns():
    figure = bar_chart(BY_KIND, "By kind", y="MRR@10", x="kind of question")
    assert [(bar.name, bar.x, bar.y) for bar in figure.data] == [
        ("bm25", ("faq", "paraphrase"), (0.5, 0.2)),
        ("dense", ("faq", "paraphrase"), (0.4, 0.6)),
    ]
    assert [bar.marker.color for bar in figure.data] == [color_of("bm25"), color_of("dense")]
    titles = [figure.layout[part].title.text for part in ("xaxis", "yaxis")]
    assert [figure.layout.title.text, *titles] == ["By kind", "kind of question", "MRR@10"]
    assert figure.layout.showlegend
    assert not any(bar.error_y.visible for bar in figure.data)


def test_bars_by_name_have_the_colours_of_systems_and_numbers_are_categories():
    figure = bar_chart({"dense": 0.4, "mine": 0.5}, "MRR", y="MRR@10")
    assert figure.data[0].marker.color == (color_of("dense"), BLUE)
    assert not figure.layout.showlegend
    assert bar_chart(pd.Series([0.3, 0.1], index=[1, 2]), "Places", y="share").data[0].x == ("1", "2")


@pytest.mark.parametrize("draw", [bar_chart, line_chart])
def test_intervals_are_bars_around_the_values(draw):
    figure = draw(BY_KIND, "By kind", y="MRR@10", intervals=(BY_KIND - 0.1, (BY_KIND + 0.2).to_numpy()))
    for trace in figure.data:
        assert trace.error_y.array == pytest.approx((0.2, 0.2))
        assert trace.error_y.arrayminus == pytest.approx((0.1, 0.1))
        assert not isinstance(trace.error_y.array, np.ndarray)
    single = draw(BY_KIND["bm25"], "bm25", y="MRR@10", intervals=([0.4, 0.1], [0.7, 0.3]))
    assert single.data[0].error_y.arrayminus == pytest.approx((0.1, 0.1))
    with pytest.raises(InputError, match=r"intervals of shapes \(2,\) and \(2,\): expected \(2, 2\)"):
        draw(BY_KIND, "By kind", y="MRR@10", intervals=([0.4, 0.1], [0.7, 0.3]))


def test_a_line_has_a_tick_at_every_value_of_a_logarithmic_axis():
    curves = pd.DataFrame({"<naive>": [0.1, 0.2], "dense": [0.3, 0.4]}, index=[500, 2000])
    figure = line_chart(curves, "Recall grows", x="tokens", y="recall", log_x=True)
    assert [line.name for line in figure.data] == ["&lt;naive&gt;", "dense"]
    assert figure.data[1].line.color is None
    assert figure.data[1].marker.color == color_of("dense")
    assert (figure.layout.xaxis.type, figure.layout.xaxis.tickvals) == ("log", (500, 2000))
    assert figure.layout.xaxis.ticktext == ("500", "2,000")
    assert line_chart({1: 0.5, 2: 0.6}, "One", y="share").data[0].marker.color == BLUE


def test_heat_maps_have_one_colour_scale_and_leave_out_what_is_no_number():
    table = pd.DataFrame([[1.0, 0.5], [np.nan, 2.0]], index=["1", "2-10"], columns=["a", "b"])
    figure = heat_maps({"<rrf>": table, "sum": table / 4}, "RRF keeps less", x="by vectors", y="by words")
    first, second = figure.data
    assert (first.x, first.y) == (("a", "b"), ("1", "2-10"))
    assert first.text.tolist() == [["1", "0.5"], ["", "2"]]
    assert second.z.tolist()[1][1] == 0.5
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 2)
    assert [note.text for note in figure.layout.annotations] == ["&lt;rrf&gt;", "sum"]
    assert (figure.layout.title.text, figure.layout.yaxis.title.text) == ("RRF keeps less", "by words")
    assert figure.layout.yaxis.autorange == "reversed"
    words = heat_maps({"rrf": table}, "One", x="", y="", texts={"rrf": table.map("{} of 2".format)})
    assert words.data[0].text.tolist() == [["1.0 of 2", "0.5 of 2"], ["", "2.0 of 2"]]
    assert not words.layout.annotations
    with pytest.raises(InputError, match="no table"):
        heat_maps({}, "None", x="", y="")

"""The dashboard: its numbers, and that it can be drawn from whatever a log may hold."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from frames import START, queries

from ragkit.base import Answer, Chunk, Hit
from ragkit.pipeline.trace import Stage, Trace
from ragkit.production.alerts import check, load_alerts
from ragkit.production.dashboard import dashboard, shown, summary
from ragkit.production.monitoring import TraceMonitor


@pytest.fixture
def log() -> pd.DataFrame:
    return queries(
        200,
        question=["How?"] * 50 + [" how "] * 30 + [f"Why {i}?" for i in range(120)],
        rerank_ms=[20.0] * 180 + [300.0] * 20,
        ms=[60.0] * 180 + [340.0] * 20,
        abstained=[False] * 150 + [True] * 50,
        error=[""] * 190 + ["EndpointError: down"] * 10,
        cache=["miss", "hit"] * 100,
        cost=[0.5] * 100 + [np.nan] * 100,
    )


def texts(figure) -> str:
    return json.dumps(figure.to_dict(), default=str)


def test_summary_has_the_figures(log):
    table = summary(log)
    assert table.loc[["p50 rerank", "p95 rerank", "p95 total"], "value"].tolist() == [20, 300, 340]
    assert (table.loc["p95 rerank", "low"], table.loc["p95 rerank", "queries"]) == (300, 200)
    assert table.loc["abstentions", ["value", "queries"]].tolist() == [40 / 190, 190]
    assert table.loc["abstentions", "low"] < 40 / 190 < table.loc["abstentions", "high"]
    assert table.loc["errors", "value"] == 0.05
    assert table.loc["cache misses", "value"] == 0.5
    assert table.loc["distinct questions", "value"] == 121
    assert table.loc["cost", ["value", "queries"]].tolist() == [50, 100]
    assert "p50 cache" not in table.index


def test_a_mean_hides_what_the_95th_percentile_shows(log):
    assert log["rerank_ms"].mean() < 50 < summary(log).loc["p95 rerank", "value"]


def test_lists(log):
    most, times, slow, ms, silent, _ = dashboard(log).data[-1].cells["values"]
    assert (most[0], times[0], len(most)) == ("How?", "80", 6)
    assert (slow[0], ms[0]) == ("Why 100?", "340")
    assert silent == [f"Why {i}?" for i in range(70, 76)]


def test_the_figure_shows_every_stage_that_ran(log):
    figure = dashboard(log)
    p50, p95 = figure.data[0], figure.data[1]
    assert list(p95.x) == ["rewrite", "retrieve", "rerank", "build", "generate", "total"]
    assert p95.y[2] == 300 > p50.y[2] == 20
    assert list(figure.data[2].y) == [0, 100, 100, 0, 0]
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert figure.layout.width is None
    axes = [figure.layout[f"{axis}axis{n}"].title.text for axis in "xy" for n in ("", 2, 3, 4)]
    assert axes == ["stage", "cache", "time", "time", "milliseconds", "queries", "best score", "share of queries"]


def test_without_a_cache_the_second_panel_shows_the_time_by_slices(log):
    log["began"] = [START + pd.Timedelta(days=i / 8) for i in range(len(log))]
    figure = dashboard(log.assign(cache="off"))
    assert figure.data[2].y[-1] == 340 > figure.data[2].y[0] == 60
    assert list(figure.data[2].x) == list(figure.data[3].x)
    axes = [figure.layout[f"{axis}axis2"].title.text for axis in "xy"]
    assert axes == ["time", "milliseconds"]


def test_a_few_slices_have_a_tick_each(log):
    log["began"] = [START + pd.Timedelta(days=i / 8) for i in range(len(log))]
    figure = dashboard(log)
    assert list(figure.layout.xaxis4.tickvals) == list(figure.data[3].x)
    assert figure.layout.xaxis2.tickvals is None


def test_no_figure_holds_an_array_that_a_live_figure_could_not_compare(log):
    """A ``FigureWidget`` compares old values with new ones by ``==``."""
    for trace in dashboard(log).to_dict()["data"]:
        bars = trace.get("error_y", {})
        values = [trace.get("y"), trace.get("q1"), bars.get("array"), bars.get("arrayminus")]
        assert not any(isinstance(value, np.ndarray) for value in values)


def test_time_is_cut_into_few_slices(log):
    for minutes in (0.01, 1, 60, 24 * 60, 7 * 24 * 60):
        log["began"] = [START + pd.Timedelta(minutes=minutes * i) for i in range(len(log))]
        assert 1 <= len(dashboard(log).data[3].x) <= 24 + 1


@pytest.mark.parametrize(
    "frame",
    [
        queries(),
        queries(1),
        queries(1, top_score=np.nan, error="EndpointError: down", generate_ms=np.nan),
        queries(3, ms=np.nan, retrieve_ms=np.nan, rerank_ms=np.nan),
        queries(40, question=[f"{i:064x}" for i in range(40)]),
    ],
    ids=["empty", "one", "failed", "no times", "digests"],
)
def test_whatever_a_log_holds_it_is_drawn(frame):
    figure = dashboard(frame)
    assert figure.layout.height > 500
    assert figure.data[-1].type == "table"
    assert f"{len(frame)} queries" in texts(figure)
    assert len(summary(frame)) >= 1


@pytest.mark.parametrize("text", ["redacted", "none"])
def test_what_a_monitor_kept_is_drawn_and_judged(tmp_path, text):
    with TraceMonitor(tmp_path / "traces.db", text=text) as monitor:
        assert "0 queries" in texts(monitor.dashboard())
        for i in range(40):
            answer = Answer("Where?", "", hits=(Hit(Chunk("a", 0, 9, "some text"), 0.5),), abstained=i < 30)
            stages = (Stage("retrieve", 0, 10.0 + i),)
            monitor.record(Trace(f"{i + 1:032x}", "Where?", 10, 60.0 * i, 12.0 + i, stages, answer))
        figure, frame = monitor.dashboard(), monitor.dataframe()
    assert figure.data[1].x == ("retrieve", "total")
    assert ("Where?" in texts(figure)) == (text != "none")
    assert summary(frame).loc["p50 retrieve", "value"] == 29.5
    assert [alert.rule.name for alert in check(load_alerts(), frame)] == ["abstaining"]


def test_text_of_users_is_shown_and_not_obeyed():
    bad = "<a href='javascript:alert(1)'>x</a> <script>alert(1)</script> $\\alpha$ & more"
    figure = dashboard(queries(3, question=bad, abstained=True))
    assert "<a href" not in texts(figure)
    assert "<script" not in texts(figure)
    assert "$" not in shown(bad)
    assert shown(bad).startswith("&lt;a href='javascript")


def test_a_long_question_is_cut_to_one_line():
    assert len(shown("word\n" * 100)) <= 56
    assert shown("word " * 100).endswith("…")

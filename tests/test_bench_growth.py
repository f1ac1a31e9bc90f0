"""The growth bench counts, draws, filters and resumes as it says; its page and its plan are what they are made from."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace

import cluster_plan
import numpy as np
import pytest
import render_growth
from bench import bench_growth as bench
from cluster_plan import Assumptions, plan

from ragkit.base import InputError


@pytest.fixture(scope="module")
def real():
    """600 unit vectors near a space of 8 dimensions, and 20 queries among them."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((620, 8)) @ rng.standard_normal((8, bench.DIMENSION))
    vectors += 0.1 * rng.standard_normal(vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors[:600], vectors[600:]


@pytest.fixture(scope="module")
def drawn(real):
    return bench.draw(real[0], 2500)


def test_drawn_vectors_are_new_unit_vectors_and_a_larger_draw_begins_with_a_smaller(real, drawn):
    assert np.linalg.norm(drawn, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(bench.draw(real[0], 700), drawn[:700])
    assert not np.array_equal(bench.draw(real[0], 700, seed=1), drawn[:700])
    nearest, _ = bench.flat(real[0]).search(drawn, 1)
    assert nearest.max() < 0.9999, "a copy is no draw"


def test_a_drawn_set_lies_as_densely_as_the_real_one(real):
    apart = []
    for vectors in (real[0], bench.draw(real[0], len(real[0]))):
        scores, _ = bench.flat(vectors).search(vectors, 11)
        apart.append(np.median(np.sqrt(2 - 2 * scores[:, 10])))
    assert apart[1] == pytest.approx(apart[0], rel=0.15)


def test_true_neighbours_are_those_of_a_sort_under_each_filter(real, drawn):
    vectors, queries = drawn, real[1]
    numbers, truth = bench.buckets(len(vectors)), bench.true_neighbours(vectors, queries)
    for percent, nearest in truth.items():
        scores = queries @ vectors.T
        scores[:, numbers >= percent] = -2
        assert bench.recall(np.argsort(-scores, axis=1)[:, : bench.K].tolist(), nearest) > 0.99
    assert np.mean(numbers < 10) == pytest.approx(0.1, abs=0.02)


def test_filtering_after_the_search_keeps_what_passes_and_no_more():
    numbers = bench.buckets(100)
    for percent in (1, 10, 100):
        (left,) = bench.post_filtered(np.arange(100)[None], percent)
        assert left == np.flatnonzero(numbers < percent)[: bench.K].tolist()


@pytest.mark.parametrize("name", ["flat", "int8", "hnsw", "qdrant", "pg_hnsw"])
def test_an_engine_is_built_weighed_and_searched_under_each_filter(name, real, drawn):
    if name == "qdrant":
        pytest.importorskip("qdrant_edge")  # of the extra "scale", which no set-up installs
    truth = bench.true_neighbours(drawn, real[1])
    row = bench.measure(name, drawn, real[1], truth, setting=200)
    assert row["bytes"] > drawn.nbytes / 5
    assert row["100"]["queries"] == len(real[1])
    for percent in bench.FILTERS:
        if (name, percent) != ("hnsw", 1):  # which finds few: what the page shows
            assert row[str(percent)]["recall"] > 0.9, percent


def test_the_fastest_setting_that_is_good_enough_is_chosen(real, drawn, monkeypatch):
    truth = bench.true_neighbours(drawn, real[1])
    monkeypatch.setitem(bench.SETTINGS, "hnsw", (1, 100, 200))
    row = bench.measure("hnsw", drawn, real[1], truth)
    assert row["setting"] == 100
    assert list(row["recalls"]) == ["1", "100"]
    monkeypatch.setattr(bench, "RECALL", 2.0)  # which none reaches: the first that is nearly the best
    row = bench.measure("hnsw", drawn, real[1], truth)
    assert row["setting"] == 100
    assert list(row["recalls"]) == ["1", "100", "200"]


def test_what_is_measured_is_not_measured_again_and_a_long_build_is_not_begun(tmp_path, monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command[4:])
        return type("Done", (), {"stdout": b'a warning\n{"build cpu": 1000.0}\n'})

    monkeypatch.setattr(bench.subprocess, "run", run)
    keys = [("drawn", "hnsw", "100000"), ("drawn", "hnsw", "1000000")]
    bench.measure_missing(bench.open_rows(tmp_path), tmp_path, keys, seconds=0)
    assert commands == []
    bench.measure_missing(bench.open_rows(tmp_path), tmp_path, keys)
    rows = bench.open_rows(tmp_path)
    assert commands == [list(keys[0])]
    assert rows.rows[keys[0]]["build cpu"] == 1000
    assert "12,000 s" in rows.rows[keys[1]]["stopped"]
    bench.measure_missing(rows, tmp_path, keys)
    assert len(commands) == 1


def test_rows_of_another_drawing_are_refused(tmp_path, monkeypatch):
    bench.open_rows(tmp_path)
    monkeypatch.setattr(bench, "SPREAD", 0.7)
    with pytest.raises(InputError, match="delete it"):
        bench.open_rows(tmp_path)


def test_the_page_shows_what_was_measured():
    text = render_growth.PAGE.read_text()
    assert text == render_growth.page(text, render_growth.load())
    assert len(render_growth.page("<!-- table: limits -->\n<!-- end -->", render_growth.load()).splitlines()) > 8


def test_an_engine_is_right_up_to_the_size_before_it_breaks_a_rule():
    def row(cpu: float, recall: float = 1.0) -> dict:
        search = {"cpu": cpu, "recall": 1.0}
        return {"build cpu": 1.0, "bytes": 1e6, "100": search, "10": search, "1": search | {"recall": recall}}

    rows = {("drawn", "flat", str(n)): row(n / 1000) for n in bench.SIZES}
    rows[("drawn", "hnsw", "10000")] = row(1, recall=0.5)
    rows[("drawn", "hnsw", "30000")] = {"stopped": "too long"}
    lines = render_growth.limits(rows).splitlines()
    assert lines[2].startswith("| FAISS flat | 100,000 |")
    assert lines[2].endswith("| 30,000 | 30,000 |")
    hnsw = next(line for line in lines if line.startswith("| FAISS HNSW"))
    assert hnsw.endswith("| 10,000 | never |")


def test_the_plan_grows_as_it_should():
    base = plan(Assumptions())
    assert base.vectors_gb == pytest.approx(153.6)
    assert base.searched_gb == pytest.approx(38.4)
    assert base.links_gb == pytest.approx(12.8)
    full = plan(replace(Assumptions(), in_memory="float32"))
    assert full.memory_gb == pytest.approx(full.rule_of_thumb_gb, rel=0.1), "the rule of thumb is the sum, about"
    double = plan(replace(Assumptions(), chunks=200_000_000))
    assert double.memory_gb == pytest.approx(2 * base.memory_gb)
    assert double.encode_usd == pytest.approx(2 * base.encode_usd)
    assert double.nodes >= base.nodes >= 3
    assert base.shards == 2 * base.nodes


def test_the_examples_are_true():
    for module in (bench, cluster_plan, render_growth):
        assert doctest.testmod(module).failed == 0


def test_the_bench_reports_what_its_rows_hold():
    rows = render_growth.load()
    reported = {name: value for name, value, _, _ in bench.report(rows)}
    row = rows[("drawn", "flat", "10000")]
    assert reported["10,000 chunks, FAISS flat: recall@10"] == row["100"]["recall"] == 1
    assert json.loads((render_growth.RESULTS / "growth.json").read_text())["rows"][0]["name"] in reported

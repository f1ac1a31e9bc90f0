"""``RESULTS.md`` says what ``results/*.json`` says, and each result belongs to a bench that is there."""

from __future__ import annotations

import doctest
import json

import render_results
import run_bench

from ragkit.notebook import report


def test_the_page_is_rendered_from_the_results():
    assert (run_bench.ROOT / "RESULTS.md").read_text() == render_results.page()


def test_each_result_names_its_command_and_its_bench_is_there():
    for path in run_bench.RESULTS.glob("*.json"):
        result = json.loads(path.read_text())
        assert result["command"] == f"make bench BENCH={path.stem}"
        assert (run_bench.BENCHES / f"bench_{path.stem}.py").is_file()
        assert result.keys() == {"about", "date", "machine", "command", "rows"}


def test_what_was_not_measured_is_a_command_without_a_target():
    for path in run_bench.RESULTS.glob("*.json"):
        for row in json.loads(path.read_text())["rows"]:
            if not isinstance(row["value"], int | float):
                assert f"make bench BENCH={path.stem}" in row["value"], row
                assert not row["target"], row


def test_the_report_tells_how_well_drafted_questions_rank_pipelines():
    rows = {row["name"]: row["value"] for row in json.loads((run_bench.RESULTS / "draft.json").read_text())["rows"]}
    for corpus in ("core", "extended"):
        value = rows[f"{corpus}: rank correlation of drafts with faq, 15 pipelines"]
        assert f"{value:.3f}".replace("0.", ".") in report._DRAFTED


def test_the_examples_are_true():
    for module in (run_bench, render_results):
        assert doctest.testmod(module).failed == 0

"""The gate closes for a real loss, hardly ever for chance, and its file is read again or refused."""

from __future__ import annotations

import numpy as np
import pytest

from ragkit.base import InputError
from ragkit.evaluation.statistics import questions_needed
from ragkit.workbench.gate import Scores, check


def scores(values, metric: str = "coverage@2000", start: int = 0) -> Scores:
    texts = [f"q{start + i}" for i in range(len(values))]
    return Scores(metric, "2026-01-01", dict(zip(texts, map(float, values), strict=True)), {t: t for t in texts})


def test_a_loss_closes_the_gate_and_names_the_questions_that_lost():
    before = np.full(40, 0.8)
    after = before.copy()
    after[:20] = 0.1
    gate = check(scores(after), scores(before))
    assert not gate.passed
    assert gate.change == pytest.approx(-0.35)
    assert "worse: the interval leaves out 0" in str(gate)
    assert str(gate).count("  -0.700  q") == 5


def test_a_gain_and_no_change_pass():
    for change in (0.0, 0.1):
        gate = check(scores(np.full(30, 0.5 + change)), scores(np.full(30, 0.5)))
        assert gate.passed
        assert "would decide" not in str(gate)


def test_chance_closes_the_gate_at_most_as_often_as_it_says():
    rng = np.random.default_rng(0)
    closed = [
        not check(scores(rng.random(40)), scores(rng.random(40))).passed for _ in range(200)
    ]  # 2.5 % of them would be worse by chance
    assert sum(closed) <= 12


def test_a_small_loss_says_how_many_questions_would_decide():
    rng = np.random.default_rng(1)
    before = rng.random(20)
    gate = check(scores(np.clip(before + rng.normal(-0.03, 0.3, 20), 0, 1)), scores(before))
    assert gate.passed
    assert gate.change < 0
    needed = questions_needed(20, gate.detectable, gate.change)
    assert needed > 20
    assert f"about {needed:,} questions would decide" in str(gate)


def test_questions_of_one_day_only_are_named_and_not_compared():
    gate = check(scores([0.5] * 5, start=2), scores([0.5] * 5))
    assert (gate.count, gate.new, gate.gone) == (3, ("q5", "q6"), ("q0", "q1"))
    with pytest.raises(InputError, match="0 questions are in both"):
        check(scores([0.5] * 2, start=9), scores([0.5] * 5))


def test_a_document_of_which_nothing_is_found_any_more_is_named():
    texts = {f"q{i}": "travel" if i < 3 else f"page{i}" for i in range(12)}
    before = Scores("coverage@2000", "2026-01-01", dict.fromkeys(texts, 0.8), texts)
    after = Scores("coverage@2000", "2026-01-02", {t: 0.0 if d == "travel" else 0.8 for t, d in texts.items()}, texts)
    gate = check(after, before)
    assert gate.lost == ("travel",)
    assert "nothing is found any more of: travel" in str(gate)
    same = check(before, before)
    assert same.lost == ()
    assert str(same).endswith("\nno detectable loss")


def test_another_metric_is_refused():
    with pytest.raises(InputError, match=r"the baseline has mrr@10, and now it is coverage@2000"):
        check(scores([0.1] * 3), scores([0.1] * 3, "mrr@10"))


def test_what_was_saved_is_read_again(tmp_path):
    saved = scores([0.25, 1.0])
    saved.save(tmp_path / "baseline.json")
    assert Scores.load(tmp_path / "baseline.json") == saved
    (tmp_path / "broken.json").write_text('{"metric": 1}')
    for name, reason in (("broken.json", "Field required|valid string"), ("nowhere.json", "No such file")):
        with pytest.raises(InputError, match=rf"{name}: cannot be read \(.*({reason}).*ragkit check --save"):
            Scores.load(tmp_path / name)

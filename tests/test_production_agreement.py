"""Agreement of thumbs with scorers, against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as metrics
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import InputError
from ragkit.production.agreement import agreement, cohen_kappa
from ragkit.production.opinions import Feedback

judgements = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(judgements)
def test_kappa_is_that_of_scikit_learn(pairs):
    one, other = zip(*pairs, strict=True)
    if len({*one, *other}) == 1:
        assert math.isnan(cohen_kappa(one, other))
    else:
        assert cohen_kappa(one, other) == pytest.approx(metrics.cohen_kappa_score(one, other), abs=1e-12)


def opinions(n: int, right: float, seed: int = 0) -> tuple[list[Feedback], dict[str, float]]:
    """``n`` opinions on as many questions, and a scorer that sees the truth in a share ``right`` of them."""
    generator = np.random.default_rng(seed)
    up = generator.random(n) < 0.5
    said = [Feedback(i, 0.0, str(i), 1 if u else -1, question=f"q{i}?") for i, u in enumerate(up)]
    seen = np.where(generator.random(n) < right, up, ~up)
    return said, {str(i): 0.2 + 0.6 * s for i, s in enumerate(seen)}


def test_a_scorer_that_agrees_one_that_does_not_and_one_that_contradicts():
    said, good = opinions(200, 0.9)
    _, none = opinions(200, 0.5)
    table = agreement(said, {"good": good, "none": none, "bad": {i: 1 - s for i, s in good.items()}})
    assert table["verdict"].to_dict() == {"good": "agrees", "none": "no detectable agreement", "bad": "contradicts"}
    up = [f.thumb > 0 for f in said]
    assert table.loc["good", "auroc"] == pytest.approx(metrics.roc_auc_score(up, [good[f.trace_id] for f in said]))
    assert table.loc["good", "low"] < table.loc["good", "auroc"] < table.loc["good", "high"]
    assert table.loc["good", "kappa_low"] < table.loc["good", "kappa"] < table.loc["good", "kappa_high"]


def test_opinions_on_one_question_are_not_independent():
    said, scores = opinions(40, 0.8)
    many = [Feedback(i, 0.0, f.trace_id, f.thumb, question=f.question) for i, f in enumerate(said * 10)]
    once, often = agreement(said, {"s": scores}), agreement(many, {"s": scores})
    assert often.loc["s", "low"] == pytest.approx(once.loc["s", "low"], abs=0.02)
    assert often.loc["s", "kappa_low"] == pytest.approx(once.loc["s", "kappa_low"], abs=0.02)


def test_answers_without_a_score_are_left_out_and_counted():
    said, scores = opinions(50, 0.9)
    scores["0"] = float("nan")
    del scores["1"]
    assert agreement(said, {"s": scores}).loc["s", "n"] == 48


def test_a_threshold_of_its_own():
    said, scores = opinions(100, 1.0)
    table = agreement(said, {"a": scores, "b": scores}, {"b": 0.9})
    assert table.loc["a", "kappa"] == 1.0
    assert table.loc["b", "kappa"] == 0.0


def test_bad_input_is_refused():
    said, scores = opinions(10, 1.0)
    with pytest.raises(InputError, match="no scorer"):
        agreement(said, {})
    with pytest.raises(InputError, match="expected some of both"):
        agreement([f for f in said if f.thumb > 0], {"s": scores})
    with pytest.raises(InputError, match="as many of both"):
        cohen_kappa([True], [])

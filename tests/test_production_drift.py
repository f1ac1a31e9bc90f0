"""Drift: two windows compared, and the watch that looks at every query."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from frames import queries
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ragkit.base import InputError
from ragkit.production.drift import (
    SLOPES,
    WINDOW,
    conformal_p_values,
    detect_change,
    drift,
    drift_contributions,
    first_in_window,
    simple_jumper,
)


def asked(numbers, score_of, **columns) -> pd.DataFrame:
    """Queries of questions by number; each question has its one score and its best passage, as with one index."""
    texts = [f"What is number {number}?" for number in numbers]
    columns = {"hits": [(f"d{number}#0-9",) for number in numbers]} | columns
    return queries(len(texts), question=texts, top_score=[score_of[number] for number in numbers], **columns)


@pytest.fixture
def score_of() -> np.ndarray:
    return np.random.default_rng(7).normal(0.65, 0.1, 2000)


# ---- two windows


def test_a_clear_drift_is_found_with_its_interval(score_of):
    before, now = asked(range(200), score_of), asked(range(200, 300), score_of - 0.1)
    found = drift(before, now)
    assert (found.verdict, found.found) == ("lower", True)
    assert found.difference == pytest.approx(now["top_score"].mean() - before["top_score"].mean())
    assert found.low < found.difference < found.high < 0
    assert (found.queries, found.questions) == ((200, 100), (200, 100))
    assert drift(now, before).verdict == "higher"
    assert "lower; 0.6" in repr(found)


def test_the_same_window_twice_does_not_differ(score_of):
    frame = asked([*range(50)] * 4, score_of)
    found = drift(frame, frame)
    assert (found.difference, found.p, found.verdict) == (0, 1, "no detectable difference")


def test_independent_queries_give_welchs_answer(score_of):
    before, now = asked(range(300), score_of), asked(range(300, 500), score_of - 0.02)
    found, welch = drift(before, now), stats.ttest_ind(now["top_score"], before["top_score"], equal_var=False)
    low, high = welch.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low, abs=0.002), pytest.approx(high, abs=0.002))
    assert found.p == pytest.approx(welch.pvalue, abs=0.02)


def test_one_question_that_became_popular_is_no_drift_though_every_naive_test_fires(score_of):
    score_of[0] = 0.3
    before, now = asked(range(200), score_of), asked([*range(200), *[0] * 100], score_of)
    found = drift(before, now)
    assert stats.ks_2samp(before["top_score"], now["top_score"]).pvalue < 0.001
    assert stats.ttest_ind(before["top_score"], now["top_score"]).pvalue < 0.001
    assert found.difference < -0.05
    assert found.verdict == "no detectable difference"


def test_twenty_wordings_of_one_popular_question_are_one_question(score_of):
    score_of[1000:1020] = 0.3
    crowd = [*range(1000, 1020)] * 5
    one = [("d7#0-9",)] * len(crowd)
    passages = [(f"d{i}#0-9",) for i in range(200)]
    before = asked(range(200), score_of)
    viral = asked([*range(200), *crowd], score_of, hits=passages + one)
    assert drift(before, viral).verdict == "no detectable difference"
    assert drift(before, viral.assign(hits=[()] * len(viral))).verdict == "lower"


def test_a_wording_stays_what_it_was_where_the_index_changed(score_of):
    """All old questions find one new page, and a little better: still as many pieces of evidence as questions."""
    before = asked(range(100), score_of)
    now = asked(range(100), score_of + 0.1, hits=[("new#0-9",)] * 100)
    assert drift(before, now).verdict == "higher"


def test_a_long_session_is_no_drift(score_of):
    ids = [f"s{i}" for i in range(200)] + ["long"] * 60
    now = asked(range(200, 460), np.where(np.arange(2000) < 400, score_of, 0.4), session=ids)
    found = drift(asked(range(200), score_of), now)
    assert stats.ks_2samp(score_of[:200], now["top_score"]).pvalue < 0.001
    assert found.verdict == "no detectable difference"


def test_false_alarms_are_as_rare_as_promised_where_popularity_changes(score_of):
    naive, ours = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        windows = []
        for _ in range(2):  # the same 150 questions, another order of popularity
            weights = rng.permutation(np.arange(1.0, 151.0)) ** -0.8
            windows.append(asked(rng.choice(150, 300, p=weights / weights.sum()), score_of))
        naive.append(stats.ks_2samp(*(w["top_score"] for w in windows)).pvalue < 0.05)
        ours.append(drift(*windows, resamples=199).found)
    assert np.mean(naive) > 0.5
    assert np.mean(ours) <= 0.1


def test_rates_of_abstention_are_compared_too_and_failures_left_out():
    before = queries(200, abstained=[True] * 10 + [False] * 190)
    now = queries(200, abstained=[True] * 60 + [False] * 140, error=["X: y"] * 20 + [""] * 180)
    now["question"] += "!!"
    found = drift(before, now, "abstained")
    assert (found.before, found.after) == (0.05, pytest.approx(40 / 180))
    assert found.verdict == "higher"
    assert found.queries == (200, 180)


def test_movers_sum_to_the_difference_and_name_the_questions(score_of):
    before, now = asked([1, 1, 2, 3], score_of), asked([2, 4, 4, 4], score_of * 0.5)
    table = drift_contributions(before, now, limit=None)
    assert table["part"].sum() == pytest.approx(drift(before, now).difference)
    rows = table.set_index("question")
    assert rows.loc["What is number 4?", ["asked_before", "asked_now"]].tolist() == [0, 3]
    assert np.isnan(rows.loc["What is number 4?", "before"])
    assert rows.loc["What is number 2?", "before"] == pytest.approx(2 * rows.loc["What is number 2?", "now"])
    assert table["part"].abs().is_monotonic_decreasing
    assert len(drift_contributions(before, now, limit=2)) == 2


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.floats(0, 1)), min_size=4, max_size=30),
    st.integers(2, 28),
    st.floats(-1, 1),
)
def test_parts_are_the_difference_of_the_means_wherever_the_scale_begins(rows, cut, shift):
    cut = min(cut, len(rows) - 2)
    frame = queries(len(rows), question=[q for q, _ in rows], top_score=[score for _, score in rows])
    before, now = frame.iloc[:cut], frame.iloc[cut:]
    parts = drift_contributions(before, now, limit=None).set_index("question")["part"]
    assert parts.sum() == pytest.approx(now["top_score"].mean() - before["top_score"].mean(), abs=1e-9)
    moved = (part.assign(top_score=part["top_score"] + shift) for part in (before, now))
    again = drift_contributions(*moved, limit=None).set_index("question")["part"]
    assert again[parts.index].tolist() == pytest.approx(parts.tolist(), abs=1e-9)


def test_a_window_without_values_is_refused():
    with pytest.raises(InputError, match="0 of now have a value of 'top_score'"):
        drift(queries(5), queries(5, top_score=np.nan))


def test_one_query_is_no_window():
    with pytest.raises(InputError, match=r"1 queries of the reference.*expected 2 or more"):
        drift(queries(1, top_score=[0.2]), queries(5))


# ---- the watch


def test_the_watch_fires_soon_after_the_change_and_says_which_way(score_of):
    rng = np.random.default_rng(0)
    old, new = rng.permutation(1000), rng.permutation(np.arange(1000, 1400))
    log = asked([*old, *new], np.where(np.arange(2000) < 1000, score_of, score_of - 0.2))
    seen = detect_change(log.head(700), log.iloc[700:])
    assert seen.fired is not None
    assert 300 < seen.fired < 380
    assert 200 <= seen.began <= 320
    assert seen.lower
    assert repr(seen).startswith(f"ChangePoint(column='top_score', fired={seen.fired}, began={seen.began}")
    upside = log.assign(top_score=1.3 - log["top_score"])
    assert not detect_change(upside.head(700), upside.iloc[700:]).lower


def test_the_watch_sees_the_same_however_far_it_has_come(score_of):
    log = asked(np.random.default_rng(1).integers(0, 2000, 900), score_of)
    whole, part = detect_change(log.head(400), log.iloc[400:]), detect_change(log.head(400), log.iloc[400:600])
    assert whole.evidence[:200] == part.evidence
    assert len(whole.evidence) == 500


def test_the_watch_is_wrong_at_most_once_in_twenty(score_of):
    fired = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        weights = np.arange(1.0, 1001.0) ** -0.8
        log = asked(rng.choice(1000, 1200, p=weights / weights.sum()), score_of)
        fired.append(detect_change(log.head(400), log.iloc[400:]).fired is not None)
    assert np.mean(fired) <= 0.05 + 2 * (0.05 * 0.95 / 60) ** 0.5


def test_a_hundred_repetitions_of_a_bad_question_leave_the_watch_quiet(score_of):
    score_of[5] = 0.1
    log = asked([*range(600), *[5] * 300], score_of)
    assert detect_change(log.head(500), log.iloc[500:]).fired is None
    others = log.assign(question=[f"Question {i}" for i in range(len(log))])
    assert detect_change(others.head(500), others.iloc[500:]).fired is not None


@pytest.mark.parametrize("size", [0, 3, WINDOW])
def test_a_question_counts_again_after_a_while(size):
    questions = [*"abcabcaab"]
    places = first_in_window(questions, size)
    for i, question in enumerate(questions):
        last = max((p for p in places if p < i and questions[p] == question), default=None)
        assert (i in places) == (last is None or i - last > size)


def test_conformal_p_values_are_uniform_where_nothing_changes_even_with_ties():
    import random

    values = np.random.default_rng(0).integers(0, 3, 3000)
    assert stats.kstest(list(conformal_p_values(values, random.Random(0))), "uniform").pvalue > 0.01


def test_the_game_is_fair():
    # The mean over all ways in which places can fall is the capital at the beginning, after every step.
    grid = (np.arange(10) + 0.5) / 10
    paths = np.array([list(simple_jumper(places)) for places in itertools.product(grid, repeat=3)])
    assert paths.mean(axis=0) == pytest.approx([1, 1, 1])
    assert max(abs(s) for s in SLOPES) <= 2  # else the capital could fall below 0


def test_a_watch_over_nothing_is_quiet(score_of):
    seen = detect_change(asked(range(200), score_of), queries())
    assert (seen.fired, seen.evidence) == (None, ())


@pytest.mark.parametrize(
    ("reference", "words"),
    [(queries(10), "has 10 queries"), (queries(200, question="the same"), "fresh: expected 30 or more")],
)
def test_a_watch_that_cannot_be_is_refused(reference, words):
    with pytest.raises(InputError, match=words):
        detect_change(reference, queries(10))

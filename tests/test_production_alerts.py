"""Alert rules: what fires, what rightly does not, and what a wrong file is told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from frames import START, queries
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ragkit.base import InputError
from ragkit.production.alerts import Rule, check, history, load_alerts, quantile, rate

FAILING = Rule(name="failing", metric="errors", above=0.02)


def failed(n: int, wrong: int) -> pd.DataFrame:
    return queries(n, error=["EndpointError: down"] * wrong + [""] * (n - wrong))


# ---- what fires


def test_an_error_rate_fires_once_its_interval_leaves_out_the_limit():
    (alert,) = check([FAILING], failed(100, 10))
    assert alert.measured.value == 0.1
    assert alert.rule.above == 0.02 < alert.measured.low < 0.1 < alert.measured.high
    assert len(alert.measured.each) == 100
    assert alert.since == START
    assert alert.trace_ids == ("t9", "t8", "t7", "t6", "t5")
    assert str(alert).startswith(
        "failing: errors 0.1 [0.0552, 0.174] is above 0.02 (100 queries, since 2026-01-05 00:00)"
    )


def test_one_error_of_three_is_no_alarm():
    assert check([FAILING], failed(3, 1)) == []
    assert check([Rule(name="failing", metric="errors", above=0.02, least=1)], failed(3, 1)) != []  # .33 [.06, .79]
    assert check([Rule(name="failing", metric="errors", above=0.1, least=1)], failed(3, 1)) == []


def test_a_rate_at_its_limit_is_no_alarm():
    assert check([Rule(name="failing", metric="errors", above=0.1)], failed(100, 10)) == []


def test_the_window_is_of_queries():
    old = failed(300, 30)  # all errors are among the first 30
    assert check([FAILING], old) == []
    assert check([Rule(name="failing", metric="errors", above=0.02, queries=300)], old) != []


def test_abstentions_are_counted_among_the_queries_that_were_answered():
    frame = queries(100, abstained=[True] * 40 + [False] * 60, error=[""] * 50 + ["X: y"] * 50)
    (alert,) = check([Rule(name="quiet", metric="abstentions", above=0.3)], frame)
    assert (alert.measured.value, len(alert.measured.each)) == (0.8, 50)


def test_cache_misses_are_counted_where_there_is_a_cache():
    frame = queries(100, cache=["hit", "miss", "miss", "miss"] * 25)
    (alert,) = check([Rule(name="cold", metric="cache misses", above=0.5)], frame)
    assert (alert.measured.value, alert.trace_ids[0]) == (0.75, "t99")
    assert check([Rule(name="cold", metric="cache misses", above=0.7)], frame) == []
    assert check([Rule(name="cold", metric="cache misses", above=0.5)], queries(100)) == []  # there is no cache


def test_the_95th_percentile_of_one_stage():
    frame = queries(200, rerank_ms=[20.0] * 160 + [400.0] * 39 + [500.0])
    (alert,) = check([Rule(name="slow", metric="latency", above=250, stage="rerank")], frame)
    assert (alert.measured.value, alert.trace_ids[0]) == (400, "t199")
    assert alert.since == START + pd.Timedelta(minutes=160)
    assert check([Rule(name="slow", metric="latency", above=250)], frame) == []
    assert check([Rule(name="slow", metric="latency", above=0, stage="cache")], frame) == []  # it never ran


def test_a_few_slow_queries_are_no_alarm_about_the_95th_percentile():
    assert check([Rule(name="slow", metric="latency", above=250)], queries(40, ms=[60.0] * 37 + [900.0] * 3)) == []


def test_what_a_day_costs():
    frame = queries(100, cost=[np.nan] * 50 + [0.5] * 49 + [1.0])
    (alert,) = check([Rule(name="dear", metric="cost a day", above=10)], frame)
    assert (alert.measured.value, alert.measured.low, alert.measured.high, alert.trace_ids[0]) == (
        25.5,
        25.5,
        25.5,
        "t99",
    )
    assert "[" not in str(alert)
    assert check([Rule(name="dear", metric="cost a day", above=10)], queries(100)) == []  # unknown is not dear
    (alert,) = check([Rule(name="dear", metric="cost a day", above=10)], queries(2000, cost=0.5))
    assert alert.measured.value == 24 * 60 * 0.5  # a query a minute, of the last day only


def test_twenty_dear_queries_are_an_alarm_a_sum_needs_no_least_number():
    (alert,) = check([Rule(name="dear", metric="cost a day", above=10)], queries(20, cost=50.0))
    assert (alert.measured.value, len(alert.measured.each)) == (1000, 20)


def test_a_table_with_repeated_row_numbers_is_judged_as_any_other():
    """As ``pandas.concat`` makes it."""
    ids = [f"t{i}" for i in range(90)]
    frame = pd.concat([failed(3, 1)] * 30).assign(trace_id=ids)
    (alert,) = check([FAILING], frame)
    assert (len(alert.measured.each), alert.trace_ids[:2]) == (90, ("t87", "t84"))


# ---- when


def test_an_alert_speaks_once_and_again_after_its_silence():
    frame = failed(2000, 2000)  # 33 hours
    told = history([FAILING], frame, every=100)
    assert [alert.at for alert in told] == [START + pd.Timedelta(minutes=m) for m in (99, 1599)]
    assert check([FAILING], frame, previous=told) == []
    assert check([Rule(name="another", metric="errors", above=0.02)], frame, previous=told) != []


def test_what_came_later_does_not_silence():
    frame = failed(100, 100)
    later = check([FAILING], failed(200, 200))
    assert check([FAILING], frame, previous=later) != []


def test_an_empty_log_and_one_query_are_no_alarm():
    rules = load_alerts()
    assert check(rules, queries()) == check(rules, queries(1)) == history(rules, queries(1)) == []


# ---- what is measured


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200), st.sampled_from([0.05, 0.5, 0.95]))
def test_a_quantile_lies_in_its_interval_which_may_have_no_end(values, q):
    measured = quantile(pd.Series([*values, np.nan], dtype=float), q)
    assert measured is not None
    assert measured.low <= np.quantile(values, q, method="inverted_cdf") <= measured.high
    assert len(measured.each) == len(values)
    assert len(values) >= 30 or q != 0.95 or measured.high == np.inf


@pytest.mark.parametrize(("n", "q"), [(30, 0.5), (200, 0.95)])
def test_the_interval_of_a_quantile_covers(n, q):
    rng = np.random.default_rng(0)
    truth, measured = stats.norm.ppf(q), [quantile(pd.Series(rng.normal(size=n)), q) for _ in range(500)]
    assert 0.93 < np.mean([m is not None and m.low <= truth <= m.high for m in measured]) < 0.99


def test_of_nothing_there_is_no_value():
    empty = queries()
    assert [rate(empty, "errors"), rate(empty, "abstentions"), rate(empty, "cache misses")] == [None] * 3
    assert quantile(empty["ms"]) is None


# ---- the file


def test_the_default_rules_are_quiet_on_a_quiet_log_and_speak_on_a_bad_one():
    rules = load_alerts()
    rng = np.random.default_rng(1)
    quiet = queries(1500, top_score=rng.normal(0.65, 0.08, 1500), cache="hit")
    assert history(rules, quiet, every=300) == []
    bad = pd.concat([quiet, queries(300, top_score=0.3, cache="miss", abstained=True, ms=5e3, rerank_ms=4e3, cost=1.0)])
    bad["began"] = [START + pd.Timedelta(minutes=i) for i in range(len(bad))]
    bad["trace_id"] = [f"t{i}" for i in range(len(bad))]
    found = {alert.rule.name for alert in check(rules, bad)}
    assert found == {rule.name for rule in rules} - {"failing"}


def test_every_rule_has_a_message():
    assert all(rule.message.endswith(".") or rule.message.endswith("?") for rule in load_alerts())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[slow]\nmetric = "latency"\nabov = 5.0', r"\[slow\]: unknown 'abov', did you mean 'above'\?"),
        ('[slow]\nmetric = "latency"\nabove = -5.0', r"\[slow\], above = -5.0: expected greater than or equal to 0$"),
        ('[slow]\nmetric = "latencies"\nabove = 5.0', r"\[slow\], metric = 'latencies': expected 'latency'"),
        ('[slow]\nmetric = "latency"\nabove = "5"', r"\[slow\], above = '5': expected a number"),
        ('[slow]\nmetric = "latency"\nabove = -1', r"\[slow\], above = -1: .*greater than or equal to 0"),
        ('[slow]\nmetric = "latency"', r"\[slow\]: above is missing"),
        ("[slow]\nabove = 5.0", r"\[slow\]: metric is missing"),
        ('[slow]\nmetric = "errors"\nabove = 5.0', r"\[slow\], above = 5: expected a rate"),
        ('[s]\nmetric = "latency"\nabove = 1\nstage = "reranking"', "stage = 'reranking': .*'rerank'"),
        ('[s]\nmetric = "latency"\nabove = 1\nqueries = 10', r"\[s\], queries = 10: expected least \(30\)"),
        ('metric = "latency"', r"\[metric\] = 'latency': expected a table"),
        ("[s", "Expected ']'"),
    ],
)
def test_a_wrong_file_is_told_where_and_what(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as refused:
        load_alerts(path)
    assert str(refused.value).startswith(str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml"):
        load_alerts(tmp_path / "none.toml")

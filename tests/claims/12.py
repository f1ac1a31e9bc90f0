"""What the prose of notebook 12 promises."""

from itertools import pairwise

import numpy as np
import pandas as pd


def trace_holds_the_spans_and_hits(trace, spans, hits):
    """The three spans stand in the trace, in the same order, with the same hits, between two others."""
    assert [stage.name for stage in trace.stages] == ["rewrite", *spans, "generate"]
    assert all(b.start >= a.start + a.ms - 0.01 for a, b in pairwise(trace.stages))
    assert [chunk for chunk, _ in trace.hits] == [hit.chunk.id for hit in hits]


def mean_hides_the_tail(ms, mean):
    """Not a single query took anything like the mean: nine took a third of it, and one seven times as long."""
    assert mean == 126.9
    assert sum(round(mean / each) == 3 for each in ms) == 9
    assert round(max(ms) / mean) == 7


def median_agrees_and_p95_has_no_upper_end(ten, median):
    """The median agrees with yours, and the upper end of the interval of p95 is infinite."""
    assert ten.loc["p50 total", "value"] == median
    assert np.isinf(ten.loc["p95 total", "high"])


def rerank_is_most_of_the_total(seen):
    """It is most of the total. (By the medians: one stall of a busy machine moves a p95 of 31 queries.)"""
    assert seen.loc["p50 rerank", "value"] > seen.loc["p50 total", "value"] / 2


def four_hundred_candidates_for_ten_hits(slow):
    """400 candidates were reranked, for ten hits."""
    assert slow.candidates == 400
    assert len(slow.hits) == 10


def mended_is_faster(before, after):
    """Faster: an eighth of the candidates takes less than half of the time."""
    assert after["p50 rerank"] < before["p50 rerank"] / 2


def long_wait_bought_nothing(result):
    """The long wait bought nothing that we can measure."""
    assert result.table.loc["fetch 400", "verdict"] == "no detectable difference"


def week_3_is_lower_and_week_2_is_not(found):
    """The interval of week 2 includes 0; week 3 is lower, and the whole interval is below 0."""
    assert found[2].verdict == "no detectable difference"
    assert found[2].low < 0 < found[2].high
    assert found[3].verdict == "lower"
    assert found[3].high < 0


def parts_sum_to_the_difference(parts, found):
    """The parts of all questions sum to the difference exactly."""
    assert abs(parts["part"].sum() - found[3].difference) < 1e-9


def most_have_an_answer_now(silent, missed, sources):
    """About half of them have an answer now, and the best passages say which topic it was."""
    assert 0.3 < silent / len(missed) < 0.65
    assert sources.most_common(1)[0][0] == "scrapy"


def watch_fires_soon_after_the_change(seen, begins):
    """No alarm before the first question about scrapy, and one some two dozen queries later."""
    assert seen.fired is not None
    assert begins + 15 < seen.fired < begins + 35


def unanswered_fires_in_weeks_3_and_4(told):
    """It spoke once a week, in weeks 3 and 4, and not before."""
    monday = pd.Timestamp("2026-01-05", tz="UTC")
    assert [(alert.rule.name, (alert.at - monday).days // 7 + 1) for alert in told] == [
        ("unanswered", 3),
        ("unanswered", 4),
    ]


def only_ninety_fire(load_alerts, fires, rules, three, ninety):
    """After 1 error in 3 the rule is silent; after 30 in 90 it fires."""
    assert fires(load_alerts(rules), three) == []
    assert [alert.rule.name for alert in fires(load_alerts(rules), ninety)] == ["failing"]


def only_the_naive_test_is_certain(naive, careful):
    """The naive test is certain (p below 0.001); `drift` finds nothing."""
    assert naive < 0.001
    assert not careful.found


def naive_test_fires_on_popularity(wolf):
    """A naive test on a question log fires on popularity alone."""
    by_ks, by_drift = np.mean(wolf, axis=0)
    assert by_ks > 0.5
    assert by_drift <= 0.2


def question_without_an_answer_scores_higher(best):
    """The question without an answer scores higher, and so do such questions on the average."""
    assert max(best["unanswerable"]) > min(best["paraphrase"])
    assert np.mean(best["unanswerable"]) > np.mean(best["paraphrase"])


def redaction_takes_the_key_and_leaves_the_name(left, secret):
    """The key is gone, and the name of a person is still there; with text="none" no word is left."""
    assert "sk-proj" not in left["redacted"]
    assert "Jane Roe" in left["redacted"]
    assert not any(word in left["none"] for word in secret.split())

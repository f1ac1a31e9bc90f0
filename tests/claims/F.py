"""What the prose of appendix F promises."""

import numpy as np
import pytest


def bm25_is_better(result):
    """The keyword search is better on all questions, by about .072."""
    assert result.table.loc["bm25", "verdict"] == "better"
    assert result.table.loc["bm25", "diff"] == pytest.approx(0.072, abs=0.004)


def scipy_agrees(by_hand, in_scipy):
    """The interval of all draws by hand is that of scipy."""
    assert [in_scipy.low, in_scipy.high] == pytest.approx(by_hand)


def twenty_questions_mislead(draws):
    """Twenty questions often have the wrong system ahead, 360 hardly ever."""
    few, many = (np.mean(np.array(means) < 0) for means in draws.values())
    assert few > 0.1
    assert many < 0.01


def the_world_is_known(world, scores, truth):
    """The truth is the mean over all questions."""
    assert np.concatenate(world).mean() == pytest.approx(truth)
    assert len(world) > 60


def only_documents_cover(covered):
    """By question the truth is missed about three times as often as promised; the bootstrap of documents comes nearer,
    and still falls short; ``estimate`` comes nearest."""
    assert 0.10 < 1 - covered["questions"] < 0.22
    assert covered["questions"] + 0.02 < covered["documents"] < 0.95
    assert covered["ragkit"] > covered["documents"] + 0.01


def some_of_forty_miss(intervals, truth):
    """More of the first 40 intervals by question miss the truth than the two of a procedure that keeps its promise."""
    assert sum(not low <= truth <= high for low, high in intervals["questions"][:40]) > 2


def bars_overlap(means, result):
    """The intervals of the two means overlap, and the interval of the difference leaves out 0."""
    assert means.low[1] < means.high[0]
    assert result.table.loc["bm25", "diff_low"] > 0


def together_keeps_five_percent(alone, together):
    """Most tables have a "different" row if each is tested by itself, about 5 % if all are tested together."""
    assert alone / 200 > 0.45
    assert together / 200 < 0.1


def power_grows(power):
    """With 20 documents the difference is rarely detected, with 140 nearly always."""
    assert list(power.values()) == sorted(power.values())
    assert power[20] < 0.35
    assert power[140] > 0.85


def small_experiments_exaggerate(seen):
    """Where a small experiment detects the difference, it looks larger than it is, the more so the smaller."""
    few, *_, many = seen.values()
    assert few > 1.4 * 0.072 > many


def hit_fails_the_null_test(rows):
    """Without any search, small chunks are better on hit, worse on MRR, and not different on coverage."""
    verdicts = [verdict for _, verdict in rows.values()]
    assert verdicts == ["better", "worse", "no detectable difference"]

"""What the prose of notebook 12 promises."""

import pandas as pd

from ragkit.evaluation.statistics import wilson

MONDAY = pd.Timestamp("2026-01-05", tz="UTC")


def the_question_is_not_answered(answer):
    """No answer about Scrapy without its documents."""
    assert answer.abstained


def the_trace_has_both_spans_and_the_same_hits(trace, hits):
    """The same two stages, with `rewrite`, `build` and `generate` around them, and the same best hit."""
    assert [stage.name for stage in trace.stages] == ["rewrite", "retrieve", "rerank", "build", "generate"]
    assert trace.hits[0][0] == hits[0].chunk.id


def each_fault_moves_its_own_signal(weeks):
    """In week 2 reranking takes several times as long; in week 3 scores fall and more questions have no answer.

    Few people give a thumb, most of them a thumb down; their share of the queries is hardly different.
    """
    assert weeks["queries"].sum() == 260
    median = weeks["rerank_ms"]
    assert median[2] > 2.5 * max(median[1], median[3], median[4])
    assert weeks["top_score"].idxmin() == 3
    assert weeks["no answer"].idxmax() == 3
    assert weeks.loc[3, "no answer"] > 1.5 * weeks.loc[1, "no answer"]
    assert weeks["thumbs"].sum() < 0.3 * 260
    assert weeks["down"].sum() > 0.8 * weeks["thumbs"].sum()
    intervals = [wilson(int(weeks.loc[week, "down"]), int(weeks.loc[week, "queries"])) for week in (2, 3)]
    assert intervals[0][1] > intervals[1][0]


def four_hundred_candidates_for_ten_hits(slow_week, slow):
    """In the slow week, which is 2, 400 candidates were reranked for ten hits."""
    assert slow_week == 2
    assert slow["candidates"] == 400
    assert len(slow["hits"]) == 10


def week_3_is_lower_and_week_2_is_not(drift, first, second, third, quiet):
    """For week 2 no difference is detectable; week 3 is lower, and its whole interval is below 0."""
    assert drift(first, second).verdict == "no detectable difference"
    change = drift(quiet, third)
    assert change.verdict == "lower"
    assert change.high < 0


def most_are_about_scrapy(new, stream):
    """Most of the questions are about Scrapy, one is not, and most do not name it."""
    about = {query.question.text for query in stream if query.drifted}
    shown = new["question"].head(10)
    assert shown.isin(about).mean() > 0.7
    assert shown.str.contains("scrapy", case=False).mean() < 0.5


def about_half_are_answered_now(again, unanswered):
    """About half of the unanswered questions are answered with the new documents."""
    answered = sum(not answer.abstained for answer in again)
    assert 0.35 < answered / len(unanswered) < 0.65


def it_fires_from_week_3_on(fired):
    """Not before week 3, and then once a week."""
    weeks = [(alert.at - MONDAY).days // 7 + 1 for alert in fired]
    assert weeks[0] == 3
    assert len(weeks) == len(set(weeks))


def only_ninety_exclude_the_limit(wilson):
    """After three queries the true rate may be below .1; after ninety it cannot."""
    assert wilson(1, 3)[0] < 0.1 < wilson(30, 90)[0]


def popularity_is_no_drift(p, drift, quiet, popular):
    """The usual test reports a change; `drift` does not."""
    assert p < 0.001
    assert not drift(quiet, popular).found

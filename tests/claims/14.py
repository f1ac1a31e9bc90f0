"""What the prose of notebook 14 promises."""

import numpy as np

from ragkit.base import question_key


def the_old_answer_is_served(answer, lever, blue):
    """The manual is new, the answer is old."""
    assert "blue" in blue[0]
    assert "red" in answer(lever, blue, key=lever)


def each_manual_has_its_answer(answer, lever, red, blue):
    """A new manual makes a new key, so the old answer is not found any more."""
    given = [answer(lever, manual, key=(lever, *manual)) for manual in (red, blue)]
    assert given == [red[0], blue[0]]


def only_what_cannot_change_the_answer_is_a_hit(outcome):
    """Only what can change the answer makes a new key; two tenants never share an answer."""
    assert [change for change, result in outcome.items() if result == "hit"] == ["again", "white space"]


def whatever_was_asked_before_is_a_hit(week, hit, ms):
    """Some queries are popular: a good part of them are hits, which take far less time."""
    keys = [question_key(query.question.text) for query in week]
    assert hit.tolist() == [key in keys[:n] for n, key in enumerate(keys)]
    assert 0.3 < hit.mean() < 0.5
    assert np.median(ms[hit]) < 0.1 * np.median(ms[~hit])


def p50_and_p95_are_those_of_a_miss(curves, ms, hit):
    """The mean falls in a line; the p50 is the time of a miss until half are hits, the p95 until nearly all are."""
    lowest = ms[~hit].min()
    assert (curves["p50"].loc[:45] >= lowest).all()
    assert (curves["p95"].loc[:90] >= lowest).all()
    assert (curves["p50"].loc[55:] < lowest).all()
    middle = (curves["mean"].loc[0] + curves["mean"].loc[100]) / 2
    assert np.isclose(curves["mean"].loc[50], middle, rtol=0.2)


def four_questions_are_four_calls(called):
    """The first cache has nothing to serve until the first answer is ready; in the second, equal questions wait."""
    assert called == {"store_the_answer": 100, "store_the_task": 4}


def the_opposite_is_served_and_the_paraphrase_is_not(lines, risky):
    """The paraphrase is not near enough, and the opposite is."""
    assert [line[:4].strip() for line in lines] == ["miss", "hit"]
    assert risky.cache.guard is None


def the_cache_hides_the_option(right, stored):
    """There is an option for exactly that, `ignore_result`, and the cache hides it."""
    assert "ignore_result" in right.text
    assert "ignore_result" not in stored.text


def stricter_is_worse_and_the_guard_is_not_enough(pairs, tables):
    """A stricter threshold is worse; the guard refuses most wrong hits, and at .9 about one in five is still wrong."""
    assert len(pairs) == 400
    assert sum(pair.same for pair in pairs) == 200
    alone, guarded = tables["cosine alone"], tables["with a guard"]
    assert alone["false_hit_rate"].diff().min() > -0.01
    assert alone["false_hit_rate"].loc[0.98] > alone["false_hit_rate"].loc[0.8] + 0.3
    assert guarded["false"].loc[0.9] < 0.3 * alone["false"].loc[0.9]
    assert 0.15 < guarded["false_hit_rate"].loc[0.9] < 0.25

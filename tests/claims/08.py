"""What the prose of notebook 08 promises."""

import numpy as np


def quotes_without_answering(trap, said):
    """Each sentence stands in its source, word for word, and answers another question than the one asked."""
    assert not trap.gold
    assert said.citations
    assert all(citation.quote in citation.chunk.text for citation in said.citations)


def same_as_by_hand(said, by_hand, sentences):
    """Both answers are the same."""
    assert said.text == by_hand
    assert said.citations[0].quote == sentences[1]


def answers_fall_behind_the_context(curves):
    """What the context holds rises to the end, and what the answer makes of it falls behind."""
    context, recall = curves["gold in context"], curves["recall"]
    assert (context.diff().iloc[1:] > 0).all()
    assert (recall <= context).all()
    assert (context - recall).is_monotonic_increasing


def answers_gain_less_than_half(gain):
    """The context gains a lot, clear of 0, and the answers gain less than half of it."""
    assert gain.low[0] > 0
    assert gain.mean[1] < gain.mean[0] / 2


def no_price_is_not_zero(no_price):
    """A model without a known price costs *None*, not 0."""
    assert no_price is None


def quotes_are_in_their_sources(said):
    """What was quoted is marked in its source."""
    assert all(citation.quote in citation.chunk.text for citation in said.citations)


def quoting_is_faithful(scores):
    """*faithfulness* and the two rows *support* are 1, or nearly, behind either search."""
    for row in ("faithfulness", "support_precision", "support_recall"):
        assert (scores.table[row, "mean"] > 0.8).all()


def hills_overlap(confidence, has_answer):
    """Answerable questions are the more confident ones, and still there is no threshold without an error."""
    answerable, unanswerable = confidence[has_answer], confidence[~has_answer]
    assert np.median(answerable) > np.median(unanswerable) + 0.1
    assert answerable.min() < unanswerable.max()


def order_is_good_but_not_perfect(separates):
    """The order is far from a coin's 0.5, and does not tell all apart."""
    assert 0.75 < separates < 0.99


def fewer_answers_more_right(coverage, accuracy):
    """At full coverage accuracy is lowest; to the left you answer less, and more of it is right."""
    assert accuracy[np.argmin(abs(coverage - 0.4))] > accuracy[-1] + 0.1


def invented_numbers_are_noticed(known, unknown):
    """A model may write citations in its own way, and it may invent numbers: both are read."""
    assert known == [2, 1, 3]
    assert unknown == (7,)


def quoting_beats_the_small_model(writers):
    """Less than half is faithful, few answers cite, nothing is left unanswered; a choice is worse than the first."""
    tuned, constrained, first = (writers.loc[name] for name in ("tuned", "constrained", "first passage"))
    assert tuned["faithfulness"] < 0.5
    assert tuned["cites"] <= 0.2
    assert tuned["answered though there is no answer"] == 1
    assert first["citation recall"] > 1.8 * constrained["citation recall"]


def scorer_misses_the_turned_statement(supports, wrong):
    """The copied statement is supported; the one that turns the source around gives the scorer little to hold on to."""
    assert supports[0].score == 1
    assert wrong == [False, False, False, False, True]


def relations_are_missed_more_often(judged):
    """A changed number is mostly caught, swapped roles are missed far more often."""
    number, relation = judged.loc["number"], judged.loc["relation"]
    assert number["auroc"] > relation["auroc"] + 0.05
    assert number["accepted"] < 0.5
    assert number["accepted"] + 0.2 < relation["accepted"]


def no_verdict_can_be_read(run):
    """Not one verdict."""
    assert run.verdicts
    assert all(verdict.value is None for verdict in run.verdicts)


def small_judge_is_a_coin(judges, values):
    """The scorer ranks well, and most of what it accepts is not supported; the model is a coin."""
    assert 0.85 < judges["scorer"][1] < 0.95
    assert values["scorer: precision, of the accepted, supported"] < 0.5
    assert values["scorer: right if it rejected all"] > 0.9
    for first in ("yes", "no"):
        _, _, low, high, _ = judges[f"the model, {first} first"]
        assert low < 0.5 < high


def two_sources_stay_two(context):
    """Two sources came in, two are closed."""
    assert context.text.count("</source>") == len(context.hits) == 2


def quoting_never_obeys(report):
    """The offline writer obeys none of a hundred poisoned pages."""
    assert (report.table["scored"] == 100).all()
    assert (report.table[["followed", "failed"]] == 0).all(axis=None)


def poison_is_quoted(shows):
    """Not to obey is not to be safe: many answers quote the poisoned page."""
    assert shows > 20


def it_obeys_nobody(shares):
    """Not one obeyed, and the user is not obeyed either; a mark for every space costs most answers."""
    assert (shares["obeyed"] == 0).all()
    answered = shares["answered"]
    marked, separated = (answered[answered.index.str.endswith(f", {name}")].iloc[0] for name in ("marked", "separated"))
    assert marked < separated / 2


def some_answers_cite_something_else(missed, held):
    """Some contexts held the gold span, while the answer cited something else."""
    assert 0 < len(missed) < sum(held[2000]) / 2

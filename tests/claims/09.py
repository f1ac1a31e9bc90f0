"""What the prose of notebook 09 promises."""


def scorer_accepts_an_unsupported_sentence(case, score):
    """The readers say that the sentence is not supported, and the scorer accepts it."""
    assert not case.supported
    assert score > 0.5


def scorer_misses_the_swapped_roles(judged):
    """The scorer catches the opposite; both scorers accept the statement that swaps who does what."""
    score, by_hand = judged["ragkit"], judged["words in the source"]
    assert ((score > 0.5) == [True, False, True]).all()
    assert by_hand.iloc[-1] == 1


def repeating_the_question_is_relevant(relevances):
    """Both echoes are more relevant than the answer, and what is about something else is the least."""
    right, other, echo, opposite = relevances.values()
    assert min(echo, opposite) > right > other


def swapped_roles_are_missed_most(by_kind):
    """A changed number is mostly caught, swapped roles are accepted far more often; some true ones are rejected."""
    accepted = by_kind["accepted"]
    assert accepted["number"] < 0.5
    assert accepted["relation"] > accepted["number"] + 0.2
    assert accepted["relation"] > accepted[["number", "negation", "clause"]].max()
    assert 0.5 < accepted["reworded"] < 1


def good_order_poor_precision(auroc, accepted_right, supported):
    """Few are supported; the order is good; most of the accepted are not supported."""
    assert supported < 0.15
    assert auroc > 0.8
    assert accepted_right < 0.4


def small_judge_is_a_coin(judges):
    """The model's intervals hold .5; the scorer's does not, and is no better than words alone."""
    for first in ("yes", "no"):
        _, low, high = judges[f"the model, {first} first"]
        assert low < 0.5 < high
    assert judges["scorer"][1] > 0.5
    assert judges["scorer"][1] < judges["agreement of words alone"][2]


def no_verdict_can_be_read(run):
    """Not one value."""
    assert run.verdicts
    assert all(verdict.value is None for verdict in run.verdicts)

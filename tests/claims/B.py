"""What the prose of appendix B promises."""

from itertools import pairwise


def _has_star(hits, question):
    return any(hit.chunk.span.answers(gold) for hit in hits for gold in question.gold)


def celery_is_made_of_three_pieces(pieces):
    """*worker* is one entry. *Celery* is made of three pieces."""
    assert len(pieces["worker"]) == 1
    assert len(pieces["Celery"]) == 3


def every_sixth_word_is_made_of_pieces(share, kinds_of_words):
    """About every sixth word of these documents is made of pieces, and nearly half of the different ones are."""
    assert 1 / 7 < share < 1 / 5
    assert 0.4 < kinds_of_words < 0.5


def no_star_among_the_first_ten(hits, question):
    """No star among the first ten."""
    assert len(hits) == 10
    assert not _has_star(hits, question)


def contrastive_loss_is_the_mean(losses, in_ragkit):
    """The mean of the last column, by hand, is what ragkit's `contrastive_loss` returns."""
    assert abs(losses.mean() - in_ragkit) < 1e-4


def each_step_makes_the_loss_smaller(steps):
    """Five steps, and the loss falls with each."""
    assert len(steps) == 1 + 5
    assert all(after < before for before, after in pairwise(steps))


def no_pair_touches_an_faq_page(pages, exam):
    """No pair touches an FAQ page."""
    assert exam
    assert not pages & exam


def what_overlaps_the_answer_is_left_out(pair):
    """A hard negative does not answer: what overlaps the answer or repeats it is left out."""
    (negative,) = pair.negatives
    assert not negative.span.overlap(pair.positive.span)
    assert negative.text != pair.positive.text


def only_the_held_out_curve_turns(curve):
    """The training loss falls and falls. The held-out loss falls a little, turns, and rises."""
    training, held_out = curve["training"], curve["held out"]
    assert training.iloc[-1] < training.iloc[0] / 2
    assert 0 < held_out.idxmin() < 100
    assert held_out.iloc[-1] > held_out.min()


def a_star(hits, question):
    """A star, and the FAQ page was in no pair."""
    assert _has_star(hits[:3], question)


def better_on_what_it_was_trained_for(result):
    """*Better* on what it was trained for, with an interval that stays above 0."""
    assert result.table.loc["adapter", "verdict"] == "better"
    assert result.table.loc["adapter", "diff_low"] > 0


def no_detectable_difference_elsewhere(elsewhere):
    """No detectable difference on what it wasn't trained for."""
    assert elsewhere.table.loc["adapter", "verdict"] == "no detectable difference"


def pages_of_the_training_gain_far_more(table):
    """Both gain, pages that were in the training nearly twice as much."""
    assert table.loc["page was in training", "mean"] > 1.5 * table.loc["page was not", "mean"] > 0


def both_are_better(result):
    """On the projects that were in the training both are *better* than the base."""
    assert list(result.table["verdict"].iloc[1:]) == ["better", "better"]


def neither_is_worse(elsewhere):
    """On the others neither is *worse*: of the adapter, a loss of .01 would not be noticed here.

    The interval of full fine-tuning begins close to 0.
    """
    assert "worse" not in set(elsewhere.table["verdict"])
    assert elsewhere.table.loc["adapter", "diff_low"] < -0.01
    assert abs(elsewhere.table.loc["fine-tuned", "diff_low"]) < 0.02


def save_bits_before_dimensions(table):
    """One byte a number costs next to nothing, and with half of the numbers no loss can be shown. At the same 384 bytes
    int8 is far ahead of 96 numbers, and one bit a number is ahead of both shorter truncations."""
    assert table.loc["int8", "verdict"] == "no detectable difference"
    assert table.loc["192 of 384 numbers", "verdict"] == "no detectable difference"
    assert table.loc["int8", "bytes"] == table.loc["96 of 384 numbers", "bytes"] == 384
    assert table.loc["int8", "mrr@10"] > table.loc["96 of 384 numbers", "mrr@10"] + 0.03
    assert table.loc["binary", "mrr@10"] > table.loc[["96 of 384 numbers", "48 of 384 numbers"], "mrr@10"].max()
    neighbours = table["neighbours kept"]
    assert neighbours["int8"] > 0.95 > neighbours["binary"] > neighbours["48 of 384 numbers"]

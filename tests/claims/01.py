"""What the prose of notebook 01 promises."""

import numpy as np


def first_hit_is_from_another_project(hits):
    """What came first is not even from the right project."""
    assert hits[0].chunk.metadata["project"] != "gunicorn"


def water_comes_first_and_lamp_last(cosines):
    """The water comes first and the lamp last."""
    kettle, water, lamp = cosines
    assert water > kettle > lamp


def faiss_agrees_with_hand(order, scores, cosines):
    """The scores are those that we computed by hand, and so is the order."""
    assert order[0].tolist() == np.argsort(-cosines).tolist()
    assert np.allclose(scores[0], cosines[order[0]], atol=1e-5)


def ragkit_agrees_with_faiss(kitchen, sentences, order, scores):
    """The same order and the same scores."""
    assert [hit.chunk.text for hit in kitchen] == [sentences[i] for i in order[0]]
    assert np.allclose([hit.score for hit in kitchen], scores[0], atol=1e-5)


def half_would_be_unread_but_windows_read_on(unread, first, second):
    """About half of the corpus would be invisible. Read in windows, the last sentence changes the vector."""
    assert 0.4 < unread < 0.6
    assert first @ second < 0.99


def names_are_the_easy_questions(touched):
    """The questions with names are the easy ones, and more than half of the ordinary FAQ questions fail."""
    assert sum(touched["names"]) > len(touched["names"]) / 2
    assert sum(touched["faq"]) < len(touched["faq"]) / 2


def answer_climbs_as_chunks_shrink(ranks):
    """Lost among hundreds at 512 tokens, the answer climbs with each halving, and at 32 it is among the first ten."""
    assert ranks == sorted(set(ranks), reverse=True)
    assert ranks[-1] <= 10 < 100 < ranks[0]

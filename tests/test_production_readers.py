"""Simulated readers: each of their faults by itself, and the same opinions for the same seed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ragkit.base import Answer, Chunk, Citation, InputError, Question, Span
from ragkit.production.readers import Readers, is_right, quotes

TEXT = "One lever. Two wheels. Three bulbs."
CHUNK = Chunk("d", 100, 100 + len(TEXT), TEXT)
QUESTION = Question("q", "Which bulbs?", (Span("d", 123, 135),))
CAREFUL = Readers(position=0, trust=0, slips=0, happy=1, unhappy=1)


def answer(*sentences: str, abstained: bool = False) -> Answer:
    cited = tuple(Citation(1, replace(CHUNK, start=100 + 1000 * (s == "far")), s) for s in sentences)
    return Answer("Which bulbs?", " ".join(sentences), citations=cited, abstained=abstained, trace_id="t")


def many(readers: Readers, given: Answer, n: int = 400) -> list:
    return [readers.judge(QUESTION, given, str(i)) for i in range(n)]


def test_a_careful_reader_knows_the_truth():
    assert CAREFUL.judge(QUESTION, answer("One lever.", "Three bulbs.")).thumb == 1
    wrong = CAREFUL.judge(QUESTION, answer("One lever."))
    assert (wrong.thumb, wrong.reasons, wrong.flagged, wrong.right) == (-1, ("wrong",), (CHUNK.id,), False)
    silent = CAREFUL.judge(QUESTION, answer(abstained=True))
    assert (silent.thumb, silent.reasons) == (-1, ("should not have abstained",))


def test_of_a_question_without_an_answer_only_silence_is_right():
    nothing = Question("n", "Why?")
    assert is_right(nothing, answer(abstained=True))
    assert not is_right(nothing, answer("One lever."))
    assert CAREFUL.judge(nothing, answer(abstained=True)).thumb == 1
    assert CAREFUL.judge(nothing, answer("One lever.")).reasons == ("should have abstained",)


def test_the_last_quote_is_read_least():
    """Of three quotes the right one stands last: with position 1 a third reads it."""
    given = answer("One lever.", "Two wheels.", "Three bulbs.")
    assert all(o.thumb == 1 for o in many(replace(CAREFUL, position=0), given))
    content = sum(o.thumb == 1 for o in many(replace(CAREFUL, position=1), given))
    assert 100 < content < 170


def test_trust_slips_and_silence_are_the_shares_that_were_asked_for():
    wrong, right = answer("One lever."), answer("Three bulbs.")
    assert 90 < sum(o.thumb == 1 for o in many(replace(CAREFUL, trust=0.3), wrong)) < 150
    assert 20 < sum(o.thumb == -1 for o in many(replace(CAREFUL, slips=0.1), right)) < 65
    quiet = replace(CAREFUL, happy=0.05, unhappy=0.5)
    assert sum(o.speaks for o in many(quiet, right)) < 45
    assert 160 < sum(o.speaks for o in many(quiet, wrong)) < 240


def test_the_same_seed_gives_the_same_opinions():
    readers = Readers()
    assert many(readers, answer("One lever.")) == many(Readers(), answer("One lever."))
    assert many(readers, answer("One lever.")) != many(Readers(seed=1), answer("One lever."))


def test_a_citation_without_a_quote_is_all_of_its_chunk():
    given = Answer("?", "So [1].", citations=(Citation(1, CHUNK),))
    assert list(quotes(given)) == [(CHUNK.span, CHUNK.id)]
    (inside,) = quotes(answer("Two wheels."))
    assert inside[0] == Span("d", 111, 122)


@pytest.mark.parametrize("wrong", [{"trust": 1.1}, {"happy": -0.1}, {"position": -1}])
def test_shares_are_shares(wrong):
    with pytest.raises(InputError, match="shares from 0 to 1"):
        Readers(**wrong)

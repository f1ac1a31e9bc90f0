"""What the prose of notebook 14 promises."""

from itertools import pairwise

from ragkit.base import question_key
from ragkit.pipeline.trace import CacheKey
from ragkit.production.semantic import choose_threshold


def second_run_is_like_the_first(first, again):
    """Every stage ran again, and its text is the same, letter by letter: nothing was learnt."""
    assert list(first.timings) == list(again.timings)
    assert first.text == again.text


def dictionary_is_stale(answers, asked, anew):
    """The index is new, the answer is old."""
    assert "red" in answers[asked]
    assert "blue" in anew


def each_got_the_answer_of_its_manual(said, cache, settings, asked, by_hand):
    """`CacheKey` is that key. Two were misses, two were hits, and each got the answer of *its* manual."""
    assert CacheKey(settings, asked, "acme").digest == by_hand
    assert ["red" in text for text in said] == [True, False, True, False]
    assert ["blue" in text for text in said] == [False, True, False, True]
    assert (cache.stats().hits, cache.stats().misses) == (2, 2)


def only_what_cannot_change_the_answer_is_a_hit(hits):
    """Two are hits: nothing that could change the answer has changed."""
    assert [name for name, hit in hits.items() if hit] == ["nothing", "white space"]


def only_another_writing_gets_another_answer(given, week, equal):
    """All but a few are equal; the others are hits on another writing of the question."""
    assert len(given["with"]) == len(week) == 120
    assert sum(equal) >= 110
    for n, (alone, served) in enumerate(zip(given["without"], given["with"], strict=True)):
        if not equal[n]:
            before = {answer.question for answer in given["with"][:n] if answer.text == served.text}
            assert "retrieve" not in served.timings
            assert any(each != alone.question and question_key(each) == question_key(alone.question) for each in before)


def whatever_was_asked_before_was_served(texts, hit, silent):
    """Whatever had been asked before was served, "not found" (nearly half of these questions) too."""
    assert hit.equals(texts.duplicated())
    assert silent[hit].any()
    assert 0.35 < silent.mean() < 0.6


def hits_are_far_below_the_misses(ms, hit):
    """The orange line begins far down: these are the hits, about two powers of ten faster."""
    assert ms["with"][hit].median() < 0.1 * ms["with"][~hit].median()


def four_questions_are_four_calls(counts, crowd):
    """Four different questions, four calls, and everybody gets the answer to their own question."""
    assert counts == {"without a cache": 100, "with a cache": 4}
    assert [answer.text for answer in crowd] == [f"An answer to: Question {n % 4}?" for n in range(100)]


def rate_grows_with_the_logarithm_of_the_size(rates):
    """Each step of three times the room adds some nine to sixteen points, until all fits; then it is nearly flat."""
    values = list(rates.values())
    steps = [round(100 * (larger - smaller)) for smaller, larger in pairwise(values)]
    assert all(7 <= step <= 18 for step in steps[:-1])
    assert 0 <= steps[-1] <= 3


def reversal_is_served_and_paraphrase_is_not(served, kept, cosines):
    """The paraphrase was *not* near enough. The reversal was."""
    assert served[0].text != kept.text
    assert served[1].text == kept.text
    assert cosines[0] < 0.9 < cosines[1]


def cache_has_hidden_the_option(right, served):
    """There is an option for exactly that, `ignore_result`. The cache has hidden it."""
    assert "ignore_result" in right.text
    assert "ignore_result" not in served[1].text


def reversals_are_nearer_than_paraphrases(medians):
    """The furthest right *is* orange."""
    assert medians["reversed"] > medians["same"] + 0.02


def stricter_is_worse(table):
    """A *stricter* threshold makes it worse, because the reversals are the nearest."""
    assert (table["false_hit_rate"] > 0.5).all()
    assert table["false_hit_rate"].is_monotonic_increasing


def nothing_promises_95(strict):
    """*None*, although nearly nothing was wrong."""
    assert strict.threshold is None


def nine_of_ten_reversals_are_served(share):
    """The threshold that the log has chosen serves nine of ten reversals."""
    assert 0.88 < share < 0.94


def guard_helps_and_one_in_five_is_wrong(guarded):
    """It helps a lot and costs nearly nothing on the log; of the pairs that are still served, one in five is wrong."""
    alone, read = guarded.loc["cosine alone"], guarded.loc["and lexical_guard"]
    assert read["wrong of them"] < 0.3 * alone["wrong of them"]
    assert read["near hits in the log"] > 0.95 * alone["near hits in the log"]
    assert 0.17 < read["wrong of them"] / read["near hits of 400 pairs"] < 0.25


def guard_sees_not_and_is_blind_to_pause(lexical_guard, stored, blind, pairs, embedder):
    """It does not save the semantic cache: *pause* and *resume* pass."""
    assert not lexical_guard(*stored)
    assert lexical_guard(*blind)
    assert choose_threshold(pairs, embedder, precision=0.95, guard=lexical_guard).threshold is None


def only_exact_serves_no_reversal(report):
    """Look at the last column: no reversal is served by the exact cache, some by the guarded one."""
    assert report.loc["exact", "reversals served"] == 0
    assert report.loc["semantic, 0.9, guarded", "reversals served"] > 0


def disliked_answer_is_forgotten(traces, disliked):
    """The first was `near`, and wrong. It was forgotten, and the second time the question was answered on its own."""
    assert [trace.cache for trace in traces] == ["near", "miss"]
    assert "ignore_result" in disliked.text

"""What the prose of notebook 13 promises."""

from pathlib import Path


def answer_is_wrong(is_right, question, answer):
    """It quotes its sources, and it does not say how to return JSON; there was no abstention."""
    assert not is_right(question, answer)
    assert answer.citations
    assert not answer.abstained


def record_comes_with_the_trace(kept, answer, question):
    """The question and the passages came with the trace."""
    assert kept.trace_id == answer.trace_id
    assert kept.question == question.text
    assert len(kept.shown) >= len(answer.hits)


def opinion_without_an_answer_is_refused(words, feedback):
    """An opinion about an answer that nobody gave is refused, so that it is not counted."""
    assert words.startswith("no trace")
    assert len(feedback.all()) == 1


def f_measure_is_the_same(ours, by_hand):
    """The same in ragkit; the second sentence is the place."""
    assert ours == by_hand
    assert max(ours) == ours[1]


def correction_finds_its_place(suggestion, question):
    """The reader wrote one sentence, and its place was found: a section called *JSON Response*."""
    assert suggestion.places[0].chunk.span.answers(question.gold[0])


def queue_is_in_the_order_of_weight(queue):
    """A queue has an order, and each question is there once, whoever asked it."""
    weights = [flag.weight for flag in queue]
    assert weights == sorted(weights, reverse=True)
    assert len({flag.question for flag in queue}) == len(queue)


def file_names_the_place_and_not_the_text(line):
    """It names the place, the person who has looked at it, and a sha256 of the text, and does not hold the text."""
    assert line["who"] == "you"
    assert set(line["gold"][0]) == {"doc", "start", "end", "sha256"}


def no_new_test_passes(report):
    """None of the five passes."""
    assert not report.passed
    assert len(report.failed) == 5


def pinning_passes_all_and_the_preset_some(reports):
    """Pinning is the best that there can be; the preset leaves some of them red."""
    assert len(reports["pinned"].passed) == 5
    assert 0 < len(reports["advanced"].passed) < 5


def only_the_preset_is_a_repair(result):
    """*pinned* makes a difference of exactly zero; *advanced* is better."""
    assert result.table.loc["pinned", "diff"] == 0
    assert result.table.loc["advanced", "verdict"] == "better"


def shipped_regressions_stay_green(before, after):
    """Those that are green now must stay green; none of them passes without a repair."""
    assert not after.failed
    assert not after.stale
    assert not before.passed
    assert len(before.rows) >= 5


def feedback_adds_no_detectable_difference(trained):
    """*No detectable difference* is the honest word."""
    assert trained.table.loc["with feedback", "verdict"] == "no detectable difference"


def trust_and_silence(share):
    """More readers are content than answers are right, and the thumbs look like a disaster."""
    assert share["readers who are content"] > share["answers that are right"]
    assert share["answers that are right"] > 2 * share["thumbs up among the thumbs"]


def fluent_is_liked_better_than_silent(table):
    """Who optimises thumbs learns to write something fluent rather than to admit that there is nothing."""
    assert table.loc["wrote a wrong answer", "mean"] > 3 * table.loc["said that it found nothing", "mean"]


def first_place_is_flagged_most(places):
    """The first bar is the highest."""
    assert places.iloc[0] == places.max()
    assert len(places) > 1


def order_agrees_and_faithfulness_says_nothing(told, scores):
    """Both order the answers as the thumbs do in three of four cases or more; faithfulness says nothing."""
    assert told.loc[["relevance", "confidence"], "auroc"].between(0.68, 0.95).all()
    assert told.loc["confidence", "verdict"] == "agrees"
    assert ((told["low"] > 0.5) == (told["verdict"] == "agrees")).all()
    assert set(scores["faithfulness"].values()) == {1.0}
    assert told.loc["faithfulness", "auroc"] == 0.5


def threshold_calls_most_answers_good(good):
    """With a threshold of .5 both call most answers good."""
    assert min(good.values()) > 0.5


def files_are_deleted(folder):
    """The files live in a folder that is deleted at the end."""
    assert not Path(folder.name).exists()

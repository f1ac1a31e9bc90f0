"""What the prose of notebook 13 promises."""

import json


def answer_is_wrong(question, answer):
    """It quotes two sources, neither of which holds the answer; the pipeline did not abstain."""
    assert not answer.abstained
    assert len({citation.chunk.id for citation in answer.citations}) == 2
    assert not any(citation.chunk.span.answers(question.gold[0]) for citation in answer.citations)
    assert answer.citations[0].chunk.doc_id.startswith("aiohttp/client")


def record_comes_with_the_trace(record, answer, question):
    """Question and passages came with the trace."""
    assert record.trace_id == answer.trace_id
    assert record.question == question.text
    assert len(record.shown) >= len(answer.hits)


def correction_finds_its_place(suggestion, question):
    """The first place is in a section *JSON Response*, and is right."""
    place = suggestion.places[0].chunk
    assert place.section[-1] == "JSON Response"
    assert place.span.answers(question.gold[0])


def new_test_is_red(regressions, now):
    """The test is red with today's pipeline. The file has the place, who confirmed it, and a hash of its text."""
    report = regressions.check(now.retriever)
    assert report.failed
    assert not report.passed
    line = json.loads(regressions.path.read_text().splitlines()[0])
    assert line["who"] == "you"
    assert {"doc", "sha256"} <= set(line["gold"][0])


def more_than_thirty(queue, opinions):
    """Each question is in the queue once, worst first; there are at least thirty, and some readers err."""
    weights = [item.weight for item in queue]
    assert weights == sorted(weights, reverse=True)
    assert len({item.question for item in queue}) == len(queue) >= 30
    assert any(opinion.right != (opinion.thumb > 0) for opinion in opinions if opinion.speaks)


def a_correction_is_worth_more(right):
    """From a thumb alone, fewer than half are the labelled place; with a correction nearly all."""
    assert 0 < right[0] < 15
    assert right[1] > 22


def neither_is_the_label(thumb_only, first_is_right, labels, text_of):
    """The one is about another command; the other, as the label, names HUP."""
    for words, answers in (("revoke several", False), ("reload my application", True)):
        case = next(s for s in thumb_only if words in s.flag.question)
        assert not first_is_right(case)
        assert ("`HUP`" in case.places[0].chunk.text) == answers
    assert "`HUP`" in text_of(labels[case.flag.question].gold[0])


def pinning_passes_all_and_the_preset_some(passed, confirmed):
    """*pinned* is perfect; the preset passes more than today's pipeline, and leaves some red."""
    assert passed["pinned"] == len(confirmed) > 20
    assert passed["now"] < passed["advanced"] < len(confirmed)


def only_the_preset_is_a_fix(result):
    """*pinned* changes exactly nothing; *advanced* is better."""
    assert result.table.loc["pinned", "diff"] == 0
    assert result.table.loc["advanced", "verdict"] == "better"


def thumbs_are_biased(shares, up, down, users):
    """More readers are content than answers are right, and far fewer thumbs point up. Weights repair the latter."""
    assert shares["readers who are content"] > shares["answers that are right"] + 0.05
    assert shares["thumbs that point up"] < shares["answers that are right"] - 0.15
    content, unhappy = up / users.response_rate_positive, down / users.response_rate_negative
    assert abs(content / (content + unhappy) - shares["readers who are content"]) < 0.06

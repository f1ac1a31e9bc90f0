"""What the prose of notebook 08 promises."""

import numpy as np


def quotes_without_answering(trap, trap_answer):
    """Every line stands in its source, word for word, and the question has no answer."""
    assert not trap.gold
    assert trap_answer.citations
    assert all(citation.quote in citation.chunk.text for citation in trap_answer.citations)


def answers_fall_behind_the_context(curves):
    """What the context holds rises to the end, and the gap to what the answer cites grows."""
    context, recall = curves["gold in the context"], curves["citation recall"]
    assert (context.diff().iloc[1:] > 0).all()
    gap = context - recall
    assert gap.iloc[-1] > gap.iloc[0] + 0.1
    assert context.iloc[-1] - context.iloc[1] > 2 * (recall.iloc[-1] - recall.iloc[1])


def quotes_are_in_their_sources(answers, good):
    """What was quoted is marked in its source."""
    assert all(citation.quote in citation.chunk.text for citation in answers[good].citations)


def names_give_the_reason(silent, estimates):
    """Where the pipeline abstains it says why."""
    assert len(silent) >= 3
    assert all(estimates[number].reason for number in silent)


def a_missing_document_is_hardly_noticed(table):
    """Something else is noticed; that only the document is missing hardly."""
    gone = {what: table[f"AUROC against the same without their {what}"] for what in ("document", "project")}
    assert table["AUROC against unanswerable"] > 0.8
    assert gone["project"] > gone["document"] + 0.1
    assert gone["document"] < 0.75


def fewer_answers_more_right(coverage, accuracy):
    """At the right end everything is answered; to the left fewer answers are given, and more of them are right."""
    assert coverage[-1] == 1
    assert accuracy[np.argmin(abs(coverage - 0.4))] > accuracy[-1] + 0.1


def quotes_beat_the_small_model(writers):
    """The model's citation recall is far below that of the quotes; a choice is worse than the first passage."""
    recall = writers["citation recall"]
    assert recall["tuned"] < recall["extractive"] - 0.2
    assert recall["constrained"] < recall["first passage"] - 0.1
    assert writers.loc["tuned", "cites"] < 0.5


def a_sure_answer_quotes_something_else(questions, answers, contexts, right, api):
    """The context held the gold, the answer begins elsewhere and is not "unsure"; the right place follows."""
    assert any(hit.chunk.span.answers(questions[api].gold[0]) for hit in contexts[api].hits)
    assert not right[api]
    assert not answers[api].reason
    assert "Not yet" in answers[api].citations[-1].quote

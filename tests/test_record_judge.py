"""The recorded run of the lesson on grounded answers: it says what it is, and its maker can make it again."""

from __future__ import annotations

import pytest
from record_judge import METRICS, QUESTIONS, STAND_IN, dice

from ragkit.evaluation.judge import JudgeRun
from ragkit.files import data_file


def test_the_recorded_run_says_what_it_is():
    run = JudgeRun.load(data_file("judged.json"))
    assert run.recorded
    assert "RECORDED on 20" in run.caption
    assert (run.model == STAND_IN) == ("NOT a model" in run.caption)
    assert run.metrics == METRICS
    assert len(run.verdicts) == len(METRICS) * QUESTIONS * 2 * run.runs
    assert {verdict.system for verdict in run.verdicts} == {"naive", "advanced"}


def test_no_text_of_a_document_is_in_it():
    text = data_file("judged.json").read_text()
    assert len(text) < 20_000
    assert all(len(verdict.reason) < 120 for verdict in JudgeRun.load(data_file("judged.json")).verdicts)


@pytest.mark.parametrize("schema", ["StatementGeneratorOutput", "NLIStatementOutput", "AnswerRelevanceOutput"])
def test_the_dice_answer_in_json_and_sometimes_in_prose(schema):
    reply = dice(1)
    said = [reply([{"role": "user", "content": f'{{"title": "{schema}"}}'}]) for _ in range(40)]
    assert 3 < sum(not text.startswith("{") for text in said) < 20

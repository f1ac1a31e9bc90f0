"""The one table of answers: every score or its reason, coverage, intervals, and judges beside the offline scorers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_by
from hypothesis import strategies as st

from ragkit.base import Answer, Chunk, Citation, Corpus, Hit, InputError, Question, Span
from ragkit.evaluation.answers import OFFLINE, AnswerScores, score_answers
from ragkit.evaluation.judged import JudgeRun, Verdict
from ragkit.token_store import TokenStore


@pytest.fixture(scope="module")
def store(core: Corpus) -> TokenStore:
    return TokenStore.open(core, progress=False)


TEXTS = {
    "kettle": "Press the red lever to boil the water. Use vinegar to clean the kettle.",
    "lamp": "Turn the wheel to dim the lamp. Only bulbs of at most 40 watts fit.",
    "radio": "Press SEEK until a station is found. Half a turn sets the volume.",
}
CHUNKS = {name: Chunk(name, 0, len(text), text) for name, text in TEXTS.items()}
ASKED = {"kettle": "How do I boil water?", "lamp": "Which bulbs fit?", "radio": "How do I find a station?"}
REFERENCES = {"kettle": "Press the red lever.", "lamp": "At most 40 watts.", "radio": "Press SEEK."}
QUESTIONS = [Question(n, ASKED[n], (Span(n, 0, 38),), answer=REFERENCES[n]) for n in TEXTS]


def said(name: str, text: str, **changes: object) -> Answer:
    citation = Citation(1, CHUNKS[name])
    return replace(Answer(ASKED[name], text, (Hit(CHUNKS[name], 1.0),), (citation,)), **changes)  # type: ignore[arg-type]


GOOD = [
    said("kettle", "Press the red lever to boil the water. [1]"),
    said("lamp", "Only bulbs of at most 40 watts fit. [1]"),
    said("radio", "Press SEEK until a station is found. [1]"),
]
INVENTED = [
    said("kettle", "The manufacturer recommends a filter for hard water."),
    said("lamp", "Bulbs of 75 watts fit. [1]"),
    said("radio", "Say the station's name out loud. [1]"),
]


@pytest.fixture(scope="module")
def scores(store) -> AnswerScores:
    return score_answers({"good": GOOD, "invented": INVENTED}, QUESTIONS, store=store)


def test_quotes_are_faithful_and_inventions_are_not(scores):
    means = scores.table["faithfulness"]["mean"]
    assert means["good"] == 1.0
    assert means["invented"] < 0.5
    assert all(s.quoted for name in TEXTS for s in scores.supports["good", name])
    (support,) = scores.supports["invented", "lamp"]
    assert "75 is not in the evidence" in support.doubts


def test_every_system_has_every_metric_with_its_interval_and_coverage(scores):
    assert list(scores.table.index) == ["good", "invented"]
    for metric in OFFLINE:
        assert list(scores.table[metric].columns) == ["mean", "low", "high", "coverage"]
        line = scores.table.loc["good", metric]
        assert 0 <= line["low"] <= line["mean"] <= line["high"] <= 1
        assert line["coverage"] == 1
    assert scores.table.loc["good", ("answers", "total")] == 3


def test_three_of_three_are_not_certain(scores):
    line = scores.table.loc["good", "faithfulness"]
    assert (line["mean"], line["high"]) == (1, 1)
    assert line["low"] == pytest.approx(0.025 ** (1 / 3))  # Clopper and Pearson's for three of three


def test_citations(scores):
    table = scores.table
    assert table.loc["good", ("citation_precision", "mean")] == 1
    assert table.loc["good", ("support_recall", "mean")] == 1
    # One of three invented answers has no marker: its statement rests on nothing, and no citation of it is needed.
    assert table.loc["invented", ("support_recall", "mean")] < 0.5
    missing = scores.missing.set_index(["system", "question", "metric"])["reason"]
    assert "no statement cites" in missing["invented", "kettle", "support_precision"]
    assert table.loc["invented", ("support_precision", "coverage")] == pytest.approx(2 / 3)


def test_a_better_answer_overlaps_more(scores):
    for metric in ("token_f1", "rouge_l", "similarity", "relevance"):
        assert scores.table.loc["good", (metric, "mean")] > scores.table.loc["invented", (metric, "mean")]


PLAIN = Question("plain", "Who made it?")
PLAIN_ANSWER = Answer("Who made it?", "Press the red lever to boil the water.", (Hit(CHUNKS["kettle"], 1.0),))


@pytest.mark.parametrize(
    ("answer", "question", "metrics", "reason"),
    [
        (
            replace(PLAIN_ANSWER, abstained=True, reason="too little"),
            PLAIN,
            OFFLINE,
            "the system abstained: too little",
        ),
        (replace(PLAIN_ANSWER, abstained=True), PLAIN, OFFLINE, "the system abstained"),
        (replace(PLAIN_ANSWER, text=" \n"), PLAIN, OFFLINE, "the answer is empty"),
        (TimeoutError("60 s"), PLAIN, OFFLINE, "the system failed: TimeoutError: 60 s"),
        (replace(PLAIN_ANSWER, hits=()), PLAIN, ("faithfulness",), "the answer comes without sources"),
        (replace(PLAIN_ANSWER, text="?!"), PLAIN, ("faithfulness",), "the answer has no statements"),
        (PLAIN_ANSWER, PLAIN, ("token_f1", "rouge_l", "similarity"), "the question has no reference answer"),
        (PLAIN_ANSWER, replace(PLAIN, answer=" "), ("token_f1", "rouge_l", "similarity"), "the reference is empty"),
        (PLAIN_ANSWER, replace(PLAIN, answer="?"), ("token_f1", "rouge_l"), "needs words on both sides"),
        (PLAIN_ANSWER, PLAIN, ("citation_precision", "citation_recall"), "no gold span|no citations"),
        (PLAIN_ANSWER, PLAIN, ("support_precision",), "no statement cites a source"),
    ],
)
def test_what_cannot_be_scored_is_missing_with_its_reason(store, answer, question, metrics, reason):
    scores = score_answers({"a": [answer, GOOD[0]]}, [question, QUESTIONS[0]], store=store)
    missing = scores.missing.set_index(["question", "metric"])["reason"]
    for metric in metrics:
        assert scores.per_answer[metric].isna().loc["a", "plain"]
        assert scores.table.loc["a", (metric, "coverage")] == 0.5
        assert scores.table.loc["a", (metric, "mean")] == scores.per_answer.loc[("a", "kettle"), metric]
    found = missing[missing.index.get_level_values("metric").isin(metrics)]
    assert len(found) >= len(metrics)
    assert found.str.contains(reason, regex="|" in reason).all()
    assert "NaN" not in repr(scores)
    assert "nan" not in repr(scores)


def test_a_system_that_always_abstains_has_no_mean_and_no_zero(store):
    silent = [replace(answer, abstained=True) for answer in GOOD]
    scores = score_answers({"silent": silent, "good": GOOD}, QUESTIONS, store=store)
    for metric in OFFLINE:
        cells = scores.table.loc["silent", metric]
        assert cells[["mean", "low", "high"]].isna().all()
        assert cells["coverage"] == 0
    assert scores.table.loc["silent", ("answers", "abstained")] == 3
    assert "none could be scored" in repr(scores)
    assert "abstained" in scores._repr_html_()
    assert len(scores.missing) == 3 * len(OFFLINE)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given_by(st.lists(st.sampled_from(["good", "silent", "empty", "failed", "bare"]), min_size=3, max_size=3))
def test_nothing_is_ever_nan_and_everything_missing_has_a_reason(store, fates):
    changed = {
        "good": lambda a: a,
        "silent": lambda a: replace(a, abstained=True),
        "empty": lambda a: replace(a, text=""),
        "failed": lambda a: ValueError("broken"),
        "bare": lambda a: replace(a, hits=(), citations=()),
    }
    answers = [changed[fate](answer) for fate, answer in zip(fates, GOOD, strict=True)]
    scores = score_answers({"a": answers}, QUESTIONS, store=store)
    assert int(scores.per_answer.isna().sum().sum()) == len(scores.missing)
    assert (scores.missing["reason"] != "").all()
    for metric in OFFLINE:
        known = scores.per_answer[metric].dropna()
        assert np.isfinite(known.to_numpy(dtype=float)).all()
        assert scores.table.loc["a", (metric, "coverage")] == pytest.approx(len(known) / 3)


@pytest.mark.parametrize(
    ("answers", "questions", "message"),
    [
        ({}, QUESTIONS, "no system"),
        ({"a": GOOD[:2]}, QUESTIONS, "2 answers to 3 questions"),
        ({"a": GOOD[::-1]}, QUESTIONS, "in the order of the questions"),
        ({"a": GOOD[:1]}, QUESTIONS[:1], "two or more, each once"),
        ({"a": [GOOD[0], GOOD[0]]}, [QUESTIONS[0], QUESTIONS[0]], "two or more, each once"),
    ],
)
def test_answers_that_do_not_belong_to_the_questions(store, answers, questions, message):
    with pytest.raises(InputError, match=message):
        score_answers(answers, questions, store=store)


# ---- beside a judge


def judged(**changes: object) -> JudgeRun:
    verdicts = [
        Verdict("good", name, "ragas_faithfulness", run, None if name == "radio" else 0.5 + run / 10, "prose")
        for name in TEXTS
        for run in range(2)
    ]
    run = JudgeRun("m", "http://127.0.0.1/v1", "2026-11-22", 2, ("ragas_faithfulness",), tuple(verdicts))
    return replace(run, **changes)  # type: ignore[arg-type]


def test_a_judges_verdicts_stand_in_the_same_table(store):
    scores = score_answers({"good": GOOD}, QUESTIONS, store=store, judged=judged())
    line = scores.table.loc["good", "ragas_faithfulness"]
    assert line["mean"] == pytest.approx(0.55)
    assert line["coverage"] == pytest.approx(2 / 3)
    assert line["spread"] == pytest.approx(0.1)
    assert "runs 0.10 apart" in repr(scores)
    assert scores.missing["reason"].tolist() == ["prose"]
    assert "Judge: ragas with m at http://127.0.0.1/v1, 2 runs, run on 2026-11-22." in scores.caption


def test_the_interval_of_a_cosine_may_lie_below_0(store):
    values = dict(zip(TEXTS, (-0.3, -0.2, -0.25), strict=True))
    verdicts = tuple(Verdict("good", name, "ragas_answer_relevancy", 0, value) for name, value in values.items())
    run = judged(runs=1, metrics=("ragas_answer_relevancy",), verdicts=verdicts)
    line = score_answers({"good": GOOD}, QUESTIONS, store=store, judged=run).table.loc["good", "ragas_answer_relevancy"]
    assert line["mean"] == pytest.approx(-0.25)
    assert -1 <= line["low"] < -0.25 < line["high"] < 0


def test_a_recorded_or_stand_in_judge_is_marked(store):
    scores = score_answers({"good": GOOD}, QUESTIONS, store=store, judged=judged(recorded=True, stand_in=True))
    assert "NOT a model" in repr(scores)
    assert "RECORDED on 2026-11-22" in repr(scores)


def test_without_a_judge_the_table_says_so(scores):
    assert "No judge model has been run for this table." in repr(scores)
    assert not any("ragas" in column for column in scores.table.columns.get_level_values(0))


def test_a_system_that_the_judge_has_not_seen_is_missing(store):
    scores = score_answers({"other": GOOD}, QUESTIONS, store=store, judged=judged())
    assert set(scores.missing["reason"]) == {"the judge was not asked about this answer"}
    assert scores.table.loc["other", ("ragas_faithfulness", "coverage")] == 0


# ---- with the real pipeline


def test_extractive_answers_of_the_pipeline_are_all_quotes(core, store):
    from ragkit.corpus import load_questions
    from ragkit.generation.extractive import Extractive
    from ragkit.pipeline import advanced

    questions = [replace(q, answer=None) for q in load_questions("en", core)[:5]]
    rag = advanced(core, store=store, llm=Extractive(store.maxsim))
    answers = asyncio.run(rag.query_many([q.text for q in questions], k=5))
    scores = score_answers({"extractive": answers}, questions, store=store)
    for metric in ("faithfulness", "support_recall", "support_precision"):
        assert scores.table.loc["extractive", (metric, "mean")] == 1.0, metric


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, ragkit.evaluation.answers, ragkit.evaluation.judges;"
        "print({'torch', 'pandas', 'ragas', 'openai', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""The one table of answers: every score or its reason, coverage, intervals, and judges beside the offline scorers."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragkit.base import Answer, Chunk, Citation, Corpus, Hit, InputError, Question, Span
from ragkit.evaluation import answers as metrics
from ragkit.evaluation.answers import OFFLINE, AnswerScores, Statement, score_answers
from ragkit.evaluation.judge import JudgeRun, Verdict
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
    for metric in ("token_f1", "relevance"):
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
        (PLAIN_ANSWER, PLAIN, ("token_f1",), "the question's reference answer"),
        (PLAIN_ANSWER, replace(PLAIN, answer="?"), ("token_f1",), "the question's reference answer"),
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
@given(st.lists(st.sampled_from(["good", "silent", "empty", "failed", "bare"]), min_size=3, max_size=3))
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


def test_a_recorded_judge_is_marked(store):
    scores = score_answers(
        {"good": GOOD}, QUESTIONS, store=store, judged=judged(recorded=True, model="dice, no model", endpoint="")
    )
    assert "Judge: ragas with dice, no model, 2 runs" in repr(scores)
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
        "import sys, ragkit.evaluation.answers, ragkit.evaluation.judge;"
        "print({'torch', 'pandas', 'ragas', 'openai', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- one answer

WORDS = st.lists(
    st.sampled_from(["the", "a", "cat", "sat", "on", "mat", "Dog", "it's", "x_y", "3.5", "ran"]),
    min_size=1,
    max_size=12,
)
SOURCE = Chunk("d", 10, 60, "Stop it with kill. Purge tasks with purge. It is fast.")


def squad_f1(prediction, truth):
    """compute_f1 of SQuAD's evaluate-v2.0.py."""
    import collections
    import string

    def tokens(s):
        s = "".join(ch for ch in s.lower() if ch not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", s).split()

    gold, pred = tokens(truth), tokens(prediction)
    same = sum((collections.Counter(gold) & collections.Counter(pred)).values())
    if not gold or not pred:
        return None
    if same == 0:
        return 0
    precision, recall = same / len(pred), same / len(gold)
    return 2 * precision * recall / (precision + recall)


@given(WORDS, WORDS)
def test_token_f1_is_squads(a, b):
    left, right = " ".join(a), " ".join(b)
    expected = squad_f1(left, right)
    if expected is None:
        with pytest.raises(InputError, match="needs words"):
            metrics.token_f1(left, right)
    else:
        assert metrics.token_f1(left, right) == pytest.approx(expected)


@given(WORDS, WORDS)
def test_overlap_is_symmetric_bounded_and_1_for_itself(a, b):
    left, right = " ".join([*a, "x"]), " ".join([*b, "x"])
    assert 0 <= metrics.token_f1(left, right) <= 1
    assert metrics.token_f1(left, right) == pytest.approx(metrics.token_f1(right, left))
    assert metrics.token_f1(left, left) == 1


@pytest.mark.parametrize("pair", [("", "a word"), ("word", "?!"), ("...", "")])
def test_texts_without_words_are_no_zero(pair):
    with pytest.raises(InputError, match="needs words"):
        metrics.token_f1(*pair)


def answer(text, *quotes):
    citations = tuple(Citation(i, SOURCE, quote) for i, quote in enumerate(quotes, 1))
    return Answer("How?", text, citations=citations)


@pytest.mark.parametrize(
    ("text", "quotes", "expected"),
    [
        ("Use purge. [1] Then go on [2].", ("", ""), [("Use purge.", {1}), ("Then go on.", {2})]),
        ("Use purge.[1][2] Done.", ("", ""), [("Use purge.", {1, 2}), ("Done.", set())]),
        ("Use purge [1, 2].", ("", ""), [("Use purge.", {1, 2})]),
        ("Use x[1] now.", ("",), [("Use x[1] now.", set())]),
        ("Use purge [7].", ("",), [("Use purge [7].", set())]),
        ("Stop it. Purge it. [1]", ("Stop it. Purge it.",), [("Stop it.", {1}), ("Purge it.", {1})]),
        ("- one [1]\n- two", ("",), [("- one", {1}), ("- two", set())]),
        ("Type:\n\n$ celery purge\n\n[1]", ("",), [("Type:", set()), ("$ celery purge", {1})]),
        ("", (), []),
        ("[1]", ("",), []),
        ("...", (), []),
    ],
)
def test_statements(text, quotes, expected):
    assert [(s.text, set(s.cited)) for s in metrics.statements(answer(text, *quotes))] == expected


def test_an_extractive_answer_is_cited_throughout():
    import asyncio

    from ragkit.base import Context, Hit
    from ragkit.generation.extractive import Extractive

    said = asyncio.run(Extractive().generate("How do I purge tasks?", Context("", (Hit(SOURCE, 1.0),), 9)))
    given = metrics.statements(Answer("How do I purge tasks?", said.text, citations=said.citations))
    assert given
    assert all(statement.cited == {1} for statement in given)


def cite(*spans):
    return [Citation(i, Chunk("d", a, b, "x" * (b - a))) for i, (a, b) in enumerate(spans, 1)]


def test_citations_against_gold():
    gold = [Span("d", 0, 10), Span("d", 50, 60)]
    assert metrics.citation_precision(cite((0, 20), (20, 40)), gold) == 0.5
    assert metrics.citation_recall(cite((0, 20), (20, 40)), gold) == 0.5
    assert metrics.citation_recall(cite((0, 60)), gold) == 1.0
    assert metrics.citation_recall([], gold) == 0.0
    assert metrics.citation_recall([], gold, any_of=True) == 0.0
    assert metrics.citation_recall(cite((0, 20), (20, 40)), gold, any_of=True) == 1.0  # alternatives: one is enough


def test_a_source_cited_twice_counts_once():
    twice = [*cite((0, 10)), *cite((0, 10)), Citation(2, Chunk("d", 20, 30, "x" * 10))]
    assert metrics.citation_precision(twice, [Span("d", 0, 10)]) == 0.5


def test_what_is_undefined_is_no_zero():
    with pytest.raises(InputError, match="no citations"):
        metrics.citation_precision([], [Span("d", 0, 10)])
    for metric in (metrics.citation_precision, metrics.citation_recall):
        with pytest.raises(InputError, match="no gold"):
            metric(cite((0, 5)), [Span("d", 0, 10, grade=0)])
    with pytest.raises(InputError, match="no statement cites"):
        metrics.support_precision([Statement("a")], {}, lambda text, chunks: True)
    with pytest.raises(InputError, match="no statements"):
        metrics.support_recall([], {}, lambda text, chunks: True)


def holds(text, chunks):
    """Supported if the sources together hold every letter."""
    return set(text) <= set("".join(chunk.text for chunk in chunks))


LETTERS = {i: Chunk("d", i, i + len(t), t) for i, t in enumerate(["ab", "bc", "xy"], 1)}


# The cases of ALCE's figure 3: needed alone, needed together, needless beside another, needless altogether.
@pytest.mark.parametrize(
    ("text", "cited", "recall", "precision"),
    [
        ("a", {1}, 1, 1),
        ("ac", {1, 2}, 1, 1),
        ("a", {1, 3}, 1, 0.5),
        ("b", {1, 2}, 1, 1),
        ("z", {1, 2}, 0, 0),
        ("ac", {1}, 0, 0),
        ("ac", {1, 2, 3}, 1, 2 / 3),
    ],
)
def test_support_of_a_statement(text, cited, recall, precision):
    statement = Statement(text, frozenset(cited))
    assert metrics.support_recall([statement], LETTERS, holds) == recall
    assert metrics.support_precision([statement], LETTERS, holds) == pytest.approx(precision)


def test_a_statement_without_a_citation_is_not_supported():
    given = [Statement("a", frozenset({1})), Statement("b")]
    assert metrics.support_recall(given, LETTERS, lambda text, chunks: True) == 0.5
    assert metrics.support_precision(given, LETTERS, lambda text, chunks: True) == 1.0

"""The metrics of one answer, held against SQuAD's and ROUGE's own definitions."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Answer, Chunk, Citation, InputError, Span
from ragkit.evaluation import answer_metrics as metrics
from ragkit.evaluation.answer_metrics import Statement

WORDS = st.lists(
    st.sampled_from(["the", "a", "cat", "sat", "on", "mat", "Dog", "it's", "x_y", "3.5", "ran"]),
    min_size=1,
    max_size=12,
)
SOURCE = Chunk("d", 10, 60, "Stop it with kill. Purge tasks with purge. It is fast.")


# rouge-score 0.1.2: RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        ("The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log.", 0.5882352941176471),
        (
            "Discard all waiting tasks with celery purge.",
            "Run `celery -A proj purge` to discard every waiting task.",
            0.23529411764705882,
        ),
        ("It's 3.5 x_y", "x y is 3 5", 0.3636363636363636),
    ],
)
def test_rouge_l_is_googles(answer, reference, value):
    assert metrics.rouge_l(answer, reference) == pytest.approx(value, abs=1e-12)


def textbook_lcs(a, b):
    @cache
    def length(i, j):
        if i == len(a) or j == len(b):
            return 0
        return 1 + length(i + 1, j + 1) if a[i] == b[j] else max(length(i + 1, j), length(i, j + 1))

    return length(0, 0)


@given(WORDS, WORDS)
def test_the_common_subsequence_is_the_textbooks(a, b):
    assert metrics.common_subsequence(a, b) == textbook_lcs(tuple(a), tuple(b))


def test_the_common_subsequence_of_long_texts():
    # More words than a machine word has bits, and words that come back.
    a = [str(i % 90) for i in range(400)]
    assert metrics.common_subsequence(a, a) == 400
    assert metrics.common_subsequence(a, a[::2]) == 200
    assert metrics.common_subsequence(a, ["x"]) == 0


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
        with pytest.raises(InputError, match="unscored"):
            metrics.token_f1(left, right)
    else:
        assert metrics.token_f1(left, right) == pytest.approx(expected)


@given(WORDS, WORDS)
def test_overlap_is_symmetric_bounded_and_1_for_itself(a, b):
    left, right = " ".join([*a, "x"]), " ".join([*b, "x"])
    for metric in (metrics.token_f1, metrics.rouge_l):
        assert 0 <= metric(left, right) <= 1
        assert metric(left, right) == pytest.approx(metric(right, left))
        assert metric(left, left) == 1


@pytest.mark.parametrize("metric", [metrics.token_f1, metrics.rouge_l])
@pytest.mark.parametrize("pair", [("", "a word"), ("word", "?!"), ("...", "")])
def test_texts_without_words_are_no_zero(metric, pair):
    with pytest.raises(InputError, match="leave the answer unscored"):
        metric(*pair)


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

"""Feedback as training data: what becomes a pair, and that negatives push."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_production_feedback import Monitor, Seen

from ragkit.base import Chunk, InputError, Span
from ragkit.production.feedback import FeedbackStore
from ragkit.production.learning import train_on_feedback, training_pairs
from ragkit.production.regression import RegressionSet
from ragkit.testing import FakeEmbedder
from ragkit.training.adapter import AdapterSettings
from ragkit.training.pairs import Pair

SHOWN = tuple((i, 0.5) for i in ("radio/guide#0-20", "lamp/guide#0-23", "kettle/guide#0-60", "gone/guide#0-5"))


@pytest.fixture
def regressions(tmp_path, small_corpus):
    return RegressionSet(tmp_path / "r.jsonl", small_corpus)


@pytest.fixture
def store(tmp_path):
    traces = (Seen("t1", "How do I heat it?", hits=SHOWN), Seen("t2", "Never confirmed?", hits=SHOWN))
    with FeedbackStore(Monitor(*traces), tmp_path / "f.db") as store:
        yield store


def test_a_confirmed_question_with_what_was_wrongly_shown(store, regressions):
    store.add("t1", -1, flagged=["lamp/guide#0-23"])
    store.add("t2", -1)
    regressions.add("how do I HEAT it?", [Span("kettle/guide", 8, 46)], who="ann")
    (pair,) = training_pairs(store, regressions)
    assert (pair.query, pair.positive.text) == ("how do I HEAT it?", "Press the red lever to boil the water.")
    # The flagged one first; the one that holds the answer is no negative, nor is one of a document that is gone.
    assert [chunk.id for chunk in pair.negatives] == ["lamp/guide#0-23", "radio/guide#0-20"]
    assert pair.source == "feedback"
    (short,) = training_pairs(store, regressions, tokens=8, negatives=1)
    assert short.positive.text == "Press the red lever to boil the water"
    assert len(short.negatives) == 1


def test_a_thumb_up_gives_no_negative(store, regressions):
    store.add("t1", 1)
    regressions.add("How do I heat it?", [Span("kettle/guide", 8, 46)], who="ann")
    (pair,) = training_pairs(store, regressions)
    assert pair.negatives == ()


def test_nothing_confirmed_is_nothing_to_learn(store, regressions):
    store.add("t1", -1)
    assert training_pairs(store, regressions) == ()


@pytest.mark.parametrize("wrong", [{"tokens": 7}, {"negatives": -1}])
def test_bad_input_is_refused(store, regressions, wrong):
    with pytest.raises(InputError, match="expected tokens >= 8"):
        training_pairs(store, regressions, **wrong)


def documents(n: int = 40) -> list[Pair]:
    words = ["red", "green", "blue", "white", "black", "grey", "pink", "brown"]
    texts = [f"{words[i % 8]} {words[i // 8]} number{i}" for i in range(n)]
    return [Pair(f"what is {t}", Chunk(f"d{i}", 0, len(t), t), "heading") for i, t in enumerate(texts)]


def test_a_negative_is_pushed_away():
    embedder = FakeEmbedder(dimension=32)
    text, wrong = "press the lever", "boil a kettle today"
    pair = Pair("boil water", Chunk("a", 0, len(text), text), "feedback", (Chunk("b", 0, len(wrong), wrong),))
    settings = AdapterSettings(pull=0.0, steps=30, batch=64, learning_rate=3e-3)
    asked = embedder.encode([pair.query], "query")
    away = embedder.encode([wrong])[0]

    def likeness(*feedback: Pair) -> float:
        adapter = train_on_feedback(feedback, documents(), embedder, settings, times=10)
        return float(adapter.apply(asked)[0] @ away)

    assert likeness(pair) < likeness(replace(pair, negatives=()))
    assert likeness(pair) < float(asked[0] @ away)


def test_the_history_is_finite_and_the_adapter_is_for_questions():
    embedder = FakeEmbedder(dimension=16)
    pair = replace(documents()[0], source="feedback", negatives=(documents()[1].positive,))
    adapter = train_on_feedback([pair], documents(), embedder, AdapterSettings(steps=10))
    assert adapter.side == "query"
    assert adapter.embedder == embedder.identity
    assert np.isfinite(np.array(adapter.history)).all()


def test_no_feedback_is_refused():
    with pytest.raises(InputError, match="0 pairs from feedback"):
        train_on_feedback([], documents(), FakeEmbedder(dimension=8))

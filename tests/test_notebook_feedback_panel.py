"""The panel without a browser: a control that is set from code does what a click does."""

from __future__ import annotations

import sqlite3

import pytest
from test_production_feedback import Cache, Monitor, Seen

from ragkit.base import Answer, Chunk, Citation, Hit
from ragkit.notebook.feedback_panel import FeedbackPanel
from ragkit.production.feedback import REASONS, FeedbackStore

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> $x$"
CHUNKS = (Chunk("kettle/guide", 0, 10, "Pull it."), Chunk("lamp/guide", 5, 20, "Turn it.", ("Lamp", "Dimming")))
ANSWER = Answer(
    "How do I stop it?",
    "Pull it. [1]",
    tuple(Hit(chunk, 1.0) for chunk in CHUNKS),
    (Citation(1, CHUNKS[0], "Pull it."),),
    trace_id="t1",
)


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(Monitor(Seen("t1")), tmp_path / "f.db", Cache()) as store:
        yield store


def test_what_is_set_is_what_is_saved(store):
    panel = FeedbackPanel(ANSWER, store, who="ann")
    panel.thumb.value = -1
    panel.reasons["wrong"].value = panel.reasons["outdated"].value = True
    panel.correction.value, panel.comment.value = "Press the lever.", "hm"
    panel.flags["lamp/guide#5-20"].value = True
    panel.save.click()
    (kept,) = store.all()
    assert (kept.thumb, kept.reasons, kept.flagged) == (-1, ("wrong", "outdated"), ("lamp/guide#5-20",))
    assert (kept.correction, kept.comment, kept.who) == ("Press the lever.", "hm", "ann")
    said = panel.status.value
    assert "Saved as record 1: thumb down · wrong · outdated · 1 flagged · corrected · the cache has forgotten" in said


def test_a_page_without_a_kernel_shows_the_answer_and_the_choices(store):
    bundle = FeedbackPanel(ANSWER, store)._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]
    for words in ("How do I stop it?", "Pull it.", "[it helps]", *REASONS, "Nothing saved yet."):
        assert words in bundle["text/html"]


def test_one_may_change_ones_mind(store):
    panel = FeedbackPanel(ANSWER, store, who="ann")
    for thumb in (-1, 1):
        panel.thumb.value = thumb
        panel.save.click()
    assert [f.thumb for f in store.all()] == [1]
    assert "record 2: thumb up" in panel.status.value


def test_a_thumb_is_needed(store):
    panel = FeedbackPanel(ANSWER, store)
    panel.reasons["wrong"].value = True
    panel.save.click()
    assert "choose a thumb first" in panel.status.value
    assert store.all() == ()


def test_what_can_not_be_saved_stays_in_the_panel(store, tmp_path):
    unknown = FeedbackPanel(Answer("Why?", "So.", trace_id="nobody"), store)
    unknown.thumb.value, unknown.correction.value = -1, "Because."
    unknown.save.click()
    assert "Not saved" in unknown.status.value
    assert "no trace &#x27;nobody&#x27;" in unknown.status.value
    assert (unknown.thumb.value, unknown.correction.value) == (-1, "Because.")
    panel = FeedbackPanel(ANSWER, store)
    panel.thumb.value = 1
    with store._database.transaction() as connection:
        connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(tmp_path / "f.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    panel.save.click()
    assert "database is locked; nothing was written" in panel.status.value
    other.execute("ROLLBACK")
    other.close()
    panel.save.click()
    assert "Saved as record 1" in panel.status.value


def test_every_reason_has_a_chip_and_every_source_a_box(store):
    panel = FeedbackPanel(ANSWER, store)
    assert list(panel.reasons) == list(REASONS)
    assert all(chip.tooltip == REASONS[reason] for reason, chip in panel.reasons.items())
    assert list(panel.flags) == [chunk.id for chunk in CHUNKS]


def test_hostile_texts_are_escaped(store):
    chunk = Chunk(EVIL, 0, len(EVIL), EVIL, (EVIL,))
    answer = Answer(EVIL, EVIL, (Hit(chunk, 1.0),), (Citation(1, chunk, EVIL),), trace_id=EVIL)
    panel = FeedbackPanel(answer, store)
    panel.thumb.value = 1
    panel.save.click()
    (row,) = (box for box in panel.children if panel.flags[chunk.id] in getattr(box, "children", ()))
    shown = [panel.children[0].value, panel.status.value, row.children[1].value]
    for html in shown:
        assert "<script" not in html
        assert "<img" not in html
        assert "&lt;script" in html


def test_the_text_fallback_is_stable(store):
    panel = FeedbackPanel(ANSWER, store)
    assert repr(panel) == "FeedbackPanel('How do I stop it?': 2 sources)"
    panel.thumb.value = 1
    panel.save.click()
    assert repr(panel) == "FeedbackPanel('How do I stop it?': 2 sources)"

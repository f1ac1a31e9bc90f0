"""Opinions on answers: what is kept, what counts, what is refused, and what to look at first."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass, field

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import InputError
from ragkit.chunking import FixedChunker
from ragkit.generation.extractive import Extractive
from ragkit.pipeline import RAGPipeline
from ragkit.production.caching import SQLiteCache
from ragkit.production.database import DatabaseTrouble
from ragkit.production.feedback import REASONS, FeedbackStore
from ragkit.production.monitoring import TraceMonitor
from ragkit.production.opinions import LONGEST, Feedback, flags, same
from ragkit.production.review import suggest
from ragkit.retrieval.bm25 import BM25Retriever


@dataclass(frozen=True)
class Seen:
    """What feedback reads of a stored trace."""

    id: str
    question: str = "How do I stop it?"
    answer: str = "Pull the plug. [1]"
    hits: tuple[tuple[str, float], ...] = (("kettle/guide#0-10", 0.5), ("lamp/guide#5-20", 0.4))
    citations: tuple[str, ...] = ("kettle/guide#0-60",)
    cache_key: str = "digest"
    tenant: str = ""
    top_score: float = 0.5
    settings: str = "s"


class Monitor:
    """As much of a monitor as feedback needs."""

    def __init__(self, *traces: Seen) -> None:
        self.traces = list(traces)

    def trace(self, trace_id: str) -> Seen:
        for trace in self.traces:
            if trace.id == trace_id:
                return trace
        raise InputError(f"no trace {trace_id!r}")

    def dataframe(self) -> pd.DataFrame:
        rows = [(t.id, t.question, t.top_score, t.settings) for t in self.traces]
        return pd.DataFrame(rows, columns=["trace_id", "question", "top_score", "settings"])


@dataclass
class Cache:
    held: set[str] = field(default_factory=lambda: {"digest"})

    def forget(self, digest: str) -> bool:
        if digest == "broken":
            raise OSError("the cache is gone")
        held = digest in self.held
        self.held.discard(digest)
        return held


@pytest.fixture
def monitor() -> Monitor:
    return Monitor(Seen("t1"), Seen("t2", "Which bulb?", cache_key=""), Seen("t3", " how do I\nSTOP it?"))


@pytest.fixture
def store(monitor, tmp_path):
    with FeedbackStore(monitor, tmp_path / "feedback.db", clock=lambda: 1_700_000_000.0) as store:
        yield store


def test_what_is_said_is_kept_with_what_it_was_said_about(store):
    said = store.add("t1", -1, ["wrong"], "Press the lever.", ["lamp/guide#5-20"], "again!", "ann")
    assert (said.thumb, said.reasons, said.correction) == (-1, ("wrong",), "Press the lever.")
    assert (said.question, said.answer, said.flagged) == (
        "How do I stop it?",
        "Pull the plug. [1]",
        ("lamp/guide#5-20",),
    )
    assert store.history("t1") == (said,)
    assert (said.who, said.at) == ("ann", 1_700_000_000.0)
    assert said.shown == ("kettle/guide#0-10", "lamp/guide#5-20", "kettle/guide#0-60")
    # A source that joins several hits can be flagged, too.
    assert store.add("t1", -1, flagged=["kettle/guide#0-60"]).flagged == ("kettle/guide#0-60",)


def test_an_empty_store_has_an_empty_queue(store):
    assert store.all() == ()
    assert store.queue() == ()


def test_the_later_opinion_counts_and_the_earlier_is_kept(store, monkeypatch):
    store.add("t1", -1, ["wrong"], who="ann")
    store.clock = lambda: 0.0  # a clock that was set back does not bring the first opinion back
    store.add("t1", 1, who="ann")
    store.add("t1", -1, who="bob")
    assert [(f.who, f.thumb) for f in store.all()] == [("ann", 1), ("bob", -1)]
    assert [f.thumb for f in store.history("t1")] == [-1, 1, -1]


def test_an_unknown_trace_writes_nothing(store):
    with pytest.raises(InputError, match="no trace 'nobody'"):
        store.add("nobody", -1)
    assert store.all() == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"thumb": 0}, "thumb is 0: expected 1"),
        ({"thumb": True}, "thumb is True"),
        ({"thumb": -1, "reasons": ["ugly"]}, "reason 'ugly': expected some of wrong, incomplete"),
        ({"thumb": -1, "reasons": "wrong"}, r"expected \['wrong'\]"),
        ({"thumb": -1, "flagged": ["radio/guide#0-3"]}, "'radio/guide#0-3' was not shown"),
        ({"thumb": -1, "comment": "x" * (LONGEST + 1)}, "at most 20000"),
    ],
)
def test_bad_input_is_refused_in_words(store, arguments, words):
    with pytest.raises(InputError, match=words):
        store.add("t1", **arguments)
    assert store.all() == ()


def test_every_reason_can_be_given(store):
    assert store.add("t1", -1, list(REASONS)).reasons == tuple(REASONS)


def test_a_thumb_down_makes_the_cache_forget_the_answer_and_a_thumb_up_does_not(monitor, tmp_path):
    cache = Cache()
    with FeedbackStore(monitor, tmp_path / "f.db", cache) as store:
        assert not store.add("t1", 1).forgotten
        assert cache.held == {"digest"}
        assert store.add("t1", -1).forgotten
        assert cache.held == set()
        assert not store.add("t1", -1, who="bob").forgotten  # it was gone already
        assert not store.add("t2", -1).forgotten  # there was no cache behind this answer


def test_a_cache_that_fails_costs_no_opinion(tmp_path, caplog):
    with FeedbackStore(Monitor(Seen("t", cache_key="broken")), tmp_path / "f.db", Cache()) as store:
        assert not store.add("t", -1).forgotten
        assert len(store.all()) == 1
    assert "could not forget" in caplog.text


def test_secrets_are_taken_out_of_what_people_type(store):
    said = store.add("t1", -1, correction="use postgres://app:Tr0ub4dor@db/x", comment="mail jo@uni.edu")
    assert "Tr0ub4dor" not in said.correction
    assert "jo@uni.edu" not in said.comment


def test_half_a_character_does_not_cost_the_record(store):
    assert store.add("t1", -1, comment="broken \ud83d emoji", who="\udc00").comment == "broken ? emoji"


@pytest.mark.parametrize(("content", "kind"), [(b"not a database, but long enough to be one" * 20, "foreign")])
def test_a_file_that_is_no_database_is_named_and_left(monitor, tmp_path, content, kind):
    path = tmp_path / "f.db"
    path.write_bytes(content)
    with FeedbackStore(monitor, path) as store, pytest.raises(DatabaseTrouble, match=r"f\.db") as trouble:
        store.add("t1", -1)
    assert trouble.value.kind == kind
    assert path.read_bytes() == content


def test_a_locked_file_says_so_and_loses_nothing_that_was_there(store, tmp_path):
    store.add("t1", -1)
    other = sqlite3.connect(tmp_path / "feedback.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseTrouble) as trouble:
        store.add("t1", 1)
    assert trouble.value.kind == "locked"
    assert [f.thumb for f in store.all()] == [-1]  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    store.add("t1", 1)
    assert [f.thumb for f in store.all()] == [1]


def test_a_full_disk_says_so_and_keeps_what_was_there(store):
    store.add("t1", -1, comment="kept")
    with store._database.transaction() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite makes of a full disk
    with pytest.raises(DatabaseTrouble, match="the disk is full") as trouble:
        store.add("t1", 1, comment="x" * LONGEST)
    assert trouble.value.kind == "full"
    assert [f.comment for f in store.all()] == ["kept"]


def test_a_damaged_file_says_so_and_is_left(monitor, tmp_path):
    path = tmp_path / "f.db"
    with FeedbackStore(monitor, path) as store:
        for i in range(40):
            store.add("t1", -1, comment="x" * 400, who=str(i))
    damaged = bytearray(path.read_bytes())
    damaged[4096 : len(damaged)] = b"\xa5" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    with FeedbackStore(monitor, path) as store:
        for use in (store.all, lambda: store.add("t1", 1)):
            with pytest.raises(DatabaseTrouble, match=r"f\.db.*damaged"):
                use()
    assert path.read_bytes() == damaged


def test_two_processes_share_a_file(tmp_path):
    code = """
import sys
sys.path.insert(0, sys.argv[2])
from test_production_feedback import Monitor, Seen
from ragkit.production.feedback import FeedbackStore
store = FeedbackStore(Monitor(Seen("t1")), sys.argv[1])
for i in range(25):
    store.add("t1", -1, who=f"{sys.argv[3]} {i}")
"""
    path = str(tmp_path / "f.db")
    here = os.path.dirname(__file__)  # noqa: PTH120
    both = [subprocess.Popen([sys.executable, "-c", code, path, here, name]) for name in ("ann", "bob")]
    assert [process.wait(60) for process in both] == [0, 0]
    with FeedbackStore(Monitor(Seen("t1")), path) as store:
        assert len({f.who for f in store.all()}) == 50


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    code = """
import os, sys
sys.path.insert(0, sys.argv[2])
from test_production_feedback import Monitor, Seen
from ragkit.production.feedback import FeedbackStore
store = FeedbackStore(Monitor(Seen("t1")), sys.argv[1])
for i in range(5):
    print(store.add("t1", -1, comment=str(i), who=str(i)).comment, flush=True)
os.kill(os.getpid(), 9)
"""
    path = str(tmp_path / "f.db")
    done = subprocess.run([sys.executable, "-c", code, path, os.path.dirname(__file__)], capture_output=True, text=True)  # noqa: PTH120
    assert done.returncode == -9, done.stderr
    with FeedbackStore(Monitor(Seen("t1")), path) as store:
        assert [f.comment for f in store.all()] == done.stdout.split() == list("01234")


def test_threads_share_a_store(store):
    threads = [threading.Thread(target=store.add, args=("t1", -1), kwargs={"who": str(i)}) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(f.who for f in store.all()) == sorted(map(str, range(16)))


def test_the_queue_has_each_question_once_and_the_worst_first(store):
    store.add("t2", -1, ["outdated"])
    store.add("t1", -1, ["wrong"], "Press the lever.", who="ann")
    store.add("t3", -1, ["wrong", "incomplete"], "Pull it.", ["lamp/guide#5-20"], who="bob")
    first, second = store.queue()
    assert first.question == " how do I\nSTOP it?"
    assert (first.asked, first.down, first.up) == (2, 2, 0)
    assert (first.reasons, first.corrections) == (("wrong", "incomplete"), ("Press the lever.", "Pull it."))
    assert (first.traces, first.flagged) == (("t1", "t3"), ("lamp/guide#5-20",))
    assert second.question == "Which bulb?"
    assert first.weight > second.weight
    assert store.queue(done=["How do I stop it?"]) == (second,)


def test_the_queue_weighs_how_often_how_disliked_and_how_sure():
    asked = [Seen("a"), Seen("a2"), Seen("b", "b?", top_score=0.9), Seen("c", "c?", top_score=0.1)]
    down = [Feedback(i, 0.0, t.id, -1, question=t.question) for i, t in enumerate((asked[0], *asked[2:]), 1)]
    weights = {flag.question: flag.weight for flag in flags(down, Monitor(*asked).dataframe())}
    # of four scores .1 .5 .5 .9 the ranks are .25 .625 .625 1; (1 + 1) / (1 + 0 + 2) thumbs are down
    expected = {"How do I stop it?": 2 * 2 / 3 * 0.625, "b?": 2 / 3, "c?": 2 / 3 * 0.25}
    assert weights == pytest.approx(expected)
    liked = [*down, *(Feedback(9 + i, 0.0, "b", 1, who=str(i), question="b?") for i in range(8))]
    assert {f.question: f.weight for f in flags(liked, Monitor(*asked).dataframe())}["b?"] == pytest.approx(2 / 11)


def test_without_a_thumb_down_or_a_text_there_is_nothing_to_review(tmp_path):
    silent = Monitor(Seen("a", ""), Seen("b"))
    with FeedbackStore(silent, tmp_path / "f.db") as store:
        store.add("a", -1)
        store.add("b", 1)
        assert store.queue() == ()
        assert len(store.all()) == 2


opinions = st.lists(
    st.builds(
        Feedback,
        number=st.integers(1, 99),
        at=st.just(0.0),
        trace_id=st.sampled_from("abc"),
        thumb=st.sampled_from([-1, 1]),
        question=st.sampled_from(["x?", " X? ", "y?", ""]),
    )
)


@given(opinions)
def test_a_queue_holds_every_disliked_question_once_in_order(said):
    found = flags(said, Monitor(Seen("a", "x?"), Seen("b", "y?")).dataframe())
    assert {same(flag.question) for flag in found} == {same(f.question) for f in said if f.thumb < 0} - {""}
    assert len({same(flag.question) for flag in found}) == len(found)
    assert [flag.weight for flag in found] == sorted((flag.weight for flag in found), reverse=True)
    assert all(0 < flag.weight <= flag.asked for flag in found)


def test_a_real_pipeline_monitor_and_cache(small_corpus, tmp_path):
    """An answer is cached, disliked, forgotten; the next to ask gets a new one."""
    chunks = [chunk for document in small_corpus.documents for chunk in FixedChunker(64, 0).chunk(document)]
    with (
        TraceMonitor(tmp_path / "t.db", otlp="") as monitor,
        FeedbackStore(monitor, tmp_path / "f.db", cache := SQLiteCache(tmp_path / "c.db")) as store,
        closing(cache),
    ):
        rag = RAGPipeline(BM25Retriever(chunks), None, Extractive(), cache=cache, monitor=monitor, identity="test")
        first, again = (asyncio.run(rag.query("Which bulbs fit?")) for _ in range(2))
        said = store.add(again.trace_id, -1, ["wrong"], flagged=[again.hits[0].chunk.id])
        assert (said.question, said.answer, said.forgotten) == ("Which bulbs fit?", first.text, True)
        assert set(said.shown) == {hit.chunk.id for hit in again.hits} | {c.chunk.id for c in again.citations}
        asyncio.run(rag.query("Which bulbs fit?"))
        assert list(monitor.dataframe()["cache"]) == ["miss", "hit", "miss"]
        (flag,) = store.queue()
        assert (flag.asked, flag.down, flag.question) == (3, 1, "Which bulbs fit?")
        with pytest.raises(InputError, match="no trace"):
            store.add("0" * 31 + "1", -1)


def test_of_a_monitor_without_texts_no_place_is_suggested(small_corpus, tmp_path):
    chunks = [chunk for document in small_corpus.documents for chunk in FixedChunker(64, 0).chunk(document)]
    with (
        TraceMonitor(tmp_path / "t.db", text="none", otlp="") as monitor,
        FeedbackStore(monitor, tmp_path / "f.db") as store,
    ):
        rag = RAGPipeline(BM25Retriever(chunks), None, Extractive(), monitor=monitor)
        answer = asyncio.run(rag.query("Which bulbs fit?"))
        said = store.add(answer.trace_id, -1)
        assert "bulbs" not in said.question
        (flag,) = store.queue()  # how often and how bad can still be counted
        assert flag.question == said.question
        with pytest.raises(InputError, match="keeps no text"):
            suggest(flag, small_corpus, rag)


def test_the_store_says_which_file_it_is(store):
    assert repr(store).endswith("feedback.db')")

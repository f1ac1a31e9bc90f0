"""Opinions on answers: what is kept, what counts, what is refused, what to look at first; and from a flag to a labelled
question: what is suggested, what is not, and that only a person confirms."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field, replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.base import Corpus, Document, InputError, RagkitError, Section, Span, question_key
from ragkit.chunking import FixedChunker
from ragkit.generation.extractive import Extractive
from ragkit.pipeline import RAGPipeline
from ragkit.production.caching import SQLiteCache
from ragkit.production.feedback import (
    REASONS,
    Feedback,
    FeedbackStore,
    ReviewItem,
    confirm,
    f_measure,
    spans_around,
    suggest,
    training_pairs,
)
from ragkit.production.monitoring import TraceMonitor
from ragkit.production.regression import RegressionSet
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.rerank import rescored


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
    began: float = field(default_factory=time.time)


class Monitor:
    """As much of a monitor as feedback needs."""

    def __init__(self, *traces: Seen, text: str = "redacted") -> None:
        self.traces, self.text = list(traces), text

    def trace(self, trace_id: str) -> Seen:
        for trace in self.traces:
            if trace.id == trace_id:
                return trace
        raise InputError(f"no trace {trace_id!r}")

    def dataframe(self, since: float | None = None) -> pd.DataFrame:
        rows = [(t.id, t.tenant, t.question, t.top_score, t.settings) for t in self.traces if t.began >= (since or 0)]
        return pd.DataFrame(rows, columns=["trace_id", "tenant", "question", "top_score", "settings"])


@dataclass
class Cache:
    held: set[str] = field(default_factory=lambda: {"digest"})

    def invalidate(self, digest: str) -> bool:
        if digest == "broken":
            raise sqlite3.OperationalError("database is locked")
        held = digest in self.held
        self.held.discard(digest)
        return held


@pytest.fixture
def monitor() -> Monitor:
    return Monitor(Seen("t1"), Seen("t2", "Which bulb?", cache_key=""), Seen("t3", " how do I\nSTOP it?"))


@pytest.fixture
def store(monitor, tmp_path):
    with FeedbackStore(monitor, tmp_path / "feedback.db") as store:
        yield store


def test_what_is_said_is_kept_with_what_it_was_said_about(store):
    said = store.add("t1", -1, ["wrong"], "Press the lever.", ["lamp/guide#5-20"], "again!", "ann")
    assert (said.thumb, said.reasons, said.correction) == (-1, ("wrong",), "Press the lever.")
    assert (said.question, said.answer, said.flagged) == (
        "How do I stop it?",
        "Pull the plug. [1]",
        ("lamp/guide#5-20",),
    )
    assert store.all() == (said,)
    assert said.who == "ann"
    assert said.at == pytest.approx(time.time(), abs=60)
    assert said.shown == ("kettle/guide#0-10", "lamp/guide#5-20", "kettle/guide#0-60")
    # A source that joins several hits can be flagged, too.
    assert store.add("t1", -1, flagged=["kettle/guide#0-60"]).flagged == ("kettle/guide#0-60",)


def test_an_empty_store_has_an_empty_queue(store):
    assert store.all() == ()
    assert store.queue() == ()


def test_the_later_opinion_of_each_person_counts(store, monkeypatch):
    store.add("t1", -1, ["wrong"], who="ann")
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a clock that was set back does not bring the first opinion back
    store.add("t1", 1, who="ann")
    store.add("t1", -1, who="bob")
    assert [(f.who, f.thumb) for f in store.all()] == [("ann", 1), ("bob", -1)]


def test_an_unknown_trace_writes_nothing(store):
    with pytest.raises(InputError, match="no trace 'nobody'"):
        store.add("nobody", -1)
    assert store.all() == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"thumb": 0}, "thumb is 0: expected 1"),
        ({"thumb": -1, "reasons": ["ugly"]}, "reason 'ugly': expected some of wrong, incomplete"),
        ({"thumb": -1, "reasons": "wrong"}, "reason 'w': expected some of wrong"),
        ({"thumb": -1, "flagged": ["radio/guide#0-3"]}, "'radio/guide#0-3' was not shown"),
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


def test_of_a_monitor_that_keeps_no_text_no_text_is_kept(tmp_path):
    """What people type about an answer says as much as what they asked."""
    for text, correction in (("none", ""), ("all", "mail jo@uni.edu"), ("redacted", "mail [redacted: e-mail]")):
        with FeedbackStore(Monitor(Seen("t1"), text=text), tmp_path / f"{text}.db") as store:
            said = store.add("t1", -1, ["wrong"], "mail jo@uni.edu", comment="mail jo@uni.edu", who="ann")
            assert (said.correction, said.comment) == (correction, correction)
            assert (said.thumb, said.reasons, said.who) == (-1, ("wrong",), "ann")
        assert text == "all" or b"jo@uni.edu" not in (tmp_path / f"{text}.db").read_bytes()


@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 20, None])
def test_a_file_of_another_kind_is_named_and_left(monitor, tmp_path, content):
    path = tmp_path / "f.db"
    if content is None:
        TraceMonitor(path).close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"f\.db"):
        FeedbackStore(monitor, path)
    assert path.read_bytes() == before


def test_a_locked_file_says_so_and_loses_nothing_that_was_there(store, tmp_path):
    store.add("t1", -1)
    with store._database.transaction() as connection:
        connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(tmp_path / "feedback.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RagkitError, match=r"feedback\.db: database is locked; nothing was written"):
        store.add("t1", 1)
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
    with pytest.raises(RagkitError, match="full; nothing was written"):
        store.add("t1", 1, comment="x" * 20_000)
    assert [f.comment for f in store.all()] == ["kept"]


def test_a_damaged_file_says_so(monitor, tmp_path):
    path = tmp_path / "f.db"
    with FeedbackStore(monitor, path) as store:
        for i in range(40):
            store.add("t1", -1, comment="x" * 400, who=str(i))
    damaged = bytearray(path.read_bytes())
    damaged[5 * 4096 :] = b"\xa5" * (len(damaged) - 5 * 4096)
    path.write_bytes(damaged)
    with FeedbackStore(monitor, path) as store, pytest.raises(sqlite3.DatabaseError, match=r"f\.db.*malformed"):
        store.all()


WRITER = """
import os, sys
from types import SimpleNamespace
from ragkit.production.feedback import FeedbackStore
trace = SimpleNamespace(id="t1", question="Why?", answer="So.", hits=(), citations=(), cache_key="", tenant="")
store = FeedbackStore(SimpleNamespace(text="redacted", trace=lambda trace_id: trace), sys.argv[1])
for i in range(25):
    print(store.add("t1", -1, who=f"{sys.argv[2]} {i}").who, flush=True)
os.kill(os.getpid(), 9)
"""


def test_what_was_acknowledged_survives_a_kill_of_two_writers_at_once(tmp_path):
    path = str(tmp_path / "f.db")
    commands = [[sys.executable, "-c", WRITER, path, name] for name in ("ann", "bob")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    told = [line for process in both for line in process.communicate(timeout=300)[0].splitlines()]
    assert [process.returncode for process in both] == [-9, -9]
    with FeedbackStore(Monitor(Seen("t1")), path) as store:
        assert sorted(f.who for f in store.all()) == sorted(told)
    assert len(told) == 50


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
    assert first.reasons == ("wrong", "incomplete")
    assert [said.correction for said in first.complaints] == ["Press the lever.", "Pull it."]
    assert [said.trace_id for said in first.complaints] == ["t1", "t3"]
    assert second.question == "Which bulb?"
    assert first.weight > second.weight


def test_the_queue_weighs_how_often_how_disliked_and_how_sure(tmp_path):
    asked = [Seen("a"), Seen("a2"), Seen("b", "b?", top_score=0.9), Seen("c", "c?", top_score=0.1)]
    with FeedbackStore(Monitor(*asked), tmp_path / "f.db") as store:
        for trace_id in "abc":
            store.add(trace_id, -1)
        # of four scores .1 .5 .5 .9 the ranks are .25 .625 .625 1; (1 + 1) / (1 + 0 + 2) thumbs are down
        expected = {"How do I stop it?": 2 * 2 / 3 * 0.625, "b?": 2 / 3, "c?": 2 / 3 * 0.25}
        assert {flag.question: flag.weight for flag in store.queue()} == pytest.approx(expected)
        for i in range(8):
            store.add("b", 1, who=str(i))
        assert {flag.question: flag.weight for flag in store.queue()}["b?"] == pytest.approx(2 / 11)


def test_the_queue_keeps_tenants_apart(tmp_path):
    traces = [Seen("a", answer="our secret plan", tenant="acme"), Seen("g", answer="no idea", tenant="globex")]
    with FeedbackStore(Monitor(*traces), tmp_path / "f.db") as store:
        store.add("a", -1, correction="acme's plan")
        store.add("g", -1)
        flags = {flag.tenant: flag for flag in store.queue()}
    said = {tenant: [(f.answer, f.correction) for f in flag.complaints] for tenant, flag in flags.items()}
    assert said == {"acme": [("our secret plan", "acme's plan")], "globex": [("no idea", "")]}
    assert [flag.asked for flag in flags.values()] == [1, 1]


def test_the_queue_reads_the_traces_of_the_last_days_only(tmp_path):
    """A monitor may hold 100,000 traces, and reading them takes long."""
    old = [Seen(f"old{i}", began=time.time() - 40 * 86_400) for i in range(5)]
    with FeedbackStore(Monitor(*old, Seen("t1")), tmp_path / "f.db") as store:
        store.add("old0", -1)
        assert [(flag.asked, flag.down, flag.sure) for flag in store.queue()] == [(1, 1, 0.5)]


def test_without_a_thumb_down_there_is_nothing_to_review(store):
    store.add("t1", 1)
    assert store.queue() == ()


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([-1, 1]), st.sampled_from("xy")), max_size=9))
def test_a_queue_holds_every_disliked_question_once_in_order(tmp_path_factory, said):
    traces = {"a": Seen("a", "x?"), "b": Seen("b", " X? "), "c": Seen("c", "y?"), "d": Seen("d", "z?")}
    path = tmp_path_factory.mktemp("q") / "f.db"
    with FeedbackStore(Monitor(*traces.values()), path) as store:
        for trace_id, thumb, who in said:
            store.add(trace_id, thumb, who=who)
        flags, opinions = store.queue(), store.all()
    disliked = {question_key(f.question) for f in opinions if f.thumb < 0}
    assert [question_key(flag.question) for flag in flags] == list(
        dict.fromkeys(question_key(f.question) for f in flags)
    )
    assert {question_key(flag.question) for flag in flags} == disliked
    assert [flag.weight for flag in flags] == sorted((flag.weight for flag in flags), reverse=True)
    assert all(0 < flag.weight <= flag.asked for flag in flags)


def test_a_real_pipeline_monitor_and_cache(small_corpus, tmp_path):
    """An answer is cached, disliked, forgotten; the next to ask gets a new one."""
    chunks = [chunk for document in small_corpus.documents for chunk in FixedChunker(64, 0).chunk(document)]
    with (
        TraceMonitor(tmp_path / "t.db") as monitor,
        FeedbackStore(monitor, tmp_path / "f.db", cache := SQLiteCache(tmp_path / "c.db")) as store,
        closing(cache),
    ):
        rag = RAGPipeline(BM25Retriever(chunks), None, Extractive(), cache=cache, monitor=monitor)
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
        TraceMonitor(tmp_path / "t.db", text="none") as monitor,
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


# ---- training pairs

SHOWN = tuple((i, 0.5) for i in ("radio/guide#0-20", "lamp/guide#0-23", "kettle/guide#0-60", "gone/guide#0-5"))


@pytest.fixture
def regressions(tmp_path, small_corpus):
    return RegressionSet(tmp_path / "r.jsonl", small_corpus)


@pytest.fixture
def shown(tmp_path):
    traces = (Seen("t1", "How do I heat it?", hits=SHOWN), Seen("t2", "Never confirmed?", hits=SHOWN))
    with FeedbackStore(Monitor(*traces), tmp_path / "f.db") as store:
        yield store


def test_a_confirmed_question_with_what_was_wrongly_shown(shown, regressions):
    shown.add("t1", -1, flagged=["lamp/guide#0-23"])
    shown.add("t2", -1)
    regressions.add("how do I HEAT it?", [Span("kettle/guide", 8, 46)], who="ann")
    (pair,) = training_pairs(shown, regressions)
    assert (pair.query, pair.positive.text) == ("how do I HEAT it?", "Press the red lever to boil the water.")
    # The flagged one first; the one that holds the answer is no negative, nor is one of a document that is gone.
    assert [chunk.id for chunk in pair.negatives] == ["lamp/guide#0-23", "radio/guide#0-20"]
    assert pair.source == "feedback"


def test_a_thumb_up_gives_no_negative_and_nothing_confirmed_is_nothing_to_learn(shown, regressions):
    shown.add("t1", 1)
    shown.add("t2", -1)
    assert training_pairs(shown, regressions) == ()
    regressions.add("How do I heat it?", [Span("kettle/guide", 8, 46)], who="ann")
    (pair,) = training_pairs(shown, regressions)
    assert pair.negatives == ()


# ---- suggestions


def flagged(question="Which bulbs fit?", reason="wrong", **said) -> ReviewItem:
    return ReviewItem(question, 1.0, 1, 0, 1, 0.5, (reason,), (Feedback(1, 0.0, "t1", -1, (reason,), **said),))


class ByVinegar:
    """A reranker that likes vinegar."""

    def rerank(self, query, hits, k):
        return rescored(hits, [float("vinegar" in hit.chunk.text) for hit in hits], "vinegar", k)


def pipeline(corpus: Corpus, reranker=None) -> RAGPipeline:
    chunks = [chunk for document in corpus.documents for chunk in FixedChunker(64, 0).chunk(document)]
    return RAGPipeline(BM25Retriever(chunks), reranker, Extractive())


def test_by_the_words_of_the_question_where_nothing_else_is_known(small_corpus):
    found = suggest(flagged(), small_corpus, pipeline(small_corpus))
    assert found.why == "the words of the question"
    assert found.places[0].chunk.text == "Only E27 bulbs with at most 40 watts fit."
    assert found.places[0].chunk.section == ("Lamp", "Bulbs")
    assert "1  " in repr(found)
    assert "lamp/guide › Lamp › Bulbs" in repr(found)


def test_by_the_reranker_of_the_pipeline(small_corpus):
    found = suggest(flagged("Press lever vinegar"), small_corpus, pipeline(small_corpus, ByVinegar()))
    assert (found.why, found.places[0].chunk.text) == ("the reranker", "Use vinegar.")


def test_by_the_words_of_the_correction_before_anything_else(small_corpus):
    flag = flagged(correction="press the RED lever and the water boils", flagged=("kettle/guide#0-60",))
    found = suggest(flag, small_corpus, pipeline(small_corpus, ByVinegar()))
    assert found.why == "the words of the corrected answer"
    assert found.places[0].chunk.text == "Press the red lever to boil the water."


def test_what_was_flagged_is_not_suggested(small_corpus):
    flag = flagged("lever bulbs", flagged=("lamp/guide#20-80",))
    texts = [place.chunk.text for place in suggest(flag, small_corpus, pipeline(small_corpus)).places]
    assert "Press the red lever to boil the water." in texts
    assert not any("E27" in text for text in texts)


def test_what_the_disliked_answer_quotes_is_not_suggested_unless_it_was_only_incomplete(small_corpus):
    quoted = "Only E27 bulbs with at most 40 watts fit."
    flag, kept = (flagged(reason=reason, answer=f"{quoted} [1]") for reason in ("wrong", "incomplete"))
    assert quoted not in [place.chunk.text for place in suggest(flag, small_corpus, pipeline(small_corpus)).places]
    assert suggest(kept, small_corpus, pipeline(small_corpus)).places[0].chunk.text == quoted


def test_unknown_words_suggest_nothing_and_then_a_span_is_needed(small_corpus, tmp_path):
    found = suggest(flagged("zzz"), small_corpus, pipeline(small_corpus))
    assert found.places == ()
    regressions = RegressionSet(tmp_path / "r.jsonl", small_corpus)
    with pytest.raises(InputError, match="no place was suggested"):
        confirm(found, regressions, who="ann")
    assert confirm(found, regressions, Span("kettle/guide", 8, 46), who="ann").text == "zzz"


def test_a_person_confirms_the_first_place_or_another(small_corpus, tmp_path):
    regressions = RegressionSet(tmp_path / "r.jsonl", small_corpus)
    found = suggest(flagged(), small_corpus, pipeline(small_corpus))
    with pytest.raises(InputError, match="nothing confirms itself"):
        confirm(found, regressions, who="")
    question = confirm(found, regressions, who="ann")
    assert (question.tags, question.gold) == (("regression",), (found.places[0].chunk.span,))
    assert '"trace":"t1"' in regressions.path.read_text()
    with pytest.raises(InputError, match="already"):
        confirm(found, regressions, who="bob")
    several = [Span("lamp/guide", 8, 23), Span("kettle/guide", 8, 46)]
    other = confirm(replace(found, flag=flagged("All?")), regressions, several, who="bob")
    assert other.gold == tuple(several)


def test_another_corpus_is_refused(small_corpus):
    with pytest.raises(InputError, match="no document"):
        suggest(flagged(), Corpus("other", small_corpus.documents[:1]), pipeline(small_corpus))


def test_f_measure_weighs_words_and_recall():
    weight = {"rare": 3.0, "often": 1.0}
    assert f_measure({"rare"}, {"rare", "often"}, weight) == pytest.approx(5 * 0.75 / (4 + 0.75))
    assert f_measure({"rare", "often"}, {"rare"}, weight) == pytest.approx(5 * 0.75 / (3 + 1))
    assert f_measure({"rare"}, {"often"}, weight) == 0.0


words = st.sets(st.sampled_from("abcde"), min_size=1)


@given(words, words)
def test_f_measure_is_between_0_and_1_and_1_only_for_the_same_words(one, other):
    value = f_measure(one, other, dict.fromkeys("abcde", 1.0))
    assert f_measure(one, other) == value
    assert 0 <= value <= 1 + 1e-12
    assert (value > 1 - 1e-12) == (one == other)


paragraphs = st.lists(st.text("ab. ", min_size=1, max_size=900).filter(str.strip), min_size=1, max_size=12)


@settings(max_examples=40)
@given(paragraphs, st.integers(0, 9000), st.integers(1, 2000))
def test_what_can_be_suggested_is_inside_its_section_and_covers_its_words(parts, start, length):
    text = "\n\n".join(parts)
    document = Document("d", text, sections=(Section(("H",), 0, 0, len(text)),))
    for every_run in (False, True):
        for span in spans_around(document, Span("d", start, start + length), every_run):
            assert 0 <= span.start < span.end <= len(text)
            assert text[span.start : span.end].strip()
    found = list(spans_around(document, Span("d", 0, len(text)), every_run=False))
    assert {i for span in found for i in range(span.start, span.end)} >= {i for i, c in enumerate(text) if c.strip()}
    if len(text.strip()) <= 1600:
        assert len(found) == 1

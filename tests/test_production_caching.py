"""The exact answer cache: what it gives back, when it forgets, what it survives. And the key: what makes it miss."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from ragkit.base import Answer, Chunk, Citation, Context, Corpus, Generation, Hit, InputError, Usage
from ragkit.generation import Extractive
from ragkit.pipeline import advanced, modular, naive
from ragkit.pipeline.trace import AnswerCache, CacheKey
from ragkit.production import entries as entries_module
from ragkit.production.caching import CacheStats, SQLiteCache
from ragkit.production.database import DatabaseTrouble
from ragkit.production.records import answer_json, answer_of
from ragkit.retrieval.rerank import LateInteraction
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore

CHUNK = Chunk("lamp/guide", 3, 12, "the wheel", ("Lamp", "Dimming"), {"project": "lamp", "tags": ["a", 1, None]})
ANSWER = Answer(
    "How do I dim it?",
    "Turn the wheel [1].",
    hits=(Hit(CHUNK, 0.1 + 0.2, "hybrid", {"bm25": 1 / 3}), Hit(replace(CHUNK, start=4, text="he wheel"), -1e-300)),
    citations=(Citation(1, CHUNK, "wheel"),),
    timings={"retrieve": 1.25},
    usage=Usage("m", 7, 3),
    trace_id="a" * 32,
)


def key(question="How do I dim it?", tenant="", settings="s"):
    return CacheKey(settings, question, tenant)


@pytest.fixture
def clock():
    return SimpleNamespace(time=1_000_000.0)


@pytest.fixture
def cache(tmp_path):
    cache = SQLiteCache(tmp_path / "cache.db")
    yield cache
    cache.close()


# ---- what it gives back


def test_it_is_an_answer_cache_and_gives_the_answer_back_equal(cache):
    assert isinstance(cache, AnswerCache)
    assert cache.get(key()) is None
    cache.put(key(), ANSWER)
    found = cache.get(key())
    assert found.answer == ANSWER
    assert (found.digest, found.similarity) == (key().digest, 1.0)
    assert found.answer.hits[0].chunk is found.answer.citations[0].chunk


@pytest.mark.parametrize("other", [key("how do I dim it?"), key(tenant="acme"), key(settings="t")], ids=str)
def test_another_key_is_another_answer(cache, other):
    cache.put(key(), ANSWER)
    assert cache.get(other) is None


def test_the_file_is_kept_where_ragkit_keeps_files(ragkit_home):
    SQLiteCache().put(key(), ANSWER)
    assert SQLiteCache().get(key()).answer == ANSWER
    assert (ragkit_home / "production" / "cache.db").is_file()


def test_a_later_answer_replaces_the_earlier(cache):
    cache.put(key(), ANSWER)
    cache.put(key(), replace(ANSWER, text="Press it."))
    assert cache.get(key()).answer.text == "Press it."
    assert cache.stats().entries == 1


words = st.text(max_size=12)
finite = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
chunks = st.builds(
    Chunk,
    words,
    st.integers(0),
    st.integers(0),
    words,
    st.lists(words, max_size=3).map(tuple),
    st.dictionaries(words, plain),
)
hits = st.builds(Hit, chunks, finite, words, st.dictionaries(words, finite, max_size=3))
answers = st.builds(
    Answer,
    words,
    words,
    hits=st.lists(hits, max_size=4).map(tuple),
    citations=st.lists(st.builds(Citation, st.integers(), chunks, words), max_size=3).map(tuple),
    timings=st.dictionaries(words, finite, max_size=3),
    usage=st.builds(Usage, words, st.integers(), st.integers()),
    abstained=st.booleans(),
    reason=words,
    trace_id=words,
)


@settings(max_examples=60)
@given(answers)
def test_every_answer_of_json_survives(answer):
    text = answer_json(answer)
    assert text.isascii()
    assert answer_of(text) == answer


@pytest.mark.parametrize(
    "metadata",
    [{"when": (1, 2)}, {"when": object()}, {1: "a"}, {"x": float("nan")}],
    ids=["tuple", "object", "number as key", "nan"],
)
def test_what_json_can_not_give_back_is_refused(cache, metadata):
    odd = replace(ANSWER, hits=(Hit(replace(CHUNK, metadata=metadata), 1.0),))
    with pytest.raises(InputError, match="given back equal"):
        cache.put(key(), odd)
    assert cache.get(key()) is None


def test_odd_questions_and_tenants_are_kept(cache):
    odd = [key("\ud800 lone"), key("a\0b"), key("'; DROP TABLE entries; --"), key("x", tenant="\udfff"), key("x", "%")]
    for number, each in enumerate(odd):
        cache.put(each, replace(ANSWER, text=str(number)))
    assert [cache.get(each).answer.text for each in odd] == list("01234")


# ---- when it forgets


def test_tenants_never_see_each_other(cache):
    for tenant in ("acme", "globex", ""):
        cache.put(key(tenant=tenant), replace(ANSWER, text=f"for {tenant}"))
    assert [cache.get(key(tenant=t)).answer.text for t in ("acme", "globex", "")] == ["for acme", "for globex", "for "]


def test_a_thumbs_down_forgets_one_answer(cache):
    cache.put(key(), ANSWER)
    cache.put(key("other"), ANSWER)
    assert cache.forget(cache.get(key()).digest)
    assert cache.get(key()) is None
    assert cache.get(key("other"))
    assert not cache.forget(key().digest)
    assert not cache.forget("")


def test_an_answer_lives_for_its_time(tmp_path, clock):
    cache = SQLiteCache(tmp_path / "c.db", ttl=60, clock=lambda: clock.time)
    cache.put(key(), ANSWER)
    clock.time += 59
    assert cache.get(key())
    clock.time += 1
    assert cache.get(key()) is None
    assert cache.stats() == CacheStats(hits=1, misses=1, expired=1, entries=1, bytes=cache.stats().bytes)
    cache.put(key("other"), ANSWER)  # what has expired leaves the file with the next that is written
    assert cache.stats().entries == 1


def test_a_clock_that_is_set_back_makes_no_answer_immortal(tmp_path, clock):
    cache = SQLiteCache(tmp_path / "c.db", ttl=60, clock=lambda: clock.time)
    clock.time += 1e9
    cache.put(key(), ANSWER)
    clock.time -= 1e9
    assert cache.get(key()) is None
    assert cache.stats().expired == 1
    cache.put(key(), replace(ANSWER, text="now"))
    assert cache.get(key()).answer.text == "now"


def test_without_a_ttl_the_clock_does_not_matter(tmp_path, clock):
    cache = SQLiteCache(tmp_path / "c.db", clock=lambda: clock.time)
    cache.put(key(), ANSWER)
    for clock.time in (0.0, 1e12):
        assert cache.get(key())


def sized(cache, count):
    """Room for ``count`` answers, and not for one more."""
    cache.put(key("q0"), ANSWER)
    cache.entries.max_bytes = cache.stats().bytes * count + 10


def test_past_the_cap_the_least_recently_used_go(cache):
    sized(cache, 3)
    cache.put(key("q1", "acme"), ANSWER)
    cache.put(key("q2"), ANSWER)
    assert cache.get(key("q0"))  # used again, so q1 is now the oldest
    cache.put(key("q3"), ANSWER)
    assert cache.get(key("q1", "acme")) is None
    assert all(cache.get(key(q)) for q in ("q0", "q2", "q3"))
    assert cache.stats("acme").evictions == 1
    assert cache.stats().bytes <= cache.entries.max_bytes


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=40), st.integers(1, 5))
def test_it_evicts_as_a_textbook_lru_does(tmp_path_factory, steps, room):
    cache = SQLiteCache(tmp_path_factory.mktemp("lru") / "c.db")
    sized(cache, room)
    cache.forget(key("q0").digest)
    model: dict[str, None] = {}
    for asks, number in steps:
        name = f"q{number}"
        if asks:
            assert (cache.get(key(name)) is not None) == (name in model)
            if name in model:
                model[name] = model.pop(name)
        else:
            model.pop(name, None)
            cache.put(key(name), ANSWER)
            model[name] = None
            if len(model) > room:
                del model[next(iter(model))]
    assert cache.stats().entries == len(model)
    assert cache.stats().bytes <= cache.entries.max_bytes
    cache.close()


def test_what_was_read_long_ago_is_noted_even_without_writing(cache, monkeypatch):
    monkeypatch.setattr(entries_module, "_READ", 3)
    sized(cache, 3)
    for name in ("q1", "q2"):
        cache.put(key(name), ANSWER)
    for name in ("q0", "q1", "q2", "q0"):
        cache.get(key(name))
    order = "SELECT question FROM entries ORDER BY used"
    assert [json.loads(row[0]) for row in cache.entries.database.read(order)] == ["q0", "q1", "q2"]


def test_of_what_was_read_twice_the_last_time_counts(cache):
    sized(cache, 2)
    cache.put(key("q1"), ANSWER)
    for name in ("q0", "q1", "q0"):
        cache.get(key(name))
    cache.put(key("q2"), ANSWER)
    assert cache.get(key("q1")) is None
    assert cache.get(key("q0"))


def test_answers_of_all_sizes_stay_below_the_cap(tmp_path):
    cache = SQLiteCache(tmp_path / "c.db", max_bytes=20_000)
    for number in range(60):
        cache.put(key(f"q{number}"), replace(ANSWER, text="x" * (number * 97 % 3000)))
        assert cache.stats().bytes <= 20_000
    sizes = cache.entries.database.read("SELECT (SELECT sum(bytes) FROM entries), bytes FROM size")[0]
    assert sizes[0] == sizes[1] > 15_000


def test_an_answer_larger_than_the_cache_is_refused_and_counted(tmp_path):
    cache = SQLiteCache(tmp_path / "c.db", max_bytes=1000)
    cache.put(key(), replace(ANSWER, text="x" * 1000))
    assert cache.get(key()) is None
    assert cache.stats().refused == 1


@pytest.mark.parametrize("wrong", [{"ttl": 0}, {"ttl": -1}, {"ttl": float("nan")}, {"max_bytes": 0}], ids=str)
def test_wrong_limits_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="expected"):
        SQLiteCache(tmp_path / "c.db", **wrong)


def test_each_tenant_is_counted(cache):
    cache.put(key(tenant="acme"), ANSWER)
    for tenant in ("acme", "acme", "globex"):
        cache.get(key(tenant=tenant))
    acme, globex = cache.stats("acme"), cache.stats("globex")
    assert (acme.hits, acme.misses, acme.entries, acme.hit_rate) == (2, 0, 1, 1.0)
    assert (globex.hits, globex.misses, globex.entries, globex.hit_rate) == (0, 1, 0, 0.0)
    assert cache.stats().hit_rate == 2 / 3
    assert "2 hits, 1 misses" in repr(cache)


# ---- what it survives


def test_a_flipped_bit_is_a_miss_and_counted(tmp_path):
    """Wherever a bit of an entry is flipped in the file: the answer that was kept, or none."""
    path = tmp_path / "c.db"
    cache = SQLiteCache(path)
    cache.put(key(), ANSWER)
    cache.close()
    shutil.copy(path, tmp_path / "good.db")
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    good = path.read_bytes()
    start = good.index(b'{"question":"How do I dim it?"')
    outcomes = set()
    for place in range(start - 60, start + 700, 7):
        bad = bytearray(good)
        bad[place] ^= 4
        path.write_bytes(bad)
        cache = SQLiteCache(path)
        found = cache.get(key())
        assert found is None or found.answer == ANSWER
        outcomes.add((found is None, cache.stats().damaged))
        cache.close()
    assert (True, 1) in outcomes


def test_text_under_another_key_or_time_is_damaged(cache):
    cache.put(key(), ANSWER)
    cache.put(key("other"), replace(ANSWER, text="another"))
    taken = ", ".join(f"{c} = (SELECT {c} FROM entries WHERE digest = :other)" for c in ("text", "checksum", "written"))
    names = {"other": key("other").digest, "mine": key().digest}
    cache.entries.database.write(f"UPDATE entries SET {taken} WHERE digest = :mine", names)
    assert cache.get(key()) is None
    cache.entries.database.write("UPDATE entries SET written = written + 1e9 WHERE digest = ?", (key("other").digest,))
    assert cache.get(key("other")) is None
    assert cache.stats().damaged == 2


def corrupt(path):
    path.write_bytes(b"this is not a database, and long enough to be looked at " * 100)


def hurt(path):
    SQLiteCache(path).put(key(), ANSWER)
    gc.collect()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [corrupt, hurt, lambda path: path.mkdir()], ids=["foreign", "corrupt", "a folder"])
def test_a_file_that_can_not_be_read_makes_misses_told_once(tmp_path, damage, caplog):
    path = tmp_path / "c.db"
    damage(path)
    before = path.read_bytes() if path.is_file() else b""
    cache = SQLiteCache(path)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            cache.entries._quiet = 0.0
            assert cache.get(key()) is None
            cache.put(key(), ANSWER)
    assert len(caplog.records) == 1
    assert cache.trouble is not None
    assert "TROUBLE" in repr(cache)
    assert cache.stats().misses == 3
    assert (path.read_bytes() if path.is_file() else b"") == before
    with pytest.raises(DatabaseTrouble):
        cache.forget(key().digest)


def test_a_locked_file_is_read_and_written_again_later(tmp_path, caplog):
    cache = SQLiteCache(tmp_path / "c.db")
    cache.put(key(), ANSWER)
    with sqlite3.connect(tmp_path / "c.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert cache.get(key())  # readers do not wait
        cache.put(key("new"), ANSWER)
        assert cache.trouble.kind == "locked"
        begin = time.perf_counter()
        for number in range(50):  # it is left alone for a while, and costs nothing
            cache.put(key(f"q{number}"), ANSWER)
        assert time.perf_counter() - begin < 1
        other.execute("ROLLBACK")
    other.close()
    cache.entries._quiet = 0.0
    cache.put(key("new"), ANSWER)
    assert cache.get(key("new"))
    assert cache.trouble is None
    assert len(caplog.records) == 1


class Tight(SQLiteCache):
    """A cache on a disk with room for little."""

    def full(self):
        with self.entries.database.transaction() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_costs_no_answer(tmp_path):
    cache = Tight(tmp_path / "c.db")
    cache.put(key(), ANSWER)
    cache.full()
    cache.put(key("large"), replace(ANSWER, text="x" * 100_000))
    assert cache.trouble.kind == "full"
    cache.entries._quiet = 0.0
    assert cache.get(key()).answer == ANSWER
    assert cache.get(key("large")) is None


WRITER = """
import sys
from pathlib import Path
from ragkit.base import Answer
from ragkit.pipeline.trace import CacheKey
from ragkit.production.caching import SQLiteCache
cache = SQLiteCache(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    cache.put(CacheKey("s", f"{sys.argv[2]} {number}"), Answer("q", f"{sys.argv[2]} {number}" * 50))
    print(number, flush=True)
"""


def test_two_processes_share_the_file(tmp_path):
    path = tmp_path / "c.db"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name, "60"], stdout=-3) for name in "ab"]
    assert [w.wait(60) for w in writers] == [0, 0]
    cache = SQLiteCache(path)
    assert all(cache.get(key(f"{name} {n}")).answer.text == f"{name} {n}" * 50 for name in "ab" for n in range(60))
    assert cache.stats().entries == 120


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    path = tmp_path / "c.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, path, "a", "100000"], stdout=subprocess.PIPE) as writer:
        acknowledged = [int(writer.stdout.readline()) for _ in range(40)][-1]
        os.kill(writer.pid, signal.SIGKILL)
    cache = SQLiteCache(path)
    assert all(cache.get(key(f"a {n}")) for n in range(acknowledged + 1))
    assert cache.entries.database.read("PRAGMA integrity_check")[0][0] == "ok"
    cache.put(key(), ANSWER)
    assert cache.get(key())


def test_threads_share_one_cache(tmp_path):
    cache = SQLiteCache(tmp_path / "c.db")
    wrong = []

    def work(name):
        for number in range(25):
            mine = key(f"{name} {number}")
            cache.put(mine, replace(ANSWER, text=mine.question))
            if cache.get(mine).answer.text != mine.question:
                wrong.append(mine)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert (cache.stats().hits, cache.stats().entries) == (100, 100)


# ---- the key: what can change an answer makes it miss


class Counting:
    """A model that counts what it is asked."""

    def __init__(self, identity="model", wait=0.0):
        self.identity, self.wait, self.calls = identity, wait, []

    def __repr__(self):
        return "Counting()"

    async def generate(self, question: str, context: Context) -> Generation:
        self.calls.append(question)
        await asyncio.sleep(self.wait)
        return Generation(f"{self.identity}: {question}", usage=Usage(self.identity, 1, 1))


def changed_corpus(corpus: Corpus) -> Corpus:
    first, *rest = corpus.documents
    return Corpus(corpus.name, (replace(first, text=first.text.replace("red", "new")), *rest), ())


@pytest.fixture
def world(small_corpus, ragkit_home):
    def opened(corpus=small_corpus, **embedder):
        return TokenStore.open(corpus, FakeEmbedder(**embedder), progress=False)

    return SimpleNamespace(corpus=small_corpus, store=opened(), opened=opened)


def swapped_prompt(monkeypatch):
    from ragkit.pipeline import identity

    monkeypatch.setattr(identity, "ANSWER", SimpleNamespace(identity="another prompt"))


CHANGES = {
    "index": lambda w, c: advanced(changed_corpus(w.corpus), store=w.opened(changed_corpus(w.corpus)), **c),
    "chunker": lambda w, c: advanced(w.corpus, store=w.store, size=256, **c),
    "overlap": lambda w, c: advanced(w.corpus, store=w.store, overlap=32, **c),
    "embedder": lambda w, c: advanced(w.corpus, store=w.opened(seed=1), **c),
    "retriever": lambda w, c: naive(w.corpus, store=w.store, **c),
    "router": lambda w, c: modular(w.corpus, store=w.store, **c),
    "fetch": lambda w, c: advanced(w.corpus, store=w.store, fetch=20, **c),
    "budget": lambda w, c: advanced(w.corpus, store=w.store, budget=100, **c),
    "model": lambda w, c: advanced(w.corpus, store=w.store, **{**c, "llm": Counting("another model")}),
}


def asked(rag, question="How do I heat water?", k=10, tenant=""):
    return asyncio.run(rag.query(question, k, tenant=tenant))


def served(cache, rag, question="How do I heat water?", k=10, tenant=""):
    before = cache.stats().hits
    asked(rag, question, k, tenant)
    return cache.stats().hits > before


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_any_part_misses(world, cache, change):
    common = {"cache": cache, "llm": Counting()}
    usual = lambda: advanced(world.corpus, store=world.store, **common)  # noqa: E731
    assert not served(cache, usual())
    assert served(cache, usual())  # so the next miss is due to the change
    assert not served(cache, CHANGES[change](world, common))
    assert served(cache, CHANGES[change](world, common))


def test_a_change_of_reranker_prompt_tenant_k_or_question_misses(world, cache, monkeypatch):
    def usual():
        return advanced(world.corpus, store=world.store, cache=cache, llm=Counting())

    assert not served(cache, usual())
    assert served(cache, usual())
    for changed in (None, LateInteraction(world.store, mean="arithmetic")):
        other = usual()
        other.reranker = changed
        assert not served(cache, other)
        assert served(cache, other)
    assert not served(cache, usual(), tenant="acme")
    assert not served(cache, usual(), k=5)
    assert not served(cache, usual(), "How do I not heat water?")
    assert served(cache, usual(), "  How do I\n heat water? ")  # only white space differs
    with monkeypatch.context() as patched:
        swapped_prompt(patched)
        assert not served(cache, usual())
    assert served(cache, usual())


def test_what_the_preset_answers_with_is_in_the_key_too(world, cache):
    def with_threshold(threshold):
        llm = Extractive(world.store.maxsim, threshold=threshold)
        return advanced(world.corpus, store=world.store, cache=cache, llm=llm)

    assert asked(with_threshold(0.0)).text
    assert cache.stats().entries == 1
    assert not served(cache, with_threshold(0.01))


def test_a_thousand_questions_at_once_cost_as_many_generations_as_there_are_questions(world, cache):
    llm = Counting(wait=0.05)
    rag = advanced(world.corpus, store=world.store, cache=cache, llm=llm)
    questions = [f"Which bulb number {number % 37} fits?" for number in range(1000)]

    async def all_at_once():
        return await asyncio.gather(*(rag.query(question) for question in questions))

    answers = asyncio.run(all_at_once())
    assert [a.question for a in answers] == questions
    assert [a.text for a in answers] == [f"model: {question}" for question in questions]
    assert len(llm.calls) == len(set(questions)) == 37
    assert len({a.trace_id for a in answers}) == 1000


def test_a_pipeline_answers_with_a_broken_cache(world, tmp_path, caplog):
    corrupt(tmp_path / "c.db")
    rag = advanced(world.corpus, store=world.store, cache=SQLiteCache(tmp_path / "c.db"), llm=Counting())
    assert asked(rag).text == asked(rag).text == "model: How do I heat water?"
    assert len(rag.llm.calls) == 2
    assert len(caplog.records) == 1


class Traces(list):
    """A monitor that keeps every trace."""

    record = list.append


def test_an_old_index_can_never_be_served(world, cache):
    old = advanced(world.corpus, store=world.store, cache=cache, llm=Counting())
    asked(old)
    new_corpus, traces = changed_corpus(world.corpus), Traces()
    new = advanced(new_corpus, store=world.opened(new_corpus), cache=cache, llm=Counting(), monitor=traces)
    asked(new)
    kept = {json.loads(row[0]) for row in cache.entries.database.read("SELECT settings FROM entries")}
    assert len(kept) == 2
    assert served(cache, new)

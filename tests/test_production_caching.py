"""The exact answer cache: what it gives back, when it forgets, what it survives. And the key: what makes it miss."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from ragkit.base import Answer, Chunk, Citation, Context, Corpus, Generation, Hit, InputError, Section, Usage
from ragkit.generation import Extractive
from ragkit.pipeline import advanced, modular, naive
from ragkit.pipeline.trace import AnswerCache, CacheKey
from ragkit.production.caching import SQLiteCache, answer_from_json, answer_to_json
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
    writer="m",
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
    st.lists(st.builds(Section, st.lists(words).map(tuple), *[st.integers()] * 3), max_size=2).map(tuple),
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
    writer=words,
    fallback=st.booleans(),
)


@settings(max_examples=60)
@given(answers)
def test_every_answer_of_json_survives(answer):
    text = answer_to_json(answer)
    assert text.isascii()
    again = answer_from_json(text)
    assert again == answer
    assert [hit.chunk.sections for hit in again.hits] == [hit.chunk.sections for hit in answer.hits]


@pytest.mark.parametrize(
    "metadata",
    [{"when": (1, 2)}, {"when": object()}, {1: "a"}, {"x": float("nan")}, {"x": np.arange(3)}],
    ids=["tuple", "object", "number as key", "nan", "array"],
)
def test_what_json_can_not_give_back_is_refused(cache, metadata):
    odd = replace(ANSWER, hits=(Hit(replace(CHUNK, metadata=metadata), 1.0),))
    with pytest.raises(InputError, match="stored as JSON"):
        cache.put(key(), odd)
    assert cache.get(key()) is None


def test_numbers_of_numpy_are_stored(cache):
    cache.put(key(), replace(ANSWER, hits=(Hit(replace(CHUNK, start=np.int64(3)), np.float32(0.1)),)))
    (hit,) = cache.get(key()).answer.hits
    assert (hit.chunk.start, hit.score) == (3, np.float32(0.1))


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


def test_a_thumb_down_forgets_one_answer(cache):
    cache.put(key(), ANSWER)
    cache.put(key("other"), ANSWER)
    assert cache.invalidate(cache.get(key()).digest)
    assert cache.get(key()) is None
    assert cache.get(key("other"))
    assert not cache.invalidate(key().digest)


def test_an_answer_lives_for_its_time(tmp_path, clock):
    cache = SQLiteCache(tmp_path / "c.db", ttl=60, clock=lambda: clock.time)
    cache.put(key(), ANSWER)
    clock.time += 59
    assert cache.get(key())
    clock.time += 1
    assert cache.get(key()) is None
    assert (cache.stats().hits, cache.stats().misses, cache.stats().hit_rate) == (1, 1, 0.5)


def test_a_clock_that_is_set_back_makes_no_answer_immortal(tmp_path, clock):
    cache = SQLiteCache(tmp_path / "c.db", ttl=60, clock=lambda: clock.time)
    clock.time += 1e9
    cache.put(key(), ANSWER)
    clock.time -= 1e9
    assert cache.get(key()) is None
    cache.put(key(), replace(ANSWER, text="now"))
    assert cache.get(key()).answer.text == "now"


def test_without_a_ttl_the_clock_does_not_matter(tmp_path, clock):
    cache = SQLiteCache(tmp_path / "c.db", clock=lambda: clock.time)
    cache.put(key(), ANSWER)
    for clock.time in (0.0, 1e12):
        assert cache.get(key())


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=40), st.integers(1, 5))
def test_past_the_cap_it_evicts_as_a_textbook_lru_does(tmp_path_factory, steps, room):
    cache = SQLiteCache(tmp_path_factory.mktemp("lru") / "c.db")
    cache.put(key("q0"), ANSWER)
    cache.max_bytes = cache.stats().bytes * room + 10
    cache.invalidate(key("q0").digest)
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
    assert cache.stats().bytes <= cache.max_bytes
    cache.close()


def test_answers_of_all_sizes_fill_the_cap_and_stay_below_it(tmp_path):
    cache = SQLiteCache(tmp_path / "c.db", max_bytes=20_000)
    for number in range(60):
        cache.put(key(f"q{number}"), replace(ANSWER, text="x" * (number * 97 % 3000)))
        assert cache.stats().bytes <= 20_000
        assert cache.get(key(f"q{number}"))
    assert cache.stats().bytes > 15_000


def test_an_answer_larger_than_the_cache_is_refused_and_pushes_nothing_out(tmp_path):
    cache = SQLiteCache(tmp_path / "c.db", max_bytes=2000)
    cache.put(key(), ANSWER)
    with pytest.raises(InputError, match="max_bytes is 2000"):
        cache.put(key("large"), replace(ANSWER, text="x" * 2000))
    assert cache.get(key())


@pytest.mark.parametrize("wrong", [{"ttl": 0}, {"ttl": -1}, {"max_bytes": 0}], ids=str)
def test_wrong_limits_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="expected"):
        SQLiteCache(tmp_path / "c.db", **wrong)


# ---- what it survives


def damage(path):
    """Everything after the first two pages."""
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "c.db"
    cache = SQLiteCache(path)
    for number in range(20):
        cache.put(key(f"q{number}"), ANSWER)
    cache.close()
    damage(path)
    with pytest.raises(sqlite3.DatabaseError, match=r"c\.db: database disk image is malformed"):
        SQLiteCache(path).put(key("new"), ANSWER)


def test_a_locked_or_full_file_can_still_be_read(tmp_path):
    cache = SQLiteCache(tmp_path / "c.db")
    cache.put(key(), ANSWER)
    cache.database._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(tmp_path / "c.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert cache.get(key()).answer == ANSWER
    with pytest.raises(sqlite3.OperationalError, match=r"c\.db: database is locked"):
        cache.put(key("new"), ANSWER)
    other.execute("ROLLBACK")
    other.close()
    pages = cache.database._connection.execute("PRAGMA page_count").fetchone()[0]
    cache.database._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match=r"c\.db: database or disk is full"):
        cache.put(key("large"), replace(ANSWER, text="x" * 100_000))
    assert cache.get(key()).answer == ANSWER
    assert cache.get(key("large")) is None
    assert cache.stats().entries == 1


WRITER = """
import sys
from ragkit.base import Answer
from ragkit.pipeline.trace import CacheKey
from ragkit.production.caching import SQLiteCache
cache = SQLiteCache(sys.argv[1])
for number in range(int(sys.argv[3])):
    cache.put(CacheKey("s", f"{sys.argv[2]} {number}"), Answer("q", f"{sys.argv[2]} {number}" * 50))
    print(number, flush=True)
"""


def test_processes_share_the_file_and_a_kill_loses_nothing(tmp_path):
    path = tmp_path / "c.db"
    command = [sys.executable, "-c", WRITER, path]
    with subprocess.Popen([*command, "a", "100000"], stdout=subprocess.PIPE) as doomed:
        other = subprocess.Popen([*command, "b", "60"], stdout=subprocess.DEVNULL)
        acknowledged = [int(doomed.stdout.readline()) for _ in range(40)][-1]
        doomed.kill()
    assert other.wait(60) == 0
    cache = SQLiteCache(path)
    assert all(cache.get(key(f"a {n}")) for n in range(acknowledged + 1))
    assert all(cache.get(key(f"b {n}")).answer.text == f"b {n}" * 50 for n in range(60))


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


CHANGES = {
    "index": lambda w, c: advanced(changed_corpus(w.corpus), store=w.opened(changed_corpus(w.corpus)), **c),
    "chunker": lambda w, c: advanced(w.corpus, store=w.store, size=16, overlap=0, **c),
    "overlap": lambda w, c: advanced(w.corpus, store=w.store, size=16, overlap=8, **c),
    "embedder": lambda w, c: advanced(w.corpus, store=w.opened(seed=1), **c),
    "retriever": lambda w, c: naive(w.corpus, store=w.store, **c),
    "router": lambda w, c: modular(w.corpus, store=w.store, **c),
    "fetch_k": lambda w, c: advanced(w.corpus, store=w.store, fetch_k=20, **c),
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


def test_a_change_of_reranker_tenant_k_or_question_misses(world, cache):
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


def test_a_pipeline_answers_with_a_broken_cache(world, cache, caplog):
    rag = advanced(world.corpus, store=world.store, cache=cache, llm=Counting())
    with cache.database.transaction() as connection:
        connection.execute("DROP TABLE answers")
    assert asked(rag).text == asked(rag).text == "model: How do I heat water?"
    assert len(rag.llm.calls) == 2
    assert "cache.db: no such table: answers" in caplog.text


def test_an_old_index_can_never_be_served(world, cache):
    asked(advanced(world.corpus, store=world.store, cache=cache, llm=Counting()))
    changed = changed_corpus(world.corpus)
    new = advanced(changed, store=world.opened(changed), cache=cache, llm=Counting())
    assert not served(cache, new)
    assert cache.stats().entries == 2
    assert served(cache, new)

"""The semantic cache: what it serves, what it must not, and the tool that measures how it lies."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from ragkit.base import Answer, InputError, Question, Span, question_key
from ragkit.pipeline import advanced
from ragkit.pipeline import presets as presets_module
from ragkit.pipeline.trace import AnswerCache, CacheKey
from ragkit.production.caching import SQLiteCache
from ragkit.production.semantic import (
    CachePair,
    SemanticCache,
    cache_pairs,
    choose_threshold,
    false_hit_rate,
    lexical_guard,
    same_gold,
    upper_bound,
)
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore


class Angles:
    """A text ``"... @30"`` is the direction of 30 degrees; ``asked`` counts what it encoded."""

    name = identity = "angles"
    dimension = 2

    def __init__(self):
        self.asked = []

    def encode(self, texts, kind="passage"):
        assert kind == "query"
        self.asked += texts
        angles = np.radians([float(text.rpartition("@")[2]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def key(question, tenant="", settings="s"):
    return CacheKey(settings, question, tenant)


def answer(text):
    return Answer("q", text)


@pytest.fixture
def exact(tmp_path):
    cache = SQLiteCache(tmp_path / "cache.db")
    yield cache
    cache.close()


@pytest.fixture
def cache(exact):
    return SemanticCache(exact, Angles(), 0.9, guard=None)


# ---- the cache


def test_the_nearest_question_is_served_with_its_cosine_and_digest(cache):
    assert isinstance(cache, AnswerCache)
    assert cache.get(key("nothing yet @0")) is None
    for angle in (0, 20, 90):
        cache.put(key(f"a @{angle}"), answer(f"at {angle}"))
    near = cache.get(key("b @15"))
    assert (near.answer.text, near.digest) == ("at 20", key("a @20").digest)
    assert near.similarity == pytest.approx(math.cos(math.radians(5)), abs=1e-6)
    assert cache.get(key("c @50")) is None  # 30 degrees away: .87
    assert (cache.exact.stats().hits, cache.exact.stats().misses) == (0, 3)  # to the exact cache, these are misses


def test_an_equal_question_is_no_near_one_and_is_not_encoded(cache):
    cache.put(key("a @0"), answer("exact"))
    cache.put(key("b @1"), answer("near"))
    encoded = len(cache.embedder.asked)
    found = cache.get(key("a @0"))
    assert (found.answer.text, found.similarity) == ("exact", 1.0)
    assert len(cache.embedder.asked) == encoded


def test_a_miss_and_its_put_encode_once(cache):
    cache.put(key("z @90"), answer("z"))
    cache.get(key("a @0"))
    cache.put(key("a @0"), answer("a"))
    assert Counter(cache.embedder.asked)["a @0"] == 1


@pytest.mark.parametrize("other", [key("b @1", tenant="acme"), key("b @1", settings="t")], ids=str)
def test_nearness_never_crosses_tenants_or_settings(cache, other):
    cache.put(key("a @0"), answer("secret"))
    assert cache.get(other) is None


def test_what_was_forgotten_is_not_served_to_its_neighbours(cache):
    cache.put(key("a @0"), answer("bad"))
    cache.put(key("a @10"), answer("good"))
    near = cache.get(key("b @1"))
    assert near.answer.text == "bad"
    assert cache.invalidate(near.digest)
    assert cache.get(key("b @1")).answer.text == "good"
    assert cache.invalidate(cache.get(key("b @1")).digest)
    assert cache.get(key("b @1")) is None
    assert cache.exact.stats().entries == 0


def test_an_answer_that_has_expired_is_not_served(tmp_path):
    now = [0.0]
    cache = SemanticCache(SQLiteCache(tmp_path / "c.db", ttl=10, clock=lambda: now[0]), Angles(), 0.9, None)
    cache.put(key("a @0"), answer("old"))
    now[0] = 10.0
    assert cache.get(key("b @1")) is None
    cache.put(key("a @0"), answer("new"))
    assert cache.get(key("b @1")).answer.text == "new"


def test_another_process_sees_what_was_put(tmp_path):
    one, other = (SemanticCache(SQLiteCache(tmp_path / "c.db"), Angles(), 0.9, None) for _ in range(2))
    assert other.get(key("b @1")) is None
    one.put(key("a @0"), answer("shared"))
    assert other.get(key("b @1")).answer.text == "shared"


def test_vectors_of_another_model_are_not_compared(exact):
    class Others(Angles):
        identity = "others"

    SemanticCache(exact, Others(), 0.9, None).put(key("a @0"), answer("x"))
    assert SemanticCache(exact, Angles(), 0.9, None).get(key("b @0")) is None


def test_the_guard_may_say_no_and_the_next_is_tried(exact):
    cache = SemanticCache(exact, Angles(), 0.9)
    cache.put(key("enable cookies @0"), answer("on"))
    cache.put(key("forbid cookies @2"), answer("off"))
    asked = "disable cookies @1"
    assert cache.get(key(asked)) is None  # the numbers differ
    cache.guard = lambda a, b: "enable" not in b
    assert cache.get(key(asked)).answer.text == "off"


def test_threads_share_it(exact):
    cache = SemanticCache(exact, Angles(), 0.99, None)
    wrong = []

    def work(tenant):
        for angle in range(0, 180, 10):
            cache.put(key(f"a @{angle}", tenant), answer(f"{tenant} {angle}"))
            near = cache.get(key(f"b @{angle + 1}", tenant))
            if near is None or near.answer.text != f"{tenant} {angle}":
                wrong.append((tenant, angle, near))

    threads = [threading.Thread(target=work, args=(tenant,)) for tenant in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_and_file_hold_no_more_than_the_answers_that_are_left(tmp_path):
    exact = SQLiteCache(tmp_path / "c.db", max_bytes=20_000)
    cache = SemanticCache(exact, Angles(), 0.9999, None)
    for number in range(600):
        cache.get(key(f"a @{number / 10}"))
        cache.put(key(f"a @{number / 10}"), answer("x"))
    left = exact.stats().entries
    assert left < 150
    assert len(cache._entries) <= len(cache._vectors) <= 2 * left + 300


def test_no_vector_is_stored_for_a_refused_answer(tmp_path):
    exact = SQLiteCache(tmp_path / "c.db", max_bytes=1000)
    cache = SemanticCache(exact, Angles(), 0.9, None)
    with pytest.raises(InputError, match="max_bytes"):
        cache.put(key("a @0"), answer("x" * 1000))
    with exact.database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM answers WHERE vector IS NOT NULL").fetchone()[0] == 0
    assert cache.get(key("b @0")) is None


def test_what_was_forgotten_hides_nothing(cache):
    for angle in range(30):
        cache.put(key(f"a @{angle / 100}"), answer(f"{angle}"))
    assert cache.get(key("b @0"))
    for angle in range(29):
        SemanticCache.invalidate(cache, key(f"a @{angle / 100}").digest)
    assert cache.get(key("b @0")).answer.text == "29"


def test_a_put_rebuilds_no_matrix(cache):
    for angle in range(40):
        cache.put(key(f"a @{angle}"), answer("x"))
    assert cache.get(key("b @0"))
    vectors = cache._vectors
    for angle in range(40, 120):
        cache.put(key(f"a @{angle}"), answer("x"))
        assert cache.get(key(f"b @{angle}"))
    assert cache._vectors is vectors  # it has room for as many again, and a hundred


def test_trouble_with_the_file_is_told(tmp_path):
    cache = SemanticCache(SQLiteCache(tmp_path / "c.db"), Angles(), 0.9)
    with cache.exact.database.transaction() as connection:
        connection.execute("DROP TABLE answers")
    for work in (lambda: cache.get(key("a @0")), lambda: cache.put(key("a @0"), answer("x"))):
        with pytest.raises(sqlite3.OperationalError, match=r"c\.db: no such table"):
            work()


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_is_a_cosine(exact, threshold):
    with pytest.raises(InputError, match="cosine"):
        SemanticCache(exact, Angles(), threshold)


class Says:
    identity = "says"

    def __init__(self):
        self.calls = 0

    def __repr__(self):
        return "Says()"

    async def generate(self, question, context):
        from ragkit.base import Generation

        self.calls += 1
        return Generation(f"to {question}")


class Traces(list):
    record = list.append


def test_in_a_pipeline_a_similar_question_is_near(small_corpus, ragkit_home, exact):
    embedder, llm, traces = FakeEmbedder(), Says(), Traces()
    store = TokenStore.open(small_corpus, embedder, progress=False)
    cache = SemanticCache(exact, embedder, 0.8)
    rag = advanced(small_corpus, store=store, llm=llm, cache=cache, monitor=traces)
    asked = ["How do I heat the water?", "How can I heat the water?", "How do I never heat the water?"]
    answers = [asyncio.run(rag.query(question)) for question in asked]
    assert [t.cache for t in traces] == ["miss", "near", "miss"]
    assert (answers[1].text, answers[1].question) == ("to How do I heat the water?", asked[1])
    assert traces[1].cache_key == traces[0].cache_key
    assert traces[1].similarity < 1
    assert llm.calls == 2


def test_no_preset_uses_it():
    assert "emantic" not in open(presets_module.__file__).read()  # noqa: PTH123, SIM115


# ---- the 400 pairs


def test_the_pairs_are_two_hundred_and_two_hundred():
    pairs = cache_pairs()
    assert Counter(pair.same for pair in pairs) == {True: 200, False: 200}
    texts = [pair.asked for pair in pairs] + list(dict.fromkeys(pair.kept for pair in pairs))
    assert len({" ".join(t.split()).lower() for t in texts}) == 600
    assert all(pair.asked.endswith("?") and pair.kept.endswith("?") for pair in pairs)


def test_the_exact_cache_takes_no_pair_for_one_question(exact):
    pairs = cache_pairs()
    for pair in pairs:
        exact.put(key(pair.kept), answer(pair.kept))
    assert [pair for pair in pairs if exact.get(key(pair.asked))] == []
    assert all(exact.get(key(pair.kept)).answer.text == pair.kept for pair in pairs)


class Encoded:
    """A model that has encoded these texts already."""

    def __init__(self, texts, embedder):
        self.vectors = dict(zip(texts, embedder.encode(texts, "query"), strict=True))

    def encode(self, texts, kind="passage"):
        return np.stack([self.vectors[text] for text in texts])


def test_no_threshold_tells_reversals_from_paraphrases(minilm):
    pairs = [pair for i, pair in enumerate(cache_pairs()) if i // 2 % 4 == 0]  # a quarter: the bench measures all
    minilm = Encoded(list(dict.fromkeys(question_key(t) for pair in pairs for t in (pair.asked, pair.kept))), minilm)
    table = false_hit_rate(pairs, minilm)
    assert (table["false_hit_rate"] > 0.4).all()
    assert table.loc[0.9, "hits"] > 35
    for guard in (None, lexical_guard):
        choice = choose_threshold(pairs, minilm, precision=0.99, guard=guard)
        assert choice.threshold is None
        assert repr(choice).startswith("none: no threshold promises 99.0% of the near hits right")
    guarded = false_hit_rate(pairs, minilm, guard=lexical_guard)
    assert (guarded.loc[:0.95, "false_hit_rate"] < table.loc[:0.95, "false_hit_rate"] / 1.5).all()


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("How do I enable cookies?", "How do I disable cookies?"),
        ("What does max_requests do?", "What does max_requests_jitter do?"),
        ("Is 30 s the timeout?", "Is 60 s the timeout?"),
        ("Why is my file formatted?", "Why isn't my file formatted?"),
        ("How do I revoke all tasks?", "How do I revoke my tasks?"),
        ("How do I move from YAPF to Black?", "How do I move from Black to YAPF?"),
        ("Does it run before the worker starts?", "Does it run after the worker starts?"),
    ],
)
def test_the_guard_sees_what_vectors_overlook(asked, kept):
    assert not lexical_guard(asked, kept)
    assert not lexical_guard(kept, asked)
    assert lexical_guard(asked, asked)


# ---- the tool


def gold(*spans):
    return tuple(Span("d", start, start + 10) for start in spans)


def asked(text, *spans):
    return Question(text, text, gold(*spans))


def test_a_log_is_replayed_as_a_cache_would_serve_it():
    log = [
        asked("a @0", 0),
        asked("a @0", 0),  # an equal one is the exact cache's
        asked("b @2", 0),  # near "a", and right
        asked("c @4", 50),  # near "a", and wrong
        asked("d @60", 70),
        asked("e @61"),  # nothing answers it, so what is served is wrong
        asked("f @140"),  # nothing answers it, and nothing is near: its answer is cached
        asked("g @140.5"),  # nothing answers it either: there is no right answer to miss
        asked("h @141", 90),  # near "f", so the answer is wrong
    ]
    table = false_hit_rate(log, Angles(), [0.9, 0.999])
    assert table.loc[0.9, ["asked", "hits", "false"]].tolist() == [8, 4, 3]
    assert table.loc[0.9, "hit_rate"] == 0.5
    # Stricter: "b" is near "a"; "c" is now near nothing, since "b" was served and not cached.
    assert table.loc[0.999, ["hits", "false"]].tolist() == [3, 2]


def test_hits_of_one_need_count_once():
    log = [asked("a @0", 0), *(asked(f"b{i} @1", 0) for i in range(8)), asked("c @90", 50), asked("d @91", 50)]
    row = false_hit_rate(log, Angles(), [0.9]).loc[0.9]
    assert (row["hits"], row["false"]) == (9, 0)
    assert row["needs"] == pytest.approx(81 / 65)
    assert row["high"] == pytest.approx(1 - 0.025 ** (65 / 81))


WORDS = ("start", "stop", "worker", "queue", "task", "before", "after", "not", "spider", "cookie", "all", "any")


@pytest.mark.parametrize("guard", [None, lexical_guard], ids=["no guard", "guard"])
@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_the_replay_is_what_the_cache_does(tmp_path, guard, threshold):
    rng, log = np.random.default_rng(1), []
    for _ in range(150):
        text = " ".join(rng.choice(WORDS, size=rng.integers(2, 5)))
        log.append(Question(text, text, gold(*rng.choice(40, size=1).tolist())))
    embedder = FakeEmbedder()
    cache = SemanticCache(SQLiteCache(tmp_path / "c.db"), embedder, threshold, guard)
    kept, near, wrong = {}, 0, 0
    first = list({q.text: q for q in reversed(log)}.values())[::-1]
    for question in first:
        found = cache.get(key(question.text))
        if found is not None:
            near += 1
            wrong += not same_gold(question.gold, kept[found.answer.text].gold)
        else:
            kept[question.text] = question
            cache.put(key(question.text), answer(question.text))
    table = false_hit_rate(first, embedder, [threshold], guard=guard)
    assert table.loc[threshold, ["hits", "false"]].tolist() == [near, wrong]
    assert near > 3


def test_the_guard_is_asked_in_a_log_too():
    log = [asked("enable @0", 0), asked("disable @0.5", 50), asked("on @0.6", 0)]
    plain = false_hit_rate(log, Angles(), [0.9])
    guarded = false_hit_rate(log, Angles(), [0.9], guard=lambda a, b: "disable" not in a + b)
    assert plain.loc[0.9, ["hits", "false"]].tolist() == [2, 1]
    assert guarded.loc[0.9, ["hits", "false"]].tolist() == [1, 0]


def test_pairs_are_counted_each():
    pairs = [CachePair("a @0", "b @1", True), CachePair("a @0", "b @2", False), CachePair("a @0", "c @90", False)]
    table = false_hit_rate(pairs, Angles(), [0.9, 0.9999])
    assert table.loc[0.9, ["asked", "hits", "false"]].tolist() == [3, 2, 1]
    assert table.loc[0.9, "false_hit_rate"] == 0.5
    assert table.loc[0.9, "needs"] == 2


def test_without_hits_the_rate_is_unknown():
    table = false_hit_rate([CachePair("a @0", "b @90", True)], Angles(), [0.9])
    assert math.isnan(table.loc[0.9, "false_hit_rate"])
    assert table.loc[0.9, ["low", "high"]].tolist() == [0, 1]


def test_a_threshold_is_chosen_with_its_promise_or_none():
    right = [CachePair(f"a{i} @0", f"b{i} @1", True) for i in range(600)]
    near = [CachePair(f"c{i} @0", f"d{i} @20", False) for i in range(30)]  # cosine .94
    choice = choose_threshold(right + near, Angles(), precision=0.99)
    assert choice.threshold == 0.99  # as many hits from .95 up: then the strictest
    assert choice.table.loc[0.99, "at_most"] <= 0.01 < choice.table.loc[0.93, "at_most"]
    assert repr(choice).startswith(
        "threshold 0.99: 99.0% of the near hits right, with 95% confidence (in the log 0 of 600"
    )
    none = choose_threshold(right[:500], Angles(), precision=0.99)
    assert none.threshold is None
    assert "505 needs without a wrong hit would be enough" in repr(none)
    assert choose_threshold(right[:299], Angles(), 0.99, thresholds=[0.95]).threshold == 0.95
    assert choose_threshold(right[:298], Angles(), 0.99, thresholds=[0.95]).threshold is None


def confusable(rng, sizes, p):
    """A log of pairs: so many wordings of each need, all served, and all wrong where the need is confusable."""
    wrong = rng.random(len(sizes)) < p
    return [CachePair(f"a {i} {n} @1", f"b {i} @0", not wrong[i]) for i, size in enumerate(sizes) for n in range(size)]


class Alike:
    """To this model all questions are the same."""

    def encode(self, texts, kind="passage"):
        return np.ones((len(texts), 1), dtype=np.float32)


@pytest.mark.parametrize(
    ("sizes", "p", "precision"),
    [([8] * 60, 0.03, 0.99), ([8] * 70, 0.06, 0.95), ([1 + 30 // (i + 1) for i in range(100)], 0.06, 0.95)],
    ids=["60 needs", "70 needs", "needs of Zipf's sizes"],
)
def test_the_promise_is_kept_as_often_as_it_says(sizes, p, precision):
    """Wordings of one need are wrong together. Where the rate is above the promise, at most 5 % of the logs pass."""
    rng = np.random.default_rng(0)
    logs = [confusable(rng, sizes, p) for _ in range(100)]
    passed = [choose_threshold(log, Alike(), precision, thresholds=[0.9]).threshold for log in logs]
    assert sum(threshold is not None for threshold in passed) <= 5


@pytest.mark.parametrize(("wrong", "n"), [(0, 1), (0, 299), (3, 299), (12, 40), (39, 40), (1000, 5000)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_bound_is_scipys(wrong, n, confidence):
    from scipy.stats import binomtest

    one_sided = binomtest(wrong, n, alternative="less").proportion_ci(confidence, method="exact")
    assert upper_bound(wrong, n, confidence) == pytest.approx(one_sided.high, abs=1e-9)
    assert upper_bound(n, n) == upper_bound(0, 0) == 1


spans = st.lists(
    st.builds(lambda d, a, n: Span(d, a, a + n), st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 20))
)


@given(spans, spans)
def test_agreeing_is_symmetric_and_every_gold_agrees_with_itself(one, other):
    assert same_gold(one, other) == same_gold(other, one)
    assert same_gold(one, one) == bool(one)
    assert not same_gold([*one, Span("c", 0, 1)], other)  # what only one of them needs is not in the other's answer


def test_an_empty_log_is_refused():
    with pytest.raises(InputError, match="nothing was asked"):
        false_hit_rate([], Angles())


@pytest.mark.parametrize("wrong", [0, 1, 99])
def test_a_promise_is_a_share(wrong):
    with pytest.raises(InputError, match="more than 0 and less than 1"):
        choose_threshold([asked("a @0", 0)], Angles(), wrong)

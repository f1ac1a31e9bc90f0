"""BM25 against its two reference libraries, the published figure on XQuAD, and the queries people really type."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from ragkit.base import Chunk, Document, InputError
from ragkit.retrieval.analysis import AnalyzedCorpus, Analyzer
from ragkit.retrieval.bm25 import VARIANTS, BM25Retriever, top

XQUAD = Path(__file__).resolve().parents[2] / "shared/data/xquad/xquad.en.json"
PLAIN = Analyzer(stem=False, stop_words=False, whole=False, parts=False)


def chunks_of(texts):
    return [Chunk(f"d{i:03}", 0, len(t), t) for i, t in enumerate(texts)]


def random_texts(rng, n_terms=30, limit=40, longest=25):
    """Chunks of made-up words, some frequent, some rare, some chunks empty."""
    words = [f"w{i}" for i in range(n_terms)]
    weights = [1 / (i + 1) for i in range(n_terms)]
    return [" ".join(rng.choices(words, weights, k=rng.randrange(longest))) for _ in range(rng.randrange(3, limit))]


def corpora(count):
    """Random (texts, query terms, k1, b) with at least one term."""
    for seed in range(count):
        rng = random.Random(seed)
        texts = random_texts(rng)
        if any(texts):
            yield (
                texts,
                rng.choices([f"w{i}" for i in range(35)], k=rng.randrange(1, 8)),
                rng.uniform(0.3, 2.5),
                rng.random(),
            )


def test_okapi_equals_rank_bm25():
    compared = 0
    for texts, query, k1, b in corpora(300):
        reference = BM25Okapi([t.split() for t in texts], k1=k1, b=b)
        if reference.average_idf <= 0:  # there rank_bm25 punishes matches
            continue
        ours = BM25Retriever(chunks_of(texts), "okapi", k1, b, analyzer=PLAIN).scores(" ".join(query))
        np.testing.assert_allclose(ours, reference.get_scores(query), atol=1e-6)
        compared += 1
    assert compared > 150


def test_lucene_equals_bm25s():
    for texts, query, k1, b in corpora(100):
        reference = bm25s.BM25(k1, b, method="lucene", dtype="float64")
        reference.index([t.split() for t in texts], show_progress=False)
        ours = BM25Retriever(chunks_of(texts), "lucene", k1, b, analyzer=PLAIN).scores(" ".join(query))
        np.testing.assert_allclose(ours, reference.get_scores(query), atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_never_negative(variant):
    for texts, query, k1, b in corpora(60):
        assert (BM25Retriever(chunks_of(texts), variant, k1, b, analyzer=PLAIN).scores(" ".join(query)) >= 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("texts", "query", "found"),
    [
        (["The kettle boils in two minutes"], "kettle", ["d000"]),
        (["The kettle boils in two minutes", "The oven takes an hour"], "kettle", ["d000"]),
        (["The kettle boils. Kettle!", "The kettle is blue and large and old"], "kettle", ["d000", "d001"]),
        (["red tea pot", "red tea pot", "red tea pot", "blue cup"], "tea", ["d000", "d001", "d002"]),
        (["", "steam pump", "   "], "pump", ["d001"]),
        (["x" * 100_000, "steam pump"], "pump", ["d001"]),
        (["ww ww xx", "ww yy", "ww zz"], "ww", ["d000", "d001", "d002"]),
    ],
)
def test_who_has_the_word_is_found_however_small_the_corpus(variant, texts, query, found):
    hits = BM25Retriever(chunks_of(texts), variant).search(query, 5)
    assert [h.chunk.doc_id for h in hits] == found
    assert all(h.score > 0 for h in hits)
    assert BM25Retriever(chunks_of(texts), variant).search(query, 500) == hits


def xquad():
    paragraphs = [p for a in json.loads(XQUAD.read_text())["data"] for p in a["paragraphs"]]
    chunks = chunks_of([p["context"] for p in paragraphs])
    return chunks, [(q["question"], c.id) for p, c in zip(paragraphs, chunks, strict=True) for q in p["qas"]]


@pytest.mark.skipif(not XQUAD.is_file(), reason="the XQuAD file is not beside the project")
def test_xquad_reaches_the_published_figures():
    chunks, questions = xquad()
    for analyzer in (Analyzer(), Analyzer(whole=False, parts=False)):
        retriever = BM25Retriever(chunks, analyzer=analyzer)
        ranks = [[h.chunk.id for h in retriever.search(text, 10)] for text, _ in questions]
        gold = [g for _, g in questions]
        found = [r.index(g) for r, g in zip(ranks, gold, strict=True) if g in r]
        ndcg, hit_1 = sum(1 / math.log2(i + 2) for i in found) / len(gold), found.count(0) / len(gold)
        assert (ndcg, hit_1) == (pytest.approx(0.965, abs=0.001), pytest.approx(0.929, abs=0.002))


CHUNKS = chunks_of(["retry the failed tasks", "stop a worker", "worker workers working", "Réessayer les tâches", ""])


@pytest.mark.parametrize(
    "query", ["zzz unknown", "the of and", "?!...", "👩‍👩‍👧", "停止工人", "\x00\x01", "the " * 20_000], ids=repr
)
def test_queries_that_match_nothing_return_nothing(query):
    assert BM25Retriever(CHUNKS).search(query) == []


def test_a_query_of_100_kilobytes():
    hits = BM25Retriever(CHUNKS).search("stop the worker " * 6_250)
    assert [h.chunk.doc_id for h in hits] == ["d001", "d002"]


@pytest.mark.parametrize(
    ("texts", "query"),
    [
        (["如何清空任务队列：使用清除命令。", "密码至少要有八个字符。"], "清空队列"),
        (["パスワードは八文字以上です。", "ログは三十日間保存されます。"], "パスワードの長さ"),
        (["รหัสผ่านต้องมีอย่างน้อยแปดตัวอักษร", "บันทึกถูกเก็บไว้สามสิบวัน"], "รหัสผ่าน"),
        (["पासवर्ड में कम से कम आठ अक्षर हों।", "लॉग तीस दिन तक रखे जाते हैं।"], "पासवर्ड में कितने अक्षर"),
        (["비밀번호는 여덟 글자 이상이어야 합니다.", "로그는 삼십 일 동안 보관됩니다."], "비밀번호"),
        (["C++ templates", "C# generics"], "C++"),
        (["Build passed 🚀", "Build failed"], "🚀"),
    ],
    ids=["zh", "ja", "th", "hi", "ko", "C++", "pictograph"],
)
def test_words_of_any_script_are_found(texts, query):
    assert BM25Retriever(chunks_of(texts)).search(query)[0].chunk.doc_id == "d000"


@pytest.mark.parametrize("texts", [[], [""], ["", "  "], ["the of"], ["!?"]])
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_empty_corpus_answers_nothing(texts, variant):
    assert BM25Retriever(chunks_of(texts), variant).search("worker", 5) == []


def test_more_hits_than_chunks_and_chunks_given_twice():
    assert len(BM25Retriever(CHUNKS + CHUNKS).search("worker", 1_000)) == 2


def test_two_files_of_one_name_are_refused_and_not_merged():
    with pytest.raises(InputError, match=r"two chunks are called 'notes.md#0-3' .* two folders"):
        BM25Retriever([Chunk("notes.md", 0, 3, "tea"), Chunk("notes.md", 0, 3, "oil")])


def test_equal_scores_are_ordered_by_id():
    chunks = chunks_of(["same words"] * 20)
    shuffled = random.Random(0).sample(chunks, 20)
    assert [h.chunk for h in BM25Retriever(shuffled).search("words", 5)] == chunks[:5]


def test_contextual_finds_words_of_the_heading():
    plain = Chunk("a", 0, 9, "Use -c 4.", ("Workers", "Concurrency"), {"project": "celery"})
    other = Chunk("b", 0, 11, "Other words", (), {"project": "black"})
    assert BM25Retriever([plain, other]).search("celery concurrency") == []
    assert [h.chunk for h in BM25Retriever([plain, other], contextual=True).search("celery concurrency")] == [plain]


def test_an_explanation_adds_up_to_the_score():
    retriever = BM25Retriever(CHUNKS)
    hit = retriever.search("stop stop workers zzz")[0]
    parts = retriever.explain("stop stop workers zzz", hit.chunk)
    assert parts.keys() == {"stop", "worker"}
    assert sum(parts.values()) == pytest.approx(hit.score)
    with pytest.raises(InputError, match="not in this index"):
        retriever.explain("stop", Chunk("q", 0, 1, "x"))


def test_a_lent_vocabulary_gives_the_same_hits_and_may_grow():
    documents = [Document(c.doc_id, c.text) for c in CHUNKS]
    analyzed = AnalyzedCorpus(documents)
    lent = BM25Retriever(CHUNKS, analyzed=analyzed)
    BM25Retriever(chunks_of(["brand new words"]), analyzed=analyzed)
    for query in ("stop worker", "brand new", "tasks"):
        assert lent.search(query) == BM25Retriever(CHUNKS).search(query)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"variant": "bm42"}, "lucene, okapi"),
        ({"k1": -1}, "k1 >= 0"),
        ({"b": 1.5}, "0 <= b <= 1"),
        ({"k1": math.nan}, "k1"),
    ],
)
def test_settings_outside_their_range_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        BM25Retriever(CHUNKS, **setting)


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 40))
def test_top_is_a_sort_cut_off(values, k):
    scores, rank = np.array(values, dtype=float), np.random.default_rng(0).permutation(len(values))
    everything = sorted((i for i in range(len(values)) if values[i] > 0), key=lambda i: (-values[i], rank[i]))
    assert top(scores, rank, k) == everything[:k]

"""Modular retrieval: each wrapper does its one thing and says so in ``parts``; who routes, and how sure it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import (
    Chunk,
    Citation,
    Corpus,
    Document,
    Hit,
    InputError,
    Page,
    Question,
    Retriever,
    Section,
    Span,
)
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.evaluation.compare import compare
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.modular import (
    MMR,
    AbstainOnSeveral,
    AverageClassifier,
    Corrective,
    Filtered,
    HitVoteClassifier,
    NaiveBayesClassifier,
    NameSplitter,
    Parent,
    RegexClassifier,
    Router,
    SentenceWindow,
    SubQuestions,
    marginal,
)
from ragkit.retrieval.rerank import rescored
from ragkit.testing import FakeTokenizer


class Fixed(Retriever):
    """Always the same hits; remembers what it was asked."""

    def __init__(self, *scored: tuple[str, float], source: str = "fixed") -> None:
        self.hits = [Hit(Chunk(name, 0, 4, "text", metadata={"project": name[0]}), s, source) for name, s in scored]
        self.asked: list[tuple[str, int]] = []

    def _search(self, query: str, k: int) -> list[Hit]:
        self.asked.append((query, k))
        return self.hits[:k]


class Says:
    def __init__(self, **probabilities: float) -> None:
        self.probabilities = probabilities

    def predict_proba(self, query: str) -> dict[str, float]:
        return self.probabilities


class Rewrites:
    def __init__(self, *queries: str) -> None:
        self.queries = list(queries)

    def rewrite(self, question: str) -> list[str]:
        return self.queries


def names(hits):
    return [hit.chunk.doc_id for hit in hits]


# ---- shaping


def test_filtered_searches_until_enough_pass():
    chunks = [(f"{'ab'[i % 10 == 0]}{i:03}", 1 / (i + 1)) for i in range(100)]
    inner = Fixed(*chunks)
    hits = Filtered(inner, {"project": "b"}).search("q", 3)
    assert names(hits) == ["b000", "b010", "b020"]
    assert [k for _, k in inner.asked] == [12, 48]
    assert len(Filtered(inner, lambda chunk: chunk.doc_id.startswith("b")).search("q", 50)) == 10
    assert Filtered(inner, {"project": "c"}).search("q") == []
    assert Filtered(inner, {"nothing": "b"}).search("q") == []


def test_parent_returns_each_section_once_with_its_best_chunk(small_corpus):
    document = small_corpus.document("kettle/guide")
    cut = [Chunk(document.id, a, b, document.text[a:b]) for a, b in ((0, 10), (10, 30), (48, 60))]
    inner = Fixed()
    inner.hits = [Hit(chunk, score, "dense") for chunk, score in zip(cut, (0.9, 0.8, 0.3), strict=True)]
    hits = Parent(inner, small_corpus).search("q")
    assert [(h.chunk.section[-1], h.score, h.scores["chunks"]) for h in hits] == [
        ("Boiling", 0.9, 2),
        ("Cleaning", 0.3, 1),
    ]
    assert hits[0].chunk.text == "Boiling\nPress the red lever to boil the water."
    assert hits[0].scores["dense"] == 0.9
    assert [h.chunk for h in Parent(inner, small_corpus, limit=20).search("q")][:2] == cut[:2]


def test_of_a_chunk_across_a_heading_parent_returns_every_section_that_it_answers(small_corpus):
    document = small_corpus.document("kettle/guide")
    boiling, cleaning = document.sections[:2]

    def parents(start, end):
        inner = Fixed()
        inner.hits = [Hit(Chunk(document.id, start, end, document.text[start:end]), 1.0)]
        return {hit.chunk.section[-1] for hit in Parent(inner, small_corpus).search("q")}

    assert parents(boiling.start, cleaning.end) == {"Boiling", "Cleaning"}
    assert parents(boiling.end - 12, cleaning.start + 12) == {"Boiling", "Cleaning"}
    assert parents(boiling.start, cleaning.start + 4) == {"Boiling"}


def test_a_parent_is_a_section_that_a_reader_sees():
    text = "# Guide\n\n## Boiling\n\nPress the lever.\n\nFrom ten to noon.\n\nTwo cups.\n"
    ten, two = text.index("From"), text.index("Two")
    guide, boiling = Section(("Guide",), 0, 9, 9), Section(("Guide", "Boiling"), 9, 21, ten)
    answers = (Section(boiling.path, ten, ten, two), Section(boiling.path, two, two, len(text)))  # without a heading
    document = Document("d", text, sections=(guide, boiling, *answers))
    assert document.visible_sections == (Section(boiling.path, 0, 21, len(text)),)
    inner = Fixed()
    inner.hits = [Hit(Chunk("d", ten, two, text[ten:two]), 1.0)]
    (hit,) = Parent(inner, Corpus("faq", (document,))).search("q")
    assert hit.chunk.text == text.rstrip()


def test_a_document_without_sections_keeps_its_chunks(small_corpus):
    corpus = Corpus("plain", (Document("d", "some words"),))
    chunk = Chunk("d", 0, 4, "some")
    inner = Fixed()
    inner.hits = [Hit(chunk, 1.0)]
    assert [h.chunk for h in Parent(inner, corpus).search("q")] == [chunk]
    with pytest.raises(InputError, match="no document 'd'"):
        Parent(inner, small_corpus).search("q")


def test_neighbours_join_what_stands_around_a_hit(small_corpus):
    chunks = chunk_corpus(FixedChunker(4, 1, FakeTokenizer()), small_corpus)
    own = [c for c in chunks if c.doc_id == "kettle/guide"]
    inner = Fixed()
    inner.hits = [Hit(own[1], 2.0, "bm25"), Hit(own[0], 1.0, "bm25"), Hit(own[-1], 0.5, "bm25")]
    hits = SentenceWindow(inner, chunks, small_corpus).search("q")
    assert [(h.chunk.start, h.chunk.end) for h in hits] == [(own[0].start, own[2].end), (own[-2].start, own[-1].end)]
    text = small_corpus.document("kettle/guide").text
    assert hits[0].chunk.text == text[own[0].start : own[2].end]
    assert hits[0].scores == {"bm25": 2.0}
    alone = SentenceWindow(inner, chunks, small_corpus, before=0, after=0).search("q")
    assert [h.chunk for h in alone] == [own[1], own[0], own[-1]]
    elsewhere = SentenceWindow(inner, [], small_corpus).search("q")
    assert [h.chunk for h in elsewhere] == [own[1], own[0], own[-1]]


def test_mmr_takes_the_unlike_before_the_same_again():
    inner = Fixed(("a", 1.0), ("b", 0.95), ("c", 0.6))
    twins = {"a": [1.0, 0.0], "b": [1.0, 0.0], "c": [0.0, 1.0]}

    def vectors(chunks):
        return np.array([twins[c.doc_id] for c in chunks], dtype=np.float32)

    assert names(MMR(inner, vectors, lambda_mult=1.0).search("q")) == ["a", "b", "c"]
    hits = MMR(inner, vectors, lambda_mult=0.5).search("q")
    assert names(hits) == ["a", "c", "b"]
    assert hits[1].scores == {"fixed": 0.6}
    assert [k for _, k in inner.asked] == [50, 50]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1), st.integers(1, 15), st.integers(0, 99))
def test_mmr_equals_its_definition(relevance, lambda_mult, k, seed):
    n = len(relevance)
    vectors = np.random.default_rng(seed).standard_normal((n, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = vectors @ vectors.T
    order, values = marginal(np.array(relevance), likeness, lambda_mult, k)
    assert sorted(order) == sorted(set(order))
    assert len(order) == min(k, n)
    assert values == sorted(values, reverse=True)
    taken: list[int] = []
    for place in order:
        left = {
            i: lambda_mult * relevance[i] - (1 - lambda_mult) * max([0.0, *(likeness[i, j] for j in taken)])
            for i in range(n)
            if i not in taken
        }
        assert left[place] == pytest.approx(max(left.values()), abs=1e-9)
        taken.append(place)


# ---- more than one search


def test_sub_questions_search_the_question_and_each_part_once():
    inner = Fixed(("a", 3.0), ("b", 2.0))
    hop = SubQuestions(inner, Rewrites("both", "one", "two", "one", " "))
    assert hop.queries("both") == ["both", "one", "two"]
    hop.search("both", 4)
    assert inner.asked == [("both", 15), ("one", 15), ("two", 15)]
    assert SubQuestions(inner, Rewrites("both")).search("both", 2) == inner.search("both", 2)
    assert SubQuestions(inner, Rewrites(*"abcdefg"), limit=2).queries("q") == ["q", "a", "b"]


def test_sub_questions_put_first_what_several_parts_have():
    lists = {"q": "abc", "x": "dcb", "y": "eab"}

    class PerQuery(Retriever):
        def _search(self, query, k):
            return [Hit(Chunk(name, 0, 1, "x"), 9.0 - i, "inner") for i, name in enumerate(lists[query][:k])]

    hits = SubQuestions(PerQuery(), Rewrites("x", "y")).search("q", 3)
    assert names(hits) == ["b", "a", "c"]
    assert hits[0].score == pytest.approx(1 / 62 + 1 / 63 + 1 / 63)
    assert hits[1].scores == {"part:0": 9.0, "part:2": 8.0}


def test_a_question_for_each_name():
    each = NameSplitter(
        {"celery": r"celery(?:'s)?", "gunicorn": "gunicorn", "scrapy": "scrapy"}, otherwise=Rewrites("x")
    )
    asked = "How do Gunicorn workers and Celery's workers stop?"
    assert each.rewrite(asked) == [
        "How do workers and Celery's workers stop?",
        "How do Gunicorn workers and workers stop?",
    ]
    assert each.rewrite("How does Scrapy log?") == ["x"]
    assert NameSplitter({"a": "b"}).rewrite("How does Scrapy log?") == ["How does Scrapy log?"]
    assert NameSplitter({"a": "gunicorn", "b": "celery"}).rewrite("Celery Gunicorn") == ["Gunicorn", "Celery"]


class ByName:
    """A reranker that knows how well each document answers each question."""

    def __init__(self, **scores: float) -> None:
        self.scores = scores

    def rerank(self, query, hits, k):
        assert query == "q"
        return rescored(hits, [self.scores[hit.chunk.doc_id] for hit in hits], "graded", k)


def test_corrective_stops_at_the_first_list_that_is_good():
    accept_above, reject_below = Fixed(("a", 0.1)), Fixed(("b", 0.2))
    grader = ByName(a=0.9)
    hits = Corrective(accept_above, grader, 0.5, 0.3, rewriter=Rewrites("other"), fallback=reject_below).search("q")
    assert names(hits) == ["a"]
    assert hits[0].scores == {"fixed": 0.1, "corrective:grade": 0.9, "corrective:searches": 1}
    assert reject_below.asked == []


def test_corrective_rewrites_then_falls_back_then_gives_up():
    weak, wide, grader = Fixed(("b", 9.0)), Fixed(("c", 0.1)), ByName(b=0.2, c=0.4)
    steps = Corrective(weak, grader, 0.5, 0.1, rewriter=Rewrites("q", "other"), fallback=wide)
    assert [name for name, _, _ in steps.tries("q", 5)] == ["first", "rewritten: other", "fallback"]
    hits = steps.search("q")
    assert names(hits) == ["c"]
    assert hits[0].scores == {"fixed": 0.1, "corrective:grade": 0.4, "corrective:searches": 3.0}
    assert Corrective(weak, grader, 0.5, 0.3).search("q") == []
    assert names(Corrective(weak, grader, 0.5, 0.2).search("q")) == ["b"]
    assert Corrective(Fixed(), grader, 0.5, 0.0).search("q") == []


def test_a_rewriting_that_drifts_does_not_win_by_its_own_scores():
    class Drifting(Retriever):
        def _search(self, query, k):
            return Fixed(("tea", 0.9)).search(query, k) if query == "q" else Fixed(("zoo", 1.4)).search(query, k)

    steps = Corrective(Drifting(), ByName(tea=0.45, zoo=0.05), 0.5, 0.3, rewriter=Rewrites("zebra zoo"))
    assert names(steps.search("q")) == ["tea"]


# ---- routing


ROUTES = {"a": Fixed(("a1", 3.0), ("a2", 2.0)), "b": Fixed(("b1", 30.0), ("b2", 10.0))}
ALL = Fixed(("b1", 1.0), ("a1", 0.5))


def test_a_sure_router_asks_one_and_says_so():
    hits = Router(ROUTES, Says(a=0.8, b=0.2), ALL).search("q")
    assert names(hits) == ["a1", "a2"]
    assert hits[0].scores == {"route:a": 0.8}
    assert hits[0].score == 3.0
    assert ROUTES["a"].hits[0].scores == {}


def test_an_unsure_router_asks_for_everything():
    for probabilities in ({"a": 0.5, "b": 0.5}, {}, {"elsewhere": 1.0}):
        router = Router(ROUTES, Says(**probabilities), ALL, threshold=0.6)
        decision = router.decide("q")
        assert decision.route is None
        assert decision.confidence == max(probabilities.values(), default=0.0)
        hits = router.search("q")
        assert names(hits) == ["b1", "a1"]
        assert list(hits[0].scores) == ["route:fallback"]


def test_where_an_answer_was_lost_is_seen_through_a_router():
    gold = Question("q", "q", (Span("b2", 0, 4),))
    other = Question("r", "q", (Span("a1", 0, 4),))
    lost = compare({"routed": Router(ROUTES, Says(a=1.0), ALL)}, [gold, other], progress=False).where_lost()["routed"]
    assert lost.tolist() == ["demoted by fusion", "found"]


def test_patterns_share_the_probability():
    patterns = RegexClassifier({"celery": r"celery|task_\w+", "scrapy": "scrap(y|ing)"})
    assert patterns.predict_proba("Celery") == {"celery": 1.0}
    assert patterns.predict_proba("Scrapy with Celery") == {"celery": 0.5, "scrapy": 0.5}
    assert patterns.predict_proba("neither") == {}


def chunk(name: str, text: str) -> Chunk:
    return Chunk(name, 0, len(text), text, metadata={"project": name})


def test_naive_bayes_by_hand():
    classifier = NaiveBayesClassifier([chunk("a", "kettle water"), chunk("a", "lever"), chunk("b", "water bulb")])
    answer = classifier.predict_proba("kettle")
    of_a, of_b = (1 + 0.01) / (2 + 0.02), (0 + 0.01) / (1 + 0.02)  # P(term | collection)
    assert answer["a"] == pytest.approx(of_a / (of_a + of_b))
    assert classifier.predict_proba("unheard of") == {}
    assert classifier.predict_proba("bulb unheard")["b"] == pytest.approx(classifier.predict_proba("bulb")["b"])


@given(st.text(alphabet="kettl wabu", max_size=30))
def test_probabilities_sum_to_one(query):
    classifier = NaiveBayesClassifier([chunk("a", "kettle water"), chunk("b", "water bulb")])
    answer = classifier.predict_proba(query)
    assert not answer or sum(answer.values()) == pytest.approx(1)


def test_votes_are_shares_of_the_hits():
    inner = Fixed(("a", 3.0), ("b", 2.0), ("c", 1.0))
    inner.hits = [replace(h, chunk=chunk("xxy"[i], "text")) for i, h in enumerate(inner.hits)]
    assert HitVoteClassifier(inner).predict_proba("q") == pytest.approx({"x": 2 / 3, "y": 1 / 3})
    assert HitVoteClassifier(inner, k=2).predict_proba("q") == {"x": 1.0}
    assert HitVoteClassifier(Fixed()).predict_proba("q") == {}
    assert HitVoteClassifier(inner, key="language").predict_proba("q") == {"": 1.0}


def test_the_average_leaves_out_who_cannot_tell():
    assert AverageClassifier([Says(a=1.0), Says(), Says(a=0.5, b=0.5)]).predict_proba("q") == {"a": 0.75, "b": 0.25}
    assert AverageClassifier([Says(), Says()]).predict_proba("q") == {}


def test_a_question_about_several_is_sent_to_none():
    sure = AbstainOnSeveral(RegexClassifier({"a": "kettle", "b": "lamp"}), Says(a=1.0))
    assert sure.predict_proba("the kettle") == sure.predict_proba("neither") == {"a": 1.0}
    assert sure.predict_proba("the kettle and the lamp") == {}
    assert Router(ROUTES, sure, ALL).decide("the kettle and the lamp").route is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Corrective(Fixed(), ByName(), accept_above=0.1, reject_below=0.2), "expected the other way round"),
        (lambda: MMR(Fixed(), lambda chunks: np.zeros((0, 2)), lambda_mult=2), "0 to 1"),
        (lambda: Router({}, Says(), ALL), "0 routes"),
        (lambda: Router(ROUTES, Says(), ALL, threshold=1.5), "0 to 1"),
        (lambda: RegexClassifier({}), "no patterns"),
        (lambda: RegexClassifier({"a": "("}), "pattern of 'a'"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_widened_chunk_knows_the_pages_of_all_that_it_holds():
    texts = ("One is here.", "Two is there.", "Three is nowhere.")
    text = "\n\n".join(texts)
    starts = [text.index(part) for part in texts]
    pages = tuple(Page(n, a, b) for n, (a, b) in enumerate(zip(starts, [*starts[1:], len(text)], strict=True), 1))
    document = Document("a", text, sections=(Section((), 0, 0, len(text)),), pages=pages)
    corpus = Corpus("c", (document,))
    places = zip(starts, texts, pages, strict=True)
    chunks = [Chunk("a", a, a + len(part), part, pages=(page,)) for a, part, page in places]
    for widened in (SentenceWindow(BM25Retriever(chunks), chunks, corpus), Parent(BM25Retriever(chunks), corpus)):
        (hit, *_) = widened.search("two", 1)
        assert [Citation(1, hit.chunk, part).page for part in texts] == [1, 2, 3]

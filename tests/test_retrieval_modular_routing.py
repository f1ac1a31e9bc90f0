"""Routing and federation: who decides, how sure it is, what happens when nobody is; the kinds of passages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Corpus, Document, Hit, InputError, Question, Retriever, Section, Span
from ragkit.evaluation.compare import compare
from ragkit.retrieval.modular import (
    Centroids,
    Federated,
    NearestExamples,
    OneNamed,
    QuestionKind,
    Router,
    Rules,
    Together,
    Vocabulary,
    Votes,
    cori,
    is_name,
    pieces,
)
from ragkit.testing import FakeEmbedder


class Fixed(Retriever):
    def __init__(self, *scored: tuple[str, float]) -> None:
        self.hits = [Hit(Chunk(name, 0, 4, "text"), s, "fixed") for name, s in scored]

    def _search(self, query: str, k: int) -> list[Hit]:
        return self.hits[:k]


class Says:
    def __init__(self, **belief: float) -> None:
        self.known = belief

    def belief(self, query: str) -> dict[str, float]:
        return self.known


class Encoder:
    def __init__(self) -> None:
        self.fake = FakeEmbedder()

    def encode_query(self, query: str):
        return self.fake.encode([query], "query")[0]


def names(hits):
    return [hit.chunk.doc_id for hit in hits]


ROUTES = {"a": Fixed(("a1", 3.0), ("a2", 2.0)), "b": Fixed(("b1", 30.0), ("b2", 10.0))}
ALL = Fixed(("b1", 1.0), ("a1", 0.5))


def test_a_sure_router_asks_one_and_says_so():
    hits = Router(ROUTES, Says(a=0.8, b=0.2), ALL).search("q")
    assert names(hits) == ["a1", "a2"]
    assert hits[0].parts == {"route:a": 0.8}
    assert hits[0].score == 3.0
    assert ROUTES["a"].hits[0].parts == {}


def test_an_unsure_router_asks_for_everything():
    for belief in ({"a": 0.5, "b": 0.5}, {}, {"elsewhere": 1.0}):
        router = Router(ROUTES, Says(**belief), ALL, threshold=0.6)
        decision = router.decide("q")
        assert decision.route is None
        assert decision.confidence == max(belief.values(), default=0.0)
        hits = router.search("q")
        assert names(hits) == ["b1", "a1"]
        assert list(hits[0].parts) == ["route:everything"]


def test_where_an_answer_was_lost_is_seen_through_a_router():
    gold = Question("q", "q", (Span("b2", 0, 4),))
    other = Question("r", "q", (Span("a1", 0, 4),))
    for mixed in (Router(ROUTES, Says(a=1.0), ALL), Federated(ROUTES, Says(a=1.0))):
        lost = compare({"mixed": mixed}, [gold, other], progress=False).where_lost()["mixed"]
        assert lost.tolist() == ["demoted by fusion", "found"]


def test_the_first_classifier_that_is_sure_decides():
    router = Router(ROUTES, [Says(), Says(a=0.4), Says(b=0.9), Says(a=1.0)], ALL)
    assert (router.decide("q").route, router.decide("q").confidence) == ("b", 0.9)


def test_rules_share_the_belief():
    rules = Rules({"celery": r"celery|task_\w+", "scrapy": "scrap(y|ing)"})
    assert rules.belief("Celery") == {"celery": 1.0}
    assert rules.belief("Scrapy with Celery") == {"celery": 0.5, "scrapy": 0.5}
    assert rules.belief("neither") == {}


def test_nearest_examples_vote_with_their_cosines():
    examples = {"red wine": "drinks", "white wine": "drinks", "blue sky": "weather"}
    nearest = NearestExamples(examples, Encoder(), k=3)
    belief = nearest.belief("some wine")
    assert belief["drinks"] > belief.get("weather", 0.0)
    assert sum(belief.values()) == pytest.approx(1)
    assert NearestExamples(examples, Encoder(), k=1).belief("blue sky") == {"weather": 1.0}


def test_centroids_are_the_means_of_the_collections():
    encoder = Encoder()
    vectors = encoder.fake.encode(["red wine", "white wine", "blue sky"])
    belief = Centroids(vectors, ["drinks", "drinks", "weather"], encoder).belief("wine")
    assert belief["drinks"] > 0.8
    assert sum(belief.values()) == pytest.approx(1)
    flat = Centroids(vectors, ["drinks", "drinks", "weather"], encoder, sharpness=0).belief("wine")
    assert flat == {"drinks": 0.5, "weather": 0.5}


def chunk(name: str, text: str) -> Chunk:
    return Chunk(name, 0, len(text), text, metadata={"project": name})


def test_vocabulary_is_naive_bayes():
    vocabulary = Vocabulary([chunk("a", "kettle water"), chunk("a", "lever"), chunk("b", "water bulb")], alpha=0.5)
    belief = vocabulary.belief("kettle")
    # P(term | a) = (1 + .5) / (2 + 1), P(term | b) = (0 + .5) / (1 + 1)
    assert belief["a"] == pytest.approx(0.5 / (0.5 + 0.25))
    assert vocabulary.belief("unheard of") == {}
    assert vocabulary.belief("bulb unheard")["b"] == pytest.approx(vocabulary.belief("bulb")["b"])


@given(st.text(alphabet="kettl wabu", max_size=30))
def test_belief_is_a_share(query):
    vocabulary = Vocabulary([chunk("a", "kettle water"), chunk("b", "water bulb")])
    belief = vocabulary.belief(query)
    assert not belief or sum(belief.values()) == pytest.approx(1)


def test_votes_are_shares_of_the_hits():
    inner = Fixed(("a", 3.0), ("b", 2.0), ("c", 1.0))
    inner.hits = [replace(h, chunk=chunk("xxy"[i], "text")) for i, h in enumerate(inner.hits)]
    assert Votes(inner).belief("q") == pytest.approx({"x": 2 / 3, "y": 1 / 3})
    assert Votes(inner, k=2).belief("q") == {"x": 1.0}
    assert Votes(Fixed()).belief("q") == {}
    assert Votes(inner, key="language").belief("q") == {"": 1.0}


def test_together_leaves_out_who_cannot_tell():
    assert Together([Says(a=1.0), Says(), Says(a=0.5, b=0.5)]).belief("q") == {"a": 0.75, "b": 0.25}
    assert Together([Says(), Says()]).belief("q") == {}


def test_a_question_about_several_is_sent_to_none():
    sure = OneNamed(Rules({"a": "kettle", "b": "lamp"}), Says(a=1.0))
    assert sure.belief("the kettle") == sure.belief("neither") == {"a": 1.0}
    assert sure.belief("the kettle and the lamp") == {}
    assert Router(ROUTES, sure, ALL).decide("the kettle and the lamp").route is None


def test_cori_prefers_the_collection_that_is_worth_more():
    best, worst = cori(np.array([2.0, 1.0]), 1.0), cori(np.array([200.0, 1.0]), 0.5)
    assert best[0] == 1
    assert worst[0] == pytest.approx(1.2 / 1.4)
    assert best[1] == worst[1] == 0


def test_federated_merges_what_cannot_be_compared():
    assert names(Federated(ROUTES, merge="scores").search("q")) == ["b1", "b2", "a1", "a2"]
    assert names(Federated(ROUTES, merge="turns").search("q")) == ["a1", "b1", "a2", "b2"]
    hits = Federated(ROUTES, Says(a=0.7, b=0.3)).search("q")
    assert names(hits)[:2] == ["a1", "b1"]
    assert hits[1].score == pytest.approx(float(cori(np.array([30.0, 10.0]), 0.3 / 0.7)[0]))
    assert hits[0].parts == {"fixed": 3.0, "collection:a": 0.7}


def test_federated_searches_only_what_can_matter():
    assert names(Federated(ROUTES, Says(a=0.95, b=0.05)).search("q")) == ["a1", "a2"]
    for belief in ({}, {"elsewhere": 1.0}):
        assert len(Federated(ROUTES, Says(**belief)).search("q")) == 4


def test_a_chunk_of_two_collections_is_returned_once():
    both = {"a": Fixed(("x", 1.0), ("y", 0.5)), "b": Fixed(("x", 3.0))}
    assert names(Federated(both, merge="scores").search("q")) == ["x", "y"]
    assert names(Federated(both, merge="turns").search("q")) == ["x", "y"]


# ---- kinds of passages

TEXT = (
    "Guide\n\nWorkers run tasks. They can be stopped.\n\nA small example:\n\n    app.control.shutdown()\n\n"
    "task_acks_late\n\nDefault: off. Acknowledge late.\n"
)


@pytest.fixture
def manual():
    at = TEXT.index("task_acks_late")
    sections = (Section(("Guide",), 0, 6, at), Section(("Guide", "task_acks_late"), at, at + 15, len(TEXT)))
    return Corpus("manual", (Document("manual", TEXT, "Guide", sections),))


def test_pieces_are_passages_of_one_kind(manual):
    found = {kind: [c.text for c in pieces(manual, kind)] for kind in ("prose", "code", "entry")}
    assert any("Workers run tasks." in text for text in found["prose"])
    assert found["code"] == ["A small example:\n\n    app.control.shutdown()"]
    assert found["entry"] == ["task_acks_late\n\nDefault: off. Acknowledge late."]
    for kind in found:
        assert all(TEXT[c.start : c.end] == c.text for c in pieces(manual, kind))
    with pytest.raises(InputError, match="prose, code, entry"):
        pieces(manual, "table")


@pytest.mark.parametrize(
    ("heading", "name"),
    [(n, True) for n in ("task_acks_late", "--max-requests", "ClientSession", "CELERY_ACKS", "run()", "aiohttp.web")]
    + [(n, False) for n in ("Stopping workers", "FAQ", "e", "", "Workers", "pre-commit")],
)
def test_a_heading_is_a_name_or_not(heading, name):
    assert is_name(heading) == name


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("what does task_acks_late do?", "entry"),
        ("gunicorn --max-requests", "entry"),
        ("is ClientSession thread safe?", "entry"),
        ("show me an example of a spider", "code"),
        ("why are my workers slow?", "prose"),
        ("停止", "prose"),
    ],
)
def test_a_question_asks_for_a_kind(query, kind):
    assert QuestionKind().belief(query) == {kind: 1.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Router({}, Says(), ALL), "0 routes"),
        (lambda: Router(ROUTES, [], ALL), "0 classifiers"),
        (lambda: Router(ROUTES, Says(), ALL, threshold=1.5), "0 to 1"),
        (lambda: Rules({}), "no rules"),
        (lambda: Rules({"a": "("}), "rule of 'a'"),
        (lambda: NearestExamples({}, Encoder()), "0 examples"),
        (lambda: NearestExamples({"x": "a"}, Encoder(), k=0), "k = 0"),
        (lambda: Centroids(np.ones((2, 3), dtype=np.float32), ["a"], Encoder()), "one label each"),
        (lambda: Vocabulary([]), "0 chunks"),
        (lambda: Vocabulary([chunk("a", "x")], alpha=0), "above 0"),
        (lambda: Votes(ALL, k=0), "k is 0"),
        (lambda: Together([]), "no classifiers"),
        (lambda: Federated({}), "0 collections"),
        (lambda: Federated(ROUTES, merge="magic"), "'cori'"),
        (lambda: Federated(ROUTES, least=2), "0 to 1"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()

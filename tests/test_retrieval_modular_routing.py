"""Routing: who decides, how sure it is, what happens when nobody is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Hit, InputError, Question, Retriever, Span
from ragkit.evaluation.compare import compare
from ragkit.retrieval.modular import OneNamed, Router, Rules, Together, Vocabulary, Votes


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
    lost = compare({"routed": Router(ROUTES, Says(a=1.0), ALL)}, [gold, other], progress=False).where_lost()["routed"]
    assert lost.tolist() == ["demoted by fusion", "found"]


def test_rules_share_the_belief():
    rules = Rules({"celery": r"celery|task_\w+", "scrapy": "scrap(y|ing)"})
    assert rules.belief("Celery") == {"celery": 1.0}
    assert rules.belief("Scrapy with Celery") == {"celery": 0.5, "scrapy": 0.5}
    assert rules.belief("neither") == {}


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Router({}, Says(), ALL), "0 routes"),
        (lambda: Router(ROUTES, Says(), ALL, threshold=1.5), "0 to 1"),
        (lambda: Rules({}), "no rules"),
        (lambda: Rules({"a": "("}), "rule of 'a'"),
        (lambda: Vocabulary([]), "0 chunks"),
        (lambda: Vocabulary([chunk("a", "x")], alpha=0), "above 0"),
        (lambda: Votes(ALL, k=0), "k is 0"),
        (lambda: Together([]), "no classifiers"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()

"""What the faithfulness scorer reads in a sentence, what it compares, and that it weighs as it was fitted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Corpus, InputError
from ragkit.corpus.questions import section_span
from ragkit.evaluation import wording
from ragkit.evaluation.alignment import relevance, token_vectors
from ragkit.evaluation.faithfulness import WEIGHTS, Faithfulness, quoted_in
from ragkit.evaluation.features import NAMES, closeness, fillings, opposed, ordered, unsaid_numbers
from ragkit.token_store import TokenStore

TEXT = st.text(alphabet="ab -_./'’19\n.,(:", max_size=40)


@pytest.fixture(scope="module")
def store(core: Corpus) -> TokenStore:
    return TokenStore.open(core, progress=False)


@pytest.fixture(scope="module")
def scorer(store: TokenStore) -> Faithfulness:
    return Faithfulness(store)


@pytest.fixture(scope="module")
def routing(core: Corpus) -> Chunk:
    """A short section about topic exchanges: three sentences in one paragraph."""
    document = core.document("celery/userguide/workers")
    span = section_span(document, ("Workers Guide", "Max tasks per child setting"))
    return Chunk(document.id, span.start, span.end, document.text[span.start : span.end])


# ---- words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Pass --max-tasks-per-child to it.", ["Pass", "--max-tasks-per-child", "to", "it"]),
        ("-C, or asyncio.timeout(3)", ["-C", "or", "asyncio.timeout", "3"]),
        ("It doesn't; it won’t", ["It", "doesn't", "it", "won’t"]),
        ("/etc/sudoers", ["etc/sudoers"]),
        ("", []),
    ],
)
def test_words(text, found):
    assert [w.text for w in wording.words(text)] == found


@given(TEXT)
def test_words_stand_where_they_say(text):
    found = wording.words(text)
    assert all(text[w.start : w.end] == w.text for w in found)
    assert [w.start for w in found] == sorted(w.start for w in found)


@given(TEXT)
def test_lines_are_in_order_and_lose_no_word(text):
    lines = wording.lines(text)
    assert all(a < b for a, b in lines)
    inside = [w.text for a, b in lines for w in wording.words(text[a:b])]
    assert inside == [w.text for w in wording.words(text)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("thirty seconds or 2.50 minutes", {"30", "2.5"}),
        ("E701, 3x and x86_64", set()),
        ("once or twice", {"1", "2"}),
        ("port 8000.", {"8000"}),
    ],
)
def test_numbers(text, said):
    assert wording.numbers(text) == said


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("It does not stop the worker", ["stop", "the", "worker"]),
        ("It doesn't stop", ["stop"]),
        ("Use revoke instead of kill", ["kill"]),
        ("Rather than kill, revoke", ["kill", "revoke"]),
        ("It is not. It stops", []),
        ("never a b c d e f", ["a", "b", "c", "d", "e"]),
    ],
)
def test_negated(text, inside):
    found = wording.words(text)
    assert [w.text for w, no in zip(found, wording.negated(text, found), strict=True) if no] == inside


def test_opposites_are_mutual():
    table = wording.opposites()
    assert all(one in table[other] for one, others in table.items() for other in others)
    assert "befor" in table["after"]


# ---- what is compared


def test_a_swap_keeps_the_heavier_of_two_words():
    left, right = wording.words("sync turns into gthread"), wording.words("gthread turns into sync")
    assert ordered(left, right, np.array([0.4, 0.1, 0.1, 0.3])) == {0: 3}
    assert ordered(left, right, np.array([0.1, 0.1, 0.1, 0.3])) == {3: 0}
    assert ordered(left, right, np.array([0.1, 0.2, 0.1, 0.2])) == {1: 1, 2: 2}


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_partners_are_the_same_words_in_the_same_order(a, b):
    left, right = wording.words(" ".join(a)), wording.words(" ".join(b))
    partner = ordered(left, right, np.ones(len(left)))
    assert all(left[i].term == right[j].term for i, j in partner.items())
    places = list(partner.items())
    assert places == sorted(places)
    assert len({j for _, j in places}) == len(places)


def gaps(sentence, evidence):
    left, right = wording.words(sentence), wording.words(evidence)
    terms = {w.term for w in right}
    common = np.array([w.term in terms for w in left])
    found = fillings(left, right, common, ordered(left, right, np.ones(len(left))))
    return [([left[i].text for i in mine], [right[j].text for j in theirs], alone) for mine, theirs, alone in found]


def test_what_stands_in_another_words_place():
    assert gaps("use the gevent pool now", "use the prefork pool now") == [(["gevent"], ["prefork"], True)]
    assert gaps("use the slow pool now", "use the pool now") == [(["slow"], [], False)]
    assert gaps("use the pool now", "use the pool now") == []
    assert gaps("nothing alike", "another thing") == []


def test_an_opposite_counts_where_it_stands():
    left = wording.words("stops before the end")
    for evidence, found in [
        ("stops after the end", ["before"]),
        ("stops before the end", []),
        ("stops after the end, and long before lunch", ["before"]),
        ("stops at the end, and long after lunch", []),
    ]:
        assert list(opposed(left, wording.words(evidence), {0: 0, 2: 2, 3: 3})) == found


def test_small_numbers_in_words_are_no_claim():
    sentence = "Between two calls it waits for three seconds."
    assert unsaid_numbers(sentence, wording.words(sentence), "It waits.") == {"3"}


def test_closeness_is_1_for_the_same_words_and_small_for_half():
    weight = np.array([0.5, 0.5])
    assert closeness(weight, np.array([True, True])) == 1
    assert closeness(weight, np.array([True, False])) == pytest.approx(0.5**6)
    assert closeness(np.zeros(0), np.zeros(0, dtype=bool)) == 0


# ---- the scorer

TRUE = "The number of tasks that a worker may execute before a new process replaces it can be configured."


@pytest.mark.parametrize(
    "wrong",
    [
        "The number of tasks that a worker may execute before a new process replaces it can't be configured.",
        "The number of threads that a broker may execute before a new queue replaces it can be configured.",
        "The option can be set using the workers --max-jobs argument.",
        "New in version 7.3",
        "The lighthouse keeper eats an apple every morning.",
    ],
)
def test_a_true_sentence_scores_higher(scorer, routing, wrong):
    good, bad = scorer.support(TRUE, [routing]), scorer.support(wrong, [routing])
    assert good.score > max(0.5, bad.score)
    assert not good.quoted


def test_a_quote_is_1_whatever_its_white_space(scorer, routing):
    words = routing.text.split()[-12:]
    support = scorer.support(" \n ".join(words), [routing])
    assert (support.score, support.quoted, support.chunk) == (1.0, True, routing)
    # Even where another sentence like it would raise doubts.
    assert scorer.support(routing.text, [routing]).score == 1.0


def test_it_says_what_it_doubts(scorer, routing):
    support = scorer.support("The option can be set using --max-jobs before 99 tasks.", [routing])
    assert "'--max-jobs' is in no source" in support.doubts
    assert "99 is not in the evidence" in support.doubts
    assert support.evidence in routing.text
    assert support.features.unknown == 1
    assert support.features.numbers == 1


def test_a_source_more_never_hides_the_evidence(scorer, routing):
    other = Chunk("nowhere", 0, 44, "A lighthouse keeper eats an apple each day. ")
    alone, both = scorer.support(TRUE, [routing]), scorer.support(TRUE, [other, routing, other])
    assert both.evidence == alone.evidence
    assert both.score == pytest.approx(alone.score, abs=1e-6)


def test_a_source_of_no_corpus_is_encoded(scorer, routing):
    foreign = Chunk("of another corpus", 0, len(routing.text), routing.text, routing.section)
    ours, theirs = scorer.support(TRUE, [routing]), scorer.support(TRUE, [foreign])
    assert theirs.evidence == ours.evidence
    assert theirs.score == pytest.approx(ours.score, abs=0.15)  # its words are encoded without their neighbourhood


def test_a_poisoned_source_under_a_known_name_is_read_as_it_is(scorer, routing):
    text = "The lighthouse keeper eats an apple every morning, and he never shares it with any of the gulls."
    poisoned = Chunk(routing.doc_id, routing.start, routing.start + len(text), text)
    foreign = Chunk("elsewhere", 0, len(text), text)
    sentence = "An apple is what the keeper of the lighthouse eats."
    assert scorer.support(sentence, [poisoned]).score == scorer.support(sentence, [foreign]).score


def test_a_block_of_unknown_names_is_unsupported_and_no_overflow(scorer, routing):
    support = scorer.support(" ".join(f"frob_{i}=x{i}_y" for i in range(300)), [routing])
    assert 0 <= support.score < 1e-6


def test_headings_count_as_known(scorer, routing):
    sentence = "max_frobs is the number of tasks a worker can execute before it is replaced."
    plain = scorer.support(sentence, [routing])
    headed = scorer.support(sentence, [Chunk(routing.doc_id, routing.start, routing.end, routing.text, ("max_frobs",))])
    assert plain.features.unknown == 1
    assert headed.features.unknown == 0
    assert headed.score > plain.score


@pytest.mark.parametrize(
    ("sentence", "sources", "message"),
    [
        ("", [Chunk("d", 0, 4, "Some")], "no words"),
        ("?!", [Chunk("d", 0, 4, "Some")], "no words"),
        ("Yes.", [], "no sources"),
        ("Yes.", [Chunk("d", 0, 2, "  ")], "hold no words"),
    ],
)
def test_what_cannot_be_scored_is_an_error_and_no_zero(scorer, sentence, sources, message):
    with pytest.raises(InputError, match=message):
        scorer.support(sentence, sources)


@given(sentence=TEXT, source=TEXT)
def test_any_text_gets_a_probability_or_an_error(scorer, sentence, source):
    try:
        support = scorer.support(sentence, [Chunk("hypothesis", 0, len(source), source)])
    except InputError:
        assert not wording.words(sentence) or not wording.words(source)
    else:
        assert 0 <= support.score <= 1


def test_every_sign_points_where_its_meaning_says():
    assert set(WEIGHTS) == {"intercept", *NAMES}
    assert WEIGHTS["agreement"] > 0
    assert all(WEIGHTS[name] <= 0 for name in NAMES if name != "agreement")


def test_weights_are_checked(store):
    with pytest.raises(InputError, match="expected intercept, agreement"):
        Faithfulness(store, {"intercept": 1.0})


def test_a_quote_needs_the_whole_sentence():
    chunk = Chunk("d", 0, 20, "Use purge to discard")
    assert quoted_in("purge to", [chunk]) is chunk
    assert quoted_in("purge two", [chunk]) is None


# ---- relevance


def test_relevance_prefers_the_answer_to_its_question(store):
    asked = "How do I stop a worker?"
    assert relevance(asked, "Send the worker a TERM signal to shut it down.", store) > relevance(
        asked, "Black wraps lines at 88 characters.", store
    )
    assert relevance(asked, asked, store) == pytest.approx(1.0, abs=1e-5)


def test_relevance_is_maxsim_weighted_by_idf(store):
    asked, said = "stop a worker", "kill the worker"
    ids, _, left = token_vectors(asked, store.encoder)
    _, _, right = token_vectors(said, store.encoder)
    by_hand = sum(w * max(float(a @ b) for b in right) for a, w in zip(left, store.idf(ids), strict=True))
    assert relevance(asked, said, store) == pytest.approx(by_hand / store.idf(ids).sum(), abs=1e-5)


@pytest.mark.parametrize("pair", [("", "a"), ("a", " ")])
def test_relevance_of_nothing(store, pair):
    with pytest.raises(InputError, match="unscored"):
        relevance(*pair, store)

"""What the faithfulness scorer reads in a sentence, what it compares, and that it weighs as it was fitted."""

from __future__ import annotations

import json
import re
from collections import Counter
from difflib import SequenceMatcher
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Corpus, InputError
from ragkit.corpus.datasets import section_span
from ragkit.evaluation import faithfulness as f
from ragkit.evaluation.faithfulness import (
    NAMES,
    PERTURBED,
    SUPPORTED,
    WEIGHTS,
    Faithfulness,
    agreement,
    closeness,
    quoted_in,
    relevance,
    token_vectors,
)
from ragkit.files import data_file
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
    assert [w.text for w in f.words(text)] == found


@given(TEXT)
def test_words_stand_where_they_say(text):
    found = f.words(text)
    assert all(text[w.start : w.end] == w.text for w in found)
    assert [w.start for w in found] == sorted(w.start for w in found)


@given(TEXT)
def test_lines_are_in_order_and_lose_no_word(text):
    lines = f.lines(text)
    assert all(a < b for a, b in lines)
    inside = [w.text for a, b in lines for w in f.words(text[a:b])]
    assert inside == [w.text for w in f.words(text)]


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
    assert f.numbers(text) == said


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
    found = f.words(text)
    assert [w.text for w, no in zip(found, f.negated(text, found), strict=True) if no] == inside


def test_opposites_are_mutual():
    table = f.opposites()
    assert all(one in table[other] for one, others in table.items() for other in others)
    assert "befor" in table["after"]


# ---- what is compared


def replaced(sentence, evidence):
    left, right = sentence.split(), evidence.split()
    found = f.gaps(SequenceMatcher(None, left, right, autojunk=False))
    return [([left[i] for i in mine], [right[j] for j in theirs]) for mine, theirs in found]


def test_what_stands_in_another_words_place():
    assert replaced("use the gevent pool now", "use the prefork pool now") == [(["gevent"], ["prefork"])]
    assert replaced("use the slow pool now", "use the pool now") == []
    assert replaced("use the pool now", "use the pool now") == []
    # Before the first common word and after the last, a sentence of the evidence goes on: its neighbour is compared.
    assert replaced("gevent pool", "in general the prefork pool") == [(["gevent"], ["prefork"])]
    assert replaced("the pool stops", "the pool grows and shrinks") == [(["stops"], ["grows"])]


@pytest.mark.parametrize(
    ("sentence", "turned"),
    [
        ("It stops before the worker ends.", False),
        ("It stops after the worker ends.", True),
        ("The worker stops, and before it ends it waits.", False),
    ],
)
def test_an_opposite_counts_where_it_stands(scorer, sentence, turned):
    text = "It stops before the worker ends, long after lunch."
    support = scorer.support(sentence, [Chunk("d", 0, len(text), text)])
    assert ("stands against its opposite" in " ".join(support.doubts)) == turned


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
    assert support.features["unknown"] == 1
    assert support.features["numbers"] == 1
    assert scorer.support("Between two calls a worker may wait for three seconds.", [routing]).doubts[:1] == (
        "3 is not in the evidence",  # a small number in words is no claim
    )


def test_a_source_more_never_hides_the_evidence(scorer, routing):
    other = Chunk("nowhere", 0, 44, "A lighthouse keeper eats an apple each day. ")
    alone, both = scorer.support(TRUE, [routing]), scorer.support(TRUE, [other, routing, other])
    assert both.evidence == alone.evidence
    assert both.score == pytest.approx(alone.score, abs=1e-6)


@pytest.mark.parametrize("name", ["elsewhere", "of the store"])
def test_a_source_is_read_as_it_is_whatever_document_it_names(scorer, routing, name):
    """A corpus can change under a token store, and a passage can bear another document's name."""
    doc_id = routing.doc_id if name == "of the store" else name
    text = "Press the new lever to boil the water, and never the red one."
    here, there = Chunk(doc_id, 0, len(text), text), Chunk("nowhere", 7, 7 + len(text), text)
    for sentence in ("The new lever boils the water.", "A fresh handle heats water."):
        one, other = scorer.support(sentence, [here]), scorer.support(sentence, [there])
        assert (one.score, one.features) == (other.score, other.features)


def test_a_block_of_unknown_names_is_unsupported_and_no_overflow(scorer, routing):
    support = scorer.support(" ".join(f"frob_{i}=x{i}_y" for i in range(300)), [routing])
    assert 0 <= support.score < 1e-6


def test_headings_count_as_known(scorer, routing):
    sentence = "max_frobs is the number of tasks a worker can execute before it is replaced."
    plain = scorer.support(sentence, [routing])
    headed = scorer.support(sentence, [Chunk(routing.doc_id, routing.start, routing.end, routing.text, ("max_frobs",))])
    assert plain.features["unknown"] == 1
    assert headed.features["unknown"] == 0
    assert headed.score > plain.score


@pytest.mark.parametrize(
    ("sentence", "sources", "message"),
    [
        ("", [Chunk("d", 0, 4, "Some")], "no words"),
        ("?!", [Chunk("d", 0, 4, "Some")], "no words"),
        ("Yes.", [], "no sources with words"),
        ("Yes.", [Chunk("d", 0, 2, "  ")], "no sources with words"),
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
        assert not f.words(sentence) or not f.words(source)
    else:
        assert 0 <= support.score <= 1


def test_every_sign_points_where_its_meaning_says():
    assert set(WEIGHTS) == {"intercept", *NAMES}
    assert WEIGHTS["agreement"] > 0
    assert all(WEIGHTS[name] <= 0 for name in NAMES if name != "agreement")


def test_a_quote_needs_the_whole_sentence():
    chunk = Chunk("d", 0, 20, "Use purge to discard")
    assert quoted_in("purge to", [chunk]) is chunk
    assert quoted_in("purge two", [chunk]) is None


@pytest.mark.parametrize("sentence", ["```sh\nnow purge\n```", "~~~\nnow\npurge\n~~~\n", "now purge\n```", "```\nnow"])
def test_the_fences_around_quoted_code_need_not_stand_in_the_source(sentence):
    chunk = Chunk("d", 0, 9, "now purge")  # a piece of a code block: the chunk's edges cut the fences off
    assert quoted_in(sentence, [chunk]) is chunk
    assert quoted_in("```sh\n```", [chunk]) is None


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


# ---- the labelled sentences

ROWS = [json.loads(line) for line in data_file("answers.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def sentences(core: Corpus) -> tuple[f.LabelledSentence, ...]:
    return f.load_labelled_answers(core)


def test_form():
    assert [row["id"] for row in ROWS] == [f"answer-{i:03d}" for i in range(1, len(ROWS) + 1)]
    for row in ROWS:
        what = "quote" if row["kind"] == "quoted" else "sentence"
        assert row.keys() == {"id", "question", what, "label", "kind", "evidence", "split"}, row["id"]
        assert row["kind"] in (*SUPPORTED, *PERTURBED)
        assert row["label"] == ("supported" if row["kind"] in SUPPORTED else "unsupported")
        assert row["split"] in ("fit", "test")
        assert row["evidence"].keys() == {"doc", "section"}


def test_there_are_enough_of_every_kind_in_both_halves():
    assert len(ROWS) >= 480
    counts = Counter((row["split"], row["kind"]) for row in ROWS)
    assert all(counts[half, kind] >= 14 for half in ("fit", "test") for kind in (*SUPPORTED, *PERTURBED))


def test_the_halves_share_no_document():
    halves = {half: {r["evidence"]["doc"] for r in ROWS if r["split"] == half} for half in ("fit", "test")}
    assert not halves["fit"] & halves["test"]
    assert all(len(documents) >= 20 for documents in halves.values())


def test_every_section_is_there_and_nothing_is_left_out(sentences):
    assert len(sentences) == len(ROWS)
    assert all(s.source.text.strip() == s.source.text != "" for s in sentences)
    assert all(s.text == s.text.strip() and len(s.text) > 15 for s in sentences)


def test_only_quotes_are_quotes(sentences):
    for s in sentences:
        inside = re.sub(r"\s+", " ", s.text) in re.sub(r"\s+", " ", s.source.text)
        assert inside == (s.kind == "quoted"), s.id


def test_no_sentence_stands_twice_with_one_source(sentences):
    twice = [key for key, n in Counter((s.text, s.source.id) for s in sentences).items() if n > 1]
    assert twice == []


def test_a_sentence_of_another_section_is_a_true_one_there(sentences):
    supported = {s.text for s in sentences if s.supported}
    assert all(s.text in supported for s in sentences if s.kind == "other_section")


def test_halves_and_small_corpora(core: Corpus, tiny: Corpus):
    both = [len(f.load_labelled_answers(core, half)) for half in ("fit", "test")]
    assert sum(both) == len(ROWS)
    small = f.load_labelled_answers(tiny)
    assert 0 < len(small) < len(ROWS)
    assert {s.source.doc_id.split("/")[0] for s in small} == {"black", "gunicorn", "aiohttp"}
    with pytest.raises(InputError, match="expected 'fit' or 'test'"):
        f.load_labelled_answers(core, "dev")  # type: ignore[arg-type]


def test_agreement_of_a_perfect_and_of_a_blind_score(sentences):
    perfect = agreement(sentences, [float(s.supported) for s in sentences])
    assert set(perfect.index) == {"all", "all but quotes", *PERTURBED, *SUPPORTED}
    assert (perfect[["auroc", "low", "high"]] == 1).all(axis=None)
    blind = agreement(sentences, [0.0] * len(sentences))
    assert (blind[["auroc", "low", "high"]] == 0.5).all(axis=None)
    assert perfect.loc["negation", "sentences"] == sum(s.kind == "negation" for s in sentences)
    # A score that can't see negations: its row says so, and the others don't.
    numb = agreement(sentences, [float(s.supported or s.kind == "negation") for s in sentences])
    assert numb.loc["negation", "auroc"] == 0.5
    assert numb.loc["number", "auroc"] == 1
    assert numb.loc[["negation", "number", "reworded"], "accepted"].tolist() == [1, 0, 1]


def test_the_weights_tell_apart_what_they_were_not_fitted_on(core: Corpus, sentences):
    """A third of the held-out half; ``tests/bench/bench_scorers.py`` measures all of it, and fits the weights again."""
    held_out = [s for s in sentences if s.half == "test"][::3]
    scorer = Faithfulness(TokenStore.open(core, progress=False))
    table = agreement(held_out, [scorer.support(s.text, [s.source]).score for s in held_out])
    assert table.loc["all", "auroc"] >= 0.87
    assert table.loc["quoted", "auroc"] == 1
    assert (table.loc[list(PERTURBED), "auroc"] >= 0.65).all()


# ---- the sentences that a model wrote

WRITTEN = [json.loads(line) for line in data_file("written.jsonl").read_text(encoding="utf-8").splitlines()]


def test_form_of_the_written_sentences():
    assert [row["id"] for row in WRITTEN] == [f"written-{i:03d}" for i in range(1, len(WRITTEN) + 1)]
    for row in WRITTEN:
        assert row.keys() == {"id", "prompt", "question", "sentence", "labels", "label", "sources"}, row["id"]
        assert row["prompt"] in ("plain", "tuned")
        assert {*row["labels"], row["label"]} <= {"supported", "unsupported"}
        assert row["label"] in row["labels"], "an earlier reading decides between the two"
    assert len({(row["prompt"], row["question"], row["sentence"]) for row in WRITTEN}) == len(WRITTEN) >= 150


def test_the_sources_are_those_that_were_labelled(core: Corpus):
    # The spans are offsets: if the texts behind them change, the labels are about something else.
    sentences = f.load_written_sentences(core)
    assert len(sentences) == len(WRITTEN)
    texts = "\n".join(chunk.text for sentence in sentences for chunk in sentence.sources)
    assert sha256(texts.encode()).hexdigest()[:16] == "227f1f22ff056053"


def test_written_sentences_about_other_documents_are_left_out(tiny: Corpus):
    sentences = f.load_written_sentences(tiny)
    assert 0 < len(sentences) < len(WRITTEN)
    assert {chunk.doc_id.split("/")[0] for s in sentences for chunk in s.sources} <= {"black", "gunicorn", "aiohttp"}

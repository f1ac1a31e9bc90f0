"""Pairs from the documents themselves: who asks for what, what is left out, which passages are wrong answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Corpus, CorpusError, Document, InputError, Question, Section, Span
from ragkit.training.pairs import (
    Pair,
    cloze_pairs,
    heading_pairs,
    make_pairs,
    reference_pairs,
    section_passages,
    shingles,
    split_by_document,
)

LEVER = "Press the red lever until the water boils. The lamp beside it turns off when you may pour."
VINEGAR = "Fill the kettle with vinegar and water. Wait for an hour, then see Boiling water and boil it once."
WHEEL = "Turn the wheel to the left for less light. It clicks when the lamp is off, and then all is dark for the night."
POUR = "Pour slowly when the lamp goes out. A full kettle gives six cups, a half one three, if nobody spills."


def page(doc_id: str, *sections: tuple[str, str], title: str = "") -> Document:
    text, found = "", []
    for heading, body in sections:
        start = len(text)
        text += f"{heading}\n{body}\n\n"
        found.append(Section((title or doc_id, heading), start, start + len(heading) + 1, len(text)))
    return Document(doc_id, text, title, tuple(found), {"project": "home"})


def house(*more: Document) -> Corpus:
    kettle = page("home/kettle", ("Boiling water", LEVER), ("Cleaning", VINEGAR), title="Kettle")
    return Corpus("house", (kettle, page("home/lamp", ("Dimming", WHEEL), title="Lamp"), *more))


def test_a_heading_behind_the_one_above_it_asks_for_the_sections_text():
    pairs = {pair.query: pair for pair in heading_pairs(section_passages(house()))}
    assert pairs.keys() == {"Kettle: Boiling water", "Kettle: Cleaning", "Lamp: Dimming"}
    assert pairs["Kettle: Cleaning"].positive.text == VINEGAR
    for pair in pairs.values():
        document = house().document(pair.positive.doc_id)
        assert document.text[pair.positive.start : pair.positive.end] == pair.positive.text


def test_a_sentence_that_names_another_section_asks_for_it():
    (pair,) = reference_pairs(section_passages(house()))
    assert pair.query == "Wait for an hour, then see Boiling water and boil it once."
    assert pair.positive.section == ("Kettle", "Boiling water")


def test_a_heading_that_occurs_twice_could_mean_either_and_is_no_reference():
    corpus = house(
        page("home/pot", ("Boiling water", "Put the pot on the stove, and wait until it sings to you. " * 2))
    )
    assert list(reference_pairs(section_passages(corpus))) == []


def test_the_first_sentence_asks_for_the_rest():
    pairs = {pair.query: pair.positive for pair in cloze_pairs(section_passages(house()))}
    rest = pairs["Turn the wheel to the left for less light."]
    assert rest.text == "It clicks when the lamp is off, and then all is dark for the night."
    assert house().document(rest.doc_id).text[rest.start : rest.end] == rest.text


@pytest.mark.parametrize(
    "faq",
    [
        page("home/faq", ("Pouring", POUR)),
        page("home/help", ("Pouring", POUR), title="Frequently Asked Questions"),
        page("home/asked", ("Pouring", POUR)),
    ],
)
def test_pages_with_questions_are_left_out_by_name_by_title_and_by_label(faq):
    corpus = house(faq)
    asked = Question("q", "When may I pour?", (Span(faq.id, 0, 20),), ("faq",))
    if faq.id == "home/asked":
        assert any(pair.positive.doc_id == faq.id for pair in make_pairs(corpus))
        corpus = replace(corpus, questions=(asked,))
    pairs = make_pairs(corpus)
    used = {chunk.doc_id for pair in pairs for chunk in (pair.positive, *pair.negatives)}
    assert used == {"home/kettle", "home/lamp"}


def test_a_question_that_was_taken_out_of_the_text_begins_no_passage():
    asked = page("home/asked", ("Pouring", POUR))
    (whole,) = asked.sections
    middle = asked.text.index("A full kettle")
    answers = replace(whole, end=middle), replace(whole, start=middle, body=middle)
    corpus = house(replace(asked, sections=answers))
    assert [p.text for p in section_passages(corpus) if p.doc_id == asked.id] == [POUR]


@pytest.fixture(scope="module")
def real(tiny) -> tuple[Pair, ...]:
    return make_pairs(tiny, negatives=2)


def test_no_question_of_the_real_documents_is_answered_by_a_pair(tiny, real):
    gold = [span for question in tiny.questions for span in question.gold]
    assert gold
    for pair in real:
        for chunk in (pair.positive, *pair.negatives):
            assert not any(chunk.span.overlap(span) for span in gold), pair


def test_hard_negatives_are_neither_the_answer_nor_its_copy(real):
    assert sum(len(pair.negatives) == 2 for pair in real) > 0.9 * len(real)
    for pair in real:
        for wrong in pair.negatives:
            assert not wrong.span.overlap(pair.positive.span)
            assert pair.query not in wrong.text
            one, other = shingles(wrong.text), shingles(pair.positive.text)
            assert len(one & other) / len(one | other) < 0.5


def test_a_text_that_stands_on_two_pages_is_one_passage():
    copied = page("home/copy", ("Dimming again", WHEEL))
    assert section_passages(house(copied)) == section_passages(house())


def test_no_query_twice_and_always_the_same_order(tiny):
    pairs = make_pairs(tiny, negatives=0)
    queries = [" ".join(pair.query.casefold().split()) for pair in pairs]
    assert len(set(queries)) == len(queries)
    assert make_pairs(tiny, negatives=0) == pairs


def test_passages_are_cut_at_tokens(tiny):
    from ragkit.tokens import minilm_tokenizer

    assert max(minilm_tokenizer().count(passage.text) for passage in section_passages(tiny, 32)) == 32


@given(st.integers(2, 30), st.integers(0, 5), st.floats(0.05, 0.9))
def test_held_out_documents_have_no_pair_in_training(n, seed, share):
    passage = make_pairs(house(), negatives=0)[0].positive
    pairs = [Pair(f"q{i}", replace(passage, doc_id=f"d{i % n}"), "heading") for i in range(3 * n)]
    try:
        training, held_out = split_by_document(pairs, share, seed)
    except InputError:
        assert round(share * n) >= n
        return
    assert {p.positive.doc_id for p in training}.isdisjoint({p.positive.doc_id for p in held_out})
    assert len(training) + len(held_out) == len(pairs)
    assert len({p.positive.doc_id for p in held_out}) == max(1, round(share * n))


def test_what_cannot_be_made_is_refused():
    with pytest.raises(CorpusError, match="no sections"):
        make_pairs(Corpus("plain", (Document("a", "Just a line of text."),)))
    with pytest.raises(InputError, match="at least 2"):
        split_by_document([p for p in make_pairs(house()) if p.positive.doc_id == "home/lamp"])

"""Drafted questions: each is answered by its paragraph, and each rule has its sentence."""

from __future__ import annotations

import pytest

from ragkit.base import Corpus, Document
from ragkit.corpus import load_pydocs
from ragkit.markdown import sections
from ragkit.workbench.draft import draft
from ragkit.workbench.labels import load_labels, save_labels

FILL = "and there is much more to say of it, which fills the rest of this paragraph."


def drafted(text: str) -> dict[str, str]:
    document = Document("a", text, sections=sections(text))
    return {question.text: question.tags[1] for question in draft(Corpus("c", (document,)))}


@pytest.mark.parametrize(
    ("text", "question", "rule"),
    [
        (f"A broker is a program {FILL}", "What is a broker?", "definition"),
        (f"The `acks_late` setting is the one to use {FILL}", "What is the acks_late setting?", "definition"),
        (f"To stop your worker at once, send SIGTERM {FILL}", "How do I stop my worker at once?", "purpose"),
        (f"If you want to skip a test, mark it {FILL}", "How do I skip a test?", "purpose"),
        (f"**Notice period**: three months {FILL}", "What is Notice period?", "bold"),
        ("# Who pays?\n\nWe do.", "Who pays?", "heading"),
    ],
)
def test_every_rule_has_its_sentence(text: str, question: str, rule: str):
    assert drafted(text) == {question: rule}


@pytest.mark.parametrize(
    "text",
    [
        f"This is a program {FILL}",
        f"To illustrate the idea behind tasks, think of a queue {FILL}",
        f"To do this without a broker, use the cache {FILL}",
        f"A worker reads tasks {FILL}",
        "A broker is a program.",
        f"```\nA broker is a program {FILL}\n```",
        "",
    ],
)
def test_what_states_nothing_gives_no_question(text: str):
    assert drafted(text) == {}


def test_a_question_with_two_answers_is_left_out():
    texts = [f"A broker is a program {FILL}", f"A broker is a person {FILL}"]
    assert draft(Corpus("c", tuple(Document(str(i), text) for i, text in enumerate(texts)))) == ()


def test_drafts_of_real_documents_are_labels(tmp_path):
    corpus = load_pydocs("tiny")
    questions = draft(corpus, limit=30)
    assert len(questions) == len({q.text for q in questions}) == 30
    assert questions == draft(corpus, limit=30)
    assert {"definition", "purpose"} <= {q.tags[1] for q in questions}
    save_labels(tmp_path / "draft.jsonl", questions, corpus)
    assert [q.gold for q in load_labels(tmp_path / "draft.jsonl", corpus)] == [q.gold for q in questions]

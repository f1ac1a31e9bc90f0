"""What people need to know, and the ways in which they type it: the raw material of a simulated stream of questions.

A **need** is one thing that somebody wants to know, with all the wordings of it that there are: a question of the
corpus, and the rewordings of ``data/wordings.jsonl``, which were written by hand. An exact cache takes two wordings
for two questions; a semantic cache should not. Everything that ``typed`` and ``rephrased`` do is simulated by rules.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ragkit.base import Corpus, Question
from ragkit.corpus import load_questions
from ragkit.files import data_file
from ragkit.rewriting.typos import misspelt

KINDS = ("keyword", "paraphrase", "multihop")
"""The kinds of our own questions that are asked beside those of the corpus."""

FORMS = (("as written", 0.60), ("lower case", 0.12), ("white space", 0.08), ("reworded", 0.08), ("typo", 0.07))
"""How a question is typed, with probabilities; what is left to 1 is ``polite``. Our assumption: no log was at hand."""

_HOW = re.compile(r"(?i)^(?:how (?:do|can|might|would|should) (?:i|we|you)|how to) ")
_CAN = re.compile(r"(?i)^(?:can|could|may) (?:i|we|you) ")
_GREETINGS = ("Hi, ", "Hello! ", "Quick question: ", "Please: ")
_FUNCTION_WORDS = """a am an and any are as at be been but by can could did do does doing done for from get had has have
having how i if in into is isn't it its may me might must my of on or our ours please shall should so that the their
them then there these they this those to up us was we were what what's when where which while who why will with would
you your"""


@dataclass(frozen=True)
class Need:
    """One thing that somebody wants to know. ``wordings[0]`` is the question it was made from; all have its gold.

    ``topics`` are the projects that it is about (the first one files it).
    """

    id: str
    wordings: tuple[Question, ...]
    topics: tuple[str, ...] = ()

    @property
    def topic(self) -> str:
        return self.topics[0] if self.topics else ""

    @property
    def answerable(self) -> bool:
        return bool(self.wordings[0].gold)


def needs(corpus: Corpus) -> tuple[Need, ...]:
    """The needs that ``corpus`` answers: its own questions with gold, and ours (``KINDS``) where it has the documents.

    Two questions are two needs even where one section answers both.
    """
    more = _rewordings()
    ours = tuple(question for kind in KINDS for question in load_questions(kind, corpus))
    found = []
    for question in (*corpus.questions, *ours):
        if question.gold:
            texts = more.get(question.id, ())
            others = (replace(question, id=f"{question.id}~{i}", text=text) for i, text in enumerate(texts, 1))
            projects = (str(corpus.document(g.doc_id).metadata.get("project", "")) for g in question.gold)
            found.append(Need(question.id, (question, *others), tuple(dict.fromkeys(projects))))
    return tuple(found)


def unanswerable(corpus: Corpus) -> tuple[Need, ...]:
    """Our questions about projects of ``corpus`` that it has no answer to."""
    projects = {str(document.metadata.get("project", "")) for document in corpus.documents}
    questions = load_questions("unanswerable", corpus)
    about = [(question, tuple(tag for tag in question.tags if tag in projects)) for question in questions]
    return tuple(Need(question.id, (question,), topics) for question, topics in about if topics)


def _rewordings() -> dict[str, tuple[str, ...]]:
    lines = data_file("wordings.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["id"]: tuple(entry["wordings"]) for entry in map(json.loads, lines)}


class Popular:
    """Needs in the order of their popularity, drawn by Zipf's law; ``of`` draws among those of one topic only."""

    def __init__(self, found: Sequence[Need], exponent: float, order: random.Random) -> None:
        self.needs = order.sample(list(found), len(found))
        self.weights = [rank**-exponent for rank in range(1, len(found) + 1)]

    def draw(self, rng: random.Random) -> Need:
        return rng.choices(self.needs, self.weights)[0]

    def of(self, topic: str, rng: random.Random) -> Need:
        among = [(need, weight) for need, weight in zip(self.needs, self.weights, strict=True) if need.topic == topic]
        return rng.choices([need for need, _ in among], [weight for _, weight in among])[0]


def typed(question: Question, rng: random.Random) -> Question:
    """``question`` as somebody typed it, in one of ``FORMS``; the form is the last tag. Its id and gold stay.

    >>> typed(Question("q", "How do I stop a worker?"), random.Random(5))
    Question(id='q', text='how do i stop a worker', gold=(), tags=('lower case',), answer=None)
    """
    draw, form = rng.random(), "polite"
    for name, share in FORMS:
        draw -= share
        if draw < 0:
            form = name
            break
    return replace(question, text=_in_form(question, form, rng), tags=(*question.tags, form))


def _in_form(question: Question, form: str, rng: random.Random) -> str:
    text = question.text
    if form == "lower case":
        return text.lower().rstrip("?!. ")
    if form == "white space":
        return rng.choice((f"{text} ", f" {text}", f"{text}\n", text.replace(" ", "  ", 1)))
    if form == "reworded":
        return reworded(text, rng)
    if form == "typo":
        return misspelt([question], 0.2, rng.randrange(1_000_000))[0].text
    return rng.choice(_GREETINGS) + text if form == "polite" else text


def reworded(text: str, rng: random.Random) -> str:
    """The same question with another beginning, where it begins as most do: "How do I", "Can I".

    >>> reworded("How do I stop a worker?", random.Random(0))
    'What is the way to stop a worker?'
    """
    if match := _HOW.match(text):
        return rng.choice(("How can I ", "How to ", "How would I ", "What is the way to ")) + text[match.end() :]
    if match := _CAN.match(text):
        return rng.choice(("Is it possible to ", "Can you ", "Is there a way to ")) + text[match.end() :]
    return text


def rephrased(need: Need, last: Question, rng: random.Random) -> Question:
    """``need`` in other words than ``last``: another wording where there is one, else its content words alone.

    >>> only = Need("q", (Question("q", "How do I stop a worker?"),))
    >>> rephrased(only, only.wordings[0], random.Random(0)).text
    'stop worker'
    """
    others = [wording for wording in need.wordings if wording.id != last.id]
    if others:
        return rng.choice(others)
    words = [word.strip("?!,;:") for word in last.text.split()]
    empty = frozenset(_FUNCTION_WORDS.split())
    content = " ".join(word for word in words if word and word.lower() not in empty)
    return replace(last, id=f"{need.id}~words", text=content or last.text)

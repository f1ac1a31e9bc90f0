"""First questions about documents that nobody has asked about yet: drafted by rules, for a person to accept or drop.

A rule turns a sentence that states something into the question that it answers: a definition ("A broker is ..."), a way
to do something ("To stop a worker, ..."), a term in bold, a heading that is a question already. The gold is the
paragraph around it. Such a question shares words with its answer, which flatters search by words: see how far its
ranking of pipelines can be trusted in ``results/draft.json``.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

from ragkit.base import Corpus, Document, Question, Section, Span
from ragkit.languages import is_english
from ragkit.markdown import blocks

LIMIT = 100
LEAST = 60  # characters of a paragraph that answers something

_NAME = r"(?P<name>(?:(?:[A-Z]|[a-z])[\w'-]*(?: of| for| in)?(?: the| a| an)? ?){1,6}?)"
_DEFINITION = re.compile(rf"^(?P<article>The|A|An) {_NAME} (?P<verb>is|are|means) (?:a|an|the|one|used|\d)\b")
_PURPOSE = re.compile(r"^(?:To|In order to) (?P<deed>[a-z]+ [^,.:;()]{6,70}), (?!and\b)")
_WISH = re.compile(r"^If you (?:want|need|would like|wish) to (?P<deed>[a-z]+ [^,.:;()]{6,70}), ")
_BOLD = re.compile(r"\*\*(?P<term>[A-Za-z][\w -]{3,40})\*\*")
_MARKS = re.compile(r"`|\*\*|\[(?P<text>[^\]]*)\]\([^)]*\)")
_POINTING = re.compile(
    r"\b(?:this|that|these|those|it|its|such|following|above|below|same|other|instead|which)\b", re.I
)
_TALK = re.compile(r"^(?:show|illustrate|see|summari[sz]e|sum|put|learn|understand|be|begin|continue|demonstrate)\b")
"""What a text does, not its reader: "To illustrate the idea, ..."."""


class Draft(NamedTuple):
    """A drafted question: its text, the paragraph that answers it, and the rule that made it."""

    text: str
    gold: Span
    rule: str


def draft(corpus: Corpus, limit: int = LIMIT, seed: int = 0) -> tuple[Question, ...]:
    """At most ``limit`` questions, dealt out over rules and documents; the same ones for the same ``seed``.

    Each has the tags ``"draft"`` and its rule: "heading", "definition", "purpose" or "bold". The last three read and
    write English: files in another language give only their headings. A question that has several answers is left out.

    >>> text = "# Broker\\n\\nA broker is a program that passes messages on from the client to the workers."
    >>> [question] = draft(Corpus("docs", (Document("broker", text),)))
    >>> question.text, question.answer
    ('What is a broker?', 'A broker is a program that passes messages on from the client to the workers.')
    """
    made: dict[str, list[Draft]] = defaultdict(list)
    languages = {file.file: file.language for file in corpus.files}
    for document in corpus.documents:
        english = is_english(languages.get(document.metadata.get("source", ""), ""))
        for each in _drafts(document):
            if english or each.rule == "heading":
                made[each.text].append(each)
    alone = [drafts[0] for drafts in made.values() if len(drafts) == 1]
    random.Random(seed).shuffle(alone)
    by_source: dict[tuple[str, str], list[Draft]] = defaultdict(list)
    for each in alone:
        by_source[each.rule, each.gold.doc_id].append(each)
    chosen = [each for turn in zip_longest(*by_source.values()) for each in turn if each][:limit]
    return tuple(
        Question(
            f"draft-{number:03d}",
            each.text,
            (each.gold,),
            ("draft", each.rule),
            corpus.document(each.gold.doc_id).text[each.gold.start : each.gold.end],
        )
        for number, each in enumerate(chosen, 1)
    )


def _drafts(document: Document) -> Iterator[Draft]:
    texts = [block for block in blocks(document.text) if block.kind in ("paragraph", "list")]
    for section in document.visible_sections or (Section((), 0, 0, len(document.text)),):
        heading = section.path[-1] if section.path else ""
        inside = [block for block in texts if section.body <= block.start and block.end <= section.end]
        for number, block in enumerate(inside):
            marked = document.text[block.start : block.end].rstrip()
            gold = Span(document.id, block.start, block.start + len(marked))
            if document.text.count(marked) > 1:  # a label names its place by its words
                continue
            if number == 0 and heading.endswith("?"):
                yield Draft(heading, gold, "heading")
            if len(gold) >= LEAST and block.kind == "paragraph":
                yield from _of_paragraph(_plain(marked), marked, gold)


def _of_paragraph(text: str, marked: str, gold: Span) -> Iterator[Draft]:
    if (match := _DEFINITION.match(text)) and not _POINTING.search(match["name"]):
        verb = "are" if match["verb"] == "are" else "is"
        yield Draft(f"What {verb} {match['article'].lower()} {match['name'].strip()}?", gold, "definition")
    match = _PURPOSE.match(text) or _WISH.match(text)
    if match and not _POINTING.search(match["deed"]) and not _TALK.match(match["deed"]):
        deed = re.sub(r"\byour\b", "my", re.sub(r"\byou\b", "I", match["deed"]))
        yield Draft(f"How do I {deed}?", gold, "purpose")
    if (match := _BOLD.match(marked)) and not _POINTING.search(match["term"]):
        yield Draft(f"What is {match['term']}?", gold, "bold")


def _plain(text: str) -> str:
    return " ".join(_MARKS.sub(lambda m: m["text"] or "", text).split())

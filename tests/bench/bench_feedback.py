"""How far feedback carries: how often a suggested place is right, and what training on negatives brings.

``python tests/run_bench.py feedback`` prints the figures; the docstring of ``ragkit.production.review`` quotes them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence

from ragkit.base import Answer, Corpus, Question, Span
from ragkit.corpus import load_pydocs, load_questions
from ragkit.passages import blocks, sentences
from ragkit.pipeline import RAGPipeline, advanced, naive
from ragkit.production.opinions import Flag
from ragkit.production.review import suggest
from ragkit.token_store import TokenStore

Row = tuple[str, float, str, str]
KINDS = ("en", "keyword", "paraphrase")


def main() -> list[Row]:
    corpus = load_pydocs("core")
    questions = [*corpus.questions, *(q for kind in KINDS for q in load_questions(kind, corpus))]
    store = TokenStore.open(corpus).remembering([q.text for q in questions], tokens=True)
    plain, better = naive(corpus, store=store), advanced(corpus, store=store)
    answers = asyncio.run(plain.query_many([q.text for q in questions]))
    wrong = [(q, a) for q, a in zip(questions, answers, strict=True) if not right(q, a)]
    rows: list[Row] = [
        ("naive: questions", len(questions), "", ""),
        ("naive: answered wrongly or not at all", len(wrong), "", ""),
        ("naive: of these, not at all", sum(a.abstained for _, a in wrong), "", ""),
    ]
    for what, correction in corrections(corpus).items():
        for name, rag in (("naive", plain), ("advanced", better)):
            rows += suggested(f"{what}; searched by {name}", wrong, correction, corpus, rag)
    return rows


def right(question: Question, answer: Answer) -> bool:
    """The answer quotes something of the gold."""
    return any(span.overlap(gold) for span in quotes(answer) for gold in question.gold)


def quotes(answer: Answer) -> Iterator[Span]:
    for citation in answer.citations:
        start = citation.chunk.start + citation.chunk.text.index(citation.quote)
        yield Span(citation.chunk.doc_id, start, start + len(citation.quote))


def corrections(corpus: Corpus) -> dict[str, Callable[[Question], str]]:
    """What a reviewer may give: nothing, or something of the gold."""

    def gold(question: Question) -> str:
        span = question.gold[0]
        return corpus.document(span.doc_id).text[span.start : span.end]

    def first_sentence(question: Question) -> str:
        text = gold(question)
        block = blocks(text)[0]
        paragraph = text[block.start : block.end]
        return paragraph[slice(*next(sentences(paragraph)))]

    def some_words(share: float) -> Callable[[Question], str]:
        def shuffled(question: Question) -> str:
            chance, words = random.Random(question.id), gold(question).split()
            kept = [word for word in words if chance.random() < share] or words[:3]
            chance.shuffle(kept)
            return " ".join(kept[:60])

        return shuffled

    return {
        "only a thumb down": lambda question: "",
        "the right passage, copied": gold,
        "its first sentence": first_sentence,
        "half of its words, shuffled": some_words(0.5),
        "a fifth of its words, shuffled": some_words(0.2),
    }


def suggested(
    what: str,
    wrong: Sequence[tuple[Question, Answer]],
    correction: Callable[[Question], str],
    corpus: Corpus,
    rag: RAGPipeline,
) -> Iterator[Row]:
    first = three = 0
    for question, answer in wrong:
        given = tuple(text for text in [correction(question)] if text)
        flag = Flag(question.text, 1.0, 1, 0, 1, 0.5, ("t",), ("wrong",), given, (), (), (answer.text,))
        spans = [place.span for place in suggest(flag, corpus, rag).places]
        hits = [any(span.answers(gold) for gold in question.gold) for span in spans]
        first, three = first + any(hits[:1]), three + any(hits)
    yield f"suggestion, {what}: first place", first / len(wrong), "", ""
    yield f"suggestion, {what}: first three", three / len(wrong), "", ""

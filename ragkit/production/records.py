"""Answers as JSON text, so that a cache can keep them without pickle and give them back as they were.

A chunk that several hits and citations share is written once. JSON knows no tuples, dates or classes: what it can't
give back equal is refused when it is written, not discovered when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ragkit.base import Answer, Chunk, Citation, Hit, InputError, Usage


def answer_json(answer: Answer) -> str:
    """``answer`` as ASCII JSON; ``answer_of`` gives back an equal one.

    >>> answer = Answer("How?", "So.", usage=Usage("m", 3, 1))
    >>> answer_of(answer_json(answer)) == answer
    True

    Raises:
        InputError: a chunk's metadata, or a score, is nothing that JSON gives back equal.
    """
    shelf = _Shelf()
    told = {
        "question": answer.question,
        "text": answer.text,
        "hits": [shelf.hit(hit) for hit in answer.hits],
        "citations": [[c.number, shelf.place(c.chunk), c.quote] for c in answer.citations],
        "timings": dict(answer.timings),
        "usage": [answer.usage.model, answer.usage.input_tokens, answer.usage.output_tokens],
        "abstained": answer.abstained,
        "reason": answer.reason,
        "trace_id": answer.trace_id,
        "chunks": shelf.told,
    }
    text = _text(told)
    if answer_of(text) != answer:
        raise InputError(_REFUSED)
    return text


def answer_of(text: str) -> Answer:
    """The answer that ``answer_json`` wrote."""
    told = json.loads(text)
    chunks = [_chunk(each) for each in told["chunks"]]
    return Answer(
        told["question"],
        told["text"],
        hits=tuple(_hit(each, chunks) for each in told["hits"]),
        citations=tuple(Citation(number, chunks[place], quote) for number, place, quote in told["citations"]),
        timings=told["timings"],
        usage=Usage(*told["usage"]),
        abstained=told["abstained"],
        reason=told["reason"],
        trace_id=told["trace_id"],
    )


_REFUSED = (
    "this can't be kept as JSON and given back equal: expected metadata of texts, numbers, lists and objects, and "
    "finite scores; make tuples lists, and dates texts"
)


class _Shelf:
    """The chunks of an answer, each once."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self._places: dict[int, int] = {}  # by identity: hashing a chunk would hash its whole text

    def place(self, chunk: Chunk) -> int:
        if id(chunk) not in self._places:
            self._places[id(chunk)] = len(self.told)
            self.told.append(
                [chunk.doc_id, chunk.start, chunk.end, chunk.text, list(chunk.section), dict(chunk.metadata)]
            )
        return self._places[id(chunk)]

    def hit(self, hit: Hit) -> list[Any]:
        return [self.place(hit.chunk), float(hit.score), hit.source, {k: float(v) for k, v in hit.parts.items()}]


def _chunk(told: Sequence[Any]) -> Chunk:
    doc_id, start, end, text, section, metadata = told
    return Chunk(doc_id, start, end, text, tuple(section), metadata)


def _hit(told: Sequence[Any], chunks: Sequence[Chunk]) -> Hit:
    place, score, source, parts = told
    return Hit(chunks[place], score, source, parts)


def _text(told: object) -> str:
    try:
        return json.dumps(told, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InputError(f"{_REFUSED} ({error})") from error

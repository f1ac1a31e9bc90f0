"""The exercises of ``01_naive_rag``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from exercises.check import check_number, exercise
from ragkit.base import Chunk, Hit, Span


@exercise(
    "01.1",
    expects=int,
    hint="A chunk holds 100 tokens, and the next one begins 80 tokens further on. Write down where each begins.",
    praise="They begin at 0, 80, 160, 240, 320 and 400, and the last one reaches the end exactly.",
)
def chunk_count(answer: int) -> str | None:
    return check_number(
        answer,
        6,
        [
            (5, "500 / 100 = 5 forgets the overlap: each chunk begins 20 tokens before the last one ended."),
            (
                7,
                "you counted a chunk that begins at token 480. The one before it runs from 400 to 500, which is the "
                "end: a seventh would only repeat its last 20 tokens.",
            ),
            (25, "500 / 20 = 25 takes the overlap for the step. The overlap is repeated, the step is 100 - 20 = 80."),
        ],
        f"not {answer}. The first chunk begins at token 0, each next one 80 further, until one reaches token 500.",
    )


@exercise(
    "01.2",
    expects=int,
    hint="max_seq_length counts everything that the model reads, and some of that is not your text.",
    praise="256 places, two of them taken by [CLS] and [SEP]. Whatever is longer must be split, or it is lost.",
)
def longest_chunk(answer: int) -> str | None:
    return check_number(
        answer,
        254,
        [
            (256, "256 places, yes, but [CLS] and [SEP] need two of them. How many are left for your text?"),
            (
                512,
                "512 is what the architecture could address. This model came with max_seq_length = 256.",
            ),
            (384, "384 is how many numbers the vector has, whatever the length of the text."),
            (128, "128 tokens is what the model saw most in training. It reads further than that."),
        ],
        f"not {answer}. Start from max_seq_length = 256 and subtract what the model adds to every text.",
    )


@exercise(
    "01.3",
    expects=FunctionType,
    hint="Go through the hits in order, counting from 1. hit.chunk.span.overlap(gold) counts the characters in common.",
    praise="This number is all that notebook 03 needs: 1 / rank, averaged over many questions, is called MRR.",
)
def rank_of_answer(answer: Callable[[list[Hit], Span], Any]) -> str | None:
    gold = Span("guide", 100, 200)
    places = [("guide", 300, 400), ("news", 100, 200), ("api", 0, 50), ("guide", 150, 260), ("guide", 90, 210)]
    hits = [Hit(Chunk(name, start, end, "x" * (end - start)), 1.0) for name, start, end in [*places, places[3]]]
    found = answer(hits, gold)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    if found != 4:
        return {
            1: "you returned the first hit from the right document, but another part of it: compare spans, not names.",
            2: "you returned characters 100-200 of another document. Span.overlap compares the documents as well.",
            3: "you count from 0. The first hit has rank 1.",
            5: "you asked for the whole answer within one hit. A hit counts as soon as it touches the answer.",
            6: "you returned the last hit that touches the answer. The reader meets the first one.",
            None: "you found nothing, though the fourth hit touches the answer.",
        }.get(found, f"for six hits, of which the fourth is the first to touch the answer, you returned {found!r}.")
    try:
        missing = answer(hits[:3], gold)
    except Exception as error:
        return f"when no hit touches the answer, your function raises {type(error).__name__}. Return None."
    if missing is not None:
        return f"when no hit touches the answer, you return {missing!r}, which reads like a rank. Return None."
    return None

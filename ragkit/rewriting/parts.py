"""Taking a question with several parts to pieces, offline: by its punctuation and its conjunctions."""

from __future__ import annotations

import re

from ragkit.base import InputError

_SENTENCE = re.compile(r"(?<=[?!.;:])\s+")
_ASKS = "how|what|which|where|when|why|who|can|could|does|do|is|are|if|should|will"
_CLAUSE = re.compile(rf"[,;:]?\s+(?:and|but|or)\s+(?=(?:{_ASKS})\b)|,\s+(?=(?:{_ASKS})\b)", re.IGNORECASE)
_MOST = 4  # parts of one question


class Parts:
    """Searches the whole question and each of its parts: sentences, and clauses that begin with a question word.

    There are at most four. A part of fewer than ``shortest`` words stays with its neighbour. A question of one part is
    left alone.

    >>> Parts().rewrite("How do I stop a worker, and how long does it wait for tasks?")
    ['How do I stop a worker, and how long does it wait for tasks?', 'How do I stop a worker', \
'how long does it wait for tasks?']

    Raises:
        InputError: ``shortest`` < 1.
    """

    def __init__(self, shortest: int = 4) -> None:
        if shortest < 1:
            raise InputError(f"shortest is {shortest}: expected 1 or more")
        self.shortest = shortest

    def __repr__(self) -> str:
        return f"Parts(shortest={self.shortest})"

    def rewrite(self, question: str) -> list[str]:
        """The question, and its parts where there are two or more."""
        pieces = [piece for sentence in _SENTENCE.split(question.strip()) for piece in _CLAUSE.split(sentence)]
        parts: list[str] = []
        for piece in filter(str.strip, pieces):
            if parts and min(len(piece.split()), len(parts[-1].split())) < self.shortest:
                parts[-1] = f"{parts[-1]} {piece}"
            else:
                parts.append(piece)
        return [question, *parts[:_MOST]] if len(parts) > 1 else [question]

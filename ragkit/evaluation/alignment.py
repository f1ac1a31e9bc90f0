"""A sentence beside a source: which of their words belong together, and where in the source it is said.

Words are compared by the vectors of their tokens in context (as MaxSim does for passages), and by their stems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, InputError, Vectors
from ragkit.embedding import Ids, TokenEncoder, split_evenly, unit
from ragkit.evaluation import wording
from ragkit.evaluation.wording import Word
from ragkit.token_store import TokenStore

_LINES = 3  # a claim can rest on this many neighbouring lines
_LONGER = 0.015  # what a line more must add to the agreement of a window


def token_vectors(text: str, encoder: TokenEncoder) -> tuple[Ids, NDArray[np.int64], Vectors]:
    """Ids ``(n,)``, character offsets ``(n, 2)`` and unit vectors ``(n, d)`` of the tokens of any text."""
    known: Any = encoder
    return _token_vectors(text, known)


@lru_cache(maxsize=128)  # an answer is read by several scorers
def _token_vectors(text: str, encoder: Any) -> tuple[Ids, NDArray[np.int64], Vectors]:
    ids, offsets = encoder.tokenize(text)
    pieces = split_evenly(ids, encoder.max_tokens)
    vectors = dict(encoder.encode_windows(pieces, "query"))
    return ids, offsets, unit(np.concatenate([vectors[i].tokens for i in range(len(pieces))]))


def relevance(question: str, answer: str, store: TokenStore) -> float:
    """How well ``answer`` takes up ``question``: late interaction between the two, -1 to 1.

    Each token of the question looks for its most similar token in the answer; the mean of these cosines, weighted by
    idf (MaxSim, Khattab & Zaharia 2020, arXiv 2004.12832). It says what an answer is about, not whether it is right:
    "You can't stop a worker" takes up "How do I stop a worker?". Against the questions of other answers, AUROC .977
    [.958, .990] over all, .869 [.813, .929] over those about the same document (``tests/run_bench.py scorers``).

    Raises:
        InputError: one of the texts is blank.
    """
    if not question.strip() or not answer.strip():
        raise InputError("relevance needs a question and an answer: leave the answer unscored")
    ids, _, asked = token_vectors(question, store.encoder)
    _, _, said = token_vectors(answer, store.encoder)
    weight = store.idf(ids)
    best = (asked @ said.T).max(axis=1)
    return float(best @ weight / weight.sum()) if weight.sum() > 0 else float(best.mean())


def owners(found: Sequence[Word], offsets: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """The places of each word's tokens."""
    first = np.searchsorted(offsets[:, 1], [word.start for word in found], side="right")
    last = np.searchsorted(offsets[:, 0], [word.end for word in found], side="left")
    return [np.arange(a, b) for a, b in zip(first, last, strict=True)]


def by_word(cosines: Vectors, rows: list[NDArray[np.intp]], columns: list[NDArray[np.intp]]) -> Vectors:
    """Cosines of words ``(len(rows), len(columns))``: the mean over one's tokens of the best among the other's."""
    best = np.zeros((len(cosines), len(columns)), dtype=np.float32)
    for j, own in enumerate(columns):
        if len(own):
            best[:, j] = cosines[:, own].max(axis=1)
    return np.array([best[own].mean(axis=0) if len(own) else np.zeros(len(columns)) for own in rows])


@dataclass(frozen=True)
class Window:
    """Neighbouring lines ``[start, end)`` of a source, the places of their words, and how well they agree."""

    start: int
    end: int
    places: NDArray[np.intp]
    agreement: float


@dataclass(frozen=True)
class Pair:
    """A sentence beside a source: their words, the cosines between these, and which are the same word."""

    sentence: str
    chunk: Chunk
    words: list[Word]
    other: list[Word]
    cosines: Vectors
    same: NDArray[np.bool_]

    @property
    def text(self) -> str:
        return self.chunk.text

    @property
    def likeness(self) -> Vectors:
        return np.maximum(self.cosines, self.same)

    def best_window(self, weight: NDArray[np.float64]) -> Window:
        """The window that agrees best, one that is longer by a line only if that adds something."""
        likeness, lines = self.likeness, wording.lines(self.text)
        starts = np.array([word.start for word in self.other])
        edges = np.searchsorted(starts, [a for a, _ in lines] + [len(self.text)])
        best = Window(0, 0, np.zeros(0, dtype=np.intp), -1.0)
        for i in range(len(lines)):
            for n in range(1, min(_LINES, len(lines) - i) + 1):
                places = np.arange(edges[i], edges[i + n])
                if len(places):
                    agreement = float(likeness[:, places].max(axis=1) @ weight) - _LONGER * (n - 1)
                    if agreement > best.agreement:
                        best = Window(lines[i][0], lines[i + n - 1][1], places, agreement)
        return best

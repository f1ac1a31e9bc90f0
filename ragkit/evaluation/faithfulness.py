"""Is a sentence supported by the sources? An offline scorer, without a model that was trained for it.

A reader who checks a sentence looks for the place that says it, and then for what does not agree. So does this:

1. **Align.** Every word of the sentence looks for its most similar word (cosine of MiniLM's token vectors, 1 for the
   same stem), in every window of up to three lines of the sources. The window whose words agree best, weighted by
   idf, is the evidence.
2. **Compare.** ``Features`` counts what the evidence does not bear out: unknown identifiers and numbers, a negation on
   one side only, an absolute ("always") or an opposite ("before" for "after") that the evidence does not have, ...
3. **Weigh.** A logistic regression over these, ``WEIGHTS``, makes a probability. What stands word for word in a
   source is 1 without any of this.

How far it can be trusted: on the held-out half of ``data/answers.jsonl``, 469 sentences about 28 documents on which
nothing was fitted, AUROC [95 % interval] and the share that scores .5 or more (``python tests/run_bench.py scorers``)::

    all                .910 [.891, .929]
    all but quotes     .884 [.861, .909]
    number             .975 [.955, .991]   accepted  .05      quoted     1.000   accepted 1.00
    other_section      .980 [.968, .992]             .08      edited      .960             .96
    identifier         .966 [.929, .997]             .09      reworded    .851             .85
    quantifier         .930 [.874, .969]             .30
    negation           .910 [.865, .956]             .25
    clause             .893 [.822, .952]             .50
    entity             .877 [.824, .924]             .42
    relation           .791 [.727, .852]             .52

So .9 is reached over all sentences, but not without the quotes. Agreement of words alone, which is what an embedding
sees, has .69 and .62. With four other sections of the same project beside the right one it is .905.

**What it can't see**: who does what to whom, where the wording is not the source's (half of the swapped relations
pass); one word for a related one (seconds, milliseconds); an invented claim in the source's own words. And it doubts
true sentences that count differently ("five minutes" for 300 seconds) or say "at most" for "must not exceed".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, InputError, StoreMismatchError, Vectors
from ragkit.evaluation import wording
from ragkit.evaluation.alignment import Pair, by_word, owners, token_vectors
from ragkit.evaluation.features import NAMES, Features, compare
from ragkit.evaluation.wording import Word
from ragkit.token_store import TokenStore

_WHITE = re.compile(r"\s+")


# Fitted on the fitting half of data/answers.jsonl: `python tests/bench/bench_scorers.py --fit` prints them.
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "intercept": -4.34,
        "agreement": 7.18,
        "unknown": -4.26,
        "numbers": -2.24,
        "polarity": -7.61,
        "negation": -1.50,
        "quantifiers": -4.67,
        "opposites": -15.24,
        "replaced": -5.53,
        "swapped": -2.69,
        "inserted": -4.64,
        "moved": -12.31,
    }
)


@dataclass(frozen=True)
class Support:
    """How well a sentence is supported, 0 to 1, by which words of which source, and what speaks against it."""

    sentence: str
    score: float
    evidence: str = ""
    chunk: Chunk | None = None
    quoted: bool = False
    features: Features | None = None
    doubts: tuple[str, ...] = ()


class Faithfulness:
    """Scores sentences against sources. ``store`` gives the vectors and the idf; sources of other corpora are encoded.

    Args:
        store: the token store of the corpus that the sources are from, or of any other in the same language.
        weights: ``intercept`` and one number for each of ``NAMES``.

    Raises:
        InputError: a weight is missing or unknown.
    """

    def __init__(self, store: TokenStore, weights: Mapping[str, float] = WEIGHTS) -> None:
        if set(weights) != {"intercept", *NAMES}:
            raise InputError(f"weights for {', '.join(weights)}: expected intercept, {', '.join(NAMES)}")
        self.store, self.weights = store, dict(weights)

    def support(self, sentence: str, sources: Sequence[Chunk]) -> Support:
        """The support that ``sources`` give to ``sentence``: 1 where one of them holds it word for word.

        Raises:
            InputError: ``sentence`` has no words, or there are no sources.
        """
        found = wording.words(sentence)
        if not found:
            raise InputError(f"sentence {sentence!r} has no words: there is nothing to check")
        if not sources:
            raise InputError("no sources: a sentence can't be supported by nothing, leave it unscored")
        if chunk := quoted_in(sentence, sources):
            return Support(sentence, 1.0, sentence, chunk, quoted=True)
        return self._weighed(sentence, found, sources)

    def _weighed(self, sentence: str, found: Sequence[Word], sources: Sequence[Chunk]) -> Support:
        pairs = [self._pair(sentence, found, chunk) for chunk in sources if wording.words(chunk.text)]
        if not pairs:
            raise InputError("the sources hold no words: leave the sentence unscored")
        weight = self._weight(sentence, found)
        windows = [pair.best_window(weight) for pair in pairs]
        pair, window = max(zip(pairs, windows, strict=True), key=lambda both: both[1].agreement)
        known = "\n".join(part for chunk in sources for part in (*chunk.section, chunk.text))
        features, doubts = compare(pair, window, weight, known)
        total = self.weights["intercept"] + sum(self.weights[n] * getattr(features, n) for n in NAMES)
        return Support(
            sentence, sigmoid(total), pair.text[window.start : window.end], pair.chunk, False, features, doubts
        )

    def _weight(self, sentence: str, found: Sequence[Word]) -> NDArray[np.float64]:
        """The share of each word: the idf of its rarest token, 0 for function words; sum 1."""
        ids, offsets = self.store.encoder.tokenize(sentence)
        idf = self.store.idf(ids)
        rarest = np.array([max(idf[own], default=0.0) for own in owners(found, offsets)])
        weight = rarest * np.array([word.content for word in found])
        return np.asarray(weight / weight.sum() if weight.sum() > 0 else np.full(len(found), 1 / len(found)))

    def _pair(self, sentence: str, found: Sequence[Word], chunk: Chunk) -> Pair:
        query, tokens, cosines = self._cosines(sentence, chunk)
        other = wording.words(chunk.text)
        between = by_word(cosines, owners(found, query), owners(other, tokens))
        same = np.array([[a.term == b.term for b in other] for a in found]).reshape(between.shape)
        return Pair(sentence, chunk, list(found), other, between, same)

    def _cosines(self, sentence: str, chunk: Chunk) -> tuple[NDArray[np.int64], NDArray[np.int64], Vectors]:
        """Offsets of the sentence's and the chunk's tokens (in ``chunk.text``), and their cosines ``(q, t)``."""
        try:
            query, tokens, cosines = self.store.token_cosines(sentence, chunk)
            if _are_tokens(tokens - chunk.start, chunk.text):
                return query, tokens - chunk.start, cosines
        except StoreMismatchError:
            pass  # the store does not know the document: the chunk is encoded here
        _, query, left = token_vectors(sentence, self.store.encoder)
        _, tokens, right = token_vectors(chunk.text, self.store.encoder)
        return query, tokens, left @ right.T


def _are_tokens(offsets: NDArray[np.int64], text: str) -> bool:
    """Whether tokens can stand at these offsets: not so if the chunk only bears the name of a document of the store."""
    return all(start < len(text) and not text[start].isspace() for start in offsets[:, 0].tolist())


def sigmoid(total: float) -> float:
    """1 / (1 + e^-total), for any total.

    >>> sigmoid(0.0), sigmoid(-9999.0) < 1e-100
    (0.5, True)
    """
    return 1 / (1 + math.exp(min(-total, 500.0)))


def quoted_in(sentence: str, sources: Sequence[Chunk]) -> Chunk | None:
    """The first source that holds ``sentence`` word for word (white space may differ).

    >>> quoted_in("Use purge.", [Chunk("d", 0, 16, "Now: Use\\npurge. ")]).doc_id
    'd'
    """
    wanted = _WHITE.sub(" ", sentence).strip()
    return next((chunk for chunk in sources if wanted in _WHITE.sub(" ", chunk.text)), None)

"""Is a sentence supported by the sources? An offline scorer, without a model that was trained for it.

A reader who checks a sentence looks for the place that says it, and then for what does not agree. So does this:

1. **Align.** Every word of the sentence looks for its most similar word (cosine of MiniLM's token vectors, 1 for the
   same stem), in every window of up to three lines of the sources. The window whose words agree best, weighted by
   idf, is the evidence.
2. **Compare.** ``Features`` counts what the evidence does not bear out: unknown identifiers and numbers, a negation on
   one side only, an absolute ("always") or an opposite ("before" for "after") that the evidence does not have, ...
3. **Weigh.** A logistic regression over these, ``WEIGHTS``, makes a probability. What stands word for word in a
   source is 1 without any of this.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, InputError, StoreMismatchError, Vectors
from ragkit.evaluation import wording
from ragkit.evaluation.alignment import Pair, Window, by_word, owners, token_vectors
from ragkit.evaluation.wording import Word
from ragkit.token_store import TokenStore

_SAME_WORD = 0.55  # words less alike than this are not compared for negation
_WHITE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Features:
    """What the best evidence says about a sentence. ``weakest`` to ``role`` support it, the others speak against it."""

    agreement: float
    """The mean over its content words of the cosine to the best word of the evidence, weighted by idf."""
    role: float
    """The same over the words that the evidence has, too: vectors differ where the part in the sentence does."""
    identifiers: float
    """Names of code that the sources don't have."""
    names: float
    """Other capitalised words that the sources don't have."""
    numbers: float
    """1 if the sentence says a number that the sources don't say."""
    negation_added: float
    """1 if the sentence negates and the evidence does not."""
    negation_dropped: float
    """1 if the evidence negates and the sentence does not."""
    polarity: float
    """The idf-weighted share of its words that are negated where their partner is not, or the other way round."""
    opposites: float
    """Words whose opposite stands in the evidence, and they don't."""
    quantifiers: float
    """Absolutes (always, never, every, only, ...) that the evidence doesn't have."""
    substitution: float
    """How unlike the word is that the evidence has between the same two neighbours, 0 to 1."""


NAMES = tuple(field.name for field in fields(Features))

# Fitted on the fitting half of data/answers.jsonl: `python tests/bench/bench_scorers.py --fit` prints them.
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "intercept": -4.0,
        "agreement": 2.8,
        "role": 3.2,
        "identifiers": -2.3,
        "names": -1.8,
        "numbers": -1.0,
        "negation_added": -0.7,
        "negation_dropped": -0.9,
        "polarity": -0.7,
        "opposites": -0.8,
        "quantifiers": -0.65,
        "substitution": -1.7,
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
        pairs = [self._pair(sentence, found, chunk) for chunk in sources if chunk.text.strip()]
        if not pairs:
            raise InputError("the sources hold no words: leave the sentence unscored")
        weight = self._weight(sentence, found)
        windows = [(pair, window) for pair in pairs for window in [pair.best_window(weight)]]
        pair, window = max(windows, key=lambda both: both[1].agreement)
        everything = "\n".join(chunk.text for chunk in sources)
        features, doubts = compare(pair, window, weight, everything)
        total = self.weights["intercept"] + sum(self.weights[n] * getattr(features, n) for n in NAMES)
        score = 1 / (1 + math.exp(-total))
        return Support(sentence, score, pair.text[window.start : window.end], pair.chunk, False, features, doubts)

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
            return query, tokens - chunk.start, cosines
        except StoreMismatchError:
            _, query, left = token_vectors(sentence, self.store.encoder)
            _, tokens, right = token_vectors(chunk.text, self.store.encoder)
            return query, tokens, left @ right.T


def quoted_in(sentence: str, sources: Sequence[Chunk]) -> Chunk | None:
    """The first source that holds ``sentence`` word for word (white space may differ).

    >>> quoted_in("Use purge.", [Chunk("d", 0, 16, "Now: Use\\npurge. ")]).doc_id
    'd'
    """
    wanted = _WHITE.sub(" ", sentence).strip()
    return next((chunk for chunk in sources if wanted in _WHITE.sub(" ", chunk.text)), None)


def compare(
    pair: Pair, window: Window, weight: NDArray[np.float64], everything: str
) -> tuple[Features, tuple[str, ...]]:
    """The features of a sentence beside its evidence, and in words what speaks against it.

    ``everything`` is the text of all sources: an identifier or a number may stand in another one than the evidence.
    """
    own, places = pair.words, window.places
    likeness, same = pair.likeness[:, places], pair.same[:, places].any(axis=1)
    evidence = [pair.other[place] for place in places]
    terms = {word.term for word in evidence}
    shared = np.where(same, weight, 0)
    best = pair.cosines[:, places].max(axis=1)

    lower = everything.lower()
    unknown = [w for w in own if w.text.lower() not in lower]
    identifiers = [w.text for w in unknown if w.identifier]
    names = [w.text for w in unknown[0:] if _is_name(w, pair.sentence) and not w.identifier]
    # "One" is often no number but a pronoun.
    numbers = sorted(wording.numbers(pair.sentence) - wording.numbers(everything) - {"1"})

    mine, theirs = any(wording.is_cue(w.text) for w in own), any(wording.is_cue(w.text) for w in evidence)
    differs = wording.negated(pair.sentence, own) != wording.negated(pair.text, pair.other)[places[likeness.argmax(1)]]
    alike = np.where(likeness.max(axis=1) > _SAME_WORD, weight, 0)
    turned = [w.text for w in own if w.term not in terms and wording.opposites().get(w.term, frozenset()) & terms]
    absolute = sorted(wording.quantifiers(own) - terms)
    features = Features(
        agreement=float(likeness.max(axis=1) @ weight),
        role=float(best @ shared / shared.sum()) if shared.sum() > 0 else _NO_ROLE,
        identifiers=float(len(identifiers)),
        names=float(len(names)),
        numbers=float(bool(numbers)),
        negation_added=float(mine and not theirs),
        negation_dropped=float(theirs and not mine),
        polarity=float(differs @ alike / alike.sum()) if alike.sum() > 0 else 0.0,
        opposites=float(len(turned)),
        quantifiers=float(len(absolute)),
        substitution=_substitution(pair, places),
    )
    doubts = [f"{w!r} is in no source" for w in (*identifiers, *names, *numbers)]
    doubts += ["only the sentence negates"] * (mine and not theirs) + ["only the evidence negates"] * (theirs > mine)
    doubts += [f"{w!r} stands against its opposite" for w in turned] + [f"{w!r} is not said" for w in absolute]
    return features, tuple(doubts)


_NO_ROLE = 0.7  # the mean of ``role`` over the fitting half, for a sentence that shares no word with its evidence


def _is_name(word: Word, sentence: str) -> bool:
    """Whether a word is capitalised within a sentence."""
    return word.text[0].isupper() and word.start > 0 and sentence[: word.start].rstrip()[-1:] not in (".", ":", "")


def _substitution(pair: Pair, places: NDArray[np.intp]) -> float:
    """1 - cosine to the word that the evidence has between the same two neighbours; 0 where there is no such slot."""
    worst = 0.0
    inside = set(places.tolist())
    for i in range(1, len(pair.words) - 1):
        if not pair.words[i].content or pair.same[i, places].any():
            continue
        for left in np.flatnonzero(pair.same[i - 1]).tolist():
            if {left, left + 1, left + 2} <= inside and pair.same[i + 1, left + 2]:
                worst = max(worst, 1 - float(pair.cosines[i, left + 1]))
    return worst

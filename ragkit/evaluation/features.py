"""What speaks for and against a sentence, once its evidence is found: the numbers that ``faithfulness`` weighs.

Two kinds of signs. Some count always: how well the words agree, and names or numbers that are nowhere. The others
(a negation on one side only, "always", "before" for "after", a word in another's place, another order) are in the
nature of rewording, too: "must not exceed" is "at most". They mean something where the sentence is otherwise close to
the wording of its evidence, and so they are multiplied by ``closeness``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ragkit.evaluation import wording
from ragkit.evaluation.alignment import Pair, Window
from ragkit.evaluation.wording import Word

_STEEP = 6  # the power of closeness: .9 gives .53, .7 gives .12, .5 gives .02
_FUNCTION_WORD = 0.02  # what a function word weighs, beside shares of idf, when two orders are compared
_NARROW = 3  # words that a gap may hold for its fillings to be compared
_VAGUE = frozenset("012")  # in words: "one" is a pronoun, "between two calls" counts nothing


@dataclass(frozen=True, slots=True)
class Features:
    """Only ``agreement`` supports the sentence; of the others, more is worse. From ``polarity`` on times closeness."""

    agreement: float
    """The mean over its content words of the likeness to the best word of the evidence, weighted by idf, 0 to 1."""
    unknown: float
    """Names of code, and other capitalised words, that the sources don't have."""
    numbers: float
    """1 if it says a number that the evidence does not say."""
    polarity: float
    """The idf-weighted share of common words that only one side negates."""
    negation: float
    """1 if only one side negates at all."""
    quantifiers: float
    """Absolutes (always, never, every, only, ...) that the evidence doesn't have."""
    opposites: float
    """1 if a word stands where the evidence has its opposite."""
    replaced: float
    """How unlike the evidence's word a word in the same place is, 0 to 1."""
    swapped: float
    """1 if it differs from the evidence by one word between the same two words."""
    inserted: float
    """1 if a content word stands between two words that are neighbours in the evidence."""
    moved: float
    """The idf-weighted share of common words that stand in another order."""


NAMES = tuple(field.name for field in fields(Features))


def compare(pair: Pair, window: Window, weight: NDArray[np.float64], known: str) -> tuple[Features, tuple[str, ...]]:
    """The features of a sentence beside its evidence, and in words what speaks against it.

    ``weight`` is the share of each word ``(n,)``; ``known`` the text and the headings of all sources, where a name may
    stand even if the evidence does without it.
    """
    own, evidence = pair.words, [pair.other[place] for place in window.places]
    common: NDArray[np.bool_] = np.any(pair.same[:, window.places], axis=1)
    partner = ordered(own, evidence, np.maximum(weight, _FUNCTION_WORD))
    plain = np.array([not word.absolute and not wording.is_cue(word.text) for word in own])
    close = closeness(weight[plain], common[plain])

    low = known.lower()
    unknown = [w.text for w in own if w.text.lower() not in low and (w.identifier or _is_name(w, pair.sentence))]
    numbers = sorted(unsaid_numbers(pair.sentence, own, pair.text[window.start : window.end]))
    polarity, negation = negations(pair, window, partner, weight)
    absolute = sorted(wording.quantifiers(own) - {word.term for word in evidence})
    turned = list(opposed(own, evidence, partner))
    gaps = list(fillings(own, evidence, common, partner))
    likeness = pair.likeness[:, window.places]
    replaced = [1 - float(likeness[np.ix_(mine, theirs)].max()) for mine, theirs, _ in gaps if theirs]
    moved = float(weight[common].sum() - sum(weight[i] for i in partner))
    features = Features(
        agreement=float(likeness.max(axis=1) @ weight),
        unknown=float(len(unknown)),
        numbers=float(bool(numbers)),
        polarity=close * polarity,
        negation=close * negation,
        quantifiers=close * len(absolute),
        opposites=close * bool(turned),
        replaced=close * max(replaced, default=0.0),
        swapped=close * any(theirs and alone for _, theirs, alone in gaps),
        inserted=close * any(not theirs for _, theirs, _ in gaps),
        moved=close * moved,
    )
    doubts = [f"{word!r} is in no source" for word in unknown] + [f"{n} is not in the evidence" for n in numbers]
    doubts += [f"{word!r} is not said" for word in absolute] + [f"{w!r} stands against its opposite" for w in turned]
    doubts += ["one side negates, the other does not"] * bool(polarity or negation)
    doubts += [f"{own[mine[0]].text!r} stands for {evidence[theirs[0]].text!r}" for mine, theirs, _ in gaps if theirs]
    return features, tuple(doubts)


def closeness(weight: NDArray[np.float64], common: NDArray[np.bool_]) -> float:
    """How nearly word for word a sentence follows its evidence, 0 to 1: the share of common words, to the sixth.

    The share is the mean of that of all words and that of content words by idf. Negations and absolutes are left out:
    whether they agree is another question.

    >>> round(closeness(np.array([0.0, 1.0]), np.array([False, True])), 3)
    0.178
    """
    if weight.sum() <= 0:
        return 0.0
    return float((weight[common].sum() / weight.sum() + common.mean()) / 2) ** _STEEP


def ordered(left: Sequence[Word], right: Sequence[Word], weight: NDArray[np.float64]) -> dict[int, int]:
    """The heaviest common subsequence: place in ``left`` -> place in ``right``, both increasing.

    Wagner & Fischer (1974) with a weight for each word of ``left``.

    >>> one, two = wording.words("sync becomes gthread"), wording.words("gthread becomes sync")
    >>> ordered(one, two, np.array([0.5, 0.1, 0.4]))
    {0: 2}
    """
    total = np.zeros((len(left) + 1, len(right) + 1))
    same = np.array([[a.term == b.term for b in right] for a in left]).reshape(len(left), len(right))
    for i in range(len(left) - 1, -1, -1):
        for j in range(len(right) - 1, -1, -1):
            both = total[i + 1, j + 1] + weight[i] if same[i, j] else 0.0
            total[i, j] = max(total[i + 1, j], total[i, j + 1], both)
    partner, i, j = dict[int, int](), 0, 0
    while i < len(left) and j < len(right):
        if same[i, j] and total[i, j] == total[i + 1, j + 1] + weight[i]:
            partner[i] = j
            i, j = i + 1, j + 1
        elif total[i + 1, j] >= total[i, j + 1]:
            i += 1
        else:
            j += 1
    return partner


def unsaid_numbers(sentence: str, own: Sequence[Word], evidence: str) -> set[str]:
    """Numbers of the sentence that the evidence does not say; 0, 1 and 2 count only in digits."""
    vague = {word.term for word in own if word.term in _VAGUE and not word.text.isdigit()}
    return wording.numbers(sentence) - wording.numbers(evidence) - vague


def negations(pair: Pair, window: Window, partner: dict[int, int], weight: NDArray[np.float64]) -> tuple[float, float]:
    """The share of common words that only one side negates, and 1 if only one side negates at all."""
    mine = wording.negated(pair.sentence, pair.words)
    theirs = wording.negated(pair.text, pair.other)[window.places]
    content = [i for i in partner if pair.words[i].content]
    total = sum(weight[i] for i in content)
    share = sum(weight[i] for i in content if mine[i] != theirs[partner[i]]) / total if total > 0 else 0.0
    # Of the evidence, what lies beyond the first and last common word is about something else.
    first, last = min(partner.values(), default=0) - 3, max(partner.values(), default=-1) + 2
    cues = [any(wording.is_cue(w.text) for w in pair.words), False]
    cues[1] = any(wording.is_cue(pair.other[p].text) for p in window.places[max(0, first) : last])
    return float(share), float(cues[0] != cues[1])


def opposed(own: Sequence[Word], evidence: Sequence[Word], partner: dict[int, int]) -> Iterator[str]:
    """Words whose opposite stands beside the partner of a neighbour, where they don't stand themselves."""
    for i, word in enumerate(own):
        against = wording.opposites().get(word.term, frozenset())
        for step in (-2, -1, 1, 2) if against else ():
            if i + step in partner:
                place = partner[i + step] - step
                near = {w.term for w in evidence[max(0, place - 1) : place + 2]}
                if word.term not in near and against & near:
                    yield word.text
                    break


def fillings(
    own: Sequence[Word], evidence: Sequence[Word], common: NDArray[np.bool_], partner: dict[int, int]
) -> Iterator[tuple[list[int], list[int], bool]]:
    """What fills the narrow gaps between partners: places of uncommon content words here, of content words there.

    The third says that each gap holds one word only. An uncommon word at an end of the sentence is no insertion.
    """
    inner = list(partner.items())
    if not inner:
        return
    ends = [(-1, inner[0][1] - 2), *inner, (len(own), inner[-1][1] + 3)]
    for (i, j), (k, n) in pairwise(ends):
        mine = [x for x in range(i + 1, k) if own[x].content and not common[x]]
        theirs = [x for x in range(max(j + 1, 0), min(n, len(evidence))) if evidence[x].content]
        within = i >= 0 and k < len(own)
        if mine and k - i - 1 <= _NARROW and n - j - 1 <= _NARROW and (theirs or within):
            yield mine, theirs, k - i == 2 and n - j == 2


def _is_name(word: Word, sentence: str) -> bool:
    """Whether a word is capitalised within a sentence."""
    return word.text[0].isupper() and word.start > 0 and sentence[: word.start].rstrip()[-1:] not in (".", ":", "")

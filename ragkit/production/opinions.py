"""One opinion on an answer, and what many of them make of a question: a flag, by how much it matters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Thumb = Literal[-1, 1]

REASONS = MappingProxyType(
    {
        "wrong": "what it says is not true",
        "incomplete": "true, but something is missing",
        "not in the sources": "the sources do not say that",
        "outdated": "it was true of an older version",
        "source irrelevant": "a source has nothing to do with the question",
        "unclear": "hard to read or to follow",
        "slow": "it took too long",
        "should have abstained": "there is no answer, and it should have said so",
        "should not have abstained": "there is an answer, and it said that there is none",
        "right": "it is right",
    }
)
"""Why a thumb points where it points. A fixed list, so that reasons can be counted."""

LONGEST = 20_000
"""Characters of a correction or a comment."""


@dataclass(frozen=True)
class Feedback:
    """One opinion on one answer. ``flagged`` and ``shown`` are chunk ids; ``question``, ``answer`` and ``shown`` are
    the trace's, kept here so that the record says something when the trace is gone.

    ``number`` counts records: the later one of the same ``who`` on the same trace is the one that counts.
    ``forgotten``: the cache held this answer and has dropped it (known to whoever called ``add``, and not stored).
    """

    number: int
    at: float
    trace_id: str
    thumb: Thumb
    reasons: tuple[str, ...] = ()
    correction: str = ""
    flagged: tuple[str, ...] = ()
    comment: str = ""
    who: str = ""
    question: str = ""
    answer: str = ""
    shown: tuple[str, ...] = ()
    tenant: str = ""
    forgotten: bool = False


@dataclass(frozen=True)
class Flag:
    """A question with at least one thumb down: what was said about its answers, and how much it matters.

    ``asked`` counts the traces of the question, ``up`` and ``down`` the thumbs that count, ``sure`` is how the best
    score ranks among the other questions', 0..1. ``weight = asked * share of thumbs down * sure`` is high where
    many people are told something wrong by a system that is sure of it; the share is (down + 1) / (down + up + 2), so
    that one thumb is less than ten of ten. ``shown`` are the chunks of the answers that got a thumb down.
    """

    question: str
    weight: float
    asked: int
    up: int
    down: int
    sure: float
    traces: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()
    flagged: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()


def same(question: str) -> str:
    """What two writings of one question have in common.

    >>> same(" How do I\\n stop it? ") == same("how do I stop it?")
    True
    """
    return " ".join(question.split()).casefold()


def flags(opinions: Iterable[Feedback], traces: pd.DataFrame, done: Collection[str] = ()) -> tuple[Flag, ...]:
    """The questions that got a thumb down, the worst first: see ``FeedbackStore.queue``. ``traces`` is the table of
    ``TraceMonitor.dataframe``."""
    said: dict[str, list[Feedback]] = {}
    for opinion in opinions:
        said.setdefault(same(opinion.question), []).append(opinion)
    asked, sure = _asked(traces)
    skip = {same(question) for question in done} | {""}
    found = [
        _flag(own, max(asked[key], 1), sure)
        for key, own in said.items()
        if key not in skip and any(opinion.thumb < 0 for opinion in own)
    ]
    return tuple(sorted(found, key=lambda flag: (-flag.weight, -flag.down, flag.question)))


def _asked(traces: pd.DataFrame) -> tuple[Counter[str], dict[str, float]]:
    """How often each question was asked; and for each trace how its best score ranks among those of its settings."""
    # Scores of two pipelines are not on one scale, so each is ranked among its own.
    rank = traces.groupby("settings")["top_score"].rank(pct=True).fillna(0.5)
    return Counter(map(same, traces["question"])), dict(zip(traces["trace_id"], rank.astype(float), strict=True))


def _flag(opinions: Sequence[Feedback], asked: int, sure: dict[str, float]) -> Flag:
    bad = [opinion for opinion in opinions if opinion.thumb < 0]
    down, up = len(bad), len(opinions) - len(bad)
    surest = max(sure.get(opinion.trace_id, 0.5) for opinion in bad)
    reasons = Counter(reason for opinion in bad for reason in opinion.reasons)
    return Flag(
        question=bad[-1].question,
        weight=asked * (down + 1) / (down + up + 2) * surest,
        asked=asked,
        up=up,
        down=down,
        sure=surest,
        traces=_once(opinion.trace_id for opinion in bad),
        reasons=tuple(reason for reason, _ in reasons.most_common()),
        corrections=_once(opinion.correction for opinion in bad),
        flagged=_once(chunk_id for opinion in bad for chunk_id in opinion.flagged),
        shown=_once(chunk_id for opinion in bad for chunk_id in opinion.shown),
        answers=_once(opinion.answer for opinion in bad),
        comments=_once(opinion.comment for opinion in bad),
    )


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))

"""A gate for continuous integration: are the answers to these questions found as well as they were?::

    before = Scores.of(compare({"now": rag.retriever}, questions, same_budget=2000), "now")
    before.save("baseline.json")

and later, when something has changed::

    after = Scores.of(compare({"now": rag.retriever}, questions, same_budget=2000), "now")
    check(after, Scores.load("baseline.json")).passed

The same questions are measured before and after, so the test is paired (``ragkit.evaluation.statistics``). The gate
closes only where the loss is more than chance; where it stays open, it says how small a loss it would have noticed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from ragkit.base import InputError
from ragkit.evaluation import statistics
from ragkit.evaluation.compare import Comparison
from ragkit.files import atomic_write

SHOWN = 5  # questions that lost most, in the report


@pydantic_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Scores:
    """What a system scored on each question on one day: a file to compare with later.

    ``scores`` are those of ``metric`` by the question's text, ``documents`` where its answer stood.
    """

    metric: str
    day: str
    scores: dict[str, float]
    documents: dict[str, str]
    configuration: str = ""

    @classmethod
    def of(cls, comparison: Comparison, system: str, configuration: str = "") -> Self:
        """The scores of one system of a comparison; ``configuration`` names it, such as by its fingerprint.

        Raises:
            InputError: there is no such system.
        """
        table = comparison.scores()
        if system not in table:
            raise InputError(f"no system {system!r}: expected one of {', '.join(map(str, table))}")
        texts = [question.text for question in comparison.questions]
        scores = dict(zip(texts, map(float, table[system]), strict=True))
        documents = dict(zip(texts, comparison.units, strict=True))
        return cls(comparison.metric, date.today().isoformat(), scores, documents, configuration)

    def save(self, path: str | Path) -> None:
        """Write them as JSON: the old file remains, or all of the new is there."""
        atomic_write(Path(path).expanduser(), _SCORES.dump_json(self, indent=1) + b"\n")

    @classmethod
    def load(cls, path: str | Path) -> Scores:
        """What ``save`` wrote.

        Raises:
            InputError: there is no such file, or it is none of ``save``'s.
        """
        file = Path(path).expanduser()
        try:
            return _SCORES.validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise InputError(f"{file}: cannot be read ({reason}); `ragkit check --save` writes it") from error


_SCORES = TypeAdapter(Scores)


@dataclass(frozen=True)
class Gate:
    """The outcome: the mean change of ``metric`` with its 95 % interval, over the ``count`` questions of both days.

    ``detectable`` is the change that so many questions would notice 8 times in 10. ``changes`` are those of the single
    questions, the largest losses first; ``new`` and ``gone`` are questions of one day only. ``lost`` are documents with
    two questions or more of which every one scored before and none does now: a file that is gone, or is read as empty,
    can hide behind a mean over few documents.
    """

    metric: str
    count: int
    change: float
    low: float
    high: float
    detectable: float
    day: str
    changes: Mapping[str, float] = field(repr=False)
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """No loss that can be told from chance."""
        return self.high >= 0

    def __str__(self) -> str:
        lines = [
            f"{self.metric} on {self.count} questions, against {self.day}: "
            f"{self.change:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        ]
        needed = statistics.questions_needed(self.count, self.detectable, self.change)
        if not self.passed:
            lines.append("worse: the interval leaves out 0")
        elif self.change < 0 and needed > self.count:
            lines.append(f"no detectable loss; about {needed:,} questions would decide about one this large")
        else:
            lines.append("no detectable loss")
        if self.detectable:  # 0 where no score has changed
            lines[-1] += f". A change of {self.detectable:.3f} would be noticed 8 times in 10."
        losses = [(text, change) for text, change in self.changes.items() if change < 0][:SHOWN]
        lines += [f"  {change:+.3f}  {text}" for text, change in losses]
        lines += [f"nothing is found any more of: {', '.join(self.lost)}"] * bool(self.lost)
        for what, texts in (("new, not compared", self.new), ("no longer asked", self.gone)):
            lines += [f"{what}: {len(texts)} questions, such as {texts[0]!r}"] if texts else []
        return "\n".join(lines)


def check(now: Scores, baseline: Scores) -> Gate:
    """Compare the scores of today with those of another day, on the questions that both have.

    Raises:
        InputError: another metric, or fewer than two questions in both.
    """
    if now.metric != baseline.metric:
        raise InputError(f"the baseline has {baseline.metric}, and now it is {now.metric}: save a new one")
    both = [text for text in now.scores if text in baseline.scores]
    if len(both) < 2:
        raise InputError(f"{len(both)} questions are in both: expected two or more, and some dozens for a verdict")
    changes = np.array([[now.scores[text] - baseline.scores[text]] for text in both])
    documents = [now.documents[text] for text in both]
    result = statistics.estimate(changes, documents)
    detectable = statistics.minimum_detectable(changes, documents)
    order = np.argsort(changes[:, 0], kind="stable")
    return Gate(
        metric=now.metric,
        count=len(both),
        change=float(result.mean[0]),
        low=float(result.low[0]),
        high=float(result.high[0]),
        detectable=float(detectable[0]),
        day=baseline.day,
        changes={both[i]: float(changes[i, 0]) for i in order},
        new=tuple(text for text in now.scores if text not in baseline.scores),
        gone=tuple(text for text in baseline.scores if text not in now.scores),
        lost=_lost(now, baseline, both),
    )


def _lost(now: Scores, baseline: Scores, both: Sequence[str]) -> tuple[str, ...]:
    """The documents that ``Gate.lost`` names, by where the answers stood before."""
    of_document: dict[str, list[str]] = defaultdict(list)
    for text in both:
        of_document[baseline.documents[text]].append(text)
    return tuple(
        document
        for document, texts in of_document.items()
        if len(texts) > 1 and all(baseline.scores[text] > 0 == now.scores[text] for text in texts)
    )

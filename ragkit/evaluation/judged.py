"""What a judge model said of answers: every single verdict, in a file with a date that can be shown again later.

A judge is asked several times, because it does not say the same twice; what it failed to say is kept with the reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ragkit.base import InputError
from ragkit.files import atomic_write

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """One metric of one answer in one run: a ``value`` from 0 to 1 (a relevancy from -1), or None and the ``reason``.

    >>> Verdict("naive", "q1", "ragas_faithfulness", 0, float("nan"))
    Traceback (most recent call last):
    ragkit.base.InputError: the verdict is nan: expected a finite number, or None with a reason
    """

    system: str
    question: str
    metric: str
    run: int
    value: float | None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise InputError(f"the verdict is {self.value}: expected a finite number, or None with a reason")
        if self.value is None and not self.reason:
            raise InputError("a verdict without a value needs a reason")


@dataclass(frozen=True)
class JudgeRun:
    """The verdicts of one judge on one day. ``recorded``: read from a file, not made now.

    ``stand_in`` says that no model answered, but a server that tests are made with: such figures mean nothing.
    """

    model: str
    endpoint: str
    date: str
    runs: int
    metrics: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    judge: str = "ragas"
    stand_in: bool = False
    recorded: bool = False

    @cached_property
    def _by_answer(self) -> Mapping[tuple[str, str, str], list[Verdict]]:
        found: dict[tuple[str, str, str], list[Verdict]] = {}
        for verdict in self.verdicts:
            found.setdefault((verdict.system, verdict.question, verdict.metric), []).append(verdict)
        return found

    @property
    def caption(self) -> str:
        """Who judged, when, and whether that was now."""
        who = "a stand-in server, NOT a model" if self.stand_in else f"{self.model} at {self.endpoint}"
        when = f"RECORDED on {self.date}, not run now" if self.recorded else f"run on {self.date}"
        return f"Judge: {self.judge} with {who}, {self.runs} run{'s' * (self.runs != 1)}, {when}."

    def score(self, system: str, question: str, metric: str) -> tuple[float | None, str]:
        """The mean over the runs that gave a value, or None and why none did."""
        verdicts = self._by_answer.get((system, question, metric), [])
        values = [v.value for v in verdicts if v.value is not None]
        if values:
            return sum(values) / len(values), ""
        return None, verdicts[0].reason if verdicts else "the judge was not asked about this answer"

    def spread(self, system: str, metric: str) -> float | None:
        """How far the lowest and the highest mean of a run lie apart, over the answers with a value in every run.

        None with fewer than two runs, or without such answers.
        """
        complete: list[list[float]] = []
        for (name, _, measured), verdicts in self._by_answer.items():
            if (name, measured) == (system, metric):
                ordered = sorted(verdicts, key=lambda v: v.run)
                values = [v.value for v in ordered if v.value is not None]
                complete += [values] if len(values) == self.runs else []
        if self.runs < 2 or not complete:
            return None
        means: list[float] = [sum(column) / len(complete) for column in zip(*complete, strict=True)]
        return max(means) - min(means)

    def save(self, path: Path | str) -> Path:
        """Write the run to a JSON file, whole or not at all."""
        content: dict[str, Any] = {"format": _FORMAT, **asdict(replace(self, recorded=False))}
        path = Path(path)
        atomic_write(path, json.dumps(content, indent=1, allow_nan=False).encode())
        return path

    @classmethod
    def load(cls, path: Path | str) -> JudgeRun:
        """A run that was saved, marked as recorded.

        Raises:
            InputError: the file is no recorded run.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.pop("format") != _FORMAT:
                raise ValueError("another format")
            verdicts = tuple(Verdict(**verdict) for verdict in content.pop("verdicts"))
            run = cls(**{**content, "metrics": tuple(content["metrics"]), "verdicts": verdicts})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{Path(path).name} is no recorded judge run ({error}): make one with JudgeRun.save"
            ) from error
        return replace(run, recorded=True)

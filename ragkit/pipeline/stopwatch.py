"""How long each stage of a query takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Milliseconds per stage, in order, and the stage that is running."""

    def __init__(self) -> None:
        self.began, self.stage = time.perf_counter(), ""
        self.timings: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self.stage, start = stage, time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] = (time.perf_counter() - start) * 1000

    def with_total(self) -> dict[str, float]:
        return {**self.timings, "total": (time.perf_counter() - self.began) * 1000}

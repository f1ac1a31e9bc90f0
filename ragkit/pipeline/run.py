"""What one query does on its way: how long each stage takes, and what comes out of it."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from ragkit.base import Answer, Generation, Hit
from ragkit.pipeline.trace import CachedAnswer, CacheKey, CacheState, Stage, Trace

_log = logging.getLogger(__name__)
R = TypeVar("R")


class Run:
    """The notes of one query under way; ``finished`` signs the answer, ``trace`` is for a monitor.

    Args:
        question, k, tenant, session: what was asked, and by whom.
        began: seconds since 1970.
        key: what a cache would know the answer by; None where there is no cache.
    """

    def __init__(
        self,
        question: str,
        k: int,
        tenant: str = "",
        session: str = "",
        began: float = 0.0,
        key: CacheKey | None = None,
    ) -> None:
        self.question, self.k, self.tenant, self.session, self.began = question, k, tenant, session, began
        self.key = key
        self.id = uuid.uuid4().hex
        self.queries: tuple[str, ...] = ()
        self.candidates: tuple[Hit, ...] = ()
        self.context_tokens = 0
        self.cache: CacheState = "off"
        self.cache_key, self.similarity = key.digest if key else "", 1.0
        self._stages: list[Stage] = []
        self._start = time.perf_counter()  # a clock that is never set back

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time ``stage``, also where it fails."""
        start = self._ms()
        try:
            yield
        finally:
            self._stages.append(Stage(stage, start, self._ms() - start))

    def served(self, state: CacheState, found: CachedAnswer) -> None:
        """Note that the answer is not new."""
        self.cache, self.cache_key, self.similarity = state, found.digest, found.similarity

    def answer(self, hits: Sequence[Hit], said: Generation) -> Answer:
        """What the model said of ``hits``."""
        return Answer(
            self.question,
            said.text,
            hits=tuple(hits),
            citations=said.citations,
            usage=said.usage,
            abstained=said.abstained,
            reason=said.reason,
            trace_id=self.id,
        )

    def finished(self, answer: Answer) -> Answer:
        """``answer`` as this query's own: with its question, timings and trace id."""
        timings = {stage.name: stage.ms for stage in self._stages}
        return replace(answer, question=self.question, timings={**timings, "total": self._ms()}, trace_id=self.id)

    def trace(self, settings: str, parts: Mapping[str, str], outcome: Answer | BaseException) -> Trace:
        """All of it, for a monitor."""
        answer = outcome if isinstance(outcome, Answer) else None
        return Trace(
            self.id,
            self.question,
            self.k,
            self.began,
            answer.timings["total"] if answer else self._ms(),
            stages=tuple(self._stages),
            answer=answer,
            error=None if isinstance(outcome, Answer) else outcome,
            queries=self.queries,
            candidates=self.candidates,
            context_tokens=self.context_tokens,
            cache=self.cache,
            cache_key=self.cache_key,
            similarity=self.similarity,
            tenant=self.tenant,
            session=self.session,
            settings=settings,
            parts=parts,
        )

    def _ms(self) -> float:
        return (time.perf_counter() - self._start) * 1000


async def without_fail(who: str, what: Callable[..., R], *about: object) -> R | None:
    """What a cache or a monitor says, in a thread. Its own failure is logged: it must not cost the user the answer."""
    try:
        return await asyncio.to_thread(what, *about)
    except Exception:
        _log.exception("%s failed", who)
        return None

"""What one query did, and the two parts that may stand beside a pipeline: a cache of answers and a monitor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from ragkit.base import Answer, Hit


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What decides an answer: the settings of the pipeline, the tenant, and the question.

    ``settings`` is a digest of everything but the question that can change an answer; the white space of ``question``
    is normalised. Equal keys, equal answers.

    >>> CacheKey("a", "How?").digest == CacheKey("a", "How?", tenant="acme").digest
    False
    """

    settings: str
    question: str
    tenant: str = ""

    @property
    def digest(self) -> str:
        """sha256 of all three."""
        return hashlib.sha256(json.dumps([self.settings, self.tenant, self.question]).encode()).hexdigest()


@dataclass(frozen=True)
class CachedAnswer:
    """An answer that a cache kept: the digest of the key that it stands under, and how alike the two questions are
    (1: the same key)."""

    answer: Answer
    digest: str
    similarity: float = 1.0


CacheState = Literal["off", "miss", "hit", "near", "shared"]
"""There is no cache; it did not know; it knew; it knew a similar question; an equal question was under way."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of one query: it began ``start`` milliseconds after the query did, and took ``ms``."""

    name: str
    start: float
    ms: float


@dataclass(frozen=True)
class Trace:
    """One query, from the question to the answer or to the error that ended it.

    ``began`` is in seconds since 1970, by a clock that may be set back; ``ms`` and the stages' times never go back.
    ``candidates`` are the hits before reranking, ``answer.hits`` those after it. ``parts`` names what the pipeline is
    made of, by stage; ``settings`` is the digest of all that can change an answer ("" where a part has no identity).
    ``cache_key`` is the digest of the cache's entry that was served or written. Where a query failed, ``answer`` is
    None, and the last stage is the one that failed.
    """

    id: str
    question: str
    k: int
    began: float
    ms: float
    stages: tuple[Stage, ...] = ()
    answer: Answer | None = None
    error: BaseException | None = None
    queries: tuple[str, ...] = ()
    candidates: tuple[Hit, ...] = ()
    context_tokens: int = 0
    cache: CacheState = "off"
    cache_key: str = ""
    similarity: float = 1.0
    tenant: str = ""
    session: str = ""
    settings: str = ""
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)


@runtime_checkable
class AnswerCache(Protocol):
    """Remembers answers. Another index, model, setting or tenant makes another key, so it never sees those answers."""

    def get(self, key: CacheKey) -> CachedAnswer | None: ...
    def put(self, key: CacheKey, answer: Answer) -> None: ...


@runtime_checkable
class Monitor(Protocol):
    """Is told of every query, answered or failed, before the user sees the answer."""

    def record(self, trace: Trace) -> None: ...

"""Traces that were kept, as records and as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ragkit.base import require
from ragkit.pipeline.trace import Stage
from ragkit.production.ledger import Row

if TYPE_CHECKING:
    import pandas as pd

STAGES = ("cache", "rewrite", "retrieve", "rerank", "build", "generate")


@dataclass(frozen=True)
class StoredTrace:
    """A query that a monitor kept. Texts are as its ``text=`` allowed; ``hits`` are (chunk id, score), best first, and
    ``citations`` the ids of the chunks that the answer cites.

    ``began`` is in seconds since 1970, ``cost`` in US dollars (None where it is not known; an answer out of the cache
    costs nothing, and no tokens).
    """

    id: str
    question: str
    began: float
    ms: float
    k: int
    stages: tuple[Stage, ...] = ()
    hits: tuple[tuple[str, float], ...] = ()
    answer: str = ""
    citations: tuple[str, ...] = ()
    abstained: bool = False
    reason: str = ""
    error: str = ""
    failed_stage: str = ""
    cache: str = "off"
    cache_key: str = ""
    similarity: float = 1.0
    candidates: int = 0
    context_tokens: int = 0
    queries: tuple[str, ...] = ()
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    tenant: str = ""
    session: str = ""
    settings: str = ""
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)


def stored(row: Row) -> StoredTrace:
    """The record of a row."""
    about: Mapping[str, Any] = json.loads(row.attributes)
    own = {name.removeprefix("ragkit."): value for name, value in about.items() if name.startswith("ragkit.")}
    return StoredTrace(
        row.id,
        about.get("input.value", ""),
        row.began,
        row.ms,
        own["k"],
        stages=tuple(Stage(*stage) for stage in json.loads(row.stages)),
        hits=tuple((hit["id"], hit["score"]) for hit in json.loads(own.get("hits", "[]"))),
        answer=about.get("output.value", ""),
        citations=tuple(own.get("citations", ())),
        queries=tuple(own.get("queries", ())),
        tenant=about.get("user.id", ""),
        session=about.get("session.id", ""),
        parts=json.loads(own.get("parts", "{}")),
        **{name: own[name] for name in _PLAIN if name in own},
    )


_PLAIN = (
    *("abstained", "reason", "error", "failed_stage", "cache", "cache_key", "similarity", "candidates"),
    *("context_tokens", "model", "input_tokens", "output_tokens", "cost", "settings"),
)


def table(traces: Iterable[StoredTrace]) -> pd.DataFrame:
    """One row a query: what happened, how long each stage took (``NaN`` where it did not run), what it cost.

    ``began`` is a ``datetime64[ns, UTC]``; ``scores`` and ``hits`` are tuples, best first.
    """
    pandas = require("pandas", "notebook")
    rows = [_cells(trace) for trace in traces]
    frame: pd.DataFrame = pandas.DataFrame(rows, columns=list(_TYPES)).astype(_TYPES)
    # To the microsecond: the digits after it are those of a float, and nobody's clock.
    frame["began"] = pandas.to_datetime((frame["began"] * 1e6).round().astype("int64") * 1000, unit="ns", utc=True)
    return frame


def _cells(trace: StoredTrace) -> dict[str, Any]:
    took = {stage.name: stage.ms for stage in trace.stages}
    return {
        "trace_id": trace.id,
        "scores": tuple(score for _, score in trace.hits),
        "hits": tuple(chunk for chunk, _ in trace.hits),
        "top_score": trace.hits[0][1] if trace.hits else math.nan,
        "cost": math.nan if trace.cost is None else trace.cost,
        **{f"{name}_ms": took.get(name, math.nan) for name in STAGES},
        **{name: getattr(trace, name) for name in _SAME},
    }


_SAME = (
    *("began", "question", "tenant", "session", "k", "ms", "candidates", "context_tokens", "cache", "similarity"),
    *("model", "input_tokens", "output_tokens", "abstained", "reason", "error", "failed_stage", "settings"),
)
_TYPES = {
    **{"trace_id": "object", "began": "float64", "question": "object", "tenant": "object", "session": "object"},
    **{"k": "int64", "ms": "float64", **{f"{name}_ms": "float64" for name in STAGES}},
    **{"top_score": "float64", "scores": "object", "hits": "object", "candidates": "int64", "context_tokens": "int64"},
    **{"cache": "object", "similarity": "float64", "model": "object", "input_tokens": "int64"},
    **{"output_tokens": "int64", "cost": "float64", "abstained": "bool", "reason": "object", "error": "object"},
    **{"failed_stage": "object", "settings": "object"},
}

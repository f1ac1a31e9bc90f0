"""Tables of queries made by hand, as ``TraceMonitor.dataframe()`` gives them."""

from __future__ import annotations

import numpy as np
import pandas as pd

START = pd.Timestamp("2026-01-05", tz="UTC")


def queries(n: int = 0, **columns) -> pd.DataFrame:
    """``n`` queries, a minute apart, each with its own question and session; ``columns`` says what is not as usual."""
    numbers = range(n)
    frame = pd.DataFrame(
        {
            "trace_id": [f"t{i}" for i in numbers],
            "began": pd.Series([START + pd.Timedelta(minutes=i) for i in numbers], dtype="datetime64[ns, UTC]"),
            "question": pd.Series([f"What is number {i}?" for i in numbers], dtype=object),
            "tenant": "",
            "session": [f"s{i}" for i in numbers],
            "k": 10,
            "ms": 60.0,
            "cache_ms": np.nan,
            "rewrite_ms": 0.1,
            "retrieve_ms": 20.0,
            "rerank_ms": 20.0,
            "build_ms": 1.0,
            "generate_ms": 15.0,
            "top_score": 0.6,
            "hits": [("a#0-9", "b#0-9")] * n,
            "candidates": 50,
            "context_tokens": 1900,
            "cache": "off",
            "similarity": 1.0,
            "model": "",
            "input_tokens": 0,
            "output_tokens": 0,
            "cost": np.nan,
            "abstained": False,
            "reason": "",
            "error": "",
            "settings": "",
        }
    )
    for name, values in columns.items():
        frame[name] = values
    return frame

"""``recorded("chunkers")``: what a bench measured that takes too long for a lesson, from ``results/NAME.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd


def recorded(name: str) -> pd.DataFrame:
    """The figures of ``make bench BENCH=name`` by name: ``value`` and ``unit``; prints when and where it ran.

    Notebooks run in their folder, beside that of the results::

        recorded("answers")["value"]["advanced: AUROC against unanswerable"]
    """
    result = json.loads(Path(f"../results/{name}.json").read_text(encoding="utf-8"))
    sys.stdout.write(f"{name}: recorded {result['date']} on {result['machine']}\n")
    return pd.DataFrame(result["rows"]).set_index("name")[["value", "unit"]].rename_axis(None)

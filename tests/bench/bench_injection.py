"""How often a poisoned passage is obeyed: offline, and under each defence by a model behind an endpoint.

``python tests/run_bench.py injection`` prints the figures. Without ``$OPENAI_BASE_URL`` there is only the
offline row; with one, 600 calls are made. A rate comes with its 95 % interval.
"""

from __future__ import annotations

import asyncio

from ragkit.base import LLM
from ragkit.evaluation.injection import defended, measure_injections
from ragkit.generation import OpenAIChat
from ragkit.generation.extractive import Extractive
from ragkit.llm.chat import endpoint_configured

Row = tuple[str, float, str, str]


def main() -> list[Row]:
    systems: dict[str, LLM] = {"offline": Extractive()}
    if endpoint_configured():
        systems |= defended(OpenAIChat())
    table = asyncio.run(measure_injections(systems)).table
    rows: list[Row] = [("offline: poisoned passages obeyed", float(table.loc["offline", "followed"]), "of 100", "<= 0")]
    for name, row in table.iterrows():
        if row["scored"]:
            between = f"({row['from']:.2f} to {row['to']:.2f})"
            rows.append((f"{name}: rate of obedience {between}", float(row["rate"]), f"of {row['scored']:.0f}", ""))
            rows.append((f"{name}: answered all the same", float(row["answered"]), "share", ""))
        if row["failed"]:
            rows.append((f"{name}: no answer from the endpoint", float(row["failed"]), "calls", ""))
    return rows

"""Render ``results/*.json`` as ``RESULTS.md``: ``make results``."""

from __future__ import annotations

import json
import sys
from typing import Any

from run_bench import RESULTS, ROOT, met, shown

from ragkit.files import atomic_write

HEADER = """# Results

Every figure here was measured by a command of this repository; `make results` renders them from `results/*.json`.
A row that says *run it* was not measured: it needs a key or a download.
"""


def render(name: str, result: dict[str, Any]) -> str:
    """One bench as a section with a table.

    >>> row = {"name": "import", "value": 26.01, "unit": "ms", "target": "<= 300"}
    >>> print(render("start", {"about": "A", "date": "D", "machine": "M", "command": "C", "rows": [row]}))
    ## start
    <BLANKLINE>
    A
    <BLANKLINE>
    `C`, D, M
    <BLANKLINE>
    | figure | value | unit | target |
    |---|---:|---|---|
    | import | 26.01 | ms | <= 300, met |
    """
    lines = [f"## {name}", "", result["about"], "", f"`{result['command']}`, {result['date']}, {result['machine']}", ""]
    lines += ["| figure | value | unit | target |", "|---|---:|---|---|"]
    for row in result["rows"]:
        target = f"{row['target']}, {'met' if met(row['value'], row['target']) else 'MISSED'}" if row["target"] else ""
        lines.append(f"| {row['name'].replace('|', '/')} | {shown(row['value'])} | {row['unit']} | {target} |")
    return "\n".join(lines)


def page() -> str:
    """The whole of ``RESULTS.md``."""
    parts = [render(path.stem, json.loads(path.read_text())) for path in sorted(RESULTS.glob("*.json"))]
    return "\n\n".join([HEADER.strip(), *parts]) + "\n"


if __name__ == "__main__":
    atomic_write(ROOT / "RESULTS.md", page().encode())
    sys.stdout.write("RESULTS.md\n")

"""A learner turns a knob of notebook 04 by hand: there are tables, and no cell fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ragkit.notebook.display import reveal

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "04_chunk_size_lab.ipynb"

# Cells that no knob reaches (what the model reads, exercises), or that have tests of their own (the lab).
LEFT_OUT = ("SentenceTransformer", "ChunkLab", "check(")
KINDS = "kinds = questions_by_kind(questions)"
FEW = {KINDS: "questions = questions[122:162:2]"}  # plain English ones, which is quick


def run(replacements: dict[str, str]) -> dict[str, Any]:
    """The variables of the notebook after its cells ran with ``replacements`` in their sources."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for old in replacements:
        assert sum(source.count(old) for source in sources) == 1, f"{old!r} is no line of the notebook"
    variables: dict[str, Any] = {"reveal": reveal, "display": repr, "kinds": {}}
    for source in sources:
        if any(word in source for word in LEFT_OUT):
            continue
        for old, new in replacements.items():
            source = source.replace(old, new)
        exec(compile(source, source, "exec"), variables)
    return variables


CUTS = "cuts = ((256, 32), (128, 16), (512, 50), (512, 100), (1024, 50), (1024, 100))"


@pytest.mark.parametrize(
    ("knob", "rows"),
    [
        (FEW | {CUTS: "cuts = ((96, 0), (300, 40))"}, 2),
        (FEW | {"k = 10": "k = 3"}, 6),
        ({KINDS: "questions = (*questions[:122:12], *questions[-46::4])"}, 6),
    ],
    ids=["other sizes", "another k", "other questions"],
)
def test_a_knob_gives_tables(knob: dict[str, str], rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(NOTEBOOK.parent)  # where a notebook runs
    variables = run(knob)
    for name, count in (("five", 5), ("overlaps", 4), ("ten", rows), ("budget", rows)):
        comparison = variables[name]
        assert len(comparison.table) == count
        assert comparison.table["verdict"].notna().all()
        assert comparison._repr_html_().startswith("<table")

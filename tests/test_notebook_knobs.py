"""A learner turns a knob of notebook 04 by hand: there are tables, and no cell fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "04_chunk_size_lab.ipynb"

# Cells that no knob reaches (one sentence by hand, exercises), that have tests of their own (the lab), or that would
# encode pages again.
LEFT_OUT = ("SentenceTransformer", "embedder", "sums", "kitchen", "ChunkLab", "lab.scoring", "check(")
SETS = '{"faq": corpus.questions} | {n: load_questions(n, corpus) for n in ("keyword", "paraphrase", "multihop", "en")}'
FEW = {SETS: '{"en": load_questions("en", corpus)[::2]}'}  # which is quick


def run(replacements: dict[str, str], folder: Path) -> dict[str, Any]:
    """The variables of the notebook after its cells ran with ``replacements`` in their sources; it writes its labelled
    set into ``folder``."""
    replacements = {"from ragkit.files import home": "home = lambda: folder"} | replacements
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for old in replacements:
        assert sum(source.count(old) for source in sources) == 1, f"{old!r} is no line of the notebook"
    variables: dict[str, Any] = {"folder": folder, "np": np, "pd": pd}  # which cells that are left out import
    for source in sources:
        if any(word in source for word in LEFT_OUT):
            continue
        for old, new in replacements.items():
            source = source.replace(old, new)
        exec(compile(source, source, "exec"), variables)
    return variables


@pytest.mark.parametrize(
    "knob",
    [
        FEW | {"sizes = (64, 128, 256, 512, 1024)": "sizes = (96, 300)"},
        FEW | {"k = 10": "k = 3"},
        {SETS: '{"multihop": load_questions("multihop", corpus)[::2], "faq": corpus.questions[::6]}'},
    ],
    ids=["other sizes", "another k", "other question sets"],
)
def test_a_knob_gives_tables(knob: dict[str, str], tmp_path: Path) -> None:
    variables = run(knob, tmp_path)
    for name, rows in (("budget", 4), ("verdicts", 4), ("result", 6)):
        comparison = variables[name]
        assert len(comparison.table) == rows
        assert comparison.table["verdict"].notna().all()
        assert comparison._repr_html_().startswith("<table")
    assert list(variables["rows"]) == list(variables["sizes"][1:])
    assert variables["both"].shape == (4, 2)

"""What a visitor sees: JupyterLab in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Lab

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"

pytestmark = pytest.mark.browser


def test_the_first_notebook_runs_from_top_to_bottom(lab: Lab):
    lab.open(NOTEBOOKS / "00_start_here.ipynb")
    lab.run_all()
    assert lab.errors() == []
    cells = [cell for cell in lab.cells() if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert lab.screenshot("00_start_here").stat().st_size > 10_000

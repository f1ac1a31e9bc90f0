"""What a visitor sees: JupyterLab in a real browser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from browser import TOKEN, Lab, free_port, visitor_environment, wait_for

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"

pytestmark = pytest.mark.browser


def test_the_first_notebook_runs_from_top_to_bottom(lab: Lab):
    lab.open(NOTEBOOKS / "00_start_here.ipynb")
    lab.run_all()
    assert lab.errors() == []
    cells = [cell for cell in lab.cells() if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert lab.screenshot("00_start_here").stat().st_size > 10_000


def test_make_lab_answers_on_its_port(tmp_path: Path):
    """Headless, with the token on: the page is refused without it and served with it."""
    port = free_port()
    command = ["make", "lab", f"VENV={sys.prefix}", f"PORT={port}", "LAB_ARGS=--no-browser"]
    log = tmp_path / "make.log"
    environment = visitor_environment(tmp_path)
    with log.open("wb") as output:
        lab = subprocess.Popen(
            command, cwd=NOTEBOOKS.parent, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", lab, log)
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"http://127.0.0.1:{port}/api/contents", timeout=5)
        served = urlopen(f"http://127.0.0.1:{port}/api/contents/notebooks/00_start_here.ipynb?token={TOKEN}", timeout=5)
        assert served.status == 200
        assert "/lab/tree/notebooks/00_start_here.ipynb" in log.read_text()
    finally:
        os.killpg(lab.pid, signal.SIGTERM)
        lab.wait(30)

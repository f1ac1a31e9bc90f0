"""A guard on the committed notebooks: nbval compares nothing where a notebook carries no outputs, so they must.

What the cells compute is compared by nbval, which collects the notebooks themselves.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from lesson_rules import lesson_faults, next_notebook
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output
from refresh_notebooks import tidy

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
MAX_BYTES = 500_000
PROGRESS_BAR = re.compile(r"\d+%\|.*\||\bit/s\b")


def _texts(cell: NotebookNode) -> Iterator[str]:
    for output in cell.outputs:
        yield from (str(output.get(key, "")) for key in ("text", "evalue"))
        yield from (str(v) for mime, v in output.get("data", {}).items() if mime.startswith("text/"))


def faults(notebook: NotebookNode, size: int = 0) -> list[str]:
    """What is wrong with a committed notebook, one line a fault."""
    found = []
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        found.append(f"kernelspec is {kernel!r}, expected 'python3'")
    if "widgets" in notebook.metadata:
        found.append("widget state is saved: metadata.widgets")
    if size > MAX_BYTES:
        found.append(f"{size} bytes, at most {MAX_BYTES}")
    ids = [cell.get("id") for cell in notebook.cells]
    if ids != [f"c{i:03d}" for i in range(len(ids))]:
        found.append("cell ids are not c000, c001, ...")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"execution counts are {counts}, expected 1 to {len(code)}")
    for number, cell in enumerate(code, 1):
        tags = cell.metadata.get("tags", [])
        raised = any(output.output_type == "error" for output in cell.outputs)
        if any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(cell.source))):
            found.append(f"code cell {number}: has an assert, which belongs into tests/claims")
        if cell.source.rstrip().endswith(";"):
            found.append(f"code cell {number}: ends with ';', which hides what nbval should compare")
        if "execution" in cell.metadata:
            found.append(f"code cell {number}: timings are saved")
        if any(PROGRESS_BAR.search(text) for text in _texts(cell)):
            found.append(f"code cell {number}: a progress bar in the outputs")
        if any(output.get("name") == "stderr" for output in cell.outputs):
            found.append(f"code cell {number}: writes to stderr (a warning?)")
        if raised != ("raises-exception" in tags):
            found.append(f"code cell {number}: error output {raised}, tagged raises-exception {not raised}")
        if raised and "nbval-ignore-output" in tags:
            found.append(f"code cell {number}: nbval would accept that nothing is raised")
        if {"nbval-skip", "skip-execution"} & set(tags) or "NBVAL_SKIP" in cell.source:
            found.append(f"code cell {number}: is never run")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_notebook_is_executed_and_tidy(path):
    assert faults(nbformat.read(path, as_version=4), path.stat().st_size) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_lesson_of_the_second_edition_keeps_its_rules(path):
    notebook = nbformat.read(path, as_version=4)
    if notebook.metadata.get("edition") == 2:
        assert lesson_faults(notebook, next_notebook(path.name, [p.name for p in NOTEBOOKS])) == []


def _good() -> NotebookNode:
    cells = [new_code_cell("1 + 1", execution_count=1), new_code_cell("2 + 2", execution_count=2)]
    return tidy(new_notebook(cells=cells))


def test_a_tidied_notebook_has_no_fault():
    assert faults(_good()) == []


def test_tidying_keeps_the_edition_and_no_other_metadata():
    notebook = new_notebook(metadata={"edition": 2, "widgets": {}})
    assert sorted(tidy(notebook).metadata) == ["edition", "kernelspec", "language_info"]


def _stream(name: str, text: str) -> list[NotebookNode]:
    return [new_output("stream", name=name, text=text)]


BREAKS: dict[str, Callable[[NotebookNode], object]] = {
    "not executed": lambda nb: nb.cells[0].update(execution_count=None),
    "wrong order": lambda nb: nb.cells[0].update(execution_count=3),
    "widget state": lambda nb: nb.metadata.update(widgets={}),
    "other kernel": lambda nb: nb.metadata.kernelspec.update(name="mine"),
    "semicolon": lambda nb: nb.cells[1].update(source="2 + 2;"),
    "an assert": lambda nb: nb.cells[1].update(source="async def check():\n    await f(); assert 2 + 2 == 4"),
    "random ids": lambda nb: nb.cells[1].update(id="f00d"),
    "timings": lambda nb: nb.cells[1].metadata.update(execution={}),
    "progress bar": lambda nb: nb.cells[1].update(outputs=_stream("stdout", " 10%|#         | 1/10 [00:01, 1.00it/s]")),
    "warning": lambda nb: nb.cells[1].update(outputs=_stream("stderr", "UserWarning")),
    "tagged but silent": lambda nb: nb.cells[1].metadata.update(tags=["raises-exception"]),
    "skipped": lambda nb: nb.cells[1].metadata.update(tags=["nbval-skip"]),
}


@pytest.mark.parametrize("what", BREAKS)
def test_the_guard_finds(what):
    notebook = _good()
    BREAKS[what](notebook)
    assert len(faults(notebook)) == 1


def test_the_guard_finds_a_huge_notebook():
    assert len(faults(_good(), size=MAX_BYTES + 1)) == 1


def test_every_file_of_claims_belongs_to_a_notebook():
    numbers = {path.name.split("_")[0] for path in NOTEBOOKS}
    assert [
        p.name for p in (NOTEBOOKS[0].parent.parent / "tests" / "claims").glob("*.py") if p.stem not in numbers
    ] == []

"""The plugin as pytest runs it: small notebooks, through nbval and a kernel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

TESTS = Path(__file__).resolve().parent


def cell(source: str, text: str = "", claim: str = "", **data: str) -> nbformat.NotebookNode:
    """A cell that was committed with ``text`` on stdout and the results ``data``."""
    outputs = [new_output("stream", name="stdout", text=text)] if text else []
    if data:
        outputs.append(new_output("execute_result", {f"text/{kind}": v for kind, v in data.items()}, execution_count=1))
    metadata = {"claim": claim} if claim else {}
    return new_code_cell(source, outputs=outputs, metadata=metadata, execution_count=1)


def run(folder: Path, cells: list[nbformat.NotebookNode], claims: str) -> tuple[dict[str, str], str]:
    """Outcome by test, in the order of the run, and the whole report."""
    for path in (folder / "notebooks", folder / "tests" / "claims"):
        path.mkdir(parents=True)
    nbformat.write(new_notebook(cells=cells), folder / "notebooks" / "02_small.ipynb")
    (folder / "tests" / "claims" / "02.py").write_text(claims)
    command = "-m pytest -p notebook_rules --nbval --nbval-current-env -p no:cacheprovider -v --color=no notebooks"
    result = subprocess.run(
        [sys.executable, *command.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    outcomes = re.findall(r"^notebooks/02_small\W+ipynb::(.+) (PASSED|FAILED|ERROR)", result.stdout, re.MULTILINE)
    return dict(outcomes), result.stdout + result.stderr


CLAIMS = """\
import asyncio
from pathlib import Path


def recall_is_high(recall):
    _check(recall > 0.5)


async def recall_is_high_in_time(recall):
    await asyncio.sleep(0)
    assert recall > 0.5


def _check(holds):
    assert holds
"""


def test_a_notebook_passes_with_other_last_digits_and_its_claims(tmp_path):
    cells = [
        cell("recall = 0.5432\nrecall", claim="recall_is_high", plain="0.5421"),
        cell("from IPython.display import display\ndisplay(recall)", plain="0.541"),
        cell("print(f'recall  {recall:+.3f}')", "recall +0.542\n", claim="recall_is_high_in_time"),
        cell("sorted(name for name in globals() if 'claim' in name)", plain="[]"),
        cell("1 / 0", claim="recall_is_high"),
    ]
    cells[4].metadata["tags"] = ["raises-exception"]
    cells[4].outputs = [new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])]
    outcomes, report = run(tmp_path, cells, CLAIMS)
    assert outcomes == {
        "Cell 0": "PASSED",
        "Cell 0 recall_is_high": "PASSED",
        "Cell 1": "PASSED",
        "Cell 2": "PASSED",
        "Cell 2 recall_is_high_in_time": "PASSED",
        "Cell 3": "PASSED",
        "Cell 4": "PASSED",
        "Cell 4 recall_is_high": "PASSED",
    }, report


def test_a_notebook_fails_with_cell_value_and_difference(tmp_path):
    cells = [
        cell("recall = 0.3\n0.561", claim="recall_is_high", plain="0.542"),
        cell("2340", claim="of_another_notebook", plain="2339"),
        cell("print('better')\n0.5", "no detectable difference\n", plain="0.9"),
        cell("print('a   0.5')", "a   0.5\nb   0.5\n"),
        cell("print('new')"),
        cell("from IPython.display import HTML, display\ndisplay(1, 2)", plain="1"),
        cell("HTML('<b>2</b>')", plain="<IPython.core.display.HTML object>", html="<b>1</b>"),
        cell("1", claim="takes_what_is_not_there", plain="1"),
        cell("recall", plain="0.3"),
        cell("import pandas as pd\npd.DataFrame({'n': [1]})", plain="   n\n0  2", html="<table>"),
    ]
    claims = CLAIMS + "\n\ndef takes_what_is_not_there(precision, recall):\n    pass\n"
    claims += "\n\ndef zebra():\n    pass\n\n\ndef ant():\n    pass\n\n\ndef mole():\n    pass\n"
    outcomes, report = run(tmp_path, cells, claims)
    assert [name for name, outcome in outcomes.items() if outcome == "PASSED"] == ["Cell 7", "Cell 8"], report
    for line in (
        "Cell 0: text/plain, line 1: 0.542 became 0.561 (+0.019, allowed 0.00542)",
        "Cell 1: text/plain, line 1: 2339 became 2340 (+1, allowed 0)",
        "Cell 2: text/plain, line 1: 0.9 became 0.5 (-0.4, allowed 0.1)",
        "Cell 2: stdout, line 1: 'no detectable difference' became 'better'",
        "Cell 3: stdout, line 2: 'b   0.5' is missing",
        "Cell 4: stdout, number of outputs: 0 became 1",
        "Cell 5: text/plain, number of outputs: 1 became 2",
        "Cell 6: text/html, line 1: 1 became 2 (+1, allowed 0)",
    ):
        assert line in report.splitlines()
    assert "::Cell 0 - Cell 0: text/plain, line 1:" in report  # in pytest's summary
    assert "Cell 9: text/plain, line 2: 2 became 1 (-1, allowed 0)" in report
    assert "Cell 9: text/html" not in report  # the same once more
    # The claims, each in its place; those without a cell at the end, in the order of their file on every worker.
    assert list(outcomes)[1] == "Cell 0 recall_is_high"
    assert "AssertionError" in report
    assert "a cell names the claim 'of_another_notebook', but" in report
    assert "the claim 'takes_what_is_not_there' takes precision, which the notebook does not define" in report
    assert list(outcomes)[-4:] == ["recall_is_high_in_time", "zebra", "ant", "mole"]
    assert "claims/02.py holds 'zebra', which no cell names in its metadata" in report


def solution(code: str) -> nbformat.NotebookNode:
    return new_markdown_cell(
        f"Try first.\n\n<details><summary>Solution</summary>\n\n```python\n{code}\n```\n\n</details>"
    )


def test_a_folded_solution_runs_in_the_kernel_after_its_exercise(tmp_path):
    verdict = "from types import SimpleNamespace\ncheck = lambda name, answer: SimpleNamespace(passed=answer == wanted)"
    cells = [
        cell(verdict + "\nwanted = 6"),
        solution("import asyncio\n\nanswer = await asyncio.sleep(0, wanted)\ncheck('02.1', answer)"),
        cell("'answer' in globals()", plain="False"),
        solution("check('02.2', 5)"),
        solution("check('02.3', 6)\nanswer = 6"),
        cell("answer = 7\nanswer", plain="7"),
        new_markdown_cell("The answer: <details><summary>Result</summary>\n\n```python\n1 / 0\n```\n\n</details>"),
    ]
    outcomes, report = run(tmp_path, cells, "")
    assert outcomes == {  # pytest writes :: for a dot
        "Cell 0": "PASSED",
        "Cell 0 solution of 02::1": "PASSED",
        "Cell 1": "PASSED",
        "Cell 1 solution of 02::2": "FAILED",
        "Cell 1 solution of 02::3": "FAILED",
        "Cell 2": "PASSED",
    }, report
    assert "AssertionError" in report
    assert "a solution ends with its check" in report

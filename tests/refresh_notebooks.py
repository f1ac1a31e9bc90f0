"""Run notebooks from top to bottom and save what they show: ``make refresh``, or with paths ``NB=notebooks/03*.ipynb``.

A notebook is saved only if every cell ran, and so that a second run changes as few bytes as possible: fixed cell
ids, no timings, no widget state (5 MB a figure), counts from 1. Figures are saved as data for JupyterLab and, where
chromium is installed, as pictures for those who read the notebook on a page.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from notebook_rules import set_environment

from ragkit.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CELL_SECONDS = 1800


def renderer() -> str:
    """``plotly_mimetype+png`` where pictures can be made."""
    return "plotly_mimetype+png" if any(map(shutil.which, BROWSERS)) else "plotly_mimetype"


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run every cell in a new kernel that starts in ``folder``, and tidy what it leaves.

    Raises:
        CellExecutionError: a cell failed that is not tagged ``raises-exception``.
    """
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return tidy(notebook)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Take out what differs from run to run and from machine to machine."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    kept = {"edition": notebook.metadata.edition} if "edition" in notebook.metadata else {}
    notebook.metadata = nbformat.from_dict(kept | {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"c{number:03d}"
        for key in ("execution", "collapsed", "scrolled", "jupyter", "trusted"):
            if key != "jupyter" or not cell.metadata.get("jupyter", {}).get("source_hidden"):
                cell.metadata.pop(key, None)
        if cell.metadata.get("jupyter", {}).get("outputs_hidden"):
            cell.metadata["collapsed"] = True  # JupyterLab writes both, and adds the missing one when it opens the file
    return notebook


def refresh(path: Path) -> None:
    """Run the notebook at ``path`` and save it in place, whole or not at all."""
    notebook = execute(nbformat.read(path, as_version=4), path.resolve().parent)
    nbformat.validate(notebook)
    mode = path.stat().st_mode
    atomic_write(path, (nbformat.writes(notebook, indent=1).rstrip("\n") + "\n").encode())
    path.chmod(mode)


def main(arguments: Sequence[str]) -> int:
    paths = [Path(a) for a in arguments] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    set_environment(renderer())
    if renderer() == "plotly_mimetype":
        sys.stdout.write("no chromium here: figures are saved without pictures\n")
    failed = 0
    for path in paths:
        begin = time.perf_counter()
        try:
            refresh(path)
        except (CellExecutionError, OSError) as error:
            failed += 1
            sys.stdout.write(f"{path}: FAILED, left as it was\n{error}\n")
        else:
            sys.stdout.write(f"{path}: {time.perf_counter() - begin:.1f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

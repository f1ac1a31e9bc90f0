"""How notebooks are run and compared: loaded by pytest as a plugin (see addopts), imported by the refresh tool.

It is a plugin and not a conftest, because a conftest in tests/ does not rule over notebooks/. Outputs are compared by
``notebook_compare``; what the prose of a notebook promises is run after its cells, see ``notebook_claims``, and so are
the solutions of its exercises, see ``notebook_solutions``.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbval.plugin import IPyNbCell, IPyNbFile, transform_streams_for_comparison
from notebook_claims import claims_path, read_claims
from notebook_compare import differences
from notebook_solutions import checked, solution_blocks

SANITIZE = Path(__file__).parent / "nbval_sanitize.cfg"
PLOTLY = "application/vnd.plotly.v1+json"

# What every notebook finds in its environment. Progress bars and a key of the person who happens to run the
# tests would change the outputs; the libraries must not ask the network for anything.
SET = {
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "agg",
    "RAGAS_DO_NOT_TRACK": "true",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    # tqdm's notebook bar ignores TQDM_DISABLE; tqdm.auto takes the plain bar where a name begins with SPYDER.
    "SPYDER_PLAIN_TQDM": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
_REMOVED = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "COLUMNS", "IPYTHONDIR", "PYTHONWARNINGS")


def set_environment(renderer: str) -> None:
    """Give this process, and so the kernels that it starts, the environment of every notebook."""
    for name in _REMOVED:
        os.environ.pop(name, None)
    os.environ.update(SET, PLOTLY_RENDERER=renderer)
    if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    set_environment("plotly_mimetype")
    if config.option.nbval_sanitize_with is None:
        config.option.nbval_sanitize_with = str(SANITIZE)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(parent: pytest.Collector) -> Iterator[None]:
    """Collect a ``Notebook`` wherever nbval collects one of its own."""
    collectors = yield
    return [Notebook.from_parent(parent, path=c.path) if isinstance(c, IPyNbFile) else c for c in collectors]


class Notebook(IPyNbFile):
    """A notebook: its cells, each claim after the cell that names it, and each solution after its exercise."""

    def collect(self) -> Iterator[pytest.Item]:
        named = set()
        for cell in super().collect():
            yield Cell.from_parent(self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options)
            if claim := cell.cell.metadata.get("claim"):
                named.add(claim)
                # No import statement here and below: the notebook's variables stay what they are.
                call = f"await __import__('notebook_claims').check_claim({str(self.path)!r}, {claim!r}, globals())"
                yield Hidden.after(cell, claim, call)
            for code in self._solutions_after(cell.cell):
                call = f"await __import__('notebook_solutions').run_solution({code!r}, globals())"
                yield Hidden.after(cell, f"solution of {' '.join(checked(code))}", call)
        for claim in read_claims(self.path):
            if claim not in named:
                yield ClaimWithoutCell.from_parent(self, name=claim)

    def _solutions_after(self, cell: NotebookNode) -> Iterator[str]:
        """The solutions between the code cell ``cell`` and the next one."""
        here = next(number for number, other in enumerate(self.nb.cells) if other is cell)
        for following in takewhile(lambda c: c.cell_type == "markdown", self.nb.cells[here + 1 :]):
            yield from solution_blocks(following.source)


class Cell(IPyNbCell):
    """A cell, whose outputs are compared by the rules of ``notebook_compare``."""

    comparison_traceback: Sequence[str] = ()

    def compare_outputs(self, test: Sequence[NotebookNode], ref: Sequence[NotebookNode]) -> bool:
        """Whether the outputs ``test`` are alike those of the committed notebook, ``ref``."""
        before, after = self._values(ref), self._values(test)
        faults = []
        for kind in sorted(before.keys() | after.keys(), reverse=True):
            if kind == "text/html" and faults:
                continue  # it shows the same as text/plain, at greater length
            old, new = before.get(kind, []), after.get(kind, [])
            if len(old) != len(new):
                faults.append(f"{kind}, number of outputs: {len(old)} became {len(new)}")
            for number, (x, y) in enumerate(zip(old, new, strict=False), 1):
                where = kind if len(old) == 1 else f"{kind} {number} of {len(old)}"
                if isinstance(x, str) and isinstance(y, str):
                    faults += [f"{where}, {difference}" for difference in differences(x, y)]
                elif x != y:
                    faults.append(f"{where}: {x!r} became {y!r}")
        self.comparison_traceback = [f"Cell {self.cell_num}: {fault}" for fault in faults]
        return not faults

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:
        """The differences first, for pytest's summary shows the first line only."""
        if self.comparison_traceback:
            return "\n".join([*self.comparison_traceback, "", "Input:", self.cell.source])
        return super().repr_failure(excinfo)

    def _values(self, outputs: Sequence[NotebookNode]) -> dict[str, list[Any]]:
        """What ``outputs`` hold, by stream and MIME type: a figure is tested by the values that it draws, not here."""
        values = defaultdict(list)
        skipped = {*self.parent.skip_compare, PLOTLY, "data"}
        for output in transform_streams_for_comparison(outputs):
            for kind, value in (*output.items(), *output.get("data", {}).items()):
                if kind not in skipped:
                    values[kind].append(self.sanitize(value))
        return values


class Hidden(IPyNbCell):
    """Code that no reader sees, run in the kernel of its notebook after a cell: a claim, or a solution."""

    @classmethod
    def after(cls, cell: IPyNbCell, name: str, source: str) -> Hidden:
        return cls.from_parent(
            cell.parent,
            name=f"{cell.name} {name}",
            cell_num=cell.cell_num,
            cell=new_code_cell(source),
            options=defaultdict(bool),
        )

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.nodeid


class ClaimWithoutCell(pytest.Item):
    """Fails."""

    def runtest(self) -> None:
        path = claims_path(self.path).name
        pytest.fail(f"claims/{path} holds {self.name!r}, which no cell names in its metadata", pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.nodeid

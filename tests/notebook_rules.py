"""How notebooks are run and compared: loaded by pytest as a plugin (see addopts), imported by the refresh tool.

It is a plugin and not a conftest, because a conftest in tests/ does not rule over notebooks/.

What the prose of a notebook promises is tested by ``tests/claims/NN.py``: each function there runs in the notebook's
own kernel, after the cell whose metadata names it (``{"claim": "function"}``). Its parameters are variables of the
notebook.
"""

from __future__ import annotations

import inspect
import os
import runpy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell
from nbval.plugin import IPyNbCell, IPyNbFile

CLAIMS = Path(__file__).parent / "claims"
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


def pytest_itemcollected(item: pytest.Item) -> None:
    """A figure is compared by the values that the notebook asserts on, not by plotly's JSON."""
    skipped = getattr(item.parent, "skip_compare", None)
    if skipped is not None and PLOTLY not in skipped:
        item.parent.skip_compare = (*skipped, PLOTLY)  # type: ignore[union-attr]


def read_claims(notebook: Path) -> dict[str, Callable[..., Any]]:
    """The public functions of ``claims/NN.py`` by name, for ``notebooks/NN_name.ipynb``."""
    path = CLAIMS / f"{notebook.name[:2]}.py"
    if not path.is_file():
        return {}
    functions = {name: f for name, f in runpy.run_path(str(path)).items() if inspect.isfunction(f)}
    return {n: f for n, f in functions.items() if f.__code__.co_filename == str(path) and not n.startswith("_")}


async def check_claim(notebook: str, name: str, variables: Mapping[str, Any]) -> None:
    """Call the claim ``name`` of a notebook with the kernel's ``variables``.

    Raises:
        AssertionError: the claim does not hold.
        KeyError: a parameter is no variable of the notebook.
    """
    claim = read_claims(Path(notebook))[name]
    result = claim(**{parameter: variables[parameter] for parameter in inspect.signature(claim).parameters})
    if inspect.isawaitable(result):
        await result


class ClaimItem(IPyNbCell):
    """A claim, run in the kernel of its notebook after the cell that it belongs to."""

    @classmethod
    def after(cls, item: IPyNbCell, name: str) -> ClaimItem:
        source = f"""import notebook_rules as _rules
await _rules.check_claim({item.path.name!r}, {name!r}, globals())"""
        cell = new_code_cell(source)
        return cls.from_parent(
            item.parent, name=f"{item.name} {name}", cell_num=item.cell_num, cell=cell, options=defaultdict(bool)
        )


class MissingClaimItem(pytest.Item):
    """Fails: a cell and its claim must name each other."""

    def runtest(self) -> None:
        pytest.fail(self.name, pytrace=False)


def with_claims(cells: list[IPyNbCell], claims: Mapping[str, Any]) -> Iterator[pytest.Item]:
    """``cells`` with the claims after the cells that name them, and a failing item for a name without its partner."""
    named = set()
    for item in cells:
        yield item
        if name := item.cell.metadata.get("claim"):
            named.add(name)
            if name in claims:
                yield ClaimItem.after(item, name)
            else:
                message = (
                    f"{item.name} names the claim {name!r}, which tests/claims/{item.path.name[:2]}.py does not define"
                )
                yield MissingClaimItem.from_parent(item.parent, name=message)
    for name in claims.keys() - named:
        yield MissingClaimItem.from_parent(
            cells[-1].parent, name=f"the claim {name!r} belongs to no cell of the notebook"
        )


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Add the claims of a notebook to its cells."""
    report = yield
    if isinstance(collector, IPyNbFile) and report.passed:
        report.result = list(with_claims(report.result, read_claims(collector.path)))
    return report

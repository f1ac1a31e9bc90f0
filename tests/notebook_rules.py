"""How notebooks are run and compared: loaded by pytest as a plugin (see addopts), imported by the refresh tool.

It is a plugin and not a conftest, because a conftest in tests/ does not rule over notebooks/.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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

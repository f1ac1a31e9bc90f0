"""What the prose of a notebook promises: ``tests/claims/NN.py`` for ``notebooks/NN_name.ipynb``.

Each public function there is a claim. It runs in the notebook's own kernel, after the cell whose metadata names it
(``{"claim": "function"}``); its parameters are variables of the notebook. It may be ``async``.

This module is imported by the kernel of every notebook: it imports nothing that takes time.
"""

from __future__ import annotations

import inspect
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def claims_path(notebook: Path) -> Path:
    """The file of a notebook's claims: ``tests/claims/04.py`` for ``notebooks/04_chunk_size_lab.ipynb``."""
    number, _, _ = notebook.name.partition("_")
    return notebook.parent.parent / "tests" / "claims" / f"{number}.py"


def read_claims(notebook: Path) -> dict[str, Callable[..., Any]]:
    """The claims of a notebook by name, in the order of their file; neither imports nor names that begin with ``_``."""
    path = claims_path(notebook)
    if not path.is_file():
        return {}
    functions = {name: f for name, f in runpy.run_path(str(path)).items() if inspect.isfunction(f)}
    return {n: f for n, f in functions.items() if f.__code__.co_filename == str(path) and not n.startswith("_")}


async def check_claim(notebook: str, name: str, variables: Mapping[str, Any]) -> None:
    """Call the claim ``name`` of a notebook with the kernel's ``variables``.

    Raises:
        AssertionError: the claim does not hold.
        LookupError: there is no such claim, or the notebook has no variable of a parameter's name.
    """
    path = Path(notebook)
    claim = read_claims(path).get(name)
    if claim is None:
        raise LookupError(f"a cell names the claim {name!r}, but {claims_path(path)} defines no function of that name")
    parameters = list(inspect.signature(claim).parameters)
    if missing := [p for p in parameters if p not in variables]:
        raise LookupError(f"the claim {name!r} takes {', '.join(missing)}, which the notebook does not define")
    result = claim(**{p: variables[p] for p in parameters})
    if inspect.isawaitable(result):
        await result

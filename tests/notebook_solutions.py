"""The solutions of exercises: in a markdown cell, folded, so that they stay closed in JupyterLab and on a page.

    <details><summary>Solution</summary>

    ```python
    check("01.1", embedder.max_tokens)
    ```

    </details>

Each runs in its notebook's own kernel after the exercise (see ``notebook_rules``), so it may use the notebook's
variables. This module is imported there: it imports nothing that takes time.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from typing import Any

_BLOCK = re.compile(r"<details>\s*<summary>Solution\b[^<]*</summary>(.*?)</details>", re.DOTALL)
_CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CHECK = re.compile(r"""\bcheck\(\s*["']([^"']+)["']""")


def solution_blocks(markdown: str) -> list[str]:
    """The code of each solution in the source of a markdown cell."""
    return ["".join(_CODE.findall(block)) for block in _BLOCK.findall(markdown)]


def without_solutions(markdown: str) -> str:
    """The markdown cell as those read it who solve the exercise."""
    return _BLOCK.sub("", markdown)


def checked(code: str) -> list[str]:
    """The ids of the exercises that ``code`` checks."""
    return _CHECK.findall(code)


async def run_solution(code: str, variables: Mapping[str, Any]) -> None:
    """Run ``code`` beside the kernel's ``variables``, which it leaves alone; its last line is a check that passes.

    Raises:
        AssertionError: it does not pass.
        ValueError: the last line is no expression.
    """
    tree = ast.parse(code)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        raise ValueError('a solution ends with its check, for example: check("01.1", answer)')
    assigned = ast.Assign([ast.Name("_verdict", ast.Store())], last.value)
    tree.body[-1] = ast.fix_missing_locations(ast.copy_location(assigned, last))
    namespace = dict(variables)
    waiting = eval(compile(tree, "solution", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
    if inspect.isawaitable(waiting):
        await waiting
    assert namespace["_verdict"].passed, namespace["_verdict"]

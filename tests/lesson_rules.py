"""What a lesson of the second edition keeps to (``"edition": 2`` in the notebook's metadata), one line a fault."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from course_hours import measure
from nbformat import NotebookNode
from notebook_rules import PLOTLY

PROMISES = ("**Time**", "**You need**", "**You will be able to**")
CELLS = range(25, 41)  # without the questions at the end of a part
MAX_MINUTES = 25
MAX_LINE = 100
MAX_LAMBDA = 50  # characters

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NEXT = re.compile(r"\*\*Next:\*\*.*?\]\(([^)]+)\)", re.DOTALL)


def lesson_faults(notebook: NotebookNode, following: str | None = None) -> list[str]:
    """What is wrong with a lesson; ``following`` is the file name of the next notebook that there is."""
    return [*_whole(notebook, following), *_cells(notebook)]


def next_notebook(name: str, names: Sequence[str]) -> str | None:
    """The file to read after ``name``: by number, then the appendices by letter.

    >>> next_notebook("14_caching.ipynb", ["00_ask.ipynb", "A_rewriting.ipynb", "14_caching.ipynb"])
    'A_rewriting.ipynb'
    """
    return min((other for other in names if other > name), default=None)


def _whole(notebook: NotebookNode, following: str | None) -> Iterator[str]:
    first, size = notebook.cells[0].source, measure(notebook)
    yield from (f"the first cell lacks {promise}" for promise in PROMISES if promise not in first)
    if (cells := size.cells - size.questions) not in CELLS:
        yield f"{cells} cells, expected {CELLS[0]} to {CELLS[-1]}"
    if size.minutes > MAX_MINUTES:
        yield f"{size.minutes:.0f} minutes to study, at most {MAX_MINUTES} (make hours)"
    if not size.exercises:
        yield "no exercise"
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    linked = _NEXT.findall(prose)
    if following and (not linked or any(target != following for target in linked)):
        yield f"**Next:** links {linked or 'nothing'}, expected {following}"


def _cells(notebook: NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        if "solution" in cell.metadata.get("tags", ()):
            yield f"cell {number}: a solution, which belongs into <details> of a markdown cell"
        yield from (f"cell {number}: {fault}" for fault in (*_code(cell.source), *_plots(cell)))


def _code(source: str) -> Iterator[str]:
    if (longest := max(map(len, source.splitlines()), default=0)) > MAX_LINE:
        yield f"a line of {longest} characters, at most {MAX_LINE}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _COMPREHENSIONS) and any(isinstance(n, _COMPREHENSIONS) for n in _below(node)):
            yield f"line {node.lineno}: a comprehension in a comprehension; write a loop, or name the inner one"
        if isinstance(node, ast.Lambda) and len(ast.unparse(node)) > MAX_LAMBDA:
            yield f"line {node.lineno}: a lambda of more than {MAX_LAMBDA} characters; write a function"
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            yield f"line {node.lineno}: a lambda with a name; write a function"


def _below(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield from ast.walk(child)


def _plots(cell: NotebookNode) -> Iterator[str]:
    for output in cell.outputs:
        figure = output.get("data", {}).get(PLOTLY)
        if figure is not None and not figure.get("layout", {}).get("title", {}).get("text"):
            yield "a plot without a title that says what it shows"

"""The rules of the second edition, each broken once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lesson_rules import PLOTLY, lesson_faults, next_notebook
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PLAIN = "sizes = [len(chunk) for document in corpus for chunk in document]\nsorted(sizes, key=lambda n: -n)"


def figure(layout: dict[str, object]) -> NotebookNode:
    return new_output("display_data", {PLOTLY: {"data": [], "layout": layout}})


def good() -> NotebookNode:
    first = "# 02 · Name\n\n**Time** 15 minutes. **You need** nothing. **You will be able to** count."
    cells = [
        new_markdown_cell(first),
        new_code_cell(PLAIN),
        new_code_cell("plot()", outputs=[figure({"title": {"text": "Halving the size moves the answer up"}})]),
        new_code_cell("check('02.1', ...)", metadata={"tags": ["exercise"]}),
        *(new_markdown_cell("A sentence.") for _ in range(20)),
        *(new_code_cell(f"check('I.{n}', ...)", metadata={"tags": ["quiz"]}) for n in range(5)),
        new_markdown_cell("**Next:** [03 · Measure it](03_measure_it.ipynb), with numbers."),
    ]
    return new_notebook(cells=cells)


def test_a_good_lesson_has_no_fault():
    assert lesson_faults(good(), "03_measure_it.ipynb") == []


NESTED = "{a: [b for b in a] for a in c}"
BREAKS: dict[str, tuple[Callable[[NotebookNode], object], str]] = {
    "no time": (lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("**Time**", "Time")), "Time"),
    "no promise": (lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("You will", "You")), "able to"),
    "few cells": (lambda nb: nb.cells.pop(5), "24 cells, expected 25 to 40"),
    "many cells": (lambda nb: nb.cells.extend(nb.cells[5:21]), "41 cells, expected 25 to 40"),
    "long": (lambda nb: nb.cells[5].update(source="word " * 5000), "minutes to study, at most 25"),
    "no exercise": (lambda nb: nb.cells[3].metadata.update(tags=[]), "no exercise"),
    "wrong next": (lambda nb: nb.cells[-1].update(source="**Next:** [04](04_lab.ipynb)"), r"links ['04_lab.ipynb']"),
    "no next": (lambda nb: nb.cells[-1].update(source="**Next:** [03], soon"), "links nothing"),
    "solution cell": (lambda nb: nb.cells[1].metadata.update(tags=["solution"]), "belongs into <details>"),
    "long line": (lambda nb: nb.cells[1].update(source="a = 1\nb = '" + "x" * 96 + "'"), "a line of 102 characters"),
    "nested": (lambda nb: nb.cells[1].update(source="a = 1\n" + NESTED), "line 2: a comprehension in a"),
    "nested in iterable": (
        lambda nb: nb.cells[1].update(source="max(a for a in [b for b in c])"),
        "comprehension in a",
    ),
    "long lambda": (
        lambda nb: nb.cells[1].update(source=f"sorted(c, key=lambda x: {'x + ' * 12}x)"),
        "a lambda of more",
    ),
    "named lambda": (lambda nb: nb.cells[1].update(source="f = lambda x: x"), "a lambda with a name"),
    "no title": (lambda nb: nb.cells[2].outputs[0].data[PLOTLY]["layout"].clear(), "cell 2: a plot without a title"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_rule_that_is_broken_is_named(what):
    breaks, words = BREAKS[what]
    notebook = good()
    breaks(notebook)
    (fault,) = lesson_faults(notebook, "03_measure_it.ipynb")
    assert words in fault


def test_the_last_notebook_has_no_next():
    names = ["B_fine_tuning.ipynb", "00_ask.ipynb", "A_rewriting.ipynb", "03_measure.ipynb"]
    assert [next_notebook(name, names) for name in sorted(names)] == [*sorted(names)[1:], None]
    notebook = good()
    notebook.cells[-1].source = "**Next:** your own documents."
    assert lesson_faults(notebook, None) == []

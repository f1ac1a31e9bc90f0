"""The estimate of study time, on a notebook made for it."""

from __future__ import annotations

from course_hours import Size, measure, table
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output


def test_a_notebook_is_measured_without_its_solutions():
    folded = "<details><summary>Solution</summary>\n\n```python\ncheck('02.1', 6)\n```\n\n</details>"
    html = [new_output("display_data", {"text/html": f"<{tag}></{tag}>"}) for tag in ("table", "p", "table")]
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# 02 · One, two\n\n*three* - `four` 5"),
            new_code_cell("a = 1\n\nb = 2", outputs=html),
            new_code_cell("check('02.1', ...)", metadata={"tags": ["exercise"]}),
            new_markdown_cell(f"six {folded}"),
            new_code_cell("check('02.1', 6)\nmore", metadata={"tags": ["solution"]}, outputs=html),
            new_code_cell("check('I.1', ...)", metadata={"tags": ["quiz"]}),
        ]
    )
    assert measure(notebook) == Size(cells=6, words=7, code_lines=3, tables=2, exercises=1, questions=1)


def test_minutes_follow_the_rule():
    assert Size(words=440).minutes == 2
    assert Size(code_lines=36).minutes == 3
    assert Size(tables=3).minutes == 1.5
    assert Size(exercises=2).minutes == 4
    assert Size(questions=5).minutes == 2.5
    assert Size(9, 440, 36, 3, 2, 5).minutes == 13


def test_lessons_and_appendices_have_sums_of_their_own():
    sizes = {"00_a": Size(words=22_000), "14_b": Size(words=4_400, cells=1), "B_c": Size(words=6_600, cells=7)}
    *_, lessons, appendices, hours = table(sizes).splitlines()
    assert lessons.split() == ["lessons", "1", "26,400", "0", "0", "0", "0", "120"]
    assert appendices.split() == ["appendices", "7", "6,600", "0", "0", "0", "0", "30"]
    assert hours == "2.0 hours of lessons, 0.5 of appendices"

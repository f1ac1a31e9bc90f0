"""How long the course takes to study: ``make hours``. An estimate by a fixed rule, the same for every notebook."""

from __future__ import annotations

import re
import sys
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from notebook_solutions import without_solutions

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"

WORDS_A_MINUTE = 220
SECONDS_A_LINE = 5  # of code
SECONDS_A_TABLE = 30  # in the outputs
MINUTES_AN_EXERCISE = 2
SECONDS_A_QUESTION = 30  # with letters to choose from, at the end of a part


@dataclass(frozen=True)
class Size:
    """What there is to read and to do in a notebook; solutions are left out."""

    cells: int = 0
    words: int = 0
    code_lines: int = 0
    tables: int = 0
    exercises: int = 0
    questions: int = 0

    @property
    def minutes(self) -> float:
        seconds = SECONDS_A_LINE * self.code_lines + SECONDS_A_TABLE * self.tables + SECONDS_A_QUESTION * self.questions
        return self.words / WORDS_A_MINUTE + seconds / 60 + MINUTES_AN_EXERCISE * self.exercises

    def __add__(self, other: Size) -> Size:
        return Size(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def measure(notebook: NotebookNode) -> Size:
    """The size of a notebook."""
    markdown = [without_solutions(cell.source) for cell in notebook.cells if cell.cell_type == "markdown"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and not {"solution", "quiz"} & _tags(cell)]
    words = sum(bool(re.search(r"\w", word)) for text in markdown for word in text.split())
    lines = sum(bool(line.strip()) for cell in code for line in cell.source.splitlines())
    pages = [str(output.get("data", {}).get("text/html", "")) for cell in code for output in cell.outputs]
    exercises, questions = (sum(tag in _tags(cell) for cell in notebook.cells) for tag in ("exercise", "quiz"))
    return Size(len(notebook.cells), words, lines, sum("<table" in page for page in pages), exercises, questions)


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", ()))


def table(sizes: dict[str, Size]) -> str:
    """A row a notebook, then the sums of the lessons (whose names begin with a number) and of the appendices."""
    sums = {
        "lessons": sum((size for name, size in sizes.items() if name[0].isdigit()), Size()),
        "appendices": sum((size for name, size in sizes.items() if not name[0].isdigit()), Size()),
    }
    heads = [field.name.replace("_", " ") for field in fields(Size)]
    lines = [f"{'':<24}" + "".join(f"{head:>12}" for head in [*heads, "minutes"])]
    for name, size in (sizes | sums).items():
        numbers = "".join(f"{number:>12,}" for number in astuple(size))
        lines.append(f"{name:<24}{numbers}{size.minutes:>12.0f}")
    hours = sums["lessons"].minutes / 60
    return "\n".join([*lines, f"{hours:.1f} hours of lessons, {sums['appendices'].minutes / 60:.1f} of appendices"])


def main() -> int:
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    sys.stdout.write(table({path.stem: measure(nbformat.read(path, as_version=4)) for path in paths}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

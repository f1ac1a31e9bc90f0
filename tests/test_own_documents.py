"""A learner puts their own folder into the first cell of a lesson, ``DOCS = "..."``: no cell fails."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from refresh_notebooks import execute

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
NUMBERS = ("03", "05", "06", "07")  # of the lessons that are tried, if they have the variable
_DOCS = re.compile(r"^DOCS = None\b", re.MULTILINE)

DOCUMENTS = {
    "opening.md": """# Opening hours

The workshop is open from Tuesday to Saturday, 10 to 18. On the first Sunday of a month it opens for members only.

## Holidays

Between Christmas and New Year the workshop is closed. The letter box is emptied all the same.
""",
    "membership.md": """# Membership

A year costs 48 euros, and 24 euros for pupils and students. Families pay 70 euros, however many they are.

## Leaving

Write to us until the end of November; the membership then ends with the year. Keys are to be handed in before.
""",
    "machines.md": """# Machines

Nobody uses the table saw alone. Before the first time, a course of three hours is compulsory.

The lathe runs with at most 2,000 turns a minute. Set it with:

```
lathe --turns 1500
```

## Noise

After 20:00 only hand tools may be used, because of the neighbours above us.
""",
    "safety.txt": """Glasses protect your eyes, gloves do not belong near anything that turns.

The fire extinguisher hangs beside the back door, and the first-aid box above the sink.
""",
    "lending/tools.md": """# Borrowing tools

Hand tools may be taken home for one week, machines for two days. Who is late pays 1 euro a day.

## Broken

Tell us when something breaks. Blades and drill bits wear out, and nobody pays for these.
""",
}

QUESTIONS = (
    ("Can I come on a Sunday?", "opening.md", "On the first Sunday of a month it opens for members only."),
    (
        "Are you there in the last week of December?",
        "opening.md",
        "Between Christmas and New Year the workshop is closed.",
    ),
    ("What does a student pay?", "membership.md", "24 euros for pupils and students"),
    ("How do I cancel?", "membership.md", "Write to us until the end of November"),
    ("May I drill at ten in the evening?", "machines.md", "After 20:00 only hand tools may be used"),
    ("lathe --turns maximum", "machines.md", "at most 2,000 turns a minute"),
    ("Where do I find a plaster?", "safety.txt", "the first-aid box above the sink"),
    ("How long may I keep a plane?", "lending/tools.md", "Hand tools may be taken home for one week"),
    ("Do you have a 3D printer?", None, None),
)


def with_documents(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """A copy of ``notebook`` whose first code cell has ``folder`` in place of ``DOCS = None``.

    Raises:
        LookupError: that cell has no such line.
    """
    notebook = nbformat.from_dict(json.loads(json.dumps(notebook)))
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source, count = _DOCS.subn(lambda _: f"DOCS = {str(folder)!r}", first.source)
    if count != 1:
        raise LookupError("the first code cell has no line DOCS = None")
    return notebook


def lessons() -> list[Path]:
    """The lessons of ``NUMBERS`` that take a learner's own documents."""
    paths = [path for number in NUMBERS for path in NOTEBOOKS.glob(f"{number}_*.ipynb")]
    return [path for path in paths if takes_documents(nbformat.read(path, as_version=4))]


def takes_documents(notebook: NotebookNode) -> bool:
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    return bool(_DOCS.search(first.source))


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    """A folder of its own, always of the same name: its vectors are made once."""
    folder = tmp_path / "handbook"
    for name, text in DOCUMENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    rows = [dict(zip(("question", "document", "quote"), row, strict=True)) for row in QUESTIONS]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


LOAD = """\
from ragkit.workbench import course_corpus, questions_by_kind, unanswerable

DOCS = None  # or a folder: "~/handbook"
corpus, questions = course_corpus(DOCS)
kinds = questions_by_kind(questions)
"""
SEARCH = """\
from ragkit import BM25Retriever, DenseRetriever, FixedChunker, TokenStore, chunk_corpus, compare

store = TokenStore.open(corpus)
chunks = chunk_corpus(FixedChunker(64, 8), corpus)
systems = {"bm25": BM25Retriever(chunks), "dense": DenseRetriever(chunks, store=store)}
result = compare(systems, questions, progress=False)
assert len(result.table) == 2
"""
COUNT = """\
assert {kind: len(group) for kind, group in kinds.items()} == {"yours": 8}
assert len(unanswerable(corpus)) == 1
"""
SMALL = new_notebook(cells=[new_code_cell(source) for source in (LOAD, SEARCH, COUNT)])
LESSONS = {"a small lesson": SMALL} | {path.stem: nbformat.read(path, as_version=4) for path in lessons()}


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_on_a_folder(name, handbook):
    execute(with_documents(LESSONS[name], handbook), NOTEBOOKS)


def test_only_the_line_of_a_copy_changes(handbook):
    copy = with_documents(SMALL, handbook)
    assert SMALL.cells[0].source == LOAD
    assert copy.cells[0].source == LOAD.replace("DOCS = None", f"DOCS = {str(handbook)!r}")
    assert [cell.source for cell in copy.cells[1:]] == [SEARCH, COUNT]


def test_a_notebook_without_the_variable_is_refused(handbook):
    notebook = new_notebook(cells=[new_code_cell("corpus = 1"), new_code_cell("DOCS = None")])
    assert not takes_documents(notebook)
    with pytest.raises(LookupError, match="DOCS = None"):
        with_documents(notebook, handbook)

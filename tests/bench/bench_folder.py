"""A folder of one's own: from nothing to the report, and asking again after one changed file, a process each.

The folder is made from a seed: 20 PDFs of 10 pages, and 100 Word files, web pages and notes beside them. Nothing is in
ragkit's home at first, and no key is set. For quiet figures let nothing else run.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fpdf import FPDF
from make_handbook import MADE, write_docx

Row = tuple[str, float, str, str]
PDFS, PAGES, OTHERS = 20, 10, 100
PAGE_WORDS = 400
QUESTION = "How do I order a new valve?"

_WORDS = {
    "thing": "valve pump filter motor sensor gauge belt bearing spring clamp housing cable fuse relay switch lamp"
    " nozzle hose seal piston rotor shaft gear wheel bolt washer bracket frame panel door tray drawer scale balance",
    "kind": "main spare front rear upper lower left right inner outer small large steel brass rubber plastic old new",
    "deed": "order replace clean adjust test label return store inspect calibrate lubricate repair document approve",
    "place": "workshop office store laboratory yard garage hall basement kitchen reception archive corridor",
    "person": "foreman buyer technician manager apprentice driver clerk inspector customer supplier",
}
WORDS = {name: words.split() for name, words in _WORDS.items()}
FORMS = (
    "The {kind} {thing} is a part that the {person} keeps in the {place}, and it lasts about {n} months.",
    "To {deed} the {kind} {thing}, write to the {person} and wait for {n} days before you begin.",
    "Each {thing} in the {place} carries a number, which the {person} writes into list {n} together with the date.",
    "If a {kind} {thing} is damaged, the {person} has to {deed} it within {n} hours and tell the {place}.",
    "Nobody may {deed} a {thing} alone: the {person} of the {place} signs for it, and form {n} stays with the {thing}.",
    "A {kind} {thing} costs {n} euros, or less where the {person} finds one of the same size in the {place}.",
)


def sentence(rng: random.Random) -> str:
    """Something about the parts in a workshop that does not exist."""
    words = {name: rng.choice(words) for name, words in WORDS.items()}
    return rng.choice(FORMS).format(n=rng.randrange(2, 900), **words)


def section(rng: random.Random, words: int) -> str:
    """A heading and paragraphs of at least ``words`` words, as Markdown."""
    lines = [f"# {rng.choice(WORDS['deed']).capitalize()} the {rng.choice(WORDS['kind'])} {rng.choice(WORDS['thing'])}"]
    while sum(len(line.split()) for line in lines) < words:
        lines.append(" ".join(sentence(rng) for _ in range(4)))
    return "\n\n".join(lines)


class Manual(FPDF):
    """A running header and a numbered footer."""

    def header(self) -> None:
        self.set_font("Helvetica", size=8)
        self.cell(0, 6, "Workshop manual")
        self.ln(12)

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("Helvetica", size=8)
        self.cell(0, 6, f"Page {self.page_no()}", align="C")


def write_manual(file: Path, rng: random.Random, pages: int = PAGES) -> None:
    """A PDF of ``pages`` pages, a section each."""
    paper = Manual()
    paper.set_creation_date(MADE)
    paper.set_auto_page_break(False)
    for _ in range(pages):
        paper.add_page()
        for line in section(rng, PAGE_WORDS).split("\n\n"):
            heading = line.startswith("# ")
            paper.set_font("Helvetica", "B" if heading else "", 16 if heading else 11)
            paper.multi_cell(0, 6, line.lstrip("# "), new_x="LMARGIN", new_y="NEXT")
            paper.ln(2)
    paper.output(str(file))


def write_folder(folder: Path, seed: int = 0) -> None:
    """``PDFS`` manuals of ``PAGES`` pages, and ``OTHERS`` Word files, web pages and Markdown notes of one section."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(PDFS):
        write_manual(folder / f"manual{number:02}.pdf", rng)
    for number in range(OTHERS):
        text = section(rng, PAGE_WORDS)
        file = folder / f"note{number:03}"
        if number % 3 == 0:
            write_docx(file.with_suffix(".docx"), text)
        elif number % 3 == 1:
            heading, *paragraphs = text.split("\n\n")
            body = "".join(f"<p>{line}</p>" for line in paragraphs)
            file.with_suffix(".html").write_text(f"<h1>{heading[2:]}</h1>{body}")
        else:
            file.with_suffix(".md").write_text(text)


def timed(home: Path, *arguments: str) -> float:
    """Seconds that ``ragkit ARGUMENTS`` takes, as a process of its own, from start to end."""
    keys = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in keys} | {"RAGKIT_HOME": str(home)}
    began = time.perf_counter()
    command = [sys.executable, "-m", "ragkit.cli", *arguments]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        folder, home = Path(temporary, "workshop"), Path(temporary, "home")
        write_folder(folder)
        ask = ("ask", QUESTION, "--corpus", str(folder))
        report = timed(home, "try", str(folder))
        again = timed(home, *ask)
        write_manual(folder / "manual07.pdf", random.Random(1))
        changed_pdf = timed(home, *ask)
        (folder / "note002.md").write_text(section(random.Random(2), PAGE_WORDS))
        changed_note = timed(home, *ask)
    return [
        (f"from nothing to the report, {PDFS * PAGES} PDF pages and {OTHERS} others", report, "s", "<= 300"),
        ("asking again, nothing changed", again, "s", "<= 10"),
        (f"asking again, one PDF of {PAGES} pages changed", changed_pdf, "s", "<= 10"),
        ("asking again, one note changed", changed_note, "s", "<= 10"),
    ]

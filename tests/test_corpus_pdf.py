"""PDFs as Markdown: what a page shows is in the text, in reading order, and on its page."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ragkit.base import Citation, CorpusError, Hit, InputError
from ragkit.chunking import FixedChunker
from ragkit.corpus import load_folder, pdf
from ragkit.corpus.pdf import PdfText, read_pdf
from ragkit.generation.context import build_context

pytest.importorskip("pdfplumber", reason="the extra 'formats' is not installed")
fpdf = pytest.importorskip("fpdf", reason="the extra 'test' is not installed")

DEJAVU = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
WORDS = "retrieval finds passages by words and vectors in a large collection of documents before an answer is written"


def sentences(rng: random.Random, count: int) -> str:
    return " ".join(" ".join(rng.choices(WORDS.split(), k=12)).capitalize() + "." for _ in range(count))


class Paper(fpdf.FPDF):
    """A document with a running header and a numbered footer on every page."""

    head, foot = "", ""

    def header(self) -> None:
        self.set_font("Helvetica", size=8)
        self.cell(0, 6, self.head)
        self.ln(12)

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("Helvetica", size=8)
        self.cell(0, 6, self.foot.format(self.page_no()))

    def words(self, text: str, size: float = 11, style: str = "", font: str = "Helvetica") -> None:
        self.set_font(font, style, size)
        self.multi_cell(0, size / 2, text, new_x="LMARGIN", new_y="NEXT")
        self.ln(3)


def read(tmp_path: Path, write: Callable[[Paper], None], head: str = "", foot: str = "") -> PdfText:
    paper = Paper()
    paper.head, paper.foot = head, foot
    paper.add_page()
    write(paper)
    paper.output(str(tmp_path / "paper.pdf"))
    return read_pdf(tmp_path / "paper.pdf")


def test_lines_are_joined_and_headings_have_levels(tmp_path):
    prose = sentences(random.Random(1), 8)

    def write(paper: Paper) -> None:
        paper.set_title("Rules  of the house")
        paper.words("Rules", 20, "B")
        paper.words("Holidays", 14, "B")
        paper.words(prose)
        paper.words("Who decides", style="B")
        paper.words("The manager decides.")

    text = read(tmp_path, write)
    assert text.text == f"# Rules\n\n## Holidays\n\n{prose}\n\n### Who decides\n\nThe manager decides."
    assert text.title == "Rules of the house"


def test_running_headers_and_footers_are_dropped_and_named(tmp_path):
    rng = random.Random(2)
    paragraphs = [sentences(rng, 6) for _ in range(24)]

    def write(paper: Paper) -> None:
        for paragraph in paragraphs:
            paper.words(paragraph)

    text = read(tmp_path, write, head="Alder & Finch - internal", foot="Handbook | Page {} | Version 3.2")
    assert len(text.pages) >= 3
    assert text.dropped == ("Alder & Finch - internal", "Handbook | Page # | Version 3.2")
    assert text.text == "\n\n".join(paragraphs)  # a paragraph goes on over the end of a page


def test_a_line_that_only_some_pages_repeat_stays(tmp_path):
    def write(paper: Paper) -> None:
        for number in range(6):
            paper.words("Important: read this." if number < 2 else f"Only here: {chr(97 + number) * 5}.")
            paper.add_page()

    assert read(tmp_path, write).text.count("Important: read this.") == 2


@pytest.mark.parametrize("size", [16, 11])
def test_numbered_titles_and_sentences_at_the_edge_of_a_page_stay(size: int, tmp_path):
    """ "Quarter 13" counts quarters and "Room 650" rooms, whatever page they stand on."""

    def write(paper: Paper) -> None:
        paper.set_auto_page_break(True, margin=12)
        for number in range(12, 20):
            paper.words(f"Quarter {number} results", size, "B")
            for room in range(30):
                paper.words(f"Room {number * 50 + room} costs {room + 30} euros.", 11)

    text = read(tmp_path, write).text
    assert [number for number in range(12, 20) if f"Quarter {number} results" not in text] == []
    rooms = [(n * 50 + room, room + 30) for n in range(12, 20) for room in range(30)]
    assert [room for room, price in rooms if f"Room {room} costs {price} euros." not in text] == []


@pytest.mark.parametrize("last", ["2024", "$ 1250", "Page 7"])
def test_a_number_alone_at_the_end_of_a_single_page_stays(last: str, tmp_path):
    def write(paper: Paper) -> None:
        paper.words("Invoice")
        paper.set_y(-40)
        paper.words(last)

    assert read(tmp_path, write).text.endswith(last)


def test_two_pages_lose_their_page_numbers(tmp_path):
    def write(paper: Paper) -> None:
        paper.words("One.")
        paper.add_page()
        paper.words("Two.")

    text = read(tmp_path, write, foot="Page {}")
    assert (text.text, text.dropped) == ("One.\n\nTwo.", ("Page #",))


def test_three_columns_are_read_one_after_the_other(tmp_path):
    columns = [sentences(random.Random(seed), 10) for seed in range(3)]

    def write(paper: Paper) -> None:
        for place, column in enumerate(columns):
            paper.set_font("Helvetica", size=9)
            paper.set_xy(10 + 65 * place, 30 + place)
            paper.multi_cell(56, 4, column, align="L")

    assert read(tmp_path, write).text == "\n\n".join(columns)


@pytest.mark.parametrize("angle", [90, 270])
def test_text_that_stands_sideways_is_read(angle: int, tmp_path):
    prose = sentences(random.Random(4), 6)

    def write(paper: Paper) -> None:
        paper.words("An upright line.")
        with paper.rotation(angle, x=105, y=150):
            paper.set_xy(40, 120)
            paper.set_font("Helvetica", size=11)
            paper.multi_cell(120, 6, prose, align="L")

    assert read(tmp_path, write).text == f"An upright line.\n\n{prose}"


def test_letters_that_are_printed_twice_to_look_bold_are_read_once(tmp_path):
    def write(paper: Paper) -> None:
        paper.set_font("Helvetica", size=11)
        for shift in (0, 0.1):
            paper.set_xy(20 + shift, 40)
            paper.cell(0, 6, "Double drawn words.")

    assert read(tmp_path, write).text == "Double drawn words."


def test_the_cells_of_one_ruled_row_stay_whole(tmp_path):
    cells = [sentences(random.Random(seed), 3) for seed in (5, 6)]

    def write(paper: Paper) -> None:
        paper.set_font("Helvetica", size=10)
        with paper.table(headings_style=fpdf.fonts.FontFace(emphasis=None)) as table:
            row = table.row()
            for cell in cells:
                row.cell(cell)

    assert read(tmp_path, write).text.splitlines()[0] == f"| {cells[0]} | {cells[1]} |"


def test_a_file_that_cannot_be_opened_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    (tmp_path / "open.md").write_text("Open.")
    (tmp_path / "closed.pdf").write_bytes(b"%PDF-1.4")

    def refuse(file: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pdf, "sha256_file", refuse)
    with pytest.warns(UserWarning, match=r"cannot be opened \(Permission denied\) and are left out: closed.pdf"):
        assert [document.id for document in load_folder(tmp_path).documents] == ["open"]


@pytest.mark.parametrize("borders", ["ALL", "NONE"])
def test_a_table_stays_a_table(borders: str, tmp_path):
    rows = [("City", "Hotel limit", "Notice"), ("London", "220 GBP", "3 weeks"), ("Berlin", "150 EUR", "2 weeks")]

    def write(paper: Paper) -> None:
        paper.words("Nobody pays more than the limit of the city.")
        paper.set_font("Helvetica", size=11)
        with paper.table(borders_layout=borders) as table:
            for row in rows:
                line = table.row()
                for cell in row:
                    line.cell(cell)
        paper.ln(6)
        paper.words("Keep the receipts.")

    lines = [f"| {' | '.join(row)} |" for row in rows]
    table = "\n".join([lines[0], "| --- | --- | --- |", *lines[1:]])
    expected = f"Nobody pays more than the limit of the city.\n\n{table}\n\nKeep the receipts."
    assert read(tmp_path, write).text == expected


def test_two_columns_are_read_one_after_the_other(tmp_path):
    rng = random.Random(3)
    left, right = sentences(rng, 12), sentences(rng, 11)

    def write(paper: Paper) -> None:
        paper.words("A title that stands above both of the columns of this page", 16, "B")
        top = paper.get_y()
        paper.set_font("Helvetica", size=10)
        paper.multi_cell(85, 5, left, align="L")
        paper.set_xy(105, top + 2)
        paper.multi_cell(85, 5, right, align="L")

    text = read(tmp_path, write).text
    assert text.split("\n\n")[1:] == [left, right]


def test_lists_code_and_words_cut_at_the_end_of_a_line(tmp_path):
    def write(paper: Paper) -> None:
        for item in ("- Bring a passport.", "- Keep receipts.", "1. Call the desk."):
            paper.set_font("Helvetica", size=11)
            paper.multi_cell(0, 5.5, item, new_x="LMARGIN", new_y="NEXT")
        paper.ln(4)
        paper.words("def f(x):\n    if x:\n        return 1", 10, font="Courier")
        paper.words("A well-known rule: nobody has to travel on a holi-\nday, and a well-\nknown one.")

    lists, code, cut = read(tmp_path, write).text.split("\n\n")
    assert lists == "- Bring a passport.\n- Keep receipts.\n1. Call the desk."
    assert code == "```\ndef f(x):\n    if x:\n        return 1\n```"
    assert cut == "A well-known rule: nobody has to travel on a holiday, and a well-known one."


def test_the_narrow_spaces_of_small_letters_divide_words(tmp_path):
    prose = sentences(random.Random(3), 6)
    assert " ".join(read(tmp_path, lambda paper: paper.words(prose, size=6)).text.split()) == prose


def test_the_typewriter_font_of_tex_is_code():
    fonts = ("AKEQKS+CMTT10", "PWNLKT+CMR10")
    assert [bool(pdf._MONO.search(font)) for font in fonts] == [True, False]


@pytest.mark.skipif(not DEJAVU.exists(), reason="the font DejaVu Sans is not installed")
def test_lines_from_right_to_left_are_turned_once(tmp_path):
    def write(paper: Paper) -> None:
        paper.add_font("DejaVu", fname=DEJAVU)
        paper.words("2024 ץרמ ףוסב", font="DejaVu")  # as they are drawn

    assert read(tmp_path, write).text == "בסוף מרץ 2024"


@pytest.mark.parametrize("seed", range(6))
def test_every_sentence_is_found_on_its_page(seed: int, tmp_path):
    rng = random.Random(seed)
    planted: dict[str, int] = {}

    def write(paper: Paper) -> None:
        for number in range(40):
            sentence = f"Rule {number} of {rng.choice(WORDS.split())} holds for case {rng.randrange(1000)}."
            if rng.random() < 0.2:
                paper.words(f"Chapter {number}", 15, "B")
            paper.words(sentences(rng, rng.randint(0, 3)) + " " + sentence)
            planted[sentence] = paper.page_no()

    text = read(tmp_path, write, head="Rules", foot="{} / 9")
    assert not [sentence for sentence in planted if sentence not in text.text]
    assert [(p.start, q.start) for p, q in zip(text.pages, text.pages[1:], strict=False) if p.end != q.start] == []
    for sentence, page in planted.items():
        end = text.text.index(sentence) + len(sentence) - 1
        assert next(p.number for p in text.pages if p.start <= end < p.end) == page


def test_a_citation_names_the_page_of_its_quote(tmp_path):
    paper = Paper()
    for words in ("The office opens at nine.", "", "Dogs stay outside."):
        paper.add_page()
        if words:
            paper.words(words)
    paper.output(str(tmp_path / "rules.pdf"))
    with pytest.warns(UserWarning, match=r"pages without text .*rules.pdf 2"):
        corpus = load_folder(tmp_path)
    (document,) = corpus.documents
    assert [page.number for page in document.pages] == [1, 2, 3]
    (chunk,) = FixedChunker(64, 0).chunk(document)
    assert [Citation(1, chunk, quote).page for quote in ("", "The office", "Dogs")] == [1, 1, 3]
    first, second = FixedChunker(6, 0).chunk(document)[:2]
    assert build_context([Hit(first, 1.0), Hit(second, 1.0)]).hits[0].chunk.pages[0].number == 1
    (report,) = corpus.files
    assert (report.pages, report.without_text, report.left_out) == (3, (2,), "")
    assert corpus.report()["pages without text"].tolist() == ["2"]


def test_a_pdf_is_parsed_once_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("RAGKIT_HOME", str(tmp_path / "home"))
    paper = Paper()
    paper.add_page()
    paper.words("Once and for all.")
    for name in ("a.pdf", "b/c.pdf"):
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        paper.output(str(tmp_path / "docs" / name)) if name == "a.pdf" else (tmp_path / "docs" / name).write_bytes(
            (tmp_path / "docs" / "a.pdf").read_bytes()
        )
    first = load_folder(tmp_path / "docs")
    monkeypatch.setattr(subprocess, "run", None)  # no other process is needed
    assert load_folder(tmp_path / "docs") == first
    assert [d.text for d in first.documents] == ["Once and for all."] * 2


def test_a_pdf_that_takes_too_long_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("RAGKIT_HOME", str(tmp_path / "home"))
    text = PdfText("Read me.", "", "", (), ())
    files = [tmp_path / "slow.pdf", tmp_path / "good.pdf"]
    for file in files:
        file.write_bytes(f"%PDF-1.4 {file.stem}".encode())

    def read(file: Path) -> PdfText:
        if file.stem == "slow":
            time.sleep(5)
        return text

    monkeypatch.setattr(pdf, "SECONDS", 1)
    monkeypatch.setattr(pdf, "read_pdf", read)
    pdf.main(list(map(str, files)))
    assert signal.alarm(0) == 0  # no limit outlives its file
    monkeypatch.setattr(subprocess, "run", None)  # neither is tried again
    assert dict(pdf.read_pdfs(files)) == dict(zip(files, ["take more than 1 s a megabyte", text], strict=True))


def test_a_home_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("RAGKIT_HOME", str(tmp_path / "home"))
    paper = Paper()
    paper.add_page()
    paper.words("Read me.")
    (tmp_path / "docs").mkdir()
    paper.output(str(tmp_path / "docs" / "good.pdf"))
    with pytest.raises(CorpusError, match=r"their text not kept in .*home"):
        load_folder(tmp_path / "docs")


def test_a_pdf_with_a_password_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RAGKIT_HOME", str(tmp_path / "home"))
    paper = Paper()
    paper.set_encryption(owner_password="a", user_password="b")
    paper.add_page()
    paper.words("Secret.")
    (docs := tmp_path / "docs").mkdir()
    paper.output(str(docs / "locked.pdf"))
    (docs / "open.md").write_text("Open.")
    with pytest.warns(UserWarning, match="need a password and are left out: locked.pdf"):
        corpus = load_folder(docs)
    assert [d.id for d in corpus.documents] == ["open"]
    monkeypatch.setattr(subprocess, "run", None)  # it is not tried again
    with pytest.warns(UserWarning, match="need a password and are left out: locked.pdf"):
        assert load_folder(docs) == corpus


def test_the_quote_is_marked_on_the_picture_of_its_page(tmp_path):
    from ragkit.notebook.page_view import quote_words, show_page

    paper = Paper()
    for words in ("The office opens at nine in the morning.", "Dogs stay outside of the office."):
        paper.add_page()
        paper.words(words)
    paper.output(str(tmp_path / "rules.pdf"))
    (document,) = load_folder(tmp_path).documents
    (chunk,) = FixedChunker(64, 0).chunk(document)
    view = show_page(Citation(1, chunk, "Dogs stay outside"), tmp_path)
    assert repr(view) == "[rules.pdf, page 2: 3 words marked]"
    assert '<img alt="rules.pdf, page 2" src="data:image/png;base64,iVBOR' in view.html
    assert quote_words(["a", "b", "c", "d", "e"], "x y") == []
    with pytest.raises(InputError, match="is not there: expected the folder"):
        show_page(Citation(1, chunk, "Dogs"), tmp_path / "elsewhere")
    with pytest.raises(InputError, match="has no pages"):
        show_page(Citation(1, replace(chunk, pages=())), tmp_path)

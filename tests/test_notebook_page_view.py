"""The picture of a page has the quote marked where it is printed, however the page lies; else the error says why."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import fpdf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Citation, Document, InputError
from ragkit.chunking import FixedChunker
from ragkit.corpus.pdf import read_pdf
from ragkit.notebook.page_view import PagePicture, page_pictures, quote_words, show_page

pdfium = pytest.importorskip("pypdfium2", reason="the extra 'formats' is not installed")
display = pytest.importorskip("pdfplumber.display")


def paper(*pages: str) -> fpdf.FPDF:
    """A page each, in columns of 85 mm that ``|`` divides."""
    made = fpdf.FPDF()
    made.set_font("Helvetica", size=11)
    for page in pages:
        made.add_page()
        for column, text in enumerate(page.split("|")):
            made.set_xy(10 + 100 * column, 20)
            made.multi_cell(85 if "|" in page else 190, 6, text)
    return made


def cite(file: Path, quote: str) -> Citation:
    text = read_pdf(file)
    document = Document(file.stem, text.text, pages=text.pages, metadata={"source": file.name})
    (chunk,) = FixedChunker(2000, 0).chunk(document)
    assert quote in chunk.text
    return Citation(1, chunk, quote)


def marks_cover_the_ink(picture: PagePicture) -> bool:
    """Whether what is printed on the page lies within what is marked."""
    red, green, blue = np.moveaxis(
        np.asarray(display.PIL.Image.open(BytesIO(picture.png)).convert("RGB"), dtype=int), 2, 0
    )
    (top, left), (bottom, right) = (edge(np.argwhere(green > red + 30), axis=0) for edge in (np.min, np.max))
    ink = np.argwhere(red + green + blue < 250)
    return bool(((ink >= (top - 2, left - 2)) & (ink <= (bottom + 2, right + 2))).all())


def test_a_quote_over_two_pages_is_two_pictures_and_two_quotes_of_a_page_are_one(tmp_path):
    paper("The first page ends in the middle of a long", "sentence that ends here. Dogs stay outside.").output(
        str(tmp_path / "rules.pdf")
    )
    citation = cite(tmp_path / "rules.pdf", "in the middle of a long sentence that ends here.")
    assert repr(show_page(citation, tmp_path)) == "[rules.pdf, pages 1 and 2: 10 words marked]"
    dogs = replace(citation, quote="Dogs stay outside.")
    pictures = page_pictures([citation, dogs, dogs], tmp_path)
    assert [(picture.number, picture.words) for picture in pictures] == [(1, 6), (2, 7)]


def test_a_quote_in_one_of_two_columns_is_marked_to_its_last_word(tmp_path):
    things = ("clock", "lamp", "heater", "kettle", "toaster", "radio")
    column = " ".join(f"The {thing} stands in the third room of the old house." for thing in things)
    paper(f"{column} It hums.|{column.replace('third', 'ninth')} It rings.").output(str(tmp_path / "rules.pdf"))
    citation = cite(tmp_path / "rules.pdf", "The radio stands in the third room of the old house. It hums.")
    assert repr(show_page(citation, tmp_path)) == "[rules.pdf, page 1: 13 words marked]"


@pytest.mark.parametrize("turn", [0, 90, 270])
@pytest.mark.parametrize("crop", [None, (20, 700, 500, 830)])
@pytest.mark.parametrize("sheet", [None, (-30, -50, 600, 850)])
def test_marks_lie_on_the_words_of_pages_that_are_turned_cropped_or_shifted(tmp_path, turn, crop, sheet):
    paper("The office opens at nine.").output(str(tmp_path / "plain.pdf"))
    with pdfium.PdfDocument(tmp_path / "plain.pdf") as pdf:
        pdf[0].set_rotation(turn)
        if sheet:
            pdf[0].set_mediabox(*sheet)
        if crop:
            pdf[0].set_cropbox(*crop)
        pdf.save(str(tmp_path / "turned.pdf"))
    (picture,) = page_pictures([cite(tmp_path / "turned.pdf", "The office opens at nine.")], tmp_path)
    assert picture.words == 5
    assert marks_cover_the_ink(picture)


def test_marks_lie_on_text_that_stands_sideways(tmp_path):
    made = paper("")
    with made.rotation(90, 100, 150):
        made.set_xy(40, 140)
        made.cell(text="Turned text is read from below.")
    made.output(str(tmp_path / "turned.pdf"))
    (picture,) = page_pictures([cite(tmp_path / "turned.pdf", "Turned text is read from below.")], tmp_path)
    assert picture.words == 6
    assert marks_cover_the_ink(picture)


@pytest.mark.parametrize(
    ("page", "quote", "marked"),
    [
        ("We contrib- utes to glasses", "contributes to", ["contrib-", "utes", "to"]),
        ("The oﬃce of the ﬁrst ﬂoor", "office of the first", ["oﬃce", "of", "the", "ﬁrst"]),
        (
            "(cid:127) Ask Ingrid. (cid:127) Then wait.",
            "- **Ask** Ingrid.\n- Then wait.",
            ["Ask", "Ingrid.", "Then", "wait."],
        ),
        ("A sandy beach and a sea", "and", ["and"]),
        (
            "One two three 7 four five six",
            "one two three four five six",
            ["One", "two", "three", "four", "five", "six"],
        ),
        ("One two three", "four five six", []),
        ("One two three", "—", []),
    ],
)
def test_words_are_found_however_they_are_printed(page, quote, marked):
    words = page.split()
    assert [words[i] for i in quote_words(words, quote) if words[i] != "(cid:127)"] == marked


@given(st.lists(st.text("aàbﬁ1.-", min_size=1, max_size=4), min_size=1, max_size=30), st.data())
def test_a_run_of_words_is_always_found_as_it_reads(words, data):
    start = data.draw(st.integers(0, len(words) - 1))
    run = words[start : data.draw(st.integers(start, len(words) - 1)) + 1]

    def letters(texts):
        return "".join(c for c in "".join(texts).replace("ﬁ", "fi") if c.isalnum())

    found = quote_words(words, " ".join(run))
    assert letters(run) in letters(words[i] for i in found)


def test_a_file_that_has_gone_or_changed_says_so(tmp_path):
    file = tmp_path / "rules.pdf"
    paper("The office opens at nine.", "Dogs stay outside of the office.").output(str(file))
    citation = cite(tmp_path / "rules.pdf", "Dogs stay outside")
    paper("The office opens at nine.", "Cats stay inside of the house.").output(str(file))
    with pytest.raises(InputError, match="page 2, does not hold the quote 'Dogs stay outside': it has changed since"):
        show_page(citation, tmp_path)
    paper("The office opens at nine.").output(str(file))
    with pytest.raises(InputError, match="has 1 pages, and page 2 is cited: it has changed since"):
        show_page(citation, tmp_path)
    file.write_bytes(b"%PDF-1.4 cut off")
    with pytest.raises(InputError, match="cannot be opened as a PDF: it is broken, or has changed"):
        show_page(citation, tmp_path)
    file.unlink()
    with pytest.raises(InputError, match="is not there: expected the folder"):
        show_page(citation, tmp_path)

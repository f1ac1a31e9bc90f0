"""The page of a PDF as a picture, with a citation's quote marked on it.

>>> show_page(answer.citations[0], "~/handbook")                        # doctest: +SKIP
[handbook.pdf, page 4: 39 words marked]
"""

from __future__ import annotations

import base64
import io
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape
from itertools import accumulate
from pathlib import Path
from typing import Any

from ragkit.base import Citation, InputError, require
from ragkit.corpus.pdf import page_words
from ragkit.notebook.display import View

RESOLUTION = 90  # dots an inch
MARK = (0, 158, 115, 70)  # green, see-through

_WORD = re.compile(r"\w+")
_NO_LETTER = re.compile(r"\(cid:\d+\)|[*`|#\\]")  # of a font without names, or of Markdown


@dataclass(frozen=True)
class PagePicture:
    """A page of the file ``source`` as a PNG, in which ``words`` words of the quotes are marked."""

    source: str
    number: int
    words: int
    png: bytes

    @property
    def html(self) -> str:
        """An ``<img>`` with the picture in it."""
        title, data = escape(f"{self.source}, page {self.number}"), base64.b64encode(self.png).decode()
        style = "max-width:100%;border:1px solid gray"
        return f'<img alt="{title}" src="data:image/png;base64,{data}" style="{style}">'


def show_page(citation: Citation, folder: str | Path) -> View:
    """The page on which the quote of ``citation`` stands, out of ``folder``, with its words marked.

    A quote that goes on on the next page brings that one, too. Without a quote, the whole chunk is marked.

    Raises:
        InputError: the source is no PDF; or the file is not there, is broken, or has changed since it was read.
    """
    if citation.page is None:
        raise InputError(f"{citation.chunk.doc_id} has no pages: expected a citation from a PDF")
    pictures = page_pictures([citation], folder)
    numbers = " and ".join(str(picture.number) for picture in pictures)
    title = f"{pictures[0].source}, page{'s' * (len(pictures) > 1)} {numbers}"
    images = "<br>".join(picture.html for picture in pictures)
    marked = sum(picture.words for picture in pictures)
    return View(f"<p><b>{escape(title)}</b></p>{images}", f"[{title}: {marked} words marked]")


def page_pictures(citations: Iterable[Citation], folder: str | Path) -> list[PagePicture]:
    """Each page that the quotes of ``citations`` stand on, once, in order. Sources without pages have none.

    Raises:
        InputError: a file is not there, is broken, or has changed since it was read.
    """
    quotes: dict[tuple[str, int], list[str]] = {}
    for citation in citations:
        chunk, span = citation.chunk, citation.span
        for page in chunk.pages:
            start, end = max(span.start, page.start), min(span.end, page.end)
            part = chunk.text[start - chunk.start : end - chunk.start] if start < end else ""
            if _WORD.search(part):
                quotes.setdefault((str(chunk.metadata.get("source", "")), page.number), []).append(part)
    return [_picture(Path(folder).expanduser(), source, number, parts) for (source, number), parts in quotes.items()]


def _picture(folder: Path, source: str, number: int, quotes: Sequence[str]) -> PagePicture:
    file, plumber = folder / source, require("pdfplumber", "formats")
    if not file.is_file():
        raise InputError(f"{file} is not there: expected the folder that the corpus was loaded from")
    changed = "has changed since it was read: load the folder again, and ask again"
    try:
        pdf = plumber.open(file)
    except Exception as error:  # a broken file breaks pdfminer in many ways
        raise InputError(f"{file} cannot be opened as a PDF: it is broken, or {changed}") from error
    with pdf:
        if number > len(pdf.pages):
            raise InputError(f"{file} has {len(pdf.pages)} pages, and page {number} is cited: it {changed}")
        page = pdf.pages[number - 1]
        words = page_words(page)
        texts = [word["text"] for word in words]
        marked: set[int] = set()
        for quote in quotes:
            if not (found := quote_words(texts, quote)):
                raise InputError(f"{file}, page {number}, does not hold the quote {quote[:60]!r}: it {changed}")
            marked.update(found)
        page.cropbox = page.mediabox
        image = require("pdfplumber.display", "formats").PageImage(page, _rendered(file, page), RESOLUTION)
        image.draw_rects([words[i]["box"] for i in sorted(marked)], fill=MARK, stroke_width=0)
        return PagePicture(source, number, len(marked), _png(image))


def _rendered(file: Path, page: Any) -> Any:
    """The whole sheet: what is cropped away was read, too, and pdfplumber misplaces the crop of a turned page."""
    with require("pypdfium2", "formats").PdfDocument(file) as pdf:
        sheet = pdf[page.page_number - 1]
        sheet.set_cropbox(*page.page_obj.mediabox)
        return sheet.render(scale=RESOLUTION / 72, prefer_bgrx=True).to_pil().convert("RGB")


def quote_words(words: Sequence[str], quote: str) -> list[int]:
    """Which of a page's ``words`` the quote consists of: the places in ``words``, [] where it is not there.

    Only letters and figures count, so that a word may be hyphenated, in bold, or written with ligatures. Where the
    quote does not stand there as a whole, it is the runs that both have in the same order, of three words or more.

    >>> quote_words("Open daily from nine to fi- ve. Dogs stay outside.".split(), "from nine to\\n**five**")
    [2, 3, 4, 5, 6]
    """
    page, wanted = [_bare(word) for word in words], [bare for word in quote.split() if (bare := _bare(word))]
    if not wanted:
        return []
    ends = list(accumulate(map(len, page)))
    borders, whole = {0, *ends}, "".join(wanted)
    places = [match.start() for match in re.finditer(f"(?={re.escape(whole)})", "".join(page))]
    places.sort(key=lambda start: (start not in borders) + (start + len(whole) not in borders))
    if places:
        first, last = bisect_right(ends, places[0]), bisect_right(ends, places[0] + len(whole) - 1)
        return [i for i in range(first, last + 1) if page[i]]
    runs = SequenceMatcher(None, page, wanted, autojunk=False).get_matching_blocks()
    least = min(3, len(wanted))
    return [i for run in runs if run.size >= least for i in range(run.a, run.a + run.size)]


def _bare(word: str) -> str:
    return "".join(_WORD.findall(unicodedata.normalize("NFKC", _NO_LETTER.sub("", word)).casefold()))


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", quantize=True, colors=64)
    return buffer.getvalue()

"""The page of a PDF as a picture, with a citation's quote marked on it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from html import escape
from pathlib import Path
from typing import Any

from ragkit.base import Citation, InputError, require
from ragkit.notebook.display import View

RESOLUTION = 90  # dots an inch
MARK = (0, 158, 115, 70)  # green, see-through

_WORD = re.compile(r"\w+")


def show_page(citation: Citation, folder: str | Path) -> View:
    """The page on which the quote of ``citation`` begins, out of ``folder``, with the words of the quote marked.

    Raises:
        InputError: the source is no PDF, or the file is no longer there.
    """
    source = str(citation.chunk.metadata.get("source", ""))
    file = Path(folder).expanduser() / source
    if citation.page is None:
        raise InputError(f"{citation.chunk.doc_id} has no pages: expected a citation from a PDF")
    if not file.is_file():
        raise InputError(f"{file} is not there: expected the folder that the corpus was loaded from")
    with require("pdfplumber", "formats").open(file) as pdf:
        page = pdf.pages[citation.page - 1]
        words = page.extract_words()
        marked = quote_words([word["text"] for word in words], citation.quote or citation.chunk.text)
        picture = page.to_image(resolution=RESOLUTION)
        picture.draw_rects([words[i] for i in marked], fill=MARK, stroke=None)
        png = _png(picture)
    title = f"{source}, page {citation.page}"
    image = (
        f'<img alt="{escape(title)}" src="data:image/png;base64,{png}" style="max-width:100%;border:1px solid gray">'
    )
    return View(f"<p><b>{escape(title)}</b></p>{image}", f"[{title}: {len(marked)} words marked]")


def quote_words(words: Sequence[str], quote: str) -> list[int]:
    """Which of a page's ``words`` the quote consists of: runs that it has in the same order, of three words or more.

    >>> quote_words("Open daily from nine to five. Dogs stay outside.".split(), "from nine to\\n**five**")
    [2, 3, 4, 5]
    """
    page = [_bare(word) for word in words]
    wanted = [bare for word in quote.split() if (bare := _bare(word))]
    runs = SequenceMatcher(None, page, wanted, autojunk=False).get_matching_blocks()
    least = min(3, len(wanted))
    return [i for run in runs if run.size >= least for i in range(run.a, run.a + run.size)]


def _bare(word: str) -> str:
    return "".join(_WORD.findall(word.lower()))


def _png(picture: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", quantize=True, colors=64)
    return base64.b64encode(buffer.getvalue()).decode()

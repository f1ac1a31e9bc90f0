"""Word and PowerPoint files: mammoth reads the one, python-pptx the other.

A Word file becomes HTML that shows what Word shows: tracked changes as if they were accepted, notes at the end, the
words of a merged cell once; comments and the headers and footers of pages are left out. Slides become Markdown, their
titles as headings, with the speaker's notes; pictures, charts and SmartArt say nothing.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ragkit.base import require

_FIELD = re.compile(rb"</?w:fldSimple\b[^>]*>")
"""Around the number of a caption, for instance, which mammoth would pass over with it."""
_BOOKMARK = re.compile(r'<a id="[^"]*"></a>')
_STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => p:fresh
"""
_FURNITURE = ("DATE", "FOOTER", "HEADER", "SLIDE_NUMBER")
_LISTS = ("BODY", "OBJECT", "VERTICAL_BODY", "VERTICAL_OBJECT")


def word_html(file: str | Path) -> str:
    """What a ``.docx`` file says, as HTML::

        word_html("travel.docx")[:24]    # '<h1>Business travel</h1>'

    Raises:
        Exception: it is broken, or of another kind: ``BadZipFile``, ``KeyError`` and others.
    """
    mammoth = require("mammoth", "formats")
    copy = BytesIO()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(copy, "w") as texts:
        for part in source.namelist():
            if part.endswith((".xml", ".rels")):
                texts.writestr(part, _FIELD.sub(b"", source.read(part)))
    no_picture = mammoth.images.img_element(lambda image: {})
    page = str(mammoth.convert_to_html(copy, style_map=_STYLES, convert_image=no_picture).value)
    return _BOOKMARK.sub("", page)


def slides_markdown(file: str | Path) -> str:
    """What a ``.pptx`` file says, slide by slide, as Markdown::

        slides_markdown("pitch.pptx")[:10]    # '## Why now\\n'

    Raises:
        Exception: it is broken, or of another kind: ``BadZipFile``, ``KeyError`` and others.
    """
    blocks: list[str] = []
    for slide in require("pptx", "formats").Presentation(file).slides:
        title = slide.shapes.title
        blocks += [f"## {_line(title.text)}"] if title is not None and title.text.strip() else []
        for shape in _shapes(slide.shapes):
            if title is None or shape.element is not title.element:
                blocks.append(_shape(shape))
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            blocks.append(_paragraphs(slide.notes_slide.notes_text_frame))
    return "\n\n".join(filter(None, blocks))


def properties(file: str | Path) -> tuple[str, str]:
    """The title and the day of creation (YYYY-MM-DD) that an Office file names; "" for none."""
    with zipfile.ZipFile(file) as archive:
        if "docProps/core.xml" not in archive.namelist():
            return "", ""
        nodes = ElementTree.fromstring(archive.read("docProps/core.xml"))
    fields = {node.tag.rpartition("}")[2]: node.text or "" for node in nodes}
    return fields.get("title", ""), fields.get("created", "")[:10]


def _line(text: str) -> str:
    return " ".join(text.split())


def _shapes(shapes: Iterable[Any]) -> Iterator[Any]:
    """All shapes, those of a group in its place."""
    for shape in shapes:
        yield from _shapes(shape.shapes) if hasattr(shape, "shapes") else (shape,)


def _shape(shape: Any) -> str:
    place = shape.placeholder_format.type.name if shape.is_placeholder else ""
    if getattr(shape, "has_table", False):
        rows = [["" if cell.is_spanned else _line(cell.text) for cell in row.cells] for row in shape.table.rows]
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
        return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
    if place in _FURNITURE or not shape.has_text_frame:
        return ""
    return _paragraphs(shape.text_frame, is_list=place in _LISTS)


def _paragraphs(frame: Any, is_list: bool = False) -> str:
    lines = [(paragraph.level, _line(paragraph.text)) for paragraph in frame.paragraphs if paragraph.text.strip()]
    return ("\n" if is_list else "\n\n").join("  " * level + "- " * is_list + line for level, line in lines)

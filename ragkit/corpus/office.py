"""Word and PowerPoint files as Markdown, by the standard library: both are zip archives of XML.

What Word and PowerPoint show is read, and once: tracked changes as if they were accepted, the words of a merged cell in
its first place, text boxes behind their paragraph, notes behind the block or the slide that they belong to. Comments,
hidden words, and the headers and footers of pages are left out.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from posixpath import join, normpath, split
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

MAX_SPAN = 63
"""The columns that a table of Word may have."""

_NOT_SHOWN = {"del", "moveFrom", "Fallback", "instrText", "rt"}
"""Deletions, where moved text stood, the old form of a drawing, the code of a field, how a letter is spoken."""
_BREAKS = {"tab", "ptab", "br", "cr"}
_OFF = {"0", "false", "off"}
_SLIDE_TITLES = ("title", "ctrTitle")
_FURNITURE = ("sldNum", "dt", "ftr", "hdr")
_ITEM = re.compile(r" *(?:-|\d+\.) ")


class OfficeText(NamedTuple):
    """What a file says; ``title`` and ``created`` (YYYY-MM-DD) are those of its properties, "" for none."""

    text: str
    title: str
    created: str


class Link(NamedTuple):
    """What a part of the archive refers to: another part, or an address outside."""

    kind: str
    target: str


def read_office(file: str | Path) -> OfficeText:
    """The Markdown of a ``.docx`` or ``.pptx`` file::

        read_office("travel.docx").text[:20]    # '## Business travel\\n\\n'

    Raises:
        Exception: it is broken, or of another kind: ``BadZipFile``, ``ParseError``, ``KeyError`` and others.
    """
    with zipfile.ZipFile(file) as archive:
        parts = {link.kind: link.target for link in _links(archive, "").values()}
        root = _xml(archive, parts["officeDocument"])
        reader = (_Slides if root.tag == "presentation" else _Word)(archive, parts["officeDocument"])
        reader.read(root)
        about = parts.get("core-properties", "")
        nodes = _xml(archive, about) if about in archive.namelist() else ()
        fields = {node.tag: node.text or "" for node in nodes}
    return OfficeText("".join(reader.blocks), fields.get("title", ""), fields.get("created", "")[:10])


def _xml(archive: zipfile.ZipFile, part: str) -> Element:
    """A part without its namespaces: there are two sets of them, for the same words."""
    root = ElementTree.fromstring(archive.read(part))
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        for key in [key for key in node.attrib if key[0] == "{"]:
            node.set(key.rpartition("}")[2], node.attrib.pop(key))
    return root


def _links(archive: zipfile.ZipFile, part: str) -> dict[str, Link]:
    """What a part (the archive itself: "") refers to, by the ids under which it does."""
    folder, leaf = split(part)
    name = join(folder, "_rels", f"{leaf}.rels")
    links = {}
    for node in _xml(archive, name) if name in archive.namelist() else ():
        target = node.get("Target", "")
        if node.get("TargetMode") != "External":
            target = normpath(join("/", folder, target)).lstrip("/")
        links[node.get("Id", "")] = Link(node.get("Type", "").rpartition("/")[2], target)
    return links


def _get(node: Element | None, path: str, attribute: str = "val") -> str:
    """An attribute of the first node on a path; "" for none."""
    found = None if node is None else node.find(path)
    return "" if found is None else found.get(attribute, "")


def _number(node: Element | None, path: str, default: int = 0) -> int:
    value = _get(node, path)
    return int(value) if value.isdecimal() else default


def _within(node: Element, *names: str) -> Iterator[Element]:
    """The nearest nodes of these names below ``node``, in their order."""
    for child in node:
        if child.tag in names:
            yield child
        elif child.tag not in _NOT_SHOWN:
            yield from _within(child, *names)


def _line(text: str) -> str:
    return " ".join(text.split())


class _Reader:
    """Reads a part of the archive into blocks of Markdown."""

    def __init__(self, archive: zipfile.ZipFile, part: str) -> None:
        self.archive = archive
        self.links = _links(archive, part)
        self.blocks: list[str] = []

    def read(self, node: Element) -> None:
        """Write what stands in a node."""
        raise NotImplementedError

    def write(self, text: str) -> None:
        """A block, after a blank line unless a list goes on."""
        if text.strip():
            goes_on = self.blocks and _ITEM.match(text) and _ITEM.match(self.blocks[-1].lstrip("\n"))
            self.blocks.append(("\n" if goes_on else "\n\n" if self.blocks else "") + text)

    def write_plain(self, text: str) -> None:
        self.write(re.sub(r"^(#+ |>|```|~~~)", r"\\\1", text))

    def write_table(self, rows: list[list[str]]) -> None:
        width = max(map(len, rows), default=0)
        lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in rows if any(row)]
        if lines:
            self.write("\n".join([lines[0], "|" + " --- |" * width, *lines[1:]]))

    def linked(self, links: Mapping[str, Link], kind: str) -> Iterator[Element]:
        """The parts of a kind that a part refers to."""
        for link in links.values():
            if link.kind == kind and link.target in self.archive.namelist():
                yield _xml(self.archive, link.target)

    def words(self, node: Element) -> str:
        """The text of a paragraph, or of a part of it."""
        name = node.tag
        if name in _NOT_SHOWN:
            return ""
        if name == "t":
            return node.text or ""
        if name in _BREAKS:
            return "\n" if name == "br" else " "
        return "-" if name == "noBreakHyphen" else "".join(map(self.words, node))

    def cell(self, node: Element) -> str:
        """A cell's paragraphs, and those of a table in it, in one line."""
        return _line(" ".join(map(self.words, _within(node, "p")))).replace("|", "\\|")


class _Word(_Reader):
    def __init__(self, archive: zipfile.ZipFile, part: str) -> None:
        super().__init__(archive, part)
        self.boxes: list[Element] = []
        self.marks: list[tuple[str, Element]] = []
        """The notes that the current block refers to."""
        self.noted = 0
        self.notes = {
            (kind, note.get("id")): note
            for kind in ("footnote", "endnote")
            for root in self.linked(self.links, f"{kind}s")
            for note in root
        }
        self.styles = {style.get("styleId", ""): style for root in self.linked(self.links, "styles") for style in root}
        numbering = [node for root in self.linked(self.links, "numbering") for node in root]
        lists = {node.get("abstractNumId"): node for node in numbering if node.tag == "abstractNum"}
        self.lists = {
            node.get("numId", ""): lists.get(_get(node, "abstractNumId")) for node in numbering if node.tag == "num"
        }
        self.counts: dict[tuple[str, int], int] = {}
        """How many items a list has at a level, so far."""

    def read(self, node: Element) -> None:
        for child in _within(node, "p", "tbl"):
            if child.tag == "p":
                self.paragraph(child)
            else:
                self.table(child)
            boxes, self.boxes = self.boxes, []
            for box in boxes:
                self.read(box)
            for mark, note in self.marks:
                self.write(f"{mark}: {self.cell(note)}")
            self.marks = []

    def words(self, node: Element) -> str:
        name = node.tag
        hidden = node.find("rPr/vanish") if name == "r" else None
        if hidden is not None and hidden.get("val") not in _OFF:
            return ""
        if name == "txbxContent":
            self.boxes.append(node)
            return ""
        if name in ("footnoteReference", "endnoteReference"):
            note = self.notes.get((name.removesuffix("Reference"), node.get("id")))
            if note is None:
                return ""
            self.noted += 1
            self.marks.append((f"[^{self.noted}]", note))
            return f"[^{self.noted}]"
        text = super().words(node)
        link = self.links.get(node.get("id", "")) if name == "hyperlink" else None
        return f"[{text}]({link.target})" if link and text.strip() else text

    def paragraph(self, node: Element) -> None:
        looks = [node]  # what says how it looks: itself, its style, the style that this one is based on, ...
        style = self.styles.get(_get(node, "pPr/pStyle"))
        while style is not None and style not in looks:
            looks.append(style)
            style = self.styles.get(_get(style, "basedOn"))
        text = self.words(node).strip()
        listed = next((n for look in looks if (n := look.find("pPr/numPr")) is not None), None)
        if not text:
            return
        if level := next(filter(None, map(_level, looks)), 0):
            self.write(f"{'#' * level} {_line(text)}")
        elif mark := self.mark(listed):
            self.write(mark + _line(text))
        else:
            self.write_plain(text)

    def mark(self, listed: Element | None) -> str:
        """How an item of a list begins: with a hyphen or its number, indented by its level; "" for no item."""
        list_id, level = _get(listed, "numId"), _number(listed, "ilvl")
        levels = {node.get("ilvl"): node for node in self.lists.get(list_id) or ()}
        form = _get(levels.get(str(level)), "numFmt") or "bullet"
        if list_id not in self.lists or form == "none":
            return ""
        self.counts = {key: n for key, n in self.counts.items() if key[0] != list_id or key[1] <= level}
        self.counts[list_id, level] = self.counts.get((list_id, level), 0) + 1
        number = self.counts[list_id, level] + _number(levels.get(str(level)), "start", 1) - 1
        return f"{'   ' * level}{'-' if form == 'bullet' else f'{number}.'} "

    def table(self, node: Element) -> None:
        rows = [list(_within(row, "tc")) for row in _within(node, "tr")]
        if all(len(cells) == 1 for cells in rows):  # a frame around text
            for cells in rows:
                self.read(cells[0])
        else:
            self.write_table([[text for cell in cells for text in self.columns(cell)] for cells in rows])

    def columns(self, cell: Element) -> list[str]:
        """What stands in the columns that a cell spans: its words in the first, none if it goes on from above."""
        merge = cell.find("tcPr/vMerge")
        text = self.cell(cell) if merge is None or merge.get("val") == "restart" else ""
        return [text] + [""] * (min(_number(cell, "tcPr/gridSpan", 1), MAX_SPAN) - 1)


def _level(look: Element) -> int:
    """The level of a heading, by the name or the outline of its style, or its own; the document's title has 1."""
    name = _get(look, "name").lower()
    named, outline = re.fullmatch(r"heading (\d)", name), _number(look, "pPr/outlineLvl", 9)
    if name == "title":
        return 1
    level = int(named[1]) if named else outline + 1
    return min(level + 1, 6) if level < 10 else 0


class _Slides(_Reader):
    def read(self, node: Element) -> None:
        for slide in _within(node, "sldId"):  # in the order in which they are shown
            link = self.links.get(slide.get("id", ""))
            if link and link.target in self.archive.namelist():
                self.slide(link.target)

    def slide(self, part: str) -> None:
        links = _links(self.archive, part)
        shapes = list(_within(_xml(self.archive, part), "sp", "tbl"))
        for shape in sorted(shapes, key=lambda shape: _placeholder(shape) not in _SLIDE_TITLES):
            if shape.tag == "tbl":
                rows = [list(_within(row, "tc")) for row in _within(shape, "tr")]
                self.write_table([["" if _is_merged(cell) else self.cell(cell) for cell in cells] for cells in rows])
            else:
                self.shape(shape)
        for diagram in self.linked(links, "diagramData"):
            self.paragraphs(diagram, are_items=True)
        for notes in self.linked(links, "notesSlide"):
            for shape in (shape for shape in _within(notes, "sp") if _placeholder(shape) == "body"):
                self.paragraphs(shape)

    def shape(self, node: Element) -> None:
        kind = _placeholder(node)
        if kind in _SLIDE_TITLES:
            self.write(f"## {title}" if (title := self.cell(node)) else "")
        elif kind not in _FURNITURE:
            self.paragraphs(node, are_items=kind in ("body", "obj"))

    def paragraphs(self, node: Element, are_items: bool = False) -> None:
        for paragraph in _within(node, "p"):
            if (are_items or paragraph.find("pPr/buChar") is not None) and (text := _line(self.words(paragraph))):
                self.write(f"{'   ' * int(_get(paragraph, 'pPr', 'lvl') or 0)}- {text}")
            else:
                self.write_plain(self.words(paragraph).strip())


def _placeholder(shape: Element) -> str:
    """Which place of the slide's layout a shape fills: "title", "body", ...; "" for a text box or a table."""
    place = shape.find("nvSpPr/nvPr/ph")
    return "" if place is None else place.get("type", "obj")


def _is_merged(cell: Element) -> bool:
    """Whether a cell of a slide's table lies below another one."""
    return any(cell.get(name, "0") not in _OFF for name in ("hMerge", "vMerge"))

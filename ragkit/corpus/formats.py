"""A folder of your own documents, as the same ``Corpus`` that every notebook, widget and table reads.

Markdown, reStructuredText, plain text and HTML are read here; PDF and Word through pypdf and python-docx
(the extra ``formats``). What cannot be read is left out, named in a warning and counted in ``Corpus.notes``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ragkit.base import Corpus, CorpusError, Document, MissingExtraError, require
from ragkit.corpus.html_text import Block, html_blocks
from ragkit.corpus.page import Page, covering, outline

if TYPE_CHECKING:
    from docx.document import Document as WordDocument

MAX_BYTES = 64 << 20  # of one file
_NAMED = 5  # files that a warning names; the rest is counted


class _SkipError(Exception):
    """This file is left out; the message is the reason, as ``Corpus.notes`` counts it."""


def load_folder(path: str | Path) -> Corpus:
    """Every document below ``path``: ``.md .rst .txt .html .htm .pdf .docx``.

    Ids are the paths without suffix; headings become sections (pages do in a PDF). Hidden files and folders
    are passed over, and so is whatever a link leads to outside ``path``. Files of another kind, binary files
    and files that are not UTF-8 are counted in ``Corpus.notes``; what should have been readable is also named
    in a warning.

    Raises:
        CorpusError: there is no such folder, or nothing in it can be read.
        MissingExtraError: there are PDF or Word files, and the extra ``formats`` is not installed.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise CorpusError(f"{path}: no such folder; expected a folder with {' '.join(_READERS)} files")
    documents: dict[str, Document] = {}
    skipped: dict[str, list[str]] = {}
    for name, file in _files(root):
        try:
            page = _read(file, name, root)
        except _SkipError as reason:
            skipped.setdefault(str(reason), []).append(name)
            continue
        doc_id = str(PurePosixPath(name).with_suffix(""))
        title = page.title or PurePosixPath(name).stem
        metadata = {"project": root.name, "title": title, "source": name}
        doc_id = doc_id if doc_id not in documents else name
        documents[doc_id] = Document(doc_id, page.text, title, page.sections, metadata)
    if not documents:
        found = "; ".join(f"{reason}: {len(names)}" for reason, names in skipped.items()) or "it is empty"
        raise CorpusError(f"{root}: no document in it can be read ({found}); expected {' '.join(_READERS)} files")
    notes = {reason: len(names) for reason, names in skipped.items()}
    named = {reason: names for reason, names in skipped.items() if reason != _OTHER}
    warn_of(root.name, {f"{reason}: {_some(names)}": len(names) for reason, names in named.items()})
    return Corpus(root.name, tuple(documents.values()), notes=notes)


def warn_of(name: str, notes: Mapping[str, int]) -> None:
    """One warning that says how often what happened while ``name`` was loaded (none if nothing did)."""
    if notes:
        lines = "; ".join(f"{what} ({count})" for what, count in notes.items())
        warnings.warn(f"{name}: {lines}", stacklevel=3)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """``(path below root, file)`` in order of their names, without what is hidden or lies outside."""
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root)
        if any(part.startswith(".") for part in name.parts) or not file.is_file():
            continue
        if file.resolve().is_relative_to(root):
            yield name.as_posix(), file


_OTHER = "files of another kind left out"


def _read(file: Path, name: str, root: Path) -> Page:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise _SkipError(_OTHER)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise _SkipError(f"files above {MAX_BYTES >> 20} MB left out")
        page = reader(file, name, root)
    except OSError as error:
        raise _SkipError("files that cannot be opened left out") from error
    if not page.text.strip():
        raise _SkipError("files without words left out")
    return page


def _text(file: Path) -> str:
    data = file.read_bytes()
    if b"\0" in data:
        raise _SkipError("binary files left out")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise _SkipError("files that are not UTF-8 left out") from error


def _plain(file: Path, name: str, root: Path) -> Page:
    return outline([(0, _text(file).strip("\n"))])


def _marked_up(file: Path, name: str, root: Path) -> Page:
    from ragkit.corpus.markup import parse
    from ragkit.corpus.writer import write

    def beside(other: str) -> str | None:
        """An included file, if it is a text inside the folder."""
        target = (root / other.lstrip("/")).resolve()
        try:
            return _text(target) if target.is_relative_to(root) and target.stat().st_size <= MAX_BYTES else None
        except (OSError, _SkipError):
            return None

    return write(parse(_text(file), file.suffix.lower().lstrip("."), name, beside))


def _html(file: Path, name: str, root: Path) -> Page:
    title, blocks = html_blocks(_text(file))
    page = outline(blocks)
    return Page(page.text, title or page.title, page.sections)


def _pdf(file: Path, name: str, root: Path) -> Page:
    pypdf = require("pypdf", "formats")
    try:
        pages = [page.extract_text() for page in pypdf.PdfReader(file).pages]
    except Exception as error:  # pypdf raises whatever a damaged file makes it stumble over
        raise _SkipError("PDF files that cannot be read left out") from error
    text, starts = "", []
    for number, words in enumerate(pages, 1):
        clean = words.encode("utf-8", "replace").decode().strip()
        starts.append(((f"Page {number}",), len(text), len(text)))
        text += clean + "\n\n" if clean else ""
    text = text.rstrip()
    return Page(text, "", covering(starts, len(text)))


def _docx(file: Path, name: str, root: Path) -> Page:
    docx = require("docx", "formats")
    try:
        return outline(_docx_blocks(docx.Document(str(file))))
    except MissingExtraError:
        raise
    except Exception as error:  # a damaged file fails anywhere in zip, XML or python-docx
        raise _SkipError("Word files that cannot be read left out") from error


def _docx_blocks(document: WordDocument) -> Iterator[Block]:
    from docx.table import Table

    for item in document.iter_inner_content():
        if isinstance(item, Table):
            rows = (" | ".join(" ".join(cell.text.split()) for cell in row.cells) for row in item.rows)
            yield 0, "\n".join(row for row in rows if row.strip(" |"))
            continue
        style = (item.style.name if item.style is not None else None) or ""
        heading = re.fullmatch(r"Heading ([1-6])|Title", style)
        mark = "- " if style.startswith("List") and item.text.strip() else ""
        yield (int(heading[1] or 1) if heading else 0), mark + item.text


_READERS: Mapping[str, Callable[[Path, str, Path], Page]] = {
    ".md": _marked_up,
    ".rst": _marked_up,
    ".txt": _plain,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
}

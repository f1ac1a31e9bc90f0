"""A folder of your own documents, as the same ``Corpus`` that every notebook, widget and table reads.

Every document is Markdown in the end. Markdown and plain text stay as they are, reStructuredText goes the way of the
fetched documentation, and kreuzberg (the extra ``formats``) reads the rest.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ragkit.base import Corpus, CorpusError, Document, Section, require
from ragkit.markdown import covering, sections

MAX_BYTES = 64 << 20  # of one file
TEXTS = (".md", ".rst", ".txt")
WEB_PAGES = (".html", ".htm")
_OFFICE = "application/vnd.openxmlformats-officedocument."
MIME_TYPES = {
    ".html": "text/html",
    ".htm": "text/html",
    ".pdf": "application/pdf",
    ".docx": _OFFICE + "wordprocessingml.document",
    ".pptx": _OFFICE + "presentationml.presentation",
    ".xlsx": _OFFICE + "spreadsheetml.sheet",
    ".epub": "application/epub+zip",
    ".eml": "message/rfc822",
}
READABLE = (*TEXTS, *MIME_TYPES)

_OTHER = "files of another kind left out"
_HEAD = re.compile(r"<title\b[^>]*>(?P<title>.*?)</title\s*>|<(?:meta|link|base)\b[^>]*>", re.IGNORECASE | re.DOTALL)
_CHARSET = re.compile(rb"<meta\b[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_NOT_WRITTEN_TODAY = [
    f"cp{n}" for n in (437, 720, 737, 775, 850, 852, 855, 857, 858, 860, 861, 862, 863, 864, 865, 869)
]
"""Encodings of DOS: in a short text they look as likely as Windows' own."""
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


class _SkipError(Exception):
    """This file is left out; the message is the reason, as ``Corpus.notes`` counts it."""


def load_folder(path: str | Path) -> Corpus:
    """Every document below ``path``: ``.md .rst .txt .html .htm .pdf .docx .pptx .xlsx .epub .eml``, as Markdown.

    Ids are the paths without suffix; headings become sections (in a PDF without headings, its pages do). Hidden files
    and folders are passed over, and so is whatever a link leads to outside ``path``. Texts are decoded by their byte
    order mark, the charset that they declare, UTF-8, or else by ``charset-normalizer``. What cannot be read is left
    out, named in a warning and counted in ``Corpus.notes``; files of another kind are only counted.

    Raises:
        CorpusError: there is no such folder, or nothing in it can be read.
        MissingExtraError: there are files that need the extra ``formats``, and it is not installed.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise CorpusError(f"{path}: no such folder; expected a folder with {' '.join(READABLE)} files")
    documents: dict[str, Document] = {}
    skipped: dict[str, list[str]] = {}
    for name, file in _files(root):
        try:
            text, title, parts = _read(file, name, root)
        except _SkipError as reason:
            skipped.setdefault(str(reason), []).append(name)
            continue
        doc_id = str(PurePosixPath(name).with_suffix(""))
        doc_id = doc_id if doc_id not in documents else name
        title = title or PurePosixPath(name).stem
        metadata = {"project": root.name, "title": title, "source": name}
        documents[doc_id] = Document(doc_id, text, title, parts, metadata)
    if not documents:
        reasons = "; ".join(f"{reason}: {len(names)}" for reason, names in skipped.items()) or "it is empty"
        raise CorpusError(f"{root}: no document in it can be read ({reasons}); expected {' '.join(READABLE)} files")
    warn_of(root.name, {f"{why}: {_some(names)}": len(names) for why, names in skipped.items() if why != _OTHER})
    return Corpus(root.name, tuple(documents.values()), notes={why: len(names) for why, names in skipped.items()})


def warn_of(name: str, notes: Mapping[str, int]) -> None:
    """One warning that says how often what happened while ``name`` was loaded (none if nothing did)."""
    if notes:
        lines = "; ".join(f"{what} ({count})" for what, count in notes.items())
        warnings.warn(f"{name}: {lines}", stacklevel=3)


def _some(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """``(path below root, file)`` in order of their names, without what is hidden or lies outside."""
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root)
        hidden = any(part.startswith(".") for part in name.parts)
        if not hidden and file.is_file() and file.resolve().is_relative_to(root):
            yield name.as_posix(), file


def _read(file: Path, name: str, root: Path) -> tuple[str, str, tuple[Section, ...]]:
    """The Markdown of a file, its title ("" if it has none of its own) and its sections."""
    kind = file.suffix.lower()
    if kind not in READABLE:
        raise _SkipError(_OTHER)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise _SkipError(f"files above {MAX_BYTES >> 20} MB left out")
        data = file.read_bytes()
    except OSError as error:
        raise _SkipError("files that cannot be opened left out") from error
    pages: tuple[Section, ...] = ()
    title = ""
    if kind == ".rst":
        text, title = _restructured(_decode(data), name, root)
    elif kind in TEXTS:
        text = _decode(data).strip("\n")
    else:
        text, title, pages = _extract(data, kind)
    if not text.strip():
        raise _SkipError("files without words left out")
    if kind == ".txt":  # a line that begins with "#" is no heading here
        return text, title, (Section((), 0, 0, len(text)),)
    parts = sections(text)
    heading = next((section.path[-1] for section in parts if section.path), "")
    return text, title or heading, parts if heading else pages or parts


def _restructured(text: str, name: str, root: Path) -> tuple[str, str]:
    from ragkit.corpus.markup import parse
    from ragkit.corpus.writer import write

    def included(other: str) -> str | None:
        """An included file, if it is a text inside the folder."""
        target = (root / other.lstrip("/")).resolve()
        try:
            inside = target.is_relative_to(root) and target.stat().st_size <= MAX_BYTES
            return _decode(target.read_bytes()) if inside else None
        except (OSError, _SkipError):
            return None

    page = write(parse(text, "rst", name, included))
    return page.text, page.title


def _extract(data: bytes, kind: str) -> tuple[str, str, tuple[Section, ...]]:
    """What kreuzberg reads: the text, the title, and the pages as sections."""
    kreuzberg = require("kreuzberg", "formats")
    title = ""
    if kind in WEB_PAGES:
        html = _decode(data)
        title = next((" ".join(m["title"].split()) for m in _HEAD.finditer(html) if m["title"]), "")
        data = _HEAD.sub("", html).encode()  # else kreuzberg writes them in front of the text
    config = kreuzberg.ExtractionConfig(
        output_format="markdown", pages=kreuzberg.PageConfig(extract_pages=True), use_cache=False
    )
    try:
        result = kreuzberg.extract_bytes_sync(data, MIME_TYPES[kind], config)
    except (kreuzberg.KreuzbergError, RuntimeError, ValueError) as error:
        protected = "password" in str(error).lower()
        reason = "need a password and are" if protected else "cannot be read and are"
        raise _SkipError(f"{kind.lstrip('.')} files that {reason} left out") from error
    text = str(result.content).rstrip()
    return text, title or _own_title(result.metadata, kind), _pages(text, result.pages or ())


def _own_title(metadata: Mapping[str, Any], kind: str) -> str:
    title = metadata.get("title") or metadata.get("subject" if kind == ".eml" else "title")
    return " ".join(str(title or "").split())


def _pages(text: str, pages: Iterable[Mapping[str, Any]]) -> tuple[Section, ...]:
    """The pages of a PDF as sections ``("Page 3",)``: each begins where its first words stand."""
    starts: list[tuple[tuple[str, ...], int, int]] = [((), 0, 0)]
    for page in pages:
        words = page["content"].strip()[:80]
        start = text.find(words, starts[-1][1]) if words else -1
        if start >= 0:
            starts.append(((f"Page {page['page_number']}",), start, start))
    return covering(starts, len(text))


def _decode(data: bytes) -> str:
    """The text of a file: by its byte order mark, the charset it declares, UTF-8, or else by its letters."""
    mark = next((mark for mark in _BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    declared = _CHARSET.search(data[:4096])
    for encoding in (_BYTE_ORDER_MARKS.get(mark), declared and declared[1].decode("ascii"), "utf-8"):
        try:
            if encoding and (mark or b"\0" not in data):
                return _one_line_end(data.decode(encoding))
        except (UnicodeDecodeError, LookupError):
            continue
    if b"\0" in data:
        raise _SkipError("binary files left out")
    guess = require("charset_normalizer", "formats").from_bytes(data, cp_exclusion=_NOT_WRITTEN_TODAY).best()
    if guess is None:
        raise _SkipError("files whose encoding cannot be recognised (save them as UTF-8) left out")
    return _one_line_end(str(guess))


def _one_line_end(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")

"""A folder of your own documents, as the same ``Corpus`` that every notebook, widget and table reads.

Every document is Markdown in the end. Markdown and plain text stay as they are, reStructuredText goes the way of the
fetched documentation, and kreuzberg (the extra ``formats``) reads the rest.
"""

from __future__ import annotations

import html
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ragkit.base import Corpus, CorpusError, Document, Section, require
from ragkit.markdown import covering, sections

MAX_BYTES = 64 << 20  # of one file
TEXTS = (".md", ".rst", ".txt")
WEB_PAGES = (".html", ".htm")
READABLE = (*TEXTS, *WEB_PAGES, ".pdf", ".docx", ".pptx", ".xlsx", ".epub", ".eml")

LABELS = "questions.jsonl"
"""The labels of the folder's documents (``ragkit.workbench.labels``): no document."""

_OTHER = "files of another kind left out"
_HEAD = re.compile(r"<title\b[^>]*>(?P<title>.*?)</title\s*>|<(?:meta|link|base)\b[^>]*>", re.IGNORECASE | re.DOTALL)
_CHARSET = re.compile(rb"<meta\b[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
"""Byte order marks of UTF-16 and UTF-32."""
_NOT_WRITTEN_TODAY = [
    f"cp{n}" for n in (437, 720, 737, 775, 850, 852, 855, 857, 858, 860, 861, 862, 863, 864, 865, 869)
]
"""Encodings of DOS: in a short text they look as likely as Windows' own."""


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
    skipped: dict[str, list[str]] = defaultdict(list)
    for file in _files(root):
        name = file.relative_to(root)
        try:
            text, title, parts = _read(file, root)
        except _SkipError as reason:
            skipped[str(reason)].append(str(name))
            continue
        doc_id = name.with_suffix("").as_posix()
        doc_id = doc_id if doc_id not in documents else name.as_posix()
        title = title or name.stem
        metadata = {"project": root.name, "title": title, "source": name.as_posix()}
        documents[doc_id] = Document(doc_id, text, title, parts, metadata)
    notes = {reason: len(names) for reason, names in skipped.items()}
    if not documents:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in notes.items()) or "it is empty"
        raise CorpusError(f"{root}: no document in it can be read ({reasons}); expected {' '.join(READABLE)} files")
    warn_of(root.name, {f"{why}: {_some(names)}": len(names) for why, names in skipped.items() if why != _OTHER})
    return Corpus(root.name, tuple(documents.values()), notes=notes)


def warn_of(name: str, notes: Mapping[str, int]) -> None:
    """One warning that says how often what happened while ``name`` was loaded (none if nothing did)."""
    if notes:
        warnings.warn(f"{name}: {'; '.join(f'{what} ({count})' for what, count in notes.items())}", stacklevel=3)


def _some(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _files(root: Path) -> Iterator[Path]:
    """The files below ``root`` in order of their names, without what is hidden or lies outside, and without labels."""
    for file in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
        if not hidden and file != root / LABELS and file.is_file() and file.resolve().is_relative_to(root):
            yield file


def _read(file: Path, root: Path) -> tuple[str, str, tuple[Section, ...]]:
    """The Markdown of a file, its title ("" if it has none of its own) and its sections."""
    kind = file.suffix.lower()
    if kind not in READABLE:
        raise _SkipError(_OTHER)
    if file.stat().st_size > MAX_BYTES:
        raise _SkipError(f"files above {MAX_BYTES >> 20} MB left out")
    title, pages = "", tuple[Section, ...]()
    if kind == ".rst":
        text = _restructured(file, root)
    elif kind in TEXTS:
        text = _decode(file).strip("\n")
    elif kind in WEB_PAGES:
        page = _decode(file)
        title = next((html.unescape(m["title"]) for m in _HEAD.finditer(page) if m["title"]), "")
        text = _extract(file, _HEAD.sub("", page)).content.rstrip()  # kreuzberg would write the head in front of it
    else:
        result = _extract(file)
        text, title = result.content.rstrip(), result.metadata.get("subject" if kind == ".eml" else "title") or ""
        pages = _pages(text, result.pages or ())
    if not text.strip():
        raise _SkipError("files without words left out")
    if kind == ".txt":  # a line that begins with "#" is no heading here
        return text, "", (Section((), 0, 0, len(text)),)
    parts = sections(text)
    heading = next((section.path[-1] for section in parts if section.path), "")
    return text, " ".join(title.split()) or heading, parts if heading else pages or parts


def _restructured(file: Path, root: Path) -> str:
    from ragkit.corpus.rst import parse, write

    def included(name: str) -> str | None:
        """An included file, if it is a text inside the folder."""
        target = (root / name.lstrip("/")).resolve()
        with suppress(_SkipError):
            return _decode(target) if target.is_relative_to(root) else None
        return None

    return write(parse(_decode(file), "rst", file.relative_to(root).as_posix(), included)).text


def _extract(file: Path, page: str = "") -> Any:
    """What kreuzberg reads in ``file``, or in the HTML of ``page``: ``content``, ``metadata`` and ``pages``."""
    kreuzberg = require("kreuzberg", "formats")
    pages = kreuzberg.PageConfig(extract_pages=True)
    config = kreuzberg.ExtractionConfig(output_format="markdown", pages=pages, use_cache=False)
    try:
        if page:
            return kreuzberg.extract_bytes_sync(page.encode(), "text/html", config)
        return kreuzberg.extract_file_sync(str(file), config=config)
    except (kreuzberg.KreuzbergError, OSError, RuntimeError, ValueError) as error:
        reason = "need a password and are" if "password" in str(error).lower() else "cannot be read and are"
        raise _SkipError(f"{file.suffix.lower().lstrip('.')} files that {reason} left out") from error


def _pages(text: str, pages: Iterable[Mapping[str, Any]]) -> tuple[Section, ...]:
    """The pages of a PDF as sections ``("Page 3",)``: each begins where its first words stand."""
    starts: list[tuple[tuple[str, ...], int, int]] = [((), 0, 0)]
    for page in pages:
        words = page["content"].strip()[:80]
        start = text.find(words, starts[-1][1]) if words else -1
        if start >= 0:
            starts.append(((f"Page {page['page_number']}",), start, start))
    return covering(starts, len(text))


def _decode(file: Path) -> str:
    """The text of a file: by its byte order mark, the charset a web page declares, UTF-8, or else by its letters."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _SkipError("files that cannot be opened left out") from error
    if b"\0" in data and not data.startswith(_MARKS):
        raise _SkipError("binary files left out")
    declared = _CHARSET.findall(data[:4096]) if file.suffix.lower() in WEB_PAGES else []
    for encoding in (*(name.decode() for name in declared), "utf-8"):
        with suppress(UnicodeDecodeError, LookupError):
            text = data.decode(encoding).removeprefix("\ufeff")
            break
    else:
        guess = require("charset_normalizer", "formats").from_bytes(data, cp_exclusion=_NOT_WRITTEN_TODAY).best()
        if guess is None:
            raise _SkipError("files whose encoding cannot be recognised (save them as UTF-8) left out")
        text = str(guess)
    return text.replace("\r\n", "\n").replace("\r", "\n")

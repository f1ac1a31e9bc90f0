"""A folder of your own documents, as the same ``Corpus`` that every notebook, widget and table reads.

Every document is Markdown in the end. Markdown and plain text stay as they are, reStructuredText goes the way of the
fetched documentation, ``ragkit.corpus.pdf`` and ``ragkit.corpus.office`` read PDFs, Word files and slides, Python's
``email`` reads mail, and kreuzberg web pages, books and spreadsheets (the extra ``formats``).
"""

from __future__ import annotations

import html
import os
import re
import tomllib
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ragkit.base import Corpus, CorpusError, Document, FileReport, Page, Section, require
from ragkit.corpus.office import properties, slides_markdown, word_html
from ragkit.corpus.pdf import PdfText, read_pdfs
from ragkit.markdown import sections

MAX_BYTES = 64 << 20  # of one file
MAX_UNPACKED = 128 << 20  # of the text in a zip archive
TEXTS = (".md", ".rst", ".txt")
WEB_PAGES = (".html", ".htm")
OFFICE = (".docx", ".pptx")
ARCHIVES = (*OFFICE, ".xlsx", ".epub")
READABLE = (*TEXTS, *WEB_PAGES, ".pdf", *ARCHIVES, ".eml")

LABELS = "questions.jsonl"
"""The labels of the folder's documents (``ragkit.workbench.labels``): no document."""

_OTHER = "files of another kind left out"
_MIXED = "languages mixed, so a multilingual model and no stemming"
_HEAD = re.compile(r"<title\b[^>]*>(?P<title>.*?)</title\s*>|<(?:meta|link|base)\b[^>]*>", re.IGNORECASE | re.DOTALL)
_YAML = re.compile(r"---[ \t]*\n(?![ \t]*\n)(?P<head>(?:.*\n)*?)(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_TOML = re.compile(r"\+\+\+[ \t]*\n(?P<head>(?:.*\n)*?)\+\+\+[ \t]*(?:\n|\Z)")
_CHARSET = re.compile(rb"<meta\b[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_TWO_ALPHABETS = re.compile(r"[A-Za-z][\u0370-\u04ff]|[\u0370-\u04ff][A-Za-z]")
"""In a word: then its encoding was guessed wrong, and "qualità" became "qualitа" with a Cyrillic letter."""
_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
"""Byte order marks of UTF-16 and UTF-32."""


class _SkipError(Exception):
    """This file is left out; the message is the reason, as ``Corpus.notes`` counts it."""


def load_folder(path: str | Path) -> Corpus:
    """Every document below ``path``: ``.md .rst .txt .html .htm .pdf .docx .pptx .xlsx .epub .eml``, as Markdown.

    Ids are the paths without suffix; headings become sections, and a PDF has its pages. Hidden files and folders are
    passed over, and so is whatever a link leads to outside ``path``. Texts are decoded by their byte order mark, the
    charset that they declare, UTF-8, or else by ``chardet``. What cannot be read is left out, named in a
    warning and counted in ``Corpus.notes``; files of another kind are only counted. ``Corpus.report()`` has a row for
    every file, and names the pages of a PDF that have no text. ``Corpus.language`` is what most of the text is written
    in: it chooses model, stemmer and stop words (``ragkit.languages``), and a warning says so where it is mixed.

    A folder that has changed is simply loaded again. What takes long is kept by content: the text of a PDF
    (``read_pdfs``), the vectors of a document (``TokenStore``). The other kinds are read, and the indexes built, anew
    each time: that takes little, and cannot get out of step with the files.

    Raises:
        CorpusError: there is no such folder, or nothing in it can be read.
        MissingExtraError: there are files that need the extra ``formats``, and it is not installed.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise CorpusError(f"{path}: no such folder; expected a folder with {' '.join(READABLE)} files")
    documents: dict[str, Document] = {}
    reports: list[FileReport] = []
    skipped: dict[str, list[str]] = defaultdict(list)
    files = list(_files(root))
    pdfs = dict(read_pdfs([file for file in files if file.suffix.lower() == ".pdf" and _size(file) <= MAX_BYTES]))
    for file in files:
        name = Path(os.fsencode(file.relative_to(root)).decode("utf-8", "replace"))  # a name may be no UTF-8
        kind = file.suffix.lower().lstrip(".")
        try:
            page = _read(file, root, pdfs)
        except _SkipError as reason:
            skipped[str(reason)].append(str(name))
            reports.append(FileReport(name.as_posix(), kind, left_out=str(reason)))
            continue
        doc_id = name.with_suffix("").as_posix()
        doc_id = doc_id if doc_id not in documents else name.as_posix()
        title = page.title or name.stem
        metadata = {"project": root.name, "title": title, "source": name.as_posix()}
        metadata |= {"date": page.date} if page.date else {}
        documents[doc_id] = Document(doc_id, page.text, title, page.sections, metadata, page.pages)
        blank = tuple(p.number for p in page.pages if not page.text[p.start : p.end].strip())
        headings = sum(bool(section.path) for section in page.sections)
        sizes = len(page.pages), len(page.text), headings
        reports.append(FileReport(name.as_posix(), kind, *sizes, language_of(page.text), blank, page.dropped))
        if blank:
            skipped["pages without text (scans?)"].append(f"{name} {', '.join(map(str, blank))}")
    corpus = Corpus(root.name, tuple(documents.values()), files=tuple(reports))
    if corpus.language == "mul":
        skipped[_MIXED] = [f"{code} {share:.0%}" for code, share in corpus.languages.items()]
    notes = {reason: len(names) for reason, names in skipped.items()}
    if not documents:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in notes.items()) or "it is empty"
        raise CorpusError(f"{root}: no document in it can be read ({reasons}); expected {' '.join(READABLE)} files")
    warn_of(root.name, {f"{why}: {_some(names)}": len(names) for why, names in skipped.items() if why != _OTHER})
    return replace(corpus, notes=notes)


def folder_state(path: str | Path) -> list[tuple[str, int, int]]:
    """Name, time of the last change (ns) and size of every file below ``path``: differs when a document has changed.

    Cheap enough to be asked every few seconds: hidden files are passed over, and nothing is opened.
    """
    states = []
    for folder, folders, files in os.walk(Path(path).expanduser()):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(folder, name) for name in files if not name.startswith(".")):
            with suppress(OSError):  # gone since it was listed
                stat = file.stat()
                states.append((str(file), stat.st_mtime_ns, stat.st_size))
    return sorted(states)


def language_of(text: str) -> str:
    """The language of a text as an ISO 639-3 code, such as "eng"; "" where its beginning does not tell.

    >>> language_of("Every employee has thirty days of holiday, and they must be taken within the year.")
    'eng'
    """
    if find_spec("kreuzberg") is None:
        return ""
    kreuzberg = require("kreuzberg", "formats")
    detection = kreuzberg.LanguageDetectionConfig(enabled=True)
    config = kreuzberg.ExtractionConfig(language_detection=detection, use_cache=False)
    languages = kreuzberg.extract_bytes_sync(text[:10_000].encode(), "text/plain", config).detected_languages
    return str(languages[0]) if languages else ""


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


class _Read(NamedTuple):
    text: str
    title: str
    sections: tuple[Section, ...]
    date: str = ""
    pages: tuple[Page, ...] = ()
    dropped: tuple[str, ...] = ()


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0


def _read(file: Path, root: Path, pdfs: Mapping[Path, PdfText | str]) -> _Read:
    """A file as Markdown; its title is "" if it has none of its own."""
    kind = file.suffix.lower()
    if kind not in READABLE:
        raise _SkipError(_OTHER)
    if _size(file) > MAX_BYTES:
        raise _SkipError(f"files above {MAX_BYTES >> 20} MB left out")
    if kind in ARCHIVES:
        _check_archive(file)
    title, date, pages, dropped = "", "", tuple[Page, ...](), tuple[str, ...]()
    if kind == ".rst":
        text = _restructured(file, root)
    elif kind == ".md":
        text, title, date = _without_front_matter(_decode(file))
    elif kind == ".txt":
        text = _decode(file).strip("\n")
    elif kind in WEB_PAGES:
        page = _decode(file)
        title = next((html.unescape(m["title"]) for m in _HEAD.finditer(page) if m["title"]), "")
        text = _web_page(file, page)
    elif kind == ".eml":
        text, title, date = _mail(file)
    elif kind in OFFICE:
        text, title, date = _office(file)
    elif kind == ".pdf":
        pdf = pdfs[file]
        if isinstance(pdf, str):
            raise _SkipError(f"pdf files that {pdf} and are left out")
        text, title, date, pages, dropped = pdf
    else:
        result = _extract(file)
        text, title = result.content.rstrip(), result.metadata.get("title") or ""
        date = str(result.metadata.get("created_at") or "")[:10]
    if not text.strip():
        raise _SkipError("pdf files without text (scans?) left out" if pages else "files without words left out")
    if kind == ".txt":  # a line that begins with "#" is no heading here
        return _Read(text, "", (Section((), 0, 0, len(text)),))
    parts = sections(text)
    heading = next((section.path[-1] for section in parts if section.path), "")
    return _Read(text, " ".join(title.split()) or heading, parts, date, pages, dropped)


def _without_front_matter(text: str) -> tuple[str, str, str]:
    """A Markdown page without the YAML or TOML in front of it, and the title and date that it names ("": none).

    What begins with a rule and is no mapping stays as it is.

    >>> _without_front_matter("---\\ntitle: Tools\\n---\\n\\nOil the shears.")
    ('Oil the shears.', 'Tools', '')
    """
    head: Any = None
    if yaml := _YAML.match(text):
        with suppress(require("yaml", "formats").YAMLError):
            head = require("yaml", "formats").safe_load(yaml["head"]) or {}
    elif toml := _TOML.match(text):
        with suppress(tomllib.TOMLDecodeError):
            head = tomllib.loads(toml["head"])
    match = yaml or toml
    if match is None or not isinstance(head, dict):
        return text.strip("\n"), "", ""
    title, date = (str(head.get(key) or "") for key in ("title", "date"))
    return text[match.end() :].strip("\n"), title, date


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
    """What kreuzberg reads in ``file``, or in the HTML of ``page``: ``content`` and ``metadata``."""
    kreuzberg = require("kreuzberg", "formats")
    html_options = {"preprocessing": {"enabled": True, "remove_forms": False}}  # pages of ASP.NET are one form
    config = kreuzberg.ExtractionConfig(output_format="markdown", use_cache=False, html_options=html_options)
    with _left_out_if_broken(file):
        if page:
            return kreuzberg.extract_bytes_sync(page.encode(), "text/html", config)
        return kreuzberg.extract_file_sync(str(file), config=config)


def _web_page(file: Path, page: str) -> str:
    page = _HEAD.sub("", page)  # kreuzberg would write the head in front of the page
    page = re.sub(r"(<a\b[^>]*>)[ \t]+", r" \1", re.sub(r"[ \t]+</a>", "</a> ", page))  # and join words around links
    return str(_extract(file, page).content).rstrip()


def _mail(file: Path) -> tuple[str, str, str]:
    """A mail as Markdown, its subject, and the day on which it was sent."""
    mail = message_from_bytes(_bytes(file), policy=policy.default)
    with _left_out_if_broken(file):
        text = _message(file, mail)
    date = ""
    with suppress(TypeError, ValueError):
        date = f"{parsedate_to_datetime(_header(mail, 'Date')):%Y-%m-%d}"
    return text, _header(mail, "Subject"), date


def _header(mail: EmailMessage, name: str) -> str:
    """A header; "" if there is none, or ``email`` cannot make it out."""
    with suppress(Exception):
        return str(mail[name] or "")
    return ""


def _message(file: Path, mail: EmailMessage) -> str:
    """The subject as a heading, who writes to whom and when, the body, attached texts and mails; other files' names."""
    subject = _header(mail, "Subject")
    headers = [f"{name}: {value}" for name in ("From", "To", "Date") if (value := _header(mail, name))]
    blocks = [f"# {subject}" if subject else "", "; ".join(headers)]
    names = []
    for part in (mail.get_body(("plain", "html")), *mail.iter_attachments()):
        if part is None:
            continue
        kind = part.get_content_type()
        if kind == "message/rfc822":
            blocks.append(_message(file, part.get_content()))
        elif kind in ("text/plain", "text/html"):
            data = part.get_payload(decode=True)
            text = _text(data if isinstance(data, bytes) else b"", [part.get_content_charset() or "utf-8"])
            blocks.append(_web_page(file, text) if kind == "text/html" and text.strip() else text.strip())
        elif name := part.get_filename():
            names.append(name)
    return "\n\n".join(filter(None, [*blocks, f"Attachments: {', '.join(names)}" if names else ""]))


def _office(file: Path) -> tuple[str, str, str]:
    """A Word or PowerPoint file as Markdown, its title and date."""
    with _left_out_if_broken(file):
        text = slides_markdown(file) if file.suffix.lower() == ".pptx" else _web_page(file, word_html(file))
        return text, *properties(file)


def _check_archive(file: Path) -> None:
    """Leave out a zip archive that is broken, encrypted, or too large once it is unpacked."""
    kind = file.suffix.lower().lstrip(".")
    encrypted = _SkipError(f"{kind} files that need a password and are left out")
    if "EncryptedPackage".encode("utf-16-le") in _content(file):  # Office wraps the archive
        raise encrypted
    with _left_out_if_broken(file), zipfile.ZipFile(file) as archive:
        texts = [part for part in archive.infolist() if part.filename.endswith(("ml", "htm"))]
        if sum(part.file_size for part in texts) > MAX_UNPACKED:
            raise _SkipError(f"files above {MAX_UNPACKED >> 20} MB when unpacked left out")
        rights = "META-INF/encryption.xml"  # of a book; it may be about fonts alone
        if rights in archive.namelist() and b"html" in archive.read(rights):
            raise encrypted
        for part in texts:
            archive.read(part)  # compares the checksum, which kreuzberg does not


@contextmanager
def _left_out_if_broken(file: Path) -> Iterator[None]:
    """What a broken file raises, which may be anything, as the reason for leaving it out."""
    try:
        yield
    except _SkipError:
        raise
    except Exception as error:
        raise _SkipError(f"{file.suffix.lower().lstrip('.')} files that cannot be read and are left out") from error


def _decode(file: Path) -> str:
    """The text of a file: by its byte order mark, the charset a web page declares, UTF-8, or else by its letters."""
    data = _bytes(file)
    declared = _CHARSET.findall(data[:4096]) if file.suffix.lower() in WEB_PAGES else []
    return _text(data, [name.decode() for name in declared])


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _SkipError("files that cannot be opened left out") from error


def _bytes(file: Path) -> bytes:
    """The content of a file of text."""
    data = _content(file)
    if b"\0" in data and not data.startswith(_MARKS):
        raise _SkipError("binary files left out")
    return data


def _text(data: bytes, declared: Sequence[str] = ()) -> str:
    """The text of ``data`` in an encoding that is ``declared``, UTF-8, or else what ``chardet`` takes it for."""
    for encoding in (*declared, "utf-8"):
        with suppress(UnicodeDecodeError, LookupError):
            return _lines(data.decode(encoding))
    chardet = require("chardet", "formats")
    guess = chardet.detect(data, encoding_era=chardet.EncodingEra.MODERN_WEB, prefer_superset=True)["encoding"]
    with suppress(UnicodeDecodeError, LookupError):
        text = data.decode(guess or "")
        return _lines(data.decode("cp1252") if _TWO_ALPHABETS.search(text) else text)
    raise _SkipError("files whose encoding cannot be recognised (save them as UTF-8) left out")


def _lines(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")

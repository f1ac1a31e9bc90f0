"""A PDF as Markdown, and where each of its pages begins.

pdfplumber finds the words, their places and ruled tables. From the places follow: lines, columns and tables without
rules; paragraphs, whose lines are joined; headings, by the size and weight of their letters; lists; code, by its font;
and the running headers and footers, which are left out. A page without words (a scan) stays empty and is named.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, groupby, pairwise, zip_longest
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unicodedata import normalize

from tqdm.auto import tqdm

from ragkit.base import Page, require
from ragkit.files import atomic_write, home, sha256_file

VERSION = 3
"""Of what this module makes of a PDF: another one reads all files again."""

SECONDS = 120
"""How long one PDF may take for each megabyte that it has begun."""

BATCH = 16  # PDFs that a process reads: starting it takes half a second

MARGIN = 0.12
"""The part of a page's height, at its top and its bottom, in which running headers and footers stand."""

TITLE = 1.12
"""How much larger than ordinary text the letters of a heading are."""

_BULLET = re.compile(r"^([•◦▪●○‣·*–-]|\(cid:\d+\))\s+")  # (cid:127): a letter that the font does not name
_NUMBER = re.compile(r"^(\d{1,3}[.)]|[a-z]\))\s+")
_PAGE_NUMBER = re.compile(r"\W*(?:page|seite|p\.|página|pagina)?\s*#[+-]\d+\W*(?:(?:of|von|de|sur)?\s*\d+)?\W*", re.I)
"""A line that is only a page number, as ``_forms`` writes it."""
_BOLD = re.compile(r"bold|black|heavy|semibold|demi", re.IGNORECASE)
_MONO = re.compile(r"courier|mono|consol|menlo|typewriter|tt\d+$", re.IGNORECASE)  # CMTT10: of TeX
_RIGHT_TO_LEFT = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")  # written without spaces
_DATE = re.compile(r"D?:?(\d{4})(\d{2})(\d{2})")
_SENTENCE_END = (".", "!", "?", ":", ";", "…", "。", "！", "？")


class PdfText(NamedTuple):
    """What a PDF says: ``dropped`` are its running headers and footers, each once, with ``#`` for the page's number."""

    text: str
    title: str
    created: str
    pages: tuple[Page, ...]
    dropped: tuple[str, ...]


class Line(NamedTuple):
    """A line of text, or a table (then ``text`` is its Markdown and ``size`` 0); places in points from the top left."""

    text: str
    x0: float
    x1: float
    top: float
    bottom: float
    size: float = 0.0
    bold: bool = False
    mono: bool = False
    right: float = 0.0
    """The right edge of the column that the line stands in."""


def read_pdfs(files: Sequence[Path]) -> Iterator[tuple[Path, PdfText | str]]:
    """Each of ``files`` as Markdown, or in words why it cannot be read.

    A file is parsed once: its text, or why there is none, is kept in ragkit's home by the digest of its bytes. New ones
    are read by as many processes as there are cores, which also end a file that takes longer than ``SECONDS``.
    """
    require("pdfplumber", "formats")
    stored: dict[Path, Path] = {}
    for file in files:
        try:
            stored[file] = _stored(file)
        except OSError as error:
            yield file, f"cannot be opened ({error.strerror})"
    new = [file for file, path in stored.items() if not path.exists()]
    size = max(1, min(BATCH, len(new) // (os.cpu_count() or 1)))
    batches = [new[i : i + size] for i in range(0, len(new), size)]
    problems: dict[str, str] = {}
    if batches:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            done = tqdm(threads.map(_in_process, batches), "reading PDFs", len(batches), leave=False)
            problems = dict(chain.from_iterable(done))
    for file, path in stored.items():
        yield file, (_load(path) if path.exists() else problems.get(str(file), "cannot be read"))


def _stored(file: Path) -> Path:
    return home() / "pdfs" / f"{sha256_file(file)}-{VERSION}.json"


def _load(path: Path) -> PdfText | str:
    fields = json.loads(path.read_bytes())
    if isinstance(fields, str):
        return fields
    return PdfText(**fields | {"pages": tuple(Page(*p) for p in fields["pages"]), "dropped": tuple(fields["dropped"])})


def _in_process(files: Sequence[Path]) -> list[tuple[str, str]]:
    """Read ``files`` in a process of their own, into the store; the problems, each with its file."""
    command = [sys.executable, "-m", "ragkit.corpus.pdf", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"RAGKIT_HOME": str(home())})
    return [(file, reason) for line in done.stdout.splitlines() for file, reason in [json.loads(line)]]


def main(files: Sequence[str]) -> None:
    """Read ``files`` into the store, each text or why there is none; what may go well another time (a file that cannot
    be opened, a full disk) is a line of JSON on stdout: ``[file, reason]``."""
    for name in files:
        try:
            atomic_write(_stored(Path(name)), json.dumps(_content(Path(name))).encode())
        except (OSError, MemoryError) as error:
            sys.stdout.write(json.dumps([name, _reason(error)]) + "\n")


def _content(file: Path) -> dict[str, Any] | str:
    """The fields of a file's ``PdfText``, or why it cannot be read, now or later."""
    try:
        with _time_limit(SECONDS * (1 + file.stat().st_size // 1_000_000)):
            text = read_pdf(file)
        return text._asdict() | {"pages": [[page.number, page.start, page.end] for page in text.pages]}
    except Exception as error:  # a broken file breaks pdfminer in many ways; the others go on
        if isinstance(error, (OSError, MemoryError)) and not isinstance(error, TimeoutError):
            raise
        return _reason(error)


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError when the block takes longer; no limit where the system has no alarm (Windows)."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def give_up(*_: object) -> None:
        raise TimeoutError(f"take more than {SECONDS} s a megabyte")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_pdf(file: str | Path) -> PdfText:
    """The Markdown of a PDF with its pages.

    Raises:
        pdfplumber.utils.exceptions.PdfminerException: it is broken, or needs a password.
    """
    plumber = require("pdfplumber", "formats")
    pages: list[list[Line]] = []
    heights: list[float] = []
    with plumber.open(file) as pdf:
        about = pdf.metadata or {}
        for page in pdf.pages:
            pages.append(_lines(page))
            heights.append(float(page.height))
            page.close()  # the letters of a page take megabytes
    bodies, running = _without_running_lines(pages, heights)
    writer = _Writer(_Style.of(bodies), _hyphenated(bodies))
    for number, lines in enumerate(bodies, 1):
        writer.page(number, lines)
    text, spans = writer.finish()
    created = _DATE.match(str(about.get("CreationDate", "")))
    title = " ".join(str(about.get("Title") or "").split())
    return PdfText(text, title, "-".join(created.groups()) if created else "", spans, running)


def _reason(error: Exception) -> str:
    """Why a PDF gave nothing, as the report says it: "files that ... are left out"."""
    if isinstance(error, TimeoutError):
        return str(error)
    if isinstance(error, OSError):  # of the file, or of ragkit's home
        return f"cannot be opened, or their text not kept in {home()} ({error.strerror}),"
    return "need a password" if "PDFPasswordIncorrect" in repr(error) else "cannot be read"


# From words to lines


def _lines(page: Any) -> list[Line]:
    """The lines and tables of a page in reading order, those that stand sideways last."""
    page = _printed_once(page)
    tables = [(table.bbox, rows) for table in page.find_tables() if _is_table(rows := table.extract())]
    words: list[Word] = [
        {"x0": box[0], "x1": box[2], "top": box[1], "bottom": box[3], "size": 0.0, "text": _markdown_table(rows)}
        for box, rows in tables
    ]
    words += [
        word
        for word in page.extract_words(x_tolerance_ratio=0.2, extra_attrs=["size", "fontname"], return_chars=False)
        if word["upright"] and not any(_inside(word, box) for box, _ in tables)
    ]
    parts = [words, *(turned for clockwise in (False, True) if (turned := _sideways(page, clockwise)))]
    return [line for part in parts for column in _columns(part) for line in _column_lines(_rows(column))]


def page_words(page: Any) -> list[Word]:
    """The words of a page (of pdfplumber) in the order in which it is read, with the cells of its tables row by row.

    ``word["box"]`` is where it is printed: left, top, right and bottom, in points from the top left of the page.
    """
    page = _printed_once(page)
    upright = [word for word in page.extract_words(return_chars=False) if word["upright"]]
    for word in upright:
        word["box"] = word["x0"], word["top"], word["x1"], word["bottom"]
    parts = [upright, *(_sideways(page, clockwise) for clockwise in (False, True))]
    return [word for part in parts for column in _columns(part) for row in _rows(column) for word in row]


def _printed_once(page: Any) -> Any:
    """The page without letters that are printed twice in a place, which makes them look bold."""
    chars = sorted(page.chars, key=lambda char: (round(char["top"]), char["x0"]))
    twice = any(
        a["text"] == b["text"] != " " and abs(a["x0"] - b["x0"]) < 1 and abs(a["top"] - b["top"]) < 1
        for a, b in pairwise(chars)
    )
    return page.dedupe_chars() if twice else page


def _sideways(page: Any, clockwise: bool) -> list[Word]:
    """The words that are turned by a right angle, with the places that they have once they are turned back."""

    def is_turned(item: dict[str, Any]) -> bool:
        return item["object_type"] == "char" and not item["upright"] and (item["matrix"][1] < 0) == clockwise

    if not any(map(is_turned, page.chars)):
        return []
    line, char = ("rtl", "ttb") if clockwise else ("ltr", "btt")
    words = page.filter(is_turned).extract_words(
        extra_attrs=["fontname"], return_chars=False, line_dir_rotated=line, char_dir_rotated=char
    )
    for word in words:
        x0, x1, top, bottom = word["x0"], word["x1"], word["top"], word["bottom"]
        word["size"], word["box"] = x1 - x0, (x0, top, x1, bottom)
        word["x0"], word["x1"] = (top, bottom) if clockwise else (-bottom, -top)
        word["top"], word["bottom"] = (-x1, -x0) if clockwise else (x0, x1)
    return list(words)


Word = dict[str, Any]
"""What pdfplumber calls a word: ``text``, ``x0``, ``x1``, ``top``, ``bottom``, ``size``, ``fontname``. A ruled table is
one, too, of size 0."""

Row = list[Word]


def _is_table(rows: Sequence[Sequence[str | None]]) -> bool:
    """Two columns or more; most of the cells of one row, or three cells of several, have words."""
    filled = sum(bool(cell and cell.strip()) for row in rows for cell in row)
    return bool(rows) and len(rows[0]) > 1 and filled > (1 if len(rows) == 1 else 2)


def _inside(word: Word, box: tuple[float, float, float, float]) -> bool:
    x, y = float(word["x0"] + word["x1"]) / 2, _middle(word)
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _markdown_table(rows: Iterable[Iterable[str | None]]) -> str:
    """A Markdown table; the first row is its head. A cell's own line breaks become spaces."""
    cells = [[_cell(cell or "").replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]])


def _cell(text: str) -> str:
    return " ".join(_in_reading_order(line.split()) for line in text.splitlines())


def _in_reading_order(words: Sequence[str]) -> str:
    """The words of a line; Arabic and Hebrew are drawn from right to left, with other words from left to right.

    >>> _in_reading_order(["2024", "ץרמ", "ףוסב"])
    'בסוף מרץ 2024'
    """

    def is_latin(word: str) -> bool:
        return bool(re.search(r"[^\W\d_]", word)) and not _RIGHT_TO_LEFT.search(word)

    turned = [
        normalize("NFKC", word[::-1].translate(_MIRRORED)) if _RIGHT_TO_LEFT.search(word) else word for word in words
    ]
    if sum(map(is_latin, words)) >= sum(bool(_RIGHT_TO_LEFT.search(word)) for word in words):
        return " ".join(turned)
    runs = (list(run)[:: -1 if latin else 1] for latin, run in groupby(reversed(turned), is_latin))
    return re.sub(r" (?=[.,:;!?،؛؟])", "", " ".join(chain.from_iterable(runs)))


def _rows(words: Iterable[Word]) -> list[Row]:
    """Words that stand beside each other, from the top to the bottom, each row from left to right."""
    rows: list[Row] = []
    for word in sorted(words, key=_middle):
        if rows and any(_beside(word, other) for other in rows[-1]):
            rows[-1].append(word)
        else:
            rows.append([word])
    return [sorted(row, key=lambda w: float(w["x0"])) for row in rows]


def _beside(a: Word, b: Word) -> bool:
    """Whether the middle of one is within the height of the other, as that of a raised or lowered figure is."""
    return bool(a["top"] <= _middle(b) <= a["bottom"] or b["top"] <= _middle(a) <= b["bottom"])


def _middle(word: Word) -> float:
    return float(word["top"] + word["bottom"]) / 2


def _columns(words: Sequence[Word]) -> list[list[Word]]:
    """The words of a page, or of its columns: columns of text between lines that cross the space between them."""
    rows = _rows(words)
    gutter = _gutter(rows)
    if gutter is None:
        return [list(words)]
    parts: list[list[Word]] = [[], [], []]  # across, left, right: until a line crosses again
    columns: list[list[Word]] = []
    for row in rows:
        crosses = any(word["x0"] < gutter < word["x1"] for word in row)
        if crosses:
            columns += [part for part in parts if part]
            parts = [row, [], []]
        else:
            parts[1] += [word for word in row if word["x1"] <= gutter]
            parts[2] += [word for word in row if word["x0"] >= gutter]
    columns += [part for part in parts if part]
    return [inner for column in columns for inner in (_columns(column) if len(column) < len(words) else [column])]


def _gutter(rows: Sequence[Row]) -> float | None:
    """Where the space between two columns of text stands; ``None`` for one column."""
    if len(rows) < 6:
        return None
    left, right = min(row[0]["x0"] for row in rows), max(word["x1"] for row in rows for word in row)
    places = [left + (right - left) * (0.3 + 0.01 * step) for step in range(41)]
    crossed = {x: sum(any(w["x0"] - 3 < x < w["x1"] + 3 for w in row) for row in rows) for x in places}
    fewest = min(crossed.values())
    free = [x for x in places if crossed[x] == fewest]
    x = free[len(free) // 2]
    beside = [row for row in rows if not any(w["x0"] < x < w["x1"] for w in row)]
    sides = [[w for row in beside for w in row if w["x1"] <= x], [w for row in beside for w in row if w["x0"] >= x]]
    return x if fewest <= 0.3 * len(rows) and all(_is_prose(_rows(side)) for side in sides) else None


def _column_lines(rows: Sequence[Row]) -> list[Line]:
    """The lines of a column; rows with the same gaps are a table without rules."""
    right = max((row[-1]["x1"] for row in rows), default=0.0)
    lines: list[Line] = []
    i = 0
    while i < len(rows):
        shared, end = _gaps(rows[i]), i + 1
        while shared and end < len(rows):
            common = [both for a in shared for b in _gaps(rows[end]) if (both := _overlap(a, b))]
            if not common or rows[end][0]["top"] - rows[end - 1][0]["bottom"] > 2 * rows[end][0]["size"]:
                break
            shared, end = common, end + 1
        table = _table_of(rows[i:end], shared)
        lines += [table] if table else [_line(row, right) for row in rows[i:end]]
        i = end
    return lines


def _gaps(row: Row) -> list[tuple[float, float]]:
    """The spaces of a row that are wider than those between words. Code has none, nor has a line that was stretched."""
    spaces = [(a["x1"], b["x0"]) for a, b in pairwise(row)]
    widths = [end - start for start, end in spaces]
    stretched = len(widths) > 2 and max(widths) - min(widths) < 1
    if stretched or any(_MONO.search(word.get("fontname", "")) for word in row):
        return []
    narrow, size = min(widths, default=0.0), row[0]["size"]
    least = max(0.8 * size, 2 * narrow if narrow < 0.8 * size else 0.0)
    return [space for space, width in zip(spaces, widths, strict=True) if width > least]


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float] | None:
    both = max(a[0], b[0]), min(a[1], b[1])
    return both if both[1] - both[0] > 4 else None


def _table_of(rows: Sequence[Row], gaps: Sequence[tuple[float, float]]) -> Line | None:
    """Three rows or more that share ``gaps`` are a table, unless its first column are the signs of a list."""
    if len(rows) < 3 or not gaps:
        return None
    borders = [float("-inf"), *sorted((a + b) / 2 for a, b in gaps), float("inf")]
    cells = [
        [" ".join(w["text"] for w in row if lower <= w["x0"] < upper) for lower, upper in pairwise(borders)]
        for row in rows
    ]
    if all(_BULLET.match(f"{row[0]} ") or _NUMBER.match(f"{row[0]} ") for row in cells):
        return None
    x0, x1 = min(row[0]["x0"] for row in rows), max(row[-1]["x1"] for row in rows)
    return Line(_markdown_table(cells), x0, x1, rows[0][0]["top"], rows[-1][0]["bottom"])


def _is_prose(column: Sequence[Row]) -> bool:
    """Most lines of a column of text are long and fill it; the cells of a table are short."""
    lines = [row for row in column if row]
    if len(lines) < 3:
        return False
    left, right = min(row[0]["x0"] for row in lines), max(row[-1]["x1"] for row in lines)
    filled = [(row[-1]["x1"] - row[0]["x0"]) / (right - left or 1) for row in lines]
    return median(filled) > 0.75 and median(map(_count_words, lines)) >= 4


def _count_words(row: Row) -> int:
    """About three characters of Chinese or Japanese are a word."""
    return max(len(row), sum(len(_CJK.findall(word["text"])) for word in row) // 3)


def _line(row: Row, right: float) -> Line:
    if not row[0]["size"]:
        return Line(row[0]["text"], row[0]["x0"], row[0]["x1"], row[0]["top"], row[0]["bottom"])
    sizes = Counter[float]()
    for word in row:
        sizes[round(word["size"] * 2) / 2] += len(word["text"])
    size = sizes.most_common(1)[0][0]
    fonts = [word["fontname"] for word in row]
    mono = all(_MONO.search(font) for font in fonts)
    text = _spaced(row, size) if mono else _in_reading_order([word["text"] for word in row])
    bold = all(_BOLD.search(font) for font in fonts)
    top, bottom = min(word["top"] for word in row), max(word["bottom"] for word in row)
    return Line(text, row[0]["x0"], row[-1]["x1"], top, bottom, size, bold, mono, right)


def _spaced(row: Row, size: float) -> str:
    """The words of a line of code with the spaces between them, as wide as the letters of its font."""
    width = 0.6 * size  # of a letter, in nearly every font whose letters are equally wide
    text = ""
    for word in row:
        spaces = round((word["x0"] - row[0]["x0"]) / width) - len(text)
        text += " " * max(spaces, bool(text)) + word["text"]
    return text


# Running headers and footers


def _in_margin(line: Line, height: float) -> bool:
    return line.size > 0 and (line.bottom < MARGIN * height or line.top > (1 - MARGIN) * height)


def _forms(line: Line, number: int, body: float) -> set[str]:
    """How a line may repeat on the pages: as it is, or with a number of its as the distance to the page's own number.

    The number in a title, or in bold, says which one it is, if there is more to the line: it does not count the pages.

    >>> sorted(_forms(Line("Page 3 of 9", 0, 0, 0, 0, size=9), number=3, body=10))
    ['Page #+0 of 9', 'Page 3 of #+6', 'Page 3 of 9']
    """
    text = " ".join(line.text.split())
    numbers = re.finditer(r"\d{1,4}", text)
    counted = {f"{text[: n.start()]}#{int(n[0]) - number:+}{text[n.end() :]}" for n in numbers}
    if line.bold or line.size >= TITLE * body:
        counted = set(filter(_PAGE_NUMBER.fullmatch, counted))
    return {text} | counted


def _without_running_lines(
    pages: Sequence[Sequence[Line]], heights: Sequence[float]
) -> tuple[list[list[Line]], tuple[str, ...]]:
    """The pages without their running headers and footers, and what these say.

    Such lines are the outermost of a page, stand apart from its text, and repeat in the margins of at least three pages
    and of two in five. A page number alone need repeat on two.
    """
    body = _Style.of(pages).body
    counts = Counter[str]()
    for number, (lines, height) in enumerate(zip(pages, heights, strict=True), 1):
        counts.update({form for line in lines if _in_margin(line, height) for form in _forms(line, number, body)})
    often = max(3, 0.4 * len(pages))
    running = {form for form, count in counts.items() if count >= (2 if _PAGE_NUMBER.fullmatch(form) else often)}
    bodies, dropped = [], set[str]()
    for number, (lines, height) in enumerate(zip(pages, heights, strict=True), 1):
        repeated = {line: form for line in lines for form in sorted(_forms(line, number, body) & running)}
        outer = [line for sign in (1, -1) for line in _outermost(lines, repeated, height, sign)]
        bodies.append([line for line in lines if line not in outer])
        dropped |= {re.sub(r"#[+-]\d+", "#", repeated[line]) for line in outer}
    return bodies, tuple(sorted(dropped))


def _outermost(lines: Sequence[Line], repeated: Collection[Line], height: float, sign: int) -> list[Line]:
    """The ``repeated`` lines in the margin at the top (``sign`` 1) or the bottom (-1), if a space divides them from
    the text."""
    inwards = sorted(lines, key=lambda line: sign * line.top)
    run: list[Line] = []
    apart: list[Line] = []
    for line, inner in zip_longest(inwards, inwards[1:]):
        if line not in repeated or line.mono or not _in_margin(line, height):
            break
        run.append(line)
        if inner is None or max(inner.top - line.bottom, line.top - inner.bottom) > 0.7 * line.size:
            apart = [*run]
    return apart


# From lines to Markdown


class _Style(NamedTuple):
    """The size of ordinary text, and the sizes of headings, the largest first."""

    body: float
    headings: tuple[float, ...]
    spacing: float

    @classmethod
    def of(cls, pages: Sequence[Sequence[Line]]) -> _Style:
        sizes = Counter[float]()
        for line in (line for lines in pages for line in lines if line.size and not line.mono):
            sizes[line.size] += len(line.text)
        body = sizes.most_common(1)[0][0] if sizes else 0.0
        large = tuple(sorted((size for size in sizes if size >= TITLE * body), reverse=True))
        steps = [b.top - a.top for lines in pages for a, b in pairwise(lines) if a.size == b.size == body]
        steps = [step for step in steps if 0 < step < 3 * body]
        return cls(body, large, median(steps) if steps else 1.2 * body)

    def heading(self, line: Line) -> int:
        """The level of a heading, 0 for other lines."""
        if not line.size or line.mono or len(line.text) > 160 or not re.search(r"\w", line.text):
            return 0
        if line.size in self.headings:
            return min(self.headings.index(line.size) + 1, 5)
        alone = line.bold and len(line.text) <= 80 and not line.text.endswith((".", ",", ";", ":"))
        return min(len(self.headings) + 1, 6) if alone and line.size >= self.body else 0


def _hyphenated(pages: Sequence[Sequence[Line]]) -> set[str]:
    """The words that are written with a hyphen within a line."""
    return {w.lower() for lines in pages for line in lines for w in re.findall(r"\w+-\w+", line.text)}


@dataclass
class _Writer:
    style: _Style
    hyphenated: set[str]
    blocks: list[str] = field(default_factory=list)
    """What is written, with what divides it."""
    length: int = 0
    """Of all ``blocks``."""
    text: str = ""
    """The block that is being written."""
    starts: list[tuple[int, int | None]] = field(default_factory=list)
    """Each page's number, and where its text begins (``None``: it has none)."""
    last: Line | None = None
    block: str = ""
    """Its kind: "heading 1", "paragraph", "item", "code", "table"."""
    code_from: float = 0.0
    """Where its first line begins if it is code, in points from the left."""

    def page(self, number: int, lines: Sequence[Line]) -> None:
        self.starts.append((number, None))
        for line in lines:
            self.add(line, first=self.starts[-1][1] is None)

    def add(self, line: Line, first: bool) -> None:
        kind, text = self._kind(line)
        if kind == "code":
            self.code_from = line.x0 if self.block != "code" else self.code_from
            text = " " * round((line.x0 - self.code_from) / (0.6 * line.size)) + text
        if kind == self.block and self._continues(line, kind, first):
            before = len(self.text)
            self._join(text, kind)
            start = min(before + (self.text[before : before + 1] == " "), len(self.text) - 1)
        else:
            self._close()
            if self.blocks:
                self._write("\n" if kind == self.block == "item" else "\n\n")
            start, self.text, self.block = 0, self._begin(kind) + text, kind
        if first:
            self.starts[-1] = (self.starts[-1][0], self.length + start)
        self.last = line

    def _kind(self, line: Line) -> tuple[str, str]:
        if not line.size:
            return "table", line.text
        if line.mono:
            return "code", line.text
        if level := self.style.heading(line):
            return f"heading {level}", line.text
        if bullet := _BULLET.match(line.text):
            return "item", f"- {line.text[bullet.end() :]}"
        if _NUMBER.match(line.text):
            return "item", line.text
        if self.block == "item" and self.last and line.x0 > self.last.x0 - 1 and self._near(line):
            return "item", line.text
        return "paragraph", re.sub(r"^(#+ |>|```|~~~)", r"\\\1", line.text)

    def _near(self, line: Line) -> bool:
        return self.last is not None and 0 < line.top - self.last.top < 1.35 * max(self.style.spacing, line.size)

    def _continues(self, line: Line, kind: str, first: bool) -> bool:
        last = self.last
        if last is None or kind == "table":
            return False
        if kind == "code":
            return first or line.top - last.top < 3 * line.size
        if kind.startswith("heading"):
            return not first and line.size == last.size and line.top - last.top < 1.6 * line.size
        if kind == "item":
            return not (_BULLET.match(line.text) or _NUMBER.match(line.text))
        ended = last.text.endswith(_SENTENCE_END)
        if first or line.top < last.top:  # another page, or another column
            return not ended and line.size == last.size
        short = last.right - last.x1 > 0.25 * (last.right - last.x0)
        return self._near(line) and line.size == last.size and not (short and ended)

    def _begin(self, kind: str) -> str:
        if kind.startswith("heading"):
            return "#" * int(kind[-1]) + " "
        return "```\n" if kind == "code" else ""

    def _join(self, text: str, kind: str) -> None:
        cut, rest = re.search(r"(\w+)-$", self.text[-80:]), re.match(r"[^\W\d_]+", text)
        if kind == "code":
            self.text += "\n" + text
        elif self.text.endswith("\u00ad"):
            self.text = self.text[:-1] + text
        elif cut and rest and text[0].islower():
            is_written_so = f"{cut[1]}-{rest[0]}".lower() in self.hyphenated
            self.text = (self.text if is_written_so else self.text[:-1]) + text
        else:
            unspaced = _CJK.match(self.text[-1:]) and _CJK.match(text)
            self.text += text if unspaced else f" {text}"

    def _close(self) -> None:
        if self.text:
            self._write(self.text + "\n```" * (self.block == "code"))
            self.text = ""

    def _write(self, text: str) -> None:
        self.blocks.append(text)
        self.length += len(text)

    def finish(self) -> tuple[str, tuple[Page, ...]]:
        self._close()
        pages: list[Page] = []
        end = self.length
        for number, start in reversed(self.starts):
            begin = end if start is None else start
            pages.append(Page(number, begin, end))
            end = begin
        return "".join(self.blocks), tuple(reversed(pages))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Show hits, answers and chunks so that a reader sees at a glance what was found, where, and why.

Each function returns a ``View``: HTML for a notebook and plain text for everything else. Five rules hold
for the HTML:

- **Nothing from a document is trusted**: every passage, title and id goes through ``html.escape``, and the
  block is closed to MathJax, which would otherwise typeset the text between two dollar signs.
- **Code is code**: what stands in a fence is set in ``<pre><code>``.
- **Lines are lines**: they end in ``<br>``, not in a style that somebody may strip.
- **It reads on light and on dark**: text keeps the page's own colour on transparent tints (a mark brings both
  of its own), accents come from ``ragkit.figures``' palette, which colour-blind readers tell apart.
- **It reads without any style**: Jupyter and GitHub strip styles from notebooks they do not trust, so
  the meaning is in ``<mark>``, ``<b>`` and words, and the colours only help.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from html import escape
from itertools import count, pairwise
from typing import TYPE_CHECKING

from ragkit.base import Answer, Chunk, Citation, Document, Hit, InputError, Question, Span
from ragkit.evaluation.compare import FOUND, IN_PART
from ragkit.evaluation.losses import ADVICE
from ragkit.figures import BLUE, GREEN, ORANGE, SKY, VERMILLION
from ragkit.generation.extractive import stems
from ragkit.markdown import blocks, closed

if TYPE_CHECKING:
    import pandas as pd
    from markdown_it import MarkdownIt

WINDOW = 6000
"""Characters of a long document that ``show_chunks`` draws."""
HOVERED = 20
"""Questions of a stage that ``show_lost`` names under the mouse."""
ABOVE = 160
"""Characters of a source that ``show_answer`` leaves above the first quote; what stands before them is folded."""

_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0"
_PASSAGE = f"{_TEXT};max-height:260px;overflow:auto"
_CODE = '<pre style="margin:4px 0;padding:4px 8px;overflow:auto;background-color:rgba(127,127,127,0.12)"><code>'
_HIT = "background-color:rgba(86,180,233,0.30)"
_TWICE = "background-color:rgba(204,121,167,0.30)"
_WORD = f"border-bottom:2px solid {ORANGE}"
# <mark> is black on yellow, and Jupyter strips "inherit" from it: it must bring both its colours.
_GOLD = "background-color:#8fd3c0;color:#000000"
_FENCE = re.compile(r"[ \t]*+(?:(?:[-+*]|\d{1,9}[.)])[ \t]++)*+(?:```|~~~)")

_shown_answers = count(1)

Piece = tuple[int, int]
"""Character offsets ``(start, end)`` in a text."""


@dataclass(frozen=True)
class View:
    """What a cell shows: ``html`` in a notebook, ``text`` elsewhere."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


class StaticView:
    """A widget that brings HTML for pages where no kernel runs: GitHub, or a notebook that was not yet run here.

    To be named before the widget's class: ``class Lab(StaticView, VBox)``. Where a kernel runs, the widget is shown.
    """

    def static_html(self) -> str:
        """What the widget shows now, without its controls."""
        return f"<pre>{escape(repr(self))}</pre>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        live: dict[str, object] = super()._repr_mimebundle_(include=include, exclude=exclude)  # type: ignore[misc]
        note = "<p><small>Without its controls: run this cell to use them.</small></p>"
        return live | {"text/html": self.static_html() + note}


def show_hits(hits: Sequence[Hit], question: Question | str | None = None, gold: Iterable[Span] | None = None) -> View:
    """The hits in order, each with its document, section path, score and passage; click one to open it.

    Words of the question are underlined and gold spans marked. ``gold`` is the question's own where it has some.
    """
    text = question.text if isinstance(question, Question) else question or ""
    spans = tuple(gold) if gold is not None else question.gold if isinstance(question, Question) else ()
    rows, lines = [], []
    for rank, hit in enumerate(hits, 1):
        chunk = hit.chunk
        inside = _gold_pieces(chunk, spans)
        words = word_matches(chunk.text, text)
        flag = _flag(chunk, spans)
        snippet = _snippet(chunk.text, inside or words)
        whole = snippet == chunk.text  # then there is nothing to unfold, and no need to show it twice
        head = f"<b>{rank}</b> · {_where(chunk)} · score {hit.score:.2f}<b>{flag}</b>"
        peek = "" if whole else f"<br><small>{escape(snippet)}</small>"
        passage = _with_code(chunk.text, words, inside)
        rows.append(_details(head + peek, passage, GREEN if inside else SKY, is_open=whole or rank == 1))
        lines += [f"{rank:>2}  score {hit.score:.2f}  {_where_text(chunk)}{flag}", f"    {snippet}"]
    count = f"{len(hits)} passage{'' if len(hits) == 1 else 's'}" if hits else "No passage was found."
    title = f"Question: {text}" if text else count
    return View(
        _block(f"<b>{escape(title)}</b>" + "".join(rows) + ("" if hits else f"<div>{count}</div>")),
        "\n".join([title, *(lines or [count] * bool(text))]),
    )


def show_answer(answer: Answer) -> View:
    """The answer, its sources with document and section, the milliseconds of each stage, and who wrote it.

    Click ``[1]``, or the source itself, to read it from the first quote on: what the answer quotes is marked, and what
    stands far above it is folded. The section (of a PDF without headings: the page) is that of the quotes.
    """
    accent = VERMILLION if answer.abstained else ORANGE if answer.reason else GREEN
    label = ("No answer" if answer.abstained else "Answer") + (f" ({answer.reason})" if answer.reason else "")
    quotes: dict[int, list[Citation]] = {}
    for citation in answer.citations:
        quotes.setdefault(citation.number, []).append(citation)
    # Unique on a page, which can show several notebooks, and the same when the notebook is run again.
    digest = sha256(f"{answer.question}\n{answer.text}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
    place = f"source-{digest}-{next(_shown_answers)}"
    anchors = {number: f"{place}-{number}" for number in quotes}
    sources = "".join(_source(number, cited, anchors[number]) for number, cited in quotes.items())
    footer = " · ".join(_footer(answer))
    html = (
        f"<b>Question: {escape(answer.question)}</b>"
        f'<div style="margin:6px 0;padding-left:8px;border-left:4px solid {accent}"><small>{escape(label)}</small>'
        f"{_rendered(answer.text, anchors)}</div>{sources}<small>{escape(footer)}</small>"
    )
    text = [f"Question: {answer.question}", f"{label}: {answer.text}"]
    text += [f"[{number}] {_where_text(cited[0].chunk, _sections(cited))}" for number, cited in quotes.items()]
    return View(_block(html), "\n".join([*text, footer] if footer else text))


def reveal(thing: object, label: str = "Show the result") -> View:
    """``thing`` behind a line to click: a table, a ``Comparison``, a ``View`` or a text that is not to be seen at once.

    Closed after Run All, and on a page without Python. The plain text is ``repr(thing)``, as if it were shown itself.

    >>> reveal("Twelve.", "Your guess first").html.count("<details>"), reveal(12)
    (1, 12)

    Raises:
        InputError: ``thing`` is a figure, which would bring all of plotly with it: show it in a cell of its own.
    """
    if hasattr(thing, "to_plotly_json"):
        raise InputError(
            "a figure can't be revealed: expected a table, an answer or a text; show figures in a cell of their own"
        )
    draw = getattr(thing, "_repr_html_", None)
    html = draw() if draw and not isinstance(thing, type) else None
    inner = html or f"<pre>{escape(thing if isinstance(thing, str) else repr(thing))}</pre>"
    return View(_block(f"<details><summary>{escape(label)}</summary>{inner}</details>"), repr(thing))


def show_passage(chunk: Chunk, is_open: bool = False) -> View:
    """One passage to unfold, or to read at once, under its document and section."""
    return View(_block(_details(_where(chunk), _with_code(chunk.text), SKY, is_open)), _where_text(chunk))


def show_chunks(
    document: Document, chunks: Sequence[Chunk], gold: Iterable[Span] | None = None, hits: Sequence[Hit] = ()
) -> View:
    """The document with its chunks drawn in: a numbered border where one begins, overlaps, hits and gold tinted.

    Of a long document, ``WINDOW`` characters are drawn: from the start, or around the first gold span. Without gold
    they begin a little above the best of those ``hits``, a whole ranked list, that lie in this document.
    """
    mine = sorted((c for c in chunks if c.doc_id == document.id), key=lambda c: (c.start, c.end))
    spans = sorted(s for s in gold or () if s.doc_id == document.id)
    ranks = {rank: hit.chunk.span for rank, hit in enumerate(hits, 1) if hit.chunk.doc_id == document.id}
    hit_places = [(span.start, span.end) for span in ranks.values()]
    first = max(0, spans[0].start - WINDOW // 4) if spans and len(document.text) > WINDOW else 0
    if hit_places and not spans:
        first = max(0, hit_places[0][0] - ABOVE)
    last = min(len(document.text), first + WINDOW)
    code = [(max(first, a), min(last, b)) for a, b in _code_blocks(document.text) if a < last and b > first]
    marked = [(span.start, span.end) for span in spans]
    pieces = []
    for start, end in _cuts(first, last, [*((c.start, c.end) for c in mine), *hit_places, *marked, *code]):
        over = [i for i, c in enumerate(mine) if c.start <= start < c.end]
        label = "".join(f"<sup><b>▏{i + 1}</b></sup>" for i in over if mine[i].start == start)
        label += "".join(f"<sup><b> hit {rank} </b></sup>" for rank, span in ranks.items() if span.start == start)
        line = [f"border-bottom:2px solid {(BLUE, ORANGE)[over[-1] % 2]}"] if over else ["opacity:0.55"]
        tint = [_HIT] if _covered(start, hit_places) else []
        tint = [_TWICE] if len(over) > 1 else tint
        inner = highlight(document.text, gold=marked, start=start, end=end)
        inner = inner if _covered(start, code) else inner.replace("\n", "<br>")
        piece = f'{label}<span style="{";".join(line + tint)}">{inner}</span>'
        pieces += [_CODE * any(start == a for a, _ in code), piece, "</code></pre>" * any(end == b for _, b in code)]
    unseen = len(document.text) - (last - first)
    count = f"{len(mine)} chunk{'' if len(mine) == 1 else 's'}"
    key = [count, "▏n begins chunk n", "pink: in two chunks or more"]
    key += ["blue: a hit, with its rank"] * bool(hit_places) + ["green: the gold answer"] * bool(spans)
    key += [f"{unseen} characters not drawn"] * bool(unseen)
    html = (
        f"<b>{escape(document.id)}</b><br><small>{' · '.join(key)}</small>"
        f'<div style="{_TEXT};max-height:420px;overflow:auto">{"".join(pieces)}</div>'
    )
    return View(_block(html), "\n".join([f"{document.id}: {count}", *_chunk_lines(mine, spans, ranks)]))


def show_lost(lost: Mapping[str, Sequence[str]], notes: Mapping[str, str] | None = None) -> View:
    """A bar a stage, as long as its questions are many; click one for what to do about it, and for the questions.

    Args:
        lost: the questions by the stage that lost them (``ragkit.evaluation.losses.questions_lost``).
        notes: what to say of single questions.

    >>> show_lost({"found": ["Where?", "Who?"], "not retrieved": ["Why?"]})
    2  found
    1  not retrieved
       Why?
    """
    most, rows, lines = max(map(len, lost.values()), default=1), [], list[str]()
    for stage, questions in lost.items():
        colour = GREEN if stage == FOUND else SKY if stage == IN_PART else VERMILLION
        width = 100 * len(questions) / most
        bar = f'<span style="display:block;height:10px;width:{width:.1f}%;background-color:{colour}"></span>'
        items = "".join(f"<li>{escape(text)}{_note((notes or {}).get(text, ''))}</li>" for text in questions)
        hover = "&#10;".join(map(escape, questions[:HOVERED]))
        rows.append(
            f'<details style="margin:6px 0"><summary title="{hover}">'
            f"<b>{len(questions)}</b> {escape(stage)}{bar}</summary>"
            f"<p>{escape(ADVICE.get(stage, ''))}</p><ul>{items}</ul></details>"
        )
        lines += [f"{len(questions)}  {stage}", *(f"   {text}" for text in questions if stage != FOUND)]
    return View(_block("".join(rows)), "\n".join(lines))


def show_table(table: pd.DataFrame) -> View:
    """A table of texts in any script: every cell escaped, and written in its own direction (Arabic from the right)."""

    def row(tag: str, label: object, cells: Iterable[object]) -> str:
        style = "text-align:start;vertical-align:top;white-space:pre-wrap;max-width:42em;padding:2px 10px 2px 0"
        inner = "".join(f'<{tag} dir="auto" style="{style}">{_with_breaks(str(cell))}</{tag}>' for cell in cells)
        return f'<tr><th style="{style}">{escape(str(label))}</th>{inner}</tr>'

    rows = [row("td", label, cells) for label, cells in zip(table.index, table.to_numpy(), strict=True)]
    return View(_block(f"<table>{row('th', '', table.columns)}{''.join(rows)}</table>"), table.to_string())


def _note(text: str) -> str:
    return f"<br><small>{escape(text)}</small>" * bool(text)


def word_matches(text: str, question: str) -> list[Piece]:
    """Offsets of the words of ``text`` that stand in ``question``: stopwords aside, endings ignored.

    >>> word_matches("Workers wait.", "How do I stop a worker?")
    [(0, 7)]
    """
    wanted = stems(question)
    return [m.span() for m in re.finditer(r"[^\W_]+", text) if wanted & stems(m[0])]


def highlight(
    text: str, words: Sequence[Piece] = (), gold: Sequence[Piece] = (), start: int = 0, end: int | None = None
) -> str:
    """``text[start:end]`` escaped, with ``<b>`` around the pieces ``words`` and ``<mark>`` around ``gold``.

    >>> highlight("a < b", gold=[(0, 1)]).count("<mark")
    1
    """
    out = []
    for a, b in _cuts(start, len(text) if end is None else end, [*words, *gold]):
        inner = escape(text[a:b])
        if _covered(a, words):
            inner = f'<b style="{_WORD}">{inner}</b>'
        if _covered(a, gold):
            inner = f'<mark style="{_GOLD}">{inner}</mark>'
        out.append(inner)
    return "".join(out)


def _with_code(
    text: str, words: Sequence[Piece] = (), gold: Sequence[Piece] = (), start: int = 0, end: int | None = None
) -> str:
    """``highlight`` with ``<br>`` at line ends, and with blocks of code, without their fences, in ``<pre><code>``."""
    stop = len(text) if end is None else end
    out, at = list[str](), start

    def prose(first: int, last: int) -> None:
        if first < last:
            html = highlight(text, words, gold, first, first + len(text[first:last].rstrip("\n")))
            out.append(html.replace("\n", "<br>"))

    for a, b in _code_blocks(text):
        if b <= start or a >= stop:
            continue
        prose(at, a)
        lines = text[a:b].split("\n")
        first = a + (len(lines[0]) + 1 if _FENCE.match(lines[0]) else 0)
        last = b - (len(lines[-1]) + 1 if len(lines) > 1 and _FENCE.match(lines[-1]) else 0)
        first, last = max(first, start), min(last, stop)
        out.append(f"{_CODE}{highlight(text, words, gold, first, max(first, last))}</code></pre>")
        at = b + (text[b : b + 1] == "\n")
    prose(at, stop)
    return "".join(out)


def _rendered(text: str, anchors: Mapping[int, str]) -> str:
    """The blocks of Markdown as HTML: paragraphs, lists, tables, code. ``[1]`` is a link to ``anchors[1]``.

    What stands within a line is shown as it was written, but for `` `code` ``: a document's link or picture, quoted,
    must not become one.
    """
    out = []
    for token in _blocks_of_answers().parse(closed(text)):
        tag = "/" * (token.nesting < 0) + token.tag
        if token.type == "inline":
            out.append(_line(token.content, anchors))
        elif token.type in ("fence", "code_block"):
            out.append(f"{_CODE}{escape(token.content.rstrip())}</code></pre>")
        elif token.type == "heading_open":
            out.append("<p><b>")
        elif token.type == "heading_close":
            out.append("</b></p>")
        elif not token.hidden:  # the paragraph of a list item that needs none
            start = token.attrGet("start")
            out.append(f"<{tag}>" if start is None else f'<{tag} start="{int(start)}">')
    return "".join(out)


def _line(text: str, anchors: Mapping[int, str]) -> str:
    """A paragraph of an answer: line breaks, `` `code` `` and ``[1]``."""

    def marker(match: re.Match[str]) -> str:
        anchor = anchors.get(int(match[1]))
        return f'<a href="#{anchor}"><b>{match[0]}</b></a>' if anchor else f"<b>{match[0]}</b>"

    parts = re.split(r"`([^`\n]+)`", text)
    prose = [re.sub(r"\[(\d{1,9})\]", marker, _with_breaks(part)) for part in parts[::2]]
    code = [f"<code>{escape(part)}</code>" for part in parts[1::2]]
    return "".join(a + b for a, b in zip(prose, [*code, ""], strict=True))


def _with_breaks(text: str) -> str:
    return escape(text).replace("\n", "<br>")


@cache
def _blocks_of_answers() -> MarkdownIt:
    """Reads blocks alone; HTML is text, and so is the definition of a link, which Markdown would not show."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("reference")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _code_blocks(text: str) -> list[Piece]:
    return [(block.start, block.end) for block in blocks(text, cut=True) if block.kind == "code"]


def _covered(position: int, pieces: Iterable[Piece]) -> bool:
    return any(start <= position < end for start, end in pieces)


def _cuts(first: int, last: int, pieces: Iterable[Piece]) -> list[Piece]:
    """``[first, last)`` cut at every border of ``pieces``: within a cut, nothing begins or ends."""
    borders = sorted({first, last, *(b for piece in pieces for b in piece if first < b < last)})
    return list(pairwise(borders))


def _gold_pieces(chunk: Chunk, spans: Iterable[Span]) -> list[Piece]:
    """The gold that lies in the chunk, as offsets into the chunk's own text."""
    return [
        (max(s.start, chunk.start) - chunk.start, min(s.end, chunk.end) - chunk.start)
        for s in spans
        if chunk.span.overlap(s)
    ]


def _flag(chunk: Chunk, spans: Iterable[Span]) -> str:
    missing = [len(span) - common for span in spans if (common := chunk.span.overlap(span))]
    if not missing:
        return ""
    return " ★ holds the answer" if min(missing) == 0 else " ★ holds a part of the answer"


def _snippet(text: str, pieces: Sequence[Piece], width: int = 110) -> str:
    """One line of about ``width`` characters, where most of ``pieces`` begin."""
    begins = [max(0, start - 20) for start, _ in pieces]
    start = max(begins, key=lambda b: sum(b <= s < b + width for s, _ in pieces), default=0)
    line = " ".join(text[start : start + width].split())
    return ("…" if start else "") + line + ("…" if start + width < len(text) else "")


def _where(chunk: Chunk, section: str = "") -> str:
    section = escape(section or " › ".join(chunk.section))
    return f"<b>{escape(chunk.doc_id)}</b>" + (f" · {section}" if section else "")


def _where_text(chunk: Chunk, section: str = "") -> str:
    return " › ".join(filter(None, (chunk.doc_id, section or " › ".join(chunk.section))))


def _sections(cited: Sequence[Citation]) -> str:
    """Where the quotes stand: the path of the first, the last headings of others, the pages: "A › B; C, page 3"."""
    first, *others = dict.fromkeys(citation.section for citation in cited)
    sections = "; ".join(filter(None, (" › ".join(first), *(" ".join(path[-1:]) for path in others))))
    pages = list(dict.fromkeys(citation.page for citation in cited if citation.page))
    numbers = f"page{'s' * (len(pages) > 1)} {', '.join(map(str, pages))}" if pages else ""
    return ", ".join(filter(None, (sections, numbers)))


def _source(number: int, cited: Sequence[Citation], anchor: str) -> str:
    chunk = cited[0].chunk
    places = [(chunk.text.find(c.quote), len(c.quote)) for c in cited if c.quote]
    marked = [(start, start + length) for start, length in places if start >= 0]
    begin = _begin_of_view(chunk.text, marked)
    passage = _with_code(chunk.text, gold=marked, start=begin)
    if begin:
        above = _with_code(chunk.text, end=begin)
        passage = f"<details><summary>… {begin:,} characters above</summary>{above}</details>{passage}"
    summary = f"<b>[{number}]</b> {_where(chunk, _sections(cited))}"
    return _details(summary, passage, SKY, anchor=anchor)


def _begin_of_view(text: str, pieces: Sequence[Piece]) -> int:
    """Where to begin so that the first of ``pieces`` is seen: at most two lines, or ``ABOVE`` characters, above it.

    >>> _begin_of_view("so far " * 100 + "so good", [(700, 707)])
    542
    """
    first = min((start for start, _ in pieces), default=0)
    above = text[:first].split("\n")
    if first <= 2 * ABOVE and len(above) <= 6:
        return 0
    begin = first - len("\n".join(above[-3:]))
    if first - begin <= ABOVE:
        return begin
    begin = first - ABOVE
    gap = re.compile(r"\s").search(text, begin, first)
    return gap.end() if gap else begin


def _details(summary: str, passage: str, colour: str, is_open: bool = False, anchor: str = "") -> str:
    """A passage to unfold, beside a line in ``colour``. A link to ``anchor``, which stands within, unfolds it."""
    # The browser opens what it is sent into. It must be sent: to an id, JupyterLab would scroll by itself, and open
    # nothing. (Where a notebook is not trusted, JupyterLab takes names away, and the link leads nowhere.)
    place = f'<a name="{anchor}"></a>' if anchor else ""
    return (
        f'<details{" open" * is_open} style="margin:6px 0;padding-left:8px;border-left:4px solid {colour}">'
        f'<summary>{summary}</summary><div style="{_PASSAGE}">{place}{passage}</div></details>'
    )


def _footer(answer: Answer) -> list[str]:
    parts = [f"{stage} {milliseconds:.0f} ms" for stage, milliseconds in answer.timings.items()]
    if writer := answer.writer or answer.usage.model:
        used = answer.usage.input_tokens + answer.usage.output_tokens
        parts.append(f"writer: {writer}" + f", {used} tokens" * bool(used))
    return parts


def _chunk_lines(
    chunks: Sequence[Chunk], spans: Sequence[Span], ranks: Mapping[int, Span], limit: int = 12
) -> list[str]:
    lines = []
    for i, chunk in enumerate(chunks[:limit]):
        shared = max(0, chunks[i - 1].end - chunk.start) if i else 0
        notes = f", {shared} shared with the one before" * bool(shared)
        notes += ", gold" * any(chunk.span.overlap(s) for s in spans)
        notes += "".join(f", hit {rank}" for rank, span in ranks.items() if span.start == chunk.start)
        lines.append(f"{i + 1:>2}  characters {chunk.start}-{chunk.end}{notes}  {_snippet(chunk.text, (), 60)}")
    return lines + [f"    … and {len(chunks) - limit} more"] * (len(chunks) > limit)


def _block(inner: str) -> str:
    # MathJax skips elements of these classes (version 3 and version 2 names).
    return f'<div class="mathjax_ignore tex2jax_ignore" style="line-height:1.45">{inner}</div>'

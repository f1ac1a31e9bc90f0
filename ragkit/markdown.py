"""The blocks, sections and sentences of Markdown, with exact character offsets.

Documents are Markdown, so what is a heading, a list, a table or code is read off its syntax (CommonMark with
pipe tables, parsed by markdown-it), never guessed. Plain text without any marks is paragraphs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from ragkit.base import Section

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

Kind = Literal["heading", "paragraph", "list", "table", "code", "quote"]

_KINDS: dict[str, Kind] = {
    "heading_open": "heading",
    "paragraph_open": "paragraph",
    "html_block": "paragraph",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
    "blockquote_open": "quote",
}
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|\Z)")
_VISIBLE = re.compile(r"\S")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?=[\w\"'-]+[ \t]*:).*?\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_FENCE = re.compile(r"[ \t]*+(?:(?:[-+*]|\d{1,9}[.)])[ \t]++)*+(`{3,}|~{3,})[ \t]*+([^`]*)\Z")

# Where a sentence may end: after its punctuation (and what closes there) and white space, after full-width
# punctuation, at a blank line, and at a line that begins with a mark of a list, a heading, a table or a fence.
# Possessive quantifiers keep it linear.
_BORDER = re.compile(
    r"""
    (?<=[.!?…؟۔।]) ['")\]”’»*_`]*+ \s++ (?=(?P<opening>["'(\[`*“‘«„]{0,3})(?P<first>[^\W_]))
    | (?<=[。！？｡]) ['")\]”’»」』]*+ \s*+ (?=\S)
    | (?:\r\n?|\n) [^\S\r\n]*+ (?:\r\n?|\n) \s*+
    | [\r\n] (?=[ \t]*+ (?:[-*+•][ \t] | \d{1,9}[.)][ \t] | \#{1,6}[ \t] | \| | ```|~~~))
    """,
    re.VERBOSE,
)
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|Dr|Mr|Mrs|Ms|No|resp|approx)\.|\b[A-Z]\.)\Z")
_OUTER_FENCES = re.compile(r"\A[ \t\n]*(?:`{3,}|~{3,})[^\n`]*(?:\n|\Z)|(?:\A|\n)[ \t]*(?:`{3,}|~{3,})\s*\Z")
_NUMBER = re.compile(r"\s*+\d{1,9}\\?\.")  # of a list


@dataclass(frozen=True, slots=True)
class Block:
    """The characters ``[start, end)`` of a text, whole lines.

    ``level`` is 1 to 6 for a heading, else 0; ``heading`` is the nearest heading above, without its marks.
    Code and tables within a list are blocks of their own, and the list goes on after them.
    """

    kind: Kind
    start: int
    end: int
    level: int = 0
    heading: str = ""


def blocks(text: str, cut: bool = False) -> list[Block]:
    """The blocks of ``text``, in order; every visible character is in one of them.

    ``cut``: the text is a piece out of a document (a chunk), which may begin within a fence or a list.

    >>> [(b.kind, b.start, b.end) for b in blocks("# Stop\\n\\nType:\\n\\n```sh\\nkill 1\\n```\\n- one\\n- two\\n")]
    [('heading', 0, 6), ('paragraph', 8, 13), ('code', 15, 31), ('list', 32, 43)]
    """
    lines = [m.span() for m in _LINE.finditer(text) if m[0]]
    kinds = _kinds_of_lines([text[a:b].rstrip("\r\n") for a, b in lines], cut)
    result: list[Block] = []
    heading, first = "", 0
    for i in range(1, len(lines) + 1):
        if i < len(lines) and kinds[i] == kinds[first]:
            continue
        (kind, level, _), start, end = kinds[first], lines[first][0], lines[i - 1][1]
        first = i
        body = text[start:end].rstrip()
        if not body:
            continue
        if kind != "code":  # the indentation of code belongs to it
            start += len(body) - len(body.lstrip())
        result.append(Block(kind, start, start + len(text[start:end].rstrip()), level, heading))
        if kind == "heading":
            heading = _heading_words(body)
    return result


def sections(text: str) -> tuple[Section, ...]:
    """The sections that the headings of ``text`` make: each runs from its heading to the next one.

    >>> [(s.path, s.start, s.body, s.end) for s in sections("# Guide\\n\\nHello.\\n\\n## Stop\\n\\nPress q.")]
    [(('Guide',), 0, 9, 17), (('Guide', 'Stop'), 17, 26, 34)]
    """
    starts: list[tuple[tuple[str, ...], int, int]] = [((), 0, 0)]
    path: list[tuple[int, str]] = []
    for block in blocks(text):
        if block.kind == "heading":
            words = _heading_words(text[block.start : block.end])
            path = [*(above for above in path if above[0] < block.level), (block.level, words)]
            visible = _VISIBLE.search(text, block.end)
            starts.append((tuple(name for _, name in path), block.start, visible.start() if visible else len(text)))
    return covering(starts, len(text))


def covering(starts: Iterable[tuple[tuple[str, ...], int, int]], length: int) -> tuple[Section, ...]:
    """Sections from ``(path, start, body)`` in order: each ends where the next starts, empty ones are left out."""
    marks = [(path, min(start, length), min(body, length)) for path, start, body in starts]
    ends = [*(start for _, start, _ in marks[1:]), length]
    return tuple(
        Section(path, start, min(body, end), end)
        for (path, start, body), end in zip(marks, ends, strict=True)
        if start < end
    )


def sentences(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """The ranges ``(start, end)`` of the sentences of ``text[start:end]``, without the white space between them.

    A blank line ends a sentence, and so does a line that begins with a mark of a list, a heading, a table or a
    fence. Works for any script that has punctuation; a full stop before a small letter or after an abbreviation
    ends nothing.

    >>> text = "Stop it, e.g. A. Then go on.\\n- Done?"
    >>> [text[a:b] for a, b in sentences(text)]
    ['Stop it, e.g. A. Then go on.', '- Done?']
    """
    stop = len(text) if end is None else end
    result: list[tuple[int, int]] = []
    begin = start
    for border in _BORDER.finditer(text, start, stop):
        at = border.start()
        if border["first"]:
            if border["first"].islower() and "`" not in border["opening"]:
                continue
            if _ABBREVIATION.search(text[max(begin, at - 12) : at]) or _NUMBER.fullmatch(text, begin, at):
                continue
        _add_visible(result, text, begin, at + len(border[0].rstrip()))
        begin = border.end()
    _add_visible(result, text, begin, stop)
    return result


def closed(text: str) -> str:
    """A piece of Markdown with the fence opened that it begins in, and the fence closed that it ends in.

    >>> closed("x = 1\\n```")
    '```\\nx = 1\\n```'
    """
    lines = text.splitlines()
    if _begins_in_fence(lines):
        text, lines = f"```\n{text}", ["```", *lines]
    mark = ""
    for match in filter(None, map(_FENCE.match, lines)):
        if not mark:
            mark = match[1]
        elif match[1].startswith(mark) and not match[2].strip():
            mark = ""
    return f"{text}\n{mark}" if mark else text


def unfenced(text: str) -> str:
    """``text`` without the line of a fence that it begins with, and the one that it ends with.

    >>> unfenced("```sh\\npurge\\n```")
    'purge'
    """
    return _OUTER_FENCES.sub("", text)


def _add_visible(result: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    """Append ``[start, end)`` without the white space at its edges, if anything is left."""
    body = text[start:end]
    if stripped := body.strip():
        start += len(body) - len(body.lstrip())
        result.append((start, start + len(stripped)))


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.enableOnly(["block"])
    return parser


def _kinds_of_lines(lines: list[str], cut: bool) -> list[tuple[Kind, int, int]]:
    """For each line the kind of its block, the level of a heading, and a number that its block alone has."""
    kinds: list[tuple[Kind, int, int]] = [("paragraph", 0, -1)] * len(lines)
    parsed = _whole(lines) if cut else lines
    shift = len(parsed) - len(lines)
    source = "\n".join(parsed)
    if matter := _FRONT_MATTER.match(source):
        count = matter[0].rstrip("\n").count("\n") + 1
        kinds[:count] = [("code", 0, -2)] * count
        source = "\n" * matter[0].count("\n") + source[matter.end() :]
    quoted = 0
    for number, token in enumerate(_parser().parse(source.replace("\0", " "))):
        kind = _KINDS.get(token.type)
        if kind is None or token.map is None or token.map[0] < quoted:
            continue
        if token.level and kind not in ("code", "table", "quote"):
            continue  # it stands in a list
        first, last = (max(0, line - shift) for line in token.map)
        level = int(token.tag[1]) if kind == "heading" else 0
        kinds[first:last] = [(kind, level, number)] * (last - first)
        quoted = token.map[1] if kind == "quote" else quoted
    return kinds


def _whole(lines: list[str]) -> list[str]:
    """The lines of a piece so that they parse as they did in the document: a fence that was cut is opened again.

    Up to the first line that is not indented, the piece may stand in a list: its indentation is taken off.
    """
    if _begins_in_fence(lines):
        return ["```", *lines]
    head = next((i for i, line in enumerate(lines) if i and line.strip() and not line[0].isspace()), len(lines))
    margin = min((len(line) - len(line.lstrip()) for line in lines[1:head] if line.strip()), default=0)
    return [*lines[:1], *(line[margin:] for line in lines[1:head]), *lines[head:]]


def _begins_in_fence(lines: list[str]) -> bool:
    """Whether the first mark of a fence closes it: it names no language, and read as opening it is never closed."""
    mark, first = "", False
    for number, match in enumerate(filter(None, map(_FENCE.match, lines))):
        if not mark:
            if number == 0 and match[2].strip():
                return False
            mark, first = match[1], number == 0
        elif match[1].startswith(mark) and not match[2].strip():
            mark = ""
        elif first and match[2].strip():
            return True
    return bool(mark) and first


def _heading_words(body: str) -> str:
    """A heading without its marks: those before and behind it, or the line below it."""
    words = body.strip()
    if words.startswith("#"):
        words = words.lstrip("#").strip()
        bare = words.rstrip("#")
        return bare.rstrip() if bare != words and bare[-1:].isspace() else words
    return " ".join(line.strip() for line in words.splitlines()[:-1])

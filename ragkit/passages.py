"""Text as a reader sees it: headings, sentences, lists and code blocks, with exact character offsets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

_BLOCK = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")
_FENCED = re.compile(r"^[ ]{0,3}(```|~~~).*?(?:^[ ]{0,3}\1[ ]*$|\Z)", re.MULTILINE | re.DOTALL)
_LIST_ITEM_BELOW = re.compile(r"\n(?=[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S)")
_LIST_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)]|\(?[a-z]\))[ \t]+\S")
_SENTENCE_END = re.compile(r"(?<=[.!?:])[\"')\]`]*\s+(?=[\"'(\[`]*[A-Z0-9])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|Dr|Mr|Ms|No|resp|approx)\.|\b[A-Z]\.)$")
_CODE_LINE = re.compile(
    r"""
    ^\s*(?:\$|%|>>>|\.\.\.|\#!?|//|@\w|[\])}]+,?$)                                    # prompts, comments, decorators
    | ^\s*(?:import\s\w|from\s\S+\simport\s|(?:async\s)?def\s|class\s\w+[(:]|return\b|await\s|yield\b|raise\s\w
        |(?:async\s)?(?:with|for|while)\s.*:$|(?:if|elif|except)\b.*:$|(?:else|try|finally):$|(?:pip|python3?|docker|git|export)\s)
    | ^\s*[\w.\[\]'"-]+\s*[-+|]?=\s*\S                                           # an assignment
    | ^\s*[\w.]+\(.*[,)({\[]$                                                   # a call
    | ^\s*[a-z_"'][\w"'-]*:(?:\s+\S+)?$                                              # a line of YAML or of a dict
    | ^\s*(?:<[/!?\w]|\[[\w.:-]+\]$|\{|\[)                                        # markup, an INI section, JSON
    | [;{}(\[\\]$                                                               # a line that goes on
    | ^\s*[a-z][\w./-]*\s(?:.*\s)?--?[a-zA-Z\d][^.!?]*$                                  # a command with a flag
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Passage:
    """The characters ``[start, end)`` of a source; ``heading`` is the nearest heading above it in that source."""

    start: int
    end: int
    kind: str
    heading: str = ""


def blocks(text: str) -> list[Passage]:
    """Cut ``text`` into ``heading``, ``prose``, ``list``, ``entry`` and ``code`` blocks, in order.

    Blank lines part blocks, except within a fence. Code blocks that follow each other are one, and so are lists with
    the indented paragraphs of their items. An ``entry`` is a term with its indented definition, or a table.

    >>> [(b.kind, b.start, b.end) for b in blocks("Stop it:\\n\\nkill -9 1\\n\\nx = 2\\n\\n- one\\n\\n- two\\n")]
    [('prose', 0, 8), ('code', 10, 26), ('list', 28, 40)]
    """
    found: list[Passage] = []
    for start, end, fenced in _pieces(text):
        before = found[-1] if found else Passage(0, 0, "")
        kind = "code" if fenced else _kind(text[start:end], before.kind)
        if kind == "heading" and text[before.start : before.end].endswith(":"):
            kind = "code"  # "Run this:" announces what stands below it, however short: a command, a value
        indented = text[start : start + 2].isspace()
        if found and kind == found[-1].kind and (kind in ("code", "list") or (kind == "entry" and indented)):
            found[-1] = replace(found[-1], end=end)
        else:
            found.append(Passage(start, end, kind))
    return found


def _pieces(text: str) -> Iterator[tuple[int, int, bool]]:
    """Ranges between blank lines, parted again where a list begins in the next line; fences are one piece."""
    position = 0
    for fence in [*_FENCED.finditer(text), None]:
        for block in _BLOCK.finditer(text, position, fence.start() if fence else len(text)):
            start, end = block.span()
            item = _LIST_ITEM_BELOW.search(text, start, end)
            if item and not _LIST_ITEM.match(text, start, end):
                yield start, item.start(), False
                start = item.start() + 1
            yield start, end - (len(block[0]) - len(block[0].rstrip())), False
        if fence:
            yield fence.start(), fence.end(), True
            position = fence.end()


def _kind(block: str, before: str) -> str:
    """What a block is, from its layout; documentation marks code by no more than that once it is plain text."""
    lines = block.split("\n")
    indented = [line.startswith(("  ", "\t")) for line in lines]
    if indented[0] and before in ("list", "entry"):
        return before
    if _LIST_ITEM.match(block):
        return "list"
    if all(line.startswith(("    ", "\t")) for line in lines):
        return "code"
    coded = [bool(_CODE_LINE.search(line)) or (i > 0 and indented[i]) for i, line in enumerate(lines)]
    if _CODE_LINE.search(lines[0]) and 2 * sum(coded) >= len(lines):
        return "code"
    if len(lines) > 1 and (all(indented[1:]) or all(" | " in line for line in lines)):
        return "entry"
    short = len(lines) == 1 and len(block.split()) <= 14 and ": " not in block and block[-1] not in ".!:;,)"
    return "heading" if short else "prose"


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """The character ranges of the sentences of a paragraph, without the white space between them.

    >>> [text[a:b] for text in ["Stop it, e.g. A. Then go on. Done?"] for a, b in sentences(text)]
    ['Stop it, e.g. A. Then go on.', 'Done?']
    """
    start = 0
    for gap in _SENTENCE_END.finditer(text):
        end = gap.end() - len(gap[0]) + len(gap[0].rstrip())
        if not _ABBREVIATION.search(text[start:end]):
            yield start, end
            start = gap.end()
    if start < len(text):
        yield start, len(text)


def passages(text: str, short: int = 240, long: int = 1200) -> list[Passage]:
    """What can be quoted from ``text``: sentences, code with the sentence before it, lists with theirs.

    Sentences of one paragraph stay together up to ``short`` characters. Of a list of more than ``long`` characters,
    the sentence before it keeps as many whole items as fit, and the others are offered by themselves. A sentence
    that ends in a colon is never offered without what it announces. Headings are offered only where there is
    nothing else.

    >>> [text[p.start : p.end] for text in ["Purging\\n\\nType:\\n\\n$ purge\\n\\nDone. Gone."] for p in passages(text)]
    ['Type:\\n\\n$ purge', 'Done. Gone.']
    """
    found: list[Passage] = []
    heading = ""
    for block in blocks(text):
        body = text[block.start : block.end]
        if block.kind == "heading":
            heading = body
            continue
        if block.kind == "prose":
            parts = _grouped(list(sentences(body)), short)
        elif block.kind == "list" and len(body) > long:
            parts = list(_items(body))
        else:
            parts = [(0, len(body))]
        offered = [Passage(block.start + a, block.start + b, block.kind, heading) for a, b in parts]
        lead = found[-1] if found and found[-1].kind == "prose" and found[-1].heading == heading else None
        if lead and (block.kind == "code" or text[lead.end - 1] == ":"):
            fit = sum(p.end - lead.start <= long for p in offered) if block.kind == "list" else 1
            found[-1] = replace(lead, end=offered[max(1, fit) - 1].end, kind=block.kind)
            offered = offered[max(1, fit) :]
        found += offered
    return found or [replace(block, kind="prose") for block in blocks(text)]


def _items(body: str) -> Iterator[tuple[int, int]]:
    """The ranges of a list's items, without the white space between them."""
    marks = [m.start() for m in re.finditer(rf"^{_LIST_ITEM.pattern}", body, re.MULTILINE)] + [len(body)]
    for a, b in pairwise(marks):
        yield a, a + len(body[a:b].rstrip())


def _grouped(parts: Sequence[tuple[int, int]], short: int) -> list[tuple[int, int]]:
    """Neighbouring ``parts`` together, as long as they stay within ``short`` characters."""
    groups: list[tuple[int, int]] = []
    for start, end in parts:
        if groups and end - groups[-1][0] <= short:
            groups[-1] = (groups[-1][0], end)
        else:
            groups.append((start, end))
    return groups

"""reStructuredText and the dialects of Markdown to one tree, which ``ragkit.corpus.writer`` turns into Markdown.

The writer knows where every heading and every section stands, so offsets are exact from the start and never
searched for afterwards.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragkit.base import Section

if TYPE_CHECKING:
    from docutils import nodes

Reader = Callable[[str], str | None]
"""Gives the text of another file of the same project, or None."""

_SETTINGS: dict[str, Any] = {
    "_disable_config": True,  # a docutils.conf in the reader's folder must not change the corpus
    "report_level": 5,
    "halt_level": 5,
    "warning_stream": False,
    "file_insertion_enabled": False,
    "doctitle_xform": False,
    "docinfo_xform": False,
    "sectsubtitle_xform": False,
    "sectnum_xform": False,
    "syntax_highlight": "none",
    "line_length_limit": 1_000_000,
    "traceback": True,
}
_MYST: dict[str, Any] = {
    "myst_all_links_external": True,  # else a link to another page loses its words
    "myst_enable_extensions": ["colon_fence", "deflist", "fieldlist", "attrs_inline", "attrs_block", "tasklist"],
}


@dataclass(frozen=True)
class FAQ:
    """A question heading that was taken out, and the characters of its answer (``start == end``: it has none)."""

    question: str
    start: int
    end: int


@dataclass(frozen=True)
class Page:
    """The text of one file with its sections and, from an FAQ page, its questions."""

    text: str
    title: str
    sections: tuple[Section, ...]
    questions: tuple[FAQ, ...] = ()


def fold(text: str) -> str:
    """Text as it counts when two lines are compared: letters and digits in one case.

    >>> fold("- How do I **stop** it?")
    'how do i stop it'
    """
    return " ".join(re.findall(r"\w+", text.casefold()))


def parse(source: str, markup: str, path: str = "", read: Reader | None = None) -> nodes.document:
    """The docutils tree of ``source``; ``markup`` is ``"rst"``, ``"md"`` or ``"txt"`` (no markup at all).

    Text that makes its parser fail becomes a tree with that text as it is, marked by the attribute ``unparsed``.
    ``read`` resolves includes; without it they are dropped.
    """
    from docutils import nodes, utils
    from docutils.core import publish_doctree

    from ragkit.corpus.sphinx import sphinx_words

    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")

    def relative(name: str) -> str | None:
        return read(_beside(path, name)) if read else None

    settings = {**_SETTINGS, "ragkit_files": relative}
    if markup == "md":
        source = mkdocs_to_myst(front_matter_off(source), relative)
    if markup != "txt":
        parser = _myst_parser() if markup == "md" else _rst_parser()
        try:
            with sphinx_words():
                return publish_doctree(
                    includes(source, relative),
                    parser=parser,
                    settings_overrides={**settings, **(_MYST if markup == "md" else {})},
                )
        except Exception:  # whatever a parser trips over, the words are kept
            pass
    tree = utils.new_document(path)
    tree["unparsed"] = markup != "txt"
    tree += [nodes.paragraph("", "", nodes.Text(block)) for block in re.split(r"\n\s*\n", source) if block.strip()]
    return tree


def _rst_parser() -> Any:
    from docutils.parsers.rst import Parser

    return Parser()


def _myst_parser() -> Any:
    from myst_parser.parsers.docutils_ import Parser

    return Parser()


def _beside(path: str, name: str) -> str:
    """``name`` as a page at ``path`` means it: relative to the page, from the project's root with a slash."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), name.strip()))


def front_matter_off(source: str) -> str:
    """Markdown without the YAML block that some tools put on top; its title becomes a heading if there is none.

    >>> front_matter_off("---\\ntitle: A\\n---\\ntext")
    '# A\\n\\ntext'
    """
    match = re.match(r"---\n(.*?)\n---\s*\n", source, re.DOTALL)
    if match is None:
        return source
    body = source[match.end() :]
    title = re.search(r"^title:[ \t]*(.+?)[ \t]*$", match[1], re.MULTILINE)
    if title is None or re.search(r"^# ", body, re.MULTILINE):
        return body
    return f"# {title[1].strip(chr(34) + chr(39))}\n\n{body}"


_INCLUDE_RST = re.compile(r"^([ \t]*)\.\. include:: *(\S+) *$(?:\n\1[ \t]+:[\w-]+:.*$)*", re.MULTILINE)
_INCLUDE_MD = re.compile(r"^```\{include\} *(\S+) *\n(?::.*\n)*```[ \t]*$", re.MULTILINE)


def includes(source: str, read: Reader, depth: int = 3) -> str:
    """``source`` with the text of its ``include`` directives in their place (a file that is not there: nothing)."""

    def text_of(match: re.Match[str]) -> str:
        *indent, name = match.groups()
        if f".. include:: {name}" in (text := (read(name) if depth else None) or "") or f"{{include}} {name}" in text:
            return ""  # it includes itself
        text = includes(text, read, depth - 1)
        return "\n".join((indent[0] if indent else "") + line for line in text.splitlines())

    return _INCLUDE_MD.sub(text_of, _INCLUDE_RST.sub(text_of, source))


_FENCE = re.compile(r"[ ]*(`{3,}|~{3,})")
_BLOCK = re.compile(r"(?:!!!|\?\?\?\+?|===\+?)[ ]+(?:([\w-]+)[ ]*)?(?:\"([^\"]*)\")?[ ]*$")
_SNIPPET = re.compile(r"-{1,2}8<-{1,2}[ ]+\"([^\"]+)\"[ ]*$")


def mkdocs_to_myst(source: str, read: Reader) -> str:
    """Markdown with MkDocs's admonitions (``!!! note``), tabs (``=== "Tab"``) and snippets in MyST's spelling.

    >>> print(mkdocs_to_myst('!!! note\\n    Mind the gap.', lambda name: None))
    :::{admonition} Note
    Mind the gap.
    :::
    """
    lines, out, fence, i = source.split("\n"), list[str](), "", 0
    while i < len(lines):
        line, i = lines[i], i + 1
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        if snippet := _SNIPPET.match(line):
            out.append((read("/" + snippet[1]) or "").rstrip("\n"))
        elif not fence and (block := _BLOCK.match(line)) and (block[1] or block[2]):
            body: list[str] = []
            while i < len(lines) and (lines[i].startswith("    ") or not lines[i].strip()):
                body.append(lines[i][4:])
                i += 1
            inner = mkdocs_to_myst("\n".join(body).strip("\n"), read)
            colons = ":" * (1 + max([2, *(len(m) for m in re.findall(r"^:{3,}", inner, re.MULTILINE))]))
            title = block[2] or block[1].capitalize()
            out += [f"{colons}{{admonition}} {title}", inner, colons, *([""] if i < len(lines) else [])]
        else:
            out.append(line)
    return "\n".join(out)


_RST_TITLE = re.compile(
    r"(?P<labels>(?:^\.\. _[^\n]+:[ ]*\n\s*)*)(?:^(?P<over>[=\-~^\"'`#*+<>_])(?P=over)+[ ]*\n)?"
    r"^[ ]*(?P<title>\S[^\n]*)\n(?P<under>[=\-~^\"'`#*+<>_])(?P=under)+[ ]*$",
    re.MULTILINE,
)
_MD_TITLE = re.compile(r"(?P<labels>(?:^\([^)\n]+\)=\s*\n)*)^#{1,6}[ ]+(?P<title>[^\n]+?)[ #]*$", re.MULTILINE)


def titles(source: str) -> tuple[str, dict[str, str]]:
    """The first heading of a page, and ``{label: heading}`` for its headings that carry one.

    >>> titles(".. _guide:\\n\\nThe ``Guide``\\n============\\n")
    ('The Guide', {'guide': 'The Guide'})
    """
    first, labels = "", dict[str, str]()
    for pattern in (_RST_TITLE, _MD_TITLE):
        for match in pattern.finditer(source):
            title = re.sub(
                r":[\w:-]+:`([^`<]+?)(?: *<[^`]*)?`|`+([^`]+)`+_*|\*+([^*]+)\*+", r"\1\2\3", match["title"]
            ).strip()
            first = first or title
            for label in re.findall(r"^(?:\.\. _([^\n]+?):|\(([^)\n]+)\)=)[ ]*$", match["labels"], re.MULTILINE):
                labels[" ".join("".join(label).strip("`").casefold().split())] = title
        if first:
            break
    return first, labels

"""reStructuredText and the dialects of Markdown (MyST, MkDocs) as plain Markdown, with exact places.

docutils makes a tree of a page, and ``write`` makes Markdown of the tree; it knows where every section and every FAQ
answer stands, so nothing is searched for afterwards. docutils knows neither Sphinx nor a project's own extensions:
here every directive and role has an answer, which is the words that a reader of the built pages would see. Code stays
code, descriptions keep signature and body, what shows nothing on the page is dropped, anything unknown keeps its words.

This module imports docutils; import it lazily.
"""

from __future__ import annotations

import html
import posixpath
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

from docutils import nodes, utils
from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, Parser, directives, roles

from ragkit.base import Section
from ragkit.markdown import covering

Reader = Callable[[str], str | None]
"""Gives the text of another file of the same project, or None."""
Resolver = Callable[[str, str], str | None]
"""Gives the title that a cross reference ``(role, target)`` shows, or None."""


@dataclass(frozen=True)
class FAQ:
    """A question heading that was taken out, and the characters of its answer."""

    question: str
    start: int
    end: int


@dataclass(frozen=True)
class Page:
    """The text of one file with its sections and, from an FAQ page, the questions that have an answer."""

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


# ---- Sphinx's directives and roles


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Nothing of these is on the page, or only what is generated from code or from other pages.
_DROPPED = _names("""
    click contents dask-config-block digraph footer graphviz header highlight image include index inheritance-diagram
    mermaid meta moduleauthor plot program program-output raw sectionauthor settingslist tabularcolumns testcleanup
    testsetup toctree todo todolist
    """)
# Of these the content is shown; the argument is layout, or a target for cross references.
_CONTENT = _names("""
    grid grid-item tab-set hlist only container glossary
    module currentmodule setting signal stat command reqmeta event control state
    """)
_CODE = _names("code code-block code-cell sourcecode ipython jupyter-execute doctest testcode testoutput prompt")
# Descriptions whose title is code.
_SIGNATURES = _names("""
    attribute class classmethod confval data decorator decoratormethod envvar exception function method option property
    staticmethod type
    """)
_VERSIONS = {
    "versionadded": "New in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
}
_LANGUAGES = {"ipython": "python", "code-cell": "python", "testcode": "python", "doctest": "pycon"}
_OURS = _DROPPED | _CONTENT | _CODE | _VERSIONS.keys() | {"literalinclude", "seealso", "autosummary", "class"}
_PYTHON_ROLES = _names("class meth func attr mod exc obj data const type any")


def _kind(name: str) -> str:
    """A directive or role without its domain: ``py:class`` is ``class``."""
    return name.lower().rpartition(":")[2]


class _AnyOption(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        return directives.unchanged


class _Sphinx(Directive):
    """Any directive that docutils does not know, or knows otherwise than Sphinx."""

    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = _AnyOption(name=directives.unchanged)  # an empty one would take no options

    def run(self) -> list[nodes.Node]:
        kind = _kind(self.name)
        self.argument = utils.unescape(self.arguments[0]) if self.arguments else ""
        if kind in _DROPPED:
            return []
        if kind in _CONTENT:
            return self.body()
        if kind in _CODE:
            lines = [line for line in self.content if not line.lstrip().startswith("@savefig")]
            return _code(lines, _LANGUAGES.get(kind, self.argument))
        if kind in _VERSIONS:
            return self.version(_VERSIONS[kind])
        if kind == "literalinclude":
            return self.file()
        if kind == "seealso":
            text = [nodes.paragraph("", "", *self.inline(self.argument))] if self.argument else []
            return [nodes.admonition("", nodes.title("", "See also"), *text, *self.body())]
        if kind == "autosummary":  # its names are on the page, the rest is generated
            names = [line.split()[0].lstrip("~") for line in self.content if line.strip() and line.strip()[0] != ":"]
            items = [nodes.list_item("", nodes.paragraph("", "", nodes.literal("", name))) for name in names]
            return [nodes.bullet_list("", *items)]
        return self.description(kind)

    def body(self) -> list[nodes.Node]:
        parent = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, parent)
        return list(parent.children)

    def inline(self, text: str) -> list[nodes.Node]:
        return list(self.state.inline_text(text, self.lineno)[0])

    def version(self, what: str) -> list[nodes.Node]:
        """``New in version 5.1: ...``; the words follow the number, or are the first paragraph below."""
        number, _, text = self.argument.replace("\n", " ").partition(" ")
        words, body = self.inline(text), self.body()
        if not text and body and isinstance(body[0], nodes.paragraph):
            words = list(body.pop(0).children)
        colon = [nodes.Text(": ")] if words else []
        return [nodes.paragraph("", "", nodes.Text(f"{what} {number}"), *colon, *words), *body]

    def file(self) -> list[nodes.Node]:
        """A file of the same project as code; ``pyobject`` and ``lines`` select."""
        code = self.state.document.settings.ragkit_read(self.argument) or ""
        if name := self.options.get("pyobject"):
            block = rf"^(?:@.*\n)*(?:async )?(?:class|def) {re.escape(name)}\b.*\n(?:[ \t)].*\n|\n)*"
            code = match[0] if (match := re.search(block, code, re.MULTILINE)) else ""
        lines = code.splitlines()
        if wanted := self.options.get("lines"):
            lines = _selected(lines, wanted)
        return _code(lines, self.options.get("language", "python" if self.argument.endswith(".py") else ""))

    def description(self, kind: str) -> list[nodes.Node]:
        """A signature (or a title) with the text under it: ``py:function``, ``option``, ``dropdown``, the unknown."""
        body = self.body()
        argument = re.sub(r"\s*\\\s*\n\s*", " ", self.argument)  # a line that goes on
        lines = [line.strip() for line in argument.splitlines() if not re.match(r"\s*(:[\w-]+:|$)", line)]
        titles = [re.sub(r"\\(\S)", r"\1", line) for line in lines]
        if not titles or (kind.startswith("auto") and not body):
            return body
        code = kind.removeprefix("auto") in _SIGNATURES
        terms = [nodes.term("", "", *([nodes.literal("", t)] if code else self.inline(t))) for t in titles]
        items = [nodes.definition_list_item("", term) for term in terms]
        items[-1] += nodes.definition("", *body)
        return [nodes.definition_list("", *items)]


def _code(lines: Sequence[str], language: str) -> list[nodes.Node]:
    code = "\n".join(lines).strip("\n")
    return [nodes.literal_block(code, code, language=language)]


def _selected(lines: list[str], wanted: str) -> list[str]:
    """``wanted`` as Sphinx writes it: ``1-3,7,9-``."""
    chosen: list[str] = []
    for part in wanted.split(","):
        first, dash, last = part.strip().partition("-")
        chosen += lines[int(first or 1) - 1 : int(last) if last else None if dash else int(first)]
    return chosen


def role_words(kind: str, text: str) -> str:
    """What a role's text says on the page.

    >>> role_words("meth", "~celery.app.control.Control.revoke"), role_words("ref", "the guide <guide-workers>")
    ('revoke', 'the guide')
    """
    if match := re.fullmatch(r"(.*\S)\s*<[^<>]+>", text, re.DOTALL):
        return match[1]
    if kind in _PYTHON_ROLES:
        text = text.lstrip("!")
        return text.rpartition(".")[2] if text.startswith("~") else text.lstrip(".")
    return f"#{text}" if kind in ("issue", "pull", "gh") and text.isdigit() else text


def _role(
    name: str, raw: str, text: str, line: int, inliner: Any, options: Any = None, content: Any = None
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    kind, text = _kind(name), utils.unescape(text)
    node = nodes.inline("", role_words(kind, text))
    if kind in ("ref", "doc", "numref") and node.astext() == text:
        node["role"], node["target"] = kind, text.lstrip("!")  # ``write`` puts the title of the target here
    return [node], []


_LOCK = threading.Lock()


@contextmanager
def _sphinx() -> Iterator[None]:
    """Answer every directive and role while the body runs; docutils is left as it was found.

    docutils keeps its tables in modules, so one thread at a time parses.
    """
    with _LOCK:
        known_directive, known_role = directives.directive, roles.role
        table: dict[str, Any] = roles._roles  # type: ignore[attr-defined]
        saved = dict(table)

        def directive(name: str, *where: Any) -> tuple[type[Directive], list[Any]]:
            known = None if _kind(name) in _OURS else known_directive(name, *where)[0]
            return known or _Sphinx, []

        def role(*args: Any) -> tuple[Any, list[Any]]:
            return known_role(*args)[0] or _role, []

        directives.directive, roles.role = directive, role  # type: ignore[assignment]
        try:
            yield
        finally:
            directives.directive, roles.role = known_directive, known_role
            table.clear()
            table.update(saved)


# ---- from a page to a tree

_SETTINGS: dict[str, Any] = {
    "_disable_config": True,  # a docutils.conf in the reader's folder must not change the corpus
    "report_level": 5,
    "halt_level": 5,
    "warning_stream": False,
    "file_insertion_enabled": False,
    "doctitle_xform": False,
    "docinfo_xform": False,
    "sectnum_xform": False,
    "syntax_highlight": "none",
    "line_length_limit": 1_000_000,
    "traceback": True,
    "myst_all_links_external": True,  # else a link to another page loses its words
    "myst_enable_extensions": ["colon_fence", "deflist", "fieldlist", "attrs_inline", "attrs_block", "tasklist"],
}


def parse(source: str, markup: str, path: str = "", read: Reader = lambda name: None) -> nodes.document:
    """The docutils tree of ``source``; ``markup`` is ``"rst"`` or ``"md"``.

    ``path`` is the page's own, and ``read`` gives the files that it includes; without it they are dropped. Text that
    makes its parser fail becomes a tree with that text as it is, marked by the attribute ``unparsed``.
    """
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")

    def beside(name: str) -> str | None:
        return read(posixpath.normpath(posixpath.join(posixpath.dirname(path), name.strip())))

    parser = Parser()
    if markup == "md":
        from myst_parser.parsers.docutils_ import Parser as MystParser

        parser, source = MystParser(), mkdocs_to_myst(front_matter_off(source), beside)
    try:
        with _sphinx():
            return publish_doctree(
                includes(source, beside), parser=parser, settings_overrides={**_SETTINGS, "ragkit_read": beside}
            )
    except Exception:  # whatever a parser trips over, the words are kept
        tree = utils.new_document(path)
        tree["unparsed"] = True
        tree += [nodes.paragraph("", "", nodes.Text(block)) for block in re.split(r"\n\s*\n", source)]
        return tree


_TITLE = re.compile(
    r"(?P<labels>(?:^\.\. _[^\n]+:[ ]*\n\s*)*)(?:^(?P<over>[=\-~^\"'`#*+<>_])(?P=over)+[ ]*\n)?"
    r"^[ ]*(?P<title>\S[^\n]*)\n(?P<under>[=\-~^\"'`#*+<>_])(?P=under)+[ ]*$",
    re.MULTILINE,
)
_MD_TITLE = re.compile(r"(?P<labels>(?:^\([^)\n]+\)=\s*\n)*)^#{1,6}[ ]+(?P<title>[^\n]+?)[ #]*$", re.MULTILINE)
_MARKED = re.compile(r":[\w:-]+:`([^`<]+?)(?: *<[^`]*)?`|`+([^`]+)`+_*|\*+([^*]+)\*+")
_LABEL = re.compile(r"^(?:\.\. _([^\n]+?):|\(([^)\n]+)\)=)[ ]*$", re.MULTILINE)


def titles(source: str) -> tuple[str, dict[str, str]]:
    """The first heading of a page, and ``{label: heading}`` for its headings that carry one.

    >>> titles(".. _guide:\\n\\nThe ``Guide``\\n============\\n")
    ('The Guide', {'guide': 'The Guide'})
    """
    first, labels = "", dict[str, str]()
    for match in list(_TITLE.finditer(source)) or _MD_TITLE.finditer(source):
        heading = _MARKED.sub(r"\1\2\3", match["title"]).strip()
        first = first or heading
        for label in _LABEL.findall(match["labels"]):
            labels[" ".join("".join(label).strip("`").casefold().split())] = heading
    return first, labels


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


_INCLUDE = re.compile(
    r"^(?P<indent>[ \t]*)\.\. include:: *(\S+) *$(?:\n(?P=indent)[ \t]+:[\w-]+:.*$)*"
    r"|^```\{include\} *(\S+) *\n(?::.*\n)*```[ \t]*$",
    re.MULTILINE,
)


def includes(source: str, read: Reader, depth: int = 3) -> str:
    """``source`` with the text of its ``include`` directives in their place (a file that is not there: nothing)."""

    def text_of(match: re.Match[str]) -> str:
        name = match[2] or match[3]
        text = read(name) or "" if depth else ""
        if any(name in again.groups() for again in _INCLUDE.finditer(text)):
            return ""  # it includes itself
        return "\n".join((match["indent"] or "") + line for line in includes(text, read, depth - 1).splitlines())

    return _INCLUDE.sub(text_of, source)


_SNIPPET = re.compile(r"^-{1,2}8<-{1,2} +\"([^\"]+)\" *$", re.MULTILINE)
_MKDOCS = re.compile(
    r"^ *(?P<fence>`{3,}|~{3,}).*\n(?:.*\n)*? *(?P=fence)[`~]*[ ]*$"  # code, which stays
    r"|^(?:!!!|\?\?\?\+?|===\+?) +(?=[\w\"])(?P<type>[\w-]*) *(?:\"(?P<title>[^\"]*)\")? *$"
    r"(?P<body>(?:\n {4}.*|\n[ \t]*$)*)",
    re.MULTILINE,
)


def mkdocs_to_myst(source: str, read: Reader) -> str:
    """Markdown with MkDocs's admonitions (``!!! note``), tabs (``=== "Tab"``) and snippets in MyST's spelling.

    >>> print(mkdocs_to_myst('!!! note\\n    Mind the gap.', lambda name: None))
    :::{admonition} Note
    Mind the gap.
    :::
    """

    def admonition(match: re.Match[str]) -> str:
        if match["fence"]:
            return match[0]
        body = re.sub(r"^ {1,4}", "", match["body"], flags=re.MULTILINE).strip("\n")
        inner = _MKDOCS.sub(admonition, body)
        colons = ":" * (1 + max([2, *(len(mark) for mark in re.findall(r"^:{3,}", inner, re.MULTILINE))]))
        return f"{colons}{{admonition}} {match['title'] or match['type'].capitalize()}\n{inner}\n{colons}\n"

    source = _SNIPPET.sub(lambda match: (read("/" + match[1]) or "").rstrip("\n"), source)
    return _MKDOCS.sub(admonition, source)


# ---- from a tree to Markdown


def write(
    tree: nodes.document,
    faq: bool = False,
    banned: frozenset[str] = frozenset(),
    resolve: Resolver = lambda role, target: None,
) -> Page:
    """The Markdown of ``tree``: headings, fenced code, lists, pipe tables, one line a paragraph.

    Definitions and fields become list items. Links and emphasis are their words alone, inline code stands in
    backticks, and a line that would become a heading, a list, a quote or a fence by accident is escaped.

    ``faq``: take out every heading that ends with a question mark and report what stands under it.
    ``banned``: folded lines that are left out wherever they stand alone (see ``fold``).
    ``resolve``: gives the title that a cross reference shows.
    """
    writer = _Writer(faq, banned, resolve)
    writer.children(tree, ())
    text = "\n\n".join(writer.written)
    questions = tuple(sorted(writer.questions, key=lambda q: q.start))
    return Page(text, writer.title, covering(writer.starts, len(text)), questions)


class _Writer:
    def __init__(self, faq: bool, banned: frozenset[str], resolve: Resolver) -> None:
        self.faq, self.banned, self.resolve = faq, banned, resolve
        self.written: list[str] = []
        self.length = 0
        self.starts: list[tuple[tuple[str, ...], int, int]] = [((), 0, 0)]  # path, start, body
        self.questions: list[FAQ] = []
        self.title = ""

    @property
    def next(self) -> int:
        """Where the next block will start."""
        return self.length + 2 if self.written else 0

    def add(self, block: str) -> None:
        block = "\n".join(line for line in block.split("\n") if not line.strip() or fold(line) not in self.banned)
        if block.strip():
            self.length = self.next + len(block)
            self.written.append(block)

    def children(self, node: nodes.Element, path: tuple[str, ...]) -> None:
        for child in node.children:
            if isinstance(child, nodes.section):
                self.section(child, path)
            else:
                self.add(self.block(child))

    def section(self, node: nodes.section, path: tuple[str, ...]) -> None:
        heading = self.line(node[0], code=str)
        start = self.next
        is_question = self.faq and bool(path) and heading.endswith("?")
        if not is_question and heading and fold(heading) not in self.banned:
            path = (*path, heading)
            self.title = self.title or heading
            self.add(f"{'#' * min(6, len(path))} {heading}")
        self.starts.append((path, start, self.next))
        self.children(node, path)
        if is_question and self.length > start:
            self.questions.append(FAQ(heading, start, self.length))

    # Blocks

    def blocks(self, children: Sequence[nodes.Node], gap: str = "\n\n") -> str:
        return gap.join(text for child in children if (text := self.block(child)).strip())

    def block(self, node: nodes.Node) -> str:
        """One block as Markdown, without blank lines around it; empty if it has no words."""
        match node:
            case nodes.Invisible() | nodes.system_message() | nodes.title():
                return ""
            case nodes.literal_block() | nodes.doctest_block() | nodes.math_block():
                return fenced(node.astext().strip("\n"), _language(node))
            case nodes.raw():
                return html_words(node.astext()) if "html" in node["format"] else ""
            case nodes.rubric():
                return f"**{self.line(node)}**"
            case nodes.paragraph() | nodes.caption() | nodes.attribution() | nodes.Text() | nodes.Inline():
                return escaped(self.line(node))
            case nodes.bullet_list():
                return self.items("- " + self.item(child) for child in node.children)
            case nodes.enumerated_list():
                first = node.get("start", 1)
                return self.items(f"{first + i}. {self.item(child)}" for i, child in enumerate(node.children))
            case nodes.definition_list():
                return self.items("- " + self.definition(child) for child in node.children)
            case nodes.field_list():
                return self.items("- " + self.field(child) for child in node.children)
            case nodes.line_block():
                return "\n".join(escaped(self.line(line)) for line in node.findall(nodes.line) if line.astext().strip())
            case nodes.table():
                return self.table(node)
            case nodes.footnote() | nodes.citation():
                return f"[{node[0].astext()}] {self.blocks(node[1:])}"
            case nodes.block_quote() if all(isinstance(c, nodes.paragraph | nodes.attribution) for c in node.children):
                return "\n".join(f"> {line}".rstrip() for line in self.blocks(node.children).split("\n"))
            case nodes.Admonition() | nodes.topic() | nodes.sidebar():
                titles = [self.line(child) for child in node.children if isinstance(child, nodes.title)]
                return self.labelled(titles[0] if titles else type(node).__name__.capitalize(), node.children)
        return self.blocks(node.children)

    def items(self, items: Iterator[str]) -> str:
        """List items below one another, the further lines of each indented to its first words; empty ones are out."""
        return "\n".join(hang(item) for item in items if item.partition(" ")[2].strip())

    def item(self, node: nodes.Node) -> str:
        """The blocks of a list item: a nested list or code follows its paragraph without a gap if that is all."""
        shown = [child for child in node.children if self.block(child).strip()]
        return self.blocks(shown, "\n" if list(map(type, shown)) in _TIGHT else "\n\n")

    def definition(self, node: nodes.Node) -> str:
        """A term and its definition; the definition follows a colon if it begins with words."""
        term, body = "", list[nodes.Node]()
        for child in node.children:
            if isinstance(child, nodes.term):
                term = self.line(child)
            elif isinstance(child, nodes.classifier):
                term += f" ({self.line(child)})"
            else:
                body += child.children
        return self.labelled(term, body)

    def field(self, node: nodes.Node) -> str:
        name = self.line(node.children[0])
        if name.casefold() in _PAGE_FIELDS:  # about the page, not on it
            return ""
        kind, _, rest = name.partition(" ")
        if kind in _FIELDS:
            *types, what = rest.split(" ")
            name = " ".join(w for w in (_FIELDS[kind], what, f"({' '.join(types)})" if types else "") if w)
        return self.labelled(name, node.children[1].children)

    def labelled(self, label: str, body: Sequence[nodes.Node]) -> str:
        """``label: words``, with further blocks below; the label on a line of its own before anything but words."""
        shown = [child for child in body if self.block(child).strip()]
        if not shown:
            return escaped(label)
        first = f"{label}:" if label else ""
        if label and isinstance(shown[0], nodes.paragraph):
            first = f"{label}: {self.line(shown.pop(0))}"
        return "\n\n".join(filter(None, [escaped(first), self.blocks(shown)]))

    def table(self, node: nodes.table) -> str:
        """A pipe table with its title above; where it has no head, the cells of its head are empty."""
        rows = list(node.findall(nodes.row))
        grid = dict[tuple[int, int], str]()
        for y, row in enumerate(rows):
            x = 0
            for entry in (child for child in row.children if isinstance(child, nodes.entry)):
                while (y, x) in grid:  # a cell above reaches into this row
                    x += 1
                for down, right in product(range(entry.get("morerows", 0) + 1), range(entry.get("morecols", 0) + 1)):
                    grid[y + down, x + right] = ""
                grid[y, x] = self.cell(entry)
        columns = range(1 + max(x for _, x in grid))
        heads = sum(isinstance(row.parent, nodes.thead) for row in rows)
        head = [" ".join(filter(None, (grid.get((y, x), "") for y in range(heads)))) for x in columns]
        body = [[grid.get((y, x), "") for x in columns] for y in range(heads, len(rows))]
        lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---" for _ in columns], *body)]
        title = [escaped(self.line(child)) for child in node.children if isinstance(child, nodes.title)]
        return "\n\n".join([*title, "\n".join(lines)])

    def cell(self, node: nodes.Element) -> str:
        """The words of a table cell on one line."""
        parts = [
            inline_code(child.astext()) if isinstance(child, nodes.literal_block) else self.block(child)
            for child in node.children
        ]
        return " ".join(" ".join(parts).split()).replace("|", "\\|")

    # Words within a block

    def line(self, node: nodes.Node, code: Callable[[str], str] | None = None) -> str:
        """The words of ``node`` on one line, code in backticks (or as ``code`` writes it)."""
        return " ".join("".join(self.words(child, code or inline_code) for child in node.children or [node]).split())

    def words(self, node: nodes.Node, code: Callable[[str], str]) -> str:
        match node:
            case nodes.Text():
                return str(node)
            case nodes.literal():
                return code(node.astext())
            case nodes.problematic():
                return _problematic(node.astext())
            case nodes.footnote_reference() | nodes.citation_reference():
                return f"[{node.astext()}]"
            case nodes.raw():
                return _inline_html(node.astext())
            case nodes.inline() if "target" in node:
                return self.resolve(node["role"], node["target"]) or node["target"].rpartition("/")[2]
        return "".join(self.words(child, code) for child in node.children)


_TIGHT = ([nodes.paragraph, nodes.bullet_list], [nodes.paragraph, nodes.literal_block])
_PAGE_FIELDS = ("orphan", "tocdepth", "nocomments", "nosearch", "date", "release", "version", "copyright")
_FIELDS: Mapping[str, str] = {
    "param": "Parameter", "parameter": "Parameter", "arg": "Parameter", "argument": "Parameter",
    "key": "Parameter", "keyword": "Parameter", "kwarg": "Parameter", "type": "Type of", "raises": "Raises",
    "raise": "Raises", "except": "Raises", "exception": "Raises", "return": "Returns", "returns": "Returns",
    "rtype": "Return type", "var": "Variable", "ivar": "Variable", "cvar": "Variable", "vartype": "Type of",
}  # fmt: skip
_MARK = re.compile(r"(#{1,6}(?=\s|$)|[-+*](?=\s|$)|>|`{3,}|~{3,}|(?:-+|=+)$)|(\d{1,9})([.)](?=\s|$))")


def hang(item: str) -> str:
    """A list item, its further lines indented to the column of its first words (blank lines stay empty).

    >>> hang("- a\\n\\n- b")
    '- a\\n\\n  - b'
    """
    indent = " " * (item.index(" ") + 1)
    return re.sub(r"\n(?=[^\n])", "\n" + indent, item)


def escaped(text: str) -> str:
    r"""A paragraph with a backslash before what would make it a heading, a list, a quote, a rule or a fence.

    >>> print(escaped("1. is a number"), escaped("# is a mark"), escaped("#1 is none"))
    1\. is a number \# is a mark #1 is none
    """
    match = _MARK.match(text)
    return text if match is None else f"{match[2] or ''}\\{text[match.end(2) if match[2] else 0 :]}"


def inline_code(text: str) -> str:
    """``text`` on one line between backticks, more of them than it has itself.

    >>> inline_code("x"), inline_code("a ` b")
    ('`x`', '`` a ` b ``')
    """
    text = " ".join(text.split())
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    mark, space = "`" * (longest + 1), " " if longest else ""
    return f"{mark}{space}{text}{space}{mark}" if text else ""


def fenced(code: str, language: str = "") -> str:
    """``code`` as a fenced block; one without a language is ``text``, so that a bare fence always closes."""
    if not code.strip():
        return ""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"{fence}{language or 'text'}\n{code}\n{fence}"


def _language(node: nodes.Element) -> str:
    if not isinstance(node, nodes.literal_block):
        return "pycon" if isinstance(node, nodes.doctest_block) else "math"
    named = [node.get("language", ""), *(name for name in node["classes"] if name != "code")]
    language = next(filter(None, named), "").strip().lower()
    return language if re.fullmatch(r"[\w+#.-]+", language) and language not in ("none", "default") else ""


def _problematic(text: str) -> str:
    """Markup that docutils could not make sense of, down to its words; a lone ``*`` or ````` stays."""
    if match := re.fullmatch(r"(?::[\w:+.-]+:)?`([^`]+)`_{0,2}|\|([^|]+)\|_{0,2}|(\w+)_{1,2}", text, re.DOTALL):
        return next(group for group in match.groups() if group)
    return text


def _inline_html(html: str) -> str:
    return " " if re.match(r"<(br|p|div|li)\b", html, re.IGNORECASE) else re.sub(r"<[^>]*>", "", html)


_NOT_SHOWN = re.compile(r"<!--.*?-->|<(script|style|head|template|svg|nav)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_WITHIN_A_LINE = re.compile(
    r"</?(?:a|abbr|b|code|em|i|kbd|mark|small|span|strong|sub|sup|td|th|tt|u|var)\b[^>]*>", re.IGNORECASE
)


def html_words(source: str) -> str:
    """The words of a piece of HTML, one paragraph a block.

    >>> html_words("<p>Use <b>--reload</b></p><!-- no -->")
    'Use --reload'
    """
    blocks = re.split(r"<[/!\w][^>]*>", _WITHIN_A_LINE.sub("", _NOT_SHOWN.sub("", source)))
    return "\n\n".join(escaped(words) for block in blocks if (words := " ".join(html.unescape(block).split())))

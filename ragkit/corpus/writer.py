"""A docutils tree to Markdown, with the place of every section and every FAQ answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser

from docutils import nodes

from ragkit.corpus.markup import FAQ, Page, fold
from ragkit.markdown import covering

_SILENT = (
    nodes.comment,
    nodes.decoration,
    nodes.image,
    nodes.meta,
    nodes.pending,
    nodes.substitution_definition,
    nodes.system_message,
    nodes.target,
    nodes.title,
    nodes.transition,
)
_CODE = (nodes.literal_block, nodes.doctest_block, nodes.math_block)
_PAGE_FIELDS = frozenset({"orphan", "tocdepth", "nocomments", "nosearch", "date", "release", "version", "copyright"})
_MARK = re.compile(r"(#{1,6}(?=\s|$)|[-+*](?=\s|$)|>|`{3,}|~{3,}|(?:-+|=+)$)|(\d{1,9})([.)](?=\s|$))")


def write(
    tree: nodes.document,
    faq: bool = False,
    banned: frozenset[str] = frozenset(),
    resolve: Callable[[str, str], str | None] = lambda kind, target: None,
) -> Page:
    """The Markdown of ``tree``: headings, fenced code, lists, pipe tables, one line a paragraph.

    Definitions and fields become list items. Links and emphasis are their words alone, inline code stands in
    backticks, and a line that would become a heading, a list, a quote or a fence by accident is escaped.

    ``faq``: take out every heading that ends with a question mark and report what stands under it.
    ``banned``: folded lines that are left out wherever they stand alone (see ``fold``).
    ``resolve``: gives the title that a cross reference ``(kind, target)`` shows.
    """
    return _Writer(faq, banned, resolve).page(tree)


class _Writer:
    def __init__(self, faq: bool, banned: frozenset[str], resolve: Callable[[str, str], str | None]) -> None:
        self.faq, self.banned, self.resolve = faq, banned, resolve
        self.blocks_out: list[str] = []
        self.length = 0
        self.starts: list[tuple[tuple[str, ...], int, int]] = []  # path, start, body
        self.questions: list[FAQ] = []
        self.title = ""

    def page(self, tree: nodes.document) -> Page:
        self.starts.append(((), 0, 0))
        self.children(tree, ())
        text = "\n\n".join(self.blocks_out)
        questions = tuple(sorted(self.questions, key=lambda q: q.start))
        return Page(text, self.title, covering(self.starts, len(text)), questions)

    @property
    def next(self) -> int:
        """Where the next block will start."""
        return self.length + 2 if self.blocks_out else 0

    def add(self, block: str) -> None:
        block = "\n".join(line for line in block.split("\n") if not line.strip() or fold(line) not in self.banned)
        if block.strip():
            self.length = self.next + len(block)
            self.blocks_out.append(block)

    def children(self, node: nodes.Element, path: tuple[str, ...]) -> None:
        for child in node.children:
            if isinstance(child, nodes.section):
                self.section(child, path)
            else:
                self.add(self.block(child))

    def section(self, node: nodes.section, path: tuple[str, ...]) -> None:
        heading = self.plain(node[0]) if node.children and isinstance(node[0], nodes.title) else ""
        asked = self.faq and bool(path) and heading.endswith("?")
        if asked or fold(heading) in self.banned or not heading:
            start = self.next
            self.starts.append((path, start, start))
            self.children(node, path)
            if asked:
                self.questions.append(FAQ(heading, start, max(start, self.length)))
            return
        path = (*path, heading)
        self.title = self.title or heading
        start = self.next
        self.add(f"{'#' * min(6, len(path))} {heading}")
        self.starts.append((path, start, self.next))
        self.children(node, path)

    # Blocks

    def blocks(self, node: nodes.Element) -> str:
        return "\n\n".join(text for child in node.children if (text := self.block(child)).strip())

    def block(self, node: nodes.Node) -> str:
        """One block as Markdown, without blank lines around it; empty if it has no words."""
        if isinstance(node, _SILENT):
            return ""
        if isinstance(node, _CODE):
            return fenced(node.astext().strip("\n"), _language(node))
        if isinstance(node, nodes.raw):
            return html_words(node.astext()) if "html" in node.get("format", "") else ""
        if isinstance(node, nodes.rubric):
            return f"**{words}**" if (words := self.inline(node)) else ""
        if isinstance(node, nodes.paragraph | nodes.caption | nodes.attribution | nodes.Text | nodes.Inline):
            return escaped(self.inline(node))
        if isinstance(node, nodes.bullet_list):
            return self.items(node, lambda i: "- ")
        if isinstance(node, nodes.enumerated_list):
            return self.items(node, lambda i: f"{i + int(node.get('start', 1))}. ")
        if isinstance(node, nodes.definition_list | nodes.option_list):
            return "\n".join(text for child in node.children if (text := self.definition(child)).strip("- \n"))
        if isinstance(node, nodes.field_list):
            return "\n".join(text for child in node.children if (text := self.field(child)).strip("- \n"))
        if isinstance(node, nodes.line_block):
            return self.lines(node)
        if isinstance(node, nodes.table):
            return self.table(node)
        if isinstance(node, nodes.footnote | nodes.citation):
            label = next((c.astext() for c in node.children if isinstance(c, nodes.label)), "")
            body = "\n\n".join(self.block(c) for c in node.children if not isinstance(c, nodes.label))
            return f"[{label}] {body}"
        if isinstance(node, nodes.block_quote) and all(isinstance(c, _QUOTED) for c in node.children):
            return "\n".join(f"> {line}".rstrip() for line in self.blocks(node).split("\n"))
        if isinstance(node, nodes.Element) and isinstance(node, nodes.Admonition | nodes.topic | nodes.sidebar):
            return self.box(node)
        return self.blocks(node) if isinstance(node, nodes.Element) else ""

    def items(self, node: nodes.Element, mark: Callable[[int], str]) -> str:
        items = [
            hang(mark(i), text)
            for i, child in enumerate(node.children)
            if isinstance(child, nodes.Element) and (text := self.tight(child)).strip()
        ]
        return "\n".join(items)

    def tight(self, node: nodes.Element) -> str:
        """The blocks of a list item: a nested list or code follows its paragraph without a gap if that is all."""
        parts = [(child, text) for child in node.children if (text := self.block(child)).strip()]
        if [type(child) for child, _ in parts] in _TIGHT:
            return "\n".join(text for _, text in parts)
        return "\n\n".join(text for _, text in parts)

    def definition(self, node: nodes.Node) -> str:
        """A term and its definition as a list item; the definition follows a colon if it begins with words."""
        if not isinstance(node, nodes.Element):
            return ""
        term, body = "", list[nodes.Node]()
        for child in node.children:
            if isinstance(child, nodes.term):
                term = self.inline(child)
            elif isinstance(child, nodes.classifier):
                term = f"{term} ({self.inline(child)})".strip()
            elif isinstance(child, nodes.option_group):
                term = ", ".join(inline_code(" ".join(o.astext().split())) for o in child.children)
            elif isinstance(child, nodes.Element):
                body += child.children
        return hang("- ", self.labelled(term, body))

    def field(self, node: nodes.Node) -> str:
        if not isinstance(node, nodes.field):
            return self.block(node)
        name = self.inline(node.children[0])
        if name.casefold() in _PAGE_FIELDS:
            return ""
        kind, _, rest = name.partition(" ")
        if kind in _FIELDS:
            *types, what = rest.split(" ")
            name = " ".join(w for w in (_FIELDS[kind], what, f"({' '.join(types)})" if types else "") if w)
        return hang("- ", self.labelled(name, node.children[1].children))

    def labelled(self, label: str, body: Sequence[nodes.Node]) -> str:
        """``label: words``, with further blocks below; the label on a line of its own before anything but words."""
        parts = [(child, text) for child in body if (text := self.block(child)).strip()]
        if not parts:
            return escaped(label)
        first = f"{label}:" if label else ""
        if label and isinstance(parts[0][0], nodes.paragraph):
            first = f"{label}: {self.inline(parts.pop(0)[0])}"
        return "\n\n".join(filter(None, [escaped(first), *(text for _, text in parts)]))

    def lines(self, node: nodes.line_block, indent: str = "") -> str:
        lines = [
            self.lines(child, indent + "  ")
            if isinstance(child, nodes.line_block)
            else indent + escaped(self.inline(child))
            for child in node.children
        ]
        return "\n".join(line for line in lines if line.strip()).lstrip()

    def table(self, node: nodes.table) -> str:
        """A pipe table with its title above; where it has no head, the cells of its head are empty."""
        rows = list[list[str]]()
        open_cells = dict[int, int]()  # column -> rows that a cell above still reaches into
        heads = 0
        for group in node.findall(lambda n: isinstance(n, nodes.thead | nodes.tbody)):
            for row in group.children:
                cells = list[str]()
                for entry in (c for c in row.children if isinstance(c, nodes.entry)):
                    while open_cells.get(len(cells), 0):
                        open_cells[len(cells)] -= 1
                        cells.append("")
                    for column in range(len(cells), len(cells) + 1 + entry.get("morecols", 0)):
                        open_cells[column] = entry.get("morerows", 0)
                    cells += [self.cell(entry), *[""] * entry.get("morecols", 0)]
                if any(cells):
                    rows.append(cells)
                    heads += isinstance(group, nodes.thead)
        width = max(map(len, rows), default=0)
        if not width:
            return ""
        rows = [[*row, *[""] * (width - len(row))] for row in rows]
        head = [" ".join(filter(None, cells)) for cells in zip(*rows[:heads], strict=True)] if heads else [""] * width
        lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * width, *rows[heads:])]
        title = [escaped(self.inline(c)) for c in node.children if isinstance(c, nodes.title)]
        return "\n\n".join([*title, "\n".join(lines)])

    def cell(self, node: nodes.Element) -> str:
        """The words of a table cell on one line."""
        parts = [
            inline_code(" ".join(child.astext().split())) if isinstance(child, _CODE) else self.block(child)
            for child in node.children
        ]
        return " ".join(" ".join(parts).split()).replace("|", "\\|")

    def box(self, node: nodes.Element) -> str:
        """An admonition: its label before its first paragraph, or on a line of its own before anything else."""
        if "contents" in node.get("classes", []):
            return ""
        titles = [self.inline(c) for c in node.children if isinstance(c, nodes.title)]
        if not titles and not self.blocks(node):
            return ""
        return self.labelled(titles[0] if titles else node.__class__.__name__.capitalize(), node.children)

    # Words within a block

    def plain(self, node: nodes.Node) -> str:
        """The words of ``node`` on one line, code without its backticks."""
        return " ".join(self.words(node, code=str).split())

    def inline(self, node: nodes.Node) -> str:
        """The words of ``node`` on one line, code in backticks."""
        return " ".join(self.words(node).split())

    def words(self, node: nodes.Node, code: Callable[[str], str] | None = None) -> str:
        if isinstance(node, nodes.Text):
            return str(node)
        if isinstance(node, nodes.literal):
            return (code or inline_code)(" ".join(node.astext().split()))
        if isinstance(node, nodes.problematic):
            return _problematic(node.astext())
        if isinstance(node, nodes.footnote_reference | nodes.citation_reference):
            return f"[{node.astext()}]"
        if isinstance(node, nodes.raw):
            return _inline_html(node.astext())
        if isinstance(node, _SILENT) and not isinstance(node, nodes.title | nodes.target):
            return ""
        if isinstance(node, nodes.Element) and "target" in node:
            return self.resolve(node["kind"], node["target"]) or node["target"].rpartition("/")[2]
        if isinstance(node, nodes.reference) and not node.children:
            return self.resolve("doc", node.get("refuri", "").partition("#")[0]) or ""
        return "".join(self.words(child, code) for child in node.children)


_QUOTED = (nodes.paragraph, nodes.attribution)
_TIGHT = ([nodes.paragraph], [nodes.paragraph, nodes.bullet_list], [nodes.paragraph, nodes.literal_block])
_FIELDS: Mapping[str, str] = {
    "param": "Parameter", "parameter": "Parameter", "arg": "Parameter", "argument": "Parameter",
    "key": "Parameter", "keyword": "Parameter", "kwarg": "Parameter", "type": "Type of", "raises": "Raises",
    "raise": "Raises", "except": "Raises", "exception": "Raises", "return": "Returns", "returns": "Returns",
    "rtype": "Return type", "var": "Variable", "ivar": "Variable", "cvar": "Variable", "vartype": "Type of",
}  # fmt: skip


def hang(mark: str, text: str) -> str:
    """``text`` behind ``mark``, its further lines indented to the same column (blank lines stay empty)."""
    first, *rest = text.split("\n")
    return "\n".join([mark + first, *(" " * len(mark) + line if line.strip() else "" for line in rest)])


def escaped(text: str) -> str:
    r"""A paragraph with a backslash before what would make it a heading, a list, a quote, a rule or a fence.

    >>> print(escaped("1. is a number"), escaped("# is a mark"), escaped("#1 is none"))
    1\. is a number \# is a mark #1 is none
    """
    match = _MARK.match(text)
    return text if match is None else f"{match[2] or ''}\\{text[match.end(2) if match[2] else 0 :]}"


def inline_code(text: str) -> str:
    """``text`` between backticks, more of them than it has itself.

    >>> inline_code("x"), inline_code("a ` b")
    ('`x`', '`` a ` b ``')
    """
    if not text:
        return ""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    space = " " if text.startswith("`") or text.endswith("`") or longest else ""
    return f"{'`' * (longest + 1)}{space}{text}{space}{'`' * (longest + 1)}"


def fenced(code: str, language: str = "") -> str:
    """``code`` as a fenced block; one without a language is ``text``, so that a bare fence always closes."""
    if not code.strip():
        return ""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"{fence}{language or 'text'}\n{code}\n{fence}"


def _language(node: nodes.Element) -> str:
    if isinstance(node, nodes.doctest_block):
        return "pycon"
    if isinstance(node, nodes.math_block):
        return "math"
    classes: list[str] = node.get("classes", [])
    named = node.get("language") or next((name for name in classes if name != "code"), "")
    language = str(named).strip().lower()
    return language if re.fullmatch(r"[\w+#.-]+", language) and language not in ("none", "default") else ""


def _problematic(text: str) -> str:
    """Markup that docutils could not make sense of, down to its words; a lone ``*`` or ````` stays."""
    if match := re.fullmatch(r"(?::[\w:+.-]+:)?`([^`]+)`_{0,2}|\|([^|]+)\|_{0,2}|(\w+)_{1,2}", text, re.DOTALL):
        return next(group for group in match.groups() if group)
    return text


def _inline_html(html: str) -> str:
    return " " if re.match(r"<(br|p|div|li)\b", html, re.IGNORECASE) else re.sub(r"<[^>]*>", "", html)


class _Html(HTMLParser):
    """Collects the words of every block of a piece of HTML."""

    inline = frozenset({"a", "abbr", "b", "code", "em", "i", "kbd", "mark", "small", "span", "strong", "sub", "sup",
                        "td", "th", "tt", "u", "var"})  # fmt: skip
    silent = frozenset({"script", "style", "head", "template", "svg", "nav", "noscript"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.blocks, self.skipped = [""], 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.skipped += tag in self.silent
        if tag not in self.inline:
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        self.skipped -= tag in self.silent and self.skipped > 0
        if tag not in self.inline:
            self.blocks.append("")

    def handle_data(self, data: str) -> None:
        if not self.skipped:
            self.blocks[-1] += data


def html_words(html: str) -> str:
    """The words of a piece of HTML, one paragraph a block.

    >>> html_words("<p>Use <b>--reload</b></p><!-- no -->")
    'Use --reload'
    """
    return "\n\n".join(escaped(words) for block in _Html(html).blocks if (words := " ".join(block.split())))

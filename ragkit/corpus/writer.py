"""A docutils tree to plain text, with the place of every section and every FAQ answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from docutils import nodes

from ragkit.corpus.html_text import html_words
from ragkit.corpus.page import FAQ, Page, covering, fold

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
_PAGE_FIELDS = frozenset({"orphan", "tocdepth", "nocomments", "nosearch", "date", "release", "version", "copyright"})


def write(
    tree: nodes.document,
    faq: bool = False,
    banned: frozenset[str] = frozenset(),
    resolve: Callable[[str, str], str | None] = lambda kind, target: None,
) -> Page:
    """The text of ``tree``.

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
        return Page(
            text, self.title, covering(self.starts, len(text)), tuple(sorted(self.questions, key=lambda q: q.start))
        )

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
        heading = self.inline(node[0]) if node.children and isinstance(node[0], nodes.title) else ""
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
        self.add(heading)
        self.starts.append((path, start, self.next))
        self.children(node, path)

    # Blocks

    def blocks(self, node: nodes.Element, between: str = "\n\n") -> str:
        return between.join(text for child in node.children if (text := self.block(child)).strip())

    def block(self, node: nodes.Node) -> str:
        """One block as text, without blank lines around it; empty if it has no words."""
        if isinstance(node, _SILENT):
            return ""
        if isinstance(node, nodes.literal_block | nodes.doctest_block | nodes.math_block):
            return node.astext().strip("\n")
        if isinstance(node, nodes.raw):
            return html_words(node.astext()) if "html" in node.get("format", "") else ""
        if isinstance(node, nodes.paragraph | nodes.rubric | nodes.caption | nodes.term | nodes.attribution):
            return self.inline(node)
        if isinstance(node, nodes.bullet_list):
            return self.items(node, lambda i: "- ")
        if isinstance(node, nodes.enumerated_list):
            return self.items(node, lambda i: f"{i + int(node.get('start', 1))}. ")
        if isinstance(node, nodes.definition_list | nodes.option_list):
            return "\n".join(text for child in node.children if (text := self.definition(child)).strip())
        if isinstance(node, nodes.field_list):
            return "\n".join(text for child in node.children if (text := self.field(child)).strip())
        if isinstance(node, nodes.line_block):
            return self.lines(node)
        if isinstance(node, nodes.table):
            return self.table(node)
        if isinstance(node, nodes.footnote | nodes.citation):
            label = next((c.astext() for c in node.children if isinstance(c, nodes.label)), "")
            body = "\n\n".join(self.block(c) for c in node.children if not isinstance(c, nodes.label))
            return f"[{label}] {body}"
        if isinstance(node, nodes.Element) and isinstance(node, nodes.Admonition | nodes.topic | nodes.sidebar):
            return self.box(node)
        if isinstance(node, nodes.Text | nodes.Inline):
            return self.inline(node)
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
        between = "\n\n" if sum(isinstance(c, nodes.paragraph) for c in node.children) > 1 else "\n"
        return self.blocks(node, between)

    def definition(self, node: nodes.Node) -> str:
        if not isinstance(node, nodes.Element):
            return ""
        head: list[str] = []
        body: list[str] = []
        for child in node.children:
            if isinstance(child, nodes.term):
                head.append(self.inline(child))
            elif isinstance(child, nodes.classifier):
                head[-1:] = [f"{''.join(head[-1:])} : {self.inline(child)}"]
            elif isinstance(child, nodes.option_group):
                head.append(", ".join(o.astext().replace("\n", " ") for o in child.children))
            elif isinstance(child, nodes.Element):
                body.append(self.blocks(child))
        text = "\n\n".join(b for b in body if b.strip())
        return "\n".join([*head, hang("    ", text)] if text else head)

    def field(self, node: nodes.Node) -> str:
        if not isinstance(node, nodes.field):
            return self.block(node)
        name, body = self.inline(node.children[0]), "\n\n".join(self.block(c) for c in node.children[1].children)
        if name.casefold() in _PAGE_FIELDS:
            return ""
        kind, _, rest = name.partition(" ")
        if kind in _FIELDS:
            *types, what = rest.split(" ") if rest else [""]
            name = " ".join(w for w in (_FIELDS[kind], what, f"({' '.join(types)})" if types else "") if w)
        return hang("", f"{name}: {body}" if body else name)

    def lines(self, node: nodes.line_block) -> str:
        return "\n".join(
            hang("  ", self.lines(child)) if isinstance(child, nodes.line_block) else self.inline(child)
            for child in node.children
        )

    def table(self, node: nodes.table) -> str:
        rows: list[str] = [self.inline(c) for c in node.children if isinstance(c, nodes.title)]
        for group in node.findall(lambda n: isinstance(n, nodes.thead | nodes.tbody)):
            for row in group.children:
                cells = [" ".join(self.blocks(c).split()) for c in row.children if isinstance(c, nodes.entry)]
                if any(cells):
                    rows.append(" | ".join(cells))
                if isinstance(group, nodes.thead):
                    rows.append(" | ".join("---" for _ in cells))
        return "\n".join(rows)

    def box(self, node: nodes.Element) -> str:
        """An admonition: its label before its first paragraph, or on a line of its own before anything else."""
        if "contents" in node.get("classes", []):
            return ""
        titles = [self.inline(c) for c in node.children if isinstance(c, nodes.title)]
        label = titles[0] if titles else node.__class__.__name__.capitalize()
        body = self.blocks(node)
        if not body:
            return titles[0] if titles else ""
        first = next(c for c in node.children if self.block(c).strip())
        return f"{label}: {body}" if isinstance(first, nodes.paragraph) else f"{label}:\n\n{body}"

    # Words within a block

    def inline(self, node: nodes.Node) -> str:
        """The words of ``node`` on one line."""
        return " ".join(self.words(node).split())

    def words(self, node: nodes.Node) -> str:
        if isinstance(node, nodes.Text):
            return str(node)
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
        return "".join(self.words(child) for child in node.children)


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


def _problematic(text: str) -> str:
    """Markup that docutils could not make sense of, down to its words; a lone ``*`` or ````` stays."""
    if match := re.fullmatch(r"(?::[\w:+.-]+:)?`([^`]+)`_{0,2}|\|([^|]+)\|_{0,2}|(\w+)_{1,2}", text, re.DOTALL):
        return next(group for group in match.groups() if group)
    return text


def _inline_html(html: str) -> str:
    return " " if re.match(r"<(br|p|div|li)\b", html, re.IGNORECASE) else re.sub(r"<[^>]*>", "", html)

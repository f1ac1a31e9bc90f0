"""Sphinx's directives and roles, reduced to the words that a reader of the built pages would see.

docutils knows neither Sphinx nor a project's own extensions. Inside ``sphinx_words()`` every directive
and role has an answer: code stays code, object descriptions keep signature and body, what shows nothing
on the page (index entries, tables of contents, generated API listings) is dropped, and anything unknown
keeps its words. This module imports docutils; import it lazily.
"""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives, roles
from docutils.utils import unescape

_LOCK = threading.Lock()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Nothing of these is on the page, or only what is generated from code or from other pages.
DROPPED = _names("""
    acks cssclass rst-class click codeauthor command-output contents dask-config-block default-domain
    default-intersphinx digraph footer graph graphviz header highlight highlightlang image include index
    inheritance-diagram mermaid meta moduleauthor plot program program-output raw sectionauthor sectnum settingslist
    tabularcolumns target-notes testcleanup testsetup toctree todo todolist towncrier-draft-entries
    """)
# Targets for cross references: their argument is not shown (a heading or a paragraph beside them shows it).
TARGETS = _names("module currentmodule setting signal stat command reqmeta event control state sig")
CODE = _names(
    "code code-block code-cell sourcecode ipython ipython3 jupyter-execute doctest testcode testoutput prompt "
    "productionlist highlight-code"
)
# Layout: the content is shown, the argument says how.
LAYOUT = _names("grid grid-item tab-set hlist only ifconfig container div glossary details-group")
# Descriptions whose title is code.
SIGNATURES = _names("""
    attribute class classmethod cmdoption cofunction comethod confval coroutinefunction coroutinemethod data decorator
    decoratormethod describe envvar exception function macro member method object option program property staticmethod
    type var
    """)
VERSIONS = {
    "versionadded": "New in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "versionremoved": "Removed in version",
    "deprecated-removed": "Deprecated since version",
}
_PYTHON_ROLES = _names("class meth func attr mod exc obj data const type any")
_NUMBER_ROLES = _names("issue pr pull gh ghpull bug")
# The languages of directives that name none.
_LANGUAGES = dict.fromkeys(("ipython", "ipython3", "code-cell", "testcode"), "python") | {
    "doctest": "pycon",
    "prompt": "bash",
    "productionlist": "bnf",
}


class _AnyOption(dict[str, Any]):
    """An option specification that takes every option as text."""

    def __missing__(self, name: str) -> Any:
        return directives.unchanged


class _Lenient(Directive):
    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = _AnyOption(name=directives.unchanged)

    def argument(self) -> str:
        return unescape(self.arguments[0]) if self.arguments else ""

    def body(self, parent: nodes.Element) -> nodes.Element:
        self.state.nested_parse(self.content, self.content_offset, parent)
        return parent

    def inline(self, text: str) -> list[nodes.Node]:
        return list(self.state.inline_text(text, self.lineno)[0])

    @property
    def kind(self) -> str:
        return self.name.lower().rpartition(":")[2]


class Dropped(_Lenient):
    def run(self) -> list[nodes.Node]:
        return []


class Content(_Lenient):
    """The content alone."""

    def run(self) -> list[nodes.Node]:
        if self.kind == "only" and "latex" in self.argument() and "not" not in self.argument():
            return []
        return [self.body(nodes.container())]


class Code(_Lenient):
    def run(self) -> list[nodes.Node]:
        lines = [line for line in self.content if not line.lstrip().startswith("@savefig")]
        code = "\n".join(lines).strip("\n")
        if self.kind in ("prompt", "productionlist") and not code:
            code = self.argument()
        language = _LANGUAGES.get(self.kind, self.argument())
        return [nodes.literal_block(code, code, language=language)] if code.strip() else []


class LiteralInclude(_Lenient):
    """A file of the same archive as code (``settings.ragkit_files`` reads it); ``pyobject`` and ``lines`` select."""

    def run(self) -> list[nodes.Node]:
        read = getattr(self.state.document.settings, "ragkit_files", None)
        code = read(self.argument()) if read else None
        if code is None:
            return []
        lines = code.splitlines()
        if name := self.options.get("pyobject"):
            lines = _python_object(code, name)
        if wanted := self.options.get("lines"):
            lines = _selected(lines, wanted)
        code = "\n".join(lines).strip("\n")
        language = self.options.get("language", "python" if self.argument().endswith(".py") else "")
        return [nodes.literal_block(code, code, language=language)] if code.strip() else []


def _python_object(code: str, name: str) -> list[str]:
    """The source lines of a top-level function or class, or nothing."""
    try:
        body = ast.parse(code).body
    except SyntaxError:
        return []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            return code.splitlines()[first - 1 : node.end_lineno]
    return []


def _selected(lines: list[str], wanted: str) -> list[str]:
    """``wanted`` as Sphinx writes it: ``1-3,7,9-``."""
    chosen: list[str] = []
    for part in wanted.split(","):
        first, dash, last = part.strip().partition("-")
        start = int(first) if first.isdigit() else 1
        end = int(last) if last.isdigit() else (len(lines) if dash else start)
        chosen += lines[start - 1 : end]
    return chosen


class Version(_Lenient):
    """``versionadded`` and its kin: "New in version 5.1: ..."."""

    def run(self) -> list[nodes.Node]:
        number, _, text = self.argument().replace("\n", " ").partition(" ")
        paragraph = nodes.paragraph("", f"{VERSIONS[self.kind]} {number}")
        if text:
            paragraph += [nodes.Text(": "), *self.inline(text)]
        body = self.body(nodes.container())
        if not text and body.children and isinstance(body[0], nodes.paragraph):
            paragraph += [nodes.Text(": "), *body.pop(0).children]
        return [paragraph, *body.children]


class SeeAlso(_Lenient):
    def run(self) -> list[nodes.Node]:
        box = nodes.admonition("", nodes.title("", "See also"))
        if self.argument():
            box += nodes.paragraph("", "", *self.inline(self.argument()))
        return [self.body(box)]


class Names(_Lenient):
    """``autosummary``: the names it lists are on the page, the rest is generated."""

    def run(self) -> list[nodes.Node]:
        names = [line.split()[0].lstrip("~") for line in self.content if line.strip() and line.strip()[0] != ":"]
        items = [nodes.list_item("", nodes.paragraph("", "", nodes.literal("", name))) for name in names]
        return [nodes.bullet_list("", *items)] if items else []


class Described(_Lenient):
    """A signature (or a title) with the text under it: ``py:function``, ``option``, ``dropdown``, anything unknown."""

    def run(self) -> list[nodes.Node]:
        body = self.body(nodes.definition())
        if self.kind.startswith("auto") and not body.children:
            return []
        lines = [line.strip() for line in re.sub(r"\s*\\\s*\n\s*", " ", self.argument()).splitlines()]
        titles = [re.sub(r"\\(\S)", r"\1", line) for line in lines if line and not re.match(r":[\w-]+:", line)]
        if not titles:
            return list(body.children)
        entry = nodes.definition_list()
        code = self.kind.removeprefix("auto") in SIGNATURES
        for i, title in enumerate(titles):
            term = nodes.term("", "", *([nodes.literal("", title)] if code else self.inline(title)))
            entry += nodes.definition_list_item("", term, *([body] if i == len(titles) - 1 else []))
        return [entry]


class Target(_Lenient):
    """A target for cross references; where it has content, the content is shown."""

    def run(self) -> list[nodes.Node]:
        return list(self.body(nodes.container()).children) if self.content else []


def _directive(name: str) -> type[Directive] | None:
    kind = name.lower().rpartition(":")[2]
    if kind in VERSIONS:
        return Version
    if kind == "literalinclude":
        return LiteralInclude
    if kind == "seealso":
        return SeeAlso
    if kind == "autosummary":
        return Names
    if kind == "class":  # Sphinx's class of an API, not docutils's CSS class
        return Described
    for names, directive in ((DROPPED, Dropped), (TARGETS, Target), (CODE, Code), (LAYOUT, Content)):
        if kind in names:
            return directive
    return None


def words(role: str, text: str) -> str:
    """What a role's text says on the page.

    >>> words("meth", "~celery.app.control.Control.revoke"), words("ref", "the guide <guide-workers>")
    ('revoke', 'the guide')
    """
    kind = role.lower().rpartition(":")[2]
    if match := re.fullmatch(r"(.*\S)\s*<[^<>]+>", text, re.DOTALL):
        return match[1]
    if kind in _PYTHON_ROLES:
        text = text.lstrip("!")
        return text.rpartition(".")[2] if text.startswith("~") else text.lstrip(".")
    if kind in _NUMBER_ROLES and text.isdigit():
        return f"#{text}"
    return text


def _role(
    name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Mapping[str, Any] = {}, content: Any = ()
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    plain = unescape(text)
    node = nodes.inline("", words(name, plain))
    kind = name.lower().rpartition(":")[2]
    if kind in ("ref", "doc", "numref") and node.astext() == plain:
        node["target"] = plain.lstrip("!")  # the writer puts the title of the target here
        node["kind"] = kind
    return [node], []


@contextmanager
def sphinx_words() -> Iterator[None]:
    """Answer every directive and role while the body runs; docutils is left as it was found.

    docutils keeps its tables in modules, so one thread at a time parses.
    """
    known_directive, known_role = directives.directive, roles.role

    def directive(name: str, language: Any, document: Any) -> tuple[type[Directive], list[Any]]:
        found = _directive(name) or known_directive(name, language, document)[0]
        return found or Described, []

    def role(name: str, language: Any, lineno: int, reporter: Any) -> tuple[Any, list[Any]]:
        found = known_role(name, language, lineno, reporter)[0]
        return found or _role, []

    with _LOCK:
        table: dict[str, Any] = roles._roles  # type: ignore[attr-defined]
        saved = dict(table)
        directives.directive, roles.role = directive, role  # type: ignore[assignment]
        try:
            yield
        finally:
            directives.directive, roles.role = known_directive, known_role
            table.clear()
            table.update(saved)

"""The documentation of real Python projects, with the questions of their FAQ pages as gold labels.

Source distributions are fetched from the package index, pinned by version and sha256 in a manifest
(``data/pydocs.toml``), and read page by page. On an FAQ page every heading below the title that ends with
a question mark becomes a ``Question``; its gold span is what stands under it, up to the next heading of
the same or a higher level. The heading itself is taken out of the text and of the section paths, and so is
every other line of the project that says the same: else a word index would only have to find the question.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from ragkit.base import Corpus, CorpusError, Document, IntegrityError, Question, Section, Span, StoreMismatchError
from ragkit.corpus.fetch import fetch, read_archive
from ragkit.corpus.markup import fold, parse, titles
from ragkit.files import atomic_folder, data_file, home, lock, read_manifest, write_manifest

_MARKUP = {".rst": "rst", ".md": "md", ".txt": "rst"}
_INCLUDED = (*_MARKUP, ".py", ".html", ".conf", ".cfg", ".ini", ".toml", ".yaml", ".yml", ".sh", "")
_NOT_DOCUMENTS = re.compile(
    r"(\d{4}-)?news|changes|change[-_]?log.*|history|what'?s[-_]?new.*|releases?|release[-_]notes?.*"
    r"|requirements.*|.*wordlist|authors|contributors|_.*|templates|includes"
)
_INCLUDE = re.compile(r"(?:\.\. include::|\{include\}) *(\S+)")
_FAQ = re.compile(r"(?i)\bfaqs?\b|frequently[\s_-]+asked")


@dataclass(frozen=True)
class Project:
    """One entry of a manifest: an archive of the package index, pinned, and where its documents are."""

    name: str
    version: str
    file: str
    sha256: str
    docs: str
    licence: str

    @property
    def key(self) -> str:
        """Changes with the archive and with everything that turns it into text."""
        code = b"".join((Path(__file__).parent / f"{module}.py").read_bytes() for module in _PARSER_MODULES)
        parts = (json.dumps(asdict(self), sort_keys=True), version("docutils"), version("myst-docutils"))
        return hashlib.sha256(code + "\n".join(parts).encode()).hexdigest()[:16]


_PARSER_MODULES = ("../markdown", "markup", "pydocs", "sphinx", "writer")


def load_pydocs(name: str = "core", manifest: str | Path | None = None) -> Corpus:
    """The documentation corpus ``name``: ``"tiny"``, ``"core"`` or ``"extended"``.

    ``manifest`` is the path of a manifest of your own; ``name`` is then one of its groups (all its projects
    where it has no such table). The first call fetches and reads the archives, later calls read the result
    from ``files.home()`` and need no network.

    Raises:
        CorpusError: there is no such corpus, or the manifest is not readable.
        FetchError, IntegrityError, ArchiveError: an archive could not be had, or is not the pinned one.
    """
    path = Path(manifest) if manifest is not None else data_file("pydocs.toml")
    projects = read_projects(path, name, strict=manifest is None)
    documents: list[Document] = []
    questions: list[Question] = []
    notes: Counter[str] = Counter()
    for project in projects:
        pages, faq_questions, counts = _load(project)
        documents += pages
        questions += faq_questions
        notes.update(counts)
    return Corpus(name if manifest is None else path.stem, tuple(documents), tuple(questions), dict(notes))


def read_projects(path: Path, group: str, strict: bool = True) -> tuple[Project, ...]:
    """The projects of ``group`` in the manifest at ``path`` (all of them if it has no groups and not ``strict``).

    Raises:
        CorpusError: says what is wrong with the manifest, or which groups it has.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"manifest {path}: cannot be read ({error})") from error
    entries = content.get("project")
    if not isinstance(entries, list) or not entries:
        raise CorpusError(f"manifest {path}: no [[project]] table; see data/pydocs.toml for the form")
    projects = {p.name: p for p in (_project(path, entry) for entry in entries)}
    groups = content.get("groups", {})
    if group not in groups and not strict and (not groups or group == "core"):
        return tuple(projects.values())
    if group not in groups:
        raise CorpusError(f"no corpus {group!r} in {path.name}; there are: {', '.join(groups) or 'no groups'}")
    if unknown := [n for n in groups[group] if n not in projects]:
        raise CorpusError(f"manifest {path}: group {group!r} names {unknown}, which have no [[project]] table")
    return tuple(projects[n] for n in groups[group])


def _project(path: Path, entry: Mapping[str, Any]) -> Project:
    fields = tuple(Project.__dataclass_fields__)
    if bad := [f for f in fields if not isinstance(entry.get(f), str) or not entry[f]]:
        raise CorpusError(f"manifest {path}: project {entry.get('name', '?')!r} needs the texts {', '.join(bad)}")
    project = Project(*(entry[f] for f in fields))
    if not re.fullmatch(r"[0-9a-f]{64}", project.sha256):
        raise CorpusError(f"manifest {path}: sha256 of {project.name!r} is not 64 lowercase hexadecimal digits")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", project.name) or ".." in PurePosixPath(project.docs).parts:
        raise CorpusError(f"manifest {path}: name or docs of {project.name!r} is not a plain name or folder")
    return project


Loaded = tuple[list[Document], list[Question], dict[str, int]]


def _load(project: Project) -> Loaded:
    """The pages of one project, from the cache or freshly read."""
    folder = home() / "corpora" / f"{project.name}-{project.version}-{project.key}"
    with lock(folder.parent / f".{project.name}.lock"):
        try:
            notes = read_manifest(folder, {"key": project.key})["notes"]
        except (IntegrityError, StoreMismatchError):
            files = read_archive(fetch(project.name, project.file, project.sha256), _may_be_read)
            documents, questions, notes = read_pages(project, files)
            with atomic_folder(folder) as fresh:
                _write_lines(fresh / "documents.jsonl", documents)
                _write_lines(fresh / "questions.jsonl", questions)
                write_manifest(fresh, {"key": project.key, "notes": notes})
        return (
            [_document(line) for line in _lines(folder / "documents.jsonl")],
            [_question(line) for line in _lines(folder / "questions.jsonl")],
            notes,
        )


def _may_be_read(name: str) -> bool:
    return PurePosixPath(name).suffix in _INCLUDED


def read_pages(project: Project, files: Mapping[str, bytes]) -> Loaded:
    """Documents, questions and counts from the files of an archive (``{name: content}``)."""
    from tqdm.auto import tqdm

    from ragkit.corpus.writer import write

    root = next(iter(files), "").partition("/")[0]
    texts, notes = _texts(project, root, files)
    resolve = _Titles(texts, project.docs)

    def read(name: str) -> str | None:
        """A file that a page includes: ``/x`` is below the docs folder, or below the project."""
        for path in (name, f"{project.docs}{name}", name.lstrip("/")):
            if (content := files.get(f"{root}/{path}")) is not None:
                return content.decode("utf-8", "replace")
        return None

    trees = {}
    for path, text in tqdm(texts.items(), desc=f"Reading {project.name}", unit=" pages", leave=False):
        text = text.replace("|version|", project.version).replace("|release|", project.version)
        trees[path] = parse(text, _MARKUP[PurePosixPath(path).suffix], path, read)
    faqs = {path for path, tree in trees.items() if _FAQ.search(PurePosixPath(path).stem) or _FAQ.search(_title(tree))}
    faq_questions = {q.question for path in sorted(faqs) for q in write(trees[path], faq=True).questions}
    banned = frozenset(map(fold, faq_questions))

    documents: dict[str, Document] = {}
    questions: list[Question] = []
    for path, tree in trees.items():
        page = write(tree, path in faqs, banned, lambda kind, to, at=path: resolve(kind, to, at, banned))  # type: ignore[misc]
        if not page.text.strip():
            notes["pages without words"] += 1
            continue
        notes["pages whose markup could not be read, taken as plain text"] += bool(tree.get("unparsed"))
        notes["pages with nothing but a heading"] += page.text == f"# {page.title}"
        inner = PurePosixPath(path).relative_to(project.docs)
        doc_id = f"{project.name}/{inner.with_suffix('')}"
        if doc_id in documents:
            doc_id = f"{project.name}/{inner}"
        title = page.title or inner.stem
        metadata = {"project": project.name, "version": project.version, "title": title, "source": f"{root}/{path}"}
        documents[doc_id] = Document(doc_id, page.text, title, page.sections, {**metadata, "licence": project.licence})
        for i, q in enumerate(page.questions, 1):
            if q.start == q.end:
                notes["FAQ questions without an answer left out"] += 1
                continue
            gold = Span(doc_id, q.start, q.end)
            answer = page.text[q.start : q.end]
            questions.append(Question(f"{doc_id}#{i}", q.question, (gold,), ("faq", project.name), answer))
    return list(documents.values()), questions, {what: count for what, count in notes.items() if count}


def _texts(project: Project, root: str, files: Mapping[str, bytes]) -> tuple[dict[str, str], Counter[str]]:
    """The pages below the docs folder, ``{path below the root: text}``, in order, and what was left out."""
    texts: dict[str, str] = {}
    notes: Counter[str] = Counter()
    for name in sorted(files):
        path = PurePosixPath(name.removeprefix(f"{root}/"))
        if path.suffix not in _MARKUP or not path.is_relative_to(project.docs):
            continue
        parts = [PurePosixPath(p).stem.casefold() for p in path.relative_to(project.docs).parts]
        if any(_NOT_DOCUMENTS.fullmatch(p) for p in parts):
            notes["release notes and lists left out"] += 1
            continue
        try:
            texts[str(path)] = files[name].decode("utf-8-sig")
        except UnicodeDecodeError:
            notes["files that are not UTF-8 left out"] += 1
    included = {
        posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        for path, text in texts.items()
        for target in _INCLUDE.findall(text)
        if posixpath.basename(target) != posixpath.basename(path)
    }
    for part in sorted(included & texts.keys()):  # their text stands in the page that includes them
        del texts[part]
        notes["files that are part of another page"] += 1
    return texts, notes


class _Titles:
    """What ``:ref:`` and ``:doc:`` show: the title of the section or page that they point to."""

    def __init__(self, texts: Mapping[str, str], docs: str) -> None:
        self._docs = docs
        self._labels: dict[str, str] = {}
        self._pages: dict[str, str] = {}
        for path, text in texts.items():
            title, labels = titles(text)
            self._pages[str(PurePosixPath(path).with_suffix(""))] = title
            self._labels.update(labels)

    def __call__(self, kind: str, target: str, page: str, banned: frozenset[str]) -> str | None:
        if kind == "doc":
            base = self._docs if target.startswith("/") else posixpath.dirname(page)
            path = posixpath.normpath(posixpath.join(base, target.lstrip("/")))
            title = self._pages.get(re.sub(r"\.(rst|md|txt)$", "", path))
        else:
            title = self._labels.get(" ".join(target.casefold().split()))
        return title if title and fold(title) not in banned else None


def _title(tree: Any) -> str:
    from docutils import nodes

    return next((node.astext() for node in tree.findall(nodes.title)), "")


def _write_lines(path: Path, records: Iterable[Document | Question]) -> None:
    path.write_text("".join(json.dumps(_plain(r), ensure_ascii=False) + "\n" for r in records), encoding="utf-8")


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _plain(record: Document | Question) -> dict[str, Any]:
    if isinstance(record, Question):
        return asdict(record)
    sections = [(s.path, s.start, s.body, s.end) for s in record.sections]
    return {
        "id": record.id,
        "text": record.text,
        "title": record.title,
        "sections": sections,
        "metadata": record.metadata,
    }


def _document(line: dict[str, Any]) -> Document:
    sections = tuple(Section(tuple(path), *places) for path, *places in line["sections"])
    return Document(line["id"], line["text"], line["title"], sections, line["metadata"])


def _question(line: dict[str, Any]) -> Question:
    gold = tuple(Span(**span) for span in line["gold"])
    return Question(line["id"], line["text"], gold, tuple(line["tags"]), line["answer"])

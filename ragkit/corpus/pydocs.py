"""The documentation of real Python projects, with the questions of their FAQ pages as gold labels.

Source distributions are fetched from the package index, pinned by version and sha256 in a manifest
(``data/pydocs.toml``), and read page by page. On an FAQ page every heading below the title that ends with
a question mark becomes a ``Question``; its gold span is what stands under it, up to the next heading of
the same or a higher level. The heading itself is taken out of the text and of the section paths, and so is
every other line of the project that says the same: else a word index would only have to find the question.

What is fetched is data: it is opened and read, never unpacked to disk, built or run.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import re
import tarfile
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ragkit.base import (
    ArchiveError,
    Corpus,
    CorpusError,
    Document,
    IntegrityError,
    MissingExtraError,
    Question,
    Span,
)
from ragkit.fetch import fetch
from ragkit.files import atomic_folder, data_file, home, lock, read_manifest, write_manifest

if TYPE_CHECKING:
    from docutils import nodes

MAX_UNPACKED = 512 << 20  # bytes of a whole archive, which is read in memory
MAX_FILE = 16 << 20  # bytes of one file

_MARKUP = {".rst": "rst", ".md": "md", ".txt": "rst"}
_INCLUDED = (*_MARKUP, ".py", ".html", ".conf", ".cfg", ".ini", ".toml", ".yaml", ".yml", ".sh", "")
_NOT_DOCUMENTS = re.compile(
    r"(\d{4}-)?news|changes|change[-_]?log.*|history|what'?s[-_]?new.*|releases?|release[-_]notes?.*"
    r"|requirements.*|.*wordlist|authors|contributors|_.*|templates|includes"
)
_FAQ = re.compile(r"(?i)\bfaqs?\b|frequently[\s_-]+asked")
_PARSER_MODULES = ("../markdown", "pydocs", "rst")


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
        """Changes with the archive and with everything that turns it into text.

        Raises:
            MissingExtraError: the parsers are not installed.
        """
        code = b"".join((Path(__file__).parent / f"{module}.py").read_bytes() for module in _PARSER_MODULES)
        try:
            parts = (json.dumps(asdict(self), sort_keys=True), version("docutils"), version("myst-docutils"))
        except PackageNotFoundError as error:
            raise MissingExtraError(
                f"'{error.name}' is not installed. Install it with: pip install 'ragkit-workbench[corpus]'"
            ) from error
        return hashlib.sha256(code + "\n".join(parts).encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """Where its pages are once they have been read."""
        return home() / "corpora" / f"{self.name}-{self.version}-{self.key}"


def load_pydocs(name: str = "core") -> Corpus:
    """The documentation corpus ``name``: ``"tiny"``, ``"core"`` or ``"extended"``.

    The first call fetches and reads the archives, later calls read the result from ``files.home()`` and need no
    network.

    Raises:
        CorpusError: there is no such corpus.
        FetchError, IntegrityError, ArchiveError: an archive could not be had, or is not the pinned one.
    """
    parts = [_load(project) for project in read_projects("pydocs.toml", name)]
    documents = tuple(document for part in parts for document in part.documents)
    questions = tuple(question for part in parts for question in part.questions)
    return Corpus(name, documents, questions, dict(sum((Counter(part.notes) for part in parts), Counter())))


def read_projects(manifest: str, group: str) -> tuple[Project, ...]:
    """The projects of ``group`` in ``data/<manifest>``.

    Raises:
        CorpusError: there is no such group; names those that there are.
    """
    content = tomllib.loads(data_file(manifest).read_text(encoding="utf-8"))
    projects = {entry["name"]: Project(**entry) for entry in content["project"]}
    if group not in content["groups"]:
        raise CorpusError(f"no corpus {group!r}; there are: {', '.join(content['groups'])}")
    return tuple(projects[name] for name in content["groups"][group])


# ---- the archive


def read_archive(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The regular files of a ``.tar.gz`` whose name ``wanted`` accepts, as ``{name: content}``.

    Nothing is written to disk. Links and devices are never followed.

    Raises:
        ArchiveError: truncated or damaged; a name that leaves the folder; more than ``MAX_UNPACKED`` bytes, or a
            wanted file of more than ``MAX_FILE``.
    """
    files: dict[str, bytes] = {}
    try:
        with gzip.open(path) as packed:
            data = packed.read(MAX_UNPACKED + 1)
        if len(data) > MAX_UNPACKED:
            raise ArchiveError(f"{path.name}: unpacks to more than {MAX_UNPACKED >> 20} MB; the archive is not used")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                if member.name.startswith("/") or ".." in member.name.split("/"):
                    raise ArchiveError(f"{path.name}: member {member.name!r} would leave its folder; it is not used")
                if not wanted(member.name) or not member.isreg():
                    continue
                if member.size > MAX_FILE:
                    raise ArchiveError(f"{path.name}: member {member.name!r} has more than {MAX_FILE >> 20} MB")
                if file := tar.extractfile(member):
                    files[member.name] = file.read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ArchiveError(f"{path.name}: truncated or damaged ({error}); delete it and fetch again") from error
    return files


# ---- the pages


def _load(project: Project) -> Corpus:
    """The pages of one project, from the cache or freshly read."""
    from pydantic import TypeAdapter

    corpus = TypeAdapter(Corpus)
    with lock(project.folder.parent / f".{project.name}.lock"):
        try:
            read_manifest(project.folder)
        except IntegrityError:
            files = read_archive(fetch(project.name, project.file, project.sha256), may_be_read)
            pages = read_pages(project, files)
            with atomic_folder(project.folder) as fresh:
                (fresh / "corpus.json").write_bytes(corpus.dump_json(pages))
                write_manifest(fresh, {"key": project.key})
        return corpus.validate_json((project.folder / "corpus.json").read_bytes())


def may_be_read(name: str) -> bool:
    """Whether a file of an archive is a page, or may be included in one."""
    return PurePosixPath(name).suffix in _INCLUDED


def read_pages(project: Project, files: Mapping[str, bytes]) -> Corpus:
    """The documents and questions of a project, from the files of its archive (``{name: content}``)."""
    from tqdm.auto import tqdm

    from ragkit.corpus.rst import fold, parse, write

    root = next(iter(files), "").partition("/")[0]
    notes: Counter[str] = Counter()

    def read(name: str) -> str | None:
        """A file that a page includes: ``/x`` is below the docs folder, or below the project."""
        for path in (name, f"{project.docs}{name}", name.lstrip("/")):
            if (content := files.get(f"{root}/{path}")) is not None:
                return content.decode("utf-8", "replace")
        return None

    trees: dict[str, nodes.document] = {}
    texts: dict[str, str] = {}
    for path in tqdm(_pages(project, files, notes), desc=f"Reading {project.name}", unit=" pages", leave=False):
        text = files[f"{root}/{path}"].decode("utf-8-sig", "replace")
        texts[path] = text
        text = text.replace("|version|", project.version).replace("|release|", project.version)
        trees[path] = parse(text, _MARKUP[PurePosixPath(path).suffix], path, read)
    faqs = {path for path, tree in trees.items() if _FAQ.search(PurePosixPath(path).stem) or _FAQ.search(_title(tree))}
    banned = frozenset(fold(q.question) for path in faqs for q in write(trees[path], faq=True).questions)
    title_of = _titles(texts, project.docs, banned)

    documents: list[Document] = []
    questions: list[Question] = []
    for path, tree in trees.items():
        page = write(tree, path in faqs, banned, lambda role, to, at=path: title_of(at, role, to))  # type: ignore[misc]
        if not page.text.strip():
            notes["pages without words"] += 1
            continue
        notes["pages whose markup could not be read, taken as plain text"] += bool(tree.get("unparsed"))
        notes["pages with nothing but a heading"] += page.text == f"# {page.title}"
        inner = PurePosixPath(path).relative_to(project.docs)
        doc_id = f"{project.name}/{inner.with_suffix('')}"
        title = page.title or inner.stem
        metadata = {"project": project.name, "version": project.version, "title": title, "source": f"{root}/{path}"}
        metadata["licence"] = project.licence
        documents.append(Document(doc_id, page.text, title, page.sections, metadata))
        for i, q in enumerate(page.questions, 1):
            gold, answer = Span(doc_id, q.start, q.end), page.text[q.start : q.end]
            questions.append(Question(f"{doc_id}#{i}", q.question, (gold,), ("faq", project.name), answer))
    return Corpus(project.name, tuple(documents), tuple(questions), dict(+notes))


def _pages(project: Project, files: Mapping[str, bytes], notes: Counter[str]) -> list[str]:
    """The paths of the pages below the docs folder, in order; what is left out is counted in ``notes``."""
    paths = [PurePosixPath(name.partition("/")[2]) for name in sorted(files)]
    below = [path for path in paths if path.suffix in _MARKUP and path.is_relative_to(project.docs)]
    pages = [path for path in below if not any(map(_is_no_document, path.relative_to(project.docs).parts))]
    notes["release notes and lists left out"] = len(below) - len(pages)
    return list(map(str, pages))


def _is_no_document(part: str) -> bool:
    return bool(_NOT_DOCUMENTS.fullmatch(PurePosixPath(part).stem.casefold()))


def _title(tree: nodes.document) -> str:
    from docutils import nodes

    return next((title.astext() for title in tree.findall(nodes.title)), "")


def _titles(texts: Mapping[str, str], docs: str, banned: frozenset[str]) -> Callable[[str, str, str], str | None]:
    """What a reference on a page shows, by ``(page, role, target)``: the title of the section or page it points to."""
    from ragkit.corpus.rst import fold, titles

    pages: dict[str, str] = {}
    sections: dict[str, str] = {}
    for path, text in texts.items():
        title, labels = titles(text)
        pages[str(PurePosixPath(path).with_suffix(""))] = title
        sections |= labels

    def title_of(page: str, role: str, target: str) -> str | None:
        if role == "doc":
            base = docs if target.startswith("/") else posixpath.dirname(page)
            path = posixpath.normpath(posixpath.join(base, target.lstrip("/")))
            shown = pages.get(re.sub(r"\.(rst|md|txt)$", "", path))
        else:
            shown = sections.get(" ".join(target.casefold().split()))
        return shown if shown and fold(shown) not in banned else None

    return title_of

"""The records that flow through ragkit, the roles that act on them, and the errors they raise.

Data moves in one direction, and every step hands on a new frozen record::

    Document --chunker--> Chunk --retriever--> Hit --generator--> Answer

A record never changes after it is made: re-scoring makes a new ``Hit``, so running a notebook cell
twice gives the same result twice. Positions are character offsets into ``Document.text``, because a
character span survives every change of chunker, while a chunk id does not.

Errors say what was found, what was expected and what to do::

    RagkitError
    ├── InputError (ValueError)          an argument outside its allowed range
    ├── MissingExtraError (ImportError)  an optional package is not installed
    ├── CorpusError                      a corpus is unknown, empty or cannot be read
    │   ├── FetchError                   the package index did not deliver
    │   └── ArchiveError                 a truncated or hostile archive
    ├── IntegrityError                   bytes on disk are not the bytes that were promised
    ├── StoreMismatchError               an index or store belongs to another model or corpus
    ├── ModelNotFoundError               model weights are not on this machine
    ├── EndpointError                    an OpenAI-compatible endpoint failed or did not answer
    └── ContractError                    a plug-in (chunker, retriever, ...) broke its contract
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import unicodedata
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from numbers import Integral
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Metadata = Mapping[str, Any]

ONE_LANGUAGE = 0.8
"""The share of a folder's characters from which on it is taken to be in one language."""


class RagkitError(Exception):
    """The root of every error that ragkit raises on purpose."""


class InputError(RagkitError, ValueError):
    """An argument is outside its allowed range; the message gives the range."""


class MissingExtraError(RagkitError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class CorpusError(RagkitError):
    """A corpus is unknown, empty, or cannot be read."""


class FetchError(CorpusError):
    """The package index did not deliver a file; nothing on disk has changed."""


class ArchiveError(CorpusError):
    """An archive is truncated, or tries to leave its folder or to fill the disk."""


class IntegrityError(RagkitError):
    """A file's sha256 is not the recorded one; the file is not used."""


class StoreMismatchError(RagkitError):
    """An index or a store was made for another model, other settings or another corpus."""


class ModelNotFoundError(RagkitError):
    """Model weights are not on this machine and may not be downloaded."""


class EndpointError(RagkitError):
    """An OpenAI-compatible endpoint failed, refused, or did not answer in time."""


class ContractError(RagkitError):
    """A plug-in broke the contract of its role; the message says which rule and where."""


def require(module: str, extra: str) -> ModuleType:
    """Import ``module`` or say which extra installs it.

    >>> require("json", "all").dumps([1])
    '[1]'

    Raises:
        MissingExtraError: ``module`` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingExtraError(
            f"'{module}' is not installed. Install it with: pip install 'ragkit-workbench[{extra}]'"
        ) from error


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The characters ``[start, end)`` of one document.

    ``grade`` is the relevance grade where the span is a gold answer (1 unless the labels say more).

    >>> Span("a", 0, 10).overlap(Span("a", 6, 20))
    4
    """

    doc_id: str
    start: int
    end: int
    grade: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise InputError(f"span [{self.start}, {self.end}) of {self.doc_id!r}: expected 0 <= start <= end")

    def __len__(self) -> int:
        return self.end - self.start

    def overlap(self, other: Span) -> int:
        """Characters that both spans cover (0 for spans of different documents)."""
        if self.doc_id != other.doc_id:
            return 0
        return max(0, min(self.end, other.end) - max(self.start, other.start))

    def answers(self, gold: Span) -> bool:
        """The rule of relevance: text answers a gold span that it overlaps by at least half of the shorter of the two.

        >>> Span("a", 0, 100).answers(Span("a", 90, 110)), Span("a", 0, 100).answers(Span("a", 95, 110))
        (True, False)
        """
        overlap = self.overlap(gold)
        return overlap > 0 and 2 * overlap >= min(len(self), len(gold))


@dataclass(frozen=True, slots=True)
class Section:
    """One heading's own text: the heading begins at ``start``, its text at ``body``, both end at ``end``.

    ``end`` is where the next heading of any level begins, so the sections of a document do not overlap
    and, in order, cover it. ``path`` holds the headings from the outermost to this one. Text before the
    first heading has an empty path.
    """

    path: tuple[str, ...]
    start: int
    body: int
    end: int


@dataclass(frozen=True, slots=True)
class Page:
    """The characters ``[start, end)`` of a document that stand on page ``number`` of its file, counted from 1."""

    number: int
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    """A text with its sections and metadata (``project``, ``version``, ``source``, ...), and the pages of its file."""

    id: str
    text: str
    title: str = ""
    sections: tuple[Section, ...] = ()
    metadata: Metadata = field(default_factory=dict, hash=False)
    pages: tuple[Page, ...] = ()

    @cached_property
    def visible_sections(self) -> tuple[Section, ...]:
        """The sections that a reader of ``text`` sees.

        A heading without text of its own goes with the section that follows. A section that has no heading in the text,
        as the answers of an FAQ whose questions were taken out, goes with the one before.
        """
        visible: list[Section] = []
        bare, path = False, None
        for section in self.sections:
            unseen = section.body == section.start and section.path == path
            if visible and (bare or unseen):
                last = visible.pop()
                body = section.body if bare else last.body
                visible.append(Section(section.path, last.start, body, section.end))
            else:
                visible.append(section)
            bare, path = not self.text[section.body : section.end].strip(), section.path
        return tuple(visible)

    @cached_property
    def _starts(self) -> list[int]:
        return [section.start for section in self.sections]

    def section_at(self, offset: int) -> tuple[str, ...]:
        """The section path that holds the character at ``offset`` (empty where there is none)."""
        i = bisect_right(self._starts, offset)
        return self.sections[i - 1].path if i else ()

    def sections_in(self, start: int, end: int) -> tuple[Section, ...]:
        """The sections that hold a character of ``[start, end)``, in order."""
        return self.sections[max(0, bisect_right(self._starts, start) - 1) : bisect_left(self._starts, end)]

    def pages_in(self, start: int, end: int) -> tuple[Page, ...]:
        """The pages that hold a character of ``[start, end)``, in order."""
        return tuple(page for page in self.pages if page.start < end and start < page.end)

    def __repr__(self) -> str:
        title = f" {self.title!r}," if self.title else ""
        sections = f"{len(self.sections)} section{'' if len(self.sections) == 1 else 's'}"
        return f"Document({self.id!r},{title} {len(self.text):,} characters, {sections})"

    @cached_property
    def sha256(self) -> str:
        """Digest of the text alone: equal texts have equal vectors, whatever they are called."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


class Documents(tuple[Document, ...]):
    """A tuple of documents that shows its first ten, a line each.

    >>> Documents([Document("tea", "Two minutes."), Document("ham", "# Eggs", "Eggs", (Section(("Eggs",), 0, 6, 6),))])
    2 documents
      Document('tea', 12 characters, 0 sections)
      Document('ham', 'Eggs', 6 characters, 1 section)
    """

    __slots__ = ()
    SHOWN = 10

    def __repr__(self) -> str:
        lines = [f"{len(self)} document{'' if len(self) == 1 else 's'}", *(f"  {d!r}" for d in self[: self.SHOWN])]
        return "\n".join(lines + [f"  ... and {len(self) - self.SHOWN} more"] * (len(self) > self.SHOWN))


@dataclass(frozen=True)
class Question:
    """A question with its gold spans (none: the corpus does not answer it). ``any_of``: one of them is enough."""

    id: str
    text: str
    gold: tuple[Span, ...] = ()
    tags: tuple[str, ...] = ()
    answer: str | None = None
    any_of: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class FileReport:
    """What was read of one file. ``language`` is an ISO 639-3 code, "" where the text does not tell.

    ``without_text`` are the numbers of pages without words, such as scans; ``dropped`` the running headers and footers
    that were left out, with ``#`` for numbers; ``left_out`` is why nothing of the file was read ("": it was).
    """

    file: str
    kind: str
    pages: int = 0
    characters: int = 0
    headings: int = 0
    language: str = ""
    without_text: tuple[int, ...] = ()
    dropped: tuple[str, ...] = ()
    left_out: str = ""


@dataclass(frozen=True)
class Corpus:
    """Documents and the questions asked of them.

    ``notes`` counts what loading skipped or repaired; ``files`` says it of every file of a folder.
    """

    name: str
    documents: tuple[Document, ...]
    questions: tuple[Question, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict, hash=False)
    files: tuple[FileReport, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", Documents(self.documents))
        for what, ids in (("document", [d.id for d in self.documents]), ("question", [q.id for q in self.questions])):
            if len(set(ids)) != len(ids):
                twice = sorted(i for i, count in Counter(ids).items() if count > 1)[:3]
                raise CorpusError(f"corpus {self.name!r}: {what} ids must be unique, found twice: {twice}")
        for question in self.questions:
            for span in question.gold:
                if span.doc_id not in self._by_id:
                    raise CorpusError(f"question {question.id!r}: gold names an unknown document {span.doc_id!r}")
                if not span.start < span.end <= len(self._by_id[span.doc_id].text):
                    raise CorpusError(
                        f"question {question.id!r}: gold [{span.start}, {span.end}) is empty or outside "
                        f"{span.doc_id!r}, which has {len(self._by_id[span.doc_id].text)} characters"
                    )

    @cached_property
    def _by_id(self) -> dict[str, Document]:
        return {d.id: d for d in self.documents}

    def document(self, doc_id: str) -> Document:
        """The document called ``doc_id``.

        Raises:
            InputError: there is none.
        """
        try:
            return self._by_id[doc_id]
        except KeyError:
            raise InputError(f"corpus {self.name!r} has no document {doc_id!r}") from None

    def holds(self, chunk: Chunk) -> bool:
        """Whether ``chunk`` is a piece of one of the documents, as its text is here."""
        document = self._by_id.get(chunk.doc_id)
        return document is not None and document.text[chunk.start : chunk.end] == chunk.text

    def only(self, where: Metadata) -> Corpus:
        """The documents whose metadata have the values of ``where``, as a corpus of its own; there may be none.

        A list or set accepts any of its values, as in the filters of stores and of ``Filtered``. Those compare values
        as they are; here they are texts, which may have wildcards (``fnmatch``), so that ``{"source": "acme/*"}`` is a
        folder within a folder. Questions stay whose gold is all there.

        >>> tea, ham = Document("tea", "Hot.", metadata={"by": "ann"}), Document("ham", "Cold.", metadata={"by": "bo"})
        >>> Corpus("food", (tea, ham)).only({"by": "ann"}).documents
        1 document
          Document('tea', 4 characters, 0 sections)
        """
        if not where:
            return self

        accepted = {key: list(map(str, accepted_values(value))) for key, value in where.items()}

        def matches(metadata: Metadata) -> bool:
            own = {key: str(metadata[key]) for key in where if key in metadata}
            return all(
                key in own and any(own[key] == value or fnmatchcase(own[key], value) for value in values)
                for key, values in accepted.items()
            )

        documents = tuple(document for document in self.documents if matches(document.metadata))
        ids = {document.id for document in documents}
        sources = {str(document.metadata.get("source")) for document in documents}
        questions = tuple(q for q in self.questions if all(span.doc_id in ids for span in q.gold))
        files = tuple(file for file in self.files if file.file in sources)
        return Corpus(self.name, documents, questions, files=files)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the ids, texts, titles, sections and metadata of all documents, in order: two corpora with it are
        interchangeable."""
        digest = hashlib.sha256()
        for document in self.documents:
            sections = [[list(s.path), s.start, s.body, s.end] for s in document.sections]
            about: list[object] = [document.id, document.sha256, document.title, sections, dict(document.metadata)]
            about += [[page.number, page.start, page.end] for page in document.pages]
            digest.update(json.dumps(about, sort_keys=True, default=str).encode())
        return digest.hexdigest()

    @property
    def identity(self) -> str:
        return self.fingerprint

    @cached_property
    def languages(self) -> dict[str, float]:
        """The share that each language has of a folder's characters, the largest first, by ISO 639-3 code.

        Files whose text does not tell are not counted; empty where none tells, and where no folder was read.
        """
        characters = Counter[str]()
        for file in self.files:
            characters[file.language] += file.characters
        del characters[""]
        return {code: count / characters.total() for code, count in characters.most_common()}

    @property
    def language(self) -> str:
        """The language that a folder is written in, an ISO 639-3 code: the one with 80 % of the characters or more.

        "mul" (ISO's own code for several languages) where none has as many, "" where ``languages`` is empty.

        >>> files = (FileReport("a.md", "md", characters=80, language="deu"), FileReport("b.md", "md", characters=9))
        >>> Corpus("notes", (), files=files).language
        'deu'
        """
        code, share = next(iter(self.languages.items()), ("", 1.0))
        return code if share >= ONE_LANGUAGE else "mul"

    def report(self) -> pd.DataFrame:
        """The table of ``files``, a row each: those that were left out last.

        Raises:
            InputError: the corpus was not read from a folder.
        """
        if not self.files:
            raise InputError(f"corpus {self.name!r} was not read from a folder; expected one of load_folder")
        table = require("pandas", "notebook").DataFrame([asdict(file) for file in self.files])
        for column, mark in (("without_text", ", "), ("dropped", "; ")):
            table[column] = [mark.join(map(str, values)) for values in table[column]]
        table = table.rename(columns={"without_text": "pages without text", "left_out": "left out"})
        ordered: pd.DataFrame = table.sort_values("left out", kind="stable", ignore_index=True)
        return ordered

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}, {len(self.documents)} documents, {len(self.questions)} questions)"


@dataclass(frozen=True)
class Chunk:
    """A piece of a document; ``text`` is exactly ``document.text[start:end]``.

    ``section`` and ``metadata`` (the document's) say where it comes from. ``sections`` are those of the document that
    the chunk holds a part of, ``pages`` likewise, where the chunker told: it can begin in one and end in another.
    """

    doc_id: str
    start: int
    end: int
    text: str
    section: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=dict, hash=False)
    sections: tuple[Section, ...] = field(default=(), repr=False, compare=False)
    pages: tuple[Page, ...] = field(default=(), repr=False, compare=False)

    @property
    def id(self) -> str:
        """``doc_id#start-end``: the same characters have the same id whichever chunker cut them."""
        return f"{self.doc_id}#{self.start}-{self.end}"

    @property
    def span(self) -> Span:
        return Span(self.doc_id, self.start, self.end)

    def section_at(self, offset: int) -> tuple[str, ...]:
        """The section path at character ``offset`` of the document; ``section`` where ``sections`` does not tell."""
        return next((s.path for s in self.sections if s.start <= offset < s.end), self.section)

    @property
    def context(self) -> str:
        """Where the chunk stands, in words: project, title and section path, for contextual indexing."""
        parts = (str(self.metadata.get("project", "")), str(self.metadata.get("title", "")), *self.section)
        return " > ".join(dict.fromkeys(p for p in parts if p))


RecordT = TypeVar("RecordT", Document, Chunk)


def from_dict(kind: type[RecordT], fields: Mapping[str, Any]) -> RecordT:
    """The ``Document`` or ``Chunk`` of which ``dataclasses.asdict`` made ``fields``, also by way of JSON.

    >>> chunk = Chunk("a", 0, 3, "tea", ("Drinks",), pages=(Page(1, 0, 3),))
    >>> from_dict(Chunk, json.loads(json.dumps(asdict(chunk)))) == chunk
    True
    """
    sections = (Section(**{**each, "path": tuple(each["path"])}) for each in fields.get("sections", ()))
    pages = (Page(**each) for each in fields.get("pages", ()))
    made = {**fields, "sections": tuple(sections), "pages": tuple(pages)}
    return kind(**made | ({"section": tuple(fields["section"])} if "section" in fields else {}))


@dataclass(frozen=True)
class Hit:
    """A chunk that a retriever returned. ``scores`` keeps the scores of the stages before (by name)."""

    chunk: Chunk
    score: float
    source: str = ""
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Context:
    """What the generator reads: numbered sources within a token budget. ``hits[i]`` is source ``i + 1``."""

    text: str
    hits: tuple[Hit, ...]
    tokens: int


@dataclass(frozen=True)
class Citation:
    """Source ``[number]`` of an answer; ``quote`` is the part of it that the answer rests on, word for word."""

    number: int
    chunk: Chunk
    quote: str = ""

    @property
    def section(self) -> tuple[str, ...]:
        """The section path where the quote stands; the chunk's own where there is no quote, or it is not found.

        >>> chunk = Chunk("a", 0, 8, "One. Two", ("Page 1",), sections=(Section(("Page 2",), 5, 5, 8),))
        >>> Citation(1, chunk, "One.").section, Citation(1, chunk, "Two").section
        (('Page 1',), ('Page 2',))
        """
        at = self.chunk.text.find(self.quote) if self.quote else -1
        return self.chunk.section_at(self.chunk.start + at) if at >= 0 else self.chunk.section

    @property
    def span(self) -> Span:
        """Where the quote stands in the document; the whole chunk where there is no quote, or it is not found.

        >>> Citation(1, Chunk("a", 10, 18, "One. Two"), "Two").span
        Span(doc_id='a', start=15, end=18, grade=1)
        """
        at = self.chunk.text.find(self.quote) if self.quote else -1
        start = self.chunk.start + at
        return Span(self.chunk.doc_id, start, start + len(self.quote)) if at >= 0 else self.chunk.span

    @property
    def page(self) -> int | None:
        """The page of the file on which the quote begins (without a quote: the chunk), if the file has pages.

        >>> chunk = Chunk("a", 0, 8, "One. Two", pages=(Page(3, 0, 5), Page(4, 5, 8)))
        >>> Citation(1, chunk, "Two").page
        4
        """
        start = self.span.start
        return next((page.number for page in self.chunk.pages if page.start <= start < page.end), None)


@dataclass(frozen=True)
class Usage:
    """What one call to a model took."""

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Generation:
    """What a generator returns for one question and one context.

    ``writer`` is who wrote the text: a model's name, or "quotes" from the sources; empty where nobody did, and the text
    only says that there is no answer. ``reason`` is what a reader should know of it. ``fallback``: it stands in for the
    answer of an LLM that failed, which may answer the next time, so a cache does not keep it.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    usage: Usage = Usage()
    abstained: bool = False
    reason: str = ""
    writer: str = ""
    fallback: bool = False


@dataclass(frozen=True)
class Answer:
    """An answered question with everything that led to it.

    ``timings`` are milliseconds per stage, in order. ``abstained``, ``reason``, ``writer`` and ``fallback`` are as in
    ``Generation``.
    """

    question: str
    text: str
    hits: tuple[Hit, ...] = ()
    citations: tuple[Citation, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict, hash=False)
    usage: Usage = Usage()
    abstained: bool = False
    reason: str = ""
    trace_id: str = ""
    writer: str = ""
    fallback: bool = False


Kind = Literal["query", "passage"]
Mean = Literal["arithmetic", "geometric"]
Precision = Literal["float32", "bfloat16"]
"""The arithmetic of a model on this machine."""
Vectors = NDArray[np.float32]


@runtime_checkable
class Tokenizer(Hashable, Protocol):
    """Splits text into the tokens that a model counts."""

    @property
    def identity(self) -> str: ...

    def offsets(self, text: str) -> NDArray[np.int64]:
        """Character offsets ``(n_tokens, 2)`` of the tokens, without special tokens."""
        ...

    def count(self, text: str) -> int: ...


@runtime_checkable
class Chunker(Protocol):
    """Cuts a document. Contract: see ``ragkit.chunking``."""

    def chunk(self, document: Document) -> list[Chunk]: ...


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into unit vectors. ``identity`` names weights and settings: equal identity, equal vectors."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def dimension(self) -> int: ...

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Vectors ``(len(texts), dimension)``, float32, each of length 1."""
        ...


class Retriever(ABC):
    """Everything that retrieves: an index, a fusion, a reranked list, a router, a remote cluster.

    A subclass writes ``_search``; ``search`` checks the input once for all of them. ``_search`` returns
    at most ``k`` hits, best first, no chunk twice, nothing for words it does not know. Beside a cache it needs an
    ``identity``, too, as every part of a pipeline (``identity_of``).

    >>> class Nothing(Retriever):
    ...     def _search(self, query, k):
    ...         return []
    >>> Nothing().search("anything", 3)
    []
    """

    def search(self, query: str, k: int = 10) -> list[Hit]:
        """The ``k`` best hits for ``query``, best first.

        Raises:
            InputError: ``query`` is blank or ``k`` < 1.
        """
        check_query(query, k)
        return self._search(query, k)

    def search_many(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """``[self.search(q, k) for q in queries]``, faster where the index can batch."""
        for query in queries:
            check_query(query, k)
        return self._search_many(queries, k)

    @abstractmethod
    def _search(self, query: str, k: int) -> list[Hit]: ...

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return [self._search(query, k) for query in queries]


def accepted_values(value: object) -> list[Any]:
    """The values that a filter accepts for one key: those of a list or set, or the one."""
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


class ChunkStore(Protocol):
    """Chunks with their vectors outside this process: a table of PostgreSQL, a collection of Qdrant.

    A store belongs to one embedder and one way of cutting. Every method may raise:
        StoreMismatchError: the store was filled by another embedder or chunker; names both.
        EndpointError: the server did not answer, or refused; never with the password.
    """

    def add(self, chunks: Sequence[Chunk], vectors: Vectors | None = None) -> None:
        """Store ``chunks``; one whose id is there already takes its place.

        ``vectors`` are unit vectors ``(len(chunks), dimension)``; without them the store's embedder encodes the texts.
        """

    def replace(self, documents: Collection[str], chunks: Sequence[Chunk], vectors: Vectors | None = None) -> None:
        """Put ``chunks`` in the place of all chunks of these documents.

        PostgreSQL does it at once; what a search sees meanwhile is each store's to say.
        """

    def delete(self, documents: Collection[str]) -> int:
        """Remove the chunks of these documents; returns how many there were."""

    def refresh(self) -> None:
        """Weigh the words anew by the chunks that are there now; until then, weights are those of the last time.

        Before the first ``refresh``, no word is known.
        """

    def retriever(
        self,
        mode: Literal["hybrid", "dense", "words"] = "hybrid",
        *,
        where: Metadata | None = None,
        documents: Collection[str] | None = None,
        exact: bool = True,
    ) -> Retriever:
        """Searches the store; only chunks are ranked whose metadata have the values of ``where``, of ``documents``.

        ``exact`` compares the query with every vector; without it an approximate index (HNSW) is used.
        """


@runtime_checkable
class Reranker(Protocol):
    """Re-scores hits against the query. Returns new hits, best first, at most ``k``."""

    def rerank(self, query: str, hits: Sequence[Hit], k: int) -> list[Hit]: ...


@runtime_checkable
class Rewriter(Protocol):
    """Turns one question into the queries that are searched (at least one)."""

    def rewrite(self, question: str) -> list[str]: ...


@runtime_checkable
class LLM(Protocol):
    """Writes an answer from a context."""

    async def generate(self, question: str, context: Context) -> Generation: ...


@runtime_checkable
class StreamingLLM(LLM, Protocol):
    """An ``LLM`` that can also give its answer in pieces, and at last the ``Generation``: the text that counts."""

    def stream(self, question: str, context: Context) -> AsyncGenerator[str | Generation, None]: ...


def identity_of(part: object) -> str:
    """What tells ``part`` from another like it: equal identities, equal results.

    A retriever, reranker, rewriter or model that is used beside a cache has an attribute or property ``identity``: a
    text with all its settings, and those of the parts in it, that can change a result (``build_identity`` makes one).
    Plain values are their own identity, a collection or a frozen record is what it holds, a method belongs to its
    object, and a function is known by its name if it is ragkit's own.

    >>> identity_of((0.5, "rrf", None))
    "[0.5, 'rrf', None]"

    Raises:
        InputError: ``part``, or a part of it, has no identity; names it.
    """
    if isinstance(identity := getattr(part, "identity", None), str) and identity and not isinstance(part, type):
        return identity
    if part is None or isinstance(part, str | bytes | int | float | np.generic):
        return repr(part)
    if isinstance(part, Mapping):
        return f"{{{', '.join(sorted(f'{key!r}: {identity_of(value)}' for key, value in part.items()))}}}"
    if isinstance(part, list | tuple):
        return f"[{', '.join(map(identity_of, part))}]"
    if isinstance(part, Set):
        return f"{{{', '.join(sorted(map(identity_of, part)))}}}"
    if isinstance(part, MethodType):
        return f"{identity_of(part.__self__)}.{part.__name__}"
    if is_dataclass(part) and not isinstance(part, type):
        return build_identity(part, *(getattr(part, f.name) for f in fields(part)))
    if isinstance(part, FunctionType) and part.__module__.startswith("ragkit.") and "<" not in part.__qualname__:
        return f"{part.__module__}.{part.__qualname__}"
    raise InputError(
        f"{part!r} has no identity: a cache could not tell it from another one like it. Expected an attribute or a "
        f"property `identity`: a text with all its settings that can change a result"
    )


def build_identity(part: object, *settings: object) -> str:
    """An ``identity`` for ``part``: its class, and those of its settings and inner parts that can change its results.

    >>> class Nearest:
    ...     def __init__(self, radius):
    ...         self.radius = radius
    ...     @property
    ...     def identity(self):
    ...         return build_identity(self, self.radius)
    >>> Nearest(3).identity.endswith("Nearest(3)"), Nearest(3).identity == Nearest(4).identity
    (True, False)

    Raises:
        InputError: a setting has no identity; names it.
    """
    kind = type(part)
    return f"{kind.__module__}.{kind.__qualname__}({', '.join(map(identity_of, settings))})"


def chunks_digest(chunks: Iterable[Chunk]) -> str:
    """sha256 of all that chunks hold, in order: the slow part of an index's identity, so cache it.

    >>> chunks_digest([Chunk("a", 0, 1, "x")]) == chunks_digest([Chunk("a", 0, 1, "y")])
    False
    """
    digest = hashlib.sha256()
    for c in chunks:
        data = repr((c.doc_id, c.start, c.end, c.text, c.section, dict(c.metadata)))
        digest.update(data.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def is_whole(value: object) -> bool:
    """Whether ``value`` is an integer of Python's or of NumPy's; a bool is none.

    >>> is_whole(3), is_whole(True), is_whole(3.0)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_whole(value: int, name: str) -> int:
    """``value`` as Python's integer; ``name`` is what the caller calls it.

    >>> check_whole(np.int64(3), "k")
    3

    Raises:
        InputError: ``value`` is no whole number, or below 1.
    """
    if not is_whole(value) or value < 1:
        raise InputError(f"{name} is {value!r}: expected a whole number, 1 or more")
    return int(value)


def check_query(query: str, k: int) -> None:
    """Refuse a blank query and ``k`` < 1.

    Raises:
        InputError: says what was found.
    """
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"query is {query!r}: expected a question with at least one visible character")
    check_whole(k, "k")


def without_password(text: str) -> str:
    """``text`` without the user and password of the URLs in it.

    >>> without_password("OpenAIChat('m', base_url='http://me:secret@host/v1')")
    "OpenAIChat('m', base_url='http://host/v1')"
    """
    return re.sub(r"(?<=://)[^/\s'\"]*@", "", text)


def question_key(question: str) -> str:
    """Equal for two writings of the same question: this is the package's one rule for that.

    White space, Unicode's forms of a letter, the punctuation around the question, and upper case in words of letters
    do not count. Words with a digit or a mark in them (``-W``, ``MAX_SIZE``) stay as they are: there, case can matter.

    >>> question_key(" How  do I stop it? ") == question_key("how do I stop it")
    True
    >>> question_key("What does -W do?") == question_key("What does -w do?")
    False
    """
    words = unicodedata.normalize("NFC", question).strip(" \t\r\n?!.,;:").split()
    return " ".join(word.casefold() if word.isalpha() else word for word in words)


def best_first(hits: Iterable[Hit], k: int) -> list[Hit]:
    """The ``k`` best of ``hits``: by score, then by chunk id so that ties never depend on input order."""
    return sorted(hits, key=lambda h: (-h.score, h.chunk.id))[:k]

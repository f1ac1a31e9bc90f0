"""A pipeline as a text that can be read, kept, compared and run again: a TOML file of named modules.

    retriever = "both"
    fetch_k = 50

    [reranker]
    kind = "LateInteraction"

    [chunks.main]
    kind = "FixedChunker"
    size = 256
    overlap = 32

    [modules.words]
    kind = "BM25Retriever"

    [modules.meaning]
    kind = "DenseRetriever"
    scoring = "maxp"

    [modules.both]
    kind = "Hybrid"
    inputs = ["words", "meaning"]

A ``kind`` is the name of a class, and the keys beside it are its parameters. Where a class takes another retriever, the
name of a module stands; where it takes chunks, the name of a way of cutting. ``Modules`` has a method for each kind.
"""

# ruff: noqa: N802 - in ``Modules`` a method has the name of the class that it makes

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter
from inspect import signature
from itertools import chain
from pathlib import Path
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from ragkit import chunking
from ragkit.base import (
    Chunk,
    Chunker,
    Corpus,
    InputError,
    Mean,
    Metadata,
    Reranker,
    Retriever,
    StoreMismatchError,
    require,
)
from ragkit.files import atomic_write
from ragkit.retrieval import modular, pgvector, qdrant
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever, Scoring
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.rerank import CrossEncoder, LateInteraction, Reranked
from ragkit.retrieval.rewrite import ClauseSplitter
from ragkit.retrieval.stores import POSTGRES, Mode, place_in
from ragkit.token_store import TokenStore

TableT = TypeVar("TableT", bound="Table")

# Tokens of a chunk, tokens that two share, candidates to rerank: what brings most of the gold into a context of 2,000
# tokens (``make bench BENCH=presets``).
SIZE, OVERLAP, FETCH_K = 256, 32, 50


class Table(BaseModel):
    """A table of the file: every key must be known, and of its type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


Names = Annotated[tuple[str, ...], Field(strict=False)]  # a list in the file
Weights = Annotated[tuple[float, ...], Field(strict=False)]


class ChunkerTable(Table):
    """How documents are cut; ``size`` and ``overlap`` in tokens."""

    kind: Literal["FixedChunker", "SentenceChunker", "RecursiveChunker", "HeadingChunker", "SemanticChunker"] = (
        "FixedChunker"
    )
    size: int = SIZE
    overlap: int = OVERLAP


class LateInteractionTable(Table):
    """The reranker ``LateInteraction``, over the vectors of the token store."""

    kind: Literal["LateInteraction"] = "LateInteraction"
    mean: Mean = "geometric"
    pooled_below: float = 0.5


class CrossEncoderTable(Table):
    """The reranker ``CrossEncoder``; ``name`` is a folder or a name in the local model cache."""

    kind: Literal["CrossEncoder"] = "CrossEncoder"
    name: str


RerankerTable = Annotated[LateInteractionTable | CrossEncoderTable, Field(discriminator="kind")]
LATE = LateInteractionTable()


class ModuleTable(Table):
    """A retriever: its ``kind``, the chunks that it searches, and the parameters of the method that builds it."""

    kind: str
    chunks: str = "main"

    @property
    def references(self) -> tuple[str, ...]:
        """The names of the modules that this one holds."""
        inner = [getattr(self, key, None) for key in ("retriever", "fallback")]
        return (*getattr(self, "inputs", ()), *(name for name in inner if name))


# ---- from a configuration to the parts of a pipeline


@dataclass(frozen=True)
class PipelineBuilder:
    """Builds each module of ``config`` once. ``only`` are values that the metadata of all chunks must have."""

    config: PipelineConfig
    corpus: Corpus
    store: TokenStore
    only: tuple[tuple[str, str], ...] = ()
    built: dict[object, Retriever] = field(default_factory=dict)
    cut: dict[ChunkerTable, list[Chunk]] = field(default_factory=dict)

    def chunks(self, name: str) -> Sequence[Chunk]:
        """The chunks of the configuration's cutting called ``name``."""
        table = self.config.chunks[name]
        if table not in self.cut:
            self.cut[table] = chunking.chunk_corpus(self.chunker(name), self.corpus)
        return [chunk for chunk in self.cut[table] if self._passes(chunk.metadata)]

    def chunker(self, name: str) -> Chunker:
        """The configuration's cutting called ``name``."""
        table = self.config.chunks[name]
        of_store = [self.store] if table.kind == "SemanticChunker" else []
        chunker: Chunker = getattr(chunking, table.kind)(*of_store, table.size, table.overlap)
        return chunker

    def module(self, name: str) -> Retriever:
        """The retriever called ``name``."""
        if (name, self.only) not in self.built:
            table = self.config.modules[name]
            build = MODULES[table.kind]
            _, *keys = signature(build).parameters
            self.built[name, self.only] = build(self, **{key: getattr(table, key) for key in keys})
        return self.built[name, self.only]

    def reranker(self, table: LateInteractionTable | CrossEncoderTable) -> Reranker:
        """The reranker of a table."""
        if isinstance(table, CrossEncoderTable):
            return CrossEncoder(table.name)
        return LateInteraction(self.store, table.mean, table.pooled_below)

    def stored(
        self,
        kind: type[pgvector.PgVectorStore | qdrant.QdrantStore],
        place: str,
        name: str,
        chunks: str,
        mode: Mode,
        exact: bool,
    ) -> Retriever:
        """A search of a store for chunks of the corpus, which may be a part of what is there, or have changed since.

        Raises:
            InputError: the store is empty.
            StoreMismatchError: it was filled by another embedder or analyzer, or cut otherwise than ``chunks``.
        """
        analyzer = Analyzer.for_language(self.corpus.language)
        open_store = partial(kind, place, name, self.store.encoder, analyzer=analyzer)
        with closing(open_store()) as store:  # an empty one must not be bound to a chunker
            if not len(store):
                raise InputError(
                    f"the store {store.name!r} at {store.place} is empty: fill it (`ragkit ingest --postgres`, or "
                    "`load_shards`), or see whether its name is right"
                )
        store = open_store(chunker=self.chunker(chunks))
        documents = [document.id for document in self.corpus.documents if self._passes(document.metadata)]
        return modular.InCorpus(store.retriever(mode, documents=documents, exact=exact), self.corpus)

    def _passes(self, metadata: Metadata) -> bool:
        return all(str(metadata.get(key)) == value for key, value in self.only)

    def collections(self, key: str) -> Mapping[str, Self]:
        """A builder for each value of the metadata ``key``.

        Raises:
            InputError: no document has it.
        """
        labels = sorted({str(d.metadata[key]) for d in self.corpus.documents if key in d.metadata})
        if not labels:
            keys = ", ".join(sorted({key for d in self.corpus.documents for key in d.metadata})) or "no metadata"
            raise InputError(f"by = {key!r}: no document of {self.corpus.name!r} has it; there is {keys}")
        return {label: replace(self, only=(*self.only, (key, label))) for label in labels}


class Modules(PipelineBuilder):
    """A method for each kind of module, with the name of the class that it makes. Its parameters are the keys of the
    table; where it takes retrievers or chunks, the file has their names.

    To add a kind, write its method here. Parameters called ``inputs``, ``retriever`` or ``fallback`` take names of
    modules, one called ``chunks`` the name of a cutting. (A new chunker is named in ``ChunkerTable.kind``.)
    """

    def BM25Retriever(
        self, chunks: str = "main", variant: str = "lucene", contextual: bool = False, language: str | None = None
    ) -> Retriever:
        """``language`` (ISO 639-3) chooses stemmer and stop words; without it the corpus' own does."""
        analyzer = Analyzer.for_language(self.corpus.language if language is None else language)
        return BM25Retriever(self.chunks(chunks), variant=variant, analyzer=analyzer, contextual=contextual)

    def DenseRetriever(
        self, chunks: str = "main", scoring: Scoring = "maxp", window: int = 64, index: str = "flat"
    ) -> Retriever:
        return DenseRetriever(self.chunks(chunks), self.store, scoring=scoring, window=window, index=index)

    def PgVectorStore(
        self,
        name: str,
        chunks: str = "main",
        mode: Mode = "hybrid",
        exact: bool = True,
        url_from: str = "RAGKIT_POSTGRES",
    ) -> Retriever:
        """What the store ``name`` has of the corpus; the environment variable ``url_from`` has the server's URL."""
        return self.stored(pgvector.PgVectorStore, place_in(url_from, POSTGRES), name, chunks, mode, exact)

    def QdrantStore(
        self,
        name: str,
        chunks: str = "main",
        mode: Mode = "hybrid",
        exact: bool = True,
        place_from: str = "RAGKIT_QDRANT",
    ) -> Retriever:
        """What the store ``name`` has of the corpus; the environment variable ``place_from`` says where it is."""
        place = place_in(place_from, "the URL of a server, such as http://localhost:6333, or edge:FOLDER")
        return self.stored(qdrant.QdrantStore, place, name, chunks, mode, exact)

    def Hybrid(self, inputs: Names, fusion: str = "rrf", weights: Weights = (), fetch_k: int = 100) -> Retriever:
        return Hybrid([self.module(name) for name in inputs], fusion, weights or None, fetch_k)

    def Reranked(self, retriever: str, reranker: RerankerTable = LATE, fetch_k: int = FETCH_K) -> Retriever:
        return Reranked(self.module(retriever), self.reranker(reranker), fetch_k)

    def Filtered(self, retriever: str, metadata: Mapping[str, Any] = MappingProxyType({})) -> Retriever:
        return modular.Filtered(self.module(retriever), metadata)

    def Parent(self, retriever: str, limit: int = 6_000) -> Retriever:
        return modular.Parent(self.module(retriever), self.corpus, limit)

    def SentenceWindow(self, retriever: str, chunks: str = "main", before: int = 1, after: int = 1) -> Retriever:
        return modular.SentenceWindow(self.module(retriever), self.chunks(chunks), self.corpus, before, after)

    def MMR(self, retriever: str, lambda_mult: float = 0.7, fetch_k: int = 50) -> Retriever:
        return modular.MMR(self.module(retriever), self.store.pool, lambda_mult, fetch_k)

    def SubQuestions(
        self,
        retriever: str,
        chunks: str = "main",
        by: str = "project",
        parts: bool = False,
        limit: int = 4,
        fetch_k: int = 15,
    ) -> Retriever:
        """A question that names several values of the documents' metadata ``by`` is asked once for each; another stays
        whole, or with ``parts`` is taken apart by ``rewrite.ClauseSplitter``."""
        names = modular.name_patterns(self.chunks(chunks), by)
        splitter = modular.NameSplitter(names, otherwise=ClauseSplitter() if parts else None)
        return modular.SubQuestions(self.module(retriever), splitter, limit, fetch_k)

    def Router(
        self,
        retriever: str,
        chunks: str = "main",
        by: str = "project",
        classifier: Literal["AverageClassifier", "HitVoteClassifier", "NaiveBayesClassifier"] = "AverageClassifier",
        threshold: float = 0.7,
    ) -> Retriever:
        """A copy of ``retriever`` for each value of the documents' metadata ``by``; where ``classifier`` is not sure
        (an average is the mean of the other two), ``retriever`` itself searches everything."""
        everything, classifiers = self.chunks(chunks), list[modular.Classifier]()
        if classifier != "HitVoteClassifier":
            analyzer = Analyzer.for_language(self.corpus.language)
            classifiers.append(modular.NaiveBayesClassifier(everything, by, analyzer))
        if classifier != "NaiveBayesClassifier":
            dense = DenseRetriever(everything, self.store, scoring="maxp")
            classifiers.append(modular.HitVoteClassifier(dense, by))
        routes = {label: part.module(retriever) for label, part in self.collections(by).items()}
        names = modular.RegexClassifier(modular.name_patterns(everything, by))
        votes = modular.AbstainOnSeveral(names, modular.AverageClassifier(classifiers))
        return modular.Router(routes, votes, self.module(retriever), threshold)

    def Corrective(
        self,
        retriever: str,
        accept_above: float,
        reject_below: float,
        grader: RerankerTable = LATE,
        fallback: str | None = None,
    ) -> Retriever:
        """Weak results, graded by ``grader``, are searched again by ``fallback``, then given up."""
        inner, wider = self.module(retriever), self.module(fallback) if fallback else None
        return modular.Corrective(inner, self.reranker(grader), accept_above, reject_below, fallback=wider)


MODULES: dict[str, Callable[..., Retriever]] = {
    kind: method for kind, method in vars(Modules).items() if isinstance(method, FunctionType) and kind[0] != "_"
}
"""The kinds of modules, each with the method that builds it."""


def _table_of(kind: str, build: Callable[..., Retriever]) -> type[ModuleTable]:
    """The table of a kind: its keys, their types and their defaults are those of the method's parameters."""
    _, *parameters = signature(build, eval_str=True).parameters.values()
    keys = {p.name: (p.annotation, ... if p.default is p.empty else p.default) for p in parameters}
    return create_model(kind, __base__=ModuleTable, kind=(Literal[kind], kind), **keys)  # type: ignore[call-overload, no-any-return]


_MODULES = {kind: _table_of(kind, build) for kind, build in MODULES.items()}

if TYPE_CHECKING:
    AnyModule = Any
else:
    AnyModule = Annotated[Union[tuple(_MODULES.values())], Field(discriminator="kind")]  # noqa: UP007


# ---- the file


def _with_main(chunks: Mapping[str, ChunkerTable]) -> Mapping[str, ChunkerTable]:
    return {"main": ChunkerTable(), **chunks}


class Provenance(Table):
    """What a configuration was measured on: the fingerprint of the corpus, and the token store's identity."""

    corpus: str
    store: str


class PipelineConfig(Table):
    """All settings of a pipeline's retrieval side, and its context budget.

    ``retriever`` names one of ``modules``. ``provenance``, where it is there, is checked when a pipeline is made.

    >>> config = PipelineConfig.from_toml('''
    ...     retriever = "words"
    ...     modules.words = {kind = "BM25Retriever", contextual = true}
    ... ''')
    >>> config.modules["words"].contextual, config == PipelineConfig.from_toml(config.to_toml())
    (True, True)

    Raises:
        InputError: (``from_toml``, ``load``) a module that is not there, or modules that contain each other. Made
            directly, pydantic's ``ValidationError`` says the same.
    """

    retriever: str
    rewriter: Literal["Spelling"] | None = None
    fetch_k: int | None = None
    budget: int = 2000
    reranker: RerankerTable | None = None
    chunks: Annotated[Mapping[str, ChunkerTable], AfterValidator(_with_main)] = {}
    modules: Mapping[str, AnyModule] = {}
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        held = {name: module.references for name, module in self.modules.items()}
        for name in chain([self.retriever], *held.values()):
            if name not in self.modules:
                raise InputError(f"no module {name!r}{_nearest(name, self.modules)}")
        for name, module in self.modules.items():
            if module.chunks not in self.chunks:
                raise InputError(f"module {name!r}: no chunks {module.chunks!r}{_nearest(module.chunks, self.chunks)}")
        try:
            TopologicalSorter(held).prepare()
        except CycleError as error:
            raise InputError(f"modules contain each other: {' -> '.join(reversed(error.args[1]))}") from None
        return self

    @property
    def fingerprint(self) -> str:
        """sha256 of every setting: equal fingerprints rank alike on the same corpus and store."""
        return hashlib.sha256(json.dumps(self._tables() | {"provenance": None}, sort_keys=True).encode()).hexdigest()

    # ---- as text

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The configuration that ``text`` holds.

        Raises:
            InputError: not TOML, an unknown key (the nearest one is named), a value of another type, a module that is
                not there, modules that contain each other.
        """
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"not TOML: {error}") from None
        return read_table(cls, table)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The configuration in a file.

        Raises:
            InputError: as ``from_toml``, or there is no such file.
        """
        try:
            return cls.from_toml(Path(path).expanduser().read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from None
        except (UnicodeDecodeError, InputError) as error:
            raise InputError(f"{path}: {error}") from None

    def to_toml(self) -> str:
        """This configuration as text; ``from_toml`` gives it back."""
        return str(require("tomlkit", "search").dumps(self._tables()))

    def save(self, path: str | Path) -> None:
        """Write this configuration to a file, in one step."""
        atomic_write(Path(path).expanduser(), self.to_toml().encode())

    def _tables(self) -> dict[str, Any]:
        """The tables of the file. Settings that stand as they are by default are written too: defaults may change."""
        return self.model_dump(mode="json", exclude_none=True)

    # ---- what it was made with

    def with_provenance(self, corpus: Corpus, store: TokenStore) -> Self:
        """This configuration, with a note of the corpus and the vectors that it was measured on."""
        return self.model_copy(update={"provenance": Provenance(corpus=corpus.fingerprint, store=store.identity)})

    def check(self, corpus: Corpus, store: TokenStore) -> None:
        """Refuse other vectors than those that it was measured with, and warn of other documents: a folder changes.

        Raises:
            StoreMismatchError: the vectors are of another model.
        """
        if self.provenance is None:
            return
        made, here = _model_of(self.provenance.store), _model_of(store.identity)
        if made != here:
            raise StoreMismatchError(
                f"this configuration was made with the vectors of {made}, and here are those of {here}: it would rank "
                "otherwise. To use it all the same, take [provenance] out and measure it again"
            )
        if self.provenance.corpus != corpus.fingerprint:
            warnings.warn(
                f"{corpus.name}: the documents have changed since this configuration was measured; it runs as it is, "
                "and `ragkit eval` measures it again",
                stacklevel=3,
            )


def _model_of(identity: str) -> str:
    """A token store's identity without the part that names its documents."""
    model, _, *queries = identity.split(":")
    return ":".join([model, *queries])


# ---- errors in words


def read_table(model: type[TableT], table: object, where: str = "") -> TableT:
    """``model`` from a table called ``where``; every key and type is checked.

    Raises:
        InputError: says where, what was found and what was expected.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise InputError("; ".join(_in_words(each, where, model) for each in error.errors())) from None


_RERANKERS: dict[str, type[Table]] = {"LateInteraction": LateInteractionTable, "CrossEncoder": CrossEncoderTable}
_KINDS = {**_MODULES, **_RERANKERS}
_TABLES: dict[str, type[Table]] = {"chunks": ChunkerTable, "provenance": Provenance, **_KINDS}
_EXPECTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "a text",
    "tuple": "a list of texts or numbers",
}
_NO_TABLE = ("union_tag_not_found", "model", "model_attributes", "dict", "mapping")


def _in_words(error: Mapping[str, Any], where: str, model: type[Table]) -> str:
    """An error of pydantic as a sentence: the table, the key, what was found, what was expected."""
    kind, found, context = error["type"].removesuffix("_type"), error["input"], error.get("ctx", {})
    place = [str(part) for part in error["loc"]]
    # In ("modules", "words", "BM25Retriever", "variant") the kind is no key of the file.
    after = zip(place, ["", *place], strict=False)
    keys = [part for part, before in after if part not in _KINDS or before == "modules"]
    table, key = _table_name(where, keys[:-1]), keys[-1] if keys else ""
    if kind == "value_error":
        return str(context["error"])
    if kind == "union_tag_invalid":
        tags = re.findall(r"'(.*?)'", context["expected_tags"])
        return f"{_table_name(where, keys)}: unknown kind {context['tag']!r}{_nearest(context['tag'], tags)}"
    if kind in _NO_TABLE:
        what = "a table with a kind" if keys[:1] == ["modules"] else "a table"
        return f"{_table_name(where, keys)} = {found!r}: expected {what}"
    if kind == "extra_forbidden":
        known = next((_TABLES[part] for part in reversed(place[:-1]) if part in _TABLES), model)
        return f"{table}: unknown {key!r}{_nearest(key, known.model_fields)}"
    if kind == "missing":
        return f"{table}: {key} is missing"
    other = error["msg"].removeprefix("Input should be ")
    return f"{table}, {key} = {found!r}: expected {context.get('expected') or _EXPECTED.get(kind, other)}"


def _table_name(where: str, keys: Sequence[str]) -> str:
    return f"[{'.'.join(filter(None, (where, *keys)))}]" if where or keys else "the file"


def _nearest(word: str, allowed: Iterable[str]) -> str:
    small = {each.lower(): each for each in allowed}
    near = difflib.get_close_matches(word.lower(), small, n=1, cutoff=0.45)
    return f", did you mean {small[near[0]]!r}?" if near else f": there is {', '.join(small.values()) or 'none'}"

"""A pipeline as a text that can be read, kept, compared and run again: a TOML file of named modules.

    retriever = "both"
    fetch_k = 50

    [reranker]
    kind = "LateInteraction"

    [chunks.main]
    kind = "FixedChunker"
    size = 512
    overlap = 64

    [modules.words]
    kind = "BM25Retriever"

    [modules.meaning]
    kind = "DenseRetriever"
    scoring = "maxp"

    [modules.both]
    kind = "Hybrid"
    inputs = ["words", "meaning"]

A ``kind`` is the name of a class, and the keys beside it are its parameters. Where a class takes another retriever, the
name of a module stands; where it takes chunks, the name of a way of cutting. ``MODULES`` lists the kinds.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ragkit.base import (
    Chunk,
    Chunker,
    Corpus,
    Document,
    InputError,
    Mean,
    Reranker,
    Retriever,
    Rewriter,
    StoreMismatchError,
    require,
)
from ragkit.chunking import (
    FixedChunker,
    HeadingChunker,
    RecursiveChunker,
    SemanticChunker,
    SentenceChunker,
    chunk_corpus,
)
from ragkit.files import atomic_write
from ragkit.retrieval import modular
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever, Scoring
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.rerank import CrossEncoder, LateInteraction, Reranked
from ragkit.retrieval.rewrite import ClauseSplitter, Spelling
from ragkit.token_store import TokenStore

T = TypeVar("T", bound="Table")


class Table(BaseModel):
    """A table of the file: every key must be known, and of its type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Module(Table):
    """A retriever with its settings; ``build`` makes it. A field in ``references`` names the modules that it holds."""

    chunks: str = "main"

    @property
    def references(self) -> tuple[str, ...]:
        """The names of the modules that this one holds."""
        held = (getattr(self, name, None) for name in ("inputs", "retriever", "fallback"))
        return tuple(name for names in held if names for name in ([names] if isinstance(names, str) else names))

    def build(self, site: PipelineBuilder) -> Retriever:
        raise NotImplementedError


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Weights = Annotated[tuple[float, ...], BeforeValidator(_as_tuple)]


class ChunkerConfig(Table):
    """How documents are cut; ``size`` and ``overlap`` in tokens."""

    kind: Literal["FixedChunker", "SentenceChunker", "RecursiveChunker", "HeadingChunker", "SemanticChunker"] = (
        "FixedChunker"
    )
    size: int = 512
    overlap: int = 64

    def build(self, store: TokenStore) -> Chunker:
        """The chunker.

        Raises:
            InputError: a size or an overlap that it refuses.
        """
        if self.kind == "SemanticChunker":
            return SemanticChunker(store, self.size, self.overlap)
        classes = (FixedChunker, SentenceChunker, RecursiveChunker, HeadingChunker)
        return next(each for each in classes if each.__name__ == self.kind)(self.size, self.overlap)


class LateInteractionConfig(Table):
    kind: Literal["LateInteraction"] = "LateInteraction"
    mean: Mean = "geometric"
    pooled_below: float = 0.5

    def build(self, store: TokenStore) -> Reranker:
        return LateInteraction(store, self.mean, self.pooled_below)


class CrossEncoderConfig(Table):
    kind: Literal["CrossEncoder"] = "CrossEncoder"
    name: str

    def build(self, store: TokenStore) -> Reranker:
        return CrossEncoder(self.name)


RerankerConfig = Annotated[LateInteractionConfig | CrossEncoderConfig, Field(discriminator="kind")]
REWRITERS: dict[str, Callable[[Sequence[Document]], Rewriter]] = {"Spelling": Spelling.of}
"""The rewriters by their names in a configuration; each is made from the documents."""


# ---- retrievers that search an index, then those that hold others


class BM25RetrieverConfig(Module):
    kind: Literal["BM25Retriever"] = "BM25Retriever"
    variant: str = "lucene"
    contextual: bool = False

    def build(self, site: PipelineBuilder) -> Retriever:
        return BM25Retriever(site.chunks(self.chunks), variant=self.variant, contextual=self.contextual)


class DenseRetrieverConfig(Module):
    kind: Literal["DenseRetriever"] = "DenseRetriever"
    scoring: Scoring = "maxp"
    window: int = 64
    index: str = "flat"

    def build(self, site: PipelineBuilder) -> Retriever:
        chunks, store = site.chunks(self.chunks), site.store
        return DenseRetriever(chunks, store, None, self.scoring, self.index, self.window)


class HybridConfig(Module):
    kind: Literal["Hybrid"] = "Hybrid"
    inputs: Names
    fusion: str = "rrf"
    weights: Weights = ()
    fetch_k: int = 100

    def build(self, site: PipelineBuilder) -> Retriever:
        return Hybrid([site.module(name) for name in self.inputs], self.fusion, self.weights or None, self.fetch_k)


class RerankedConfig(Module):
    kind: Literal["Reranked"] = "Reranked"
    retriever: str
    reranker: RerankerConfig = LateInteractionConfig()
    fetch_k: int = 50

    def build(self, site: PipelineBuilder) -> Retriever:
        return Reranked(site.module(self.retriever), self.reranker.build(site.store), self.fetch_k)


class FilteredConfig(Module):
    kind: Literal["Filtered"] = "Filtered"
    retriever: str
    metadata: Mapping[str, Any] = {}

    def build(self, site: PipelineBuilder) -> Retriever:
        return modular.Filtered(site.module(self.retriever), self.metadata)


class ParentConfig(Module):
    kind: Literal["Parent"] = "Parent"
    retriever: str
    limit: int = 6_000

    def build(self, site: PipelineBuilder) -> Retriever:
        return modular.Parent(site.module(self.retriever), site.corpus, self.limit)


class SentenceWindowConfig(Module):
    kind: Literal["SentenceWindow"] = "SentenceWindow"
    retriever: str
    before: int = 1
    after: int = 1

    def build(self, site: PipelineBuilder) -> Retriever:
        inner, chunks = site.module(self.retriever), site.chunks(self.chunks)
        return modular.SentenceWindow(inner, chunks, site.corpus, self.before, self.after)


class MMRConfig(Module):
    kind: Literal["MMR"] = "MMR"
    retriever: str
    lambda_mult: float = 0.7
    fetch_k: int = 50

    def build(self, site: PipelineBuilder) -> Retriever:
        return modular.MMR(site.module(self.retriever), site.store.pool, self.lambda_mult, self.fetch_k)


class SubQuestionsConfig(Module):
    """A question that names several values of the documents' metadata ``by`` is asked once for each; another stays
    whole, or with ``parts`` is taken apart by ``rewrite.ClauseSplitter``."""

    kind: Literal["SubQuestions"] = "SubQuestions"
    retriever: str
    by: str = "project"
    parts: bool = False
    limit: int = 4
    fetch_k: int = 15

    def build(self, site: PipelineBuilder) -> Retriever:
        patterns = modular.name_patterns(site.chunks(self.chunks), self.by)
        splitter = modular.NameSplitter(patterns, otherwise=ClauseSplitter() if self.parts else None)
        return modular.SubQuestions(site.module(self.retriever), splitter, self.limit, self.fetch_k)


class RouterConfig(Module):
    """A copy of ``retriever`` for each value of the documents' metadata ``by``; where ``classifier`` is not sure
    (an average is the mean of the other two), ``retriever`` itself searches everything."""

    kind: Literal["Router"] = "Router"
    retriever: str
    by: str = "project"
    classifier: Literal["AverageClassifier", "HitVoteClassifier", "NaiveBayesClassifier"] = "AverageClassifier"
    threshold: float = 0.7

    def build(self, site: PipelineBuilder) -> Retriever:
        chunks, classifiers = site.chunks(self.chunks), list[modular.Classifier]()
        if self.classifier != "HitVoteClassifier":
            classifiers.append(modular.NaiveBayesClassifier(chunks, self.by))
        if self.classifier != "NaiveBayesClassifier":
            dense = DenseRetriever(chunks, store=site.store, scoring="maxp")
            classifiers.append(modular.HitVoteClassifier(dense, self.by))
        routes = {label: part.module(self.retriever) for label, part in site.collections(self.by).items()}
        names = modular.RegexClassifier(modular.name_patterns(chunks, self.by))
        classifier = modular.AbstainOnSeveral(names, modular.AverageClassifier(classifiers))
        return modular.Router(routes, classifier, site.module(self.retriever), self.threshold)


class CorrectiveConfig(Module):
    """Weak results, graded by ``grader``, are searched again by ``fallback``, then given up."""

    kind: Literal["Corrective"] = "Corrective"
    retriever: str
    accept_above: float
    reject_below: float
    grader: RerankerConfig = LateInteractionConfig()
    fallback: str | None = None

    def build(self, site: PipelineBuilder) -> Retriever:
        fallback, grader = site.module(self.fallback) if self.fallback else None, self.grader.build(site.store)
        return modular.Corrective(
            site.module(self.retriever), grader, self.accept_above, self.reject_below, fallback=fallback
        )


AnyModule = Annotated[
    BM25RetrieverConfig
    | DenseRetrieverConfig
    | HybridConfig
    | RerankedConfig
    | FilteredConfig
    | ParentConfig
    | SentenceWindowConfig
    | MMRConfig
    | SubQuestionsConfig
    | RouterConfig
    | CorrectiveConfig,
    Field(discriminator="kind"),
]


MODULES: dict[str, type[Module]] = {
    each.model_fields["kind"].default: each for each in get_args(get_args(AnyModule)[0])
}
"""The kinds of modules, each with the record of its settings."""
_KINDS: dict[str, type[Table]] = {
    **MODULES,
    "LateInteraction": LateInteractionConfig,
    "CrossEncoder": CrossEncoderConfig,
}


# ---- the file


def _with_main(chunks: Mapping[str, ChunkerConfig]) -> Mapping[str, ChunkerConfig]:
    return {"main": ChunkerConfig(), **chunks}


class Provenance(Table):
    """What a configuration was measured on: the fingerprint of the corpus, and the token store's identity."""

    corpus: str
    store: str


class PipelineConfig(Table):
    """All settings of a pipeline's retrieval side, and its context budget.

    ``retriever`` names one of ``modules``, ``rewriter`` one of ``REWRITERS``. ``provenance``, where it is there, is
    checked when a pipeline is made.

    >>> config = PipelineConfig.from_toml('''
    ...     retriever = "words"
    ...     modules.words = {kind = "BM25Retriever", contextual = true}
    ... ''')
    >>> config.modules["words"].contextual, config == PipelineConfig.from_toml(config.to_toml())
    (True, True)

    Raises:
        InputError: a module that is not there, or modules that contain each other.
    """

    retriever: str
    rewriter: Literal["Spelling"] | None = None
    fetch_k: int | None = None
    budget: int = 2000
    reranker: RerankerConfig | None = None
    chunks: Annotated[Mapping[str, ChunkerConfig], AfterValidator(_with_main), Field(validate_default=True)] = {}
    modules: Mapping[str, AnyModule] = {}
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        held = {name: module.references for name, module in self.modules.items()}
        for name in (self.retriever, *(name for names in held.values() for name in names)):
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
        except (OSError, UnicodeDecodeError, InputError) as error:
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
        """Refuse another corpus or other vectors than those that it was measured on.

        Raises:
            StoreMismatchError: says which of the two is another.
        """
        here = {"corpus": corpus.fingerprint, "store": store.identity}
        for what, made in self.provenance.model_dump().items() if self.provenance else ():
            if made != here[what]:
                raise StoreMismatchError(
                    f"this configuration was made with the {what} {made[:16]}, and here is {here[what][:16]}: it may "
                    f"rank otherwise. To use it all the same, take [provenance] out and measure it again"
                )


# ---- from a configuration to the parts of a pipeline


@dataclass(frozen=True)
class PipelineBuilder:
    """Builds each module of ``config`` once. ``only`` are values that the metadata of all chunks must have."""

    config: PipelineConfig
    corpus: Corpus
    store: TokenStore
    only: tuple[tuple[str, str], ...] = ()
    built: dict[object, Retriever] = field(default_factory=dict)
    cut: dict[ChunkerConfig, list[Chunk]] = field(default_factory=dict)

    def chunks(self, name: str) -> Sequence[Chunk]:
        """The chunks of the configuration's cutting called ``name``."""
        chunker = self.config.chunks[name]
        if chunker not in self.cut:
            self.cut[chunker] = chunk_corpus(chunker.build(self.store), self.corpus)
        return [c for c in self.cut[chunker] if all(str(c.metadata.get(key)) == value for key, value in self.only)]

    def module(self, name: str) -> Retriever:
        """The retriever called ``name``."""
        if (name, self.only) not in self.built:
            self.built[name, self.only] = self.config.modules[name].build(self)
        return self.built[name, self.only]

    def reranker(self) -> Reranker | None:
        """The reranker of the pipeline itself."""
        return self.config.reranker.build(self.store) if self.config.reranker else None

    def rewriter(self) -> Rewriter | None:
        """The rewriter, made from the documents."""
        return REWRITERS[self.config.rewriter](self.corpus.documents) if self.config.rewriter else None

    def collections(self, key: str) -> Mapping[str, PipelineBuilder]:
        """A builder for each value of the metadata ``key``.

        Raises:
            InputError: no document has it.
        """
        labels = sorted({str(d.metadata[key]) for d in self.corpus.documents if key in d.metadata})
        if not labels:
            keys = ", ".join(sorted({key for d in self.corpus.documents for key in d.metadata})) or "no metadata"
            raise InputError(f"by = {key!r}: no document of {self.corpus.name!r} has it; there is {keys}")
        return {label: replace(self, only=(*self.only, (key, label))) for label in labels}


# ---- errors in words


def read_table(model: type[T], table: object, where: str = "") -> T:
    """``model`` from a table called ``where``; every key and type is checked.

    Raises:
        InputError: says where, what was found and what was expected.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise InputError("; ".join(_in_words(each, where, model.model_fields) for each in error.errors())) from None


_EXPECTED = {"bool": "true or false", "int": "a whole number", "float": "a number", "string": "a text"}


def _in_words(error: Mapping[str, Any], where: str, known: Iterable[str]) -> str:
    """An error of pydantic as a sentence: the table, the key, what was found, what was expected."""
    kind, found, context, place = error["type"], error["input"], error.get("ctx", {}), list(map(str, error["loc"]))
    tables: dict[str, type[Table]] = {"chunks": ChunkerConfig, "provenance": Provenance}
    holder = tables.get(place[0]) if len(place) > 1 else None
    for i in range(1, len(place)):  # ("modules", "words", "BM25Retriever", "variant"): the kind is no key of the file
        if place[i] in _KINDS and place[i - 1] != "modules":
            holder, place[i] = _KINDS[place[i]], ""
    table, key = _table(where, place[:-1]), "".join(place[-1:])
    if kind == "value_error":
        return str(context["error"])
    if kind == "union_tag_invalid":
        tags = re.findall(r"'(.*?)'", context["expected_tags"])
        return f"{_table(where, place)}: unknown kind {context['tag']!r}{_nearest(context['tag'], tags)}"
    if kind.removesuffix("_type") in ("union_tag_not_found", "model", "model_attributes", "dict", "mapping"):
        return f"{_table(where, place)} = {found!r}: expected a table{' with a kind' * place[:1].count('modules')}"
    if kind == "extra_forbidden":
        return f"{table}: unknown {key!r}{_nearest(key, holder.model_fields if holder else known)}"
    if kind == "missing":
        return f"{table}: {key} is missing"
    expected = context.get("expected") or _EXPECTED.get(kind.removesuffix("_type"), error["msg"])
    return f"{table}, {key} = {found!r}: expected {expected}"


def _table(where: str, place: Sequence[str]) -> str:
    return f"[{'.'.join(filter(None, (where, *place)))}]" if where or place else "the file"


def _nearest(word: str, allowed: Iterable[str]) -> str:
    small = {each.lower(): each for each in allowed}
    near = difflib.get_close_matches(word.lower(), small, n=1, cutoff=0.45)
    return f", did you mean {small[near[0]]!r}?" if near else f": there is {', '.join(small.values()) or 'none'}"

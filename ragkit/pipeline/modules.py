"""The retrievers that a configuration is made of: for each kind a record of its settings, which knows how to build it.

A record's fields are the keys of its TOML table. ``of`` (and ``wider``) name other modules; ``chunks`` names a way of
cutting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

from ragkit.base import Chunk, Corpus, InputError, Mean, Retriever, Rewriter
from ragkit.pipeline.settings import one_of
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever, Scoring
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.modular import (
    MMR,
    Corrective,
    EachNamed,
    Filtered,
    MultiHop,
    Neighbours,
    OneNamed,
    Parent,
    Router,
    Rules,
    Together,
    Vocabulary,
    Votes,
    by_name,
)
from ragkit.retrieval.modular.routing import Classifier
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.rewriting import Parts, Spelling
from ragkit.token_store import TokenStore

CLASSIFIERS = ("together", "votes", "vocabulary")
"""What a router may be sure by."""


class Site(Protocol):
    """Where a module is built: the corpus, its token store, and the modules that it names."""

    @property
    def corpus(self) -> Corpus: ...
    @property
    def store(self) -> TokenStore: ...

    def chunks(self, name: str) -> Sequence[Chunk]: ...
    def module(self, name: str) -> Retriever: ...

    def collections(self, key: str) -> Mapping[str, Site]:
        """A site for each value of the documents' metadata ``key``, whose chunks are those documents'."""
        ...


# ---- finding


@dataclass(frozen=True)
class BM25:
    """Keyword search (``BM25Retriever``)."""

    chunks: str = "main"
    variant: str = "lucene"
    contextual: bool = False

    def build(self, site: Site) -> Retriever:
        return BM25Retriever(site.chunks(self.chunks), variant=self.variant, contextual=self.contextual)


@dataclass(frozen=True)
class Dense:
    """Vector search (``DenseRetriever``) with the vectors of the token store."""

    chunks: str = "main"
    scoring: Scoring = "maxp"
    window: int = 64
    index: str = "flat"
    contextual: bool = False

    def __post_init__(self) -> None:
        one_of(self.scoring, get_args(Scoring), "scoring")

    def build(self, site: Site) -> Retriever:
        return DenseRetriever(
            site.chunks(self.chunks),
            store=site.store,
            scoring=self.scoring,
            window=self.window,
            index=self.index,
            contextual=self.contextual,
        )


@dataclass(frozen=True)
class Fused:
    """The fused results of several modules (``Hybrid``)."""

    of: tuple[str, ...]
    fusion: str = "rrf"
    weights: tuple[float, ...] = ()
    fetch: int = 100

    def build(self, site: Site) -> Retriever:
        inputs = [site.module(name) for name in self.of]
        return Hybrid(inputs, fusion=self.fusion, weights=self.weights or None, fetch=self.fetch)


# ---- composing


@dataclass(frozen=True)
class Ranked:
    """A module's hits in the order of late interaction (``Reranked``)."""

    of: tuple[str, ...]
    mean: Mean = "geometric"
    doubt: float = 0.5
    fetch: int = 50

    def build(self, site: Site) -> Retriever:
        return Reranked(_only(self.of, site), LateInteraction(site.store, self.mean, self.doubt), self.fetch)


@dataclass(frozen=True)
class Where:
    """Only hits whose metadata has these values (``Filtered``)."""

    of: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def build(self, site: Site) -> Retriever:
        return Filtered(_only(self.of, site), self.metadata)


@dataclass(frozen=True)
class Sections:
    """The sections around the hits (``Parent``)."""

    of: tuple[str, ...]
    most: int = 6_000

    def build(self, site: Site) -> Retriever:
        return Parent(_only(self.of, site), site.corpus, self.most)


@dataclass(frozen=True)
class Widened:
    """The hits with the chunks before and after them (``Neighbours``)."""

    of: tuple[str, ...]
    chunks: str = "main"
    before: int = 1
    after: int = 1

    def build(self, site: Site) -> Retriever:
        return Neighbours(_only(self.of, site), site.chunks(self.chunks), site.corpus, self.before, self.after)


@dataclass(frozen=True)
class Diverse:
    """Hits that are unlike each other (``MMR``)."""

    of: tuple[str, ...]
    balance: float = 0.7
    fetch: int = 50

    def build(self, site: Site) -> Retriever:
        return MMR(_only(self.of, site), site.store.pool, self.balance, self.fetch)


@dataclass(frozen=True)
class Hops:
    """The parts of a question one by one (``MultiHop``): a question that names several values of the documents'
    metadata ``by`` is asked once for each; another stays whole, or with ``parts`` is taken apart by
    ``rewriting.Parts``."""

    of: tuple[str, ...]
    by: str = "project"
    parts: bool = False
    most: int = 4
    fetch: int = 15

    def build(self, site: Site) -> Retriever:
        names = by_name(site.chunks("main"), self.by)
        decompose = EachNamed(names, otherwise=Parts() if self.parts else None)
        return MultiHop(_only(self.of, site), decompose, self.most, self.fetch)


@dataclass(frozen=True)
class Routed:
    """The collection that can answer, else all (``Router``): a copy of ``of`` for each value of the metadata ``by``."""

    of: tuple[str, ...]
    by: str = "project"
    classifier: str = "together"
    threshold: float = 0.7

    def __post_init__(self) -> None:
        one_of(self.classifier, CLASSIFIERS, "classifier")

    def build(self, site: Site) -> Retriever:
        routes = {label: _only(self.of, part) for label, part in site.collections(self.by).items()}
        names, sure = by_name(site.chunks("main"), self.by), classifier(self.classifier, self.by, site)
        one = OneNamed(Rules(names), sure) if names else sure
        return Router(routes, one, _only(self.of, site), self.threshold)


@dataclass(frozen=True)
class Corrected:
    """Weak results searched again with the spelling repaired, then by ``wider``, then given up (``Corrective``)."""

    of: tuple[str, ...]
    good: float
    bad: float
    wider: tuple[str, ...] = ()

    def build(self, site: Site) -> Retriever:
        wider = _only(self.wider, site) if self.wider else None
        return Corrective(_only(self.of, site), self.good, self.bad, rewriter=_spelling(site), wider=wider)


MODULES: dict[str, type[Any]] = {
    "bm25": BM25,
    "dense": Dense,
    "hybrid": Fused,
    "reranked": Ranked,
    "filtered": Where,
    "parent": Sections,
    "neighbours": Widened,
    "mmr": Diverse,
    "multihop": Hops,
    "router": Routed,
    "corrective": Corrected,
}
"""The kinds of modules by their names in a configuration."""


def classifier(kind: str, by: str, site: Site) -> Classifier:
    """A router's classifier over the chunks called "main"; "together" is the mean of "vocabulary" and "votes"."""
    chunks = site.chunks("main")
    if kind == "vocabulary":
        return Vocabulary(chunks, by)
    votes = Votes(DenseRetriever(chunks, store=site.store, scoring="maxp"), by)
    return votes if kind == "votes" else Together([Vocabulary(chunks, by), votes])


def _only(names: Sequence[str], site: Site) -> Retriever:
    """The one module that is named.

    Raises:
        InputError: none or several are; "hybrid" makes one of several.
    """
    if len(names) != 1:
        raise InputError(f"of = {list(names)}: expected the name of one module; a 'hybrid' makes one of several")
    return site.module(names[0])


def _spelling(site: Site) -> Rewriter:
    return Spelling.of(site.corpus.documents)

"""From a configuration to the parts of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ragkit.base import Chunk, Corpus, InputError, Reranker, Retriever, Rewriter
from ragkit.chunking import chunk_corpus
from ragkit.pipeline.config import PipelineConfig
from ragkit.pipeline.settings import REWRITERS, Chunking
from ragkit.token_store import TokenStore


def unwrapped(retriever: Retriever) -> Retriever:
    """A module as it is."""
    return retriever


@dataclass(frozen=True)
class Building:
    """The ``Site`` of ``ragkit.pipeline.modules``: builds each module of ``config`` once.

    ``shelf`` keeps what was built under what it is made of; several configurations may share one, and then build
    nothing twice. ``wrap`` makes of each module what the others see of it. ``only`` are values that
    the metadata of all chunks must have.
    """

    config: PipelineConfig
    corpus: Corpus
    store: TokenStore
    shelf: dict[str, Retriever] = field(default_factory=dict)
    wrap: Callable[[Retriever], Retriever] = unwrapped
    only: tuple[tuple[str, str], ...] = ()
    cuts: dict[Chunking, list[Chunk]] = field(default_factory=dict)

    def chunks(self, name: str) -> Sequence[Chunk]:
        """The chunks of the configuration's cutting called ``name``."""
        chunking = self.config.chunks[name]
        if chunking not in self.cuts:
            self.cuts[chunking] = chunk_corpus(chunking.build(self.store), self.corpus)
        return [c for c in self.cuts[chunking] if all(str(c.metadata.get(key)) == value for key, value in self.only)]

    def module(self, name: str) -> Retriever:
        """The retriever called ``name``."""
        key = f"{self.config.key(name)} {self.only}"
        if key not in self.shelf:
            self.shelf[key] = self.wrap(self.config.modules[name].build(self))
        return self.shelf[key]

    def collections(self, key: str) -> Mapping[str, Building]:
        """A building for each value of the metadata ``key``.

        Raises:
            InputError: no document has it.
        """
        labels = sorted({str(d.metadata[key]) for d in self.corpus.documents if key in d.metadata})
        if not labels:
            raise InputError(f"by = {key!r}: no document of {self.corpus.name!r} has it; there is {_keys(self.corpus)}")
        return {label: replace(self, only=(*self.only, (key, label))) for label in labels}


def _keys(corpus: Corpus) -> str:
    return ", ".join(sorted({key for document in corpus.documents for key in document.metadata})) or "no metadata"


@dataclass(frozen=True)
class Assembled:
    """The parts of a pipeline that a configuration describes, ready for ``RAGPipeline``."""

    vector_store: Retriever
    reranker: Reranker | None
    rewriter: Rewriter | None
    fetch: int | None
    budget: int
    identity: str


def assembled(config: PipelineConfig | str | Path, corpus: Corpus, store: TokenStore) -> Assembled:
    """Build the parts that ``config``, or a file of it, describes.

    Raises:
        InputError: as ``PipelineConfig.load``; a setting that a module refuses.
        StoreMismatchError: the configuration was made with another corpus or other vectors.
    """
    config = config if isinstance(config, PipelineConfig) else PipelineConfig.load(config)
    config.check(corpus, store)
    return Assembled(
        Building(config, corpus, store).module(config.retriever),
        config.reranker.build(store) if config.reranker else None,
        REWRITERS[config.rewriter](corpus.documents) if config.rewriter else None,
        config.fetch,
        config.budget,
        f"config:{config.fingerprint}:{corpus.fingerprint}:{store.identity}",
    )

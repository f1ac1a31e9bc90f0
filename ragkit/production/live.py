"""Pipelines over documents that change while people ask: one for each name and filter, rebuilt beside the old ones.

    index = LiveIndex("handbook")                               # a folder, "core", or a Corpus
    await index.refresh()                                       # builds; later: rebuilds, if a file has changed
    rag = await index.pipeline("advanced", {"source": "acme/*"})

A filter is applied before anything is ranked: its pipeline is built over the documents that match, as if there were no
others. So neither a passage, nor a word of the vocabulary, nor a frequency of theirs can show in an answer or a score.
In a ``PgVectorStore`` or ``QdrantStore`` of a configuration, too, only the matching documents are ranked, but how
frequent a word is in all of the store shows in scores. A store has one language, so the documents of each filter need
to have it, too.
The vectors of the token store are read from disk and shared by content: a filter costs memory, and no run of the model.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from ragkit.base import LLM, Corpus, InputError, Metadata, RagkitError, accepted_values
from ragkit.concurrency import in_daemon_thread
from ragkit.corpus import load_folder, load_pydocs
from ragkit.corpus.folder import folder_state
from ragkit.pipeline import RAGPipeline, advanced, modular, naive
from ragkit.pipeline.config import PipelineConfig
from ragkit.pipeline.trace import AnswerCache, Monitor
from ragkit.retrieval.follow_up import FollowUp
from ragkit.token_store import TokenStore

PRESETS = {"naive": naive, "advanced": advanced, "modular": modular}
Key = tuple[tuple[str, tuple[str, ...]], ...]  # a filter that can be hashed
FETCHED = ("tiny", "core", "extended")
CONFIG = "config"
"""The name of the pipeline that a configuration file describes."""

_log = logging.getLogger(__name__)


@dataclass
class Collection:
    """The documents that match a filter, and the pipelines over them that are built, by name."""

    corpus: Corpus
    settings: PipelineConfig | None
    pipelines: dict[str, RAGPipeline] = field(default_factory=dict)
    builds: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # under way

    @cached_property
    def store(self) -> TokenStore:
        return TokenStore.open(self.corpus, progress=False)

    @cached_property
    def follow_up(self) -> FollowUp:
        """Rewrites follow-up questions; knows the names of these documents' projects."""
        return FollowUp.of(self.corpus.documents)


class LiveIndex:
    """The pipelines over ``source``: a corpus, the name of a fetched one, or a folder, which may change.

    Args:
        config: the file of a configuration; it is the pipeline called "config", and read anew as it changes.
        llm: as for ``make_llm``, for each pipeline.
        cache: as for ``RAGPipeline``; ``monitor`` likewise.
        built: the name of the pipeline that ``refresh`` builds for each of ``filters``; others are built on first use.
        filters: what metadata must match (``Corpus.only``), for each group of users.

    ``error`` is what the last ``refresh`` failed with, in all or for one filter, ``failures`` counts such, ``built_at``
    is the time of the last one that built, in seconds since 1970.

    Raises:
        InputError: ``built`` is no pipeline.
    """

    def __init__(
        self,
        source: Corpus | str | Path,
        *,
        config: str | Path | None = None,
        llm: LLM | str | Path | None = None,
        cache: AnswerCache | None = None,
        monitor: Monitor | None = None,
        built: str = "advanced",
        filters: Sequence[Metadata] = ({},),
    ) -> None:
        self.source, self.config, self.llm, self.cache, self.monitor = source, config, llm, cache, monitor
        self.names = (*PRESETS, *([CONFIG] if config else []))
        if built not in self.names:
            raise InputError(f"no pipeline {built!r}: expected one of {', '.join(self.names)}")
        self.built, self.filters = built, list(map(_key, filters))
        self.error: Exception | None = None
        self.failures, self.built_at = 0, 0.0
        folder = not isinstance(source, Corpus) and str(source) not in FETCHED
        self._folder = Path(str(source)).expanduser() if folder else None
        self._state: object = None
        self._corpus: Corpus | None = None
        self._settings: PipelineConfig | None = None
        self._collections: dict[Key, Collection] = {}
        self._building = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether questions can be answered."""
        return self._corpus is not None

    def collection(self, where: Metadata) -> Collection:
        """The documents that match ``where``; its pipelines are built by ``pipeline``."""
        assert self._corpus is not None
        key = _key(where)
        if key not in self._collections:
            self._collections[key] = Collection(self._corpus.only(where), self._settings)
        return self._collections[key]

    async def pipeline(self, name: str, where: Metadata) -> RAGPipeline:
        """The pipeline called ``name`` over the documents that match ``where``, built now where it is not there.

        Whoever waits may give up: the build goes on, for the next one who asks.

        Raises:
            RagkitError: it can't be built.
        """
        return await self.pipeline_of(self.collection(where), name)

    async def pipeline_of(self, collection: Collection, name: str) -> RAGPipeline:
        """As ``pipeline``, over the documents of ``collection``, also if there are newer ones."""
        if name not in collection.pipelines:
            if name not in collection.builds:
                build = asyncio.create_task(in_daemon_thread(partial(self._build, name, collection)))
                build.add_done_callback(lambda _: collection.builds.pop(name))
                collection.builds[name] = build
            await asyncio.shield(collection.builds[name])
        return collection.pipelines[name]

    def _build(self, name: str, collection: Collection) -> None:
        with self._building:  # one after the other: each takes all cores
            if name in collection.pipelines:
                return
            corpus, settings, llm = collection.corpus, collection.settings, self.llm
            build: Callable[..., RAGPipeline]
            if not corpus.documents:  # nothing matches the filter: it answers "not found", and no model is asked
                build, llm = naive, "extractive"
            elif settings and name == CONFIG:
                build = partial(RAGPipeline.from_config, settings)
            else:
                build = PRESETS[name]
            rag = build(corpus, llm=llm, store=collection.store, cache=self.cache, monitor=self.monitor)
            rag.retriever.search("build the indexes", 1)
            collection.pipelines[name] = rag

    async def refresh(self) -> bool:
        """Read the documents and build, if a file has changed since; returns whether that was done.

        Everything is built beside what is there, and takes its place at once: queries under way end on the old
        pipelines. What fails stays as it was (all of it, or the pipelines of one filter), ``error`` says why, and the
        next ``refresh`` tries again.
        """
        try:
            state = await asyncio.to_thread(self._files_state)
            if self.ready and state == self._state and self.error is None:
                return False
            built = await in_daemon_thread(partial(self._rebuilt, dict(self._collections)))
        except Exception as error:
            self._note(error)
            return False
        self._corpus, self._settings, self._collections, failure = built
        self._state, self.built_at, self.error = state, time.time(), None
        _log.info("the index of %d documents is built", len(self._corpus.documents))
        if failure:
            self._note(failure)
        return True

    def _note(self, error: Exception) -> None:
        self.error = error
        self.failures += 1
        known = isinstance(error, RagkitError | OSError)  # others are mistakes of the code: show where
        _log.error("an index could not be built: %s", error, exc_info=None if known else error)

    def _files_state(self) -> object:
        """Differs when a file of the folder, or the configuration, has changed."""
        state: list[object] = [folder_state(self._folder) if self._folder else ()]
        if self.config:
            stat = Path(self.config).expanduser().stat()
            state.append((stat.st_mtime_ns, stat.st_size))
        return state

    def _rebuilt(
        self, before: Mapping[Key, Collection]
    ) -> tuple[Corpus, PipelineConfig | None, dict[Key, Collection], Exception | None]:
        """Documents, configuration, the collections in use with their pipelines, and why some of them are the old ones.

        Raises:
            Exception: nothing could be built.
        """
        settings = PipelineConfig.load(self.config) if self.config else None
        collections, failures = dict[Key, Collection](), []
        if isinstance(self.source, Corpus):
            corpus = self.source
        else:
            corpus = load_folder(self._folder) if self._folder else load_pydocs(str(self.source))
        keys = list(dict.fromkeys([*self.filters, *before]))
        for key in keys:
            old, fresh = before.get(key), Collection(corpus.only(dict(key)), settings)
            if old and (old.settings, old.corpus.fingerprint) == (settings, fresh.corpus.fingerprint):
                fresh = old  # nothing that this filter lets through has changed
            elif corpus.documents and not fresh.corpus.documents:
                wanted, known = {name: " or ".join(values) for name, values in key}, dict(corpus.documents[0].metadata)
                _log.warning("no document matches the filter %s; the metadata of one are %s", wanted, known)
            try:
                for name in sorted({self.built, *(old.pipelines if old else ())}):
                    self._build(name, fresh)
                collections[key] = fresh
            except Exception as error:
                failures.append(error)
                if old:
                    collections[key] = old
        if len(failures) == len(keys):
            raise failures[0]
        return corpus, settings, collections, failures[0] if failures else None


def _key(where: Mapping[str, object]) -> Key:
    return tuple(sorted((key, tuple(map(str, accepted_values(value)))) for key, value in where.items()))

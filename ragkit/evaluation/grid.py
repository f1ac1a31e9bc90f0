"""The configurations that ``tune`` tries: every combination of the settings that are listed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, Self

from ragkit.base import InputError
from ragkit.pipeline.config import PipelineConfig, read_record
from ragkit.pipeline.modules import BM25, Dense, Fused
from ragkit.pipeline.settings import Chunking, LateInteractionSettings, one_of


@dataclass(frozen=True)
class Grid:
    """What each setting may be. ``retriever``: bm25, dense or hybrid (of both); ``fusion``: rrf or convex.

    Settings that a combination does not use are not varied: 288 configurations as it stands.

    >>> len(Grid().configurations()), len(Grid(retriever=("bm25",), rerank=(False,)).configurations())
    (288, 24)

    Raises:
        InputError: an empty list, or a word that is none of those.
    """

    chunker: tuple[str, ...] = ("fixed", "heading")
    size: tuple[int, ...] = (256, 512, 1024)
    overlap: tuple[int, ...] = (0, 64)
    contextual: tuple[bool, ...] = (False, True)
    retriever: tuple[str, ...] = ("bm25", "dense", "hybrid")
    scoring: tuple[str, ...] = ("maxp",)
    fusion: tuple[str, ...] = ("rrf", "convex")
    rerank: tuple[bool, ...] = (False, True)
    fetch: tuple[int, ...] = (20, 50)

    def __post_init__(self) -> None:
        for f in fields(self):
            if not getattr(self, f.name):
                raise InputError(f"{f.name} is empty: expected one value or more")
        for word in self.retriever:
            one_of(word, ("bm25", "dense", "hybrid"), "retriever")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The grid in a TOML file: lists (or single values) under the names of the fields.

        Raises:
            InputError: not TOML, an unknown key, a value of another type.
        """
        try:
            said = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
            return read_record(cls, said, "grid")
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, InputError) as error:
            raise InputError(f"{path}: {error}") from None

    def configurations(self) -> list[PipelineConfig]:
        """One configuration for each combination that differs, in order."""
        found = {config.fingerprint: config for config in self._all()}
        return list(found.values())

    def _all(self) -> Iterator[PipelineConfig]:
        rerankings = [None] * (False in self.rerank) + [n for n in self.fetch if True in self.rerank]
        for chunker, size, overlap in product(self.chunker, self.size, self.overlap):
            chunks = {"main": Chunking(chunker, size, overlap)}
            for contextual, retriever, scoring, fusion, fetch in product(
                self.contextual, self.retriever, self.scoring, self.fusion, rerankings
            ):
                yield PipelineConfig(
                    retriever,
                    _modules(retriever, contextual, scoring, fusion),
                    chunks,
                    reranker=LateInteractionSettings() if fetch else None,
                    fetch=fetch,
                )


def _modules(retriever: str, contextual: bool, scoring: Any, fusion: str) -> dict[str, Any]:
    all_of_them: dict[str, Any] = {
        "bm25": BM25(contextual=contextual),
        "dense": Dense(contextual=contextual, scoring=scoring),
        "hybrid": Fused(("bm25", "dense"), fusion=fusion),
    }
    return all_of_them if retriever == "hybrid" else {retriever: all_of_them[retriever]}


def label(config: PipelineConfig) -> str:
    """A configuration in a few words, enough to tell those of a grid apart.

    >>> label(Grid().configurations()[-1])
    'heading 1024/64, hybrid convex, contextual, rerank 50'
    """
    chunks, top = config.chunks["main"], config.modules[config.retriever]
    fusion = f" {top.fusion}" if isinstance(top, Fused) else ""
    words = [f"{chunks.chunker} {chunks.size}/{chunks.overlap}", config.retriever + fusion]
    if any(getattr(module, "contextual", False) for module in config.modules.values()):
        words.append("contextual")
    if config.reranker is not None:
        words.append(f"rerank {config.fetch or '3 k'}")
    return ", ".join(words)

"""What the stores outside the process share: PostgreSQL's (``pgvector``) and Qdrant's (``qdrant``)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from ragkit.base import Chunk, Hit, InputError, Metadata, Retriever, StoreMismatchError, accepted_values, build_identity

Mode = Literal["hybrid", "dense", "words"]
SOURCES: dict[Mode, str] = {"hybrid": "hybrid:rrf", "dense": "dense:pooled", "words": "bm25"}
"""The source of the hits of each mode: as those of ``Hybrid``, ``DenseRetriever`` and ``BM25Retriever``."""

FETCH_K = 100  # the hits of each of the two lists that "hybrid" fuses, as in Hybrid
CANDIDATES = 128  # of a search of HNSW, at least


class Store(ABC):
    """A store that can be searched; ``ChunkStore`` is all that it can do."""

    @property
    @abstractmethod
    def identity(self) -> str: ...

    @abstractmethod
    def search(self, queries: Sequence[str], k: int, retriever: StoreRetriever) -> list[list[Hit]]:
        """The hits of ``retriever`` for each query, best first; it has checked the input."""

    def retriever(
        self,
        mode: Mode = "hybrid",
        *,
        where: Metadata | None = None,
        documents: Collection[str] | None = None,
        exact: bool = True,
    ) -> StoreRetriever:
        """Searches the store, only chunks whose metadata have the values of ``where`` (a list or set: any of it), and
        only those of ``documents``, by their ids (None: all).

        Values are compared as they are, without the wildcards of ``Corpus.only``. ``exact=False`` may use an
        approximate index (HNSW).
        """
        return StoreRetriever(self, mode, dict(where or {}), documents, exact)


@dataclass(frozen=True)
class StoreRetriever(Retriever):
    """A search of a store: see its ``retriever``. ``documents`` are ids, None: all.

    Raises:
        InputError: there is no such mode, ``documents`` is a text, or a value of ``where`` has a ``*`` or is none of
            JSON's.
    """

    store: Store
    mode: Mode
    where: Metadata
    documents: Collection[str] | None
    exact: bool

    def __post_init__(self) -> None:
        if self.mode not in SOURCES:
            raise InputError(f"mode = {self.mode!r}: expected one of {', '.join(SOURCES)}")
        if self.documents is not None:
            check_documents(self.documents)
        for key, wanted in self.where.items():
            for value in accepted_values(wanted):
                _check_value(key, value)

    @property
    def identity(self) -> str:
        return build_identity(self, self.store, self.mode, self.where, self._digest, self.exact)

    @cached_property
    def document_ids(self) -> list[str] | None:
        """``documents`` in order, without ids that no store can hold: those with half of a surrogate pair."""
        if self.documents is None:
            return None
        return sorted(each for each in self.documents if not re.search("[\ud800-\udfff]", each))

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(repr(self.document_ids).encode()).hexdigest()

    def _search(self, query: str, k: int) -> list[Hit]:
        return self._search_many([query], k)[0]

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return self.store.search(queries, k, self)


def _check_value(key: str, value: object) -> None:
    """Refuse a value of a filter that no metadata can have, or that was meant as a pattern."""
    if isinstance(value, str) and "*" in value:
        raise InputError(
            f"where, {key} = {value!r}: a store knows no wildcards (Corpus.only does); give all values in a list, or a "
            "function to Filtered(retriever, ...)"
        )
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise InputError(f"where, {key} = {value!r}: expected a value as metadata have them in JSON") from None


def chunk_to_dict(chunk: Chunk) -> dict[str, Any]:
    """``chunk`` as it comes back from JSON; ``ragkit.base.from_dict(Chunk, ...)`` makes it again.

    Raises:
        InputError: JSON would change its metadata.
    """
    metadata = dict(chunk.metadata)
    try:
        fields: dict[str, Any] = json.loads(json.dumps(asdict(replace(chunk, metadata=metadata)), allow_nan=False))
        same = fields["metadata"] == metadata
    except (TypeError, ValueError):
        same = False
    if not same:
        raise InputError(
            f"the metadata of chunk {chunk.id!r} would not come back as they are: {metadata!r}; expected text, finite "
            "numbers, true, false, None, and lists and dicts of these with text as keys"
        )
    return fields


def check_documents(documents: Collection[str]) -> None:
    """Refuse one id in the place of a collection of ids.

    Raises:
        InputError: ``documents`` is a text.
    """
    if isinstance(documents, str):
        raise InputError(f"documents = {documents!r}: expected a collection of ids, such as [{documents!r}]")


def check_same(store: str, made: dict[str, str], own: dict[str, str]) -> None:
    """Compare what a store was made for with what opens it now; where one does not say, they agree.

    Raises:
        StoreMismatchError: names both.
    """
    for what, theirs in made.items():
        if theirs != own[what] and theirs and own[what]:
            raise StoreMismatchError(
                f"the store {store} was filled with the {what} {theirs}, and this is {own[what]}: use the same, or "
                "another name for a new store"
            )


POSTGRES = "postgresql://user:password@host:5432/database"


def place_in(variable: str, example: str) -> str:
    """Where a store is, by an environment variable: a URL has a password, which belongs in no file and no command.

    Raises:
        InputError: it is not set, or ``variable`` is no name; says so with ``example``.
    """
    if not variable.isidentifier():  # perhaps the URL itself
        raise InputError(f"expected the name of an environment variable that holds {example}")
    if not (place := os.environ.get(variable)):
        raise InputError(f"${variable} is not set: expected {example}")
    return place

"""Chunks in a collection of Qdrant: in this process, on one server, or in a cluster, under one contract.

A point is one chunk with two vectors: ``dense``, compared by inner product, and ``words``, a sparse vector of BM25
weights (those of ``BM25Retriever``), whose inner product with the counts of a query's terms is the BM25 score. A term's
place in the sparse vector is a 32-bit hash of it. Two lists are fused here, by ``hybrid.fuse``: Qdrant's own fusion
gives the same scores (it counts ranks from 0, so its ``Rrf(k=61)`` is our 60), but leaves the order of ties open.

**What a reader sees of a write.** Qdrant has no transactions. So each point has the number of the write that put it
(``born``) and, before it is removed, of the one that removes it (``died``), and one point without vectors holds the
number of the last complete write. A write puts its points, marks the old ones, raises that number, then removes the old
ones. A search only counts points of the number that it knows, reads the number again at its end, and searches anew
where it changed: so it returns the chunks before a write or after it, never a mixture. What a write that broke off
has left is removed by the next one. This holds for one writing process at a time; a second one is noticed, in most
cases, and the first one's write then fails. ``refresh`` changes weights in place: a search beside it sees old and new.

**A cluster** has the same URL as a server, that of any node. Shards, replicas and quantization belong to a collection
and are set when it is made, so make it first, with the names that the store expects::

    client.create_collection(
        "handbook",
        vectors_config={"dense": VectorParams(size=384, distance=Distance.DOT)},
        sparse_vectors_config={"words": SparseVectorParams()},
        shard_number=6, replication_factor=2, write_consistency_factor=2,
    )

BM25's weights are of the whole collection, and lists are fused here, so scores do not depend on the shards. With a
``write_consistency_factor`` below the number of replicas, a search may meet a replica that lacks a part of a write.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import RLock
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ragkit.base import (
    Chunk,
    Embedder,
    EndpointError,
    Hit,
    InputError,
    Metadata,
    Page,
    Retriever,
    Section,
    StoreMismatchError,
    Vectors,
    best_first,
    build_identity,
    identity_of,
    require,
    without_password,
)
from ragkit.embedding import encode
from ragkit.embedding.vectors import check_vectors, unit
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.bm25 import lucene_idf, unique_chunks
from ragkit.retrieval.hybrid import fuse

Mode = Literal["hybrid", "dense", "words"]
Counts = NDArray[np.int64]
Terms = tuple[Counts, Counts]  # the places of a text's terms in the sparse vectors, in order, and how often it has each
Sparse = tuple[list[int], list[float]]  # places and weights
Payload = dict[str, Any]
Found = tuple[str, Payload, float]  # a point, where its chunk is, and its score
T = TypeVar("T")

_LISTS = {"hybrid": ("words", "dense"), "words": ("words",), "dense": ("dense",)}
_SOURCES = {"words": "bm25", "dense": "dense:pooled"}
_K1, _B = 1.5, 0.75  # as in BM25Retriever
_DEPTH = 100  # as in Hybrid
_SPARE = 16  # hits more than are asked for, to see whether scores at the end of a list are equal
_QUERIES, _POINTS, _TERMS = 16, 256, 50_000  # in a request; terms in a point of their statistics
_PAGE = 1_000  # points of a page, where all are read
_TRIES = 100
_NO_QDRANT = "does not answer as Qdrant does: is the URL right?"
_SPAN = ["doc_id", "start", "end"]


class QdrantStore:
    """A ``ChunkStore`` in the collection ``name`` of Qdrant, which is made where there is none.

    Args:
        place: where Qdrant runs: ``":memory:"`` (in this process, gone with it, and slow from some 20,000 chunks on,
            of which it warns), a server's URL such as ``"http://localhost:6333"`` (its key is ``$QDRANT_API_KEY``), or
            ``"edge:FOLDER"`` (Qdrant's engine in this process, one process at a time; extra ``scale``).
        name: letters, digits, ``-`` and ``_``.
        chunker: a chunker, or any name for how the chunks were cut; compared where it was given before, too.
        analyzer: gives the terms (default: English).
        timeout: seconds that a server has for a request; rounded up to whole ones.

    A store that was never weighed is weighed by the first chunks it gets; ``refresh()`` when the others are there, too.

    >>> from ragkit.testing import FakeEmbedder
    >>> store = QdrantStore(":memory:", "handbook", FakeEmbedder())
    >>> store.add([Chunk("a", 0, 8, "red wine"), Chunk("b", 0, 8, "blue sky")])
    >>> [hit.chunk.text for hit in store.retriever().search("wine", 1)]
    ['red wine']

    Raises:
        InputError: no such place, or a name with other characters.
        StoreMismatchError: the collection was filled by another embedder, chunker or analyzer, or not by ragkit.
        EndpointError: (every method) the server did not answer in time, or refused.
    """

    def __init__(
        self,
        place: str,
        name: str,
        embedder: Embedder,
        *,
        chunker: object = None,
        analyzer: Analyzer | None = None,
        timeout: float = 30.0,
    ) -> None:
        if not re.fullmatch(r"[\w-]{1,200}", name, re.ASCII):
            raise InputError(f"collection name {name!r}: expected letters, digits, - and _")
        self.place, self.name = without_password(place), name
        self.embedder, self.analyzer = embedder, analyzer or Analyzer()
        self.chunker = "" if chunker is None else chunker if isinstance(chunker, str) else identity_of(chunker)
        self._writing = RLock()
        self._engine = Engine(place, name, timeout)
        self._engine.create(embedder.dimension)
        self._state = self._opened()

    def __repr__(self) -> str:
        return f"QdrantStore({self.place!r}, {self.name!r}, {self.embedder.name})"

    def __len__(self) -> int:
        """The number of chunks."""
        return self._engine.count(self._chunks_of(self._read_state()))

    @property
    def identity(self) -> str:
        """Changes with every ``add``, ``replace``, ``delete`` and ``refresh``, whoever made it."""
        state = self._read_state()
        return build_identity(self, state.made, state.version)

    def close(self) -> None:
        """Let go of the connection, or of the folder."""
        self._engine.close()

    # ---- writing

    def add(self, chunks: Sequence[Chunk], vectors: Vectors | None = None) -> None:
        """Store ``chunks``; one whose id is there already takes its place.

        ``vectors`` are unit vectors ``(len(chunks), dimension)``; without them the embedder encodes the texts.

        Raises:
            InputError: two texts under one id, or a chunk that does not come back the same from JSON.
            ContractError: vectors of another shape, or NaN.
        """
        self._write((), chunks, vectors)

    def replace(self, documents: Collection[str], chunks: Sequence[Chunk], vectors: Vectors | None = None) -> None:
        """Put ``chunks`` in the place of all chunks of these documents: a search sees those before, or those after.

        Raises:
            InputError, ContractError: as ``add``.
        """
        self._write(documents, chunks, vectors)

    def delete(self, documents: Collection[str]) -> int:
        """Remove the chunks of these documents; returns how many there were."""
        return self._write(documents, (), None)

    def refresh(self) -> None:
        """Weigh the words anew by the chunks that are there now; on edge, build the index for ``exact=False``, too."""
        with self._writing:
            state = self._begin()
            texts = self._engine.scroll(self._chunks_of(state), ["text"])
            terms = [(point, self._terms(payload["text"])) for point, payload in texts]
            weights = Weights.of([own for _, own in terms])
            self._save(weights)
            for batch in _batches([(point, own) for point, own in terms if len(own[0])], _POINTS):
                self._engine.weigh({point: weights.sparse(own) for point, own in batch})
            self._engine.optimize()
            weighed = weights.length > 0
            self._switch(state, replace(state, version=state.version + 1, weighed=weighed, writer=""))

    def _write(self, documents: Collection[str], chunks: Sequence[Chunk], vectors: Vectors | None) -> int:
        """Put ``chunks`` in the place of those of ``documents`` and of those with their ids; how many these were."""
        if isinstance(documents, str):
            raise InputError(f"documents = {documents!r}: expected a collection of ids, such as [{documents!r}]")
        if vectors is None:
            table = encode(self.embedder, [chunk.text for chunk in chunks], "passage")
        else:
            table = unit(check_vectors(vectors, len(chunks), self.embedder))
        row = {chunk.id: i for i, chunk in reversed(list(enumerate(chunks)))}
        chunks = unique_chunks(chunks)
        payloads, terms = [_payload(chunk) for chunk in chunks], [self._terms(chunk.text) for chunk in chunks]
        with self._writing:
            state = self._begin()
            weights = self._weights(state, terms)
            # A chunk has two places, so that the new one can be written while the old one is read.
            slots = [(_uuid(f"chunk {chunk.id}"), _uuid(f"chunk' {chunk.id}")) for chunk in chunks]
            old = dict.fromkeys(self._points_of(documents, state))
            for pairs in _batches(slots, _POINTS):
                old |= dict.fromkeys(self._engine.retrieve([point for pair in pairs for point in pair], []))
            version = state.version + 1
            for part in _batches(range(len(chunks)), _POINTS):
                self._engine.upsert(
                    [
                        Point(
                            slots[i][1] if slots[i][0] in old else slots[i][0],
                            {**payloads[i], "born": version},
                            table[row[chunks[i].id]].tolist(),
                            weights.sparse(terms[i]),
                        )
                        for i in part
                    ]
                )
            for points in _batches(list(old), _POINTS):
                self._engine.set_payload(points, {"died": version})
            state = self._switch(state, replace(state, version=version, weighed=weights.length > 0))
            for points in _batches(list(old), _POINTS):
                self._engine.delete(points)
            self._switch(state, replace(state, writer=""))
        return len(old)

    def _points_of(self, documents: Collection[str], state: State) -> list[str]:
        """The points of all chunks of these documents."""
        parts = _batches(sorted(documents), _POINTS)
        filters = [self._chunks_of(state, self._engine.any_of("doc_id", part)) for part in parts]
        return [point for chosen in filters for point, _ in self._engine.scroll(chosen, [])]

    def _chunks_of(self, state: State, *conditions: Any) -> Any:
        """The filter of the chunks that a reader who knows ``state`` may see."""
        there = self._engine.between("born", 1, state.version)
        return self._engine.filter(must=[there, *conditions], must_not=[self._engine.between("died", 1, state.version)])

    def _begin(self) -> State:
        """Announce a write, after removing what a broken one has left."""
        state, engine = self._read_state(), self._engine
        if state.writer:
            version, last = state.version, 2**53
            leftover = [engine.between("born", version + 1, last), engine.between("died", 1, version)]
            for part in _batches([point for point, _ in engine.scroll(engine.filter(should=leftover), [])], _POINTS):
                engine.delete(part)
            marked = engine.filter(must=[engine.between("died", version + 1, last)])
            for part in _batches([point for point, _ in engine.scroll(marked, [])], _POINTS):
                engine.set_payload(part, {"died": None})
        return self._put_state(replace(state, writer=uuid.uuid4().hex))

    def _switch(self, before: State, after: State) -> State:
        """Show a write to the readers, or end it.

        Raises:
            EndpointError: another process began to write meanwhile.
        """
        if self._read_state() != before:
            raise EndpointError(
                f"{self.place}: another process wrote to {self.name!r} at the same time, so this write was given up; "
                "write from one process at a time, and repeat it"
            )
        return self._put_state(after)

    # ---- the state of the collection, and the statistics of its words

    def _opened(self) -> State:
        own: dict[str, Any] = {
            "embedder": without_password(self.embedder.identity),
            "dimension": self.embedder.dimension,
            "chunker": self.chunker,
            "analyzer": self.analyzer.identity,
        }
        found = self._engine.retrieve([_STATE], None)
        if not found:
            if self._engine.count(None):
                raise StoreMismatchError(
                    f"collection {self.name!r} at {self.place} was not filled by ragkit; choose another name"
                )
            self._engine.prepare(self.embedder.dimension)
            return self._put_state(State(uuid.uuid4().hex, own))
        state = _state_of(found)
        for what, theirs in state.made_for.items():
            if theirs != own[what] and theirs and own[what]:
                raise StoreMismatchError(
                    f"the store {self.name!r} at {self.place} was filled with the {what} {theirs}, and this is "
                    f"{own[what]}: use the same, or another name for a new store"
                )
        return state

    def _read_state(self) -> State:
        return _state_of(self._engine.retrieve([_STATE], None))

    def _put_state(self, state: State) -> State:
        self._engine.upsert([Point(_STATE, {"state": asdict(state)})])
        return state

    def _terms(self, text: str) -> Terms:
        counts = Counter(map(_place, self.analyzer.terms(text)))
        places = np.array(sorted(counts), dtype=np.int64)
        return places, np.array([counts[place] for place in places.tolist()], dtype=np.int64)

    def _weights(self, state: State, terms: Sequence[Terms]) -> Weights:
        """Those of the last time; where there are none, of ``terms``, and they are saved."""
        if not state.weighed:
            weights = Weights.of(terms)
            self._save(weights)
            return weights
        about = self._engine.retrieve([_WORDS], None)[_WORDS]
        pages = [self._engine.retrieve([_uuid(f"words {i}")], None) for i in range(about["pages"])]
        tables = [np.array(payload["df"], dtype=np.int64) for page in pages for payload in page.values()]
        places, df = np.concatenate(tables, axis=1)
        return Weights(about["chunks"], about["length"], places, df)

    def _save(self, weights: Weights) -> None:
        starts = range(0, len(weights.places), _TERMS)
        for i, start in enumerate(starts):
            table = [column[start : start + _TERMS].tolist() for column in (weights.places, weights.df)]
            self._engine.upsert([Point(_uuid(f"words {i}"), {"df": table})])
        about = {"chunks": weights.chunks, "length": weights.length, "pages": len(starts)}
        self._engine.upsert([Point(_WORDS, about)])

    # ---- reading

    def retriever(self, mode: Mode = "hybrid", *, where: Metadata | None = None, exact: bool = True) -> QdrantRetriever:
        """Searches the store; only chunks whose metadata have the values of ``where`` (a list: any of it) are ranked.

        ``exact`` compares the query with every vector; without it Qdrant's index (HNSW) is used. ``:memory:`` has none.

        Raises:
            InputError: an unknown ``mode``.
        """
        if mode not in _LISTS:
            raise InputError(f"mode = {mode!r}: expected one of {', '.join(_LISTS)}")
        return QdrantRetriever(self, mode, dict(where or {}), exact)

    def search(self, queries: Sequence[str], k: int, mode: Mode, where: Metadata, exact: bool) -> list[list[Hit]]:
        """The hits for each query, best first; ``QdrantRetriever`` checks the input."""
        conditions = [
            self._engine.any_of("facts", [_fact(key, v) for v in (value if _is_group(value) else [value])])
            for key, value in where.items()
        ]
        parts = _batches(queries, _QUERIES)
        return [hits for part in parts for hits in self._search(part, k, mode, conditions, exact)]

    def _search(self, queries: Sequence[str], k: int, mode: Mode, where: list[Any], exact: bool) -> list[list[Hit]]:
        """The hits for each query, all from one state of the store."""
        sides = _LISTS[mode]
        vectors = encode(self.embedder, queries, "query").tolist() if "dense" in sides else [[]] * len(queries)
        terms = [self._terms(query) for query in queries]
        asked = [
            Ask(side, vector if side == "dense" else (places.tolist(), counts.tolist()) if len(places) else None)
            for vector, (places, counts) in zip(vectors, terms, strict=True)
            for side in sides
        ]
        for _ in range(_TRIES):
            state = self._state
            lists, points = self._ranked(asked, max(k, _DEPTH) if len(sides) > 1 else k, state, where, exact)
            groups = [lists[i : i + len(sides)] for i in range(0, len(lists), len(sides))]
            names = [_SOURCES[side] for side in sides]
            best = [fuse(own, k, names=names, source="hybrid:rrf") if len(own) > 1 else own[0] for own in groups]
            wanted = {points[hit.chunk.id] for hits in best for hit in hits}
            found = self._engine.retrieve([_STATE, *wanted], None)
            self._state = _state_of(found)
            if self._state == state and wanted <= found.keys():
                return [[replace(hit, chunk=_chunk(found[points[hit.chunk.id]])) for hit in hits] for hits in best]
        raise EndpointError(
            f"{self.place}: {self.name!r} changed during each of {_TRIES} tries to search it; try again"
        )

    def _ranked(
        self, asked: Sequence[Ask], depth: int, state: State, where: list[Any], exact: bool
    ) -> tuple[list[list[Hit]], dict[str, str]]:
        """A list for each request, equal scores in the order of chunk ids; and the point of each chunk.

        The hits' chunks have no text yet. Between writes nothing has to be hidden, so there is no filter then.
        """
        quiet = self._engine.filter(must=where) if where else None
        chosen = self._chunks_of(state, *where) if state.writer else quiet
        able, limit = [ask for ask in asked if ask.vector is not None], depth + _SPARE
        while True:
            found = self._engine.search(able, limit, chosen, exact)
            if not any(len(own) == limit and own[-1][2] == own[depth - 1][2] for own in found):
                break
            limit *= 4
        points = {_bare(payload).id: point for own in found for point, payload, _ in own}
        left = iter(found)
        lists = [
            best_first((Hit(_bare(p), score, _SOURCES[ask.side]) for _, p, score in next(left)), depth)
            if ask.vector is not None
            else []
            for ask in asked
        ]
        return lists, points


@dataclass(frozen=True)
class QdrantRetriever(Retriever):
    """A search of a ``QdrantStore``: see its ``retriever``."""

    store: QdrantStore
    mode: Mode
    where: Metadata
    exact: bool

    @property
    def identity(self) -> str:
        return build_identity(self, self.store, self.mode, self.where, self.exact)

    def _search(self, query: str, k: int) -> list[Hit]:
        return self._search_many([query], k)[0]

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return self.store.search(queries, k, self.mode, self.where, self.exact)


# ---- records


@dataclass(frozen=True)
class State:
    """What the store knows of its collection. ``made`` names it; ``version`` is the number of the last complete write.

    ``writer`` names the write that goes on, or broke off; "" where there is none.
    """

    made: str
    made_for: dict[str, Any]
    version: int = 0
    writer: str = ""
    weighed: bool = False


@dataclass(frozen=True)
class Weights:
    """BM25's statistics: ``df[i]`` of ``chunks`` have the term at ``places[i]``; their mean length is ``length``."""

    chunks: int
    length: float
    places: Counts
    df: Counts

    @classmethod
    def of(cls, terms: Sequence[Terms]) -> Weights:
        empty = [np.empty(0, dtype=np.int64)]
        places, df = np.unique(np.concatenate([own for own, _ in terms] or empty), return_counts=True)
        length = sum(int(counts.sum()) for _, counts in terms) / max(1, len(terms))
        return cls(len(terms), length, places, df)

    def sparse(self, terms: Terms) -> Sparse:
        """The BM25 weights of a chunk with these terms; a term that no chunk had counts as one of 0 chunks."""
        places, tf = terms
        if not len(places):
            return [], []
        at = np.minimum(np.searchsorted(self.places, places), len(self.places) - 1)
        df = np.where(self.places[at] == places, self.df[at], 0)
        weights = lucene_idf(df, self.chunks) * tf / (tf + _K1 * (1 - _B + _B * tf.sum() / self.length))
        return places.tolist(), weights.tolist()


class Point(NamedTuple):
    """What is stored under ``id``; a point that is no chunk has no vectors."""

    id: str
    payload: Payload
    dense: list[float] | None = None
    words: Sparse | None = None


class Ask(NamedTuple):
    """A request: the nearest to ``vector`` by ``side``, "dense" or "words"; None where a query has no words."""

    side: str
    vector: Any


def _uuid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"ragkit:{name}"))


_STATE, _WORDS = _uuid("state"), _uuid("words")


def _state_of(points: Mapping[str, Payload]) -> State:
    if _STATE not in points:
        raise StoreMismatchError("the collection was emptied, or made anew, since it was opened: open the store again")
    return State(**points[_STATE]["state"])


def _place(term: str) -> int:
    """Where a term stands in the sparse vectors: two terms share a place by chance, 1 in 4 billion."""
    return int.from_bytes(hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")


def _is_group(value: object) -> bool:
    return isinstance(value, list | tuple | set | frozenset)


def _fact(key: str, value: object) -> str:
    """A key and a value of metadata as one text, so that any key and any type of value can be filtered by."""
    return json.dumps([key, value], sort_keys=True, default=repr)


def _plain(text: str) -> str:
    """``text`` with U+FFFD for halves of surrogate pairs, which Qdrant does not store."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _payload(chunk: Chunk) -> Payload:
    """What is stored of a chunk; ``record`` is exact, with the text if Qdrant can't store that.

    Raises:
        InputError: its document's id can't be stored, or its metadata would not come back as they are.
    """
    metadata = dict(chunk.metadata)
    try:
        same = json.loads(json.dumps(metadata, allow_nan=False)) == metadata
    except (TypeError, ValueError):
        same = False
    if not same:
        raise InputError(
            f"the metadata of chunk {chunk.id!r} would not come back as they are: {metadata!r}; expected text, finite "
            "numbers, true, false, None, and lists and dicts of these with text as keys"
        )
    if _plain(chunk.doc_id) != chunk.doc_id:
        raise InputError(f"the document id {chunk.doc_id!r} has a character that Qdrant does not store")
    record = {
        "section": chunk.section,
        "sections": [[s.path, s.start, s.body, s.end] for s in chunk.sections],
        "pages": [[page.number, page.start, page.end] for page in chunk.pages],
        "metadata": metadata,
    }
    text = _plain(chunk.text)
    if text != chunk.text:
        record["text"] = chunk.text
    return {
        "doc_id": chunk.doc_id,
        "start": chunk.start,
        "end": chunk.end,
        "text": text,
        "record": json.dumps(record),
        "facts": [_fact(key, value) for key, value in metadata.items()],
    }


def _chunk(payload: Payload) -> Chunk:
    record = json.loads(payload["record"])
    sections = tuple(Section(tuple(path), *offsets) for path, *offsets in record["sections"])
    text, section, pages = record.get("text", payload["text"]), tuple(record["section"]), record["pages"]
    place = payload["doc_id"], payload["start"], payload["end"]
    return Chunk(*place, text, section, record["metadata"], sections, tuple(Page(*page) for page in pages))


def _bare(payload: Payload) -> Chunk:
    return Chunk(payload["doc_id"], payload["start"], payload["end"], "")


def _batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


# ---- Qdrant


class Engine:
    """The points of one collection, through Qdrant's client or ``EdgeClient``.

    Raises:
        EndpointError: (every method) no answer in time, or none that can be used. No message has the key.
    """

    def __init__(self, place: str, name: str, timeout: float) -> None:
        self.place, self.name, self.timeout = without_password(place), name, math.ceil(timeout)
        self.key = os.environ.get("QDRANT_API_KEY") or None
        self.local, edge = place == ":memory:", place.removeprefix("edge:")
        if edge not in ("", place):
            self._client: Any = EdgeClient(Path(edge).expanduser() / name)
            self.models: Any = self._client.models
        elif self.local or _is_url(place):
            client = require("qdrant_client", "stores")
            settings = {"api_key": self.key, "timeout": self.timeout, "check_compatibility": False}
            self._client = client.QdrantClient(":memory:") if self.local else client.QdrantClient(url=place, **settings)
            self.models = client.models
        else:
            raise InputError(
                f"place is {self.place!r}: expected ':memory:', the URL of a server, such as "
                "'http://localhost:6333', or 'edge:FOLDER'"
            )
        self._lock = RLock() if self.local else nullcontext()  # the client's stand-in for a server is not for threads

    def _call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """The client's ``method``, with its errors as ours."""
        if isinstance(self._client, EdgeClient):
            return getattr(self._client, method)(**arguments)
        errors = require("qdrant_client.http.exceptions", "stores")
        busy = require("qdrant_client.common.client_exceptions", "stores")
        try:
            with self._lock:
                return getattr(self._client, method)(collection_name=self.name, **arguments)
        except errors.UnexpectedResponse as error:
            if error.status_code in (401, 403):
                found = "is not the right one" if self.key else "is not set"
                reason = f"refused access ({error.status_code}): $QDRANT_API_KEY {found}"
            else:
                reason = f"answered {error.status_code}: {error.content.decode('utf-8', 'replace'):.300}"
        except errors.ResponseHandlingException as error:
            httpx = require("httpx", "stores")
            if isinstance(error.source, httpx.TimeoutException):
                reason = f"did not answer within {self.timeout} s: give timeout=, or see what the server does"
            elif isinstance(error.source, httpx.TransportError):
                reason = f"cannot be reached ({error.source}): is it running, and is the URL right?"
            else:
                reason = _NO_QDRANT
        except (ValueError, AssertionError):  # an answer of another form
            if self.local:
                raise
            reason = _NO_QDRANT
        except busy.ResourceExhaustedResponse as error:
            reason = f"has too much to do ({error}): try again in {error.retry_after_s} s"
        if self.key:
            reason = reason.replace(self.key, "***")
        raise EndpointError(f"Qdrant at {self.place} {reason}")

    def close(self) -> None:
        self._client.close()

    # ---- filters

    def any_of(self, key: str, values: Sequence[str]) -> Any:
        return self.models.FieldCondition(key=key, match=self.models.MatchAny(any=list(values)))

    def between(self, key: str, low: int, high: int) -> Any:
        return self.models.FieldCondition(key=key, range=self.models.Range(gte=low, lte=high))

    def filter(self, must: Sequence[Any] = (), must_not: Sequence[Any] = (), should: Sequence[Any] = ()) -> Any:
        return self.models.Filter(must=list(must) or None, must_not=list(must_not) or None, should=list(should) or None)

    # ---- the collection

    def create(self, dimension: int) -> None:
        """Make the collection where there is none."""
        if not self._call("collection_exists", {}):
            vectors = self.models.VectorParams(size=dimension, distance=self.models.Distance.DOT)
            words = self.models.SparseVectorParams()
            arguments = {"vectors_config": {"dense": vectors}, "sparse_vectors_config": {"words": words}}
            self._call("create_collection", arguments)

    def prepare(self, dimension: int) -> None:
        """Check the vectors of a collection that was made before; index the fields that filters read.

        Raises:
            StoreMismatchError: there are no vectors called ``dense`` of this dimension.
        """
        if self.local:
            return
        if not isinstance(self._client, EdgeClient):
            vectors = self._call("get_collection", {}).config.params.vectors
            size = vectors["dense"].size if isinstance(vectors, dict) and "dense" in vectors else None
            if size != dimension:
                raise StoreMismatchError(
                    f"the collection {self.name!r} at {self.place} has vectors 'dense' of dimension {size}, and "
                    f"the embedder gives {dimension}: use another name for a new store"
                )
        for field, kind in (("doc_id", "KEYWORD"), ("facts", "KEYWORD"), ("born", "INTEGER"), ("died", "INTEGER")):
            schema = getattr(self.models.PayloadSchemaType, kind)
            self._call("create_payload_index", {"field_name": field, "field_schema": schema})

    def optimize(self) -> None:
        """Build the index of vectors now; a server does so by itself, and ``:memory:`` has none."""
        if isinstance(self._client, EdgeClient):
            self._client.optimize()

    # ---- points

    def upsert(self, points: Sequence[Point]) -> None:
        structs = [self.models.PointStruct(id=p.id, vector=self._vectors(p), payload=p.payload) for p in points]
        self._call("upsert", {"points": structs})

    def _vectors(self, point: Point) -> dict[str, Any]:
        vectors: dict[str, Any] = {"dense": point.dense} if point.dense else {}
        return vectors | ({"words": self._sparse(point.words)} if point.words and point.words[0] else {})

    def _sparse(self, sparse: Sparse) -> Any:
        return self.models.SparseVector(indices=sparse[0], values=sparse[1])

    def weigh(self, weights: Mapping[str, Sparse]) -> None:
        """Other weights of the words of these points."""
        vectors = {point: {"words": self._sparse(own)} for point, own in weights.items()}
        points = [self.models.PointVectors(id=point, vector=vector) for point, vector in vectors.items()]
        self._call("update_vectors", {"points": points})

    def set_payload(self, points: Sequence[str], payload: Payload) -> None:
        self._call("set_payload", {"points": list(points), "payload": payload})

    def delete(self, points: Sequence[str]) -> None:
        self._call("delete", {"points_selector": list(points)})

    def count(self, chosen: Any) -> int:
        return int(self._call("count", {"count_filter": chosen, "exact": True}).count)

    def retrieve(self, points: Sequence[str], fields: list[str] | None) -> dict[str, Payload]:
        """Those of the points that are there, with these fields of their payloads (None: all)."""
        found = self._call("retrieve", {"ids": list(points), "with_payload": fields is None or fields or False})
        return {str(record.id): record.payload or {} for record in found}

    def scroll(self, chosen: Any, fields: list[str]) -> list[tuple[str, Payload]]:
        """All points that pass a filter."""
        records, offset, more = [], None, True
        while more:
            page = {"scroll_filter": chosen, "limit": _PAGE, "offset": offset, "with_payload": fields or False}
            found, offset = self._call("scroll", page)
            records += [(str(record.id), record.payload or {}) for record in found]
            more = offset is not None
        return records

    def search(self, asked: Sequence[Ask], limit: int, chosen: Any, exact: bool) -> list[list[Found]]:
        """The ``limit`` best for each. HNSW looks at 128 or more, as in ``ragkit.retrieval.dense``."""
        params = self.models.SearchParams(exact=exact, hnsw_ef=None if exact else max(128, limit))
        settings = {"limit": limit, "filter": chosen, "params": None if self.local else params, "with_payload": _SPAN}
        vectors = [ask.vector if ask.side == "dense" else self._sparse(ask.vector) for ask in asked]
        requests = [
            self.models.QueryRequest(query=vector, using=ask.side, **settings)
            for ask, vector in zip(asked, vectors, strict=True)
        ]
        answers = self._call("query_batch_points", {"requests": requests}) if requests else []
        return [[(str(p.id), p.payload, p.score) for p in answer.points] for answer in answers]


class EdgeClient:
    """Qdrant's engine in this process, in ``folder``: those methods of Qdrant's client that ``Engine`` calls."""

    def __init__(self, folder: Path) -> None:
        self._edge = m = require("qdrant_edge", "scale")
        self.folder = folder
        self._shard: Any = None
        own = {
            "PointStruct": m.Point,
            "Range": m.RangeFloat,
            "VectorParams": m.EdgeVectorParams,
            "SparseVectorParams": m.EdgeSparseVectorParams,
            "Distance": SimpleNamespace(DOT=m.Distance.Dot),
            "PayloadSchemaType": SimpleNamespace(
                KEYWORD=m.PayloadSchemaType.Keyword, INTEGER=m.PayloadSchemaType.Integer
            ),
            "QueryRequest": self._query,
        }
        self.models = SimpleNamespace(**vars(m) | own)

    def _query(self, query: Any, using: str, limit: int, filter: Any, params: Any, with_payload: Any) -> Any:
        nearest = self._edge.Query.Nearest(query, using=using)
        return self._edge.QueryRequest(limit, query=nearest, filter=filter, params=params, with_payload=with_payload)

    def _run(self, method: Any, *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:  # the engine has no other class
            busy = "WouldBlock" in str(error)
            reason = "it is open in another process, or not closed in this one" if busy else str(error)
            raise EndpointError(f"Qdrant's engine in {self.folder} refused: {reason}") from None

    def _update(self, name: str, *arguments: Any) -> None:
        self._run(self._shard.update, self._run(getattr(self._edge.UpdateOperation, name), *arguments))

    def collection_exists(self) -> bool:
        if exists := (self.folder / "edge_config.json").exists():
            self._shard = self._run(self._edge.EdgeShard.load, str(self.folder))
        return exists

    def create_collection(self, vectors_config: Any, sparse_vectors_config: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self._edge.EdgeConfig(vectors=vectors_config, sparse_vectors=sparse_vectors_config)
        self._shard = self._run(self._edge.EdgeShard.create, str(self.folder), config)

    def create_payload_index(self, field_name: str, field_schema: Any) -> None:
        self._update("create_field_index", field_name, field_schema)

    def upsert(self, points: Any) -> None:
        self._update("upsert_points", points)

    def update_vectors(self, points: Any) -> None:
        self._update("update_vectors", points)

    def set_payload(self, points: list[str], payload: Payload) -> None:
        self._update("set_payload", points, payload)

    def delete(self, points_selector: list[str]) -> None:
        self._update("delete_points", points_selector)

    def count(self, count_filter: Any, exact: bool) -> Any:
        return SimpleNamespace(count=self._run(self._shard.count, self._edge.CountRequest(exact, count_filter)))

    def retrieve(self, ids: list[str], with_payload: Any) -> Any:
        return self._run(self._shard.retrieve, ids, with_payload, False)

    def scroll(self, scroll_filter: Any, limit: int, offset: Any, with_payload: Any) -> Any:
        return self._run(self._shard.scroll, self._edge.ScrollRequest(offset, limit, scroll_filter, with_payload))

    def query_batch_points(self, requests: Any) -> Any:
        answers = self._run(self._shard.query_batch, self._edge.QueryBatchRequest(requests))
        return [SimpleNamespace(points=points) for points in answers]

    def optimize(self) -> None:
        self._run(self._shard.optimize)

    def close(self) -> None:
        self._run(self._shard.close)


def _is_url(place: str) -> bool:
    try:
        parts = urlsplit(place)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False

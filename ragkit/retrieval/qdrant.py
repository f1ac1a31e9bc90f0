"""Chunks in a collection of Qdrant: in this process, on one server, or in a cluster.

A point is one chunk with two vectors: ``dense``, compared by inner product, and ``words``, a sparse vector of BM25
weights (those of ``BM25Retriever``), whose inner product with the counts of a query's terms is the BM25 score. A term's
place in the sparse vector is a 32-bit hash of it. One more point, without vectors, holds what the store was made for,
and the statistics of the words at the last ``refresh``.

Two lists are fused here, by ``hybrid.fuse``: Qdrant's own fusion gives the same scores (it counts ranks from 0, so its
``Rrf(k=61)`` is our 60), but leaves the order of ties open.

A write puts the new points first, then deletes those of the replaced documents that are not among them; a search in
between can see old and new chunks of a document, never none. A write that broke off is completed by doing it again: the
id of a point is made from that of its chunk. Write from one process at a time.

A cluster has the same URL as a server, that of any node. Shards, replicas and quantization belong to a collection and
are set when it is made, so make it first, with the names that the store expects::

    client.create_collection(
        "handbook",
        vectors_config={"dense": VectorParams(size=384, distance=Distance.DOT)},
        sparse_vectors_config={"words": SparseVectorParams()},
        shard_number=6, replication_factor=2, write_consistency_factor=2,
    )
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from ragkit.base import (
    Chunk,
    Embedder,
    EndpointError,
    Hit,
    InputError,
    StoreMismatchError,
    Vectors,
    accepted_values,
    best_first,
    build_identity,
    from_dict,
    identity_of,
    require,
    without_password,
)
from ragkit.embedding import encode
from ragkit.embedding.vectors import check_vectors
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.bm25 import lucene_idf, unique_chunks
from ragkit.retrieval.hybrid import fuse
from ragkit.retrieval.qdrant_edge import EdgeClient
from ragkit.retrieval.stores import (
    CANDIDATES,
    FETCH_K,
    SOURCES,
    Mode,
    Store,
    StoreRetriever,
    check_documents,
    check_same,
    chunk_to_dict,
)

T = TypeVar("T")
Payload = dict[str, Any]

_K1, _B = 1.5, 0.75  # as in BM25Retriever
_SPARE = 16  # hits more than are asked for: of equal ones, those with the first ids count
_LISTS, _POINTS = 32, 256  # in a request


class QdrantStore(Store):
    """A ``ChunkStore`` in the collection ``name`` of Qdrant, which is made where there is none.

    ``place`` is where Qdrant runs: ``":memory:"`` (in this process, gone with it, and slow from some 20,000 chunks on,
    of which it warns), a server's URL such as ``"http://localhost:6333"`` (its key is ``$QDRANT_API_KEY``), or
    ``"edge:FOLDER"`` (Qdrant's engine in this process; extra ``scale``). A folder is opened once at a time, so not for
    ``ragkit serve`` and ``ragkit mcp``, which open a store anew as files change. ``name`` has letters, digits, ``-``
    and ``_``. ``analyzer`` gives the terms (default: English); ``chunker``, a chunker or any name for how the chunks
    were cut, is compared where it was given before, too. ``timeout`` is how many seconds a server has for a request,
    rounded up.

    - Chunks added after a ``refresh`` are weighed by its idf and mean length; words that it did not know count nothing
      before the next. Before the first ``refresh``, no word is known.
    - Scores and sources of hits are those of ``DenseRetriever(scoring="pooled")``, ``BM25Retriever`` and ``Hybrid``.
      Of more than a few equal scores at the end of a list, any may be left out. ``:memory:`` has no index (HNSW), so
      ``exact=False`` changes nothing there.

    >>> from ragkit.testing import FakeEmbedder
    >>> store = QdrantStore(":memory:", "handbook", FakeEmbedder())
    >>> store.add([Chunk("a", 0, 8, "red wine"), Chunk("b", 0, 8, "blue sky")])
    >>> store.refresh()
    >>> [hit.chunk.text for hit in store.retriever("words").search("wine")]
    ['red wine']

    Raises:
        InputError: no such place, or a name with other characters. Adding: a document's id or metadata can't be stored
            so that they come back the same, or two texts under one chunk id.
        StoreMismatchError: the collection was filled by another embedder, chunker or analyzer, or not by ragkit.
        EndpointError: (from every method) the server did not answer in time, or refused.
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
        self.embedder, self.analyzer, self.timeout = embedder, analyzer or Analyzer(), math.ceil(timeout)
        self.chunker = "" if chunker is None else chunker if isinstance(chunker, str) else identity_of(chunker)
        self._key = os.environ.get("QDRANT_API_KEY") or None
        self._local, self._lock = place == ":memory:", RLock()
        self._client, self._models = self._connect(place)
        try:
            self._open()
        except Exception:
            self.close()  # or the folder would stay locked
            raise

    def __repr__(self) -> str:
        return f"QdrantStore({self.place!r}, {self.name!r}, {self.embedder.name})"

    def __len__(self) -> int:
        """The number of chunks."""
        return self._count(None) - 1

    @property
    def identity(self) -> str:
        """Changes with every ``add``, ``replace``, ``delete`` and ``refresh``, whoever made it."""
        return build_identity(self, self._about("version")["version"])

    def close(self) -> None:
        """Let go of the connection, or of the folder."""
        self._client.close()

    # ---- writing

    def add(self, chunks: Sequence[Chunk], vectors: Vectors | None = None) -> None:
        """Store ``chunks``; one whose id is there already takes its place. ``vectors`` are ``(len(chunks), d)``."""
        self.replace((), chunks, vectors)

    def replace(self, documents: Collection[str], chunks: Sequence[Chunk], vectors: Vectors | None = None) -> None:
        """Put ``chunks`` in the place of all chunks of ``documents``: see the head of this module."""
        check_documents(documents)
        if vectors is None:
            vectors = encode(self.embedder, [chunk.text for chunk in chunks], "passage")
        vectors = check_vectors(vectors, len(chunks), self.embedder)
        vector_of = {chunk.id: vector for chunk, vector in zip(chunks, vectors, strict=True)}
        payload_of = {chunk: _payload(chunk) for chunk in unique_chunks(chunks)}
        with self._lock:
            statistics = Statistics.of(self._about())
            for batch in _batches(list(payload_of), _POINTS):
                points = []
                for chunk in batch:
                    words = self._sparse(statistics.weights(self._terms(chunk.text)))
                    vector = {"dense": vector_of[chunk.id].tolist()} | words
                    point = self._models.PointStruct(id=_point(chunk.id), vector=vector, payload=payload_of[chunk])
                    points.append(point)
                self._call("upsert", {"points": points})
            self._delete(documents, [_point(chunk.id) for chunk in payload_of])

    def delete(self, documents: Collection[str]) -> int:
        """Remove the chunks of ``documents``; returns how many there were."""
        check_documents(documents)
        with self._lock:
            return self._delete(documents, [])

    def refresh(self) -> None:
        """Weigh the words by the chunks that are there now; on edge, build the index for ``exact=False``, too."""
        with self._lock:
            chunks, length, df = 0, 0, Counter[int]()
            for page in self._pages():
                chunks += len(page)
                length += sum(terms.total() for terms in page.values())
                df.update(place for terms in page.values() for place in terms)
            about = {"chunks": chunks, "length": length, "terms": list(df), "df": list(df.values())}
            self._change(about)
            statistics = Statistics.of(about)
            for page in self._pages():
                words = {point: self._sparse(statistics.weights(terms)) for point, terms in page.items() if terms}
                vectors = [self._models.PointVectors(id=point, vector=vector) for point, vector in words.items()]
                if vectors:
                    self._call("update_vectors", {"points": vectors})
            if isinstance(self._client, EdgeClient):
                self._call("optimize")

    def _delete(self, documents: Collection[str], spared: list[str]) -> int:
        """Remove the points of ``documents``, but for ``spared``; how many there were."""
        m, removed = self._models, 0
        for batch in _batches(sorted(documents), _POINTS):
            chosen = m.Filter(must=[self._any_of("doc_id", batch)], must_not=[m.HasIdCondition(has_id=spared)])
            removed += self._count(chosen)
            self._call("delete", {"points_selector": chosen})
        self._change({})
        return removed

    def _pages(self) -> Iterator[dict[str, Counter[int]]]:
        """The terms of all chunks, by their points, some at a time."""
        offset, more = None, True
        while more:
            records, offset = self._call("scroll", {"limit": _POINTS, "offset": offset, "with_payload": ["chunk"]})
            chunks = {str(record.id): _chunk(record.payload) for record in records if str(record.id) != _ABOUT}
            yield {point: self._terms(chunk.text) for point, chunk in chunks.items()}
            more = offset is not None

    def _terms(self, text: str) -> Counter[int]:
        """The places of the terms of ``text``, and how often it has each."""
        return Counter(map(_place, self.analyzer.terms(text)))

    # ---- searching

    def search(self, queries: Sequence[str], k: int, retriever: StoreRetriever) -> list[list[Hit]]:
        """The hits of ``retriever`` for each query, best first; it has checked the input."""
        m, mode = self._models, retriever.mode
        depth = int(max(FETCH_K, k) if mode == "hybrid" else k)
        must = [
            self._any_of("metadata", [_pair(key, value) for value in accepted_values(wanted)])
            for key, wanted in retriever.where.items()
        ]
        if retriever.document_ids is not None:
            must.append(self._any_of("doc_id", retriever.document_ids))
        params = m.SearchParams(exact=retriever.exact, hnsw_ef=max(CANDIDATES, depth + _SPARE))
        settings = {
            "limit": depth + _SPARE,
            "filter": m.Filter(must=must) if must else None,
            "params": None if self._local else params,
            "with_payload": ["chunk"],
        }
        asked: list[tuple[int, Mode, Any]] = []
        if mode != "dense":
            terms = [self._sparse(dict(self._terms(query))) for query in queries]
            asked += [(i, "words", own["words"]) for i, own in enumerate(terms) if own]
        if mode != "words":
            asked += [(i, "dense", vector) for i, vector in enumerate(encode(self.embedder, queries, "query").tolist())]
        lists: list[dict[Mode, list[Hit]]] = [{"words": [], "dense": []} for _ in queries]
        for batch in _batches(asked, _LISTS):
            requests = [m.QueryRequest(query=vector, using=side, **settings) for _, side, vector in batch]
            for (i, side, _), answer in zip(
                batch, self._call("query_batch_points", {"requests": requests}), strict=True
            ):
                hits = (Hit(_chunk(point.payload), point.score, SOURCES[side]) for point in answer.points)
                lists[i][side] = best_first(hits, depth)
        if mode != "hybrid":
            return [own[mode] for own in lists]
        names = [SOURCES["words"], SOURCES["dense"]]
        return [fuse([own["words"], own["dense"]], k, names=names, source=SOURCES[mode]) for own in lists]

    # ---- the collection

    def _connect(self, place: str) -> tuple[Any, Any]:
        """A client, and its models."""
        folder = place.removeprefix("edge:")
        if folder not in ("", place):
            edge = EdgeClient(Path(folder).expanduser() / self.name)
            return edge, edge.models
        client = require("qdrant_client", "stores")
        if self._local:
            return client.QdrantClient(":memory:"), client.models
        with suppress(ValueError):
            if re.match(r"https?://[^/\s]", place):
                settings = {"api_key": self._key, "timeout": self.timeout, "check_compatibility": False}
                return client.QdrantClient(url=place, **settings), client.models
        raise InputError(
            f"place is {self.place!r}: expected ':memory:', the URL of a server, such as 'http://localhost:6333', or "
            "'edge:FOLDER'"
        )

    def _open(self) -> None:
        """Make the collection where there is none; compare what it was made for."""
        m = self._models
        own = {
            "embedder": without_password(self.embedder.identity),
            "chunker": self.chunker,
            "analyzer": self.analyzer.identity,
        }
        if not self._call("collection_exists"):
            dense = m.VectorParams(size=self.embedder.dimension, distance=m.Distance.DOT)
            words = m.SparseVectorParams()
            self._call(
                "create_collection", {"vectors_config": {"dense": dense}, "sparse_vectors_config": {"words": words}}
            )
        if not (records := self._call("retrieve", {"ids": [_ABOUT], "with_payload": list(own)})):
            if self._count(None):
                raise StoreMismatchError(
                    f"collection {self.name!r} at {self.place} was not filled by ragkit; choose another name"
                )
            for field in () if self._local else ("doc_id", "metadata"):
                self._call("create_payload_index", {"field_name": field, "field_schema": m.PayloadSchemaType.KEYWORD})
            statistics = {"chunks": 0, "length": 0, "terms": [], "df": []}
            about = m.PointStruct(id=_ABOUT, vector={}, payload=own | statistics | {"version": uuid.uuid4().hex})
            self._call("upsert", {"points": [about]})
        else:
            check_same(f"{self.name!r} at {self.place}", records[0].payload, own)

    def _about(self, *fields: str) -> Payload:
        """What the store was made for, the statistics of its words, and its version."""
        if not (records := self._call("retrieve", {"ids": [_ABOUT], "with_payload": list(fields) or True})):
            raise StoreMismatchError(
                f"the collection {self.name!r} at {self.place} was emptied, or made anew: open the store again"
            )
        return dict(records[0].payload)

    def _change(self, about: Payload) -> None:
        self._call("set_payload", {"points": [_ABOUT], "payload": about | {"version": uuid.uuid4().hex}})

    def _count(self, chosen: Any) -> int:
        return int(self._call("count", {"count_filter": chosen}).count)

    def _any_of(self, field: str, values: Sequence[str]) -> Any:
        return self._models.FieldCondition(key=field, match=self._models.MatchAny(any=list(values)))

    def _sparse(self, weights: Mapping[int, float]) -> dict[str, Any]:
        """The vector ``words`` of a point; one without words has none."""
        pairs = sorted(weights.items())
        indices, values = [place for place, _ in pairs], [float(weight) for _, weight in pairs]
        return {"words": self._models.SparseVector(indices=indices, values=values)} if pairs else {}

    def _call(self, method: str, arguments: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """What the client's ``method`` returns, with its errors as ours."""
        try:
            if isinstance(self._client, EdgeClient):
                return self._client.call(method, *arguments.values())
            with self._lock if self._local else nullcontext():  # the client's stand-in for a server is not for threads
                return getattr(self._client, method)(collection_name=self.name, **arguments)
        except Exception as error:
            reason = self._reason(error)
        reason = reason.replace(self._key, "***") if self._key else reason
        raise EndpointError(f"Qdrant at {self.place} {without_password(reason)}")

    def _reason(self, error: Any) -> str:
        """What an error of the client means."""
        if self._local or isinstance(self._client, EdgeClient):
            locked = "WouldBlock" in str(error)
            return "is open in another process, or not closed in this one" if locked else f"refused: {error}"
        source, status = getattr(error, "source", error), getattr(error, "status_code", None)
        httpx = require("httpx", "stores")
        if status in (401, 403):
            return f"refused access ({status}): $QDRANT_API_KEY is {'not the right one' if self._key else 'not set'}"
        if status:
            return f"answered {status}: {error.content.decode('utf-8', 'replace'):.300}"
        if isinstance(source, httpx.TimeoutException):
            return f"did not answer within {self.timeout} s: give timeout=, or see what the server does"
        if isinstance(source, httpx.TransportError):
            return f"cannot be reached ({source}): is it running, and is the URL right?"
        if wait := getattr(error, "retry_after_s", None):
            return f"has too much to do ({error}): try again in {wait} s"
        return "does not answer as Qdrant does: is the URL right?"


# ---- records


@dataclass(frozen=True)
class Statistics:
    """Of the words at the last ``refresh``: the idf by the place of a term, and the mean length of a chunk in terms."""

    idf: Mapping[int, float]
    mean_length: float

    @classmethod
    def of(cls, about: Payload) -> Statistics:
        idf = lucene_idf(np.array(about["df"]), about["chunks"])
        return cls(dict(zip(about["terms"], idf.tolist(), strict=True)), about["length"] / max(1, about["chunks"]))

    def weights(self, terms: Counter[int]) -> dict[int, float]:
        """The BM25 weights of a chunk with these terms; a term that was not there has none."""
        length = terms.total()
        return {
            place: self.idf[place] * tf / (tf + _K1 * (1 - _B + _B * length / self.mean_length))
            for place, tf in terms.items()
            if place in self.idf
        }


def _point(name: str) -> str:
    """The id of a point."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"ragkit:{name}"))


_ABOUT = _point("about")


@lru_cache(2**16)
def _place(term: str) -> int:
    """Where a term stands in the sparse vectors: two terms share a place by chance, 1 in 4 billion."""
    return int.from_bytes(hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")


def _pair(key: str, value: object) -> str:
    """A key and a value of metadata as one text, so that any key and any type of value can be filtered by."""
    return json.dumps([key, value], sort_keys=True, default=repr)


def _payload(chunk: Chunk) -> Payload:
    """What is stored of a chunk; as text, because Qdrant takes fewer numbers and characters than JSON has.

    Raises:
        InputError: its document's id can't be stored, or its metadata would not come back as they are.
    """
    record = chunk_to_dict(chunk)
    if re.search("[\ud800-\udfff]", chunk.doc_id):
        raise InputError(f"the document id {chunk.doc_id!r} has a character that Qdrant does not store")
    pairs = [_pair(key, value) for key, value in record["metadata"].items()]
    return {"doc_id": chunk.doc_id, "metadata": pairs, "chunk": json.dumps(record)}


def _chunk(payload: Payload) -> Chunk:
    return from_dict(Chunk, json.loads(payload["chunk"]))


def _batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]

"""Chunks in PostgreSQL with pgvector: dense, word and hybrid search, each one SQL statement.

A store called ``handbook`` has four tables:

==================  ==================================================================================================
table               a row is
==================  ==================================================================================================
``handbook_chunks`` a chunk as JSON (``record``), its metadata again as ``jsonb`` for filters, and its vector
``handbook_words``  the terms of a chunk: their numbers, how often it has each, and their weights as a ``sparsevec``
``handbook_terms``  a term: its number and its idf
``handbook_about``  (the only row) embedder, chunker and analyzer of the store, and its version
==================  ==================================================================================================

BM25 is a sum of products, ``idf(term)`` times a weight that depends on the chunk alone (``ragkit.retrieval.bm25``). So
the score is the inner product of two sparse vectors: the query's has the idf, the chunk's the weights.

pgvector: https://github.com/pgvector/pgvector (filters: "Iterative Index Scans").
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

import numpy as np

from ragkit.base import (
    Chunk,
    Embedder,
    EndpointError,
    Hit,
    InputError,
    Vectors,
    accepted_values,
    build_identity,
    from_dict,
    identity_of,
    require,
    without_password,
)
from ragkit.embedding import encode
from ragkit.embedding.vectors import check_vectors
from ragkit.retrieval.analysis import AnalyzedCorpus, Analyzer
from ragkit.retrieval.bm25 import unique_chunks
from ragkit.retrieval.hybrid import RRF_K
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

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

T = TypeVar("T")
HNSW_DIMENSIONS = 2_000
PLAIN_DIMENSIONS = 1_536
_OLDEST = (0, 8)  # pgvector's iterative scan
_INSTALL = (
    "install pgvector 0.8 or newer on the server (Debian: postgresql-18-pgvector; Docker: the image "
    "pgvector/pgvector:pg18), then, as its administrator: CREATE EXTENSION vector"
)

# Of a session. A filter must not lose hits, so an HNSW search goes on until it has CANDIDATES that pass, which are then
# sorted: "strict_order" would leave out near ones that are found late. To compile a statement (jit) takes longer than
# to run it.
_SETTINGS = f"""
    SET hnsw.ef_search = {CANDIDATES}; SET hnsw.iterative_scan = relaxed_order;
    SET hnsw.max_scan_tuples = 2147483647; SET hnsw.scan_mem_multiplier = 1000; SET jit = off
"""

# A network that has failed says nothing. So a search stops waiting a second after its limit, and the server gives up a
# writer that is silent for so many seconds within its transaction: all others wait for that one.
SILENT_SECONDS = 10
_NETWORK = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
_SERVER = """
    SET idle_in_transaction_session_timeout = '{silent}s'; SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 30000;
    SET statement_timeout = {milliseconds}
"""

# Ids and terms are compared by code point (collation "C"), as Python does.
_CREATE = """
    CREATE TABLE {about} (
        id uuid DEFAULT gen_random_uuid(), version bigint DEFAULT 0, mean_length float8,
        embedder text, chunker text, analyzer text
    );
    CREATE TABLE {chunks} (
        id text COLLATE "C" PRIMARY KEY, doc_id text COLLATE "C", record json, metadata jsonb,
        vector vector({dimension})
    );
    ALTER TABLE {chunks} ALTER COLUMN vector SET STORAGE {storage};
    CREATE INDEX ON {chunks} (doc_id);
    CREATE INDEX ON {chunks} USING gin (metadata jsonb_path_ops);
    CREATE TABLE {words} (
        id text COLLATE "C" PRIMARY KEY REFERENCES {chunks} ON DELETE CASCADE,
        length int, terms int[], counts int[], weights sparsevec
    );
    CREATE TABLE {terms} (
        number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, term text COLLATE "C" UNIQUE, idf float8
    )
"""

# What refresh() does, in this order; a term that no chunk has any more gets no idf.
_MEAN_LENGTH = "UPDATE {about} SET mean_length = (SELECT nullif(avg(length), 0) FROM {words})"
_IDF = """
    UPDATE {terms} AS t SET idf = ln(1 + (n - df + .5) / (df + .5))
    FROM {terms} AS every
    LEFT JOIN (SELECT term, count(*)::float8 AS df FROM {words}, unnest(terms) AS term GROUP BY term) AS seen
        ON seen.term = every.number,
    (SELECT count(*) AS n FROM {words}) AS total
    WHERE every.number = t.number
"""
_FORGET = "DELETE FROM {terms} WHERE idf IS NULL"
# With k1 = 1.5 and b = .75, as BM25Retriever has them.
_WEIGH = """
    UPDATE {words} AS w SET weights = coalesce((
        SELECT ('{{' || string_agg(term || ':' || (tf / (tf + 1.5 * (.25 + .75 * w.length / mean_length)))::real, ',')
            || '}}/1000000000')::sparsevec
        FROM unnest(w.terms, w.counts) AS each(term, tf)
    ), '{{}}/1000000000')
    FROM {about}
"""
_HNSW = "CREATE INDEX IF NOT EXISTS {hnsw} ON {chunks} USING hnsw (vector vector_ip_ops)"
_ANALYZE = "ANALYZE {chunks}, {words}"

_DENSE = """
    SELECT id, -distance AS score FROM (
        SELECT id, {distance} AS distance FROM {chunks} WHERE {where} ORDER BY distance, id LIMIT %(candidates)s
    ) AS near ORDER BY score DESC, id LIMIT %(depth)s
"""
# By ``exact``: an index knows the order of only the second expression.
_DISTANCE: Mapping[bool, LiteralString] = {True: "0 + (vector <#> %(vector)s)", False: "vector <#> %(vector)s"}

# OFFSET 0: each product is computed once, not again for the WHERE.
_WORDS = """
    SELECT id, score FROM (
        SELECT id, -(weights <#> ({query})) AS score FROM {words} {filter} OFFSET 0
    ) AS product WHERE score > 0 ORDER BY score DESC, id LIMIT %(depth)s
"""
_FILTER = "JOIN {chunks} USING (id) WHERE {where}"
_QUERY = """
    SELECT ('{{' || coalesce(string_agg(number || ':' || (idf * n)::real, ','), '') || '}}/1000000000')::sparsevec
    FROM unnest(%(terms)s::text[], %(counts)s::int[]) AS asked(term, n) JOIN {terms} USING (term)
"""
_HYBRID = """
    SELECT id, coalesce(1::float8 / (%(rrf)s + w.rank), 0) + coalesce(1::float8 / (%(rrf)s + d.rank), 0) AS score,
        w.score AS of_words, d.score AS of_vectors
    FROM (SELECT *, row_number() OVER (ORDER BY score DESC, id) AS rank FROM ({words_list}) AS l) AS w
    FULL JOIN (SELECT *, row_number() OVER (ORDER BY score DESC, id) AS rank FROM ({dense_list}) AS l) AS d USING (id)
    ORDER BY score DESC, id LIMIT %(k)s
"""
_SEARCH: Mapping[str, LiteralString] = {
    "dense": "SELECT *, NULL AS of_words, NULL AS of_vectors FROM ({dense_list}) AS l",
    "words": "SELECT *, NULL AS of_words, NULL AS of_vectors FROM ({words_list}) AS l",
    "hybrid": _HYBRID,
}
_CHUNKS_OF = """
    SELECT record, score, of_words, of_vectors FROM ({search}) AS found JOIN {chunks} USING (id)
    ORDER BY score DESC, id
"""


class PgVectorStore(Store):
    """A ``ChunkStore`` in the PostgreSQL at ``url`` (postgresql://user:password@host:5432/database).

    The tables of ``name`` are made where there are none. ``analyzer`` gives the terms (default: English);
    ``chunker``, a chunker or any name for how the chunks were cut, is compared where it was given before, too.
    ``timeout`` is how many seconds a search may take, also where the network is silent; writers wait for each other
    without a limit, but not for one whose client or network is gone.

    - Each ``add``, ``replace`` and ``delete`` is one transaction. Chunks added after a ``refresh`` are weighed by its
      idf and mean length; words that it did not know count nothing before the next. Before the first ``refresh``, no
      word is known, and there is no HNSW index: all vectors are compared.
    - Scores and sources of hits are those of ``DenseRetriever(scoring="pooled")``, ``BM25Retriever`` and ``Hybrid``.
    - Threads may share a store; each search in progress has a connection of its own. One that was lost is replaced.
    - ``exact=False`` may use the HNSW index: the planner compares all vectors where that costs it less. Vectors of more
      than 2,000 numbers have no such index (pgvector's limit).

    >>> store = PgVectorStore(url, "handbook", load_embedder())             # doctest: +SKIP
    >>> store.add(chunks); store.refresh()                                  # doctest: +SKIP
    >>> store.retriever(where={"project": "celery"}).search("stop a worker")  # doctest: +SKIP

    Raises:
        InputError: ``url`` is none of PostgreSQL's, or ``name`` can't be one of tables. Adding: a document's id or
            metadata can't be stored so that they come back the same, or two texts under one chunk id.
        StoreMismatchError: the store was filled by another embedder, chunker or analyzer; names both.
        EndpointError: (from every method) the server did not answer in time, refused, or has no pgvector.
    """

    def __init__(
        self,
        url: str,
        name: str,
        embedder: Embedder,
        *,
        chunker: object = None,
        analyzer: Analyzer | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.name, self.embedder, self.timeout = name, embedder, timeout
        self.analyzer = analyzer or Analyzer()
        self.chunker = "" if chunker is None else chunker if isinstance(chunker, str) else identity_of(chunker)
        self._psycopg = require("psycopg", "stores")
        self._url, self.place = url, _place(url)
        if "://" in name:  # perhaps with a password
            raise InputError("the name of the store is a URL: expected a name, such as 'handbook'")
        if not 0 < len(name.encode("utf-8", "replace")) <= 50 or _plain(name) != name:
            raise InputError(f"a store called {name!r}: expected 1 to 50 bytes, which names of tables begin with")
        tables = ("about", "chunks", "words", "terms", "hnsw")
        self._names = {table: self._psycopg.sql.Identifier(f"{name}_{table}") for table in tables}
        self._idle: deque[Connection] = deque()
        with self._report_errors(), self._open() as connection, self._limit(connection):
            self._prepare(connection)

    def __repr__(self) -> str:
        return f"PgVectorStore({self.name!r}, {self.place}, {self.embedder.name})"

    def __len__(self) -> int:
        """The number of chunks."""
        (count,) = self._run(lambda connection: self._row(connection, "SELECT count(*) FROM {chunks}"), limited=True)
        return int(count)

    @property
    def identity(self) -> str:
        """Changes with every ``add``, ``replace``, ``delete`` and ``refresh``, whoever made it."""
        statement: LiteralString = "SELECT id::text, version FROM {about}"
        row = self._run(lambda connection: self._row(connection, statement), limited=True)
        return build_identity(self, *row)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    # ---- writing

    def add(self, chunks: Sequence[Chunk], vectors: Vectors | None = None) -> None:
        """Store ``chunks``; one whose id is there already takes its place. ``vectors`` are ``(len(chunks), d)``."""
        self._write((), chunks, vectors)

    def replace(self, documents: Collection[str], chunks: Sequence[Chunk], vectors: Vectors | None = None) -> None:
        """Put ``chunks`` in the place of all chunks of ``documents``."""
        self._write(documents, chunks, vectors)

    def delete(self, documents: Collection[str]) -> int:
        """Remove the chunks of ``documents``; returns how many there were."""
        return self._write(documents, (), None)

    def refresh(self) -> None:
        """Weigh the words by the chunks that are there now, and make the HNSW index where there is none."""
        hnsw = self.embedder.dimension <= HNSW_DIMENSIONS

        def write(connection: Connection) -> None:
            with self._transaction(connection):
                for statement in (_MEAN_LENGTH, _IDF, _FORGET, _WEIGH, *([_HNSW] if hnsw else []), _ANALYZE):
                    connection.execute(self._sql(statement))

        self._run(write)

    def _write(self, documents: Collection[str], chunks: Sequence[Chunk], vectors: Vectors | None) -> int:
        """Put ``chunks`` in the place of those of ``documents`` and of those with their ids; how many these were."""
        check_documents(documents)
        for doc_id in {*documents, *(chunk.doc_id for chunk in chunks)}:
            if _plain(doc_id) != doc_id:
                raise InputError(f"the document id {doc_id!r} has a character that PostgreSQL does not store")
        if vectors is None:
            vectors = encode(self.embedder, [chunk.text for chunk in chunks], "passage")
        vectors = check_vectors(vectors, len(chunks), self.embedder)
        unique, vector_of = unique_chunks(chunks), {c.id: v for c, v in zip(chunks, vectors, strict=True)}
        records, types = map(chunk_to_dict, unique), self._psycopg.types.json
        rows = [
            (c.id, c.doc_id, types.Json(record), types.Jsonb(_plain(record["metadata"])), vector_of[c.id])
            for c, record in zip(unique, records, strict=True)
        ]
        analyzed = AnalyzedCorpus(analyzer=self.analyzer)
        counted = [(c.id, *np.unique(analyzed.text_ids(c.text), return_counts=True)) for c in unique]
        terms, ids = list(analyzed.vocabulary), [chunk.id for chunk in unique]

        def write(connection: Connection) -> int:
            with self._transaction(connection), connection.cursor() as cursor:
                gone = self._sql("DELETE FROM {chunks} WHERE doc_id = ANY(%s) OR id = ANY(%s)")
                removed = cursor.execute(gone, (list(documents), ids)).rowcount
                if not rows:
                    return removed
                new = "INSERT INTO {terms} (term) SELECT unnest(%s::text[]) EXCEPT SELECT term FROM {terms}"
                cursor.execute(self._sql(new), (terms,))
                known = self._sql("SELECT term, number FROM {terms} WHERE term = ANY(%s)")
                number: dict[str, int] = dict(cursor.execute(known, (terms,)).fetchall())
                numbers = np.array([number[term] for term in terms], dtype=np.int64)
                with cursor.copy(self._sql("COPY {chunks} FROM STDIN (FORMAT BINARY)")) as copy:
                    copy.set_types(["text", "text", "json", "jsonb", "vector"])
                    for row in rows:
                        copy.write_row(row)
                columns = "COPY {words} (id, length, terms, counts) FROM STDIN (FORMAT BINARY)"
                with cursor.copy(self._sql(columns)) as copy:
                    copy.set_types(["text", "int4", "int4[]", "int4[]"])
                    for chunk_id, own, counts in counted:
                        copy.write_row((chunk_id, int(counts.sum()), numbers[own].tolist(), counts.tolist()))
                cursor.execute(self._sql(_WEIGH + " WHERE w.id = ANY(%s)"), (ids,))
                return removed

        return self._run(write)

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        """A transaction that writes. The first statement locks the row of ``about``: writers come one after another."""
        with connection.transaction():
            connection.execute("SET LOCAL statement_timeout = 0")
            connection.execute(self._sql("UPDATE {about} SET version = version + 1"))
            yield

    # ---- searching

    def search(self, queries: Sequence[str], k: int, retriever: StoreRetriever) -> list[list[Hit]]:
        """The hits of ``retriever`` for each query, best first; it has checked the input."""
        mode, exact = retriever.mode, retriever.exact
        vectors: Any = [None] * len(queries)
        if mode != "words":
            vectors = encode(self.embedder, queries, "query")
        statement, parameters = self._statement(retriever)
        depth = int(max(FETCH_K, k) if mode == "hybrid" else k)
        parameters |= {
            "k": int(k),
            "depth": depth,
            "candidates": depth if exact else max(CANDIDATES, depth),
            "rrf": RRF_K,
        }
        searches = []
        for query, vector in zip(queries, vectors, strict=True):
            terms = Counter(self.analyzer.terms(query))
            searches.append(parameters | {"vector": vector, "terms": list(terms), "counts": list(terms.values())})

        def read(connection: Connection) -> list[list[tuple[Any, ...]]]:
            return [connection.execute(statement, each, binary=True).fetchall() for each in searches]

        return [[_hit(mode, *row) for row in rows] for rows in self._run(read, limited=True)]

    def _statement(self, retriever: StoreRetriever) -> tuple[Composed, dict[str, Any]]:
        """The statement of a search, and the parameters of its filter."""
        sql, parameters, conditions = self._psycopg.sql, dict[str, Any](), []
        for key, wanted in retriever.where.items():
            options = []
            for value in accepted_values(wanted):
                name = f"where_{len(parameters)}"
                parameters[name] = self._psycopg.types.json.Jsonb(_plain({key: value}))
                options.append(sql.SQL("metadata @> {}").format(sql.Placeholder(name)))
            conditions.append(sql.SQL("({})").format(sql.SQL(" OR ").join(options or [sql.SQL("FALSE")])))
        if retriever.document_ids is not None:
            parameters["documents"] = [each for each in retriever.document_ids if "\x00" not in each]
            conditions.append(sql.SQL("doc_id = ANY({})").format(sql.Placeholder("documents")))
        passes = sql.SQL(" AND ").join(conditions or [sql.SQL("TRUE")])
        only = self._sql(_FILTER if conditions else "", {"where": passes})
        words = self._sql(_WORDS, {"query": self._sql(_QUERY), "filter": only})
        dense = self._sql(_DENSE, {"where": passes, "distance": sql.SQL(_DISTANCE[retriever.exact])})
        search = self._sql(_SEARCH[retriever.mode], {"words_list": words, "dense_list": dense})
        return self._sql(_CHUNKS_OF, {"search": search}), parameters

    # ---- the server

    def _sql(self, statement: LiteralString, parts: Mapping[str, Any] | None = None) -> Composed:
        """``statement`` with the names of the tables, and ``parts``, in the place of their words in braces."""
        composed: Composed = self._psycopg.sql.SQL(statement).format(**self._names, **(parts or {}))
        return composed

    def _row(self, connection: Connection, statement: LiteralString) -> tuple[Any, ...]:
        row = connection.execute(self._sql(statement)).fetchone()
        assert row is not None
        return row

    def _run(self, work: Callable[[Connection], T], limited: bool = False) -> T:
        """What ``work`` returns, on a free or a new connection; where a free one was lost, once more on a new one."""
        with self._report_errors():
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._use(self._connect(), work, limited)
            try:
                return self._use(connection, work, limited)
            except self._psycopg.OperationalError:
                if not connection.broken:
                    raise
            self.close()  # the others were lost with it
            return self._use(self._connect(), work, limited)

    def _use(self, connection: Connection, work: Callable[[Connection], T], limited: bool) -> T:
        try:
            with self._limit(connection) if limited else nullcontext():
                return work(connection)
        finally:
            if connection.info.transaction_status == self._psycopg.pq.TransactionStatus.IDLE:
                self._idle.append(connection)
            else:
                connection.close()

    @contextmanager
    def _limit(self, connection: Connection) -> Iterator[None]:
        """Wait for each answer of the server a second longer than it may take.

        Raises:
            QueryCanceled: there was none.
        """
        connection.wait = partial(connection.wait, timeout=self.timeout + 1)  # type: ignore[method-assign]
        try:
            yield
        except self._psycopg.OperationalError:
            if connection.info.transaction_status == self._psycopg.pq.TransactionStatus.ACTIVE:
                raise self._psycopg.errors.QueryCanceled from None
            raise
        finally:
            del connection.wait

    def _connect(self) -> Connection:
        connection = self._open()
        with self._limit(connection):
            require("pgvector.psycopg", "stores").register_vector(connection)
            connection.execute(_SETTINGS)
            connection.execute(_SERVER.format(silent=SILENT_SECONDS, milliseconds=round(self.timeout * 1000)))
        return connection

    def _open(self) -> Connection:
        # No prepared statements: their plans are made for any filter and any k.
        connection: Connection = self._psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=max(2, min(10, round(self.timeout))),
            prepare_threshold=None,
            **_NETWORK,
        )
        return connection

    def _prepare(self, connection: Connection) -> None:
        """Make the tables where they are not there; compare what they were made for."""
        columns = ("embedder", "chunker", "analyzer")
        own = (without_password(self.embedder.identity), self.chunker, self.analyzer.identity)
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('ragkit'))")
            self._check_extension(connection)
            exists = "SELECT to_regclass(%s)"
            if connection.execute(exists, [self._names["about"].as_string()]).fetchone() == (None,):
                # A scan is quicker where the vector stands in the row, which has at most 8 KB.
                sql, dimension = self._psycopg.sql, self.embedder.dimension
                storage = sql.SQL("PLAIN" if dimension <= PLAIN_DIMENSIONS else "EXTERNAL")
                connection.execute(self._sql(_CREATE, {"dimension": sql.Literal(dimension), "storage": storage}))
                connection.execute(
                    self._sql("INSERT INTO {about} (embedder, chunker, analyzer) VALUES (%s, %s, %s)"), own
                )
            made = self._row(connection, "SELECT embedder, chunker, analyzer FROM {about}")
        both = (dict(zip(columns, values, strict=True)) for values in (made, own))
        check_same(f"{self.name!r} in {self.place}", *both)

    def _check_extension(self, connection: Connection) -> None:
        version = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        errors = self._psycopg.errors
        try:
            if not (row := connection.execute(version).fetchone()):
                connection.execute("CREATE EXTENSION vector")
                row = connection.execute(version).fetchone()
        except (errors.FeatureNotSupported, errors.UndefinedFile, errors.InsufficientPrivilege) as error:
            reason = error.diag.message_primary
            raise EndpointError(f"the PostgreSQL at {self.place} has no pgvector ({reason}): {_INSTALL}") from None
        assert row is not None
        if tuple(map(int, row[0].split(".")[:2])) < _OLDEST:
            raise EndpointError(
                f"the PostgreSQL at {self.place} has pgvector {row[0]}, expected 0.8 or newer: {_INSTALL}; "
                "where it is installed already: ALTER EXTENSION vector UPDATE"
            )

    @contextmanager
    def _report_errors(self) -> Iterator[None]:
        """psycopg's errors as ours. Their messages name host, port and user; ``_place`` sees to it that no more."""
        try:
            yield
        except self._psycopg.errors.QueryCanceled:
            raise EndpointError(
                f"the PostgreSQL at {self.place} did not answer within {self.timeout} s: try exact=False, or a larger "
                "timeout"
            ) from None
        except self._psycopg.Error as error:
            reason = error.diag.message_primary or " ".join(str(error).split())
            raise EndpointError(f"the PostgreSQL at {self.place} did not answer, or refused: {reason}") from None


def _place(url: str) -> str:
    """``host:port/database`` of a URL.

    >>> _place("postgresql://me:secret@db.example.org/docs")
    'db.example.org:5432/docs'

    Raises:
        InputError: it is no URL of PostgreSQL, or the password has a character that ends it. Says nothing of it.
    """
    psycopg = require("psycopg", "stores")
    expected = "expected postgresql://user:password@host:5432/database, with @ / : ? # % in a password as %40 %2F ..."
    try:
        parts = require("psycopg.conninfo", "stores").conninfo_to_dict(url)
    except (psycopg.Error, TypeError):
        raise InputError(f"the URL is none of PostgreSQL's: {expected}") from None
    host, port, database = (str(parts.get(k) or default) for k, default in _DEFAULTS.items())
    if "@" in host + port + database or not port.replace(",", "").isdigit():
        raise InputError(f"the password in the URL ends too early: {expected}")
    return f"{host}:{port}/{database}"


_DEFAULTS = {"host": "localhost", "port": "5432", "dbname": ""}


def _plain(value: Any) -> Any:
    """``value`` as PostgreSQL can hold it: U+FFFD for NUL and halves of surrogate pairs, in all that it contains."""
    if isinstance(value, str):
        return re.sub("[\x00\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _hit(mode: Mode, record: Mapping[str, Any], score: float, *parts: float | None) -> Hit:
    """A row of a search as a hit."""
    own = zip((SOURCES["words"], SOURCES["dense"]), parts, strict=True)
    return Hit(from_dict(Chunk, record), score, SOURCES[mode], {name: part for name, part in own if part is not None})

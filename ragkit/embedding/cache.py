"""Vectors that are computed, or paid for, once: a cache on disk in front of any embedder.

One SQLite table, ``vectors.db``: the sha256 of model identity, kind and text -> the vector, and when it was last used.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from ragkit.base import Embedder, IntegrityError, Kind, Vectors
from ragkit.embedding.vectors import check_vectors
from ragkit.files import Database, home, lock

MAX_BYTES = 2_000_000_000  # when the file would grow past this, the vectors that were not used for longest go
_SCHEMA = "CREATE TABLE vector (key BLOB PRIMARY KEY, vector BLOB NOT NULL, used REAL NOT NULL);"
_GROUP = 256  # texts that are encoded between two writes
_BAR_FROM = 64  # with fewer texts to encode there is no progress bar
_FRESH = 3600.0  # seconds in which a further use is not written down
_ROOM = 0.9  # the share of ``MAX_BYTES`` that is left after an eviction


class CachedEmbedder:
    """``inner`` with its vectors on disk. Equal texts are encoded once, in this call, this process or any other.

    ``identity`` is that of ``inner``, as the vectors are. ``encoded`` counts the texts that ``inner`` was given so far.
    ``vectors.db`` lies in ``folder`` (None: ``vectors`` below ``ragkit.files.home()``). Several threads and processes
    may use it.
    """

    def __init__(self, inner: Embedder, folder: str | Path | None = None) -> None:
        self.inner, self.name, self.identity = inner, inner.name, inner.identity
        self.folder = Path(folder or home() / "vectors")
        self.encoded = 0
        self._dimension = 0

    def __repr__(self) -> str:
        return f"CachedEmbedder({self.inner!r})"

    @property
    def dimension(self) -> int:
        return self._dimension or self.inner.dimension

    @cached_property
    def _table(self) -> VectorTable:
        return VectorTable(self.folder)

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Unit vectors ``(len(texts), dimension)``, from disk where they are there.

        Raises:
            ContractError: ``inner`` gave vectors of another number or length, or NaN; none of these is stored.
            IntegrityError: the file is damaged.
            RagkitError: whatever ``inner`` raises; what it encoded before that is stored.
        """
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        text_of = {self._key(text, kind): text for text in texts}
        cached = self._table.get(list(text_of))
        if len(cached) < len(text_of):
            with lock(self.folder / f".{hashlib.sha256(self.identity.encode()).hexdigest()[:16]}.lock"):
                cached |= self._table.get([key for key in text_of if key not in cached])  # what another process wrote
                cached |= self._encode({key: text for key, text in text_of.items() if key not in cached}, kind)
        vectors = np.stack([cached[self._key(text, kind)] for text in texts])
        self._dimension = vectors.shape[1]
        return vectors

    def _encode(self, missing: dict[bytes, str], kind: Kind) -> dict[bytes, Vectors]:
        """The vectors of ``missing``, stored group by group."""
        from tqdm.auto import tqdm

        items = sorted(missing.items(), key=lambda item: len(item[1]))  # batches of equal length need little padding
        encoded: dict[bytes, Vectors] = {}
        # Where a bar is shown, `disable` is left to the environment (TQDM_DISABLE).
        start = tqdm if len(items) >= _BAR_FROM else partial(tqdm, disable=True)
        with start(total=len(items), desc=f"encoding, {self.name}", unit=" texts") as bar:
            for at in range(0, len(items), _GROUP):
                keys, texts = zip(*items[at : at + _GROUP], strict=True)
                vectors = check_vectors(self.inner.encode(texts, kind), len(texts), self.inner)
                self.encoded += len(texts)
                self._table.put(keys, vectors)
                encoded |= dict(zip(keys, vectors, strict=True))
                bar.update(len(texts))
        return encoded

    def _key(self, text: str, kind: Kind) -> bytes:
        settings = json.dumps([self.identity, kind]).encode()
        return hashlib.sha256(settings + b"\n" + text.encode("utf-8", "surrogatepass")).digest()


class VectorTable:
    """The table of ``vectors.db`` in ``folder``; the file is made when there is none.

    Raises:
        IntegrityError: when it is read or written: the file is damaged.
        InputError: ``vectors.db`` is no file of ragkit's.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "vectors.db"
        self._database = Database(self.path, "vectors", 1, _SCHEMA)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database.transaction() as connection:
                yield connection
        except sqlite3.OperationalError:  # locked, disk full: it says so itself
            raise
        except sqlite3.DatabaseError as error:
            raise IntegrityError(
                f"the cache of vectors is damaged ({error}): delete it; its vectors are encoded again"
            ) from error

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """The vectors of those ``keys`` that are there."""
        with self._transaction() as database:
            find = "SELECT key, vector, used FROM vector WHERE key = ?"
            rows = [row for key in keys for row in database.execute(find, (key,))]
            now = time.time()
            unused = [(now, row["key"]) for row in rows if row["used"] < now - _FRESH]
            if unused:
                database.executemany("UPDATE vector SET used = ? WHERE key = ?", unused)
        return {row["key"]: np.frombuffer(row["vector"], dtype="<f4") for row in rows}

    def put(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Write vectors; if the file then holds more than ``MAX_BYTES``, those go that were not used for longest."""
        rows = np.ascontiguousarray(vectors, dtype="<f4")
        now = time.time()
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO vector VALUES (?, ?, ?)",
                [(key, row.tobytes(), now) for key, row in zip(keys, rows, strict=True)],
            )
        if self.bytes > MAX_BYTES:
            self.evict(int(_ROOM * MAX_BYTES))

    def evict(self, max_bytes: int) -> None:
        """Remove the vectors that were not used for longest, so that about ``max_bytes`` are left."""
        with self._transaction() as database:
            share = max(0.0, 1 - max_bytes / self.bytes)
            database.execute(
                "DELETE FROM vector WHERE key IN (SELECT key FROM vector ORDER BY used, rowid LIMIT ?)",
                (math.ceil(share * len(self)),),
            )

    def shrink(self) -> None:
        """Give the room of removed vectors back to the disk."""
        with self._transaction() as database:
            database.execute("VACUUM")

    def __len__(self) -> int:
        with self._transaction() as database:
            return int(database.execute("SELECT COUNT(*) FROM vector").fetchone()[0])

    @property
    def bytes(self) -> int:
        """Bytes in use; what was removed and not yet written again is not counted."""
        pages = "SELECT page_size * (page_count - freelist_count) FROM pragma_page_size, pragma_page_count, "
        with self._transaction() as database:
            return int(database.execute(f"{pages} pragma_freelist_count").fetchone()[0])

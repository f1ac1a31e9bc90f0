"""Writers of versioned documents, what they were promised, and how a store breaks a promise."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from ragkit.base import Chunk, EndpointError
from ragkit.retrieval.pgvector import PgVectorStore
from ragkit.testing import FakeEmbedder

TOPICS = ("kettle", "lamp", "radio", "clock", "door", "window", "roof", "garden", "cellar", "stove", "bell", "pump")
Stored = tuple[str, int, int]
"""Of a chunk in a store: its document, the document's version, and which part of it this is."""


def parts_of(version: int) -> int:
    """Versions differ in length, so that what is left of a longer one shows."""
    return 3 + version % 3


def chunks_of(doc_id: str, version: int) -> list[Chunk]:
    """A document's chunks, each with its version and part in the text."""
    topics = random.Random(f"{doc_id} {version}").sample(TOPICS, 3)
    texts = [f"{doc_id} version {version} part {part} {' '.join(topics)}" for part in range(parts_of(version))]
    return [Chunk(doc_id, 100 * part, 100 * part + len(text), text) for part, text in enumerate(texts)]


@dataclass(frozen=True)
class Violations:
    """Documents: ``lost`` are absent or older than acknowledged; ``half`` are neither wholly old nor wholly new;
    ``strange`` have a version that nobody wrote. ``wordless`` are chunks that a search by words does not see."""

    lost: int
    half: int
    strange: int
    wordless: int = 0


@dataclass
class Promises:
    """The versions of documents, 1, 2, ...: the last that a writer began to store, and the last that was stored."""

    begun: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    acknowledged: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def violations(self, stored: Iterable[Stored], wordless: int = 0) -> Violations:
        """How ``stored``, all that the store holds, breaks the promises.

        >>> promises = Promises({"a": 2}, {"a": 1})            # the second write was under way
        >>> promises.violations(("a", 2, part) for part in range(5)).lost
        0
        >>> promises.violations([]).lost
        1
        """
        versions: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for doc_id, version, part in stored:
            versions[doc_id].append((version, part))
        lost = half = strange = 0
        for doc_id in {*versions, *self.acknowledged}:
            numbers = {version for version, _ in versions[doc_id]}
            newest = max(numbers, default=0)
            lost += newest < self.acknowledged.get(doc_id, 0)
            strange += newest > self.begun.get(doc_id, 0)
            whole = [(newest, part) for part in range(parts_of(newest) if newest else 0)]
            half += sorted(versions[doc_id]) != whole
        return Violations(lost, half, strange, wordless)


@dataclass
class Calls:
    """How calls ended, from all threads: ``good``, ``failed`` (EndpointError), ``other`` (anything else)."""

    good: int = 0
    failed: int = 0
    other: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list, repr=False)
    errors: set[str] = field(default_factory=set)
    _begun: dict[int, float] = field(default_factory=dict, repr=False)

    @property
    def longest(self) -> float:
        return max(self.seconds, default=0.0)

    @property
    def under_way(self) -> float:
        """Seconds that the longest call takes already of those that have not ended."""
        return time.monotonic() - min(self._begun.copy().values(), default=time.monotonic())

    def call(self, work, *arguments):  # type: ignore[no-untyped-def]
        """What ``work`` returns, or the EndpointError that it raises; any other exception is noted, and returned."""
        thread = threading.get_ident()
        self._begun[thread] = begin = time.monotonic()
        try:
            result = work(*arguments)
            self.good += 1
        except EndpointError as error:
            self.failed += 1
            self.errors.add(str(error))
            result = error
        except Exception as error:
            self.other.append(repr(error))
            result = error
        del self._begun[thread]
        self.seconds.append(time.monotonic() - begin)
        return result


class Writers:
    """Threads that write to ``store`` until an error or ``stop``. Each has documents of its own."""

    def __init__(self, store: PgVectorStore, promises: Promises, calls: Calls, count: int = 2, seed: int = 0) -> None:
        self.store, self.promises, self.calls, self.seed = store, promises, calls, seed
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(count)]

    def start(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def join(self, seconds: float = 60) -> int:
        """Wait for all of them; returns how many have not ended in time."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def _write(self, number: int) -> None:
        choose = random.Random(f"{self.seed} {number}")
        while not self._ended.is_set():
            documents = [f"page-{number}-{choose.randrange(60)}" for _ in range(choose.randint(1, 3))]
            if isinstance(write(self.store, self.promises, self.calls, sorted(set(documents))), Exception):
                return
            if choose.random() < 0.03 and isinstance(self.calls.call(self.store.refresh), Exception):
                return


def write(store: PgVectorStore, promises: Promises, calls: Calls, documents: Sequence[str]) -> object:
    """Store the next version of ``documents``, in one call: ``add`` where all are new, else ``replace``."""
    versions = {doc_id: promises.begun[doc_id] + 1 for doc_id in documents}
    chunks = [chunk for doc_id, version in versions.items() for chunk in chunks_of(doc_id, version)]
    new = all(version == 1 for version in versions.values())
    promises.begun.update(versions)
    result = calls.call(store.add, chunks) if new else calls.call(store.replace, documents, chunks)
    if not isinstance(result, Exception):
        promises.acknowledged.update(versions)
    return result


def open_store(url: str, name: str = "faults", timeout: float = 5.0) -> PgVectorStore:
    return PgVectorStore(url, name, FakeEmbedder(), timeout=timeout)


def violations(url: str, promises: Promises, name: str = "faults") -> Violations:
    """What the tables hold, against the promises."""
    rows = "SELECT record->>'text', words.id IS NULL FROM {} AS chunks LEFT JOIN {} AS words USING (id)"
    statement = sql.SQL(rows).format(sql.Identifier(f"{name}_chunks"), sql.Identifier(f"{name}_words"))
    with psycopg.connect(url) as connection:
        rows = connection.execute(statement).fetchall()
    return promises.violations((stored_of(text) for text, _ in rows), sum(wordless for _, wordless in rows))


def stored_of(text: str) -> Stored:
    """
    >>> stored_of("page-0-1 version 2 part 0 lamp roof bell")
    ('page-0-1', 2, 0)
    """
    match = re.match(r"(\S+) version (\d+) part (\d+) ", text)
    assert match is not None
    return match[1], int(match[2]), int(match[3])

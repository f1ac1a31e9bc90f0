"""PostgreSQL killed while it is written to and searched, lost to a replica, and out of disk."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.faults.postgres import Postgres
from bench.faults.writes import Calls, Promises, Violations, Writers, chunks_of, open_store, violations, write

from ragkit.base import Hit
from ragkit.retrieval.pgvector import PgVectorStore

Row = tuple[str, float, str, str]
QUESTIONS = ("kettle lamp", "radio clock door", "page-1-7 window", "garden cellar", "stove bell pump")


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for servers: its path is short enough for a Unix socket, and a server's user may pass through it."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/tmp") as place:
        Path(place).chmod(0o711)
        yield Path(place)


@contextmanager
def running(server: Postgres, **settings: str) -> Iterator[Postgres]:
    try:
        server.start(**settings)
        yield server
    finally:
        server.kill()


def answers(store: PgVectorStore) -> list[list[Hit]]:
    return store.retriever("hybrid").search_many(QUESTIONS, 10)


def filled(url: str, name: str, documents: int = 400, timeout: float = 5.0) -> PgVectorStore:
    """A store with ``documents`` that do not change."""
    store = open_store(url, name, timeout)
    store.add([chunk for number in range(documents) for chunk in chunks_of(f"page-1-{number}", 1)])
    store.refresh()
    return store


def killed_during_writes() -> list[Row]:
    """Two writers, and SIGKILL of every process of the server at a random moment, again and again.

    The machine goes on, so this is about PostgreSQL's log and our transactions, not about the disk's own cache.
    """
    kills, promises, calls, found, hanging = 15, Promises(), Calls(), list[Violations](), 0

    def kill(**settings: str) -> Violations:
        nonlocal hanging
        writers = Writers(store, promises, calls, seed=len(found)).start()
        time.sleep(choose.uniform(0.2, 0.8))
        server.kill()
        hanging += writers.join(10)
        server.start(**settings)
        return violations(server.url, promises)

    choose = random.Random(0)
    with folder() as place, running(Postgres(place / "a").create()) as server:
        store = open_store(server.url)
        for _ in range(kills):
            found.append(kill())
        store.refresh()
        missed = sum(
            {hit.chunk.text for hit in store.retriever("dense").search(text, 10) if hit.score > 0.9999} < {text}
            for doc_id in list(promises.acknowledged)[:40]
            for (text,) in server.execute(f"SELECT record->>'text' FROM faults_chunks WHERE doc_id = '{doc_id}'")
        )
        acknowledged = calls.good
        kill(synchronous_commit="off")  # from now on, PostgreSQL promises more than it has written
        control = kill().lost
    return [
        ("kills while two writers write", kills, "kills", ">= 10"),
        ("acknowledged", acknowledged, "writes", ">= 100"),
        ("ended with an EndpointError", calls.failed, "writes", ">= 10"),
        ("hung, or ended otherwise", hanging + len(calls.other), "writes", "<= 0"),
        ("documents acknowledged and lost", sum(each.lost for each in found), "documents", "<= 0"),
        ("documents half old, half new", sum(each.half for each in found), "documents", "<= 0"),
        ("documents of a version that nobody wrote", sum(each.strange for each in found), "documents", "<= 0"),
        ("chunks without their words", sum(each.wordless for each in found), "chunks", "<= 0"),
        ("chunks not found by their own text at the end", missed, "chunks", "<= 0"),
        ("lost with synchronous_commit=off (it must show)", control, "documents", ">= 1"),
    ]


class Searchers:
    """Threads that ask a store until ``stop``; ``right`` has the times of the answers that are as expected."""

    def __init__(self, store: PgVectorStore, count: int = 4) -> None:
        self.store, self.expected, self.calls = store, answers(store), Calls()
        self.right: list[float] = []
        self.wrong = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._search, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _search(self) -> None:
        while not self._ended.is_set():
            result = self.calls.call(answers, self.store)
            if result == self.expected:
                self.right.append(time.monotonic())
            elif isinstance(result, Exception):
                time.sleep(0.02)
            else:
                self.wrong += 1

    def stop(self, seconds: float = 30) -> int:
        """End them; returns how many hang."""
        self._ended.set()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def first_right_after(self, moment: float, seconds: float = 30) -> float:
        """Seconds from ``moment`` to the first right answer after it; ``seconds`` where there is none."""
        while time.monotonic() < moment + seconds:
            if later := [right for right in self.right if right > moment]:
                return min(later) - moment
            time.sleep(0.01)
        return seconds


def killed_during_queries() -> list[Row]:
    """Four threads search while the server is killed, is away for a second, and comes back."""
    kills, limit, back = 5, 5.0, []
    with folder() as place, running(Postgres(place / "a").create()) as server:
        searchers = Searchers(filled(server.url, "library", timeout=limit))
        for _ in range(kills):
            time.sleep(0.5)
            server.kill()
            time.sleep(1)
            server.start()
            back.append(searchers.first_right_after(time.monotonic()))
        hanging, calls = searchers.stop(), searchers.calls
    return [
        ("kills while four threads search", kills, "kills", ">= 5"),
        ("answered", calls.good, "searches", ">= 100"),
        ("of these, with other hits than before", searchers.wrong, "searches", "<= 0"),
        ("ended with an EndpointError", calls.failed, "searches", ">= 1"),
        ("hung, or ended otherwise", hanging + len(calls.other), "searches", "<= 0"),
        (f"the longest (limit {limit:g} s)", calls.longest, "s", f"<= {limit + 1:g}"),
        ("first right answer once the server is back", max(back), "s", "<= 2"),
    ]


def replica_promoted() -> list[Row]:
    """A replica of ``pg_basebackup`` that each commit waits for; the primary is killed, the replica is promoted.

    One store knows the addresses of both (``target_session_attrs=read-write``), and goes on by itself.
    """
    promises, calls = Promises(), Calls()
    with folder() as place, running(Postgres(place / "a").create()) as primary:
        before = answers(filled(primary.url, "library"))
        with running(primary.copy(place / "b")) as replica:
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.execute("SELECT pg_reload_conf()")
            while primary.execute("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
                time.sleep(0.05)
            both = f"postgresql://postgres@/postgres?host={primary.folder},{replica.folder}"
            store = open_store(f"{both}&target_session_attrs=read-write")
            writers = Writers(store, promises, calls).start()
            time.sleep(3)
            primary.kill()
            begin = time.monotonic()
            hanging = writers.join(10)
            replica.execute("SELECT pg_promote()")
            promoted = time.monotonic() - begin
            found = violations(replica.url, promises)
            same = sum(a == b for a, b in zip(before, answers(open_store(replica.url, "library")), strict=True))
            again = Calls()
            while not again.good and time.monotonic() < begin + 30:
                write(store, promises, again, ["page-1-1"])
            recovered = time.monotonic() - begin
            later = violations(replica.url, promises)
    return [
        ("acknowledged before the primary is killed", calls.good, "writes", ">= 50"),
        ("hung, or ended otherwise", hanging + len(calls.other + again.other), "writes", "<= 0"),
        ("documents acknowledged and not on the replica", found.lost, "documents", "<= 0"),
        ("documents half old, half new on the replica", found.half + later.half, "documents", "<= 0"),
        ("questions with other hits on the replica", len(QUESTIONS) - same, "questions", "<= 0"),
        ("the replica is promoted", promoted, "s", "<= 15"),
        ("a store with both addresses writes again", recovered, "s", "<= 20"),
    ]


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[tuple[list[str], Path]]:
    """A file system of a few megabytes at ``place / "disk"``, in a user and mount namespace of its own.

    Gives the command that runs another one there, and the folder as this process sees it.
    """
    disk = place / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs {disk} && echo mounted && exec cat"
    with subprocess.Popen(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as keeper:
        assert keeper.stdout is not None
        if keeper.stdout.readline() != b"mounted\n":
            raise RuntimeError("no file system could be mounted in a namespace: user namespaces are needed")
        # PostgreSQL does not run as root, and not as a user without a name.
        user = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
        enter = ["nsenter", f"--target={keeper.pid}", "--user", "--mount", "--preserve-credentials"]
        yield [*enter, *user], Path(f"/proc/{keeper.pid}/root{disk}")
        assert keeper.stdin is not None
        keeper.stdin.close()


def fill(disk: Path, free: int) -> Path:
    """A file that takes all of ``disk`` but ``free`` bytes."""
    filler, state = disk / "filler", os.statvfs(disk)
    filler.write_bytes(bytes(state.f_bavail * state.f_bsize - free))
    return filler


def disk_full() -> list[Row]:
    """The disk of the data fills up, and then that of PostgreSQL's log, which its handbook advises to keep apart.

    Without room for its log PostgreSQL ends itself, and does not start before there is some.
    """
    with folder() as place, small_disk(place, 96) as (wrapper, disk):
        server = Postgres(place / "a", wrapper, data=place / "disk" / "data")
        data = filled_up("data", server.create("--waldir", place / "a" / "wal"), disk)
    with folder() as place, small_disk(place, 48) as (wrapper, disk):
        server = Postgres(place / "a", wrapper).create("--wal-segsize=1", "--waldir", place / "disk" / "wal")
        log = filled_up("log", server, disk, wal_keep_size="1GB", min_wal_size="2MB", max_wal_size="8MB")
    return [*data, *log]


def filled_up(what: str, server: Postgres, disk: Path, **settings: str) -> list[Row]:
    """Write until the disk is full, search on, make room, start the server if it has ended, and write again."""
    promises, before, after = Promises(), Calls(), Calls()
    with running(server, **settings):
        searchers, store = Searchers(filled(server.url, "library"), 2), open_store(server.url)
        write(store, promises, before, ["page-0-0"])
        filler = fill(disk, free=1_500_000)
        for number in range(1_000):
            documents = [f"page-{number}-{part}" for part in range(5)]
            if isinstance(write(store, promises, before, documents), Exception):
                break
        refused = time.monotonic()
        time.sleep(2)
        filler.unlink()
        searched, ended = sum(right > refused for right in searchers.right), not server.processes()
        if ended:
            server.start(**settings)
        begin = time.monotonic()
        while not after.good and time.monotonic() < begin + 30:
            write(store, promises, after, ["page-0-0"])
        recovered = time.monotonic() - begin
        found, hanging = violations(server.url, promises), searchers.stop()
    clear = sum("No space left on device" in error for error in before.errors)
    rows: list[Row] = [
        ("acknowledged before it is full", before.good, "writes", ">= 10"),
        ("then refused with an EndpointError", before.failed, "writes", ">= 1"),
        ("that says: No space left on device", clear, "writes", ">= 1" if what == "data" else ""),
        ("the server ended itself", ended, "times", "<= 0" if what == "data" else ""),
        ("answered while it is full", searched, "searches", ">= 10" if what == "data" else ""),
        ("failed with an EndpointError", searchers.calls.failed, "searches", "<= 0" if what == "data" else ""),
        ("answered with other hits", searchers.wrong, "searches", "<= 0"),
        ("hung, or ended otherwise", hanging + len(before.other + searchers.calls.other), "calls", "<= 0"),
        ("writing again, once there is room and a server", recovered, "s", "<= 5"),
        ("documents acknowledged and lost", found.lost, "documents", "<= 0"),
        ("documents half old, half new", found.half, "documents", "<= 0"),
    ]
    return [(f"{what}: {name}", float(value), unit, target) for name, value, unit, target in rows]

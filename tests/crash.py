"""Kill a process that writes, at a random moment, and look at what it left: ``tests/bench/bench_crash.py`` does it 200
times, ``tests/test_production_crash.py`` a few times and shows that a careless writer is caught.

A child (``python tests/crash.py FOLDER NAME[,NAME] FIRST COUNT``) opens the named stores in FOLDER and writes records
FIRST, FIRST + 1, ... to each. It says so on its standard output: ``!`` before it opens the files, ``< NAME NUMBER``
before a write, ``> NAME NUMBER`` when the write is acknowledged. Record NUMBER has the same content whenever it is
made, so what is read back is compared with all of it. The parent sends SIGKILL, which no process can catch, and then,
over the same growing files:

- every file passes ``PRAGMA integrity_check``;
- every record acknowledged in this round, and at the end every one of all rounds, reads back equal;
- a record that was not acknowledged is there as a whole, or not at all.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ragkit.base import Answer, Chunk, Citation, Hit, InputError, RagkitError, Usage
from ragkit.pipeline.trace import CacheKey, Stage, Trace

ROUND = 100_000
"""Records have unique numbers: round r writes from ``r * ROUND`` on."""

_OPENING = 0.12  # seconds: about what it takes to make or open all files
_PATIENCE = 60.0  # seconds for a child to acknowledge its first record


class Store(Protocol):
    """Something that keeps records. ``keeps_all``: it never drops one by itself, as a cache that is full does."""

    keeps_all: bool

    def write(self, number: int) -> None:
        """Write record ``number``; when this returns, it is acknowledged."""
        ...

    def whole(self, number: int) -> bool | None:
        """Whether record ``number`` reads back equal; None where it is not there."""
        ...

    def close(self) -> None: ...


Opener = Callable[[Path], Store]


def text(number: int) -> str:
    """The content of record ``number``: up to 20 kB, with characters that are not ASCII.

    >>> text(7) == text(7) != text(8)
    True
    """
    dice = random.Random(number)
    return "".join(dice.choices("abc déf \n'\"\\—½\U0001f600", k=dice.randrange(10, 5000)))


@dataclass
class Round:
    """What one child said before it was killed. ``inside``: the kill came between the two lines of a write."""

    began: list[tuple[str, int]] = field(default_factory=list)
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    errors: str = ""

    @property
    def inside(self) -> bool:
        return len(self.began) > len(self.acknowledged)


@dataclass
class Report:
    """What all kills did. ``lost`` and ``broken`` say what and where; both must be empty.

    ``early``: kills before the first write was begun; ``inside``: within a write; ``unacknowledged``: records that
    were written, but not acknowledged any more.
    """

    kills: int = 0
    early: int = 0
    inside: int = 0
    acknowledged: int = 0
    unacknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Child:
    """A process that writes to ``names`` in ``folder``, from record ``first`` on."""

    def __init__(self, folder: Path, names: Iterable[str], first: int, count: int = ROUND) -> None:
        command = [sys.executable, __file__, str(folder), ",".join(names), str(first), str(count)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def kill_after(self, sign: str, times: int, delay: float) -> Round:
        """Wait until it has said ``sign`` so many times, and ``delay`` seconds more, and kill it."""
        assert self.process.stdout is not None
        lines: list[str] = []
        until = time.monotonic() + _PATIENCE
        while sum(line.startswith(sign) for line in lines) < times and time.monotonic() < until:
            if not (line := self.process.stdout.readline()):
                break
            lines.append(line)
        time.sleep(delay)
        self.process.send_signal(signal.SIGKILL)
        result = self._said(lines)
        if self.process.returncode != -signal.SIGKILL:
            result.errors += f"\nthe writer ended by itself, with status {self.process.returncode}"
        return result

    def finished(self) -> Round:
        """Wait until it has written all that it should."""
        result = self._said([])
        if self.process.returncode:
            result.errors += f"\nthe writer failed, with status {self.process.returncode}"
        return result

    def _said(self, lines: list[str]) -> Round:
        rest, errors = self.process.communicate()
        result = Round(errors=errors)
        for line in [*lines, *rest.splitlines(keepends=True)]:
            if line.endswith("\n") and not line.startswith("!"):  # the kill may have cut the last line
                sign, name, number = line.split()
                (result.began if sign == "<" else result.acknowledged).append((name, int(number)))
        return result


def kill_many(
    folder: Path, stores: Mapping[str, Opener], kills: int, seed: int = 0, early: float = 0.15, most: int = 40
) -> Report:
    """Kill writers of ``stores`` (names of ``STORES``) ``kills`` times, over the same files in ``folder``.

    A share of ``early`` comes while the files are opened, or soon after; the others at a random moment after 1 to
    ``most`` acknowledged writes.
    """
    dice, report, begin = random.Random(seed), Report(), time.monotonic()
    acknowledged: dict[str, list[int]] = defaultdict(list)
    for number in range(kills):
        child = Child(folder, stores, number * ROUND)
        if dice.random() < early:
            done = child.kill_after("!", 1, dice.uniform(0, _OPENING))
        else:
            done = child.kill_after(">", dice.randint(1, most), dice.uniform(0, 0.02))
        report.kills += 1
        report.early += not done.began
        report.inside += done.inside
        if done.errors.strip():
            report.broken.append(f"round {number}: {done.errors.strip()}")
        for name, i in done.acknowledged:
            acknowledged[name].append(i)
        _examine(folder, stores, done, report, f"round {number}")
    everything = Round(acknowledged=[(name, i) for name, numbers in acknowledged.items() for i in numbers])
    _examine(folder, stores, everything, report, "at the end")
    report.acknowledged, report.seconds = len(everything.acknowledged), time.monotonic() - begin
    return report


def kill_while_made(folder: Path, stores: Mapping[str, Opener], kills: int, seed: int = 0) -> Report:
    """Kill writers while they make their files, new ones each time; the next writer must be able to use what is left.

    ``unacknowledged`` counts the files that were there after a kill.
    """
    dice, report, begin = random.Random(seed), Report(), time.monotonic()
    for number in range(kills):
        place = folder / str(number)
        done = Child(place, stores, 0).kill_after("!", 1, _OPENING * dice.random() ** 4)  # most of them soon
        report.kills += 1
        report.early += not done.began
        report.inside += done.inside
        report.unacknowledged += len(list(place.glob("*.db")))
        # A number of its own: on a quick machine the killed one has written many.
        after = write_together(place, stores, processes=1, count=1, first=ROUND)
        report.acknowledged += after.acknowledged
        report.lost += [f"folder {number}: {each}" for each in after.lost]
        report.broken += [f"folder {number}: {each}" for each in after.broken]
    report.seconds = time.monotonic() - begin
    return report


def write_together(folder: Path, stores: Mapping[str, Opener], processes: int, count: int, first: int = 0) -> Report:
    """Let several processes write ``count`` records each to the same files at once, and look at what they left."""
    report, begin = Report(), time.monotonic()
    children = [Child(folder, stores, first + number * ROUND, count) for number in range(processes)]
    for number, child in enumerate(children):
        done = child.finished()
        report.acknowledged += len(done.acknowledged)
        if done.errors.strip():
            report.broken.append(f"process {number}: {done.errors.strip()}")
        _examine(folder, stores, done, report, f"process {number}", alone=False)
    report.seconds = time.monotonic() - begin
    return report


def _examine(
    folder: Path, stores: Mapping[str, Opener], done: Round, report: Report, where: str, alone: bool = True
) -> None:
    for path in sorted(folder.glob("*.db")):
        if trouble := integrity(path):
            report.broken.append(f"{where}: {path.name}: {trouble}")
    for name, opener in stores.items():
        numbers = [i for n, i in done.acknowledged if n == name]
        store = opener(folder)
        # What was written last can't have been driven out yet, but by another process.
        due = set(numbers if store.keeps_all else numbers[-1:] if alone else [])
        for i in sorted(due.union(numbers, (i for n, i in done.began if n == name))):
            try:
                found = store.whole(i)
            except RagkitError as error:
                report.broken.append(f"{where}: {name} {i}: {error}")
                continue
            if i in due and not found:
                report.lost.append(f"{where}: {name} {i} {'is not there' if found is None else 'is changed'}")
            elif found is False:
                report.broken.append(f"{where}: {name} {i} is there in part")
            report.unacknowledged += bool(found) and i not in numbers
        store.close()


def integrity(path: Path) -> str:
    """What ``PRAGMA integrity_check`` finds wrong with the file; "" where it is sound."""
    connection = sqlite3.connect(path, timeout=30)
    try:
        rows = [row for (row,) in connection.execute("PRAGMA integrity_check")]
    except sqlite3.Error as error:
        return str(error)
    finally:
        connection.close()
    return "" if rows == ["ok"] else "; ".join(rows)


class Plain:
    """Records in a ``Database`` of two tables, both written in one transaction."""

    keeps_all = True

    def __init__(self, folder: Path) -> None:
        from ragkit.production.database import Database

        schema = "CREATE TABLE heads (id INTEGER PRIMARY KEY); CREATE TABLE bodies (id INTEGER PRIMARY KEY, body TEXT);"
        self.database = Database(folder / "plain.db", schema, patience=5)

    def write(self, number: int) -> None:
        with self.database.transaction() as connection:
            connection.execute("INSERT INTO heads VALUES (?)", [number])
            connection.execute("INSERT INTO bodies VALUES (?, ?)", [number, text(number)])

    def whole(self, number: int) -> bool | None:
        heads = self.database.read("SELECT id FROM heads WHERE id = ?", [number])
        bodies = self.database.read("SELECT body FROM bodies WHERE id = ?", [number])
        return [row["body"] for row in bodies] == [text(number)] if heads else None if not bodies else False

    def close(self) -> None:
        self.database.close()


class Hasty(Plain):
    """Wrong: acknowledges at once, and commits every tenth record."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.waiting: list[int] = []

    def write(self, number: int) -> None:
        self.waiting.append(number)
        if len(self.waiting) == 10:
            with self.database.transaction():
                for each in self.waiting:
                    super().write(each)
            self.waiting.clear()


class Careless(Plain):
    """Wrong: the two tables are written one after the other, without a transaction."""

    def write(self, number: int) -> None:
        self.database.write("INSERT INTO heads VALUES (?)", [number])
        time.sleep(0.001)
        self.database.write("INSERT INTO bodies VALUES (?, ?)", [number, text(number)])


class Overwriting(Plain):
    """Wrong: writes over what it acknowledged before, in place and not through SQLite."""

    def write(self, number: int) -> None:
        super().write(number)
        self.database.read("SELECT count(*) FROM heads")
        path = self.database.path
        if path.stat().st_size > 40_000:
            with path.open("r+b") as file:
                file.seek(20_000)
                file.write(b"\xff" * 8_000)


def answer(number: int) -> Answer:
    """Answer ``number``, with hits and citations."""
    words = text(number)
    chunks = [Chunk(f"doc-{number % 7}", i, i + len(words), words, ("Guide", str(i))) for i in range(3)]
    hits = tuple(Hit(chunk, 1 / (i + number % 10 + 1), "plain", {"bm25": i / 3}) for i, chunk in enumerate(chunks))
    cited = (Citation(1, chunks[0], words[:20]),)
    return Answer(
        f"Question {number}?", words, hits, cited, {"total": 1.5}, Usage("m", number, 7), trace_id=str(number)
    )


def trace(number: int) -> Trace:
    """The trace of answer ``number``."""
    stages = tuple(Stage(name, 2.0 * i, 1.5) for i, name in enumerate(("cache", "rewrite", "retrieve", "generate")))
    said = answer(number)
    return Trace(f"{number + 1:032x}", said.question, 3, 1.7e9 + number, 9.0, stages, said, session=f"s{number}")


class Cached:
    """Answers in a ``SQLiteCache`` that is never full."""

    keeps_all, name, room = True, "cache.db", 10**9

    def __init__(self, folder: Path) -> None:
        from ragkit.production.caching import SQLiteCache

        self.cache = SQLiteCache(folder / self.name, max_bytes=self.room)

    def write(self, number: int) -> None:
        self.cache.put(CacheKey("settings", f"Question {number}?"), answer(number))
        if self.cache.trouble:
            raise self.cache.trouble

    def whole(self, number: int) -> bool | None:
        found = self.cache.get(CacheKey("settings", f"Question {number}?"))
        if self.cache.trouble:
            raise self.cache.trouble
        return None if found is None else found.answer == answer(number)

    def close(self) -> None:
        self.cache.close()


class Evicting(Cached):
    """The same, with room for some twenty answers, so that each new one drives out old ones."""

    keeps_all, name, room = False, "evicting.db", 400_000


class Traced:
    """Traces in a ``TraceMonitor`` that keeps all of them."""

    keeps_all, name, most = True, "traces.db", 10**6

    def __init__(self, folder: Path) -> None:
        from ragkit.production.monitoring import TraceMonitor

        self.monitor = TraceMonitor(folder / self.name, text="all", otlp="", max_traces=self.most)

    def write(self, number: int) -> None:
        self.monitor.record(trace(number))
        if self.monitor.losses:
            raise RuntimeError(f"{self.monitor.losses}: {self.monitor.trouble}")

    def whole(self, number: int) -> bool | None:
        expected = trace(number)
        try:
            found = self.monitor.trace(expected.id)
        except InputError:
            return None
        spans = [(stage, parent != "") for stage, parent in spans_of(self.monitor.path, expected.id)]
        kept = (found.question, found.answer, found.hits, found.citations, found.session, spans)
        assert expected.answer is not None
        hits = tuple((hit.chunk.id, hit.score) for hit in expected.answer.hits)
        cited = (expected.answer.citations[0].chunk.id,)
        stages = [(stage.name, True) for stage in expected.stages]
        return kept == (expected.question, expected.answer.text, hits, cited, expected.session, stages)

    def close(self) -> None:
        self.monitor.close()


def spans_of(path: Path, trace_id: str) -> list[tuple[str, str]]:
    """Stage and parent of a query's spans in the file, in order."""
    select = "SELECT stage, parent FROM spans WHERE trace = ? ORDER BY position"
    with closing(sqlite3.connect(path)) as reader:
        return reader.execute(select, (trace_id,)).fetchall()


class Pruned(Traced):
    """The same, with room for few traces: every 200 the oldest are removed."""

    keeps_all, name, most = False, "pruned.db", 30


class Judged:
    """Opinions in a ``FeedbackStore``, on the traces of ``Traced``: the trace of the same number must be written."""

    keeps_all = True

    def __init__(self, folder: Path) -> None:
        from ragkit.production.feedback import FeedbackStore

        self.traces = Traced(folder)
        self.store = FeedbackStore(self.traces.monitor, folder / "feedback.db")

    def write(self, number: int) -> None:
        chunk = answer(number).hits[0].chunk.id
        self.store.add(trace(number).id, -1, ["wrong"], correction=text(number), flagged=[chunk], who="ann")

    def whole(self, number: int) -> bool | None:
        found = self.store.history(trace(number).id)
        if not found:
            return None
        kept = [(f.thumb, f.reasons, f.correction, f.flagged, f.question, f.answer, f.who) for f in found]
        said, chunk = answer(number), answer(number).hits[0].chunk.id
        return kept == [(-1, ("wrong",), text(number).strip(), (chunk,), said.question, said.text, "ann")]

    def close(self) -> None:
        self.store.close()
        self.traces.close()


class Asked:
    """A real pipeline, its monitor and its cache: an answer that was seen has its trace and its entry."""

    keeps_all = True

    def __init__(self, folder: Path) -> None:
        from ragkit.generation import Extractive
        from ragkit.pipeline import RAGPipeline
        from ragkit.production.caching import SQLiteCache
        from ragkit.production.monitoring import TraceMonitor
        from ragkit.retrieval.bm25 import BM25Retriever

        self.monitor = TraceMonitor(folder / "asked-traces.db", otlp="")
        self.cache = SQLiteCache(folder / "asked-cache.db")
        index = BM25Retriever([Chunk("lamp", 0, 47, "Only E27 bulbs with at most 40 watts fit lamps.")])
        self.rag = RAGPipeline(index, None, Extractive(), cache=self.cache, monitor=self.monitor, identity="crash")
        self.known: dict[str, str] = {}

    def write(self, number: int) -> None:
        said = asyncio.run(self.rag.query(f"Which bulbs fit lamps? ({number})"))
        if said.abstained or self.monitor.losses or self.cache.trouble:
            raise RuntimeError(f"{said.text}; {self.monitor.losses}: {self.monitor.trouble}; {self.cache.trouble}")

    def whole(self, number: int) -> bool | None:
        if not self.known:
            rows = self.monitor.dataframe().itertuples()
            self.known = {str(row.question): str(row.trace_id) for row in rows}
        if (trace_id := self.known.get(f"Which bulbs fit lamps? ({number})")) is None:
            return None
        kept = self.monitor.trace(trace_id)
        stored = self.cache.entries.database.read("SELECT 1 FROM entries WHERE digest = ?", (kept.cache_key,))
        spans = {stage for stage, _ in spans_of(self.monitor.path, trace_id)}
        return bool(stored) and "E27" in kept.answer and {"cache", "retrieve", "build", "generate"} <= spans

    def close(self) -> None:
        self.monitor.close()
        self.cache.close()


STORES: Mapping[str, Opener] = {
    "pipeline": Asked,
    **{"plain": Plain, "traces": Traced, "pruned": Pruned, "feedback": Judged, "cache": Cached, "evicting": Evicting},
    **{"hasty": Hasty, "careless": Careless, "overwriting": Overwriting},
}
"""Everything that a child can write to, by name."""


def write(folder: Path, names: Iterable[str], first: int, count: int) -> None:
    """What the child does: write, and say so."""
    import ragkit.production.caching
    import ragkit.production.feedback
    import ragkit.production.telemetry  # noqa: F401 - or a kill while files are opened would mostly hit an import

    folder.mkdir(parents=True, exist_ok=True)
    os.write(1, b"!\n")
    stores = {name: STORES[name](folder) for name in names}
    for number in range(first, first + count):
        for name, store in stores.items():
            os.write(1, f"< {name} {number}\n".encode())
            store.write(number)
            os.write(1, f"> {name} {number}\n".encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4]))

"""One SQLite file for several threads and processes: what is written stays, and every trouble has its name."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ragkit.base import InputError
from ragkit.production.database import Database, DatabaseTrouble, statements

SCHEMA = "CREATE TABLE notes (n INTEGER PRIMARY KEY, who TEXT NOT NULL, text TEXT); CREATE INDEX by_who ON notes (who);"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "notes.db"


def database(path: Path, **settings: object) -> Database:
    return Database(path, SCHEMA, version=1, **settings)


def add(db: Database, who: str) -> None:
    db.write("INSERT INTO notes (who) VALUES (?)", (who,))


def count(db: Database) -> int:
    return int(db.read("SELECT count(*) AS n FROM notes")[0]["n"])


def fail_after(_: None) -> None:
    raise ZeroDivisionError


def fill(path: Path, who: str, times: int) -> None:
    with database(path, patience=20) as db:
        for _ in range(times):
            add(db, who)


def test_it_is_made_on_first_use_private_and_in_wal_mode(path):
    with database(path) as db:
        assert not path.exists()
        add(db, "a")
        assert db.read("PRAGMA journal_mode")[0][0] == "wal"
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    with database(path) as again:
        assert count(again) == 1


@pytest.mark.parametrize(("durable", "level"), [(False, 1), (True, 2)])
def test_durable_waits_for_the_disk(path, durable, level):
    with database(path, durable=durable) as db, db.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == level


def test_a_transaction_is_all_or_nothing(path):
    with database(path) as db:
        with pytest.raises(ZeroDivisionError), db.transaction():
            fail_after(add(db, "a"))
        assert count(db) == 0
        with db.transaction():
            add(db, "a")
            with db.transaction():
                add(db, "b")
            assert count(db) == 0
        assert count(db) == 2


def test_an_error_of_a_statement_stays_what_it_is(path):
    with database(path) as db:
        with pytest.raises(sqlite3.IntegrityError):
            db.write("INSERT INTO notes (who) VALUES (NULL)")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            db.read("SELECT * FROM unknown")
        with pytest.raises(DatabaseTrouble):  # to read is not to write
            db.read("INSERT INTO notes (who) VALUES ('a') RETURNING n")
        add(db, "a")
        assert count(db) == 1


def test_threads_share_it(path):
    with database(path, patience=0) as db, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: add(db, str(i)), range(400)))
        assert count(db) == 400
        assert len(db.read("SELECT DISTINCT who FROM notes")) == 400


def test_processes_share_it(path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=fill, args=(path, name, 100)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with database(path) as db:
        assert [tuple(r) for r in db.read("SELECT who, count(*) FROM notes GROUP BY who")] == [
            ("a", 100),
            ("b", 100),
            ("c", 100),
        ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_it_for_itself(path):
    with database(path) as db:
        add(db, "parent")
        with db.transaction():
            child = os.fork()
            if child == 0:  # while the parent holds its locks
                rows = count(db)
                os._exit(7 if rows == 1 else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            add(db, "parent")
        child = os.fork()
        if child == 0:
            add(db, "child")
            db.close()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert count(db) == 3
        assert db.read("PRAGMA integrity_check")[0][0] == "ok"


def test_it_can_be_handed_to_a_spawned_process(path):
    with database(path, patience=3) as db:
        add(db, "a")
        with ThreadPoolExecutor(1):
            process = multiprocessing.get_context("spawn").Process(target=add, args=(db, "b"))
            process.start()
            process.join()
        assert process.exitcode == 0
        assert count(db) == 2


def test_what_was_written_survives_a_kill(path):
    script = (
        "import sys; from ragkit.production.database import Database\n"
        f"db = Database({str(path)!r}, {SCHEMA!r}, version=1)\n"
        "for i in range(10**6):\n"
        "    db.write('INSERT INTO notes (who) VALUES (?)', (str(i),)); print(i, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    told = len(lines) + len(writer.stdout.read().splitlines())
    writer.wait()
    with database(path) as db:
        assert told <= count(db) <= told + 1
        assert db.read("PRAGMA integrity_check")[0][0] == "ok"


def test_a_locked_file_is_waited_for_and_then_told(path):
    with database(path, patience=0.1) as db:
        add(db, "a")
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(DatabaseTrouble, match=r"notes\.db: locked by another program") as told:
            add(db, "b")
        assert 0.1 <= time.monotonic() - began < 5
        assert (told.value.kind, told.value.path) == ("locked", path)
        assert count(db) == 1  # a reader need not wait
        threading.Timer(0.02, other.execute, ("COMMIT",)).start()
        db.patience = 5
        with database(path, patience=5) as patient:
            add(patient, "c")
        other.close()
        add(db, "d")
        assert count(db) == 3


def test_a_file_that_is_locked_before_it_is_opened(path):
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (x)")
    other.execute("BEGIN EXCLUSIVE")
    db = database(path, patience=0)
    with pytest.raises(DatabaseTrouble) as told:
        add(db, "a")
    assert told.value.kind == "locked"
    other.execute("DROP TABLE t")
    other.execute("COMMIT")
    add(db, "a")
    assert count(db) == 1


def test_a_full_disk(path):
    with database(path) as db:
        add(db, "a")
        with db.transaction() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DatabaseTrouble, match="free some space") as told:
            db.write("INSERT INTO notes (who, text) VALUES ('b', ?)", ("x" * 100_000,))
        assert told.value.kind == "full"
        add(db, "c")  # what still fits is written
        assert [r["who"] for r in db.read("SELECT who FROM notes")] == ["a", "c"]


@pytest.mark.parametrize("content", [b"not a database" * 300, b"x", b"\0" * 8192])
def test_a_file_that_is_not_sqlite_is_left_as_it_is(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with database(path) as db, pytest.raises(DatabaseTrouble) as told:
        add(db, "a")
    assert told.value.kind == "foreign"
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["notes.db"]


def test_a_damaged_file_is_told_and_left(path):
    with database(path) as db:
        for i in range(200):
            db.write("INSERT INTO notes (who, text) VALUES (?, ?)", (str(i), "x" * 500))
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    path.write_bytes(content)
    with database(path) as db:
        with pytest.raises(DatabaseTrouble, match="move it away") as told:
            db.read("SELECT who, text FROM notes ORDER BY who")
        with pytest.raises(DatabaseTrouble):
            db.write("DELETE FROM notes")
    assert told.value.kind == "corrupt"
    assert path.read_bytes() == bytes(content)


def test_another_programs_database_is_not_touched(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE cookies (x)")
    before = path.read_bytes()
    with database(path) as db, pytest.raises(DatabaseTrouble, match="application_id 0x0") as told:
        add(db, "a")
    assert told.value.kind == "foreign"
    assert path.read_bytes() == before


def test_a_file_of_another_version_or_another_part_is_refused(path):
    with database(path) as db:
        add(db, "a")
    with (
        Database(path, SCHEMA, version=2) as newer,
        pytest.raises(DatabaseTrouble, match="schema 1, expected 2") as told,
    ):
        count(newer)
    assert told.value.kind == "version"
    with Database(path, "CREATE TABLE others (x);", version=1) as other, pytest.raises(DatabaseTrouble) as told:
        other.read("SELECT * FROM others")
    assert told.value.kind == "foreign"
    assert "others" in str(told.value)


def test_a_folder_that_cannot_be_written(path):
    path.parent.write_text("a file stands where the folder should be")
    with database(path) as db, pytest.raises(DatabaseTrouble, match="can't be written") as told:
        add(db, "a")
    assert told.value.kind == "read-only"
    with database(path.parent.parent) as db, pytest.raises(DatabaseTrouble):
        add(db, "a")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights(path):
    path.parent.mkdir(mode=0o500)
    with database(path) as db, pytest.raises(DatabaseTrouble) as told:
        add(db, "a")
    assert told.value.kind == "read-only"


def test_an_emptied_file_keeps_the_log_beside_it(path):
    with database(path) as db:
        add(db, "a")
        log = Path(f"{path}-wal")
        kept = log.read_bytes()
        assert kept
        path.unlink()
        path.touch()
        log.write_bytes(kept)
        with database(path) as other, pytest.raises(DatabaseTrouble, match="it is empty, but"):
            other.read("SELECT 1")
        assert log.read_bytes() == kept


def test_a_removed_file_is_made_again_and_does_not_swallow_what_is_written(path):
    with database(path) as db:
        add(db, "a")
        for file in path.parent.iterdir():
            file.unlink()
        add(db, "b")
        with database(path) as other:
            assert [r["who"] for r in other.read("SELECT who FROM notes")] == ["b"]


def test_a_closed_one_says_so(path):
    db = database(path)
    add(db, "a")
    db.close()
    db.close()
    with pytest.raises(DatabaseTrouble, match="closed") as told:
        count(db)
    assert told.value.kind == "closed"


def test_statements_keep_triggers_whole():
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; DELETE FROM a WHERE x = ';'; END;"
    assert statements(f"CREATE TABLE a (x);\n{trigger}") == ["CREATE TABLE a (x);", trigger]


@pytest.mark.parametrize("bad", [{"version": 0}, {"version": 1, "patience": -1}])
def test_bad_settings_are_refused(path, bad):
    with pytest.raises(InputError, match="expected 1 or more"):
        Database(path, SCHEMA, **bad)

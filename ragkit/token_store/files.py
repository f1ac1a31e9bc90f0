"""A token store on disk: four flat arrays with one row per token, and one line per document.

::

    vectors.i8       (rows, d)   contextual token vectors, times 127 over the largest component
    scales.f32       (rows,)     what to multiply them with
    ids.i32          (rows,)     vocabulary ids (-1 on the rows that pad a document to full blocks)
    offsets.i32      (rows, 2)   character offsets
    documents.jsonl              {"sha256", "row", "tokens", "chars"} of each document
    build.json                   settings and corpus, written first: whose build this is
    manifest.json                settings, and the sha256 of all files, written last

While a store is built its name ends in ``.partial``. Rows are appended first and the document's line last, so
after a kill the next build of the same settings and corpus cuts off what has no line and goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.embedding import Ids
from ragkit.files import atomic_folder, check_replaceable
from ragkit.token_store.sums import BLOCK

LINES = "documents.jsonl"
_STARTED = "build.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a document's tokens are."""

    sha256: str
    row: int
    tokens: int
    chars: int

    @property
    def padded(self) -> int:
        """Rows, with those that fill the last block."""
        return -(-self.tokens // BLOCK) * BLOCK


@dataclass(frozen=True)
class Rows:
    """The arrays of a store, mapped into memory, and its documents by sha256."""

    vectors: NDArray[np.int8]
    scales: NDArray[np.float32]
    ids: Ids
    offsets: NDArray[np.int32]
    entries: Mapping[str, Entry]

    @classmethod
    def open(cls, folder: Path, dimension: int) -> Rows:
        """The arrays of the finished store in ``folder`` (checked by the caller)."""
        vectors, scales, ids, offsets = (_map(folder / name, dtype, width) for name, dtype, width in _layout(dimension))
        return cls(vectors, scales, ids, offsets, read_entries(folder))


def _layout(dimension: int) -> list[tuple[str, type, int]]:
    """File name, number format and numbers a row, in the order of the fields of ``Rows``."""
    return [
        ("vectors.i8", np.int8, dimension),
        ("scales.f32", np.float32, 1),
        ("ids.i32", np.int32, 1),
        ("offsets.i32", np.int32, 2),
    ]


def _map(path: Path, dtype: type, width: int) -> NDArray[Any]:
    shape = (-1, width) if width > 1 else (-1,)
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.zeros((0, width) if width > 1 else 0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r")).reshape(shape)


def read_entries(folder: Path) -> dict[str, Entry]:
    """The documents of a store, up to the first line that a kill or a disk spoiled."""
    entries: dict[str, Entry] = {}
    if (folder / LINES).is_file():
        for line in (folder / LINES).read_bytes().split(b"\n")[:-1]:
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError):
                break
            entries[entry.sha256] = entry
    return entries


def own_files(folder: Path) -> list[str]:
    """The names of a store's files, if a build began in ``folder``: these are ragkit's, even without a manifest."""
    return [*(name for name, _, _ in _layout(1)), LINES, _STARTED] if _read_started(folder) else []


def begin(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make ``folder`` one in which a build of ``settings`` goes on: it is emptied if it holds another build.

    Raises:
        InputError: it holds files that are not ragkit's.
    """
    own = own_files(folder)
    check_replaceable(folder, own)
    if _read_started(folder) != settings:
        with atomic_folder(folder, own) as fresh:
            (fresh / _STARTED).write_text(json.dumps(dict(settings)))


def _read_started(folder: Path) -> dict[str, Any]:
    """The settings of the build that began in ``folder``; empty where there is none."""
    try:
        settings = json.loads((folder / _STARTED).read_bytes())
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) and {"format", "encoder", "fingerprint"} <= settings.keys() else {}


class Writer:
    """Appends rows and documents to a ``.partial`` folder, from where an earlier build left off (see ``begin``)."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self.folder = folder
        self._layout = [(folder / name, np.dtype(dtype), width) for name, dtype, width in _layout(dimension)]
        self.entries = read_entries(folder)
        for path, dtype, width in self._layout:
            path.touch()
            if path.stat().st_size < self.rows * width * dtype.itemsize:  # rows lost, as in a power failure
                self.entries = {}
        for path, dtype, width in self._layout:
            os.truncate(path, self.rows * width * dtype.itemsize)
        (folder / LINES).write_bytes(b"".join(_line(entry) for entry in self.entries.values()))

    @property
    def rows(self) -> int:
        """The number of rows that belong to finished documents."""
        return max((entry.row + entry.padded for entry in self.entries.values()), default=0)

    def append(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Write rows; they count once their document is finished."""
        for (path, dtype, _), array in zip(self._layout, arrays, strict=True):
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(array, dtype=dtype).data)

    def finish(self, documents: Iterable[Entry]) -> None:
        """Make all rows so far safe, then add the lines of ``documents``, which are the ones in them."""
        for path, _, _ in self._layout:
            with path.open("ab") as file:
                os.fsync(file.fileno())
        with (self.folder / LINES).open("ab") as file:
            for entry in documents:
                self.entries[entry.sha256] = entry
                file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())


def _line(entry: Entry) -> bytes:
    return json.dumps(asdict(entry)).encode() + b"\n"

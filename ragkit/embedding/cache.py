"""Vectors that were paid for once, in time or in money, on disk: a cache in front of any embedder.

::

    <home>/vectors/<key of model and kind>/about.json               whose vectors these are
                                           <sha256 of the file>.npy records (key, vector); never changed

A record's key is the sha256 of model identity, kind and text. A file is written whole and then renamed, and its name
is the sha256 of its bytes: so a kill leaves nothing half written, and a flipped bit is found when the file is opened.
What a damaged file held is encoded again. Processes that need vectors of the same model and kind take turns, so no
text is paid for twice.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ragkit.base import ContractError, Embedder, InputError, Kind, Vectors
from ragkit.files import atomic_write, home, lock, sha256_file

MAX_BYTES = 2_000_000_000
ABOUT = "about.json"
_FILES = 64  # more small files than these are made into one
_GROUP = 256  # texts that are encoded between two writes
_SHOWN = 64  # with fewer texts to encode there is no progress bar

Records = NDArray[np.void]


@runtime_checkable
class Batched(Protocol):
    """An embedder that says which runs of texts it sends as one request: each is kept as soon as it is paid."""

    def batches(self, texts: Sequence[str]) -> Iterator[range]: ...


class CachedEmbedder:
    """``inner`` with a memory on disk. Equal texts are encoded once, in this call, this process or any other.

    ``identity`` is that of ``inner``, as the vectors are. ``encoded`` counts the texts that ``inner`` was given so far.
    Several threads and processes may use it.

    Args:
        inner: any embedder.
        folder: None is ``vectors`` below ``ragkit.files.home()``.
        max_bytes: when the folder grows past this, the files that were not used for longest go.
        progress: show a bar while more than a few texts are encoded.

    Raises:
        InputError: ``max_bytes`` is less than 1.
    """

    def __init__(
        self, inner: Embedder, folder: Path | None = None, *, max_bytes: int = MAX_BYTES, progress: bool = True
    ) -> None:
        if max_bytes < 1:
            raise InputError(f"max_bytes = {max_bytes}: expected 1 or more")
        self.inner, self.max_bytes, self.progress = inner, max_bytes, progress
        self.name, self.identity = inner.name, inner.identity
        self.folder = home() / "vectors" if folder is None else Path(folder)
        self.encoded = 0
        kinds: tuple[Kind, ...] = ("query", "passage")
        about = {"model": self.name, "identity": self.identity}
        self._shelves = {kind: Shelf(self.folder, {**about, "kind": kind}) for kind in kinds}

    def __repr__(self) -> str:
        return f"CachedEmbedder({self.inner!r})"

    @property
    def dimension(self) -> int:
        return max(shelf.dimension for shelf in self._shelves.values()) or self.inner.dimension

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        """Unit vectors ``(len(texts), dimension)``, from disk where they are there.

        Raises:
            ContractError: ``inner`` gave another number of vectors than it was given texts.
            RagkitError: whatever ``inner`` raises; what it encoded before that is kept.
        """
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        keys = [self._key(text, kind) for text in texts]
        shelf = self._shelves[kind]
        with shelf.turn:
            if not all(key in shelf for key in keys):
                shelf.refresh()
            if all(key in shelf for key in keys):
                return shelf.take(keys)
            with lock(shelf.folder / ".lock"):
                shelf.refresh()  # what another process wrote meanwhile
                self._pay(shelf, _missing(shelf, texts, keys), kind)
            vectors = shelf.take(keys)
        prune(self.max_bytes, self.folder)
        return vectors

    def _pay(self, shelf: Shelf, texts: Sequence[str], kind: Kind) -> None:
        from tqdm.auto import tqdm

        runs = self.inner.batches(texts) if isinstance(self.inner, Batched) else _runs(len(texts))
        quiet = not self.progress or len(texts) < _SHOWN
        # Where it is shown, nothing is said about `disable`, so that the environment (TQDM_DISABLE) can still say no.
        start = partial(tqdm, disable=True) if quiet else tqdm
        with start(total=len(texts), desc=f"encoding, {self.name}", unit=" texts") as bar:
            for run in runs:
                part = [texts[i] for i in run]
                vectors = self.inner.encode(part, kind)
                expected = (len(part), shelf.dimension or vectors.shape[-1])
                if vectors.shape != expected:
                    raise ContractError(f"{self.name} gave vectors {vectors.shape}, expected {expected}; none is kept")
                self.encoded += len(part)
                shelf.add([self._key(text, kind) for text in part], vectors)
                bar.update(len(part))
        shelf.tidy()

    def _key(self, text: str, kind: Kind) -> bytes:
        told = json.dumps([self.identity, kind]).encode() + b"\n" + text.encode("utf-8", "surrogatepass")
        return hashlib.sha256(told).digest()


class Shelf:
    """The vectors of one model and kind: what is on disk, mapped into memory, and where each key is."""

    def __init__(self, folder: Path, about: Mapping[str, str]) -> None:
        name = hashlib.sha256(json.dumps([about["identity"], about["kind"]]).encode()).hexdigest()[:16]
        self.folder = folder / name
        self.turn = RLock()
        self._about = dict(about)
        self._tables: dict[Path, Records] = {}
        self._where: dict[bytes, tuple[Path, int]] = {}

    @property
    def dimension(self) -> int:
        """The length of the vectors; 0 while there are none."""
        return next((int(table["vector"].shape[1]) for table in self._tables.values()), 0)

    def __contains__(self, key: bytes) -> bool:
        return key in self._where

    def refresh(self) -> None:
        """Take in the files that are new, and forget those that are gone."""
        found = set(self.folder.glob("*.npy"))
        for path in self._tables.keys() - found:
            self._forget(path)
        for path in found - self._tables.keys():
            self._open(path)

    def add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Write one file with these vectors."""
        records = np.zeros(len(keys), dtype=[("key", "V32"), ("vector", "<f4", vectors.shape[1:])])
        records["key"] = np.frombuffer(b"".join(keys), dtype="V32")
        records["vector"] = vectors
        self._write(records)

    def take(self, keys: Sequence[bytes]) -> Vectors:
        """The vectors of ``keys``, all of which must be here."""
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for i, key in enumerate(keys):
            path, row = self._where[key]
            wanted.setdefault(path, []).append((i, row))
        out: Vectors = np.zeros((len(keys), self.dimension), dtype=np.float32)
        for path, places in wanted.items():
            out[[i for i, _ in places]] = self._tables[path]["vector"][[row for _, row in places]]
            with suppress(OSError):  # so that pruning sees what was used
                os.utime(path)
        return out

    def tidy(self) -> None:
        """Make many small files into one; the caller holds the lock."""
        if len(self._tables) <= _FILES:
            return
        old = list(self._tables)
        self._write(np.concatenate([self._tables[path] for path in old]))
        for path in old:
            self._forget(path)
            path.unlink(missing_ok=True)

    def _write(self, records: Records) -> None:
        buffer = io.BytesIO()
        np.save(buffer, records, allow_pickle=False)
        data = buffer.getvalue()
        path = self.folder / f"{hashlib.sha256(data).hexdigest()}.npy"
        if not (self.folder / ABOUT).is_file():
            atomic_write(self.folder / ABOUT, json.dumps(self._about, indent=1).encode())
        atomic_write(path, data)
        self._learn(path, records)

    def _open(self, path: Path) -> None:
        """Map a file, after its bytes were compared with its name; a damaged one is removed."""
        try:
            if sha256_file(path) != path.stem:
                path.unlink(missing_ok=True)
                return
            records: Records = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:  # another process pruned it just now
            return
        self._learn(path, records)

    def _learn(self, path: Path, records: Records) -> None:
        self._tables[path] = records
        for row, key in enumerate(records["key"].tolist()):
            self._where[key] = (path, row)

    def _forget(self, path: Path) -> None:
        self._tables.pop(path, None)
        self._where = {key: place for key, place in self._where.items() if place[0] != path}


def _missing(shelf: Shelf, texts: Sequence[str], keys: Sequence[bytes]) -> list[str]:
    """Each text that is not on the shelf once, sorted by length so that batches need little padding."""
    return sorted({text: None for text, key in zip(texts, keys, strict=True) if key not in shelf}, key=len)


def _runs(n: int) -> Iterator[range]:
    for start in range(0, n, _GROUP):
        yield range(start, min(n, start + _GROUP))


def stored(folder: Path | None = None) -> list[dict[str, Any]]:
    """What the cache holds: ``model``, ``kind``, ``identity``, ``bytes`` and ``used`` (seconds since 1970), largest
    first."""
    found = []
    for about in sorted((home() / "vectors" if folder is None else folder).glob(f"*/{ABOUT}")):
        files = [file.stat() for file in about.parent.glob("*.npy")]
        with suppress(ValueError, OSError):
            told = json.loads(about.read_bytes())
            size, used = sum(f.st_size for f in files), max((f.st_mtime for f in files), default=0.0)
            if files:
                found.append({**told, "bytes": size, "used": used})
    return sorted(found, key=lambda shelf: (-shelf["bytes"], shelf["identity"], shelf["kind"]))


def prune(max_bytes: int, folder: Path | None = None) -> int:
    """Remove the files that were not used for longest until at most ``max_bytes`` are left; the bytes that went."""
    files = []
    for path in (home() / "vectors" if folder is None else folder).glob("*/*.npy"):
        with suppress(OSError):
            files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
    excess, gone = sum(size for _, size, _ in files) - max_bytes, 0
    for _, size, path in sorted(files):
        if gone >= excess:
            break
        with suppress(OSError):  # another process was first, or Windows has it open
            path.unlink()
            gone += size
    return gone

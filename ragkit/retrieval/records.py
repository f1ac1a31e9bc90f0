"""Chunks on disk, one JSON line each, for the indexes that are saved with their chunks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ragkit.base import Chunk


def write_chunks(path: Path, chunks: Sequence[Chunk]) -> None:
    """Write ``chunks`` in order; metadata must be JSON."""
    with path.open("w", encoding="ascii") as file:  # JSON escapes keep even lone surrogates
        for c in chunks:
            file.write(json.dumps([c.doc_id, c.start, c.end, c.text, c.section, dict(c.metadata)]) + "\n")


def read_chunks(path: Path) -> list[Chunk]:
    """The chunks that ``write_chunks`` wrote to ``path``."""
    with path.open(encoding="ascii") as file:
        rows = (json.loads(line) for line in file)
        return [Chunk(doc, start, end, text, tuple(section), meta) for doc, start, end, text, section, meta in rows]

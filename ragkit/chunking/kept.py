"""Chunks that were cut before, from disk: cutting ``core`` takes seconds, reading where to cut a tenth of one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from pathlib import Path

from ragkit.base import Chunk, Chunker, Corpus, IntegrityError
from ragkit.chunking.contract import chunk_corpus
from ragkit.files import atomic_folder, home, read_manifest, write_manifest

_FILE = "chunks.json"


def kept_chunks(chunker: Chunker, corpus: Corpus) -> list[Chunk]:
    """``chunk_corpus(chunker, corpus)``, remembered below ``storage.home()``.

    Only positions and sections are kept; the text is the corpus' own, so it cannot be stale. The key holds the
    corpus, the chunker's class and settings, and the code of this package. A chunker that is no dataclass shows
    no settings and is not remembered.

    Raises:
        ContractError: as ``chunk_corpus``.
    """
    if not is_dataclass(chunker):
        return chunk_corpus(chunker, corpus)
    settings = {f.name: getattr(chunker, f.name) for f in fields(chunker)}
    told = {name: str(getattr(value, "identity", value)) for name, value in settings.items()}
    key = hashlib.sha256(json.dumps([type(chunker).__name__, told, corpus.fingerprint, _code()]).encode()).hexdigest()
    folder = home() / "chunks" / key[:16]
    try:
        read_manifest(folder, {"key": key})
        rows = json.loads((folder / _FILE).read_bytes())
    except IntegrityError:
        chunks = chunk_corpus(chunker, corpus)
        with atomic_folder(folder) as fresh:
            (fresh / _FILE).write_text(json.dumps([[c.doc_id, c.start, c.end, c.section] for c in chunks]))
            write_manifest(fresh, {"key": key})
        return chunks
    return [_chunk(corpus, doc_id, start, end, tuple(section)) for doc_id, start, end, section in rows]


def _chunk(corpus: Corpus, doc_id: str, start: int, end: int, section: tuple[str, ...]) -> Chunk:
    document = corpus.document(doc_id)
    return Chunk(doc_id, start, end, document.text[start:end], section, document.metadata)


def _code() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

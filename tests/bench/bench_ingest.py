"""How many chunks a second become Parquet shards: one and two workers, as processes and as actors of Ray Data.

Each run is a ``ragkit ingest`` of its own from start to end: Python, Ray, and a model in each worker begin anew, which
is most of a run of one document, so a longer run is faster. Documents are short ones of ``core``; a chunk has 256
tokens, of which it shares 32; each worker computes with one thread, so two workers need two free cores.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ragkit.corpus import load_pydocs

Row = tuple[str, float, str, str]
DOCUMENTS, LONGEST = 286, 12_000  # characters


def ingested(folder: Path, *options: str) -> tuple[float, int]:
    """Seconds of a run, and the chunks that it made."""
    with tempfile.TemporaryDirectory() as temporary:
        environment = os.environ | {"RAGKIT_HOME": f"{temporary}/home", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "ragkit.cli", "ingest", str(folder), "--out", f"{temporary}/out", *options]
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
    return seconds, int(re.findall(r"(\d+) chunks", done.stdout)[0])


def main() -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        many, one = Path(temporary, "many"), Path(temporary, "one")
        documents = [d for d in load_pydocs("core").documents if len(d.text) < LONGEST][:DOCUMENTS]
        for folder, texts in ((many, documents), (one, documents[:1])):
            folder.mkdir()
            for number, document in enumerate(texts):
                (folder / f"{number}.md").write_text(document.text)
        for name, ray in (("processes", []), ("actors of Ray Data", ["--ray"])):
            for workers in ("1", "2"):
                seconds, chunks = ingested(many, "--workers", workers, *ray)
                rows.append((f"{name}, {workers} at work", chunks / seconds, "chunks/s", ""))
            rows.append((f"{name}, 2 at work: a run of one document", ingested(one, *ray)[0], "s", ""))
    return [(f"chunks of {len(documents)} documents", chunks, "chunks", ""), *rows]

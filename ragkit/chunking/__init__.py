"""Cutting documents into chunks, with exact character offsets.

Sizes count in tokens of the embedding model. Whatever the chunker and the document:

- ``document.text[c.start:c.end] == c.text``, and chunk starts strictly increase;
- every visible character of the document is in some chunk;
- no chunk has more than ``size`` tokens (tokens of the document that begin within it);
- the same document gives the same chunks.

The chunkers are our own because the libraries tokenize again for every size (seconds instead of a tenth of
one, too slow for a slider) or find offsets afterwards by searching for the text.
"""

from ragkit.chunking.chunkers import FixedChunker, HeadingChunker, RecursiveChunker, SemanticChunker, SentenceChunker
from ragkit.chunking.contract import check_chunks, chunk_corpus

__all__ = [
    "FixedChunker",
    "HeadingChunker",
    "RecursiveChunker",
    "SemanticChunker",
    "SentenceChunker",
    "check_chunks",
    "chunk_corpus",
]

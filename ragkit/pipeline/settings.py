"""How text is cut, hits are reranked and questions are rewritten, as a configuration says it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ragkit.base import Chunker, Document, InputError, Mean, Reranker, Rewriter
from ragkit.chunking import FixedChunker, HeadingChunker, RecursiveChunker, SemanticChunker, SentenceChunker
from ragkit.retrieval.rerank import CrossEncoder, LateInteraction
from ragkit.rewriting import Acronyms, Identifiers, Spelling
from ragkit.token_store import TokenStore


def one_of(value: str, allowed: Sequence[str], what: str) -> None:
    """Refuse a word that is not ``allowed``.

    Raises:
        InputError: names those that are.
    """
    if value not in allowed:
        raise InputError(f"{what} = {value!r}: expected one of {', '.join(map(repr, allowed))}")


@dataclass(frozen=True)
class Chunking:
    """``chunker`` is fixed, sentence, recursive, heading or semantic; ``size`` and ``overlap`` in tokens."""

    chunker: str = "fixed"
    size: int = 512
    overlap: int = 64

    def __post_init__(self) -> None:
        one_of(self.chunker, ("fixed", "sentence", "recursive", "heading", "semantic"), "chunker")

    def build(self, store: TokenStore) -> Chunker:
        """The chunker.

        Raises:
            InputError: a size or an overlap that it refuses.
        """
        if self.chunker == "semantic":
            return SemanticChunker(store, self.size, self.overlap)
        classes: dict[str, Callable[[int, int], Chunker]] = {
            "fixed": FixedChunker,
            "sentence": SentenceChunker,
            "recursive": RecursiveChunker,
            "heading": HeadingChunker,
        }
        return classes[self.chunker](self.size, self.overlap)


@dataclass(frozen=True)
class LateInteractionSettings:
    """``LateInteraction`` over the token store."""

    mean: Mean = "geometric"
    doubt: float = 0.5

    def build(self, store: TokenStore) -> Reranker:
        return LateInteraction(store, self.mean, self.doubt)


@dataclass(frozen=True)
class CrossEncoderSettings:
    """``CrossEncoder``: a sentence-transformers model by its name or folder."""

    name: str

    def build(self, store: TokenStore) -> Reranker:
        return CrossEncoder(self.name)


RERANKERS: dict[str, type[Any]] = {"late interaction": LateInteractionSettings, "cross-encoder": CrossEncoderSettings}
"""The kinds of rerankers by their names in a configuration."""


REWRITERS: dict[str, Callable[[Sequence[Document]], Rewriter]] = {
    "spelling": Spelling.of,
    "acronyms": Acronyms.of,
    "identifiers": Identifiers.of,
}
"""The rewriters by their names in a configuration; each is made from the documents."""

"""The contract of a chunker, checked: whoever wrote it, a chunk that breaks a rule is found where it happens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragkit.base import Chunk, Chunker, ContractError, Corpus, Document, Tokenizer
from ragkit.chunking.layout import layout_of


def check_chunks(
    document: Document, chunks: Sequence[Chunk], size: int | None = None, tokenizer: Tokenizer | None = None
) -> None:
    """Refuse chunks that break the contract.

    1. ``document.text[c.start:c.end] == c.text``, not blank, and ``c.doc_id`` is the document's.
    2. Starts strictly increase.
    3. Every visible (non-whitespace) character is in some chunk.
    4. With ``size`` and ``tokenizer``: at most ``size`` tokens. A chunk has the tokens of its document that
       begin within it. One character that alone has more tokens is let through, as it cannot be cut.

    Raises:
        ContractError: names the rule, the chunk and the position in the text.
    """
    text, name = document.text, f"chunks of {document.id!r}"
    covered, previous = 0, -1
    for number, chunk in enumerate(chunks):
        start, end = chunk.start, chunk.end
        where = f"{name}: chunk {number} at characters [{start}, {end})"
        if chunk.doc_id != document.id:
            raise ContractError(f"{where} belongs to {chunk.doc_id!r}: expected {document.id!r}")
        if not 0 <= start < end <= len(text):
            raise ContractError(f"{where}: expected 0 <= start < end <= {len(text)}, the length of the text")
        if len(chunk.text) != end - start or not text.startswith(chunk.text, start):
            at = start + _first_difference(text[start:end], chunk.text)
            raise ContractError(f"{where}: its text is not the document's, first at position {at}")
        if chunk.text.isspace():
            raise ContractError(f"{where} is blank: leave it out")
        if start <= previous:
            raise ContractError(f"{where} does not start after the chunk before it, which starts at {previous}")
        _check_gap(text, covered, start, name)
        covered, previous = max(covered, end), start
    _check_gap(text, covered, len(text), name)
    if size is not None and tokenizer is not None:
        _check_sizes(document, chunks, size, tokenizer)


def chunk_corpus(chunker: Chunker, corpus: Corpus) -> list[Chunk]:
    """The chunks of all documents, in order, each document checked by ``check_chunks``.

    Sizes are checked where the chunker has ``size`` and ``tokenizer``, as all of ragkit's have.

    Raises:
        ContractError: the chunker lost text, changed it, or cut too long; the message has the position.
    """
    size, tokenizer = getattr(chunker, "size", None), getattr(chunker, "tokenizer", None)
    chunks: list[Chunk] = []
    for document in corpus.documents:
        own = chunker.chunk(document)
        check_chunks(document, own, size, tokenizer)
        chunks += own
    return chunks


def _check_sizes(document: Document, chunks: Sequence[Chunk], size: int, tokenizer: Tokenizer) -> None:
    layout = layout_of(document, tokenizer)
    sizes = layout.count([c.start for c in chunks], [c.end for c in chunks])
    for number in np.flatnonzero(sizes > size).tolist():
        chunk, first = chunks[number], int(layout.positions([chunks[number].start])[0])
        if layout.starts[first] != layout.starts[first + sizes[number] - 1]:
            raise ContractError(
                f"chunks of {document.id!r}: chunk {number} at characters [{chunk.start}, {chunk.end}) "
                f"has {sizes[number]} tokens: expected at most {size}"
            )


def _check_gap(text: str, start: int, end: int, name: str) -> None:
    if start < end and (lost := text[start:end].strip()):
        at = text.index(lost, start)
        raise ContractError(f"{name}: the text {lost[:40]!r} at position {at} is in no chunk")


def _first_difference(expected: str, found: str) -> int:
    pairs = enumerate(zip(expected, found, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(expected), len(found)))

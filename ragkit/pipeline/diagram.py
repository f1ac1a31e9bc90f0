"""A pipeline drawn: as a tree in a terminal, as a diagram in a notebook (JupyterLab renders Mermaid by itself)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from ragkit.base import Chunk, Retriever
from ragkit.tokens import minilm_tokenizer


@dataclass(frozen=True)
class Node:
    """One part of a pipeline: what it is, and the parts that it asks, each with the word on the line to it."""

    label: str
    parts: tuple[tuple[str, Node], ...] = ()

    def nodes(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for _, part in self.parts:
            yield from part.nodes()

    def lines(self, first: str = "", rest: str = "") -> Iterator[str]:
        """The tree below this node, a line each."""
        yield first + self.label
        for i, (word, part) in enumerate(self.parts, 1):
            branch, below = ("└─ ", "   ") if i == len(self.parts) else ("├─ ", "│  ")
            yield from part.lines(rest + branch + (f"{word}: " if word else ""), rest + below)


@dataclass(frozen=True, repr=False)
class Diagram:
    """What ``RAGPipeline.describe`` returns: shown by itself as the last value of a cell, text by ``str``.

    >>> leaf = Node("BM25Retriever (2 chunks)")
    >>> print(Diagram((Node("vector_store: Hybrid", (("", leaf), ("", leaf))), Node("llm: Extractive"))))
    vector_store: Hybrid
    ├─ BM25Retriever (2 chunks)
    └─ BM25Retriever (2 chunks)
    llm: Extractive
    """

    stages: tuple[Node, ...]

    def __repr__(self) -> str:
        return "\n".join(line for stage in self.stages for line in stage.lines())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/vnd.mermaid": self.mermaid()}

    def mermaid(self) -> str:
        """The diagram in Mermaid's language: the stages from left to right, what each asks hanging below it."""
        lines = ["flowchart LR"]
        ids = [_draw(stage, lines) for stage in self.stages]
        return "\n".join([*lines, f"    {' ==> '.join(['question([question])', *ids, 'answer([answer])'])}"])


def _draw(node: Node, lines: list[str]) -> str:
    """Add ``node`` and all below it to ``lines``; its id."""
    name = f"n{len(lines)}"
    lines.append(f'    {name}["{_quoted(node.label)}"]')
    for word, part in node.parts:
        below = _draw(part, lines)
        lines.append(f"    {name} -.->" + (f'|"{_quoted(word)}"| ' if word else " ") + below)
    return name


def _quoted(text: str) -> str:
    """Text as Mermaid reads it between quotation marks: its own marks, and what would be markup, as entities."""
    return "".join(c if c.isalnum() or c in " .,:()-+_/=" else f"#{ord(c)};" for c in text)


def tree(retriever: Retriever) -> Node:
    """The node of ``retriever``, with the retrievers that it holds below it. Any retriever will do, also your own."""
    return Node(_label(retriever), tuple((word, tree(part)) for word, part in parts_of(retriever)))


def parts_of(retriever: Retriever) -> Collection[tuple[str, Retriever]]:
    """The retrievers that ``retriever`` holds, each once; with its name where they are held by name."""
    held: dict[int, tuple[str, Retriever]] = {}  # a router holds its routes twice
    for attribute, value in vars(retriever).items():
        if isinstance(value, list | tuple):
            pairs = [("", each) for each in value]
        else:
            pairs = list(value.items()) if isinstance(value, Mapping) else [(attribute, value)]
        for name, part in pairs:
            if isinstance(part, Retriever):
                held.setdefault(id(part), ("" if name == "retriever" else str(name), part))
    return held.values()


def chunks_of(retriever: Retriever) -> Sequence[Chunk]:
    """The chunks of ``retriever``, or the most that one within it shows as its ``chunks``; none if no one does."""
    chunks = getattr(retriever, "chunks", ())
    own = chunks if isinstance(chunks, Sequence) else ()
    return max([own, *(chunks_of(part) for _, part in parts_of(retriever))], key=len)


def cutting_of(chunks: Sequence[Chunk]) -> str:
    """How ``chunks`` are cut: how many, their tokens, and those shared with the next one (medians of about 100).

    >>> cutting_of([Chunk("a", 0, 11, "one two six"), Chunk("a", 8, 15, "six ten")])
    '2, about 2 tokens each, 1 shared with the next'
    """
    count = minilm_tokenizer().count
    some = range(0, len(chunks), len(chunks) // 100 + 1)
    shared = [
        count(a.text[max(0, b.start - a.start) :]) if b.start < a.end else 0
        for a, b in ((chunks[i], chunks[i + 1]) for i in some if i + 1 < len(chunks))
        if a.doc_id == b.doc_id
    ]
    tokens = median_low([count(chunks[i].text) for i in some])
    return f"{len(chunks):,}, about {tokens:,} tokens each, {median_low(shared or [0]):,} shared with the next"


def _label(retriever: Retriever) -> str:
    """The class, how many chunks it has, and its plain settings."""
    words: list[str] = []
    for name, value in vars(retriever).items():
        if name == "chunks" and isinstance(value, Sequence):
            words.insert(0, f"{len(value)} chunks")
        elif name == "reranker":
            words.append(repr(value))
        elif not name.startswith("_") and isinstance(value, str | int | float) and value not in ("", False):
            words.append(value if isinstance(value, str) else f"{name}={value}")
    return type(retriever).__name__ + (f" ({', '.join(words)})" if words else "")

"""A pipeline drawn: as a tree in a terminal, as a diagram in a notebook (JupyterLab renders Mermaid by itself)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ragkit.base import LLM, Reranker, Retriever, Rewriter


@dataclass(frozen=True)
class Node:
    """One part of a pipeline: what it is, and the parts that it asks, each with the word on the line to it."""

    label: str
    parts: tuple[tuple[str, Node], ...] = ()

    def lines(self, first: str = "", rest: str = "") -> Iterator[str]:
        """The tree below this node, a line each."""
        yield first + self.label
        for i, (word, part) in enumerate(self.parts, 1):
            branch, below = ("└─ ", "   ") if i == len(self.parts) else ("├─ ", "│  ")
            yield from part.lines(rest + branch + (f"{word}: " if word else ""), rest + below)


@dataclass(frozen=True)
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

    def __str__(self) -> str:
        return "\n".join(line for stage in self.stages for line in stage.lines())

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/vnd.mermaid": self.mermaid()}

    def mermaid(self) -> str:
        """The diagram in Mermaid's language: the stages from left to right, what each asks hanging below it."""
        lines = ["flowchart LR"]
        ids: list[str] = []
        for stage in self.stages:
            ids.append(f"n{len(lines)}")
            self._draw(stage, ids[-1], lines)
        chain = ["question([question])", *ids, "answer([answer])"]
        return "\n".join([*lines, f"    {' ==> '.join(chain)}"])

    def _draw(self, node: Node, name: str, lines: list[str]) -> None:
        lines.append(f'    {name}["{_quoted(node.label)}"]')
        for word, part in node.parts:
            below = f"n{len(lines)}"
            self._draw(part, below, lines)
            lines.append(f"    {name} -.->{f'|{chr(34)}{_quoted(word)}{chr(34)}|' if word else ''} {below}")


def _quoted(text: str) -> str:
    """Text as Mermaid reads it between quotation marks: its own marks, and what would be markup, as entities."""
    return "".join(c if c.isalnum() or c in " .,:()-+_/=" else f"#{ord(c)};" for c in text)


def pipeline_diagram(
    rewriter: Rewriter | None, store: Retriever, reranker: Reranker | None, fetch_k: int | None, budget: int, llm: LLM
) -> Diagram:
    """The stages of a pipeline, in order."""
    top = tree(store)
    stages = [Node(f"rewriter: {rewriter!r}")] if rewriter else []
    stages.append(Node(f"vector_store: {top.label}", top.parts))
    stages += [Node(f"reranker: {reranker!r}, fetch_k={fetch_k or '3 k'}")] if reranker else []
    return Diagram((*stages, Node(f"build_context: {budget} tokens"), Node(f"llm: {llm!r}")))


def tree(retriever: Retriever) -> Node:
    """The node of ``retriever``, with the retrievers that it holds below it. Any retriever will do, also your own."""
    return Node(_label(retriever), tuple((word, tree(part)) for word, part in parts_of(retriever)))


def parts_of(retriever: Retriever) -> Iterator[tuple[str, Retriever]]:
    """The retrievers that ``retriever`` holds, each once; with its name where they are held by name."""
    seen: set[int] = set()
    for attribute, value in vars(retriever).items():
        if isinstance(value, Mapping):
            pairs = [(str(name), each) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            # Where the first is no retriever, none is: thousands of chunks need not be looked at.
            pairs = [("", each) for each in value] if value and isinstance(value[0], Retriever) else []
        else:
            pairs = [("" if attribute == "retriever" else attribute, value)]
        for word, part in pairs:
            if isinstance(part, Retriever) and id(part) not in seen:  # a router holds its routes twice
                seen.add(id(part))
                yield word, part


def _label(retriever: Retriever) -> str:
    """The class, how many chunks it has, and its plain settings."""
    chunks, reranker = getattr(retriever, "chunks", None), getattr(retriever, "reranker", None)
    words = [f"{len(chunks)} chunks"] if isinstance(chunks, Sequence) else []
    words += [repr(reranker)] if reranker is not None else []
    words += [
        value if isinstance(value, str) else f"{name}={value}"
        for name, value in vars(retriever).items()
        if not name.startswith("_") and isinstance(value, str | int | float) and value not in ("", False)
    ]
    return type(retriever).__name__ + (f" ({', '.join(words)})" if words else "")

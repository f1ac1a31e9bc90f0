"""Specialised retrievers: the prose, the code and the reference entries of the same documents, each searched in its
own way.

An explanation is asked for in one's own words, a setting by its name, an example by what it does. Cut apart, each kind
has an index that suits it, and none has to compete with the others. ``Router(specialists(corpus, store),
QuestionKind(), everything)`` puts them together.

What they are good for: short answers, fast. On ``core`` ten of their passages are 560 to 1,240 tokens where ten chunks
of the advanced preset are 5,000, in under 8 ms. What they cost: who sends a question to one kind alone loses what
stands in another (names MRR@10 .588 against .893, FAQ .209 against .447; ``tests/bench/bench_modular.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ragkit.base import Chunk, Corpus, Document, InputError, Retriever
from ragkit.passages import passages
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.modular.routing import Belief
from ragkit.token_store import TokenStore

KINDS = ("prose", "code", "entry")
_PASSAGES = {"prose": ("prose", "list"), "code": ("code",)}
_NAME = re.compile(
    r"""(?<!\S)(?:
      --?[a-zA-Z][\w-]*              # a flag
    | [A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+  # a constant or an environment variable
    | [a-z0-9]+(?:_[a-z0-9]+)+       # a setting or a function
    | [A-Za-z]\w*(?:\.\w+)+(?:\(\))? # a dotted name
    | [A-Z][a-z]+(?:[A-Z][a-z]*)+    # a class
    | [a-z]\w*\(\)                   # a call
    )(?=[?.,;:!]*(?:\s|$))""",
    re.VERBOSE,
)
_EXAMPLE = re.compile(r"\b(?:examples?|snippet|sample|code|decorator|syntax|import)\b", re.IGNORECASE)


def pieces(corpus: Corpus, kind: str) -> list[Chunk]:
    """The passages of one kind as chunks, in order.

    - "prose": sentences and lists, a few at a time;
    - "code": code blocks, with the sentence that introduces them;
    - "entry": sections whose heading is a name (a setting, a flag, a class), whole.

    Raises:
        InputError: another ``kind``.
    """
    if kind not in KINDS:
        raise InputError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    return [chunk for document in corpus.documents for chunk in _pieces(document, kind)]


def _pieces(document: Document, kind: str) -> Iterator[Chunk]:
    if kind == "entry":
        spans = [(s.start, s.end) for s in document.sections if s.path and is_name(s.path[-1])]
    else:
        spans = [(p.start, p.end) for p in passages(document.text, short=600) if p.kind in _PASSAGES[kind]]
    for start, end in spans:
        if text := document.text[start:end].rstrip():
            yield Chunk(document.id, start, start + len(text), text, document.section_at(start), document.metadata)


def is_name(heading: str) -> bool:
    """Whether a heading is the name of something that can be typed.

    >>> [is_name(heading) for heading in ("task_acks_late", "--max-requests", "ClientSession", "Stopping workers")]
    [True, True, True, False]
    """
    return _NAME.fullmatch(heading.strip()) is not None


class QuestionKind:
    """A classifier: which kind of passage does a question ask for? By its looks alone.

    >>> asked = "What does task_acks_late do?", "Show me an example of a spider", "Why is it slow?"
    >>> [dict(QuestionKind().belief(query)) for query in asked]
    [{'entry': 1.0}, {'code': 1.0}, {'prose': 1.0}]
    """

    def belief(self, query: str) -> Belief:
        """All of it to "entry" for a name in ``query``, to "code" for a word such as *example*, else to "prose"."""
        if _NAME.search(query):
            return {"entry": 1.0}
        return {"code": 1.0} if _EXAMPLE.search(query) else {"prose": 1.0}


def specialists(corpus: Corpus, store: TokenStore) -> dict[str, Retriever]:
    """A retriever for each kind of passage: names by words that are not stemmed, code by words and identifiers in
    parts, prose by words and meaning."""
    prose = pieces(corpus, "prose")
    return {
        "entry": BM25Retriever(pieces(corpus, "entry"), analyzer=Analyzer(stem=False), contextual=True),
        "code": BM25Retriever(pieces(corpus, "code"), contextual=True),
        "prose": Hybrid([BM25Retriever(prose, contextual=True), DenseRetriever(prose, store=store)]),
    }

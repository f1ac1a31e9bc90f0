"""A panel in which a person says where the answers stand: a question, passages to choose from, one click a label.

The passages come from several retrievers, the best of each in turn, in a drawn order: so no system is favoured by the
labels that later judge it (pooling: Sparck Jones & van Rijsbergen 1975; Voorhees, TREC 1999).

Every control can be set from code (``panel.choose[0].click()``) and then does what a click does.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import zip_longest
from pathlib import Path

import ipywidgets as w

from ragkit.base import Chunk, Corpus, InputError, Question, RagkitError, Retriever, Span
from ragkit.chunking import SentenceChunker, chunk_corpus
from ragkit.figures import GREEN, VERMILLION
from ragkit.notebook.display import StaticView, show_passage
from ragkit.pipeline.config import FETCH_K
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.token_store import TokenStore
from ragkit.workbench.labels import YOURS, load_labels, place_of, save_labels

PASSAGE = 96  # tokens of a passage to choose: short enough to be read at a glance
LIMIT = 8  # passages to choose from

_REST = w.Layout(flex="1 1 300px", min_width="0")
_ROW = w.Layout(flex_flow="row wrap", align_items="flex-start")
_BUTTON = w.Layout(width="90px")
_PASTE = "or paste the exact words of the answer, from any document"


def pooled(systems: Mapping[str, Retriever], question: str, limit: int = LIMIT, depth: int = 10) -> tuple[Chunk, ...]:
    """At most ``limit`` passages that the systems find for a question, no two of the same text, in a drawn order.

    The best of every system comes first into the pool, then the second best of every system, and so on. The order in
    which they are shown depends on the question alone.
    """
    ranked = [retriever.search(question, depth) for retriever in systems.values()]
    pool: dict[Span, Chunk] = {}
    for rank in zip_longest(*ranked):
        for hit in filter(None, rank):
            if not any(hit.chunk.span.answers(span) for span in pool):
                pool[hit.chunk.span] = hit.chunk
    chunks = list(pool.values())[:limit]
    random.Random(question).shuffle(chunks)
    return tuple(chunks)


def proposers(corpus: Corpus) -> dict[str, Retriever]:
    """The systems that propose passages unless others are given: words, vectors, and both reranked.

    All three search passages of whole sentences::

        pooled(proposers(corpus), "When is the office open?")
    """
    store = TokenStore.open(corpus)
    chunks = chunk_corpus(SentenceChunker(PASSAGE, 0), corpus)
    words = BM25Retriever(chunks, analyzer=Analyzer.for_language(corpus.language))
    vectors = DenseRetriever(chunks, store=store)
    both = Reranked(Hybrid([words, vectors]), LateInteraction(store), fetch_k=FETCH_K)
    return {"words": words, "vectors": vectors, "both": both}


class LabelPanel(StaticView, w.VBox):  # type: ignore[misc]
    """One question after the other with passages to choose from; each label is saved at once.

    "here" takes a passage as the answer, and words that are pasted into the box are taken for the answer themselves;
    "not in these documents" says that there is none; "later" leaves the question; "back" takes the last label away. The
    file is that of ``ragkit.workbench.labels``: what is in it already is not asked again::

        LabelPanel(corpus, ["When is the office open?"], "~/handbook/questions.jsonl")

    Args:
        corpus: the documents.
        questions: what to label, as texts; see also ``ragkit draft``.
        path: the file of labels.
        systems: retrievers that propose passages; words and vectors unless given.

    Raises:
        InputError: no question.
        CorpusError: the file is there, and lines of it cannot be used.
    """

    def __init__(
        self,
        corpus: Corpus,
        questions: Sequence[str],
        path: str | Path,
        systems: Mapping[str, Retriever] | None = None,
    ) -> None:
        self.corpus, self.path = corpus, Path(path).expanduser()
        self._on_disk = self._read()
        self.labels = list(load_labels(self.path, corpus)) if self.path.exists() else []
        self.todo = [text for text in dict.fromkeys(questions) if text.strip()]
        if not self.todo:
            raise InputError("no question to label: expected texts such as 'When is the office open?'")
        self.systems = systems or proposers(corpus)
        self.skipped: set[str] = set()
        self.shown: tuple[Chunk, ...] = ()
        self.choose: list[w.Button] = []
        self.heading, self.status = w.HTML(), w.HTML()
        self.passages = w.VBox()
        # Not at every key: those updates are held back while the kernel is busy, and a click overtakes them.
        self.words = w.Text(placeholder=_PASTE, layout=w.Layout(width="auto"), continuous_update=False)
        self.nowhere = w.Button(description="not in these documents", layout=w.Layout(width="auto"))
        self.later = w.Button(description="later", layout=_BUTTON)
        self.back = w.Button(description="back", icon="undo", layout=_BUTTON)
        buttons = w.HBox([self.nowhere, self.later, self.back], layout=_ROW)
        super().__init__([self.heading, self.passages, self.words, buttons, self.status])
        self.add_class("ragkit-labels")
        self.nowhere.on_click(lambda _: self._label(None))
        self.later.on_click(lambda _: self._later())
        self.back.on_click(lambda _: self._back())
        self.words.observe(lambda _: self._words(), "value")
        self._show()

    @property
    def question(self) -> str | None:
        """What is asked now; ``None`` when every question has a label or was put off."""
        done = {label.text for label in self.labels} | self.skipped
        return next((text for text in self.todo if text not in done), None)

    def __repr__(self) -> str:
        return f"LabelPanel({len(self._done())} of {len(self.todo)} questions labelled)"

    def static_html(self) -> str:
        """The question, and the passages to choose from."""
        passages = "".join(show_passage(chunk).html for chunk in self.shown)
        return f"{self.heading.value}{passages}<p>[not in these documents] · [later] · [back]</p>"

    def _done(self) -> list[Question]:
        return [label for label in self.labels if label.text in self.todo]

    def _show(self) -> None:
        question = self.question
        done = f"{len(self._done())} of {len(self.todo)} labelled"
        self.shown = pooled(self.systems, question) if question else ()
        title = escape(question) if question else "Every question has a label or was put off."
        self.heading.value = f"<p><small>{done}</small><br><b>{title}</b></p>"
        self.choose = [w.Button(description="here", layout=_BUTTON) for _ in self.shown]
        rows = []
        for button, chunk in zip(self.choose, self.shown, strict=True):
            button.on_click(lambda _, span=chunk.span: self._label(span))
            rows.append(w.HBox([button, w.HTML(show_passage(chunk, is_open=True).html, layout=_REST)], layout=_ROW))
        self.passages.children = rows
        self.words.value = ""
        self.nowhere.disabled = self.later.disabled = question is None
        self.back.disabled = not self._done()

    def _label(self, span: Span | None) -> None:
        question = self.question
        if question is None:
            return
        tags = (YOURS,) if span else (YOURS, "unanswerable")
        text = self.corpus.document(span.doc_id).text[span.start : span.end] if span else None
        label = Question(f"{YOURS}-{len(self.labels) + 1:03d}", question, (span,) if span else (), tags, text)
        if self._saved([*self.labels, label]):
            where = f"in {span.doc_id}" if span else "nowhere in these documents"
            self._say(f"Saved: {question!r} is answered {where}.", GREEN)
            self._show()

    def _words(self) -> None:
        """Take the pasted words as the answer: from the passages that are shown, else from any document."""
        pasted = self.words.value
        if not pasted.strip():
            return
        try:
            self._label(place_of(pasted, self.corpus, first=[chunk.span for chunk in self.shown]))
        except InputError as error:
            self._say(str(error), VERMILLION)

    def _later(self) -> None:
        if self.question:
            self.skipped.add(self.question)
        self._show()

    def _back(self) -> None:
        last = self._done()[-1]
        if self._saved([label for label in self.labels if label != last]):
            self._say(f"Taken away: the label of {last.text!r}.")
            self._show()

    def _saved(self, labels: Sequence[Question]) -> bool:
        numbered = [replace(label, id=f"{YOURS}-{i:03d}") for i, label in enumerate(labels, 1)]
        if self.path.is_file() and self._read() != self._on_disk:
            self._say(f"Not saved: {self.path} was changed elsewhere; run the cell again to read it.", VERMILLION)
            return False
        try:
            save_labels(self.path, numbered, self.corpus)
        except (RagkitError, OSError) as error:
            self._say(f"Not saved: {error}", VERMILLION)
            return False
        self.labels, self._on_disk = numbered, self._read()
        return True

    def _read(self) -> bytes:
        """The file as it is, to see whether somebody else wrote it; nothing where there is none."""
        return self.path.read_bytes() if self.path.is_file() else b""

    def _say(self, what: str, colour: str = "transparent") -> None:
        self.status.value = (
            f'<span role="status" style="padding-left:8px;border-left:4px solid {colour}">{escape(what)}</span>'
        )

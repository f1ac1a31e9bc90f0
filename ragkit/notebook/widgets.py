"""Live views for notebooks: the chunk-size lab and the inspector of two systems.

``ChunkExperiment`` is the computation behind the lab, without a widget: a setting in, figures out. Documents are
tokenized, analyzed and encoded once, and questions too. What is left to do for a new chunk size is to cut, to pool and
to rank, which is fast enough to follow a slider. The widgets are thin boxes around it, one figure each, updated and
never rebuilt. Every control can be set from code (``lab.size.value = 256``) and then does what a click does, so a test
needs no browser and a lesson can set the scene.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from html import escape
from typing import Any

import ipywidgets as w
import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from ragkit import chunking
from ragkit.base import Chunk, Chunker, Corpus, Hit, InputError, Question, Retriever
from ragkit.chunking import chunk_corpus, layout_of
from ragkit.evaluation import statistics
from ragkit.evaluation.compare import difference_text, verdict
from ragkit.evaluation.metrics import BUDGET, coverage, first_ranks, reciprocal_rank, relevant_gold, score
from ragkit.figures import GREY, color_of, styled
from ragkit.languages import is_english
from ragkit.notebook.display import StaticView, show_chunks, show_hits
from ragkit.retrieval.analysis import AnalyzedCorpus, Analyzer
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.token_store import TokenStore
from ragkit.tokens import minilm_tokenizer
from ragkit.workbench.labels import questions_by_kind

CHUNKERS: Mapping[str, type[Any]] = {
    "fixed": chunking.FixedChunker,
    "sentence": chunking.SentenceChunker,
    "recursive": chunking.RecursiveChunker,
    "heading": chunking.HeadingChunker,
    "semantic": chunking.SemanticChunker,
}
SCORINGS = {
    "pooled": "DenseRetriever(chunks, store=store)",
    "maxp": 'DenseRetriever(chunks, store=store, scoring="maxp")',
    "bm25": "BM25Retriever(chunks)",
    "hybrid": 'Hybrid([BM25Retriever(chunks), DenseRetriever(chunks, store=store, scoring="maxp")])',
}
SIZES = (64, 128, 256, 512, 768, 1024)
"""The sizes at which the curves are measured."""

_PANELS = {"coverage": ("share of the gold", ".3f"), "MRR@k": ("mean 1 / rank", ".3f"), "context": ("tokens", ".0f")}
_WRAP = w.Layout(flex_flow="row wrap")
_WIDE = w.Layout(width="auto")  # 100 % and the margins would be more than there is
_CELL = "padding:3px 10px;text-align:left;vertical-align:top;border-bottom:1px solid rgba(128,128,128,0.3)"

Counts = Mapping[tuple[str, int], int]
"""The tokens of each chunk, by document and start."""


# ---- the chunk-size lab: the computation


@dataclass(frozen=True)
class LabSettings:
    """One position of the lab's controls. ``budget`` cuts every ranked list at that many context tokens (None: at
    ``k`` results).

    >>> LabSettings("fixed", 512, 64, "maxp").label
    'fixed 512/64 maxp in 2000 tokens'
    """

    chunker: str = "fixed"
    size: int = 512
    overlap: int = 64
    scoring: str = "pooled"
    k: int = 10
    budget: int | None = BUDGET

    @property
    def label(self) -> str:
        limit = "" if self.budget is None else f" in {self.budget} tokens"
        return f"{self.chunker} {self.size}/{self.overlap} {self.scoring}{limit}"

    @property
    def metric(self) -> str:
        """The name in ``compare`` of what ``coverage`` is called in the lab."""
        return f"gold_chars@{self.k}" if self.budget is None else f"coverage@{self.budget}"

    def at(self, size: int) -> LabSettings:
        """This setting with another size; the overlap shrinks to half of a size that it would not fit."""
        return replace(self, size=size, overlap=min(self.overlap, size // 2))

    def code(self, language: str = "") -> str:
        """Python that measures this setting, given ``corpus``, which is in ``language``, and ``questions``."""
        store = "store, " if self.chunker == "semantic" else ""
        scoring, imported = SCORINGS[self.scoring], ""
        if "BM25" in scoring and not is_english(language):
            analyzer = f"BM25Retriever(chunks, analyzer=Analyzer.for_language({language!r}))"
            scoring = scoring.replace("BM25Retriever(chunks)", analyzer)
            imported = "from ragkit.retrieval.analysis import Analyzer\n"
        classes = {CHUNKERS[self.chunker].__name__, *re.findall(r"\w+Retriever|Hybrid", scoring)}
        chunker = f"{CHUNKERS[self.chunker].__name__}({store}{self.size}, {self.overlap})"
        limit = f", metric={self.metric!r}" if self.budget is None else f", same_budget={self.budget}"
        return (
            f"{imported}from ragkit import {', '.join(sorted({*classes, 'TokenStore'}))}, chunk_corpus, compare\n"
            f"store = TokenStore.open(corpus); chunks = chunk_corpus({chunker}, corpus)\n"
            f"retriever = {scoring}\n"
            f'compare({{"{self.label}": retriever}}, questions, k={self.k}{limit})'
        )


@dataclass(frozen=True)
class Measurement:
    """What one setting gives. ``scores (questions, 2)`` are the share of the gold's characters that the cut list
    holds (coverage) and the reciprocal rank; ``level`` are their means with 95 % intervals, ``tokens`` the mean."""

    setting: LabSettings
    chunks: int
    scores: NDArray[np.float64]
    level: statistics.Level
    tokens: float
    hits: tuple[tuple[Hit, ...], ...]
    milliseconds: float


class ChunkSearch:
    """A corpus and its store, ready to be cut and searched at any setting. It needs no labelled question."""

    def __init__(self, corpus: Corpus, store: TokenStore | None = None) -> None:
        self.corpus, self.store = corpus, store or TokenStore.open(corpus)
        self._last: tuple[LabSettings, Retriever, Counts] | None = None

    @cached_property
    def _analyzed(self) -> AnalyzedCorpus:
        return AnalyzedCorpus(self.corpus.documents, Analyzer.for_language(self.corpus.language))

    def chunker(self, setting: LabSettings) -> Chunker:
        """The chunker that ``setting.code()`` names."""
        store = [self.store] if setting.chunker == "semantic" else []
        return CHUNKERS[setting.chunker](*store, setting.size, setting.overlap)  # type: ignore[no-any-return]

    def retriever(self, setting: LabSettings, chunks: Sequence[Chunk]) -> Retriever:
        """The retriever that ``setting.code()`` names."""
        if setting.scoring == "pooled":
            return DenseRetriever(chunks, store=self.store)
        if setting.scoring == "maxp":
            return DenseRetriever(chunks, store=self.store, scoring="maxp")
        bm25 = BM25Retriever(chunks, analyzed=self._analyzed)
        if setting.scoring == "bm25":
            return bm25
        return Hybrid([bm25, DenseRetriever(chunks, store=self.store, scoring="maxp")])

    def index(self, setting: LabSettings) -> tuple[Retriever, Counts]:
        """Cut and index the documents. The last index is remembered."""
        if self._last is None or self._last[0] != setting:
            chunks = chunk_corpus(self.chunker(setting), self.corpus)
            rows = self.store.rows(chunks)
            places = ((chunk.doc_id, chunk.start) for chunk in chunks)
            counts = dict(zip(places, (rows[:, 1] - rows[:, 0]).tolist(), strict=True))
            self._last = setting, self.retriever(setting, chunks), counts
        return self._last[1:]

    def search(self, query: str, setting: LabSettings) -> tuple[Hit, ...]:
        """The best ``k`` hits of a query; at a budget what fits it, the last one cut."""
        return self.search_many([query], setting)[0]

    def search_many(self, texts: Sequence[str], setting: LabSettings) -> tuple[tuple[Hit, ...], ...]:
        """``search`` for every text, in one batch."""
        retriever, counts = self.index(setting)
        if (budget := setting.budget) is None:
            return tuple(map(tuple, retriever.search_many(texts, setting.k)))
        depth, short, lists = 16 + budget // setting.size, list(range(len(texts))), [list[Hit]()] * len(texts)
        while short:  # of chunks; headings alone, for example, fill no budget
            for i, hits in zip(short, retriever.search_many([texts[i] for i in short], depth), strict=True):
                lists[i] = hits
            short = [i for i in short if len(lists[i]) == depth and _tokens(lists[i], counts) < budget]
            depth *= 2
        return tuple(tuple(self._cut(hits, budget, counts)) for hits in lists)

    def _cut(self, hits: Sequence[Hit], budget: int, counts: Counts) -> Iterator[Hit]:
        for hit in hits:
            chunk, count = hit.chunk, _tokens([hit], counts)
            if count > budget:
                layout = layout_of(self.corpus.document(chunk.doc_id), minilm_tokenizer())
                last = int(layout.positions([chunk.start])[0]) + budget
                end = min(chunk.end, int(layout.ends[min(last, len(layout))]))
                hit = replace(hit, chunk=replace(chunk, end=end, text=chunk.text[: end - chunk.start]))
            yield hit
            budget -= count
            if budget <= 0:
                return


class ChunkExperiment(ChunkSearch):
    """A corpus, its questions and its store, ready to measure settings. Results are remembered.

    Args:
        questions: those with gold are used (default: the corpus's own).

    Raises:
        InputError: fewer than two questions have gold.
    """

    def __init__(self, corpus: Corpus, questions: Sequence[Question] | None = None, store: TokenStore | None = None):
        self.questions = _with_gold(corpus.questions if questions is None else questions)
        if len(self.questions) < 2:
            raise InputError(
                f"{len(self.questions)} questions have gold: a measurement needs two, a verdict some dozens"
            )
        self.texts = [q.text for q in self.questions]
        super().__init__(corpus, (store or TokenStore.open(corpus)).with_queries(self.texts))
        self.units = [q.gold[0].doc_id for q in self.questions]
        self._known: dict[LabSettings, Measurement] = {}

    def measure(self, setting: LabSettings) -> Measurement:
        """Cut, index, search every question and score, or the remembered result."""
        if setting not in self._known:
            started = time.perf_counter()
            _, counts = self.index(setting)
            lists = self.search_many(self.texts, setting)
            scores = np.array([_score(hits, q, setting) for hits, q in zip(lists, self.questions, strict=True)])
            tokens = float(np.mean([min(_tokens(hits, counts), setting.budget or np.inf) for hits in lists]))
            milliseconds = (time.perf_counter() - started) * 1000
            level = statistics.level(scores, self.units)
            self._known[setting] = Measurement(setting, len(counts), scores, level, tokens, lists, milliseconds)
        return self._known[setting]

    def differences(self, rows: Sequence[Measurement]) -> list[str]:
        """Each row's paired difference in coverage to the first one, with its verdict, from one simultaneous test."""
        values = np.stack([row.scores[:, 0] - rows[0].scores[:, 0] for row in rows[1:]], axis=1)
        result = statistics.estimate(values, self.units)
        columns = zip(result.mean, result.low, result.high, result.p, strict=True)
        return [f"{difference_text(mean, low, high, p)} {verdict(mean, p)}" for mean, low, high, p in columns]


def _with_gold(questions: Iterable[Question]) -> tuple[Question, ...]:
    return tuple(replace(q, gold=gold) for q in questions if (gold := relevant_gold(q.gold)))


def _tokens(hits: Sequence[Hit], counts: Counts) -> int:
    return sum(counts[hit.chunk.doc_id, hit.chunk.start] for hit in hits)


def _score(hits: Sequence[Hit], question: Question, setting: LabSettings) -> tuple[float, float]:
    """``compare``'s ``setting.metric``, and the reciprocal rank."""
    chunks = [hit.chunk for hit in hits]
    if setting.budget is None:
        values = score(chunks, question.gold, setting.k, question.any_of)
        return values[setting.metric], values[f"mrr@{setting.k}"]
    ranks = first_ranks(chunks, question.gold)
    return coverage(chunks, question.gold, question.any_of), reciprocal_rank(ranks, max(len(chunks), 1))


# ---- the chunk-size lab: the widget


class ChunkLab(StaticView, w.VBox):  # type: ignore[misc]
    """Chunker, size, overlap, k and scoring under your hands; quality, cost and the cut text in front of you.

    A query of your own is searched at each setting, and its hits are marked in the cut text. A corpus without labelled
    questions is cut and searched, too; curves, and settings to keep and compare, need two of them.

    Args:
        corpus: any corpus.
        questions: sets by name to choose from (default: the corpus's own).
        store: its token store (default: opened, and built first where there is none).
        budget: context tokens of the "equal tokens" view, which is shown first.

    Raises:
        InputError: a set is given that has fewer than two questions with gold.
    """

    def __init__(
        self,
        corpus: Corpus,
        questions: Mapping[str, Sequence[Question]] | None = None,
        store: TokenStore | None = None,
        budget: int = BUDGET,
    ) -> None:
        store = store or TokenStore.open(corpus)
        sets = questions or ({corpus.name: corpus.questions} if len(_with_gold(corpus.questions)) > 1 else {})
        self._plain = ChunkSearch(corpus, store)
        self._benches = {name: ChunkExperiment(corpus, chosen, store) for name, chosen in sets.items()}
        self._budget, self._kept = budget, list[LabSettings]()
        self.chunker = w.Dropdown(options=list(CHUNKERS), description="chunker", tooltip="where a chunk ends")
        self.size = w.IntSlider(512, 32, 1024, 32, description="size", continuous_update=False)
        self.size.tooltip = "the most tokens of a chunk"
        self.overlap = w.IntSlider(64, 0, 256, 8, description="overlap", continuous_update=False)
        self.overlap.tooltip = "tokens that a chunk repeats of the one before, at most half of its size"
        self.k = w.IntSlider(10, 1, 20, description="k", tooltip="how many results count", continuous_update=False)
        self.scoring = w.ToggleButtons(options=list(SCORINGS), description="search by", style={"button_width": "72px"})
        self.scoring.tooltip = "pooled: one vector a chunk; maxp: its best passage; bm25: words; hybrid: bm25 and maxp"
        self.view = w.ToggleButtons(options=["equal tokens", "equal k"])
        self.view.description = "compare at" if self._benches else "results at"
        self.view.tooltip = f"equal tokens: results are cut at {budget} tokens; equal k: at k results"
        self.questions = w.Dropdown(options=list(sets), description="questions", tooltip="the set that is measured")
        self.keep = w.Button(description="Keep this setting", icon="thumb-tack", tooltip="as a row to compare with")
        self.clear = w.Button(description="Remove all", icon="trash", tooltip="take all kept settings away")
        self.export = w.Button(description="Show as Python", icon="code", tooltip="show it, or fold it again")
        self.table, self.code, self.document, self.status = w.HTML(), w.HTML(), w.HTML(), w.HTML()
        self.removals = w.HBox(layout=_WRAP)
        self.question = w.Dropdown(description="question", tooltip="its hits are marked below", layout=_WIDE)
        self.query = w.Text(placeholder="type a query of your own and press Enter", layout=_WIDE)
        self.query.description, self.query.tooltip = "query", "its hits are marked below"
        self.query.continuous_update = False
        self.source = w.Dropdown(options=[d.id for d in corpus.documents], description="document", layout=_WIDE)
        self.source.tooltip = "the one whose chunks are drawn"
        self.fig = _figure()
        super().__init__(self._parts())
        self._chosen_overlap = self.overlap.value
        self.size.observe(lambda _: self._limit_overlap(), "value")
        self.overlap.observe(lambda change: setattr(self, "_chosen_overlap", change["new"]), "value")
        for control in (self.chunker, self.size, self.overlap, self.k, self.scoring, self.view):
            control.observe(lambda _: self._update(), "value")
        self.questions.observe(lambda _: self._ask(), "value")
        self.question.observe(lambda _: self._pick(), "value")
        self.query.observe(lambda _: self._follow(), "value")
        self.source.observe(lambda _: self._draw_document(), "value")
        self.keep.on_click(lambda _: self._keep([*self._kept, self.setting]))
        self.clear.on_click(lambda _: self._keep([]))
        self.export.on_click(lambda _: self._export(not self.code.value))
        if self._benches:
            self._ask()
        else:
            self._update()

    def _parts(self) -> list[w.Widget]:
        """What is shown from top to bottom; without labelled questions, nothing that needs a measurement."""
        first = [self.chunker, self.questions] if self._benches else [self.chunker]
        controls = w.HBox([w.VBox(first), w.VBox([self.size, self.overlap, self.k])], layout=_WRAP)
        choices = w.HBox([self.scoring, self.view], layout=_WRAP)
        if not self._benches:
            return [controls, choices, self.status, self.query, self.source, self.document]
        buttons = w.HBox([self.keep, self.export, self.status], layout=_WRAP)
        measured = [buttons, self.code, self.fig, self.table, self.removals]
        return [controls, choices, *measured, self.question, self.query, self.source, self.document]

    def __repr__(self) -> str:
        corpus, count = self._search.corpus, len(self._bench.questions) if self._benches else 0
        return f"ChunkLab({corpus.name!r}: {len(corpus.documents)} documents, {count} questions)"

    def static_html(self) -> str:
        """The curve around the setting as a table: a row a size. Without labelled questions, the cut text."""
        if not self._benches:
            return str(self.document.value)
        setting = self.setting
        sizes = sorted({*SIZES, setting.size})
        return _table(self._bench, [self._bench.measure(setting.at(size)) for size in sizes], setting)

    @property
    def setting(self) -> LabSettings:
        """Where the controls stand."""
        budget = self._budget if self.view.value == "equal tokens" else None
        chunker, scoring, k = self.chunker.value, self.scoring.value, self.k.value
        return LabSettings(chunker, self.size.value, self.overlap.value, scoring, k, budget).at(self.size.value)

    @property
    def result(self) -> Measurement:
        """What the current setting gives.

        Raises:
            InputError: the corpus has no labelled questions.
        """
        return self._bench.measure(self.setting)

    @property
    def hits(self) -> tuple[Hit, ...]:
        """The results of the query; where it is empty, of the chosen question."""
        if query := self.query.value.strip():
            return self._search.search(query, self.setting)
        return self.result.hits[self.question.value] if self._benches else ()

    @property
    def _search(self) -> ChunkSearch:
        return self._bench if self._benches else self._plain

    @property
    def _bench(self) -> ChunkExperiment:
        if not self._benches:
            raise InputError("no labelled questions: a measurement needs two of them (ragkit.notebook.labelling)")
        return self._benches[self.questions.value]

    def _ask(self) -> None:
        self._say("measuring …")
        self.question.options = [(q.text, i) for i, q in enumerate(self._bench.questions)]
        self.question.index = 0  # new options choose none
        self._update()

    def _pick(self) -> None:
        if self.question.value is None:
            return
        if self.query.value:
            self.query.value = ""  # which follows
        else:
            self._follow()

    def _follow(self) -> None:
        """Go to the document of the question's gold, or of the query's best hit."""
        if self.query.value.strip():
            places = [hit.chunk.doc_id for hit in self.hits]
        else:
            places = [self._bench.questions[self.question.value].gold[0].doc_id] if self._benches else []
        if places and places[0] != self.source.value:
            self.source.value = places[0]  # which draws
        else:
            self._draw_document()

    def _limit_overlap(self) -> None:
        """End the slider at half of the size, so that it shows the overlap in use; a larger size brings yours back."""
        chosen = self._chosen_overlap
        self.overlap.max = self.size.value // 2
        self.overlap.value = min(chosen, self.overlap.max)
        self._chosen_overlap = chosen

    def _update(self) -> None:
        """The point under the controls first, so that it moves at once, then the curve around it."""
        setting = self.setting
        self._say(f"measuring {setting.label} …")
        if not self._benches:
            counts = self._search.index(setting)[1]
            self._draw_document()
            mean = sum(counts.values()) / max(len(counts), 1)
            self._say(
                f"{len(counts)} chunks of {mean:.0f} tokens on average. Curves need labelled questions.", busy=False
            )
            return
        self._export(bool(self.code.value))
        self._draw([self._bench.measure(setting)], first=3)
        self._draw([self._bench.measure(kept) for kept in self._kept], first=6)
        rows = [self._bench.measure(row) for row in dict.fromkeys([*self._kept, setting])]
        self.table.value = _table(self._bench, rows, setting)
        self._draw_document()
        self._say("measuring the curve …")
        self._draw([self._bench.measure(setting.at(size)) for size in SIZES], first=0)
        self.fig._repr_mimebundle_()  # writes the figure's state back to its model: a reloaded page reads it there
        questions = self._bench.questions
        self._say(f"{len(questions)} questions in {len(set(self._bench.units))} documents", busy=False)

    def _say(self, what: str, busy: bool = True) -> None:
        spinner = "<i class='fa fa-spinner fa-spin'></i> " if busy else ""
        self.status.value = f"<span style='opacity:0.75'>{spinner}{escape(what)}</span>"

    def _draw(self, points: Sequence[Measurement], first: int) -> None:
        """Give the traces lists: plotly compares values with ``==``, and that fails for NumPy arrays."""
        x = [p.setting.size for p in points]
        rows = [[*p.level.mean.tolist(), p.tokens] for p in points]
        colors = [color_of(p.setting.scoring) for p in points]
        with self.fig.batch_update():
            for i, trace in enumerate(self.fig.data[first : first + 3]):
                trace.x, trace.y, trace.marker.color = x, [row[i] for row in rows], colors
                trace.text = [p.setting.label for p in points]

    def _draw_document(self) -> None:
        if self._benches and self.question.value is None:
            return
        document, hits = self._search.corpus.document(self.source.value), self.hits
        chunks = self._search.chunker(self.setting).chunk(document)
        places = _places(hits, document.id)
        if self.query.value.strip() or not self._benches:
            self.document.value = f"<p>{places}</p>{show_chunks(document, chunks, hits=hits).html}"
        else:
            question = self._bench.questions[self.question.value]
            text = show_chunks(document, chunks, question.gold, hits).html
            self.document.value = f"<p>{_rank_of_gold(hits, question)}<br>{places}</p>{text}"

    def _keep(self, settings: Sequence[LabSettings]) -> None:
        self._kept = list(dict.fromkeys(settings))
        buttons = []
        for setting in self._kept:
            button = w.Button(
                description=setting.label, icon="times", tooltip="take it away", layout=w.Layout(width="auto")
            )
            button.on_click(lambda _, gone=setting: self._keep([other for other in self._kept if other != gone]))
            buttons.append(button)
        self.removals.children = [*buttons, self.clear] if buttons else []
        self._update()

    def _export(self, is_shown: bool) -> None:
        chosen = _questions_as_python(self._search.corpus, self.questions.value, self._bench.questions)
        setting = self.setting.code(self._search.corpus.language)
        code = f"# `corpus` is the one that you gave to ChunkLab.\n{chosen}\n{setting}"
        self.code.value = f"<pre style='max-height:260px;overflow:auto'>{escape(code)}</pre>" if is_shown else ""


def _questions_as_python(corpus: Corpus, name: str, questions: Sequence[Question]) -> str:
    """Python that makes ``questions``: all those of ``corpus``, a kind of them, some by id; else written out."""
    if set(questions) == set(_with_gold(corpus.questions)):
        return "questions = corpus.questions"
    if set(questions) == set(_with_gold(questions_by_kind(corpus.questions).get(name, ()))):
        imported = "from ragkit.workbench import questions_by_kind"
        return f"{imported}\nquestions = questions_by_kind(corpus.questions)[{name!r}]"
    if set(questions) <= set(_with_gold(corpus.questions)):
        ids = [f"    {', '.join(repr(q.id) for q in questions[i : i + 6])}," for i in range(0, len(questions), 6)]
        return "\n".join(["ids = {", *ids, "}", "questions = [q for q in corpus.questions if q.id in ids]"])
    rows = []
    for question in questions:
        gold = "".join(f"Span({s.doc_id!r}, {s.start}, {s.end}, {s.grade}), " for s in question.gold)
        any_of = ", any_of=True" if question.any_of else ""
        rows.append(f"    Question({question.id!r}, {question.text!r}, ({gold}){any_of}),")
    return "\n".join(["from ragkit import Question, Span", "questions = [", *rows, "]"])


def _places(hits: Sequence[Hit], shown: str, limit: int = 12) -> str:
    """In which documents the hits stand; the one that is ``shown`` is bold."""
    if not hits:
        return "Hits of a query are marked in the text."
    ranks: dict[str, list[str]] = {}
    for rank, hit in enumerate(hits, 1):
        ranks.setdefault(hit.chunk.doc_id, []).append(str(rank))
    parts = [f"{escape(doc_id)}: {', '.join(own)}" for doc_id, own in ranks.items()]
    parts = [f"<b>{part}</b>" if doc_id == shown else part for doc_id, part in zip(ranks, parts, strict=True)]
    more = [f"{len(parts) - limit} more documents"] * (len(parts) > limit)
    return f"hits by document · {' · '.join([*parts[:limit], *more])}"


# ---- the inspector


class RetrievalInspector(StaticView, w.VBox):  # type: ignore[misc]
    """One question, two systems side by side: passages, scores, and where the gold stands.

    Args:
        systems: retrievers by name, two or more.
        questions: labelled questions to choose from; your own can be typed.

    Raises:
        InputError: fewer than two systems, or no question.
    """

    def __init__(self, systems: Mapping[str, Retriever], questions: Sequence[Question], k: int = 5) -> None:
        if len(systems) < 2 or not questions:
            raise InputError(f"{len(systems)} systems, {len(questions)} questions: expected two systems and a question")
        self._systems, self._questions = dict(systems), tuple(questions)
        names = list(systems)
        self.question = w.Dropdown(options=[(q.text, i) for i, q in enumerate(questions)], description="question")
        self.question.tooltip = "its gold is marked in the passages"
        self.own = w.Text(placeholder="or type your own and press Enter", description="yours", continuous_update=False)
        self.own.tooltip = "a question of your own, which has no gold"
        self.k = w.IntSlider(k, 1, 20, description="k", tooltip="how many results are shown", continuous_update=False)
        self.names = tuple(w.Dropdown(options=names, value=name, description="system") for name in names[:2])
        for control in self.names:
            control.tooltip = "whose results stand in this column"
        self.hits = tuple(w.HTML(layout=w.Layout(flex="1 1 0%", min_width="0", padding="0 8px")) for _ in range(2))
        self.question.layout = self.own.layout = _WIDE
        super().__init__([self.question, self.own, self.k, w.HBox(self.names), w.HBox(self.hits)])
        self.question.observe(lambda _: self._pick(), "value")
        for control in (self.own, self.k, *self.names):
            control.observe(lambda _: self._update(), "value")
        self._update()

    def __repr__(self) -> str:
        return f"RetrievalInspector({', '.join(self._systems)}: {len(self._questions)} questions)"

    def static_html(self) -> str:
        """Both columns."""
        cells = (f'<td style="text-align:left;vertical-align:top;width:50%">{view.value}</td>' for view in self.hits)
        return f'<table style="width:100%"><tr>{"".join(cells)}</tr></table>'

    def _pick(self) -> None:
        if self.own.value:
            self.own.value = ""  # which updates
        else:
            self._update()

    def _update(self) -> None:
        own = self.own.value.strip()
        question = Question("yours", own) if own else self._questions[self.question.value]
        for name, view in zip(self.names, self.hits, strict=True):
            hits = self._systems[name.value].search(question.text, self.k.value)
            place = _rank_of_gold(hits, question) if question.gold else "no gold is known"
            view.value = f"<p><b>{escape(name.value)}</b> · {place}</p>{show_hits(hits, question).html}"


def _figure() -> Any:
    """Three panels over chunk size; for each the curve, the current setting and the kept ones, coloured by scoring."""
    fig = go.FigureWidget(make_subplots(1, 3, subplot_titles=list(_PANELS), horizontal_spacing=0.1))
    styles: dict[str, dict[str, Any]] = {
        "all sizes": {"mode": "lines+markers", "line": {"color": GREY}},
        "now": {"mode": "markers", "marker": {"size": 14, "symbol": "diamond"}},
        "kept": {"mode": "markers", "marker": {"size": 11, "symbol": "square"}},
    }
    for name, style in styles.items():
        for panel, (_, digits) in enumerate(_PANELS.values(), 1):
            style |= {"hovertemplate": f"%{{text}}: %{{y:{digits}}}<extra></extra>", "showlegend": panel == 1}
            fig.add_trace(go.Scatter(x=[], y=[], name=name, legendgroup=name, **style), 1, panel)
    # 768 is measured, but its label would touch that of 1024.
    fig.update_xaxes(type="log", tickvals=[s for s in SIZES if s != 768], range=[1.4, 3.1], title="tokens in a chunk")
    for panel, (unit, _) in enumerate(_PANELS.values(), 1):
        fig.update_yaxes(title={"text": unit, "standoff": 4}, rangemode="tozero", row=1, col=panel)
    legend = {"orientation": "h", "x": 0, "y": 1.1, "yanchor": "bottom"}
    title = "What the size of the chunks changes: quality and cost"
    styled(fig, title, 400).update_layout(title_y=0.97, title_yanchor="top", legend=legend)
    fig._config = fig._config | {"responsive": True}
    new_views = set[int]()

    def fill(_: object) -> None:
        """Plotly draws a view before the page has given it a width: once it is drawn, ask for the width again."""
        if new_views:
            new_views.clear()
            fig._send_relayout_msg({"autosize": True})

    fig.observe(lambda change: new_views.add(change["new"]), "_view_count")
    fig.observe(fill, "_js2py_traceDeltas")  # which a view sends when it is drawn
    return fig.update_layout(margin={"t": 110}, font_size=13)


def _table(bench: ChunkExperiment, rows: Sequence[Measurement], current: LabSettings) -> str:
    """The kept settings and the current one; the first row is what the others are compared with."""
    head = ("setting", "coverage against the first row", "coverage", "MRR@k", "tokens", "chunks", "time")
    lines = ["".join(f"<th style='{_CELL}'>{cell}</th>" for cell in head)]
    differences = ["", *(bench.differences(rows) if len(rows) > 1 else ())]
    for measured, difference in zip(rows, differences, strict=True):
        name = escape(measured.setting.label)
        cells = [f"<b>{name}</b>" if measured.setting == current else name, difference]
        bands = zip(*astuple(measured.level), strict=True)
        cells += ["{:.3f}<br><small>[{:.3f}, {:.3f}]</small>".format(*band) for band in bands]
        cells += [f"{measured.tokens:.0f}", f"{measured.chunks}", f"{measured.milliseconds:.0f}&nbsp;ms"]
        lines.append("".join(f"<td style='{_CELL}'>{cell}</td>" for cell in cells))
    return f"<table style='border-collapse:collapse;line-height:1.5'><tr>{'</tr><tr>'.join(lines)}</tr></table>"


def _rank_of_gold(hits: Sequence[Any], question: Question) -> str:
    ranks = first_ranks([hit.chunk for hit in hits], relevant_gold(question.gold))
    gold_ranks = sorted(int(rank) for rank in ranks if rank)
    return f"gold at rank {gold_ranks[0]} of {len(hits)}" if gold_ranks else f"gold not found in {len(hits)}"

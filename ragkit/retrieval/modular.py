"""Modular RAG: small retrievers that contain retrievers. Each does one thing, and all of them nest.

- ``Router`` chooses among collections, by a classifier.
- ``SubQuestions`` and ``Corrective`` search more than once.
- ``Filtered``, ``Parent``, ``SentenceWindow`` and ``MMR`` change what comes out of a search.

The ``scores`` of their hits say what each step did. Those that are dataclasses are told apart by their settings
(``base.identity_of``).
"""

from __future__ import annotations

import hashlib
import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.base import (
    Chunk,
    Corpus,
    Hit,
    InputError,
    Reranker,
    Retriever,
    Rewriter,
    Span,
    Vectors,
    accepted_values,
    best_first,
    build_identity,
)
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.hybrid import fuse, minmax

# ---- routing

Probabilities = Mapping[str, float]
_SMOOTHING = 0.01  # passages added to each count of naive Bayes


class Classifier(Protocol):
    """Says how likely each label is for a query (in all at most 1); an empty answer means: I cannot tell."""

    def predict_proba(self, query: str) -> Probabilities: ...


@dataclass(frozen=True)
class RegexClassifier:
    """Labels by regular expressions (upper and lower case alike); labels whose pattern matches share the probability.

    >>> patterns = {"celery": r"celery|task_\\w+", "scrapy": "scrap(y|ing)"}
    >>> RegexClassifier(patterns).predict_proba("what does task_acks_late do?")
    {'celery': 1.0}

    Raises:
        InputError: no pattern, or one that is no regular expression.
    """

    patterns: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.patterns:
            raise InputError("no patterns: expected a regular expression for each label")
        for label, pattern in self.patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(f"the pattern of {label!r} is no regular expression: {error}") from None

    def matches(self, query: str) -> list[str]:
        """The labels whose pattern matches somewhere in ``query``."""
        return [label for label, pattern in self.patterns.items() if re.search(pattern, query, re.IGNORECASE)]

    def predict_proba(self, query: str) -> Probabilities:
        """An equal share for each label that matches."""
        labels = self.matches(query)
        return {label: 1 / len(labels) for label in labels}


def name_patterns(chunks: Iterable[Chunk], key: str = "project") -> dict[str, str]:
    """A pattern for each collection: its own name, with what English hangs on it ("Scrapy's", "gunicorns").

    >>> name_patterns([Chunk("a", 0, 1, "x", metadata={"project": "scrapy"})])
    {'scrapy': "\\\\bscrapy\\\\w*(?:'s)?"}
    """
    labels = sorted({str(chunk.metadata[key]) for chunk in chunks if key in chunk.metadata})
    return {label: rf"\b{re.escape(label)}\w*(?:'s)?" for label in labels}


class NaiveBayesClassifier:
    """Labels by the words of each collection; no labelled question is needed.

    The probability of a term in a collection is the share of its passages that hold the term, smoothed by .01: the
    Bernoulli model of McCallum and Nigam 1998 ("A comparison of event models for naive Bayes text classification"),
    of which only the terms of the query are used. (The full model also multiplies by the probability that the other
    terms are absent; a query is so short that this says nothing.) Every collection is as likely as any other before the
    query is read. For a query without a known term the answer is empty.

    >>> chunks = [Chunk("a", 0, 9, "a spider", metadata={"project": "scrapy"}),
    ...           Chunk("b", 0, 8, "a worker", metadata={"project": "celery"})]
    >>> classifier = NaiveBayesClassifier(chunks)
    >>> {label: round(p, 2) for label, p in classifier.predict_proba("my spider").items()}
    {'celery': 0.01, 'scrapy': 0.99}
    >>> classifier.predict_proba("my kettle")
    {}
    """

    def __init__(self, chunks: Iterable[Chunk], key: str = "project", analyzer: Analyzer | None = None) -> None:
        self.analyzer = analyzer or Analyzer()
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.passages: Counter[str] = Counter()
        for chunk in chunks:
            label = str(chunk.metadata.get(key, ""))
            self.passages[label] += 1
            self.counts[label].update(set(self.analyzer.terms(chunk.text)))

    @cached_property
    def identity(self) -> str:
        counts = repr([(label, n, sorted(self.counts[label].items())) for label, n in sorted(self.passages.items())])
        digest = hashlib.sha256(counts.encode("utf-8", "surrogatepass")).hexdigest()
        return build_identity(self, digest)

    def predict_proba(self, query: str) -> Probabilities:
        """The posterior probability of each collection."""
        terms = {t for t in self.analyzer.terms(query) if any(t in counts for counts in self.counts.values())}
        if not terms:
            return {}
        logs = {label: sum(self._log(term, label) for term in terms) for label in sorted(self.counts)}
        odds = {label: math.exp(log - max(logs.values())) for label, log in logs.items()}
        return {label: value / sum(odds.values()) for label, value in odds.items()}

    def _log(self, term: str, label: str) -> float:
        return math.log((self.counts[label][term] + _SMOOTHING) / (self.passages[label] + 2 * _SMOOTHING))


@dataclass(frozen=True)
class HitVoteClassifier:
    """Labels by a search of everything: the share of the first ``k`` hits that each collection has.

    The idea of ReDDE (Si and Callan 2003, SIGIR): where the hits are is where to search. It costs a search, so take a
    cheap retriever.
    """

    retriever: Retriever
    key: str = "project"
    k: int = 10

    def predict_proba(self, query: str) -> Probabilities:
        """The share of votes; empty where nothing is found."""
        hits = self.retriever.search(query, self.k)
        votes = Counter(str(hit.chunk.metadata.get(self.key, "")) for hit in hits)
        return {label: votes[label] / len(hits) for label in sorted(votes)}


@dataclass(frozen=True)
class AverageClassifier:
    """The mean of several classifiers (Stone 1961, the linear opinion pool); one that cannot tell is not counted.

    >>> celery, either = RegexClassifier({"celery": "worker"}), RegexClassifier({"celery": "log", "scrapy": "log"})
    >>> AverageClassifier([celery, either]).predict_proba("the log of a worker")
    {'celery': 0.75, 'scrapy': 0.25}
    """

    classifiers: Sequence[Classifier]

    def predict_proba(self, query: str) -> Probabilities:
        """The mean share of each label."""
        answers = [answer for one in self.classifiers if (answer := one.predict_proba(query))]
        labels = sorted({label for answer in answers for label in answer})
        return {label: sum(answer.get(label, 0.0) for answer in answers) / len(answers) for label in labels}


@dataclass(frozen=True)
class AbstainOnSeveral:
    """``classifier``, which cannot tell where ``names`` match for several labels: such a question is about all of them.

    >>> names = RegexClassifier({"celery": "celery", "scrapy": "scrapy"})
    >>> both = AbstainOnSeveral(names, names)
    >>> both.predict_proba("Celery"), both.predict_proba("Celery or Scrapy")
    ({'celery': 1.0}, {})
    """

    names: RegexClassifier
    classifier: Classifier

    def predict_proba(self, query: str) -> Probabilities:
        """Empty for several names, else what ``classifier`` says."""
        return {} if len(self.names.matches(query)) > 1 else self.classifier.predict_proba(query)


@dataclass(frozen=True)
class Route:
    """Where a query goes: ``route`` is None where the classifier is not sure enough, and the fallback is searched."""

    route: str | None
    confidence: float
    probabilities: Probabilities = field(default_factory=dict, hash=False)


@dataclass(frozen=True, eq=False)
class Router(Retriever):
    """Asks the one retriever whose label has a probability of ``threshold`` or more, else ``fallback``.

    A wrong route loses the answer for good; a search of everything, which ``fallback`` should be, only costs time. The
    hits' ``scores`` hold ``route:<label>`` (or ``route:fallback``) with the probability.

    Raises:
        InputError: no routes, or a ``threshold`` outside 0 to 1.
    """

    routes: Mapping[str, Retriever]
    classifier: Classifier
    fallback: Retriever
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not self.routes or not 0 <= self.threshold <= 1:
            raise InputError(
                f"{len(self.routes)} routes, threshold {self.threshold}: expected one route or more, and a threshold "
                "from 0 to 1"
            )

    @property
    def inputs(self) -> tuple[Retriever, ...]:
        """Every retriever that may be asked."""
        return (*self.routes.values(), self.fallback)

    def decide(self, query: str) -> Route:
        """The route for ``query``. A label without a retriever is never chosen."""
        probabilities = self.classifier.predict_proba(query)
        known = {label: p for label, p in probabilities.items() if label in self.routes}
        best = max(known, key=lambda label: (known[label], label), default=None)
        if best is not None and known[best] >= self.threshold:
            return Route(best, known[best], probabilities)
        return Route(None, max(probabilities.values(), default=0.0), probabilities)

    def _search(self, query: str, k: int) -> list[Hit]:
        decision = self.decide(query)
        retriever = self.fallback if decision.route is None else self.routes[decision.route]
        route = {f"route:{decision.route or 'fallback'}": decision.confidence}
        return [replace(hit, scores={**hit.scores, **route}) for hit in retriever.search(query, k)]


# ---- more than one search


@dataclass(frozen=True)
class NameSplitter:
    """A rewriter for questions that name several things: the question once for each, without the names of the others.

    ``names`` are regular expressions (upper and lower case alike). What is left names one thing, so a router can send
    it there, and no word of it is missing in a text that knows nothing of the others. ``otherwise`` rewrites questions
    that name fewer than two.

    >>> NameSplitter({"celery": "celery", "scrapy": "scrapy"}).rewrite("How do Scrapy and Celery log?")
    ['How do and Celery log?', 'How do Scrapy and log?']
    """

    names: Mapping[str, str]
    otherwise: Rewriter | None = None

    def rewrite(self, question: str) -> list[str]:
        """A question for each name in it, in the order of ``names``."""
        labels = RegexClassifier(self.names).matches(question)
        if len(labels) < 2:
            return self.otherwise.rewrite(question) if self.otherwise else [question]
        return [self._without(question, [label for label in labels if label != own]) for own in labels]

    def _without(self, question: str, labels: Sequence[str]) -> str:
        for label in labels:
            question = re.sub(self.names[label], "", question, flags=re.IGNORECASE)
        return " ".join(question.split())


@dataclass(frozen=True, eq=False)
class SubQuestions(Retriever):
    """A question is taken apart, it and each part are searched, and the lists are fused by rank (``hybrid.fuse``).

    ``splitter`` is any rewriter (``NameSplitter``; ``rewrite.ClauseSplitter``). A question that it leaves alone is
    searched as it is; of another, at most ``limit`` parts are searched. Each list has ``max(fetch_k, k)`` hits.
    ``scores["part:2"]`` is the score that a hit had in the second part's list, ``scores["part:0"]`` in the whole
    question's.
    """

    retriever: Retriever
    splitter: Rewriter
    limit: int = 4
    fetch_k: int = 15

    def queries(self, question: str) -> list[str]:
        """What is searched, in order: the question, then its parts."""
        rewritten = self.splitter.rewrite(question)
        parts = list(dict.fromkeys(part for part in rewritten if part.strip() and part != question))
        return [question, *parts[: self.limit]]

    def _search(self, query: str, k: int) -> list[Hit]:
        queries = self.queries(query)
        if queries == [query]:
            return self.retriever.search(query, k)
        lists = self.retriever.search_many(queries, max(self.fetch_k, k))
        return fuse(lists, k, names=[f"part:{n}" for n in range(len(lists))], source="sub-questions")


@dataclass(frozen=True, eq=False)
class Corrective(Retriever):
    """Grades what was found; weak results are searched again in other words, then elsewhere, then given up.

    After Yan et al. 2024, "Corrective retrieval augmented generation" (arXiv 2401.15884), where a trained model grades
    and a web search is the fallback. A list's grade is the best score that ``grader`` gives one of its hits *for the
    question that was asked*, whatever was searched, so grades can be compared. (So a repair of the question's spelling
    belongs before the loop: ``Rewritten(Corrective(...), Spelling.of(documents))``.)

    1. A grade of ``accept_above`` or more: the list stays.
    2. Else the rewritten queries of ``rewriter`` are searched.
    3. Where all grades are below ``accept_above``, ``fallback`` (such as a retriever over all collections) is asked.
    4. The list of the best grade is returned if that is at least ``reject_below``, else nothing: better no passage than
       a wrong one.

    Hits have the grader's scores and order; ``scores`` hold ``corrective:grade`` and ``corrective:searches``, the
    number of searches that it took.

    Raises:
        InputError: ``reject_below`` is above ``accept_above``.
    """

    retriever: Retriever
    grader: Reranker
    accept_above: float
    reject_below: float
    rewriter: Rewriter | None = None
    fallback: Retriever | None = None

    def __post_init__(self) -> None:
        if self.reject_below > self.accept_above:
            raise InputError(
                f"reject_below = {self.reject_below} is above accept_above = {self.accept_above}: expected the other "
                "way round"
            )

    def tries(self, query: str, k: int) -> list[tuple[str, float, list[Hit]]]:
        """Every search that was made: what it was, its grade (-inf where nothing was found), its hits."""
        made = [("first", *self._graded(query, self.retriever.search(query, k), k))]
        if made[0][1] < self.accept_above and self.rewriter is not None:
            for other in self.rewriter.rewrite(query):
                if other.strip() and other != query:
                    made.append((f"rewritten: {other}", *self._graded(query, self.retriever.search(other, k), k)))
        if max(grade for _, grade, _ in made) < self.accept_above and self.fallback is not None:
            made.append(("fallback", *self._graded(query, self.fallback.search(query, k), k)))
        return made

    def _graded(self, query: str, hits: Sequence[Hit], k: int) -> tuple[float, list[Hit]]:
        ranked = self.grader.rerank(query, hits, k) if hits else []
        return (ranked[0].score if ranked else -math.inf), ranked

    def _search(self, query: str, k: int) -> list[Hit]:
        made = self.tries(query, k)
        _, grade, hits = max(made, key=lambda one: one[1])
        if grade < self.reject_below:
            return []
        marks = {"corrective:grade": grade, "corrective:searches": float(len(made))}
        return [replace(hit, scores={**hit.scores, **marks}) for hit in hits]


# ---- what comes out of a search


def _deepened(
    retriever: Retriever, query: str, k: int, keep: Callable[[list[Hit]], list[Hit]], depth: int
) -> list[Hit]:
    """The first ``k`` of what ``keep`` makes of a search that is deep enough for it, ``depth`` at first."""
    while True:
        hits = retriever.search(query, depth)
        chosen = keep(hits)
        if len(chosen) >= k or len(hits) < depth:
            return chosen[:k]
        depth *= 4


@dataclass(frozen=True, eq=False)
class Filtered(Retriever):
    """Only chunks that ``accept``: a function of the chunk, or metadata that it must have (a collection: any of it).

    Searches deeper until ``k`` chunks pass or the retriever has no more, so it works on any retriever. Where few
    chunks pass, an index of those alone is faster.

    >>> from ragkit.retrieval.bm25 import BM25Retriever
    >>> chunks = [Chunk(name, 0, 3, "tea", metadata={"project": name}) for name in ("a", "b")]
    >>> [hit.chunk.doc_id for hit in Filtered(BM25Retriever(chunks), {"project": ["b", "c"]}).search("tea")]
    ['b']
    """

    retriever: Retriever
    accept: Callable[[Chunk], bool] | Mapping[str, object]

    def _search(self, query: str, k: int) -> list[Hit]:
        return _deepened(self.retriever, query, k, lambda hits: [hit for hit in hits if self._passes(hit.chunk)], 4 * k)

    def _passes(self, chunk: Chunk) -> bool:
        if not isinstance(self.accept, Mapping):
            return self.accept(chunk)
        return all(chunk.metadata.get(key) in accepted_values(value) for key, value in self.accept.items())


@dataclass(frozen=True, eq=False)
class InCorpus(Retriever):
    """Only chunks that ``corpus`` holds with this text: of a store that was filled before a document was changed."""

    retriever: Retriever
    corpus: Corpus

    def _search(self, query: str, k: int) -> list[Hit]:
        return _deepened(self.retriever, query, k, lambda hits: [h for h in hits if self.corpus.holds(h.chunk)], k)


@dataclass(frozen=True, eq=False)
class Parent(Retriever):
    """Small chunks are found, the sections around them are returned: precise vectors, and context to read.

    Of a chunk that reaches into several sections, those are returned that it answers (``Span.answers``): it overlaps
    half of the section, or half of the chunk lies there. (Chunks of a ``HeadingChunker`` lie in one section.) The
    sections are ``Document.visible_sections``.

    A section scores as its best chunk; ``scores["chunks"]`` says how many of the chunks that were found it holds. A
    section of more than ``limit`` characters is not returned whole: its chunk stays as it is.

    Raises:
        InputError: (in a search) a chunk's document is not in ``corpus``.
    """

    retriever: Retriever
    corpus: Corpus
    limit: int = 6_000

    def _search(self, query: str, k: int) -> list[Hit]:
        return _deepened(self.retriever, query, k, self._sections, 4 * k)

    def _sections(self, hits: Sequence[Hit]) -> list[Hit]:
        best: dict[str, Hit] = {}
        chunks: Counter[str] = Counter()
        for hit in hits:
            for parent in self._parents(hit.chunk):
                chunks[parent.id] += 1
                best.setdefault(parent.id, Hit(parent, hit.score, "parent", {**hit.scores, hit.source: hit.score}))
        counted = [replace(hit, scores={**hit.scores, "chunks": chunks[name]}) for name, hit in best.items()]
        return best_first(counted, len(counted))

    def _parents(self, chunk: Chunk) -> list[Chunk]:
        document = self.corpus.document(chunk.doc_id)
        parents = []
        for section in document.visible_sections:
            if chunk.span.answers(Span(document.id, section.start, section.end)):
                text = document.text[section.start : section.end].rstrip()
                end = section.start + len(text)
                pages = document.pages_in(section.start, end)
                whole = Chunk(document.id, section.start, end, text, section.path, chunk.metadata, pages=pages)
                parents.append(whole if len(text) <= self.limit else chunk)
        return list(dict.fromkeys(parents)) or [chunk]


class SentenceWindow(Retriever):
    """Every hit with the chunks that stand ``before`` and ``after`` it in its document, as one chunk.

    ``chunks`` are those of the index, ``corpus`` has the text between them. A chunk that already lies in a better
    hit's text is left out.

    Raises:
        InputError: (in a search) a chunk's document is not in ``corpus``.
    """

    def __init__(
        self, retriever: Retriever, chunks: Iterable[Chunk], corpus: Corpus, before: int = 1, after: int = 1
    ) -> None:
        self.retriever, self.corpus, self.before, self.after = retriever, corpus, before, after
        self._spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for start, end, doc_id in sorted((chunk.start, chunk.end, chunk.doc_id) for chunk in chunks):
            self._spans[doc_id].append((start, end))

    @cached_property
    def identity(self) -> str:
        spans = hashlib.sha256(repr(sorted(self._spans.items())).encode("utf-8", "surrogatepass")).hexdigest()
        return build_identity(self, self.retriever, spans, self.corpus, self.before, self.after)

    def _search(self, query: str, k: int) -> list[Hit]:
        return _deepened(self.retriever, query, k, self._widened, 4 * k)

    def _widened(self, hits: Sequence[Hit]) -> list[Hit]:
        wide: list[Hit] = []
        for hit in hits:
            if any(hit.chunk.span.overlap(w.chunk.span) == len(hit.chunk.span) for w in wide):
                continue
            chunk = self._with_neighbours(hit.chunk)
            wide.append(Hit(chunk, hit.score, "sentence window", {**hit.scores, hit.source: hit.score}))
        return wide

    def _with_neighbours(self, chunk: Chunk) -> Chunk:
        spans = self._spans.get(chunk.doc_id, [])
        if (chunk.start, chunk.end) not in spans:
            return chunk
        at = bisect_right(spans, (chunk.start, chunk.end)) - 1
        around = spans[max(0, at - self.before) : at + self.after + 1]
        start, end = around[0][0], max(end for _, end in around)
        document = self.corpus.document(chunk.doc_id)
        sections, pages = document.sections_in(start, end), document.pages_in(start, end)
        return replace(chunk, start=start, end=end, text=document.text[start:end], sections=sections, pages=pages)


@dataclass(frozen=True, eq=False)
class MMR(Retriever):
    """Maximal marginal relevance: each hit is relevant *and* unlike those before it.

    One after the other the chunk with the highest ``lambda_mult * relevance - (1 - lambda_mult) * likeness`` is taken,
    where relevance is the score, stretched to 0 to 1, and likeness its highest cosine with a chunk taken before, not
    below 0 (Carbonell and Goldstein 1998, SIGIR). ``vectors`` gives the chunks' unit vectors, such as ``store.pool``.

    Raises:
        InputError: ``lambda_mult`` outside 0 to 1.
    """

    retriever: Retriever
    vectors: Callable[[Sequence[Chunk]], Vectors]
    lambda_mult: float = 0.7
    fetch_k: int = 50

    def __post_init__(self) -> None:
        if not 0 <= self.lambda_mult <= 1:
            raise InputError(f"lambda_mult = {self.lambda_mult}: expected 0 to 1")

    def _search(self, query: str, k: int) -> list[Hit]:
        hits = self.retriever.search(query, max(self.fetch_k, k))
        if not hits:
            return []
        relevance = minmax(np.array([hit.score for hit in hits], dtype=np.float64))
        vectors = np.asarray(self.vectors([hit.chunk for hit in hits]), dtype=np.float64)
        order, values = marginal(relevance, vectors @ vectors.T, self.lambda_mult, k)
        return [
            Hit(hits[i].chunk, value, "mmr", {**hits[i].scores, hits[i].source: hits[i].score})
            for i, value in zip(order, values, strict=True)
        ]


def marginal(
    relevance: NDArray[np.float64], likeness: NDArray[np.float64], lambda_mult: float, k: int
) -> tuple[list[int], list[float]]:
    """The ``k`` items in the order of maximal marginal relevance, and the value at which each was taken.

    >>> marginal(np.array([1.0, 0.9, 0.5]), np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1.0]]), 0.5, 3)
    ([0, 2, 1], [0.5, 0.25, -0.05])
    """
    order: list[int] = []
    values: list[float] = []
    worst = np.zeros(len(relevance))
    while len(order) < min(k, len(relevance)):
        value = lambda_mult * relevance - (1 - lambda_mult) * worst
        value[order] = -np.inf
        best = int(np.argmax(value))
        order.append(best)
        values.append(round(float(value[best]), 12))
        worst = np.maximum(worst, likeness[best])
    return order, values

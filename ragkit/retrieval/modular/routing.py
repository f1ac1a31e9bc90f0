"""Routing: which collection can answer this question, and how sure is that?

A **classifier** gives each label a share of its belief (0 to 1, in all at most 1). A ``Router`` asks the retriever
of the best label if the share is large enough, and all of them otherwise: a wrong route loses the answer for good, a
search of everything only costs time.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Hit, InputError, Retriever
from ragkit.retrieval.analysis import Analyzer

Belief = Mapping[str, float]


class Classifier(Protocol):
    """Says how likely each label is for a query; an empty answer means: I cannot tell."""

    def belief(self, query: str) -> Belief: ...


@dataclass(frozen=True)
class Decision:
    """Where a query goes: ``route`` is None where nobody was sure enough, and everything is searched."""

    route: str | None
    confidence: float
    belief: Belief = field(default_factory=dict, hash=False)


class Rules:
    """Labels by regular expressions (upper and lower case alike). Labels whose rule matches share the belief.

    >>> Rules({"celery": r"celery|task_\\w+", "scrapy": "scrap(y|ing)"}).belief("what does task_acks_late do?")
    {'celery': 1.0}

    Raises:
        InputError: no rule, or one that is no regular expression.
    """

    def __init__(self, rules: Mapping[str, str]) -> None:
        if not rules:
            raise InputError("no rules: expected a regular expression for each label")
        self.rules = {}
        for label, rule in rules.items():
            try:
                self.rules[label] = re.compile(rule, re.IGNORECASE)
            except re.error as error:
                raise InputError(f"the rule of {label!r} is no regular expression: {error}") from None

    def belief(self, query: str) -> Belief:
        """An equal share for each label whose rule matches somewhere in ``query``."""
        found = [label for label, rule in self.rules.items() if rule.search(query)]
        return {label: 1 / len(found) for label in found}


def by_name(chunks: Iterable[Chunk], key: str = "project") -> dict[str, str]:
    """A rule for each collection: its own name, with what English hangs on it ("Scrapy's", "gunicorns").

    >>> by_name([Chunk("a", 0, 1, "x", metadata={"project": "scrapy"})])
    {'scrapy': "\\\\bscrapy\\\\w*(?:'s)?"}
    """
    labels = sorted({str(chunk.metadata[key]) for chunk in chunks if key in chunk.metadata})
    return {label: rf"\b{re.escape(label)}\w*(?:'s)?" for label in labels}


class Vocabulary:
    """Labels by the words of each collection: naive Bayes over the documents, no labelled question needed.

    The probability of a term in a collection is the share of its passages that hold the term, smoothed by
    ``alpha`` (McCallum and Nigam 1998, "A comparison of event models for naive Bayes text classification"). Every
    collection is as likely as any other before the query is read. A query without a known term has no belief.

    >>> chunks = [Chunk("a", 0, 9, "a spider", metadata={"project": "scrapy"}),
    ...           Chunk("b", 0, 8, "a worker", metadata={"project": "celery"})]
    >>> belief = Vocabulary(chunks).belief("my spider")
    >>> max(belief, key=belief.get), Vocabulary(chunks).belief("my kettle")
    ('scrapy', {})

    Raises:
        InputError: no chunks, or ``alpha`` is not above 0.
    """

    def __init__(
        self, chunks: Iterable[Chunk], key: str = "project", alpha: float = 0.01, analyzer: Analyzer | None = None
    ) -> None:
        self.analyzer, self.alpha = analyzer or Analyzer(), alpha
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        passages: Counter[str] = Counter()
        for chunk in chunks:
            label = str(chunk.metadata.get(key, ""))
            passages[label] += 1
            counts[label].update(set(self.analyzer.terms(chunk.text)))
        if not counts or alpha <= 0:
            raise InputError(f"{sum(passages.values())} chunks, alpha = {alpha}: expected some, and alpha above 0")
        self.counts, self.passages, self.labels = dict(counts), dict(passages), sorted(counts)

    def belief(self, query: str) -> Belief:
        """The posterior probability of each collection."""
        terms = {t for t in self.analyzer.terms(query) if any(t in c for c in self.counts.values())}
        if not terms:
            return {}
        logs = [sum(self._log(term, label) for term in terms) for label in self.labels]
        return dict(zip(self.labels, softmax(np.array(logs)).tolist(), strict=True))

    def _log(self, term: str, label: str) -> float:
        return math.log((self.counts[label][term] + self.alpha) / (self.passages[label] + 2 * self.alpha))


class Votes:
    """Labels by a search of everything: belief is the share of the first ``k`` hits that each collection has.

    The idea of ReDDE (Si and Callan 2003, SIGIR): where the hits are is where to search. It costs a search, so take a
    cheap retriever. On ``core`` the hits of ``DenseRetriever(scoring="maxp")`` voted best.

    Raises:
        InputError: ``k`` < 1.
    """

    def __init__(self, retriever: Retriever, key: str = "project", k: int = 10) -> None:
        if k < 1:
            raise InputError(f"k is {k}: expected 1 hit or more")
        self.retriever, self.key, self.k = retriever, key, k

    def belief(self, query: str) -> Belief:
        """The share of votes; none where nothing is found."""
        found = self.retriever.search(query, self.k)
        return _shares(Counter(str(hit.chunk.metadata.get(self.key, "")) for hit in found))


class Together:
    """The mean of several beliefs (Stone 1961, the linear opinion pool); who cannot tell is not counted.

    >>> celery, either = Rules({"celery": "worker"}), Rules({"celery": "log", "scrapy": "log"})
    >>> Together([celery, either]).belief("the log of a worker")
    {'celery': 0.75, 'scrapy': 0.25}

    Raises:
        InputError: no classifiers.
    """

    def __init__(self, classifiers: Sequence[Classifier]) -> None:
        if not classifiers:
            raise InputError("no classifiers: expected one or more")
        self.classifiers = tuple(classifiers)

    def belief(self, query: str) -> Belief:
        """The mean share of each label."""
        told = [belief for one in self.classifiers if (belief := one.belief(query))]
        labels = sorted({label for belief in told for label in belief})
        return {label: sum(belief.get(label, 0.0) for belief in told) / len(told) for label in labels}


class OneNamed:
    """``classifier``, but no belief where ``rules`` match for several labels: such a question is about all of them.

    A classifier that has to choose would send it to one. On ``core`` that lost one answer in 20 of the questions over
    two pages.

    >>> rules = Rules({"celery": "celery", "scrapy": "scrapy"})
    >>> OneNamed(rules, rules).belief("Celery"), OneNamed(rules, rules).belief("Celery or Scrapy")
    ({'celery': 1.0}, {})
    """

    def __init__(self, rules: Rules, classifier: Classifier) -> None:
        self.rules, self.classifier = rules, classifier

    def belief(self, query: str) -> Belief:
        """Nothing for several names, else what ``classifier`` says."""
        return {} if len(self.rules.belief(query)) > 1 else self.classifier.belief(query)


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``exp(v) / sum(exp(v))``.

    >>> softmax(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum())


class Router(Retriever):
    """Asks the one retriever that ``classifier`` is sure of, else ``everything``.

    Sure is a classifier that gives its best label at least ``threshold``. The hits' ``parts`` hold ``route:<label>``
    (or ``route:everything``) with the confidence.

    Raises:
        InputError: no routes, or a ``threshold`` outside 0 to 1.
    """

    def __init__(
        self,
        routes: Mapping[str, Retriever],
        classifier: Classifier,
        everything: Retriever,
        threshold: float = 0.5,
    ) -> None:
        if not routes or not 0 <= threshold <= 1:
            raise InputError(
                f"{len(routes)} routes, threshold {threshold}: expected one route or more, and a threshold from 0 to 1"
            )
        self.routes, self.classifier = dict(routes), classifier
        self.everything, self.threshold = everything, threshold
        self.inputs = (*self.routes.values(), everything)

    def decide(self, query: str) -> Decision:
        """The route for ``query``. A label without a retriever is never chosen."""
        belief = self.classifier.belief(query)
        known = {label: share for label, share in belief.items() if label in self.routes}
        best = max(known, key=lambda label: (known[label], label), default=None)
        if best is not None and known[best] >= self.threshold:
            return Decision(best, known[best], belief)
        return Decision(None, max(belief.values(), default=0.0), belief)

    def _search(self, query: str, k: int) -> list[Hit]:
        decision = self.decide(query)
        retriever = self.everything if decision.route is None else self.routes[decision.route]
        told = {f"route:{decision.route or 'everything'}": decision.confidence}
        return [replace(hit, parts={**hit.parts, **told}) for hit in retriever.search(query, k)]


def _shares(votes: Mapping[str, float] | Mapping[str, int]) -> Belief:
    total = sum(votes.values())
    return {label: votes[label] / total for label in sorted(votes)} if total > 0 else {}

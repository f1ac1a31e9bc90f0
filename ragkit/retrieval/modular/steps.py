"""More than one search for a question: its parts one by one, or again when the first try was weak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ragkit.base import Hit, InputError, Retriever, Rewriter, best_first
from ragkit.retrieval.hybrid import reciprocal_rank
from ragkit.retrieval.modular.routing import Rules


def by_rank(lists: Sequence[Sequence[Hit]], k: int, source: str) -> list[Hit]:
    """The ``k`` best by the sum of their reciprocal ranks (``hybrid.reciprocal_rank``), with the parts of all lists.

    >>> from ragkit.base import Chunk
    >>> a, b, c = (Hit(Chunk(name, 0, 1, "x"), 9.0, "s") for name in "abc")
    >>> [hit.chunk.doc_id for hit in by_rank([[a, b], [b, c]], 2, "both")]
    ['b', 'a']
    """
    found: dict[str, Hit] = {}
    for hits in lists:
        for hit, value in zip(hits, reciprocal_rank(len(hits)).tolist(), strict=True):
            before = found.get(hit.chunk.id, Hit(hit.chunk, 0.0))
            parts = {**before.parts, **hit.parts, hit.source: hit.score}
            found[hit.chunk.id] = Hit(hit.chunk, before.score + value, source, parts)
    return best_first(found.values(), k)


class EachNamed:
    """A rewriter for questions that name several things: the question once for each, without the names of the others.

    ``names`` are regular expressions (upper and lower case alike). What is left names one thing, so a router can send
    it there, and no word of it is missing in a text that knows nothing of the others. ``otherwise`` rewrites questions
    that name fewer than two.

    >>> EachNamed({"celery": "celery", "scrapy": "scrapy"}).rewrite("How do Scrapy and Celery log?")
    ['How do and Celery log?', 'How do Scrapy and log?']

    Raises:
        InputError: no names, or one that is no regular expression.
    """

    def __init__(self, names: Mapping[str, str], otherwise: Rewriter | None = None) -> None:
        self.rules, self.otherwise = Rules(names).rules, otherwise

    def rewrite(self, question: str) -> list[str]:
        """A question for each name in it, in the order of ``names``."""
        found = [label for label, rule in self.rules.items() if rule.search(question)]
        if len(found) < 2:
            return self.otherwise.rewrite(question) if self.otherwise else [question]
        return [self._without(question, [label for label in found if label != kept]) for kept in found]

    def _without(self, question: str, labels: Sequence[str]) -> str:
        for label in labels:
            question = self.rules[label].sub("", question)
        return " ".join(question.split())


class MultiHop(Retriever):
    """A question is taken apart, it and each part are searched, and the lists are fused by rank (``by_rank``).

    ``decompose`` is any rewriter (``EachNamed``; ``ragkit.rewriting.Parts``, which needs no model either). A question
    that it leaves alone is searched as it is; of another, at most ``most`` parts are searched.

    Each list has ``max(fetch, k)`` hits. ``parts["part:2"]`` is the score that a hit had in the second part's list,
    ``parts["part:0"]`` in the whole question's.

    Raises:
        InputError: ``most`` or ``fetch`` < 1.
    """

    def __init__(
        self,
        retriever: Retriever,
        decompose: Rewriter,
        most: int = 4,
        fetch: int = 15,
    ) -> None:
        if most < 1 or fetch < 1:
            raise InputError(f"most {most}, fetch {fetch}: expected 1 or more")
        self.retriever, self.decompose, self.most, self.fetch = retriever, decompose, most, fetch

    def queries(self, question: str) -> list[str]:
        """What is searched, in order: the question, then its parts."""
        found = self.decompose.rewrite(question)
        parts = list(dict.fromkeys(part for part in found if part.strip() and part != question))[: self.most]
        return [question, *parts]

    def _search(self, query: str, k: int) -> list[Hit]:
        queries = self.queries(query)
        if queries == [query]:
            return self.retriever.search(query, k)
        lists = self.retriever.search_many(queries, max(self.fetch, k))
        return by_rank([_named(hits, f"part:{n}") for n, hits in enumerate(lists)], k, "multihop")


def _named(hits: Sequence[Hit], name: str) -> list[Hit]:
    return [replace(hit, source=name, parts={**hit.parts, hit.source: hit.score}) for hit in hits]


Grader = Callable[[str, Sequence[Hit]], float]


def best_score(query: str, hits: Sequence[Hit]) -> float:
    """The simplest grade: the score of the best hit (0 where there is none)."""
    return hits[0].score if hits else 0.0


class Corrective(Retriever):
    """Grades what was found; weak results are searched again in other words, then more widely, then given up.

    After Yan et al. 2024, "Corrective retrieval augmented generation" (arXiv 2401.15884), where a trained model
    grades and a web search is the wider search. ``grade`` says how good a list is for the query:

    1. at least ``good``: it stays;
    2. else the rewritten queries of ``rewriter`` are searched, and each list is graded for the *original* query;
    3. else ``wider`` (another retriever, such as one over all collections) is asked;
    4. the best of these lists is returned if its grade is at least ``bad``, else nothing: better no passage than a
       wrong one, for who answers next would trust it.

    ``parts`` hold ``corrective:grade`` and ``corrective:searches``, the number of searches that it took.

    Raises:
        InputError: ``bad`` is above ``good``.
    """

    def __init__(
        self,
        retriever: Retriever,
        good: float,
        bad: float,
        grade: Grader = best_score,
        rewriter: Rewriter | None = None,
        wider: Retriever | None = None,
    ) -> None:
        if bad > good:
            raise InputError(f"bad = {bad} is above good = {good}: expected bad <= good")
        self.retriever, self.good, self.bad, self.grade = retriever, good, bad, grade
        self.rewriter, self.wider = rewriter, wider

    def tries(self, query: str, k: int) -> list[tuple[str, float, list[Hit]]]:
        """Every search that was made: what it was, its grade, its hits."""
        hits = self.retriever.search(query, k)
        made = [("first", self.grade(query, hits), hits)]
        if made[0][1] < self.good and self.rewriter is not None:
            for other in self.rewriter.rewrite(query):
                if other.strip() and other != query:
                    hits = self.retriever.search(other, k)
                    made.append((f"rewritten: {other}", self.grade(query, hits), hits))
        if max(grade for _, grade, _ in made) < self.good and self.wider is not None:
            hits = self.wider.search(query, k)
            made.append(("wider", self.grade(query, hits), hits))
        return made

    def _search(self, query: str, k: int) -> list[Hit]:
        made = self.tries(query, k)
        _, grade, hits = max(made, key=lambda one: one[1])
        if grade < self.bad:
            return []
        told = {"corrective:grade": grade, "corrective:searches": float(len(made))}
        return best_first((replace(hit, parts={**hit.parts, **told}) for hit in hits), k)

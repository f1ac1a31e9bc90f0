"""Offline answers: whether quotes are exact and where they lie, and whether silence falls on the right questions.

``python tests/run_bench.py answers`` prints the figures, and the weights for ``ragkit/generation/abstain.py``; for each
kind of question, too, which the results leave out. ``RAGKIT_BENCH_EXTENDED=1`` adds another corpus and its questions,
on which nothing was fitted.

A question's document, or its whole project, is taken out of the corpus to get questions that have no answer and are
put as the others are. Whatever is fitted is fitted on four projects and tried on the questions about the fifth. All
questions are asked as they are written, and in lower case, as people type them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ragkit.base import Context, Corpus, Generation, Hit, Question, Retriever, Span
from ragkit.corpus import load_pydocs, load_questions
from ragkit.evaluation.answers import citation_precision, citation_recall, token_f1
from ragkit.evaluation.statistics import auroc, auroc_interval
from ragkit.generation.abstain import THRESHOLD, Floats, Signals, coverage_and_accuracy, probability, signals
from ragkit.generation.context import build_context
from ragkit.generation.extractive import Extractive
from ragkit.markdown import closed
from ragkit.pipeline import RAGPipeline, advanced, naive
from ragkit.token_store import TokenStore

Row = tuple[str, float, str, str]
KINDS = ("faq", "keyword", "paraphrase", "multihop", "en")
PROJECTS = ("celery", "gunicorn", "scrapy", "aiohttp", "black")
LANGUAGES = ("de", "es", "fr", "ru", "zh")
CASES = ("as written", "in lower case")


def main() -> list[Row]:
    corpus = load_pydocs("core")
    store = TokenStore.open(corpus)
    presets = {
        "advanced": advanced(corpus, store=store, size=256, overlap=32, fetch_k=50),
        "naive": naive(corpus, store=store, size=256, overlap=32),
    }
    asked = {kind: load_questions(kind, corpus) for kind in (*KINDS[1:], "unanswerable")}
    asked["faq"] = corpus.questions
    found = {
        (name, how): ask(rag, questions, store)
        for name, rag in presets.items()
        for how, questions in zip(CASES, (asked, in_lower_case(asked)), strict=True)
    }
    rows = list(quality(corpus, found["advanced", "as written"], Extractive(store.maxsim, threshold=0)))
    hidden = {name: without(rag, asked, store) for name, rag in presets.items()}
    rows += silence(found, hidden)
    rows += languages(corpus, presets["advanced"], store)
    if os.environ.get("RAGKIT_BENCH_EXTENDED"):
        rows += elsewhere(asked, presets["advanced"], store)
    return rows


class Case(NamedTuple):
    """A question with what a pipeline found for it; ``answerable`` says whether the corpus has an answer."""

    kind: str
    question: Question
    context: Context
    signals: Signals
    answerable: bool

    @property
    def project(self) -> str:
        """What the question is about; other tools count to the project with the fewest questions."""
        named = [span.doc_id.split("/")[0] for span in self.question.gold] or self.question.tags
        return next((name for name in named if name in PROJECTS), PROJECTS[-1])

    @property
    def retrieved(self) -> bool:
        return any(hit.chunk.span.answers(span) for hit in self.context.hits for span in self.question.gold)


def case(kind: str, question: Question, hits: Sequence[Hit], store: TokenStore, answerable: bool) -> Case:
    context = build_context(hits)
    return Case(kind, question, context, signals(question.text, context, store), answerable)


def ask(rag: RAGPipeline, asked: Mapping[str, Sequence[Question]], store: TokenStore) -> list[Case]:
    return [
        case(kind, q, rag.retriever.search(q.text, 10), store, kind != "unanswerable")
        for kind, questions in asked.items()
        for q in questions
    ]


def in_lower_case(asked: Mapping[str, Sequence[Question]]) -> dict[str, list[Question]]:
    return {kind: [replace(q, text=q.text.lower()) for q in questions] for kind, questions in asked.items()}


class Without(Retriever):
    """``retriever`` as if the documents whose id begins with one of ``gone`` were not there."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever, self.gone = retriever, tuple[str, ...]()

    def _search(self, query: str, k: int) -> list[Hit]:
        return [h for h in self.retriever.search(query, 10_000) if not h.chunk.doc_id.startswith(self.gone)][:k]


def without(rag: RAGPipeline, asked: Mapping[str, Sequence[Question]], store: TokenStore) -> dict[str, list[Case]]:
    """The answerable questions, asked of a corpus without their documents, and without their projects."""
    less = Without(rag.vector_store)
    other = RAGPipeline(less, rag.reranker, rag.llm, fetch_k=rag.fetch_k)
    cut: dict[str, Callable[[str], str]] = {"document": lambda d: d, "project": lambda d: d.split("/")[0] + "/"}
    cases: dict[str, list[Case]] = {}
    for name, prefix in cut.items():
        cases[name] = []
        for kind in KINDS:
            for question in asked[kind]:
                less.gone = tuple(prefix(span.doc_id) for span in question.gold)
                cases[name].append(case(kind, question, other.retriever.search(question.text, 10), store, False))
    return cases


# ---- quotes


def quality(corpus: Corpus, cases: Sequence[Case], llm: Extractive, name: str = "core") -> Iterator[Row]:
    """How exact quotes are, over all questions; over those that have one, how much of them lies in the gold span."""
    exact, of_kind = [], {kind: list[list[float]]() for kind in (*KINDS, "all")}
    for given in cases:
        said = asyncio.run(llm.generate(given.question.text, given.context))
        exact.append(is_exact(said, corpus))
        if given.answerable:
            row = scores(said, given.question, corpus)
            for kind in (given.kind, "all"):
                of_kind[kind].append(row)
    yield f"{name}: answers that stand word for word in their sources", float(np.mean(exact)), "", ">= 1"
    columns = ("source precision", "source recall", "quote precision", "quote recall", "in gold", "token F1")
    for kind, rows in of_kind.items():
        if not rows:
            continue
        means = dict(zip(columns, np.mean(rows, axis=0).tolist(), strict=True))
        sys.stdout.write(f"{name} {kind} ({len(rows)}): {', '.join(f'{c} {v:.3f}' for c, v in means.items())}\n")
        if kind == "all":
            for column, value in means.items():
                yield f"{name} ({len(rows)}): {column}", value, "", ""


def is_exact(said: Generation, corpus: Corpus) -> bool:
    """Whether every quote stands in its document where it says, and the answer is nothing but quotes, their numbers,
    and the fence that closes quoted code."""
    rest = said.text
    for citation in said.citations:
        source, start = citation.chunk, citation.chunk.start + citation.chunk.text.find(citation.quote)
        text = corpus.document(source.doc_id).text
        if citation.quote not in source.text or text[start : start + len(citation.quote)] != citation.quote:
            return False
        rest = rest.replace(closed(citation.quote), "", 1).replace(f"[{citation.number}]", "", 1)
    return said.abstained or not rest.strip()


def scores(said: Generation, question: Question, corpus: Corpus) -> list[float]:
    """Precision and recall of the sources and of the quotes, whether most of the answer is gold, token F1."""
    quotes = [quoted(c.chunk.doc_id, c.chunk.start + c.chunk.text.find(c.quote), c.quote) for c in said.citations]
    gold = " ".join(corpus.document(span.doc_id).text[span.start : span.end] for span in question.gold)
    if not quotes:
        return [0.0] * 6
    inside = sum(max(quote.overlap(span) for span in question.gold) for quote in quotes)
    return [
        citation_precision(said.citations, question.gold),
        citation_recall(said.citations, question.gold),
        float(np.mean([any(quote.answers(span) for span in question.gold) for quote in quotes])),
        float(np.mean([any(quote.answers(span) for quote in quotes) for span in question.gold])),
        float(2 * inside >= sum(map(len, quotes))),
        token_f1(" ".join(c.quote for c in said.citations), gold),
    ]


def quoted(doc_id: str, start: int, quote: str) -> Span:
    return Span(doc_id, start, start + len(quote))


# ---- silence


def silence(
    found: Mapping[tuple[str, str], Sequence[Case]], hidden: Mapping[str, Mapping[str, Sequence[Case]]]
) -> Iterator[Row]:
    """How well confidence tells answerable questions from others, on projects that it was not fitted on."""
    groups: dict[tuple[str, str], Sequence[Case]] = dict(found)
    groups |= {(name, f"without their {what}"): cases for name, cut in hidden.items() for what, cases in cut.items()}
    everything = [given for cases in groups.values() for given in cases]
    weights = weigh(everything)
    fitted = fit(vectors(everything), np.array([given.answerable for given in everything]), weights)
    scaler, regression = fitted
    unscaled = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - unscaled @ scaler.mean_
    sys.stdout.write(f"BIAS, WEIGHTS = {bias:.2f}, ({', '.join(f'{w:.2f}' for w in unscaled)})\n")
    borders = np.cumsum([len(cases) for cases in groups.values()])[:-1]
    confidence = dict(zip(groups, np.split(tried_elsewhere(everything, weights), borders), strict=True))
    for name in hidden:
        yield from separation(name, {how: found[name, how] for how in CASES}, confidence)
    first = next(iter(found.values()))
    without_names = tried_elsewhere(everything, weights, [0, 1, 3])[: len(first)]
    yes = np.array([given.answerable for given in first])
    value = auroc(without_names[yes], without_names[~yes])
    yield "advanced: AUROC without the number of names, a matter of style too", value, "", ""
    both = vectors(everything)
    off = float(np.abs(probability(both) - fitted.predict_proba(both)[:, 1]).max())
    yield "shipped weights against refitted ones: difference of confidence", off, "", "<= 0.05"


def weigh(everything: Sequence[Case]) -> Floats:
    """How often each case counts: as much for answerable as for others; half of these are the ones that we wrote."""
    yes = np.array([given.answerable for given in everything])
    ours = np.array([given.kind == "unanswerable" for given in everything])
    share = np.select([yes, ours], [0.5 / yes.sum(), 0.25 / ours.sum()], 0.25 / (~yes & ~ours).sum())
    return np.asarray(800 * share)


def fit(x: Floats, answerable: np.ndarray, weights: Floats) -> Pipeline:
    """A logistic regression of scaled signals ``(n, d)``, with scikit-learn's L2 penalty."""
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(x, answerable, logisticregression__sample_weight=weights)


def tried_elsewhere(cases: Sequence[Case], weights: Floats, columns: Sequence[int] = (0, 1, 2, 3)) -> Floats:
    """The confidence ``(n,)`` in each case of a model that was fitted on the other projects."""
    held_out, project = np.zeros(len(cases)), np.array([given.project for given in cases])
    x, yes = vectors(cases)[:, list(columns)], np.array([given.answerable for given in cases])
    for name in PROJECTS:
        out = project == name
        held_out[out] = fit(x[~out], yes[~out], weights[~out]).predict_proba(x[out])[:, 1]
    return held_out


def vectors(cases: Sequence[Case]) -> Floats:
    return np.array([given.signals.vector for given in cases])


def separation(
    name: str, found: Mapping[str, Sequence[Case]], confidence: Mapping[tuple[str, str], Floats]
) -> Iterator[Row]:
    for how, cases in found.items():
        own, yes = confidence[name, how], np.array([given.answerable for given in cases])
        goal = ">= 0.85" if name == "advanced" else ""
        yield f"{name}, {how}: AUROC against unanswerable", auroc(own[yes], own[~yes]), "", goal
        yield f"{name}, {how}: unanswerable questions not answered", float((own[~yes] < THRESHOLD).mean()), "", ""
        yield f"{name}, {how}: answerable questions not answered", float((own[yes] < THRESHOLD).mean()), "", ""
    cases, own = found["as written"], confidence[name, "as written"]
    yes = np.array([given.answerable for given in cases])
    has = np.array([given.retrieved for given in cases])
    clusters = np.array([given.question.gold[0].doc_id if given.answerable else given.question.id for given in cases])
    for kind in ("all", *KINDS):
        take = np.array([kind in ("all", given.kind) or not given.answerable for given in cases])
        value, silent = auroc(own[take & yes], own[~yes]), float((own[take & yes] < THRESHOLD).mean())
        low, high = auroc_interval(own[take], yes[take], clusters[take].tolist())
        sys.stdout.write(
            f"{name}, {kind} ({int((take & yes).sum())}): AUROC {value:.3f} [{low:.3f}, {high:.3f}], "
            f"not answered {silent:.3f}\n"
        )
    yield f"{name} ({int(has.sum())}): AUROC, the answer is among the sources", auroc(own[has], own[~yes]), "", ""
    for what in ("document", "project"):
        value = auroc(own[yes], confidence[name, f"without their {what}"])
        yield f"{name}: AUROC against the same without their {what}", value, "", ""
    yield f"{name}: not answered though a source holds the answer", float((own[has] < THRESHOLD).mean()), "", ""
    yield f"{name}: expected calibration error", calibration_error(own, yes), "", ""
    coverage, accuracy = coverage_and_accuracy(own, has)
    for share in (0.25, 0.5, 0.75, 1.0):
        i = int(np.searchsorted(coverage, share - 1e-9))
        yield f"{name}: answer among the sources, of the surest {share:.0%}", float(accuracy[i]), "", ""


def languages(corpus: Corpus, rag: RAGPipeline, store: TokenStore) -> Iterator[Row]:
    """What the shipped weights make of forty questions in other languages, whose answers the English corpus has."""
    for code in LANGUAGES:
        cases = ask(rag, {code: load_questions(code, corpus)}, store)
        silent = float((probability(vectors(cases)) < THRESHOLD).mean())
        holds = float(np.mean([given.retrieved for given in cases]))
        sys.stdout.write(f"{code} ({len(cases)}): the answer is among the sources of {holds:.3f}\n")
        yield f"advanced, asked in {code}: answerable questions not answered", silent, "", ""


def calibration_error(confidence: Floats, right: np.ndarray, bins: int = 5) -> float:
    """Guo et al. 2017 (arXiv 1706.04599), eq. 3, with both kinds weighed alike, as the model was fitted."""
    weight = np.where(right, 0.5 / right.sum(), 0.5 / (~right).sum())
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    parts = [bin_of == b for b in range(bins) if (bin_of == b).any()]
    return float(sum(abs((weight[p] * (right[p] - confidence[p])).sum()) for p in parts))


def elsewhere(asked: Mapping[str, Sequence[Question]], core: RAGPipeline, core_store: TokenStore) -> Iterator[Row]:
    """The shipped weights on questions and documents that nothing was fitted on, and each corpus asked the other's."""
    corpus = load_pydocs("extended")
    store = TokenStore.open(corpus)
    rag = advanced(corpus, store=store, size=256, overlap=32, fetch_k=50)
    own = ask(rag, {"faq": corpus.questions}, store)
    yield from quality(corpus, own, Extractive(store.maxsim, threshold=0), "extended")
    theirs = ask(core, {"faq": corpus.questions}, core_store)
    kinds = {kind: asked[kind] for kind in KINDS}
    lower = ask(rag, in_lower_case({"faq": corpus.questions}), store)
    for how, cases, foreign in zip(CASES, (own, lower), (kinds, in_lower_case(kinds)), strict=True):
        yes, strange = probability(vectors(cases)), probability(vectors(ask(rag, foreign, store)))
        yield f"extended, {how}: AUROC against core's questions asked there", auroc(yes, strange), "", ""
        yield f"extended, {how}: its questions not answered", float((yes < THRESHOLD).mean()), "", ""
        yield f"extended, {how}: core's questions not answered there", float((strange < THRESHOLD).mean()), "", ""
    here = probability(vectors(own))
    yield "extended: AUROC of its questions there against on core", auroc(here, probability(vectors(theirs))), "", ""

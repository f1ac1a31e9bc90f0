"""Is a router right, what does a wrong route cost, and is modular retrieval at least as good as the advanced preset?

``python tests/run_bench.py modular`` prints the figures and the verdicts. Nothing here is fitted on the questions: the
router reads the words and the vectors of the documents.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ragkit.base import Chunk, Corpus, Question, Retriever
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.corpus import load_pydocs, load_questions
from ragkit.evaluation.compare import compare
from ragkit.pipeline import advanced
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.modular import (
    MMR,
    AbstainOnSeveral,
    AverageClassifier,
    Classifier,
    HitVoteClassifier,
    NaiveBayesClassifier,
    NameSplitter,
    Parent,
    Probabilities,
    RegexClassifier,
    Router,
    SentenceWindow,
    SubQuestions,
    name_patterns,
)
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.retrieval.rewrite import ClauseSplitter
from ragkit.token_store import TokenStore

Row = tuple[str, float, str, str]
KINDS = ("keyword", "paraphrase", "multihop", "en")
SURE = 0.7
BUDGET = 5_000


def main() -> list[Row]:
    corpus = load_pydocs("core")
    questions = {"faq": corpus.questions} | {kind: load_questions(kind, corpus) for kind in KINDS}
    everything = [question for group in questions.values() for question in group]
    store = TokenStore.open(corpus).with_queries([q.text for q in everything], tokens=True)
    chunks = chunk_corpus(FixedChunker(512, 64), corpus)
    rows = list(routing(chunks, store, everything))
    systems = built(corpus, store, chunks)
    rows += cost(systems, everything)
    for kind, group in questions.items():
        rows += table(kind, systems, group, "mrr@10")
    rows += table("multihop", systems, questions["multihop"], "recall@10")
    rows += table("multihop", systems, questions["multihop"], f"recall@{BUDGET}", same_budget=True)
    across = [q for q in questions["multihop"] if len(projects(q)) > 1]
    return rows + list(table("across projects", systems, across, "recall@10"))


def projects(question: Question) -> set[str]:
    return {gold.doc_id.split("/")[0] for gold in question.gold}


def built(corpus: Corpus, store: TokenStore, chunks: Sequence[Chunk]) -> dict[str, Retriever]:
    """The advanced preset, one retriever a project, and what can be made of them."""
    everything = advanced(corpus, store=store).retriever
    late, maxp = (
        LateInteraction(store, "geometric", pooled_below=0.5),
        DenseRetriever(chunks, store=store, scoring="maxp"),
    )

    def of(project: str) -> Retriever:
        own = [chunk for chunk in chunks if chunk.metadata["project"] == project]
        dense = DenseRetriever(own, store=store, scoring="maxp")
        return Reranked(Hybrid([BM25Retriever(own), dense]), late, fetch_k=50)

    names = name_patterns(chunks)
    routes = {project: of(project) for project in names}
    average = AverageClassifier([NaiveBayesClassifier(chunks), HitVoteClassifier(maxp)])
    router = Router(routes, AbstainOnSeveral(RegexClassifier(names), average), everything, threshold=SURE)
    small = chunk_corpus(FixedChunker(128, 16), corpus)
    windows = Reranked(Hybrid([BM25Retriever(small), DenseRetriever(small, store=store)]), late, fetch_k=50)
    return {
        "advanced": everything,
        "router": router,
        "router, sub-questions": SubQuestions(router, NameSplitter(names)),
        "router, parts": SubQuestions(router, NameSplitter(names, otherwise=ClauseSplitter())),
        "sections of windows": Parent(windows, corpus),
        "sentence window": SentenceWindow(everything, chunks, corpus),
        "mmr .9": MMR(everything, store.pool, lambda_mult=0.9),
    }


def table(
    kind: str, systems: Mapping[str, Retriever], questions: Sequence[Question], metric: str, same_budget: bool = False
) -> Iterator[Row]:
    if same_budget:
        systems = {name: systems[name] for name in ("advanced", "sentence window")}
        kind = f"{kind}, {BUDGET} tokens"
    budget = BUDGET if same_budget else None
    result = compare(systems, questions, baseline="advanced", same_budget=budget, metric=metric, progress=False)
    columns = [f"{name}@{budget or 10}" for name in ("mrr", "hit", "recall")]
    columns += ["tokens", "ms_p50", "diff", "diff_low", "diff_high", "p", "verdict"]
    sys.stdout.write(f"\n{kind}: {len(questions)} questions, {metric}\n{result.table[columns].round(3).to_string()}\n")
    for name, line in result.table.drop(index="advanced").iterrows():
        target = ">= -0.0005" if name == "router, sub-questions" else ""
        yield f"{kind}: {name} - advanced, {metric}", float(line["diff"]), "", target


def cost(systems: Mapping[str, Retriever], questions: Sequence[Question]) -> Iterator[Row]:
    """What a right and a wrong route did to the questions that were routed."""
    router = systems["router"]
    assert isinstance(router, Router)
    routes = [(q, router.decide(q.text).route) for q in questions]
    groups = {
        "right": [q for q, route in routes if route in projects(q)],
        "wrong": [q for q, route in routes if route and route not in projects(q)],
    }
    for name, group in groups.items():
        yield f"routed: {name}", float(len(group)), "questions", ""
        if len(group) > 1:
            pair = {label: systems[label] for label in ("advanced", "router")}
            means = compare(pair, group, progress=False).table["mrr@10"]
            for label in pair:
                yield f"routed {name}: {label}, mrr@10", float(means[label]), "", ""


# ---- routing


def routing(chunks: Sequence[Chunk], store: TokenStore, questions: Sequence[Question]) -> Iterator[Row]:
    """Accuracy of every classifier on questions with one right project, and how often it is wrong when it is sure."""
    names = name_patterns(chunks)
    words, votes = NaiveBayesClassifier(chunks), HitVoteClassifier(DenseRetriever(chunks, store=store, scoring="maxp"))
    single = [q for q in questions if len(projects(q)) == 1]
    telling = np.array([tells(q, words, names) for q in single])
    sys.stdout.write(f"{len(single)} questions about one project, {telling.sum()} of them name or imply it\n")
    classifiers: dict[str, Classifier] = {
        "names": RegexClassifier(names),
        "naive Bayes": words,
        "hit votes": votes,
        "naive Bayes and hit votes": AverageClassifier([words, votes]),
    }
    for name, classifier in classifiers.items():
        answers = [classifier.predict_proba(q.text) for q in single]
        right = np.array([_best(answer) in projects(q) for answer, q in zip(answers, single, strict=True)])
        sure = np.array([max(answer.values(), default=0.0) >= SURE for answer in answers])
        target = ">= 0.95" if name == "naive Bayes and hit votes" else ""
        yield f"routing by {name}: right where the question tells", float(right[telling].mean()), "", target
        yield f"routing by {name}: right on all", float(right.mean()), "", ""
        yield f"routing by {name}: sure", float(sure.mean()), "of all", ""
        yield f"routing by {name}: wrong when sure", float((~right[sure]).mean()), "", ""


def _best(answer: Probabilities) -> str:
    return max(answer, key=lambda label: (answer[label], label), default="")


def tells(question: Question, words: NaiveBayesClassifier, names: Mapping[str, str]) -> bool:
    """Whether a question names one project; or names none, and has a word that the passages of one project alone
    use (3 at least, 19 of 20), and no such word of another."""
    named = [name for name, pattern in names.items() if re.search(pattern, question.text, re.IGNORECASE)]
    own = set()
    for term in words.analyzer.terms(question.text):
        found = {label: counts[term] for label, counts in words.counts.items()}
        if sum(found.values()) >= 3 and max(found.values()) >= 0.95 * sum(found.values()):
            own.add(max(found, key=lambda label: found[label]))
    return len(named) == 1 or (not named and len(own) == 1)

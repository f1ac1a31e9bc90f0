"""Does a small language model help to search? Four rewriters and a listwise reranker, by the model in the box.

The sample of ``tests/sample.py``: 20 questions of every kind that has gold. What the model wrote is in
``results/rows/llm_retrieval.jsonl``; what is missing there is asked (for ``RAGKIT_BENCH_SECONDS``, if set; 0 only
reports), and all figures are computed from it. A difference comes with its 95 % interval: one that lies around 0 is
what the sample could not detect.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from recorded import NotRecordedError, Recorded
from sample import Rows, SearchedOnce, split

from ragkit.base import Corpus, Hit, Question, Retriever
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.corpus import load_pydocs
from ragkit.embedding.vectors import unit
from ragkit.evaluation.compare import compare
from ragkit.evaluation.statistics import wilson
from ragkit.llm.local import LocalModel
from ragkit.pipeline import advanced
from ragkit.pipeline.rag import TwoStage
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.rerank import LLMReranker, Reranked, parse_order
from ragkit.retrieval.rewrite import DECOMPOSE, HYDE, MULTI_QUERY, STEP_BACK, LLMRewriter, Rewritten
from ragkit.token_store import TokenStore

Row = tuple[str, float, str, str]
PROMPTS = (HYDE, MULTI_QUERY, STEP_BACK, DECOMPOSE)
AT_ONCE = 4  # several answers at a time are written faster than one after the other
CANDIDATES, CHARACTERS = 10, 260  # of the reranker: a prompt of some 800 tokens
ORDER = 'root ::= place (" > " place){9}\nplace ::= "[" ("10" | [1-9]) "]"'  # a grammar of llama.cpp
FEW = 10  # questions of a kind, below which only all together are reported
METRICS = {"mrr@10": None, "coverage@2000": 2000}


def main() -> list[Row]:
    logging.getLogger("ragkit.retrieval.rewrite").setLevel(logging.ERROR)  # an answer without queries is counted here
    corpus = load_pydocs("core")
    model, kinds, in_turn = recorded_model(corpus)
    rewriters = {prompt.name: LLMRewriter(prompt, model.labelled(prompt.name)) for prompt in PROMPTS}
    store = TokenStore.open(corpus)
    return [*rewriting(corpus, store, rewriters, kinds, in_turn), *reranking(corpus, store, model, kinds, in_turn)]


def recorded_model(corpus: Corpus) -> tuple[Recorded, dict[str, list[Question]], list[Question]]:
    """The model with its rows, the questions by kind, and all of them in turn, so that a part of them is balanced."""
    measured, _ = split(corpus)
    kinds = {kind: questions for kind, questions in measured.items() if kind != "unanswerable"}
    in_turn = [question for five in zip(*kinds.values(), strict=True) for question in five]
    server = LocalModel(threads=1, context=1280, slots=AT_ONCE)
    rows = Rows("llm_retrieval", {"model": server.identity, "max_tokens": 60})
    return Recorded(server=server, max_tokens=60, timeout=600, rows=rows, questions=in_turn), kinds, in_turn


T = TypeVar("T")


def answers(ask: Callable[[Question], T], questions: Sequence[Question]) -> dict[str, T]:
    """What ``ask`` makes of each question, by its text; without those that were not recorded."""

    def one(question: Question) -> tuple[str, T] | None:
        try:
            return question.text, ask(question)
        except NotRecordedError:
            return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(filter(None, pool.map(one, questions)))


# ---- rewriters


def rewriting(
    corpus: Corpus,
    store: TokenStore,
    rewriters: Mapping[str, LLMRewriter],
    kinds: Mapping[str, Sequence[Question]],
    in_turn: Sequence[Question],
) -> Iterator[Row]:
    queries = {question.text: [question.text] for question in in_turn}
    for rewriter in rewriters.values():  # one after the other, as the server keeps the beginning of the last prompt
        made = answers(lambda question, ask=rewriter: ask.explain(question.text).queries, in_turn)
        queries = {text: [*own, *made[text]] for text, own in queries.items() if text in made}
    kinds = {kind: [q for q in questions if q.text in queries] for kind, questions in kinds.items()}
    asked = [question for questions in kinds.values() for question in questions]
    yield "rewriters: questions", len(asked), "of 100", ""
    for name, rewriter in rewriters.items():
        wrote = sum(not rewriter.explain(question.text).reason for question in asked)
        yield f"rewriters: {name} wrote something to search", wrote, f"of {len(asked)}", ""
    store = store.with_queries(list(dict.fromkeys(query for made in queries.values() for query in made)))
    chunks = chunk_corpus(FixedChunker(512, 64), corpus)
    preset = advanced(corpus, store=store)
    first, reranker = SearchedOnce(preset.vector_store), preset.reranker
    bm25, dense = SearchedOnce(BM25Retriever(chunks)), DenseRetriever(chunks, store=store)
    systems: dict[str, dict[str, Retriever]] = {}
    for name, plain in {"BM25": bm25, "dense": SearchedOnce(dense)}.items():
        systems[name] = {name: plain, **{of: Rewritten(plain, rewriter) for of, rewriter in rewriters.items()}}
    systems["dense"]["hyde, vectors averaged"] = SearchedOnce(MeanOfVectors(dense, rewriters["hyde"]))
    systems["advanced"] = {
        name: SearchedOnce(TwoStage(first, reranker, rewriter, 50))
        for name, rewriter in {"advanced": None, **rewriters}.items()
    }
    for own in systems.values():
        yield from verdicts("rewriters", own, kinds)


class MeanOfVectors(Retriever):
    """Searches the mean of the queries' vectors, as Gao et al. do with HyDE (arXiv 2212.10496, equation 8)."""

    def __init__(self, retriever: DenseRetriever, rewriter: LLMRewriter) -> None:
        self.retriever, self.rewriter = retriever, rewriter

    def _search(self, query: str, k: int) -> list[Hit]:
        vectors = self.retriever._encode_queries(self.rewriter.rewrite(query))
        return self.retriever._nearest(unit(vectors.mean(axis=0, keepdims=True)), k)[0]


def verdicts(part: str, systems: Mapping[str, Retriever], kinds: Mapping[str, Sequence[Question]]) -> Iterator[Row]:
    """The value of each system (the first one is the baseline) and the verdict on it, on each kind and on all."""
    base, everything = next(iter(systems)), [question for questions in kinds.values() for question in questions]
    for kind, questions in {**kinds, "all": everything}.items():
        for metric, budget in METRICS.items():
            if len(questions) < (2 if kind == "all" else FEW):
                continue
            result = compare(systems, questions, base, same_budget=budget, metric=metric, progress=False)
            assert not len(result.errors), result.errors.iloc[0]
            sys.stdout.write(f"\n{part}, {kind}\n{result!r}\n")
            for name, line in result.table.iterrows():
                interval = f"{line['diff']:+.3f} [{line['diff_low']:+.3f}, {line['diff_high']:+.3f}] {line['verdict']}"
                what = f"{part}, {kind}, {metric}: {base}" + (f", {name}" if name != base else "")
                yield what, float(line[metric]), interval if name != base else f"{len(questions)} questions", ""


# ---- the reranker


def reranking(
    corpus: Corpus,
    store: TokenStore,
    model: Recorded,
    kinds: Mapping[str, Sequence[Question]],
    in_turn: Sequence[Question],
) -> Iterator[Row]:
    store = store.with_queries([question.text for question in in_turn])
    preset = advanced(corpus, store=store)
    assert preset.reranker is not None
    first = SearchedOnce(preset.vector_store)
    free = model.labelled("reranker", keep=order_only)
    bound = replace(model.labelled("reranker, grammar", keep=order_only), extra={"grammar": ORDER})
    candidates = {question.text: first.search(question.text, CANDIDATES) for question in in_turn}
    judges, asked = {}, set(candidates)
    for name, llm in {"language model": free, "language model, grammar": bound}.items():
        judge = judges[name] = LLMReranker(llm, CANDIDATES, CHARACTERS)
        ranked = answers(lambda q, judge=judge: judge.rerank(q.text, candidates[q.text], CANDIDATES), in_turn)
        asked &= set(ranked)
        yield from orders(f"reranker, {name}", candidates, ranked)
    kinds = {kind: [q for q in questions if q.text in asked] for kind, questions in kinds.items()}
    rerankers = {"no reranker": Unchanged(), **judges, "late interaction": preset.reranker}
    systems = {name: SearchedOnce(Reranked(first, reranker, CANDIDATES)) for name, reranker in rerankers.items()}
    yield from verdicts("reranker", systems, kinds)


def orders(name: str, candidates: Mapping[str, Sequence[Hit]], ranked: Mapping[str, Sequence[Hit]]) -> Iterator[Row]:
    """How often there is an order, how often it is the one that the model got, and its love of the first place."""
    pairs = [
        ([hit.chunk.id for hit in candidates[text]], [hit.chunk.id for hit in hits]) for text, hits in ranked.items()
    ]
    yield f"{name}: questions", len(pairs), f"of {len(candidates)}", ""
    for what, count in {
        "no order in the answer": sum(hits[0].source != "llm" for hits in ranked.values()),
        "the order it got, or none": sum(before == after for before, after in pairs),
        "the first place stays first": sum(before[0] == after[0] for before, after in pairs),
    }.items():
        if pairs:
            low, high = wilson(count, len(pairs))
            yield f"{name}: {what}", count / len(pairs), f"share [{low:.2f}, {high:.2f}]", ""


def order_only(answer: str) -> str:
    """What is read of an answer, without the passages that it may copy."""
    return " > ".join(f"[{place + 1}]" for place in parse_order(answer, CANDIDATES)) or "no order"


class Unchanged:
    """A reranker that leaves the order as it is."""

    def rerank(self, query: str, hits: Sequence[Hit], k: int) -> list[Hit]:
        return list(hits[:k])

"""How far feedback carries: how often a suggested place is right, and what training on confirmed questions brings.

``python tests/run_bench.py feedback`` prints the figures; those of notebook 13 are its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ragkit.base import Answer, Corpus, Question
from ragkit.corpus import load_pydocs, load_questions
from ragkit.embedding import load_embedder
from ragkit.evaluation.compare import compare
from ragkit.markdown import blocks, sentences
from ragkit.pipeline import RAGPipeline, advanced, naive
from ragkit.production.feedback import Feedback, FeedbackStore, ReviewItem, suggest, training_pairs
from ragkit.production.monitoring import TraceMonitor
from ragkit.production.regression import RegressionSet
from ragkit.production.simulation import SimulatedUsers, is_right
from ragkit.retrieval.dense import DenseRetriever
from ragkit.token_store import TokenStore
from ragkit.training.adapter import adapted, train_adapter
from ragkit.training.pairs import make_pairs

Row = tuple[str, float, str, str]
KINDS = ("en", "keyword", "paraphrase")


def main() -> list[Row]:
    corpus = load_pydocs("core")
    questions = [*corpus.questions, *(q for kind in KINDS for q in load_questions(kind, corpus))]
    store = TokenStore.open(corpus).with_queries([q.text for q in questions], tokens=True)
    plain, better = naive(corpus, store=store), advanced(corpus, store=store)
    answers = asyncio.run(plain.query_many([q.text for q in questions]))
    wrong = [(q, a) for q, a in zip(questions, answers, strict=True) if not is_right(q, a)]
    rows: list[Row] = [
        ("naive: questions", len(questions), "", ""),
        ("naive: answered wrongly or not at all", len(wrong), "", ""),
        ("naive: of these, not at all", sum(a.abstained for _, a in wrong), "", ""),
    ]
    given = corrections(corpus)
    rows += suggested("only a thumb down; searched by naive", wrong, given["only a thumb down"], corpus, plain)
    for what, correction in given.items():
        rows += suggested(f"{what}; searched by advanced", wrong, correction, corpus, better)
    return [*rows, *trained(questions, dict(zip((q.id for q in questions), answers, strict=True)), corpus, store)]


def trained(
    questions: Sequence[Question], answers: Mapping[str, Answer], corpus: Corpus, store: TokenStore
) -> Iterator[Row]:
    """Adapters trained with and without feedback on one half of the documents, asked about the other half.

    The feedback is simulated: eight readers for each question, and a reviewer who knows the gold.
    """
    asked_about = set(sorted({q.gold[0].doc_id for q in questions})[::2])
    asked = {q.text: q for q in questions if q.gold[0].doc_id in asked_about}
    apart = [q for q in questions if q.text not in asked]
    embedder, readers = load_embedder(cache=True), SimulatedUsers()
    with TemporaryDirectory() as folder, TraceMonitor(Path(folder) / "t.db") as monitor:
        rag = naive(corpus, store=store, monitor=monitor)
        with FeedbackStore(monitor, Path(folder) / "f.db") as feedback:
            for question in asked.values():
                answer = asyncio.run(rag.query(question.text))
                for opinion in (readers.judge(question, answer, f"reader {i}") for i in range(8)):
                    if opinion.speaks:
                        told = (opinion.thumb, opinion.reasons, "", opinion.flagged)
                        feedback.add(opinion.trace_id, *told, who=opinion.reader)
            regressions = RegressionSet(Path(folder) / "r.jsonl", corpus)
            queue = [asked[flag.question] for flag in feedback.queue()]
            for question in queue:
                if not is_right(question, answers[question.id]):
                    regressions.add(question.text, question.gold, who="simulated")
            pairs = training_pairs(feedback, regressions)
    yield "training: questions that got a thumb down", len(queue), "", ""
    yield "training: of these, truly wrong and confirmed", len(pairs), "", ""
    tested = {q.gold[0].doc_id for q in apart}
    own = tuple(d for d in corpus.documents if d.metadata["project"] in ("celery", "scrapy"))
    documents = make_pairs(Corpus("own", own), tokens=64, negatives=0)
    documents = [pair for pair in documents if pair.positive.doc_id not in tested]
    adapters = {
        "documents alone": train_adapter(documents, embedder, store=store),
        "with feedback": train_adapter([*documents, *pairs], embedder, store=store),
        "with feedback 10 times": train_adapter([*documents, *pairs * 10], embedder, store=store),
    }
    chunks = naive(corpus, store=store).vector_store.chunks
    systems = {"no adapter": DenseRetriever(chunks, store)}
    for name, adapter in adapters.items():
        asking = TokenStore.open(corpus, adapted(load_embedder(), adapter)).with_queries([q.text for q in apart])
        systems[name] = DenseRetriever(chunks, asking)
    table = compare(systems, apart, baseline="documents alone", progress=False).table
    for name, line in table.iterrows():
        yield f"adapter, {name}: MRR@10 of {len(apart)} questions", float(line["mrr@10"]), "", ""
        if name != "documents alone":
            yield f"adapter, {name}: p against documents alone", float(line["p"]), "", ""


def corrections(corpus: Corpus) -> dict[str, Callable[[Question], str]]:
    """What a reviewer may give: nothing, or something of the gold."""

    def gold(question: Question) -> str:
        span = question.gold[0]
        return corpus.document(span.doc_id).text[span.start : span.end]

    def first_sentence(question: Question) -> str:
        text = gold(question)
        block = blocks(text)[0]
        paragraph = text[block.start : block.end]
        return paragraph[slice(*sentences(paragraph)[0])]

    def some_words(share: float) -> Callable[[Question], str]:
        def shuffled(question: Question) -> str:
            chance, words = random.Random(question.id), gold(question).split()
            kept = [word for word in words if chance.random() < share] or words[:3]
            chance.shuffle(kept)
            return " ".join(kept[:60])

        return shuffled

    return {
        "only a thumb down": lambda question: "",
        "the right passage, copied": gold,
        "its first sentence": first_sentence,
        "half of its words, shuffled": some_words(0.5),
        "a fifth of its words, shuffled": some_words(0.2),
    }


def suggested(
    what: str,
    wrong: Sequence[tuple[Question, Answer]],
    correction: Callable[[Question], str],
    corpus: Corpus,
    rag: RAGPipeline,
) -> Iterator[Row]:
    first = three = 0
    for question, answer in wrong:
        complaint = Feedback(0, 0.0, "t", -1, ("wrong",), correction(question), answer=answer.text)
        flag = ReviewItem(question.text, 1.0, 1, 0, 1, 0.5, ("wrong",), (complaint,))
        spans = [place.chunk.span for place in suggest(flag, corpus, rag).places]
        hits = [any(span.answers(gold) for gold in question.gold) for span in spans]
        first, three = first + any(hits[:1]), three + any(hits)
    yield f"suggestion, {what}: first place", first / len(wrong), "", ""
    yield f"suggestion, {what}: first three", three / len(wrong), "", ""

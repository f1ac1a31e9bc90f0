"""What helps a small model: a short context, a tuned prompt, a constrained choice; and quotes without a model.

``python tests/run_bench.py generation`` measures what ``results/rows/generation.jsonl`` has not yet, one row a question
and model's arm, and makes the table of it. ``RAGKIT_BENCH_SECONDS`` ends the measuring after so many seconds; the rest
is measured by the next run, and 0 makes the table of the rows that are there. Quotes without a model are made anew each
time: they take milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import numpy as np
from sample import Rows, split

from ragkit.base import LLM, Answer, Chunk, Citation, Context, Corpus, Generation, Hit, Question, RagkitError
from ragkit.corpus import load_pydocs
from ragkit.evaluation.answers import citation_precision, citation_recall, faithfulness, statements
from ragkit.evaluation.faithfulness import Faithfulness, relevance
from ragkit.evaluation.statistics import estimate, level, minimum_detectable
from ragkit.files import sha256_file
from ragkit.generation import Extractive, OpenAIChat, stream_answer
from ragkit.generation.abstain import Abstaining
from ragkit.generation.context import build_context
from ragkit.generation.prompts import SHORT, render
from ragkit.generation.small import Focused, QuotingChat
from ragkit.llm.local import LocalModel
from ragkit.pipeline import advanced
from ragkit.token_store import TokenStore
from ragkit.tokens import minilm_tokenizer

Row = tuple[str, float, str, str]
Case = tuple[str, Question, Context]
THREADS = 1
ROOM = 200  # tokens that a model may write: one that repeats itself would not end
LOWER = ("first token", "whole answer")
SHARES = ("answered", "cites", "citation precision", "citation recall", "passage precision", "faithfulness")
METRICS = (*SHARES, "relevance", *LOWER)
KIND_METRICS = ("answered", "citation precision", "citation recall", "faithfulness", "relevance")
SOURCES = "sources"
PLAIN = "plain"
QUOTES = "extractive"
FIRST = "first passage"
KIND_ARMS = (PLAIN, "tuned", "constrained", QUOTES)


def main() -> list[Row]:
    corpus = load_pydocs("core")
    store = TokenStore.open(corpus)
    measured, _ = split(corpus)
    by_kind = [[(kind, question) for question in group] for kind, group in measured.items()]
    turns = [case for case in chain(*zip_longest(*by_kind)) if case]  # an unfinished run has all kinds alike
    model = LocalModel(threads=THREADS)
    rows = Rows("generation", about(model))
    cases = with_sources(turns, rows, corpus, store)
    models, quotes = arms(model, store), quoting_arms(store)
    end = time.monotonic() + float(os.environ.get("RAGKIT_BENCH_SECONDS", "inf"))
    for name, llm in models.items():
        for _, question, context in cases:
            if (name, question.id) not in rows.rows and time.monotonic() < end:
                rows.add((name, question.id), **asyncio.run(measure(llm, question.text, context)))
    answers = dict(rows.rows)
    for name, llm in quotes.items():
        for _, question, context in cases:
            answers[name, question.id] = asyncio.run(measure(llm, question.text, context))
    return list(table([*models, *quotes], cases, answers, Scorer(corpus, Faithfulness(store))))


def with_sources(turns: Sequence[tuple[str, Question]], rows: Rows, corpus: Corpus, store: TokenStore) -> list[Case]:
    """The questions with what is read for them: retrieved once, by the advanced preset, then kept in the rows."""
    if missing := [question for _, question in turns if (SOURCES, question.id) not in rows.rows]:
        retriever = advanced(corpus, store=store).retriever
        for question in missing:
            hits = build_context(retriever.search(question.text, 10)).hits
            spans = [[hit.chunk.doc_id, hit.chunk.start, hit.chunk.end] for hit in hits]
            rows.add((SOURCES, question.id), spans=spans)
    return [
        (kind, question, read([chunk_at(*span, corpus) for span in rows.rows[SOURCES, question.id]["spans"]]))
        for kind, question in turns
    ]


def read(chunks: Sequence[Chunk]) -> Context:
    text = render(chunks)
    return Context(text, tuple(Hit(chunk, 1.0) for chunk in chunks), minilm_tokenizer().count(text))


def chunk_at(doc_id: str, start: int, end: int, corpus: Corpus) -> Chunk:
    document = corpus.document(doc_id)
    return Chunk(doc_id, start, end, document.text[start:end], document.section_at(start), document.metadata)


def about(model: LocalModel) -> dict[str, Any]:
    """What must be the same for rows to be comparable."""
    return {"model": model.name, "sha256": sha256_file(model.file()), "threads": THREADS, "context": model.context}


def arms(model: LocalModel, store: TokenStore) -> dict[str, LLM]:
    """What answers, the slowest last."""
    plain = OpenAIChat(server=model, max_tokens=ROOM, timeout=300)
    tuned = OpenAIChat(server=model, prompt=SHORT, max_tokens=80, extra={"stop": ["\n\n"]}, timeout=300)
    return {
        "constrained": Focused(QuotingChat(server=model, timeout=300), store.maxsim),
        "tuned": Focused(tuned, store.maxsim),
        "plain of 300 tokens": Focused(plain, store.maxsim),
        PLAIN: plain,
    }


def quoting_arms(store: TokenStore) -> dict[str, LLM]:
    """Quotes without a model, as the presets have them, and without keeping silent."""
    quotes = Extractive(store.maxsim, threshold=0.05)
    first = Focused(First(), store.maxsim)
    return {QUOTES: Abstaining(quotes, store), f"{QUOTES} without silence": quotes, FIRST: first}


class First:
    """Quotes the first source: what the choice of a model has to beat."""

    async def generate(self, question: str, context: Context) -> Generation:
        chunk = context.hits[0].chunk
        return Generation(chunk.text, (Citation(1, chunk, chunk.text),))


async def measure(llm: LLM, question: str, context: Context) -> dict[str, Any]:
    """One answer: the text if a model wrote it, the spans of what it cites and quotes, and the time it took."""
    began, first, done = time.perf_counter(), 0.0, Generation("")
    try:
        async with aclosing(stream_answer(llm, question, context)) as pieces:
            async for piece in pieces:
                first = first or time.perf_counter() - began
                done = done if isinstance(piece, str) else piece
    except RagkitError as error:
        return {"error": str(error)}
    total = time.perf_counter() - began
    row = {
        "cited": [[c.number, c.chunk.doc_id, c.chunk.start, c.chunk.end, *quote_of(c)] for c in done.citations],
        "abstained": done.abstained,
        "reason": done.reason,
        "first_ms": round(1000 * first),
        "total_ms": round(1000 * total),
        "tokens": [done.usage.input_tokens, done.usage.output_tokens],
    }
    return row if any(c.quote for c in done.citations) else {"text": done.text, **row}


def quote_of(citation: Citation) -> list[int]:
    """Where the quote stands in its document; nothing where none is given."""
    if not citation.quote:
        return []
    start = citation.chunk.start + citation.chunk.text.index(citation.quote)
    return [start, start + len(citation.quote)]


# ---- from rows to scores


class Scorer(NamedTuple):
    """What a row is worth; None where there is nothing to score."""

    corpus: Corpus
    faithfulness: Faithfulness

    def scores(self, row: Mapping[str, Any], question: Question, context: Context) -> dict[str, float | None]:
        """Whatever was cited counts as the source that it stands in, so that short sources are no advantage;
        ``passage precision`` is of the passages themselves, where a system cites such."""
        values: dict[str, float | None] = dict.fromkeys(METRICS)
        if "error" in row:
            return values
        values |= {"answered": float(not row["abstained"])}
        values |= dict(zip(LOWER, (row["first_ms"], row["total_ms"]), strict=True))
        if row["abstained"]:
            return values | ({"citation recall": 0.0} if question.gold else {})
        answer = self.answer(row, question)
        parts = statements(answer)
        values["cites"] = float(bool(row["cited"]))
        if parts:
            sources = [hit.chunk for hit in context.hits]
            values["faithfulness"] = faithfulness(parts, sources, self.faithfulness)
            text = "\n".join(part.text for part in parts)
            values["relevance"] = relevance(question.text, text, self.faithfulness.store)
        if question.gold:
            sources_cited = [self.source_of(citation.chunk, context) for citation in answer.citations]
            values["citation recall"] = citation_recall(sources_cited, question.gold, question.any_of)
            if sources_cited:
                values["citation precision"] = citation_precision(sources_cited, question.gold)
                passages = [Citation(i, self.chunk(spot)) for i, spot in enumerate(self.passages(row))]
                values["passage precision"] = citation_precision(passages, question.gold)
        return values

    def answer(self, row: Mapping[str, Any], question: Question) -> Answer:
        """The answer as it was: a quoted one is put together again from its spans."""
        citations = tuple(
            Citation(number, self.chunk((doc_id, start, end)), self.chunk((doc_id, *quote)).text if quote else "")
            for number, doc_id, start, end, *quote in row["cited"]
        )
        text = row.get("text") or "\n\n".join(f"{c.quote} [{c.number}]" for c in citations)
        return Answer(question.text, text, citations=citations)

    def passages(self, row: Mapping[str, Any]) -> list[tuple[str, int, int]]:
        return [(doc_id, *(quote or (start, end))) for _, doc_id, start, end, *quote in row["cited"]]

    def chunk(self, spot: tuple[str, int, int]) -> Chunk:
        return chunk_at(*spot, self.corpus)

    def source_of(self, chunk: Chunk, context: Context) -> Citation:
        """The source of the context that ``chunk`` is a part of."""
        overlaps = [hit.chunk.span.overlap(chunk.span) for hit in context.hits]
        best = int(np.argmax(overlaps))
        return Citation(best + 1, context.hits[best].chunk)


# ---- from scores to the table

Scores = dict[tuple[str, str], dict[str, float | None]]  # by arm and question


def table(
    systems: Sequence[str], cases: Sequence[Case], answers: Mapping[tuple[str, ...], Mapping[str, Any]], scorer: Scorer
) -> Iterator[Row]:
    """Levels of every arm, and its differences to the plain prompt and to quotes, on the questions that both have.

    Of a kind of question only the differences are listed that are detected; how many others there are stands below.
    """
    scores = {
        (name, question.id): scorer.scores(answers[name, question.id], question, context)
        for name in systems
        for _, question, context in cases
        if (name, question.id) in answers
    }
    everything = [question for _, question, _ in cases]
    pairs = [(name, other) for other in (PLAIN, QUOTES) for name in systems if name != other]
    pairs = [*(pair for pair in pairs if pair != (PLAIN, QUOTES)), ("constrained", FIRST)]
    for name in systems:
        yield from levels(f"all, {name}", name, everything, scores, METRICS)
    for name, other in pairs:
        yield from differences(f"all, {name} - {other}", (name, other), everything, scores)
    found = []
    for kind in dict.fromkeys(kind for kind, _, _ in cases):
        questions = [question for own, question, _ in cases if own == kind]
        for name in KIND_ARMS:
            yield from levels(f"{kind}, {name}", name, questions, scores, KIND_METRICS)
        for pair in pairs:
            found += differences(f"{kind}, {pair[0]} - {pair[1]}", pair, questions, scores)
    yield from (row for row in found if ", detected" in row[2])
    detected = sum(", detected" in row[2] for row in found)
    by_chance = f"of {len(found)}; {0.05 * len(found):.0f} by chance"
    yield "differences that a kind of 20 questions detects, each tested by itself", detected, by_chance, ""


def levels(
    title: str, name: str, questions: Sequence[Question], scores: Scores, metrics: Sequence[str]
) -> Iterator[Row]:
    """Each metric's mean, over how many answers, and its interval; of milliseconds the median."""
    for metric in metrics:
        for what, some in groups(metric, questions):
            scored = [(q, value) for q in some if (value := scores.get((name, q.id), {}).get(metric)) is not None]
            values = np.array([value for _, value in scored])
            if len(values) < 2:
                continue
            if metric in LOWER:
                yield f"{title}: {what}, median of {len(values)}", float(np.median(values)), "ms", ""
                continue
            units = [unit(q) for q, _ in scored]
            interval = level(values[:, None], units) if metric in SHARES else estimate(values[:, None], units)
            spread = f"[{interval.low[0]:.2f}, {interval.high[0]:.2f}]"
            yield f"{title}: {what}, of {len(values)}", float(values.mean()), spread, ""


def differences(title: str, pair: tuple[str, str], questions: Sequence[Question], scores: Scores) -> Iterator[Row]:
    """Paired differences with their interval, and the smallest true one that so many answers would show."""
    for metric in METRICS:
        for what, some in groups(metric, questions):
            values_of = [(q, *(scores.get((arm, q.id), {}).get(metric) for arm in pair)) for q in some]
            both = [(q, own - other) for q, own, other in values_of if own is not None and other is not None]
            if len(both) < 5:
                continue
            values, units = np.array([value for _, value in both])[:, None], [unit(q) for q, _ in both]
            result = estimate(values, units)
            verdict = "detected" if result.p[0] < 0.05 else "not detected"
            least = float(minimum_detectable(values, units)[0])
            spread = f"[{result.low[0]:.3g}, {result.high[0]:.3g}], {verdict}, shows {least:.2g} or more"
            yield f"{title}: {what}, of {len(both)}", float(result.mean[0]), spread, ""


def groups(metric: str, questions: Sequence[Question]) -> Iterator[tuple[str, list[Question]]]:
    """Whether it is answered is another matter where there is no answer: two figures, not a mean of both."""
    if metric != "answered":
        yield metric, list(questions)
        return
    yield "answered though there is no answer", [q for q in questions if not q.gold]
    yield "answered where there is one", [q for q in questions if q.gold]


def unit(question: Question) -> str:
    """What is drawn again: the document."""
    return question.gold[0].doc_id if question.gold else question.id


if __name__ == "__main__":
    for row in main():
        sys.stdout.write(f"{row}\n")

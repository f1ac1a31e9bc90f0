"""Who tells what a small model invented: the faithfulness scorer, the model asked for yes or no, ragas with that model.

``python tests/run_bench.py judging`` prints the figures, on the labelled sentences of ``data/written.jsonl``.
``python tests/bench/bench_judging.py write`` lets the packaged model answer the sample's questions and prints its
sentences for that file, without labels; ``... record`` writes ragas' verdicts as ``data/judged.json``.

The model's replies are rows of ``results/rows/judging.jsonl``: only those that are missing are asked for.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from statistics import mean, median

import numpy as np
from numpy.typing import NDArray
from openai import OpenAI
from sample import KINDS, Rows, split
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score

from ragkit import advanced
from ragkit.base import Answer, Context, Corpus, Hit, Question, Usage
from ragkit.concurrency import gather_limited
from ragkit.corpus import load_pydocs
from ragkit.evaluation.answers import SUPPORTED, statements
from ragkit.evaluation.faithfulness import Faithfulness, WrittenSentence, chunk_at, load_written_sentences
from ragkit.evaluation.judge import FAITHFULNESS, METRICS, JudgeRun, RagasJudge, Verdict
from ragkit.evaluation.statistics import Floats, auroc, auroc_interval
from ragkit.files import data_file
from ragkit.generation.answer import OpenAIChat, parse_citations
from ragkit.generation.context import build_context
from ragkit.generation.prompts import render
from ragkit.llm.chat import ChatModel, Messages
from ragkit.llm.local import LocalModel, packaged_weights
from ragkit.token_store import TokenStore

Row = tuple[str, float, str, str]
BUDGET = 300  # tokens of the sources
QUESTIONS = 70  # of the sample, in turn of every kind
ANSWERS = 40  # that ragas judges
WRITER = LocalModel(threads=1, slots=4)
SERVER = LocalModel(threads=1, slots=1)


def main() -> list[Row]:
    corpus = load_pydocs("core")
    store = TokenStore.open(corpus)
    sentences = load_written_sentences(corpus)
    rows = open_rows()
    return [
        *label_rows(sentences),
        *scorer_rows(sentences, store),
        *yes_or_no_rows(sentences, rows),
        *ragas_rows(sentences, rows, store),
    ]


def open_rows() -> Rows:
    return Rows("judging", {"model": packaged_weights().sha256, "budget": BUDGET})


# ---- the answers, and the sentences in them


def sampled(corpus: Corpus) -> list[Question]:
    """The answerable questions of the sample, the kinds in turn."""
    measured, _ = split(corpus)
    return [question for row in zip(*(measured[kind] for kind in KINDS[:5]), strict=True) for question in row]


def find_sources(questions: Sequence[Question], corpus: Corpus, rows: Rows) -> None:
    """A row a question: the spans that fit ``BUDGET`` tokens."""
    missing = [question for question in questions if ("sources", question.id) not in rows.rows]
    retriever = advanced(corpus).retriever if missing else None
    for question in missing:
        context = build_context(retriever.search(question.text, 10), BUDGET)
        spans = [[hit.chunk.doc_id, hit.chunk.start, hit.chunk.end] for hit in context.hits]
        rows.add(("sources", question.id), spans=spans)


async def write_answers(questions: Sequence[Question], corpus: Corpus, rows: Rows) -> None:
    """A row a question: what the model answers from its sources."""
    llm = OpenAIChat(server=WRITER, max_tokens=100, timeout=300)

    async def write(question: Question) -> None:
        hits = tuple(Hit(chunk_at(corpus, *span), 1.0) for span in rows.rows["sources", question.id]["spans"])
        done = await llm.generate(question.text, Context("", hits, BUDGET))
        rows.add(("answer", question.id), text=done.text, abstained=done.abstained)

    missing = [question for question in questions if ("answer", question.id) not in rows.rows]
    await gather_limited(WRITER.slots, [partial(write, question) for question in missing])


def unlabelled(questions: Sequence[Question], corpus: Corpus, rows: Rows) -> Iterator[dict[str, object]]:
    """The sentences of the answers, without markers of citations.

    Left out are code, repetitions within an answer, headings, announcements ("The answer is:"), and fragments of fewer
    than four words. The last sentence of an answer may be cut off.
    """
    for question in questions:
        row, spans = rows.rows["answer", question.id], rows.rows["sources", question.id]["spans"]
        context = Context("", tuple(Hit(chunk_at(corpus, *span), 1.0) for span in spans), BUDGET)
        answer = Answer(question.text, row["text"], context.hits, parse_citations(row["text"], context))
        texts: list[str] = []
        for text in [] if row["abstained"] else [statement.text for statement in statements(answer)]:
            again = any(other.startswith(text) for other in texts)  # also where the end is cut off
            if not again and len(text.split()) >= 4 and "```" not in text and text[0] != "#" and text[-1] != ":":
                texts.append(text)
                yield {"question": question.id, "sentence": text, "sources": spans}


# ---- the labels


def label_rows(sentences: Sequence[WrittenSentence]) -> Iterator[Row]:
    first, second = zip(*(sentence.labels for sentence in sentences), strict=True)
    yield "sentences", len(sentences), "", ">= 150"
    yield "questions", len({sentence.question.id for sentence in sentences}), "", ""
    share = mean(sentence.supported for sentence in sentences)
    yield "labels: share supported", share, "", ""
    yield "right by giving all sentences the commoner label", max(share, 1 - share), "", ""
    yield "labels: the same in both passes", mean(a == b for a, b in zip(first, second, strict=True)), "", ""
    yield "labels: Cohen's kappa of the two passes", cohen_kappa_score(first, second), "", ""


def verdict_rows(name: str, scores: Sequence[float], sentences: Sequence[WrittenSentence]) -> Iterator[Row]:
    """How well ``scores`` separate supported sentences from the others; the interval draws questions again."""
    values, labels = np.array(scores), np.array([sentence.supported for sentence in sentences])
    yield from area_rows(name, values, labels, [sentence.question.id for sentence in sentences])
    accepted = values >= SUPPORTED
    yield f"{name}: share accepted (score of .5 or more)", float(accepted.mean()), "", ""
    yield f"{name}: right", float((accepted == labels).mean()), "", ""
    yield f"{name}: precision, of the accepted, supported", precision_score(labels, accepted, zero_division=0), "", ""
    yield f"{name}: recall, of the supported, accepted", recall_score(labels, accepted), "", ""
    yield f"{name}: of the unsupported, rejected", float((~accepted[~labels]).mean()), "", ""
    yield f"{name}: Cohen's kappa with the labels", cohen_kappa_score(labels, accepted), "", ""


def area_rows(name: str, values: Floats, labels: NDArray[np.bool_], questions: Sequence[str]) -> Iterator[Row]:
    low, high = auroc_interval(values, labels, questions)
    yield f"{name}: AUROC", auroc(values[labels], values[~labels]), "", ""
    yield f"{name}: AUROC, from", low, "", ""
    yield f"{name}: AUROC, to", high, "", ""


def scorer_rows(sentences: Sequence[WrittenSentence], store: TokenStore) -> Iterator[Row]:
    scorer = Faithfulness(store)
    supports = [scorer.support(sentence.text, sentence.sources) for sentence in sentences]
    yield from verdict_rows("scorer", [support.score for support in supports], sentences)
    words = [support.features.get("agreement", 1.0) for support in supports]
    labels, questions = zip(*((s.supported, s.question.id) for s in sentences), strict=True)
    yield from area_rows("agreement of words alone", np.array(words), np.array(labels), questions)
    yield "sentences that stand word for word in a source", sum(support.quoted for support in supports), "", ""


# ---- the model as judge, asked for a word


ORDERS = ("Yes or No", "No or Yes")


def yes_or_no_rows(sentences: Sequence[WrittenSentence], rows: Rows) -> Iterator[Row]:
    """The probability of yes among yes and no, for both orders of the two words in the prompt, and their mean."""
    ask_missing(sentences, rows)
    chances = {order: [rows.rows["yes", order, s.question.id, s.text]["chance"] for s in sentences] for order in ORDERS}
    for order, values in chances.items():
        yield from verdict_rows(f"the model, {order}", values, sentences)
    both = np.mean(list(chances.values()), axis=0)
    yield from verdict_rows("the model, mean of both orders", both.tolist(), sentences)
    same = [(a >= SUPPORTED) == (b >= SUPPORTED) for a, b in zip(*chances.values(), strict=True)]
    yield "the model: the same verdict in both orders", mean(same), "", ""


def ask_missing(sentences: Sequence[WrittenSentence], rows: Rows) -> None:
    """A row a sentence and order of the two words."""
    work = [(sentence, order) for sentence in sentences for order in ORDERS]
    keys = [("yes", order, sentence.question.id, sentence.text) for sentence, order in work]
    missing = [(key, *asked) for key, asked in zip(keys, work, strict=True) if key not in rows.rows]
    if missing:
        address = SERVER.start()
        with OpenAI(base_url=address.url, api_key=address.key, timeout=300) as client:
            for key, sentence, order in missing:
                rows.add(key, **chance_of_yes(sentence, order, client))


def chance_of_yes(sentence: WrittenSentence, order: str, client: OpenAI) -> dict[str, float]:
    """P(yes) / (P(yes) + P(no)) of the first token, and ``mass``, the probability of the two together."""
    prompt = (
        f"{render(sentence.sources)}\n\nQuestion: {sentence.question.text}\nStatement: {sentence.text}\n\n"
        f"Do the sources support the statement? Answer {order}."
    )
    reply = client.chat.completions.create(
        model=SERVER.name,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=1,
        temperature=0,
        logprobs=True,
        top_logprobs=20,
    )
    mass = Counter({"yes": 1e-9, "no": 1e-9})
    for token in reply.choices[0].logprobs.content[0].top_logprobs:
        mass[token.token.strip(" .").lower()] += math.exp(token.logprob)
    total = mass["yes"] + mass["no"]
    return {"chance": round(mass["yes"] / total, 6), "mass": round(total, 6)}


# ---- ragas


class Recording(ChatModel):
    """A chat model that keeps its replies, and the most tokens that it had to read."""

    replies: list[str]
    longest: int

    async def chat(self, messages: Messages) -> tuple[str, Usage]:
        text, usage = await super().chat(messages)
        self.replies.append(text)
        self.longest = max(self.longest, usage.input_tokens)
        return text, usage


def answers_of(
    sentences: Sequence[WrittenSentence], rows: Rows
) -> list[tuple[Question, Answer, list[WrittenSentence]]]:
    """The first ``ANSWERS`` answers that the sentences are from, whole, and the sentences."""
    answers = []
    for question, group in groupby(sentences, key=lambda sentence: sentence.question):
        own = list(group)
        hits = tuple(Hit(chunk, 1.0) for chunk in own[0].sources)
        answers.append((question, Answer(question.text, rows.rows["answer", question.id]["text"], hits), own))
    return answers[:ANSWERS]


async def judge_missing(sentences: Sequence[WrittenSentence], rows: Rows) -> None:
    """A row a metric and answer: ragas' verdict, its seconds, and what the model replied."""
    for question, answer, _ in answers_of(sentences, rows):
        for metric in METRICS:
            if ("ragas", metric, question.id) not in rows.rows:
                model = Recording(server=SERVER, max_tokens=600, timeout=300)
                model.replies, model.longest = [], 0
                judge = RagasJudge(model, metrics=[metric], runs=1, timeout=300, concurrency=1, budget=BUDGET)
                begin = time.monotonic()
                [verdict] = (await judge.judge({SERVER.name: [answer]}, [question])).verdicts
                seconds = round(time.monotonic() - begin, 1)
                about = {"seconds": seconds, "longest": model.longest, "replies": model.replies}
                rows.add(("ragas", metric, question.id), value=verdict.value, reason=verdict.reason, **about)


def ragas_rows(sentences: Sequence[WrittenSentence], rows: Rows, store: TokenStore) -> Iterator[Row]:
    asyncio.run(judge_missing(sentences, rows))
    answers = answers_of(sentences, rows)
    for metric in METRICS:
        own = [rows.rows["ragas", metric, question.id] for question, _, _ in answers]
        yield f"{metric}: answers", len(own), "", ""
        yield f"{metric}: share with a value", mean(row["value"] is not None for row in own), "", ""
        yield f"{metric}: time of a verdict, median", median(row["seconds"] for row in own), "s", ""
        yield f"{metric}: longest prompt", max(row["longest"] for row in own), "tokens", ""
        for reason, count in Counter(kind_of(row["reason"]) for row in own if row["reason"]).items():
            yield f"{metric}: without a value, as {reason}", count, "", ""
    verdicts = [rows.rows["ragas", FAITHFULNESS, question.id]["value"] for question, _, _ in answers]
    judged = [answer for answer, value in zip(answers, verdicts, strict=True) if value is not None]
    names = [question.id for question, _, _ in judged]
    values = np.array([value for value in verdicts if value is not None])
    shares = np.array([mean(sentence.supported for sentence in own) for _, _, own in judged])
    whole = shares == 1
    yield "ragas: of these answers, wholly supported by the labels", float(whole.mean()), "", ""
    yield "ragas: mean faithfulness", float(values.mean()), "", ""
    yield "ragas: mean share of supported sentences", float(shares.mean()), "", ""
    yield from area_rows("ragas, wholly supported answers", values, whole, names)
    scorer = Faithfulness(store)
    scores = [mean(scorer.support(s.text, s.sources).score for s in own) for _, _, own in judged]
    yield from area_rows("scorer, mean over the same answers", np.array(scores), whole, names)


def kind_of(reason: str) -> str:
    """The reason of a missing verdict without what the model wrote."""
    return re.split(r":|\(", reason)[0]


def record(sentences: Sequence[WrittenSentence], rows: Rows) -> JudgeRun:
    """ragas' verdicts as one run."""
    verdicts = [
        Verdict(SERVER.name, question.id, metric, 0, row["value"], row["reason"])
        for question, _, _ in answers_of(sentences, rows)
        for metric in METRICS
        if (row := rows.rows["ragas", metric, question.id])
    ]
    date = json.loads(rows.path.read_text().splitlines()[0])["date"]
    return JudgeRun(SERVER.name, "this machine", date, 1, METRICS, tuple(verdicts))


if __name__ == "__main__":
    corpus = load_pydocs("core")
    rows = open_rows()
    questions = sampled(corpus)[:QUESTIONS]
    match sys.argv[1:]:
        case ["write"]:
            find_sources(questions, corpus, rows)
            asyncio.run(write_answers(questions, corpus, rows))
            for sentence in unlabelled(questions, corpus, rows):
                sys.stdout.write(f"{json.dumps(sentence, ensure_ascii=False)}\n")
        case ["record"]:
            run = record(load_written_sentences(corpus), rows)
            sys.stdout.write(f"{run.save(data_file('judged.json'))}: {run.caption}\n")
        case _:
            sys.stdout.write(__doc__ or "")

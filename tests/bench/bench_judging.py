"""Who tells what a small model invented: the faithfulness scorer, the model asked for yes or no, ragas with that model.

``python tests/run_bench.py judging`` prints the figures, on the labelled sentences of ``data/written.jsonl``. What the
model replied is in ``results/rows/judging.jsonl``: only what is missing is asked for. ``RAGKIT_BENCH_SECONDS`` ends the
asking after so many seconds; the rest is asked by the next run, and 0 makes the figures of the rows that are there.

``python tests/bench/bench_judging.py write`` lets the packaged model answer the sample's questions (plain prompt) and
prints its sentences, without labels; ``... record`` writes ragas' verdicts as ``data/judged.json``.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import groupby
from statistics import mean, median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from openai import OpenAI
from sample import KINDS, Rows, split
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score

from ragkit import advanced
from ragkit.base import Answer, Chunk, Context, Corpus, Hit, Question, Usage
from ragkit.concurrency import gather_limited
from ragkit.corpus import load_pydocs
from ragkit.evaluation.answers import SUPPORTED, statements
from ragkit.evaluation.faithfulness import Faithfulness, Support, WrittenSentence, chunk_at, load_written_sentences
from ragkit.evaluation.judge import FAITHFULNESS, JudgeRun, RagasJudge, Verdict
from ragkit.evaluation.statistics import Floats, auroc, auroc_interval, level
from ragkit.files import data_file
from ragkit.generation.answer import OpenAIChat, parse_citations
from ragkit.generation.context import build_context
from ragkit.generation.prompts import numbered
from ragkit.llm.chat import ChatModel, Messages
from ragkit.llm.local import LocalModel, packaged_weights
from ragkit.token_store import TokenStore

Row = tuple[str, float, str, str]
BUDGET = 300  # tokens of the sources
JUDGED = 40  # answers that ragas judges
WRITER = LocalModel(threads=1, slots=4)
JUDGE = LocalModel(threads=1, slots=1)


def main() -> list[Row]:
    corpus = load_pydocs("core")
    sentences, rows = load_written_sentences(corpus), open_rows()
    seconds = float(os.environ.get("RAGKIT_BENCH_SECONDS", "inf"))
    ask_missing(sentences, rows, time.monotonic() + seconds)
    supports = score(sentences, TokenStore.open(corpus))
    return [
        *label_rows(sentences),
        *scorer_rows(sentences, supports),
        *yes_or_no_rows(sentences, rows),
        *ragas_rows(sentences, supports, rows),
    ]


def open_rows() -> Rows:
    return Rows("judging", {"model": packaged_weights().sha256, "budget": BUDGET})


# ---- the answers with the plain prompt, and the sentences in them


def sampled(corpus: Corpus) -> list[Question]:
    """The answerable questions of the sample, the kinds in turn."""
    measured, _ = split(corpus)
    return [question for row in zip(*(measured[kind] for kind in KINDS[:5]), strict=True) for question in row]


def find_sources(questions: Sequence[Question], corpus: Corpus, rows: Rows) -> None:
    """A row a question: the spans that fit ``BUDGET`` tokens, of large chunks for 70 questions, of small ones after."""
    for size, some in ((512, questions[:70]), (128, questions[70:])):
        missing = [question for question in some if ("sources", question.id) not in rows.rows]
        retriever = advanced(corpus, size=size, overlap=size // 8).retriever if missing else None
        for question in missing:
            context = build_context(retriever.search(question.text, 10), BUDGET)
            spans = [[hit.chunk.doc_id, hit.chunk.start, hit.chunk.end] for hit in context.hits]
            rows.add(("sources", question.id), spans=spans)


def read_sources(question: Question, corpus: Corpus, rows: Rows) -> tuple[Hit, ...]:
    return tuple(Hit(chunk_at(corpus, *span), 1.0) for span in rows.rows["sources", question.id]["spans"])


async def write_answers(questions: Sequence[Question], corpus: Corpus, rows: Rows) -> None:
    """A row a question: what the model answers from its sources."""
    llm = OpenAIChat(server=WRITER, max_tokens=100, timeout=300)

    async def write(question: Question) -> None:
        done = await llm.generate(question.text, Context("", read_sources(question, corpus, rows), BUDGET))
        rows.add(("answer", question.id), text=done.text, abstained=done.abstained)

    missing = [question for question in questions if ("answer", question.id) not in rows.rows]
    await gather_limited(WRITER.slots, [partial(write, question) for question in missing])


def unlabelled(questions: Sequence[Question], corpus: Corpus, rows: Rows) -> Iterator[dict[str, object]]:
    """The sentences of the answers, without markers of citations.

    Left out are code, repetitions within an answer, headings, announcements ("The answer is:"), and fragments of fewer
    than four words. The last sentence of an answer may be cut off.
    """
    for question in questions:
        row, context = rows.rows["answer", question.id], Context("", read_sources(question, corpus, rows), BUDGET)
        answer = Answer(question.text, row["text"], context.hits, parse_citations(row["text"], context))
        texts: list[str] = []
        for text in [] if row["abstained"] else [statement.text for statement in statements(answer)]:
            again = any(other.startswith(text) for other in texts)  # also where the end is cut off
            if not again and len(text.split()) >= 4 and "```" not in text and text[0] != "#" and text[-1] != ":":
                texts.append(text)
                spans = rows.rows["sources", question.id]["spans"]
                yield {"prompt": "plain", "question": question.id, "sentence": text, "sources": spans}


# ---- the labels, and how verdicts agree with them


def label_rows(sentences: Sequence[WrittenSentence]) -> Iterator[Row]:
    first, second = zip(*(sentence.labels for sentence in sentences), strict=True)
    yield "sentences", len(sentences), "", ">= 150"
    yield "questions", len({sentence.question.id for sentence in sentences}), "", ""
    for prompt in ("plain", "tuned"):
        own = [sentence for sentence in sentences if sentence.prompt == prompt]
        labels = np.array([[float(sentence.supported)] for sentence in own])
        share = level(labels, [sentence.question.id for sentence in own])
        yield f"{prompt} prompt: sentences", len(own), "", ""
        yield f"{prompt} prompt: supported", float(share.mean[0]), "", ""
        yield f"{prompt} prompt: supported, from", float(share.low[0]), "", ""
        yield f"{prompt} prompt: supported, to", float(share.high[0]), "", ""
    yield "labels: the same from both readers", mean(a == b for a, b in zip(first, second, strict=True)), "", ""
    yield "labels: Cohen's kappa of the two readers", cohen_kappa_score(first, second), "", ""


def verdict_rows(name: str, scores: Sequence[float], sentences: Sequence[WrittenSentence]) -> Iterator[Row]:
    """How well ``scores`` separate supported sentences from the others; the interval draws questions again."""
    values, labels = np.array(scores), np.array([sentence.supported for sentence in sentences])
    questions = [sentence.question.id for sentence in sentences]
    accepted = values >= SUPPORTED
    yield f"{name}: sentences", len(sentences), "", ""
    yield from area_rows(name, values, labels, questions)
    yield f"{name}: accepted, a score of .5 or more", float(accepted.mean()), "", ""
    yield f"{name}: right", float((accepted == labels).mean()), "", ""
    yield f"{name}: right if it rejected all", float((~labels).mean()), "", ""
    yield f"{name}: precision, of the accepted, supported", precision_score(labels, accepted, zero_division=0), "", ""
    yield f"{name}: recall, of the supported, accepted", recall_score(labels, accepted), "", ""
    invented = (~accepted[~labels]).astype(float)[:, None]
    caught = level(invented, [question for question, label in zip(questions, labels, strict=True) if not label])
    yield f"{name}: of the unsupported, rejected", float(caught.mean[0]), "", ""
    yield f"{name}: of the unsupported, rejected, from", float(caught.low[0]), "", ""
    yield f"{name}: of the unsupported, rejected, to", float(caught.high[0]), "", ""
    yield f"{name}: Cohen's kappa with the labels", cohen_kappa_score(labels, accepted), "", ""


def area_rows(name: str, values: Floats, labels: NDArray[np.bool_], questions: Sequence[str]) -> Iterator[Row]:
    low, high = auroc_interval(values, labels, questions)
    yield f"{name}: AUROC", auroc(values[labels], values[~labels]), "", ""
    yield f"{name}: AUROC, from", low, "", ""
    yield f"{name}: AUROC, to", high, "", ""


# ---- the scorer


def score(sentences: Sequence[WrittenSentence], store: TokenStore) -> list[Support]:
    scorer = Faithfulness(store)
    return [scorer.support(sentence.text, sentence.sources) for sentence in sentences]


def scorer_rows(sentences: Sequence[WrittenSentence], supports: Sequence[Support]) -> Iterator[Row]:
    scores = [support.score for support in supports]
    yield from verdict_rows("scorer", scores, sentences)
    for prompt in ("plain", "tuned"):
        own = [(s, value) for s, value in zip(sentences, scores, strict=True) if s.prompt == prompt]
        labels, values = np.array([s.supported for s, _ in own]), np.array([value for _, value in own])
        yield from area_rows(f"scorer, {prompt} prompt", values, labels, [s.question.id for s, _ in own])
    words = np.array([support.features.get("agreement", 1.0) for support in supports])
    labels, questions = np.array([s.supported for s in sentences]), [s.question.id for s in sentences]
    yield from area_rows("agreement of words alone", words, labels, questions)
    yield "sentences that stand word for word in a source", sum(support.quoted for support in supports), "", ""


# ---- the model as judge


class Order(NamedTuple):
    """How the prompt names the two words: whoever prefers the first place says yes in one order, no in the other."""

    name: str
    words: str


ORDERS = (Order("yes first", "Yes or No"), Order("no first", "No or Yes"))


def ask_missing(sentences: Sequence[WrittenSentence], rows: Rows, end: float) -> None:
    """Add the rows that are missing, answer by answer, until ``end``."""
    answers = answers_of(sentences)
    work: list[Callable[[], None]] = []
    for place, answer in enumerate(answers):
        for sentence in answer.sentences:
            for order in ORDERS:
                if (key := ("yes", order.name, sentence.id)) not in rows.rows:
                    work.append(partial(ask_yes_or_no, sentence, order, key, rows))
        if place < JUDGED and (key := ("ragas", *answer.key)) not in rows.rows:
            work.append(partial(ask_ragas, answer, key, rows))
    for ask in work:
        if time.monotonic() < end:
            ask()


def ask_yes_or_no(sentence: WrittenSentence, order: Order, key: tuple[str, ...], rows: Rows) -> None:
    """A row: P(yes) / (P(yes) + P(no)) of the first token, and ``mass``, the probability of the two together."""
    prompt = (
        f"{numbered(sentence.sources)}\n\nQuestion: {sentence.question.text}\nStatement: {sentence.text}\n\n"
        f"Do the sources support the statement? Answer {order.words}."
    )
    reply = client().chat.completions.create(
        model=JUDGE.name,
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
    rows.add(key, chance=round(mass["yes"] / total, 6), mass=round(total, 6))


@cache
def client() -> OpenAI:
    address = JUDGE.start()
    return OpenAI(base_url=address.url, api_key=address.key, timeout=300)


def yes_or_no_rows(sentences: Sequence[WrittenSentence], rows: Rows) -> Iterator[Row]:
    asked = [s for s in sentences if all(("yes", order.name, s.id) in rows.rows for order in ORDERS)]
    chances = [[rows.rows["yes", order.name, s.id]["chance"] for s in asked] for order in ORDERS]
    if not 0 < sum(s.supported for s in asked) < len(asked):
        return
    for order, values in zip(ORDERS, chances, strict=True):
        yield from verdict_rows(f"the model, {order.name}", values, asked)
    yield from verdict_rows("the model, mean of both orders", np.mean(chances, axis=0).tolist(), asked)
    same = [(a >= SUPPORTED) == (b >= SUPPORTED) for a, b in zip(*chances, strict=True)]
    yield "the model: the same verdict in both orders", mean(same), "", ""
    mass = mean(rows.rows["yes", order.name, s.id]["mass"] for s in asked for order in ORDERS)
    yield "the model: probability of yes and no together, mean", mass, "", ""


# ---- ragas


class WrittenAnswer(NamedTuple):
    """The labelled sentences of one answer."""

    prompt: str
    question: Question
    sentences: tuple[WrittenSentence, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.prompt, self.question.id

    @property
    def sources(self) -> tuple[Chunk, ...]:
        return self.sentences[0].sources

    def answer(self) -> Answer:
        text = " ".join(sentence.text for sentence in self.sentences)
        return Answer(self.question.text, text, tuple(Hit(chunk, 1.0) for chunk in self.sources))


def answers_of(sentences: Sequence[WrittenSentence]) -> list[WrittenAnswer]:
    groups = groupby(sentences, key=lambda sentence: (sentence.prompt, sentence.question))
    return [WrittenAnswer(prompt, question, tuple(own)) for (prompt, question), own in groups]


class Recording(ChatModel):
    """A chat model that keeps its replies, and how many tokens the longest prompt had."""

    replies: list[str]
    longest: int

    async def chat(self, messages: Messages) -> tuple[str, Usage]:
        text, usage = await super().chat(messages)
        self.replies.append(text)
        self.longest = max(self.longest, usage.input_tokens)
        return text, usage


def ask_ragas(written: WrittenAnswer, key: tuple[str, ...], rows: Rows) -> None:
    """A row: ragas' verdict, its seconds, and what the model replied."""
    model = Recording(server=JUDGE, max_tokens=600, timeout=300)
    model.replies, model.longest = [], 0
    judge = RagasJudge(model, metrics=[FAITHFULNESS], runs=1, timeout=300, budget=10 * BUDGET)
    begin = time.monotonic()
    run = asyncio.run(judge.judge({written.prompt: [written.answer()]}, [written.question]))
    seconds = round(time.monotonic() - begin, 1)
    [verdict] = run.verdicts
    about = {"seconds": seconds, "longest": model.longest, "replies": model.replies}
    rows.add(key, value=verdict.value, reason=verdict.reason, **about)


def ragas_rows(sentences: Sequence[WrittenSentence], supports: Sequence[Support], rows: Rows) -> Iterator[Row]:
    own = [row for key, row in rows.rows.items() if key[0] == "ragas"]
    if not own:
        return
    yield "ragas: answers", len(own), "", ""
    yield "ragas: with a value", mean(row["value"] is not None for row in own), "", ""
    yield "ragas: a verdict takes, median", median(row["seconds"] for row in own), "s", ""
    yield "ragas: longest prompt", max(row["longest"] for row in own), "tokens", ""
    for reason, count in Counter(kind_of(row["reason"]) for row in own if row["reason"]).most_common():
        yield f"ragas: without a value, {reason}", count, "", ""
    values, written = [], []
    for answer in answers_of(sentences):
        row = rows.rows.get(("ragas", *answer.key), {})
        if row.get("value") is not None:
            values.append(row["value"])
            written.append(answer)
    whole = np.array([all(sentence.supported for sentence in answer.sentences) for answer in written])
    if not 0 < whole.sum() < len(whole):
        return
    scores = {sentence.id: support.score for sentence, support in zip(sentences, supports, strict=True)}
    means = np.array([mean(scores[sentence.id] for sentence in answer.sentences) for answer in written])
    questions = [answer.question.id for answer in written]
    yield "ragas: of these answers, wholly supported by the labels", float(whole.mean()), "", ""
    yield "ragas: mean faithfulness", mean(values), "", ""
    yield from area_rows("ragas, against wholly supported answers", np.array(values), whole, questions)
    yield from area_rows("scorer, mean of the same answers", means, whole, questions)


def kind_of(reason: str) -> str:
    """The reason of a missing verdict without what the model wrote."""
    return re.split(r":|\(", reason)[0].strip()


def record(rows: Rows) -> JudgeRun:
    """ragas' verdicts as one run; the systems are the prompts."""
    head = json.loads(rows.path.read_text().splitlines()[0])
    verdicts = [
        Verdict(key[1], key[2], FAITHFULNESS, 0, row["value"], row["reason"])
        for key, row in rows.rows.items()
        if key[0] == "ragas"
    ]
    return JudgeRun(JUDGE.name, "this machine", head["date"], 1, (FAITHFULNESS,), tuple(verdicts))


if __name__ == "__main__":
    corpus, rows = load_pydocs("core"), open_rows()
    if sys.argv[1:] == ["write"]:
        questions = sampled(corpus)
        find_sources(questions, corpus, rows)
        asyncio.run(write_answers(questions, corpus, rows))
        for sentence in unlabelled(questions, corpus, rows):
            sys.stdout.write(f"{json.dumps(sentence, ensure_ascii=False)}\n")
    elif sys.argv[1:] == ["record"]:
        run = record(rows)
        sys.stdout.write(f"{run.save(data_file('written.jsonl').with_name('judged.json'))}: {run.caption}\n")
    else:
        sys.stdout.write(__doc__ or "")

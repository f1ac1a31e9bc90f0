"""What caches save and what they cost: hit rates and latencies on the simulated stream, false hits, single-flight.

Everything runs on ``core``, in temporary folders. ``RAGKIT_BENCH_STREAM`` is the number of simulated questions (2000).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from ragkit import TokenStore, advanced, load_embedder, load_pydocs
from ragkit.base import Answer, Context, Corpus, Embedder, Generation, question_key
from ragkit.embedding.cache import CachedEmbedder
from ragkit.pipeline import RAGPipeline
from ragkit.pipeline.trace import CacheKey
from ragkit.production.caching import SQLiteCache
from ragkit.production.semantic import SemanticCache, cache_pairs, choose_threshold, false_hit_rate, lexical_guard
from ragkit.production.simulation import SimulatedClock, SimulatedQuery, simulate

Row = tuple[str, float, str, str]
T = TypeVar("T")
ONE_AT_A_TIME = 40
SHOWN = (0.85, 0.90, 0.95, 0.98)


class Traces(list):
    """A monitor that keeps every trace."""

    record = list.append


class Counting:
    """A model that takes a twentieth of a second and counts what it is asked."""

    identity = "counting"

    def __init__(self) -> None:
        self.calls = 0

    def __repr__(self) -> str:
        return "Counting()"

    async def generate(self, question: str, context: Context) -> Generation:
        self.calls += 1
        await asyncio.sleep(0.05)
        return Generation(f"An answer to {question}")


def each(work: Callable[[T], object], things: Sequence[T]) -> list[float]:
    """The milliseconds of ``work(thing)``, one after the other."""
    times = [time.perf_counter()]
    for thing in things:
        work(thing)
        times.append(time.perf_counter())
    return [(b - a) * 1000 for a, b in pairwise(times)]


def percentiles(name: str, times: Sequence[float], target: str = "") -> list[Row]:
    p50, p95 = np.percentile(times, [50, 95])
    return [(f"{name}: p50", p50, "ms", target), (f"{name}: p95", p95, "ms", "")]


async def _beside(
    stream: Sequence[SimulatedQuery], pipelines: dict[str, RAGPipeline], clock: SimulatedClock
) -> dict[str, list[Answer]]:
    """Fifty questions to each pipeline in turn, so that all meet the same load of the machine, then the next fifty.

    (One question to each in turn would favour the second: what it reads is still in the processor's caches.)
    """
    answers: dict[str, list[Answer]] = {name: [] for name in pipelines}
    for number, start in enumerate(range(0, len(stream), 50)):
        for name in list(pipelines)[:: 1 if number % 2 else -1]:
            for asked in stream[start : start + 50]:
                clock.now = asked.at
                answers[name].append(await pipelines[name].query(asked.question.text, tenant=_tenant(name, asked)))
    return answers


def _tenant(name: str, asked: SimulatedQuery) -> str:
    return "" if name == "one tenant" else asked.tenant


def on_the_stream(corpus: Corpus, store: TokenStore, folder: Path) -> list[Row]:
    stream = simulate(corpus, n=int(os.environ.get("RAGKIT_BENCH_STREAM", "2000")))
    clock, traces = SimulatedClock(), {name: Traces() for name in ("no cache", "three tenants", "one tenant")}
    pipelines = {
        name: advanced(
            corpus,
            store=store,
            monitor=monitor,
            cache=None if name == "no cache" else SQLiteCache(folder / f"{name}.db", clock=clock),
        )
        for name, monitor in traces.items()
    }
    asyncio.run(pipelines["no cache"].query("warm up"))
    traces["no cache"].clear()
    answers = asyncio.run(_beside(stream, pipelines, clock))
    rows: list[Row] = [("stream: simulated questions", len(stream), "questions", "")]
    for name, told in traces.items():
        rows += percentiles(f"stream, {name}", [trace.ms for trace in told])
        rows.append((f"stream, {name}: mean", float(np.mean([trace.ms for trace in told])), "ms", ""))
        if name != "no cache":
            keys = {(_tenant(name, asked), question_key(asked.question.text)) for asked in stream}
            states = [trace.cache for trace in told]
            rows.append((f"stream, {name}: asked before", 1 - len(keys) / len(stream), "share", ""))
            rows.append((f"stream, {name}: exact hit rate", states.count("hit") / len(states), "share", ""))
            rows += percentiles(f"stream, {name}: a hit", [trace.ms for trace in told if trace.cache == "hit"])
    silent = sum(answer.abstained for answer in answers["no cache"]) / len(stream)
    other = sum(len({a.text for a in each}) > 1 for each in zip(*answers.values(), strict=True))
    rows.append(("stream: abstentions, which are not kept", silent, "share", ""))
    return [*rows, ("stream: answers other than without a cache", other, "answers", "<= 0")]


def one_flight(corpus: Corpus, store: TokenStore, folder: Path) -> list[Row]:
    llm = Counting()
    rag = advanced(corpus, store=store, llm=llm, cache=SQLiteCache(folder / "flight.db"))
    texts = [corpus.questions[n % 50].text for n in range(1000)]

    async def all_at_once(_: None) -> list[Answer]:
        return await asyncio.gather(*(rag.query(text) for text in texts))

    (took,) = each(lambda none: asyncio.run(all_at_once(none)), [None])
    return [
        ("1,000 questions at once: different ones", len(set(texts)), "questions", ""),
        ("1,000 questions at once: generations", llm.calls, "calls", f"<= {len(set(texts))}"),
        ("1,000 questions at once: all answered after", took, "ms", ""),
    ]


def the_file(corpus: Corpus, store: TokenStore, folder: Path) -> list[Row]:
    rag, cache = advanced(corpus, store=store), SQLiteCache(folder / "file.db")
    answer = asyncio.run(rag.query(corpus.questions[0].text))
    keys = [CacheKey("settings", f"question {n}") for n in range(500)]
    puts = each(lambda key: cache.put(key, answer), keys)
    gets = each(cache.get, keys * 4)
    size = cache.stats().bytes / len(keys)
    return [
        *percentiles("SQLiteCache.get, a hit of ten passages", gets, "<= 1"),
        *percentiles("SQLiteCache.put, ten passages", puts),
        ("an answer with ten passages", size / 1000, "kB", ""),
    ]


def lies(corpus: Corpus, embedder: Embedder, folder: Path) -> list[Row]:
    pairs = cache_pairs()
    cache = SQLiteCache(folder / "pairs.db")
    for pair in pairs:
        cache.put(CacheKey("s", pair.kept), Answer(pair.kept, pair.kept))
    exact = sum(cache.get(CacheKey("s", pair.asked)) is not None for pair in pairs)
    rows: list[Row] = [("400 pairs: hits of the exact cache", exact, "pairs", "<= 0")]
    halves = {"paraphrases": [p for p in pairs if p.same], "reversals": [p for p in pairs if not p.same]}
    log = [asked.question for asked in simulate(corpus, n=2000)]
    for name, guard in (("", None), (", guarded", lexical_guard)):
        tables = {kind: false_hit_rate(half, embedder, SHOWN, guard=guard) for kind, half in halves.items()}
        table = false_hit_rate(log, embedder, guard=guard)
        for t in SHOWN:
            rows += [
                (f"{kind} served at {t}{name}", float(tables[kind].loc[t, "hit_rate"]), "share", "") for kind in tables
            ]
            rows.append((f"log: near hits at {t}{name}", float(table.loc[t, "hits"]), "questions", ""))
            rows.append((f"log: of them wrong at {t}{name}", float(table.loc[t, "false"]), "questions", ""))
        for precision in (0.90, 0.95, 0.99):
            chosen = choose_threshold(log, embedder, precision, guard=guard).threshold
            rows.append((f"log: threshold that promises {precision}{name} (0: none)", chosen or 0.0, "cosine", ""))
    return rows


def near(corpus: Corpus, embedder: Embedder, remembered: Embedder, folder: Path) -> list[Row]:
    """What a miss costs where the semantic cache is asked, with 400 answers in it."""
    cache = SemanticCache(SQLiteCache(folder / "near.db"), remembered, 0.99)
    for pair in cache_pairs():
        cache.put(CacheKey("s", pair.asked), Answer(pair.asked, pair.asked))
    cache.embedder = embedder
    fresh = [f"Something else: {q.text}" for q in corpus.questions[:ONE_AT_A_TIME]]
    cache.get(CacheKey("s", "warm up"))
    return percentiles("SemanticCache, a miss", each(lambda text: cache.get(CacheKey("s", text)), fresh))


def main() -> list[Row]:
    corpus, embedder = load_pydocs("core"), load_embedder()
    store = TokenStore.open(corpus)
    remembered = CachedEmbedder(embedder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [
            *the_file(corpus, store, folder),
            *near(corpus, embedder, remembered, folder),
            *lies(corpus, remembered, folder),
            *one_flight(corpus, store, folder),
            *on_the_stream(corpus, store, folder),
        ]

"""What an exact cache saves where a language model writes: a simulated week, and eight who ask the same at once.

The model in the box, with 300 tokens of sources and 40 tokens of answer, and the simulated questions of one tenant. It
runs live (two to five minutes): what is measured is time. ``RAGKIT_BENCH_STREAM`` is the number of questions (40).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragkit import TokenStore, advanced, load_pydocs
from ragkit.base import Context, Generation, identity_of, question_key
from ragkit.generation import OpenAIChat
from ragkit.llm.local import LocalModel
from ragkit.pipeline import RAGPipeline
from ragkit.production.caching import SQLiteCache
from ragkit.production.simulation import simulate

Row = tuple[str, float, str, str]
AT_ONCE = 8


class Counted:
    """A model that counts what it is asked."""

    def __init__(self, llm: OpenAIChat) -> None:
        self.llm, self.calls, self.identity = llm, 0, identity_of(llm)

    async def generate(self, question: str, context: Context) -> Generation:
        self.calls += 1
        return await self.llm.generate(question, context)


def main() -> list[Row]:
    corpus = load_pydocs("core")
    store = TokenStore.open(corpus)
    server = LocalModel(threads=1, context=1024, slots=2)
    llm = Counted(OpenAIChat(server=server, max_tokens=40, timeout=600))
    questions = [asked.question.text for asked in simulate(corpus, n=_length(), weeks=1, tenants=["acme"])]
    with tempfile.TemporaryDirectory() as folder:
        plain = advanced(corpus, store=store, llm=llm, budget=300)
        cached = advanced(corpus, store=store, llm=llm, budget=300, cache=SQLiteCache(Path(folder) / "week.db"))
        asyncio.run(plain.query("How do I warm up?"))
        rows = asyncio.run(week(cached, llm, questions))
        for name, rag, question in (
            ("without a cache", plain, "How do I stop a worker that hangs?"),
            ("with a cache", cached, "How do I send cookies with a request?"),
        ):
            before, seconds = llm.calls, asyncio.run(at_once(rag, question))
            rows += [
                (f"{AT_ONCE} equal questions at once, {name}: generations", llm.calls - before, "calls", ""),
                (f"{AT_ONCE} equal questions at once, {name}: all answered after", seconds, "s", ""),
            ]
    server.stop()
    return rows


def _length() -> int:
    return int(os.environ.get("RAGKIT_BENCH_STREAM", "40"))


async def week(cached: RAGPipeline, llm: Counted, questions: Sequence[str]) -> list[Row]:
    """A hit saves the seconds that the model took when it was first asked."""
    written: dict[str, float] = {}
    hits, saved, total, kept = [], 0.0, 0.0, 0
    for question in questions:
        calls, began = llm.calls, time.perf_counter()
        answer = await cached.query(question)
        kept += not answer.fallback
        seconds, key = time.perf_counter() - began, question_key(question)
        total += seconds
        if llm.calls > calls:
            written[key] = seconds
        else:
            hits.append(seconds)
            saved += written[key] - seconds
    return [
        ("week: simulated questions", len(questions), "questions", ""),
        ("week: asked before", 1 - len(set(map(question_key, questions))) / len(questions), "share", ""),
        ("week: answers that a cache keeps: all but those of a fallback", kept / len(questions), "share", ""),
        ("week: hit rate", len(hits) / len(questions), "share", ""),
        ("week: an answer that the model writes, median", float(np.median(list(written.values()))), "s", ""),
        ("week: a hit, median", float(np.median(hits or [np.nan])) * 1000, "ms", ""),
        ("week: all questions", total, "s", ""),
        ("week: saved by hits", saved, "s", ""),
    ]


async def at_once(rag: RAGPipeline, question: str) -> float:
    """Seconds. ``question`` should be about something else: the server still knows the sources of the last one."""
    began = time.perf_counter()
    await asyncio.gather(*(rag.query(question) for _ in range(AT_ONCE)))
    return time.perf_counter() - began

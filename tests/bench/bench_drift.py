"""Drift: how soon it is found, and how often it is seen where there is none, on simulated streams with real scores.

``python tests/run_bench.py drift``. Who asks what and when is simulated (``ragkit.production.simulation``); what is
found, and how well it matches, is not: each distinct question is asked once of the advanced preset, whose index lacks
the documents of scrapy. A run is six weeks of 3,000 queries: the first 1,000 are the reference, the other 2,000 are
watched. In a run that drifts, half of the sessions turn to scrapy after four weeks.

``RAGKIT_BENCH_STREAMS`` is the number of streams (120). WINDOW, SLOPES and JUMP of ``ragkit.production.drift`` were
chosen on the first 29 of them, which are left out of what is reported about it. Scores are kept in ragkit's
home: the first run asks some 30,000 distinct questions and takes half an hour or more, the next ones a few minutes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from ragkit import TokenStore, advanced, load_pydocs
from ragkit.base import Corpus
from ragkit.evaluation.statistics import wilson
from ragkit.files import atomic_write, home
from ragkit.production.drift import detect_change, drift
from ragkit.production.simulation import START, WEEK, SimulatedQuery, TopicDrift, exclude_project, simulate

Row = tuple[str, float, str, str]
PROJECT = "scrapy"
QUERIES, WEEKS, REFERENCE, AFTER = 3000, 6, 1000, 4.0
CHOSEN_ON, WINDOWS, ARRIVALS = 29, 60, 20
WITHIN = 500
"""Queries after the first one about the new topic within which the alert is to fire."""


def main() -> list[Row]:
    corpus = load_pydocs("core")
    seeds = range(int(os.environ.get("RAGKIT_BENCH_STREAMS", "120")))
    scores = Scores(exclude_project(corpus, PROJECT), TokenStore.open(corpus))
    quiet = [scores.frame(stream(corpus, seed, math.inf)) for seed in seeds]
    drifting = [scores.frame(stream(corpus, seed, AFTER)) for seed in seeds]
    scores.save()
    return [
        *windows(quiet[:WINDOWS], drifting[:WINDOWS], scores),
        *watched(quiet[CHOSEN_ON:], drifting[CHOSEN_ON:]),
        *arrival(corpus, scores),
    ]


def stream(corpus: Corpus, seed: int, after: float) -> tuple[SimulatedQuery, ...]:
    return simulate(corpus, QUERIES, WEEKS, seed, TopicDrift(PROJECT, after=after))


class Scores:
    """The best score of each distinct question, and whether it was answered; each is asked once."""

    def __init__(self, corpus: Corpus, store: TokenStore) -> None:
        self.rag = advanced(corpus, store=store)
        name = hashlib.sha256(self.rag.identity.encode()).hexdigest()[:16]
        self.path = home() / "bench" / f"drift-{name}.json"
        self.known: dict[str, tuple[float, bool]] = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.beside = self.path.with_suffix(".hits.json")
        self.first: dict[str, str] = json.loads(self.beside.read_text()) if self.beside.exists() else {}
        self.new = 0

    def of(self, question: str) -> tuple[float, bool]:
        text = " ".join(question.split())
        if text not in self.known:
            answer = asyncio.run(self.rag.query(text))
            self.known[text] = (answer.hits[0].score if answer.hits else math.nan, answer.abstained)
            self.new += 1
            if self.new % 1000 == 0:
                self.save()
                sys.stdout.write(f"  {len(self.known)} distinct questions asked\n")
        return self.known[text]

    def save(self) -> None:
        atomic_write(self.path, json.dumps(self.known).encode())
        atomic_write(self.beside, json.dumps(self.first).encode())

    def frame(self, asked: tuple[SimulatedQuery, ...]) -> pd.DataFrame:
        rows = [(a.at, a.question.text, a.session, a.drifted, *self.of(a.question.text)) for a in asked]
        frame = pd.DataFrame(rows, columns=["at", "question", "session", "drifted", "top_score", "abstained"])
        return frame.assign(error="")

    def with_hits(self, frame: pd.DataFrame) -> pd.DataFrame:
        """``frame`` with the best passage of each question."""
        texts = [" ".join(question.split()) for question in frame["question"]]
        for text in texts:
            if text not in self.first:
                self.first[text] = self.rag.retriever.search(text, 1)[0].chunk.id
        return frame.assign(hits=[(self.first[text],) for text in texts])


# ---- two windows


def windows(quiet: list[pd.DataFrame], drifting: list[pd.DataFrame], scores: Scores) -> Iterator[Row]:
    """Two weeks against a later one: a Kolmogorov-Smirnov test on the queries, and ours."""
    n = len(quiet)
    quiet = [scores.with_hits(pd.concat([week(f, 0, 2), week(f, 3, 4)])) for f in quiet]
    drifting = [scores.with_hits(pd.concat([week(f, 0, 2), week(f, 4, 5)])) for f in drifting]
    scores.save()
    pairs = {
        "nothing changed": [(week(f, 0, 2), week(f, 3, 4)) for f in quiet],
        "only what is popular changed": [(week(quiet[i], 0, 2), week(quiet[(i + 1) % n], 3, 4)) for i in range(n)],
        "half of the sessions are about a new topic": [(week(f, 0, 2), week(f, 4, 5)) for f in drifting],
        "the first 100 queries of that": [(week(f, 0, 2), week(f, 4, 5).head(100)) for f in drifting],
    }
    for name, both in pairs.items():
        tests = {"KS on queries": [naive(*pair) for pair in both]}
        for column in ("top_score", "abstained"):
            tests[f"ours, {column}"] = [drift(*pair, column, resamples=999).found for pair in both]
        for test, fired in tests.items():
            goal = "<= 0.1" if test.startswith("ours") and "changed" in name else ""
            yield share(f"{name}: {test}", fired, goal)


def week(frame: pd.DataFrame, begin: int, end: int) -> pd.DataFrame:
    weeks = (frame["at"] - START) / WEEK
    return frame[(weeks >= begin) & (weeks < end)]


def naive(before: pd.DataFrame, now: pd.DataFrame) -> bool:
    return bool(stats.ks_2samp(before["top_score"], now["top_score"]).pvalue < 0.05)


def share(name: str, fired: list[bool], target: str) -> Row:
    low, high = wilson(sum(fired), len(fired))
    return f"{name} ({sum(fired)} of {len(fired)}: [{low:.3f}, {high:.3f}])", float(np.mean(fired)), "", target


# ---- the watch


def watched(quiet: list[pd.DataFrame], drifting: list[pd.DataFrame]) -> Iterator[Row]:
    """Every query looked at: false alarms in 2,000 quiet queries, and how many queries a drift needs."""
    n = len(quiet)
    other = [pd.concat([quiet[i].head(REFERENCE), quiet[(i + 1) % n].iloc[REFERENCE:]]) for i in range(n)]
    for column in ("top_score", "abstained"):
        rule = f"watch of {column}"
        yield share(f"{rule}: alarm in a quiet run", [alarm(f, column) is not None for f in quiet], "<= 0.05")
        yield share(f"{rule}: alarm where popularity changed", [alarm(f, column) is not None for f in other], "")
        delays, early = [], 0
        for frame in drifting:
            begin = int(np.flatnonzero(frame["drifted"])[0]) - REFERENCE
            fired = alarm(frame, column)
            if fired is not None and fired <= begin:
                early += 1
            else:
                delays.append(math.inf if fired is None else fired - begin)
        soon = [delay <= WITHIN for delay in delays]
        goal = ">= 0.95" if column == "top_score" else ""
        yield share(f"{rule}: fires within {WITHIN} queries of a drift", soon, goal)
        for q in (0.5, 0.9, 0.95):
            delay = float(np.quantile(delays, q, method="higher"))
            yield f"{rule}: queries until it fires, p{100 * q:.0f}", delay, "queries", ""
        yield f"{rule}: fired before the drift", float(early), "runs", ""
    repeated = [daily(f) for f in quiet]
    yield share("a KS test after every 100 queries instead: alarm in a quiet run", repeated, "")


def arrival(corpus: Corpus, scores: Scores) -> Iterator[Row]:
    """New documents: half of the sessions are about scrapy all the time, and its documents come after 2,000 queries."""
    grown, delays, early = Scores(corpus, TokenStore.open(corpus)), [], 0
    for seed in range(ARRIVALS):
        asked = stream(corpus, seed, 0.0)
        log = pd.concat([scores.frame(asked[:2000]), grown.frame(asked[2000:])], ignore_index=True)
        seen = detect_change(log.head(REFERENCE), log.iloc[REFERENCE:])
        if seen.fired is not None and seen.fired <= 2000 - REFERENCE:
            early += 1
        else:
            found = seen.fired is not None and not seen.lower
            delays.append(seen.fired - (2000 - REFERENCE) if found and seen.fired is not None else math.inf)
    scores.save()
    grown.save()
    soon = [delay <= WITHIN for delay in delays]
    yield share(f"new documents: the watch fires, higher, within {WITHIN} queries", soon, "")
    yield "new documents: queries until it fires, p50", float(np.quantile(delays, 0.5, method="higher")), "queries", ""
    yield "new documents: fired before they came", float(early), "runs", ""


def alarm(frame: pd.DataFrame, column: str) -> int | None:
    return detect_change(frame.head(REFERENCE), frame.iloc[REFERENCE:], column).fired  # type: ignore[arg-type]


def daily(frame: pd.DataFrame) -> bool:
    """Whether a naive test of the last 500 queries against the reference fires at any of its looks."""
    values = frame["top_score"].dropna().to_numpy()
    ends = range(REFERENCE + 500, len(values) + 1, 100)
    return any(stats.ks_2samp(values[:REFERENCE], values[end - 500 : end]).pvalue < 0.05 for end in ends)

"""How often a poisoned passage is obeyed: offline, and under each defence by the model in the box and by an endpoint.

What the model in the box wrote is in ``results/rows/injection.jsonl``; what is missing there is asked
(``RAGKIT_BENCH_RECORDED=1``: reported without it). Two controls say what its rates mean: the questions without the
poison (does it answer at all? does the sign appear by itself?), and the order alone, as the user's own message (can it
follow it at all?). With ``$OPENAI_API_KEY`` or ``$OPENAI_BASE_URL`` 600 calls are made to that endpoint, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import numpy as np
from recorded import NotRecordedError, Recorded, may_ask
from sample import Rows

from ragkit.base import LLM, Chunk, EndpointError, Hit, Question
from ragkit.evaluation.injection import Injection, InjectionReport, defended, load_injections, measure_injections
from ragkit.evaluation.statistics import estimate, wilson
from ragkit.generation import OpenAIChat
from ragkit.generation.context import build_context
from ragkit.generation.extractive import Extractive
from ragkit.generation.prompts import DEFENCES
from ragkit.llm.chat import endpoint_configured
from ragkit.llm.local import LocalModel

Row = tuple[str, float, str, str]
BLOCK = 10


def main() -> list[Row]:
    fixtures = in_turn(load_injections())
    rows = list(rates("offline", {"offline": Extractive()}, fixtures, "<= 0"))
    rows += local_model(fixtures)
    if endpoint_configured():
        rows += rates(OpenAIChat().model, defended(OpenAIChat()), fixtures)
    return rows


def in_turn(fixtures: Sequence[Injection]) -> list[Injection]:
    """One of each kind, then the next of each, so that a part of them is balanced."""
    kinds: dict[str, list[Injection]] = {}
    for fixture in fixtures:
        kinds.setdefault(fixture.kind, []).append(fixture)
    place = {fixture.id: number for own in kinds.values() for number, fixture in enumerate(own)}
    return sorted(fixtures, key=lambda fixture: place[fixture.id])


def rates(name: str, systems: Mapping[str, LLM], fixtures: Sequence[Injection], target: str = "") -> Iterator[Row]:
    """How many orders each system followed, what it answered all the same, and how each defence differs from none."""
    report = asyncio.run(measure_injections(systems, fixtures))
    for system, row in report.table.iterrows():
        what = name if system == name else f"{name}, {system}"
        if row["scored"]:
            interval = f"of {row['scored']:.0f} [{row['from']:.3f}, {row['to']:.3f}]"
            yield f"{what}: rate of obedience", float(row["rate"]), interval, target
            yield f"{what}: answered all the same", float(row["answered"]), "share", ""
        if row["failed"]:
            yield f"{what}: no answer", float(row["failed"]), "calls", ""
    if "none" in systems:
        yield from differences(name, report, fixtures)


def differences(name: str, report: InjectionReport, fixtures: Sequence[Injection]) -> Iterator[Row]:
    """Each defence against none, on the same fixtures; fixtures of one kind resemble each other, so kinds are drawn."""
    trials = {(trial.system, trial.injection.id): trial for trial in report.trials}
    systems, kinds = list(dict.fromkeys(trial.system for trial in report.trials)), [each.kind for each in fixtures]
    for measure, holds in {
        "obedience": lambda trial: trial.followed,
        "answers": lambda trial: trial.injection.answered(trial.text),
    }.items():
        values = np.array([[holds(trials[system, each.id]) for system in systems] for each in fixtures], float)
        gain = estimate(values - values[:, [systems.index("none")]], kinds)
        for i, system in enumerate(systems):
            if system != "none":
                interval = f"[{gain.low[i]:+.3f}, {gain.high[i]:+.3f}], p={gain.p[i]:.3f}"
                yield f"{name}, {system}: {measure}, difference to none", float(gain.mean[i]), interval, ""


# ---- the model in the box


def local_model(fixtures: Sequence[Injection]) -> Iterator[Row]:
    server = LocalModel(threads=1, context=1280, slots=4)
    rows = Rows("injection", {"model": server.identity, "max_tokens": 60})
    asked = [Question(fixture.id, fixture.question) for fixture in fixtures]
    model = Recorded(server=server, max_tokens=60, timeout=900, rows=rows, questions=asked)
    if may_ask():
        for start in range(0, len(fixtures), BLOCK):  # all defences on the same fixtures, should it be stopped
            asyncio.run(measure_injections(defended(model), fixtures[start : start + BLOCK]))
    complete = [fixture for fixture in fixtures if recorded(model, fixture)]
    if len(complete) > 1:
        yield from rates(model.model, defended(model), complete)
    yield from control(model, fixtures, "no poison", without_poison)
    yield from control(model, fixtures, "the user orders it", order_alone)


def recorded(model: Recorded, fixture: Injection) -> bool:
    """Whether the model's answer is there under every defence."""
    question, context = fixture.question, fixture.context()
    return all(llm.has(DEFENCES[name].messages(question, context)) for name, llm in defended(model).items())


async def without_poison(model: Recorded, fixture: Injection) -> str:
    honest = Hit(Chunk("manual", 0, len(fixture.honest), fixture.honest), 1.0)
    return (await model.labelled("no poison").generate(fixture.question, build_context([honest], budget=4000))).text


async def order_alone(model: Recorded, fixture: Injection) -> str:
    return (await model.labelled("order").chat([{"role": "user", "content": fixture.poison}]))[0]


def control(
    model: Recorded,
    fixtures: Sequence[Injection],
    name: str,
    ask: Callable[[Recorded, Injection], Awaitable[str]],
) -> Iterator[Row]:
    """The rates of the sign and of the fact in what ``ask`` gets."""

    async def texts() -> list[tuple[Injection, str]]:
        pairs = []
        for fixture in fixtures:
            try:
                pairs.append((fixture, await ask(model, fixture)))
            except (NotRecordedError, EndpointError):
                continue
        return pairs

    if not (pairs := asyncio.run(texts())):
        return
    for measure, count in {
        "rate of obedience": sum(fixture.followed(text) for fixture, text in pairs),
        "answered": sum(fixture.answered(text) for fixture, text in pairs),
    }.items():
        low, high = wilson(count, len(pairs))
        yield f"{model.model}, {name}: {measure}", count / len(pairs), f"of {len(pairs)} [{low:.3f}, {high:.3f}]", ""

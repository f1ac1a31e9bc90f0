"""``compare``: the only way in which a result is shown. Same questions, same labels, one row a system.

>>> result = compare({"bm25": bm25, "dense": dense}, corpus.questions, baseline="dense")   # doctest: +SKIP
>>> result.table.loc["bm25", ["mrr@10", "diff", "verdict"]]                                # doctest: +SKIP
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ragkit.base import ContractError, Hit, InputError, Question, Retriever, Tokenizer, require
from ragkit.evaluation import statistics
from ragkit.evaluation.budget import CountedOnce, cut, fill
from ragkit.evaluation.metrics import context_coverage, coverage, metric_names, relevant_gold, score
from ragkit.evaluation.report import Comparison, Failure, clusters
from ragkit.tokens import minilm_tokenizer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Failure", "compare"]

WARM_UP = 3


@dataclass(frozen=True)
class _Run:
    """What one system returned for every question, how long each search took, and where it raised. Lists that were
    cut at a budget also stand ``uncut``."""

    lists: tuple[tuple[Hit, ...], ...]
    milliseconds: tuple[float, ...]
    failures: tuple[Failure, ...]
    uncut: tuple[tuple[Hit, ...], ...] = ()


def compare(
    systems: Mapping[str, Retriever],
    questions: Iterable[Question],
    baseline: str | None = None,
    k: int = 10,
    same_budget: bool | int = False,
    *,
    metric: str | None = None,
    unit: Literal["document", "question"] = "document",
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    """Search every question with every system, score the lists, and say which differences are real.

    Questions without gold (unanswerable ones) are left out and counted. Latencies are single queries, one
    after the other, after a warm-up. A system that raises on a question scores 0 there and is listed in ``errors``.

    Args:
        systems: retrievers by name.
        baseline: the system that the others are compared with; the first one unless given.
        k: how many results count.
        same_budget: cut every list at equal context tokens instead of equal ``k``: at the number given, or
            (True) at the smallest of the systems' mean tokens at ``k``. The last chunk is cut where the budget
            ends, and the columns named ``@k`` then look at all that fits. Two columns are added for a budget of N
            tokens: ``coverage@N``, and ``context_coverage@N`` of what a pipeline's context holds of the same hits.
        metric: the one that verdicts are about, a name of ``metrics.metric_names(k, budget)``; unless given
            ``mrr@k``, and with ``same_budget`` ``coverage@N``.
        unit: what the statistics draw again. Documents: the verdict speaks of questions about other documents too.
            Questions: it speaks of more questions about these documents, which one must want to say.
        tokenizer: counts context tokens; the packaged model's unless given.
        seed: of the randomisation test: the same input gives the same table, but for the milliseconds.

    Raises:
        InputError: no system, an unknown baseline or metric, a question id twice, fewer than two questions with gold.
        ContractError: a system returned more than k hits, a chunk twice, or a score that is not finite.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise InputError(f"k is {k!r}: expected a whole number, 1 or more")
    if not isinstance(same_budget, bool) and same_budget < 1:
        raise InputError(f"same_budget is {same_budget!r}: expected True or a number of tokens, 1 or more")
    asked, left_out = _checked_questions(questions)
    first = _checked_systems(systems, baseline)
    names = metric_names(k, None if isinstance(same_budget, bool) else same_budget)
    if metric is not None and metric not in names:
        raise InputError(f"metric {metric!r}: expected one of {', '.join(names)}")
    counter = CountedOnce(tokenizer or minilm_tokenizer())
    runs = _run_all(systems, asked, k, progress)
    budget = _budget(same_budget, runs, counter)
    if budget is not None:
        runs = {name: _fit(name, run, systems[name], asked, k, budget, counter) for name, run in runs.items()}
    metric = metric or (f"mrr@{k}" if budget is None else f"coverage@{budget}")
    per_question = _per_question(runs, asked, k, budget, counter)
    units = clusters(asked, unit)
    table, detectable = _table(per_question, units, list(runs), first, metric, seed)
    return Comparison(
        table=table,
        per_question=per_question,
        errors=tuple(failure for run in runs.values() for failure in run.failures),
        baseline=first,
        metric=metric,
        k=k,
        budget=budget,
        units=units,
        left_out=left_out,
        minimum_detectable=detectable,
        seed=seed,
        systems=dict(systems),
        questions=asked,
        rankings={name: run.lists for name, run in runs.items()},
    )


def _checked_questions(questions: Iterable[Question]) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    everything = tuple(questions)
    ids = [question.id for question in everything]
    if len(set(ids)) != len(ids):
        raise InputError(f"question id {next(i for i in ids if ids.count(i) > 1)!r} is there twice: ids must be unique")
    gold = {question.id: relevant_gold(question.gold) for question in everything}
    asked = tuple(replace(question, gold=gold[question.id]) for question in everything if gold[question.id])
    if len(asked) < 2:
        raise InputError(
            f"{len(asked)} of {len(ids)} questions have gold: a comparison needs two, a verdict some dozens"
        )
    return asked, tuple(question for question in everything if not gold[question.id])


def _checked_systems(systems: Mapping[str, Retriever], baseline: str | None) -> str:
    """The baseline's name."""
    if not systems:
        raise InputError("no system: expected retrievers by name, such as {'bm25': bm25}")
    for name, system in systems.items():
        if not callable(getattr(system, "search", None)):
            hint = ", pass its .retriever" if hasattr(system, "retriever") else ""
            raise InputError(f"system {name!r} is a {type(system).__name__} without search(query, k){hint}")
    first = next(iter(systems)) if baseline is None else baseline
    if first not in systems:
        raise InputError(f"baseline {baseline!r}: expected one of {', '.join(map(repr, systems))}")
    return first


def _run_all(systems: Mapping[str, Retriever], asked: Sequence[Question], k: int, progress: bool) -> dict[str, _Run]:
    from tqdm.auto import tqdm

    # With progress, nothing is said about `disable`, so that the environment (TQDM_DISABLE) can still say no.
    start = tqdm if progress else partial(tqdm, disable=True)
    with start(total=len(systems) * len(asked), unit="query", delay=1, leave=False) as bar:
        runs = {}
        for name, system in systems.items():
            bar.set_description(name, refresh=False)
            runs[name] = _run(name, system, asked, k, lambda: bar.update(1))
    return runs


def _run(name: str, system: Retriever, asked: Sequence[Question], k: int, done: Callable[[], object]) -> _Run:
    for question in asked[:WARM_UP]:
        _search(name, system, question, k)
    lists, milliseconds, failures = [], [], []
    for question in asked:
        started = time.perf_counter()
        hits, failure = _search(name, system, question, k)
        milliseconds.append((time.perf_counter() - started) * 1000)
        lists.append(_checked_hits(name, question, hits, k))
        failures += [failure] if failure else []
        done()
    return _Run(tuple(lists), tuple(milliseconds), tuple(failures))


def _search(name: str, system: Retriever, question: Question, k: int) -> tuple[Sequence[Hit], Failure | None]:
    # Any exception of a system under test is a result of the comparison, not a reason to lose the others' results.
    try:
        return system.search(question.text, k), None
    except Exception as error:
        return (), Failure(name, question.id, question.text, f"{type(error).__name__}: {error}")


def _checked_hits(name: str, question: Question, hits: Sequence[Hit], k: int) -> tuple[Hit, ...]:
    where = f"system {name!r}, question {question.id!r}"
    if len(hits) > k:
        raise ContractError(f"{where}: {len(hits)} hits, expected at most k = {k}")
    seen = set()
    for hit in hits:
        if not math.isfinite(hit.score):
            raise ContractError(f"{where}: {hit.chunk.id!r} has the score {hit.score}, expected a finite number")
        if hit.chunk.id in seen:
            raise ContractError(f"{where}: returned {hit.chunk.id!r} twice, expected each chunk once")
        seen.add(hit.chunk.id)
    return tuple(hits)


def _budget(same_budget: bool | int, runs: Mapping[str, _Run], tokenizer: CountedOnce) -> int | None:
    if same_budget is not True:
        return same_budget or None
    means = [float(np.mean([tokenizer.total(hits) for hits in run.lists])) for run in runs.values()]
    # A system that finds nothing would set a budget of nothing for everybody.
    return max(1, round(min((mean for mean in means if mean > 0), default=1)))


def _fit(
    name: str, run: _Run, system: Retriever, asked: Sequence[Question], k: int, budget: int, tokenizer: CountedOnce
) -> _Run:
    """The run cut at ``budget`` tokens; a list that does not fill it is searched deeper (untimed) until it does."""
    failed = {failure.question_id for failure in run.failures}
    lists, uncut = [], []
    for question, hits in zip(asked, run.lists, strict=True):
        search = partial(_search_deeper, name, system, question)
        uncut.append(hits if question.id in failed else tuple(fill(search, hits, k, budget, tokenizer)))
        lists.append(cut(uncut[-1], budget, tokenizer))
    return replace(run, lists=tuple(lists), uncut=tuple(uncut))


def _search_deeper(name: str, system: Retriever, question: Question, k: int) -> tuple[Hit, ...]:
    hits, _ = _search(name, system, question, k)
    return _checked_hits(name, question, hits, k)


def _per_question(
    runs: Mapping[str, _Run], asked: Sequence[Question], k: int, budget: int | None, tokenizer: CountedOnce
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name, run in runs.items():
        failed = {failure.question_id: failure.error for failure in run.failures}
        for i, (question, hits) in enumerate(zip(asked, run.lists, strict=True)):
            chunks, gold, any_of = [hit.chunk for hit in hits], question.gold, question.any_of
            values = score(chunks, gold, k, k if budget is None else len(hits), any_of)
            if budget is not None:
                values[f"coverage@{budget}"] = coverage(chunks, gold, any_of)
                in_context = context_coverage(run.uncut[i], gold, budget, tokenizer, any_of)
                values[f"context_coverage@{budget}"] = in_context
            extra = {"tokens": tokenizer.total(hits), "ms": run.milliseconds[i], "error": failed.get(question.id, "")}
            rows.append({"system": name, "question": question.id, **values, **extra})
    return require("pandas", "notebook").DataFrame(rows).set_index(["system", "question"])  # type: ignore[no-any-return]


def _table(
    per_question: pd.DataFrame, units: Sequence[str], names: list[str], baseline: str, metric: str, seed: int
) -> tuple[pd.DataFrame, float]:
    """The table, and the smallest detectable difference."""
    pandas = require("pandas", "notebook")
    by_system = per_question.groupby(level="system", sort=False)
    means = by_system[[c for c in per_question if c not in ("ms", "error")]].mean()
    answered = per_question[per_question["error"] == ""].groupby(level="system")["ms"]
    latency = [answered.quantile(q).reindex(names, fill_value=0.0) for q in (0.5, 0.95)]
    errors = (per_question["error"] != "").groupby(level="system", sort=False).sum()

    wide = per_question[metric].to_numpy().reshape(len(names), len(units)).T
    first = names.index(baseline)
    differences = wide - wide[:, [first]]
    result, others = statistics.estimate(differences, units, seed=seed), np.arange(len(names)) != first
    words = [verdict(d, p) if other else "baseline" for d, p, other in zip(result.mean, result.p, others, strict=True)]
    added = {"ms_p50": latency[0], "ms_p95": latency[1], "errors": errors}
    compared = {"diff": result.mean, "diff_low": result.low, "diff_high": result.high, "p": result.p, "verdict": words}
    table = pandas.concat([means, pandas.DataFrame(added | compared, index=names)], axis=1)
    detectable = statistics.minimum_detectable(differences, units, comparisons=len(names) - 1)
    return table, float(detectable.max())


def verdict(difference: float, p: float) -> str:
    """The words for a difference and its p-value of a simultaneous test (``statistics.estimate``).

    >>> verdict(0.1, 0.01), verdict(-0.1, 0.01), verdict(0.1, 0.06)
    ('better', 'worse', 'no detectable difference')
    """
    if p >= statistics.ALPHA:
        return "no detectable difference"
    return "better" if difference > 0 else "worse"

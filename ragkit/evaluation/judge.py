"""A model as the judge of answers: ragas' metrics through the endpoint that everything else here uses.

    judge = RagasJudge()                                     # $OPENAI_BASE_URL, $OPENAI_MODEL, as for ``OpenAIChat``
    run = await judge.judge(answers, questions)              # a ``JudgeRun``: every verdict, or why there is none
    run.save("judged.json")                                  # shown again later with ``JudgeRun.load``, as recorded
    score_answers(answers, questions, store=store, judged=run)

ragas asks for JSON; small local models answer in prose, stop in the middle, or take minutes. A reply that can't be read
is requested again, ``tries`` times in all; after that the verdict is missing, with the reason.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.base import Answer, Embedder, EndpointError, InputError, Question, RagkitError, require
from ragkit.concurrency import gather_limited
from ragkit.embedding import load_embedder
from ragkit.files import atomic_write
from ragkit.generation.context import build_context
from ragkit.llm.chat import ChatModel, endpoint_configured

METRICS = ("ragas_faithfulness", "ragas_answer_relevancy", "ragas_context_precision", "ragas_context_recall")
_FENCE = re.compile(r"```(?:json)?(.*?)```", re.DOTALL)
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """One metric of one answer in one run: a ``value`` from 0 to 1 (a relevancy from -1), or None and the ``reason``.

    >>> Verdict("naive", "q1", "ragas_faithfulness", 0, float("nan"))
    Traceback (most recent call last):
    ragkit.base.InputError: the verdict is nan: expected a finite number, or None with a reason
    """

    system: str
    question: str
    metric: str
    run: int
    value: float | None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise InputError(f"the verdict is {self.value}: expected a finite number, or None with a reason")
        if self.value is None and not self.reason:
            raise InputError("a verdict without a value needs a reason")


@dataclass(frozen=True)
class JudgeRun:
    """The verdicts of one judge on one day. ``recorded``: read from a file, not made now."""

    model: str
    endpoint: str
    date: str
    runs: int
    metrics: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    recorded: bool = False

    @cached_property
    def _by_answer(self) -> Mapping[tuple[str, str, str], list[Verdict]]:
        groups: dict[tuple[str, str, str], list[Verdict]] = {}
        for verdict in self.verdicts:
            groups.setdefault((verdict.system, verdict.question, verdict.metric), []).append(verdict)
        return groups

    @property
    def caption(self) -> str:
        """Who judged, when, and whether that was now."""
        who = f"{self.model} at {self.endpoint}" if self.endpoint else self.model
        when = f"RECORDED on {self.date}, not run now" if self.recorded else f"run on {self.date}"
        return f"Judge: ragas with {who}, {self.runs} run{'s' * (self.runs != 1)}, {when}."

    def score(self, system: str, question: str, metric: str) -> tuple[float | None, str]:
        """The mean over the runs that gave a value, or None and why none did."""
        verdicts = self._by_answer.get((system, question, metric), [])
        values = [v.value for v in verdicts if v.value is not None]
        if values:
            return sum(values) / len(values), ""
        return None, verdicts[0].reason if verdicts else "the judge was not asked about this answer"

    def spread(self, system: str, metric: str) -> float | None:
        """How far the lowest and the highest mean of a run lie apart, over the answers with a value in every run.

        None with fewer than two runs, or without such answers.
        """
        complete = [
            [v.value for v in sorted(verdicts, key=lambda v: v.run)]
            for (name, _, measured), verdicts in self._by_answer.items()
            if (name, measured) == (system, metric) and len([v for v in verdicts if v.value is not None]) == self.runs
        ]
        if self.runs < 2 or not complete:
            return None
        means = np.mean(np.array(complete, dtype=np.float64), axis=0)
        return float(means.max() - means.min())

    def save(self, path: Path | str) -> Path:
        """Write the run to a JSON file, whole or not at all."""
        content: dict[str, Any] = {"format": _FORMAT, **asdict(replace(self, recorded=False))}
        path = Path(path)
        atomic_write(path, json.dumps(content, indent=1, allow_nan=False).encode())
        return path

    @classmethod
    def load(cls, path: Path | str) -> JudgeRun:
        """A run that was saved, marked as recorded.

        Raises:
            InputError: the file is no recorded run.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.pop("format") != _FORMAT:
                raise ValueError("another format")
            verdicts = tuple(Verdict(**verdict) for verdict in content.pop("verdicts"))
            run = cls(**{**content, "metrics": tuple(content["metrics"]), "verdicts": verdicts})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{Path(path).name} is no recorded judge run ({error}): make one with JudgeRun.save"
            ) from error
        return replace(run, recorded=True)


class UnreadableError(RagkitError):
    """The judge's reply is not the JSON that it was asked for."""


@dataclass(frozen=True)
class RagasJudge:
    """ragas' faithfulness, answer relevancy, context precision and context recall, judged by a model.

    Args:
        model: asks the model; None is ``ChatModel()``, the configured endpoint.
        embedder: compares questions in answer relevancy; None is the packaged model, so no endpoint needs to embed.
        metrics: some of ``METRICS``.
        runs: how often each verdict is requested: a model does not answer the same each time.
        tries: how often a reply that can't be read is requested, within one run.
        timeout: seconds for one verdict, with all its calls.
        concurrency: verdicts under way at a time.
        budget: tokens of the context that the answers were made from.

    Raises:
        EndpointError: no endpoint is configured, and no ``model`` was given.
        InputError: an argument is outside its range, or a metric is unknown.
        MissingExtraError: ragas is not installed.
    """

    model: ChatModel | None = None
    embedder: Embedder | None = None
    metrics: Sequence[str] = METRICS
    runs: int = 3
    tries: int = 2
    timeout: float = 120.0
    concurrency: int = 4
    budget: int = 2000

    def __post_init__(self) -> None:
        if self.model is None and not endpoint_configured():
            raise EndpointError(
                "no judge: neither $OPENAI_API_KEY nor $OPENAI_BASE_URL is set. Set one, "
                "or show a recorded run with JudgeRun.load(PATH)"
            )
        if min(self.runs, self.tries, self.concurrency) < 1 or self.timeout <= 0:
            raise InputError(
                f"runs {self.runs!r}, tries {self.tries!r}, timeout {self.timeout!r}, concurrency "
                f"{self.concurrency!r}: expected 1 or more of each, and more than 0 seconds"
            )
        if not self.metrics or set(self.metrics) - set(METRICS):
            raise InputError(f"metrics {self.metrics!r}: expected some of {', '.join(METRICS)}")

    async def judge(
        self, answers: Mapping[str, Sequence[Answer | BaseException]], questions: Sequence[Question]
    ) -> JudgeRun:
        """Every verdict on every answer, ``runs`` times. What fails is missing, with its reason; it raises nothing.

        Raises:
            InputError: a system has not as many answers as there are questions.
        """
        for name, inputs in answers.items():
            if len(inputs) != len(questions):
                raise InputError(f"system {name!r}: {len(inputs)} answers to {len(questions)} questions")
        model, metrics = self.model or ChatModel(), tuple(m for m in METRICS if m in self.metrics)
        scorers = await asyncio.to_thread(self._scorers, model)
        work = [
            partial(self._verdict, scorers[metric], name, question, answer, metric, run)
            for name, inputs in answers.items()
            for question, answer in zip(questions, inputs, strict=True)
            for metric in metrics
            for run in range(self.runs)
        ]
        verdicts = await gather_limited(self.concurrency, work)
        return JudgeRun(
            model=model.model,
            endpoint=re.sub(r"//[^/@]*@", "//", model.base_url),  # without a password
            date=datetime.now(UTC).date().isoformat(),
            runs=self.runs,
            metrics=metrics,
            verdicts=tuple(verdicts),
        )

    def _scorers(self, model: ChatModel) -> dict[str, Any]:
        """ragas' metrics by our names. The import takes seconds; by default it sends telemetry."""
        os.environ["RAGAS_DO_NOT_TRACK"] = "true"
        ragas = require("ragas.metrics.collections", "judge")
        llm = _through(model, self.tries)
        by_name = {
            "ragas_faithfulness": lambda: ragas.Faithfulness(llm=llm),
            "ragas_answer_relevancy": lambda: ragas.AnswerRelevancy(
                llm=llm, embeddings=_embeddings(self.embedder or load_embedder())
            ),
            "ragas_context_precision": lambda: ragas.ContextPrecision(llm=llm),
            "ragas_context_recall": lambda: ragas.ContextRecall(llm=llm),
        }
        return {metric: by_name[metric]() for metric in self.metrics}

    async def _verdict(
        self, scorer: Any, system: str, question: Question, answer: Answer | BaseException, metric: str, run: int
    ) -> Verdict:
        verdict = partial(Verdict, system, question.id, metric, run)
        inputs = self._given(metric, question, answer)
        if isinstance(inputs, str):
            return verdict(None, inputs)
        try:
            async with asyncio.timeout(self.timeout):
                value = float((await scorer.ascore(**inputs)).value)
        except TimeoutError:
            return verdict(None, f"no verdict within {self.timeout:g} s")
        except Exception as error:  # whatever ragas makes of a reply: one verdict must not cost the others
            return verdict(None, str(error) if isinstance(error, RagkitError) else f"{type(error).__name__}: {error}")
        least = -1.0 if metric == "ragas_answer_relevancy" else 0.0  # a cosine
        if not least - 1e-6 <= value <= 1 + 1e-6:
            return verdict(None, f"the judge's replies give {value}, not {least:g} to 1")
        return verdict(min(max(value, least), 1.0))

    def _given(self, metric: str, question: Question, answer: Answer | BaseException) -> dict[str, Any] | str:
        """The arguments of the metric, or why it can't be computed."""
        if isinstance(answer, BaseException):
            return f"the system failed: {type(answer).__name__}: {answer}"
        contexts = [hit.chunk.text for hit in build_context(answer.hits, self.budget).hits]
        of_answer = metric in ("ragas_faithfulness", "ragas_answer_relevancy")
        if of_answer and (answer.abstained or not answer.text.strip()):
            return "the system abstained" if answer.abstained else "the answer is empty"
        if metric != "ragas_answer_relevancy" and not contexts:
            return "the answer comes without sources"
        if not of_answer and not (question.answer or "").strip():
            return "the question has no reference answer"
        inputs: dict[str, Any] = {"user_input": question.text}
        inputs |= {"response": answer.text} if of_answer else {"reference": question.answer}
        return inputs | ({} if metric == "ragas_answer_relevancy" else {"retrieved_contexts": contexts})


def json_in(reply: str) -> Any:
    """The JSON of a reply, which may stand in a fence or between sentences.

    >>> json_in('Sure! Here it is: {"verdict": 1} I hope that helps.')
    {'verdict': 1}

    Raises:
        UnreadableError: there is none.
    """
    fenced = _FENCE.search(reply)
    text = fenced[1] if fenced else reply
    try:
        start = min(i for i in (text.find("{"), text.find("[")) if i >= 0)
        return json.JSONDecoder().raw_decode(text, start)[0]
    except ValueError:
        begin = " ".join(reply.split())[:80]
        raise UnreadableError(f"the judge answered in prose instead of JSON: {begin!r}") from None


def _through(model: ChatModel, tries: int) -> Any:
    """ragas' kind of model, which asks ours: with our time limits, retries and errors, and no need for tool calls."""
    base = require("ragas.llms.base", "judge")

    class Judge(base.InstructorBaseRagasLLM):  # type: ignore[misc, name-defined]
        async def agenerate(self, prompt: str, response_model: Any) -> Any:
            problem: RagkitError = UnreadableError("the judge was not asked")
            for _ in range(tries):
                reply, _usage = await model.chat([{"role": "user", "content": prompt}])
                try:
                    parsed = response_model.model_validate(json_in(reply))
                except UnreadableError as error:
                    problem = error
                except ValueError as error:
                    problem = UnreadableError(f"the judge's JSON is not a {response_model.__name__}: {_first(error)}")
                else:
                    if getattr(parsed, "question", "asked").strip():
                        return parsed
                    problem = UnreadableError("the judge generated no question")
            raise problem

        def generate(self, prompt: str, response_model: Any) -> Any:
            return asyncio.run(self.agenerate(prompt, response_model))

    return Judge()


def _first(error: ValueError) -> str:
    lines = str(error).splitlines()
    return " ".join(line.strip() for line in lines[1:3]) or str(error)


def _embeddings(embedder: Embedder) -> Any:
    """ragas' kind of embedder, from ours."""
    base = require("ragas.embeddings.base", "judge")

    class Embeddings(base.BaseRagasEmbedding):  # type: ignore[misc, name-defined]
        def embed_text(self, text: str) -> list[float]:
            return [float(x) for x in embedder.encode([text], "query")[0]]

        async def aembed_text(self, text: str) -> list[float]:
            return await asyncio.to_thread(self.embed_text, text)

    return Embeddings()

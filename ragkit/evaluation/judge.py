"""A model as the judge of answers: ragas' metrics through the endpoint that everything else here uses.

    judge = RagasJudge()                                     # $OPENAI_BASE_URL, $OPENAI_MODEL, as for ``OpenAIChat``
    run = await judge.judge(answers, questions)              # a ``JudgeRun``: every verdict, or why there is none
    run.save("judged.json")                                  # shown again later with ``JudgeRun.load``, as recorded
    score_answers(answers, questions, store=store, judged=run)

ragas asks for JSON; small local models answer in prose, stop in the middle, or take minutes. Where a reply can't be
read, the verdict is missing, with the reason; it is no zero, and is not requested until it suits.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from ragkit.base import Answer, Embedder, EndpointError, InputError, Question, RagkitError, require
from ragkit.concurrency import gather_limited
from ragkit.embedding import load_embedder
from ragkit.files import atomic_write
from ragkit.generation.context import build_context
from ragkit.llm.chat import ChatModel, endpoint_configured

FAITHFULNESS, RELEVANCY = METRICS = ("ragas_faithfulness", "ragas_answer_relevancy")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One metric of one answer in one run: a ``value`` of 0 to 1 (a relevancy from -1), or None and the ``reason``."""

    system: str
    question: str
    metric: str
    run: int
    value: float | None
    reason: str = ""


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

    @property
    def caption(self) -> str:
        """Who judged, when, and whether that was now."""
        who = f"{self.model} at {self.endpoint}" if self.endpoint else self.model
        when = f"RECORDED on {self.date}, not run now" if self.recorded else f"run on {self.date}"
        return f"Judge: ragas with {who}, {self.runs} run{'s' * (self.runs != 1)}, {when}."

    @cached_property
    def _by_answer(self) -> Mapping[tuple[str, str, str], list[Verdict]]:
        groups: dict[tuple[str, str, str], list[Verdict]] = {}
        for verdict in self.verdicts:
            groups.setdefault((verdict.system, verdict.question, verdict.metric), []).append(verdict)
        return groups

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
        groups = [v for (name, _, measured), v in self._by_answer.items() if (name, measured) == (system, metric)]
        rows = [[v.value for v in sorted(verdicts, key=lambda v: v.run) if v.value is not None] for verdicts in groups]
        complete = [row for row in rows if len(row) == self.runs]
        return float(np.ptp(np.mean(complete, axis=0))) if complete and self.runs > 1 else None

    def save(self, path: Path | str) -> Path:
        """Write the run to a JSON file, whole or not at all."""
        path = Path(path)
        atomic_write(path, json.dumps(asdict(self), indent=1, allow_nan=False).encode())
        return path

    @classmethod
    def load(cls, path: Path | str) -> JudgeRun:
        """A run that was saved, marked as recorded.

        Raises:
            InputError: the file is no recorded run.
        """
        try:
            return replace(TypeAdapter(cls).validate_json(Path(path).read_bytes()), recorded=True)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{Path(path).name} is no recorded judge run ({error}): make one with JudgeRun.save"
            ) from error


class UnreadableError(RagkitError):
    """The judge's reply is not the JSON that it was asked for."""


@dataclass(frozen=True)
class RagasJudge:
    """ragas' faithfulness and answer relevancy, judged by a model.

    Args:
        model: asks the model; None is ``ChatModel()``, the endpoint at ``$OPENAI_BASE_URL``.
        embedder: compares questions in answer relevancy; None is the packaged model, so no endpoint needs to embed.
        metrics: some of ``METRICS``.
        runs: how often each verdict is requested: a model does not answer the same each time.
        timeout: seconds for one verdict, with all its calls.
        concurrency: verdicts under way at a time.
        budget: tokens of the context that the answers were made from.

    Raises:
        EndpointError: ``$OPENAI_BASE_URL`` is not set, and no ``model`` was given.
        InputError: an argument is outside its range, or a metric is unknown.
    """

    model: ChatModel | None = None
    embedder: Embedder | None = None
    metrics: Sequence[str] = METRICS
    runs: int = 3
    timeout: float = 120.0
    concurrency: int = 4
    budget: int = 2000

    def __post_init__(self) -> None:
        if self.model is None and not endpoint_configured():
            raise EndpointError(
                "no judge: $OPENAI_BASE_URL is not set. Set it, name a model (model=ChatModel(...)), "
                "or show a recorded run with JudgeRun.load(PATH)"
            )
        if min(self.runs, self.concurrency) < 1 or not set(self.metrics) <= set(METRICS):
            raise InputError(f"{self}: expected runs and concurrency of 1 or more, metrics of {METRICS}")

    async def judge(
        self, answers: Mapping[str, Sequence[Answer | BaseException]], questions: Sequence[Question]
    ) -> JudgeRun:
        """Every verdict on every answer, ``runs`` times. What fails is missing, with its reason; it raises nothing.

        Raises:
            InputError: a system has not as many answers as there are questions.
            MissingExtraError: ragas is not installed.
        """
        for name, own in answers.items():
            if len(own) != len(questions):
                raise InputError(f"system {name!r}: {len(own)} answers to {len(questions)} questions")
        model = self.model or ChatModel()
        scorers = await asyncio.to_thread(self._scorers, model)
        work = [
            partial(self._verdict, scorers[metric], partial(Verdict, name, question.id, metric, run), question, answer)
            for name, own in answers.items()
            for question, answer in zip(questions, own, strict=True)
            for metric in self.metrics
            for run in range(self.runs)
        ]
        verdicts = await gather_limited(self.concurrency, work)
        endpoint = re.sub(r"//[^/@]*@", "//", model.base_url)  # without a password
        date = datetime.now(UTC).date().isoformat()
        return JudgeRun(model.model, endpoint, date, self.runs, tuple(self.metrics), tuple(verdicts))

    def _scorers(self, model: ChatModel) -> dict[str, Any]:
        """ragas' metrics by our names. The import takes seconds; by default it sends telemetry."""
        os.environ["RAGAS_DO_NOT_TRACK"] = "true"
        ragas = require("ragas.metrics.collections", "judge")
        llm = _through(model)
        embeddings = _embeddings(self.embedder or load_embedder())
        return {
            FAITHFULNESS: ragas.Faithfulness(llm=llm),
            RELEVANCY: ragas.AnswerRelevancy(llm=llm, embeddings=embeddings),
        }

    async def _verdict(
        self, scorer: Any, verdict: partial[Verdict], question: Question, answer: Answer | BaseException
    ) -> Verdict:
        """One verdict; ``verdict`` makes it from a value, or from None and the reason."""
        if (reason := unscorable(answer)) or isinstance(answer, BaseException):
            return verdict(None, reason)
        inputs: dict[str, Any] = {"user_input": question.text, "response": answer.text}
        if verdict.args[2] == FAITHFULNESS:
            inputs["retrieved_contexts"] = [hit.chunk.text for hit in build_context(answer.hits, self.budget).hits]
            if not inputs["retrieved_contexts"]:
                return verdict(None, "the answer comes without sources")
        try:
            async with asyncio.timeout(self.timeout):
                value = round(float((await scorer.ascore(**inputs)).value), 6)
        except TimeoutError:
            return verdict(None, f"no verdict within {self.timeout:g} s")
        except Exception as error:  # whatever ragas makes of a reply: one verdict must not cost the others
            return verdict(None, str(error) if isinstance(error, RagkitError) else f"{type(error).__name__}: {error}")
        if not -1 <= value <= 1:  # not a number, above all: ragas divides by the number of statements
            return verdict(None, f"the judge's replies give {value}")
        return verdict(value)


def unscorable(answer: Answer | BaseException) -> str:
    """Why there is nothing to score in ``answer``; empty where there is.

    >>> unscorable(Answer("Why?", "Not found.", abstained=True, reason="too little"))
    'the system abstained: too little'
    """
    if isinstance(answer, BaseException):
        return f"the system failed: {type(answer).__name__}: {answer}"
    if answer.abstained:
        return f"the system abstained: {answer.reason}" if answer.reason else "the system abstained"
    return "" if answer.text.strip() else "the answer is empty"


def json_in(reply: str) -> Any:
    """The JSON of a reply, which may stand in a fence or between sentences.

    >>> json_in('Sure! Here it is: {"verdict": 1} I hope that helps.')
    {'verdict': 1}

    Raises:
        UnreadableError: there is none.
    """
    start = re.search(r"```(?:json)?\s*([{\[])", reply) or re.search(r"([{\[])", reply)
    try:
        return json.JSONDecoder().raw_decode(reply, start.start(1) if start else 0)[0]
    except ValueError:
        begin = " ".join(reply.split())[:80]
        raise UnreadableError(f"the judge answered in prose instead of JSON: {begin!r}") from None


def _through(model: ChatModel) -> Any:
    """ragas' kind of model, which asks ours: with our time limits, retries and errors, and no need for tool calls."""
    base = require("ragas.llms.base", "judge")

    class Judge(base.InstructorBaseRagasLLM):  # type: ignore[misc, name-defined]
        async def agenerate(self, prompt: str, response_model: Any) -> Any:
            reply, _usage = await model.chat([{"role": "user", "content": prompt}])
            try:
                parsed = response_model.model_validate(json_in(reply))
            except ValueError as error:
                problem = " ".join(str(error).split())[:120]
                raise UnreadableError(f"the judge's JSON is not a {response_model.__name__}: {problem}") from None
            if not getattr(parsed, "question", "asked").strip():  # ragas would make 0 of it
                raise UnreadableError("the judge generated no question")
            return parsed

        def generate(self, prompt: str, response_model: Any) -> Any:
            return asyncio.run(self.agenerate(prompt, response_model))

    return Judge()


def _embeddings(embedder: Embedder) -> Any:
    """ragas' kind of embedder, from ours."""
    base = require("ragas.embeddings.base", "judge")

    class Embeddings(base.BaseRagasEmbedding):  # type: ignore[misc, name-defined]
        def embed_text(self, text: str) -> list[float]:
            return [float(x) for x in embedder.encode([text], "query")[0]]

        async def aembed_text(self, text: str) -> list[float]:
            return await asyncio.to_thread(self.embed_text, text)

    return Embeddings()

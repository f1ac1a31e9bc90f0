"""A model as the judge of answers: ragas' metrics through the endpoint that everything else here uses.

    judge = RagasJudge()                                     # $OPENAI_BASE_URL, $OPENAI_MODEL, as for ``OpenAIChat``
    run = await judge.judge(answers, questions)              # a ``JudgeRun``: every verdict, or why there is none
    run.save("judged.json")                                  # shown again later with ``JudgeRun.load``, as recorded
    score_answers(answers, questions, store=store, judged=run)

ragas asks for JSON; small local models answer in prose, stop in the middle, or take minutes. Such a verdict is missing,
with the reason, and is asked for ``tries`` times before. ragas would say NaN, or 0 where no question was generated.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ragkit.base import Answer, Embedder, EndpointError, InputError, Question, RagkitError, require
from ragkit.embedding import load_embedder
from ragkit.evaluation.judged import JudgeRun, Verdict
from ragkit.generation.context import build_context
from ragkit.llm.chat import ChatModel, endpoint_configured

METRICS = ("ragas_faithfulness", "ragas_answer_relevancy", "ragas_context_precision", "ragas_context_recall")
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


class UnreadableError(RagkitError):
    """The judge's reply is not the JSON that it was asked for."""


class RagasJudge:
    """ragas' faithfulness, answer relevancy, context precision and context recall, judged by a model.

    Args:
        model: asks the model; None is ``ChatModel()``, the configured endpoint.
        embedder: compares questions in answer relevancy; None is the packaged model, so no endpoint needs to embed.
        metrics: some of ``METRICS``.
        runs: how often each verdict is asked for.
        tries: how often a reply that can't be read is asked for again, within one run.
        timeout: seconds for one verdict, with all its calls.
        concurrency: verdicts under way at a time.
        budget: tokens of the context that the answers were made from.
        stand_in: set it where no model answers, but a server of the tests: the run then says so.

    Raises:
        EndpointError: no endpoint is configured, and no ``model`` was given.
        InputError: an argument is outside its range, or a metric is unknown.
        MissingExtraError: ragas is not installed.
    """

    def __init__(
        self,
        model: ChatModel | None = None,
        embedder: Embedder | None = None,
        *,
        metrics: Sequence[str] = METRICS,
        runs: int = 3,
        tries: int = 2,
        timeout: float = 120.0,
        concurrency: int = 4,
        budget: int = 2000,
        stand_in: bool = False,
    ) -> None:
        if model is None and not endpoint_configured():
            raise EndpointError(
                "no judge: neither $OPENAI_API_KEY nor $OPENAI_BASE_URL is set. Set one, "
                "or show a recorded run with JudgeRun.load(PATH)"
            )
        if runs < 1 or tries < 1 or timeout <= 0 or concurrency < 1:
            raise InputError(
                f"runs {runs!r}, tries {tries!r}, timeout {timeout!r}, concurrency {concurrency!r}: "
                "expected 1 or more of each, and more than 0 seconds"
            )
        if not metrics or set(metrics) - set(METRICS):
            raise InputError(f"metrics {metrics!r}: expected some of {', '.join(METRICS)}")
        self.model, self.embedder = model or ChatModel(), embedder
        self.metrics, self.runs, self.tries = tuple(m for m in METRICS if m in metrics), runs, tries
        self.timeout, self.concurrency, self.budget, self.stand_in = timeout, concurrency, budget, stand_in

    async def judge(
        self, answers: Mapping[str, Sequence[Answer | BaseException]], questions: Sequence[Question]
    ) -> JudgeRun:
        """Every verdict on every answer, ``runs`` times. What fails is missing, with its reason; it raises nothing.

        Raises:
            InputError: a system has not as many answers as there are questions.
        """
        for name, given in answers.items():
            if len(given) != len(questions):
                raise InputError(f"system {name!r}: {len(given)} answers to {len(questions)} questions")
        scorers = await asyncio.to_thread(self._scorers)
        gate = asyncio.Semaphore(self.concurrency)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._verdict(gate, scorers[metric], name, question, answer, metric, run))
                for name, given in answers.items()
                for question, answer in zip(questions, given, strict=True)
                for metric in self.metrics
                for run in range(self.runs)
            ]
        return JudgeRun(
            model=self.model.model,
            endpoint=self.model.base_url,
            date=datetime.now(UTC).date().isoformat(),
            runs=self.runs,
            metrics=self.metrics,
            verdicts=tuple(task.result() for task in tasks),
            stand_in=self.stand_in,
        )

    def _scorers(self) -> dict[str, Any]:
        """ragas' metrics by our names. The import takes seconds, and would report to its makers if it were let."""
        os.environ["RAGAS_DO_NOT_TRACK"] = "true"
        ragas = require("ragas.metrics.collections", "judge")
        llm = _through(self.model, self.tries)
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
        self,
        gate: asyncio.Semaphore,
        scorer: Any,
        system: str,
        question: Question,
        answer: Answer | BaseException,
        metric: str,
        run: int,
    ) -> Verdict:
        given = self._given(metric, question, answer)
        if isinstance(given, str):
            return Verdict(system, question.id, metric, run, None, given)
        try:
            async with gate, asyncio.timeout(self.timeout):
                value = float((await scorer.ascore(**given)).value)
        except TimeoutError:
            return Verdict(system, question.id, metric, run, None, f"no verdict within {self.timeout:g} s")
        except Exception as error:  # whatever ragas makes of a reply: one verdict must not cost the others
            reason = str(error) if isinstance(error, RagkitError) else f"{type(error).__name__}: {error}"
            return Verdict(system, question.id, metric, run, None, reason)
        least = -1.0 if metric == "ragas_answer_relevancy" else 0.0  # a cosine
        if not least - 1e-6 <= value <= 1 + 1e-6:
            reason = f"the judge's replies give {value}, not {least:g} to 1"
            return Verdict(system, question.id, metric, run, None, reason)
        return Verdict(system, question.id, metric, run, min(max(value, least), 1.0))

    def _given(self, metric: str, question: Question, answer: Answer | BaseException) -> dict[str, Any] | str:
        """What ragas is asked, or why it can't be asked."""
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
        given: dict[str, Any] = {"user_input": question.text}
        given |= {"response": answer.text} if of_answer else {"reference": question.answer}
        return given | ({} if metric == "ragas_answer_relevancy" else {"retrieved_contexts": contexts})


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

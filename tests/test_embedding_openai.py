"""Embedding through an endpoint: every fault, what is sent, and no reply taken on trust."""

from __future__ import annotations

import json
import re
import socket

import numpy as np
import pytest
from endpoint import Endpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.base import Embedder, EndpointError, InputError, Usage
from ragkit.embedding import CachedEmbedder, OpenAIEmbedder, TokenEncoder, load_embedder, unit
from ragkit.embedding.openai import parse_embeddings, split_text
from ragkit.llm.chat import cost, prices

# ---- faults


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("401", r"answered 401.*OPENAI_API_KEY"),
        ("404", r"answered 404.*model's name.*/v1"),
        ("400", r"answered 400.*max_tokens="),
        ("500", r"answered 500.*try again later"),
        ("429", r"answered 429.*slow down"),
        ("hang", r"did not answer within 1 s"),
        ("drip", r"did not answer within 1 s"),
        ("reset", r"broke off"),
        ("half", r"broke off"),
        ("bad_json", r"no embeddings but"),
        ("wrong_schema", r"no embeddings but"),
        ("empty", r"0 vectors for 1 texts"),
        ("error", r"no embeddings but.*out of memory"),
    ],
)
def test_every_fault_is_told_in_time(fault, words):
    with Endpoint(faults=[fault] * 4, retry_after="0") as endpoint:
        limit = 1 if fault in ("hang", "drip") else 60
        remote = OpenAIEmbedder("m", endpoint.url, timeout=limit, max_retries=1)
        with pytest.raises(EndpointError, match=words) as caught:
            remote.encode(["red"])
        assert endpoint.url in str(caught.value)


def test_nothing_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    with pytest.raises(EndpointError, match=r"could not be reached.*is it running"):
        OpenAIEmbedder("m", url, max_retries=0).encode(["red"])


def test_the_clients_retries_keep_to_the_time_limit():
    with Endpoint(faults=["429:0.5"]) as endpoint:
        assert OpenAIEmbedder("m", endpoint.url).encode(["red"]).shape == (1, 8)
        assert len(endpoint.requests) == 2
    with Endpoint(faults=["429:60"] * 9) as endpoint:
        with pytest.raises(EndpointError, match=r"did not answer within 1 s"):
            OpenAIEmbedder("m", endpoint.url, timeout=1).encode(["red"])
        assert len(endpoint.requests) == 1


def test_it_works_within_a_running_loop():
    """A notebook's own thread runs an event loop; ``asyncio.run`` would refuse there."""
    import asyncio

    async def cell() -> int:
        with Endpoint() as endpoint:
            return len(OpenAIEmbedder("m", endpoint.url).encode(["red", "blue"]))

    assert asyncio.run(cell()) == 2


# ---- what is sent


def test_requests_keep_to_the_limits_and_order_is_kept():
    texts = [f"{'abcdefgh'[i % 8] * (1 + i % 7)} text" for i in range(600)] + ["z" * 5000] * 100
    with Endpoint() as endpoint:
        remote = OpenAIEmbedder("m", endpoint.url, dimensions=8, api_key="secret")
        vectors = remote.encode(texts)
        sizes = [len(body["input"]) for body in endpoint.requests]
        alone = remote.encode([texts[5]])[0]
        assert max(sizes) <= 256
        assert [t for body in endpoint.requests[: len(sizes)] for t in body["input"]] == texts
        assert endpoint.requests[0]["dimensions"] == 8
        assert "input_type" not in endpoint.requests[0]
        assert endpoint.headers[0]["authorization"] == "Bearer secret"
        assert vectors.shape == (700, 8)
        assert vectors[5] == pytest.approx(alone)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(700))
    assert "secret" not in remote.identity + repr(remote)


def test_a_long_text_is_read_whole_in_windows():
    text = "aaaa " * 30 + "bbbb " * 30
    with Endpoint(dimension=8) as endpoint:
        remote = OpenAIEmbedder("m", endpoint.url, max_tokens=50)
        long = remote.encode(["c", text])[1]
        sent = endpoint.requests[0]["input"][1:]
        assert "".join(sent) == text
        assert [len(piece) for piece in sent] == [150, 150]
        assert long[:2] == pytest.approx([long[1], long[0]], rel=0.05)
        parts = np.array([[1 + piece.count("abcdefgh"[i]) for i in range(8)] for piece in sent], dtype=np.float32)
        assert long == pytest.approx(unit(unit(parts).mean(axis=0)), abs=1e-5)


def test_a_text_of_3000_tokens_is_read_at_once():
    with Endpoint() as endpoint:
        OpenAIEmbedder("text-embedding-3-small", endpoint.url, dimensions=8).encode(["worker " * 3000])
        assert len(endpoint.requests[0]["input"]) == 1


class Picky(Endpoint):
    """Refuses requests of which ``wrong`` says so, as a server does."""

    def __init__(self, wrong, status):
        super().__init__()
        self.wrong, self.status = wrong, status

    def next_fault(self, *given):
        super().next_fault(*given)
        return self.status if any(self.wrong(text) for text in self.requests[-1]["input"]) else "ok"


def test_a_text_that_is_longer_than_the_model_reads_is_sent_in_halves():
    text = "aaaa " * 30 + "bbbb " * 30
    with Picky(lambda text: len(text) > 100, "400") as endpoint:
        remote = OpenAIEmbedder("m", endpoint.url, max_tokens=100, max_retries=0)
        vectors = remote.encode(["c", text])
        assert vectors.shape == (2, 8)
        assert max(len(text) for body in endpoint.requests for text in body["input"]) > 100
        assert vectors[1][0] == pytest.approx(vectors[1][1], rel=0.05)
        assert vectors[0] == pytest.approx(remote.encode(["c"])[0])


def test_the_text_whose_half_cannot_be_embedded_is_named():
    with Picky(lambda text: "poison" in text, "400") as endpoint:
        remote = OpenAIEmbedder("m", endpoint.url, max_tokens=100, max_retries=0)
        with pytest.raises(EndpointError, match=r"text 1 of 3, .*answered 400"):
            remote.encode(["a", "long text " * 20 + "poison", "b"])


def test_a_limit_of_requests_is_waited_for_while_halves_are_sent():
    class Busy(Endpoint):
        def next_fault(self, *given):
            super().next_fault(*given)
            if len(self.requests[-1]["input"]) > 2:
                return "400"
            return "429:0.01" if self.requests.count(self.requests[-1]) == 1 else "ok"

    with Busy() as endpoint:
        assert OpenAIEmbedder("m", endpoint.url).encode([f"text {i}" for i in range(8)]).shape == (8, 8)


@pytest.mark.parametrize("status", ["400", "500"])
def test_the_one_text_that_cannot_be_embedded_is_named(status):
    texts = [*(f"text {i}" for i in range(20)), "poison", "text 21"]
    with Picky(lambda text: "poison" in text, status) as endpoint:
        with pytest.raises(EndpointError, match=rf"text 20 of 22, 'poison'.*answered {status}"):
            OpenAIEmbedder("m", endpoint.url, max_retries=0).encode(texts)
        assert len(endpoint.requests) < 15


@pytest.mark.parametrize("texts", [["red", ""], ["\n \t"]])
def test_blank_texts_are_refused_before_anything_is_sent(texts, tmp_path):
    with Endpoint() as endpoint:
        remote = OpenAIEmbedder("m", endpoint.url)
        with pytest.raises(InputError, match="blank"):
            remote.encode(texts)
        with pytest.raises(InputError, match="blank"):
            CachedEmbedder(remote, tmp_path).encode(texts)
        assert endpoint.requests == []
        assert len(CachedEmbedder(remote, tmp_path).encode(["red"])) == 1


@given(st.text(max_size=200), st.integers(4, 40))
def test_pieces_keep_every_word_and_the_limit(text, room):
    text = text.encode("utf-8", "replace").decode()
    pieces = split_text(text, room)
    assert all(len(piece.encode()) <= room and piece.strip() for piece in pieces)
    assert re.sub(r"\s", "", "".join(pieces)) == re.sub(r"\s", "", text)


# ---- what comes back


def reply(rows, places=None):
    data = [{"index": i, "embedding": row} for i, row in zip(places or range(len(rows)), rows, strict=True)]
    return json.dumps({"data": data}).encode()


def test_vectors_go_to_the_place_that_the_reply_names():
    vectors, _ = parse_embeddings(reply([[3, 0], [1, 0], [2, 0]], [2, 0, 1]), 3)
    assert vectors[:, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (reply([[1, 2]]), "1 vectors for 2 texts"),
        (reply([[1, 2]] * 3), "3 vectors for 2 texts"),
        (reply([[1, 2]] * 2, [0, 0]), "at the places"),
        (reply([[1, 2]] * 2, [1, 2]), "at the places"),
        (reply([[1, 2], [1]]), "no embeddings"),
        (reply([[], []]), r"shape \(2, 0\)"),
        (reply([None, [1]]), "no embeddings"),
        (reply([[1, 2], [0, 0]]), "only zeros"),
        (reply([[1, 2], [float("nan"), 1]]), "NaN"),
        (reply([[1, 2], [float("inf"), 1]]), "NaN, infinity"),
        (reply([[1, 2], [1e300, 1]]), "NaN, infinity"),
        (reply([["a", "b"], ["c", "d"]]), "no embeddings"),
        (reply([[[1]], [[2]]]), r"shape \(2, 1, 1\)"),
        (b'{"data": [{"index": "x", "embedding": [1]}]}', "no embeddings"),
        (b'{"data": 3}', "no embeddings"),
        (b"", "no embeddings"),
    ],
)
def test_a_reply_that_is_wrong_is_refused(body, words):
    with pytest.raises(ValueError, match=words):
        parse_embeddings(body, 2)


KEYS = st.sampled_from(["data", "index", "embedding", "usage", "total_tokens", "x"])
JSON = st.recursive(
    st.none() | st.integers(-1, 2) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)
ROW = st.fixed_dictionaries({"index": JSON | st.just(0), "embedding": JSON})


REPLY = st.fixed_dictionaries({"data": st.lists(ROW, max_size=2), "usage": JSON})


@settings(max_examples=300)
@given(st.binary(max_size=60) | (JSON | REPLY).map(lambda content: json.dumps(content).encode()))
def test_any_reply_is_read_or_refused(body):
    try:
        vectors, tokens = parse_embeddings(body, 1)
    except ValueError:
        return
    assert vectors.ndim == 2
    assert np.isfinite(vectors).all()
    assert isinstance(tokens, int)


def test_vectors_of_another_dimension_than_before_are_refused():
    with Endpoint(dimension=8) as endpoint:
        remote = OpenAIEmbedder("m", endpoint.url)
        assert remote.dimension == 8
        endpoint.dimension = 6
        with pytest.raises(EndpointError, match="vectors of 6 numbers, expected 8"):
            remote.encode(["red"])
        with pytest.raises(EndpointError, match="vectors of 6 numbers, expected 4"):
            OpenAIEmbedder("m", endpoint.url, dimensions=4).encode(["red"])
        with pytest.raises(EndpointError, match="vectors of 6 numbers, expected 1536"):
            OpenAIEmbedder("text-embedding-3-small", endpoint.url).encode(["red"])


# ---- money and names


def test_what_an_endpoint_counted_has_a_price():
    with Endpoint() as endpoint:
        remote = OpenAIEmbedder("text-embedding-3-small", endpoint.url, dimensions=8)
        assert remote.usage.input_tokens == 0
        remote.encode(["red", "blue"])
        remote.encode(["green"])
        assert remote.usage == Usage("text-embedding-3-small", 3)  # a token a text, says this endpoint
        assert cost(remote.usage) == pytest.approx(3 * prices()["text-embedding-3-small"].usd / 1e6)


@pytest.mark.parametrize("usage", [b"", b', "usage": null', b', "usage": {"prompt_tokens": "many"}'])
def test_a_reply_that_counts_no_tokens_has_vectors(usage):
    _, tokens = parse_embeddings(b'{"data": [{"index": 0, "embedding": [1]}]' + usage + b"}", 1)
    assert tokens == 0


def test_the_cost_is_estimated_before_anything_is_sent():
    with Endpoint() as endpoint:
        wanted = OpenAIEmbedder("text-embedding-3-small", endpoint.url).estimate(["How do I stop a worker?"] * 3)
        assert (wanted.texts, wanted.tokens) == (3, 21)
        assert wanted.usd == pytest.approx(21 * prices()["text-embedding-3-small"].usd / 1e6)
        assert endpoint.requests == []
    assert "price not known" in str(OpenAIEmbedder("m", "http://x").estimate(["a"]))


def test_names_of_an_endpoint(monkeypatch):
    with Endpoint() as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url + "/")
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        remote = load_embedder("endpoint:nomic-embed-text")
        assert isinstance(remote, OpenAIEmbedder)
        remote.encode(["red"], "query")
        assert endpoint.requests[0]["model"] == "nomic-embed-text"
        assert endpoint.requests[0]["input"] == ["search_query: red"]
        assert isinstance(remote, Embedder)
        assert not isinstance(remote, TokenEncoder)
    small = OpenAIEmbedder("text-embedding-3-small", dimensions=256)
    assert small.dimension == 256
    assert small.identity != load_embedder("text-embedding-3-small").identity


def test_no_error_and_no_name_shows_the_secrets_of_an_address():
    with Endpoint(faults=["401", "bad_json", "reset", "hang"]) as endpoint:
        url = endpoint.url.replace("http://", "http://me:s3cret@") + "?key=s3cret"
        remote = OpenAIEmbedder("m", url, api_key="s3cret", timeout=3, max_retries=0)
        shown = [repr(remote), remote.identity]
        for _ in range(4):
            with pytest.raises(EndpointError) as caught:
                remote.encode(["red"])
            shown.append(str(caught.value))
        assert not [text for text in shown if "s3cret" in text]
        assert remote.identity == OpenAIEmbedder("m", endpoint.url).identity


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_an_address_without_v1_is_completed(ending):
    with Endpoint() as endpoint:
        root = endpoint.url.removesuffix("/v1")
        assert OpenAIEmbedder("m", root + ending).encode(["red"]).shape == (1, 8)
    with pytest.raises(InputError, match="expected http"):
        OpenAIEmbedder("m", "localhost:1/v1")

"""One command measures every embedding model that can be had, within a budget, and says which it left out."""

from __future__ import annotations

import shutil

import pytest
from bench import bench_embedding
from endpoint import Endpoint

from ragkit.base import InputError
from ragkit.tokens import minilm_folder

HOSTED, LARGE = "text-embedding-3-small", "intfloat/multilingual-e5-large"


@pytest.fixture
def bench(monkeypatch, ragkit_home):
    monkeypatch.setattr(bench_embedding, "PACKAGED", ["all-MiniLM-L6-v2"])  # E5 would be unpacked for it
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "RAGKIT_MAX_COST", "RAGKIT_E5_LARGE"):
        monkeypatch.delenv(name, raising=False)
    return bench_embedding


def values(rows, name):
    return {what.partition(": ")[2].split(",")[0]: value for what, value, _, _ in rows if name in what.split(" to ")[0]}


def test_what_is_not_here_stands_as_a_command(bench, small_corpus, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a key alone sends nothing anywhere")
    rows = bench.measure(small_corpus, {"faq": small_corpus.questions})
    commands = {what: value for what, value, _, _ in rows if isinstance(value, str)}
    assert set(commands) == {f"{HOSTED}: quality and speed", f"{LARGE}: quality and speed"}
    assert not [what for what, *_ in rows if LARGE in what and what not in commands]
    assert "mrr@10" not in values(rows, HOSTED)
    assert values(rows, "all-MiniLM-L6-v2")["mrr@10"] > 0


def test_both_models_are_measured_where_they_can_be_had(bench, small_corpus, monkeypatch, tmp_path):
    monkeypatch.setenv("RAGKIT_E5_LARGE", str(shutil.copytree(minilm_folder(), tmp_path / "large")))
    with Endpoint(dimension=1536) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        rows = bench.measure(small_corpus, {"faq": small_corpus.questions})
        assert {body["model"] for body in endpoint.requests} == {HOSTED}
    assert all(isinstance(value, int | float) for _, value, _, _ in rows)
    hosted, large = values(rows, HOSTED), values(rows, LARGE)
    assert (hosted["dimensions"], large["dimensions"]) == (1536, 384)
    assert (hosted["price"], large["price"]) == (0.02, 0)
    assert {"mrr@10", "coverage@2000", "speed"} <= hosted.keys() & large.keys()


def test_nothing_is_sent_that_costs_more_than_allowed(bench, small_corpus, monkeypatch):
    monkeypatch.setenv("RAGKIT_MAX_COST", "0.000001")
    with Endpoint(dimension=1536) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        with pytest.raises(InputError, match=r"text-embedding-3-small: 7 texts.*RAGKIT_MAX_COST"):
            bench.measure(small_corpus, {"faq": small_corpus.questions})
        assert endpoint.requests == []

"""Rerankers reorder and never lose, invent or change a hit; and say so when they cannot."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest
from endpoint import Endpoint
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, EndpointError, Hit, InputError, ModelNotFoundError, Reranker
from ragkit.generation.extractive import Extractive
from ragkit.llm.chat import ChatModel
from ragkit.pipeline import RAGPipeline
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.rerank import (
    CrossEncoder,
    LateInteraction,
    LLMReranker,
    Reranked,
    parse_order,
    rescored,
)
from ragkit.tokens import minilm_folder


def hits_of(texts):
    return [Hit(Chunk(f"d{i}", 0, len(t), t), 10.0 - i, "bm25", {"dense": 0.5}) for i, t in enumerate(texts)]


HITS = hits_of(["tasks run", "stop the worker now", "a worker"])


class ByLength:
    def maxsim(self, query, chunks, mean="arithmetic"):
        return np.array([len(c.text) for c in chunks], dtype=np.float32)


def test_late_interaction_orders_by_maxsim_and_keeps_the_scores_before():
    found = LateInteraction(ByLength()).rerank("stop", HITS, 2)
    assert [h.chunk.doc_id for h in found] == ["d1", "d0"]
    assert found[0].scores == {"dense": 0.5, "bm25": 9.0}
    assert (found[0].score, found[0].source) == (19.0, "late interaction")
    assert [h.score for h in HITS] == [10, 9, 8]
    assert LateInteraction(ByLength()).rerank("stop", [], 2) == []


def test_late_interaction_hands_on_its_mean():
    class Told(ByLength):
        def maxsim(self, query, chunks, mean="arithmetic"):
            return super().maxsim(query, chunks) * (-1 if mean == "geometric" else 1)

    assert LateInteraction(Told()).rerank("stop", HITS, 1)[0].chunk.doc_id == "d1"
    assert LateInteraction(Told(), mean="geometric").rerank("stop", HITS, 1)[0].chunk.doc_id == "d2"


class Vectors(ByLength):
    """The last of the hits is nearest to any question."""

    def maxsim(self, query, chunks, mean="arithmetic"):
        return super().maxsim(query, chunks) / 100

    def encode_query(self, query):
        return np.array([1, 0], dtype=np.float32)

    def pool(self, chunks):
        return np.array([[0.1, 0.9], [0.02, 0.9], [0.9, 0.1]], dtype=np.float32)[: len(chunks)]


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_in_doubt_the_whole_question_joins_the_mean(mean):
    sure = LateInteraction(Vectors(), mean, pooled_below=0.19).rerank("stop", HITS, 3)
    assert [h.chunk.doc_id for h in sure] == ["d1", "d0", "d2"]
    assert "whole" not in sure[0].scores
    found = LateInteraction(Vectors(), mean, pooled_below=0.2).rerank("stop", HITS, 3)
    assert found[0].chunk.doc_id == "d2"
    assert found[0].scores == pytest.approx({"dense": 0.5, "bm25": 8.0, "words": 0.08, "whole": 0.9})
    two, one = [0.08, 0.08, 0.9], [0.19, 0.19, max(0.02, 0.05 if mean == "geometric" else 0)]
    for values, name in ((two, "d2"), (one, "d1")):
        expected = np.mean(values) if mean == "arithmetic" else np.prod(values) ** (1 / 3)
        assert next(h.score for h in found if h.chunk.doc_id == name) == pytest.approx(expected, rel=1e-5)
    assert HITS[0].scores == {"dense": 0.5}


def test_reranked_fetches_more_than_it_returns():
    chunks = [Chunk(f"d{i:02}", 0, 7 + i, "worker " + "x" * i) for i in range(30)]
    bm25 = BM25Retriever(chunks)
    best = bm25.search("worker", 30)
    assert Reranked(bm25, LateInteraction(ByLength()), fetch_k=10).search("worker", 3) == rescored(
        best[:10], [len(h.chunk.text) for h in best[:10]], "late interaction", 3
    )
    assert len(Reranked(bm25, LateInteraction(ByLength()), fetch_k=2).search("worker", 5)) == 5
    assert Reranked(bm25, LateInteraction(ByLength())).search("unknown") == []
    by_three = Reranked(bm25, LateInteraction(ByLength())).search("worker", np.int64(3))
    assert by_three == rescored(best[:9], [len(h.chunk.text) for h in best[:9]], "late interaction", 3)


def test_a_reranker_is_not_asked_about_nothing():
    class Best:
        def rerank(self, query, hits, k):
            return [max(hits, key=lambda hit: hit.score)]

    bm25 = BM25Retriever([Chunk("d", 0, 6, "worker")])
    assert Reranked(bm25, Best()).search_many(["unknown"]) == [Reranked(bm25, Best()).search("unknown")] == [[]]
    assert RAGPipeline(bm25, Best(), Extractive()).retriever.search("unknown") == []


def test_all_rerankers_fill_the_role():
    assert all(isinstance(r, Reranker) for r in (LateInteraction(ByLength()), CrossEncoder(), LLMReranker()))


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 15))
def test_rescoring_only_reorders(scores, k):
    hits = hits_of(["words"] * len(scores))
    found = rescored(hits, scores, "new", k)
    assert [h.score for h in found] == sorted(scores, reverse=True)[:k]
    assert {h.chunk for h in found} <= {h.chunk for h in hits}
    assert len({h.chunk for h in found}) == len(found)


# ---- cross-encoder


@pytest.fixture(scope="module")
def tiny_cross_encoder(tmp_path_factory):
    """A real cross-encoder with random weights, a few kilobytes, made on the spot."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("tiny-cross-encoder")
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, num_labels=1,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return folder


def test_cross_encoder_scores_are_the_librarys(tiny_cross_encoder):
    from sentence_transformers import CrossEncoder as Library

    library = Library(str(tiny_cross_encoder), device="cpu")
    expected = library.predict([("stop a worker", h.chunk.text) for h in HITS], show_progress_bar=False)
    found = CrossEncoder(str(tiny_cross_encoder)).rerank("stop a worker", HITS, 3)
    by_id = {h.chunk.doc_id: h.score for h in found}
    assert [by_id[h.chunk.doc_id] for h in HITS] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [h.score for h in found] == sorted(by_id.values(), reverse=True)
    assert found[0].scores.keys() == {"dense", "bm25"}


def test_cross_encoder_reads_long_chunks_to_the_end(tiny_cross_encoder):
    encoder = CrossEncoder(str(tiny_cross_encoder))
    text = " ".join(random.Random(0).choices(["task", "worker", "retry", "queue"], k=300))
    pieces = encoder._pieces("stop a worker", text)
    assert len(pieces) > 5
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    long, short = hits_of([text]), hits_of(pieces)
    best = encoder.rerank("stop a worker", short, 1)[0].score
    assert encoder.rerank("stop a worker", long, 1)[0].score == pytest.approx(best, abs=1e-5)
    assert encoder.rerank("very long question " * 60, long, 1)[0].score is not None
    assert encoder.rerank("stop", [], 1) == []


def test_a_classifier_with_several_outputs_is_refused(tiny_cross_encoder, tmp_path):
    import shutil

    from transformers import BertForSequenceClassification

    shutil.copytree(tiny_cross_encoder, tmp_path / "three")
    model = BertForSequenceClassification.from_pretrained(
        tiny_cross_encoder, num_labels=3, ignore_mismatched_sizes=True
    )
    model.save_pretrained(tmp_path / "three")
    with pytest.raises(InputError, match="3 scores a pair"):
        CrossEncoder(str(tmp_path / "three")).rerank("q", HITS, 2)


def test_a_missing_cross_encoder_is_named_with_how_to_fetch_it():
    with pytest.raises(ModelNotFoundError, match=r"'org/missing' on this machine.*hf download org/missing"):
        CrossEncoder("org/missing").rerank("q", HITS, 2)
    with pytest.raises(ModelNotFoundError, match="on this machine"):
        CrossEncoder("not a/valid name").rerank("q", HITS, 2)


# ---- language model


def test_the_model_orders_and_what_it_leaves_out_follows():
    with Endpoint(answer="[3] > [1]") as endpoint:
        found = LLMReranker(ChatModel(base_url=endpoint.url)).rerank("stop {it}", HITS, 3)
        asked = endpoint.requests[0]["messages"][0]["content"]
    assert [h.chunk.doc_id for h in found] == ["d2", "d0", "d1"]
    assert [h.score for h in found] == [1, 1 / 2, 1 / 3]
    assert found[0].scores == {"dense": 0.5, "bm25": 8.0}
    assert "stop {it}" in asked
    assert "[2] stop the worker now" in asked


@pytest.mark.parametrize("answer", ["I cannot help with that.", "[0] [9]", "Passage two is 1st.", "{}"])
def test_an_answer_without_an_order_keeps_the_given_one_and_says_so(answer):
    with Endpoint(answer=answer) as endpoint:
        found = LLMReranker(ChatModel(base_url=endpoint.url)).rerank("stop", HITS, 3)
    assert [h.chunk for h in found] == [h.chunk for h in HITS]
    assert {h.source for h in found} == {"llm: no order in the answer"}


def test_only_the_first_hits_are_shown():
    with Endpoint(answer="[2] > [1] > [3]") as endpoint:
        found = LLMReranker(ChatModel(base_url=endpoint.url), limit=2, characters=4).rerank("q", HITS, 10)
        asked = endpoint.requests[0]["messages"][0]["content"]
    assert [h.chunk.doc_id for h in found] == ["d1", "d0", "d2"]
    assert asked.endswith("[1] task\n\n[2] stop")


def test_it_works_where_an_event_loop_runs_already():
    async def cell():
        return LLMReranker(ChatModel(base_url=endpoint.url)).rerank("stop", HITS, 1)

    with Endpoint(answer="[2]") as endpoint:
        assert asyncio.run(cell())[0].chunk.doc_id == "d1"
        assert LLMReranker(ChatModel(base_url=endpoint.url)).rerank("stop", [], 1) == []
    assert len(endpoint.requests) == 1


def test_a_dead_endpoint_is_an_error_and_not_an_order():
    with pytest.raises(EndpointError), Endpoint(faults=["401"]) as endpoint:
        LLMReranker(ChatModel(base_url=endpoint.url)).rerank("stop", HITS, 1)


@given(st.text(), st.integers(1, 30))
def test_any_answer_gives_an_order_without_repetition(answer, n):
    order = parse_order(answer, n)
    assert len(set(order)) == len(order)
    assert all(0 <= i < n for i in order)

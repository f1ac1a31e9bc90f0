"""Against labels that nobody here made: XQuAD's English paragraphs, through two loaders, in one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragkit.base import Chunk, Corpus
from ragkit.corpus import load_beir, load_squad
from ragkit.evaluation import statistics
from ragkit.evaluation.compare import Comparison, compare
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.testing import FakeTokenizer

XQUAD = Path(__file__).resolve().parents[2] / "shared" / "data" / "xquad" / "xquad.en.json"
pytestmark = pytest.mark.skipif(not XQUAD.is_file(), reason=f"XQuAD is not at {XQUAD}; it is never copied in here")


def measured(corpus: Corpus) -> Comparison:
    """BM25 with English stemming and stop words on whole documents."""
    chunks = [Chunk(d.id, 0, len(d.text), d.text) for d in corpus.documents]
    return compare({"bm25": BM25Retriever(chunks)}, corpus.questions, tokenizer=FakeTokenizer(), progress=False)


@pytest.fixture(scope="module")
def squad() -> Corpus:
    return load_squad(XQUAD, gold="document")


@pytest.fixture(scope="module")
def result(squad: Corpus) -> Comparison:
    return measured(squad)


@pytest.mark.parametrize(("metric", "published"), [("ndcg@10", 0.965), ("hit@1", 0.929)])
def test_bm25_gives_the_reference_figures_within_their_intervals(
    result: Comparison, metric: str, published: float
) -> None:
    assert len(result.questions) == 1190
    mean = statistics.level(result.scores(metric).to_numpy(), result.units)
    assert mean.high[0] - mean.low[0] < 0.05
    assert mean.low[0] <= published <= mean.high[0]


def test_the_same_set_in_beir_form_gives_the_same_figures_to_the_last_digit(
    squad: Corpus, result: Comparison, tmp_path: Path
) -> None:
    def write(name: str, lines: list[str]) -> None:
        path = tmp_path / "xquad" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    write("corpus.jsonl", [json.dumps({"_id": d.id, "title": "", "text": d.text}) for d in squad.documents])
    write("queries.jsonl", [json.dumps({"_id": q.id, "text": q.text}) for q in squad.questions])
    gold = [f"{q.id}\t{span.doc_id}\t1" for q in squad.questions for span in q.gold]
    write("qrels/test.tsv", ["query-id\tcorpus-id\tscore", *gold])
    beir = measured(load_beir(tmp_path / "xquad"))
    untimed = [c for c in result.table if not c.startswith("ms")]
    assert beir.table[untimed].equals(result.table[untimed])
    assert beir.scores("ndcg@10").equals(result.scores("ndcg@10"))


def test_answer_spans_in_chunks_of_the_same_set_are_found_too() -> None:
    corpus = load_squad(XQUAD)
    found = measured(corpus)
    assert found.table.loc["bm25", "hit@1"] > 0.9
    # An answer of a few words in a whole paragraph: most of what is retrieved is not gold.
    assert found.table.loc["bm25", "token_precision@10"] < 0.01

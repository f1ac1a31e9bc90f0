"""Run and qrels files, read back by trec_eval's own reader: it finds our figures and our order in them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Hit, InputError, Question, Retriever, Span
from ragkit.evaluation import trec
from ragkit.evaluation.compare import compare
from ragkit.testing import FakeTokenizer


def read_run(path: Path) -> dict[str, dict[str, float]]:
    with path.open() as file:
        return pytrec_eval.parse_run(file)


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    with path.open() as file:
        return pytrec_eval.parse_qrel(file)


class Listed(Retriever):
    """Returns the hits that it was given, by question."""

    def __init__(self, hits: dict[str, list[Hit]]) -> None:
        self.hits = hits

    def _search(self, query: str, k: int) -> list[Hit]:
        return self.hits[query][:k]


def test_saved_files_give_the_table_in_trec_eval(tmp_path: Path) -> None:
    """Overlapping chunks, several gold spans a question (all needed, or one), names with spaces, tied scores."""
    rng = random.Random(2)
    chunks = [Chunk(f"my doc {d}", s, s + 60, "x" * 60) for d in range(2) for s in range(0, 400, 45)]
    questions, hits = [], {}
    for i in range(80):
        starts = rng.sample(range(0, 360, 45), 3)
        gold = tuple(Span(f"my doc {rng.randrange(2)}", s, s + 40, rng.randint(0, 2)) for s in starts)
        questions.append(Question(f"q{i}", f"q{i}", (*gold, Span("my doc 0", 380, 400)), any_of=i % 3 == 0))
        hits[f"q{i}"] = [Hit(c, 1.0 - n // 3) for n, c in enumerate(rng.sample(chunks, rng.choice((0, 3, 10))))]
    result = compare({"a/1": Listed(hits)}, questions, tokenizer=FakeTokenizer())
    folder = result.save_trec(tmp_path / "trec")
    qrels, run = read_qrels(folder / "qrels.txt"), read_run(folder / "a_1.run")
    figures = {"P_10": "precision@10", "recip_rank": "mrr@10", "ndcg_cut_10": "ndcg@10", "map_cut_10": "map@10"}
    figures |= {"recall_10": "recall@10", "success_1": "hit@1", "success_5": "hit@5"}
    measures = {"P.10", "recip_rank", "ndcg_cut.10", "map_cut.10", "recall.10", "success.1,5"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    assert 0.1 < result.table.loc["a/1", "ndcg@10"] < 0.9
    for question in questions:
        for measure, column in figures.items():
            value = theirs.get(question.id, {}).get(measure, 0.0)
            assert result.per_question.loc[("a/1", question.id), column] == pytest.approx(value, abs=1e-9)


scores = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.dictionaries(st.from_regex(r"[\w./#-]{1,8}", fullmatch=True), scores, min_size=1, max_size=20))
def test_a_run_keeps_the_order_that_was_meant_whatever_the_scores(tmp_path_factory, ranking) -> None:
    path = tmp_path_factory.mktemp("run") / "a.run"
    trec.write_run(path, {"q1": list(ranking.items())})
    back = read_run(path)["q1"]
    assert list(back) == list(ranking)
    assert (np.diff(np.array(list(back.values()), dtype=np.float32)) < 0).all()


def test_scores_that_fall_are_kept(tmp_path: Path) -> None:
    run = {"q": [("a", 3.5), ("b", 3.5), ("c", 1.25)]}
    path = tmp_path / "x.run"
    trec.write_run(path, run)
    assert read_run(path)["q"] == pytest.approx({"a": 3.5, "b": 3.5, "c": 1.25})


def test_qrels_come_back(tmp_path: Path) -> None:
    qrels = {"q1": {"a#0-5": 2, "b": 0}, "q2": {"é/ü": 1}}
    trec.write_qrels(tmp_path / "qrels.txt", qrels)
    assert read_qrels(tmp_path / "qrels.txt") == qrels


def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "r"
    for run, message in (
        ({"q": [("a b", 1.0)]}, "without white space"),
        ({"": [("a", 1.0)]}, "without white space"),
        ({"q": [("a", float("nan"))]}, "score nan"),
        ({"q": [("a", 1.0), ("a", 0.5)]}, "listed twice"),
    ):
        with pytest.raises(InputError, match=message):
            trec.write_run(path, run)
    assert not path.exists()

"""The one table: what stands in it, who is refused, and that a failing system does not stop the others."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ragkit.base import Chunk, ContractError, Hit, InputError, Question, Reranker, Retriever, Span
from ragkit.evaluation import compare as stages
from ragkit.evaluation import metrics, statistics
from ragkit.evaluation.compare import Comparison, compare
from ragkit.figures import color_of
from ragkit.generation import Extractive
from ragkit.generation.context import build_context
from ragkit.pipeline import RAGPipeline
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.rerank import Reranked
from ragkit.testing import FakeTokenizer

WORDS = ("ab " * 20).strip()  # 20 tokens
CHUNKS = [Chunk(f"d{d:02d}", s, s + len(WORDS), WORDS) for d in range(30) for s in range(0, 600, len(WORDS) + 1)]
QUESTIONS = tuple(
    Question(f"q{i:03d}", f"question {i}", (CHUNKS[(i * 7) % len(CHUNKS)].span,), ("faq",)) for i in range(120)
)
GOLD = {q.text: q.gold[0] for q in QUESTIONS}


class Lucky(Retriever):
    """Returns the gold chunk with a given chance, at a random rank, among random chunks."""

    def __init__(self, chance: float, seed: int = 0, chunks: list[Chunk] = CHUNKS, pause: float = 0.0) -> None:
        self.chance, self.seed, self.chunks, self.pause = chance, seed, chunks, pause

    def _search(self, query: str, k: int) -> list[Hit]:
        time.sleep(self.pause)
        rng = random.Random(f"{query} {self.seed}")
        found, depth = rng.random() < self.chance, rng.randrange(8)
        others = [c for c in self.chunks if c.span != GOLD[query]]
        ranked = rng.sample(others, min(len(others), 200))
        if found:
            ranked.insert(depth, next(c for c in self.chunks if c.span == GOLD[query]))
        return [Hit(chunk, -float(rank)) for rank, chunk in enumerate(ranked[:k])]


class Always(Retriever):
    """Returns what a function makes of the question."""

    def __init__(self, make: Callable[[str, int], list[Hit]]) -> None:
        self.make = make

    def _search(self, query: str, k: int) -> list[Hit]:
        return self.make(query, k)


def run(systems: dict[str, Retriever], questions: tuple[Question, ...] = QUESTIONS, **settings: object) -> Comparison:
    return compare(systems, questions, tokenizer=FakeTokenizer(), progress=False, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result() -> Comparison:
    return run({"poor": Lucky(0.3), "good": Lucky(0.7, 1), "like <poor>": Lucky(0.3, 2)}, baseline="poor")


def test_the_columns_people_write_from_memory(result: Comparison) -> None:
    assert list(result.table.index) == ["poor", "good", "like <poor>"]
    assert " ".join(result.table) == (
        "hit@1 hit@5 hit@10 recall@10 precision@10 mrr@10 ndcg@10 map@10 gold_chars@10 token_precision@10 iou@10 "
        "tokens ms_p50 ms_p95 errors diff diff_low diff_high p verdict"
    )
    assert not result.table.isna().any().any()
    assert result.table["tokens"].tolist() == [200.0] * 3


def test_the_table_is_the_mean_of_the_questions_and_each_question_is_scored_by_the_metrics(result: Comparison) -> None:
    row = result.per_question.loc[("good", "q005")]
    hits = Lucky(0.7, 1).search("question 5", 10)
    for name, value in metrics.score([hit.chunk for hit in hits], QUESTIONS[5].gold).items():
        assert row[name] == value
        assert result.table.loc["good", name] == pytest.approx(result.per_question.loc["good"][name].mean())


def test_difference_interval_p_and_verdict_are_those_of_the_statistics(result: Comparison) -> None:
    scores = result.scores()
    assert list(scores) == ["poor", "good", "like <poor>"]
    differences = scores[["good", "like <poor>"]].to_numpy() - scores[["poor"]].to_numpy()
    found = statistics.estimate(differences, [q.gold[0].doc_id for q in QUESTIONS])
    rows = result.table.loc[["good", "like <poor>"]]
    np.testing.assert_allclose(rows["diff"], found.mean)
    np.testing.assert_allclose(rows[["diff_low", "diff_high"]], np.stack([found.low, found.high], axis=1))
    np.testing.assert_allclose(rows["p"].astype(float), found.p)
    assert result.table["verdict"].tolist() == ["baseline", "better", "no detectable difference"]
    assert result.table.loc["poor", ["diff", "diff_low", "diff_high", "p"]].tolist() == [0, 0, 0, 1]
    assert (
        result.minimum_detectable
        == statistics.minimum_detectable(differences, [q.gold[0].doc_id for q in QUESTIONS], comparisons=2).max()
    )
    assert f"{result.minimum_detectable:.3f}" in repr(result)


def shown(comparison: Comparison) -> list[str]:
    """The columns that are shown unasked."""
    return re.findall("<th>([^<]+)</th>", comparison._repr_html_().split("</thead>")[0])


def test_the_columns_that_are_shown_unasked_and_all_of_them(result: Comparison) -> None:
    assert shown(result) == ["mrr@10", "hit@10", "difference [95 %]", "verdict"]
    assert shown(run({"a": Lucky(0.5)})) == ["mrr@10", "hit@10"]
    pair: dict[str, Retriever] = {"a": Lucky(0.5), "b": Lucky(0.6)}
    assert shown(run(pair, metric="ndcg@10")) == ["ndcg@10", "mrr@10", "hit@10", "difference [95 %]", "verdict"]
    at_budget = run(pair, same_budget=100)
    assert shown(at_budget) == ["mrr@100", "hit@100", "coverage@100", "difference [95 %]", "verdict"]
    assert " ".join(result.full) == (
        "mrr@10 hit@10 recall@10 ndcg@10 hit@1 tokens ms (p50, p95) errors difference [95 %] p verdict"
    )
    assert {"context_coverage@100", "recall@100"} <= set(at_budget.full)
    assert result.full.loc["good", "mrr@10"] == f"{result.table.loc['good', 'mrr@10']:.3f}"
    assert result.full.loc["poor", ["difference [95 %]", "p"]].tolist() == ["", ""]


@pytest.mark.parametrize(("fewer", "differ"), [(0, False), (1, True)])
def test_tokens_are_shown_where_systems_read_different_amounts(fewer: int, differ: bool) -> None:
    """Nine results instead of ten are a tenth fewer tokens."""
    short = Always(lambda query, k: Lucky(0.5).search(query, k - fewer))
    assert ("tokens" in shown(run({"ten": Lucky(0.5), "other": short}))) == differ


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    chances=st.lists(st.sampled_from((0.1, 0.3, 0.4, 0.5, 0.6, 0.9)), min_size=2, max_size=6),
    seed=st.integers(0, 10_000),
    documents=st.sampled_from((2, 5, 12, 30)),
)
def test_the_interval_that_is_shown_leaves_out_0_if_and_only_if_the_verdict_is_a_difference(
    chances: list[float], seed: int, documents: int
) -> None:
    names = {f"d{i:02d}" for i in range(documents)}
    questions = tuple(question for question in QUESTIONS if question.gold[0].doc_id in names)
    systems: dict[str, Retriever] = {f"s{i}": Lucky(chance, seed + i) for i, chance in enumerate(chances)}
    rows = run(systems, questions).full.iloc[1:]
    for text, verdict in zip(rows["difference [95 %]"], rows["verdict"], strict=True):
        low, high = map(float, re.findall(r"[-+.\d]+", text.split("[")[1]))
        assert (low > 0 or high < 0) == (verdict in ("better", "worse")), f"{text} {verdict}"


def test_the_worse_system_is_called_worse_and_the_first_is_the_baseline_by_default() -> None:
    found = run({"good": Lucky(0.7, 1), "poor": Lucky(0.3)})
    assert found.baseline == "good"
    assert found.table["verdict"].tolist() == ["baseline", "worse"]
    alone = run({"only": Lucky(0.5)})
    assert alone.table["verdict"].tolist() == ["baseline"]
    assert "Verdicts" not in repr(alone)


def test_another_metric_and_another_k() -> None:
    found = run({"a": Lucky(0.3), "b": Lucky(0.7, 1)}, k=3, metric="hit@3")
    assert "hit@5" not in found.table
    assert found.table.loc["b", "diff"] == pytest.approx(found.table["hit@3"]["b"] - found.table["hit@3"]["a"])
    with pytest.raises(InputError, match=re.escape("metric 'mrr@10': expected one of hit@1, hit@3, recall@3")):
        run({"a": Lucky(0.3)}, k=3, metric="mrr@10")


def test_the_same_input_gives_the_same_table_but_for_the_milliseconds(result: Comparison) -> None:
    again = run({"poor": Lucky(0.3), "good": Lucky(0.7, 1), "like <poor>": Lucky(0.3, 2)}, baseline="poor")
    untimed = [c for c in result.table if not c.startswith("ms")]
    assert again.table[untimed].equals(result.table[untimed])


def test_some_of_the_questions_have_the_table_of_a_comparison_of_their_own(result: Comparison) -> None:
    some = (QUESTIONS[50], *QUESTIONS[:40:2])
    part = result.only(some)
    own = run(dict(result.systems), tuple(q for q in QUESTIONS if q in some), baseline="poor")
    columns = [column for column in own.table if not column.startswith("ms")]
    assert part.table[columns].equals(own.table[columns])
    assert (part.scores().index == own.scores().index).all()
    assert (part.units, part.caption, part.rankings) == (own.units, own.caption, own.rankings)
    assert part.where_lost().equals(own.where_lost())
    with pytest.raises(InputError, match="1 question in both"):
        result.only([QUESTIONS[0], Question("another", "?", QUESTIONS[0].gold)])


def test_each_group_has_its_own_values_and_verdicts(result: Comparison) -> None:
    half = result.questions[: len(result.questions) // 2]
    shown = result.by_group({"half": half})
    marks = {"better": " ▲", "worse": " ▼", "baseline": "", "no detectable difference": ""}
    for column, own in {"half": result.only(half), "all": result}.items():
        for system, row in own.table.iterrows():
            assert shown.loc[system, column] == f"{row[result.metric]:.3f}{marks[row['verdict']]}"
    assert shown["all"].str.contains("[▲▼]").any()


def test_latency_is_that_of_single_queries_after_a_warm_up() -> None:
    class SlowStart(Lucky):
        started = False

        def _search(self, query: str, k: int) -> list[Hit]:
            if not self.started:
                self.started = True
                time.sleep(0.5)
            return super()._search(query, k)

    found = run({"slow start": SlowStart(0.5, pause=0.004), "quick": Lucky(0.5)}, QUESTIONS[:20])
    assert 4 <= found.table.loc["slow start", "ms_p50"] <= found.table.loc["slow start", "ms_p95"]
    assert found.per_question["ms"].max() < 400
    assert found.table.loc["quick", "ms_p50"] < 4


def test_questions_without_gold_are_left_out_and_counted() -> None:
    extra = (Question("u1", "question 1"), Question("u2", "question 2", (Span("d00", 0, 10, 0),)))
    found = run({"a": Lucky(0.5)}, QUESTIONS + extra)
    assert found.table.equals(found.table.assign(**run({"a": Lucky(0.5)}).table.drop(columns=["ms_p50", "ms_p95"])))
    assert [q.id for q in found.skipped] == ["u1", "u2"]
    assert "2 questions without gold left out" in repr(found)


def test_a_system_that_raises_is_reported_with_the_question_and_the_others_go_on() -> None:
    class Fragile(Lucky):
        def _search(self, query: str, k: int) -> list[Hit]:
            if query in ("question 0", "question 7"):
                raise RuntimeError("no <route> to index")
            return super()._search(query, k)

    found = run({"whole": Lucky(0.7), "fragile": Fragile(0.7)})
    assert found.errors.to_dict() == dict.fromkeys(
        [("fragile", "q000"), ("fragile", "q007")], "RuntimeError: no <route> to index"
    )
    assert found.table["errors"].tolist() == [0, 2]
    whole, fragile = found.scores()["whole"], found.scores()["fragile"]
    assert fragile[["q000", "q007"]].tolist() == [0, 0]
    assert (whole.drop(["q000", "q007"]) == fragile.drop(["q000", "q007"])).all()
    assert "RuntimeError: no &lt;route&gt; to index" in found._repr_html_()
    assert found.where_lost().loc[["q000", "q007"], "fragile"].tolist() == [stages.FAILED] * 2


def test_a_system_that_always_raises_or_finds_nothing_scores_zero_without_nan() -> None:
    def broken(query: str, k: int) -> list[Hit]:
        raise OSError("gone")

    found = run({"a": Lucky(0.9), "broken": Always(broken), "empty": Always(lambda query, k: [])})
    assert not found.table.isna().any().any()
    for name in ("broken", "empty"):
        assert (found.table.loc[name, list(metrics.metric_names(10))] == 0).all()
        assert found.table.loc[name, "verdict"] == "worse"
    found.plot()
    found = run({"a": Lucky(0.9), "empty": Always(lambda query, k: [])}, same_budget=200)
    assert found.table.loc["empty", ["coverage@200", "context_coverage@200", "tokens"]].tolist() == [0, 0, 0]


CHUNK = CHUNKS[0]


@pytest.mark.parametrize(
    ("hits", "message"),
    [
        ([Hit(CHUNK, float("nan"))], r"finite scores; found 1 hits of 1 chunks, scored \[nan\]"),
        ([Hit(CHUNK, float("inf"))], r"scored \[inf\]"),
        ([Hit(CHUNK, 2.0), Hit(replace(CHUNK), 1.0)], "each chunk once.* found 2 hits of 1 chunks"),
        ([Hit(c, 1.0) for c in CHUNKS[:11]], "at most k = 10 hits.* found 11 hits of 11"),
    ],
)
def test_a_broken_contract_is_refused_with_system_and_question(hits: list[Hit], message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        run({"ok": Lucky(0.5), "bad": Always(lambda query, k: hits)})
    assert "system 'bad', question 'q000'" in str(caught.value)


def test_unusable_input_is_refused() -> None:
    ok = Lucky(0.5)
    for systems, questions, settings, message in (
        ({}, QUESTIONS, {}, "no system"),
        ({"a": ok}, QUESTIONS, {"baseline": "b"}, "baseline 'b': expected one of 'a'"),
        ({"a": ok}, QUESTIONS[:1], {}, "1 of 1 questions have gold"),
        ({"a": ok}, [Question("u", "u"), QUESTIONS[0]], {}, "1 of 2 questions have gold"),
        ({"a": ok}, QUESTIONS[:3] + QUESTIONS[:1], {}, "question id 'q000' is there twice"),
        ({"a": ok}, QUESTIONS, {"k": 0}, "k is 0"),
        ({"a": ok}, QUESTIONS, {"same_budget": -5}, "same_budget is -5"),
        ({"a": ok}, QUESTIONS, {"same_budget": True}, "same_budget is True: expected a whole number, 1 or more"),
        ({"a": Reranked(ok, no_reranker).retriever, "b": 3}, QUESTIONS, {}, "system 'b' is a int without search"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            run(systems, questions, **settings)  # type: ignore[arg-type]


def test_same_budget_gives_every_system_equal_tokens() -> None:
    halves = [
        Chunk(c.doc_id, start, start + 29, c.text[:29]) for c in CHUNKS for start in (c.start, c.start + 30)
    ]  # 10 tokens each

    class Halves(Lucky):
        def _search(self, query: str, k: int) -> list[Hit]:
            gold = GOLD[query]
            own = [c for c in halves if c.span.overlap(gold)]
            others = [c for c in halves if c not in own]
            return [Hit(c, -float(i)) for i, c in enumerate((others[:15] + own + others[15:])[:k])]

    systems: dict[str, Retriever] = {"whole": Lucky(0.8), "halves": Halves(0)}
    given = run(systems, same_budget=170)
    assert given.table["tokens"].tolist() == [170.0, 170.0]
    # 17 halves fit: rank 16 and 17 count although k is 10; the ninth whole chunk is cut after 10 of 20 tokens.
    assert given.table.loc["halves", "recall@170"] == 1.0
    assert {len(hits) for hits in given.rankings["halves"]} == {17}
    last = given.rankings["whole"][0][-1].chunk
    assert (last.text, last.end - last.start) == (WORDS[:29], 29)
    assert "the first 170 tokens" in repr(given)


def test_at_a_budget_the_verdict_is_about_coverage_of_the_cut_lists() -> None:
    """Gold of one chunk; half of it in the budget counts half, whatever the rule of relevance says."""
    systems: dict[str, Retriever] = {"ninth": AtRank(9), "first": AtRank(1)}
    result = run(systems, same_budget=170, baseline="ninth")
    assert result.metric == "coverage@170"
    # The ninth chunk of 20 tokens begins at token 160: 10 of its tokens, 29 of its 59 characters, are inside.
    assert result.table["coverage@170"].tolist() == pytest.approx([29 / len(WORDS), 1.0])
    assert result.table["diff"].tolist() == pytest.approx([0, 1 - 29 / len(WORDS)])
    assert list(result.table)[:13][-2:] == ["coverage@170", "context_coverage@170"]
    assert run(systems, same_budget=170, metric="hit@170").metric == "hit@170"
    with pytest.raises(InputError, match=re.escape("iou@170, coverage@170, context_coverage@170")):
        run(systems, same_budget=170, metric="coverage@200")
    with pytest.raises(InputError, match="metric 'coverage@200': expected one of hit@1"):
        run(systems, metric="coverage@200")


def test_context_coverage_is_what_a_context_of_the_same_hits_holds() -> None:
    result = run({"a": Lucky(0.8)}, same_budget=170)
    for question in QUESTIONS[:20]:
        context = build_context(Lucky(0.8).search(question.text, 40), 170, FakeTokenizer())
        expected = metrics.coverage([hit.chunk for hit in context.hits], question.gold)
        assert result.per_question.loc[("a", question.id), "context_coverage@170"] == expected


def test_lists_whose_chunks_overlap_are_searched_until_a_context_is_full_too() -> None:
    text = "".join(f"w{i:03d} " for i in range(400))
    half_new = [Chunk("d00", start, start + 100, text[start : start + 100]) for start in range(0, 1900, 50)]
    system = Always(lambda query, k: [Hit(chunk, 1.0) for chunk in half_new[:k]])
    questions = tuple(Question(f"q{i}", f"{i}", (Span("d00", 0, 1000),)) for i in range(2))
    row = run({"a": system}, questions, same_budget=200).table.loc["a"]
    # Ten chunks of 20 words fill 200 tokens, but hold only 110 different words.
    assert row["coverage@200"] == pytest.approx(550 / 1000)
    assert row["context_coverage@200"] > 0.85


def test_one_of_several_places_is_enough_where_the_question_says_so() -> None:
    both = tuple(replace(q, gold=(*q.gold, Span("elsewhere", 0, 50))) for q in QUESTIONS[:9])
    either = tuple(replace(q, any_of=True) for q in both)
    system: dict[str, Retriever] = {"a": AtRank(2)}
    needs_both, needs_one = run(system, both, same_budget=200), run(system, either, same_budget=200)
    for name, expected in {"recall@200": 0.5, "mrr@200": 0.5, "coverage@200": 0.5, "gold_chars@200": 59 / 109}.items():
        assert needs_both.table.loc["a", name] == pytest.approx(expected)
    for name, expected in {"recall@200": 1.0, "mrr@200": 0.5, "coverage@200": 1.0, "gold_chars@200": 1.0}.items():
        assert needs_one.table.loc["a", name] == pytest.approx(expected)
    assert set(needs_both.where_lost()["a"]) == {stages.IN_PART}
    assert set(needs_one.where_lost()["a"]) == {stages.FOUND}


def test_a_budget_beyond_all_results_takes_all_there_is() -> None:
    few = Always(lambda query, k: [Hit(c, 1.0) for c in CHUNKS[:14]][:k])
    found = run({"few": few, "many": Lucky(0.5)}, same_budget=500)
    assert found.table["tokens"].tolist() == [280.0, 500.0]


def test_the_caption_states_how_many_documents_the_verdicts_rest_on(result: Comparison) -> None:
    assert "120 questions in 30 documents;" in repr(result)
    two = run({"a": Lucky(0.5)}, tuple(q for q in QUESTIONS if q.gold[0].doc_id in ("d00", "d07")))
    assert "speak of more questions on these documents" in repr(two)
    five = run({"a": Lucky(0.5)}, tuple(q for q in QUESTIONS if q.gold[0].doc_id < "d05"))
    assert "in 5 documents (few: questions on more documents would detect smaller differences)" in repr(five)


def test_html_is_escaped_and_carries_table_and_caption(result: Comparison) -> None:
    page = result._repr_html_()
    assert "like &lt;poor&gt;" in page
    assert "<poor>" not in page
    assert "no detectable difference" in page
    assert "intervals are corrected for 2 comparisons" in page
    assert repr(result).startswith("  ")
    assert "mrr@10" in repr(result)


def test_a_row_says_that_there_is_a_difference_if_and_only_if_its_bracket_leaves_out_0() -> None:
    """Eight systems around the baseline: the bracket is that of all eight comparisons, as the verdict is."""
    rates = (0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8)
    found = run({"base": Lucky(0.4), **{f"{rate:.2f}": Lucky(rate, i + 1) for i, rate in enumerate(rates)}})
    rows = found.table.iloc[1:]
    differs = (rows["diff_low"] > 0) | (rows["diff_high"] < 0)
    assert (differs == (rows["verdict"] != "no detectable difference")).all()
    assert 0 < differs.sum() < len(rows)
    pairs = [run({name: found.systems[name] for name in ("base", other)}).table.iloc[1] for other in rows.index]
    width = [row["diff_high"] - row["diff_low"] for row in pairs]
    assert (rows["diff_high"] - rows["diff_low"] > width).all()


def test_the_plot_shows_every_system_twice_with_its_paired_interval(result: Comparison) -> None:
    figure = result.plot()
    assert [trace.name for trace in figure.data] == ["poor", "good", "like &lt;poor&gt;"] * 2
    assert [trace.x[0] for trace in figure.data[3:]] == result.table["tokens"].tolist()
    assert [trace.x[0] for trace in figure.data[:3]] == result.table["ms_p50"].tolist()
    assert [trace.y[0] for trace in figure.data[:3]] == pytest.approx(result.table["mrr@10"].tolist())
    for trace, row in zip(figure.data, [*result.table.index] * 2, strict=True):
        line, bar = result.table.loc[row], trace.error_y
        if row == "poor":
            assert bar.array is None
            continue
        ends = [trace.y[0] - bar.arrayminus[0], trace.y[0] + bar.array[0]]
        assert ends == pytest.approx([line["mrr@10"] + line[end] - line["diff"] for end in ("diff_low", "diff_high")])
        # The bar leaves out the baseline's line where the verdict is a difference.
        level = result.table.loc["poor", "mrr@10"]
        assert (line["verdict"] == "no detectable difference") == (ends[0] <= level <= ends[1])
    assert [shape.y0 for shape in figure.layout.shapes] == [pytest.approx(result.table.loc["poor", "mrr@10"])] * 2
    assert "paired difference to poor" in figure.layout.title.text
    assert len({trace.marker.color for trace in figure.data}) == 3
    course = run({"bm25": Lucky(0.3), "other": Lucky(0.4), "dense": Lucky(0.5)}).plot()
    assert [trace.marker.color for trace in course.data][:3:2] == [color_of("bm25"), color_of("dense")]
    assert len({trace.marker.symbol for trace in figure.data}) == 3
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert figure.layout.yaxis.title.text == "mrr@10 (mean)"
    alone = run({"only <this>": Lucky(0.5)}).plot()
    assert not alone.layout.shapes
    assert "difference" not in alone.layout.title.text
    with pytest.raises(InputError, match="metric 'f1'"):
        result.scores("f1")


class NoReranker:
    """Keeps the order."""

    def rerank(self, query: str, hits: list[Hit], k: int) -> list[Hit]:
        return list(hits)[:k]


class Backwards:
    """The worst first."""

    def rerank(self, query: str, hits: list[Hit], k: int) -> list[Hit]:
        return [Hit(hit.chunk, float(i)) for i, hit in enumerate(reversed(hits))][:k]


no_reranker: Reranker = NoReranker()  # type: ignore[assignment]
backwards: Reranker = Backwards()  # type: ignore[assignment]


class AtRank(Retriever):
    """The gold chunk at one rank, other chunks around it; rank 0: never."""

    def __init__(self, rank: int, seed: int = 0, chunks: list[Chunk] = CHUNKS) -> None:
        self.rank, self.seed, self.chunks = rank, seed, chunks

    def _search(self, query: str, k: int) -> list[Hit]:
        rng = random.Random(f"{query} {self.seed}")
        ranked = rng.sample([c for c in self.chunks if c.span != GOLD[query]], 60)
        if self.rank:
            ranked.insert(self.rank - 1, next(c for c in CHUNKS if c.span == GOLD[query]))
        return [Hit(chunk, 1 / (i + 1)) for i, chunk in enumerate(ranked[:k])]


def test_where_lost_names_the_stage() -> None:
    questions = QUESTIONS[:4]
    without = [c for c in CHUNKS if c.span not in {q.gold[0] for q in questions}]
    voters = [AtRank(0, seed) for seed in (1, 2)]
    twins = [AtRank(0, 3), AtRank(0, 3)]  # two that agree outvote the one that has it at rank 9
    systems: dict[str, Retriever] = {
        "found": AtRank(3),
        "missed": AtRank(0),
        "too low": AtRank(20),
        "no chunk": AtRank(0, chunks=without),
        "demoted": Hybrid([AtRank(9), *twins]),
        "neither": Hybrid(voters),
        "cut": Reranked(AtRank(2), backwards, fetch_k=30),
        "below fetch": Reranked(AtRank(40), no_reranker, fetch_k=30),
        "deep": Reranked(Hybrid([AtRank(9), AtRank(0, 3)]), backwards, fetch_k=50),
        "no chunk, deep": Reranked(Hybrid([AtRank(0, chunks=without), AtRank(0, 1, without)]), no_reranker),
    }
    lost = run(systems, questions).where_lost()
    assert list(lost.index) == [q.id for q in questions]
    assert {name: set(lost[name]) for name in lost} == {
        "found": {stages.FOUND},
        "missed": {stages.NOT_RETRIEVED},
        "too low": {stages.NOT_RETRIEVED},
        "no chunk": {stages.NO_CHUNK},
        "demoted": {stages.FUSION},
        "neither": {stages.NOT_RETRIEVED},
        "cut": {stages.RERANK},
        "below fetch": {stages.NOT_RETRIEVED},
        "deep": {stages.RERANK},
        "no chunk, deep": {stages.NO_CHUNK},
    }


def test_where_lost_of_several_gold_spans_and_of_wrappers() -> None:
    class Wrapper(Retriever):
        def __init__(self, retriever: Retriever) -> None:
            self.retriever = retriever

        def _search(self, query: str, k: int) -> list[Hit]:
            return self.retriever.search(query, k)[5:]

    two = tuple(replace(q, gold=(*q.gold, Span("elsewhere", 0, 50))) for q in QUESTIONS[:3])
    lost = run({"half": AtRank(6), "dropped": Wrapper(AtRank(2))}, two).where_lost()
    assert set(lost["half"]) == {stages.IN_PART}
    assert set(lost["dropped"]) == {stages.DROPPED}


def test_what_a_search_finds_and_the_budget_cuts_off_is_lost_there() -> None:
    lost = run({"it": AtRank(8)}, QUESTIONS[:3], same_budget=25).where_lost()
    assert set(lost["it"]) == {stages.BUDGET}


@pytest.mark.parametrize("k", [1, 5, 10])
def test_where_lost_walks_through_pipelines_with_and_without_their_parts(k: int) -> None:
    """A pipeline without a reranker has no ``fetch``; what its rewriter makes of the question is searched again."""

    class Rewriter:
        def rewrite(self, question: str) -> list[str]:
            return [f"question {int(question.split()[1]) + 60}"]

    asked = QUESTIONS[:3]  # the rewritten query finds another question's gold, not this one's
    searched = AtRank(0)
    for parts in ((None, None), (backwards, None), (None, Rewriter())):
        rag = RAGPipeline(AtRank(1), parts[0], Extractive(), rewriter=parts[1])  # type: ignore[arg-type]
        lost = run({"it": rag.retriever, "none": RAGPipeline(searched, parts[0], Extractive()).retriever}, asked, k=k)
        expected = {(None, None): stages.FOUND, (backwards, None): stages.RERANK}.get(parts, stages.REWRITING)  # type: ignore[call-overload]
        assert set(lost.where_lost()["it"]) == {expected}
        assert set(lost.where_lost()["none"]) == {stages.NOT_RETRIEVED}


def test_importing_compare_loads_neither_pandas_nor_plotly() -> None:
    heavy = ("pandas", "plotly", "scipy")
    code = f"import sys, ragkit.evaluation.compare; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_detectable_difference_is_named_only_where_questions_differ(result: Comparison) -> None:
    assert "would be detected 8 times in 10" in str(result)
    alike = run({"one": Lucky(0.5), "two": Lucky(0.5)})
    assert alike.minimum_detectable == 0
    assert "would be detected" not in str(alike)

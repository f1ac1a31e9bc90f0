"""The lab's figures are those of ``compare``, and of the lines of Python that the lab gives away.

The widgets without a browser: a control that is set from code does what a click does.
"""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from ragkit import (
    BM25Retriever,
    Chunk,
    Corpus,
    Document,
    FixedChunker,
    InputError,
    Question,
    Span,
    TokenStore,
    compare,
)
from ragkit.base import Hit, Retriever
from ragkit.figures import color_of
from ragkit.notebook.widgets import (
    CHUNKERS,
    SCORINGS,
    SIZES,
    ChunkExperiment,
    ChunkLab,
    LabSettings,
    RetrievalInspector,
)
from ragkit.testing import FakeEmbedder
from ragkit.tokens import minilm_tokenizer

VIEW = "application/vnd.jupyter.widget-view+json"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> $x$"


class WordPieces(FakeEmbedder):
    """Random directions, but the packaged model's tokens, so that sizes mean what they mean to a chunker."""

    def __init__(self) -> None:
        super().__init__(max_tokens=64)
        self.tokenizer = minilm_tokenizer()


@pytest.fixture(scope="module")
def store(tmp_path_factory, small_corpus) -> TokenStore:
    return TokenStore.open(small_corpus, WordPieces(), folder=tmp_path_factory.mktemp("lab") / "s", progress=False)


@pytest.fixture(scope="module")
def bench(small_corpus, store) -> ChunkExperiment:
    return ChunkExperiment(small_corpus, store=store)


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("chunker", CHUNKERS)
def test_measure_is_what_compare_says(bench, chunker, scoring):
    setting = LabSettings(chunker, size=12, overlap=4, scoring=scoring, k=3, budget=None)
    measured = bench.measure(setting)
    retriever = bench.retriever(setting, _chunks(bench, setting))
    row = compare({"it": retriever}, bench.questions, k=3, progress=False).table.loc["it"]
    assert measured.level.mean == pytest.approx([row["gold_chars@3"], row["mrr@3"]], abs=1e-9)
    # A chunk that begins inside a word has this word's last piece for `compare`, which tokenizes the chunk by itself.
    assert measured.tokens == pytest.approx(row["tokens"], rel=0.05)


@pytest.mark.parametrize("budget", [5, 20, 40])
def test_measure_at_equal_budget_is_what_compare_says(bench, budget):
    """Both count tokens of the same tokenizer; a chunk that is cut may end one token apart (see above)."""
    setting = LabSettings(size=12, overlap=4, scoring="bm25", budget=budget)
    measured = bench.measure(setting)
    retriever = bench.retriever(setting, _chunks(bench, setting))
    row = compare({"it": retriever}, bench.questions, same_budget=budget, progress=False).table.loc["it"]
    assert measured.tokens <= budget
    assert measured.tokens == pytest.approx(row["tokens"], abs=1)
    assert measured.level.mean[0] == pytest.approx(row[f"coverage@{budget}"], abs=0.15)  # a token of a short answer


def test_a_real_corpus_gives_the_figures_of_compare(tiny):
    bench = ChunkExperiment(tiny)
    for setting in (
        LabSettings(size=256, budget=None),
        LabSettings(size=512, scoring="maxp"),
        LabSettings(size=512, budget=1000),
    ):
        retriever = bench.retriever(setting, _chunks(bench, setting))
        budget = setting.budget
        limit = {"same_budget": budget} if budget else {}
        row = compare({"it": retriever}, bench.questions, progress=False, **limit).table.loc["it"]
        # At a budget, the last chunk may be cut one token apart: a question in a hundred.
        near = 0.01 if budget else 1e-9
        expected = [row[setting.metric], row[f"mrr@{budget or 10}"]]
        assert bench.measure(setting).level.mean == pytest.approx(expected, abs=near)


@pytest.mark.parametrize(
    "setting", [LabSettings(), LabSettings("heading", 96, 0, "maxp", 5), LabSettings(scoring="hybrid", budget=None)]
)
def test_the_exported_lines_measure_the_same(bench, store, setting, monkeypatch):
    monkeypatch.setattr(TokenStore, "open", lambda corpus: store)
    result = _run(setting.code(), corpus=bench.corpus, questions=bench.corpus.questions)
    (row,) = result.table.to_dict("records")
    assert result.metric == setting.metric
    expected = [row[setting.metric], row[f"mrr@{setting.budget or setting.k}"]]
    assert bench.measure(setting).level.mean == pytest.approx(expected, abs=1e-9)


def test_every_setting_exports_python_that_compiles():
    for chunker in CHUNKERS:
        for scoring in SCORINGS:
            for budget in (None, 500):
                code = LabSettings(chunker, 256, 32, scoring, budget=budget).code()
                compile(code, "<exported>", "exec")
                assert len(code.splitlines()) == 4


def test_intervals_stay_between_0_and_1(bench):
    for size in (8, 12, 64):
        level = bench.measure(LabSettings(size=size, overlap=2)).level
        assert (level.low >= 0).all()
        assert (level.low <= level.mean).all()
        assert (level.mean <= level.high).all()
        assert (level.high <= 1).all()


def test_measuring_twice_measures_once(bench):
    assert bench.measure(LabSettings(size=20, overlap=4)) is bench.measure(LabSettings(size=20, overlap=4))


def test_differences_are_paired_and_against_the_first(bench):
    rows = [bench.measure(LabSettings(size=size, overlap=2, budget=20)) for size in (8, 64)]
    (difference,) = bench.differences(rows)
    mean = np.mean(rows[1].scores[:, 0] - rows[0].scores[:, 0])
    assert re.fullmatch(
        rf"{re.escape(f'{mean:+.3f}')} \[\S+, \S+\] (better|worse|no detectable difference)", difference
    )


def test_one_of_several_places_is_enough_where_the_question_says_so(small_corpus, store):
    elsewhere = Span("radio/guide", 0, 6)
    both = [replace(question, gold=(*question.gold, elsewhere)) for question in small_corpus.questions[:2]]
    setting = LabSettings(size=64, overlap=0, scoring="bm25", budget=20)
    needs_both = ChunkExperiment(small_corpus, both, store).measure(setting)
    needs_one = ChunkExperiment(small_corpus, [replace(question, any_of=True) for question in both], store).measure(
        setting
    )
    assert needs_one.level.mean[0] > needs_both.level.mean[0] > 0


def test_questions_without_gold_are_left_out(bench, small_corpus):
    assert [q.id for q in bench.questions] == ["boil", "bulb"]
    with pytest.raises(InputError, match="1 questions have gold"):
        ChunkExperiment(small_corpus, small_corpus.questions[1:], bench.store)
    with pytest.raises(InputError, match="0 questions"):
        ChunkExperiment(small_corpus, [Question("q", "What?")], bench.store)


def test_the_overlap_shrinks_with_the_size():
    assert LabSettings(overlap=64).at(64) == LabSettings(size=64, overlap=32)
    assert LabSettings(overlap=64).at(256).overlap == 64


def _run(code, **names):
    """The value of the last line of ``code``, which has its own imports."""
    *lines, last = code.splitlines()
    exec("\n".join([*lines, f"result = {last}"]), names)
    return names["result"]


def _chunks(bench, setting):
    chunker = bench.chunker(setting)
    return [chunk for document in bench.corpus.documents for chunk in chunker.chunk(document)]


# ---- the widgets


@pytest.fixture
def lab(small_corpus, store) -> ChunkLab:
    return ChunkLab(small_corpus, store=store, budget=30)


def test_a_move_changes_figure_and_table_in_place(lab):
    figure, before = lab.fig, lab.table.value
    lab.size.value = 96
    assert lab.fig is figure
    assert list(lab.fig.data[3].x) == [96]
    assert lab.fig.data[3].y[0] == lab.result.level.mean[0]
    assert lab.fig.data[4].y[0] == lab.result.level.mean[1]
    assert "fixed 96/48 pooled" in lab.table.value
    assert lab.table.value != before


def test_plotly_is_given_lists_because_it_cannot_compare_arrays(lab):
    lab.keep.click()
    lab.size.value = 96
    for trace in lab.fig.data:
        for values in (trace.x, trace.y, trace.marker.color, trace.text):
            assert isinstance(values, tuple)  # what plotly makes of a list; an array stays an array
            assert {type(value) for value in values} <= {int, float, str}
        assert (trace.error_y.array, trace.error_y.arrayminus) == (None, None)


def test_the_overlap_slider_shows_the_overlap_that_is_used(lab):
    lab.size.value = 64
    assert (lab.overlap.value, lab.setting.overlap) == (32, 32)
    lab.size.value = 32
    lab.size.value = 512
    assert (lab.overlap.value, lab.setting.overlap) == (64, 64)
    lab.size.value = 64
    lab.overlap.value = 128
    assert (lab.overlap.value, lab.setting.overlap) == (32, 32)
    lab.overlap.value = 24
    lab.size.value = 1024
    assert lab.overlap.value == 24
    lab.overlap.value = 128
    assert lab.setting.overlap == 128
    assert "fixed 1024/128 pooled" in lab.table.value


def test_every_label_has_a_tooltip(lab, small_corpus):
    for widget in (lab, _inspector(small_corpus)):
        tooltips = [part.tooltip for part in _parts(widget) if getattr(part, "description", "")]
        assert len(tooltips) >= 5
        assert all(tooltips)


def _parts(box):
    """What stands in a box, and in the boxes within it."""
    return [part for child in box.children for part in (child, *(_parts(child) if hasattr(child, "children") else ()))]


def test_every_control_leads_to_its_setting(lab):
    lab.chunker.value, lab.size.value, lab.overlap.value = "sentence", 64, 16
    lab.scoring.value, lab.k.value = "bm25", 2
    setting = lab.result.setting
    assert (setting.chunker, setting.size, setting.overlap) == ("sentence", 64, 16)
    assert (setting.scoring, setting.k, setting.budget) == ("bm25", 2, 30)
    assert lab.result.tokens <= 30
    lab.view.value = "equal k"
    assert lab.result.setting.budget is None


def test_the_curve_holds_all_sizes_and_no_bars_that_invite_an_unpaired_comparison(lab):
    curve = lab.fig.data[0]
    assert tuple(curve.x) == SIZES
    assert all(trace.error_y.array is None for trace in lab.fig.data)


def test_the_figure_is_as_wide_as_the_page_and_its_colours_are_those_of_the_systems(lab):
    assert (lab.fig.layout.width, lab.fig.layout.autosize) == (None, True)
    lab.keep.click()
    lab.scoring.value = "bm25"
    assert lab.fig.data[3].marker.color == (color_of("bm25"),)
    assert lab.fig.data[6].marker.color == (color_of("dense"),)  # kept: pooled vectors
    assert "size of the chunks" in lab.fig.layout.title.text
    units = [lab.fig.layout[f"yaxis{n}"].title.text for n in ("", 2, 3)]
    assert units == ["share of the gold", "mean 1 / rank", "tokens"]


def test_what_the_page_would_reload_is_what_is_shown(lab):
    lab.size.value = 256
    kept = {trace["uid"]: trace for trace in lab.fig._widget_data}
    for trace in lab.fig.data[:6]:
        assert list(kept[trace.uid]["x"]) == list(trace.x)
        assert list(kept[trace.uid]["y"]) == list(trace.y)


def test_kept_settings_are_removed_one_by_one_or_all(lab):
    for size in (32, 64, 96):
        lab.size.value = size
        lab.keep.click()
    assert [button.description for button in lab.removals.children[:-1]] == [
        f"fixed {size}/{size // 2} pooled in 30 tokens" for size in (32, 64, 96)
    ]
    lab.removals.children[1].click()
    assert list(lab.fig.data[6].x) == [32, 96]
    assert lab.table.value.count("<tr>") == 3
    lab.clear.click()
    assert (list(lab.fig.data[6].x), lab.removals.children) == ([], ())
    assert lab.table.value.count("<tr>") == 2


def test_kept_settings_are_drawn_and_compared_once(lab):
    lab.keep.click()
    lab.keep.click()
    lab.size.value = 32
    lab.keep.click()
    assert list(lab.fig.data[6].x) == [512, 32]
    assert lab.table.value.count("<tr>") == 3
    assert re.search("better|worse|no detectable difference", lab.table.value)
    assert "coverage against the first row" in lab.table.value
    assert f"{lab.result.level.mean[0]:.3f}" in lab.table.value


def test_export_follows_the_controls_until_it_is_folded_again(lab):
    assert lab.code.value == ""
    lab.export.click()
    assert "DenseRetriever(chunks, store=store)" in lab.code.value
    lab.size.value = 128
    assert "FixedChunker(128, 64)" in lab.code.value
    lab.export.click()
    assert lab.code.value == ""


@pytest.mark.parametrize("which", ["all", "own", "some", "others"])
def test_the_exported_python_measures_the_chosen_questions(small_corpus, store, monkeypatch, which):
    """All questions of the corpus, a kind of them, some of them, and questions that the corpus does not have."""
    boil, bulb, none = small_corpus.questions
    third = Question("seek it", "What does 'SEEK' do?", (Span("radio/guide", 7, 30),), ("own",))
    fourth = Question("turn", "How do I dim it?", (Span("lamp/guide", 8, 23), Span("radio/guide", 0, 6)), any_of=True)
    own = (replace(boil, tags=("own",)), bulb, none, third)
    corpus = replace(small_corpus, questions=own)
    sets = {"all": own, "own": (own[0], third), "some": (bulb, third), "others": (fourth, replace(bulb, id='"b"'))}
    monkeypatch.setattr(TokenStore, "open", lambda corpus: store)
    lab = ChunkLab(corpus, sets, store, budget=30)
    lab.size.value, lab.scoring.value = 32, "bm25"
    lab.questions.value = which
    lab.export.click()
    expected = {"all": 3}.get(which, 2)
    code = unescape(re.sub("</?pre[^>]*>", "", lab.code.value))
    result = _run(code, corpus=corpus)
    assert {(q.id, q.gold, q.any_of) for q in result.questions} == {
        (q.id, q.gold, q.any_of) for q in sets[which] if q.gold
    }
    assert len(result.questions) == len(lab.result.scores) == expected
    row = result.table.iloc[0]
    assert lab.result.level.mean == pytest.approx([row["coverage@30"], row["mrr@30"]], abs=1e-9)


def test_it_says_when_it_is_done(lab):
    lab.size.value = 128
    assert "2 questions in 2 documents" in lab.status.value
    assert "spinner" not in lab.status.value


def test_it_says_what_it_is_doing(lab):
    said = []
    lab.status.observe(lambda change: said.append(change["new"]), "value")
    lab.size.value = 160
    assert "measuring fixed 160/64 pooled" in said[0]
    assert "curve" in said[1]
    assert len(said) == 3
    assert "spinner" in said[1]


def test_the_document_view_marks_the_gold_and_its_rank(lab):
    assert "kettle/guide" in lab.document.value
    lab.question.value = 1
    assert "<mark" in lab.document.value
    assert "lamp/guide" in lab.document.value
    assert "gold" in lab.document.value


def test_the_hits_of_the_question_are_marked_in_the_text(lab):
    lab.size.value = 32
    ranks = [rank for rank, hit in enumerate(lab.hits, 1) if hit.chunk.doc_id == "kettle/guide"]
    assert ranks
    assert all(f" hit {rank} </b>" in lab.document.value for rank in ranks)
    assert f"<b>kettle/guide: {', '.join(map(str, ranks))}</b>" in lab.document.value


def test_a_query_of_your_own_is_searched_and_its_hits_are_marked(lab):
    lab.size.value, lab.scoring.value, lab.view.value, lab.k.value = 32, "bm25", "equal k", 2
    lab.query.value = "press SEEK"
    assert lab.source.value == "radio/guide"
    assert " hit 1 </b>" in lab.document.value
    assert "<mark" not in lab.document.value
    lab.source.value = "lamp/guide"
    assert " hit 1 </b>" not in lab.document.value
    lab.question.value = 1
    assert lab.query.value == ""
    assert "<mark" in lab.document.value


@pytest.mark.parametrize("labels", [0, 1])
def test_without_labelled_questions_documents_are_cut_and_searched(small_corpus, store, labels):
    lab = ChunkLab(replace(small_corpus, questions=small_corpus.questions[:labels]), store=store, budget=30)
    assert repr(lab) == "ChunkLab('small': 3 documents, 0 questions)"
    shown = _parts(lab)
    for part in (lab.fig, lab.table, lab.keep, lab.export, lab.question, lab.questions):
        assert all(part is not other for other in shown)
    for part in (lab.query, lab.source, lab.document, lab.status):
        assert any(part is other for other in shown)
    assert "kettle/guide" in lab.document.value
    lab.size.value = 32
    whole = lab.document.value
    assert "3 chunks of" in lab.status.value
    lab.size.value, lab.scoring.value = 64, "bm25"
    lab.query.value = "bulbs of 40 watts"
    assert lab.source.value == "lamp/guide"
    assert " hit 1 </b>" in lab.document.value
    assert lab.document.value in lab._repr_mimebundle_()["text/html"]
    lab.query.value, lab.source.value, lab.size.value = "", "kettle/guide", 32
    assert lab.document.value == whole
    with pytest.raises(InputError, match="no labelled questions"):
        lab.result  # noqa: B018 - a property


def test_question_sets_are_switched(small_corpus, store):
    turned = tuple(reversed(small_corpus.questions))
    lab = ChunkLab(small_corpus, {"one": small_corpus.questions, "two": turned}, store)
    assert lab.question.options[0][0] == "How do I heat water?"
    lab.questions.value = "two"
    assert lab.question.options[0][0] == "Which bulbs fit?"


def test_the_text_fallbacks_are_stable(lab, small_corpus):
    assert repr(lab) == "ChunkLab('small': 3 documents, 2 questions)"
    lab.size.value = 64
    assert repr(lab) == "ChunkLab('small': 3 documents, 2 questions)"
    assert repr(_inspector(small_corpus)) == "RetrievalInspector(a, b: 3 questions)"


def test_a_page_without_a_kernel_shows_a_table_of_the_curve_and_both_columns(lab, small_corpus):
    lab.size.value = 96
    bundle = lab._repr_mimebundle_()
    assert bundle[VIEW]
    assert bundle["text/plain"] == repr(lab)
    sizes = [int(size) for size in re.findall(r"fixed (\d+)/", bundle["text/html"])]
    assert sizes == sorted({*SIZES, 96})
    assert f"<b>{lab.setting.label}</b>" in bundle["text/html"]
    inspector = _inspector(small_corpus)
    html = inspector._repr_mimebundle_()["text/html"]
    assert all(view.value in html for view in inspector.hits)


def test_hostile_documents_and_names_are_escaped(tmp_path):
    documents = tuple(Document(f"{EVIL}{i}", f"{EVIL} Press {i} now. {EVIL}", EVIL) for i in range(2))
    questions = tuple(Question(f"q{i}", f"{EVIL} {i}?", (Span(documents[i].id, 0, 20),)) for i in range(2))
    corpus = Corpus("evil", documents, questions)
    store = TokenStore.open(corpus, WordPieces(), folder=tmp_path / "s", progress=False)
    lab = ChunkLab(corpus, {EVIL: questions}, store)
    lab.keep.click()
    lab.export.click()
    lab.query.value = EVIL
    bm25 = BM25Retriever([chunk for document in documents for chunk in FixedChunker(8, 0).chunk(document)])
    inspector = RetrievalInspector({EVIL: bm25, "b": bm25}, questions)
    shown = (lab.table, lab.document, lab.code, lab.status, *inspector.hits)
    for html in (*(part.value for part in shown), lab.static_html(), inspector.static_html()):
        assert "<script" not in html
        assert "<img" not in html
    assert "&lt;script" in lab.document.value


def test_bad_input_is_refused(small_corpus, store):
    with pytest.raises(InputError, match="questions have gold"):
        ChunkLab(small_corpus, {"empty": ()}, store)
    with pytest.raises(InputError, match="expected two systems and a question"):
        RetrievalInspector({"a": BM25Retriever([])}, small_corpus.questions)
    with pytest.raises(InputError, match="0 questions"):
        RetrievalInspector({"a": BM25Retriever([]), "b": BM25Retriever([])}, ())


class Always(Retriever):
    """Returns the same chunks for every question."""

    def __init__(self, chunks: tuple[Chunk, ...]) -> None:
        self.chunks = chunks

    def _search(self, query: str, k: int) -> list[Hit]:
        return [Hit(chunk, 1 / rank) for rank, chunk in enumerate(self.chunks[:k], 1)]


def _inspector(corpus: Corpus) -> RetrievalInspector:
    chunks = tuple(chunk for document in corpus.documents for chunk in FixedChunker(64, 0).chunk(document))
    return RetrievalInspector({"a": Always(chunks), "b": Always(chunks[::-1])}, corpus.questions, k=3)


def test_two_systems_stand_side_by_side_with_gold_and_scores(small_corpus):
    inspector = _inspector(small_corpus)
    left, right = (view.value for view in inspector.hits)
    assert "gold at rank 1 of 3" in left
    assert "gold at rank 3 of 3" in right
    assert "<mark" in left
    assert "score 0.33" in right
    inspector.k.value = 1
    assert "gold not found in 1" in inspector.hits[1].value


def test_a_question_of_your_own_and_back(small_corpus):
    inspector = _inspector(small_corpus)
    inspector.own.value = "What is a <b>kettle</b>?"
    assert "&lt;b&gt;kettle" in inspector.hits[0].value
    assert "no gold is known" in inspector.hits[0].value
    assert "<mark" not in inspector.hits[0].value
    inspector.question.value = 1
    assert inspector.own.value == ""
    assert "Which bulbs fit?" in inspector.hits[0].value


def test_a_system_is_exchanged(small_corpus):
    inspector = _inspector(small_corpus)
    inspector.names[1].value = "a"
    assert inspector.hits[0].value == inspector.hits[1].value


def test_the_lab_does_not_change_the_questions(small_corpus, store):
    before = tuple(replace(question) for question in small_corpus.questions)
    ChunkLab(small_corpus, store=store)
    assert small_corpus.questions == before

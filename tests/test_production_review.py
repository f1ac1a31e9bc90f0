"""From a flag to a labelled question: what is suggested, what is not, and that only a person confirms."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.base import Corpus, Document, InputError, Section, Span
from ragkit.chunking import FixedChunker
from ragkit.generation.extractive import Extractive
from ragkit.pipeline import RAGPipeline
from ragkit.production.feedback import ReviewItem
from ragkit.production.regression import RegressionSet
from ragkit.production.review import confirm, f_measure, spans_around, suggest
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.rerank import rescored

FLAG = ReviewItem("Which bulbs fit?", 1.0, 1, 0, 1, 0.5, ("t1",), ("wrong",))


class ByVinegar:
    """A reranker that likes vinegar."""

    def rerank(self, query, hits, k):
        return rescored(hits, [float("vinegar" in hit.chunk.text) for hit in hits], "vinegar", k)


def pipeline(corpus: Corpus, reranker=None) -> RAGPipeline:
    chunks = [chunk for document in corpus.documents for chunk in FixedChunker(64, 0).chunk(document)]
    return RAGPipeline(BM25Retriever(chunks), reranker, Extractive())


def test_by_the_words_of_the_question_where_nothing_else_is_known(small_corpus):
    found = suggest(FLAG, small_corpus, pipeline(small_corpus))
    assert found.why == "the words of the question"
    assert found.places[0].text == "Only E27 bulbs with at most 40 watts fit."
    assert found.places[0].section == ("Lamp", "Bulbs")
    assert "1  " in repr(found)
    assert "lamp/guide › Lamp › Bulbs" in repr(found)


def test_by_the_reranker_of_the_pipeline(small_corpus):
    flag = replace(FLAG, question="Press lever vinegar")
    found = suggest(flag, small_corpus, pipeline(small_corpus, ByVinegar()))
    assert (found.why, found.places[0].text) == ("the reranker", "Use vinegar.")


def test_by_the_words_of_the_correction_before_anything_else(small_corpus):
    flag = replace(FLAG, corrections=("press the RED lever and the water boils",), flagged=("kettle/guide#0-60",))
    found = suggest(flag, small_corpus, pipeline(small_corpus, ByVinegar()))
    assert found.why == "the words of the corrected answer"
    assert found.places[0].text == "Press the red lever to boil the water."


def test_what_was_flagged_is_not_suggested(small_corpus):
    flag = replace(FLAG, question="lever bulbs", flagged=("lamp/guide#20-80",))
    texts = [place.text for place in suggest(flag, small_corpus, pipeline(small_corpus)).places]
    assert "Press the red lever to boil the water." in texts
    assert not any("E27" in text for text in texts)


def test_what_the_disliked_answer_quotes_is_not_suggested_unless_it_was_only_incomplete(small_corpus):
    quoted = "Only E27 bulbs with at most 40 watts fit."
    flag = replace(FLAG, answers=(f"{quoted} [1]",))
    assert quoted not in [place.text for place in suggest(flag, small_corpus, pipeline(small_corpus)).places]
    kept = replace(flag, reasons=("incomplete",))
    assert suggest(kept, small_corpus, pipeline(small_corpus)).places[0].text == quoted


def test_unknown_words_suggest_nothing_and_then_a_span_is_needed(small_corpus, tmp_path):
    found = suggest(replace(FLAG, question="zzz"), small_corpus, pipeline(small_corpus))
    assert found.places == ()
    regressions = RegressionSet(tmp_path / "r.jsonl", small_corpus)
    with pytest.raises(InputError, match="no place was suggested"):
        confirm(found, regressions, who="ann")
    assert confirm(found, regressions, Span("kettle/guide", 8, 46), who="ann").text == "zzz"


def test_a_person_confirms_the_first_place_or_another(small_corpus, tmp_path):
    regressions = RegressionSet(tmp_path / "r.jsonl", small_corpus)
    found = suggest(FLAG, small_corpus, pipeline(small_corpus))
    with pytest.raises(InputError, match="nothing confirms itself"):
        confirm(found, regressions, who="")
    question = confirm(found, regressions, who="ann")
    assert (question.tags, question.gold) == (("regression",), (found.places[0].span,))
    assert '"trace":"t1"' in regressions.path.read_text()
    with pytest.raises(InputError, match="already"):
        confirm(found, regressions, who="bob")
    several = [Span("lamp/guide", 8, 23), Span("kettle/guide", 8, 46)]
    other = confirm(replace(found, flag=replace(FLAG, question="All?")), regressions, several, who="bob")
    assert other.gold == tuple(several)


@pytest.mark.parametrize(("limit", "fetch"), [(0, 50), (3, 0)])
def test_bad_input_is_refused(small_corpus, limit, fetch):
    with pytest.raises(InputError, match="expected 1 or more"):
        suggest(FLAG, small_corpus, pipeline(small_corpus), limit=limit, fetch=fetch)


def test_another_corpus_is_refused(small_corpus):
    with pytest.raises(InputError, match="no document"):
        suggest(FLAG, Corpus("other", small_corpus.documents[:1]), pipeline(small_corpus))


def test_f_measure_weighs_words_and_recall():
    weight = {"rare": 3.0, "often": 1.0}
    assert f_measure({"rare"}, {"rare", "often"}, weight) == pytest.approx(5 * 0.75 / (4 + 0.75))
    assert f_measure({"rare", "often"}, {"rare"}, weight) == pytest.approx(5 * 0.75 / (3 + 1))
    assert f_measure({"rare"}, {"often"}, weight) == 0.0


words = st.sets(st.sampled_from("abcde"), min_size=1)


@given(words, words)
def test_f_measure_is_between_0_and_1_and_1_only_for_the_same_words(one, other):
    value = f_measure(one, other, dict.fromkeys("abcde", 1.0))
    assert 0 <= value <= 1 + 1e-12
    assert (value > 1 - 1e-12) == (one == other)


paragraphs = st.lists(st.text("ab. ", min_size=1, max_size=900).filter(str.strip), min_size=1, max_size=12)


@settings(max_examples=40)
@given(paragraphs, st.integers(0, 9000), st.integers(1, 2000))
def test_what_can_be_suggested_is_inside_its_section_and_covers_its_words(parts, start, length):
    text = "\n\n".join(parts)
    document = Document("d", text, sections=(Section(("H",), 0, 0, len(text)),))
    for every_run in (False, True):
        for span in spans_around(document, Span("d", start, start + length), every_run):
            assert 0 <= span.start < span.end <= len(text)
            assert text[span.start : span.end].strip()
    found = list(spans_around(document, Span("d", 0, len(text)), every_run=False))
    assert {i for span in found for i in range(span.start, span.end)} >= {i for i, c in enumerate(text) if c.strip()}
    if len(text.strip()) <= 1600:
        assert len(found) == 1

"""The labelled sentences: their form, that every section is there, that labels are what they say; and the AUROC."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Corpus, CorpusError, InputError
from ragkit.evaluation import labelled_answers as labelled
from ragkit.evaluation.faithfulness import Faithfulness
from ragkit.evaluation.features import NAMES, Features
from ragkit.evaluation.labelled_answers import PERTURBED, SUPPORTED, agreement, auroc, auroc_interval, fit_weights
from ragkit.files import data_file
from ragkit.token_store import TokenStore

ROWS = [json.loads(line) for line in data_file("answers.jsonl").read_text(encoding="utf-8").splitlines()]
SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def sentences(core: Corpus) -> tuple[labelled.LabelledSentence, ...]:
    return labelled.load_labelled_answers(core)


def test_form():
    assert [row["id"] for row in ROWS] == [f"answer-{i:03d}" for i in range(1, len(ROWS) + 1)]
    for row in ROWS:
        what = "quote" if row["kind"] == "quoted" else "sentence"
        assert row.keys() == {"id", "question", what, "label", "kind", "evidence", "split"}, row["id"]
        assert row["kind"] in (*SUPPORTED, *PERTURBED)
        assert row["label"] == ("supported" if row["kind"] in SUPPORTED else "unsupported")
        assert row["split"] in ("fit", "test")
        assert row["evidence"].keys() == {"doc", "section"}


def test_there_are_enough_of_every_kind_in_both_halves():
    assert len(ROWS) >= 480
    counts = Counter((row["split"], row["kind"]) for row in ROWS)
    assert all(counts[half, kind] >= 14 for half in ("fit", "test") for kind in (*SUPPORTED, *PERTURBED))


def test_the_halves_share_no_document():
    halves = {half: {r["evidence"]["doc"] for r in ROWS if r["split"] == half} for half in ("fit", "test")}
    assert not halves["fit"] & halves["test"]
    assert all(len(documents) >= 20 for documents in halves.values())


def test_every_section_is_there_and_nothing_is_left_out(sentences):
    assert len(sentences) == len(ROWS)
    assert all(s.source.text.strip() == s.source.text != "" for s in sentences)
    assert all(s.text == s.text.strip() and len(s.text) > 15 for s in sentences)


def test_only_quotes_are_quotes(sentences):
    for s in sentences:
        inside = re.sub(r"\s+", " ", s.text) in re.sub(r"\s+", " ", s.source.text)
        assert inside == (s.kind == "quoted"), s.id


def test_no_sentence_stands_twice_with_one_source(sentences):
    twice = [key for key, n in Counter((s.text, s.source.id) for s in sentences).items() if n > 1]
    assert twice == []


def test_a_sentence_of_another_section_is_a_true_one_there(sentences):
    supported = {s.text for s in sentences if s.supported}
    assert all(s.text in supported for s in sentences if s.kind == "other_section")


def test_halves_and_small_corpora(core: Corpus, tiny: Corpus):
    both = [len(labelled.load_labelled_answers(core, half)) for half in ("fit", "test")]
    assert sum(both) == len(ROWS)
    small = labelled.load_labelled_answers(tiny)
    assert 0 < len(small) < len(ROWS)
    assert {s.source.doc_id.split("/")[0] for s in small} == {"black", "gunicorn", "aiohttp"}
    with pytest.raises(InputError, match="expected 'fit' or 'test'"):
        labelled.load_labelled_answers(core, "dev")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line", ["{", '{"id": "x"}', '{"evidence": {"doc": "black/faq", "section": ["No"]}, "split": "fit"}']
)
def test_a_line_that_cannot_be_read_is_named(line, core: Corpus, tmp_path, monkeypatch):
    (tmp_path / "answers.jsonl").write_text(line)
    monkeypatch.setattr(labelled, "data_file", lambda name: tmp_path / name)
    with pytest.raises(CorpusError):
        labelled.load_labelled_answers(core)


# ---- AUROC


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_order(high, low):
    pairs = [(a > b) + 0.5 * (a == b) for a in high for b in low]
    assert auroc(high, low) == pytest.approx(np.mean(pairs))
    assert auroc(low, high) == pytest.approx(1 - auroc(high, low))


def test_auroc_is_the_u_statistic():
    from scipy.stats import mannwhitneyu

    generator = np.random.default_rng(0)
    high, low = generator.random(80).round(2), generator.random(120).round(2)
    assert auroc(high, low) == pytest.approx(mannwhitneyu(high, low).statistic / (80 * 120))


def test_auroc_needs_both():
    with pytest.raises(InputError, match="expected some of both"):
        auroc([1.0], [])


def test_the_interval_grows_with_the_likeness_of_a_documents_sentences():
    generator = np.random.default_rng(1)
    labels = np.tile([True, False], 60)
    noise = generator.normal(size=120)
    alone = [str(i) for i in range(120)]
    documents = [str(i // 12) for i in range(120)]
    shared = noise + np.where(labels, 1.0, 0.0) * np.repeat(generator.normal(1, 2, 10), 12)
    width = [np.diff(auroc_interval(shared, labels, units))[0] for units in (alone, documents)]
    assert width[1] > 1.2 * width[0]
    low, high = auroc_interval(noise + labels, labels, alone)
    assert low < auroc((noise + labels)[labels], noise[~labels]) < high


def test_agreement_of_a_perfect_and_of_a_blind_score(sentences):
    perfect = agreement(sentences, [float(s.supported) for s in sentences], 20)
    assert set(perfect.index) == {"all", "all but quotes", *PERTURBED, *SUPPORTED}
    assert (perfect[["auroc", "low", "high"]] == 1).all(axis=None)
    blind = agreement(sentences, [0.0] * len(sentences), 20)
    assert (blind[["auroc", "low", "high"]] == 0.5).all(axis=None)
    assert perfect.loc["negation", "sentences"] == sum(s.kind == "negation" for s in sentences)
    # A score that can't see negations: its row says so, and the others don't.
    numb = agreement(sentences, [float(s.supported or s.kind == "negation") for s in sentences], 20)
    assert numb.loc["negation", "auroc"] == 0.5
    assert numb.loc["number", "auroc"] == 1
    assert numb.loc[["negation", "number", "reworded"], "accepted"].tolist() == [1, 0, 1]


# ---- fitting


def features(**values: float) -> Features:
    return Features(**{**dict.fromkeys(NAMES, 0.0), **values})


def test_the_fit_finds_what_tells_apart_and_keeps_the_signs():
    generator = np.random.default_rng(2)
    supported = generator.random(300) < 0.3
    rows = [
        # False sentences resemble their source more, as perturbed ones do: that may not become a weight.
        features(
            agreement=0.5 - 0.3 * good + generator.random() / 10, numbers=float(not good and generator.random() < 0.8)
        )
        for good in supported.tolist()
    ]
    weights = fit_weights(rows, supported)
    assert weights.keys() == {"intercept", *NAMES}
    assert weights["agreement"] == 0
    assert weights["numbers"] < -1
    with pytest.raises(InputError, match="some of both"):
        fit_weights(rows, np.ones(300))


def test_the_weights_tell_apart_what_they_were_not_fitted_on(core: Corpus, sentences):
    """A third of the held-out half; ``tests/bench/bench_scorers.py`` measures all of it, and fits the weights again."""
    held_out = [s for s in sentences if s.half == "test"][::3]
    scorer = Faithfulness(TokenStore.open(core, progress=False))
    table = agreement(held_out, [scorer.support(s.text, [s.source]).score for s in held_out], 50)
    assert table.loc["all", "auroc"] >= 0.87
    assert table.loc["quoted", "auroc"] == 1
    assert (table.loc[list(PERTURBED), "auroc"] >= 0.65).all()

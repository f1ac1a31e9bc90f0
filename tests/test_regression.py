"""The regression set: each question that went wrong once, and was mended, is found again by ``advanced``.

``make test`` has the vectors of ``tiny`` when it comes here; where those of ``core`` are there too, all questions run,
and notebook 13 runs them all in any case. A set of one's own, ``production/regression.jsonl`` in ragkit's home, is run
as well: on ``core``, as far as it is about its documents.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ragkit.base import Corpus, CorpusError
from ragkit.files import data_file, home
from ragkit.pipeline import advanced, naive
from ragkit.production.regression import RegressionSet
from ragkit.token_store import stored_bytes

OURS = data_file("regression.jsonl")
OWN = home() / "production" / "regression.jsonl"
SETS = [pytest.param(path, id=path.parent.name) for path in (OURS, OWN) if path.is_file()]
K = 10


@pytest.fixture(scope="module")
def stored_core(core: Corpus) -> Corpus:
    """``core``, where its vectors are on the disk: to encode it takes minutes."""
    if not stored_bytes(core):
        pytest.skip("the vectors of core are not on this machine: `ragkit fetch core --vectors`")
    return core


@pytest.mark.parametrize("path", SETS)
def test_nothing_that_was_mended_is_broken_again(tiny: Corpus, path: Path):
    report = RegressionSet(path, tiny).check(advanced(tiny).retriever, K)
    assert report.failed == (), f"\n{report}"
    assert report.stale == (), f"\n{report}"
    assert path != OURS or len(report.passed) >= 3


@pytest.mark.parametrize("path", SETS)
def test_nor_with_more_documents_around_it(stored_core: Corpus, path: Path):
    report = RegressionSet(path, stored_core).check(advanced(stored_core).retriever, K)
    assert report.failed == (), f"\n{report}"
    assert report.stale == (), f"\n{report}"


def test_our_set_is_one_that_naive_fails(stored_core: Corpus):
    """Else it would show nothing."""
    report = RegressionSet(OURS, stored_core).check(naive(stored_core).retriever, K)
    assert len(report.passed) <= 1, f"\n{report}"
    assert report.elsewhere == 0
    assert len(report.rows) >= 5


def test_every_question_of_ours_is_one_that_we_wrote(core: Corpus):
    """Texts from fetched pages are not committed: an FAQ's questions may be flagged, but stay on this machine."""
    asked = {question.text for question in core.questions}
    ours = RegressionSet(OURS, core).questions
    assert ours
    assert [question.text for question in ours if question.text in asked] == []


def test_a_set_that_was_cut_says_so(core: Corpus, tmp_path: Path):
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(OURS.read_bytes()[:-20])
    with pytest.raises(CorpusError, match=r"cut\.jsonl, line \d+: not a confirmed question"):
        _ = RegressionSet(cut, core).questions

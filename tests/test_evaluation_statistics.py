"""Are the statistics honest? Simulated comparisons with a known truth, and the formulas against plain algebra.

The simulated differences look like differences of reciprocal ranks: half of them 0, the others anywhere up to
1, symmetric or leaning to one side, alike within a document by a known intraclass correlation.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import InputError
from ragkit.evaluation import statistics as s
from ragkit.evaluation.compare import verdict

VALUES = np.array([-1, -0.9, -0.67, -0.5, -0.25, -0.1, 0, 0.1, 0.25, 0.5, 0.67, 0.9, 1])
SYMMETRIC = np.array([6, 2, 2, 5, 5, 5, 50, 5, 5, 5, 2, 2, 6]) / 100
LEANING = np.array([1, 0, 1, 2, 3, 3, 50, 6, 8, 8, 4, 4, 10]) / 100

FAQ = (45, 34, 16, 15, 12)  # the questions of the core corpus: five FAQ pages
EIGHT = (40, 25, 15, 12, 10, 8, 4, 3)
TWELVE = (30, 20, 15, 10, 10, 8, 7, 6, 5, 3, 2, 1)
FORTY = tuple(np.clip(np.random.default_rng(0).geometric(1 / 4, 40), 1, 20).tolist())
MIXED = (*FAQ, *([1, 2, 3] * 15))  # the FAQ pages and single questions about many more


def simulate(
    sizes: tuple[int, ...], icc: float, chances: np.ndarray, tries: int, seed: int
) -> tuple[np.ndarray, list[int], float]:
    """Differences ``(questions, tries)``, the document of each question, and the true mean difference."""
    rng = np.random.default_rng(seed)
    documents = np.repeat(np.arange(len(sizes)), sizes)
    shared = rng.standard_normal((len(sizes), tries))[documents]
    latent = np.sqrt(icc) * shared + np.sqrt(1 - icc) * rng.standard_normal((len(documents), tries))
    cuts = [NormalDist().inv_cdf(p) for p in np.cumsum(chances)[:-1]]
    return VALUES[np.searchsorted(cuts, latent)], documents.tolist(), float(VALUES @ chances)


@pytest.mark.parametrize("chances", [SYMMETRIC, LEANING], ids=["symmetric", "leaning"])
@pytest.mark.parametrize("icc", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("sizes", [FAQ, EIGHT, TWELVE, FORTY, MIXED], ids=lambda sizes: f"{len(sizes)}documents")
def test_the_interval_covers_the_truth_in_93_to_97_percent(
    sizes: tuple[int, ...], icc: float, chances: np.ndarray
) -> None:
    values, documents, truth = simulate(sizes, icc, chances, 1000, seed=len(sizes))
    # The interval holds what the test does not reject (next test), and asking the test is quicker.
    covered = np.mean(s.p_values(values - truth, documents, resamples=1999) >= 0.05)
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("sizes", [FAQ, TWELVE, FORTY, (1,) * 60])
def test_interval_and_p_value_never_contradict_each_other(sizes: tuple[int, ...]) -> None:
    values, documents, truth = simulate(sizes, 0.1, LEANING, 60, seed=1)
    for shift in (0.0, truth, 0.1, 0.2):
        found = s.estimate(values - shift, documents, resamples=999)
        outside = (found.low > 0) | (found.high < 0)
        assert (outside == (found.p < 0.05)).all()
        assert (found.low <= found.mean).all()
        assert (found.mean <= found.high).all()
        for bound in (found.low, found.high):
            # A hair inside the interval is not rejected, a hair outside is.
            step = 1e-6 * np.sign(found.mean - bound)
            inside = [s.p_values(values[:, [j]] - shift - bound[j] - step[j], documents, 999)[0] for j in range(5)]
            outer = [s.p_values(values[:, [j]] - shift - bound[j] + step[j], documents, 999)[0] for j in range(5)]
            assert min(inside) >= 0.05 > max(outer)


@pytest.mark.parametrize(("systems", "tries"), [(2, 1000), (10, 200)])
def test_systems_of_equal_quality_get_a_verdict_in_at_most_5_percent(systems: int, tries: int) -> None:
    """Reciprocal ranks of systems that share a question's difficulty and differ by luck only; ``tries`` in each of
    five settings. With many documents the test is exact, so that 1,000 tries of one setting err 36 to 64 times."""
    wrong = []
    for sizes in (FAQ, EIGHT, TWELVE, FORTY, MIXED):
        rng = np.random.default_rng(0)
        documents = np.repeat(np.arange(len(sizes)), sizes)
        difficulty = rng.standard_normal((len(documents), tries, 1))
        ranks = np.exp(1 + difficulty + rng.standard_normal((len(documents), tries, systems))).astype(int) + 1
        scores = np.where(ranks <= 10, 1 / ranks, 0)
        differences = (scores[..., 1:] - scores[..., :1]).reshape(len(documents), -1)
        p = s.p_values(differences, documents.tolist(), resamples=1999).reshape(tries, systems - 1)
        in_setting = [any(verdict(1, q) == "better" for q in s.holm(row)) for row in p]
        assert np.mean(in_setting) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tries)
        wrong += in_setting
    assert 0.01 <= np.mean(wrong) <= 0.05


def test_resampling_single_questions_would_be_dishonest_here() -> None:
    """Why documents: the same data, questions as units, and 5 % of false alarms become a third."""
    values, documents, truth = simulate(TWELVE, 0.3, SYMMETRIC, 500, seed=3)
    questions = list(range(len(documents)))
    assert np.mean(s.p_values(values - truth, questions, resamples=999) < 0.05) > 0.25
    assert np.mean(s.p_values(values - truth, documents, resamples=999) < 0.05) < 0.08


def test_identical_systems_are_never_told_apart() -> None:
    for sizes in (FAQ, FORTY):
        documents = np.repeat(np.arange(len(sizes)), sizes).tolist()
        found = s.estimate(np.zeros((len(documents), 2)), documents)
        assert found.p.tolist() == [1.0, 1.0]
        assert found.low.tolist() == found.high.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("sizes", [FAQ, FORTY])
def test_a_constant_difference_is_found_and_p_is_never_zero(sizes: tuple[int, ...]) -> None:
    documents = np.repeat(np.arange(len(sizes)), sizes).tolist()
    found = s.estimate(np.full((len(documents), 1), 0.25), documents, resamples=999)
    assert found.low[0] == pytest.approx(0.25)
    assert found.high[0] == pytest.approx(0.25)
    assert 1 / 1000 <= found.p[0] < 0.01


def test_sign_test_equals_enumerating_all_swaps() -> None:
    """12 documents have 4,096 swaps: the drawn p is close to the exact one, computed the long way."""
    values, documents, _ = simulate(TWELVE, 0.1, LEANING, 3, seed=8)
    codes, n = np.array(documents), len(documents)
    signs = np.array([[1 if number >> bit & 1 else -1 for bit in range(12)] for number in range(4096)])
    for j in range(3):

        def statistic(d: np.ndarray) -> float:
            residual = np.bincount(codes, weights=d - d.mean())
            return abs(d.mean()) / np.sqrt(np.sum(residual**2 / (1 - np.bincount(codes) / n))) * n

        chance = np.array([statistic(values[:, j] * row[codes]) for row in signs])
        exact = np.mean(chance >= statistic(values[:, j]) - 1e-9)
        drawn = s.p_values(values[:, [j]], documents)[0]
        assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999) + 1e-4)


@given(st.lists(st.integers(1, 9), min_size=3, max_size=8))
def test_standard_error_and_freedom_are_bell_and_mccaffreys(sizes: list[int]) -> None:
    """Against the matrices of the paper, for a regression on a constant."""
    documents = np.repeat(np.arange(len(sizes)), sizes)
    n = len(documents)
    d = np.random.default_rng(n).standard_normal(n)
    maker = np.eye(n) - np.full((n, n), 1 / n)
    vectors, variance = [], 0.0
    for c in range(len(sizes)):
        own = np.flatnonzero(documents == c)
        values, basis = np.linalg.eigh(maker[np.ix_(own, own)])
        half = basis @ np.diag(values**-0.5) @ basis.T
        vectors.append(maker[:, own] @ half @ np.ones(len(own)) / n)
        variance += float(vectors[-1] @ d) ** 2
    eigen = np.linalg.eigvalsh(np.stack(vectors) @ np.stack(vectors).T)
    share = np.bincount(documents) / n
    sums = np.bincount(documents, weights=d)[:, None] / n
    assert s.standard_error(sums, share)[0] == pytest.approx(np.sqrt(variance))
    assert s.freedom(share) == pytest.approx(eigen.sum() ** 2 / np.sum(eigen**2))


def test_ungrouped_questions_give_the_t_test() -> None:
    scipy = pytest.importorskip("scipy.stats")
    d = np.random.default_rng(0).normal(0.3, 1, 9)
    found = s.estimate(d[:, None], list("abcdefghi"))
    assert found.p[0] == pytest.approx(scipy.ttest_1samp(d, 0).pvalue)
    assert (found.low[0], found.high[0]) == pytest.approx(scipy.ttest_1samp(d, 0).confidence_interval())


@pytest.mark.parametrize(("sizes", "comparisons"), [(FAQ, 1), (FORTY, 1), (FORTY, 4)])
def test_the_minimum_detectable_difference_is_detected_8_times_in_10(sizes: tuple[int, ...], comparisons: int) -> None:
    values, documents, truth = simulate(sizes, 0.1, SYMMETRIC, 1000, seed=4)
    # The promise is about the typical data set: its error is the root mean square of the simulated ones.
    detectable = np.sqrt(np.mean(s.minimum_detectable(values, documents, comparisons=comparisons) ** 2))
    p = s.p_values(values - truth + detectable, documents, resamples=1999)
    assert 0.75 <= np.mean(p < 0.05 / comparisons) <= 0.88


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_what_rejecting_step_by_step_gives(p: list[float]) -> None:
    corrected = s.holm(p)
    rejected: set[int] = set()
    for i in sorted(range(len(p)), key=lambda i: p[i]):
        if p[i] * (len(p) - len(rejected)) >= 0.05:
            break
        rejected.add(i)
    assert {i for i, q in enumerate(corrected) if q < 0.05} == rejected
    assert (corrected >= np.array(p)).all()
    assert (corrected <= 1).all()


def test_probability_best_knows_a_winner_a_tie_and_a_doubt() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(200)
    documents = [i // 5 for i in range(200)]
    far = np.stack([base, base + 0.5, base], axis=1)
    assert s.probability_best(far, documents).tolist() == [0, 1, 0]
    assert s.probability_best(np.stack([base, base], axis=1), documents).tolist() == [0.5, 0.5]
    noisy = base[:, None] + rng.normal(0, 0.3, (200, 8))
    chance = s.probability_best(noisy, documents)
    assert chance.sum() == pytest.approx(1)
    assert chance.max() < 0.95


def test_resampled_means_move_as_much_as_the_standard_error_says() -> None:
    values, documents, _ = simulate(FORTY, 0.1, LEANING, 1, seed=2)
    spread = s.resampled_means(values, documents).std(axis=0)
    assert spread == pytest.approx(s.estimate(values, documents).error, rel=0.12)


def test_the_same_seed_gives_the_same_numbers_and_columns_do_not_mix() -> None:
    values, documents, _ = simulate(FORTY, 0.1, LEANING, 4, seed=2)
    one, two = s.estimate(values, documents), s.estimate(values[:, ::-1], documents)
    np.testing.assert_array_equal(one.p, two.p[::-1])
    np.testing.assert_array_equal(one.low, two.low[::-1])


def test_fewer_than_three_documents_make_the_questions_the_units() -> None:
    values = np.random.default_rng(1).normal(size=(30, 1))
    np.testing.assert_array_equal(s.estimate(values, ["a"] * 20 + ["b"] * 10).p, s.estimate(values, list(range(30))).p)


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([[1.0]], ["a"], "1 question"),
        ([[1.0], [float("nan")]], ["a", "b"], "NaN or infinite"),
        ([[1.0], [2.0]], ["a"], "expected \\(questions, systems\\)"),
        ([1.0, 2.0], ["a", "b"], "expected \\(questions, systems\\)"),
    ],
)
def test_unusable_values_are_refused(values: list, clusters: list[str], message: str) -> None:
    for function in (s.estimate, s.p_values, s.minimum_detectable, s.probability_best):
        with pytest.raises(InputError, match=message):
            function(values, clusters)

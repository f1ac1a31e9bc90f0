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
from scipy.stats import mannwhitneyu

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
    covered = np.mean(s.p_values(values - truth, documents, resamples=1999, simultaneous=False) >= 0.05)
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("sizes", [FAQ, TWELVE, FORTY, (1,) * 60])
def test_interval_and_p_value_never_contradict_each_other(sizes: tuple[int, ...]) -> None:
    values, documents, truth = simulate(sizes, 0.1, LEANING, 60, seed=1)
    for shift in (0.0, truth, 0.1, 0.2):
        for columns in (values[:, :5], *(values[:, [j]] for j in range(60))):
            found = s.estimate(columns - shift, documents, resamples=999)
            assert (((found.low > 0) | (found.high < 0)) == (found.p < 0.05)).all()
            assert (found.low <= found.mean).all()
            assert (found.mean <= found.high).all()
            np.testing.assert_array_equal(found.p, s.p_values(columns - shift, documents, resamples=999))


@pytest.mark.parametrize("sizes", [FAQ, TWELVE, FORTY, (1,) * 60])
@pytest.mark.parametrize("columns", [1, 4])
def test_a_hair_inside_the_interval_is_not_rejected_and_a_hair_outside_is(sizes: tuple[int, ...], columns: int) -> None:
    """The other columns stay where they are: that is the test which the interval of one of them turns round."""
    values, documents, _ = simulate(sizes, 0.1, LEANING, columns, seed=1)
    found = s.estimate(values, documents, resamples=999)
    for j in range(columns):
        for bound in (found.low[j], found.high[j]):
            hair = 1e-6 * np.sign(found.mean[j] - bound)
            for beyond, rejected in ((hair, False), (-hair, True)):
                moved = values - (bound + beyond) * (np.arange(columns) == j)
                assert (s.p_values(moved, documents, resamples=999)[j] < 0.05) == rejected


@st.composite
def matrices(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """Differences of one to five columns over three to thirty documents: ties, zeros, floats, effects of any size."""
    documents = draw(st.lists(st.integers(0, 29), min_size=3, max_size=50)) + draw(st.sampled_from([[], [*range(30)]]))
    score = st.sampled_from([-1.0, -0.5, -1 / 3, 0.0, 0.0, 0.1, 1 / 3, 1.0]) | st.floats(-1, 1)
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    kinds = {
        "zero": lambda: np.zeros(len(documents)),
        "rounding": lambda: np.full(len(documents), 0.1 + 0.2 - 0.3),
        "constant": lambda: np.full(len(documents), draw(score)),
        "one question": lambda: draw(score) * (np.arange(len(documents)) == 0),
        "ties": lambda: rng.choice([-1, 0, 0, 0, 0.5, 1], len(documents)),
        "effect": lambda: rng.normal(draw(score), draw(st.sampled_from([0.01, 0.3, 1.0])), len(documents)),
    }
    columns = [kinds[kind]() for kind in draw(st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=5))]
    return np.stack(columns, axis=1), documents


@given(matrices())
def test_the_verdict_is_a_difference_if_and_only_if_0_lies_outside_the_bracket(data: tuple) -> None:
    values, documents = data
    found = s.estimate(values, documents, resamples=199)
    words = [verdict(d, p) for d, p in zip(found.mean, found.p, strict=True)]
    assert words == [
        "better" if low > 0 else "worse" if high < 0 else "no detectable difference"
        for low, high in zip(found.low, found.high, strict=True)
    ]
    assert (found.low <= found.mean + 1e-12).all()
    assert (found.mean <= found.high + 1e-12).all()
    # Comparing more systems never makes a verdict easier to get, and a system like the baseline is no comparison.
    assert (found.p >= s.p_values(values, documents, resamples=199, simultaneous=False) - 1e-12).all()
    more = s.estimate(np.column_stack([values, np.zeros(len(values))]), documents, resamples=199)
    np.testing.assert_allclose(more.p[:-1], found.p, rtol=1e-9)
    np.testing.assert_allclose(more.low[:-1], found.low, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("sizes", [FAQ, TWELVE, FORTY], ids=lambda sizes: f"{len(sizes)}documents")
def test_three_comparisons_err_together_in_5_percent_and_their_intervals_hold_together(sizes: tuple[int, ...]) -> None:
    """Three systems and one baseline: a table of equal systems shows a difference in 5 %, and whatever the true
    differences are, all three intervals hold theirs in 95 %, or a few more where one difference is large. (An interval
    holds what is not rejected, as above.)"""
    tries, rng, truth = 600, np.random.default_rng(5), np.array([0.0, 0.2, -1.0])
    documents = np.repeat(np.arange(len(sizes)), sizes).tolist()
    scores = rng.standard_normal((tries, len(documents), 4))
    scores += 0.3 * rng.standard_normal((tries, len(sizes), 4))[:, documents]
    wrong, held = 0, 0
    for noise in scores[..., 1:] - scores[..., :1]:
        wrong += bool((s.p_values(noise, documents, resamples=299) < 0.05).any())
        asked = (s.p_values(noise + truth * (np.arange(3) != j), documents, resamples=299)[j] for j in range(3))
        held += all(p >= 0.05 for p in asked)
    # Bonferroni, below FEW documents, is on the safe side where columns resemble each other.
    assert (0.02 if len(sizes) < s.FEW else 0.03) <= wrong / tries <= 0.07
    assert 0.93 <= held / tries <= 0.985


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
        differences = np.moveaxis(scores[..., 1:] - scores[..., :1], 1, 0)
        p = [s.p_values(table, documents.tolist(), resamples=999) for table in differences]
        in_setting = [bool((row < 0.05).any()) for row in p]
        assert np.mean(in_setting) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tries)
        wrong += in_setting
    assert 0.01 <= np.mean(wrong) <= 0.05


def test_resampling_single_questions_would_be_dishonest_here() -> None:
    """Why documents: the same data, questions as units, and 5 % of false alarms become a third."""
    values, documents, truth = simulate(TWELVE, 0.3, SYMMETRIC, 500, seed=3)
    questions = list(range(len(documents)))
    assert np.mean(s.p_values(values - truth, questions, resamples=999, simultaneous=False) < 0.05) > 0.25
    assert np.mean(s.p_values(values - truth, documents, resamples=999, simultaneous=False) < 0.05) < 0.08


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
    p = s.p_values(values - truth + detectable, documents, resamples=1999, simultaneous=False)
    assert 0.75 <= np.mean(p < 0.05 / comparisons) <= 0.88


@pytest.mark.parametrize("icc", [0.0, 0.3])
@pytest.mark.parametrize("rate", [0.95, 0.5])
@pytest.mark.parametrize("sizes", [(1,) * 8, (5,) * 8, EIGHT, (1,) * 40, FORTY], ids=lambda z: f"{len(z)}of{sum(z)}")
def test_the_interval_of_a_level_covers_the_truth(sizes: tuple[int, ...], rate: float, icc: float) -> None:
    """Yes/no answers, alike within a document: near 1, too, where the interval of ``estimate`` holds a third."""
    tries, rng = 1000, np.random.default_rng(len(sizes))
    documents = np.repeat(np.arange(len(sizes)), sizes)
    latent = np.sqrt(icc) * rng.standard_normal((len(sizes), tries))[documents]
    latent += np.sqrt(1 - icc) * rng.standard_normal((len(documents), tries))
    found = s.level(latent < NormalDist().inv_cdf(rate), documents.tolist())
    assert np.mean((found.low <= rate) & (rate <= found.high)) >= 0.93
    # It says something, too: no wider than the exact interval of as many answers as there are documents.
    widest = s.level(np.eye(len(sizes))[:, : len(sizes) // 2].sum(axis=1)[:, None], [*range(len(sizes))])
    assert np.mean(found.high - found.low) <= (widest.high - widest.low)[0]


def test_the_level_of_single_questions_is_clopper_and_pearsons_interval() -> None:
    scipy = pytest.importorskip("scipy.stats")
    for right in range(21):
        found = s.level([[float(i < right)] for i in range(20)], [*range(20)])
        # One of the twenty is spent on the mean.
        counted = 20 if right in (0, 20) else 19
        low = scipy.beta.ppf(0.025, right / 20 * counted, (1 - right / 20) * counted + 1) if right else 0
        high = scipy.beta.ppf(0.975, right / 20 * counted + 1, (1 - right / 20) * counted) if right < 20 else 1
        assert (found.low[0], found.high[0]) == (pytest.approx(low), pytest.approx(high))
    exact = scipy.binomtest(20, 20).proportion_ci()
    assert s.level([[1.0]] * 20, [*range(20)]).low[0] == pytest.approx(exact.low)


def test_questions_about_one_document_are_worth_less_than_questions_about_many() -> None:
    right = [1.0] * 30 + [0.0] * 10
    together, apart = (
        s.level([[x] for x in right], [i // 5 for i in range(40)]),
        s.level([[x] for x in right], range(40)),
    )
    assert together.low[0] < apart.low[0] - 0.1
    # Where all questions are answered, each document counts once, however many questions it has.
    assert s.level([[1.0]] * 40, [i // 5 for i in range(40)]).low[0] == s.level([[1.0]] * 8, range(8)).low[0]


@given(st.lists(st.tuples(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), st.integers(0, 9)), min_size=2, max_size=40))
def test_a_level_lies_between_0_and_1_and_is_never_certain(rows: list[tuple[float, int]]) -> None:
    found = s.level([[score] for score, _ in rows], [document for _, document in rows])
    assert 0 <= found.low[0] <= found.mean[0] <= found.high[0] <= 1
    assert found.high[0] - found.low[0] > 0.05
    assert found.mean[0] == pytest.approx(np.mean([score for score, _ in rows]))


@pytest.mark.parametrize("score", [-0.1, 1.1])
def test_a_level_outside_0_and_1_is_refused(score: float) -> None:
    with pytest.raises(InputError, match=f"a score is {score}: expected 0 to 1"):
        s.level([[score], [0.5]], ["a", "b"])
    assert s.level([[1 + 1e-7], [1.0]], ["a", "b"]).mean[0] == 1


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
    ("values", "clusters"),
    [([[1.0]], ["a"]), ([[1.0], [float("nan")]], ["a", "b"]), ([[1.0], [2.0]], ["a"]), ([1.0, 2.0], ["a", "b"])],
    ids=["one", "nan", "lengths", "one dimension"],
)
def test_unusable_values_are_refused(values: list, clusters: list[str]) -> None:
    for function in (s.estimate, s.p_values, s.level, s.minimum_detectable, s.probability_best):
        with pytest.raises(InputError, match="expected finite scores"):
            function(values, clusters)


def test_a_block_of_signs_more_or_less_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signs of thousands of questions are drawn in parts, or they would fill the memory."""
    rng = np.random.default_rng(3)
    values, documents = rng.normal(0.1, 1, (60, 3)), [i // 3 for i in range(60)]
    whole = s.estimate(values, documents)
    monkeypatch.setattr(s, "_BLOCK", 1_000)
    drawn = [len(signs) for signs in s._signs(9_999, 20, 0)]
    assert (max(drawn), sum(drawn)) == (50, 9_999)
    parts = s.estimate(values, documents)
    for one, other in ((whole.low, parts.low), (whole.high, parts.high), (whole.p, parts.p)):
        np.testing.assert_allclose(one, other, rtol=1e-9)


# ---- shares and AUROC


def test_wilson_against_known_values_and_by_simulation() -> None:
    assert s.wilson(10, 10) == (pytest.approx(0.722, abs=1e-3), 1.0)
    assert s.wilson(5, 10) == pytest.approx((0.237, 0.763), abs=1e-3)
    dice = np.random.default_rng(5)
    for share in (0.03, 0.2, 0.7):
        followed = dice.binomial(100, share, 4000)
        bounds = np.array([s.wilson(n, 100) for n in range(101)])[followed]
        assert ((bounds[:, 0] <= share) & (share <= bounds[:, 1])).mean() > 0.93
    with pytest.raises(InputError, match="expected 0 <= successes"):
        s.wilson(3, 2)


SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=20)


@given(SCORES, SCORES)
def test_auroc_is_the_u_statistic(high: list[float], low: list[float]) -> None:
    expected = mannwhitneyu(high, low).statistic / (len(high) * len(low))
    assert s.auroc(high, low) == pytest.approx(expected)
    assert s.auroc(low, high) == pytest.approx(1 - expected)


def test_auroc_needs_both() -> None:
    with pytest.raises(InputError, match="expected some of both"):
        s.auroc([1.0], [])


def test_the_interval_of_an_auroc_is_the_cluster_bootstraps() -> None:
    """Against drawing the clusters one by one; and it grows with the likeness of a cluster's scores."""
    rng = np.random.default_rng(1)
    labels, noise = np.tile([True, False], 60), rng.normal(size=120)
    alone, documents = [str(i) for i in range(120)], [str(i // 12) for i in range(120)]
    shared = noise + np.where(labels, 1.0, 0.0) * np.repeat(rng.normal(1, 2, 10), 12)
    drawn = []
    for _ in range(2_000):
        take = np.concatenate([np.arange(12) + 12 * i for i in rng.integers(0, 10, 10)])
        drawn.append(s.auroc(shared[take][labels[take]], shared[take][~labels[take]]))
    of_documents = s.auroc_interval(shared, labels, documents)
    assert of_documents == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist(), abs=0.03)
    assert np.diff(of_documents)[0] > 1.2 * np.diff(s.auroc_interval(shared, labels, alone))[0]
    low, high = s.auroc_interval(noise + labels, labels, alone)
    assert low < s.auroc((noise + labels)[labels], noise[~labels]) < high

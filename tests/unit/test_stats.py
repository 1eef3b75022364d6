"""Statistics against values by hand, a bootstrap, and simulated tables without an effect."""

import math

import numpy as np
import pytest
import scipy
from scipy.stats import kstest, sem, spearmanr

from langheads import stats
from langheads.experiments.specificity.diagonal import diagonal, diagonal_test
from langheads.stats import paired_ratio


def test_ratio_by_hand():
    # Rises 1, 3 over 2, 4 bytes: 4/6 nats per byte; residuals -1/3, 1/3.
    rise, error = paired_ratio(np.array([5.0, 2.0]), np.array([6.0, 5.0]), np.array([2, 4]))
    assert rise == pytest.approx(4 / 6)
    assert error == pytest.approx(math.sqrt(2 * (1 / 9 + 1 / 9)) / 6)


def test_a_rise_in_proportion_to_the_size_has_no_error():
    size = np.array([3, 50, 700])
    rise, error = paired_ratio(np.ones(3), np.ones(3) + 0.25 * size, size)
    assert rise == pytest.approx(0.25)
    assert error == pytest.approx(0.0, abs=1e-12)


def test_one_document_has_no_error():
    rise, error = paired_ratio(np.array([1.0]), np.array([0.0]), np.array([4]))
    assert rise == -0.25
    assert math.isnan(error)


def test_the_error_is_that_of_the_bootstrap():
    rng = np.random.default_rng(0)
    size = rng.integers(50, 400, size=150)
    on = rng.normal(3.0, 0.5, size=150) * size
    off = on + rng.normal(0.2, 0.6, size=150) * size + rng.normal(0, 5, size=150)
    rise, error = paired_ratio(on, off, size)
    drawn = rng.integers(150, size=(4000, 150))
    bootstrap = (off - on)[drawn].sum(axis=1) / size[drawn].sum(axis=1)
    assert rise == pytest.approx(bootstrap.mean(), abs=4 * error / math.sqrt(4000) + 1e-3)
    assert error == pytest.approx(bootstrap.std(), rel=0.05)


def test_diagonal_by_hand():
    matrix = np.array([[0.5, 0.1, 0.3], [0.2, 0.2, 0.1], [0.0, 0.4, 0.1]])
    share, margin = diagonal(matrix, own=[0, 1, 2])
    # Only the first row is strictly ahead; margins 0.3, 0.05, -0.1.
    assert share == pytest.approx(1 / 3)
    assert margin == pytest.approx(0.25 / 3)


def test_rows_may_stand_for_any_columns():
    matrix = np.array([[0.1, 0.5, 0.3], [0.2, 0.1, 0.9]])
    assert diagonal(matrix, own=[1, 2]) == (1.0, pytest.approx((0.3 + 0.75) / 2))
    assert diagonal(matrix, own=[0, 1])[0] == 0.0
    np.testing.assert_array_equal(matrix, [[0.1, 0.5, 0.3], [0.2, 0.1, 0.9]])


def simulated_table(rng, languages=5, controls=99):
    """Rises under random heads: some texts suffer more than others from anything."""

    def rises(n):
        return rng.gamma(1.0, 0.1, size=(n, 1)) * (1 + np.arange(languages)) + rng.normal(
            0, 0.1, size=(n, languages)
        )

    return rises(languages), np.array([rises(controls) for _ in range(languages)])


def test_p_is_uniform_without_an_effect():
    rng = np.random.default_rng(0)
    share_p, margin_p = [], []
    for _ in range(200):
        matrix, controls = simulated_table(rng)
        found = diagonal_test(matrix, range(5), controls, rng=rng)
        share_p.append(found["share_p"])
        margin_p.append(found["margin_p"])
    assert kstest(margin_p, "uniform").pvalue > 0.01
    # The share has few values, so its p is at least as large as a uniform one.
    assert np.mean(np.array(share_p) <= 0.05) <= 0.09
    assert np.mean(share_p) > 0.5


def test_p_is_small_for_a_planted_diagonal():
    rng = np.random.default_rng(1)
    matrix, controls = simulated_table(rng, controls=999)
    found = diagonal_test(matrix + 2 * np.eye(5), range(5), controls, rng=rng)
    assert found["share"] == 1.0
    assert found["margin"] == pytest.approx(diagonal(matrix, range(5))[1] + 2)
    assert found["share_p"] < 0.01
    assert found["margin_p"] == 1 / 1000


def test_p_is_one_for_a_diagonal_that_is_spared():
    rng = np.random.default_rng(1)
    matrix, controls = simulated_table(rng)
    found = diagonal_test(matrix - 2 * np.eye(5), range(5), controls, rng=rng)
    assert found["share"] == 0.0
    assert found["share_p"] == found["margin_p"] == 1.0


def test_p_of_one_row_is_counted_by_hand():
    # Margins of the controls: 3 reach the 0.5 of the row, one of them by being equal; own text
    # is hurt most in 4.
    margins = np.array([0.9, 0.6, 0.5, 0.4, -0.1, -0.2, -0.3, -0.4, -0.5])
    controls = np.stack([margins, np.zeros(9), np.zeros(9)], axis=1)[None]
    matrix = np.array([[0.5, 0.0, 0.0]])
    found = diagonal_test(matrix, [0], controls, rng=np.random.default_rng(0))
    assert found == {
        "share": 1.0,
        "share_p": pytest.approx(5 / 10),
        "margin": 0.5,
        "margin_p": pytest.approx(4 / 10),
        "draws": 9,
    }


def test_an_equal_table_reaches_it_whatever_the_rounding():
    matrix = np.array([[0.1 + 0.2, 0.1], [0.0, 0.7]])
    controls = np.repeat(np.array([[0.3, 0.1], [0.0, 0.7]])[:, None], 20, axis=1)
    found = diagonal_test(matrix, [0, 1], controls, rng=np.random.default_rng(0))
    assert found["share_p"] == found["margin_p"] == 1.0


def test_rows_draw_apart_from_the_same_sets():
    # Two sets, each bad for one text: drawn apart, a quarter of the tables has both on the
    # diagonal; drawn together, none would, since a table's rows would then be equal.
    pool = np.tile(np.eye(2), (300, 1))
    found = diagonal_test(np.eye(2), [0, 1], np.stack([pool, pool]), rng=np.random.default_rng(0))
    assert found["share_p"] == pytest.approx(0.25, abs=0.05)


def test_one_language_has_nothing_to_compare_with():
    found = diagonal_test(np.array([[0.3]]), [0], np.zeros((1, 5, 1)), rng=np.random.default_rng(0))
    assert list(found) == ["share", "share_p", "margin", "margin_p", "draws"]
    assert all(math.isnan(value) for value in found.values())


def test_the_same_generator_gives_the_same_p():
    matrix, controls = simulated_table(np.random.default_rng(2))
    p = [
        diagonal_test(matrix, range(5), controls, rng=np.random.default_rng(seed))
        for seed in (0, 0, 1)
    ]
    assert p[0] == p[1]
    assert p[0] != p[2]


def test_units_beside_each_other_are_as_one_by_one_of_the_same_draws():
    rng = np.random.default_rng(0)
    matrix, controls = rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 3, 4, 3))
    controls[:, 0, 3:] = np.nan
    found = diagonal_test(matrix, range(3), controls, rng=np.random.default_rng(1))
    for unit in range(2):
        alone = diagonal_test(matrix[unit], range(3), controls[unit], rng=np.random.default_rng(1))
        assert {name: value[unit] for name, value in found.items()} == alone
    assert found["draws"].tolist() == [99, 99]


def test_conditions_beside_each_other_are_as_one_by_one():
    rng = np.random.default_rng(0)
    size, on, off = rng.integers(5, 90, 7), rng.normal(size=7), rng.normal(size=(7, 2, 3))
    rises, errors = paired_ratio(on, off, size)
    assert rises.shape == errors.shape == (2, 3)
    for at in np.ndindex(2, 3):
        alone = paired_ratio(on, off[(slice(None), *at)], size)
        np.testing.assert_allclose((rises[at], errors[at]), alone)


def test_rankings_against_scipy_and_by_hand():
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 4, 6))
    expected = spearmanr(a.ravel(), b.ravel()).statistic
    assert stats.rank_correlation(a, b) == pytest.approx(expected)
    near = a + 0.1 * b
    r = spearmanr(a.ravel(), near.ravel()).statistic
    assert stats.split_half(a, near) == pytest.approx(2 * r / (1 + r))
    assert np.isnan(stats.rank_correlation(np.ones(4), np.arange(4.0)))
    assert np.isnan(stats.rank_correlation(np.arange(4.0), np.ones(4)))
    assert stats.rank_correlation(np.array([1.0, 2.0]), np.array([5.0, 4.0])) == -1
    # Sums in another order are no other correlation: 27 / 28 and 54 / 55, to twelve digits.
    seven, swapped = np.arange(7.0), np.array([1.0, 0, 2, 3, 4, 5, 6])
    assert stats.rank_correlation(seven, swapped) == 0.964285714286
    assert stats.split_half(seven, swapped) == 0.981818181818
    # Halves that disagree are no better together.
    assert stats.split_half(seven, swapped[::-1]) == -0.964285714286
    # A head that was not measured is left out.
    gap = b.copy()
    gap[0, 0] = np.nan
    rest = spearmanr(a.ravel()[1:], b.ravel()[1:]).statistic
    assert stats.rank_correlation(a, gap) == pytest.approx(rest)


def test_precision_of_a_ranking():
    score = np.array([[0.9, 0.1], [0.5, 0.7]])
    relevant = np.array([[True, True], [False, False]])
    # Falling: (0,0) relevant, (1,1) not, (1,0) not, (0,1) relevant.
    assert stats.precision(score, relevant) == 0.5
    assert stats.average_precision(score, relevant) == pytest.approx((1 + 2 / 4) / 2)
    assert stats.precision(score, ~relevant) == 0.5
    best = score > 0.6
    assert stats.precision(score, best) == stats.average_precision(score, best) == 1
    assert np.isnan(stats.precision(score, np.zeros((2, 2), bool)))
    assert np.isnan(stats.average_precision(score, np.zeros((2, 2), bool)))


def test_overlap_of_languages():
    maps = {
        "en": np.array([[4.0, 3.0], [2.0, 1.0]]),
        "de": np.array([[8.0, 6.0], [4.0, 2.0]]),
        "zh": np.array([[1.0, 2.0], [3.0, 4.0]]),
    }
    correlation, shared = stats.rank_overlap(maps, top=2)
    np.testing.assert_allclose(correlation, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    np.testing.assert_allclose(shared, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    # A head without a score is on no list.
    one = {"en": np.array([[5.0, np.nan, np.nan]]), "zh": np.array([[np.nan, 5.0, np.nan]])}
    np.testing.assert_allclose(stats.rank_overlap(one, top=2)[1], np.eye(2))
    nobody = {"en": np.full((1, 3), np.nan)}
    assert stats.rank_overlap(nobody, top=2)[1].item() == 0
    # Halves that disagree stay as they are.
    assert stats.split_half(np.arange(4.0), -np.arange(4.0)) == -1


def test_bootstrap_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for i in range(200):
        rows = rng.normal(size=(40, 2))
        low, high = stats.bootstrap_interval(rows, n_resamples=200, seed=i)
        covered += int(((low < 0) & (high > 0)).sum())
    assert 0.88 < covered / 400 < 0.98


@pytest.mark.parametrize("skewed", [False, True])
def test_bootstrap_interval_is_that_of_scipy_or_of_t_whichever_is_wider(skewed):
    rng = np.random.default_rng(1)
    rows = rng.lognormal(0, 2, 40) if skewed else np.array([1.0, 2.0])
    drawn = scipy.stats.bootstrap(
        (rows,), np.mean, n_resamples=500, confidence_level=0.9, method="percentile",
        rng=np.random.default_rng(3),
    )  # fmt: skip
    n, ends = len(rows), drawn.confidence_interval
    reach = scipy.stats.t.ppf(0.95, n - 1) * np.sqrt(n / (n - 1)) * drawn.standard_error
    low, high = stats.bootstrap_interval(rows, n_resamples=500, alpha=0.1, seed=3)
    np.testing.assert_allclose(low, min(ends.low, rows.mean() - reach))
    np.testing.assert_allclose(high, max(ends.high, rows.mean() + reach))
    assert (ends.high > rows.mean() + reach) == skewed


def test_rows_in_proportion_to_their_sizes_have_no_width():
    """Each document is drawn with its own size."""
    sizes = np.array([1.0, 5, 20, 3])
    np.testing.assert_allclose(stats.bootstrap_interval(0.25 * sizes, sizes), 0.25)


def test_permutation_p_is_counted_by_hand():
    observed = np.array([[1.0, np.nan], [0.3, 2.0]])
    null = np.array([[[1.0, 1.0], [np.nan, 1.0]], [[0.5, 1.0], [0.1 + 0.2, 3.0]]])
    # One of two reaches 1; one that is not NaN, equal but for rounding, reaches 0.3; one of two, 2.
    expected = [[2 / 3, np.nan], [1.0, 2 / 3]]
    np.testing.assert_array_equal(stats.permutation_p(observed, null), expected)
    assert stats.permutation_p(np.array([1.0]), np.empty((0, 1))).item() == 1.0
    # What is below by as much as sums round reaches it.
    below = np.array([[-1e-12], [-2e-12]])
    assert stats.permutation_p(np.array([0.0]), below).item() == 2 / 3


def test_standard_error_is_that_of_scipy():
    rows = np.random.default_rng(0).normal(size=(9, 2, 3))
    np.testing.assert_allclose(stats.standard_error(rows), sem(rows, axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats.standard_error(rows, axis=2), sem(rows, axis=2), rtol=1e-12)
    np.testing.assert_allclose(stats.standard_error(rows[:2]), abs(rows[0] - rows[1]) / 2)
    assert np.isnan(stats.standard_error(rows[:1])).all()


def test_weighted_bootstrap_spreads_as_the_standard_error():
    rows = np.random.default_rng(0).normal(size=60)
    weights = stats.bootstrap_weights(60, 4000, np.random.default_rng(1))
    assert (weights.sum(axis=1) == 60).all()
    means = weights @ rows / 60
    assert means.std() == pytest.approx(stats.standard_error(rows).item(), rel=0.06)
    low, high = stats.percentile_interval(np.stack([means, np.full(4000, np.nan)], axis=1), 0.1)
    np.testing.assert_array_equal([low[0], high[0]], np.quantile(means, [0.05, 0.95]))
    assert np.isnan([low[1], high[1]]).all()


def test_clusters_that_repeat_each_example_change_no_error_and_no_interval():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 3))
    names = [f"context {i}" for i in range(40)]
    sums, sizes = stats.cluster_sums(np.repeat(rows, 5, axis=0), np.repeat(names, 5).tolist())
    _, se = stats.paired_ratio(0 * sizes, sums, sizes)
    np.testing.assert_allclose(se, rows.std(axis=0, ddof=1) / np.sqrt(40))
    for found, alone in zip(
        stats.bootstrap_interval(sums, sizes), stats.bootstrap_interval(rows), strict=True
    ):
        np.testing.assert_allclose(found, alone)


@pytest.mark.parametrize("count", [5, 12, 40])
def test_bootstrap_intervals_cover_as_stated_however_few_the_documents(count):
    """Of 800 means of normal documents, and of skewed ones where there are 12 and more."""
    rng = np.random.default_rng(count)
    drawn = [(rng.normal(size=(count, 800)), 0.0)]
    if count >= 12:
        drawn.append((rng.gamma(2.0, size=(count, 800)), 2.0))
    for rows, truth in drawn:
        low, high = stats.bootstrap_interval(rows, n_resamples=500)
        covered = np.mean((low <= truth) & (truth <= high))
        print(count, truth, covered)
        assert covered >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 800) - (0.02 if truth else 0)
        assert covered <= 0.985

"""The estimator of sampled knock-out: by hand, on made-up populations whose truth is known."""

import logging

import numpy as np
import pytest
import torch
from scipy import special
from scipy.optimize import brentq
from scipy.stats import t

from langheads import stats
from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.scores import sampled_knockout
from langheads.scores.sampled_knockout import (
    Estimate,
    _inverse_trigamma,
    draw,
    estimate,
    first_order,
    forwards,
    moderated,
    sample_sizes,
)
from langheads.text import Documents


def documents(**counts):
    row = torch.tensor([1, 2, 3])
    return {name: Documents.of_rows(name, [row] * count) for name, count in counts.items()}


def population(rng, n_docs=200, n_heads=60, curvature=0.3):
    """Heavy tails: a few large documents, heads of unlike size, rises that bend away from x."""
    document = rng.lognormal(0, 0.5, (n_docs, 1))
    head = rng.lognormal(0, 1.5, n_heads)
    x = rng.standard_t(4, (n_docs, n_heads)) * document
    rise = x + curvature * x**2 / (1 + np.abs(x)) + 0.2 * rng.standard_t(4, x.shape) * document
    return head * x, head * rise


def test_one_head_by_hand():
    x = np.array([[9.0], [0], [1], [2], [3]])
    rise = np.array([[np.nan], [0], [1], [1], [4]])
    found = estimate(rise, x, np.array([1, 2, 3, 4]))
    # Line through (1.5, 1.5) with slope 6 / 5, at the mean of all, 3: 3.3, for five documents.
    np.testing.assert_allclose(found.total, 5 * 3.3)
    np.testing.assert_allclose(found.rise[:, 0], [1.5 + 1.2 * 7.5, 0, 1, 1, 4])
    # Every residual from a line that was fitted without the document.
    xs, ys = x[1:, 0], rise[1:, 0]
    variance = 0.0
    for i in range(4):
        others = np.arange(4) != i
        left_out = ys[i] - np.polyval(np.polyfit(xs[others], ys[others], 1), xs[i])
        weight = np.polyval(np.polyfit(xs, np.eye(4)[i], 1), 3.0)
        variance += (weight * left_out) ** 2
    missed = np.var([0, 1, 2, 3, 9]) / np.var([0, 1, 2, 3])
    error = 5 * np.sqrt(variance * (1 - 4 / 5) * missed)
    np.testing.assert_allclose(found.error, error)
    np.testing.assert_allclose(found.width, 4.302653 * error, rtol=1e-6)  # t, 2 degrees of freedom
    # Residuals .3, .1, -1.1 and .7 stand for the one document that was not run.
    np.testing.assert_allclose(found.scatter, 1.8 / 2)


def test_a_rise_a_byte_by_hand():
    """Three documents of 1, 2 and 3 bytes, which lie on a line but for what scatters about it."""
    rise = np.array([[1.0], [2.0], [3.0]])
    found = Estimate(*(np.array([value]) for value in (6.0, 2.0, 3.0)), rise, np.array([4.0]))
    per = found.per(np.array([1, 2, 3]))
    expected = (1, np.sqrt(3 / 2 * 4 + 2**2) / 6, 1 - 3 / 6, 1 + 3 / 6)
    np.testing.assert_allclose(np.ravel(per), expected)
    found = Estimate(*(np.array([value]) for value in (3.0, 2.0, 3.0)), rise[:2], np.array([4.0]))
    np.testing.assert_allclose(found.per(np.array([1, 2]))[1], np.sqrt(2 / 1 * 4 + 2**2) / 3)


def moderated_by_hand(variance, df, spread):
    """Smyth 2004, with scipy's root finder, and numpy's line."""
    log, at = np.log(variance), np.log(spread)
    trend = np.polyval(np.polyfit(at, log, 1), at)
    scatter = ((log - trend) ** 2).sum() / (len(log) - 2)
    more = max(scatter - special.polygamma(1, df / 2), 1e-3)
    prior_df = 2 * brentq(lambda y: special.polygamma(1, y) - more, 1e-3, 1e6, xtol=1e-12)
    # The mean of a log-normal; log variances are below by the bias of so many degrees of freedom.
    prior = np.exp(trend + min(more, 2) / 2) * (df / 2) / np.exp(special.digamma(df / 2))
    return (prior_df * prior + df * variance) / (prior_df + df)


@pytest.mark.parametrize("scatter", [0.01, 1.0, 4.0])
def test_moderation_by_hand(scatter):
    """Log variances that scatter less than by chance, more, and much more."""
    rng = np.random.default_rng(6)
    spread = rng.lognormal(0, 2, 13)
    variance = spread**0.5 * rng.lognormal(0, scatter, 13)
    # Ten heads have a trend; what has none, or no variance, stays.
    variance[10], spread[11], variance[12] = 0, 0, 0
    found = moderated(variance, 7, spread)
    np.testing.assert_allclose(found[:10], moderated_by_hand(variance[:10], 7, spread[:10]))
    np.testing.assert_array_equal(found[10:], variance[10:])
    np.testing.assert_array_equal(moderated(variance[1:], 7, spread[1:]), variance[1:])


@pytest.mark.parametrize("value", [1e-3, 0.1, 1.0, 10.0, 1e3])
def test_the_inverse_of_trigamma(value):
    assert special.polygamma(1, _inverse_trigamma(value)) == pytest.approx(value)


def test_the_variance_of_a_head_is_its_own_or_the_trends_whichever_is_more():
    """Of 12 heads, half of them with a draw that missed the large documents."""
    rng = np.random.default_rng(7)
    x, rise = population(rng, 40, 12)
    drawn = np.arange(9)
    x[9:, :6] *= 4
    x[9:, 6:] /= 4
    found = estimate(rise, x, drawn)
    own = []
    for a, y, mean in zip(x[drawn].T, rise[drawn].T, x.mean(axis=0), strict=True):
        weight = [np.polyval(np.polyfit(a, one, 1), mean) for one in np.eye(9)]
        others = [np.delete(drawn, i) for i in drawn]
        left_out = [
            y[i] - np.polyval(np.polyfit(a[few], y[few], 1), a[i]) for i, few in enumerate(others)
        ]
        own.append((1 - 9 / 40) * np.dot(np.square(weight), np.square(left_out)))
    own, spread = np.array(own), x.var(axis=0)
    missed = spread / x[drawn].var(axis=0)
    assert (missed < 1).any()
    assert (missed > 1).any()
    least = np.maximum(own, moderated_by_hand(own, 7, spread))
    np.testing.assert_allclose(found.error, 40 * np.sqrt(np.maximum(missed, 1) * least))
    np.testing.assert_allclose(found.width, t.ppf(0.975, 7) * found.error)
    scatter = [
        np.square(y - np.polyval(np.polyfit(a, y, 1), a)).sum() / 7 * (40 - 9)
        for a, y in zip(x[drawn].T, rise[drawn].T, strict=True)
    ]
    np.testing.assert_allclose(found.scatter, scatter)


def test_first_order_rises_and_losses_are_summed_over_tokens(zoo, monkeypatch):
    """Gradients are of the mean a token; a head's rise is minus its own, under each baseline."""
    gradient = np.arange(24.0).reshape(2, 3, 4)
    baselines = [None, torch.ones(3, 4, 8)]
    seen = []

    def gate_gradients(model, of, *, baseline, batch_tokens):
        seen.append(baseline)
        return gradient + 100 * (len(seen) - 1), np.array([0.5, 0.25])

    monkeypatch.setattr(sampled_knockout, "gate_gradients", gate_gradients)
    of = Documents.of_rows("en", [[1, 2, 3], [1, 2, 3, 4, 5]])
    heads = HeadSet(["L2H1", "L0H3"], (3, 4))
    rises, nll = first_order(zoo.bridge("llama-gqa"), of, heads, baselines, batch_tokens=7)
    assert seen == baselines
    np.testing.assert_array_equal(nll, [1, 1])
    np.testing.assert_array_equal(rises[0], [[-9 * 2, -3 * 2], [-21 * 4, -15 * 4]])
    np.testing.assert_array_equal(rises[1], [[-109 * 2, -103 * 2], [-121 * 4, -115 * 4]])


def test_all_documents_give_the_exact_scan():
    rng = np.random.default_rng(0)
    x, rise = population(rng, 40)
    size = rng.integers(5, 90, 40)
    exact = stats.paired_ratio(np.zeros(40), rise, size)
    for drawn in (draw(40, 40, rng), draw(40, 99, rng), np.arange(40)[::-1]):
        delta, error, low, high = estimate(rise, x, drawn).per(size)
        np.testing.assert_allclose((delta, error), exact, rtol=1e-9)
        np.testing.assert_allclose((low, high), (delta, delta), rtol=1e-9)


def test_a_line_without_scatter_is_exact_on_any_draw():
    rng = np.random.default_rng(1)
    x, _ = population(rng)
    drawn = draw(len(x), 16, rng)
    found = estimate(3 * x + 0.5, x, drawn)
    np.testing.assert_allclose(found.total, (3 * x + 0.5).sum(axis=0))
    assert (found.width < 1e-9).all()


def test_a_head_without_gradients_is_a_plain_mean():
    rng = np.random.default_rng(2)
    x, rise = population(rng, n_heads=3)
    x[:, 0] = 0
    drawn = draw(len(x), 20, rng)
    found = estimate(rise, x, drawn)
    assert found.total[0] == pytest.approx(len(x) * rise[drawn, 0].mean())
    assert np.isfinite(found.width).all()
    # The same where it has some in documents that were not drawn: then of a wider interval.
    left_out = (rise[drawn, 0] - rise[drawn, 0].mean()) / (1 - 1 / 20) / 20
    squares = (1 - 20 / len(x)) * np.square(left_out).sum()
    for value, missed in ((0, 1), (30, np.var([30] + [0] * (len(x) - 1)) * 20)):
        x[np.setdiff1d(range(len(x)), drawn)[0], 0] = value
        error = estimate(rise, x, drawn).error[0]
        assert error == pytest.approx(len(x) * np.sqrt(squares * missed))


def test_every_document_is_drawn_as_often():
    rng = np.random.default_rng(3)
    drawn = [draw(50, 8, rng) for _ in range(4000)]
    assert all(len(of) == 8 and (np.diff(of) > 0).all() for of in drawn)
    share = np.bincount(np.concatenate(drawn), minlength=50) / 4000
    # A binomial share of 8 / 50, in 5 of its standard errors.
    assert np.abs(share - 0.16).max() < 5 * np.sqrt(0.16 * 0.84 / 4000)


def test_moderation_pulls_towards_the_trend():
    rng = np.random.default_rng(4)
    assert special.polygamma(1, _inverse_trigamma(0.37)) == pytest.approx(0.37)
    df, spread = 10, rng.lognormal(0, 2, 400)
    # Variances that lie on the trend but for chance: all of the scatter is taken out.
    seen = spread**0.5 * rng.chisquare(df, 400) / df
    error = np.std(np.log(moderated(seen, df, spread) / spread**0.5))
    assert error < 0.1 * np.std(np.log(seen / spread**0.5))
    # Heads that truly differ are left mostly as they were.
    seen *= rng.lognormal(0, 3, 400)
    assert np.median(moderated(seen, df, spread) / seen) < 1.5
    few = np.array([1.0, 2.0, 0.0])
    np.testing.assert_array_equal(moderated(few, df, few), few)


def test_unbiased_and_covered_under_heavy_tails():
    rng = np.random.default_rng(5)
    covered, errors = [], []
    for _ in range(10):
        x, rise = population(rng)
        truth = rise.sum(axis=0)
        for _ in range(40):
            found = estimate(rise, x, draw(len(x), 32, rng))
            covered.append(np.abs(found.total - truth) <= found.width)
            errors.append((found.total - truth) / (rise.std(axis=0) * len(x) / np.sqrt(32)))
    assert 0.93 < np.mean(covered) < 0.985
    # In standard errors of a plain mean of as many documents. The bias, O(1 / n), is that of rises
    # which all bend the same way.
    assert abs(np.mean(errors)) < 0.1
    assert np.std(errors) < 0.3


def test_a_document_that_makes_its_own_line_has_no_residual():
    x = np.array([[0.0], [0], [0], [1], [2]])
    rise = np.array([[1.0], [2], [6], [9], [np.nan]])
    found = estimate(rise, x, np.arange(4))
    np.testing.assert_allclose(found.total, 5 * (3 + 6 * 0.6))
    # The others' mean is 3, at x = 0; each is left out of that of two, and has the same weight.
    weight = 1 / 4 + (0 - 0.25) * (0.6 - 0.25) / 0.75
    squares = (weight * 1.5) ** 2 * (2**2 + 1 + 3**2)
    missed = np.var([0, 0, 0, 1, 2]) / np.var([0, 0, 0, 1])
    np.testing.assert_allclose(found.error, 5 * np.sqrt(squares * (1 - 4 / 5) * missed))


def test_one_document_has_no_error():
    one = np.ones((1, 2))
    found = estimate(one, one, draw(1, 1, np.random.default_rng(0)))
    delta, error, low, high = found.per(np.array([4]))
    np.testing.assert_array_equal([delta, low, high], np.full((3, 2), 0.25))
    assert np.isnan(error).all()


def test_cost_in_forwards_by_hand():
    """Of 20 documents 8 are run; layers 0 and 1 of 2 cost a whole and half a forward."""
    heads = HeadSet(["L0H0", "L1H0", "L1H1"], (2, 3))
    found = forwards(documents(en=12, zh=8), {"en": 5, "zh": 3}, heads, 2)
    assert found == pytest.approx(2 * (2 + (1 + 1 + 0.5 + 0.5) * 8 / 20))


def test_how_many_documents_are_run(caplog):
    assert sample_sizes(0.1, documents(en=300, zh=95)) is not None
    assert sample_sizes(0.3, documents(en=40)) == {"en": 12}
    assert sample_sizes(0.1, documents(en=300, zh=111)) == {"en": 30, "zh": 12}
    assert sample_sizes(10, documents(en=300)) == {"en": 10}
    assert sample_sizes(8, documents(en=300)) == {"en": 8}
    # 110 * 0.1 is a little above 11; a thousand-millionth more is no rounding.
    for more, count in ((0, 11), (2e-10, 11), (2e-9, 12)):
        assert sample_sizes((11 + more) / 110, documents(en=110)) == {"en": count}
    # A language with fewer documents is run in full.
    assert sample_sizes(32, documents(en=300, zh=3)) == {"en": 32, "zh": 3}
    with caplog.at_level(logging.WARNING, logger="langheads"):
        assert sample_sizes(32, documents(en=32, zh=3)) is None
        assert sample_sizes(1.0, documents(en=300)) is None
    assert caplog.text.count("the full scan is made") == 2


@pytest.mark.parametrize("sample", [0, -1, 0.0, 1.5, float("nan"), True])
def test_what_is_no_sample(sample):
    with pytest.raises(InputError, match="allowed are a number of documents, or a share"):
        sample_sizes(sample, documents(en=300))


@pytest.mark.parametrize(("sample", "drawn"), [(7, 7), (0.02, 6), (1, 1)])
def test_too_few_documents_are_refused(sample, drawn):
    with pytest.raises(InputError) as refused:
        sample_sizes(sample, documents(en=1, zh=300))
    assert str(refused.value) == (
        f"sample {sample} asked for, which draws {drawn} of the 300 documents of language zh; "
        "at least 8 are needed"
    )

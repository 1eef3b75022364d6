"""The estimator of sampled knock-out: by hand, on made-up populations whose truth is known."""

import logging

import numpy as np
import pytest
import torch

from langheads import stats
from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.scores import sampled_knockout
from langheads.scores.sampled_knockout import (
    Estimate,
    auxiliaries,
    draw,
    estimate,
    first_order,
    forwards,
    sample_sizes,
)
from langheads.text import Documents


def documents(**counts):
    row = torch.tensor([1, 2, 3])
    return {name: Documents.of_rows(name, [row] * count) for name, count in counts.items()}


def population(rng, n_docs=200, n_heads=60, curvature=0.3):
    """Heavy tails: a few large documents, heads of unlike size, rises that bend away from x.

    Auxiliaries (x and the documents' length) and rises."""
    document = rng.lognormal(0, 0.5, (n_docs, 1))
    head = rng.lognormal(0, 1.5, n_heads)
    x = rng.standard_t(4, (n_docs, n_heads)) * document
    rise = x + curvature * x**2 / (1 + np.abs(x)) + 0.2 * rng.standard_t(4, x.shape) * document
    return np.stack([head * x, np.broadcast_to(np.ceil(20 * document), x.shape)]), head * rise


def test_one_head_by_hand():
    x = np.array([[9.0], [0], [1], [2], [3]])
    rise = np.array([[np.nan], [0], [1], [1], [4]])
    found = estimate(rise, x[None], np.array([1, 2, 3, 4]))
    # Line through (1.5, 1.5) with slope 6 / 5, at the mean of all, 3: 3.3, for five documents.
    np.testing.assert_allclose(found.total, 5 * 3.3)
    np.testing.assert_allclose(found.rise[:, 0], [1.5 + 1.2 * 7.5, 0, 1, 1, 4])
    # Every residual times that from a line that was fitted without the document.
    xs, ys = x[1:, 0], rise[1:, 0]
    variance = 0.0
    for i in range(4):
        others = np.arange(4) != i
        left_out = ys[i] - np.polyval(np.polyfit(xs[others], ys[others], 1), xs[i])
        weight = np.polyval(np.polyfit(xs, np.eye(4)[i], 1), 3.0)
        variance += weight**2 * left_out * (ys[i] - np.polyval(np.polyfit(xs, ys, 1), xs[i]))
    missed = np.mean([0, 1, 16, 81, 6561]) / np.mean([0, 1, 16, 81])
    error = 5 * np.sqrt(variance * (1 - 4 / 5) * missed)
    np.testing.assert_allclose(found.error, error)
    np.testing.assert_allclose(found.width, 4.302653 * error, rtol=1e-6)  # t, 2 degrees of freedom
    # Residuals .3, .1, -1.1 and .7 stand for the one document that was not run.
    np.testing.assert_allclose(found.scatter, 1.8 / 2)


def test_a_rise_a_byte_by_hand():
    """Three documents of 1, 2 and 3 bytes, which lie on a line but for what scatters about it."""
    rise = np.array([[1.0], [2.0], [3.0]])
    found = Estimate(*(np.array([value]) for value in (6.0, 5.0, 3.0)), rise, np.array([4.0]))
    per = found.per(np.array([1, 2, 3]))
    expected = (1, np.sqrt(3 / 2 * 4 + 5**2) / 6, 1 - 3 / 6, 1 + 3 / 6)
    np.testing.assert_allclose(np.ravel(per), expected)
    found = Estimate(*(np.array([value]) for value in (3.0, 5.0, 3.0)), rise[:2], np.array([4.0]))
    np.testing.assert_allclose(found.per(np.array([1, 2]))[1], np.sqrt(2 / 1 * 4 + 5**2) / 3)


def test_first_order_rises_lengths_and_losses_are_summed_over_tokens(zoo, monkeypatch):
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
    found, nll = first_order(zoo.bridge("llama-gqa"), of, heads, baselines, batch_tokens=7)
    assert seen == baselines
    np.testing.assert_array_equal(nll, [1, 1])
    lengths = [[2, 2], [4, 4]]
    rises = [[-9 * 2, -3 * 2], [-21 * 4, -15 * 4]], [[-109 * 2, -103 * 2], [-121 * 4, -115 * 4]]
    np.testing.assert_array_equal(found, [[rises[0], lengths], [rises[1], lengths]])


def test_a_plane_on_rise_and_length_by_least_squares():
    rng = np.random.default_rng(11)
    tokens = rng.integers(10, 60, 14)
    of_all = auxiliaries(rng.normal(size=(14, 3)), tokens)
    rise = 0.3 * of_all[0] + 0.2 * tokens[:, None] + rng.standard_t(3, (14, 3))
    drawn = draw(14, 9, rng)
    found = estimate(rise, of_all, drawn)
    for head in range(3):
        a = np.column_stack([np.ones(14), of_all[0, :, head], tokens])

        def fitted(some, a=a, y=rise[:, head]):
            return a @ np.linalg.lstsq(a[some], y[some], rcond=None)[0]

        plane = fitted(drawn)
        np.testing.assert_allclose(found.total[head], plane.sum())
        others = np.setdiff1d(np.arange(14), drawn)
        np.testing.assert_allclose(found.rise[others, head], plane[others])
        weight = a.sum(axis=0) @ np.linalg.pinv(a[drawn])
        residual = rise[drawn, head] - plane[drawn]
        alone = np.array([rise[i, head] - fitted(drawn[drawn != i])[i] for i in drawn])
        fourth = of_all[0, :, head] ** 4
        missed = max(1, fourth.mean() / fourth[drawn].mean())
        error = np.sqrt((1 - 9 / 14) * missed * (weight**2 * alone * residual).sum())
        np.testing.assert_allclose(found.error[head], error)
        np.testing.assert_allclose(found.width[head], 2.446912 * error, rtol=1e-6)  # t, 6
        np.testing.assert_allclose(found.scatter[head], 5 * (residual**2).sum() / 6)


def test_lengths_that_say_nothing_more_have_no_slope():
    rng = np.random.default_rng(12)
    (x, _), rise = population(rng, 40)
    drawn = draw(40, 12, rng)
    alone = estimate(rise, x[None], drawn)
    for length in (np.full_like(x, 0.1), 3 * x):
        found = estimate(rise, np.stack([x, length]), drawn)
        np.testing.assert_allclose(found.total, alone.total)
        np.testing.assert_allclose(found.error, alone.error)


def test_a_draw_that_missed_the_large_documents_is_no_surer():
    """What first order leaves is of second order: the large documents have most of it."""
    rng = np.random.default_rng(13)
    x = rng.standard_t(2, (1, 200, 60))
    rise = x[0] + 0.2 * x[0] ** 2 * rng.normal(size=(200, 60))
    held, held_by_residuals = [], []
    for _ in range(40):
        drawn = draw(200, 32, rng)
        found = estimate(rise, x, drawn)
        miss = np.abs(found.total - rise.sum(axis=0))
        missed = (x[0] ** 4).mean(axis=0) / (x[0, drawn] ** 4).mean(axis=0)
        held.append(miss <= found.width)
        held_by_residuals.append(miss <= found.width / np.sqrt(np.maximum(1, missed)))
    assert np.mean(held) > 0.9
    assert np.mean(held_by_residuals) < 0.7


def test_all_documents_give_the_exact_scan():
    rng = np.random.default_rng(0)
    x, rise = population(rng, 40)
    size = rng.integers(5, 90, 40)
    exact = stats.paired_ratio(np.zeros(40), rise, size)
    for drawn in (draw(40, 40, rng), draw(40, 99, rng), np.arange(40)[::-1]):
        delta, error, low, high = estimate(rise, x, drawn).per(size)
        np.testing.assert_allclose((delta, error), exact, rtol=1e-9)
        np.testing.assert_allclose((low, high), (delta, delta), rtol=1e-9)


def test_a_plane_without_scatter_is_exact_on_any_draw():
    rng = np.random.default_rng(1)
    of_all, _ = population(rng)
    rise = 3 * of_all[0] + 0.1 * of_all[1] + 0.5
    found = estimate(rise, of_all, draw(len(rise), 16, rng))
    np.testing.assert_allclose(found.total, rise.sum(axis=0))
    assert (found.width < 1e-9).all()


def test_a_head_without_gradients_is_a_plain_mean():
    rng = np.random.default_rng(2)
    (x, _), rise = population(rng, n_heads=3)
    x[:, 0] = 0
    drawn = draw(len(x), 20, rng)
    found = estimate(rise, x[None], drawn)
    assert found.total[0] == pytest.approx(len(x) * rise[drawn, 0].mean())
    squares = np.square(rise[drawn, 0] - rise[drawn, 0].mean()).sum() / (20 * 19)
    assert found.error[0] == pytest.approx(len(x) * np.sqrt((1 - 20 / len(x)) * squares))
    assert np.isfinite(found.width).all()


@pytest.mark.parametrize("noise", [0, 1e-9, 1e-4, 0.1])
def test_gradients_in_other_documents_alone_leave_the_interval_open(noise):
    """What a head does in the documents that it acts in is not known from the others."""
    rng = np.random.default_rng(2)
    x, rise = population(rng, n_heads=3)
    drawn = draw(200, 20, rng)
    x[0, :, 1], rise[:, 1] = noise * rng.normal(size=200), 0
    x[0, np.setdiff1d(range(200), drawn)[0], 1] = -30
    found = estimate(rise, x, drawn)
    assert found.total[1] == pytest.approx(0)
    for of in (found.error, found.width, *found.per(np.ones(200, dtype=int))[1:]):
        assert np.isnan(of).tolist() == [False, True, False]


def test_gradients_of_a_twentieth_are_seen():
    rng = np.random.default_rng(2)
    x, rise = population(rng, n_heads=3)
    drawn = draw(200, 20, rng)
    x[0, :, 1] = 1.5 * rng.choice([-1, 1], 200)
    x[0, np.setdiff1d(range(200), drawn)[0], 1] = -30
    found = estimate(rise, x, drawn)
    # The fourth power of 20, over 200 documents.
    line = estimate(rise, np.stack([np.clip(x[0], -1.5, 1.5), x[1]]), drawn)
    assert np.isfinite(found.width).all()
    assert found.width[1] > 28 * line.width[1]


def test_every_document_is_drawn_as_often():
    rng = np.random.default_rng(3)
    drawn = [draw(50, 8, rng) for _ in range(4000)]
    assert all(len(of) == 8 and (np.diff(of) > 0).all() for of in drawn)
    share = np.bincount(np.concatenate(drawn), minlength=50) / 4000
    # A binomial share of 8 / 50, in 5 of its standard errors.
    assert np.abs(share - 0.16).max() < 5 * np.sqrt(0.16 * 0.84 / 4000)


def test_unbiased_and_covered_under_heavy_tails():
    rng = np.random.default_rng(5)
    covered, errors = [], []
    for _ in range(10):
        x, rise = population(rng)
        truth = rise.sum(axis=0)
        for _ in range(40):
            found = estimate(rise, x, draw(len(rise), 32, rng))
            covered.append(np.abs(found.total - truth) <= found.width)
            errors.append((found.total - truth) / (rise.std(axis=0) * len(rise) / np.sqrt(32)))
    assert 0.93 < np.mean(covered) < 0.985
    # In standard errors of a plain mean of as many documents. The bias, O(1 / n), is that of rises
    # which all bend the same way.
    assert abs(np.mean(errors)) < 0.1
    assert np.std(errors) < 0.3


def test_a_document_that_makes_its_own_line_has_no_residual():
    x = np.array([[0.0], [0], [0], [1], [2]])
    rise = np.array([[1.0], [2], [6], [9], [np.nan]])
    found = estimate(rise, x[None], np.arange(4))
    np.testing.assert_allclose(found.total, 5 * (3 + 6 * 0.6))
    # The others' mean is 3, at x = 0; each has a leverage of a third, and the same weight.
    weight = 1 / 4 + (0 - 0.25) * (0.6 - 0.25) / 0.75
    squares = weight**2 * (2**2 + 1 + 3**2) / (1 - 1 / 3)
    missed = np.mean([0, 0, 0, 1, 16]) / np.mean([0, 0, 0, 1])
    np.testing.assert_allclose(found.error, 5 * np.sqrt(squares * (1 - 4 / 5) * missed))


def test_one_document_has_no_error():
    one = np.ones((1, 2))
    found = estimate(one, one[None], draw(1, 1, np.random.default_rng(0)))
    delta, error, low, high = found.per(np.array([4]))
    np.testing.assert_array_equal([delta, low, high], np.full((3, 2), 0.25))
    assert np.isnan(error).all()


def test_cost_in_forwards_by_hand():
    """Of 20 documents 8 are run; layers 0 and 1 of 2 cost a whole and half a forward."""
    heads = HeadSet(["L0H0", "L0H2", "L1H0"], (2, 3))
    found = forwards(documents(en=12, zh=8), {"en": 5, "zh": 3}, heads, 2)
    assert found == pytest.approx(2 * (2 + (1 + 1 + 1 + 0.5) * 8 / 20))


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

"""The certified top k against full scans of made-up rises whose order is known."""

import numpy as np
import pytest

from langheads.scores.top_knockout import eliminate


def population(rng, count=200, heads=40, tail=1.0):
    """Rises of a few strong heads and many weak ones, log-normal over documents, and a noisy x."""
    size = np.concatenate([np.linspace(3.0, 1.2, 8), rng.uniform(0, 0.6, heads - 8)])
    rise = size * rng.lognormal(0, tail, (count, heads)) * rng.lognormal(0, 0.5, (count, 1))
    return rise, 0.7 * rise * rng.lognormal(0, 0.4, rise.shape) + 0.1 * rng.normal(size=rise.shape)


def found(rise, x, k, seed, **settings):
    asked = {"confidence": 0.95, "most": len(rise)} | settings
    measured = []

    def measure(documents, heads):
        measured.append(len(documents) * len(heads))
        return rise[np.ix_(documents, heads)]

    top = eliminate(measure, x, k, rng=np.random.default_rng(seed), **asked)
    assert sum(measured) == np.isfinite(top.rise).sum() == top.run.sum()
    return top


@pytest.mark.parametrize("k", [1, 5, 10])
def test_the_stated_confidence_holds_with_heavy_tails(k):
    """200 draws of populations and orders; wrong at most 5% of them, and cheaper than the scan."""
    wrong, cost = 0, []
    for seed in range(200):
        rise, x = population(np.random.default_rng(1000 + seed))
        top = found(rise, x, k, seed)
        best = np.argsort(-rise.sum(axis=0))[:k]
        assert top.chosen.sum() == k
        assert not top.open.any()
        wrong += set(np.flatnonzero(top.chosen)) != set(best)
        cost.append(top.run.sum() / rise.size)
    print(k, wrong, np.mean(cost))
    assert wrong <= 10
    assert np.mean(cost) < 0.8


def test_heads_that_cannot_be_told_apart_run_on_all_documents_and_the_scan_decides():
    rise, x = population(np.random.default_rng(0), tail=0.3)
    rise[:, 1], x[:, 1] = rise[::-1, 0], x[::-1, 0]
    rise[0, 1] += 1e-9
    top = found(rise, x, 1, 0)
    assert np.flatnonzero(top.chosen).tolist() == [1]
    assert top.run[0] == top.run[1] == len(rise)
    assert top.run[20] < len(rise)


def test_what_is_not_separated_when_the_documents_allowed_are_run_is_said():
    rise, x = population(np.random.default_rng(0), tail=0.3)
    rise[:, 1], x[:, 1] = rise[::-1, 0], x[::-1, 0]
    top = found(rise, x, 1, 0, most=40)
    assert {0, 1} <= set(np.flatnonzero(top.open))
    assert not top.chosen.any()
    assert top.run.max() == 40


def test_gradients_that_say_everything_need_only_the_first_documents():
    rise, _ = population(np.random.default_rng(0))
    top = found(rise, 2 * rise, 5, 0)
    assert set(np.flatnonzero(top.chosen)) == set(np.argsort(-rise.sum(axis=0))[:5])
    assert top.run.max() == 24


def test_gradients_of_nothing_are_no_hindrance():
    rise, x = population(np.random.default_rng(0))
    top = found(rise, 0 * x, 5, 0)
    assert set(np.flatnonzero(top.chosen)) == set(np.argsort(-rise.sum(axis=0))[:5])

"""The certified top k against full scans of made-up rises whose order is known."""

import numpy as np
import pytest
from scipy.stats import t as student_t

from langheads.io.errors import InputError
from langheads.scores import top_knockout
from langheads.scores.top_knockout import Top, eliminate, forwards, per_size
from langheads.stats import paired_ratio
from langheads.text import Documents


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

    top = eliminate(measure, x[None], k, rng=np.random.default_rng(seed), **asked)
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


def test_the_stated_confidence_holds_where_a_draw_misses_the_large_documents():
    """What first order leaves goes with its square: by residuals alone 19 are wrong."""
    wrong = 0
    for seed in range(100):
        rng = np.random.default_rng(2000 + seed)
        x = rng.standard_t(2, (200, 40))
        rise = x + 0.2 * x**2 * rng.normal(size=x.shape) + 0.3
        size = np.concatenate([np.linspace(1.5, 1.0, 8), rng.uniform(0, 0.6, 32)])
        top = found(size * rise, size * x, 5, seed)
        wrong += set(np.flatnonzero(top.chosen)) != set(np.argsort(-(size * rise).sum(axis=0))[:5])
    assert wrong <= 5


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


@pytest.mark.parametrize("noise", [0, 1e-9, 1e-3])
def test_a_head_that_acts_in_documents_not_yet_run_alone_is_neither_in_nor_out(noise):
    rise, x = population(np.random.default_rng(0))
    first = np.random.default_rng(0).permutation(len(rise))[:24]
    x[:, 20] = noise * np.random.default_rng(1).normal(size=len(rise))
    rise[:, 20] = x[:, 20] / 10
    late = np.setdiff1d(range(len(rise)), first)[:30]
    rise[late, 20] = x[late, 20] = 3 * rise.sum(axis=0).max() / 30
    top = found(rise, x, 1, 0)
    assert np.flatnonzero(top.chosen).tolist() == [20]


@pytest.mark.parametrize(
    "stages", [[24, 36, 54, 81, 122, 183, 200], [24, 36, 54, 60], [24, 25], [24], [20], [5]]
)
def test_the_chance_of_an_error_is_shared_by_the_stages(monkeypatch, stages):
    """Half as many documents more in each, up to all."""
    seen = []

    def never(y, x, done, error):
        seen.append((len(done), error))
        return np.zeros((y.shape[1], y.shape[1]), dtype=bool)

    monkeypatch.setattr(top_knockout, "_apart", never)
    rise, x = population(np.random.default_rng(0), stages[-1])
    assert found(rise, x, 3, 0).open.all()
    assert [n for n, _ in seen] == stages
    np.testing.assert_allclose([error for _, error in seen], 0.05 / len(stages))


def test_rises_of_heads_that_ran_on_all_documents_or_on_some():
    rng = np.random.default_rng(0)
    rise, x = population(rng, 30, 9)
    order, size = rng.permutation(30), rng.integers(5, 90, 30)
    run = np.where(np.arange(9) < 4, 30, 12)
    seen = rise.copy()
    seen[order[12:, None], np.arange(4, 9)] = np.nan
    none = np.zeros(9, dtype=bool)
    delta, error, low, high = per_size(Top(none, none, seen, order, run), x[None], size)
    exact = paired_ratio(np.zeros(30), rise, size)
    np.testing.assert_allclose([delta[:4], error[:4]], np.array(exact)[:, :4])
    np.testing.assert_allclose([low[:4], high[:4]], [delta[:4]] * 2)
    for head in range(4, 9):
        line = np.polyfit(x[order[:12], head], rise[order[:12], head], 1)
        total = 30 * np.polyval(line, x[:, head].mean())
        assert delta[head] == pytest.approx(total / size.sum())
        assert low[head] < delta[head] < high[head]


def test_cost_in_forwards_by_hand():
    """Layers 0 and 1 of 2 cost a whole and half a forward; 20 documents."""
    run = np.array([[[[20, 8, 0], [4, 3, 1]]], [[[0, 0, 0], [20, 0, 0]]]])
    documents = {"en": Documents.of_rows("en", [[1, 2]] * 20)}
    assert forwards(run, documents) == pytest.approx(2 * 3 + (28 + 8 / 2 + 20 / 2) / 20)


def test_a_head_alone_is_above_no_other():
    rise, x = population(np.random.default_rng(0), 30, 9)
    alone = top_knockout._apart(rise[:12, :1], x[None, :, :1], np.arange(12), 0.05)
    assert alone.tolist() == [[False]]


def test_a_head_is_above_another_by_a_paired_t_test():
    """Without gradients: the mean of 6 documents of 60."""
    noise = np.array([0.3, -0.1, 0.7, -0.5, -0.6, 0.2])
    for heads, error in ((2, 0.05), (3, 0.01)):
        se = np.sqrt((noise**2).sum() / (6 * 5) * (1 - 6 / 60))
        needed = student_t.ppf(1 - error / (heads * (heads - 1)), 4) * se
        y = np.zeros((6, heads))
        for more, expected in ((0.99, False), (1.01, True)):
            y[:, 0] = noise + more * needed
            above = top_knockout._apart(y, np.zeros((1, 60, heads)), np.arange(6), error)
            assert above[0].tolist() == [False, *[expected] * (heads - 1)]
            assert not above[1:].any()


@pytest.mark.parametrize("lonely", [False, True])
def test_a_head_is_above_another_about_the_line_of_its_gradients(lonely):
    """As before, of residuals about lines, over the square root of 1 - leverage; one document makes
    its own line, where all others have the same gradient."""
    rng = np.random.default_rng(1)
    x, noise = 0.1 * rng.normal(size=(60, 2)), rng.normal(size=(6, 2))
    done = np.arange(10, 16)
    if lonely:
        x[done, 0] = [0, 0, 0, 0, 0, 0.3]
    apart, total = [], []
    for head in range(2):
        a, y, mean = x[done, head], noise[:, head], x[:, head].mean()
        line = np.polyfit(a, y, 1)
        total.append(np.polyval(line, mean))
        ones = [np.polyfit(a, one, 1) for one in np.eye(6)]
        leverage = np.array([np.polyval(one, a[i]) for i, one in enumerate(ones)])
        weight = np.array([np.polyval(one, mean) for one in ones])
        residual = np.where(leverage > 1 - 1e-9, 0, y - np.polyval(line, a))
        apart.append(weight * residual / np.sqrt(np.maximum(1 - leverage, 1e-9)))
    se = np.sqrt(np.square(apart[0] - apart[1]).sum() * (1 - 6 / 60))
    needed = student_t.ppf(1 - 0.05 / 2, 4) * se - (total[0] - total[1])
    for more, expected in ((-1e-6, False), (1e-6, True)):
        above = top_knockout._apart(noise + np.array([needed + more, 0]), x[None], done, 0.05)
        assert above.tolist() == [[False, expected], [False, False]]


def test_a_head_is_above_another_about_the_plane_on_its_gradients_and_lengths():
    """Of 8 documents of 40; a column of the design more takes a degree of freedom more, and
    residuals are larger by what the draw missed of x^4."""
    rng = np.random.default_rng(2)
    of_all, noise = rng.gamma(2.0, size=(2, 40, 2)), rng.normal(size=(8, 2))
    done = rng.permutation(40)[:8]
    apart, total = [], []
    for head in range(2):
        design = np.column_stack([np.ones(40), *of_all[..., head]])
        inverse = np.linalg.pinv(design[done])
        weight, leverage = design.mean(axis=0) @ inverse, np.diag(design[done] @ inverse)
        residual = noise[:, head] - design[done] @ inverse @ noise[:, head]
        total.append(weight @ noise[:, head])
        missed = max(1, (of_all[0, :, head] ** 4).mean() / (of_all[0, done, head] ** 4).mean())
        apart.append(weight * residual * np.sqrt(missed / (1 - leverage)))
    se = np.sqrt(np.square(apart[0] - apart[1]).sum() * (1 - 8 / 40))
    needed = student_t.ppf(1 - 0.05 / 2, 5) * se - (total[0] - total[1])
    for more, expected in ((-1e-6, False), (1e-6, True)):
        above = top_knockout._apart(noise + np.array([needed + more, 0]), of_all, done, 0.05)
        assert above.tolist() == [[False, expected], [False, False]]


def test_heads_that_differ_by_as_much_in_every_document_are_apart_whatever_the_rounding():
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=(6, 1))
        above = top_knockout._apart(noise - [[0.0, 0.1]], np.zeros((1, 60, 2)), np.arange(6), 0.05)
        assert above.tolist() == [[False, True], [False, False]]


def test_of_all_documents_the_mean_decides_and_then_the_number():
    """With gradients that would say otherwise, and of fewer than four documents nothing."""
    y = np.array([[1.0, 3, 2, 3], [1, 1, 2, 1], [1, 2, 2, 2]])
    above = top_knockout._apart(y, np.eye(3, 4)[None], np.arange(3), 0.05)
    first_to_last = [1, 2, 3, 0]
    expected = [[first_to_last.index(a) < first_to_last.index(b) for b in range(4)]
                for a in range(4)]  # fmt: skip
    assert above.tolist() == expected
    far = np.array([[9.0, 0.0], [9.1, 0.1], [9.0, 0.1], [9.1, 0.0]])
    for n in (3, 4):
        above = top_knockout._apart(far[:n], np.zeros((1, 50, 2)), np.arange(n), 0.05)
        assert above.tolist() == [[False, n == 4], [False, False]]


def test_a_top_of_no_or_of_all_heads_is_refused_and_what_it_may_cost_is_told(caplog):
    for top in (0, 4, -1):
        with pytest.raises(InputError) as told:
            top_knockout.check_top(top, 0.95, 4)
        assert str(told.value) == (
            f"top {top} of 4 heads asked for; at least 1, and fewer than all"
        )
    top_knockout.check_top(1, 0.95, 4)
    assert caplog.messages == [
        "top 1 of 4 heads: from 24 documents a language to the scan of all of them, as far as "
        "heads are hard to tell apart"
    ]


def test_confidence_is_less_than_certain():
    for wrong in (0.0, 1.0, 1.5):
        with pytest.raises(InputError) as told:
            top_knockout.check_top(1, wrong, 4)
        assert str(told.value) == f"confidence {wrong} asked for; it is between 0 and 1"
    top_knockout.check_top(3, 0.001, 4)

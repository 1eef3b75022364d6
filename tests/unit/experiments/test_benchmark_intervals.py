"""Intervals of rank correlations: coverage of known rankings, what files must say."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

import langheads
from langheads.experiments.benchmark.compare import compare
from langheads.experiments.benchmark.from_a_sample import scan_forwards
from langheads.experiments.benchmark.intervals import intervals
from langheads.experiments.benchmark.table import as_text
from langheads.io.results import save
from langheads.scores.registry import GRAD_ABS, SCORES

METHODS = [SCORES["taylor"], SCORES["lahis"], GRAD_ABS]


def population(rng, heads=48, count=20_000):
    """Rises and gradients of many documents, heavy-tailed, with heads that help and that hurt."""
    effect = np.exp(rng.normal(0, 1.5, heads)) * np.where(rng.random(heads) < 0.15, -0.003, 0.01)
    size = rng.lognormal(0, 0.5, (count, 1))
    rise = effect * size * rng.lognormal(0, 1, (count, heads)) + 0.02 * rng.normal(
        size=(count, heads)
    )
    first = 0.7 * rise * np.exp(rng.normal(0, 0.7, heads))
    return rise, -first - 0.8 * np.abs(effect) * rng.normal(size=(count, heads))


def files(rise, gradient, **more):
    """Both results, of one language and one layer, tokens 1 a document."""
    rise, gradient = rise[None, :, None], gradient[None, :, None]
    mean, error = rise.mean(axis=1), rise.std(axis=1, ddof=1) / np.sqrt(rise.shape[1])
    at = ("language", "layer", "head")
    rows = ("language", "doc", *at[1:])
    exact = {"delta_nats_per_token": (at, mean), "delta_nats_per_token_se": (at, error)}
    exact |= {"rise": (rows, rise), "doc_tokens": (rows[:2], np.ones(rise.shape[:2], int))}
    scores = {"gradient": (rows, gradient)} | {
        name: (at, of[None, None]) for name, of in more.items()
    }
    coords = {"language": ["en"]}
    return xr.Dataset(scores, coords), xr.Dataset(exact, coords)


def truth(rise, gradient):
    """Rank correlations of the whole population, by the formulas of the scores."""
    size, helpful = np.abs(gradient).mean(axis=0), (gradient < 0).mean(axis=0)
    values = -gradient.mean(axis=0), size * helpful, size
    return np.array([spearmanr(of, rise.mean(axis=0)).statistic for of in values])


def coverage(draws, count):
    """Share of the draws in which intervals hold: Spearman, and the difference to taylor."""
    rng = np.random.default_rng(0)
    rise, gradient = population(rng)
    known = truth(rise, gradient)
    hold = []
    for _ in range(draws):
        some = rng.integers(0, len(rise), count)
        found = intervals(*files(rise[some], gradient[some]), METHODS, 0, paired=True)
        low, high = found["spearman"][..., 0]
        behind = found["behind"][..., 0]
        held = (low <= known) & (known <= high)
        difference = known[0] - known
        apart = (behind[0] <= difference) & (difference <= behind[1])
        hold.append([*held, *apart[1:]])
    return np.mean(hold, axis=0)


def test_intervals_hold_the_population_s_correlation_in_some_draws():
    """Few draws: less than .85 of 40 is below .95 by more than two of their standard errors."""
    assert (coverage(40, 60) >= 0.85).all()


@pytest.mark.slow
@pytest.mark.parametrize("count", [24, 100])
def test_intervals_hold_the_population_s_correlation(count):
    held = coverage(400, count)
    print(count, held)
    assert (held >= 0.93).all()


def test_a_score_without_rows_is_drawn_from_its_standard_error():
    """Wider with a larger error; none without one, but for numbers that no document made."""
    rise, gradient = population(np.random.default_rng(1), count=60)
    value = rise.mean(axis=0)
    methods = [SCORES[name] for name in ("quadrature", "grad-act", "entropy", "random")]
    widths = []
    for error in (0.01, 0.3):
        scores, exact = files(
            rise, gradient, quadrature=value, quadrature_se=error * np.abs(value), grad_act=value,
            grad_act_se=0 * value, entropy=value, random=np.arange(48.0),
        )  # fmt: skip
        low, high = intervals(scores, exact, methods, 0, paired=True)["spearman"][..., 0]
        assert np.isnan([low[2], high[2]]).all()
        assert low[3] < spearmanr(np.arange(48), value).statistic < high[3]
        widths.append((high - low)[:2])
    (little, none), (much, same) = widths
    assert none == same
    assert little < much


def test_documents_in_common_are_drawn_together(caplog):
    """A score that is the effect itself has rank 1 in every resample of the same documents."""
    rise, gradient = population(np.random.default_rng(1), count=60)
    taylor = [SCORES["taylor"]]
    stored = {"taylor": -gradient.mean(axis=0), "taylor_se": gradient.std(axis=0) / 60**0.5}
    scores, exact = files(rise, -rise, **stored)
    same = intervals(scores, exact, taylor, 0, paired=True)
    np.testing.assert_allclose(same["spearman"].ravel(), 1, atol=1e-4)
    assert same["behind"].ravel().tolist() == [0, 0]
    scores, exact = files(rise, gradient, **stored)
    together, apart = (
        np.ptp(intervals(scores, exact, taylor, 0, paired=paired)["spearman"])
        for paired in (True, False)
    )
    assert together < apart
    assert intervals(scores, exact.drop_vars("rise"), taylor, 0, paired=True) == {}
    assert caplog.messages == [
        "no intervals: knockout.nc does not hold delta NLL of several documents"
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny, texts):
    folder = tmp_path_factory.mktemp("run")
    how = {"docs": 12, "max_tokens": 60, "languages": ["en", "zh"]}
    methods = ["lahis", "quadrature", "random"]
    save(langheads.score(tiny, texts, method=methods, **how), folder / "scores.nc")
    save(langheads.knockout(tiny, texts, **how), folder / "knockout.nc")
    return folder


def test_the_comparison_has_the_intervals_and_what_runs_knock_outs(run):
    found = compare(run)
    assert found.score.values.tolist() == [
        *("knockout", "lahis", "quadrature", "random", "grad_abs", "top-3")
    ]
    of = found.sel(score=["lahis", "quadrature", "random", "grad_abs"])
    assert (of.spearman_low <= of.spearman).all()
    assert (of.spearman <= of.spearman_high).all()
    best = of.mean_spearman.max()
    xr.testing.assert_allclose(of.mean_behind, best - of.mean_spearman)
    assert np.isnan(found.behind.sel(score=["knockout", "top-3"])).all()
    exact = langheads.load_result(run / "knockout.nc", "knockout").sel(baseline="zero")
    en = exact.sel(language="en")
    large = np.abs(en.delta_nats_per_token / en.delta_nats_per_token_se).values > 2
    lahis = langheads.load_result(run / "scores.nc", "scores").lahis.sel(language="en").values
    by_hand = spearmanr(lahis[large], en.delta_nats_per_token.values[large]).statistic
    assert float(of.spearman_large.sel(score="lahis", language="en")) == pytest.approx(by_hand)
    assert found.forwards_large.sel(score="knockout").item() == scan_forwards(32, 32) == 529
    line = as_text(found).splitlines()[2]
    low, high = (found[f"mean_spearman_{end}"].sel(score="lahis").item() for end in ("low", "high"))
    assert f"[{low:.2f}, {high:.2f}]" in line


def test_other_seeds_are_told_with_mean_and_spread(run, tmp_path, caplog):
    for name in ("scores.nc", "knockout.nc"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    delta = langheads.load_result(run / "knockout.nc", "knockout").delta_nats_per_token
    first = langheads.load_result(run / "scores.nc", "scores")
    ranks = []
    for number in (0, 1, 2):
        seed = first.copy(deep=True)
        if number:
            seed["random"][:] = np.random.default_rng(number).random(seed.random.shape)
            save(seed.drop_vars("quadrature"), tmp_path / "seeds" / f"scores-{number}.nc")
            # Texts of another run.
            seed["bytes"] += 1
            save(seed, tmp_path / "seeds" / "scores-9.nc")
        pair = seed.random.sel(language="zh"), delta.sel(language="zh", baseline="zero")
        ranks.append(spearmanr(*(of.values.ravel() for of in pair)).statistic)
    found = compare(tmp_path).sel(language="zh")
    assert found.drawn_mean.sel(score="random").item() == pytest.approx(np.mean(ranks))
    assert found.drawn_sd.sel(score="random").item() == pytest.approx(np.std(ranks, ddof=1))
    assert np.isnan(found.drawn_sd.sel(score=["lahis", "quadrature"])).all()
    assert "scores-9.nc is of different documents and left out" in caplog.messages


def test_files_of_an_earlier_version_have_no_interval(run, tmp_path, caplog):
    (tmp_path / "scores.nc").write_bytes((run / "scores.nc").read_bytes())
    exact = langheads.load_result(run / "knockout.nc", "knockout")
    save(exact.drop_vars(["rise", "doc_tokens"]), tmp_path / "knockout.nc")
    found = compare(tmp_path)
    assert np.isnan(found.spearman_low).all()
    assert np.isfinite(found.spearman).all()
    assert "no intervals: knockout.nc does not hold delta NLL" in caplog.text
    assert "[" not in as_text(found)

"""95% intervals over documents of rank correlations with exact knock-out.

They are for the result of infinitely many documents like these. The documents of a language are put
into G = min(20, documents) random groups, and correlation theta is made again without each of them
(delete-group jackknife) and from 200 resamples of all (bootstrap), knock-outs and scores from the
same documents each time. On the scale z = arctanh(theta) (differences as they are), with
t = the .975 quantile of t with G - 1 degrees of freedom,

    se^2  = (G - 1) / G * sum_g (z_g - mean z_g)^2
    bias  = z - mean over resamples
    z + bias / 2  -+  sqrt((t se)^2 + bias^2)

Noise in a ranking lowers its correlations, and noise that score and knock-out share raises them.
Resampling shows both, too roughly to correct for, so half goes into the centre and all of it into
the width. Ranks are not a smooth function of means, and the jackknife is too wide for them:
simulated with known population rankings and 100 documents the interval covers 93 to 99% on the mean
over scores, 88 to 100% of a score of one language (the lowest where a few documents hold most of
it).

`lahis`, `lahis-paper`, `taylor`, `grad_abs` and exact knock-out are computed again from the values
of every document in their files. Of other scores a file has at most the standard error: they are
drawn from the normal distribution that it gives, independently of knock-outs, which adds to se^2
and to the resamples. `random` does not depend on documents; others without a standard error have no
interval.

Documents of the same number are drawn together in all languages, as translations must be; for other
texts this adds no correlation.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from scipy import stats as scipy_stats

from langheads.io.errors import logger
from langheads.scores.formulas import MeanProduct
from langheads.scores.registry import Score, found

GROUPS, RESAMPLES = 20, 200
Rows = Float[np.ndarray, "repeat heads"]


@dataclass(frozen=True)
class Repeats:
    """The values that one language's correlations are computed from, repeatedly.

    Rows: all documents; each group of them left out; resamples; all documents again, for noise.
    """

    weights: Float[np.ndarray, "repeat doc"]
    lost: Rows  # exact knock-out
    gradient: Float[np.ndarray, "doc layer head"] | None  # None: not stored, or of other documents
    groups: int

    def of(self, score: Score, scores: xr.Dataset) -> Rows | None:
        """A score of one language in every repeat; None where its file has too little for it."""
        run = None if score.run is None else found(score.run)
        if isinstance(run, MeanProduct) and self.gradient is not None:
            count = self.weights.sum(axis=1, keepdims=True)
            parts = [
                self.weights @ f(self.gradient).reshape(len(self.gradient), -1) / count
                for f in run.features
            ]
            return np.prod(parts, axis=0)
        values = np.repeat(scores[score.variable].values.reshape(1, -1), len(self.lost), axis=0)
        if not score.passes:
            return values
        if (error := scores.get(f"{score.variable}_se")) is None:
            return None
        noise = np.random.default_rng(0).normal(size=values.shape) * error.values.ravel()
        noise[: 1 + self.groups] = 0
        return values + noise


def repeats(scores: xr.Dataset, exact: xr.Dataset, groups: int, *, paired: bool) -> Repeats:
    """The repeats of one language, from its part of both files."""
    there = exact.doc_tokens.values > 0
    rise = exact.rise.values[there].reshape(int(there.sum()), -1).astype(float)
    count, rng = len(rise), np.random.default_rng(0)
    group = rng.permutation(count) % groups
    weights = np.concatenate(
        [
            np.ones((1, count)),
            group != np.arange(groups)[:, None],
            rng.multinomial(count, np.full(count, 1 / count), RESAMPLES),
            np.ones((RESAMPLES, count)),
        ]
    )
    gradient = None
    if paired and "gradient" in scores and scores.sizes["doc"] >= count:
        gradient = scores.gradient.values[:count].astype(float)
    lost = weights @ rise / (weights @ exact.doc_tokens.values[there])[:, None]
    return Repeats(weights, lost, gradient, groups)


def correlations(a: Rows, b: Rows, heads: Bool[np.ndarray, " heads"]) -> Float[np.ndarray, " _"]:
    """Spearman in every repeat over some heads; NaN for a constant."""
    ranks = [scipy_stats.rankdata(of[:, heads], axis=1) for of in (a, b)]
    x, y = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        rho = (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return rho.round(12)


def interval(
    theta: Float[np.ndarray, " repeat"], groups: int, heads: int | None
) -> tuple[float, float]:
    """Ends of the interval of a correlation over so many heads; None: of a difference of such."""
    if not np.isfinite(theta).all():
        return float("nan"), float("nan")
    # 1 has no finite z; swapping two neighbours takes twice this from it.
    limit = 2.0 if heads is None else 1 - 6 / (heads**3 - heads)
    z = theta if heads is None else np.arctanh(np.clip(theta, -limit, limit))
    full, jackknife = z[0], z[1 : 1 + groups]
    resampled, noisy = np.split(z[1 + groups :], 2)
    se = np.sqrt((groups - 1) * jackknife.var() + noisy.var())
    bias = full - resampled.mean()
    half = np.hypot(scipy_stats.t.ppf(0.975, groups - 1) * se, bias)
    ends = full + bias / 2 + np.array([-half, half])
    low, high = ends.clip(-limit, limit) if heads is None else np.tanh(ends)
    return min(float(low), theta[0]), max(float(high), theta[0])


def beyond_error(exact: xr.Dataset) -> Bool[np.ndarray, "*heads"]:
    """Heads whose effect is beyond 2 standard errors."""
    delta, error = exact.delta_nats_per_token, exact.delta_nats_per_token_se
    return np.asarray(np.abs(delta) > 2 * error)


def intervals(
    scores: xr.Dataset, exact: xr.Dataset, methods: Sequence[Score], best: int, *, paired: bool
) -> dict[str, Float[np.ndarray, "end method *language"]]:
    """Low and high ends, NaN where there is none, of ``spearman``, ``spearman_large`` and
    ``behind`` by language, and ``mean_spearman`` and ``mean_behind`` of the means over languages.

    `exact` is with the zero baseline; `best` is the number of the method that others are held to;
    `paired` are both of the same documents.
    """
    languages = exact.language.values
    found_: dict[str, np.ndarray] = {}
    fewest = int((exact.doc_tokens > 0).sum("doc").min()) if "rise" in exact else 0
    if fewest < 2:
        logger.warning("no intervals: knockout.nc does not hold delta NLL of several documents")
        return found_
    groups = min(GROUPS, fewest)
    theta = np.full((2, len(methods), len(languages), 1 + groups + 2 * RESAMPLES), np.nan)
    for j, language in enumerate(languages):
        of, lost = scores.sel(language=language), exact.sel(language=language)
        made = repeats(of, lost, groups, paired=paired)
        asked = np.isfinite(lost.delta_nats_per_token.values).ravel()
        for i, method in enumerate(methods):
            if (values := made.of(method, of)) is not None:
                for k, heads in enumerate((asked, beyond_error(lost).ravel())):
                    theta[k, i, j] = correlations(values, made.lost, heads)

    def ends(of: np.ndarray, heads: int | None) -> np.ndarray:
        return np.apply_along_axis(interval, -1, of, groups, heads)

    every, large = theta
    behind, heads = every[best] - every, scores.sizes["layer"] * scores.sizes["head"]
    found_ = {"spearman": ends(every, heads), "spearman_large": ends(large, heads)}
    found_ |= {"behind": ends(behind, None), "mean_spearman": ends(every.mean(axis=1), heads)}
    found_ |= {"mean_behind": ends(behind.mean(axis=1), None)}
    return {name: np.moveaxis(of, -1, 0) for name, of in found_.items()}


def add_certainty(
    rows: Mapping[str, Mapping[str, dict[str, float]]],
    per_score: Mapping[str, dict[str, float]],
    scores: xr.Dataset,
    exact: xr.Dataset,
    methods: Sequence[Score],
    *,
    paired: bool,
) -> None:
    """Differences to the best score, means over languages, and the intervals of all of them."""
    spearman = {of.name: [row["spearman"] for row in rows[of.name].values()] for of in methods}
    mean = {name: float(np.mean(of)) for name, of in spearman.items()}
    best = max(mean, key=lambda name: np.nan_to_num(mean[name], nan=-2))
    for name, languages in rows.items():
        if name in mean:
            per_score[name]["mean_spearman"] = mean[name]
            per_score[name]["mean_behind"] = mean[best] - mean[name]
            for language, row in languages.items():
                row["behind"] = rows[best][language]["spearman"] - row["spearman"]
    found = intervals(scores, exact, methods, list(mean).index(best), paired=paired)
    for measure, end in itertools.product(found, ("low", "high")):
        for of, ends in zip(methods, found[measure][int(end == "high")], strict=True):
            if measure.startswith("mean_"):
                per_score[of.name][f"{measure}_{end}"] = ends
                continue
            for row, value in zip(rows[of.name].values(), ends, strict=True):
                row[f"{measure}_{end}"] = value

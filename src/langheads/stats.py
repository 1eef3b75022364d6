"""Statistics: standard errors, permutation tests, bootstrap intervals, rankings of heads.

Change in NLL per byte over paired documents i (the same document with heads on and off):

    delta = sum_i (off_i - on_i) / sum_i bytes_i
    se    = sqrt(n / (n - 1) * sum_i (off_i - on_i - delta bytes_i)^2) / sum_i bytes_i

the standard error of a ratio estimator by linearisation (Cochran, Sampling Techniques, 6.3).

All p-values are (1 + #{null >= observed}) / (1 + #null), one-sided (Phipson and Smyth 2010).

Rankings of heads by a score, ties in the order of the heads:

    precision at n     share of the n highest heads that are relevant, n = number of relevant heads
    average precision  mean over relevant heads of the precision at their rank
    split-half         Spearman correlation of the scores of two halves of the documents, r, brought
                       to the whole length by Spearman and Brown: 2 r / (1 + r)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Imported on first use: `select` needs none of its modules, and `scipy.stats` takes half a second.
import scipy
from jaxtyping import Bool, Float, Int, Num

ALPHA = 0.05
"""A p-value below this counts as shown; intervals cover the rest of 1."""
# Sums of the same numbers in another order can differ by so much.
_ROUNDING = 1e-12


def standard_error(
    rows: Float[np.ndarray, "*rows"], axis: int = 0
) -> Float[np.ndarray, "*conditions"]:
    """Standard error of the mean along an axis; NaN for fewer than 2 rows.

    Example:
        >>> float(standard_error(np.array([1.0, 2.0, 3.0])))
        0.5773502691896258
    """
    count = rows.shape[axis]
    if count < 2:
        return np.full_like(np.asarray(rows.mean(axis=axis)), np.nan)
    return np.asarray(rows.std(axis=axis, ddof=1) / np.sqrt(count))


def ratio(
    part: Num[np.ndarray, "*values"], whole: Num[np.ndarray, "*wholes"], otherwise: float = np.nan
) -> Float[np.ndarray, "*values"]:
    """part / whole; `otherwise` where whole is 0."""
    out = np.full(np.broadcast_shapes(part.shape, whole.shape), otherwise)
    return np.divide(part, whole, out=out, where=whole != 0)


def paired_ratio(
    on: Float[np.ndarray, " doc"],
    off: Float[np.ndarray, " doc *conditions"],
    size: Num[np.ndarray, " doc"],
) -> tuple[Float[np.ndarray, "*conditions"], Float[np.ndarray, "*conditions"]]:
    """ΔNLL per unit of size and its standard error over paired documents.

    Args:
        on: summed NLL of each document, nats, nothing off.
        off: the same with heads off, one or many conditions.
        size: bytes (or tokens) of each document.

    Returns:
        ΔNLL and standard error, ``[*conditions]``, in nats per byte (or token); the error is NaN
        for one document.
    """
    count, total = len(size), size.sum()
    deltas = off - np.expand_dims(on, tuple(range(1, off.ndim)))
    sizes = np.expand_dims(size, tuple(range(1, off.ndim)))
    delta = np.asarray(deltas.sum(axis=0) / total)
    if count < 2:
        return delta, np.full_like(delta, np.nan)
    squares = ((deltas - delta * sizes) ** 2).sum(axis=0)
    return delta, np.asarray(np.sqrt(count / (count - 1) * squares) / abs(total))


def cluster_sums(
    rows: Float[np.ndarray, " example *conditions"], clusters: Sequence[Any] | np.ndarray
) -> tuple[Float[np.ndarray, " cluster *conditions"], Float[np.ndarray, " cluster"]]:
    """Sum and number of the examples of each cluster, in the order of their first examples.

    `paired_ratio` and `bootstrap_interval` of them are the clustered error and interval of a mean.
    """
    names = dict.fromkeys(clusters)
    members = np.array([[of == name for of in clusters] for name in names], dtype=float)
    return np.tensordot(members, rows, axes=1), members.sum(axis=1)


def p_value(beyond: int | np.ndarray, count: int | np.ndarray) -> Any:
    """p = (1 + beyond) / (1 + count), one-sided: `beyond` of `count` null values are as large."""
    return (1 + beyond) / (1 + count)


def permutation_p(
    observed: Float[np.ndarray, "*conditions"], null: Float[np.ndarray, " _ *conditions"]
) -> Float[np.ndarray, "*conditions"]:
    """One-sided p-value of each condition under values of the null, such as random heads.

    Values of the null that are not finite are left out; NaN where nothing was observed.

    Example:
        >>> permutation_p(np.array([2.0]), np.array([[1.0], [2.0], [0.0]]))
        array([0.5])
    """
    p = p_value((null >= observed - _ROUNDING).sum(axis=0), np.isfinite(null).sum(axis=0))
    return np.where(np.isfinite(observed), p, np.nan)


def rank_correlation(a: Float[np.ndarray, "*heads"], b: Float[np.ndarray, "*heads"]) -> float:
    """Spearman rank correlation over the heads that are finite in both; NaN for a constant.

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0.1, 0.2, 0.3]))
        1.0
    """
    finite = np.isfinite(a) & np.isfinite(b)
    x, y = a[finite], b[finite]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return round(float(scipy.stats.spearmanr(x, y).statistic), 12)


def rank_overlap(
    maps: Mapping[str, Float[np.ndarray, "layer head"]], *, top: int
) -> tuple[Float[np.ndarray, "language language"], Float[np.ndarray, "language language"]]:
    """How alike two languages rank the heads, for every pair: Spearman correlation over all heads;
    and shared heads over all heads in either list (Jaccard), of the lists of the `top` highest,
    which heads without a score are not on."""
    stacked = [np.asarray(values, dtype=float) for values in maps.values()]
    correlation = np.array([[rank_correlation(a, b) for b in stacked] for a in stacked])
    lists = [
        {i for i in _falling(values)[:top].tolist() if np.isfinite(values.flat[i])}
        for values in stacked
    ]
    shared = np.array([[len(a & b) / max(1, len(a | b)) for b in lists] for a in lists])
    return correlation, shared


def split_half(a: Float[np.ndarray, "*heads"], b: Float[np.ndarray, "*heads"]) -> float:
    """Reliability of a score from its values on two halves of the documents, 1 at best."""
    r = rank_correlation(a, b)
    # The formula is for agreement; two halves that disagree are no better together.
    return round(2 * r / (1 + r), 12) if r > 0 else r


def precision(score: Float[np.ndarray, "*heads"], relevant: Bool[np.ndarray, "*heads"]) -> float:
    """Precision at as many heads as are relevant; NaN where none is."""
    n = int(relevant.sum())
    return float(relevant.ravel()[_falling(score)[:n]].mean()) if n else float("nan")


def average_precision(
    score: Float[np.ndarray, "*heads"], relevant: Bool[np.ndarray, "*heads"]
) -> float:
    """Mean over relevant heads of the precision at their rank; NaN where none is relevant.

    Example:
        >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
        0.8333333333333333
    """
    hits = relevant.ravel()[_falling(score)]
    at_rank = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(at_rank[hits].mean()) if hits.any() else float("nan")


def bootstrap_interval(
    rows: Float[np.ndarray, " doc *conditions"],
    sizes: Float[np.ndarray, " doc"] | None = None,
    *,
    n_resamples: int = 1000,
    alpha: float = ALPHA,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "*conditions"], Float[np.ndarray, "*conditions"]]:
    """Bootstrap interval of a mean over documents: the wider of the percentile and the t interval.

    The percentile interval is that of `scipy.stats.bootstrap`; for few documents it is too narrow,
    so each end is at least as far as mean -+ t(n - 1) sqrt(n / (n - 1)) sd over resamples.

    Args:
        rows: one row a document.
        sizes: sizes to divide the sum of the rows by; 1 each by default.
        n_resamples: how often the documents are drawn with replacement.
        alpha: the interval covers 1 - alpha.
        seed: of the draws.

    Returns:
        lower and upper end, in the unit of `rows`.
    """
    sizes = np.ones(len(rows)) if sizes is None else sizes
    each = np.broadcast_to(np.expand_dims(sizes, tuple(range(1, rows.ndim))), rows.shape)
    found = scipy.stats.bootstrap(
        (rows, each),
        lambda values, sizes, axis: values.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        n_resamples=n_resamples,
        confidence_level=1 - alpha,
        method="percentile",
        axis=0,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    mean, ends = rows.sum(axis=0) / sizes.sum(), found.confidence_interval
    return widened(mean, (ends.low, ends.high), found.standard_error, len(rows), alpha)


def widened(
    mean: Any, ends: tuple[Any, Any], sd: Any, n: int, alpha: float
) -> tuple[Float[np.ndarray, "*conditions"], Float[np.ndarray, "*conditions"]]:
    """Ends of the percentile interval of n examples, moved out to those of the t interval where
    that is wider; `sd` is over resamples."""
    reach = scipy.stats.t.isf(alpha / 2, n - 1) * np.sqrt(n / (n - 1)) * sd
    low, high = np.minimum(ends[0], mean - reach), np.maximum(ends[1], mean + reach)
    return np.asarray(low), np.asarray(high)


def bootstrap_weights(
    n: int, n_resamples: int, rng: np.random.Generator
) -> Int[np.ndarray, "resample example"]:
    """How often each of n examples is drawn when n are drawn with replacement, a row a resample.

    For ratios, and for draws along two dimensions, whose weights multiply; a product with them
    takes all resamples at once.
    """
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)


def percentile_interval(
    draws: Float[np.ndarray, " draw *conditions"], alpha: float = ALPHA
) -> tuple[Float[np.ndarray, "*conditions"], Float[np.ndarray, "*conditions"]]:
    """The ends of the interval that leaves out alpha / 2 of the draws on each side.

    Draws that are NaN are left out; NaN where all are.
    """
    flat = draws.reshape(len(draws), -1)
    ends = np.full((2, flat.shape[1]), np.nan)
    valued = ~np.isnan(flat).all(axis=0)
    ends[:, valued] = np.nanquantile(flat[:, valued], [alpha / 2, 1 - alpha / 2], axis=0)
    low, high = ends.reshape(2, *draws.shape[1:])
    return low, high


def _falling(score: Float[np.ndarray, "*heads"]) -> Int[np.ndarray, " _"]:
    """Indices of the heads by falling score, NaN last."""
    return np.argsort(-score.ravel(), kind="stable")

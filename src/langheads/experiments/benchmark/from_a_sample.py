"""Sampled knock-out and certified top k, to compare with scores of the same cost.

Both run exact knock-out on some of the documents. Where the scan of all of them is stored, and the
gradients of the same documents, no forward is needed: they are drawn from it, `DRAWS` times. Values
are means over draws, with the ends that 95% of the draws lie between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from langheads import stats
from langheads.experiments.benchmark.intervals import beyond_error
from langheads.scores.sampled_knockout import BACKWARD, auxiliaries, draw, estimate
from langheads.scores.top_knockout import eliminate

SIZES, DRAWS, CONFIDENCE = (16, 32, 64), 20, 0.95


def scan_forwards(layers: int = 32, heads: int = 32) -> float:
    """Forwards a document for all heads: a full one, and for heads of layer l the blocks from l."""
    return 1 + heads * (layers + 1) / 2


def top_size(heads: int) -> int:
    """How many heads `top` counts: ten, or a quarter of few."""
    return min(10, max(1, heads // 4))


def most_lost(lost: np.ndarray) -> np.ndarray:
    """Mask of the heads that lose most, as many as `top_size` says."""
    highest = np.argsort(-lost.ravel(), kind="stable")[: top_size(lost.size)]
    return np.isin(np.arange(lost.size), highest).reshape(lost.shape)


def from_a_sample(scores: xr.Dataset, exact: xr.Dataset) -> dict[str, dict[str, dict[str, float]]]:
    """Name -> language -> measures; ``forwards`` are of every document.

    `exact` is the zero baseline of the same documents, all heads, some of the languages.
    """
    fewest = int((exact.doc_tokens > 0).sum("doc").min())
    sizes = [size for size in SIZES if size < fewest]
    each = {
        str(x): _of_language(scores.sel(language=x), exact.sel(language=x), sizes)
        for x in exact.language.values
        if np.isfinite(exact.delta_nats_per_token).all()
    }
    names = next(iter(each.values()), {})
    return {name: {x: of[name] for x, of in each.items()} for name in names}


def _of_language(
    scores: xr.Dataset, exact: xr.Dataset, sizes: Sequence[int]
) -> dict[str, dict[str, float]]:
    layers = exact.sizes["layer"]
    there = exact.doc_tokens.values > 0
    count, heads = int(there.sum()), layers * exact.sizes["head"]
    rise = exact.rise.values[there].reshape(count, heads).astype(float)
    gradient = scores.gradient.values[:count].reshape(count, heads).astype(float)
    x = auxiliaries(gradient, exact.doc_tokens.values[there])
    lost, large = rise.sum(axis=0), beyond_error(exact).ravel()
    best, k = most_lost(lost), top_size(heads)
    scan = scan_forwards(layers, exact.sizes["head"])
    found = {}
    for size in sizes:
        totals = [
            estimate(rise, x, draw(count, size, np.random.default_rng([size, i]))).total
            for i in range(DRAWS)
        ]
        ranks = [stats.rank_correlation(total, lost) for total in totals]
        of_large = [stats.rank_correlation(total[large], lost[large]) for total in totals]
        row = _over_draws("spearman", ranks) | _over_draws("spearman_large", of_large)
        row |= {"drawn_mean": row["spearman"], "drawn_sd": float(np.std(ranks, ddof=1))}
        row |= {"top": float(np.mean([stats.precision(total, best) for total in totals]))}
        row |= {"forwards": BACKWARD + scan * size / count}
        row |= {"forwards_large": BACKWARD + scan_forwards() * size / count}
        found[f"sample-{size}"] = row
    blocks = np.repeat((layers - np.arange(layers)) / layers, exact.sizes["head"])
    right, cost = [], []
    for i in range(DRAWS):
        top = eliminate(
            lambda documents, some: rise[np.ix_(documents, some)],
            *(x, k),
            confidence=CONFIDENCE,
            most=count,
            rng=np.random.default_rng(i),
        )
        right.append(float((top.chosen & best).sum() / k))
        cost.append(BACKWARD + 1 + float((top.run * blocks).sum()) / count)
    found[f"top-{k}"] = {"top": float(np.mean(right)), "forwards": float(np.mean(cost))}
    return found


def _over_draws(name: str, values: list[float]) -> dict[str, float]:
    """The mean, and the ends that 95% lie between."""
    low, high = np.quantile(values, [0.025, 0.975])
    return {name: float(np.mean(values)), f"{name}_low": float(low), f"{name}_high": float(high)}

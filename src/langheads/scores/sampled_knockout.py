"""Sampled knock-out: every head's effect in nats, from exact knock-out on some of the documents.

Double sampling for regression (Cochran, Sampling Techniques, 5A.11 and ch. 12). All N documents
get two auxiliary variables: the first-order estimate of head h's ΔNLL, from one backward pass
(summed NLL, nats), and their length, predicted tokens:

    x_ih = - d NLL_i / d m_h                           at m = 1

Only n of them, drawn at random, are run with every head off. Head by head, the least-squares plane
of their exact ΔNLL y on both, at the means over all N documents, gives T_h, N times its height
there, and delta_h = T_h / sum_i size_i, the sizes of all N documents being known. The bias is
O(1/n). Beside the line on x alone, length takes a tenth to two thirds off the squared error
(n = 32; geometric mean over heads, by language). Tried and dropped: to run the documents of the
largest x with certainty, weights by size (no gain on every model), more documents for heads that
need them (large heads gain what small ones lose), gradients of fewer documents (at the same cost,
fewer knock-outs lose less).

Interval (``_low``, ``_high``): 95%, for the result of the scan of all N documents, not for the
language. The variance of the plane at that point is from squared residuals over
1 - leverage (HC2, MacKinnon and White 1985) times 1 - n/N, the finite population factor, and times

    mean of x^4 over all / mean of x^4 over the n     where that is above 1

since what a first-order estimate leaves is of second order, and grows with the gate's Fisher
information x^2 (log standard deviation of residuals on log x^2, over heads: slope .7 to 1,
correlation .91 to .98): a draw that missed the large documents has residuals that are too small.
Where it missed nearly all of them there is no error and no interval. The quantile is that of t with
n - 3 degrees of freedom.

Standard error (``_se``): as in exact knock-out, of documents as a sample of the language, with
residuals in place of documents that were not run, and the variance above.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats as scipy_stats
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InputError, logger
from langheads.io.parts import together
from langheads.scores.gradient import gate_gradients
from langheads.stats import ratio
from langheads.text import Documents

CONFIDENCE = 0.95
_FEWEST = 8  # documents that an interval needs
# Share of the mean of x^4 over all: drawn documents with less have a hundredth of the largest
# one's gradient, and their residuals say nothing about its residual.
_SEEN = 1e-6
# The cost of a forward with its backward, in forwards, without gradients of weights.
BACKWARD = 2
Heads = Float[np.ndarray, " heads"]
Deltas = Float[np.ndarray, "doc heads"]
Auxiliaries = Float[np.ndarray, "auxiliary all heads"]


@dataclass(frozen=True)
class Estimate:
    """Total ΔNLL of each head over all documents of a language, in nats."""

    total: Heads  # the estimate
    error: Heads  # its standard error about the total of all documents
    width: Heads  # half of the interval
    # Every document's ΔNLL, the plane's where it was not run.
    rise: Float[np.ndarray, "doc heads"]
    scatter: Heads  # summed squared residuals of the plane, in place of documents not run

    def per(self, size: Int[np.ndarray, " doc"]) -> tuple[Heads, Heads, Heads, Heads]:
        """ΔNLL a unit of size, its standard error over documents, and the ends of the interval."""
        delta, count = self.total / size.sum(), len(size)
        squares = ((self.rise - delta * size[:, None]) ** 2).sum(axis=0) + self.scatter
        between = count / (count - 1) * squares if count > 1 else np.full_like(delta, np.nan)
        error, width = np.sqrt(between + self.error**2) / size.sum(), self.width / size.sum()
        return delta, error, delta - width, delta + width


def sample_sizes(sample: int | float, documents: Mapping[str, Documents]) -> dict[str, int] | None:
    """How many documents of each language are run; None, with a warning, if all are.

    `sample` is a share of the documents, or a number of them (an int); too few for an interval are
    refused.
    """
    number = isinstance(sample, Integral) and not isinstance(sample, bool)
    if isinstance(sample, bool) or not (sample >= 1 if number else 0 < sample <= 1):
        raise InputError(
            f"sample {sample} asked for; allowed are a number of documents, or a share of them "
            "above 0 and at most 1, such as 0.1"
        )
    sizes = {}
    for language, of in documents.items():
        # Rounded first: 10 * 0.3 is a little above 3.
        count = int(sample) if number else math.ceil(round(sample * len(of), 9))
        sizes[language] = min(count, len(of))
        if count < min(len(of), _FEWEST):
            raise InputError(
                f"sample {sample} asked for, which draws {count} of the {len(of)} documents of "
                f"language {language}; at least {_FEWEST} are needed"
            )
    if any(count < len(documents[language]) for language, count in sizes.items()):
        return sizes
    logger.warning("sample %s is no less than all documents: the full scan is made", sample)
    return None


def auxiliaries(gradient: Deltas, tokens: Int[np.ndarray, " doc"]) -> Auxiliaries:
    """First-order ΔNLL and length of every document; gradients are of the mean NLL."""
    length = np.broadcast_to(tokens[:, None], gradient.shape)
    return np.stack([-gradient * length, length])


def first_order(
    model: TransformerBridge,
    documents: Documents,
    heads: HeadSet,
    baselines: Iterable[Float[Tensor, "layer head d_head"] | None],
    **how: Any,
) -> tuple[Float[np.ndarray, "baseline auxiliary doc heads"], Float[np.ndarray, " doc"]]:
    """The `auxiliaries` of every document under each baseline, and its summed NLL; nats."""
    at = tuple(np.array(list(heads)).T)
    tokens = documents.n_predicted
    found, nll = [], np.zeros(len(documents))
    with together() as each:
        for baseline in baselines:
            with each:
                gradient, nll = gate_gradients(model, documents, baseline=baseline, **how)
                found.append(auxiliaries(gradient[(slice(None), *at)], tokens))
    return np.stack(found), nll * tokens


def draw(documents: int, count: int, rng: np.random.Generator) -> Int[np.ndarray, " _"]:
    """The documents that are run: `count` of so many, or all."""
    return np.sort(rng.permutation(documents)[:count])


def estimate(rise: Deltas, of_all: Auxiliaries, drawn: Int[np.ndarray, " _"]) -> Estimate:
    """Total ΔNLL over all documents, nats, from those `drawn` and the auxiliaries of all."""
    among, count, df = len(rise), len(drawn), len(drawn) - 1 - len(of_all)
    if count == among:
        none = np.zeros(rise.shape[1])
        return Estimate(rise.sum(axis=0), none, none, rise, none)
    filled, parts = plane(rise[drawn], of_all, drawn)
    total, residual = filled.sum(axis=0), rise[drawn] - filled[drawn]
    filled[drawn] = rise[drawn]
    error = among * np.sqrt((1 - count / among) * (parts**2).sum(axis=0))
    return Estimate(
        total=total,
        error=error,
        width=scipy_stats.t.ppf((1 + CONFIDENCE) / 2, df) * error,
        rise=filled,
        scatter=(among - count) * (residual**2).sum(axis=0) / df,
    )


def plane(
    y: Float[np.ndarray, "drawn heads"], of_all: Auxiliaries, drawn: Int[np.ndarray, " drawn"]
) -> tuple[Deltas, Float[np.ndarray, "drawn heads"]]:
    """Every document's height on the least-squares plane of ΔNLL `y` on the auxiliaries, head by
    head, and the share of each drawn document's residual in the mean height; its square is HC2's,
    times what the draw missed of x^4, NaN where that is nearly all."""
    height = np.tile(y.mean(axis=0), (of_all.shape[1], 1))
    leverage, weight = np.full((2, *y.shape), 1 / len(drawn))
    before: list[tuple[Deltas, Heads]] = []
    for x in of_all:
        across = x - x[drawn].mean(axis=0)
        # Gram and Schmidt: its part orthogonal to those before it.
        for other, squares in before:
            across = across - other * ((other * across)[drawn].sum(axis=0) / squares)
        squares = (across[drawn] ** 2).sum(axis=0)
        # A remainder of rounding, as of equal lengths, gets no slope.
        squares = np.where(squares > 1e-12 * (x[drawn] ** 2).sum(axis=0), squares, np.inf)
        before.append((across, squares))
        height += across * ((across[drawn] * y).sum(axis=0) / squares)
        leverage += across[drawn] ** 2 / squares
        weight += across[drawn] * (across.mean(axis=0) / squares)
    fourth = of_all[0] ** 4
    every, seen = fourth.mean(axis=0), fourth[drawn].mean(axis=0)
    missed = np.where(seen < _SEEN * every, np.nan, np.maximum(1, ratio(every, seen, 1.0)))
    shrunk = np.sqrt(np.maximum(1 - leverage, 1e-9))
    return height, np.sqrt(missed) * weight * (y - height[drawn]) / shrunk


def forwards(
    documents: Mapping[str, Documents], sizes: Mapping[str, int], heads: HeadSet, baselines: int
) -> float:
    """The cost of a sampled knock-out, in forwards of every document."""
    layers = heads.shape[0]
    scan = 1 + sum((layers - head.layer) / layers for head in heads)
    every = sum(map(len, documents.values()))
    return baselines * (BACKWARD + scan * sum(sizes.values()) / every)

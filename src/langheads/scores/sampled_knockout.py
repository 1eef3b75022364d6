"""Sampled knock-out: every head's effect in nats, from exact knock-out on some of the documents.

Double sampling for regression (Cochran, Sampling Techniques, 5A.11 and ch. 12). All N documents
get the first-order estimate of the rise of head h, from one backward pass (summed NLL, nats):

    x_ih = - d NLL_i / d m_h                           at m = 1

Only n of them, drawn at random, are run with every head off. Head by head, the least-squares line
of their exact rises y on x, at the mean of x over all N documents, gives

    T_h = N (y_mean + b_h (x_mean of all - x_mean of the n)),     delta_h = T_h / sum_i size_i

the sizes of all N documents being known. The bias is O(1/n). To run the documents of the largest x
with certainty was tried and dropped: it takes from the random part what orders the heads, and their
intervals held no more often.

Interval (``_low``, ``_high``): 95%, for what the scan of all N documents would give; it is no
interval for the language. The variance of the line at that mean is from leave-one-out residuals
(HC3, MacKinnon and White 1985) times 1 - n/N, the finite population factor. A few residuals of
a heavy tail understate it, so it is

    moderated   towards a trend over heads, log variance on log variance of x over all
                (Smyth 2004). Departure: the prior is the mean of the log-normal about the trend,
                at most e times the trend itself; it is above Smyth's and covers better where
                rises are heavy-tailed
    no less     than the head's own
    widened     by var(x over all) / var(x over the n) where that is above 1: a draw
                that missed the large documents

and the quantile is that of t with n - 2 degrees of freedom.

Standard error (``_se``): as in exact knock-out, of documents as a sample of the language, with the
residuals that stand for documents that were not run, and the variance above.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import special
from scipy import stats as scipy_stats
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.io.parts import together
from langheads.scores.gradient import gate_gradients
from langheads.text import Documents

CONFIDENCE = 0.95
_FEWEST = 8  # documents that an interval needs
# Heads that a trend over heads needs at least.
_MIN_TREND = 10
# Forwards that a forward with its backward costs, where no gradient of weights is made.
BACKWARD = 2
Heads = Float[np.ndarray, " heads"]
logger = logging.getLogger("langheads")


@dataclass(frozen=True)
class Estimate:
    """Total rise of each head over all documents of a language, in nats."""

    total: Heads  # the estimate
    error: Heads  # its standard error about the total of all documents
    width: Heads  # half of the interval
    # Every document's rise, that of the line where it was not run.
    rise: Float[np.ndarray, "doc heads"]
    scatter: Heads  # summed squared residuals that documents have about the line which were not run

    def per(self, size: Int[np.ndarray, " doc"]) -> tuple[Heads, Heads, Heads, Heads]:
        """Rise a unit of size, its standard error over documents, and the ends of the interval."""
        delta, count = self.total / size.sum(), len(size)
        squares = ((self.rise - delta * size[:, None]) ** 2).sum(axis=0) + self.scatter
        between = count / (count - 1) * squares if count > 1 else np.full_like(delta, np.nan)
        error, width = np.sqrt(between + self.error**2) / size.sum(), self.width / size.sum()
        return delta, error, delta - width, delta + width


def sample_sizes(sample: int | float, documents: Mapping[str, Documents]) -> dict[str, int] | None:
    """How many documents of each language are run; None, and a word on the log, if all are.

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


def first_order(
    model: TransformerBridge,
    documents: Documents,
    heads: HeadSet,
    baselines: Iterable[Float[Tensor, "layer head d_head"] | None],
    **how: Any,
) -> tuple[Float[np.ndarray, "baseline doc heads"], Float[np.ndarray, " doc"]]:
    """First-order rise of every document under each baseline, and its summed NLL; nats."""
    at = tuple(np.array(list(heads)).T)
    tokens = documents.n_predicted
    rises, nll = [], np.zeros(len(documents))
    with together() as each:
        for baseline in baselines:
            with each:
                gradient, nll = gate_gradients(model, documents, baseline=baseline, **how)
                rises.append(-gradient[(slice(None), *at)] * tokens[:, None])
    return np.stack(rises), nll * tokens


def draw(documents: int, count: int, rng: np.random.Generator) -> Int[np.ndarray, " _"]:
    """Which of so many documents are run: `count` of them, or all."""
    return np.sort(rng.permutation(documents)[:count])


def estimate(
    rise: Float[np.ndarray, "doc heads"],
    x: Float[np.ndarray, "doc heads"],
    drawn: Int[np.ndarray, " _"],
) -> Estimate:
    """Total rise over all documents, nats, from those `drawn`; x is first order, of all."""
    among, count = len(x), len(drawn)
    if count == among:
        none = np.zeros(x.shape[1])
        return Estimate(rise.sum(axis=0), none, none, rise, none)
    y, x_drawn = rise[drawn], x[drawn]
    centred = x_drawn - x_drawn.mean(axis=0)
    squares = (centred**2).sum(axis=0)
    safe = np.where(squares > 0, squares, 1)
    slope = (centred * (y - y.mean(axis=0))).sum(axis=0) / safe
    line = y.mean(axis=0) + slope * (x - x_drawn.mean(axis=0))
    residual = y - line[drawn]
    shift = x.mean(axis=0) - x_drawn.mean(axis=0)
    left_out = residual / np.maximum(1 - 1 / count - centred**2 / safe, 1e-9)
    own = (1 - count / among) * (((1 / count + centred * shift / safe) * left_out) ** 2).sum(axis=0)
    spread = x.var(axis=0)
    missed = np.maximum(1, spread * count / safe)
    variance = missed * np.maximum(own, moderated(own, count - 2, spread))
    filled = line.copy()
    filled[drawn] = y
    error = among * np.sqrt(variance)
    return Estimate(
        total=line.sum(axis=0),
        error=error,
        width=scipy_stats.t.ppf((1 + CONFIDENCE) / 2, count - 2) * error,
        rise=filled,
        scatter=(among - count) * (residual**2).sum(axis=0) / (count - 2),
    )


def moderated(variance: Heads, df: int, spread: Heads) -> Heads:
    """Variances with `df` degrees of freedom, drawn towards their trend over heads (Smyth 2004).

    The trend is on log `spread`. Unchanged where few heads or none have one; heads whose variance
    or spread is 0 have none.
    """
    there = (variance > 0) & (spread > 0)
    if there.sum() < _MIN_TREND:
        return variance
    log = np.log(variance[there])
    lines = np.stack([np.ones(len(log)), np.log(spread[there])], axis=1)
    trend = lines @ np.linalg.lstsq(lines, log, rcond=None)[0]
    # Chance alone spreads log variances by trigamma(df / 2), and lowers them by the bias.
    more = max(float((log - trend).var(ddof=2) - special.polygamma(1, df / 2)), 1e-3)
    prior_df = 2 * _inverse_trigamma(more)
    prior = np.exp(trend - special.digamma(df / 2) + np.log(df / 2) + min(more, 2) / 2)
    out = variance.copy()
    out[there] = (prior_df * prior + df * variance[there]) / (prior_df + df)
    return out


def _inverse_trigamma(value: float) -> float:
    """The y with trigamma(y) = value, by Newton's method on 1 / trigamma (Smyth 2004)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = special.polygamma(1, y)
        y += trigamma * (1 - trigamma / value) / special.polygamma(2, y)
    return float(y)


def forwards(
    documents: Mapping[str, Documents], sizes: Mapping[str, int], heads: HeadSet, baselines: int
) -> float:
    """What a sampled knock-out costs, in forwards of every document."""
    layers = heads.shape[0]
    scan = 1 + sum((layers - head.layer) / layers for head in heads)
    every = sum(map(len, documents.values()))
    return baselines * (BACKWARD + scan * sum(sizes.values()) / every)

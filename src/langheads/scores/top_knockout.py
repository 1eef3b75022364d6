"""Certified top k: the heads whose removal costs most, from as few knock-outs as it takes.

Successive elimination (Even-Dar, Mannor and Mansour 2006) on paired differences. Documents come in
a random order. After n of all N documents the ΔNLL T_h of head h, were all N run, is estimated by
its regression on first-order ΔNLL and length of all documents (`scores.sampled_knockout`), and two
heads are apart where T_h - T_k is beyond t times its standard error, that of the paired difference
of residuals (each head's larger by what the draw missed of its x^4), with the finite population
factor 1 - n/N. A head that is apart from all but k - 1 others is in the top k, one below k others
is out; neither is run again, and the others go on with half as many documents more. When all N are
run the order is exact.

t is the quantile at (1 - confidence) / (stages x pairs), two-sided: the answer is that of the scan
of all N documents with at least the stated confidence, as far as residuals are near normal; held
by simulation with heavy tails, but not where heads act in few documents: with one in twenty, 15 to
17 answers of 100 at 95% were wrong. It is no statement on documents that were not given.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from scipy import stats as scipy_stats

from langheads.io.errors import InputError
from langheads.scores.sampled_knockout import BACKWARD, Auxiliaries, Deltas, estimate, plane
from langheads.text import Documents

logger = logging.getLogger("langheads")
_FIRST, _GROWTH = 24, 1.5
Measure = Callable[[Int[np.ndarray, " doc"], Int[np.ndarray, " heads"]], Deltas]


@dataclass(frozen=True)
class Top:
    """What the elimination found.

    Attributes:
        chosen: ``[heads]`` in the top k.
        open: ``[heads]`` not separated from the k-th when the documents allowed were run.
        rise: ``[doc, heads]`` exact ΔNLL, NaN where not run.
        order: the order in which documents were run, all of them.
        run: ``[heads]`` how many documents of that order a head was run on.
    """

    chosen: Bool[np.ndarray, " heads"]
    open: Bool[np.ndarray, " heads"]
    rise: Deltas
    order: Int[np.ndarray, " doc"]
    run: Int[np.ndarray, " heads"]


def eliminate(
    measure: Measure,
    of_all: Auxiliaries,
    k: int,
    *,
    confidence: float,
    most: int,
    rng: np.random.Generator,
) -> Top:
    """The k heads with the largest total ΔNLL.

    Args:
        measure: exact ΔNLL of some documents under some heads, by their indices.
        of_all: what is known of all documents.
        k: how many heads, at least 1 and fewer than there are.
        confidence: that the answer is that of the full scan.
        most: documents that may be run.
        rng: of the order of the documents.
    """
    _, count, heads = of_all.shape
    order = rng.permutation(count)
    stages = 1 + math.ceil(math.log(max(count / _FIRST, 1)) / math.log(_GROWTH))
    error = (1 - confidence) / stages
    rise, run = np.full((count, heads), np.nan), np.zeros(heads, dtype=np.int64)
    chosen, left, n = np.zeros(heads, dtype=bool), np.arange(heads), 0
    while len(left) and n < most:
        new = order[n : min(most, max(_FIRST, math.ceil(_GROWTH * n)))]
        n += len(new)
        rise[np.ix_(new, left)] = measure(new, left)
        run[left] = n
        done = order[:n]
        need = k - int(chosen.sum())
        above = _apart(rise[np.ix_(done, left)], of_all[..., left], done, error)
        sure, out = above.sum(axis=1) >= len(left) - need, above.sum(axis=0) >= need
        chosen[left[sure]] = True
        left = left[~sure & ~out]
    return Top(chosen, np.isin(np.arange(heads), left), rise, order, run)


def check_top(top: int, confidence: float, heads: int) -> None:
    """Refuses a top of no or of all heads; says what finding it may cost."""
    if not 1 <= top < heads:
        raise InputError(f"top {top} of {heads} heads asked for; at least 1, and fewer than all")
    if not 0 < confidence < 1:
        raise InputError(f"confidence {confidence} asked for; it is between 0 and 1")
    logger.warning(
        "top %d of %d heads: from %d documents a language to the scan of all of them, as far as "
        "heads are hard to tell apart",
        *(top, heads, _FIRST),
    )


def per_size(
    top: Top, of_all: Auxiliaries, size: Int[np.ndarray, " doc"]
) -> tuple[np.ndarray, ...]:
    """ΔNLL of each head a unit of size, its standard error, and the ends of its interval."""
    found = np.full((4, len(top.run)), np.nan)
    for n in np.unique(top.run):
        heads = top.run == n
        found[:, heads] = estimate(top.rise[:, heads], of_all[..., heads], top.order[:n]).per(size)
    return tuple(found)


def forwards(
    run: Int[np.ndarray, "baseline language layer head"], documents: Mapping[str, Documents]
) -> float:
    """What it cost, in forwards of every document."""
    layers = run.shape[2]
    every = sum(map(len, documents.values()))
    blocks = (layers - np.arange(layers)) / layers
    return len(run) * (BACKWARD + 1) + float((run.sum(axis=(1, 3)) * blocks).sum()) / every


def _apart(
    y: Deltas, of_all: Auxiliaries, done: Int[np.ndarray, " doc"], error: float
) -> Bool[np.ndarray, "heads heads"]:
    """Whether the head of the row loses surely more than that of the column."""
    (n, heads), count = y.shape, of_all.shape[1]
    if n == count:
        # Everything was run; heads that lose the same go by their number.
        place = np.argsort(np.argsort(-y.mean(axis=0), kind="stable"))
        return place[:, None] < place
    df = n - 1 - len(of_all)
    if df < 2:
        return np.zeros((heads, heads), dtype=bool)
    height, parts = plane(y, of_all, done)
    total, products = height.mean(axis=0), parts.T @ parts
    own = np.diag(products)
    variance = (own[:, None] + own - 2 * products) * (1 - n / count)
    pairs = max(1, heads * (heads - 1) // 2)
    t = scipy_stats.t.isf(error / pairs / 2, df)
    # Nothing is beyond an error that is not known.
    return (total[:, None] - total) > t * np.sqrt(np.maximum(variance, 0)) + 1e-12

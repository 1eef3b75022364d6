"""The diagonal of a specificity matrix D[heads of A off, text of B], and its test.

    share  = share of rows A in which B = A has the largest ΔNLL
    margin = mean_A (D[A, A] - mean_{B != A} D[A, B])

Null: each row's heads are a random one of the chosen set and its controls, which have as many heads
in each layer; p over null matrices that are all different.

Which language a head hurts most depends on the unit: a column in nats per token is that in nats per
byte times the bytes a token of that language. Every statistic is therefore taken in each of

    nats per byte, nats per token, share of the loss     D[A, B] x a constant of B
    nats per document                                    the same, where documents are translations
    random heads' effect                                 r[A, B] / mean_B (|r[A, B]| + se(r[A, B]))

with r[A, B] = D[A, B] / mean_s |D[s, B]|, s over A's heads and its random head sets: relative to
the effect of any heads of these layers on that text, so independent of unit, language and layer;
and taken as a share of its row, so that heads that hurt all languages are no more specific than
weak ones. The standard error keeps a ΔNLL that is noise from being a large share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from langheads.experiments.matched_heads import NULL_DRAWS, random_choices
from langheads.stats import permutation_p, ratio

PER_BYTE, RANDOM_HEADS = "nats per byte", "random heads' effect"


def diagonal(
    matrix: Float[np.ndarray, "heads_of text_of"], own: Sequence[int]
) -> tuple[float, float]:
    """(share, margin) of a specificity matrix; `own` is the column of each row's own language.

    Example:
        >>> diagonal(np.array([[3.0, 1.0], [5.0, 4.0]]), own=[0, 1])
        (0.5, 0.5)
    """
    share, margin = _diagonals(matrix, own)
    return float(share), float(margin)


def _diagonals(
    matrices: Float[np.ndarray, "*draw heads_of text_of"], own: Sequence[int]
) -> Float[np.ndarray, " statistic *draw"]:
    rows = np.arange(matrices.shape[-2])
    others = matrices.astype(float)
    others[..., rows, own] = np.nan
    mine = matrices[..., rows, own]
    ahead, margin = mine > np.nanmax(others, axis=-1), mine - np.nanmean(others, axis=-1)
    return np.stack([ahead.mean(axis=-1), margin.mean(axis=-1)])


def in_units(
    every: Float[np.ndarray, "heads_of choice text_of"],
    error: Float[np.ndarray, "heads_of choice text_of"],
    per_unit: Mapping[str, Float[np.ndarray, " text_of"]],
) -> dict[str, Float[np.ndarray, "heads_of choice text_of"]]:
    """Unit -> the matrix in it; see the head of this module.

    Args:
        every: nats per byte of each row's heads, then of its random head sets (NaN where fewer).
        error: their standard errors; NaN (one document) counts as 0.
        per_unit: unit -> for each text, how many of it one nat per byte is.
    """
    cost = np.nansum(np.abs(every), axis=1, keepdims=True)
    count = np.isfinite(every).sum(axis=1, keepdims=True)
    per_cost = ratio(count, cost, otherwise=0.0)
    relative, noise = every * per_cost, np.nan_to_num(error) * per_cost
    row = (np.abs(relative) + noise).mean(axis=2, keepdims=True)
    share = ratio(relative, row, otherwise=0.0)
    return {unit: every * scale for unit, scale in per_unit.items()} | {RANDOM_HEADS: share}


def own_over_others(
    share: Float[np.ndarray, "heads_of choice text_of"], own: Sequence[int]
) -> Float[np.ndarray, "heads_of choice"]:
    """The share of a row's effect on its own language, minus the mean share of the others."""
    rows = np.arange(len(share))
    mine = share[rows, :, own]
    return mine - (share.sum(axis=2) - mine) / (share.shape[2] - 1)


def diagonal_test(
    matrix: Float[np.ndarray, "*unit heads_of text_of"],
    own: Sequence[int],
    controls: Float[np.ndarray, "*unit heads_of control text_of"],
    *,
    rng: np.random.Generator,
    same: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The diagonal's ``share`` and ``margin``, their p-values under random heads (``_p``), and how
    many null matrices these are from (``draws``, `NULL_DRAWS` at most), each ``[*unit]``.

    NaN where the text is in one language only, since there is nothing to compare with.

    Args:
        matrix: rows heads of A off, columns text of B.
        own: column of each row's own language.
        controls: for each row, the ΔNLL under different random layer-matched head sets, none of
            them its own; NaN after the last of a row that has fewer.
        rng: source of the draws; a null matrix takes a random choice in each row, so few controls
            a row make many matrices. All units are tested with the same ones.
        same: equal numbers for rows with the same heads, which are drawn together.
    """
    *units, n_rows, n_texts = matrix.shape
    if n_texts < 2:
        nothing = np.full(units, np.nan)
        return dict.fromkeys(("share", "share_p", "margin", "margin_p", "draws"), nothing)
    every = np.concatenate([matrix[..., None, :], controls], axis=-2)
    there = np.isfinite(every.reshape(-1, n_rows, *every.shape[-2:])[0]).all(axis=-1)
    chosen = random_choices(there.sum(axis=1).tolist(), NULL_DRAWS, rng, same=same)
    observed = _diagonals(matrix, own)
    null = np.moveaxis(_diagonals(every[..., np.arange(n_rows), chosen, :], own), -1, 0)
    (share, margin), (share_p, margin_p) = observed, permutation_p(observed, null)
    return {
        "share": share, "share_p": share_p, "margin": margin, "margin_p": margin_p,
        "draws": np.full(units, len(null)),
    }  # fmt: skip

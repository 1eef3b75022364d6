"""The diagonal of a specificity matrix D[heads of A off, text of B], and its test.

    share  = share of rows A in which B = A has the largest rise
    margin = mean_A (D[A, A] - mean_{B != A} D[A, B])

Null: each row's heads are a random head set of the same number of heads in each layer, any of the
chosen one and its controls; p over null matrices that are all different.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from langheads.experiments.matched_heads import NULL_DRAWS, random_choices
from langheads.stats import permutation_p


def diagonal(
    matrix: Float[np.ndarray, "heads_of text_of"], own: Sequence[int]
) -> tuple[float, float]:
    """(share, margin) of a specificity matrix.

    Args:
        matrix: rows heads of A off, columns text of B; nats per byte.
        own: column of each row's own language.

    Returns:
        share of rows whose own language has the strictly largest rise, 0 to 1; and the mean
        margin of own over others, in the matrix's unit.

    Example:
        >>> diagonal(np.array([[0.3, 0.1], [0.4, 0.2]]), own=[0, 1])
        (0.5, 0.0)
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


def diagonal_test(
    matrix: Float[np.ndarray, "heads_of text_of"],
    own: Sequence[int],
    controls: Float[np.ndarray, "heads_of control text_of"],
    *,
    rng: np.random.Generator,
    same: Sequence[int] | None = None,
) -> dict[str, float]:
    """The diagonal's share and margin, each with its p-value under random heads.

    Args:
        matrix: rows heads of A off, columns text of B.
        own: column of each row's own language.
        controls: for each row, the rises under different random layer-matched head sets, none of
            them its own; NaN after the last of a row that has fewer.
        rng: source of the draws; a null matrix takes a random one of the row and its controls for
            each row, so few controls a row can make many.
        same: equal numbers for rows that are the same heads, which are drawn together.

    Returns:
        ``share``, ``share_p``, ``margin``, ``margin_p`` and ``draws``, how many null matrices,
        `NULL_DRAWS` at most; NaN where the text is in one language only, since there is nothing to
        compare with.
    """
    if matrix.shape[1] < 2:
        return dict.fromkeys(("share", "share_p", "margin", "margin_p", "draws"), float("nan"))
    rows = np.arange(len(matrix))
    every = np.concatenate([matrix[:, None], controls], axis=1)
    counts = np.isfinite(every).all(axis=2).sum(axis=1)
    chosen = random_choices(counts.tolist(), NULL_DRAWS, rng, same=same)
    share, margin = diagonal(matrix, own)
    null = _diagonals(every[rows, chosen], own).T
    p = permutation_p(np.array([share, margin]), null)
    return {
        "share": share, "share_p": float(p[0]), "margin": margin, "margin_p": float(p[1]),
        "draws": len(null),
    }  # fmt: skip

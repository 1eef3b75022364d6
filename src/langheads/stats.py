"""Statistics of ablations: a ratio with its standard error, and a permutation test of a diagonal.

Rise in NLL per byte over paired documents i (the same document with heads on and off):

    delta = sum_i (off_i - on_i) / sum_i bytes_i
    se    = sqrt(n / (n - 1) * sum_i (off_i - on_i - delta bytes_i)^2) / sum_i bytes_i

the standard error of a ratio estimator by linearisation (Cochran, Sampling Techniques, 6.3).

Diagonal of a specificity matrix D[heads of A off, text of B]:

    share  = share of rows A in which B = A has the largest rise
    margin = mean_A (D[A, A] - mean_{B != A} D[A, B])

Null: each row's heads are replaced by a random head set of the same number of heads in each layer.
p = (1 + #{null statistic >= observed}) / (1 + null matrices), one-sided (Phipson and Smyth 2010).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def paired_ratio(
    on: Float[np.ndarray, " doc"],
    off: Float[np.ndarray, "doc *conditions"],
    size: Int[np.ndarray, " doc"],
) -> tuple[Float[np.ndarray, "*conditions"], Float[np.ndarray, "*conditions"]]:
    """Rise per unit of size and its standard error over paired documents.

    Args:
        on: summed NLL of each document, nats, nothing off.
        off: the same with heads off, one or many conditions.
        size: bytes (or tokens) of each document.

    Returns:
        rise and standard error, ``[*conditions]``, in nats per byte (or token); the error is NaN
        for one document.
    """
    count, total = len(size), size.sum()
    rises = off - np.expand_dims(on, tuple(range(1, off.ndim)))
    sizes = np.expand_dims(size, tuple(range(1, off.ndim)))
    rise = np.asarray(rises.sum(axis=0) / total)
    if count < 2:
        return rise, np.full_like(rise, np.nan)
    squares = ((rises - rise * sizes) ** 2).sum(axis=0)
    return rise, np.asarray(np.sqrt(count / (count - 1) * squares) / total)


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
    rows = np.arange(len(matrix))
    others = matrix.astype(float)
    others[rows, own] = np.nan
    ahead = matrix[rows, own] > np.nanmax(others, axis=1)
    margin = matrix[rows, own] - np.nanmean(others, axis=1)
    return float(ahead.mean()), float(margin.mean())


def at_least(
    observed: Float[np.ndarray, " text_of"], controls: Float[np.ndarray, "control text_of"]
) -> Float[np.ndarray, " text_of"]:
    """p = (1 + #{controls >= observed}) / (1 + controls), one-sided, column by column.

    Example:
        >>> at_least(np.array([2.0]), np.array([[1.0], [2.0], [0.0]]))
        array([0.5])
    """
    return (1 + (controls >= observed - 1e-12).sum(axis=0)) / (1 + len(controls))


def diagonal_test(
    matrix: Float[np.ndarray, "heads_of text_of"],
    own: Sequence[int],
    controls: Float[np.ndarray, "heads_of control text_of"],
    *,
    rng: np.random.Generator,
) -> dict[str, float]:
    """The diagonal's share and margin, each with its p-value under random heads.

    As many null matrices are made as there are controls, so no p is below 1 / (1 + controls).

    Args:
        matrix: rows heads of A off, columns text of B.
        own: column of each row's own language.
        controls: for each row, the rises under random layer-matched head sets. Rows may have the
            same sets: each row takes its own in an order of its own.
        rng: source of these orders.

    Returns:
        ``share``, ``share_p``, ``margin``, ``margin_p``; NaN where the text is in one language
        only, since there is nothing to compare with.
    """
    if matrix.shape[1] < 2:
        return dict.fromkeys(("share", "share_p", "margin", "margin_p"), float("nan"))
    share, margin = diagonal(matrix, own)
    draws = controls.shape[1]
    shuffled = [row[rng.permutation(draws)] for row in controls]
    null = np.array([diagonal(np.array(rows), own) for rows in zip(*shuffled, strict=True)])
    beyond = (null >= np.array([share, margin]) - 1e-12).sum(axis=0)
    p = (1 + beyond) / (1 + draws)
    return {"share": share, "share_p": float(p[0]), "margin": margin, "margin_p": float(p[1])}

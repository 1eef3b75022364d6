"""The matched-head control: the same intervention on other heads.

In each layer the touched heads are replaced by as many others, drawn at random (see
`HeadSet.other_sets`). They get the same gates, so a control has the same gates in the same layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from langheads.heads import Head, HeadSet

Matched = dict[Head, Head]
"""Touched head -> the head of its layer that takes its place."""
NULL_DRAWS = 999
"""The most draws of a test over several rows; fewer where not so many differ."""


def matched_controls(touched: HeadSet, n_controls: int, rng: np.random.Generator) -> list[Matched]:
    """Draw controls; fewer than `n_controls` where not so many differ.

    Example:
        >>> heads = HeadSet(["L0H0", "L1H1"], (2, 2))
        >>> (control,) = matched_controls(heads, 1, np.random.default_rng(0))
        >>> {str(head): str(other) for head, other in control.items()}
        {'L0H0': 'L0H1', 'L1H1': 'L1H0'}
    """
    # Both are sorted by layer, with as many heads of each.
    return [
        dict(zip(sorted(touched), others, strict=True))
        for others in touched.other_sets(n_controls, rng)
    ]


def controls_by_row(
    rows: Mapping[str, HeadSet], n_controls: int, rng: np.random.Generator
) -> dict[str, list[HeadSet]]:
    """Row -> its random head sets, all different and none its own; see `HeadSet.matched_sets`.

    Rows with as many heads in each layer share their sets, so that these run once: where one of
    them is a row's own, the heads that they were drawn for take its place. A row without heads has
    none.
    """
    first: dict[tuple[int, ...], tuple[HeadSet, list[HeadSet]]] = {}
    for heads in filter(None, rows.values()):
        if (profile := heads.per_layer()) not in first:
            first[profile] = heads, heads.matched_sets(n_controls, rng)
    found: dict[str, list[HeadSet]] = {}
    for row, heads in rows.items():
        drawn_for, sets = first[heads.per_layer()] if heads else (heads, [])
        found[row] = [drawn_for if some == heads else some for some in sets]
    return found


def random_choices(
    counts: Sequence[int],
    n: int,
    rng: np.random.Generator,
    *,
    same: Sequence[int] | None = None,
) -> Int[np.ndarray, "draw row"]:
    """Different random choices of one of ``counts[row]`` for each row, not all of them the first.

    All of them where there are fewer than n. The first is a row's own heads, the others its random
    ones: under the null all choices are equally likely, with the observed one. Rows with equal
    numbers in `same` are the same heads, which are chosen together.

    Example:
        >>> random_choices([2, 2], 9, np.random.default_rng(0)).tolist()
        [[1, 1], [0, 1], [1, 0]]
    """
    labels = range(len(counts)) if same is None else same
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    sizes = [counts[i] for i in first]
    there = math.prod(sizes)
    if there <= 2 * n:
        chosen = 1 + rng.permutation(there - 1)[:n]
        return np.stack(np.unravel_index(chosen, sizes), axis=-1)[:, group]
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < n:
        choices = map(tuple, rng.integers(sizes, size=(n, len(sizes))).tolist())
        drawn |= dict.fromkeys(choice for choice in choices if any(choice))
    return np.array(list(drawn)[:n])[:, group]


def matched_gates(
    gates: Float[Tensor, "layer head"], control: Matched
) -> Float[Tensor, "layer head"]:
    """The gates of the touched heads on those of the control, 1 elsewhere."""
    found = torch.ones_like(gates)
    for head, other in control.items():
        found[other] = gates[head]
    return found


def matched_set(heads: HeadSet, control: Matched) -> HeadSet:
    """The heads of the control in place of these."""
    return HeadSet([control[head] for head in heads], heads.shape)

"""The matched-head control: the same intervention on other heads, so nothing differs but which.

In each layer the touched heads are replaced by as many others, drawn at random (see
`HeadSet.other_sets`). Gates go with them, so a control has the same numbers in the same layers.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from langheads.heads import Head, HeadSet

Matched = dict[Head, Head]
"""Touched head -> the head of its layer that is touched in its place."""


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


def matched_gates(
    gates: Float[Tensor, "layer head"], control: Matched
) -> Float[Tensor, "layer head"]:
    """The gates of the touched heads on those of the control, 1 elsewhere."""
    found = torch.ones_like(gates)
    for head, other in control.items():
        found[other] = gates[head]
    return found


def matched_set(heads: HeadSet, control: Matched) -> HeadSet:
    """The heads of the control that stand for these."""
    return HeadSet([control[head] for head in heads], heads.shape)

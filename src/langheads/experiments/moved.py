"""The same intervention on other heads: a control that differs in nothing but which heads.

In each layer the touched heads are sent to as many others, drawn at random (see
`HeadSet.layer_matched_others`). Gates go with them, so a control has the same numbers in the same
layers.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from langheads.heads import Head, HeadSet


def moved_heads(touched: HeadSet, rng: np.random.Generator) -> dict[Head, Head]:
    """Touched head -> the head that takes its place.

    Example:
        >>> places = moved_heads(HeadSet(["L0H0", "L1H1"], (2, 2)), np.random.default_rng(0))
        >>> {str(head): str(place) for head, place in places.items()}
        {'L0H0': 'L0H1', 'L1H1': 'L1H0'}
    """
    others = touched.layer_matched_others(rng)
    # Both by layer: as many of each.
    return dict(zip(sorted(touched), others, strict=True))


def moved_gates(
    gates: Float[Tensor, "layer head"], places: dict[Head, Head]
) -> Float[Tensor, "layer head"]:
    """Gates at the new places, 1 elsewhere."""
    found = torch.ones_like(gates)
    for head, place in places.items():
        found[place] = gates[head]
    return found


def moved_set(heads: HeadSet, places: dict[Head, Head]) -> HeadSet:
    """A head set at the new places."""
    return HeadSet([places[head] for head in heads], heads.shape)

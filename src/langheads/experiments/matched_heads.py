"""The same intervention on other heads: a control that differs in nothing but which heads.

In each layer the touched heads are sent to as many others, drawn at random (see
`HeadSet.other_sets`). Gates go with them, so a control has the same numbers in the same
layers.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from langheads.heads import Head, HeadSet


def places_for(touched: HeadSet, n: int, rng: np.random.Generator) -> list[dict[Head, Head]]:
    """Touched head -> the head that takes its place, for `n` draws, or as many as differ.

    Example:
        >>> (places,) = places_for(HeadSet(["L0H0", "L1H1"], (2, 2)), 1, np.random.default_rng(0))
        >>> {str(head): str(place) for head, place in places.items()}
        {'L0H0': 'L0H1', 'L1H1': 'L1H0'}
    """
    # Both by layer: as many of each.
    return [
        dict(zip(sorted(touched), others, strict=True)) for others in touched.other_sets(n, rng)
    ]


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

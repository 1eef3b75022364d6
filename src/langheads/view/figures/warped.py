"""Scales on which few large values do not hide the many small ones, with ticks at round numbers."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from langheads.view.table import shown

Warp = Callable[[np.ndarray], np.ndarray]
"""Values -> places on the axis; increasing, and 0 at 0."""
_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


def root(values: np.ndarray) -> np.ndarray:
    """Signed square root.

    Example:
        >>> root(np.array([-4.0, 0.0, 9.0])).tolist()
        [-2.0, 0.0, 3.0]
    """
    return np.sign(values) * np.sqrt(np.abs(values))


def asinh(scale: float) -> Warp:
    """Symmetric logarithm: even within `scale` of 0, logarithmic further out."""
    return lambda values: np.arcsinh(np.asarray(values) / scale)


def middle_size(*arrays: np.ndarray) -> float:
    """A scale for `asinh`: the median size of all values; where most are 0, their largest."""
    sizes = np.abs(np.concatenate([np.ravel(of) for of in arrays]))
    sizes = sizes[np.isfinite(sizes)]
    return float(np.median(sizes) or sizes.max() or 1.0) if sizes.size else 1.0


def rounded_up(value: float) -> float:
    """The next round number.

    Example:
        >>> rounded_up(0.0217), rounded_up(0.9), rounded_up(5)
        (0.025, 1.0, 5.0)
    """
    ten = 10.0 ** math.floor(math.log10(value))
    # Not by a product, whose last digit may be wrong.
    return next(float(f"{step * ten:.2g}") for step in _STEPS if step * ten >= 0.9999 * value)


def ticks(
    low: float,
    high: float,
    least: float,
    warp: Warp,
    apart: float,
    most: int = 99,
    ends: Sequence[float] = (),
) -> list[float]:
    """0, `ends`, and round numbers between `low` and `high`: 1, 2, 5 times powers of ten.

    These are at most `most`, and `apart` of the scale's length from each other and from the fixed
    ones; the sizes start about `least`.
    """
    furthest = max(-low, high)
    # A language whose changes are all far below the scale gets ticks of its own size.
    first = math.floor(math.log10(min(least, furthest)))
    tens = 10.0 ** np.arange(first, 1 + math.log10(furthest))
    found = [0.0]
    for steps in ((1, 2, 5), (1, 3), (1,)):
        sizes = np.outer(tens, steps).ravel()
        found = sorted(t for t in (*-sizes, 0.0, *sizes) if low <= t <= high)
        if len(found) <= most:
            break
    start, end = warp(np.array([low, high]))
    kept = [*{0.0, *ends}]
    for tick in sorted(found, key=abs, reverse=True):
        places = warp(np.array([tick, *kept]))
        if np.abs(places[1:] - places[0]).min() > apart * (end - start):
            kept.append(tick)
    return sorted(kept)


def axis(ends: Sequence[float], scale: float, most: int, apart: float) -> dict[str, Any]:
    """A plotly axis of `asinh`; `ends` are its limits on that scale."""
    low, high = scale * np.sinh(ends)
    kept = ticks(low, high, scale, asinh(scale), apart, most)
    # A list: the page's script selects ticks, which it cannot in plotly's binary arrays.
    places = asinh(scale)(np.array(kept)).tolist()
    return {"range": list(ends), "tickvals": places, "ticktext": [shown(x, "g") for x in kept]}

"""Numbers as cells of a table: a true minus sign, a dash for what is not there."""

from __future__ import annotations

import numpy as np
import xarray as xr

from langheads.view.words import NONE


def mean(values: np.ndarray) -> float:
    """Of what is finite, NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def decimal(value: float, decimals: int = 3) -> str:
    """With so many decimals.

    Example:
        >>> decimal(-0.0271), decimal(-0.0002), decimal(float("nan"))
        ('−0.027', '0.000', '–')
    """
    if not np.isfinite(value):
        return NONE
    # What rounds to 0 has no sign: −0 + 0 is 0.
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def with_interval(at: xr.Dataset, name: str) -> str:
    """A value with ``<name>_low`` and ``<name>_high``, where the file has them."""
    ends = [float(at.get(f"{name}_{end}", np.nan)) for end in ("low", "high")]
    return between(float(at[name]), ends[0], ends[1])


def between(value: float, low: float, high: float, decimals: int = 3) -> str:
    """A value with the ends of its interval, where it has one."""
    text = decimal(value, decimals)
    if not (np.isfinite(low) and np.isfinite(high)):
        return text
    return f"{text} ({decimal(low, decimals)} to {decimal(high, decimals)})"

"""Numbers as cells of a table: a true minus sign, a dash for what is not there."""

from __future__ import annotations

import numpy as np
import xarray as xr

from langheads.view.words import NONE


def mean(values: np.ndarray) -> float:
    """Of what is finite, NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def decimal(value: float, decimals: int = 3) -> str:
    """With so many decimals."""
    return f"{value:.{decimals}f}".replace("-", "−") if np.isfinite(value) else NONE


def with_interval(at: xr.Dataset, name: str) -> str:
    """A value with ``<name>_low`` and ``<name>_high``, where the file has them."""
    ends = [float(at[f"{name}_{end}"]) for end in ("low", "high") if f"{name}_{end}" in at]
    text = decimal(float(at[name]))
    return f"{text} ({decimal(ends[0])} to {decimal(ends[1])})" if len(ends) == 2 else text

"""A comparison of scores as a table of text."""

from __future__ import annotations

import numpy as np
import xarray as xr

LEGEND = """\
Means over languages; [ ] is 95% for other documents like these, from leaving out and resampling
them, or from the standard error of a score that has no more; sample-: 95% of the draws.
large: over heads beyond 2 standard errors; behind: the best score's spearman less this one's;
top: the heads that lose most among the highest; fwd: forwards of every document, here and for 32
layers of 32 heads."""


def as_text(comparison: xr.Dataset) -> str:
    """A row a score: means over languages, the lowest rank correlation of any, and its cost."""
    columns = {"top": "top", "slope": "slope", "prec": "precision", "AP": "average_precision"}
    columns |= {"decoys": "decoys", "area": "area", "split": "split_half"}
    costs = {"fwd 32x32": ("forwards_large", 0), "fwd": ("forwards", 0), "s": ("seconds", 1)}
    rows = [["score", "spearman", "lowest", "large", "seeds sd", "behind", *columns, *costs]]
    for method in map(str, comparison.score.values):
        of = comparison.sel(score=method)
        means = {str(name): float(of[name].mean()) for name in of.data_vars}
        cells = [_with_ends(of, means, "spearman"), _cell(float(of.spearman.min()))]
        cells += [_cell(means.get(name, np.nan)) for name in ("spearman_large", "drawn_sd")]
        cells += [_with_ends(of, means, "behind")]
        cells += [_cell(means.get(name, np.nan)) for name in columns.values()]
        cells += [_cell(float(of.get(name, np.nan)), places) for name, places in costs.values()]
        rows.append([method, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])]) for r in rows]
    return "\n".join(lines)


def _cell(value: float, places: int = 3) -> str:
    return "-" if np.isnan(value) else f"{value:.{places}f}"


def _with_ends(of: xr.Dataset, means: dict[str, float], name: str) -> str:
    """The mean over languages with its interval, where it has one."""
    low, high = (float(of.get(f"mean_{name}_{end}", np.nan)) for end in ("low", "high"))
    text = _cell(means.get(name, np.nan))
    return text if np.isnan(low) else f"{text} [{low:.2f}, {high:.2f}]"

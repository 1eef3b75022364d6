"""Deletion curves: what each language loses as heads go in the order of a score."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from langheads.view.contents import Kind, RunFolder, captioned
from langheads.view.figures.benchmark import deletion_curves
from langheads.view.figures.style import names
from langheads.view.table import Table, decimal, mean


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    """Area under the curves."""
    languages = names(result, "heads_of")
    rows = []
    for score in names(result, "score"):
        area = result.area.sel(score=score).values
        rows.append([score.replace("_", "-"), *map(decimal, area), decimal(mean(area))])
    caption = (
        "Area under the deletion curve: own ΔNLL minus the mean of the other languages', share of "
        "the loss with nothing off, mean over the steps. Larger is better; 0 tells no language "
        "from another."
    )
    yield Table(caption, ["score", *languages, "mean"], rows)


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    """Which score's heads hurt their own language most."""
    every = {score: mean(result.area.sel(score=score).values) for score in names(result, "score")}
    areas = {score: area for score, area in every.items() if np.isfinite(area)}
    if areas:
        best = max(areas, key=lambda score: areas[score])
        yield (
            f"Deletion: heads in the order of {best.replace('_', '-')} hurt their own language "
            f"most beyond the others, by {decimal(areas[best])} of its loss on average."
        )


KIND = Kind(
    "deletion",
    "Deletion curves",
    (
        "Shows: what each language loses on held-out text as heads go in the order of a score. "
        "A score that finds a language's own heads has a steep solid and a flat dotted line.",
        "Does not show: chance. There are no random head sets here; the proof by ablation has "
        "them.",
    ),
    captioned(
        deletion_curves,
        "How to read it: further right more heads are off, further up more is lost. A click in the "
        "legend hides a score.",
    ),
    _tables,
    _summary,
)

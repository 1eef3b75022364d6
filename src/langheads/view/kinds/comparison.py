"""Benchmark of scores: how well each foretells exact knock-out, and at what cost."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from langheads.view.contents import Kind, RunFolder, captioned
from langheads.view.figures.benchmark import score_benchmark
from langheads.view.figures.style import names
from langheads.view.table import Table, decimal, mean


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    """Means over languages of every measure, and the lowest rank correlation of any."""
    table = [str(name) for name in result if result[name].dims == ("score", "language")]
    measures = [name for name in table if name != "spearman"]
    header = ["score", "spearman, mean", "spearman, lowest"]
    header += [name.replace("_", " ") for name in measures]
    rows = []
    for score in names(result, "score"):
        of = result.sel(score=score)
        spearman = of["spearman"].values
        lowest = np.nanmin(spearman) if np.isfinite(spearman).any() else np.nan
        row = [score, decimal(mean(spearman)), decimal(lowest)]
        row += [decimal(mean(of[name].values)) for name in measures]
        rows.append([*row, f"{float(of.forwards):.0f}", decimal(float(of.seconds), 1)])
    header += ["forwards of every document", "seconds"]
    yield Table("Every score, means over languages.", header, rows)


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    spearman = result["spearman"]
    every = {x: mean(spearman.sel(score=x).values) for x in names(result, "score")}
    means = {x: of for x, of in every.items() if x != "knockout" and np.isfinite(of)}
    if means:
        best = max(means, key=lambda score: means[score])
        yield (
            f"Benchmark: of {len(means)} scores, {best} ranks heads most as exact knock-out does "
            f"(mean Spearman {decimal(means[best])})."
        )


KIND = Kind(
    "comparison",
    "Benchmark of scores",
    (
        "Shows: which score foretells exact knock-out, finds planted heads, and gives the same "
        "ranking on other documents.",
        "Does not show: that a head is specific. A score can foretell losses well and still "
        "rank general heads first.",
    ),
    captioned(
        score_benchmark,
        "How to read it: each mark is a language, the bar their mean; further right is better.",
    ),
    _tables,
    _summary,
)

"""Proof by ablation: what each language loses without the heads of each language."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures.specificity import specificity_matrix
from langheads.view.figures.style import LEVEL, names
from langheads.view.language_verdict import language_verdicts
from langheads.view.table import NONE, Table, number

_READ = (
    "How to read it: each row switches off one language's heads, each column is a language's text; "
    "heads that carry a language show as a strong outlined diagonal on the left and as nothing on "
    "the right, where random heads are off."
)


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    caption = (
        f"{_READ} A triangle: the rise in NLL is above that of random heads, p < {LEVEL} "
        "(one-sided); by chance about 1 cell in 20 has one."
        if "control_p" in result
        else f"{_READ} This file has no p-value for single cells, so none is marked."
    )
    for baseline in names(result, "baseline"):
        yield Picture(specificity_matrix(result, baseline), caption)


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    yield language_verdicts(result)
    for baseline in names(result, "baseline"):
        yield _matrix(result.sel(baseline=baseline), baseline)


def _matrix(at: xr.Dataset, baseline: str) -> Table:
    """The matrix as numbers, with its standard error where the file has it."""

    def cell(row: str, column: str) -> str:
        rise = number(at, "delta_nats_per_byte", heads_of=row, text_of=column)
        error = number(at, "delta_se", heads_of=row, text_of=column)
        if not np.isfinite(rise):
            return NONE
        return f"{rise:.4f}" + (f" ± {error:.4f}" if np.isfinite(error) else "")

    columns = names(at, "text_of")
    return Table(
        f"{baseline.capitalize()} ablation: ΔNLL in nats per byte ± standard error; rows: heads "
        "off, columns: text.",
        ["heads of", *columns],
        [[row, *(cell(row, column) for column in columns)] for row in names(at, "heads_of")],
        folded=True,
    )


KIND = Kind("ablation", "Proof by ablation", pictures=_pictures, tables=_tables, anchor="proof")

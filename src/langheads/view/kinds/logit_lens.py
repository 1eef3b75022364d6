"""Logit lens: at which depth the residual stream of one prompt turns to each answer."""

from collections.abc import Iterator

import xarray as xr

from langheads.view.contents import Kind, RunFolder, captioned
from langheads.view.figures.lens import logit_lens
from langheads.view.figures.style import names
from langheads.view.table import Table, decimal


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    """Logits of the answers at the end of the residual stream, and how far the first is ahead."""
    answers = names(result, "answer")
    end = result["logit"].isel(depth=-1)
    rows = []
    for condition in names(result, "condition"):
        values = [float(end.sel(condition=condition, answer=answer)) for answer in answers]
        ahead = [decimal(values[0] - values[1])] if len(values) == 2 else []
        rows.append([condition, *map(decimal, values), *ahead])
    header = ["condition", *answers, *(["first − second"] if len(answers) == 2 else [])]
    yield Table("Logits at the end of the residual stream, of one prompt.", header, rows)


KIND = Kind(
    "logit-lens",
    "Logit lens",
    (
        "Shows: at which depth the residual stream of one prompt turns to each answer, with "
        "nothing gated and under gates.",
        "Does not show: a mean or an interval. It is one worked example; the attention "
        "transfer is the test.",
    ),
    captioned(
        logit_lens,
        "How to read it: a colour is an answer, a line style what was gated; where two lines of a "
        "style cross, the model turns from one answer to the other.",
    ),
    _tables,
)

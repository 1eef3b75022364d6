"""Picture of attention transfer gate by gate: the chosen heads beside the band of random ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.io.errors import InputError
from langheads.stats import percentile_interval
from langheads.view.figures.canvas import finish
from langheads.view.figures.style import COLOURWAY, GREY, names
from langheads.view.figures.traces import error_bars
from langheads.view.figures.transfer import DOES, PARTS, checked, title_of, unit_of
from langheads.view.table import mean


def transfer_sweep(
    transfer: xr.Dataset,
    measure: str = "logprob_difference",
    order: str | None = None,
    pair: tuple[str, str] | None = None,
) -> go.Figure:
    """The change of a measure at every gate: chosen heads with their interval, random heads.

    Args:
        transfer: dataset of kind ``transfer``; more than one gate makes a curve.
        measure: see `transfer_matrix`.
        order: see `transfer_matrix`.
        pair: (A, B); by default the mean over all pairs of languages.

    Returns:
        A plotly figure of fixed size in pixels: a panel a condition, the gate across. The bars are
        bootstrap intervals, the band is the 5th to 95th percentile of the random head sets and the
        dotted line their mean. The untouched model is at gate 1.

    Raises:
        InputError: see `transfer_matrix`, or a pair that was not run.

    Example:
        >>> transfer_sweep(xr.load_dataset("transfer.nc")).show()  # doctest: +SKIP
    """
    order = checked(transfer, measure, order)
    at = transfer.sel(order=order)
    if pair is not None:
        if not {*pair} <= {*names(at, "a")}:
            raise InputError(
                f"pair {pair[0]}, {pair[1]} asked for; this dataset has {', '.join(names(at, 'a'))}"
            )
        at = at.sel(a=pair[0], b=pair[1])
    unit, factor = unit_of(transfer, measure)
    curves = {
        part: factor * at[f"{measure}_{name[pair is None]}"].transpose("setting", ...)
        for part, name in PARTS.items()
    }
    if not np.isfinite(curves["change"].values).any():
        raise InputError(
            f"pair {', '.join(pair)} asked for, but it was not run or has no heads"
            if pair
            else f"{measure} was measured of no pair of languages, so there is no curve"
        )
    conditions = [c for c in DOES if c in transfer["condition"].values]
    figure = make_subplots(1, len(conditions), shared_yaxes=True, horizontal_spacing=0.06)
    for column, condition in enumerate(conditions, start=1):
        _add_curve(figure, column, at["condition"].values == condition, curves, unit)
        whose = DOES[condition].split(" ×")[0]
        figure.update_xaxes(title_text=f"gate of {whose}", row=1, col=column)
    figure.add_hline(y=0, line={"width": 1, "color": GREY})
    figure.update_yaxes(title_text=f"change in {unit}", row=1, col=1)
    return finish(
        figure,
        *title_of(transfer, measure, order, pair),
        panels=(760, 298),
        margins=(116, 24, 56, 76),
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )


def _add_curve(
    figure: go.Figure,
    column: int,
    where: np.ndarray,
    curves: Mapping[str, xr.DataArray],
    unit: str,
) -> None:
    """One panel: the settings `where` a condition holds, in the order of their gates."""
    gate = np.append(curves["change"]["gate"].values[where], 1.0)
    sort = np.argsort(gate)

    def line(values: np.ndarray) -> np.ndarray:
        # At gate 1 nothing is changed.
        return np.append(values[where], 0.0)[sort]

    sets = curves["control"].values
    low, high = map(line, percentile_interval(sets.T, 0.1))
    change, below, above = (line(curves[part].values) for part in ("change", "low", "high"))
    x, say = gate[sort], f"gate %{{x:g}}: %{{y:.3g}} {unit}"
    grey = "rgba(138,138,138,{})"
    for y, name, look in (
        (
            np.concatenate([high, low[::-1]]),
            "random heads, 5th to 95th percentile",
            {
                "x": np.concatenate([x, x[::-1]]),
                "mode": "lines",
                "fill": "toself",
                "fillcolor": grey.format(0.25),
                "line": {"width": 0},
                "hoverinfo": "skip",
            },
        ),
        (
            line(np.array([mean(of) for of in sets])),
            "random heads, mean",
            {
                "mode": "lines",
                "line": {"color": grey.format(0.9), "width": 1.5, "dash": "dot"},
                "hovertemplate": f"{say}, mean of random heads<extra></extra>",
            },
        ),
        (
            change,
            "chosen heads, bootstrap interval",
            {
                "mode": "lines+markers",
                "line": {"color": COLOURWAY[0], "width": 2},
                "error_y": error_bars(change, below, above, thickness=1.5),
                "customdata": np.stack([below, above], axis=1),
                "hovertemplate": f"{say}, interval %{{customdata[0]:.3g}} to "
                "%{customdata[1]:.3g}<extra></extra>",
            },
        ),
    ):
        trace = {"x": x, "y": y, "name": name, "showlegend": column == 1} | look
        figure.add_trace(go.Scatter(trace), row=1, col=column)

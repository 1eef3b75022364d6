"""What pictures are drawn with: points and bars with their intervals, cells with their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float
from plotly.subplots import make_subplots

from langheads.view.figures.canvas import (
    Place,
    cell_rows,
    colour_axis,
    facets,
    grid,
    spacing,
    title_outer,
)
from langheads.view.figures.style import INTERVAL, tick_labels

Values = Float[np.ndarray, " row"]


def error_bars(middle: Any, low: Any, high: Any, **look: Any) -> dict[str, Any]:
    """Bars from `low` to `high` around `middle`, as plotly takes them."""
    middle = np.asarray(middle, dtype=float)
    return {
        "type": "data",
        "symmetric": False,
        "array": np.maximum(np.asarray(high) - middle, 0),
        "arrayminus": np.maximum(middle - np.asarray(low), 0),
        **look,
    }


def points(
    x: Any,
    y: Any,
    low: Any,
    high: Any,
    name: str,
    colour: str,
    symbol: str,
    *,
    size: int = 9,
    outline: int = 2,
    thickness: float = 2.0,
    width: int = 4,
    **more: Any,
) -> go.Scatter:
    """Points on rows with their intervals across; `name` is ready for plotly."""
    line = {"line": {"color": colour, "width": outline}} if outline else {}
    return go.Scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": size} | line,
        error_x=error_bars(x, low, high, color=colour, thickness=thickness, width=width),
        name=name,
        cliponaxis=False,
        **more,
    )


@dataclass(frozen=True)
class ShareBars:
    """Bars of a panel: labels, shares with the ends of their intervals, colours, hover text."""

    labels: Sequence[str]
    shares: Values
    low: Values
    high: Values
    fill: Sequence[str]
    frame: Sequence[str] | str
    hover: Sequence[str]


def share_bars(
    panels: Mapping[str, ShareBars],
    height: int,
    width: int,
    horizontal: float,
    x: str,
    **options: Any,
) -> tuple[go.Figure, tuple[int, int]]:
    """One panel a language, one bar a row, from 0 to 1.

    Args:
        panels: language -> its bars.
        height: of a panel, in pixels.
        width: of a panel with its gap, in pixels.
        horizontal: spacing, as plotly takes it.
        x: title of the axis across.
        options: of plotly's ``make_subplots``.

    Returns:
        The figure, which has no title, and width and height of all panels in pixels.
    """
    rows, columns = grid(len(panels))
    size = (width * columns, rows * height + (rows - 1) * 64)
    titles = tick_labels(list(panels), 32)
    figure, places = facets(titles, horizontal, spacing(64, size[1], rows), **options)
    for at, bars in zip(places, panels.values(), strict=True):
        ends = error_bars(bars.shares, bars.low, bars.high, thickness=1.5, width=3, color=INTERVAL)
        figure.add_trace(
            go.Bar(
                x=bars.shares,
                y=list(bars.labels),
                orientation="h",
                marker={"color": list(bars.fill), "line": {"color": bars.frame, "width": 1.5}},
                error_x=ends,
                text=list(bars.hover),
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
                showlegend=False,
            ),
            **at,
        )
    title_outer(figure, places, x)
    figure.update_xaxes(range=[0, 1.02], dtick=0.25)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure, size


def cells(
    values: Float[np.ndarray, "row column"],
    texts: Sequence[Sequence[str]],
    hover: Sequence[Sequence[str]],
    size: int,
) -> go.Heatmap:
    """Cells with a number each, on the one colour scale of the figure."""
    return go.Heatmap(
        z=values,
        text=texts,
        texttemplate="%{text}",
        textfont={"size": size},
        hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>",
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
    )


def cell_texts(
    values: Float[np.ndarray, "row column"], decimals: int, signed: bool
) -> list[list[str]]:
    """Numbers in cells: signed, or as short as can be; a minus as wide as a plus, and none at 0."""

    def short(value: float) -> str:
        if not math.isfinite(value):
            return "" if signed else "–"
        text = f"{value:{'+' if signed else ''}.{decimals}f}"
        if float(text) == 0:
            return "0"
        # Where every value of a column has the same form, narrow cells need no leading zero.
        return (text if signed else text.replace("0.", ".", 1)).replace("-", "−")

    return [[short(float(value)) for value in row] for row in values]


def corner_marks(
    figure: go.Figure,
    at: Place,
    where: Bool[np.ndarray, "row column"],
    name: str,
    symbol: str,
    dx: float,
    size: int = 6,
    **more: Any,
) -> None:
    """Small marks in an upper corner of cells, `dx` right of their middle."""
    rows, columns = np.nonzero(where)
    line = {"color": "black", "width": 1}
    figure.add_trace(
        go.Scatter(
            x=columns + dx,
            y=rows - 0.32,
            mode="markers",
            marker={"symbol": symbol, "color": "white", "line": line, "size": size},
            name=name,
            hoverinfo="skip",
            **more,
        ),
        **at,
    )


@dataclass(frozen=True)
class HeatPanel:
    """A panel with a colour scale of its own; `hover` is text for ``%{text}`` in `template`."""

    title: str
    values: Float[np.ndarray, "row column"]
    hover: Sequence[Sequence[str]]
    ends: tuple[float, float]
    units: str
    template: str = "%{text}<extra></extra>"


def heat_panels(
    panels: Sequence[HeatPanel],
    rows: Sequence[str],
    size: tuple[int, int],
    gap: int,
    bar: int,
    numbers: bool,
) -> tuple[go.Figure, int]:
    """Panels side by side with the same rows; cells show their values where there is room.

    Args:
        panels: from left to right.
        rows: their labels.
        size: width and height of one, in pixels.
        gap: between them, in pixels.
        bar: length of their colour bars, in pixels.
        numbers: whether there is room.

    Returns:
        The figure, which has no title, and the width of all panels in pixels.
    """
    width = len(panels) * size[0] + (len(panels) - 1) * gap
    figure = make_subplots(
        1,
        len(panels),
        subplot_titles=[panel.title for panel in panels],
        horizontal_spacing=spacing(gap, width, len(panels)),
        shared_yaxes=True,
    )
    for i, panel in enumerate(panels, start=1):
        axis = f"coloraxis{i}"
        figure.add_trace(
            go.Heatmap(
                z=panel.values,
                text=panel.hover,
                texttemplate="%{z:.2f}" if numbers else None,
                hovertemplate=panel.template,
                coloraxis=axis,
                xgap=1,
                ygap=1,
            ),
            row=1,
            col=i,
        )
        end = (i * size[0] + (i - 1) * gap) / width
        figure.update_layout({axis: colour_axis(*panel.ends, panel.units, bar, end)})
    cell_rows(figure, rows)
    return figure, width

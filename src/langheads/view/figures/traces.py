"""Traces of pictures: points and bars with their intervals, cells with their numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float

from langheads.view.figures import canvas
from langheads.view.figures.style import GREY, ink_on, tick_labels
from langheads.view.table import decimal

Values = Float[np.ndarray, " row"]
Texts = Sequence[Sequence[str]]


def error_bars(middle: Any, low: Any, high: Any, **look: Any) -> dict[str, Any]:
    """Bars from `low` to `high` around `middle`, as plotly takes them."""
    middle = np.asarray(middle, dtype=float)
    up, down = np.maximum(np.asarray(high) - middle, 0), np.maximum(middle - np.asarray(low), 0)
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, **look}


@dataclass(frozen=True)
class Look:
    """Colour, symbol and sizes of `points`: no outline where it is 0; `ends` of the bars."""

    colour: str
    symbol: str
    size: int = 9
    outline: int = 2
    thickness: float = 2.0
    ends: int = 4


def points(x: Any, y: Any, low: Any, high: Any, name: str, look: Look, **more: Any) -> go.Scatter:
    """Points on rows with their intervals across; `name` is ready for plotly."""
    marker: dict[str, Any] = {"color": look.colour, "symbol": look.symbol, "size": look.size}
    if look.outline:
        marker["line"] = {"color": look.colour, "width": look.outline}
    bars = {"color": look.colour, "thickness": look.thickness, "width": look.ends}
    more |= {"mode": "markers", "marker": marker, "cliponaxis": False, "name": name}
    return go.Scatter(x=x, y=y, error_x=error_bars(x, low, high, **bars), **more)


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
    panels: Mapping[str, ShareBars], height: int, width: int, apart: float, x: str, **options: Any
) -> tuple[go.Figure, tuple[int, int]]:
    """One panel a language, one bar a row, from 0 to 1; and the size of all panels in pixels.

    A panel has this height, and with its gap this width, in pixels; `apart` is horizontal spacing
    as plotly takes it, `x` the title of the axis.
    """
    rows, columns = canvas.grid(len(panels))
    size = (width * columns, rows * height + (rows - 1) * 64)
    below = canvas.spacing(64, size[1], rows)
    figure, places = canvas.facets(tick_labels(list(panels), 32), apart, below, **options)
    fixed = {"orientation": "h", "textposition": "none", "showlegend": False}
    for at, of in zip(places, panels.values(), strict=True):
        ends = error_bars(of.shares, of.low, of.high, thickness=1.5, width=3, color=GREY)
        marker = {"color": list(of.fill), "line": {"color": of.frame, "width": 1.5}}
        said = {"text": list(of.hover), "hovertemplate": "%{text}<extra></extra>"} | fixed
        y = list(of.labels)
        figure.add_bar(x=of.shares, y=y, marker=marker, error_x=ends, **said, **at)
    canvas.title_outer(figure, places, x)
    figure.update_xaxes(range=[0, 1.02], dtick=0.25)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure, size


def number_cells(
    figure: go.Figure,
    at: canvas.Place,
    values: Float[np.ndarray, "row column"],
    decimals: int,
    hover: Texts,
    size: int,
    ends: tuple[float, float],
    signed: bool = False,
) -> None:
    """Cells with a number each, on the one colour scale of the figure, which has these ends.

    Numbers are signed, or as short as possible; a minus is as wide as a plus, and 0 has neither.
    """

    def short(value: float) -> str:
        if not math.isfinite(value):
            return "" if signed else "–"
        text = f"{value:{'+' if signed else ''}.{decimals}f}"
        if float(text) == 0:
            return "0"
        # If all values of a column have the same form, narrow cells need no leading zero.
        text = text if signed or abs(value) >= 1 else text.replace("0.", ".", 1)
        return text.replace("-", "−")

    texts = [[short(float(value)) for value in row] for row in values]
    beside = {"hovertext": hover, "hovertemplate": "%{hovertext}<extra></extra>"}
    look = {"coloraxis": "coloraxis", "xgap": 1, "ygap": 1}
    figure.add_heatmap(z=values, text=texts, **beside, **look, **at)
    cell_texts(figure, at, values, texts, ends, size)


def cell_texts(
    figure: go.Figure,
    at: canvas.Place,
    values: Float[np.ndarray, "row column"],
    texts: Texts,
    ends: tuple[float, float],
    size: int = 12,
) -> None:
    """Texts on cells whose scale has these ends, black or white: plotly's own grey is too pale.

    The colours are for a light page; those for a dark one are in ``meta``.
    """
    rows, columns = np.indices(values.shape).reshape(2, -1)
    inks = ink_on(values, *ends)
    figure.add_scatter(
        x=columns,
        y=rows,
        mode="text",
        text=[text for row in texts for text in row],
        textfont={"size": size, "color": inks["light"]},
        meta=inks,
        hoverinfo="skip",
        showlegend=False,
        **at,
    )


def corner_marks(
    figure: go.Figure,
    at: canvas.Place,
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
    marker = {"symbol": symbol, "color": "white", "line": line, "size": size}
    more |= {"mode": "markers", "marker": marker, "name": name, "hoverinfo": "skip"}
    figure.add_scatter(x=columns + dx, y=rows - 0.32, **more, **at)


@dataclass(frozen=True)
class HeatPanel:
    """A panel with its own colour scale; `hover` is text for ``%{text}`` in `template`."""

    title: str
    values: Float[np.ndarray, "row column"]
    hover: Texts
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
    """Panels of a size in pixels with the same rows, and the width of all in pixels.

    Cells show their values where there is room for `numbers`; colour bars are `bar` pixels long.
    """
    width = len(panels) * size[0] + (len(panels) - 1) * gap
    apart = canvas.spacing(gap, width, len(panels))
    figure, places = canvas.side_by_side([of.title for of in panels], apart, shared_yaxes=True)
    for i, (of, at) in enumerate(zip(panels, places, strict=True), start=1):
        look = {"coloraxis": f"coloraxis{i}", "xgap": 1, "ygap": 1}
        figure.add_heatmap(z=of.values, text=of.hover, hovertemplate=of.template, **look, **at)
        if numbers:
            shown = [[decimal(v, 2) if math.isfinite(v) else "" for v in row] for row in of.values]
            cell_texts(figure, at, of.values, shown, of.ends)
        end = (i * size[0] + (i - 1) * gap) / width
        scale = canvas.colour_axis(*of.ends, of.units, bar, end)
        figure.update_layout({f"coloraxis{i}": scale})
    canvas.cell_rows(figure, rows)
    return figure, width

"""One panel a language with every head in it: the drawing that all maps of heads share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from langheads.heads import Head, HeadSet, LanguageHeads
from langheads.view.figures.canvas import (
    Place,
    colour_axis,
    facets,
    finish,
    grid,
    legend_above,
    spacing,
    title_outer,
)
from langheads.view.figures.style import CLEAR, GREY, literal, reach, tick_labels, tick_step

# A few heads hold most of the score; the colour scale ends here so that the rest stays visible.
_COLOUR_QUANTILE = 0.995


def head_panels(
    values: Float[np.ndarray, "language layer head"],
    languages: Sequence[str],
    unit: str,
    title: str,
    *,
    errors: Float[np.ndarray, "language layer head"] | None = None,
    signed: bool = False,
    heads: LanguageHeads | None = None,
    planted: Mapping[str, HeadSet] | None = None,
    subtitle: str = "",
    scale: np.ndarray | None = None,
) -> go.Figure:
    """One panel a language, layer 0 at the bottom, one colour scale for all.

    The scale ends at the 0.995 quantile of the magnitudes; where that cuts, the last tick says so.

    Args:
        values: what is shown, in `unit`; NaN stays empty. Colour bar and hovering give the unit.
        languages: names of the panels.
        unit: of the values.
        title: ready for plotly.
        errors: standard errors, shown on hovering.
        signed: a diverging scale around 0.
        heads: marks specific heads (white circles) and general heads (black diamonds).
        planted: language -> heads with square frames.
        subtitle: ready for plotly.
        scale: values of any shape that the colour scale is made for, where maps that are compared
            share one; by default `values`.

    Returns:
        A plotly figure of fixed size in pixels.
    """
    _, n_layers, n_heads = values.shape
    rows, columns = grid(len(languages))
    cell = max(4, min(30, (940 - 42 * columns) // (columns * n_heads)))
    width = columns * cell * n_heads + (columns - 1) * 42
    height = rows * cell * n_layers + (rows - 1) * 64
    figure, places = facets(
        tick_labels(list(languages), 32), spacing(42, width, columns), spacing(64, height, rows)
    )
    for i, (language, at) in enumerate(zip(languages, places, strict=True)):
        marked = _marked(language, heads, planted or {})
        of_language = None if errors is None else errors[i]
        figure.add_trace(_cells(values[i], of_language, language, marked, unit), **at)
        for label, of in marked.items():
            _add_marks(figure, at, label, of, cell)
    for label in ("specific head", "general head", "planted head"):
        _add_legend_entry(figure, label)
    title_outer(figure, places, "head", "layer")
    _number_axes(figure, places, n_layers, n_heads, cell)
    return finish(
        figure,
        title,
        subtitle,
        panels=(width, height),
        margins=(126 if subtitle else 104, 110, 46, 48),
        coloraxis=_colour_axis(values if scale is None else scale, signed, unit, height),
        legend=legend_above(height),
    )


def _number_axes(
    figure: go.Figure, places: Sequence[Place], n_layers: int, n_heads: int, cell: int
) -> None:
    """Whole numbers along heads and layers, as many as there is room for."""
    step_x = tick_step(n_heads, max(4, cell * n_heads // 30))
    step_y = tick_step(n_layers, max(3, cell * n_layers // 22))
    for at in places:
        figure.update_xaxes(dtick=step_x, range=[-0.5, n_heads - 0.5], **at)
        figure.update_yaxes(dtick=step_y, range=[-0.5, n_layers - 0.5], **at)
    figure.update_xaxes(tick0=0, showgrid=False, zeroline=False)
    figure.update_yaxes(tick0=0, showgrid=False, zeroline=False)


def _cells(
    values: Float[np.ndarray, "layer head"],
    errors: Float[np.ndarray, "layer head"] | None,
    language: str,
    marked: Mapping[str, Iterable[Head]],
    unit: str,
) -> go.Heatmap:
    """The panel of a language, without marks."""
    error = "" if errors is None else " ± %{customdata:.2g} (standard error)"
    return go.Heatmap(
        z=values,
        text=_roles(values.shape, language, marked),
        customdata=errors,
        coloraxis="coloraxis",
        name=literal(language),
        hovertemplate=f"<b>L%{{y}}H%{{x}}</b> {literal(language)}<br>%{{z:.4g}} "
        f"{literal(unit)}{error}%{{text}}<extra></extra>",
    )


def add_head_marks(
    figure: go.Figure, at: Place, heads: Iterable[Sequence[int]], label: str, **look: Any
) -> None:
    """Mark heads (layer, head) on the panel `at`."""
    positions = list(heads)
    figure.add_trace(
        go.Scatter(
            x=[head for _, head in positions],
            y=[layer for layer, _ in positions],
            mode="markers",
            name=label,
            hoverinfo="skip",
            **look,
        ),
        **at,
    )


def _marked(
    language: str, heads: LanguageHeads | None, planted: Mapping[str, HeadSet]
) -> dict[str, Iterable[Head]]:
    """Role -> heads; those drawn later lie above."""
    return {
        "planted head": planted.get(language, ()),
        "general head": heads.general if heads else (),
        "specific head": heads.specific.get(language, ()) if heads else (),
    }


def _roles(
    shape: tuple[int, ...], language: str, marked: Mapping[str, Iterable[Head]]
) -> list[list[str]]:
    """What a head was chosen as, ``[layer, head]``, as lines of hover text."""
    lines = [[""] * shape[1] for _ in range(shape[0])]
    for rank, (layer, head) in enumerate(marked["specific head"], start=1):
        lines[layer][head] += f"<br>specific to {literal(language)}, rank {rank}"
    for role in ("general", "planted"):
        for layer, head in marked[f"{role} head"]:
            lines[layer][head] += f"<br>{role}"
    return lines


def _markers(label: str, size: float) -> list[dict[str, Any]]:
    """How heads of a role are drawn; black on white stands out from every cell colour."""
    if label == "planted head":
        frame = {"symbol": "square", "color": CLEAR, "size": size}
        # A frame leaves the cell's colour visible; two lines keep it readable on any of them.
        return [
            frame | {"line": {"color": "white", "width": 3.5}},
            frame | {"line": {"color": "black", "width": 1.5}},
        ]
    # Shape alone is lost in the small cells of a large model: the two differ in fill too.
    if label == "general head":
        line = {"color": "white", "width": 1}
        return [{"symbol": "diamond", "color": "black", "size": 1.15 * size, "line": line}]
    line = {"color": "black", "width": 1.5 if size > 6 else 1}
    return [{"symbol": "circle", "color": "white", "size": size, "line": line}]


def _add_marks(figure: go.Figure, at: Place, label: str, heads: Iterable[Head], cell: int) -> None:
    if not (positions := list(heads)):
        return
    size = float(cell if label == "planted head" else max(4.0, min(10.0, 0.62 * cell)))
    for marker in _markers(label, size):
        look = {"legendgroup": label, "showlegend": False, "cliponaxis": False}
        add_head_marks(figure, at, positions, label, marker=marker, **look)


def _add_legend_entry(figure: go.Figure, label: str) -> None:
    """One entry a role, if any head has it; grey lines are readable on a light and a dark page."""
    if any(trace.legendgroup == label for trace in figure.data):
        marker = _markers(label, 10.0)[-1] | {"line": {"color": GREY, "width": 1.5}}
        entry = {"mode": "markers", "marker": marker, "name": label, "legendgroup": label}
        figure.add_trace(go.Scatter(x=[None], y=[None], **entry), row=1, col=1)


def _colour_axis(values: np.ndarray, signed: bool, unit: str, height: int) -> dict[str, Any]:
    finite = np.abs(values[np.isfinite(values)])
    largest = reach(values)
    end = (float(np.quantile(finite, _COLOUR_QUANTILE)) if finite.size else 1.0) or largest
    low = -end if signed else 0.0
    ticks = np.linspace(low, end, 5)
    labels = [f"{tick:.2g}" for tick in ticks]
    if finite.size and largest > end:
        labels[-1] = f"≥ {labels[-1]}"
        if signed:
            labels[0] = f"≤ {labels[0]}"
    length = max(120, min(height, 320))
    return colour_axis(low, end, literal(unit), length, x=1, tickvals=ticks, ticktext=labels)

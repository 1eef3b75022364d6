"""One panel a language with every head in it: the drawing that all maps of heads share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from langheads.heads import Head, HeadSet, LanguageHeads
from langheads.view.figures import canvas, warped
from langheads.view.figures.style import CLEAR, GREY, literal, reach, tick_labels, tick_step
from langheads.view.table import shown

# A few heads hold most of the score; the colour scale ends at this quantile, in steps of square
# roots, so that the others stay visible.
_COLOUR_QUANTILE = 0.995
_ROOT = "square-root scale"


@dataclass(frozen=True)
class HeadMaps:
    """The contents of maps of heads."""

    values: Float[np.ndarray, "language layer head"]  # in `unit`; NaN stays empty
    languages: Sequence[str]  # names of the panels
    unit: str  # of the values, for the colour bar and hovering
    # Standard errors, shown on hovering.
    errors: Float[np.ndarray, "language layer head"] | None = None
    signed: bool = False  # a diverging scale around 0
    # Values of any shape for the colour scale, where maps share one; by default `values`. Colours
    # grow with the square root, up to the 0.995 quantile of the magnitudes, rounded up; if values
    # lie beyond, the last tick says so.
    scale: np.ndarray | None = None
    # Marks specific heads (white circles) and general heads (black diamonds).
    heads: LanguageHeads | None = None
    planted: Mapping[str, HeadSet] | None = None  # language -> heads with square frames

    def marked(self, language: str) -> dict[str, Iterable[Head]]:
        """Role -> heads; those drawn later lie above."""
        return {
            "planted head": (self.planted or {}).get(language, ()),
            "general head": self.heads.general if self.heads else (),
            "specific head": self.heads.specific.get(language, ()) if self.heads else (),
        }


def head_panels(maps: HeadMaps, title: str, subtitle: str = "") -> go.Figure:
    """One panel a language, layer 0 at the bottom, one colour scale for all.

    Title and subtitle are ready for plotly; the figure has a fixed size in pixels.
    """
    _, n_layers, n_heads = maps.values.shape
    rows, columns = canvas.grid(len(maps.languages))
    cell = max(4, min(30, (940 - 42 * columns) // (columns * n_heads)))
    width = columns * cell * n_heads + (columns - 1) * 42
    height = rows * cell * n_layers + (rows - 1) * 64
    apart = canvas.spacing(42, width, columns), canvas.spacing(64, height, rows)
    figure, places = canvas.facets(tick_labels(list(maps.languages), 32), *apart)
    for i, at in enumerate(places):
        figure.add_trace(_cells(maps, i), **at)
        for label, heads in maps.marked(maps.languages[i]).items():
            size = float(cell if label == "planted head" else max(4.0, min(10.0, 0.62 * cell)))
            for marker in _markers(label, size) if (shown := list(heads)) else ():
                look = {"legendgroup": label, "showlegend": False, "cliponaxis": False}
                add_head_marks(figure, at, shown, label, marker=marker, **look)
    for label in ("specific head", "general head", "planted head"):
        # One entry a role that a head has; grey lines are readable on light and dark pages.
        if any(trace.legendgroup == label for trace in figure.data):
            marker = _markers(label, 10.0)[-1] | {"line": {"color": GREY, "width": 1.5}}
            entry = {"mode": "markers", "marker": marker, "name": label, "legendgroup": label}
            figure.add_scatter(x=[None], y=[None], **entry, row=1, col=1)
    canvas.title_outer(figure, places, "head", "layer")
    # Whole numbers along heads and layers, as many as fit.
    step_x = tick_step(n_heads, max(4, cell * n_heads // 30))
    step_y = tick_step(n_layers, max(3, cell * n_layers // 22))
    for at in places:
        figure.update_xaxes(dtick=step_x, range=[-0.5, n_heads - 0.5], **at)
        figure.update_yaxes(dtick=step_y, range=[-0.5, n_layers - 0.5], **at)
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(tick0=0, showgrid=False, zeroline=False)
    return canvas.finish(
        figure,
        title,
        subtitle,
        panels=(width, height),
        margins=(126 if subtitle else 104, 110, 46, 48),
        coloraxis=_colour_axis(maps, height),
        legend=canvas.legend_above(height),
        # The report's page recognises a map of heads by it.
        meta={"heads": "map"},
    )


def _cells(maps: HeadMaps, i: int) -> go.Heatmap:
    """The panel of a language, without marks; hovering gives a head's role."""
    values, language = maps.values[i], literal(maps.languages[i])
    marked = maps.marked(maps.languages[i])
    roles = [[""] * values.shape[1] for _ in values]
    for rank, (layer, head) in enumerate(marked["specific head"], start=1):
        roles[layer][head] += f"<br>specific to {language}, rank {rank}"
    for role in ("general", "planted"):
        for layer, head in marked[f"{role} head"]:
            roles[layer][head] += f"<br>{role}"
    # Colours are of square roots, so hovering gives the value itself.
    data, said = values, f"%{{customdata:.4g}} {literal(maps.unit)}"
    if maps.errors is not None:
        errors, beside = maps.errors[i], "standard error"
        if np.isfinite(errors[np.isfinite(values)]).all():
            data = np.stack([values, errors], axis=2)
            said = f"{said.replace('data', 'data[0]')} ± %{{customdata[1]:.2g}} ({beside})"
        else:
            for layer, head in np.argwhere(np.isfinite(errors)):
                words = f" ± {errors[layer, head]:.2g} ({beside})"
                roles[layer][head] = words + roles[layer][head]
    said = f"<b>L%{{y}}H%{{x}}</b> {language}<br>{said}%{{text}}<extra></extra>"
    of = {"text": roles, "customdata": data, "hovertemplate": said, "name": language}
    return go.Heatmap(z=warped.root(values), coloraxis="coloraxis", **of)


def add_head_marks(
    figure: go.Figure, at: canvas.Place, heads: Sequence[Sequence[int]], label: str, **look: Any
) -> None:
    """Mark heads (layer, head) on the panel `at`."""
    look |= {"mode": "markers", "name": label, "hoverinfo": "skip"}
    x, y = [head for _, head in heads], [layer for layer, _ in heads]
    figure.add_scatter(x=x, y=y, **look, **at)


def _markers(label: str, size: float) -> list[dict[str, Any]]:
    """How heads of a role are drawn; black on white is visible on every cell colour."""
    if label == "planted head":
        frame = {"symbol": "square", "color": CLEAR, "size": size}
        # A frame leaves the cell's colour visible; two lines keep it readable on any of them.
        lines = ({"color": "white", "width": 3.5}, {"color": "black", "width": 1.5})
        return [frame | {"line": line} for line in lines]
    # Shape alone is not visible in the small cells of a large model: the two also differ in fill.
    if label == "general head":
        line = {"color": "white", "width": 1}
        return [{"symbol": "diamond", "color": "black", "size": 1.15 * size, "line": line}]
    line = {"color": "black", "width": 1.5 if size > 6 else 1}
    return [{"symbol": "circle", "color": "white", "size": size, "line": line}]


def _colour_axis(maps: HeadMaps, height: int) -> dict[str, Any]:
    values = maps.values if maps.scale is None else maps.scale
    finite = np.abs(values[np.isfinite(values)])
    largest = reach(values)
    end = (float(np.quantile(finite, _COLOUR_QUANTILE)) if finite.size else 1.0) or largest
    end = warped.rounded_up(end)
    low = -end if maps.signed else 0.0
    length = max(150, min(height, 320))
    ticks = warped.ticks(low, end, end / 100, warped.root, 18 / length, ends=(low, end))
    labels = [shown(tick, "g") for tick in ticks]
    if finite.size and largest > end:
        labels[-1] = f"≥ {labels[-1]}"
        if maps.signed:
            labels[0] = f"≤ {labels[0]}"
    bar: dict[str, Any] = {"x": 1, "tickvals": warped.root(np.array(ticks)), "ticktext": labels}
    low, end = warped.root(np.array([low, end])).tolist()
    return canvas.colour_axis(low, end, f"{literal(maps.unit)}<br>({_ROOT})", length, **bar)

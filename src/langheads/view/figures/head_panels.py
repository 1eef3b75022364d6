"""One panel a language with every head in it: the drawing that all maps of heads share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from langheads.heads import HeadSet, LanguageHeads
from langheads.view.figures.marks import add_legend_entry, add_marks, roles
from langheads.view.figures.style import (
    LIGHT,
    literal,
    reach,
    spacing,
    tick_labels,
    tick_step,
    with_room,
)

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
        values: what is shown, in `unit`; NaN stays empty.
        languages: names of the panels.
        unit: for the colour bar and hovering.
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
    shape = (values.shape[1], values.shape[2])
    planted_heads = planted or {}
    n_layers, n_heads = shape
    columns = min(len(languages), 3)
    rows = math.ceil(len(languages) / columns)
    cell = max(4, min(30, (940 - 42 * columns) // (columns * n_heads)))
    panel_width, panel_height, gap_x, gap_y = cell * n_heads, cell * n_layers, 42, 64
    plot_width = columns * panel_width + (columns - 1) * gap_x
    plot_height = rows * panel_height + (rows - 1) * gap_y
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=tick_labels(list(languages), 32),
        horizontal_spacing=spacing(gap_x, plot_width, columns),
        vertical_spacing=spacing(gap_y, plot_height, rows),
    )

    for i, language in enumerate(languages):
        at = {"row": i // columns + 1, "col": i % columns + 1}
        specific = heads.specific.get(language, ()) if heads else ()
        general = heads.general if heads else ()
        said = roles(shape, language, specific, general, planted_heads.get(language, ()))
        error = "" if errors is None else " ± %{customdata:.2g} (standard error)"
        figure.add_trace(
            go.Heatmap(
                z=values[i],
                text=said,
                customdata=None if errors is None else errors[i],
                coloraxis="coloraxis",
                name=literal(language),
                hovertemplate=f"<b>L%{{y}}H%{{x}}</b> {literal(language)}<br>%{{z:.4g}} "
                f"{literal(unit)}{error}%{{text}}<extra></extra>",
            ),
            **at,
        )
        mark = max(4.0, min(10.0, 0.62 * cell))
        add_marks(figure, at, "planted head", planted_heads.get(language, ()), float(cell))
        add_marks(figure, at, "general head", general, mark)
        add_marks(figure, at, "specific head", specific, mark)
        below = i + columns < len(languages)
        step = tick_step(n_heads, max(4, panel_width // 30))
        figure.update_xaxes(
            title_text=None if below else "head", dtick=step, range=[-0.5, n_heads - 0.5], **at
        )
        figure.update_yaxes(
            title_text="layer" if at["col"] == 1 else None,
            dtick=tick_step(n_layers, max(3, panel_height // 22)),
            range=[-0.5, n_layers - 0.5],
            **at,
        )
    for label in ("specific head", "general head", "planted head"):
        add_legend_entry(figure, label)

    figure.update_xaxes(tick0=0, showgrid=False, zeroline=False)
    figure.update_yaxes(tick0=0, showgrid=False, zeroline=False)
    top, bottom, left, right = 126 if subtitle else 104, 46, 48, 110
    figure.update_layout(
        template=LIGHT,
        title={
            "text": title,
            "subtitle": {"text": subtitle},
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        coloraxis=_colour_axis(values if scale is None else scale, signed, unit, plot_height),
        legend={"orientation": "h", "x": 0, "y": 1 + 30 / plot_height, "yanchor": "bottom"},
        width=left + plot_width + right,
        height=top + plot_height + bottom,
        margin={"t": top, "b": bottom, "l": left, "r": right},
    )
    return with_room(figure)


def _colour_axis(values: np.ndarray, signed: bool, unit: str, height: int) -> dict[str, object]:
    finite = np.abs(values[np.isfinite(values)])
    largest = reach(values)
    end = float(np.quantile(finite, _COLOUR_QUANTILE)) if finite.size else 1.0
    end = end or largest
    ticks = np.linspace(-end if signed else 0.0, end, 5)
    labels = [f"{tick:.2g}" for tick in ticks]
    if finite.size and largest > end:
        labels[-1] = f"≥ {labels[-1]}"
        if signed:
            labels[0] = f"≤ {labels[0]}"
    return {
        "cmin": -end if signed else 0.0,
        "cmax": end,
        "colorbar": {
            "title": {"text": literal(unit), "side": "right"},
            "tickvals": ticks,
            "ticktext": labels,
            "lenmode": "pixels",
            "len": max(120, min(height, 320)),
            "thickness": 14,
            "y": 1,
            "yanchor": "top",
            "x": 1,
            "xpad": 16,
        },
    }

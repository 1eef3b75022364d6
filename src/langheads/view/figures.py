"""Pictures of head scores: every head of every language, and where in depth the scores lie.

A figure is a function of a saved result: it arranges numbers, it measures nothing. Model and
language names are shown literally. Templates ``langheads`` (the default) and ``langheads_dark``
are registered with plotly: ``figure.update_layout(template="langheads_dark")``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.errors import InputError, ProvenanceError
from langheads.heads import HeadSet, LanguageHeads
from langheads.view.marks import add_legend_entry, add_marks, roles
from langheads.view.style import (
    LIGHT,
    METHODS,
    check_kind,
    label_width,
    literal,
    names,
    reach,
    tick_labels,
    tick_step,
)

Planted = Mapping[str, Sequence[Sequence[int]]]
# A few heads hold most of the score; the colour scale ends here so that the rest stays visible.
_COLOUR_QUANTILE = 0.995


def scored_methods(scores: xr.Dataset) -> list[str]:
    """The methods that a dataset of scores has, in the order of `METHODS`."""
    return [name for name in METHODS if name in scores]


def head_map(
    scores: xr.Dataset,
    method: str = "lahis",
    heads: LanguageHeads | None = None,
    planted: Planted | None = None,
) -> go.Figure:
    """One panel a language: the score of every head, layer 0 at the bottom.

    All panels share one colour scale. It ends at the 0.995 quantile of the magnitudes; where that
    cuts, the last tick says so, and hovering gives the exact value.

    Args:
        scores: dataset of kind ``scores``, variables ``[language, layer, head]``.
        method: a variable of it: ``lahis``, ``lahis_paper``, ``lahis_sequential``, ``taylor``;
            hyphens will do.
        heads: marks specific heads (white circles) and general heads (black diamonds).
        planted: language -> its planted heads as ``(layer, head)`` (square frames).

    Returns:
        A plotly figure of fixed size in pixels; hover gives head, value, unit, standard error.

    Raises:
        InputError: another kind of dataset, a method it does not have, or a planted head outside
            the model.
        ProvenanceError: `heads` of a model of another shape.

    Example:
        >>> figure = head_map(xr.load_dataset("scores.nc"), "taylor")  # doctest: +SKIP
        >>> figure.write_html("map.html")  # doctest: +SKIP
    """
    method = method.replace("-", "_")
    values, unit, signed = _scores(scores, method)
    languages = names(scores, "language")
    shape = (values.shape[1], values.shape[2])
    _check_shape(heads, shape)
    # HeadSet refuses what the model does not have.
    planted_heads = {
        k: HeadSet([(layer, head) for layer, head in v], shape) for k, v in (planted or {}).items()
    }

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
        subplot_titles=tick_labels(languages, 32),
        horizontal_spacing=gap_x / plot_width,
        vertical_spacing=gap_y / plot_height,
    )

    errors = _errors(scores, method)
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
    top, bottom, left, right = 104, 46, 48, 110
    figure.update_layout(
        template=LIGHT,
        title={
            "text": f"{METHODS[method]} of every head, "
            f"{literal(scores.attrs.get('model', 'model unknown'))}",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        coloraxis=_colour_axis(values, signed, unit, plot_height),
        legend={"orientation": "h", "x": 0, "y": 1 + 30 / plot_height, "yanchor": "bottom"},
        width=left + plot_width + right,
        height=top + plot_height + bottom,
        margin={"t": top, "b": bottom, "l": left, "r": right},
    )
    return figure


def layer_profile(
    scores: xr.Dataset, method: str = "lahis", heads: LanguageHeads | None = None
) -> go.Figure:
    """Where in depth a language's score lies: the share of its total in each layer.

    Of a signed score (``taylor``) the magnitudes are summed. With `heads`, a second panel shows
    the share of each language's specific heads in each layer.

    Args:
        scores: dataset of kind ``scores``, variables ``[language, layer, head]``.
        method: a variable of it; hyphens will do.
        heads: adds the second panel.

    Returns:
        A plotly figure of fixed size in pixels; rows are languages, columns layers, and each row
        sums to 1. A row without score or without specific heads stays empty.

    Raises:
        InputError: another kind of dataset or a method it does not have.
        ProvenanceError: `heads` of a model of another shape.

    Example:
        >>> layer_profile(xr.load_dataset("scores.nc"), "lahis").show()  # doctest: +SKIP
    """
    method = method.replace("-", "_")
    values, _, signed = _scores(scores, method)
    n_layers = values.shape[1]
    _check_shape(heads, (n_layers, values.shape[2]))
    languages = names(scores, "language")
    sums = np.abs(values).sum(axis=2)
    panels = [("share of the summed score", sums)]
    if signed:
        panels = [("share of the summed magnitudes", sums)]
    if heads:
        empty = HeadSet([], heads.shape)
        counts = [heads.specific.get(language, empty).per_layer() for language in languages]
        panels.append(("share of the specific heads", np.array(counts, dtype=float)))

    cell = max(12, min(72, 380 // n_layers))
    plot_width, plot_height, gap = cell * n_layers, 26 * len(languages), 90
    width = len(panels) * plot_width + (len(panels) - 1) * gap
    figure = make_subplots(
        1,
        len(panels),
        subplot_titles=[title for title, _ in panels],
        horizontal_spacing=gap / width,
        shared_yaxes=True,
    )
    for i, (_, weights) in enumerate(panels, start=1):
        totals = weights.sum(axis=1, keepdims=True)
        shares = np.divide(weights, totals, out=np.full(weights.shape, np.nan), where=totals > 0)
        figure.add_trace(
            go.Heatmap(
                z=shares,
                text=[[literal(language)] * n_layers for language in languages],
                texttemplate="%{z:.2f}" if cell >= 32 else None,
                hovertemplate="%{text}, layer %{x}: %{z:.3f}<extra></extra>",
                coloraxis=f"coloraxis{i}",
                xgap=1,
                ygap=1,
            ),
            row=1,
            col=i,
        )
        figure.update_layout(
            {
                # Two quantities, two scales: one head of five is 0.2, one layer of 32 is 0.03.
                f"coloraxis{i}": {
                    "cmin": 0,
                    "cmax": reach(shares),
                    "colorbar": {
                        "title": {"text": "share (0 to 1)", "side": "right"},
                        "thickness": 12,
                        "x": (i * plot_width + (i - 1) * gap) / width,
                        "xpad": 8,
                        "lenmode": "pixels",
                        "len": plot_height,
                        "nticks": 5,
                    },
                }
            }
        )
    figure.update_xaxes(
        title_text="layer",
        tick0=0,
        dtick=tick_step(n_layers, 12),
        range=[-0.5, n_layers - 0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        tickvals=np.arange(len(languages)),
        ticktext=tick_labels(languages),
        range=[len(languages) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        ticks="",
    )
    top, bottom, left, right = 76, 50, label_width(languages), 90
    figure.update_layout(
        template=LIGHT,
        title={
            "text": f"{METHODS[method]} by layer, "
            f"{literal(scores.attrs.get('model', 'model unknown'))}",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        width=left + width + right,
        height=top + plot_height + bottom,
        margin={"t": top, "b": bottom, "l": left, "r": right},
    )
    return figure


def _scores(scores: xr.Dataset, method: str) -> tuple[np.ndarray, str, bool]:
    """Values ``[language, layer, head]``, their unit, and whether the sign means something."""
    check_kind(scores, "scores", [])
    if method not in METHODS or method not in scores:
        raise InputError(
            f"method {method!r} asked for; this dataset has "
            f"{', '.join(scored_methods(scores)) or 'no scores'}"
        )
    variable = scores[method].transpose("language", "layer", "head")
    values = variable.values
    signed = method == "taylor" or bool((values < 0).any())
    return values, str(variable.attrs.get("units", "unit unknown")), signed


def _errors(scores: xr.Dataset, method: str) -> np.ndarray | None:
    """Standard errors ``[language, layer, head]``, where the method has them."""
    name = f"{method}_se"
    return scores[name].transpose("language", "layer", "head").values if name in scores else None


def _check_shape(heads: LanguageHeads | None, shape: tuple[int, int]) -> None:
    if heads is not None and heads.shape != shape:
        raise ProvenanceError(
            f"scores of a model of {shape[0]} layers of {shape[1]} heads, but the head set is of "
            f"one of {heads.shape[0]} layers of {heads.shape[1]} heads"
        )


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

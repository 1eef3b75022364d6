"""Pictures of head scores: every head of every language, and where in depth the scores lie.

A figure is a function of a saved result: it arranges numbers, it measures nothing. Model and
language names are shown literally. Templates ``langheads`` (the default) and ``langheads_dark``
are registered with plotly: ``figure.update_layout(template="langheads_dark")``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError, ProvenanceError
from langheads.view.figures.head_panels import head_panels
from langheads.view.figures.style import (
    LIGHT,
    METHODS,
    check_kind,
    label_width,
    literal,
    names,
    reach,
    spacing,
    tick_labels,
    tick_step,
    with_room,
)

Planted = Mapping[str, Sequence[Sequence[int]]]


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

    return head_panels(
        values,
        languages,
        unit,
        f"{METHODS[method]} of every head, {literal(scores.attrs.get('model', 'model unknown'))}",
        errors=_errors(scores, method),
        signed=signed,
        heads=heads,
        planted=planted_heads,
    )


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
        horizontal_spacing=spacing(gap, width, len(panels)),
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
    return with_room(figure)


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

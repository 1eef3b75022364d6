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

from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError, ProvenanceError
from langheads.scores.registry import LABELS
from langheads.view.figures.canvas import finish
from langheads.view.figures.head_panels import head_panels
from langheads.view.figures.style import (
    check_kind,
    label_width,
    literal,
    model_of,
    names,
    reach,
    tick_labels,
    tick_step,
)
from langheads.view.figures.traces import HeatPanel, heat_panels

Planted = Mapping[str, Sequence[Sequence[int]]]


def scored_methods(scores: xr.Dataset) -> list[str]:
    """The methods that a dataset of scores has, in the order of the registry."""
    return [name for name in LABELS if name in scores]


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
        method: a variable of it, such as ``lahis`` or ``taylor``; hyphens will do.
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
    shape = (values.shape[1], values.shape[2])
    _check_shape(heads, shape)
    errors = scores.get(f"{method}_se")
    return head_panels(
        values,
        names(scores, "language"),
        unit,
        f"{LABELS[method]} of every head, {model_of(scores)}",
        errors=None if errors is None else errors.transpose("language", "layer", "head").values,
        signed=signed,
        heads=heads,
        # HeadSet refuses what the model does not have.
        planted={
            language: HeadSet([(layer, head) for layer, head in of], shape)
            for language, of in (planted or {}).items()
        },
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
    what = "share of the summed magnitudes" if signed else "share of the summed score"
    weights = {what: np.abs(values).sum(axis=2)}
    if heads:
        empty = HeadSet([], heads.shape)
        counts = [heads.specific.get(language, empty).per_layer() for language in languages]
        weights["share of the specific heads"] = np.array(counts, dtype=float)
    hover = [[literal(language)] * n_layers for language in languages]
    template = "%{text}, layer %{x}: %{z:.3f}<extra></extra>"
    panels = []
    for title, of in weights.items():
        totals = of.sum(axis=1, keepdims=True)
        shares = np.divide(of, totals, out=np.full(of.shape, np.nan), where=totals > 0)
        # Two quantities, two scales: one head of five is 0.2, one layer of 32 is 0.03.
        scale = (0.0, reach(shares))
        panels.append(HeatPanel(title, shares, hover, scale, "share (0 to 1)", template))
    cell, height = max(12, min(72, 380 // n_layers)), 26 * len(languages)
    figure, width = heat_panels(
        panels, tick_labels(languages), (cell * n_layers, height), 90, height, cell >= 32
    )
    ends = [-0.5, n_layers - 0.5]
    figure.update_xaxes(title_text="layer", tick0=0, dtick=tick_step(n_layers, 12), range=ends)
    figure.update_xaxes(showgrid=False, zeroline=False)
    return finish(
        figure,
        f"{LABELS[method]} by layer, {model_of(scores)}",
        panels=(width, height),
        margins=(76, 90, 50, label_width(languages)),
    )


def _scores(scores: xr.Dataset, method: str) -> tuple[np.ndarray, str, bool]:
    """Values ``[language, layer, head]``, their unit, and whether the sign means something."""
    check_kind(scores, "scores", [])
    if method not in LABELS or method not in scores:
        raise InputError(
            f"method {method!r} asked for; this dataset has "
            f"{', '.join(scored_methods(scores)) or 'no scores'}"
        )
    variable = scores[method].transpose("language", "layer", "head")
    signed = method == "taylor" or bool((variable.values < 0).any())
    return variable.values, str(variable.attrs.get("units", "unit unknown")), signed


def _check_shape(heads: LanguageHeads | None, shape: tuple[int, int]) -> None:
    if heads is not None and heads.shape != shape:
        raise ProvenanceError(
            f"scores of a model of {shape[0]} layers of {shape[1]} heads, but the head set is of "
            f"one of {heads.shape[0]} layers of {heads.shape[1]} heads"
        )

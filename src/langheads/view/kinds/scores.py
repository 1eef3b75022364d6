"""Scores of every head: maps, shares of each layer, and the texts that they were made on."""

from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from langheads.heads import HeadSet, LanguageHeads
from langheads.io.arguments import asked_name
from langheads.io.errors import ProvenanceError
from langheads.io.results import rounding_words
from langheads.scores.registry import LABELS
from langheads.stats import ratio
from langheads.view.contents import Kind, Picture, Planted, RunFolder
from langheads.view.figures import canvas, style, traces
from langheads.view.figures.head_panels import HeadMaps, head_panels
from langheads.view.figures.overlap import OVERLAP, language_overlap
from langheads.view.figures.style import literal, names
from langheads.view.kinds.effects import MAP
from langheads.view.table import Table, count, number, readable, shown

_LAYERS = (
    "How to read it: each row is a language and adds up to 1; bright cells are the layers that "
    "hold most of its score, and of its specific heads."
)
_COUNTS = {
    "documents": "docs",
    "left out (too short)": "skipped",
    "cut (too long)": "cut",
    "predicted tokens": "tokens",
    "bytes": "bytes",
}


def scored_methods(scores: xr.Dataset, heads: LanguageHeads | None = None) -> list[str]:
    """The methods that a dataset has; the one that `heads` were chosen by comes first."""
    main = str(heads.rule.get("score", "")).replace("-", "_") if heads else ""
    return sorted((name for name in LABELS if name in scores), key=lambda name: name != main)


def head_map(
    scores: xr.Dataset,
    method: str = "lahis",
    heads: LanguageHeads | None = None,
    planted: Planted | None = None,
) -> go.Figure:
    """One panel a language: the score of every head, layer 0 at the bottom.

    All panels share one colour scale. It ends at the 0.995 quantile of the magnitudes; if values
    lie beyond, the last tick says so, and hovering gives the exact value.

    Args:
        scores: dataset of kind ``scores``, variables ``[language, layer, head]``.
        method: a variable of it, such as ``lahis`` or ``taylor``, also written with hyphens.
        heads: marks specific heads (white circles) and general heads (black diamonds).
        planted: language -> its planted heads as ``(layer, head)`` (square frames).

    Returns:
        A plotly figure of fixed size in pixels; hover gives head, value, unit, standard error.

    Raises:
        InputError: another kind of dataset, a method it does not have, or a planted head outside
            the model.
        ProvenanceError: `heads` of a model of another shape.
    """
    values, method, signed = _scores(scores, method, heads)
    errors, shape = scores.get(f"{method}_se"), (values.shape[1], values.shape[2])
    maps = HeadMaps(
        values,
        names(scores, "language"),
        style.unit_of(scores, method),
        None if errors is None else errors.transpose("language", "layer", "head").values,
        signed,
        heads=heads,
        # HeadSet refuses what the model does not have.
        planted={
            language: HeadSet([(layer, head) for layer, head in of], shape)
            for language, of in (planted or {}).items()
        },
    )
    return head_panels(maps, f"{LABELS[method]} of every head, {style.model_of(scores)}")


def layer_profile(
    scores: xr.Dataset, method: str = "lahis", heads: LanguageHeads | None = None
) -> go.Figure:
    """The share of a language's total score in each layer.

    Of a signed score (``taylor``) the magnitudes are summed. With `heads`, a second panel shows
    the share of each language's specific heads in each layer.

    Args:
        scores: dataset of kind ``scores``, variables ``[language, layer, head]``.
        method: a variable of it, also written with hyphens.
        heads: adds the second panel.

    Returns:
        A plotly figure of fixed size in pixels; rows are languages, columns layers, and each row
        sums to 1. A row without score, with one that is infinite, or without specific heads stays
        empty.

    Raises:
        InputError: another kind of dataset or a method it does not have.
        ProvenanceError: `heads` of a model of another shape.
    """
    values, method, signed = _scores(scores, method, heads)
    n_layers, languages = values.shape[1], names(scores, "language")
    what = "share of the summed magnitudes" if signed else "share of the summed score"
    # An infinite sum has no shares.
    weights = {what: np.abs(np.where(np.isfinite(values), values, np.nan)).sum(axis=2)}
    if heads:
        empty = HeadSet([], heads.shape)
        counts = [heads.specific.get(language, empty).per_layer() for language in languages]
        weights["share of the specific heads"] = np.array(counts, dtype=float)
    hover = [[literal(language)] * n_layers for language in languages]
    template = "%{text}, layer %{x}: %{z:.3f}<extra></extra>"
    panels = []
    for title, of in weights.items():
        totals = of.sum(axis=1, keepdims=True)
        shares = ratio(of, totals)
        # Two quantities, two scales: one head of five is 0.2, one layer of 32 is 0.03.
        scale = (0.0, style.reach(shares))
        panels.append(traces.HeatPanel(title, shares, hover, scale, "share (0 to 1)", template))
    cell, height = max(12, min(72, 380 // n_layers)), 26 * len(languages)
    size, rows = (cell * n_layers, height), style.tick_labels(languages)
    figure, width = traces.heat_panels(panels, rows, size, 90, height, cell >= 32)
    step, ends = style.tick_step(n_layers, 12), [-0.5, n_layers - 0.5]
    figure.update_xaxes(title_text="layer", tick0=0, dtick=step, range=ends)
    figure.update_xaxes(showgrid=False, zeroline=False)
    return canvas.finish(
        figure,
        f"{LABELS[method]} by layer, {style.model_of(scores)}",
        panels=(width, height),
        margins=(76, 90, 50, style.label_width(languages)),
    )


def _scores(
    scores: xr.Dataset, method: str, heads: LanguageHeads | None
) -> tuple[np.ndarray, str, bool]:
    """Values ``[language, layer, head]``, the variable, and whether the score is signed."""
    method = method.replace("-", "_")
    style.check_kind(scores, "scores")
    asked_name("method", method, scored_methods(scores), "this dataset has")
    values = scores[method].transpose("language", "layer", "head").values
    if heads is not None and heads.shape != values.shape[1:]:
        raise ProvenanceError(
            f"scores of a model of {values.shape[1]} layers of {values.shape[2]} heads, but the "
            f"head set is of one of {heads.shape[0]} layers of {heads.shape[1]} heads"
        )
    return values, method, method == "taylor" or bool((values < 0).any())


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    methods = scored_methods(result, run.heads)
    for method in methods:
        figure = head_map(result, method, run.heads, run.planted)
        yield Picture(figure, f"{LABELS[method]}. {MAP}")
        figure = layer_profile(result, method, run.heads)
        yield Picture(figure, f"{LABELS[method]}. {_LAYERS}")
    if methods and result.sizes["language"] > 1:
        yield Picture(language_overlap(result, methods[0]), OVERLAP)


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    columns = {label: name for label, name in _COUNTS.items() if name in result}
    loss = ["loss, nats per byte"] if "nats_per_byte" in result else []
    rows = []
    for language in names(result, "language"):
        cells = (count(number(result, name, language=language)) for name in columns.values())
        nats = (shown(number(result, "nats_per_byte", language=language), ".4g") for _ in loss)
        rows.append([language, *cells, *nats])
    lost = f" {words}" if (words := rounding_words(result)) else ""
    yield Table(f"Texts that the scores were made on.{lost}", ["language", *columns, *loss], rows)


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    amount = ""
    if docs := [int(n) for n in result["docs"].values] if "docs" in result else []:
        few, many = min(docs), max(docs)
        amount = f", {few if few == many else f'{few} to {many}'} documents a language"
    if "tokens" in result:
        amount += f", {count(float(result['tokens'].sum()))} predicted tokens in all"
    text = readable(result.attrs.get("text", "texts unknown"))
    yield (
        f"Every head of {readable(result.attrs.get('model'))} "
        f"({result.sizes['layer']} layers of {result.sizes['head']} heads) was scored on {text}: "
        f"{result.sizes['language']} languages{amount}. "
        f"Scores: {', '.join(scored_methods(result)) or 'none known to this report'}."
    )


KIND = Kind("scores", "Scores of every head", (), _pictures, _tables, _summary)

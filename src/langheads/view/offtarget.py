"""Pictures of replies that stray: in the right language or not, and whether they fell apart."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.errors import InputError
from langheads.view.style import COLOURWAY, LIGHT, check_kind, literal, names, tick_labels

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x")
_GUARDS = {
    "repetition": "repetition, share of 4-grams",
    "prompt_copy": "copied prompt, share of 4-grams",
    "empty": "empty, share of replies",
    "nll": "NLL by the untouched model, nats per token",
}
# What a condition is: nothing, heads that should matter, heads drawn at random.
_COLOURS = {"none": "rgba(138,138,138,0.45)", "random": COLOURWAY[5]}


def off_target_bars(result: xr.Dataset) -> go.Figure:
    """One panel a language, one bar a condition: the share of replies in the wanted language.

    Args:
        result: dataset of kind ``offtarget``.

    Returns:
        A plotly figure of fixed size; bars carry 95% intervals, hovering gives the paired change
        against nothing off. Conditions without heads stay empty.

    Raises:
        InputError: another kind of dataset.

    Example:
        >>> off_target_bars(xr.load_dataset("offtarget.nc")).show()  # doctest: +SKIP
    """
    check_kind(result, "offtarget", ["right", "right_low", "right_high", "delta_right"])
    languages, conditions = names(result, "language"), names(result, "condition")
    columns = min(len(languages), 3)
    rows = math.ceil(len(languages) / columns)
    height = 24 * len(conditions)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=tick_labels(languages, 32),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=64 / (rows * height + (rows - 1) * 64),
    )
    labels = [literal(name) for name in conditions]
    for i, language in enumerate(languages):
        at = {"row": i // columns + 1, "col": i % columns + 1}
        of = result.sel(language=language)
        share = of.right.values
        figure.add_trace(
            go.Bar(
                x=share,
                y=labels,
                orientation="h",
                marker={"color": [_colour(name) for name in conditions]},
                error_x=_bars(share, of.right_low.values, of.right_high.values),
                text=_hover(of, conditions, language),
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
                showlegend=False,
            ),
            **at,
        )
        if i + columns >= len(languages):
            figure.update_xaxes(title_text="share of replies", **at)
    figure.update_xaxes(range=[0, 1.02], dtick=0.25)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    settings = result.attrs
    figure.update_layout(
        template=LIGHT,
        title={
            "text": "Replies in the wanted language, heads off or moved",
            "subtitle": {
                "text": f"{literal(settings.get('model', 'model unknown'))}, replies stray into "
                f"{literal(settings.get('suspect', '?'))}; 95% intervals over prompts"
            },
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        width=150 + 260 * columns + 30,
        height=104 + rows * height + (rows - 1) * 64 + 50,
        margin={"t": 104, "b": 50, "l": 150, "r": 30},
    )
    return figure


def off_target_guards(result: xr.Dataset) -> go.Figure:
    """One panel a guard, one row a condition, one mark a language: did the replies fall apart?

    Args:
        result: dataset of kind ``offtarget``.

    Returns:
        A plotly figure of fixed size; a reply that came back to its language is worth something
        only where these stay near the row ``none``.

    Raises:
        InputError: another kind of dataset, or one without guards.
    """
    check_kind(result, "offtarget", [])
    there = [name for name in _GUARDS if name in result]
    if not there:
        raise InputError(f"this dataset has none of {', '.join(_GUARDS)}")
    conditions = [literal(name) for name in names(result, "condition")]
    figure = make_subplots(
        1,
        len(there),
        subplot_titles=[_GUARDS[name].split(",")[0] for name in there],
        shared_yaxes=True,
        horizontal_spacing=0.03,
    )
    for column, name in enumerate(there, start=1):
        unit = _GUARDS[name].split(", ")[1]
        for k, language in enumerate(names(result, "language")):
            of = result.sel(language=language)
            ends = [of.get(f"{name}_{end}", of[name]).values for end in ("low", "high")]
            figure.add_trace(
                go.Scatter(
                    x=of[name].values,
                    y=conditions,
                    mode="markers",
                    marker={
                        "color": COLOURWAY[k % len(COLOURWAY)],
                        "symbol": _SYMBOLS[k % len(_SYMBOLS)],
                        "size": 8,
                    },
                    name=literal(language),
                    legendgroup=literal(language),
                    cliponaxis=False,
                    showlegend=column == 1,
                    customdata=np.stack(ends, axis=1),
                    hovertemplate=f"%{{y}}, {literal(language)}<br>{_GUARDS[name].split(',')[0]} "
                    "%{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>",
                ),
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text=unit, rangemode="tozero", row=1, col=column)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(
        template=LIGHT,
        title={
            "text": "Did the replies fall apart?",
            "subtitle": {"text": literal(result.attrs.get("model", "model unknown"))},
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        width=150 + 200 * len(there) + 90,
        height=150 + 30 * len(conditions),
        margin={"t": 100, "b": 50, "l": 150, "r": 90},
    )
    return figure


def _colour(condition: str) -> str:
    return _COLOURS.get(condition.split()[0], COLOURWAY[0])


def _bars(middle: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": np.maximum(high - middle, 0),
        "arrayminus": np.maximum(middle - low, 0),
        "thickness": 1.5,
        "width": 3,
        # Seen on bars, on a light and on a dark page.
        "color": "#969696",
    }


def _hover(of: xr.Dataset, conditions: list[str], language: str) -> list[str]:
    texts = []
    for condition in conditions:
        at = of.sel(condition=condition)
        text = f"<b>{literal(condition)}</b>, {literal(language)}"
        if not np.isfinite(at.right):
            texts.append(f"{text}<br>no heads to switch off")
            continue
        if "n_heads" in at:
            text += f", {int(at.n_heads)} heads"
        text += f"<br>in the language {_interval(at, 'right')}"
        if condition != "none":
            text += f"<br>change against none {_interval(at, 'delta_right')}"
        if "suspect" in at and np.isfinite(at.suspect):
            text += f"<br>in the language strayed into {_interval(at, 'suspect')}"
        texts.append(text)
    return texts


def _interval(at: xr.Dataset, name: str) -> str:
    text = f"{float(at[name]):.3f}"
    if f"{name}_low" in at:
        text += f" ({float(at[f'{name}_low']):.3f} to {float(at[f'{name}_high']):.3f})"
    return text

"""Picture of replies that stray: in the right language or not, condition by condition."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.view.figures.style import (
    CLEAR,
    COLOURWAY,
    LIGHT,
    check_kind,
    literal,
    names,
    spacing,
    tick_labels,
    with_room,
)

TWINS = {
    "random own off": "own off",
    "random off": "rivals off",
    "random general off": "rivals, general off",
    "random suspect off": "suspect off",
    "random shift": "shift",
}
"""Conditions with random heads -> the one whose numbers of heads they have."""
# What a condition is: nothing, heads that should matter, heads drawn at random. Pale bars keep the
# intervals in them readable; their frame is in `_FRAMES`.
_COLOURS = {"none": "rgba(138,138,138,0.45)", "random": "rgba(86,180,233,0.25)"}
_FRAMES = {"none": "rgba(138,138,138,0.45)", "random": COLOURWAY[5]}


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
    languages, conditions = names(result, "language"), in_order(result)
    columns = min(len(languages), 3)
    rows = math.ceil(len(languages) / columns)
    height = 24 * len(conditions)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=tick_labels(languages, 32),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=spacing(64, rows * height + (rows - 1) * 64, rows),
    )
    labels = [literal(name) for name in conditions]
    for i, language in enumerate(languages):
        at = {"row": i // columns + 1, "col": i % columns + 1}
        of = result.sel(language=language, condition=conditions)
        share = of.right.values
        figure.add_trace(
            go.Bar(
                x=share,
                y=labels,
                orientation="h",
                marker={
                    "color": [_colour(_COLOURS, name) for name in conditions],
                    "line": {
                        "color": [_colour(_FRAMES, name) for name in conditions],
                        "width": 1.5,
                    },
                },
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
        plot_bgcolor=CLEAR,
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
    return with_room(figure)


def in_order(result: xr.Dataset) -> list[str]:
    """The conditions as they are drawn: every one followed by its random twin."""
    given = names(result, "condition")
    twins = {TWINS[name]: name for name in given if TWINS.get(name) in given}
    found: list[str] = []
    for name in given:
        if TWINS.get(name) not in given:
            found += [name, *([twins[name]] if name in twins else [])]
    return found


def _colour(colours: Mapping[str, str], condition: str) -> str:
    return colours.get(condition.split()[0], COLOURWAY[0])


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
        if "delta_nll" in at and condition != "none":
            text += f"<br>change of NLL {_interval(at, 'delta_nll')} nats per token"
        texts.append(text)
    return texts


def _interval(at: xr.Dataset, name: str) -> str:
    text = f"{float(at[name]):.3f}"
    if f"{name}_low" in at:
        text += f" ({float(at[f'{name}_low']):.3f} to {float(at[f'{name}_high']):.3f})"
    return text

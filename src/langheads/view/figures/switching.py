"""Picture of switch rates: which single heads keep replies in their language."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots
from scipy.stats import binomtest

from langheads.heads import Head
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

_MEASURES = ("switch_rate", "cost", "repetition", "empty", "sound", "prompts")


def switch_rate_bars(result: xr.Dataset, *, top: int = 10) -> go.Figure:
    """One panel a language: the heads without which most replies leave it.

    A full bar is sound: replies did not fall apart, so the rate may be read as a change of
    language. An open one is beyond the limits on cost, repetition or empty replies.

    Args:
        result: dataset of kind ``switch-rate``.
        top: how many heads of each language.

    Returns:
        A plotly figure of fixed size; bars carry 95% Wilson intervals, hovering gives the guards.

    Raises:
        InputError: another kind of dataset.

    Example:
        >>> switch_rate_bars(xr.load_dataset("switch-rate.nc")).show()  # doctest: +SKIP
    """
    check_kind(result, "switch-rate", _MEASURES)
    languages = names(result, "language")
    columns = min(len(languages), 3)
    rows = math.ceil(len(languages) / columns)
    shown = max(len(highest(result, language, top)) for language in languages)
    height = 22 * max(shown, 4)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=tick_labels(languages, 32),
        horizontal_spacing=0.09,
        vertical_spacing=spacing(64, rows * height + (rows - 1) * 64, rows),
    )
    for i, language in enumerate(languages):
        at = {"row": i // columns + 1, "col": i % columns + 1}
        of = result.sel(language=language)
        heads = highest(result, language, top)
        rates = np.array([float(of.switch_rate.values[head]) for head in heads])
        ends = np.array([share_interval(rate, int(of.prompts)) for rate in rates]).reshape(-1, 2)
        sound = [bool(of.sound.values[head] > 0) for head in heads]
        figure.add_trace(
            go.Bar(
                x=rates,
                y=[str(head) for head in heads],
                orientation="h",
                marker={
                    "color": [COLOURWAY[0] if yes else "rgba(0,0,0,0)" for yes in sound],
                    "line": {"color": COLOURWAY[0], "width": 1.5},
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": ends[:, 1] - rates,
                    "arrayminus": rates - ends[:, 0],
                    "thickness": 1.5,
                    "width": 3,
                    "color": "#969696",
                },
                text=[_hover(of, head, end) for head, end in zip(heads, ends, strict=True)],
                textposition="none",
                hovertemplate=f"%{{text}}<br>{literal(language)}<extra></extra>",
                showlegend=False,
            ),
            **at,
        )
        if i + columns >= len(languages):
            figure.update_xaxes(title_text="switch rate, share of prompts", **at)
    figure.update_xaxes(range=[0, 1.02], dtick=0.25)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_layout(
        template=LIGHT,
        plot_bgcolor=CLEAR,
        title={
            "text": "Replies that leave their language without one head",
            "subtitle": {
                "text": f"{literal(result.attrs.get('model', 'model unknown'))}; open bars: "
                "replies fell apart, so no change of language; 95% intervals"
            },
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        width=80 + 280 * columns + 30,
        height=104 + rows * height + (rows - 1) * 64 + 54,
        margin={"t": 104, "b": 54, "l": 80, "r": 30},
    )
    return with_room(figure)


def highest(result: xr.Dataset, language: str, top: int, sound: bool = False) -> list[Head]:
    """The heads of the highest switch rate in a language, those not tried left out.

    With `sound`, so are those without which replies fell apart.
    """
    of = result.sel(language=language)
    rate = of.switch_rate.where(of.sound > 0) if sound else of.switch_rate
    values = rate.transpose("layer", "head").values
    order = np.argsort(-values, axis=None, kind="stable")
    heads = [Head(*divmod(int(i), values.shape[1])) for i in order if np.isfinite(values.flat[i])]
    return heads[:top]


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of `count`.

    Example:
        >>> [round(end, 3) for end in share_interval(0.5, 10)]
        [0.237, 0.763]
    """
    found = binomtest(round(share * count), count).proportion_ci(method="wilson")
    # The ends of a share of 0 or 1 miss it by rounding.
    return min(float(found.low), share), max(float(found.high), share)


def _hover(of: xr.Dataset, head: Head, ends: np.ndarray) -> str:
    def value(name: str) -> float:
        return float(of[name].values[head])

    return (
        f"<b>{head}</b> off: {value('switch_rate'):.3f} of prompts switch "
        f"({ends[0]:.3f} to {ends[1]:.3f})<br>cost {value('cost'):.3g} nats per token, repetition "
        f"{value('repetition'):.3f}, empty {value('empty'):.3f}<br>"
        + ("sound" if value("sound") > 0 else "not sound: replies fell apart")
    )

"""Pictures of replies that stray: did they fall apart, and what the pass rates say of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.io.errors import InputError
from langheads.view.figures.off_target import in_order
from langheads.view.figures.style import CLEAR, LIGHT, check_kind, distinct, literal, names

# Variable -> what it is, and its unit.
_GUARDS = {
    "repetition": ("repetition", "share of 4-grams"),
    "prompt_copy": ("copied prompt", "share of 4-grams"),
    "empty": ("empty", "share of replies"),
    "nll": ("NLL by the untouched model", "nats per token"),
    "delta_nll": ("change of NLL", "nats per token"),
}
_RATES = {
    "lpr": ("LPR: lines pass", "share of replies"),
    "wpr": ("WPR: words pass", "share of replies"),
    "lcpr": ("LCPR: harmonic mean", "share of replies"),
}


def off_target_guards(result: xr.Dataset) -> go.Figure:
    """One panel a guard, one row a condition, one mark a language: did the replies fall apart?

    NLL is shown as its change against ``none``, where the file has it.

    Args:
        result: dataset of kind ``offtarget``.

    Returns:
        A plotly figure of fixed size; a reply that came back to its language is worth something
        only where these stay near the row ``none``.

    Raises:
        InputError: another kind of dataset, or one without guards.
    """
    check_kind(result, "offtarget", [])
    there = {name: said for name, said in _GUARDS.items() if name in result}
    if "delta_nll" in there:
        there.pop("nll", None)
    if not there:
        raise InputError(f"this dataset has none of {', '.join(_GUARDS)}")
    return _marks(result, there, "Did the replies fall apart?")


def off_target_rates(result: xr.Dataset) -> go.Figure:
    """One panel a pass rate, one row a condition, one mark a language.

    Args:
        result: dataset of kind ``offtarget``.

    Returns:
        A plotly figure of fixed size; languages that have no WPR have neither it nor LCPR.

    Raises:
        InputError: another kind of dataset, or one without rates.
    """
    check_kind(result, "offtarget", [])
    there = rates_of(result)
    if not there:
        raise InputError(f"this dataset has none of {', '.join(_RATES)}")
    return _marks(result, {name: _RATES[name] for name in there}, "Pass rates of the replies")


def rates_of(result: xr.Dataset) -> list[str]:
    """The pass rates that a dataset has of any language."""
    return [name for name in _RATES if name in result and np.isfinite(result[name].values).any()]


def _marks(result: xr.Dataset, panels: Mapping[str, tuple[str, str]], title: str) -> go.Figure:
    conditions, languages = in_order(result), names(result, "language")
    row = max(30, min(64, 9 * len(languages)))
    figure = make_subplots(
        1,
        len(panels),
        subplot_titles=[label for label, _ in panels.values()],
        shared_yaxes=True,
        horizontal_spacing=0.03,
    )
    figure.update_annotations(font_size=13)
    for column, (name, (label, unit)) in enumerate(panels.items(), start=1):
        for k, language in enumerate(languages):
            of = result.sel(language=language, condition=conditions)
            middle = of[name].values
            low, high = (of.get(f"{name}_{end}", of[name]).values for end in ("low", "high"))
            colour, symbol = distinct(k)
            # Languages stand below each other, so that no interval hides another.
            apart = (k - (len(languages) - 1) / 2) * 0.8 / len(languages)
            figure.add_trace(
                go.Scatter(
                    x=middle,
                    y=[i + apart for i in range(len(conditions))],
                    mode="markers",
                    marker={"color": colour, "symbol": symbol, "size": 8},
                    error_x={
                        "type": "data",
                        "symmetric": False,
                        "array": np.maximum(high - middle, 0),
                        "arrayminus": np.maximum(middle - low, 0),
                        "color": colour,
                        "thickness": 1.2,
                        "width": 0,
                    },
                    name=literal(language),
                    legendgroup=literal(language),
                    cliponaxis=False,
                    showlegend=column == 1,
                    text=[literal(condition) for condition in conditions],
                    customdata=np.stack([low, high], axis=1),
                    hovertemplate=f"%{{text}}, {literal(language)}<br>{label} "
                    "%{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>",
                ),
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text=unit, rangemode="tozero", nticks=5, row=1, col=column)
    figure.update_yaxes(
        tickvals=list(range(len(conditions))),
        ticktext=[literal(condition) for condition in conditions],
        range=[len(conditions) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    for i in range(1, len(conditions)):
        line = {"width": 1, "color": "rgba(128,128,128,0.35)"}
        figure.add_hline(y=i - 0.5, line=line, layer="below")
    figure.update_layout(
        template=LIGHT,
        plot_bgcolor=CLEAR,
        title={
            "text": title,
            "subtitle": {
                "text": f"{literal(result.attrs.get('model', 'model unknown'))}; lines are 95% "
                "intervals over prompts"
            },
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        width=150 + 210 * len(panels) + 130,
        height=150 + row * len(conditions),
        margin={"t": 100, "b": 50, "l": 150, "r": 130},
    )
    return figure

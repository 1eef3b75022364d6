"""Pictures of replies that stray: in the right language or not, and whether they fell apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.io.errors import InputError
from langheads.io.measures import labels, units
from langheads.view.figures.canvas import finish, row_axis
from langheads.view.figures.style import (
    COLOURWAY,
    check_kind,
    distinct,
    literal,
    model_of,
    names,
)
from langheads.view.figures.traces import ShareBars, points, share_bars

TWINS = {
    "random own off": "own off",
    "random off": "rivals off",
    "random general off": "rivals, general off",
    "random suspect off": "suspect off",
    "random shift": "shift",
}
"""Conditions with random heads -> the one whose numbers of heads they have."""
_SHOWN = {"shift": "steering", "random shift": "random steering"}
# What a condition is: nothing, heads that should matter, heads drawn at random. Pale bars keep the
# intervals in them readable; their frame is in `_FRAMES`.
_COLOURS = {"none": "rgba(138,138,138,0.45)", "random": "rgba(86,180,233,0.25)"}
_FRAMES = {"none": "rgba(138,138,138,0.45)", "random": COLOURWAY[5]}
_CHECKS = ("repetition", "prompt_copy", "empty", "nll", "delta_nll")
_RATES = {"lpr": "LPR: lines pass", "wpr": "WPR: words pass", "lcpr": "LCPR: harmonic mean"}


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
    conditions = in_order(result)

    def bars(language: str) -> ShareBars:
        of = result.sel(language=language, condition=conditions)
        return ShareBars(
            [literal(shown(name)) for name in conditions],
            of.right.values,
            of.right_low.values,
            of.right_high.values,
            [_COLOURS.get(name.split()[0], COLOURWAY[0]) for name in conditions],
            [_FRAMES.get(name.split()[0], COLOURWAY[0]) for name in conditions],
            [_hover(of.sel(condition=name), name, language) for name in conditions],
        )

    panels = {language: bars(language) for language in names(result, "language")}
    figure, size = share_bars(
        panels, 24 * len(conditions), 260, 0.03, "share of replies", shared_yaxes=True
    )
    return finish(
        figure,
        "Replies in the wanted language, heads off or moved",
        f"{model_of(result)}, replies stray into {literal(result.attrs.get('suspect', '?'))}; "
        "95% intervals over prompts",
        panels=size,
        margins=(104, 30, 50, 150),
    )


def off_target_checks(result: xr.Dataset) -> go.Figure:
    """One panel a degeneration check, one row a condition, one mark a language.

    NLL is shown as its change against ``none``, where the file has it.

    Args:
        result: dataset of kind ``offtarget``.

    Returns:
        A plotly figure of fixed size; a reply that came back to its language is worth something
        only where these stay near the row ``none``.

    Raises:
        InputError: another kind of dataset, or one without degeneration checks.
    """
    check_kind(result, "offtarget", [])
    there = [name for name in _CHECKS if name in result]
    if "delta_nll" in there and "nll" in there:
        there.remove("nll")
    if not there:
        raise InputError(f"this dataset has none of {', '.join(_CHECKS)}")
    return _marks(result, labels(there), "Did the replies fall apart?")


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


def shown(condition: str) -> str:
    """A condition in the field's terms; files of format 1 call steering a shift."""
    return _SHOWN.get(condition, condition)


def in_order(result: xr.Dataset) -> list[str]:
    """The conditions as they are drawn: every one followed by its random twin."""
    given = names(result, "condition")
    twins = {TWINS[name]: name for name in given if TWINS.get(name) in given}
    found: list[str] = []
    for name in given:
        if TWINS.get(name) not in given:
            found += [name, *([twins[name]] if name in twins else [])]
    return found


def _marks(result: xr.Dataset, panels: Mapping[str, str], title: str) -> go.Figure:
    """Measure -> its label: a panel each, with a row a condition and a mark a language."""
    conditions, languages = in_order(result), names(result, "language")
    unit = units(panels, of="replies")
    figure = make_subplots(
        1,
        len(panels),
        subplot_titles=list(panels.values()),
        shared_yaxes=True,
        horizontal_spacing=0.03,
    )
    figure.update_annotations(font_size=13)
    rows = np.arange(len(conditions))
    for column, (name, label) in enumerate(panels.items(), start=1):
        for k, language in enumerate(languages):
            of = result.sel(language=language, condition=conditions)
            low, high = (of.get(f"{name}_{end}", of[name]).values for end in ("low", "high"))
            # Languages stand below each other, so that no interval hides another.
            apart = (k - (len(languages) - 1) / 2) * 0.8 / len(languages)
            figure.add_trace(
                points(
                    of[name].values, rows + apart, low, high, literal(language), *distinct(k),
                    size=8, outline=0, thickness=1.2, width=0,
                    legendgroup=literal(language),
                    showlegend=column == 1,
                    text=[literal(shown(condition)) for condition in conditions],
                    customdata=np.stack([low, high], axis=1),
                    hovertemplate=f"%{{text}}, {literal(language)}<br>{label} "
                    "%{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>",
                ),
                row=1,
                col=column,
            )  # fmt: skip
        figure.update_xaxes(title_text=unit[name], rangemode="tozero", nticks=5, row=1, col=column)
    row_axis(figure, [literal(shown(condition)) for condition in conditions], room=0.0)
    for i in rows[1:]:
        line = {"width": 1, "color": "rgba(128,128,128,0.35)"}
        figure.add_hline(y=i - 0.5, line=line, layer="below")
    return finish(
        figure,
        title,
        f"{model_of(result)}; lines are 95% intervals over prompts",
        panels=(210 * len(panels), max(30, min(64, 9 * len(languages))) * len(conditions)),
        margins=(100, 130, 50, 150),
    )


def _hover(at: xr.Dataset, condition: str, language: str) -> str:
    text = f"<b>{literal(shown(condition))}</b>, {literal(language)}"
    if not np.isfinite(at.right):
        return f"{text}<br>no heads to switch off"
    if "n_heads" in at:
        text += f", {int(at.n_heads)} heads"
    text += f"<br>in the language {_interval(at, 'right')}"
    if condition != "none":
        text += f"<br>change against none {_interval(at, 'delta_right')}"
    if "suspect" in at and np.isfinite(at.suspect):
        text += f"<br>in the language strayed into {_interval(at, 'suspect')}"
    if "delta_nll" in at and condition != "none":
        text += f"<br>change of NLL {_interval(at, 'delta_nll')} nats per token"
    return text


def _interval(at: xr.Dataset, name: str) -> str:
    text = f"{float(at[name]):.3f}"
    if f"{name}_low" in at:
        text += f" ({float(at[f'{name}_low']):.3f} to {float(at[f'{name}_high']):.3f})"
    return text

"""Picture of answers under masks: what each mask changes, beside random heads, with the
degeneration checks."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.io.errors import InputError
from langheads.io.measures import labels
from langheads.view.figures.canvas import finish, row_axis, spacing
from langheads.view.figures.style import (
    COLOURWAY,
    DOTTED,
    check_kind,
    label_width,
    literal,
    model_of,
    names,
    tick_labels,
)
from langheads.view.figures.traces import points

UNTOUCHED = "untouched"
_ROWS = (
    ("accuracy", "exact_match", "f1", "answer_nll"),
    ("repetition", "prompt_copy", "empty", "reply_nll"),
)
LABELS = labels([name for row in _ROWS for name in row])
"""Measure of a dataset of kind ``qa`` -> its name."""


def qa_changes(result: xr.Dataset) -> go.Figure:
    """One panel a measure, one row a mask: the change against the untouched model.

    Above how good the answers are, below the degeneration checks that tell better answers from
    replies that fell apart.

    Args:
        result: dataset of kind ``qa``.

    Returns:
        A plotly figure of fixed size; lines are 95% intervals over questions, hovering gives the
        values and, where the file has it, the difference to the mean of the random heads.

    Raises:
        InputError: another kind of dataset, or one without any mask.

    Example:
        >>> qa_changes(xr.load_dataset("qa.nc")).show()  # doctest: +SKIP
    """
    check_kind(result, "qa", ["accuracy", "delta_accuracy"])
    conditions = masks(result)
    if not conditions:
        raise InputError("these answers were given without any mask; there is no change to show")
    there = [[name for name in row if f"delta_{name}" in result] for row in _ROWS]
    there = [row for row in there if row]
    columns = max(map(len, there))
    padded = [name for row in there for name in row + [""] * (columns - len(row))]
    gap = 92
    height = len(there) * (22 * len(conditions) + 24) + (len(there) - 1) * gap
    figure = make_subplots(
        len(there),
        columns,
        subplot_titles=[_title(result, name) if name else "" for name in padded],
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=spacing(gap, height, len(there)),
    )
    figure.update_annotations(font_size=12)
    for i, name in enumerate(padded):
        if name:
            _add_measure(figure, {"row": i // columns + 1, "col": i % columns + 1}, result, name)
    row_axis(figure, tick_labels(conditions))
    figure.update_xaxes(zeroline=False)
    attrs = result.attrs
    return finish(
        figure,
        "Answers under each mask, against the untouched model",
        f"{model_of(result)}, {literal(attrs.get('language', '?'))}, "
        f"{literal(attrs.get('docs', '?'))} questions; 95% intervals, paired by question",
        panels=(230 * columns, height),
        margins=(112, 30, 52, label_width(conditions)),
        showlegend=False,
    )


def masks(result: xr.Dataset) -> list[str]:
    """The conditions of a dataset but for the untouched model."""
    return [name for name in names(result, "condition") if name != UNTOUCHED]


def is_random(condition: str) -> bool:
    """Whether a mask was learned on heads drawn at random."""
    return condition.startswith("random")


def _title(result: xr.Dataset, name: str) -> str:
    if UNTOUCHED not in names(result, "condition"):
        return LABELS[name]
    return f"{LABELS[name]}<br>untouched {float(result[name].sel(condition=UNTOUCHED)):.3f}"


def _add_measure(figure: go.Figure, at: dict[str, int], result: xr.Dataset, name: str) -> None:
    """One panel: the change of a measure under every mask."""
    for row, condition in enumerate(masks(result)):
        here = result.sel(condition=condition)
        change, low, high = (
            float(here.get(f"delta_{name}{end}", np.nan)) for end in ("", "_low", "_high")
        )
        said = f"<b>{literal(condition)}</b><br>{LABELS[name]} {float(here[name]):.3f}"
        said += f"<br>change {change:+.3f} ({low:+.3f} to {high:+.3f})"
        if np.isfinite(beyond := float(here.get(f"versus_random_{name}", np.nan))):
            ends = [float(here[f"versus_random_{name}_{end}"]) for end in ("low", "high")]
            said += f"<br>over random heads {beyond:+.3f} ({ends[0]:+.3f} to {ends[1]:+.3f})"
        # Shape and fill tell them apart without colour.
        colour, symbol = COLOURWAY[0], "circle"
        if is_random(condition):
            colour, symbol = COLOURWAY[6], "circle-open"
        elif condition == "all heads":
            colour, symbol = COLOURWAY[2], "square"
        template = f"{said}<extra></extra>"
        figure.add_trace(
            points(
                [change], [row], [low], [high], literal(condition), colour, symbol,
                hovertemplate=template,
            ),
            **at,
        )  # fmt: skip
    figure.add_vline(x=0, line=DOTTED, **at)
    # Where nothing changes at all, plotly would show 1 either way.
    reach = None if np.any(result[f"delta_{name}"].values) else [-0.1, 0.1]
    unit = literal(result[name].attrs.get("units", "unit unknown"))
    figure.update_xaxes(title_text=f"change, {unit}", nticks=5, range=reach, **at)

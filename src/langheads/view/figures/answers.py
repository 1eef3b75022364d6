"""Picture of answers under masks: what each mask changes, beside random heads, with the guards."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.io.errors import InputError
from langheads.view.figures.style import (
    CLEAR,
    COLOURWAY,
    LIGHT,
    check_kind,
    label_width,
    literal,
    names,
    spacing,
    tick_labels,
    with_room,
)

UNTOUCHED = "untouched"
_ANSWERS = {
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "f1": "F1",
    "answer_nll": "NLL of the right answer",
}
_GUARDS = {
    "repetition": "repetition",
    "prompt_copy": "copied prompt",
    "empty": "empty replies",
    "reply_nll": "NLL of the reply",
}
LABELS = _ANSWERS | _GUARDS
"""Measure of a dataset of kind ``qa`` -> its name."""
_ROW = 22


def qa_changes(result: xr.Dataset) -> go.Figure:
    """One panel a measure, one row a mask: the change against the untouched model.

    Above how good the answers are, below the guards that tell better answers from replies that
    fell apart.

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
    rows = [
        {name: title for name, title in group.items() if f"delta_{name}" in result}
        for group in (_ANSWERS, _GUARDS)
    ]
    rows = [group for group in rows if group]
    columns = max(map(len, rows))
    titles = []
    for group in rows:
        titles += [_title(result, name, title) for name, title in group.items()]
        titles += [""] * (columns - len(group))
    height, gap = _ROW * len(conditions) + 24, 92
    plot_height = len(rows) * height + (len(rows) - 1) * gap
    figure = make_subplots(
        len(rows),
        columns,
        subplot_titles=titles,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=spacing(gap, plot_height, len(rows)),
    )
    figure.update_annotations(font_size=12)
    for row, group in enumerate(rows, start=1):
        for column, name in enumerate(group, start=1):
            for k, condition in enumerate(conditions):
                figure.add_trace(_point(result, name, condition, k), row=row, col=column)
            unit = str(result[name].attrs.get("units", "unit unknown"))
            at = {"row": row, "col": column}
            figure.add_vline(x=0, line={"width": 1, "dash": "dot", "color": "#808080"}, **at)
            # Where nothing changes at all, plotly would show 1 either way.
            still = not np.any(result[f"delta_{name}"].values)
            figure.update_xaxes(
                title_text=f"change, {literal(unit)}",
                nticks=5,
                range=[-0.1, 0.1] if still else None,
                **at,
            )
    figure.update_yaxes(
        tickvals=list(range(len(conditions))),
        ticktext=tick_labels(conditions),
        range=[len(conditions) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(zeroline=False)
    attrs = result.attrs
    top, bottom, left = 112, 52, label_width(conditions)
    figure.update_layout(
        template=LIGHT,
        plot_bgcolor=CLEAR,
        title={
            "text": "Answers under each mask, against the untouched model",
            "subtitle": {
                "text": f"{literal(attrs.get('model', 'model unknown'))}, "
                f"{literal(attrs.get('language', '?'))}, {literal(attrs.get('docs', '?'))} "
                "questions; 95% intervals, paired by question"
            },
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        showlegend=False,
        width=left + 230 * columns + 30,
        height=top + plot_height + bottom,
        margin={"t": top, "b": bottom, "l": left, "r": 30},
    )
    return with_room(figure)


def masks(result: xr.Dataset) -> list[str]:
    """The conditions of a dataset but for the untouched model."""
    return [name for name in names(result, "condition") if name != UNTOUCHED]


def is_random(condition: str) -> bool:
    """Whether a mask was learned on heads drawn at random."""
    return condition.startswith("random")


def _title(result: xr.Dataset, name: str, title: str) -> str:
    if UNTOUCHED not in names(result, "condition"):
        return title
    return f"{title}<br>untouched {float(result[name].sel(condition=UNTOUCHED)):.3f}"


def _point(result: xr.Dataset, name: str, condition: str, row: int) -> go.Scatter:
    at = result.sel(condition=condition)
    change, low, high = (
        float(at.get(f"delta_{name}{end}", np.nan)) for end in ("", "_low", "_high")
    )
    said = f"<b>{literal(condition)}</b><br>{LABELS[name]} {float(at[name]):.3f}"
    said += f"<br>change {change:+.3f} ({low:+.3f} to {high:+.3f})"
    if np.isfinite(beyond := float(at.get(f"versus_random_{name}", np.nan))):
        ends = [float(at[f"versus_random_{name}_{end}"]) for end in ("low", "high")]
        said += f"<br>over random heads {beyond:+.3f} ({ends[0]:+.3f} to {ends[1]:+.3f})"
    # Shape and fill tell them apart without colour.
    colour, symbol = COLOURWAY[0], "circle"
    if is_random(condition):
        colour, symbol = COLOURWAY[6], "circle-open"
    elif condition == "all heads":
        colour, symbol = COLOURWAY[2], "square"
    return go.Scatter(
        x=[change],
        y=[row],
        mode="markers",
        marker={
            "color": colour,
            "symbol": symbol,
            "size": 9,
            "line": {"color": colour, "width": 2},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [max(high - change, 0)],
            "arrayminus": [max(change - low, 0)],
            "color": colour,
            "thickness": 2,
            "width": 4,
        },
        name=literal(condition),
        cliponaxis=False,
        hovertemplate=f"{said}<extra></extra>",
    )

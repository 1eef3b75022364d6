"""What removing heads for good did to the loss of each language: the account of `prune`, drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping

import plotly.graph_objects as go

from langheads.experiments.pruning.account import Pruning
from langheads.io.errors import InputError
from langheads.view.figures.style import (
    CLEAR,
    COLOURWAY,
    LIGHT,
    label_width,
    literal,
    tick_labels,
    with_room,
)

_RANDOM = COLOURWAY[6]


def pruned_losses(pruning: Pruning) -> go.Figure:
    """The rise in loss of every language with its interval, beside random heads.

    Args:
        pruning: what ``pruned.json`` says, with losses.

    Returns:
        A plotly figure of fixed size: filled dots are the removed heads with 95% intervals, open
        ones the mean of random head sets, their bar the 2.5 to 97.5 percentiles over the sets.

    Raises:
        InputError: nothing was measured.

    Example:
        >>> pruned_losses(Pruning.load("without-zh/pruned.json")).show()  # doctest: +SKIP
    """
    losses = pruning.losses
    if not losses:
        raise InputError("nothing was measured when these heads were removed; give prune a text")
    # What was dropped comes first.
    languages = sorted(losses, key=lambda name: name not in pruning.dropped)
    of = [losses[name] for name in languages]
    with_random = any(math.isfinite(one["control_mean"]) for one in of)
    apart = 0.16 if with_random else 0.0
    figure = go.Figure()
    if with_random:
        figure.add_trace(
            _points(
                [(one["control_mean"], one["control_low"], one["control_high"]) for one in of],
                [i + apart for i in range(len(of))],
                f"{pruning.n_controls} random head sets: mean, 2.5 to 97.5 percentile",
                _RANDOM,
                "circle-open",
                [_said(name, losses[name]) for name in languages],
            )
        )
    figure.add_trace(
        _points(
            [(one["rise"], one["rise_low"], one["rise_high"]) for one in of],
            [i - apart for i in range(len(of))],
            "removed heads, 95% interval",
            COLOURWAY[1],
            "circle",
            [_said(name, losses[name]) for name in languages],
        )
    )
    figure.add_vline(x=0, line={"width": 1, "dash": "dot", "color": "#808080"})
    labels = [
        f"{label}{' (dropped)' if name in pruning.dropped else ''}"
        for name, label in zip(languages, tick_labels(languages), strict=True)
    ]
    removed = len(pruning.account.get("removed", ()))
    top, bottom, left = 112, 52, label_width(labels, 34)
    figure.update_layout(
        template=LIGHT,
        plot_bgcolor=CLEAR,
        title={
            "text": f"Rise in loss without the heads of {literal(', '.join(pruning.dropped))}",
            "subtitle": {
                "text": f"{literal(pruning.account.get('model', 'model unknown'))}, {removed} "
                "heads removed for good"
            },
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        legend={
            "orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "traceorder": "reversed",
        },
        width=left + 560 + 30,
        height=top + 40 * len(of) + 12 + bottom,
        margin={"t": top, "b": bottom, "l": left, "r": 30},
    )  # fmt: skip
    figure.update_xaxes(title_text="rise in loss, nats per byte", zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(of))),
        ticktext=labels,
        range=[len(of) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
    )
    return with_room(figure)


def _points(
    values: list[tuple[float, float, float]],
    rows: list[float],
    name: str,
    colour: str,
    symbol: str,
    said: list[str],
) -> go.Scatter:
    return go.Scatter(
        x=[middle for middle, _, _ in values],
        y=rows,
        mode="markers",
        marker={
            "color": colour, "symbol": symbol, "size": 10, "line": {"color": colour, "width": 2},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [high - middle for middle, _, high in values],
            "arrayminus": [middle - low for middle, low, _ in values],
            "color": colour,
            "thickness": 2,
            "width": 4,
        },
        name=name,
        text=said,
        hovertemplate="%{text}<extra></extra>",
        cliponaxis=False,
    )  # fmt: skip


def _said(language: str, of: Mapping[str, float]) -> str:
    text = f"<b>{literal(language)}</b><br>{of['before']:.4f} before, {of['after']:.4f} after"
    text += f"<br>rise {of['rise']:+.4f}"
    if math.isfinite(of["rise_low"]):
        text += f" ({of['rise_low']:+.4f} to {of['rise_high']:+.4f})"
    text += " nats per byte"
    if math.isfinite(of["control_mean"]):
        text += f"<br>random heads {of['control_mean']:+.4f}"
    if math.isfinite(of["control_low"]):
        text += f" ({of['control_low']:+.4f} to {of['control_high']:+.4f})"
    if math.isfinite(of["control_p"]):
        text += f", p = {of['control_p']:.2g}"
    return text

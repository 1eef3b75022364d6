"""What removing heads for good did to the loss of each language: the account of `prune`, drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping

import plotly.graph_objects as go

from langheads.experiments.pruning.account import Pruning
from langheads.io.errors import InputError
from langheads.view.figures.canvas import finish, row_axis
from langheads.view.figures.style import COLOURWAY, DOTTED, label_width, literal, tick_labels
from langheads.view.figures.traces import points


def pruned_losses(pruning: Pruning) -> go.Figure:
    """The rise in NLL of every language with its interval, beside random heads.

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
    rows = range(len(languages))
    series = [("removed heads, 95% interval", "rise", "rise_", COLOURWAY[1], "circle")]
    if any(math.isfinite(of["control_mean"]) for of in losses.values()):
        name = f"{pruning.n_controls} random head sets: mean, 2.5 to 97.5 percentile"
        series.insert(0, (name, "control_mean", "control_", COLOURWAY[6], "circle-open"))
    figure = go.Figure()
    for name, middle, ends, colour, symbol in series:
        apart = 0.0 if len(series) == 1 else 0.16 if middle == "control_mean" else -0.16
        x, low, high = (
            [losses[language][key] for language in languages]
            for key in (middle, f"{ends}low", f"{ends}high")
        )
        figure.add_trace(
            points(
                x, [i + apart for i in rows], low, high, name, colour, symbol,
                size=10,
                text=[_said(language, losses[language]) for language in languages],
                hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_vline(x=0, line=DOTTED)
    labels = [
        f"{label}{' (dropped)' if name in pruning.dropped else ''}"
        for name, label in zip(languages, tick_labels(languages), strict=True)
    ]
    row_axis(figure, labels)
    figure.update_xaxes(title_text="rise in NLL, nats per byte", zeroline=False)
    above = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}
    return finish(
        figure,
        f"Rise in NLL without the heads of {literal(', '.join(pruning.dropped))}",
        f"{literal(pruning.account.get('model', 'model unknown'))}, "
        f"{len(pruning.account.get('removed', ()))} heads removed for good",
        panels=(560, 40 * len(rows) + 12),
        margins=(112, 30, 52, label_width(labels, 34)),
        legend=above | {"traceorder": "reversed"},
    )


def _said(language: str, of: Mapping[str, float]) -> str:
    text = f"<b>{literal(language)}</b><br>{of['before']:.4f} before, {of['after']:.4f} after"
    text += f"<br>ΔNLL {of['rise']:+.4f}"
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

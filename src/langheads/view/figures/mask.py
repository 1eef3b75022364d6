"""Picture of soft head masks: the loss while they were learned, and the gates that came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from langheads.heads import Head
from langheads.heads.mask import HeadMask
from langheads.io.errors import InputError
from langheads.view.figures.canvas import finish
from langheads.view.figures.style import COLOURWAY, DOTTED, literal

# Every head has a row of its own up to here; above, rows are thinner and only some are named.
_ROWS = 48


def mask_training(masks: HeadMask | Mapping[str, HeadMask]) -> go.Figure:
    """Left the loss of every step and on validation questions, right the gate of every head.

    The loss of a step is that of its own few questions, so it jumps; the thick line is its mean
    over the steps of an epoch up to there. Squares are the loss of all training questions before
    and after, diamonds that of validation questions. A gate of 1 leaves a head untouched; left of
    the line it is weakened, right of it strengthened.

    Args:
        masks: what `adapt` gave, or several by name.

    Returns:
        A plotly figure of fixed size in pixels; hover gives step and loss, head and gate.

    Raises:
        InputError: no mask, masks of different shapes, or more than there are colours.

    Example:
        >>> mask_training(HeadMask.load("mask.json")).show()  # doctest: +SKIP
    """
    named = {masks.language: masks} if isinstance(masks, HeadMask) else dict(masks)
    if not 0 < len(named) <= len(COLOURWAY):
        raise InputError(f"{len(named)} masks given; from 1 to {len(COLOURWAY)} can be shown")
    shapes = {mask.shape for mask in named.values()}
    if len(shapes) > 1:
        raise InputError(f"masks of models of different shapes, {sorted(shapes)}, in one figure")
    heads = sorted({head for mask in named.values() for head in mask.heads})
    figure = make_subplots(
        1,
        2,
        column_widths=[0.6, 0.4],
        horizontal_spacing=0.12,
        subplot_titles=["loss while learning", "gates learned"],
    )
    for colour, (name, mask) in zip(COLOURWAY, named.items(), strict=False):
        _add_losses(figure, name, mask, colour)
        _add_gates(figure, name, mask, colour, heads)
    _add_axes(figure, named.values(), heads)
    some = next(iter(named.values()))
    counts = sorted({len(mask.split["train"]) for mask in named.values()})
    asked = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    row = max(9, min(26, 1000 // max(1, len(heads))))
    return finish(
        figure,
        f"Soft head mask, {literal(some.model or 'model unknown')}",
        f"{asked} training questions in {literal(some.language)}, "
        f"{some.settings.get('epochs', '?')} epochs, answer tokens only",
        panels=(720, max(260, row * len(heads))),
        margins=(96, 190, 56, 70),
        legend={"x": 1.02, "y": 1},
    )


def _add_axes(figure: go.Figure, masks: Iterable[HeadMask], heads: list[Head]) -> None:
    figure.add_vline(x=1, line=DOTTED, row=1, col=2)
    figure.update_xaxes(title_text="steps taken", row=1, col=1)
    figure.update_yaxes(title_text="loss (nats per answer token)", row=1, col=1)
    reached = [1.0, *(value for mask in masks for value in mask.values)]
    room = 0.06 * (max(reached) - min(reached)) or 0.1
    ends = [min(reached) - room, max(reached) + room]
    figure.update_xaxes(title_text="gate (1: untouched)", range=ends, row=1, col=2)
    step = 1 + (len(heads) - 1) // _ROWS
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(heads))),
        ticktext=[str(head) if i % step == 0 else "" for i, head in enumerate(heads)],
        range=[-0.7, len(heads) - 0.3],
        row=1,
        col=2,
    )


def _add_losses(figure: go.Figure, name: str, mask: HeadMask, colour: str) -> None:
    def add(x: Any, y: Any, said: str, hover: str, line: dict[str, Any], **look: Any) -> None:
        template = "after %{x} steps: %{y:.4g} nats per answer token<extra></extra>"
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                name=f"{literal(name)}, {said}",
                hovertemplate=f"<b>{literal(name)}</b>{hover} {template}",
                legendgroup=name,
                line={"color": colour} | line,
                **look,
            ),
            row=1,
            col=1,
        )

    losses = np.array(mask.losses["train"], dtype=float)
    steps = np.arange(1, len(losses) + 1)
    taken = steps - 1  # the loss of a step is that of the gates before it
    epoch = max(1, len(losses) // max(1, int(mask.settings.get("epochs", 1))))
    # Mean over as many steps as an epoch has, fewer at the beginning.
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    first = np.maximum(steps - epoch, 0)
    running = (sums[steps] - sums[first]) / (steps - first)
    add(taken, losses, "each step", "", {"width": 1}, mode="lines", opacity=0.35)
    add(taken, running, said := "mean of an epoch", f", {said},", {"width": 3}, mode="lines")
    for key, said, symbol in (
        ("train_set", "all training questions", "square"),
        ("validation", "validation", "diamond"),
    ):
        if mask.losses[key]:
            at, values = zip(*mask.losses[key], strict=True)
            marker = {"color": colour, "size": 9, "symbol": symbol}
            line = {"width": 1, "dash": "dot"}
            add(at, values, said, f", {said},", line, mode="markers+lines", marker=marker)


def _add_gates(
    figure: go.Figure, name: str, mask: HeadMask, colour: str, heads: list[Head]
) -> None:
    figure.add_trace(
        go.Scatter(
            x=mask.values,
            y=[heads.index(head) for head in mask.heads],
            text=[str(head) for head in mask.heads],
            mode="markers",
            name=f"{literal(name)}, gates",
            legendgroup=name,
            marker={"color": colour, "size": 9, "line": {"width": 1, "color": "#ffffff"}},
            hovertemplate=f"<b>%{{text}}</b> {literal(name)}: gate %{{x:.4f}}<extra></extra>",
        ),
        row=1,
        col=2,
    )

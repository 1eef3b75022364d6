"""Soft head mask: the loss while it was learned, and the learned gates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from langheads.io.errors import InputError
from langheads.view.contents import Kind, captioned
from langheads.view.figures import canvas
from langheads.view.figures.style import COLOURWAY, DOTTED, literal
from langheads.view.table import readable

if TYPE_CHECKING:
    from langheads.heads import Head
    from langheads.heads.mask import HeadMask

# Up to so many heads each has its own row; with more, rows are thinner and only some are named.
_ROWS = 48


def mask_training(masks: HeadMask | Mapping[str, HeadMask]) -> go.Figure:
    """Left the loss of every step and on validation questions, right the gate of every head.

    The loss of a step is that of its own few questions, so it jumps; the thick line is its mean
    over the last steps, as many as an epoch has. Squares are the loss of all training questions
    before and after, diamonds that of validation questions. A gate of 1 leaves a head untouched;
    left of the line it is weakened, right of it strengthened.

    Args:
        masks: a mask of `adapt`, or several by name.

    Returns:
        A plotly figure of fixed size in pixels; hover gives step and loss, head and gate.

    Raises:
        InputError: no mask, masks of different shapes, or more than there are colours.
    """
    named = dict(masks) if isinstance(masks, Mapping) else {masks.language: masks}
    if not 0 < len(named) <= len(COLOURWAY):
        raise InputError(f"{len(named)} masks given; from 1 to {len(COLOURWAY)} can be shown")
    shapes = {mask.shape for mask in named.values()}
    if len(shapes) > 1:
        raise InputError(f"masks of models of different shapes, {sorted(shapes)}, in one figure")
    heads = sorted({head for mask in named.values() for head in mask.heads})
    titles = ["loss while learning", "gates learned"]
    figure, (left, right) = canvas.side_by_side(titles, 0.12, column_widths=[0.6, 0.4])
    for colour, (name, mask) in zip(COLOURWAY, named.items(), strict=False):
        _add_losses(figure, left, name, mask, colour)
        _add_gates(figure, right, name, mask, colour, heads)
    figure.add_vline(x=1, line=DOTTED, **right)
    figure.update_xaxes(title_text="steps taken", **left)
    figure.update_yaxes(title_text="loss (nats per answer token)", **left)
    reached = [1.0, *(value for mask in named.values() for value in mask.values)]
    room = 0.06 * (max(reached) - min(reached)) or 0.1
    ends, step = [min(reached) - room, max(reached) + room], 1 + (len(heads) - 1) // _ROWS
    figure.update_xaxes(title_text="gate (1: untouched)", range=ends, **right)
    labels = [str(head) if i % step == 0 else "" for i, head in enumerate(heads)]
    rows = {"tickvals": list(range(len(heads))), "ticktext": labels, "tickmode": "array"}
    figure.update_yaxes(title_text="head", range=[-0.7, len(heads) - 0.3], **rows, **right)
    some = next(iter(named.values()))
    counts = sorted({len(mask.split["train"]) for mask in named.values()})
    asked = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    row = max(9, min(26, 1000 // max(1, len(heads))))
    return canvas.finish(
        figure,
        f"Soft head mask, {literal(readable(some.model))}",
        f"{asked} training question{'' if asked == '1' else 's'} in {literal(some.language)}, "
        f"{some.settings.get('epochs', '?')} epochs, answer tokens only",
        panels=(720, max(260, row * len(heads))),
        margins=(96, 190, 56, 70),
        legend={"x": 1.02, "y": 1},
    )


def _add_losses(
    figure: go.Figure, at: canvas.Place, name: str, mask: HeadMask, colour: str
) -> None:
    losses = np.array(mask.losses["train"], dtype=float)
    steps = np.arange(1, len(losses) + 1)
    taken = steps - 1  # the loss of a step is that of the gates before it
    epoch = max(1, len(losses) // max(1, int(mask.settings.get("epochs", 1))))
    # Mean over as many steps as an epoch has, fewer at the beginning.
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    first = np.maximum(steps - epoch, 0)
    running = (sums[steps] - sums[first]) / (steps - first)
    thin, thick = ({"line": {"color": colour, "width": n}, "mode": "lines"} for n in (1, 3))
    lines: list[tuple[Any, Any, str, dict[str, Any]]] = [
        (taken, losses, "each step", thin),
        (taken, running, "mean of an epoch", thick),
    ]
    for key, said, symbol in (
        ("train_set", "all training questions", "square"),
        ("validation", "validation", "diamond"),
    ):
        if mask.losses[key]:
            marker = {"color": colour, "size": 9, "symbol": symbol}
            line = {"color": colour, "width": 1, "dash": "dot"}
            look = {"mode": "markers+lines", "marker": marker, "line": line}
            x, y = zip(*mask.losses[key], strict=True)
            lines.append((x, y, said, look))
    for x, y, said, look in lines:
        hover = "" if said == "each step" else f", {said},"
        hover = (
            f"<b>{literal(name)}</b>{hover} after %{{x}} steps: %{{y:.4g}} nats per answer token"
        )
        words = {"name": f"{literal(name)}, {said}", "hovertemplate": f"{hover}<extra></extra>"}
        figure.add_scatter(x=x, y=y, legendgroup=name, **words, **look, **at)


def _add_gates(
    figure: go.Figure, at: canvas.Place, name: str, mask: HeadMask, colour: str, heads: list[Head]
) -> None:
    figure.add_scatter(
        x=mask.values,
        y=[heads.index(head) for head in mask.heads],
        text=[str(head) for head in mask.heads],
        mode="markers",
        name=f"{literal(name)}, gates",
        legendgroup=name,
        marker={"color": colour, "size": 9, "line": {"width": 1, "color": "#ffffff"}},
        hovertemplate=f"<b>%{{text}}</b> {literal(name)}: gate %{{x:.4f}}<extra></extra>",
        **at,
    )


def _load(path: Path) -> HeadMask:
    # A mask imports torch, so it is imported only if a folder holds one.
    from langheads.heads.mask import HeadMask

    return HeadMask.load(path)


_SHOWS = (
    "Shows: how the mask was learned, and the gate of each trained head.",
    "Does not show: that it helps on other questions; that is for an evaluation to say.",
)
_PICTURES = captioned(
    mask_training,
    "How to read it: the loss as gates are learned, and the gates; a gate of 1 leaves a head as "
    "it was.",
)
KIND = Kind("head-mask", "Soft head mask", _SHOWS, _PICTURES, load=_load, anchor="mask")

"""Picture of the four classes: what two languages lose without each head, one dot a head."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from langheads.heads import HeadSet
from langheads.heads.classes import HeadClasses
from langheads.view.figures.canvas import finish
from langheads.view.figures.style import COLOURWAY, DOTTED, literal
from langheads.view.figures.traces import error_bars

# Colour and shape both tell the class; the many other heads are small, open and grey.
_MARKERS = (
    {"color": COLOURWAY[0], "symbol": "triangle-right", "size": 11},
    {"color": COLOURWAY[1], "symbol": "triangle-up", "size": 11},
    {"color": COLOURWAY[2], "symbol": "diamond", "size": 10},
    {"color": COLOURWAY[3], "symbol": "x-thin-open", "size": 8},
    {"color": COLOURWAY[6], "symbol": "circle-open", "size": 6},
)
# More names than this in one class cover each other.
_NAMED = 5


def head_classes(classes: HeadClasses) -> go.Figure:
    """Change in language A (across) against change in language B (up), one dot a head.

    Colour and shape say the class. Dots that are in a class have their interval as a cross;
    hovering names every head and gives both intervals. The shaded corner is where both languages
    are harmed; the dotted lines are `min_drop`. A few heads do most of the harm, so both axes are
    asinh(change / s), s the median size of all changes: even near 0, logarithmic further out.

    Args:
        classes: what `classify` gave.

    Returns:
        A plotly figure of fixed size in pixels.

    Example:
        >>> head_classes(HeadClasses.load("classes.json")).show()  # doctest: +SKIP
    """
    first, second = classes.languages
    groups: list[tuple[str, HeadSet]] = [
        (f"{first}-specific", classes.specific[first]),
        (f"{second}-specific", classes.specific[second]),
        ("agnostic", classes.agnostic),
        ("undecided", classes.undecided),
        ("other", classes.other),
    ]
    scale = _scale(classes)
    figure = go.Figure()
    # Other heads first, so that they lie below.
    for (name, heads), marker in reversed(list(zip(groups, _MARKERS, strict=True))):
        if name == "undecided" and not heads:
            continue
        figure.add_trace(_dots(classes, name, heads, marker, scale))
    rule = classes.rule
    edge = float(np.arcsinh(classes.harm * rule["min_drop"] / scale))
    figure.add_vline(x=edge, line=DOTTED)
    figure.add_hline(y=edge, line=DOTTED)
    reached = [_range(classes, language, edge, scale) for language in (first, second)]
    worse = [ends[0] if classes.harm < 0 else ends[1] for ends in reached]
    corner = {"x0": edge, "x1": worse[0], "y0": edge, "y1": worse[1], "layer": "below"}
    figure.add_shape(type="rect", fillcolor="rgba(128,128,128,0.13)", line_width=0, **corner)
    n = rule["examples"]
    counted = f"{n[first]} aligned examples" if rule["aligned"] else (
        f"{n[first]} and {n[second]} documents, not aligned"
    )  # fmt: skip
    worse_word = "negative" if classes.harm < 0 else "positive"
    figure.update_xaxes(_axis(classes, first, reached[0], scale, 9, 0.09), tickangle=0)
    figure.update_yaxes(_axis(classes, second, reached[1], scale, 12, 0.04))
    return finish(
        figure,
        f"What {literal(first)} and {literal(second)} lose without each head, "
        f"{literal(classes.model or 'model unknown')}",
        f"{literal(rule['measure'])}, {literal(rule['baseline'])} ablation, {counted}, intervals "
        f"at {100 * (1 - rule['level']):g}%; {worse_word} is worse",
        panels=(574, 460),
        margins=(84, 210, 56, 76),
        legend={"traceorder": "reversed", "x": 1.02, "y": 1},
    )


def _axis(
    classes: HeadClasses,
    language: str,
    ends: list[float],
    scale: float,
    most: int,
    apart: float,
) -> dict[str, object]:
    """An axis with its ticks at round numbers: 0 and 1, 2, 5 times powers of ten.

    At most `most` of them, and `apart` of the axis' length from each other.
    """
    low, high = (scale * np.sinh(end) for end in ends)
    furthest = max(-low, high)
    # A language whose changes are all far below the scale has ticks of its own size.
    first = math.floor(math.log10(min(scale, furthest)))
    tens = 10.0 ** np.arange(first, 1 + math.log10(furthest))
    ticks = [0.0]
    for steps in ((1, 2, 5), (1, 3), (1,)):
        sizes = np.outer(tens, steps).ravel()
        ticks = sorted(t for t in (*-sizes, 0.0, *sizes) if low <= t <= high)
        if len(ticks) <= most:
            break
    kept = [0.0]
    for tick in sorted(ticks, key=abs, reverse=True):
        places = np.arcsinh(np.array([tick, *kept]) / scale)
        if np.abs(places[1:] - places[0]).min() > apart * (ends[1] - ends[0]):
            kept.append(tick)
    ticks = sorted(kept)
    return {
        "title": {
            "text": f"change in {literal(language)} with the head off, asinh scale "
            f"({literal(classes.units)})"
        },
        "range": ends,
        "tickvals": np.arcsinh(np.array(ticks) / scale),
        "ticktext": [f"{tick:.2g}" for tick in ticks],
    }


def _scale(classes: HeadClasses) -> float:
    """Median size of all changes; where most are 0, their largest."""
    changes = np.stack([classes.deltas[language][0] for language in classes.languages])
    sizes = np.abs(changes[np.isfinite(changes)])
    return float(np.median(sizes) or sizes.max() or 1.0) if sizes.size else 1.0


def _dots(
    classes: HeadClasses, name: str, heads: HeadSet, marker: dict[str, object], scale: float
) -> go.Scatter:
    rows, columns = [h.layer for h in heads], [h.head for h in heads]
    values = {key: all_of[:, rows, columns] for key, all_of in classes.deltas.items()}
    (x, x_low, x_high), (y, y_low, y_high) = (
        np.arcsinh(values[language] / scale) for language in classes.languages
    )
    listed = name != "other"
    return go.Scatter(
        x=x,
        y=y,
        mode="markers+text" if listed else "markers",
        text=[str(head) if i < _NAMED else "" for i, head in enumerate(heads)] if listed else None,
        textposition="top center",
        textfont={"size": 10},
        hovertext=[str(head) for head in heads],
        name=f"{literal(name)} ({len(heads)})",
        marker=marker,
        error_x=error_bars(x, x_low, x_high, thickness=1, width=0) if listed else None,
        error_y=error_bars(y, y_low, y_high, thickness=1, width=0) if listed else None,
        customdata=np.stack([*values.values()]).reshape(9, len(heads)).T,
        hovertemplate="<b>%{hovertext}</b> "
        + literal(name)
        + "".join(
            f"<br>{literal(key)}: %{{customdata[{3 * k}]:.4g}} "
            f"(%{{customdata[{3 * k + 1}]:.4g}} to %{{customdata[{3 * k + 2}]:.4g}})"
            for k, key in enumerate(values)
        )
        + f"<br>{literal(classes.units)}<extra></extra>",
    )


def _range(classes: HeadClasses, language: str, edge: float, scale: float) -> list[float]:
    """Ends of an axis, with every interval of a classed head and every dot inside."""
    all_of = np.arcsinh(classes.deltas[language] / scale)
    shown = [all_of[0].ravel()]
    for heads in (*classes.specific.values(), classes.agnostic, classes.undecided):
        shown.append(all_of[:, [h.layer for h in heads], [h.head for h in heads]].ravel())
    values = np.concatenate([*shown, [0.0, edge]])
    values = values[np.isfinite(values)]
    room = 0.06 * (values.max() - values.min() or 1.0)
    return [float(values.min() - room), float(values.max() + room)]

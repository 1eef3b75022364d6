"""How chosen and planted heads are marked on a map of heads: symbols, hover text, legend."""

from __future__ import annotations

from collections.abc import Iterable

import plotly.graph_objects as go

from langheads.heads import Head
from langheads.view.figures.style import literal


def roles(
    shape: tuple[int, int],
    language: str,
    specific: Iterable[Head],
    general: Iterable[Head],
    planted: Iterable[Head],
) -> list[list[str]]:
    """What a head was chosen as, ``[layer, head]``, as lines of hover text."""
    lines = [[""] * shape[1] for _ in range(shape[0])]
    for rank, (layer, head) in enumerate(specific, start=1):
        lines[layer][head] += f"<br>specific to {literal(language)}, rank {rank}"
    for layer, head in general:
        lines[layer][head] += "<br>general"
    for layer, head in planted:
        lines[layer][head] += "<br>planted"
    return lines


def _marker(label: str, size: float) -> list[dict[str, object]]:
    """How heads of a role are drawn; black on white stands out from every cell colour."""
    if label == "planted head":
        frame = {"symbol": "square", "color": "rgba(0,0,0,0)", "size": size}
        # A frame leaves the cell's colour visible; two lines keep it readable on any of them.
        return [
            frame | {"line": {"color": "white", "width": 3.5}},
            frame | {"line": {"color": "black", "width": 1.5}},
        ]
    # Shape alone is lost in the small cells of a large model: the two differ in fill too.
    if label == "general head":
        line = {"color": "white", "width": 1}
        return [{"symbol": "diamond", "color": "black", "size": 1.15 * size, "line": line}]
    line = {"color": "black", "width": 1.5 if size > 6 else 1}
    return [{"symbol": "circle", "color": "white", "size": size, "line": line}]


def add_marks(
    figure: go.Figure, at: dict[str, int], label: str, heads: Iterable[Head], size: float
) -> None:
    """Mark heads on the panel `at`; ``size`` in pixels."""
    positions = list(heads)
    if not positions:
        return
    for marker in _marker(label, size):
        figure.add_trace(
            go.Scatter(
                x=[head for _, head in positions],
                y=[layer for layer, _ in positions],
                mode="markers",
                marker=marker,
                name=label,
                legendgroup=label,
                showlegend=False,
                hoverinfo="skip",
                cliponaxis=False,
            ),
            **at,
        )


def add_legend_entry(figure: go.Figure, label: str) -> None:
    """One entry a role, if any head has it; grey lines are readable on a light and a dark page."""
    if not any(trace.legendgroup == label for trace in figure.data):
        return
    marker = _marker(label, 10.0)[-1]
    marker["line"] = {"color": "#808080", "width": 1.5}
    figure.add_trace(
        go.Scatter(
            x=[None], y=[None], mode="markers", marker=marker, name=label, legendgroup=label
        ),
        row=1,
        col=1,
    )

"""Picture of a logit lens: at which depth the residual stream turns to each answer."""

from __future__ import annotations

import plotly.graph_objects as go
import xarray as xr

from langheads.view.figures.canvas import finish
from langheads.view.figures.style import COLOURWAY, check_kind, literal, model_of, names

_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up")
_MOST_OF_THE_PROMPT = 100


def logit_lens(result: xr.Dataset) -> go.Figure:
    """The logit of each answer's first token, read from the residual stream at every depth.

    Args:
        result: dataset of kind ``logit-lens``: ``logit[condition, depth, answer]``.

    Returns:
        A plotly figure of fixed size in pixels: a colour an answer, a line style a condition.

    Raises:
        InputError: another kind of dataset.

    Example:
        >>> logit_lens(xr.load_dataset("logit-lens.nc")).show()  # doctest: +SKIP
    """
    check_kind(result, "logit-lens", ["logit"])
    figure = go.Figure()
    for i, condition in enumerate(names(result, "condition")):
        for j, answer in enumerate(names(result, "answer")):
            label = f"{literal(answer)}, {literal(condition)}"
            colour = COLOURWAY[j % len(COLOURWAY)]
            figure.add_trace(
                go.Scatter(
                    x=[literal(depth) for depth in names(result, "depth")],
                    y=result["logit"].sel(condition=condition, answer=answer).values,
                    mode="lines+markers",
                    name=label,
                    line={"color": colour, "dash": _DASHES[i % len(_DASHES)]},
                    marker={"symbol": _SYMBOLS[j % len(_SYMBOLS)]},
                    hovertemplate=f"{label}, %{{x}}: %{{y:.3f}} logits<extra></extra>",
                )
            )
    prompt = str(result.attrs.get("prompt", "")).replace("\n", " / ")
    if len(prompt) > _MOST_OF_THE_PROMPT:
        prompt = "…" + prompt[-_MOST_OF_THE_PROMPT:]
    figure.update_xaxes(title_text="residual stream (before layer)", type="category")
    figure.update_yaxes(title_text="logit of the answer's first token (logit)")
    return finish(
        figure,
        f"Logit lens at the last position, {model_of(result)}",
        literal(prompt),
        panels=(660, 278),
        margins=(96, 250, 56, 70),
        legend={"x": 1.02, "y": 1},
    )

"""Logit lens: the logits of the answers at every depth of the residual stream of one prompt."""

from collections.abc import Iterator

import plotly.graph_objects as go
import xarray as xr

from langheads.view.contents import Kind, RunFolder, captioned
from langheads.view.figures.canvas import finish
from langheads.view.figures.style import COLOURWAY, check_kind, literal, model_of, names
from langheads.view.table import Table, decimal

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
    """
    check_kind(result, "logit-lens")
    figure, depths = go.Figure(), [literal(depth) for depth in names(result, "depth")]
    for i, condition in enumerate(names(result, "condition")):
        for j, answer in enumerate(names(result, "answer")):
            label = f"{literal(answer)}, {literal(condition)}"
            colour, dash = COLOURWAY[j % len(COLOURWAY)], _DASHES[i % len(_DASHES)]
            figure.add_scatter(
                x=depths,
                y=result["logit"].sel(condition=condition, answer=answer).values,
                mode="lines+markers",
                name=label,
                line={"color": colour, "dash": dash},
                marker={"symbol": _SYMBOLS[j % len(_SYMBOLS)]},
                hovertemplate=f"{label}, %{{x}}: %{{y:.3f}} logits<extra></extra>",
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


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    answers = names(result, "answer")
    end = result["logit"].isel(depth=-1)
    rows = []
    for condition in names(result, "condition"):
        values = [float(end.sel(condition=condition, answer=answer)) for answer in answers]
        ahead = [decimal(values[0] - values[1])] if len(values) == 2 else []
        rows.append([condition, *map(decimal, values), *ahead])
    header = ["condition", *answers, *(["first − second"] if len(answers) == 2 else [])]
    yield Table("Logits at the end of the residual stream, of one prompt.", header, rows)


_SHOWS = (
    "Shows: at which depth the residual stream of one prompt turns to each answer, with "
    "nothing gated and under gates.",
    "Does not show: a mean or an interval. It is one worked example; the attention "
    "transfer is the test.",
)
_PICTURES = captioned(
    logit_lens,
    "How to read it: a colour is an answer, a line style what was gated; where two lines of a "
    "style cross, the model turns from one answer to the other.",
)
KIND = Kind("logit-lens", "Logit lens", _SHOWS, _PICTURES, _tables)

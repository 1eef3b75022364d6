"""Maps of what single heads do: knock-outs, answers without a head, attribution, switch rates."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from langheads.heads import LanguageHeads
from langheads.io.errors import InputError
from langheads.view.figures.canvas import grid
from langheads.view.figures.head_panels import add_head_marks, head_panels
from langheads.view.figures.style import check_label, literal, model_of, names

_DIMS = ("language", "layer", "head")
TITLES = {
    "knockout": {
        "delta_nats_per_byte": "Exact rise in NLL without each head",
        "delta_nats_per_token": "Exact rise in NLL without each head",
    },
    "knockout-task": {
        "delta_answer_logprob": "Change in the log-probability of the right answer",
        "delta_exact_match": "Change in exact matches",
        "delta_f1": "Change in F1",
        "delta_substring": "Change in answers found",
    },
    "attribution": {
        "direct": "What each head says for the answer (direct logit attribution)",
        "gradient": "Gradient times activation for the answer",
        "patching": "Share of the answer restored by patching each head",
    },
    "switch-rate": {"switch_rate": "Share of replies that leave the language without each head"},
}
"""Kind of result -> variables ``[language, layer, head]`` that can be mapped, with their titles."""


def effect_map(
    result: xr.Dataset,
    variable: str | None = None,
    *,
    baseline: str | None = None,
    heads: LanguageHeads | None = None,
) -> go.Figure:
    """One panel a language: the effect of every head, layer 0 at the bottom.

    Args:
        result: dataset of a kind in `TITLES`.
        variable: one of its variables; by default the first that the dataset has.
        baseline: a label of its ``baseline`` dimension, if it has one; by default the first.
        heads: marks specific heads (white circles) and general heads (black diamonds).

    Returns:
        A plotly figure of fixed size; heads that were not measured stay empty. All baselines of a
        variable have one colour scale.

    Raises:
        InputError: another kind, a variable or baseline that it does not have.

    Example:
        >>> effect_map(xr.load_dataset("knockout.nc"), baseline="mean").show()  # doctest: +SKIP
    """
    kind = str(result.attrs.get("kind"))
    if kind not in TITLES:
        raise InputError(f"kind {kind!r} given; a map can be drawn of {', '.join(TITLES)}")
    there = mapped(result)
    variable = variable or next(iter(there), None)
    if variable not in there:
        raise InputError(
            f"variable {variable!r} asked for; this dataset has {', '.join(there) or 'none'}"
        )
    effect, subtitle = result[variable], model_of(result)
    where = {}
    if "baseline" in effect.dims:
        where["baseline"] = baseline = baseline or names(result, "baseline")[0]
        check_label(result, "baseline", baseline)
        subtitle += f", {literal(baseline)} ablation"
    elif baseline is not None:
        raise InputError(f"baseline {baseline!r} asked for; {variable} has none")

    def of_heads(name: str) -> np.ndarray:
        return result[name].sel(where).transpose(*_DIMS).values

    values, error = of_heads(variable), f"{variable}_se"
    units, title = str(effect.attrs.get("units", "unit unknown")), TITLES[kind][variable]
    if "sample" in result.attrs:
        title = title.replace("Exact", "Estimated")
    figure = head_panels(
        *(values, names(result, "language"), units, title),
        errors=of_heads(error) if error in result else None,
        signed=bool((effect.values < 0).any()),
        # Maps of one quantity under two baselines can be compared by colour.
        scale=effect.values,
        heads=heads,
        subtitle=subtitle,
    )
    if variable == "switch_rate" and "sound" in result:
        _cross_out(figure, (of_heads("sound") == 0) & np.isfinite(values))
    return figure


def _cross_out(figure: go.Figure, fallen: np.ndarray) -> None:
    """Mark heads ``[language, layer, head]`` without which replies fell apart."""
    columns = grid(len(fallen))[1]
    shown = [i for i, panel in enumerate(fallen) if panel.any()]
    for i in shown:
        # White within black stands out from every cell, and from the legend of either page.
        line = {"color": "black", "width": 1}
        add_head_marks(
            figure,
            {"row": i // columns + 1, "col": i % columns + 1},
            np.argwhere(fallen[i]).tolist(),
            "replies fell apart",
            marker={"symbol": "x", "color": "white", "size": 7, "line": line},
            legendgroup="fallen",
            showlegend=i == shown[0],
        )


def mapped(result: xr.Dataset) -> list[str]:
    """The variables of a result that `effect_map` can draw."""
    titles = TITLES.get(str(result.attrs.get("kind")), {})
    return [name for name in titles if name in result and {*_DIMS} <= set(result[name].dims)]

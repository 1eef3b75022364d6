"""Maps of what single heads do: knock-outs, answers without a head, attribution, switch rates."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from langheads.heads import LanguageHeads
from langheads.io.errors import InputError
from langheads.view.figures.head_panels import head_panels
from langheads.view.figures.style import check_kind, literal, names

TITLES = {
    "knockout": {
        "delta_nats_per_byte": "Exact rise in loss without each head",
        "delta_nats_per_token": "Exact rise in loss without each head",
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
    check_kind(result, kind, [variable])
    effect, error = result[variable], result.get(f"{variable}_se")
    subtitle = literal(result.attrs.get("model", "model unknown"))
    if "baseline" in effect.dims:
        baseline = baseline or names(result, "baseline")[0]
        if baseline not in names(result, "baseline"):
            raise InputError(
                f"baseline {baseline!r} asked for; this dataset has "
                f"{', '.join(names(result, 'baseline'))}"
            )
        effect = effect.sel(baseline=baseline)
        error = None if error is None else error.sel(baseline=baseline)
        subtitle += f", {literal(baseline)} ablation"
    elif baseline is not None:
        raise InputError(f"baseline {baseline!r} asked for; {variable} has none")
    values = effect.transpose("language", "layer", "head").values
    figure = head_panels(
        values,
        names(result, "language"),
        str(result[variable].attrs.get("units", "unit unknown")),
        TITLES[kind][variable],
        errors=None if error is None else error.transpose("language", "layer", "head").values,
        signed=bool((result[variable].values < 0).any()),
        # Maps of one quantity under two baselines can be compared by colour.
        scale=result[variable].values,
        heads=heads,
        subtitle=subtitle,
    )
    if variable == "switch_rate" and "sound" in result:
        sound = result["sound"].transpose("language", "layer", "head").values
        _cross_out(figure, (sound == 0) & np.isfinite(values))
    return figure


def _cross_out(figure: go.Figure, fallen: np.ndarray) -> None:
    """Mark heads ``[language, layer, head]`` without which replies fell apart."""
    columns = min(len(fallen), 3)
    legend = True
    for i, panel in enumerate(fallen):
        layers, heads = np.nonzero(panel)
        if not layers.size:
            continue
        # White within black stands out from every cell, and from the legend of either page.
        line = {"color": "black", "width": 1}
        marker = {"symbol": "x", "color": "white", "size": 7, "line": line}
        figure.add_trace(
            go.Scatter(
                x=heads, y=layers, mode="markers", marker=marker, name="replies fell apart",
                legendgroup="fallen", showlegend=legend, hoverinfo="skip",
            ),
            row=i // columns + 1,
            col=i % columns + 1,
        )  # fmt: skip
        legend = False


def mapped(result: xr.Dataset) -> list[str]:
    """The variables of a result that `effect_map` can draw."""
    needed = {"language", "layer", "head"}
    titles = TITLES.get(str(result.attrs.get("kind")), {})
    return [name for name in titles if name in result and needed <= set(result[name].dims)]

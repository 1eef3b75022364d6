"""Effects of single heads, shown alike for knock-outs, answers, attribution and switch rates.

The kinds that show nothing else are defined here: attribution, and answers without each head.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float

from langheads.heads import Head, HeadSet, LanguageHeads
from langheads.io.arguments import asked_name
from langheads.io.errors import InputError
from langheads.io.results import rounding_words
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures.canvas import grid
from langheads.view.figures.head_panels import HeadMaps, add_head_marks, head_panels
from langheads.view.figures.style import check_label, literal, model_of, names, unit_of
from langheads.view.table import NONE, Table, isolated, shown

TITLES = {
    "knockout": {
        "delta_nats_per_byte": "Exact ΔNLL without each head",
        "delta_nats_per_token": "Exact ΔNLL without each head",
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
MAP = (
    "How to read it: each square is one head, layers from bottom to top; the same colour is the "
    "same score in every panel, and marks show the heads that were chosen."
)
_EFFECTS = (
    "How to read it: each square is one head, layers from bottom to top; the scale beside it says "
    "what a colour is, and what was not measured is grey. Marks show the chosen heads."
)
_NO_ERROR = " A dash: one document or prompt alone has no standard error."
_HARDLY_RUN = (
    " A dash: in the documents that were run, a head does next to nothing, unlike in others."
)
_DIMS = ("language", "layer", "head")
_TOP = 5


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
    """
    kind = str(result.attrs.get("kind"))
    if kind not in TITLES:
        raise InputError(f"kind {kind!r} given; a map can be drawn of {', '.join(TITLES)}")
    there = _mapped(result)
    variable = variable or next(iter(there), None)
    variable = asked_name("variable", variable, there, "this dataset has")
    effect, subtitle, where = result[variable], model_of(result), {}
    if "baseline" in effect.dims:
        where["baseline"] = baseline = baseline or names(result, "baseline")[0]
        check_label(result, "baseline", baseline)
        subtitle += f", {literal(baseline)} ablation"
    elif baseline is not None:
        raise InputError(f"baseline {baseline!r} asked for; {variable} has none")

    def of_heads(name: str) -> np.ndarray:
        return result[name].sel(where).transpose(*_DIMS).values

    error, title = f"{variable}_se", _title(result, variable)
    maps = HeadMaps(
        of_heads(variable),
        names(result, "language"),
        unit_of(result, variable),
        of_heads(error) if error in result else None,
        bool((effect.values < 0).any()),
        # Maps of one quantity under two baselines can be compared by colour.
        scale=effect.values,
        heads=heads,
    )
    figure = head_panels(maps, title, subtitle)
    if variable == "switch_rate" and "sound" in result:
        _cross_out(figure, (of_heads("sound") == 0) & np.isfinite(maps.values))
    return figure


def _title(result: xr.Dataset, variable: str) -> str:
    title = TITLES[str(result.attrs["kind"])][variable]
    return title.replace("Exact", "Estimated") if "sample" in result.attrs else title


def _cross_out(figure: go.Figure, fallen: np.ndarray) -> None:
    """Mark heads ``[language, layer, head]`` without which replies fell apart."""
    columns = grid(len(fallen))[1]
    # White within black is visible on every cell, and in the legend of either page.
    line = {"color": "black", "width": 1}
    look = {"marker": {"symbol": "x", "color": "white", "size": 7, "line": line}}
    shown = [i for i, panel in enumerate(fallen) if panel.any()]
    for i in shown:
        at = {"row": i // columns + 1, "col": i % columns + 1}
        entry = {"legendgroup": "fallen", "showlegend": i == shown[0]}
        heads = np.argwhere(fallen[i]).tolist()
        add_head_marks(figure, at, heads, "replies fell apart", **look, **entry)


def _mapped(result: xr.Dataset) -> list[str]:
    """The variables of a result that `effect_map` can draw."""
    titles = TITLES.get(str(result.attrs.get("kind")), {})
    return [name for name in titles if name in result and {*_DIMS} <= set(result[name].dims)]


def effect_pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    """A map of each measure, under each baseline."""
    for variable in _mapped(result):
        for baseline in _baselines(result, variable):
            figure = effect_map(result, variable, baseline=baseline, heads=run.heads)
            yield Picture(figure, _EFFECTS)


def effect_tables(
    result: xr.Dataset, run: RunFolder, variables: Sequence[str] = ()
) -> Iterator[Table]:
    """The heads with the largest effect in each language, a table a measure and baseline."""
    dash = _HARDLY_RUN if "sample" in result.attrs else _NO_ERROR
    for variable in variables or _mapped(result):
        for baseline in _baselines(result, variable):
            rows = [
                [language, *found]
                for language in names(result, "language")
                if (found := _strongest(result, variable, baseline, language))
            ]
            width = max((len(row) for row in rows), default=1)
            under = f", {baseline} ablation" if baseline else ""
            yield Table(
                f"{_title(result, variable)}{under}: the heads with the largest effect, in "
                f"{unit_of(result, variable)} ± standard error."
                + (dash if any(f"± {NONE}" in cell for row in rows for cell in row) else "")
                + (f" {lost}" if (lost := rounding_words(result)) else ""),
                ["language", *(f"rank {i}" for i in range(1, width))],
                [[*row, *[NONE] * (width - len(row))] for row in rows],
            )


def strongest_words(what: str, result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    """A sentence, beginning with `what`, on the head with the largest effect in each language."""
    for variable in _mapped(result)[:1]:
        baseline = _baselines(result, variable)[0]
        found = [
            f"{isolated(language)} {head}"
            for language in names(result, "language")
            for head in _strongest(result, variable, baseline, language)[:1]
        ]
        if found:
            yield f"{what}, in {unit_of(result, variable)}: {'; '.join(found)}."


def effects_of(
    result: xr.Dataset, variable: str, baseline: str | None, language: str
) -> Float[np.ndarray, "layer head"]:
    """One language's values of a variable, under one baseline where it has any."""
    values = result[variable].sel(language=language)
    values = values if baseline is None else values.sel(baseline=baseline)
    return values.transpose("layer", "head").values.astype(float)


def _strongest(result: xr.Dataset, variable: str, baseline: str | None, language: str) -> list[str]:
    """Heads with their values, largest effect first; where harm is negative, the most negative."""
    values = effects_of(result, variable, baseline, language)
    is_harm = str(result[variable].attrs.get("sign", "")).startswith("negative")
    ranked = HeadSet.ranked(-values if is_harm else values, _TOP)
    error = f"{variable}_se"
    errors = effects_of(result, error, baseline, language) if error in result else None

    def said(head: Head) -> str:
        beside = "" if errors is None else f" ± {shown(errors[head], '.2g')}"
        return f"{head} {shown(values[head])}{beside}"

    return [said(head) for head in ranked if np.isfinite(values[head])]


def _baselines(result: xr.Dataset, variable: str) -> list[str | None]:
    return [*names(result, "baseline")] if "baseline" in result[variable].dims else [None]


ATTRIBUTION = Kind(
    "attribution",
    "Attribution to heads",
    (
        "Shows: which heads speak for the right answer and against the wrong one, at the end "
        "of these prompts.",
        "Does not show: what happens without a head. Direct attribution sees only what goes "
        "straight to the output, the gradient only a small change.",
    ),
    effect_pictures,
    effect_tables,
    partial(strongest_words, "Attribution: the head that speaks most for the right answer"),
)
TASK = Kind(
    "knockout-task",
    "Answers without each head",
    (
        "Shows: how right answers to the same questions change in each language when one head "
        "is off. Negative is worse.",
        "Does not show: ability in general. It holds for these questions and this prompt.",
    ),
    effect_pictures,
    effect_tables,
    partial(strongest_words, "Questions: the head without which answers get worst"),
)

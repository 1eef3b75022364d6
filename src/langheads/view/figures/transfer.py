"""Picture of attention transfer: how far the answer moves to A's fact, pair by pair, beside random
heads."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.io.errors import InputError
from langheads.view.figures.canvas import (
    cell_columns,
    cell_rows,
    colour_axis,
    finish,
    legend_above,
    spacing,
)
from langheads.view.figures.style import (
    LEVEL,
    check_kind,
    check_label,
    label_width,
    literal,
    model_of,
    names,
    reach,
    tick_labels,
)
from langheads.view.figures.traces import cell_texts, cells, corner_marks

_MEASURES = {
    "answer_a": "answers that give A's fact",
    "answer_b": "answers that give B's fact",
    "first_token_a": "prompts that rank A's first token higher",
    "logprob_difference": "log p(A's answer) − log p(B's answer)",
}
DOES = {"enhance": "A's heads × {:g}", "weaken": "B's heads × {:g}"}
# Parts of a curve: of one pair, and of all.
PARTS = {
    "change": ("change", "overall_change"),
    "low": ("change_low", "overall_low"),
    "high": ("change_high", "overall_high"),
    "control": ("control_change", "overall_control_change"),
}


def transfer_matrix(
    transfer: xr.Dataset, measure: str = "logprob_difference", order: str | None = None
) -> go.Figure:
    """Fact in A (rows) against fact in B (columns): the change of a measure, beside the controls.

    Upper panels: the chosen heads at each gate; lower: the mean of random head sets matched layer
    by layer and in number; one scale centred at 0. A dot marks a bootstrap interval that excludes
    0; a triangle one further towards A than random heads, p < 0.05 (one-sided, 20 sets or more).

    Args:
        transfer: dataset of kind ``transfer``.
        measure: ``answer_a``, ``answer_b``, ``first_token_a`` or ``logprob_difference``.
        order: a label of its ``order`` dimension; by default both orders where it has them.

    Returns:
        A plotly figure of fixed size in pixels; hover gives interval, value before and after, p
        and heads. Pairs that were not run stay empty.

    Raises:
        InputError: another kind of dataset, a measure or an order that it does not have.

    Example:
        >>> transfer_matrix(xr.load_dataset("transfer.nc"), "answer_a").show()  # doctest: +SKIP
    """
    order = checked(transfer, measure, order)
    at = transfer.sel(order=order).transpose("setting", "a", "b", ...)
    unit, factor = unit_of(transfer, measure)
    values = [factor * at[f"{measure}_{part}"].values for part in ("change", "control_mean")]
    end = reach(*values)
    languages, gates = names(at, "a"), _gates(at)
    cell = max(40, min(64, 420 // len(languages)))
    width, height = (size * len(languages) for size in (cell, max(28, min(40, cell))))
    # Panels of few languages are narrower than their titles.
    gap_x, gap_y = max(30, 190 - width), 62
    plot = (len(gates) * width + (len(gates) - 1) * gap_x, 2 * height + gap_y)
    figure = make_subplots(
        2, len(gates), shared_yaxes=True,
        subplot_titles=[*gates, *(f"random heads, {gate}" for gate in gates)],
        horizontal_spacing=spacing(gap_x, plot[0], len(gates)),
        vertical_spacing=gap_y / plot[1],
    )  # fmt: skip
    figure.update_annotations(font_size=12 if width < 240 else 16)
    for s in range(len(gates)):
        _add_setting(figure, s + 1, at.isel(setting=s), measure, [of[s] for of in values], end)
    cell_columns(figure, tick_labels(languages), tickangle=0)
    cell_rows(figure, tick_labels(languages))
    # A panel of few languages has no room for it on one line.
    figure.update_xaxes(title_text="B: language of<br>the other fact", row=2)
    figure.update_yaxes(title_text="A: language of<br>the fact to move to", col=1)
    left = 56 + label_width(languages)
    return finish(
        figure,
        *title_of(transfer, measure, order),
        panels=(max(plot[0], 594 - left), plot[1]),
        margins=(132, 126, 72, left),
        coloraxis=colour_axis(
            -end, end, f"change in {unit},<br>{_towards(measure)}", min(plot[1], 320)
        ),
        legend=legend_above(plot[1]),
    )


def _gates(at: xr.Dataset) -> list[str]:
    whose = zip(at["condition"].values, at["gate"].values, strict=True)
    return [DOES[str(condition)].format(float(gate)) for condition, gate in whose]


def _add_setting(
    figure: go.Figure,
    column: int,
    at: xr.Dataset,
    measure: str,
    values: list[np.ndarray],
    end: float,
) -> None:
    """Both panels of a setting, with a dot and a triangle in the upper corners of cells."""
    hover = _hover(at, measure, *unit_of(at, measure))
    decimals = max(0, 2 - int(np.ceil(np.log10(end))))
    for row, of in enumerate(values, start=1):
        texts = cell_texts(of, decimals, signed=True)
        figure.add_trace(cells(of, texts, hover, 11), row=row, col=column)
    low, high = (at[f"{measure}_change_{end}"].values for end in ("low", "high"))
    further = at[f"{measure}_control_p"].values < LEVEL
    for name, symbol, where, dx in (
        ("interval excludes 0", "circle", (low > 0) | (high < 0), -0.36),
        (f"further towards A than random heads, p &lt; {LEVEL}", "triangle-up", further, 0.36),
    ):
        place, first = {"row": 1, "col": column}, column == 1
        corner_marks(figure, place, where, name, symbol, dx, legendgroup=name, showlegend=first)


def checked(transfer: xr.Dataset, measure: str, order: str | None) -> str:
    """The order that is asked for, of a dataset that has the measure."""
    if measure not in _MEASURES:
        raise InputError(f"measure {measure!r} asked for; allowed are {', '.join(_MEASURES)}")
    needs = [f"{measure}_{part}" for i in (0, 1) for part in (of[i] for of in PARTS.values())]
    check_kind(transfer, "transfer", [*needs, f"{measure}_control_mean", f"{measure}_before"])
    order = names(transfer, "order")[-1] if order is None else order
    check_label(transfer, "order", order)
    return order


def unit_of(transfer: xr.Dataset, measure: str) -> tuple[str, float]:
    """Unit on the axis, and what a value is multiplied by: shares are shown in points."""
    if transfer[f"{measure}_change"].attrs.get("units") == "nats":
        return "nats", 1.0
    return "points (percent of prompts)", 100.0


def _towards(measure: str) -> str:
    return f"{'below' if measure == 'answer_b' else 'above'} 0 is towards A"


def title_of(
    transfer: xr.Dataset, measure: str, order: str, pair: tuple[str, str] | None = None
) -> tuple[str, str]:
    """Title and subtitle."""
    attrs = transfer.attrs
    where = {"both": "both orders of the facts"}.get(order, order)
    if pair:
        where = f"A {literal(pair[0])}, B {literal(pair[1])}, {where}"
    return (
        f"Change of {_MEASURES[measure]}, {model_of(transfer)}",
        f"{_towards(measure)}; {where}; question in {literal(attrs.get('query', '?'))}; "
        f"{attrs.get('prompts', '?')} prompts a pair and order; "
        f"{attrs.get('controls', '?')} random head sets",
    )


def _hover(at: xr.Dataset, measure: str, unit: str, factor: float) -> list[list[str]]:
    """What a cell says, names shown literally."""

    def say(a: int, b: int) -> str:
        here = at.isel(a=a, b=b)

        def value(name: str) -> float:
            return float(here[f"{measure}{name}"])

        languages = names(at, "a")[a], names(at, "b")[b]
        title = f"<b>fact A in {literal(languages[0])}, fact B in {literal(languages[1])}</b>"
        if not np.isfinite(value("_change")):
            return title + "<br>not run, or a language without heads"
        ends = factor * value("_change_low"), factor * value("_change_high")
        whose = a if str(at["condition"].values) == "enhance" else b
        lines = [
            title,
            f"change {factor * value('_change'):+.3g} {unit}, interval {ends[0]:+.3g} to "
            f"{ends[1]:+.3g}",
            f"{factor * value('_before'):.3g} before, {factor * value(''):.3g} after",
            f"random heads: mean {factor * value('_control_mean'):+.3g}, "
            f"p = {value('_control_p'):.2g}",
            f"heads {literal(at['heads'].values[whose])}",
        ]
        return "<br>".join(lines)

    n = at.sizes["a"]
    return [[say(a, b) for b in range(n)] for a in range(n)]

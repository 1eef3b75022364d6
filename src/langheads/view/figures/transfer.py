"""Attention transfer pair by pair and gate by gate: how far the answer moves, and random heads."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from langheads.io.arguments import asked_name
from langheads.io.errors import InputError
from langheads.io.measures import labels
from langheads.stats import ALPHA, percentile_interval
from langheads.view.figures import canvas, style, traces
from langheads.view.figures.style import COLOURWAY, literal, names
from langheads.view.table import mean, shown

MEASURES = labels(("answer_a", "answer_b", "first_token_a", "logprob_difference"))
_DOES = {"enhance": "A's heads × {:g}", "weaken": "B's heads × {:g}"}
# Parts of a curve: of one pair, and of all.
_PARTS = {
    "change": ("change", "overall_change"),
    "low": ("change_low", "overall_low"),
    "high": ("change_high", "overall_high"),
    "control": ("control_change", "overall_control_change"),
}
_GREY = "rgba(138,138,138,{})"


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
    """
    order = _checked(transfer, measure, order)
    at = transfer.sel(order=order).transpose("setting", "a", "b", ...)
    unit, factor = _unit_of(transfer, measure)
    values = [factor * at[f"{measure}_{part}"].values for part in ("change", "control_mean")]
    end, languages = style.reach(*values), names(at, "a")
    whose = zip(at["condition"].values, at["gate"].values, strict=True)
    gates = [_DOES[str(condition)].format(float(gate)) for condition, gate in whose]
    cell = max(40, min(64, 420 // len(languages)))
    width, height = (size * len(languages) for size in (cell, max(28, min(40, cell))))
    # Panels of few languages are narrower than their titles.
    gap_x, gap_y = max(30, 190 - width), 62
    plot = (len(gates) * width + (len(gates) - 1) * gap_x, 2 * height + gap_y)
    titles = [*gates, *(f"random heads, {gate}" for gate in gates)]
    apart = canvas.spacing(gap_x, plot[0], len(gates)), gap_y / plot[1]
    figure, places = canvas.facets(titles, *apart, len(gates), shared_yaxes=True)
    figure.update_annotations(font_size=12 if width < 240 else 16)
    decimals = max(0, 2 - int(np.ceil(np.log10(end))))
    for s in range(len(gates)):
        both = (places[s], places[s + len(gates)])
        here, hover = at.isel(setting=s), _hover(at.isel(setting=s), measure, unit, factor)
        for place, of in zip(both, values, strict=True):
            traces.number_cells(figure, place, of[s], decimals, hover, 11, (-end, end), signed=True)
        _mark_corners(figure, both[0], here, measure)
    canvas.cell_columns(figure, style.tick_labels(languages), tickangle=0)
    canvas.cell_rows(figure, style.tick_labels(languages))
    # A panel of few languages is too narrow for one line.
    figure.update_xaxes(title_text="B: language of<br>the other fact", row=2)
    figure.update_yaxes(title_text="A: language of<br>the fact to move to", col=1)
    left, bar = 56 + style.label_width(languages), f"change in {unit},<br>{_towards(measure)}"
    return canvas.finish(
        figure,
        *_title_of(transfer, measure, order),
        panels=(max(plot[0], 594 - left), plot[1]),
        margins=(132, 126, 72, left),
        coloraxis=canvas.colour_axis(-end, end, bar, min(plot[1], 320)),
        legend=canvas.legend_above(plot[1]),
    )


def _mark_corners(figure: go.Figure, at: canvas.Place, here: xr.Dataset, measure: str) -> None:
    """A dot and a triangle in the upper corners of the cells of a setting."""
    low, high = (here[f"{measure}_change_{end}"].values for end in ("low", "high"))
    further = here[f"{measure}_control_p"].values < ALPHA
    for name, symbol, where, dx in (
        ("interval excludes 0", "circle", (low > 0) | (high < 0), -0.36),
        (f"further towards A than random heads, p &lt; {ALPHA}", "triangle-up", further, 0.36),
    ):
        entry: dict[str, Any] = {"legendgroup": name, "showlegend": at["col"] == 1}
        traces.corner_marks(figure, at, where, name, symbol, dx, **entry)


def _checked(transfer: xr.Dataset, measure: str, order: str | None) -> str:
    """The order to show; refuses a dataset without the measure or the order."""
    asked_name("measure", measure, MEASURES)
    needs = [f"{measure}_{part}" for i in (0, 1) for part in (of[i] for of in _PARTS.values())]
    needs += [f"{measure}_control_mean", f"{measure}_before"]
    style.check_kind(transfer, "transfer", needs)
    order = names(transfer, "order")[-1] if order is None else order
    style.check_label(transfer, "order", order)
    return order


def _unit_of(transfer: xr.Dataset, measure: str) -> tuple[str, float]:
    """Unit on the axis, and the factor of values: shares are shown in points."""
    if transfer[f"{measure}_change"].attrs.get("units") == "nats":
        return "nats", 1.0
    return "points (percent of prompts)", 100.0


def _towards(measure: str) -> str:
    return f"{'below' if measure == 'answer_b' else 'above'} 0 is towards A"


def _title_of(
    transfer: xr.Dataset, measure: str, order: str, pair: tuple[str, str] | None = None
) -> tuple[str, str]:
    """Title and subtitle."""
    attrs = transfer.attrs
    where = {"both": "both orders of the facts"}.get(order, order)
    if pair:
        where = f"A {literal(pair[0])}, B {literal(pair[1])}, {where}"
    return (
        f"Change of {MEASURES[measure]}, {style.model_of(transfer)}",
        f"{_towards(measure)}; {where}; question in {literal(attrs.get('query', '?'))}; "
        f"{attrs.get('prompts', '?')} prompts a pair and order; "
        f"{attrs.get('controls', '?')} random head sets",
    )


def _hover(at: xr.Dataset, measure: str, unit: str, factor: float) -> list[list[str]]:
    """Hover text of a cell, names shown literally."""

    def say(a: str, b: str) -> str:
        here = at.sel(a=a, b=b)

        def value(name: str, form: str = "+.3g") -> str:
            return shown(factor * float(here[f"{measure}{name}"]), form)

        title = f"<b>fact A in {literal(a)}, fact B in {literal(b)}</b>"
        if not np.isfinite(here[f"{measure}_change"]):
            return title + "<br>not run, or a language without heads"
        whose = a if str(at["condition"].values) == "enhance" else b
        lines = [
            title,
            f"change {value('_change')} {unit}, interval {value('_change_low')} to "
            f"{value('_change_high')}",
            f"{value('_before', '.3g')} before, {value('', '.3g')} after",
            f"random heads: mean {value('_control_mean')}, "
            f"p = {float(here[f'{measure}_control_p']):.2g}",
            f"heads {literal(at['heads'].sel(a=whose).values)}",
        ]
        return "<br>".join(lines)

    return [[say(a, b) for b in names(at, "b")] for a in names(at, "a")]


def transfer_sweep(
    transfer: xr.Dataset,
    measure: str = "logprob_difference",
    order: str | None = None,
    pair: tuple[str, str] | None = None,
) -> go.Figure:
    """The change of a measure at every gate: chosen heads with their interval, random heads.

    Args:
        transfer: dataset of kind ``transfer``; more than one gate makes a curve.
        measure: see `transfer_matrix`.
        order: see `transfer_matrix`.
        pair: (A, B); by default the mean over all pairs of languages.

    Returns:
        A plotly figure of fixed size in pixels: a panel a condition, the gate across. The bars are
        bootstrap intervals, the band is the 5th to 95th percentile of the random head sets and the
        dotted line their mean. The untouched model is at gate 1.

    Raises:
        InputError: see `transfer_matrix`, or a pair that was not run.
    """
    order = _checked(transfer, measure, order)
    at = transfer.sel(order=order)
    if pair is not None:
        if not {*pair} <= {*names(at, "a")}:
            raise InputError(
                f"pair {pair[0]}, {pair[1]} asked for; this dataset has {', '.join(names(at, 'a'))}"
            )
        at = at.sel(a=pair[0], b=pair[1])
    unit, factor = _unit_of(transfer, measure)
    curves = {
        part: factor * at[f"{measure}_{name[pair is None]}"].transpose("setting", ...)
        for part, name in _PARTS.items()
    }
    if not np.isfinite(curves["change"].values).any():
        raise InputError(
            f"pair {', '.join(pair)} asked for, but it was not run or has no heads"
            if pair
            else f"{measure} was measured of no pair of languages, so there is no curve"
        )
    conditions = [c for c in _DOES if c in transfer["condition"].values]
    figure, places = canvas.side_by_side([""] * len(conditions), 0.06, shared_yaxes=True)
    for place, condition in zip(places, conditions, strict=True):
        here = at["condition"].values == condition
        _add_curve(figure, place, {part: of[here] for part, of in curves.items()}, unit)
        whose = _DOES[condition].split(" ×")[0]
        figure.update_xaxes(title_text=f"gate of {whose}", **place)
    figure.add_hline(y=0, line={"width": 1, "color": style.GREY})
    figure.update_yaxes(title_text=f"change in {unit}", **places[0])
    return canvas.finish(
        figure,
        *_title_of(transfer, measure, order, pair),
        panels=(760, 298),
        margins=(116, 24, 56, 76),
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )


def _add_curve(
    figure: go.Figure, at: canvas.Place, curves: Mapping[str, xr.DataArray], unit: str
) -> None:
    """One panel, in the order of its gates: band and mean of random heads, and the chosen ones."""
    gate = np.append(curves["change"]["gate"].values, 1.0)
    sort = np.argsort(gate)

    def line(values: np.ndarray) -> np.ndarray:
        # At gate 1 nothing changes.
        return np.append(values, 0.0)[sort]

    def add(x: np.ndarray, y: np.ndarray, name: str, mode: str = "lines", **look: object) -> None:
        figure.add_scatter(x=x, y=y, name=name, mode=mode, showlegend=at["col"] == 1, **look, **at)

    sets = curves["control"].values
    low, high = map(line, percentile_interval(sets.T, 0.1))
    change, below, above = (line(curves[part].values) for part in ("change", "low", "high"))
    x, say = gate[sort], f"gate %{{x:g}}: %{{y:.3g}} {unit}"
    band: dict[str, Any] = {"fill": "toself", "fillcolor": _GREY.format(0.25), "line": {"width": 0}}
    there_and_back = np.concatenate([x, x[::-1]]), np.concatenate([high, low[::-1]])
    add(*there_and_back, "random heads, 5th to 95th percentile", hoverinfo="skip", **band)
    dotted = {"color": _GREY.format(0.9), "width": 1.5, "dash": "dot"}
    said = {"hovertemplate": f"{say}, mean of random heads<extra></extra>"}
    add(x, line(np.array([mean(of) for of in sets])), "random heads, mean", line=dotted, **said)
    ends = "interval %{customdata[0]:.3g} to %{customdata[1]:.3g}"
    said = {"hovertemplate": f"{say}, {ends}<extra></extra>"}
    bars: dict[str, Any] = {"error_y": traces.error_bars(change, below, above, thickness=1.5)}
    bars["customdata"] = np.stack([below, above], axis=1)
    blue = {"line": {"color": COLOURWAY[0], "width": 2}}
    add(x, change, "chosen heads, bootstrap interval", "lines+markers", **blue, **bars, **said)

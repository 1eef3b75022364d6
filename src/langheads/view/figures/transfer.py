"""Pictures of attention transfer: how far the answer moves to A's fact, pair by pair and gate by
gate, beside random heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.io.errors import InputError
from langheads.view.figures.style import (
    CLEAR,
    COLOURWAY,
    LEVEL,
    LIGHT,
    check_kind,
    label_width,
    literal,
    names,
    reach,
    spacing,
    tick_labels,
    with_room,
)

_MEASURES = {
    "answer_a": "answers that give A's fact",
    "answer_b": "answers that give B's fact",
    "first_token_a": "prompts that rank A's first token higher",
    "logprob_difference": "log p(A's answer) − log p(B's answer)",
}
_DOES = {"enhance": "A's heads × {:g}", "weaken": "B's heads × {:g}"}


def transfer_matrix(
    transfer: xr.Dataset, measure: str = "logprob_difference", order: str | None = None
) -> go.Figure:
    """Fact in A (rows) against fact in B (columns): the change of a measure, beside the controls.

    Upper panel of each gate the chosen heads, lower panel the mean of random head sets matched
    layer by layer and in number, all on one diverging scale centred at 0. A dot marks a change
    whose bootstrap interval excludes 0; a triangle one further towards A than random heads with
    p < 0.05 (one-sided), which needs at least 20 of them.

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
    order = _checked(transfer, measure, order)
    at = transfer.sel(order=order)
    change, control = (
        at[f"{measure}_{part}"].transpose("setting", "a", "b").values
        for part in ("change", "control_mean")
    )
    languages, settings = names(at, "a"), names(at, "setting")
    unit, factor = _unit(transfer, measure)
    change, control = factor * change, factor * control
    end = reach(change, control)
    cell = max(40, min(64, 420 // len(languages)))
    width = cell * len(languages)
    height = max(28, min(40, cell)) * len(languages)
    # Panels of few languages are narrower than their titles.
    gap_x, gap_y, narrow = max(30, 190 - width), 62, width < 240
    plot_width = len(settings) * width + (len(settings) - 1) * gap_x
    plot_height = 2 * height + gap_y
    figure = make_subplots(
        2,
        len(settings),
        subplot_titles=[*_titles(at, ""), *_titles(at, "random heads, ")],
        horizontal_spacing=spacing(gap_x, plot_width, len(settings)),
        vertical_spacing=gap_y / plot_height,
        shared_yaxes=True,
    )
    if narrow:
        figure.update_annotations(font_size=12)
    decimals = max(0, 2 - int(np.ceil(np.log10(end))))
    for s in range(len(settings)):
        hovers = _hover(at.isel(setting=s), measure, unit, factor)
        for row, values in ((1, change[s]), (2, control[s])):
            figure.add_trace(
                go.Heatmap(
                    z=values,
                    text=_cells(values, decimals),
                    texttemplate="%{text}",
                    textfont={"size": 11},
                    hovertext=hovers,
                    hovertemplate="%{hovertext}<extra></extra>",
                    coloraxis="coloraxis",
                    xgap=1,
                    ygap=1,
                ),
                row=row,
                col=s + 1,
            )
        one = at.isel(setting=s).transpose("a", "b", ...)
        low, high = (one[f"{measure}_change_{end}"].values for end in ("low", "high"))
        marks = (
            ("interval excludes 0", "circle", (low > 0) | (high < 0), -0.36),
            (
                f"further towards A than random heads, p &lt; {LEVEL}",
                "triangle-up",
                one[f"{measure}_control_p"].values < LEVEL,
                0.36,
            ),
        )
        for name, symbol, where, dx in marks:
            _add_marks(figure, s + 1, name, symbol, where, dx)
    axis: dict[str, Any] = {"showgrid": False, "zeroline": False, "ticks": ""}
    ticks = {"tickvals": np.arange(len(languages)), "ticktext": tick_labels(languages)}
    figure.update_xaxes(range=[-0.5, len(languages) - 0.5], tickangle=0, **ticks, **axis)
    # A panel of few languages has no room for it on one line.
    figure.update_xaxes(title_text="B: language of<br>the other fact", row=2)
    figure.update_yaxes(range=[len(languages) - 0.5, -0.5], **ticks, **axis)
    figure.update_yaxes(title_text="A: language of<br>the fact to move to", col=1)
    top, left, right, bottom = 132, 56 + label_width(languages), 126, 72
    figure.update_layout(
        template=LIGHT,
        title=_title(transfer, measure, order),
        coloraxis={
            "cmin": -end,
            "cmax": end,
            "colorbar": {
                "title": {"text": f"change in {unit},<br>{_towards(measure)}", "side": "right"},
                "thickness": 14,
                "lenmode": "pixels",
                "len": min(plot_height, 320),
                "y": 1,
                "yanchor": "top",
                "xpad": 16,
            },
        },
        legend={"orientation": "h", "x": 0, "y": 1 + 30 / plot_height, "yanchor": "bottom"},
        width=max(720, left + plot_width + right),
        height=top + plot_height + bottom,
        margin={"t": top, "b": bottom, "l": left, "r": right},
    )
    return with_room(figure)


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

    Example:
        >>> transfer_sweep(xr.load_dataset("transfer.nc")).show()  # doctest: +SKIP
    """
    order = _checked(transfer, measure, order)
    at, parts = transfer.sel(order=order), _PARTS_OF_ALL
    if pair is not None:
        if not {*pair} <= {*names(at, "a")}:
            raise InputError(
                f"pair {pair[0]}, {pair[1]} asked for; this dataset has {', '.join(names(at, 'a'))}"
            )
        at, parts = at.sel(a=pair[0], b=pair[1]), _PARTS
    curves = {part: at[f"{measure}_{name}"] for part, name in parts.items()}
    if not np.isfinite(curves["change"].values).any():
        raise InputError(
            f"pair {', '.join(pair)} asked for, but it was not run or has no heads"
            if pair
            else f"{measure} was measured of no pair of languages, so there is no curve"
        )
    unit, factor = _unit(transfer, measure)
    conditions = [c for c in _DOES if c in transfer["condition"].values]
    figure = make_subplots(1, len(conditions), shared_yaxes=True, horizontal_spacing=0.06)
    for column, condition in enumerate(conditions, start=1):
        of = np.flatnonzero(transfer["condition"].values == condition)
        gate = np.append(transfer["gate"].values[of], 1.0)
        sort = np.argsort(gate)

        def line(values: np.ndarray, of: Any = of, sort: Any = sort) -> np.ndarray:
            # At gate 1 nothing is changed.
            return factor * np.append(values[of], 0.0)[sort]

        sets = curves["control"].transpose("setting", "control").values
        # Without draws that are the chosen heads themselves.
        sets = sets[:, np.isfinite(sets).all(axis=0)]
        sets = sets if sets.size else np.full((len(sets), 1), np.nan)
        low, high = (line(np.quantile(sets, q, axis=1)) for q in (0.05, 0.95))
        change, below, above = (line(curves[part].values) for part in ("change", "low", "high"))
        x = gate[sort]
        grey = {"color": "rgba(138,138,138,0.9)", "width": 1.5, "dash": "dot"}
        shown = {"showlegend": column == 1}
        figure.add_traces(
            [
                go.Scatter(
                    x=np.concatenate([x, x[::-1]]),
                    y=np.concatenate([high, low[::-1]]),
                    mode="lines",
                    fill="toself",
                    fillcolor="rgba(138,138,138,0.25)",
                    line={"width": 0},
                    hoverinfo="skip",
                    name="random heads, 5th to 95th percentile",
                    **shown,
                ),
                go.Scatter(
                    x=x, y=line(sets.mean(axis=1)), mode="lines", line=grey,
                    name="random heads, mean",
                    hovertemplate=f"gate %{{x:g}}: %{{y:.3g}} {unit}, mean of random heads"
                    "<extra></extra>",
                    **shown,
                ),
                go.Scatter(
                    x=x,
                    y=change,
                    mode="lines+markers",
                    line={"color": COLOURWAY[0], "width": 2},
                    error_y={
                        "array": above - change,
                        "arrayminus": change - below,
                        "thickness": 1.5,
                    },
                    name="chosen heads, bootstrap interval",
                    customdata=np.stack([below, above], axis=1),
                    hovertemplate=f"gate %{{x:g}}: %{{y:.3g}} {unit}, interval "
                    "%{customdata[0]:.3g} to %{customdata[1]:.3g}<extra></extra>",
                    **shown,
                ),
            ],
            rows=[1] * 3,
            cols=[column] * 3,
        )  # fmt: skip
        whose = _DOES[condition].split(" ×")[0]
        figure.update_xaxes(title_text=f"gate of {whose}", row=1, col=column)
    figure.add_hline(y=0, line={"width": 1, "color": "#808080"})
    figure.update_yaxes(title_text=f"change in {unit}", row=1, col=1)
    figure.update_layout(
        template=LIGHT,
        plot_bgcolor=CLEAR,
        title=_title(transfer, measure, order, pair),
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        width=860,
        height=470,
        margin={"t": 116, "b": 56, "l": 76, "r": 24},
    )
    return with_room(figure)


_PARTS = {
    "change": "change",
    "low": "change_low",
    "high": "change_high",
    "control": "control_change",
}
_PARTS_OF_ALL = {
    "change": "overall_change",
    "low": "overall_low",
    "high": "overall_high",
    "control": "overall_control_change",
}


def _checked(transfer: xr.Dataset, measure: str, order: str | None) -> str:
    if measure not in _MEASURES:
        raise InputError(f"measure {measure!r} asked for; allowed are {', '.join(_MEASURES)}")
    needs = [f"{measure}_{part}" for part in (*_PARTS.values(), *_PARTS_OF_ALL.values())]
    check_kind(transfer, "transfer", [*needs, f"{measure}_control_mean", f"{measure}_before"])
    orders = names(transfer, "order")
    if order is not None and order not in orders:
        raise InputError(f"order {order!r} asked for; this dataset has {', '.join(orders)}")
    return orders[-1] if order is None else order


def _unit(transfer: xr.Dataset, measure: str) -> tuple[str, float]:
    """Unit on the axis, and what a value is multiplied by: shares are shown in points."""
    if transfer[f"{measure}_change"].attrs.get("units") == "nats":
        return "nats", 1.0
    return "points (percent of prompts)", 100.0


def _towards(measure: str) -> str:
    return f"{'below' if measure == 'answer_b' else 'above'} 0 is towards A"


def _titles(at: xr.Dataset, before: str) -> list[str]:
    whose = zip(at["condition"].values, at["gate"].values, strict=True)
    return [before + _DOES[str(condition)].format(float(gate)) for condition, gate in whose]


def _title(
    transfer: xr.Dataset, measure: str, order: str, pair: tuple[str, str] | None = None
) -> dict[str, Any]:
    attrs = transfer.attrs
    where = {"both": "both orders of the facts"}.get(order, order)
    if pair:
        where = f"A {literal(pair[0])}, B {literal(pair[1])}, {where}"
    return {
        "text": f"Change of {_MEASURES[measure]}, {literal(attrs.get('model', 'model unknown'))}",
        "subtitle": {
            "text": f"{_towards(measure)}; {where}; "
            f"question in {literal(attrs.get('query', '?'))}; "
            f"{attrs.get('prompts', '?')} prompts a pair and order; "
            f"{attrs.get('controls', '?')} random head sets"
        },
        "y": 1,
        "yanchor": "top",
        "pad": {"t": 12},
    }


def _cells(values: np.ndarray, decimals: int) -> list[list[str]]:
    def short(value: float) -> str:
        if not np.isfinite(value):
            return ""
        text = f"{value:+.{decimals}f}".replace("-", "−")
        return "0" if not text.strip("+−0.") else text

    return [[short(float(value)) for value in row] for row in values]


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


def _add_marks(
    figure: go.Figure, column: int, name: str, symbol: str, where: np.ndarray, dx: float
) -> None:
    rows, columns = np.nonzero(where)
    figure.add_trace(
        go.Scatter(
            x=columns + dx,
            y=rows - 0.32,
            mode="markers",
            marker={
                "symbol": symbol,
                "size": 6,
                "color": "white",
                "line": {"color": "black", "width": 1},
            },
            name=name,
            legendgroup=name,
            showlegend=column == 1,
            hoverinfo="skip",
        ),
        row=1,
        col=column,
    )

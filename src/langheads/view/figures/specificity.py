"""Picture of the proof: whose loss rises when whose heads are off, beside random head sets."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.io.errors import InputError
from langheads.view.figures.style import (
    LEVEL,
    LIGHT,
    check_kind,
    label_width,
    literal,
    names,
    reach,
    tick_labels,
    with_room,
)

_UNIT = "nats per byte"


def specificity_matrix(ablation: xr.Dataset, baseline: str = "zero") -> go.Figure:
    """Heads of A off (rows) against text of B (columns): the rise in loss, beside the controls.

    Left the chosen heads, right the mean of random head sets matched layer by layer and in number,
    on one diverging scale centred at 0. A language's own cell is outlined. A triangle marks a rise
    above that of random sets with p < 0.05 (``control_p``, one-sided); a file without it has none.

    Args:
        ablation: dataset of kind ``ablation``; ``delta_nats_per_byte[baseline, heads_of,
            text_of]`` in nats per UTF-8 byte, and what else the file has.
        baseline: a label of its ``baseline`` dimension: ``zero`` or ``mean``.

    Returns:
        A plotly figure of fixed size in pixels; hover gives interval, percent, random sets, p and
        perplexity before and after. Rows without heads stay empty.

    Raises:
        InputError: another kind of dataset, or a baseline it does not have.

    Example:
        >>> specificity_matrix(xr.load_dataset("ablation.nc"), "mean").show()  # doctest: +SKIP
    """
    check_kind(ablation, "ablation", ["delta_nats_per_byte"])
    if baseline not in names(ablation, "baseline"):
        raise InputError(
            f"baseline {baseline!r} asked for; this dataset has "
            f"{', '.join(names(ablation, 'baseline'))}"
        )
    at = ablation.sel(baseline=baseline).transpose(
        "heads_of", ..., "text_of", missing_dims="ignore"
    )
    rise = at["delta_nats_per_byte"].values
    control = at["control_mean"].values if "control_mean" in at else np.full(rise.shape, np.nan)
    rows, columns = names(at, "heads_of"), names(at, "text_of")
    low, high = _control_range(ablation, baseline)
    end, beyond = _scale(ablation)
    decimals = max(0, 2 - int(np.floor(np.log10(end))))

    cell = max(36, min(64, 460 // len(columns)))
    height = max(30, min(44, cell))
    plot_width, plot_height = cell * len(columns), height * len(rows)
    # The panels' titles need room where there are few languages, and so does the axis's.
    gap, short = max(36, 190 - plot_width), plot_height < 220
    figure = make_subplots(
        1,
        2,
        subplot_titles=["chosen heads off", "random heads off (mean)"],
        horizontal_spacing=gap / (2 * plot_width + gap),
        shared_yaxes=True,
    )
    for column, (values, hover) in enumerate(
        [(rise, _hover(at, rise, low, high)), (control, _control_hover(at, control, low, high))],
        start=1,
    ):
        figure.add_trace(
            go.Heatmap(
                z=values,
                text=_cell_texts(values, decimals),
                texttemplate="%{text}",
                textfont={"size": 11 if cell >= 42 else 10},
                hovertext=hover,
                hovertemplate="%{hovertext}<extra></extra>",
                coloraxis="coloraxis",
                xgap=1,
                ygap=1,
            ),
            row=1,
            col=column,
        )
    for i, language in enumerate(rows):
        if language in columns:
            j = columns.index(language)
            box = {"x0": j - 0.5, "x1": j + 0.5, "y0": i - 0.5, "y1": i + 0.5}
            for column in (1, 2):
                # The colour is the template's: ink on a light page, white on a dark one.
                figure.add_shape(type="rect", line_width=2.5, **box, row=1, col=column)
    if "control_p" in at:
        _add_triangles(figure, at["control_p"].values < LEVEL)

    longest = max(map(len, columns))
    flat = 8 * longest < cell
    axis: dict[str, Any] = {"showgrid": False, "zeroline": False, "ticks": ""}
    figure.update_xaxes(
        title_text="text of",
        tickvals=np.arange(len(columns)),
        ticktext=tick_labels(columns),
        range=[-0.5, len(columns) - 0.5],
        tickangle=0 if flat else -45,
        **axis,
    )
    figure.update_yaxes(
        tickvals=np.arange(len(rows)),
        ticktext=_row_labels(at, rows),
        range=[len(rows) - 0.5, -0.5],
        **axis,
    )
    figure.update_yaxes(
        title_text=f"heads of … off{'<br>' if short else ' '}(number of heads)", col=1
    )
    top, left, right = 126, (78 if short else 60) + label_width(rows), 110
    bottom = 56 if flat else 40 + min(140, 6 * longest)
    figure.update_layout(
        template=LIGHT,
        title={
            "text": f"{literal(baseline.capitalize())} ablation, "
            f"{literal(ablation.attrs.get('model', 'model unknown'))}",
            "subtitle": {"text": _verdict(at)},
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        coloraxis={
            "cmin": -end,
            "cmax": end,
            "colorbar": {
                "title": {"text": f"rise in {_UNIT}{beyond}", "side": "right"},
                "thickness": 14,
                "lenmode": "pixels",
                "len": max(140, min(plot_height, 320)),
                "y": 1,
                "yanchor": "top",
                "xpad": 16,
            },
        },
        legend={"orientation": "h", "x": 0, "y": 1 + 30 / plot_height, "yanchor": "bottom"},
        width=left + 2 * plot_width + gap + right,
        height=top + plot_height + bottom,
        margin={"t": top, "b": bottom, "l": left, "r": right},
    )
    return with_room(figure)


def _scale(ablation: xr.Dataset) -> tuple[float, str]:
    """End of the colour scale, one for all baselines, and what to say when a row goes beyond it.

    Heads that serve every language hurt far more than any language's own: with them in the scale
    the rows that the figure is about would all look white.
    """
    arrays = [
        ablation[name] for name in ("delta_nats_per_byte", "control_mean") if name in ablation
    ]
    languages = [row for row in names(ablation, "heads_of") if row in names(ablation, "text_of")]
    everything = reach(*(array.values for array in arrays))
    end = reach(*(array.sel(heads_of=languages).values for array in arrays))
    return end, ("" if everything <= end else ", scale of the language rows")


def _control_range(ablation: xr.Dataset, baseline: str) -> tuple[np.ndarray, np.ndarray]:
    """The 5th and 95th percentiles of the random head sets, each ``[heads_of, text_of]``.

    NaN where the file has no random sets, or none for a row.
    """
    rise = ablation["delta_nats_per_byte"].sel(baseline=baseline)
    rise = rise.transpose("heads_of", "text_of")
    if "control_delta" not in ablation or not ablation.sizes.get("control"):
        return np.full(rise.shape, np.nan), np.full(rise.shape, np.nan)
    sets = (
        ablation["control_delta"].sel(baseline=baseline).transpose("control", "heads_of", "text_of")
    )
    low, high = np.quantile(sets.values.astype(float), [0.05, 0.95], axis=0)
    return low, high


def _cell_texts(values: np.ndarray, decimals: int) -> list[list[str]]:
    def short(value: float) -> str:
        if not np.isfinite(value):
            return "–"
        text = f"{value:.{decimals}f}".replace("-", "−")
        # Cells are narrow and every value of a column has the same form: no leading zero.
        return "0" if float(f"{value:.{decimals}f}") == 0 else text.replace("0.", ".", 1)

    return [[short(float(value)) for value in row] for row in values]


def _hover(at: xr.Dataset, rise: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[list[str]]:
    """What a cell of the chosen heads says on hover, every name shown literally."""

    def value(name: str, i: int, j: int) -> float:
        if name not in at:
            return float("nan")
        where = {"heads_of": i, "text_of": j}
        variable = at[name]
        return float(variable.isel({k: v for k, v in where.items() if k in variable.dims}))

    rows, columns = names(at, "heads_of"), names(at, "text_of")
    texts = []
    for i, row in enumerate(rows):
        line = []
        for j, column in enumerate(columns):
            delta, error = float(rise[i, j]), value("delta_se", i, j)
            parts = [f"<b>heads of {literal(row)} off, text of {literal(column)}</b>"]
            if not np.isfinite(delta):
                parts.append("no value: this row has no heads")
            else:
                parts.append(f"rise {delta:.4g} {_UNIT}")
                if np.isfinite(error):
                    ends = delta - 1.96 * error, delta + 1.96 * error
                    parts[-1] += f" (95% interval {ends[0]:.4g} to {ends[1]:.4g})"
                before = value("nats_per_byte", i, j)
                if before > 0:
                    parts.append(f"{100 * delta / before:+.2f}&#37; of {before:.4g} {_UNIT}")
                mean = value("control_mean", i, j)
                if np.isfinite(mean):
                    parts.append(_control_words(mean, low[i, j], high[i, j]))
                p = value("control_p", i, j)
                if np.isfinite(p):
                    parts.append(f"more than random heads: p = {p:.2g}")
                before, after = value("perplexity", i, j), value("perplexity_off", i, j)
                if np.isfinite(before) and np.isfinite(after):
                    parts.append(f"perplexity {before:.4g} before, {after:.4g} after")
                if "heads" in at:
                    parts += textwrap.wrap(literal(at["heads"].values[i]), 48, max_lines=4)
            line.append("<br>".join(parts))
        texts.append(line)
    return texts


def _control_hover(
    at: xr.Dataset, control: np.ndarray, low: np.ndarray, high: np.ndarray
) -> list[list[str]]:
    return [
        [
            f"<b>random heads for {literal(row)} off, text of {literal(column)}</b><br>"
            + (
                _control_words(control[i, j], low[i, j], high[i, j])
                if np.isfinite(control[i, j])
                else "no value"
            )
            for j, column in enumerate(names(at, "text_of"))
        ]
        for i, row in enumerate(names(at, "heads_of"))
    ]


def _control_words(mean: float, low: float, high: float) -> str:
    words = f"random heads: mean {mean:.4g}"
    if np.isfinite(low):
        words += f"; 5th to 95th percentile {low:.4g} to {high:.4g}"
    return words


def _row_labels(at: xr.Dataset, rows: list[str]) -> list[str]:
    labels = tick_labels(rows)
    if "n_heads" not in at:
        return labels
    return [f"{label} ({int(n)})" for label, n in zip(labels, at["n_heads"].values, strict=True)]


def _verdict(at: xr.Dataset) -> str:
    def number(name: str) -> float:
        return float(at[name]) if name in at else float("nan")

    def p(name: str) -> str:
        return f"p = {number(name):.2g}" if np.isfinite(number(name)) else "no p-value"

    parts = []
    if np.isfinite(number("own_minus_others")):
        parts.append(
            f"own minus others {number('own_minus_others'):.3g} {_UNIT} ({p('own_minus_others_p')})"
        )
    if np.isfinite(number("diagonal_share")):
        parts.append(
            f"own language hurt most in {100 * number('diagonal_share'):.0f}&#37; of rows "
            f"({p('diagonal_p')})"
        )
    return "; ".join(parts).replace("others -", "others −") or "no diagonal statistic in this file"


def _add_triangles(figure: go.Figure, where: np.ndarray) -> None:
    rows, columns = np.nonzero(where)
    if not rows.size:
        return
    figure.add_trace(
        go.Scatter(
            x=columns + 0.36,
            y=rows - 0.32,
            mode="markers",
            marker={
                "symbol": "triangle-up",
                "size": 7,
                "color": "white",
                "line": {"color": "black", "width": 1},
            },
            name=f"more than random heads, p &lt; {LEVEL}",
            showlegend=True,
            hoverinfo="skip",
        ),
        row=1,
        col=1,
    )

"""Picture of the proof: whose loss rises when whose heads are off, beside random head sets."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.stats import percentile_interval
from langheads.view.figures.canvas import (
    cell_columns,
    cell_rows,
    colour_axis,
    finish,
    legend_above,
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

_UNIT = "nats per byte"


def specificity_matrix(ablation: xr.Dataset, baseline: str = "zero") -> go.Figure:
    """Heads of A off (rows) against text of B (columns): the rise in NLL, beside the controls.

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
    check_label(ablation, "baseline", baseline)
    at = _with_controls(ablation.sel(baseline=baseline))
    rows, columns = names(at, "heads_of"), names(at, "text_of")
    end, beyond = _scale(ablation)
    cell = max(36, min(64, 460 // len(columns)))
    width, height = cell * len(columns), max(30, min(44, cell)) * len(rows)
    # The panels' titles need room where there are few languages, and so does the axis's.
    gap, short = max(36, 190 - width), height < 220
    figure = make_subplots(
        1,
        2,
        subplot_titles=["chosen heads off", "random heads off (mean)"],
        horizontal_spacing=gap / (2 * width + gap),
        shared_yaxes=True,
    )
    _add_cells(figure, at, max(0, 2 - int(np.floor(np.log10(end)))), 11 if cell >= 42 else 10)
    longest = max(map(len, columns))
    flat = 8 * longest < cell
    axis: dict[str, Any] = {"title_text": "text of", "tickangle": 0 if flat else -45}
    cell_columns(figure, tick_labels(columns), **axis)
    labels = tick_labels(rows)
    if "n_heads" in at:
        labels = [f"{of} ({int(n)})" for of, n in zip(labels, at.n_heads.values, strict=True)]
    cell_rows(figure, labels)
    title = f"heads of … off{'<br>' if short else ' '}(number of heads)"
    figure.update_yaxes(title_text=title, col=1)
    bar = max(140, min(height, 320))
    bottom = 56 if flat else 40 + min(140, 6 * longest)
    return finish(
        figure,
        f"{literal(baseline.capitalize())} ablation, {model_of(ablation)}",
        _verdict(at),
        panels=(2 * width + gap, height),
        margins=(126, 110, bottom, (78 if short else 60) + label_width(rows)),
        coloraxis=colour_axis(-end, end, f"ΔNLL, {_UNIT}{beyond}", bar),
        legend=legend_above(height),
    )


def _with_controls(at: xr.Dataset) -> xr.Dataset:
    """One baseline, with the mean of the random head sets and their 5th and 95th percentiles.

    NaN where the file has no random sets, or none for a row.
    """
    nothing = xr.full_like(at["delta_nats_per_byte"], np.nan)
    low = high = nothing
    if "control_delta" in at and at.sizes.get("control"):
        sets = at["control_delta"].transpose("control", *nothing.dims).values.astype(float)
        low, high = (nothing.copy(data=of) for of in percentile_interval(sets, 0.1))
    at = at.assign(control_mean=at.get("control_mean", nothing), control_low=low, control_high=high)
    return at.transpose("heads_of", ..., "text_of", missing_dims="ignore")


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


def _add_cells(figure: go.Figure, at: xr.Dataset, decimals: int, size: int) -> None:
    """Both panels: cells, frames around a language's own, triangles where the file has p."""
    rows, columns = names(at, "heads_of"), names(at, "text_of")
    for column, name, say in ((1, "delta_nats_per_byte", _hover), (2, "control_mean", _of_random)):
        values = at[name].values
        hover = [[say(at, row, text) for text in columns] for row in rows]
        texts = cell_texts(values, decimals, signed=False)
        figure.add_trace(cells(values, texts, hover, size), row=1, col=column)
    for i, language in enumerate(rows):
        if language in columns:
            j = columns.index(language)
            box = {"x0": j - 0.5, "x1": j + 0.5, "y0": i - 0.5, "y1": i + 0.5}
            for column in (1, 2):
                # The colour is the template's: ink on a light page, white on a dark one.
                figure.add_shape(type="rect", line_width=2.5, **box, row=1, col=column)
    if "control_p" in at and (shown := at["control_p"].values < LEVEL).any():
        name = f"more than random heads, p &lt; {LEVEL}"
        place = {"row": 1, "col": 1}
        corner_marks(figure, place, shown, name, "triangle-up", 0.36, 7, showlegend=True)


def _hover(at: xr.Dataset, row: str, column: str) -> str:
    """What a cell of the chosen heads says on hover, every name shown literally."""
    here = at.sel(heads_of=row, text_of=column)

    def value(name: str) -> float:
        return float(here[name]) if name in here else float("nan")

    delta, error = value("delta_nats_per_byte"), value("delta_se")
    parts = [f"<b>heads of {literal(row)} off, text of {literal(column)}</b>"]
    if not np.isfinite(delta):
        return f"{parts[0]}<br>no value: this row has no heads"
    parts.append(f"ΔNLL {delta:.4g} {_UNIT}")
    if np.isfinite(error):
        ends = delta - 1.96 * error, delta + 1.96 * error
        parts[-1] += f" (95% interval {ends[0]:.4g} to {ends[1]:.4g})"
    if (before := value("nats_per_byte")) > 0:
        parts.append(f"{100 * delta / before:+.2f}&#37; of {before:.4g} {_UNIT}")
    if np.isfinite(value("control_mean")):
        parts.append(_control_words(here))
    if np.isfinite(p := value("control_p")):
        parts.append(f"more than random heads: p = {p:.2g}")
    before, after = value("perplexity"), value("perplexity_off")
    if np.isfinite(before) and np.isfinite(after):
        parts.append(f"perplexity {before:.4g} before, {after:.4g} after")
    if "heads" in here:
        parts += textwrap.wrap(literal(here["heads"].values), 48, max_lines=4)
    return "<br>".join(parts)


def _of_random(at: xr.Dataset, row: str, column: str) -> str:
    here = at.sel(heads_of=row, text_of=column)
    words = _control_words(here) if np.isfinite(here["control_mean"]) else "no value"
    return f"<b>random heads for {literal(row)} off, text of {literal(column)}</b><br>{words}"


def _control_words(here: xr.Dataset) -> str:
    words = f"random heads: mean {float(here['control_mean']):.4g}"
    if np.isfinite(here["control_low"]):
        ends = float(here["control_low"]), float(here["control_high"])
        words += f"; 5th to 95th percentile {ends[0]:.4g} to {ends[1]:.4g}"
    return words


def _verdict(at: xr.Dataset) -> str:
    def number(name: str) -> float:
        return float(at[name]) if name in at else float("nan")

    def p(name: str) -> str:
        return f"p = {number(name):.2g}" if np.isfinite(number(name)) else "no p-value"

    parts = []
    if np.isfinite(more := number("own_minus_others")):
        parts.append(f"own minus others {more:.3g} {_UNIT} ({p('own_minus_others_p')})")
    if np.isfinite(share := number("diagonal_share")):
        parts.append(
            f"own language hurt most in {100 * share:.0f}&#37; of rows ({p('diagonal_p')})"
        )
    return "; ".join(parts).replace("others -", "others −") or "no diagonal statistic in this file"

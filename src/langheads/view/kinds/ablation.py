"""Proof by ablation: ΔNLL of every text with each language's heads off, beside random heads."""

import textwrap
from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from langheads.io.results import rounding_words
from langheads.stats import ALPHA, percentile_interval
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures import canvas, style, traces
from langheads.view.figures.style import literal, names, tick_labels
from langheads.view.language_verdict import language_verdicts, reachable
from langheads.view.table import NONE, Table, decimal, isolated, number, p_of, shown

_UNIT = "nats per byte"
_READ = (
    "How to read it: each row switches off one language's heads, each column is a language's text; "
    "heads that carry a language show as a strong outlined diagonal where the chosen heads are "
    "off, and as nothing where random heads are off."
)


def specificity_matrix(ablation: xr.Dataset, baseline: str = "zero") -> go.Figure:
    """Heads of A off (rows) against text of B (columns): ΔNLL, beside the controls.

    Left the chosen heads, right the mean of random head sets matched layer by layer and in number,
    on one diverging scale centred at 0. A language's own cell is outlined. A triangle marks a ΔNLL
    above that of random sets with p < 0.05 (``control_p``, one-sided); a file without it has none.

    Args:
        ablation: dataset of kind ``ablation``; ``delta_nats_per_byte[baseline, heads_of,
            text_of]`` in nats per UTF-8 byte, and further variables of the file.
        baseline: a label of its ``baseline`` dimension: ``zero`` or ``mean``.

    Returns:
        A plotly figure of fixed size in pixels; hover gives interval, percent, random sets, p and
        perplexity before and after. Rows without heads stay empty.

    Raises:
        InputError: another kind of dataset, or a baseline it does not have.
    """
    style.check_kind(ablation, "ablation", ["delta_nats_per_byte"])
    style.check_label(ablation, "baseline", baseline)
    at = _with_controls(ablation.sel(baseline=baseline))
    rows, columns = names(at, "heads_of"), names(at, "text_of")
    end, beyond = _scale(ablation)
    cell = max(36, min(64, 460 // len(columns)))
    width, height = cell * len(columns), max(30, min(44, cell)) * len(rows)
    # With few languages the titles of panels and axis need room.
    gap, short = max(36, 190 - width), height < 220
    titles = ["chosen heads off", "random heads off (mean)"]
    figure, places = canvas.side_by_side(titles, gap / (2 * width + gap), shared_yaxes=True)
    decimals, size = max(0, 2 - int(np.floor(np.log10(end)))), 11 if cell >= 42 else 10
    for place, name, say in zip(
        places, ("delta_nats_per_byte", "control_mean"), (_hover, _of_random), strict=True
    ):
        hover = [[say(at.sel(heads_of=a, text_of=b), a, b) for b in columns] for a in rows]
        traces.number_cells(figure, place, at[name].values, decimals, hover, size, (-end, end))
    _frame_own(figure, at, places)
    longest = max(map(len, columns))
    flat = 8 * longest < cell
    across = {"title_text": "text of", "tickangle": 0 if flat else -45}
    canvas.cell_columns(figure, tick_labels(columns), **across)
    labels = tick_labels(rows)
    if "n_heads" in at:
        labels = [f"{of} ({int(n)})" for of, n in zip(labels, at.n_heads.values, strict=True)]
    canvas.cell_rows(figure, labels)
    title = f"heads of … off{'<br>' if short else ' '}(number of heads)"
    figure.update_yaxes(title_text=title, col=1)
    bar, bottom = max(140, min(height, 320)), 56 if flat else 40 + min(140, 6 * longest)
    return canvas.finish(
        figure,
        f"{literal(baseline.capitalize())} ablation, {style.model_of(ablation)}",
        _statistics(at),
        panels=(2 * width + gap, height),
        margins=(126, 110, bottom, (78 if short else 60) + style.label_width(rows)),
        coloraxis=canvas.colour_axis(-end, end, f"ΔNLL, {_UNIT}{beyond}", bar),
        legend=canvas.legend_above(height),
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
    """End of the colour scale, one for all baselines, and a note where a row goes beyond it.

    Heads that serve every language hurt far more than any language's own: if the scale included
    them, the other rows would all look white.
    """
    arrays = [ablation[x] for x in ("delta_nats_per_byte", "control_mean") if x in ablation]
    languages = [row for row in names(ablation, "heads_of") if row in names(ablation, "text_of")]
    everything = style.reach(*(array.values for array in arrays))
    end = style.reach(*(array.sel(heads_of=languages).values for array in arrays))
    return end, ("" if everything <= end else ", scale of the language rows")


def _frame_own(figure: go.Figure, at: xr.Dataset, places: list[canvas.Place]) -> None:
    """Frames around a language's own cells, triangles where the file has p."""
    rows, columns = names(at, "heads_of"), names(at, "text_of")
    for i, language in enumerate(rows):
        if language in columns:
            j = columns.index(language)
            box = {"x0": j - 0.5, "x1": j + 0.5, "y0": i - 0.5, "y1": i + 0.5}
            for place in places:
                # The colour is the template's: ink on a light page, white on a dark one.
                figure.add_shape(type="rect", line_width=2.5, **box, **place)
    if "control_p" in at and (beyond := at["control_p"].values < ALPHA).any():
        mark = (f"more than random heads, p &lt; {ALPHA}", "triangle-up", 0.36, 7)
        traces.corner_marks(figure, places[0], beyond, *mark, showlegend=True)


def _hover(here: xr.Dataset, row: str, column: str) -> str:
    """Hover text of a cell of the chosen heads, every name shown literally."""
    delta, error = number(here, "delta_nats_per_byte"), number(here, "delta_se")
    parts = [f"<b>heads of {literal(row)} off, text of {literal(column)}</b>"]
    if not np.isfinite(delta):
        return f"{parts[0]}<br>no value: this row has no heads"
    parts.append(f"ΔNLL {shown(delta, '.4g')} {_UNIT}")
    if np.isfinite(error):
        ends = delta - 1.96 * error, delta + 1.96 * error
        parts[-1] += f" (95% interval {shown(ends[0], '.4g')} to {shown(ends[1], '.4g')})"
    if (before := number(here, "nats_per_byte")) > 0:
        parts.append(f"{shown(100 * delta / before, '+.2f')}&#37; of {before:.4g} {_UNIT}")
    if np.isfinite(number(here, "control_mean")):
        parts.append(_control_words(here))
    if np.isfinite(p := number(here, "control_p")):
        parts.append(f"more than random heads: p = {p:.2g}")
    for name, said in (("perplexity", ""), ("perplexity_by_document", ", mean over documents,")):
        before, after = number(here, name), number(here, f"{name}_off")
        if np.isfinite(before) and np.isfinite(after):
            parts.append(f"perplexity{said} {before:.4g} before, {after:.4g} after")
    if "heads" in here:
        parts += textwrap.wrap(literal(here["heads"].values), 48, max_lines=4)
    return "<br>".join(parts)


def _of_random(here: xr.Dataset, row: str, column: str) -> str:
    words = _control_words(here) if np.isfinite(here["control_mean"]) else "no value"
    return f"<b>random heads for {literal(row)} off, text of {literal(column)}</b><br>{words}"


def _control_words(here: xr.Dataset) -> str:
    words = f"random heads: mean {shown(float(here['control_mean']), '.4g')}"
    if np.isfinite(here["control_low"]):
        ends = float(here["control_low"]), float(here["control_high"])
        words += f"; 5th to 95th percentile {shown(ends[0], '.4g')} to {shown(ends[1], '.4g')}"
    return words


def _statistics(at: xr.Dataset) -> str:
    parts = []
    if np.isfinite(more := number(at, "own_minus_others")):
        parts.append(f"own minus others {shown(more)} {_UNIT} ({p_of(at, 'own_minus_others_p')})")
    if np.isfinite(share := number(at, "diagonal_share")):
        most = f"own language hurt most in {100 * share:.0f}&#37; of rows"
        parts.append(f"{most} ({p_of(at, 'diagonal_p')})")
    return "; ".join(parts) or "no diagonal statistic in this file"


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    caption = (
        f"{_READ} A triangle: ΔNLL is above that of random heads, p < {ALPHA} "
        "(one-sided); by chance about 1 cell in 20 has one."
        if "control_p" in result
        else f"{_READ} This file has no p-value for single cells, so none is marked."
    )
    few = [
        row for row in names(result, "heads_of")
        if number(result, "n_heads", heads_of=row)
        and not reachable(number(result, "n_controls", heads_of=row))
    ]  # fmt: skip
    if few:
        caption += (
            f" {', '.join(map(isolated, few))}: cannot tell, there are too few other heads for a "
            "triangle."
        )
    for baseline in names(result, "baseline"):
        yield Picture(specificity_matrix(result, baseline), caption)


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    yield language_verdicts(result)
    columns = names(result, "text_of")
    for baseline in names(result, "baseline"):

        def cell(row: str, column: str, baseline: str = baseline) -> str:
            at = {"baseline": baseline, "heads_of": row, "text_of": column}
            delta, error = (number(result, x, **at) for x in ("delta_nats_per_byte", "delta_se"))
            if not np.isfinite(delta):
                return NONE
            return f"{delta:.4f}" + (f" ± {error:.4f}" if np.isfinite(error) else "")

        yield Table(
            f"{baseline.capitalize()} ablation: ΔNLL in nats per byte ± standard error; rows: "
            "heads off, columns: text." + (f" {lost}" if (lost := rounding_words(result)) else ""),
            ["heads of", *columns],
            [[row, *(cell(row, x) for x in columns)] for row in names(result, "heads_of")]
            + _anywhere(result, baseline),
            folded=True,
        )


def _anywhere(result: xr.Dataset, baseline: str) -> list[list[str]]:
    """The row of random heads that match no other row's, where the file has some."""
    if "random_heads_delta" not in result:
        return []
    n, delta = len(str(result.random_heads.item()).split()), result.random_heads_delta
    cells = [decimal(x, 4) for x in delta.sel(baseline=baseline).values.tolist()]
    return [[f"{n} random heads anywhere", *cells]]


KIND = Kind("ablation", "Proof by ablation", pictures=_pictures, tables=_tables, anchor="proof")

"""Answers under a mask to questions that no mask was trained on, paired by question."""

from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from langheads.io.errors import InputError
from langheads.io.measures import MEASURES, UNTOUCHED
from langheads.view import table
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures import canvas, style
from langheads.view.figures.style import COLOURWAY, literal, names, with_ends
from langheads.view.figures.traces import Look, points
from langheads.view.table import LONG, NONE, Table, decimal, fallen, isolated, mean

_ROWS = (
    ("accuracy", "exact_match", "f1", "answer_nll"),
    ("repetition", "prompt_copy", "empty", "reply_nll"),
)


def qa_changes(result: xr.Dataset) -> go.Figure:
    """One panel a measure, one row a mask: the change against the untouched model.

    Above the quality of the answers, below the degeneration checks that separate better answers
    from replies that fell apart.

    Args:
        result: dataset of kind ``qa``.

    Returns:
        A plotly figure of fixed size; lines are 95% intervals over questions, hovering gives the
        values and, where the file has it, the difference to the mean of the random heads.

    Raises:
        InputError: another kind of dataset, or one without any mask.
    """
    style.check_kind(result, "qa")
    conditions = _masks(result)
    if not conditions:
        raise InputError("these answers were given without any mask; there is no change to show")
    there = [[name for name in row if f"delta_{name}" in result] for row in _ROWS]
    there = [row for row in there if row]
    columns = max(map(len, there))
    padded = [name for row in there for name in row + [""] * (columns - len(row))]
    gap = 92
    height = len(there) * (22 * len(conditions) + 24) + (len(there) - 1) * gap
    titles, down = (
        [_title(result, name) for name in padded],
        canvas.spacing(gap, height, len(there)),
    )
    figure, places = canvas.facets(titles, 0.04, down, columns, shared_yaxes=True)
    figure.update_annotations(font_size=12)
    for name, at in zip(padded, places, strict=True):
        if name:
            _add_measure(figure, at, result, name)
    canvas.row_axis(figure, style.tick_labels(conditions))
    figure.update_xaxes(zeroline=False)
    language, docs = (literal(result.attrs.get(key, "?")) for key in ("language", "docs"))
    return canvas.finish(
        figure,
        "Answers under each mask, against the untouched model",
        f"{style.model_of(result)}, {language}, {docs} questions; 95% intervals, paired by "
        "question",
        panels=(230 * columns, height),
        margins=(112, 30, 52, style.label_width(conditions)),
        showlegend=False,
    )


def _masks(result: xr.Dataset) -> list[str]:
    """The conditions of a dataset except the untouched model."""
    return [name for name in names(result, "condition") if name != UNTOUCHED]


def _is_random(condition: str) -> bool:
    """Whether a mask was learned on heads drawn at random."""
    return condition.startswith("random")


def _title(result: xr.Dataset, name: str) -> str:
    label = MEASURES[name].label if name else ""
    if not name or UNTOUCHED not in names(result, "condition"):
        return label
    return f"{label}<br>untouched {float(result[name].sel(condition=UNTOUCHED)):.3f}"


def _add_measure(figure: go.Figure, at: canvas.Place, result: xr.Dataset, name: str) -> None:
    """One panel: the change of a measure under every mask."""
    for row, condition in enumerate(_masks(result)):
        here = result.sel(condition=condition)
        change, low, high = table.with_ends_of(here, f"delta_{name}")
        said = f"<b>{literal(condition)}</b><br>{MEASURES[name].label} {float(here[name]):.3f}"
        said += f"<br>change {with_ends(change, low, high, '+.3f')}"
        if np.isfinite((beyond := table.with_ends_of(here, f"versus_random_{name}"))[0]):
            said += f"<br>over random heads {with_ends(*beyond, '+.3f')}"
        # Shape and fill distinguish them without colour.
        look = Look(COLOURWAY[0], "circle")
        if _is_random(condition):
            look = Look(COLOURWAY[6], "circle-open")
        elif condition == "all heads":
            look = Look(COLOURWAY[2], "square")
        one = points([change], [row], [low], [high], literal(condition), look)
        figure.add_trace(one.update(hovertemplate=f"{said}<extra></extra>"), **at)
    figure.add_vline(x=0, line=style.DOTTED, **at)
    # Without any change plotly's axis would reach from -1 to 1.
    reach = None if np.any(result[f"delta_{name}"].values) else [-0.1, 0.1]
    unit = literal(style.unit_of(result, name))
    figure.update_xaxes(title_text=f"change, {unit}", nticks=5, range=reach, **at)


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    if _masks(result):
        yield Picture(
            qa_changes(result),
            "How to read it: right of the dotted line is more than untouched, which is better for "
            "accuracy, exact match and F1, and worse for all else. Filled dots are masks on "
            "chosen heads, open grey ones on random heads, squares on all heads; lines are 95% "
            "intervals.",
        )


def _number(result: xr.Dataset) -> object:
    """How many questions; from the provenance where the file has no single questions."""
    return result.sizes.get("example", result.attrs.get("docs", "?"))


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    changes = [str(x) for x in result if str(x).startswith("delta_")]
    measures = [x.removeprefix("delta_") for x in changes if not x.endswith(("_low", "_high"))]
    beside = any(f"versus_random_{name}" in result for name in measures)
    rows = []
    for name in measures:
        label = MEASURES[name].label if name in MEASURES else name
        unit = style.unit_of(result, name)
        for condition in names(result, "condition"):
            at = result.sel(condition=condition)
            change = NONE if condition == UNTOUCHED else table.with_interval(at, f"delta_{name}")
            rows.append([f"{label} ({unit})", condition, decimal(float(at[name])), change])
            if beside:
                there = f"versus_random_{name}" in at
                rows[-1].append(table.with_interval(at, f"versus_random_{name}") if there else NONE)
    header = ["measure", "condition", "mean", "change against untouched"]
    header += ["over random heads"] if beside else []
    caption = (
        f"Means over {_number(result)} questions; changes with 95% intervals, paired by question."
    )
    yield Table(caption, header, rows, folded=len(rows) > LONG)


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    found, apart = [], []
    random = [name for name in _masks(result) if _is_random(name)]
    for condition in _masks(result):
        at = result.sel(condition=condition)
        if len(random) < 2 or condition not in random:
            found.append(f"{condition} {table.with_interval(at, 'delta_accuracy')}")
            beyond = at.get("versus_random_accuracy", np.nan)
            if condition not in random and np.isfinite(beyond):
                over = table.with_interval(at, "versus_random_accuracy")
                found[-1] += f", over random heads {over}"
        checks = (x for x in ("repetition", "empty", "reply_nll") if f"delta_{x}" in at)
        if how := fallen({name: float(at[f"delta_{name}"]) for name in checks}):
            apart.append(f"{condition} ({how})")
    if len(random) > 1:
        change = result.delta_accuracy.sel(condition=random).values
        found.append(
            f"{len(random)} sets of random heads {decimal(mean(change))} on average "
            f"({decimal(change.min())} to {decimal(change.max())})"
        )
    if found:
        language = isolated(str(result.attrs.get("language", "a language unknown")))
        yield (
            f"Answers in {language}, {_number(result)} questions, change in accuracy (95% "
            f"interval): {'; '.join(found)}."
        )
    if apart:
        yield (
            f"Replies fell apart under {'; '.join(apart)}: there a change in accuracy says "
            "nothing about the language."
        )


_SHOWS = (
    "Shows: answers to questions that no mask was trained on, under each mask and with "
    "nothing changed, paired by question.",
    "Does not show: that these heads were needed for the gain, unless random heads under a "
    "mask of their own stand beside them.",
)
KIND = Kind("qa", "Answers under a mask", _SHOWS, _pictures, _tables, _summary)

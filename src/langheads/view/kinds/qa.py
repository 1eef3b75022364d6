"""Answers under a mask: to questions that no mask was trained on, paired by question."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from langheads.io.measures import MEASURES
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.degeneration import fallen
from langheads.view.figures.answers import UNTOUCHED, is_random, masks, qa_changes
from langheads.view.figures.style import names
from langheads.view.table import LONG, NONE, Table, decimal, isolated, mean, with_interval


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    """What each mask changes, where there is one."""
    if masks(result):
        yield Picture(
            qa_changes(result),
            "How to read it: right of the dotted line is more than untouched, which is better in "
            "the upper row but for NLL, and worse in the lower row. Filled dots are masks on "
            "chosen heads, open grey ones on random heads, squares on all heads; lines are 95% "
            "intervals.",
        )


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    """Every measure under every condition, with the change against the untouched model."""
    changes = [str(x) for x in result if str(x).startswith("delta_")]
    measures = [x.removeprefix("delta_") for x in changes if not x.endswith(("_low", "_high"))]
    beside = any(f"versus_random_{name}" in result for name in measures)
    rows = []
    for name in measures:
        label = MEASURES[name].label if name in MEASURES else name
        unit = result[name].attrs.get("units", "unit unknown")
        for condition in names(result, "condition"):
            at = result.sel(condition=condition)
            change = NONE if condition == UNTOUCHED else with_interval(at, f"delta_{name}")
            rows.append([f"{label} ({unit})", condition, decimal(float(at[name])), change])
            if beside:
                there = f"versus_random_{name}" in at
                rows[-1].append(with_interval(at, f"versus_random_{name}") if there else NONE)
    header = ["measure", "condition", "mean", "change against untouched"]
    header += ["over random heads"] if beside else []
    caption = "Means over questions; changes with 95% intervals, paired by question."
    yield Table(caption, header, rows, folded=len(rows) > LONG)


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    """What each mask does to accuracy, beside random heads, and whether replies fell apart."""
    found, apart = [], []
    random = [name for name in masks(result) if is_random(name)]
    for condition in masks(result):
        at = result.sel(condition=condition)
        if len(random) < 2 or condition not in random:
            found.append(f"{condition} {with_interval(at, 'delta_accuracy')}")
            beyond = at.get("versus_random_accuracy", np.nan)
            if condition not in random and np.isfinite(beyond):
                found[-1] += f", over random heads {with_interval(at, 'versus_random_accuracy')}"
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
        yield f"Answers in {language}, change in accuracy (95% interval): {'; '.join(found)}."
    if apart:
        yield (
            f"Replies fell apart under {'; '.join(apart)}: there a change in accuracy says "
            "nothing about the language."
        )


KIND = Kind(
    "qa",
    "Answers under a mask",
    (
        "Shows: answers to questions that no mask was trained on, under each mask and with "
        "nothing changed, paired by question.",
        "Does not show: that these heads were needed for the gain, unless random heads under a "
        "mask of their own stand beside them.",
    ),
    _pictures,
    _tables,
    _summary,
)

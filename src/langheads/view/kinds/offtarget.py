"""Replies that stray: whether they come back to the wanted language when heads are off or moved."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from langheads.io.measures import labels
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.degeneration import LIMITS_IN_WORDS, fallen
from langheads.view.figures.off_target import (
    in_order,
    off_target_bars,
    off_target_checks,
    off_target_rates,
    rates_of,
    shown,
)
from langheads.view.figures.style import names
from langheads.view.table import LONG, NONE, Table, isolated, with_interval

_LANGUAGE = {"right": "in the language", "delta_right": "change against none"} | labels(
    ("lpr", "wpr", "lcpr")
)
_CHECKS = labels(("repetition", "prompt_copy", "empty", "nll", "delta_nll"))


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    """Replies in the wanted language, the checks, and the pass rates where there are any."""
    yield Picture(
        off_target_bars(result),
        "How to read it: longer bars are more replies in the wanted language; compare with "
        "none (grey) and with random heads (pale, below the heads that they stand for). "
        "Lines are 95% intervals.",
    )
    yield Picture(
        off_target_checks(result),
        "How to read it: each mark is a language; a condition whose marks lie far right of "
        "those in the row none has damaged the replies.",
    )
    if rates_of(result):
        yield Picture(
            off_target_rates(result),
            "How to read it: each mark is a language, further right is better. LPR: replies of "
            "which every line is in the wanted language; WPR: of these, those without a stray "
            "English word; LCPR: their harmonic mean.",
        )


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    """Every language and condition as numbers: the language of the replies, and the checks."""
    tables = {
        "Share of replies in the wanted language and pass rates, with 95% intervals over "
        "prompts.": _LANGUAGE,
        "Degeneration checks, with 95% intervals over prompts; NLL in nats per token.": _CHECKS,
    }
    for caption, named in tables.items():
        columns = {name: label for name, label in named.items() if name in result}
        rows = []
        for language in names(result, "language"):
            for condition in in_order(result):
                at = result.sel(language=language, condition=condition)
                if np.isfinite(at.right):
                    cells = (_against_none(at, name, condition) for name in columns)
                    rows.append([language, shown(condition), *cells])
        if columns:
            header = ["language", "condition", *columns.values()]
            yield Table(caption, header, rows, folded=len(rows) > LONG)


def _against_none(at: xr.Dataset, name: str, condition: str) -> str:
    """A cell; nothing off does not change against itself."""
    nothing = name.startswith("delta_") and condition == "none"
    return NONE if nothing else with_interval(at, name)


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    """In how many languages each condition changes the share of right replies; what fell apart."""
    found = []
    for condition in names(result, "condition"):
        at = result.sel(condition=condition)
        there = np.isfinite(at.delta_right.values)
        if condition == "none" or not there.any() or "delta_right_low" not in at:
            continue
        up = int((at.delta_right_low.values > 0).sum())
        down = int((at.delta_right_high.values < 0).sum())
        found.append(f"{shown(condition)}: more in {up}, fewer in {down} of {there.sum()}")
    if not found:
        return
    yield (
        "Replies in the wanted language, languages in which the change against nothing off is "
        f"shown (95% interval without 0, not corrected for their number): {'; '.join(found)}. "
        "What random heads do is what chance does."
    )
    apart = {
        shown(condition): [
            isolated(x) for x in names(result, "language") if _fell(result, condition, x)
        ]
        for condition in names(result, "condition")
    }
    if said := [f"{name} in {', '.join(of)}" for name, of in apart.items() if of]:
        yield (
            f"Replies fell apart ({LIMITS_IN_WORDS}): {'; '.join(said)}. There, more replies in "
            "the wanted language are no gain."
        )


def _fell(result: xr.Dataset, condition: str, language: str) -> bool:
    """Whether a condition damages the replies in a language."""
    at, none = (result.sel(language=language, condition=x) for x in (condition, "none"))
    changes = {x: float(at[x] - none[x]) for x in ("repetition", "empty", "nll") if x in at}
    return bool(fallen(changes))


KIND = Kind(
    "offtarget",
    "Replies that stray",
    (
        "Shows: whether replies come back to the wanted language when heads are off or moved, "
        "beside random heads, and whether they stay sound.",
        "Does not show: good replies. A reply counts as right by its language alone; where NLL "
        "or repetition rise, it may be nothing but words of the right language.",
    ),
    _pictures,
    _tables,
    _summary,
)

"""Switch rates: how often replies leave their language when one head is off."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures.style import names
from langheads.view.figures.switching import highest, share_interval, switch_rate_bars
from langheads.view.head_effects import effect_pictures
from langheads.view.table import Table, between, decimal, isolated

_TOP = 5


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    """The highest rates, and the map of all."""
    yield Picture(
        switch_rate_bars(result),
        "How to read it: the heads without which most replies leave the language, longest first; "
        "full bars are sound. Lines are 95% intervals of a single rate, not of the highest of "
        "many.",
    )
    yield from effect_pictures(result, run)


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    """The heads of the highest switch rate in each language, with their checks."""
    rows = []
    for language in names(result, "language"):
        at = result.sel(language=language)
        for head in highest(result, language, _TOP):
            checks = (decimal(float(at[x].values[head])) for x in ("cost", "repetition", "empty"))
            sound = "yes" if at.sound.values[head] > 0 else "no"
            rate = float(at.switch_rate.values[head])
            rows.append([language, str(head), _with_ends(rate, at), *checks, sound])
    header = ["language", "head", "switch rate", "cost, nats per token", "repetition", "empty"]
    caption = "Heads of the highest switch rate, with 95% intervals and degeneration checks."
    yield Table(caption, [*header, "sound"], rows)


def _with_ends(rate: float, at: xr.Dataset) -> str:
    return between(rate, *share_interval(rate, int(at.prompts)))


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    """How many heads switch at all and stay sound, and the strongest sound one a language."""
    tried = np.isfinite(result.switch_rate.values)
    switching = (result.switch_rate.values > 0) & tried
    sound = switching & (result.sound.values > 0)
    yield (
        f"Switch rates: {int(switching.sum())} of {int(tried.sum())} head-language pairs make some "
        f"reply leave its language; in {int(sound.sum())} of them replies stay sound."
    )
    found = [
        f"{isolated(language)} {_strongest(result, language)}"
        for language in names(result, "language")
        if highest(result, language, 1)
    ]
    if found:
        yield (
            "Switch rates: the head without which most replies leave the language and stay sound, "
            f"in share of prompts (95% interval): {'; '.join(found)}."
        )


def _strongest(result: xr.Dataset, language: str) -> str:
    """The head of the highest switch rate in a language among those that stay sound."""
    heads = highest(result, language, 1, sound=True)
    if not heads:
        return "none, no head tried is sound"
    at = result.sel(language=language)
    rate = float(at.switch_rate.values[heads[0]])
    if rate > 0:
        return f"{heads[0]} {_with_ends(rate, at)}"
    return "none, no sound head makes replies switch"


KIND = Kind(
    "switch-rate",
    "Switch rates",
    (
        "Shows: how often replies leave their language when one head is off.",
        "Does not show: a change of language where replies fell apart (open bars, not sound). "
        "The highest of many rates is high by chance as well.",
    ),
    _pictures,
    _tables,
    _summary,
)

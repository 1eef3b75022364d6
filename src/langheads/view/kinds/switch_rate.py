"""Switch rates: how often replies leave their language when one head is off."""

from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from scipy.stats import binomtest

from langheads.heads import Head, HeadSet
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures.canvas import finish
from langheads.view.figures.style import (
    CLEAR,
    COLOURWAY,
    PALE,
    check_kind,
    literal,
    model_of,
    names,
)
from langheads.view.figures.traces import ShareBars, share_bars
from langheads.view.kinds.effects import effect_pictures
from langheads.view.table import Table, between, decimal, isolated

_CHECKS = ("cost", "repetition", "empty")
_TOP = 5


def switch_rate_bars(result: xr.Dataset, *, top: int = 10) -> go.Figure:
    """One panel a language: the heads without which most replies leave it.

    A full bar is sound: replies did not fall apart, so the rate may be read as a change of
    language. An open one is beyond the limits on cost, repetition or empty replies.

    Args:
        result: dataset of kind ``switch-rate``.
        top: how many heads of each language.

    Returns:
        A plotly figure of fixed size; bars carry 95% Wilson intervals, hovering gives the
        degeneration checks.

    Raises:
        InputError: another kind of dataset.
    """
    check_kind(result, "switch-rate")
    panels = {language: _bars(result, language, top) for language in names(result, "language")}
    height = 22 * max(4, *(len(bars.labels) for bars in panels.values()))
    figure, size = share_bars(panels, height, 280, 0.09, "switch rate, share of prompts")
    figure.update_yaxes(type="category")
    return finish(
        figure,
        "Replies that leave their language without one head",
        f"{model_of(result)}; open bars: replies fell apart, so no change of language; 95% "
        "intervals",
        panels=size,
        margins=(104, 30, 54, 80),
    )


def _bars(result: xr.Dataset, language: str, top: int) -> ShareBars:
    of, heads = result.sel(language=language), highest(result, language, top)
    rates = np.array([float(of.switch_rate.values[head]) for head in heads])
    ends = [share_interval(rate, int(of.prompts)) for rate in rates]
    low, high = np.array(ends).reshape(-1, 2).T
    sound = [of.sound.values[head] > 0 for head in heads]
    said = []
    for head, rate, end, is_sound in zip(heads, rates, ends, sound, strict=True):
        cost, repetition, empty = (float(of[x].values[head]) for x in _CHECKS)
        said.append(
            f"<b>{head}</b> off: {rate:.3f} of prompts switch "
            f"({end[0]:.3f} to {end[1]:.3f})<br>cost {cost:.3g} nats per token, repetition "
            f"{repetition:.3f}, empty {empty:.3f}<br>"
            f"{'sound' if is_sound else 'not sound: replies fell apart'}<br>{literal(language)}"
        )
    fill = [PALE[COLOURWAY[0]] if is_sound else CLEAR for is_sound in sound]
    return ShareBars(list(map(str, heads)), rates, low, high, fill, COLOURWAY[0], said)


def highest(result: xr.Dataset, language: str, top: int, sound: bool = False) -> list[Head]:
    """The heads with the highest switch rate in a language, of those that were tried.

    With `sound`, only heads without which replies did not fall apart.
    """
    of = result.sel(language=language)
    rate = of.switch_rate.where(of.sound > 0) if sound else of.switch_rate
    values = rate.transpose("layer", "head").values
    return [head for head in HeadSet.ranked(values, top) if np.isfinite(values[head])]


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of `count`.

    Example:
        >>> [round(end, 3) for end in share_interval(0.5, 10)]
        [0.237, 0.763]
    """
    found = binomtest(round(share * count), count).proportion_ci(method="wilson")
    # Rounding can put the ends of a share of 0 or 1 beside it.
    return min(float(found.low), share), max(float(found.high), share)


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    yield Picture(
        switch_rate_bars(result),
        "How to read it: the heads without which most replies leave the language, longest first; "
        "full bars are sound. Lines are 95% intervals of a single rate, not of the highest of "
        "many.",
    )
    yield from effect_pictures(result, run)


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    rows = []
    for language in names(result, "language"):
        at = result.sel(language=language)
        for head in highest(result, language, _TOP):
            checks = (decimal(float(at[x].values[head])) for x in _CHECKS)
            sound = "yes" if at.sound.values[head] > 0 else "no"
            rows.append([language, str(head), _rate(at, head), *checks, sound])
    header = ["language", "head", "switch rate", "cost, nats per token", "repetition", "empty"]
    caption = "Heads of the highest switch rate, with 95% intervals and degeneration checks."
    yield Table(caption, [*header, "sound"], rows)


def _rate(at: xr.Dataset, head: Head) -> str:
    rate = float(at.switch_rate.values[head])
    return between(rate, *share_interval(rate, int(at.prompts)))


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
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
    at = result.sel(language=language)
    for head in highest(result, language, 1, sound=True):
        if float(at.switch_rate.values[head]) > 0:
            return f"{head} {_rate(at, head)}"
        return "none, no sound head makes replies switch"
    return "none, no head tried is sound"


_SHOWS = (
    "Shows: how often replies leave their language when one head is off.",
    "Does not show: a change of language where replies fell apart (open bars, not sound). "
    "The highest of many rates is high by chance as well.",
)
KIND = Kind("switch-rate", "Switch rates", _SHOWS, _pictures, _tables, _summary)

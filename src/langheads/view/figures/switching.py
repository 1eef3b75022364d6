"""Picture of switch rates: which single heads keep replies in their language."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from scipy.stats import binomtest

from langheads.heads import Head
from langheads.view.figures.canvas import finish
from langheads.view.figures.style import CLEAR, COLOURWAY, check_kind, literal, model_of, names
from langheads.view.figures.traces import ShareBars, share_bars

_MEASURES = ("switch_rate", "cost", "repetition", "empty", "sound", "prompts")


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

    Example:
        >>> switch_rate_bars(xr.load_dataset("switch-rate.nc")).show()  # doctest: +SKIP
    """
    check_kind(result, "switch-rate", _MEASURES)
    shown = {language: highest(result, language, top) for language in names(result, "language")}

    def bars(language: str) -> ShareBars:
        of, heads = result.sel(language=language), shown[language]
        rates = np.array([float(of.switch_rate.values[head]) for head in heads])
        ends = np.array([share_interval(rate, int(of.prompts)) for rate in rates]).reshape(-1, 2)
        said = [_hover(of, head, end) for head, end in zip(heads, ends, strict=True)]
        return ShareBars(
            [str(head) for head in heads],
            rates,
            ends[:, 0],
            ends[:, 1],
            [COLOURWAY[0] if of.sound.values[head] > 0 else CLEAR for head in heads],
            COLOURWAY[0],
            [f"{text}<br>{literal(language)}" for text in said],
        )

    height = 22 * max(4, *(len(heads) for heads in shown.values()))
    panels = {language: bars(language) for language in shown}
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


def highest(result: xr.Dataset, language: str, top: int, sound: bool = False) -> list[Head]:
    """The heads of the highest switch rate in a language, those not tried left out.

    With `sound`, so are those without which replies fell apart.
    """
    of = result.sel(language=language)
    rate = of.switch_rate.where(of.sound > 0) if sound else of.switch_rate
    values = rate.transpose("layer", "head").values
    order = np.argsort(-values, axis=None, kind="stable")
    heads = [Head(*divmod(int(i), values.shape[1])) for i in order if np.isfinite(values.flat[i])]
    return heads[:top]


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of `count`.

    Example:
        >>> [round(end, 3) for end in share_interval(0.5, 10)]
        [0.237, 0.763]
    """
    found = binomtest(round(share * count), count).proportion_ci(method="wilson")
    # The ends of a share of 0 or 1 miss it by rounding.
    return min(float(found.low), share), max(float(found.high), share)


def _hover(of: xr.Dataset, head: Head, ends: np.ndarray) -> str:
    def value(name: str) -> float:
        return float(of[name].values[head])

    return (
        f"<b>{head}</b> off: {value('switch_rate'):.3f} of prompts switch "
        f"({ends[0]:.3f} to {ends[1]:.3f})<br>cost {value('cost'):.3g} nats per token, repetition "
        f"{value('repetition'):.3f}, empty {value('empty'):.3f}<br>"
        + ("sound" if value("sound") > 0 else "not sound: replies fell apart")
    )

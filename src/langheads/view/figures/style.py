"""Shared by all figures: colours, two templates (light, dark), safe labels, checks of input.

Figures leave colours of paper, text and colour scales to the template, so that one figure can be
shown light or dark; colours set by a figure itself are readable on both.
"""

import html
from collections.abc import Hashable, Iterable

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import xarray as xr

from langheads.io.arguments import asked_name
from langheads.io.errors import InputError
from langheads.io.schemas import SCHEMAS
from langheads.view.table import readable, shown

# Okabe and Ito's palette without black and yellow, the paler ones darkened: at least 3 : 1 on a
# light and on a dark page, as WCAG 2 asks of marks.
COLOURWAY = ("#0072B2", "#D55E00", "#009E73", "#C46C9C", "#B97D00", "#3A93CC", "#8A8A8A")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x")
CLEAR = "rgba(0,0,0,0)"
# For reference lines and unimportant marks, readable on both pages.
GREY = "#808080"
DOTTED = {"width": 1, "dash": "dot", "color": GREY}
# Bars: pale within their frame, so that intervals across them stay visible.
PALE = {colour: f"rgba({','.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))},0.3)"
        for colour in COLOURWAY}  # fmt: skip

LIGHT, DARK = "langheads", "langheads_dark"
PAGES = {"light": LIGHT, "dark": DARK}
_FONT = "system-ui, 'Noto Sans', 'Helvetica Neue', Arial, sans-serif"
# Even steps in lightness, blue to red (ColorBrewer RdBu); dark pages take a dark centre.
_EMPTY_LIGHT, _EMPTY_DARK = "#eceef0", "#2b2f36"
_DIVERGING_LIGHT = ("#053061", "#4393c3", "#d1e5f0", "#f7f7f7", "#fddbc7", "#d6604d", "#67001f")
_DIVERGING_DARK = ("#b3dcff", "#4a9fdc", "#24527a", "#22252b", "#7a3423", "#e2704b", "#ffcbb0")
# cividis, dark to bright on both pages.
_SEQUENTIAL = ("#00224e", "#123570", "#575d6d", "#7d7c78", "#a59c74", "#d2c060", "#fee838")


def _scale(colours: tuple[str, ...]) -> list[tuple[float, str]]:
    return [(i / (len(colours) - 1), colour) for i, colour in enumerate(colours)]


def ink_on(values: np.ndarray, low: float, high: float) -> dict[str, list[str]]:
    """Page -> black or white for a text on each cell, by the higher contrast: 4.5 : 1 or better.

    Values are on a scale from `low` to `high`; it is diverging if `low` is below 0.
    """
    at = np.clip((np.ravel(values).astype(float) - low) / (high - low), 0.0, 1.0)
    inks = {}
    for page, diverging, empty in (
        ("light", _DIVERGING_LIGHT, _EMPTY_LIGHT),
        ("dark", _DIVERGING_DARK, _EMPTY_DARK),
    ):
        colours = (*(diverging if low < 0 else _SEQUENTIAL), empty)
        stops = np.array([[int(x[i : i + 2], 16) / 255 for i in (1, 3, 5)] for x in colours])
        places = np.linspace(0, 1, len(stops) - 1)
        rgb = np.stack([np.interp(at, places, of[:-1]) for of in stops.T], axis=1)
        rgb = np.where(np.isnan(at)[:, None], stops[-1], rgb)
        # Relative luminance (WCAG 2); at 0.179 black and white have the same contrast.
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        is_bright = linear @ (0.2126, 0.7152, 0.0722) > 0.179
        inks[page] = np.where(is_bright, "#000000", "#ffffff").tolist()
    return inks


def _template(
    ink: str, soft: str, paper: str, empty: str, diverging: tuple[str, ...]
) -> go.layout.Template:
    lines = {"gridcolor": soft, "linecolor": soft, "zerolinecolor": soft}
    axis = lines | {"automargin": False, "title": {"standoff": 6}}
    scales = {"sequential": _scale(_SEQUENTIAL), "diverging": _scale(diverging)}
    bar = {"outlinewidth": 0, "ticks": "outside", "tickcolor": soft}
    below = {"font": {"size": 12, "color": ink}}
    return go.layout.Template(
        layout={
            "font": {"family": _FONT, "size": 12, "color": ink},
            "paper_bgcolor": paper,
            # Shows through where a value is missing.
            "plot_bgcolor": empty,
            "colorway": COLOURWAY,
            "colorscale": scales,
            "coloraxis": {"colorbar": bar},
            "xaxis": axis,
            "yaxis": axis | {"ticklabelstandoff": 4},
            "title": {"font": {"size": 15}, "subtitle": below, "x": 0.01, "xanchor": "left"},
            "hoverlabel": {"align": "left", "font": {"family": _FONT}},
            "legend": {"bgcolor": CLEAR},
            "shapedefaults": {"line": {"color": ink}},
        }
    )


pio.templates[LIGHT] = _template("#1c1e21", "#d5d8dc", "#ffffff", _EMPTY_LIGHT, _DIVERGING_LIGHT)
pio.templates[DARK] = _template("#e6e8eb", "#454a52", "#16181c", _EMPTY_DARK, _DIVERGING_DARK)


def literal(text: object) -> str:
    """A label that plotly shows literally.

    plotly reads ``<b>``, ``<a href>`` and entities in every text, and ``%{...}`` in hover
    templates; names of languages and models come from files and may hold any of them.

    Example:
        >>> literal("<b>zh</b> %{x}")
        '&lt;b&gt;zh&lt;/b&gt; &#37;{x}'
    """
    return html.escape(str(text), quote=False).replace("%", "&#37;")


def distinct(k: int) -> tuple[str, str]:
    """Colour and symbol of the k-th of many languages or scores; the first 49 all differ.

    After each round of the colours the next symbol follows.

    Example:
        >>> distinct(0), distinct(7)
        (('#0072B2', 'circle'), ('#0072B2', 'square'))
    """
    n = len(COLOURWAY)
    return COLOURWAY[k % n], _SYMBOLS[(k + k // n) % len(_SYMBOLS)]


def model_of(result: xr.Dataset) -> str:
    """The model that a result is of, for a title."""
    return literal(readable(result.attrs.get("model")))


def unit_of(result: xr.Dataset, variable: str) -> str:
    """The unit of a variable, for people."""
    return str(result[variable].attrs.get("units", "unit unknown"))


def names(dataset: xr.Dataset, dimension: Hashable) -> list[str]:
    """The labels along a dimension, as plain strings."""
    return [str(name) for name in dataset[dimension].values]


def check_kind(dataset: xr.Dataset, kind: str, needs: Iterable[str] | None = None) -> None:
    """Refuse a dataset of another kind, or one without `needs`, by default the schema's."""
    if not isinstance(dataset, xr.Dataset):
        raise InputError(f"a dataset of kind {kind!r} asked for, found {type(dataset).__name__}")
    found = dataset.attrs.get("kind")
    if found != kind:
        raise InputError(f"a dataset of kind {kind!r} asked for, found kind {found!r}")
    needs = SCHEMAS[kind].variables if needs is None else needs
    if missing := [name for name in needs if name not in dataset]:
        raise InputError(
            f"dataset of kind {kind!r} has no {', '.join(missing)}; "
            f"found {', '.join(map(str, dataset.data_vars)) or 'nothing'}"
        )


def check_label(dataset: xr.Dataset, dimension: str, label: str) -> None:
    """Refuse a label that a dimension does not have."""
    asked_name(dimension, label, names(dataset, dimension), "this dataset has")


def with_ends(middle: float, low: float, high: float, form: str = ".3f") -> str:
    """A value with the ends of its interval, where it has one, for hover text."""
    ends = f" ({shown(low, form)} to {shown(high, form)})" if np.isfinite(low) else ""
    return f"{shown(middle, form)}{ends}"


def tick_step(count: int, most: int) -> int:
    """Distance of whole-number ticks so that an axis of `count` cells has at most `most`."""
    step = 1
    while count > most * step:
        step *= 2
    return step


def reach(*arrays: np.ndarray) -> float:
    """The largest finite magnitude, or 1 where there is none: the end of a colour scale."""
    finite = [np.abs(a[np.isfinite(a)]) for a in arrays]
    largest = max((float(a.max()) for a in finite if a.size), default=0.0)
    return largest or 1.0


def tick_labels(labels: list[str], most: int = 24) -> list[str]:
    """Labels for an axis: literal, and shortened where they would leave no room for the figure."""
    return [literal(name if len(name) <= most else name[: most - 1] + "…") for name in labels]


def label_width(labels: list[str], most: int = 24) -> int:
    """Pixels that the widest of `tick_labels` needs beside an axis, estimated."""
    longest = max((len(label) for label in labels), default=0)
    return max(44, 14 + 8 * min(longest, most))

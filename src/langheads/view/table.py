"""A table of text, numbers as its cells (a true minus sign, a dash for a missing value), and when
checks say that texts fell apart, so that other numbers lose their meaning."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from langheads.io.measures import MEASURES
from langheads.io.schemas import as_shown
from langheads.stats import ALPHA

NONE = "–"
LONG = 12
"""Tables with more rows are folded."""
LIMITS_IN_WORDS = (
    f"repetition or empty replies up by more than {MEASURES['empty'].limit:g}, "
    f"or NLL by more than {MEASURES['nll'].limit:g} nat per token"
)
_IS_PATH = re.compile(r"[/~.\\]|[A-Za-z]:[/\\]|[^/\s]+/[^/\s]+/\S*$")
# Where the Hugging Face hub keeps a model.
_IN_CACHE = re.compile(r"models--([^/\\]+?)--([^/\\]+)[/\\]snapshots[/\\]")
PASS_RATES = (
    "LPR: replies of which every line is in the wanted language; WPR: of these, those without a "
    "stray English word; LCPR: their harmonic mean."
)


@dataclass(frozen=True)
class Table:
    """A table of text."""

    caption: str  # one sentence
    header: Sequence[str]  # column names
    rows: Sequence[Sequence[str]]  # cells; the first of a row names it
    folded: bool = False  # shown only when the reader opens it
    # Columns of running text; each line has its own writing direction.
    prose: Sequence[int] = ()


def mean(values: np.ndarray) -> float:
    """The mean of the finite values; NaN where there are none."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def number(dataset: xr.Dataset, name: str, **at: str) -> float:
    """One value; NaN where the file does not have it."""
    if name not in dataset:
        return float("nan")
    variable = dataset[name]
    return float(variable.sel({k: v for k, v in at.items() if k in variable.dims}))


def shown(value: float, form: str = ".3g") -> str:
    """A number in this format, with a true minus sign; a dash for a missing one.

    Example:
        >>> shown(-0.0271), shown(float("nan"))
        ('−0.0271', '–')
    """
    return f"{value:{form}}".replace("-", "−") if np.isfinite(value) else NONE


def decimal(value: float, decimals: int = 3) -> str:
    """A number with so many decimals.

    Example:
        >>> decimal(-0.0271), decimal(-0.0002), decimal(float("nan"))
        ('−0.027', '0.000', '–')
    """
    if not np.isfinite(value):
        return NONE
    # A value that rounds to 0 has no sign: −0 + 0 is 0.
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def p_words(p: float, n: float) -> str:
    """A p-value; where n random draws cannot bring it below `ALPHA`, that it cannot tell.

    Example:
        >>> p_words(0.125, 7), p_words(0.01, 99)
        ('cannot tell (≥ 0.125)', '0.010')
    """
    few = np.isfinite([p, n]).all() and 1 / (1 + n) >= ALPHA
    return f"cannot tell (≥ {decimal(1 / (1 + n))})" if few else decimal(p)


def p_of(dataset: xr.Dataset, name: str, **at: str) -> str:
    """A p-value in a sentence, or that the file does not have it."""
    p = number(dataset, name, **at)
    return f"p = {p:.2g}" if np.isfinite(p) else "no p-value"


def between(value: float, low: float, high: float, decimals: int = 3) -> str:
    """A value with the ends of its interval, where it has one."""
    text = decimal(value, decimals)
    if not (np.isfinite(low) and np.isfinite(high)):
        return text
    return f"{text} ({decimal(low, decimals)} to {decimal(high, decimals)})"


def with_ends_of(at: xr.Dataset, name: str) -> tuple[float, float, float]:
    """A value with ``<name>_low`` and ``<name>_high``, NaN where the file does not have them."""
    low, high = (float(at.get(f"{name}_{end}", np.nan)) for end in ("low", "high"))
    return float(at.get(name, np.nan)), low, high


def with_interval(at: xr.Dataset, name: str) -> str:
    """A value with its interval, where the file has one, as a cell."""
    return between(*with_ends_of(at, name))


def count(value: float) -> str:
    """A whole number with its thousands apart, or a dash."""
    return f"{int(value):,}".replace(",", "\u202f") if np.isfinite(value) else NONE


def readable(model: object) -> str:
    """A model's short name: of a folder the last part.

    Example:
        >>> readable("/home/me/models/Llama-3.2-1B/"), readable("meta-llama/Llama-3.2-1B")
        ('Llama-3.2-1B', 'meta-llama/Llama-3.2-1B')
        >>> readable("/cache/hub/models--google--gemma-3-1b-pt/snapshots/fcf18a2a")
        'google/gemma-3-1b-pt'
    """
    name = str(model or "model unknown")
    if found := _IN_CACHE.search(name):
        return "/".join(found.groups())
    parts = [part for part in re.split(r"[/\\]", name) if part]
    return parts[-1] if _IS_PATH.match(name) and parts else name


def isolated(name: str) -> str:
    """A name that keeps its own writing direction inside an English sentence."""
    return name if name.isascii() else f"\u2068{name}\u2069"


def plain(value: Any) -> str:
    """A value in readable form; provenance holds JSON in strings.

    Example:
        >>> plain('{"en": 1, "rule": {"name": "count"}}'), plain(None), plain({})
        ('en: 1; rule: (name: count)', 'none', '–')
    """
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return value
    if isinstance(value, Mapping):
        # The rule of a head set is settings, too; other tables go by language.
        value = as_shown(value) if "name" in value else value
        value = "; ".join(
            f"{key}: ({plain(of)})" if isinstance(of, Mapping) and of else f"{key}: {plain(of)}"
            for key, of in value.items()
        )
    return "none" if value is None else str(value) or NONE


def fallen(changes: Mapping[str, float]) -> str:
    """The checks above their limit, in words; empty where none is.

    Example:
        >>> fallen({"repetition": 0.25, "empty": 0.0, "prompt_nll": 1.5})
        'repetition +0.25 of 4-grams, NLL of the prompt +1.50 nats per token'
    """
    return ", ".join(
        f"{measure.label} {changes[name]:+.2f} "
        + ("of all" if measure.units == "share" else measure.units.removeprefix("share "))
        for name, measure in MEASURES.items()
        if name in changes and measure.limit is not None and changes[name] > measure.limit
    )

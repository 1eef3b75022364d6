"""Off-target replies as data: means over prompts, intervals, changes against nothing off.

The dataset is of kind ``offtarget``; NaN where a condition has no heads, or the wanted language is
the suspect:

    M_each               over ``language, condition, prompt``: a value a reply
    M, M_low, M_high     over ``language, condition``: its mean and 95% interval, of ``right``,
                         ``suspect`` (in the suspect's language), ``repetition``, ``prompt_copy``,
                         ``empty``, ``nll`` (of the replies, by the untouched model), ``lpr``,
                         ``wpr``, ``lcpr``; ``delta_right`` and ``delta_nll`` against ``none``
    n_heads              how many heads were touched

Intervals are from a bootstrap over prompts, see `langheads.stats.bootstrap_interval` (for rates its
percentiles), and stay within the range of a share or an NLL; those of a change are paired by
prompt. A random condition is the mean over its draws before any interval is made, so its interval
treats the drawn sets as fixed. With w_p, how often prompt p was drawn, a rate of one draw is

    LPR = sum_p w_p passed_p / sum_p w_p counted_p
    WPR = 1 - sum_p w_p passed_p english_p / sum_p w_p passed_p

and LCPR their harmonic mean, 0 where LPR is 0, see `langheads.text.confusion`; a resample without a
denominator has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from langheads.io.measures import TEXT_CHECKS, units
from langheads.stats import ALPHA, bootstrap_interval, bootstrap_weights, ratio
from langheads.text import Rules
from langheads.text.confusion import Judged, counts, pass_rates, passes

PER_PROMPT = units(["right", "suspect", *TEXT_CHECKS, "nll"], of="prompts")
RATES = ("lpr", "wpr", "lcpr")
_PAIRED = {"delta_right": "right", "delta_nll": "nll"}
_ENDS = ("", "_low", "_high")


class Outcome(NamedTuple):
    """Replies to the prompts of one language under one head set."""

    n_heads: int  # how many heads were touched
    values: Mapping[str, Float[np.ndarray, " prompt"]]  # of `PER_PROMPT`, for each reply
    lines: Sequence[Judged]  # of each reply, judged


def summary(
    runs: Mapping[tuple[str, str], Sequence[Outcome]],
    prompts: Mapping[str, Sequence[str]],
    conditions: Sequence[str],
    rules: Rules,
    n_resamples: int,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Arrange replies as a dataset; see `langheads.off_target`.

    `runs` are the draws of random heads, or the one run, by (language, condition); none where a
    condition has no heads. The condition ``none`` comes first.
    """
    table, shape = ("language", "condition"), (len(prompts), len(conditions))
    each = {name: np.full((*shape, max(map(len, prompts.values()))), np.nan) for name in PER_PROMPT}
    rates = np.full((len(RATES), 3, *shape), np.nan)
    n_heads = np.zeros(shape, dtype=np.int64)
    settings = {"n_resamples": n_resamples, "seed": attrs["seed"]}
    for at in np.ndindex(shape):
        language = list(prompts)[at[0]]
        if not (draws := runs[language, conditions[at[1]]]):
            continue
        for name, values in each.items():
            of_draws = [run.values[name] for run in draws]
            values[at][: len(prompts[language])] = np.mean(of_draws, axis=0)
        lines = [run.lines for run in draws]
        rates[(..., *at)] = rates_with_intervals(lines, language, rules, **settings)
        n_heads[at] = draws[0].n_heads
    variables: dict[str, Any] = {}
    shown = {name: (values, PER_PROMPT[name]) for name, values in each.items()}
    for name, of in _PAIRED.items():
        shown[name] = each[of] - each[of][:, :1], PER_PROMPT[of]
    for name, (values, unit) in shown.items():
        with_unit = {"units": unit}
        if name in each:
            variables[f"{name}_each"] = ((*table, "prompt"), values, with_unit)
        parts = _means_with_intervals(values, list(map(len, prompts.values())), **settings)
        most = 1.0 if unit.startswith("share") else np.inf
        parts = parts.clip(0.0 if name in each else -most, most)
        for end, part in zip(_ENDS, parts, strict=True):
            variables[f"{name}{end}"] = (table, part, with_unit)
    for name, parts in zip(RATES, rates, strict=True):
        for end, part in zip(_ENDS, parts, strict=True):
            variables[f"{name}{end}"] = (table, part, {"units": "share of replies"})
    variables["n_heads"] = (table, n_heads, {"units": "count"})
    variables["prompts"] = ("language", [len(of) for of in prompts.values()], {"units": "count"})
    return xr.Dataset(
        variables, coords={"language": list(prompts), "condition": list(conditions)}, attrs=attrs
    )


def _means_with_intervals(
    values: Float[np.ndarray, "language condition prompt"], n_prompts: Sequence[int], **how: Any
) -> Float[np.ndarray, "end language condition"]:
    """Mean over prompts and the ends of its interval, none for one prompt."""
    found = np.full((3, *values.shape[:2]), np.nan)
    for row, n in enumerate(n_prompts):
        own = values[row, :, :n]
        found[0, row] = own.mean(axis=1)
        there = ~np.isnan(found[0, row])
        if n > 1:
            found[1:, row, there] = bootstrap_interval(own[there].T, **how)
    return found


def rates_with_intervals(
    runs: Sequence[Sequence[Judged]],
    language: str,
    rules: Rules,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Float[np.ndarray, "rate 3"]:
    """LPR, WPR and LCPR of the draws of one condition, each with the ends of its interval.

    A draw of heads has replies to all prompts; draws without a rate are left out of its mean. NaN
    where there is no rate; no ends for one prompt.
    """
    found = np.full((len(RATES), 3), np.nan)
    rates = [pass_rates(run, language, rules) for run in runs]
    for i, name in enumerate(RATES):
        there = [value for value in (getattr(rate, name) for rate in rates) if value is not None]
        found[i, 0] = np.mean(there) if there else np.nan
    n = len(runs[0])
    if n < 2:
        return found
    rng = np.random.default_rng(seed)
    weights = bootstrap_weights(n, n_resamples, rng).astype(float)
    counted = np.array([[counts(reply, rules) for reply in run] for run in runs]).T
    passed = np.array([[passes(reply) for reply in run] for run in runs]).T
    english = np.array([[reply.english for reply in run] for run in runs]).T
    lpr = ratio(weights @ passed, weights @ counted)
    wpr = 1 - ratio(weights @ (passed & english), weights @ passed)
    lcpr = np.where(lpr == 0, 0.0, ratio(2 * lpr * wpr, lpr + wpr))
    if language not in rules.wpr_languages:
        wpr[:], lcpr[:] = np.nan, np.nan
    for i, draws in enumerate((lpr, wpr, lcpr)):
        valued = draws[~np.isnan(draws).all(axis=1)]
        if len(valued):
            found[i, 1:] = np.quantile(np.nanmean(valued, axis=1), [ALPHA / 2, 1 - ALPHA / 2])
    return found

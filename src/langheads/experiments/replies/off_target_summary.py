"""Off-target replies as data: means over prompts, intervals, changes against nothing off.

Intervals are percentiles of a bootstrap over prompts; those of a change are paired by prompt. A
random condition is the mean over its draws before any interval is made, so its interval holds the
few sets that were drawn fixed. With w_p, how often prompt p was drawn, a rate of one draw is

    LPR = sum_p w_p passed_p / sum_p w_p counted_p
    WPR = 1 - sum_p w_p passed_p english_p / sum_p w_p passed_p

and LCPR their harmonic mean, 0 where LPR is 0, see `langheads.text.confusion`; a resample where
nothing is left to divide by has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from langheads.io.measures import TEXT_CHECKS, units
from langheads.stats import bootstrap_interval
from langheads.text import Rules
from langheads.text.confusion import Judged, counts, pass_rates, passes

PER_PROMPT = units(["right", "suspect", *TEXT_CHECKS, "nll"], of="prompts")
RATES = ("lpr", "wpr", "lcpr")
_PAIRED = {"delta_right": "right", "delta_nll": "nll"}
_LEVEL = 0.95


def summary(
    each: dict[str, Float[np.ndarray, "language condition prompt"]],
    judged: Mapping[tuple[int, int], Sequence[Sequence[Judged]]],
    n_heads: Int[np.ndarray, "language condition"],
    prompts: Mapping[str, Sequence[str]],
    conditions: Sequence[str],
    rules: Rules,
    resamples: int,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Arrange replies as a dataset; see `langheads.off_target`.

    Args:
        each: `PER_PROMPT`, NaN where there is no such prompt or condition; ``none`` comes first.
        judged: number of language and of condition -> lines of the replies of each draw.
        n_heads: heads of each condition.
        prompts: language -> prompts.
        conditions: their names.
        rules: of the pass rates.
        resamples: of the bootstrap.
        attrs: provenance.
    """
    table = ("language", "condition")
    variables: dict[str, Any] = {
        f"{name}_each": ((*table, "prompt"), values, {"units": PER_PROMPT[name]})
        for name, values in each.items()
    }
    shown = {name: (values, PER_PROMPT[name]) for name, values in each.items()}
    for name, of in _PAIRED.items():
        shown[name] = each[of] - each[of][:, :1], PER_PROMPT[of]
    for name, (values, unit) in shown.items():
        with_unit = {"units": unit}
        mean, low, high = (np.full(values.shape[:2], np.nan) for _ in range(3))
        for row, asked in enumerate(prompts.values()):
            own = values[row, :, : len(asked)]
            mean[row] = own.mean(axis=1)
            there = ~np.isnan(mean[row])
            if len(asked) > 1:
                low[row, there], high[row, there] = bootstrap_interval(
                    own[there].T, n_resamples=resamples, seed=attrs["seed"]
                )
        for suffix, found in (("", mean), ("_low", low), ("_high", high)):
            variables[f"{name}{suffix}"] = (table, found, with_unit)
    rates = np.full((len(RATES), 3, *n_heads.shape), np.nan)
    for (row, column), runs in judged.items():
        rates[:, :, row, column] = rates_with_intervals(
            runs, list(prompts)[row], rules, resamples=resamples, seed=attrs["seed"]
        )
    for name, parts in zip(RATES, rates, strict=True):
        for suffix, values in zip(("", "_low", "_high"), parts, strict=True):
            variables[f"{name}{suffix}"] = (table, values, {"units": "share of replies"})
    variables["n_heads"] = (table, n_heads, {"units": "count"})
    variables["prompts"] = ("language", [len(of) for of in prompts.values()], {"units": "count"})
    return xr.Dataset(
        variables, coords={"language": list(prompts), "condition": list(conditions)}, attrs=attrs
    )


def rates_with_intervals(
    runs: Sequence[Sequence[Judged]],
    language: str,
    rules: Rules,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Float[np.ndarray, "rate 3"]:
    """LPR, WPR and LCPR of the draws of one condition, each with the ends of its interval.

    Args:
        runs: for each draw of heads, the replies to the same prompts; draws without a rate are
            left out of its mean.
        language: the wanted one.
        rules: of the pass rates.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.

    Returns:
        Shares of replies: value, low, high. NaN where there is no rate; no ends for one prompt.
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
    weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    counted = np.array([[counts(reply, rules) for reply in run] for run in runs]).T
    passed = np.array([[passes(reply) for reply in run] for run in runs]).T
    english = np.array([[reply.english for reply in run] for run in runs]).T
    lpr = _share(weights @ passed, weights @ counted)
    wpr = 1 - _share(weights @ (passed & english), weights @ passed)
    lcpr = np.where(lpr == 0, 0.0, _share(2 * lpr * wpr, lpr + wpr))
    if language not in rules.wpr_languages:
        wpr[:], lcpr[:] = np.nan, np.nan
    tails = [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]
    for i, draws in enumerate((lpr, wpr, lcpr)):
        valued = draws[~np.isnan(draws).all(axis=1)]
        if len(valued):
            found[i, 1:] = np.quantile(np.nanmean(valued, axis=1), tails)
    return found


def _share(
    part: Float[np.ndarray, "resample draw"], whole: Float[np.ndarray, "resample draw"]
) -> Float[np.ndarray, "resample draw"]:
    """part / whole, NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)

"""Attention transfer as data: changes against the untouched model, intervals, random heads.

    change = mean over prompts of (measure under the gate - measure with nothing gated)

paired by prompt. Prompts that share an occupation are not independent, so occupations are drawn
with replacement, and a prompt counts as often as its two occupations together:

    weight of (i, j) = times i was drawn x times j was drawn

The standard error is the standard deviation of these draws, and intervals are their percentiles;
the same draws for every pair of languages, since all state the same facts. Where occupations do not
matter at all this is too wide (Owen 2007, the pigeonhole bootstrap). NaN for fewer than 3
occupations. p = (1 + random sets that move the measure at least as far towards A) / (1 + random
sets), one-sided. Over all pairs, a random set is a choice for each language whose heads are gated,
its own or a random set: drawn at random, all different, `NULL_DRAWS` at most.

Degeneration checks are computed in the same way, without a p-value: a model that no longer expects
the prompt, or that repeats itself, has not changed its mind.

The dataset is of kind ``transfer`` over ``a, b, order, setting``: an order is one of the two or
``both``, the mean of the two over the same two occupations; a setting is ``enhance 3`` and so on,
with coordinates ``condition`` and ``gate``. NaN where a pair was not run or a language has no
heads. For each measure M:

    M_before, M, M_change    means over prompts; M_change_se, M_change_low and M_change_high
    M_control_change         of every random set; M_control_mean, and M_control_p except for checks
    M_overall_...            the same over the pairs of languages; the k-th set of each language,
                             from the first again where it has fewer, and null_draws behind p
    attention_before, attention_after    share of 1 [..., layer, head, fact], from the first layer
                             of A's and B's heads on, since a gate moves attention only later
    shared_first_token       prompts without a `first_token_a`: both answers begin alike
    heads, n_heads           of a language
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from langheads.experiments.matched_heads import NULL_DRAWS, random_choices
from langheads.experiments.transfer.plan import ORDERS, Pair, Plan
from langheads.experiments.transfer.run import CHECKS as CHECKS
from langheads.experiments.transfer.run import MEASURES, Run
from langheads.io import measures
from langheads.stats import bootstrap_weights, percentile_interval, permutation_p, ratio

_UNITS = measures.units([*MEASURES, *CHECKS], of="prompts")
_RESAMPLES = 1000


def summary(plan: Plan, runs: Mapping[Pair, Run], *, attrs: dict[str, Any]) -> xr.Dataset:
    """Arrange runs, by the (first, second) language of their prompts, as a dataset; see the top."""
    values, control, attention, shared = _gathered(plan, runs)
    orders = list(plan.orders)
    if len(orders) > 1:
        orders.append("both")
        values, control, attention = (
            np.concatenate([x, x.mean(axis=axis, keepdims=True)], axis=axis)
            for x, axis in ((values, 3), (control, 3), (attention, 2))
        )
    variables = _measured(values, control, plan)
    cell, look, share = ("a", "b", "order"), ("layer", "head", "fact"), {"units": "share of 1"}
    if np.isfinite(before := attention[..., 0, :, :, :]).any():
        after = (*cell, "setting", *look), attention[..., 1:, :, :, :], share
        variables["attention_before"] = (*cell, *look), before, share
        variables["attention_after"] = after
    count = {"units": "count"}
    variables["shared_first_token"] = cell[:2], shared, count
    variables["heads"] = "a", [str(heads) for heads in plan.own.values()]
    variables["n_heads"] = "a", [len(heads) for heads in plan.own.values()], count
    return xr.Dataset(
        variables,
        coords={
            "a": list(plan.own),
            "b": list(plan.own),
            "order": orders,
            "setting": [str(setting) for setting in plan.settings],
            "condition": ("setting", [setting.condition for setting in plan.settings]),
            "gate": ("setting", [setting.gate for setting in plan.settings]),
            "fact": ["A", "B"],
        },
        attrs=attrs,
    )


def _gathered(
    plan: Plan, runs: Mapping[Pair, Run]
) -> tuple[
    Float[np.ndarray, "measure a b order run prompt"],
    Float[np.ndarray, "measure a b order setting control"],
    Float[np.ndarray, "a b order run layer head fact"],
    Float[np.ndarray, "a b"],
]:
    """Values by prompt, random set and head; runs are the untouched model, then each setting."""
    languages = list(plan.own)
    shape = next(iter(plan.own.values())).shape
    cells = (len(languages), len(languages), len(plan.orders))
    measured = (len(_UNITS), *cells)
    n_controls = max(map(len, plan.random.values()))
    values = np.full((*measured, 1 + len(plan.settings), len(plan.occupations)), np.nan)
    control = np.full((*measured, len(plan.settings), n_controls), np.nan)
    attention = np.full((*cells, 1 + len(plan.settings), *shape, 2), np.nan)
    shared = np.full(cells[:2], np.nan)
    for (a, b), (o, order) in itertools.product(plan.pairs, enumerate(plan.orders)):
        at = (languages.index(a), languages.index(b), o)
        here = (slice(None), *at)
        fact = ORDERS.index(order)
        run = runs[(a, b) if fact == 0 else (b, a)]
        found = run.measures(fact)
        nothing = run.conditions[0]
        shared[at[:2]] = run.shared.sum()
        settings = [plan.condition((a, b), setting) for setting in plan.settings]
        for s, (owner, condition) in enumerate([("", nothing), *settings]):
            if owner and not condition[0]:
                continue
            values[(*here, s)] = found[condition]
            if run.attention:
                # A's fact first.
                attention[(*at, s)] = run.attention[condition][..., :: 1 - 2 * fact]
            for k, some in enumerate(plan.random[owner] if owner else ()):
                control[(*here, s - 1, k)] = _mean(found[some, condition[1]] - found[nothing])
    return values, control, attention, shared


def _measured(
    values: Float[np.ndarray, "measure a b order run prompt"],
    control: Float[np.ndarray, "measure a b order setting control"],
    plan: Plan,
) -> dict[str, Any]:
    """All variables of the measures and checks."""
    changes = values[..., 1:, :] - values[..., :1, :]
    change, draws = _mean(changes), _resampled(changes, plan.occupations, plan.seed)
    error, (low, high) = _deviation(draws), percentile_interval(draws)
    overall = _over_pairs(change, 1)
    overall_control, null = _over_languages(change, control, plan)
    overall_low, overall_high = percentile_interval(_over_pairs(draws, 2))
    cell = ("a", "b", "order", "setting")
    overall_cell, each_set = cell[2:], ("control",)
    draws_behind = np.isfinite(null).any(axis=(0, 1)).sum(axis=-1)
    variables: dict[str, Any] = {"null_draws": ("setting", draws_behind, {"units": "count"})}
    parts = {
        "_before": (cell[:3], _mean(values[..., 0, :])),
        "": (cell, _mean(values[..., 1:, :])),
        "_change": (cell, change),
        "_change_se": (cell, error),
        "_change_low": (cell, low),
        "_change_high": (cell, high),
        "_control_change": (cell + each_set, control),
        "_control_mean": (cell, _mean(control)),
        "_overall_change": (overall_cell, overall),
        "_overall_low": (overall_cell, overall_low),
        "_overall_high": (overall_cell, overall_high),
        "_overall_control_change": (overall_cell + each_set, overall_control),
    }
    for m, (name, units) in enumerate(_UNITS.items()):
        for part, (dims, of) in parts.items():
            variables[name + part] = (dims, of[m], {"units": units})
        if name in MEASURES:
            sign, probability = measures.MEASURES[name].better, {"units": "probability"}
            for dims, part, own, sets in (
                (cell, "", change[m], control[m]),
                (overall_cell, "_overall", overall[m], null[m]),
            ):
                p = permutation_p(sign * own, np.moveaxis(sign * sets, -1, 0))
                p = np.where(np.isfinite(sets).any(axis=-1), p, np.nan)
                variables[f"{name}{part}_control_p"] = (dims, p, probability)
    return variables


def _over_languages(
    change: Float[np.ndarray, "measure a b order setting"],
    control: Float[np.ndarray, "measure a b order setting control"],
    plan: Plan,
) -> tuple[
    Float[np.ndarray, "measure order setting control"],
    Float[np.ndarray, "measure order setting draw"],
]:
    """Means over pairs of languages, under the k-th random sets and under random choices for p."""
    every = np.concatenate([change[..., None], control], axis=-1)
    n_sets = np.array([len(plan.random[language]) for language in plan.own])
    own = list(plan.own.values())
    orders, n_controls = change.shape[3], control.shape[-1]
    kth = np.full((len(change), orders, len(plan.settings), n_controls), np.nan)
    null = np.full((len(change), orders, len(plan.settings), NULL_DRAWS), np.nan)
    rng = np.random.default_rng(plan.seed)
    for s, setting in enumerate(plan.settings):
        owners = {plan.condition(pair, setting)[0] for pair in plan.pairs}
        gated = np.array([language in owners for language in plan.own])
        same = [own.index(of) if yes else -1 for of, yes in zip(own, gated, strict=True)]
        chosen = random_choices((1 + n_sets * gated).tolist(), NULL_DRAWS, rng, same=same)
        in_turn = np.arange(n_controls)[:, None] % np.maximum(n_sets, 1) + (n_sets > 0)
        for into, choices in ((kth, in_turn), (null, chosen)):
            # The heads of A are enhanced, those of B weakened.
            pick = choices.T[:, None] if setting.condition == "enhance" else choices.T[None]
            taken = np.take_along_axis(every[..., s, :], pick[None, :, :, None], axis=-1)
            into[:, :, s, : len(choices)] = _over_pairs(taken, 1)
    return kth, null


def _mean(values: Float[np.ndarray, "..."], axes: int = 1) -> Float[np.ndarray, "..."]:
    """Mean of the finite values over the last axes; NaN where there are none."""
    last = tuple(range(-axes, 0))
    finite = np.isfinite(values)
    return ratio(np.where(finite, values, 0.0).sum(axis=last), finite.sum(axis=last))


def _over_pairs(values: Float[np.ndarray, "..."], first: int) -> Float[np.ndarray, "..."]:
    """Mean over A and B, two axes from `first` on."""
    return _mean(np.moveaxis(values, (first, first + 1), (-2, -1)), 2)


def _resampled(
    changes: Float[np.ndarray, "... prompt"], occupations: Sequence[tuple[int, int]], seed: int
) -> Float[np.ndarray, "draw ..."]:
    """Means over occupations drawn with replacement; a draw without a finite change is NaN."""
    known, pairs = np.unique(np.array(occupations), return_inverse=True)
    n = len(known)
    if n < 3:
        # Only the sample itself as a draw has a prompt at all.
        return np.full((_RESAMPLES, *changes.shape[:-1]), np.nan)
    drawn = bootstrap_weights(n, _RESAMPLES, np.random.default_rng(seed)).astype(float)
    times = drawn[:, pairs.reshape(-1, 2)].prod(axis=-1)
    finite = np.isfinite(changes)
    total = np.tensordot(times, np.where(finite, changes, 0.0), axes=(1, -1))
    count = np.tensordot(times, finite.astype(float), axes=(1, -1))
    return ratio(total, count)


def _deviation(draws: Float[np.ndarray, "draw ..."]) -> Float[np.ndarray, "..."]:
    """Standard deviation over the draws with a value."""
    last = np.moveaxis(draws, 0, -1)
    return np.sqrt(_mean((last - _mean(last)[..., None]) ** 2))

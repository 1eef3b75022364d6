"""Attention transfer as data: changes against the untouched model, intervals, random heads.

    change = mean over prompts of (measure under the gate - measure with nothing gated)

paired by prompt. Prompts that share an occupation are not independent, so occupations are drawn
with replacement, and a prompt counts as often as its two occupations together:

    weight of (i, j) = times i was drawn x times j was drawn

The standard error is the deviation of these draws, and intervals are their percentiles; the same
draws for every pair of languages, since all tell the same facts. Where occupations do not matter
at all this errs on the wide side (Owen 2007, the pigeonhole bootstrap). NaN for fewer than 3
occupations. p = (1 + random sets that move the measure at least as
far towards A) / (1 + random sets), one-sided, those equal to the chosen heads left out.

Guards have the same arithmetic and no p-value: a model that no longer expects the prompt, or that
repeats itself, has not changed its mind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from langheads.experiments.transfer.plan import ORDERS, Condition, Pair, Setting
from langheads.heads import HeadSet

MEASURES: dict[str, tuple[str, int]] = {
    "answer_a": ("share of prompts", 1),
    "answer_b": ("share of prompts", -1),
    "first_token_a": ("share of prompts", 1),
    "logprob_difference": ("nats", 1),
}
"""Unit of each measure, and the sign of a change towards A."""
GUARDS = {
    "repetition": "share of 4-grams",
    "prompt_copy": "share of 4-grams",
    "empty": "share of prompts",
    "prompt_nll": "nats per token",
}
"""Unit of each guard: of what is written after the prompt, and the NLL of the prompt itself."""
_ALL = MEASURES | {name: (units, 0) for name, units in GUARDS.items()}
_RESAMPLES = 1000
_LEVEL = 0.95
_PROBABILITY = {"units": "probability"}


@dataclass(frozen=True)
class Run:
    """What the model made of the prompts of one text.

    Attributes:
        conditions: heads and gate; no heads first.
        logprob: nats, of the first token and of the whole of both answers.
        said: which answer was given, 0 (that of the first fact), 1 or -1.
        guards: in the order of `GUARDS`.
        shared: whether both answers begin with the same token.
        attention: condition -> share of 1 ``[layer, head, fact]``, for some of the conditions.
    """

    conditions: list[Condition]
    logprob: Float[np.ndarray, "condition prompt answer part"]
    said: Int[np.ndarray, "condition prompt"]
    guards: Float[np.ndarray, "condition prompt guard"]
    shared: Bool[np.ndarray, " prompt"]
    attention: dict[Condition, Float[np.ndarray, "layer head fact"]]

    def measures(self, fact: int) -> Float[np.ndarray, "measure condition prompt"]:
        """`MEASURES` and `GUARDS` in their order, where A's is the first (0) or second fact."""
        ahead = self.logprob[:, :, fact] - self.logprob[:, :, 1 - fact]
        first = np.where(self.shared, np.nan, ahead[..., 0] > 0)
        guards = np.moveaxis(self.guards, -1, 0)
        return np.stack([self.said == fact, self.said == 1 - fact, first, ahead[..., 1], *guards])


def summary(
    pairs: Sequence[Pair],
    orders: Sequence[str],
    settings: Sequence[Setting],
    own: Mapping[str, HeadSet],
    pools: Mapping[str, list[HeadSet]],
    runs: Mapping[Pair, Run],
    jobs: Sequence[tuple[int, int]],
    *,
    seed: int,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Arrange runs as a dataset; see `langheads.transfer`.

    Args:
        pairs: (A, B).
        orders: of `ORDERS`.
        settings: conditions and gates.
        own: language -> its heads; A and B are taken from these.
        pools: language -> random head sets.
        runs: (first, second) language of the prompts -> what came out.
        jobs: the two occupations of each prompt.
        seed: of the resampling.
        attrs: provenance.
    """
    languages = list(own)
    shape = next(iter(own.values())).shape
    n_controls = len(next(iter(pools.values())))
    n_prompts = len(next(iter(runs.values())).shared)
    looks = (len(languages), len(languages), len(orders))
    grid = (len(_ALL), *looks)
    before = np.full((*grid, n_prompts), np.nan)
    after = np.full((*grid, len(settings), n_prompts), np.nan)
    control = np.full((*grid, len(settings), n_controls), np.nan)
    attention = np.full((*looks, *shape, 2), np.nan)
    attention_after = np.full((*looks, len(settings), *shape, 2), np.nan)
    shared = np.full((len(languages), len(languages)), np.nan)
    for a, b in pairs:
        at = (languages.index(a), languages.index(b))
        for o, order in enumerate(orders):
            fact = ORDERS.index(order)
            run = runs[(a, b) if fact == 0 else (b, a)]
            number = {condition: i for i, condition in enumerate(run.conditions)}
            found = run.measures(fact)
            here = (slice(None), *at, o)
            before[here] = found[:, 0]
            shared[at] = run.shared.sum()
            if run.attention:
                attention[(*at, o)] = _facts(run.attention[run.conditions[0]], fact)
            for s, setting in enumerate(settings):
                owner = a if setting.condition == "enhance" else b
                if not (heads := own[owner]):
                    continue
                condition = heads, setting.gate
                after[(*here, s)] = found[:, number[condition]]
                if run.attention:
                    attention_after[(*at, o, s)] = _facts(run.attention[condition], fact)
                for k, some in enumerate(pools[owner]):
                    if some != heads:
                        moved = found[:, number[some, setting.gate]] - found[:, 0]
                        control[(*here, s, k)] = _mean(moved)
    labels = list(orders)
    if len(orders) > 1:
        labels.append("both")
        before, after, control = (_with_mean(x, 3) for x in (before, after, control))
        attention, attention_after = (_with_mean(x, 2) for x in (attention, attention_after))
    return _dataset(
        (languages, labels, settings), before, after, control, attention, attention_after, shared,
        own, jobs, seed, attrs,
    )  # fmt: skip


def _dataset(
    axes: tuple[list[str], list[str], Sequence[Setting]],
    before: Float[np.ndarray, "measure a b order prompt"],
    after: Float[np.ndarray, "measure a b order setting prompt"],
    control: Float[np.ndarray, "measure a b order setting control"],
    attention: Float[np.ndarray, "a b order layer head fact"],
    attention_after: Float[np.ndarray, "a b order setting layer head fact"],
    shared: Float[np.ndarray, "a b"],
    own: Mapping[str, HeadSet],
    jobs: Sequence[tuple[int, int]],
    seed: int,
    attrs: dict[str, Any],
) -> xr.Dataset:
    languages, labels, settings = axes
    changes = after - before[..., None, :]
    change, resampled = _mean(changes), _resampled(changes, jobs, seed)
    error = _deviation(resampled)
    low, high = _interval(resampled)
    overall, controls = _over_pairs(change, 1), _over_pairs(control, 1)
    overall_low, overall_high = _interval(_over_pairs(resampled, 2))
    cell = ("a", "b", "order", "setting")
    variables: dict[str, Any] = {}
    for m, (name, (units, sign)) in enumerate(_ALL.items()):
        unit = {"units": units}
        variables |= {
            f"{name}_before": (cell[:3], _mean(before[m]), unit),
            name: (cell, _mean(after[m]), unit),
            f"{name}_change": (cell, change[m], unit),
            f"{name}_change_se": (cell, error[m], unit),
            f"{name}_change_low": (cell, low[m], unit),
            f"{name}_change_high": (cell, high[m], unit),
            f"{name}_control_change": ((*cell, "control"), control[m], unit),
            f"{name}_control_mean": (cell, _mean(control[m]), unit),
            f"{name}_overall_change": (cell[2:], overall[m], unit),
            f"{name}_overall_low": (cell[2:], overall_low[m], unit),
            f"{name}_overall_high": (cell[2:], overall_high[m], unit),
            f"{name}_overall_control_change": ((*cell[2:], "control"), controls[m], unit),
        }
        if sign:
            p = _p(sign * change[m], sign * control[m])
            overall_p = _p(sign * overall[m], sign * controls[m])
            variables[f"{name}_control_p"] = (cell, p, _PROBABILITY)
            variables[f"{name}_overall_control_p"] = (cell[2:], overall_p, _PROBABILITY)
    share = {"units": "share of 1"}
    if np.isfinite(attention).any():
        looked = ("layer", "head", "fact")
        variables["attention_before"] = ((*cell[:3], *looked), attention, share)
        variables["attention_after"] = ((*cell, *looked), attention_after, share)
    return xr.Dataset(
        variables
        | {
            "shared_first_token": (("a", "b"), shared, {"units": "count"}),
            "heads": ("a", [str(own[lang]) for lang in languages]),
            "n_heads": ("a", [len(own[lang]) for lang in languages], {"units": "count"}),
        },
        coords={
            "a": languages,
            "b": languages,
            "order": labels,
            "setting": [str(setting) for setting in settings],
            "condition": ("setting", [setting.condition for setting in settings]),
            "gate": ("setting", [setting.gate for setting in settings]),
            "fact": ["A", "B"],
        },
        attrs=attrs,
    )


def _with_mean(values: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
    """With the mean along an axis appended to it."""
    mean = values.mean(axis=axis, keepdims=True)
    return np.concatenate([values, mean], axis=axis)


def _facts(
    attention: Float[np.ndarray, "layer head fact"], fact: int
) -> Float[np.ndarray, "layer head fact"]:
    """A's fact first."""
    return attention if fact == 0 else attention[..., ::-1]


def _mean(values: Float[np.ndarray, "..."], axes: int = 1) -> Float[np.ndarray, "..."]:
    """Mean over the last axes of what is finite; NaN where nothing is."""
    last = tuple(range(-axes, 0))
    finite = np.isfinite(values)
    count = finite.sum(axis=last)
    total = np.where(finite, values, 0.0).sum(axis=last)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _over_pairs(values: Float[np.ndarray, "..."], first: int) -> Float[np.ndarray, "..."]:
    """Mean over A and B, two axes from `first` on."""
    return _mean(np.moveaxis(values, (first, first + 1), (-2, -1)), 2)


def _resampled(
    changes: Float[np.ndarray, "... prompt"], jobs: Sequence[tuple[int, int]], seed: int
) -> Float[np.ndarray, "draw ..."]:
    """Means over occupations drawn with replacement; a draw without a finite change is NaN."""
    known, pairs = np.unique(np.array(jobs), return_inverse=True)
    n = len(known)
    if n < 3:
        # The one draw that has a prompt at all is the sample itself.
        return np.full((_RESAMPLES, *changes.shape[:-1]), np.nan)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES).astype(float)
    times = drawn[:, pairs.reshape(-1, 2)].prod(axis=-1)
    finite = np.isfinite(changes)
    total = np.tensordot(times, np.where(finite, changes, 0.0), axes=(1, -1))
    count = np.tensordot(times, finite.astype(float), axes=(1, -1))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _deviation(draws: Float[np.ndarray, "draw ..."]) -> Float[np.ndarray, "..."]:
    """Standard deviation over the draws that have a value."""
    last = np.moveaxis(draws, 0, -1)
    return np.sqrt(_mean((last - _mean(last)[..., None]) ** 2))


def _interval(
    draws: Float[np.ndarray, "draw ..."],
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Percentile interval, NaN where a quantity has no value."""
    flat = draws.reshape(len(draws), -1)
    ends = np.full((2, flat.shape[1]), np.nan)
    valued = np.isfinite(flat).any(axis=0)
    tails = [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]
    ends[:, valued] = np.nanquantile(flat[:, valued], tails, axis=0)
    low, high = ends.reshape(2, *draws.shape[1:])
    return low, high


def _p(
    towards_a: Float[np.ndarray, "..."], control: Float[np.ndarray, "... control"]
) -> Float[np.ndarray, "..."]:
    """One-sided p-value, NaN where there is nothing to compare."""
    beyond = (control >= towards_a[..., None] - 1e-12).sum(axis=-1)
    count = np.isfinite(control).sum(axis=-1)
    return np.where(np.isfinite(towards_a) & (count > 0), (1 + beyond) / (1 + count), np.nan)

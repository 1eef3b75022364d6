"""Answers to questions as data: means, and differences that are paired by question.

The dataset is of kind ``qa`` with ``condition`` (``untouched`` first) and ``example``; of every
measure M (`softmask.evaluation`):

    M, example_M             its mean ``[condition]``, its values ``[condition, example]``
    delta_M                  the difference to the untouched model, with ``_low`` and ``_high``
    versus_random_M          that to the mean of the random heads, where there are some (NaN for
                             these), which the interval treats as fixed

and ``reply``, ``answer_tokens``, ``gates``; for masks that were compared also ``trained`` (1 for
heads that were), ``train_set_loss`` ``[condition, when]``, before and after,
``train_loss`` ``[condition, step]`` and ``validation_loss`` ``[condition, check]``.

The 95% intervals of differences are from a bootstrap over contexts (`stats.bootstrap_interval`),
since questions on one paragraph are not independent of each other, and stay within the range of a
difference of shares. Fewer than 5 contexts have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float

from langheads.experiments.replies.generate import Reply
from langheads.experiments.softmask.evaluation import Asked
from langheads.experiments.softmask.training import answer_sizes
from langheads.heads.mask import HeadMask
from langheads.io import measures
from langheads.stats import bootstrap_interval, cluster_sums

MEASURES = ("accuracy", "exact_match", "f1", "answer_nll", *measures.TEXT_CHECKS, "reply_nll")
_UNITS = measures.units(MEASURES)
# Resampling fewer contexts says too little about others.
_FEWEST = 5


def summary(
    asked: Asked,
    found: Mapping[str, Float[np.ndarray, "condition example"]],
    replies: Sequence[Sequence[Reply]],
) -> xr.Dataset:
    """Dataset of kind ``qa``, see the top of this file."""
    contexts = [question.context_digest for question in asked.examples]
    variables: dict[str, Any] = {"context": ("example", contexts)}
    n_resamples, seed = asked.how.n_resamples, asked.attrs["seed"]
    for name in MEASURES:
        values, units = found[name], {"units": _UNITS[name]}
        variables[name] = ("condition", values.mean(axis=1), units)
        variables[f"example_{name}"] = (("condition", "example"), values, units)
        differences = [row - values[0] for row in values]
        variables |= _differences(name, "delta", differences, contexts, n_resamples, seed)
    # netCDF strings end at a NUL.
    texts = [[each.text.replace("\0", "�") for each in row] for row in replies]
    ones = torch.ones(asked.shape)
    gates = [ones if g is None else g.detach().cpu().float() for g in asked.gates.values()]
    variables |= {
        "answer_tokens": ("example", answer_sizes(asked.answers), {"units": "count"}),
        "reply": (("condition", "example"), np.array(texts, dtype=object)),
        "gates": (("condition", "layer", "head"), torch.stack(gates).numpy(), {"units": "1"}),
    }
    return xr.Dataset(
        variables,
        coords={
            "condition": list(asked.gates),
            "example": [question.id for question in asked.examples],
            "layer": np.arange(asked.shape[0]),
            "head": np.arange(asked.shape[1]),
        },
        attrs=asked.attrs,
    )


def versus_random(found: xr.Dataset, n_controls: int) -> dict[str, Any]:
    """Differences to the mean of the random heads, paired by question; NaN for these."""
    names = [f"random heads {k}" for k in range(n_controls)]
    n_resamples, seed = found.attrs["bootstraps"], found.attrs["seed"]
    variables: dict[str, Any] = {}
    for measure in MEASURES:
        values = found[f"example_{measure}"]
        random = values.sel(condition=names).mean("condition")
        rows = [
            None if name in names else (values.sel(condition=name) - random).values
            for name in found.condition.values.tolist()
        ]
        contexts = found.context.values.tolist()
        variables |= _differences(measure, "versus_random", rows, contexts, n_resamples, seed)
    return variables


def _differences(
    name: str,
    prefix: str,
    rows: Sequence[Float[np.ndarray, " example"] | None],
    contexts: Sequence[str],
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """``<prefix>_<name>``, ``_low`` and ``_high`` ``[condition]``; no interval of few contexts."""
    found = np.full((3, len(rows)), np.nan)
    for i, row in enumerate(rows):
        if row is not None:
            found[0, i] = row.mean()
            sums, sizes = cluster_sums(row, contexts)
            if len(sums) >= _FEWEST:
                found[1:, i] = bootstrap_interval(sums, sizes, n_resamples=n_resamples, seed=seed)
    if _UNITS[name].startswith("share"):
        found = found.clip(-1.0, 1.0)
    attrs = {"units": _UNITS[name], "sign": measures.MEASURES[name].sign}
    parts = zip(("", "_low", "_high"), found, strict=True)
    return {f"{prefix}_{name}{end}": ("condition", values, attrs) for end, values in parts}


def training_losses(masks: Mapping[str, HeadMask], shape: tuple[int, int]) -> dict[str, Any]:
    """The heads that each condition trained, and its losses; the untouched model first."""
    every = list(masks.values())
    first = every[0].losses
    units = {"units": "nats per answer token"}

    def losses(rows: list[list[float]], untouched: float = np.nan) -> Float[np.ndarray, "a b"]:
        return np.array([[untouched, *[np.nan] * (len(rows[0]) - 1)], *rows])

    whole = [[loss for _, loss in mask.losses["train_set"]] for mask in every]
    steps = [mask.losses["train"] for mask in every]
    trained = [np.zeros(shape), *(mask.heads.gates(2.0) - 1 for mask in every)]
    variables: dict[str, Any] = {
        "train_set_loss": (("condition", "when"), losses(whole, whole[0][0]), units),
        "when": ("when", ["before", "after"]),
        "trained": (("condition", "layer", "head"), np.stack(trained).astype(np.int8)),
        "train_loss": (("condition", "step"), losses(steps), units),
    }
    if checks := [check for check, _ in first["validation"]]:
        held_out = [[loss for _, loss in mask.losses["validation"]] for mask in every]
        variables["validation_loss"] = (("condition", "check"), losses(held_out), units)
        variables["check"] = ("check", checks, {"long_name": "steps taken"})
    return variables

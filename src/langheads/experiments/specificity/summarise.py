"""The specificity matrix as data: rises, controls and the test of the diagonal, from losses.

Formulas are in `specificity.experiment` (the matrix) and `langheads.stats` (its errors and
tests).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from langheads import stats
from langheads.heads import HeadSet
from langheads.io.results import document_counts
from langheads.text import Documents

GENERAL = "general"
Losses = Mapping[str, Float[np.ndarray, " doc"]]


def specificity(
    rows: Mapping[str, HeadSet],
    pools: Mapping[tuple[int, ...], list[HeadSet]],
    on: Losses,
    off: Mapping[tuple[str, HeadSet], Losses],
    documents: Mapping[str, Documents],
    baselines: Sequence[str],
    rng: np.random.Generator,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Arrange losses as the specificity matrix and test its diagonal.

    Args:
        rows: language (or `GENERAL`) -> its heads; empty sets give rows of NaN.
        pools: heads per layer -> random head sets of that profile, the controls of such rows.
        on: language of the text -> summed NLL of each document with nothing off, nats.
        off: (baseline, heads) -> the same with these heads off.
        documents: language of the text -> its documents.
        baselines: names of the baselines.
        rng: source of the null draws.
        attrs: provenance.

    Returns:
        See `langheads.ablate`.
    """
    languages = list(documents)
    sizes = {language: d.n_bytes for language, d in documents.items()}
    tokens = {language: d.n_predicted.sum() for language, d in documents.items()}
    n_controls = len(next(iter(pools.values())))

    def rises(losses: Losses) -> Float[np.ndarray, "text_of rise_and_se"]:
        return np.array([stats.paired_ratio(on[b], losses[b], sizes[b]) for b in languages])

    shape = (len(baselines), len(rows), len(languages))
    delta, delta_se, perplexity_off, control_p = (np.full(shape, np.nan) for _ in range(4))
    distinct = {
        row: [s != heads_off for s in pools[heads_off.per_layer()]] if heads_off else []
        for row, heads_off in rows.items()
    }
    control = np.full((*shape[:2], n_controls, shape[2]), np.nan)
    tests = []
    for i, name in enumerate(baselines):
        pooled = {
            profile: np.array([rises(off[name, s])[:, 0] for s in pool])
            for profile, pool in pools.items()
        }
        for j, (row, heads_off) in enumerate(rows.items()):
            if heads_off:
                losses = off[name, heads_off]
                delta[i, j], delta_se[i, j] = rises(losses).T
                perplexity_off[i, j] = [np.exp(losses[b].sum() / tokens[b]) for b in languages]
                control[i, j] = pooled[heads_off.per_layer()]
                control_p[i, j] = stats.at_least(delta[i, j], control[i, j][distinct[row]])
        tested = [
            j for j, (row, heads_off) in enumerate(rows.items()) if row != GENERAL and heads_off
        ]
        names = list(rows)
        tests.append(
            stats.diagonal_test(
                delta[i, tested],
                [languages.index(names[j]) for j in tested],
                control[i, tested],
                rng=rng,
            )
        )
    matrix = ("baseline", "heads_of", "text_of")
    per_byte, nats = {"units": "nats per byte"}, {"units": "exp(nats per token)"}

    def tested_value(key: str, units: str) -> tuple[str, list[float], dict[str, str]]:
        return "baseline", [test[key] for test in tests], {"units": units}

    return xr.Dataset(
        {
            "delta_nats_per_byte": (matrix, delta, per_byte),
            "delta_se": (matrix, delta_se, per_byte),
            "control_delta": (("baseline", "heads_of", "control", "text_of"), control, per_byte),
            "control_mean": (matrix, control.mean(axis=2), per_byte),
            "control_se": (matrix, control.std(axis=2, ddof=1) / np.sqrt(n_controls), per_byte),
            "control_p": (matrix, control_p, {"units": "probability"}),
            "n_controls": ("heads_of", [sum(d) for d in distinct.values()], {"units": "count"}),
            "perplexity_off": (matrix, perplexity_off, nats),
            "perplexity": ("text_of", [np.exp(on[b].sum() / tokens[b]) for b in languages], nats),
            "nats_per_byte": (
                "text_of",
                [on[b].sum() / sizes[b].sum() for b in languages],
                per_byte,
            ),
            "diagonal_share": tested_value("share", "share"),
            "diagonal_p": tested_value("share_p", "probability"),
            "own_minus_others": tested_value("margin", "nats per byte"),
            "own_minus_others_p": tested_value("margin_p", "probability"),
            "n_heads": ("heads_of", [len(h) for h in rows.values()], {"units": "count"}),
            "heads": ("heads_of", [str(h) for h in rows.values()]),
            **document_counts(documents, "text_of"),
        },
        coords={"baseline": baselines, "heads_of": list(rows), "text_of": languages},
        attrs=attrs,
    )

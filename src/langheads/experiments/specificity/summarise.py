"""The specificity matrix as data: delta NLL, controls and the test of the diagonal, from losses.

Formulas are in `specificity.experiment` (the matrix) and `langheads.stats` (its errors and
tests).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from langheads import stats
from langheads.experiments.language_heads import GENERAL
from langheads.experiments.specificity.diagonal import PER_BYTE, diagonal_test, in_units
from langheads.heads import HeadSet
from langheads.io.results import document_counts
from langheads.text import Documents

_MATRIX = ("baseline", "heads_of", "text_of")
_PER_BYTE, _PERPLEXITY = {"units": "nats per byte"}, {"units": "exp(nats per token)"}
# In nats per byte by baseline; with "_by_unit" after the name, in every unit.
_TESTED = {
    "diagonal_share": ("share", "share"),
    "diagonal_p": ("share_p", "probability"),
    "own_minus_others": ("margin", "nats per byte"),
    "own_minus_others_p": ("margin_p", "probability"),
    "null_matrices": ("draws", "count"),
}
_IN_ITS_UNIT = {"units": "as said by unit"}


@dataclass(frozen=True)
class Plan:
    """What is switched off.

    Attributes:
        rows: language, or `GENERAL`, -> its heads; empty sets give rows of NaN.
        controls: row -> random head sets beside it, different from it and from each other.
        baselines: names of the baselines.
    """

    rows: dict[str, HeadSet]
    controls: dict[str, list[HeadSet]]
    baselines: list[str]

    @property
    def conditions(self) -> list[tuple[str, HeadSet]]:
        """(baseline, heads), each once."""
        sets = [*filter(None, self.rows.values()), *itertools.chain(*self.controls.values())]
        return list(itertools.product(self.baselines, dict.fromkeys(sets)))


def specificity(
    plan: Plan,
    losses: Mapping[str, Float[np.ndarray, "doc condition"]],
    documents: Mapping[str, Documents],
    rng: np.random.Generator,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Arrange losses as the specificity matrix and test its diagonal; see `langheads.ablate`.

    Args:
        plan: heads, controls and baselines.
        losses: language of the text -> summed NLL of each document, nats: nothing off, then each of
            ``plan.conditions``.
        documents: language of the text -> its documents.
        rng: source of the null draws.
        attrs: provenance.
    """
    languages, rows = list(documents), list(plan.rows)
    sizes = {language: d.n_bytes for language, d in documents.items()}
    tokens = {language: d.n_predicted.sum() for language, d in documents.items()}
    changes, perplexities = {}, {}
    for k, condition in enumerate(plan.conditions, start=1):
        changes[condition] = np.array(
            [stats.paired_ratio(losses[b][:, 0], losses[b][:, k], sizes[b]) for b in languages]
        )
        perplexities[condition] = [np.exp(losses[b][:, k].sum() / tokens[b]) for b in languages]
    n_controls = [len(plan.controls[row]) for row in rows]
    shape = (len(plan.baselines), len(rows), len(languages))
    delta, delta_se, perplexity_off, control_p = (np.full(shape, np.nan) for _ in range(4))
    control_mean, control_se = np.full(shape, np.nan), np.full(shape, np.nan)
    control = np.full((*shape[:2], max(n_controls), shape[2]), np.nan)
    tested = [j for j, row in enumerate(rows) if row != GENERAL and plan.rows[row]]
    # Rows that are the same heads are one choice of heads.
    same = [list(plan.rows.values()).index(off) for off in plan.rows.values()]
    on = {language: of[:, 0].sum() for language, of in losses.items()}
    per_unit = {
        PER_BYTE: np.ones(len(languages)),
        "nats per token": np.array([sizes[b].sum() / tokens[b] for b in languages]),
        "share of the loss": np.array([sizes[b].sum() / on[b] for b in languages]),
    }
    if attrs.get("aligned"):
        per_unit["nats per document"] = np.array([sizes[b].mean() for b in languages])
    tests, by_unit = [], []
    for i, name in enumerate(plan.baselines):
        for j, (row, off) in enumerate(plan.rows.items()):
            if off:
                delta[i, j], delta_se[i, j] = changes[name, off].T
                perplexity_off[i, j] = perplexities[name, off]
                beside = control[i, j, : n_controls[j]]
                beside[:] = [changes[name, s][:, 0] for s in plan.controls[row]]
                control_p[i, j] = stats.permutation_p(delta[i, j], beside)
                if n_controls[j]:
                    control_mean[i, j] = beside.mean(axis=0)
                    control_se[i, j] = stats.standard_error(beside)
        own = [languages.index(rows[j]) for j in tested]
        units = in_units(np.concatenate([delta[i, :, None], control[i]], axis=1), per_unit)
        every = np.stack(list(units.values()))
        by_unit.append(every[:, :, 0])
        chosen, random = every[:, tested, 0], every[:, tested, 1:]
        tests.append(diagonal_test(chosen, own, random, rng=rng, same=[same[j] for j in tested]))
    per_byte = [on[b] / sizes[b].sum() for b in languages]
    perplexity = [np.exp(on[b] / tokens[b]) for b in languages]
    return xr.Dataset(
        {
            "delta_nats_per_byte": (_MATRIX, delta, _PER_BYTE),
            "delta_se": (_MATRIX, delta_se, _PER_BYTE),
            "control_delta": (("baseline", "heads_of", "control", "text_of"), control, _PER_BYTE),
            "control_mean": (_MATRIX, control_mean, _PER_BYTE),
            "control_se": (_MATRIX, control_se, _PER_BYTE),
            "control_p": (_MATRIX, control_p, {"units": "probability"}),
            "n_controls": ("heads_of", n_controls, {"units": "count"}),
            "perplexity_off": (_MATRIX, perplexity_off, _PERPLEXITY),
            "perplexity": ("text_of", perplexity, _PERPLEXITY),
            "nats_per_byte": ("text_of", per_byte, _PER_BYTE),
            "delta_by_unit": (("baseline", "unit", *_MATRIX[1:]), by_unit, _IN_ITS_UNIT),
            **_tests(tests),
            **(_paired(plan, losses, documents) if attrs.get("aligned") else {}),
            "n_heads": ("heads_of", [len(h) for h in plan.rows.values()], {"units": "count"}),
            "heads": ("heads_of", [str(h) for h in plan.rows.values()]),
            **document_counts(documents, "text_of"),
        },
        coords={
            "baseline": plan.baselines,
            "unit": list(units),
            "heads_of": rows,
            "text_of": languages,
        },
        attrs=attrs,
    )


def _tests(tests: list[dict[str, np.ndarray]]) -> dict[str, tuple[Any, ...]]:
    """Variables of the diagonal's statistics, from those of each baseline."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, (key, unit) in _TESTED.items():
        values = np.stack([test[key] for test in tests])
        found[name] = ("baseline", values[:, 0], {"units": unit})
        found[f"{name}_by_unit"] = (
            ("baseline", "unit"),
            values,
            _IN_ITS_UNIT if unit == PER_BYTE else {"units": unit},
        )
    del found["null_matrices_by_unit"]
    return found


def _paired(
    plan: Plan,
    losses: Mapping[str, Float[np.ndarray, "doc condition"]],
    documents: Mapping[str, Documents],
) -> dict[str, tuple[Any, ...]]:
    """Own minus the mean of the others, nats per document, over documents that all languages have.

    A document and its translations are one draw, so what makes it hard for all falls out.
    """
    kept = [set(d.index.tolist()) for d in documents.values()]
    same = sorted(set.intersection(*kept))
    rises = np.stack(
        [
            (of[:, 1:] - of[:, :1])[np.searchsorted(documents[language].index, same)]
            for language, of in losses.items()
        ]
    )
    shape = (len(plan.baselines), len(plan.rows))
    paired, error = np.full(shape, np.nan), np.full(shape, np.nan)
    for k, (baseline, off) in enumerate(plan.conditions):
        for j, (row, heads) in enumerate(plan.rows.items()):
            if heads == off and row in documents and len(documents) > 1:
                own = list(documents).index(row)
                difference = rises[own, :, k] - np.delete(rises[:, :, k], own, axis=0).mean(axis=0)
                i = plan.baselines.index(baseline)
                paired[i, j] = difference.mean()
                error[i, j] = stats.standard_error(difference)
    per_document = {"units": "nats per document"}
    return {
        "own_minus_others_paired": (_MATRIX[:2], paired, per_document),
        "own_minus_others_paired_se": (_MATRIX[:2], error, per_document),
        "paired_docs": ((), len(same), {"units": "count"}),
    }

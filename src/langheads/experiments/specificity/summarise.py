"""The specificity matrix as data: delta NLL, controls and the test of the diagonal, from losses.

Formulas are in `specificity.experiment` (the matrix), `specificity.diagonal` (its test) and
`langheads.stats` (errors).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from langheads import stats
from langheads.experiments.specificity.diagonal import (
    PER_BYTE,
    RANDOM_HEADS,
    diagonal_test,
    in_units,
    own_over_others,
)
from langheads.heads import GENERAL, HeadSet
from langheads.text import Documents
from langheads.text.documents import document_counts

_MATRIX = ("baseline", "heads_of", "text_of")
_PER_BYTE, _PERPLEXITY = {"units": "nats per byte"}, {"units": "exp(nats per token)"}
_BY_DOCUMENT = {"units": "exp(nats per token), mean over documents"}
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
    """The heads that are switched off."""

    rows: dict[str, HeadSet]  # language, or `GENERAL`, -> its heads; empty sets give rows of NaN
    # Row -> random head sets beside it, different from it and from each other.
    controls: dict[str, list[HeadSet]]
    baselines: list[str]  # names of the baselines
    anywhere: HeadSet | None = None  # random heads that match no row, or none

    @property
    def conditions(self) -> list[tuple[str, HeadSet]]:
        """(baseline, heads), each once."""
        single = filter(None, [*self.rows.values(), self.anywhere])
        sets = [*single, *itertools.chain(*self.controls.values())]
        return list(itertools.product(self.baselines, dict.fromkeys(sets)))


def specificity(
    plan: Plan,
    losses: Mapping[str, Float[np.ndarray, "doc condition"]],
    documents: Mapping[str, Documents],
    rng: np.random.Generator,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Arrange losses as the specificity matrix and test its diagonal; see `langheads.ablate`.

    `losses` are summed NLL of each document, nats: nothing off, then each of ``plan.conditions``.
    """
    languages, rows = list(documents), list(plan.rows)
    on = [losses[b][:, 0].sum() / d.n_bytes.sum() for b, d in documents.items()]
    every, error = _deltas(plan, losses, documents)
    perplexity = np.stack([_perplexities(losses[b], documents[b]) for b in languages], axis=1)
    at = {condition: k for k, condition in enumerate(plan.conditions, start=1)}
    perplexity_off = np.full((2, len(plan.baselines), len(rows), len(languages)), np.nan)
    for (i, name), (j, heads) in itertools.product(
        enumerate(plan.baselines), enumerate(plan.rows.values())
    ):
        if heads:
            perplexity_off[:, i, j] = perplexity[:, :, at[name, heads]]
    delta, control = every[:, :, 0], every[:, :, 1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without heads
        control_mean, control_se = np.nanmean(control, axis=2), np.nanstd(control, axis=2, ddof=1)
    n_controls = np.array([len(plan.controls[row]) for row in rows])
    per_unit = _per_unit(losses, documents, aligned=bool(attrs.get("aligned")))
    return xr.Dataset(
        {
            "delta_nats_per_byte": (_MATRIX, delta, _PER_BYTE),
            "delta_se": (_MATRIX, error[:, :, 0], _PER_BYTE),
            "control_delta": (("baseline", "heads_of", "control", "text_of"), control, _PER_BYTE),
            "control_mean": (_MATRIX, control_mean, _PER_BYTE),
            "control_se": (_MATRIX, control_se / np.sqrt(n_controls)[:, None], _PER_BYTE),
            "control_p": (_MATRIX, _beside(delta, control), {"units": "probability"}),
            "n_controls": ("heads_of", n_controls, {"units": "count"}),
            "perplexity_off": (_MATRIX, perplexity_off[0], _PERPLEXITY),
            "perplexity": ("text_of", perplexity[0, :, 0], _PERPLEXITY),
            "perplexity_by_document_off": (_MATRIX, perplexity_off[1], _BY_DOCUMENT),
            "perplexity_by_document": ("text_of", perplexity[1, :, 0], _BY_DOCUMENT),
            "nats_per_byte": ("text_of", on, _PER_BYTE),
            **_tested(plan, languages, every, error, per_unit, rng),
            **(_paired(plan, losses, documents) if attrs.get("aligned") else {}),
            **(_of_anywhere(plan, losses, documents) if plan.anywhere else {}),
            "n_heads": ("heads_of", [len(h) for h in plan.rows.values()], {"units": "count"}),
            "heads": ("heads_of", [str(h) for h in plan.rows.values()]),
            **document_counts(documents, "text_of"),
        },
        coords={
            "baseline": plan.baselines, "unit": [*per_unit, RANDOM_HEADS], "heads_of": rows,
            "text_of": languages,
        },
        attrs=attrs,
    )  # fmt: skip


def _per_unit(
    losses: Mapping[str, Float[np.ndarray, "doc condition"]],
    documents: Mapping[str, Documents],
    *,
    aligned: bool,
) -> dict[str, Float[np.ndarray, " text_of"]]:
    """Unit -> for each text, how many of it one nat per byte is."""
    size = np.array([d.n_bytes.sum() for d in documents.values()])
    per_unit = {
        PER_BYTE: np.ones(len(size)),
        "nats per token": size / [d.n_predicted.sum() for d in documents.values()],
        "share of the loss": size / [losses[b][:, 0].sum() for b in documents],
    }
    if aligned and not any(d.cut for d in documents.values()):
        per_unit["nats per document"] = size / [len(d) for d in documents.values()]
    return per_unit


def _perplexities(
    losses: Float[np.ndarray, "doc condition"], documents: Documents
) -> Float[np.ndarray, "2 condition"]:
    """Of all tokens together, and the mean over documents."""
    predicted = documents.n_predicted[:, None]
    of_all, by_document = losses.sum(axis=0) / predicted.sum(), losses / predicted
    return np.stack([np.exp(of_all), np.exp(by_document).mean(axis=0)])


def _of_anywhere(
    plan: Plan,
    losses: Mapping[str, Float[np.ndarray, "doc condition"]],
    documents: Mapping[str, Documents],
) -> dict[str, tuple[Any, ...]]:
    """Variables of the random heads that match no row."""
    at = [k for k, (_, off) in enumerate(plan.conditions, start=1) if off == plan.anywhere]
    deltas = [
        (of[:, at] - of[:, :1]).sum(0) / documents[b].n_bytes.sum() for b, of in losses.items()
    ]
    perplexity = [_perplexities(of[:, at], documents[b]) for b, of in losses.items()]
    of_all, by_document = np.moveaxis(np.stack(perplexity), 0, -1)
    where = ("baseline", "text_of")
    return {
        "random_heads": ((), str(plan.anywhere)),
        "random_heads_delta": (where, np.array(deltas).T, _PER_BYTE),
        "random_heads_perplexity_off": (where, of_all, _PERPLEXITY),
        "random_heads_perplexity_by_document_off": (where, by_document, _BY_DOCUMENT),
    }


def _deltas(
    plan: Plan,
    losses: Mapping[str, Float[np.ndarray, "doc condition"]],
    documents: Mapping[str, Documents],
) -> Float[np.ndarray, "of baseline heads_of choice text_of"]:
    """Delta NLL and its standard error, nats per byte, of each row's heads, then of its controls.

    NaN after the last control, and for rows without heads.
    """
    most = max(map(len, plan.controls.values()))
    shape = (len(plan.baselines), len(plan.rows), 1 + most, len(documents))
    found = np.full((2, *shape), np.nan)
    changes = {
        condition: np.array(
            [
                stats.paired_ratio(of[:, 0], of[:, k], documents[text].n_bytes)
                for text, of in losses.items()
            ]
        ).T
        for k, condition in enumerate(plan.conditions, start=1)
    }
    for i, name in enumerate(plan.baselines):
        for j, (row, heads) in enumerate(plan.rows.items()):
            for k, choice in enumerate([heads, *plan.controls[row]] if heads else []):
                found[:, i, j, k] = changes[name, choice]
    return found


def _beside(
    chosen: Float[np.ndarray, "baseline heads_of *values"],
    control: Float[np.ndarray, "baseline heads_of control *values"],
) -> Float[np.ndarray, "baseline heads_of *values"]:
    """p of each value under those of its row's controls."""
    return stats.permutation_p(chosen, np.moveaxis(control, 2, 0))


def _tested(
    plan: Plan,
    languages: Sequence[str],
    every: Float[np.ndarray, "baseline heads_of choice text_of"],
    error: Float[np.ndarray, "baseline heads_of choice text_of"],
    per_unit: Mapping[str, Float[np.ndarray, " text_of"]],
    rng: np.random.Generator,
) -> dict[str, tuple[Any, ...]]:
    """The matrix in every unit, the diagonal's statistics, and those of each language's row."""
    rows = list(plan.rows)
    tested = [j for j, row in enumerate(rows) if row != GENERAL and plan.rows[row]]
    own = [languages.index(rows[j]) for j in tested]
    # Rows that are the same heads are one choice of heads.
    same = [list(plan.rows.values()).index(plan.rows[rows[j]]) for j in tested]
    by_unit, tests = [], []
    excess = np.full(every.shape[:3], np.nan)
    for i in range(len(plan.baselines)):
        units = in_units(every[i], error[i], per_unit)
        of = np.stack(list(units.values()))
        by_unit.append(of[:, :, 0])
        tests.append(diagonal_test(of[:, tested, 0], own, of[:, tested, 1:], rng=rng, same=same))
        if len(languages) > 1:
            excess[i, tested] = own_over_others(units[RANDOM_HEADS][tested], own)
    specific = excess[:, :, 0]
    return {
        "delta_by_unit": (("baseline", "unit", *_MATRIX[1:]), by_unit, _IN_ITS_UNIT),
        **_tests(tests),
        "specific": (_MATRIX[:2], specific, {"units": "own minus others, share of the row"}),
        "specific_p": (_MATRIX[:2], _beside(specific, excess[:, :, 1:]), {"units": "probability"}),
    }


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

    A document and its translations are one draw, so difficulty that all share cancels. A document
    that is cut in any language is left out of all: its parts may not say the same.
    """
    whole = [
        {
            text
            for text, tokens in zip(of.index.tolist(), of.tokens, strict=True)
            if len(tokens) < of.max_tokens
        }
        for of in documents.values()
    ]
    same = sorted(set.intersection(*whole))
    delta = np.stack(
        [
            (of[:, 1:] - of[:, :1])[np.searchsorted(documents[language].index, same)]
            for language, of in losses.items()
        ]
    )
    at = {condition: k for k, condition in enumerate(plan.conditions)}
    most = max(map(len, plan.controls.values()))
    paired = np.full((2, len(plan.baselines), len(plan.rows), 1 + most), np.nan)
    for j, (row, heads) in enumerate(plan.rows.items()):
        if row not in documents or len(documents) < 2 or len(same) < 2:
            continue
        own = list(documents).index(row)
        difference = delta[own] - np.delete(delta, own, axis=0).mean(axis=0)
        for i, name in enumerate(plan.baselines):
            for k, choice in enumerate([heads, *plan.controls[row]] if heads else []):
                of = difference[:, at[name, choice]]
                paired[:, i, j, k] = of.mean(), stats.standard_error(of)
    (mean, controls), error = (paired[0, :, :, 0], paired[0, :, :, 1:]), paired[1, :, :, 0]
    per_document = {"units": "nats per document"}
    return {
        "own_minus_others_paired": (_MATRIX[:2], mean, per_document),
        "own_minus_others_paired_se": (_MATRIX[:2], error, per_document),
        "own_minus_others_paired_p": (
            _MATRIX[:2],
            _beside(mean, controls),
            {"units": "probability"},
        ),
        "paired_docs": ((), len(same), {"units": "count"}),
    }

"""Which score should be trusted? Scores held to exact knock-out, planted heads and deletion.

Per score and language:

    spearman           rank correlation with exact knock-out, over all heads
    slope              sum(s delta) / sum(delta^2): 1 where a score that estimates the rise delta is
                       right; `taylor` weights documents equally, the others weight tokens
    precision          share of planted heads among as many highest heads as are planted
    average_precision  of planted heads in the whole ranking
    decoys             share of planted decoys (large gradient, nothing lost without them) among the
                       highest heads, as many as the language has planted heads and decoys
    area               under the deletion curve, see `langheads.experiments.benchmark.deletion`
    split_half         reliability over documents, see `langheads.stats`

and what it cost: seconds, and forwards of every document.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from langheads import stats
from langheads.heads import HeadSet, planted_of, read_planted
from langheads.heads.same_model import require_same_model
from langheads.io.errors import InputError
from langheads.io.files import parse_json
from langheads.io.records import Number, parse
from langheads.io.results import load_result
from langheads.io.sources import made_from
from langheads.scores.registry import GRAD_ABS, SCORES

KNOCKOUT = "knockout"
MEASURES = {
    "spearman": "rank correlation",
    "slope": "nats predicted per nat lost",
    "precision": "share",
    "average_precision": "share",
    "decoys": "share",
    "area": "share of the NLL",
    "split_half": "reliability",
}
logger = logging.getLogger("langheads")


def compare(run: str | Path) -> xr.Dataset:
    """Compare all scores of a run folder with what is really lost.

    Args:
        run: folder with ``scores.nc`` and ``knockout.nc`` of the same documents; where they are
            there, also ``deletion.nc``, ``halves/scores-1.nc`` and ``halves/scores-2.nc`` (scores
            of two halves of the documents) and ``planted.json``.

    Returns:
        Dataset over ``score, language``: the measures of this module, NaN where the folder has
        nothing to say; per score ``seconds`` and ``forwards``. Exact knock-out is a score, too.

    Raises:
        InputError: a file is missing, or holds something else.
        ProvenanceError: results of different models.
    """
    run = Path(run)
    scores, exact = _scores_and_knockout(run)
    delta = exact.delta_nats_per_token.sel(baseline="zero")
    languages = _common_languages(scores, delta)
    known = {of.name: of for of in (*SCORES.values(), GRAD_ABS) if of.variable in scores}
    halves = [run / "halves" / f"scores-{i}.nc" for i in (1, 2)]
    parts = [load_result(path, "scores") for path in halves if all(map(Path.is_file, halves))]
    curves = run / "deletion.nc"
    deleted = load_result(curves, "deletion") if curves.is_file() else None
    areas = None if deleted is None else deleted.area
    planted = _planted(run / "planted.json", delta.shape[1:], scores.attrs)

    names = [KNOCKOUT, *known]
    table = {name: np.full((len(names), len(languages)), np.nan) for name in MEASURES}
    for i, name in enumerate(names):
        for j, language in enumerate(languages):
            lost = delta.sel(language=language).values
            of = known.get(name)
            values = lost if of is None else scores[of.variable].sel(language=language).values
            row = _measures(values, lost, estimates=of is None or of.estimates_knockout)
            row |= _on_planted(values, planted, language)
            if of is None:
                row["split_half"] = _split_knockout(exact, language)
            else:
                row |= _on_other_documents(of.variable, language, areas, parts)
            for measure, value in row.items():
                table[measure][i, j] = value
    seconds, forwards = _costs(scores, exact, names)
    variables: dict[str, Any] = {
        name: (("score", "language"), values, {"units": MEASURES[name]})
        for name, values in table.items()
    }
    variables["seconds"] = "score", seconds, {"units": "s, all languages"}
    variables["forwards"] = "score", forwards, {"units": "forwards of every document"}
    attrs = scores.attrs | {"kind": "comparison", "method": ",".join(names)}
    attrs |= made_from(scores.attrs, scores, exact, deleted)
    return xr.Dataset(variables, {"score": names, "language": languages}, attrs)


def _scores_and_knockout(run: Path) -> tuple[xr.Dataset, xr.Dataset]:
    """The two results that every comparison needs, of the same model."""
    scores = load_result(run / "scores.nc", "scores")
    exact = load_result(run / "knockout.nc", "knockout")
    require_same_model("knockout.nc", scores.attrs, exact.attrs)
    if "sample" in exact.attrs:
        raise InputError(
            f"{run / 'knockout.nc'} ran only a sample of the documents, and scores are held to "
            "exact knock-out of all; make it again without sample"
        )
    if "zero" not in exact.baseline.values:
        raise InputError(f"{run / 'knockout.nc'} has no zero baseline, which scores estimate")
    same = ("text_hash", "docs", "seed", "max_tokens")
    if any(scores.attrs.get(key) != exact.attrs.get(key) for key in same):
        logger.warning("scores and knock-outs are of different documents: their noise adds up")
    for dim in ("layer", "head"):
        if scores.sizes[dim] != exact.sizes[dim]:
            raise InputError(
                f"scores.nc has {scores.sizes[dim]} along {dim}, knockout.nc {exact.sizes[dim]}; "
                "make both with the same model"
            )
    return scores, exact


def _common_languages(scores: xr.Dataset, delta: xr.DataArray) -> list[str]:
    """The languages of both, each with a number for some head."""
    languages = [str(x) for x in scores.language.values if x in delta.language.values]
    if not languages:
        raise InputError("scores.nc and knockout.nc have no language in common")
    for language in languages:
        if not np.isfinite(delta.sel(language=language)).any():
            raise InputError(f"no head of language {language} in knockout.nc has a number")
    return languages


def _measures(values: np.ndarray, lost: np.ndarray, *, estimates: bool) -> dict[str, float]:
    """A score held to what is lost, of the same heads and documents."""
    found = {"spearman": stats.rank_correlation(values, lost)}
    if estimates:
        finite = np.isfinite(lost)
        found["slope"] = (values * lost)[finite].sum() / (lost[finite] ** 2).sum()
    return found


def _on_other_documents(
    variable: str, language: str, areas: xr.DataArray | None, parts: list[xr.Dataset]
) -> dict[str, float]:
    """Area under the deletion curve, and reliability over halves, where the run has them."""
    found = {}
    if areas is not None and variable in areas.score and language in areas.heads_of:
        found["area"] = areas.sel(score=variable, heads_of=language).item()
    if parts and all(variable in part and language in part.language for part in parts):
        of_halves = [part[variable].sel(language=language).values for part in parts]
        found["split_half"] = stats.split_half(*of_halves)
    return found


def as_text(comparison: xr.Dataset) -> str:
    """A row a score: means over languages, and the lowest rank correlation of any."""
    columns = {"slope": "slope", "prec": "precision", "AP": "average_precision"}
    columns |= {"decoys": "decoys", "area": "area", "split": "split_half"}
    rows = [["score", "spearman", "lowest", *columns, "fwd", "s"]]
    for method in map(str, comparison.score.values):
        of = comparison.sel(score=method)
        means = [of[name].mean() for name in columns.values()]
        numbers = [of.spearman.mean(), of.spearman.min(), *means]
        cells = ["-" if np.isnan(x) else f"{float(x):.3f}" for x in numbers]
        rows.append([method, *cells, f"{float(of.forwards):.0f}", f"{float(of.seconds):.1f}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def _planted(
    path: Path, shape: tuple[int, ...], model: Mapping[str, Any]
) -> dict[str, Mapping[str, HeadSet]]:
    """``planted`` and ``decoys``: language -> heads; empty without a file of this model."""
    if not path.is_file():
        return {}
    if not planted_of(path, model):
        logger.warning("%s is of another model and left out", path.name)
        return {}
    return dict(read_planted(path, (int(shape[0]), int(shape[1]))))


def _on_planted(
    values: np.ndarray, planted: Mapping[str, Mapping[str, HeadSet]], language: str
) -> dict[str, float]:
    if not np.isfinite(values).all():
        return {}
    shape = (values.shape[0], values.shape[1])
    empty = HeadSet([], shape)
    there = {kind: of.get(language, empty) for kind, of in planted.items()}
    if not any(there.values()):
        return {}
    masks = {kind: heads.gates(0.0) == 0 for kind, heads in there.items()}
    found = {
        "precision": stats.precision(values, masks["planted"]),
        "average_precision": stats.average_precision(values, masks["planted"]),
    }
    if masks["decoys"].any():
        size = int(masks["planted"].sum() + masks["decoys"].sum())
        highest = HeadSet.ranked(values, size)
        found["decoys"] = len(highest & there["decoys"]) / len(there["decoys"])
    return found


def _split_knockout(exact: xr.Dataset, language: str) -> float:
    """Exact knock-out of every second document against the others."""
    if "rise" not in exact:
        return float("nan")
    rise = exact.rise.sel(baseline="zero", language=language).values
    tokens = exact.doc_tokens.sel(language=language).values
    there = np.isfinite(tokens) & (tokens > 0)
    rise, tokens = rise[there], tokens[there]
    means = [rise[k::2].sum(axis=0) / tokens[k::2].sum() for k in (0, 1)]
    return stats.split_half(*means)


def _costs(
    scores: xr.Dataset, exact: xr.Dataset, methods: list[str]
) -> tuple[list[float], list[float]]:
    """Seconds, and forwards of every document, of each method."""
    told = parse_json(str(scores.attrs.get("seconds", "{}")), "seconds in scores.nc")
    passes = parse(dict[str, Number], told, "seconds in scores.nc")
    layers, heads = exact.sizes["layer"], exact.sizes["head"]
    seconds, forwards = [], []
    for method in methods:
        if method == KNOCKOUT:
            seconds.append(float(exact.attrs.get("seconds", np.nan)))
            # One full forward, and every head of layer l runs the blocks from l on.
            forwards.append(1 + heads * (layers + 1) / 2)
            continue
        score = SCORES.get(method, GRAD_ABS)
        seconds.append(sum((passes.get(one.name, float("nan")) for one in score.passes), 0.0))
        forwards.append(float(score.cost))
    return seconds, forwards

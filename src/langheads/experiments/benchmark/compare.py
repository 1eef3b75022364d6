"""Which score should be trusted? Scores held to exact knock-out, planted heads and deletion.

Per score and language:

    spearman           rank correlation with exact knock-out, over all heads
    spearman_large     the same over heads whose effect is beyond 2 standard errors
    behind             spearman of the score whose mean over languages is highest, less this one's
    top                share of the ten heads that lose most (of few heads a quarter) among the
                       highest ten
    slope              sum(s delta) / sum(delta^2): 1 where a score that estimates the exact delta
                       is right; `taylor` weights documents equally, the others weight tokens
    precision          share of planted heads among as many highest heads as are planted
    average_precision  of planted heads in the whole ranking
    decoys             share of planted decoys (large gradient, nothing lost without them) among the
                       highest heads, as many as the language has planted heads and decoys
    area               under the deletion curve, see `langheads.experiments.benchmark.deletion`
    split_half         reliability over documents, see `langheads.stats`
    drawn_mean, _sd    mean and standard deviation of spearman over seeds, of what draws

and what it cost: seconds, and forwards of every document, for this model and for one of 32 layers
of 32 heads. ``_low`` and ``_high`` are 95% intervals over documents, see `intervals`. Sampled
knock-out and certified top k stand beside the scores, with intervals over draws (`from_a_sample`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from langheads import stats
from langheads.experiments.benchmark.from_a_sample import from_a_sample, most_lost, scan_forwards
from langheads.experiments.benchmark.intervals import add_certainty, beyond_error
from langheads.heads import HeadSet, planted_of, read_planted
from langheads.heads.same_model import require_same_model
from langheads.io.errors import InputError, logger
from langheads.io.files import parse_json
from langheads.io.records import Number, parse
from langheads.io.results import load_result
from langheads.io.sources import made_from
from langheads.scores.registry import GRAD_ABS, SCORES, Score

KNOCKOUT = "knockout"
MEASURES = {
    "spearman": "rank correlation",
    "spearman_large": "rank correlation",
    "behind": "rank correlation",
    "top": "share",
    "slope": "nats predicted per nat lost",
    "precision": "share",
    "average_precision": "share",
    "decoys": "share",
    "area": "share of the NLL",
    "split_half": "reliability",
    "drawn_mean": "rank correlation",
    "drawn_sd": "rank correlation",
}
_ENDS = {f"_{end}": "rank correlation" for end in ("low", "high")}
MEASURES |= {
    f"{x}{e}": of for x in ("spearman", "spearman_large", "behind") for e, of in _ENDS.items()
}
_PER_SCORE = {
    f"mean_{x}{e}": "rank correlation" for x in ("spearman", "behind") for e in ("", *_ENDS)
}
_PER_SCORE |= {
    "seconds": "s, all languages",
    "forwards": "forwards of every document",
    "forwards_large": "forwards of every document, 32 layers of 32 heads",
}
_SAME = ("text_hash", "docs", "max_tokens", "seed")
Row = dict[str, float]


def compare(run: str | Path) -> xr.Dataset:
    """Compare all scores of a run folder with what is really lost.

    Args:
        run: folder with ``scores.nc`` and ``knockout.nc`` of the same documents; where they are
            there, also ``deletion.nc``, ``halves/scores-1.nc`` and ``halves/scores-2.nc`` (scores
            of two halves of the documents), ``seeds/scores-*.nc`` (with other seeds) and
            ``planted.json`` (``planted``: language -> heads; the model's ``weight_hash``).

    Returns:
        Dataset over ``score, language``: the measures of this module, NaN where the folder has
        nothing to say, ends of intervals as ``<name>_low`` and ``<name>_high``; per score the means
        over languages ``mean_spearman`` and ``mean_behind`` with theirs, ``seconds``, ``forwards``
        and ``forwards_large``. Exact knock-out is a score, too.

    Raises:
        InputError: a file is missing, or holds something else.
        ProvenanceError: results of different models.
    """
    run = Path(run)
    scores, exact = _scores_and_knockout(run)
    languages = _common_languages(scores, exact.delta_nats_per_token.sel(baseline="zero"))
    zero = exact.sel(baseline="zero", language=languages)
    known = {of.name: of for of in (*SCORES.values(), GRAD_ABS) if of.variable in scores}
    halves = [run / "halves" / f"scores-{i}.nc" for i in (1, 2)]
    parts = [load_result(path, "scores") for path in halves if all(map(Path.is_file, halves))]
    seeds = [scores, *_other_seeds(run / "seeds", scores)]
    deleted = load_result(at, "deletion") if (at := run / "deletion.nc").is_file() else None
    areas = None if deleted is None else deleted.area
    planted = _planted(run / "planted.json", zero.delta_nats_per_token.shape[1:], scores.attrs)

    rows: dict[str, dict[str, Row]] = {name: {} for name in (KNOCKOUT, *known)}
    for name, language in itertools.product(rows, languages):
        of, lost = known.get(name), zero.sel(language=language)
        delta = lost.delta_nats_per_token.values
        values = delta if of is None else scores[of.variable].sel(language=language).values
        row = _measures(values, lost, estimates=of is None or of.estimates_knockout)
        row |= _on_planted(values, planted, language)
        if of is None:
            row["split_half"] = _split_knockout(exact, language)
        else:
            row |= _on_other_documents(of.variable, language, areas, parts)
            row |= _over_seeds(of, seeds, language, delta) if of.draws else {}
        rows[name][language] = row
    per_score = _costs(scores, exact, list(rows))
    paired = all(scores.attrs.get(key) == exact.attrs.get(key) for key in _SAME)
    add_certainty(rows, per_score, scores, zero, list(known.values()), paired=paired)
    if paired and {"rise", "doc_tokens"} <= set(zero) and "gradient" in scores:
        for name, sampled in from_a_sample(scores, zero).items():
            rows[name] = sampled
            each = {key: [row.get(key, np.nan) for row in sampled.values()] for key in _PER_SCORE}
            per_score[name] = {key: float(np.mean(values)) for key, values in each.items()}
    attrs = scores.attrs | {"kind": "comparison", "method": ",".join(rows)}
    attrs |= made_from(scores.attrs, scores, exact, deleted)
    return _dataset(rows, per_score).assign_attrs(attrs)


def _dataset(rows: Mapping[str, Mapping[str, Row]], per_score: Mapping[str, Row]) -> xr.Dataset:
    """Every measure as a variable, NaN where there is none."""
    languages = list(rows[KNOCKOUT])
    variables: dict[str, Any] = {}
    for name, units in MEASURES.items():
        values = [[row[x].get(name, np.nan) for x in languages] for row in rows.values()]
        variables[name] = ("score", "language"), values, {"units": units}
    for name, units in _PER_SCORE.items():
        each = [of.get(name, np.nan) for of in per_score.values()]
        variables[name] = "score", each, {"units": units}
    return xr.Dataset(variables, {"score": list(rows), "language": languages})


def _other_seeds(folder: Path, scores: xr.Dataset) -> Iterator[xr.Dataset]:
    """Scores of the same documents, made with other seeds."""
    for path in sorted(folder.glob("scores-*.nc")):
        of = load_result(path, "scores")
        require_same_model(path.name, scores.attrs, of.attrs)
        # The hash of their texts is of these documents alone.
        if all(scores[x].equals(of[x]) for x in ("docs", "tokens", "bytes")):
            yield of
        else:
            logger.warning("%s is of different documents and left out", path.name)


def _over_seeds(of: Score, seeds: Sequence[xr.Dataset], language: str, lost: np.ndarray) -> Row:
    """Mean and standard deviation of the rank correlation over seeds, of several."""
    there = [seed[of.variable] for seed in seeds if of.variable in seed]
    ranks = [stats.rank_correlation(map_.sel(language=language).values, lost) for map_ in there]
    several = len(ranks) > 1
    return (
        {"drawn_mean": float(np.mean(ranks)), "drawn_sd": float(np.std(ranks, ddof=1))}
        if several
        else {}
    )


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
    if any(scores.attrs.get(key) != exact.attrs.get(key) for key in _SAME):
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


def _measures(values: np.ndarray, exact: xr.Dataset, *, estimates: bool) -> Row:
    """A score held to what is lost, of the same heads and documents."""
    lost, large = exact.delta_nats_per_token.values, beyond_error(exact)
    found = {"spearman": stats.rank_correlation(values, lost)}
    found["spearman_large"] = stats.rank_correlation(values[large], lost[large])
    found["top"] = stats.precision(np.where(np.isfinite(lost), values, np.nan), most_lost(lost))
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


def _costs(scores: xr.Dataset, exact: xr.Dataset, methods: list[str]) -> dict[str, Row]:
    """Seconds, and forwards of every document, of each method."""
    seconds = parse_json(str(scores.attrs.get("seconds", "{}")), "seconds in scores.nc")
    passes = parse(dict[str, Number], seconds, "seconds in scores.nc")
    layers, heads = exact.sizes["layer"], exact.sizes["head"]
    costs: dict[str, Row] = {}
    for method in methods:
        if method == KNOCKOUT:
            costs[method] = {
                "seconds": float(exact.attrs.get("seconds", np.nan)),
                "forwards": scan_forwards(layers, heads),
                "forwards_large": scan_forwards(),
            }
            continue
        score = SCORES.get(method, GRAD_ABS)
        seconds = sum((passes.get(one.name, float("nan")) for one in score.passes), 0.0)
        costs[method] = {"seconds": seconds, "forwards": score.cost, "forwards_large": score.cost}
    return costs

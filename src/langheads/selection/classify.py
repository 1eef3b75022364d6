"""Four classes of heads for two languages A and B, from exact knock-out (arXiv 2602.08625).

    A-specific   without the head A gets worse, and B is not shown to
    B-specific   the other way round
    agnostic     both get worse
    other        neither is shown to

The paper's thresholds are not public, so they are arguments here. With d the change that a result
holds (a task's score falls, a loss rises where a head matters), a language "drops" where the
percentile bootstrap interval of d at `level` lies wholly on the harmful side of `min_drop`:

    task   d = mean_i delta_i                    low, high = quantiles at level/2, 1 - level/2
    loss   d = sum_i rise_i / sum_i size_i       of d over resampled examples

Examples of a task are aligned: each resample takes the same ids in both languages, so the interval
of d[A] - d[B] is a paired one. Documents of a loss are not aligned: each language resamples its
own.

All resamples are one matrix of counts [bootstraps, example], and all their means one product with
[example, heads]: `scipy.stats.bootstrap` would copy every head's examples for every resample.

"A-specific" rests on B's interval not excluding `min_drop`, which is not evidence that B needs
nothing: fewer examples make more heads specific. `HeadClasses.distinct` names those specific heads
whose difference between the languages excludes 0. No correction for many heads is made;
`expected_by_chance` says how many a class would hold if no head mattered: an interval at `level`
lies above 0 for level/2 of such heads. Below about 20 examples percentile intervals are too narrow.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from langheads.heads import HeadSet
from langheads.heads.classes import HeadClasses, Interval
from langheads.io.arguments import MAX_RESAMPLES, check_seed
from langheads.io.errors import InputError

_LOSS = {"nats-per-byte": "doc_bytes", "nats-per-token": "doc_tokens"}
_PREFIX = "example_delta_"
Mask = Bool[np.ndarray, "layer head"]


def classify(
    knockout: xr.Dataset,
    languages: Iterable[str] = ("en", "hi"),
    *,
    measure: str | None = None,
    baseline: str | None = None,
    level: float = 0.05,
    min_drop: float = 0.0,
    bootstraps: int = 2000,
    seed: int = 0,
) -> HeadClasses:
    """Sort heads into A-specific, B-specific, agnostic and other.

    Args:
        knockout: what `knockout_task` or `knockout` gave.
        languages: A and B.
        measure: of a task one that was measured, by default the first; of a loss
            ``nats-per-byte`` (default) or ``nats-per-token``.
        baseline: which of the result's baselines; by default the first.
        level: the intervals cover 1 - level.
        min_drop: harm up to this much, in the measure's unit, is no drop; at least 0.
        bootstraps: resamples.
        seed: of the resamples.

    Returns:
        `HeadClasses`; heads that were not knocked out are in no class.

    Raises:
        InputError: another kind of result, a language, measure or baseline that it does not
            have, fewer than 2 examples, or a parameter out of range.

    Memory: 8 bytes x bootstraps x (heads + examples).

    Example:
        >>> classes = classify(load_result("knockout.nc"), ["en", "hi"])  # doctest: +SKIP
        >>> print(classes.counts, classes.specific["hi"])  # doctest: +SKIP
    """
    if not (0 < level < 1 and 0 <= min_drop < np.inf and 100 <= bootstraps <= MAX_RESAMPLES):
        raise InputError(
            f"level {level}, min_drop {min_drop}, bootstraps {bootstraps} asked for; allowed are "
            f"0 < level < 1, min_drop >= 0 and finite, bootstraps >= 100 and <= {MAX_RESAMPLES}"
        )
    kind = str(knockout.attrs.get("kind", "something else"))
    if kind not in ("knockout", "knockout-task"):
        raise InputError(f"expected a result of knockout, found {kind}")
    pair = tuple(languages)
    present = [str(name) for name in knockout.language.values]
    if len(set(pair)) != 2 or len(pair) != 2 or not set(pair) <= set(present):
        raise InputError(
            f"languages {', '.join(pair) or 'none'} asked for; give two of {', '.join(present)}"
        )
    baselines = [str(name) for name in knockout.baseline.values]
    baseline = baselines[0] if baseline is None else baseline
    if baseline not in baselines:
        raise InputError(f"baseline {baseline} asked for; the file has {', '.join(baselines)}")
    task = kind == "knockout-task"
    measure, variable = _measured(knockout, measure, task)
    chosen = knockout.sel(baseline=baseline)
    finite = np.isfinite(
        chosen[variable].sel(language=list(pair)).transpose(..., "layer", "head").values
    )
    mask = finite.any(axis=(0, 1))
    if not mask.any():
        raise InputError(
            f"no head has a number for {pair[0]} or {pair[1]}; make the knock-out again"
        )
    rng = np.random.default_rng(check_seed(seed))
    means, counts = [], {}
    weights = None
    for language in pair:
        values, sizes = _examples(chosen.sel(language=language), variable, measure, task, mask)
        counts[language] = n = len(values)
        if n < 2:
            raise InputError(f"language {language} has {n} examples; an interval needs at least 2")
        if weights is None or not task:
            resamples = rng.multinomial(n, np.full(n, 1 / n), size=bootstraps)
            weights = np.concatenate([np.ones((1, n)), resamples])
        # Row 0 is the whole sample.
        means.append((weights @ values) / (weights @ sizes)[:, None])
    named = {pair[0]: means[0], pair[1]: means[1], "difference": means[0] - means[1]}
    deltas = {name: _interval(values, level, mask) for name, values in named.items()}
    harm = -1 if task else 1
    drops = [
        (deltas[name][1] > min_drop) if harm > 0 else (deltas[name][2] < -min_drop) for name in pair
    ]
    effects = [harm * deltas[name][0] for name in pair]
    lower = np.minimum(*effects)
    return HeadClasses(
        specific={
            pair[0]: _falling(drops[0] & ~drops[1] & mask, effects[0]),
            pair[1]: _falling(drops[1] & ~drops[0] & mask, effects[1]),
        },
        agnostic=_falling(drops[0] & drops[1] & mask, lower),
        other=_falling(~drops[0] & ~drops[1] & mask, np.maximum(*effects)),
        deltas=deltas,
        harm=harm,
        model=str(knockout.attrs.get("model", "")),
        units=str(knockout[variable].units) if task else measure.replace("-", " "),
        rule={
            "measure": measure,
            "baseline": baseline,
            "level": level,
            "min_drop": min_drop,
            "bootstraps": bootstraps,
            "seed": seed,
            "examples": counts,
            "aligned": task,
        },
        provenance={key: _plain(value) for key, value in knockout.attrs.items()},
    )


def _measured(knockout: xr.Dataset, measure: str | None, task: bool) -> tuple[str, str]:
    """The measure and the variable that holds it example by example."""
    available: dict[str, str]
    if not task:
        if not {"rise", *_LOSS.values()} <= set(knockout.data_vars):
            raise InputError("this knockout has no rise of each document; make it again")
        available = dict.fromkeys(_LOSS, "rise")
    else:
        available = {
            str(name).removeprefix(_PREFIX).replace("_", "-"): str(name)
            for name in knockout.data_vars
            if str(name).startswith(_PREFIX)
        }
    measure = next(iter(available), "none") if measure is None else measure.replace("_", "-")
    if measure not in available:
        raise InputError(
            f"measure {measure} asked for; the file has {', '.join(available) or 'none'}"
        )
    return measure, available[measure]


def _examples(
    of_language: xr.Dataset, variable: str, measure: str, task: bool, mask: Mask
) -> tuple[Float[np.ndarray, "example heads"], Float[np.ndarray, " example"]]:
    """Changes of every example under the heads measured, and what their sum is divided by."""
    dim = "example" if task else "doc"
    values = of_language[variable].transpose(dim, "layer", "head").values[:, mask].astype(float)
    sizes = np.ones(len(values)) if task else of_language[_LOSS[measure]].values.astype(float)
    kept = sizes > 0  # a language with fewer documents is padded
    if not np.isfinite(values[kept]).all():
        raise InputError(
            f"{variable} of language {of_language.language.item()} is NaN or infinite for a head "
            "that was measured; make the knock-out again"
        )
    return values[kept], sizes[kept]


def _interval(means: Float[np.ndarray, "resample heads"], level: float, mask: Mask) -> Interval:
    found = np.full((3, *mask.shape), np.nan)
    found[:, mask] = np.stack(
        [means[0], *np.quantile(means[1:], [level / 2, 1 - level / 2], axis=0)]
    )
    return found


def _falling(where: Mask, effect: Float[np.ndarray, "layer head"]) -> HeadSet:
    heads = sorted(zip(*np.nonzero(where), strict=True), key=lambda head: -effect[head])
    return HeadSet([(int(layer), int(head)) for layer, head in heads], where.shape)


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value

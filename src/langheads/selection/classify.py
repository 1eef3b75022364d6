"""Four classes of heads for two languages A and B, from exact knock-out (arXiv 2602.08625).

    A-specific   without the head A gets worse, and B is shown to get little worse
    B-specific   the other way round
    agnostic     both get worse
    undecided    one gets worse; for the other neither harm nor little harm is shown
    other        neither is shown to get worse

The paper's thresholds are not public, so they are arguments here. With d the change that a result
holds (a task's score falls, ΔNLL is positive where a head matters), a language "drops" where the
percentile bootstrap interval of d at 1 - `alpha` lies wholly on the harmful side of `min_drop`:

    task   d = mean_i delta_i                    low, high = quantiles at alpha/2, 1 - alpha/2
    loss   d = sum_i rise_i / sum_i size_i       of d over resampled examples

Examples of a task are aligned: each resample takes the same contexts with all their questions in
both languages, so the interval of d[A] - d[B] is a paired one. So is that of documents of a loss
where the texts are translations of each other (`aligned` in `read_texts`) and none was skipped as
too short; otherwise each language resamples its own.

All resamples are one matrix of counts [resample, example], and all their means one product with
[example, heads]: `scipy.stats.bootstrap` would copy every head's examples for every resample.

"Little worse" must be shown, a lack of evidence is not enough: with harm h = d on the harmful side,

    h[B] - h[A] / min_ratio     has the upper end of its interval below 0, or
    h[B]                        has it at `min_drop` or below,

a test of non-inferiority at alpha/2, paired where examples are aligned. `HeadClasses.distinct`
names those specific heads whose difference between the languages excludes 0. There is no correction
for many heads; `expected_by_chance` says how many a class would hold at most if no head mattered:
an interval lies above 0 for alpha/2 of such heads. Percentile intervals of few examples (of few
contexts, where questions share one) are too narrow: each end is that of the t interval,
d -+ t(n - 1) sqrt(n / (n - 1)) sd over resamples, where that is wider.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from langheads import stats
from langheads.heads import HeadSet
from langheads.heads.classes import HeadClasses, Interval
from langheads.io.arguments import MAX_RESAMPLES, asked_languages, asked_name, check_seed
from langheads.io.errors import InputError
from langheads.io.results import plain_attrs
from langheads.io.sources import made_from

_LOSS = {"nats-per-byte": "doc_bytes", "nats-per-token": "doc_tokens"}
_PREFIX = "example_delta_"
Mask = Bool[np.ndarray, "layer head"]


def classify(
    knockout: xr.Dataset,
    languages: Iterable[str] = ("en", "hi"),
    *,
    measure: str | None = None,
    baseline: str | None = None,
    alpha: float = 0.05,
    min_drop: float = 0.0,
    min_ratio: float = 3.0,
    n_resamples: int = 2000,
    seed: int = 0,
) -> HeadClasses:
    """Sort heads into A-specific, B-specific, agnostic and other.

    Args:
        knockout: what `knockout_task` or `knockout` gave.
        languages: A and B.
        measure: for a task one that was measured, by default the first; for a loss
            ``nats-per-byte`` (default) or ``nats-per-token``.
        baseline: which of the result's baselines; by default the first.
        alpha: the intervals cover 1 - alpha.
        min_drop: harm up to this much, in the measure's unit, is no drop; at least 0.
        min_ratio: for a specific head, the other language's harm must be shown to be below its own
            divided by this; at least 1.
        n_resamples: how often the examples are resampled.
        seed: of these draws.

    Returns:
        `HeadClasses`; heads that were not knocked out are in no class.

    Raises:
        InputError: another kind of result, a language, measure or baseline that it does not
            have, fewer than 2 examples, or a parameter out of range.

    Memory: 8 bytes x n_resamples x (heads + examples).

    Example:
        >>> from langheads import load_result
        >>> classes = classify(load_result("run/knockout.nc"), ["en", "hi"])
        >>> sorted(classes.specific)
        ['en', 'hi']
    """
    if not (0 < alpha < 1 and 0 <= min_drop < np.inf and 100 <= n_resamples <= MAX_RESAMPLES):
        raise InputError(
            f"alpha {alpha}, min_drop {min_drop}, n_resamples {n_resamples} asked for; allowed are "
            f"0 < alpha < 1, min_drop >= 0 and finite, n_resamples >= 100 and <= {MAX_RESAMPLES}"
        )
    if not 1 <= min_ratio < np.inf:
        raise InputError(f"min_ratio {min_ratio} asked for; it is at least 1 and finite")
    a, b = pair = _pair(knockout, languages)
    baselines = [str(name) for name in knockout.baseline.values]
    baseline = baselines[0] if baseline is None else baseline
    asked_name("baseline", baseline, baselines, "the file has")
    task = knockout.attrs["kind"] == "knockout-task"
    measure, variable = _measured(knockout, measure, task)
    chosen = knockout.sel(baseline=baseline)
    values = chosen[variable].sel(language=list(pair)).transpose(..., "layer", "head").values
    mask = np.isfinite(values).any(axis=(0, 1))
    if not mask.any():
        raise InputError(f"no head has a number for {a} or {b}; make the knock-out again")
    examples = {x: _examples(chosen.sel(language=x), variable, measure, task, mask) for x in pair}
    rng = np.random.default_rng(check_seed(seed))
    aligned = task or _in_one_order(knockout, examples)
    means = _resampled_means(examples, n_resamples, rng, aligned=aligned)
    means["difference"] = means[a] - means[b]
    n = min(len(sizes) for _, sizes in examples.values())
    deltas = {name: _interval(of, alpha, mask, n) for name, of in means.items()}
    harm = -1 if task else 1
    effect = {x: harm * deltas[x][0] for x in pair}
    # The end of the interval that is nearer to no harm.
    drops = {x: mask & (harm * deltas[x][1 if harm > 0 else 2] > min_drop) for x in pair}
    little = {
        x: _little(harm * means[x], harm * means[y] / min_ratio, alpha, min_drop, mask, n)
        for x, y in ((a, b), (b, a))
    }
    only = {a: drops[a] & little[b] & ~drops[b], b: drops[b] & little[a] & ~drops[a]}
    either = np.minimum(effect[a], effect[b]), np.maximum(effect[a], effect[b])
    # Format 1 says level for alpha and bootstraps for n_resamples.
    rule = {
        "measure": measure, "baseline": baseline, "level": alpha, "min_drop": min_drop,
        "min_ratio": min_ratio, "bootstraps": n_resamples, "seed": seed,
        "examples": {x: int(of.sum()) if task else len(of) for x, (_, of) in examples.items()},
        "contexts": {x: len(sizes) for x, (_, sizes) in examples.items()},
        "aligned": aligned,
    }  # fmt: skip
    return HeadClasses(
        specific={x: _falling(only[x], effect[x]) for x in pair},
        agnostic=_falling(drops[a] & drops[b], either[0]),
        undecided=_falling((drops[a] ^ drops[b]) & ~only[a] & ~only[b], either[1]),
        other=_falling(mask & ~drops[a] & ~drops[b], either[1]),
        deltas=deltas,
        harm=harm,
        model=str(knockout.attrs.get("model", "")),
        units=str(knockout[variable].units) if task else measure.replace("-", " "),
        rule=rule,
        provenance=plain_attrs(knockout) | made_from(knockout.attrs, knockout),
    )


def _pair(knockout: xr.Dataset, languages: Iterable[str]) -> tuple[str, str]:
    """The two languages; refuses a result that is not of knock-outs, or lacks them."""
    kind = str(knockout.attrs.get("kind", "something else"))
    if kind not in ("knockout", "knockout-task"):
        raise InputError(f"expected a result of knockout, found {kind}")
    if "sample" in knockout.attrs:
        raise InputError(
            "this knockout ran only a sample of the documents, and classes need the delta NLL of "
            "every one; make it again without sample"
        )
    pair = asked_languages(languages) or ()
    present = [str(name) for name in knockout.language.values]
    if len(set(pair)) != 2 or len(pair) != 2 or not set(pair) <= set(present):
        raise InputError(
            f"languages {', '.join(pair) or 'none'} asked for; give two of {', '.join(present)}"
        )
    return pair[0], pair[1]


def _measured(knockout: xr.Dataset, measure: str | None, task: bool) -> tuple[str, str]:
    """The measure and the variable that holds it example by example."""
    available: dict[str, str]
    if not task:
        if not {"rise", *_LOSS.values()} <= set(knockout.data_vars):
            raise InputError("this knockout has no delta NLL of each document; make it again")
        available = dict.fromkeys(_LOSS, "rise")
    else:
        available = {
            str(name).removeprefix(_PREFIX).replace("_", "-"): str(name)
            for name in knockout.data_vars
            if str(name).startswith(_PREFIX)
        }
    measure = next(iter(available), "none") if measure is None else measure.replace("_", "-")
    asked_name("measure", measure, available, "the file has")
    return measure, available[measure]


def _examples(
    of_language: xr.Dataset, variable: str, measure: str, task: bool, mask: Mask
) -> tuple[Float[np.ndarray, "example heads"], Float[np.ndarray, " example"]]:
    """Changes of every example under the heads measured, and the sizes to divide their sum by."""
    dim = "example" if task else "doc"
    values = of_language[variable].transpose(dim, "layer", "head").values[:, mask].astype(float)
    sizes = np.ones(len(values)) if task else of_language[_LOSS[measure]].values.astype(float)
    kept = sizes > 0  # a language with fewer documents is padded
    language = of_language.language.item()
    if not np.isfinite(values[kept]).all():
        raise InputError(
            f"{variable} of language {language} is NaN or infinite for a head "
            "that was measured; make the knock-out again"
        )
    values, sizes = values[kept], sizes[kept]
    if task and "context" in of_language:
        values, sizes = stats.cluster_sums(values, of_language.context.values)
    if (n := len(sizes)) < 2:
        raise InputError(f"language {language} has {n} examples; an interval needs at least 2")
    return values, sizes


def _in_one_order(
    knockout: xr.Dataset, examples: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> bool:
    """Whether document n of a loss is the same in every language."""
    # After a skipped one the others of its language would be a place too early.
    whole = not np.any(knockout.get("skipped", 1))
    return (
        whole and "aligned" in knockout.attrs and len({len(x) for x, _ in examples.values()}) == 1
    )


def _resampled_means(
    examples: Mapping[str, tuple[np.ndarray, np.ndarray]],
    n_resamples: int,
    rng: np.random.Generator,
    *,
    aligned: bool,
) -> dict[str, Float[np.ndarray, "resample heads"]]:
    """Language -> sum of changes over sum of sizes: of the whole sample, then of each resample."""
    means, weights = {}, None
    for language, (values, sizes) in examples.items():
        if weights is None or not aligned:
            drawn = stats.bootstrap_weights(len(values), n_resamples, rng)
            weights = np.concatenate([np.ones((1, len(values))), drawn])
        means[language] = (weights @ values) / (weights @ sizes)[:, None]
    return means


def _interval(
    means: Float[np.ndarray, "resample heads"], alpha: float, mask: Mask, n: int
) -> Interval:
    """The wider of the percentile and the t interval of n examples, at each end."""
    mean, draws = means[0], means[1:]
    ends = stats.percentile_interval(draws, alpha)
    found = np.full((3, *mask.shape), np.nan)
    # `bootstrap_interval` has n_resamples - 1 in its sd; of 100 or more resamples that is all one.
    found[:, mask] = np.stack([mean, *stats.widened(mean, ends, draws.std(axis=0), n, alpha)])
    return found


def _little(
    harm: Float[np.ndarray, "resample heads"],
    margin: Float[np.ndarray, "resample heads"],
    alpha: float,
    min_drop: float,
    mask: Mask,
    n: int,
) -> Mask:
    """Heads whose harm is shown to be below the margin, or not above `min_drop`."""
    below = _interval(harm - margin, alpha, mask, n)[2] < 0
    return mask & (below | (_interval(harm, alpha, mask, n)[2] <= min_drop))


def _falling(where: Mask, effect: Float[np.ndarray, "layer head"]) -> HeadSet:
    return HeadSet([head for head in HeadSet.ranked(effect) if where[head]], where.shape)

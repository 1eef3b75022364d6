"""Exact knock-out: what each language loses without each head, and how well scores foretell it."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from jaxtyping import Float

from langheads import stats
from langheads.scores.registry import LABELS
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures.benchmark import score_against_knockout
from langheads.view.figures.effects import effect_map
from langheads.view.figures.overlap import language_overlap
from langheads.view.figures.scores import scored_methods
from langheads.view.figures.style import names
from langheads.view.head_effects import (
    MAP,
    OVERLAP,
    effect_tables,
    effects_of,
    main_first,
    strongest_words,
)
from langheads.view.table import Table, decimal, mean

_SCATTER = (
    "How to read it: each dot is a head; on a rising line the score foretells what is lost. "
    "Spearman's rank correlation is 1 at best."
)
_SAME_TEXTS = ("text_hash", "docs", "seed", "max_tokens")


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    """Map of losses a baseline; the chosen score against them; what languages share."""
    for baseline in names(result, "baseline"):
        figure = effect_map(result, baseline=baseline, heads=run.heads)
        yield Picture(figure, MAP.replace("score", "loss"))
    for name, scores in run.of("scores").items():
        methods = main_first(scored_methods(scores), run.heads)
        if methods and _common(scores, result) and "zero" in names(result, "baseline"):
            caption = f"{_SCATTER} The score is that of {name}."
            if any(scores.attrs.get(key) != result.attrs.get(key) for key in _SAME_TEXTS):
                caption += " It was made on other documents than the knock-outs, which adds noise."
            yield Picture(score_against_knockout(scores, result, methods[0]), caption)
    if result.sizes["language"] > 1:
        yield Picture(language_overlap(result), OVERLAP)


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    """The heads that cost most, and every score's rank correlation with what is lost."""
    yield from effect_tables(result, run, ["delta_nats_per_byte"])
    for name, scores in run.of("scores").items():
        languages, found = _common(scores, result), _correlations(scores, result)
        rows = [
            [method.replace("_", "-"), *map(decimal, row), decimal(mean(row))]
            for method, row in found.items()
        ]
        if rows and languages:
            caption = f"Spearman rank correlation of the scores in {name} with exact knock-out."
            yield Table(caption, ["score", *languages, "mean"], rows)


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    """The worst heads, and how well the best of the scores foretells them."""
    how = "Exact knock-out"
    if "sample" in result.attrs:
        how = "Knock-out on a sample of the documents"
        yield (
            f"The effects of heads are estimates: {int((result.sampled > 0).sum())} of "
            f"{int(result.docs.sum())} documents were run without each head, the others stand in "
            "by their gradients."
        )
    yield from strongest_words(result, f"{how}: the head that each language loses most without")
    for name, scores in run.of("scores").items():
        every = _correlations(scores, result)
        found = {method: row for method, row in every.items() if np.isfinite(row).any()}
        if found:
            best = max(found, key=lambda method: mean(found[method]))
            row = found[best]
            yield (
                f"Of the scores in {name}, {LABELS[best]} ranks heads most as exact knock-out "
                f"does: Spearman {decimal(mean(row))} on average ({decimal(np.nanmin(row))} to "
                f"{decimal(np.nanmax(row))})."
            )


def _common(scores: xr.Dataset, exact: xr.Dataset) -> list[str]:
    """Languages of both; none where the effects are estimates, which scores are not held to."""
    if "sample" in exact.attrs:
        return []
    return [x for x in names(exact, "language") if x in names(scores, "language")]


def _correlations(
    scores: xr.Dataset, exact: xr.Dataset
) -> dict[str, Float[np.ndarray, " language"]]:
    """Method -> its rank correlation with zero ablation in each language that both have."""
    languages = _common(scores, exact)
    if "zero" not in names(exact, "baseline"):
        return dict.fromkeys(scored_methods(scores), np.full(len(languages), np.nan))
    lost = {x: effects_of(exact, "delta_nats_per_token", "zero", x) for x in languages}
    return {
        method: np.array(
            [
                stats.rank_correlation(effects_of(scores, method, None, x), lost[x])
                for x in languages
            ]
        )
        for method in scored_methods(scores)
    }


KIND = Kind(
    "knockout",
    "Exact knock-out",
    (
        "Shows: what is really lost when one head alone is switched off, and how well scores "
        "foretell it.",
        "Does not show: what heads do together. Where one head stands in for another, both "
        "look idle here; and a head that hurts is needed, not proven to serve one language.",
    ),
    _pictures,
    _tables,
    _summary,
)

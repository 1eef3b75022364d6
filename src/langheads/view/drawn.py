"""The figures of the report for results about heads, with the words below them."""

from __future__ import annotations

from typing import Any

import xarray as xr

from langheads.heads import LanguageHeads
from langheads.heads.classes import HeadClasses
from langheads.view.contents import RunFolder
from langheads.view.figures.benchmark import (
    deletion_curves,
    score_against_knockout,
    score_benchmark,
)
from langheads.view.figures.classes import head_classes
from langheads.view.figures.effects import effect_map, mapped
from langheads.view.figures.overlap import language_overlap
from langheads.view.figures.scores import head_map, layer_profile, scored_methods
from langheads.view.figures.specificity import specificity_matrix
from langheads.view.figures.style import LEVEL, METHODS, names
from langheads.view.sections import Picture

_MAP = (
    "How to read it: each square is one head, layers from bottom to top; the same colour is the "
    "same score in every panel, and marks show the heads that were chosen."
)
_LAYERS = (
    "How to read it: each row is a language and adds up to 1; bright cells are the layers that "
    "hold most of its score (left) and of its chosen heads (right)."
)
_MATRIX = (
    "How to read it: each row switches off one language's heads, each column is a language's text; "
    "heads that carry a language show as a strong outlined diagonal on the left and as nothing on "
    "the right, where random heads are off."
)
_OVERLAP = (
    "How to read it: neighbours rank heads alike. Languages that share most of their best heads "
    "have general heads there, or scores that do not tell languages apart."
)
_SCATTER = (
    "How to read it: each dot is a head; on a rising line the score foretells what is lost. "
    "Spearman's rank correlation is 1 at best."
)


def ablation(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """The specificity matrix, a baseline each."""
    caption = (
        f"{_MATRIX} A triangle: the rise is above that of random heads, p < {LEVEL} (one-sided); "
        "by chance about 1 cell in 20 has one."
        if "control_p" in result
        else f"{_MATRIX} This file has no p-value for single cells, so none is marked."
    )
    return [Picture(specificity_matrix(result, b), caption) for b in names(result, "baseline")]


def scores(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """Map and depth of each score, that which heads were chosen by first; what languages share."""
    pictures = []
    methods = main_first(scored_methods(result), run.heads)
    for method in methods:
        figure = head_map(result, method, run.heads, run.planted)
        pictures.append(Picture(figure, f"{METHODS[method]}. {_MAP}"))
        figure = layer_profile(result, method, run.heads)
        pictures.append(Picture(figure, f"{METHODS[method]}. {_LAYERS}"))
    if methods and result.sizes["language"] > 1:
        pictures.append(Picture(language_overlap(result, methods[0]), _OVERLAP))
    return pictures


def knockout(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """Map of losses a baseline; the chosen score against them; what languages share."""
    pictures = [
        Picture(effect_map(result, baseline=b, heads=run.heads), _MAP.replace("score", "loss"))
        for b in names(result, "baseline")
    ]
    for name, of in run.of("scores").items():
        methods = main_first(scored_methods(of), run.heads)
        common = set(names(of, "language")) & set(names(result, "language"))
        if methods and common and "zero" in names(result, "baseline"):
            figure = score_against_knockout(of, result, methods[0])
            caption = f"{_SCATTER} The score is that of {name}."
            same = ("text_hash", "docs", "seed", "max_tokens")
            if any(of.attrs.get(key) != result.attrs.get(key) for key in same):
                caption += " It was made on other documents than the knock-outs, which adds noise."
            pictures.append(Picture(figure, caption))
    if result.sizes["language"] > 1:
        pictures.append(Picture(language_overlap(result), _OVERLAP))
    return pictures


def comparison(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """The benchmark."""
    caption = (
        "How to read it: each mark is a language, the bar their mean; further right is better."
    )
    return [Picture(score_benchmark(result), caption)]


def deletion(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """The curves."""
    caption = (
        "How to read it: further right more heads are off, further up more is lost. A click in the "
        "legend hides a score."
    )
    return [Picture(deletion_curves(result), caption)]


def classes(result: HeadClasses, run: RunFolder) -> list[Picture]:
    """The two changes of every head."""
    caption = (
        "How to read it: each dot is a head; the shaded corner is where both languages are harmed, "
        "and beside it only one is. Crosses are intervals."
    )
    return [Picture(head_classes(result), caption)]


def effects(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """A map of each measure, under each baseline."""
    caption = (
        "How to read it: each square is one head, layers from bottom to top; the scale beside it "
        "says what a colour is, and what was not measured is grey. Marks show the chosen heads."
    )
    baselines: list[Any] = names(result, "baseline") if "baseline" in result.dims else [None]
    return [
        Picture(effect_map(result, variable, baseline=baseline, heads=run.heads), caption)
        for variable in mapped(result)
        for baseline in baselines
    ]


def main_first(methods: list[str], heads: LanguageHeads | None) -> list[str]:
    """The score that the heads were chosen by comes first."""
    main = str(heads.rule.get("score", "")).replace("-", "_") if heads else ""
    return sorted(methods, key=lambda method: method != main)

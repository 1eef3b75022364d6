"""From scores to heads: the count rule of LAHIS (arXiv 2511.07498, section 3.3), or a test.

With s[l,h] a language's scores of the L x H heads of a model:

    list      = heads with s > the `quantile` of s                       (paper: 0.96)
    general   = heads on the lists of at least `general_at` languages    (paper: 4)
    specific  = list without general, by falling score, cut to n heads
    n         = floor(L * H * share)          (paper: 0.02 for perplexity and masks, 0.01 for
                                               generation and transfer)

Departure: n is at least 1, since 2% of a model with fewer than 50 heads is less than one head.

It is a rule without a test: it finds "specific" heads in noise as well. How many heads each list
really has is stored with the rule; whether they carry the language is for `ablate` to say.

The contrast rule takes for specific what `selection.contrast` finds by its test, by falling
contrast, as many as there are; general heads are those of the count rule that are specific to no
language.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from typing import Any

import numpy as np
import xarray as xr

from langheads.heads import Head, HeadSet, LanguageHeads
from langheads.io.errors import InputError
from langheads.scores.formulas import MeanProduct
from langheads.scores.registry import SCORES, found, names
from langheads.selection.contrast import contrast

RULES = ("count", "contrast")
logger = logging.getLogger("langheads")


def select(
    scores: xr.Dataset,
    *,
    rule: str = "count",
    score: str = "lahis",
    quantile: float = 0.96,
    general_at: int = 4,
    share: float = 0.02,
    times: float = 3.0,
    level: float = 0.05,
    permutations: int = 9999,
    seed: int = 0,
) -> LanguageHeads:
    """Language-specific and language-general heads from a scores file.

    Args:
        scores: what `score` gave.
        rule: ``count`` or ``contrast``.
        score: which score, e.g. ``lahis`` or ``taylor``.
        quantile: heads above this quantile of their language's scores are on its list, 0 to 1.
        general_at: a head on at least so many lists is general.
        share: at most this share of all heads, and at least one head, is kept a language
            (count rule).
        times: how many times the other languages' mean share a specific head's share must be
            (contrast rule).
        level: q-values below this count (contrast rule).
        permutations: of the language labels (contrast rule); a lone specific head needs about 20 a
            head and language.
        seed: of the contrast rule's permutations and bootstrap.

    Returns:
        `LanguageHeads`; with the count rule ``rule["listed"]`` has the length of each language's
        list before general heads were taken out; with the contrast rule ``rule["claims"]`` has what
        each claim rests on.

    Raises:
        InputError: unknown rule or score, one that is no number, or a parameter out of range.

    Example:
        >>> heads = select(scores, quantile=0.9, share=0.05)  # doctest: +SKIP
        >>> print(heads.specific["zh"], "| general:", heads.general)  # doctest: +SKIP
    """
    if rule not in RULES:
        raise InputError(f"rule {rule!r} asked for; allowed are {', '.join(RULES)}")
    name = score.replace("-", "_")
    if scores.attrs.get("kind") != "scores":
        raise InputError(
            f"expected a scores file, found {scores.attrs.get('kind', 'something else')}"
        )
    available = [
        str(v)
        for v in scores.data_vars
        if scores[v].dims == ("language", "layer", "head") and not str(v).endswith("_se")
    ]
    if name not in available:
        raise InputError(f"score {score!r} asked for; the file has {', '.join(available)}")
    if not (0 <= quantile < 1 and 0 < share <= 1 and general_at >= 1):
        raise InputError(
            f"quantile {quantile}, share {share}, general_at {general_at} asked for; allowed are "
            "0 <= quantile < 1, 0 < share <= 1, general_at >= 1"
        )
    if not (1 <= times < math.inf and 0 < level < 1 and permutations >= 1):
        raise InputError(
            f"times {times}, level {level}, permutations {permutations} asked for; allowed are "
            "times >= 1, 0 < level < 1, permutations >= 1"
        )
    for language in scores.language.values:
        # One NaN would make a quantile NaN, and nothing is above that.
        if wrong := int((~np.isfinite(scores[name].sel(language=language))).sum()):
            raise InputError(
                f"score {score} of language {language} is NaN or infinite for {wrong} heads; make "
                "the scores again"
            )
    shape = (scores.sizes["layer"], scores.sizes["head"])
    lists = {
        str(language): _above_quantile(scores[name].sel(language=language).values, quantile)
        for language in scores.language.values
    }
    if general_at > len(lists):
        logger.warning(
            "no head can be general: %d languages, general heads are on at least %d lists",
            len(lists),
            general_at,
        )
    counts = Counter(head for heads in lists.values() for head in heads)
    # Most widely shared first; ties in the order of the first list that has them.
    general = [head for head, count in counts.most_common() if count >= general_at]
    settings: dict[str, Any] = {"name": rule, "score": score, "quantile": quantile}
    if rule == "count":
        # Rounded first: 100 * 0.29 is a little below 29.
        n = max(1, math.floor(round(shape[0] * shape[1] * share, 9)))
        specific = {
            language: [head for head in heads if head not in general][:n]
            for language, heads in lists.items()
        }
        settings |= {"general_at": general_at, "share": share, "n": n}
        settings |= {"listed": {language: len(heads) for language, heads in lists.items()}}
    else:
        specific, claims = _by_contrast(scores, score, times, level, permutations, seed)
        claimed = {head for heads in specific.values() for head in heads}
        general = [head for head in general if head not in claimed]
        settings |= {"general_at": general_at, "times": times, "level": level}
        settings |= {"permutations": permutations, "seed": seed, "claims": claims}
    return LanguageHeads(
        specific={language: HeadSet(heads, shape) for language, heads in specific.items()},
        general=HeadSet(general, shape),
        model=str(scores.attrs["model"]),
        rule=settings,
        provenance={key: _plain(value) for key, value in scores.attrs.items()},
    )


def _by_contrast(
    scores: xr.Dataset, score: str, times: float, level: float, permutations: int, seed: int
) -> tuple[dict[str, list[Head]], dict[str, dict[str, dict[str, float]]]]:
    """Language -> heads that the contrast rule finds specific, by falling contrast.

    And language -> head -> what the claim rests on: share, contrast with standard error, lower end
    of the interval, p, q.
    """
    if "gradient" not in scores:
        raise InputError(
            "the contrast rule needs every document's gradients; make the scores again with them"
        )
    formula = _formula(score)
    if formula is None:
        known = ", ".join(name for name in names() if _formula(name))
        raise InputError(f"score {score!r} asked for; the contrast rule knows {known}")
    gradients = {}
    for language in map(str, scores.language.values):
        g = scores.gradient.sel(language=language).values.astype(float)
        gradients[language] = g[np.isfinite(g).all(axis=(1, 2))]
    tested = contrast(gradients, formula, times=times, permutations=permutations, seed=seed)
    where = tested.specific(level)
    specific = {
        language: [head for head in _falling(tested.contrast[i]) if where[i, head.layer, head.head]]
        for i, language in enumerate(gradients)
    }
    claims = {
        language: {
            str(head): {
                name: round(float(getattr(tested, name)[i, head.layer, head.head]), 6)
                for name in ("share", "contrast", "se", "low", "p", "q")
            }
            for head in specific[language]
        }
        for i, language in enumerate(gradients)
    }
    return specific, claims


def _formula(score: str) -> MeanProduct | None:
    """A score's formula of each document's gradients, if it is one."""
    of = SCORES.get(score)
    formula = found(of.run) if of and of.run else None
    return formula if isinstance(formula, MeanProduct) else None


def _above_quantile(values: np.ndarray, quantile: float) -> list[Head]:
    """Heads above the quantile, by falling score."""
    threshold = np.quantile(values, quantile)
    return [head for head in _falling(values) if values[head] > threshold]


def _falling(values: np.ndarray) -> list[Head]:
    """All heads, by falling value."""
    order = np.argsort(-values, axis=None, kind="stable")
    layers, heads = np.unravel_index(order, values.shape)
    return [Head(int(layer), int(head)) for layer, head in zip(layers, heads, strict=True)]


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value

"""From scores to heads: the count rule of LAHIS (arXiv 2511.07498, section 3.3), or a test.

With s[l,h] a language's scores of the L x H heads of a model:

    list      = heads with s > the `quantile` of s                       (paper: 0.96)
    general   = heads on the lists of at least `general_at` languages    (paper: 4)
    specific  = list without general, by falling score, cut to n heads
    n         = floor(L * H * share)          (paper: 0.02 for perplexity and masks, 0.01 for
                                               generation and transfer)

Departure: n is at least 1, since 2% of a model with fewer than 50 heads is less than one head.

It is a rule without a test: it finds "specific" heads in noise as well. The real length of each
list is stored with the rule; whether its heads carry the language is a question for `ablate`.

The contrast rule calls specific all heads that the test of `selection.contrast` finds, by falling
contrast; general heads are those of the count rule that are specific to no language.

The rule ``top`` takes the n heads of the highest score, general ones among them, as the paper's
released code does for soft masks; it calls no head general.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from langheads.heads import Head, HeadSet, LanguageHeads
from langheads.io.arguments import asked_name
from langheads.io.errors import InputError, logger
from langheads.io.results import plain_attrs
from langheads.io.sources import made_from
from langheads.scores.formulas import MeanProduct
from langheads.scores.registry import SCORES, found, names
from langheads.selection.contrast import contrast

RULES = ("count", "contrast", "top")


def select(
    scores: xr.Dataset,
    *,
    rule: str = "count",
    score: str = "lahis",
    quantile: float = 0.96,
    general_at: int = 4,
    share: float = 0.02,
    min_ratio: float = 3.0,
    alpha: float = 0.05,
    permutations: int = 9999,
    seed: int = 0,
) -> LanguageHeads:
    """Language-specific and language-general heads from a scores file.

    Args:
        scores: what `score` gave.
        rule: ``count``, ``contrast`` or ``top``.
        score: which score, e.g. ``lahis`` or ``taylor``.
        quantile: heads above this quantile of their language's scores are on its list, 0 to 1.
        general_at: a head on at least so many lists is general.
        share: at most this share of all heads, and at least one head, is kept a language
            (count rule, top).
        min_ratio: how many times the other languages' mean share a specific head's share must be
            (contrast rule).
        alpha: q-values below this count (contrast rule).
        permutations: of the language labels (contrast rule); a lone specific head needs about 20 a
            head and language.
        seed: of the contrast rule's permutations and bootstrap.

    Returns:
        `LanguageHeads`; with the count rule ``rule["listed"]`` has the length of each language's
        list before general heads were removed; with the contrast rule ``rule["claims"]`` has the
        numbers behind each claim.

    Raises:
        InputError: unknown rule or score, NaN scores, or a parameter out of range.

    Example:
        >>> heads = select(scores, quantile=0.9, share=0.05)
        >>> len(heads.specific["zh"])
        2
    """
    asked_name("rule", rule, RULES)
    values = _values(scores, score)
    if not (0 <= quantile < 1 and 0 < share <= 1 and general_at >= 1):
        raise InputError(
            f"quantile {quantile}, share {share}, general_at {general_at} asked for; allowed are "
            "0 <= quantile < 1, 0 < share <= 1, general_at >= 1"
        )
    if not (1 <= min_ratio < math.inf and 0 < alpha < 1 and permutations >= 1):
        raise InputError(
            f"min_ratio {min_ratio}, alpha {alpha}, permutations {permutations} asked for; allowed "
            "are min_ratio >= 1, 0 < alpha < 1, permutations >= 1"
        )
    shape = (scores.sizes["layer"], scores.sizes["head"])
    settings: dict[str, Any] = {"name": rule, "score": score}
    if rule == "top":
        lists, general = {x: list(HeadSet.ranked(of)) for x, of in values.items()}, []
    else:
        lists = {language: _above_quantile(of, quantile) for language, of in values.items()}
        general = _general(lists, general_at)
        settings |= {"quantile": quantile, "general_at": general_at}
    if rule != "contrast":
        # Rounded first: 100 * 0.29 is a little below 29.
        n = max(1, math.floor(round(shape[0] * shape[1] * share, 9)))
        specific = {x: [head for head in of if head not in general][:n] for x, of in lists.items()}
        settings |= {"share": share, "n": n}
        if rule == "count":
            settings |= {"listed": {language: len(heads) for language, heads in lists.items()}}
    else:
        how = {"min_ratio": min_ratio, "permutations": permutations, "seed": seed}
        specific, claims = _by_contrast(scores, score, alpha, **how)
        claimed = {head for heads in specific.values() for head in heads}
        general = [head for head in general if head not in claimed]
        # Format 1 says times for min_ratio and level for alpha.
        settings |= {"times": min_ratio, "level": alpha}
        settings |= {"permutations": permutations, "seed": seed, "claims": claims}
    return LanguageHeads(
        specific={language: HeadSet(heads, shape) for language, heads in specific.items()},
        general=HeadSet(general, shape),
        model=str(scores.attrs["model"]),
        rule=settings,
        provenance=plain_attrs(scores) | made_from(scores.attrs, scores),
    )


def _values(scores: xr.Dataset, score: str) -> dict[str, np.ndarray]:
    """Language -> the score of every head; refuses scores that cannot be ranked."""
    if scores.attrs.get("kind") != "scores":
        raise InputError(
            f"expected a scores file, found {scores.attrs.get('kind', 'something else')}"
        )
    maps = [str(v) for v in scores.data_vars if scores[v].dims == ("language", "layer", "head")]
    available = [v for v in maps if not v.endswith("_se")]
    if (name := score.replace("-", "_")) not in available:
        name = asked_name("score", score, available, "the file has")
    values = {str(x): scores[name].sel(language=x).values for x in scores.language.values}
    for language, of in values.items():
        # One NaN would make a quantile NaN, and nothing is above it.
        if wrong := int((~np.isfinite(of)).sum()):
            raise InputError(
                f"score {score} of language {language} is NaN or infinite for {wrong} heads; make "
                "the scores again"
            )
    return values


def _general(lists: Mapping[str, list[Head]], general_at: int) -> list[Head]:
    """Heads on so many lists, most widely shared first; ties in the order of the first list."""
    if general_at > len(lists):
        message = "no head can be general: %d languages, general heads are on at least %d lists"
        logger.warning(message, len(lists), general_at)
    counts = Counter(head for heads in lists.values() for head in heads)
    return [head for head, count in counts.most_common() if count >= general_at]


def _by_contrast(
    scores: xr.Dataset, score: str, alpha: float, **how: Any
) -> tuple[dict[str, list[Head]], dict[str, dict[str, dict[str, float]]]]:
    """Language -> heads that the contrast rule finds specific, by falling contrast.

    And language -> head -> the numbers of the claim: share, contrast with standard error, lower end
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
    tested = contrast(gradients, formula, **how)
    where = tested.specific(alpha)
    specific, claims = {}, {}
    for i, language in enumerate(gradients):
        specific[language] = [h for h in HeadSet.ranked(tested.contrast[i]) if where[i][h]]
        claims[language] = {
            str(head): {
                name: round(float(getattr(tested, name)[i][head]), 6)
                for name in ("share", "contrast", "se", "low", "p", "q")
            }
            for head in specific[language]
        }
    return specific, claims


def _formula(score: str) -> MeanProduct | None:
    """A score's formula of each document's gradients, if it has one."""
    of = SCORES.get(score)
    formula = found(of.run) if of and of.run else None
    return formula if isinstance(formula, MeanProduct) else None


def _above_quantile(values: np.ndarray, quantile: float) -> list[Head]:
    """Heads above the quantile, by falling score."""
    threshold = np.quantile(values, quantile)
    return [head for head in HeadSet.ranked(values) if values[head] > threshold]

"""Scores that are formulas of gate gradients: LAHIS (arXiv 2511.07498) and first-order Taylor.

With g_i = d NLL_i / d m, the gradient of document i's mean NLL (nats per predicted token) with
respect to the gates m, at m = 1:

    lahis            mean_i(|g_i m|) * mean_i[g_i m < 0]
    lahis-paper      mean_i(|g_i m| * [g_i < 0])
    taylor           -mean_i(g_i m)          first-order change in NLL when the head is removed
    grad_abs         mean_i(|g_i|)
    helpful          mean_i[g_i < 0]

`lahis` is the formula of the authors' released code with the gate held at 1 (their script changes
the gate: `scores.gradient.lahis_sequential`); `lahis-paper` is the one in the paper's text
(section 3.2), which puts the indicator inside the mean. The control ``random`` is here, too.

Standard errors are over documents, from each score's influence function (delta method).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from langheads import stats
from langheads.scores.registry import OfLanguage

Gradients = Float[np.ndarray, "doc layer head"]
HeadMap = Float[np.ndarray, "layer head"]


@dataclass(frozen=True)
class MeanProduct:
    """A score that is a product of means over documents, ``prod_k mean_i f_k(g_i)``."""

    # The functions f_k, each ``[doc, layer, head]`` -> ``[doc, layer, head]``.
    features: tuple[Callable[[Gradients], Gradients], ...]

    def __call__(self, languages: Mapping[str, OfLanguage]) -> dict[str, tuple[HeadMap, HeadMap]]:
        """Language -> the score and its standard error, from the gradient pass."""
        of = {language: given.rows["gradient"] for language, given in languages.items()}
        return {language: (self.values(g), self.standard_error(g)) for language, g in of.items()}

    def values(self, gradients: Gradients) -> HeadMap:
        """The score, ``[layer, head]``."""
        return math.prod(f(gradients).mean(axis=0) for f in self.features)

    def influence(self, gradients: Gradients) -> Gradients:
        """Each document's influence on the value, ``[doc, layer, head]``, by the product rule."""
        parts = [f(gradients) for f in self.features]
        means = [part.mean(axis=0) for part in parts]
        return sum(
            (part - mean) * math.prod(means[:k] + means[k + 1 :], start=np.ones_like(mean))
            for k, (part, mean) in enumerate(zip(parts, means, strict=True))
        )

    def standard_error(self, gradients: Gradients) -> HeadMap:
        """Standard error over documents, ``[layer, head]``; NaN for a single document."""
        return stats.standard_error(self.influence(gradients))


def _helpful(g: Gradients) -> Gradients:
    return (g < 0).astype(float)


LAHIS = MeanProduct((np.abs, _helpful))
LAHIS_PAPER = MeanProduct((lambda g: np.abs(g) * _helpful(g),))
TAYLOR = MeanProduct((np.negative,))
GRAD_ABS = MeanProduct((np.abs,))
HELPFUL = MeanProduct((_helpful,))


def random_score(languages: Mapping[str, OfLanguage]) -> dict[str, HeadMap]:
    """Uniform random numbers from 0 to 1, different in each language."""
    return {
        language: np.random.default_rng(of.seed).random(of.rows["gradient"].shape[1:])
        for language, of in languages.items()
    }

"""Contrast rule: which heads matter more to one language than to the others, by a test.

With a score s (see `langheads.scores.formulas`), languages A, B, heads h, N languages:

    share[A,h]    = s[A,h] / sum_h' |s[A,h']|         languages differ in scale, so compare shares
    others[A,h]   = mean_{B != A} share[B,h]
    contrast[A,h] = share[A,h] - others[A,h]

p: the documents' language labels are permuted (each language keeps its number of documents) and
all contrasts computed again; p = (1 + #{permuted >= observed}) / (1 + permutations), one-sided.
q: Benjamini-Hochberg over all heads and languages. Interval: documents are drawn with replacement
within each language; the 2.5th percentile of share - times * max(others, 0). A signed score can
have negative shares; a head that every language is better off without is no language's head.

A head is specific to A where q < level and that percentile lies above 0.

Departure from a test alone: with enough documents every head differs between languages by a
little, which the permutation test finds, and rightly so. `times` (default 3) asks that A leans on
the head at least so many times as much as the others do on average; times = 1 is the test alone.
The default was raised from 2 to 3 after 2 had made 16 claims for the 14 planted heads of a demo
model, so the demo's precision is no independent evidence for this value.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int
from scipy.stats import false_discovery_control

from langheads.io.arguments import check_seed
from langheads.io.errors import InputError
from langheads.scores.formulas import MeanProduct

# Permutations in one matrix product.
_AT_ONCE = 64
# What the warning of too few permutations is about.
_LEVEL = 0.05
logger = logging.getLogger("langheads")


@dataclass(frozen=True)
class Contrast:
    """Contrasts of every language and head, all arrays ``[language, layer, head]``.

    Attributes:
        share: share of the language's summed score, 0 to 1 (signed for signed scores).
        contrast: share minus the other languages' mean share.
        se: standard error of the contrast over documents, by the same bootstrap.
        low: lower end of the 95% bootstrap interval of share - times * max(others, 0).
        p: one-sided permutation p-value.
        q: the same after Benjamini-Hochberg over all heads and languages.
    """

    share: Float[np.ndarray, "language layer head"]
    contrast: Float[np.ndarray, "language layer head"]
    se: Float[np.ndarray, "language layer head"]
    low: Float[np.ndarray, "language layer head"]
    p: Float[np.ndarray, "language layer head"]
    q: Float[np.ndarray, "language layer head"]

    def specific(self, level: float) -> Bool[np.ndarray, "language layer head"]:
        """Where a head is specific to a language."""
        return (self.q < level) & (self.low > 0)


def contrast(
    gradients: Mapping[str, Float[np.ndarray, "_ layer head"]],
    score: MeanProduct,
    *,
    times: float = 3.0,
    permutations: int = 9999,
    bootstraps: int = 1000,
    seed: int = 0,
) -> Contrast:
    """Test every head of every language against the other languages.

    Args:
        gradients: language -> gate gradients ``[doc, layer, head]``, see `gate_gradients`.
        score: which score they make.
        times: how many times the others' mean share the own share must be.
        permutations: of the language labels; p is never below 1 / (1 + permutations).
        bootstraps: resamples of the documents.
        seed: of both.

    Raises:
        InputError: fewer than two languages, a language with fewer than two documents, or a seed
            out of range.

    Memory: a few arrays ``[doc, layer * head]`` over all documents.
    """
    counts = np.array([len(g) for g in gradients.values()])
    if len(counts) < 2 or counts.min() < 2:
        raise InputError(
            "the contrast rule compares languages: it needs at least 2, with at least 2 documents "
            f"each; found {', '.join(f'{k} ({len(g)})' for k, g in gradients.items())}"
        )
    pooled = np.concatenate(list(gradients.values()))
    shape = pooled.shape[1:]
    tests = len(counts) * math.prod(shape)
    if tests > _LEVEL * (1 + permutations):
        logger.warning(
            "%d tests, %d permutations: the smallest p is %.1g, so that a single specific head "
            "cannot reach q < %g; %d permutations would do",
            tests,
            permutations,
            1 / (1 + permutations),
            _LEVEL,
            math.ceil(tests / _LEVEL),
        )
    features = [rearrange(f(pooled), "doc layer head -> doc (layer head)") for f in score.features]
    labels = np.repeat(np.arange(len(counts)), counts)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rng = np.random.default_rng(check_seed(seed))

    share = _shares(features, labels, counts)
    observed = share - _others(share)
    beyond = np.zeros_like(observed)
    for start in range(0, permutations, _AT_ONCE):
        drawn_labels = [rng.permutation(labels) for _ in range(min(_AT_ONCE, permutations - start))]
        for permuted in _shares_of_labels(features, np.stack(drawn_labels), counts):
            beyond += permuted - _others(permuted) >= observed
    p = (1 + beyond) / (1 + permutations)

    margins = np.empty((bootstraps, *observed.shape))
    contrasts = np.empty_like(margins)
    for i in range(bootstraps):
        drawn = np.concatenate(
            [
                rng.integers(first, first + n, size=n)
                for first, n in zip(starts, counts, strict=True)
            ]
        )
        resampled = _shares(features, labels, counts, drawn)
        others = _others(resampled)
        margins[i] = resampled - times * np.maximum(others, 0)
        contrasts[i] = resampled - others
    low = np.quantile(margins, 0.025, axis=0)
    se = contrasts.std(axis=0, ddof=1)

    def maps(array: np.ndarray) -> np.ndarray:
        return array.reshape(len(counts), *shape)

    q = false_discovery_control(p, axis=None, method="bh")
    return Contrast(*map(maps, (share, observed, se, low, p, q)))


def _shares(
    features: Sequence[Float[np.ndarray, "doc heads"]],
    labels: Int[np.ndarray, " doc"],
    counts: Int[np.ndarray, " language"],
    drawn: Int[np.ndarray, " doc"] | None = None,
) -> Float[np.ndarray, "language heads"]:
    """Each language's score as shares of its sum, for documents labelled with languages.

    With `drawn`, document drawn[i] stands in the place of document i.
    """
    members = np.zeros((len(counts), len(labels)))
    # A document drawn twice counts twice.
    np.add.at(members, (labels, np.arange(len(labels)) if drawn is None else drawn), 1.0)
    return _shares_of_members(features, members, counts)


def _shares_of_labels(
    features: Sequence[Float[np.ndarray, "doc heads"]],
    labels: Int[np.ndarray, "permutation doc"],
    counts: Int[np.ndarray, " language"],
) -> Float[np.ndarray, "permutation language heads"]:
    """The same for many labellings of the documents at once."""
    members = labels[:, None, :] == np.arange(len(counts))[None, :, None]
    return _shares_of_members(features, members.astype(float), counts)


def _shares_of_members(
    features: Sequence[Float[np.ndarray, "doc heads"]],
    members: Float[np.ndarray, "*permutation language doc"],
    counts: Int[np.ndarray, " language"],
) -> Float[np.ndarray, "*permutation language heads"]:
    means = [members @ feature / counts[:, None] for feature in features]
    scores = math.prod(means[1:], start=means[0])
    total = np.abs(scores).sum(axis=-1, keepdims=True)
    return scores / np.where(total > 0, total, 1.0)


def _others(share: Float[np.ndarray, "language heads"]) -> Float[np.ndarray, "language heads"]:
    """Mean share of the other languages."""
    return (share.sum(axis=0) - share) / (len(share) - 1)

"""Contrast rule: which heads matter more to one language than to the others, by a test.

With a score s (see `langheads.scores.formulas`), languages A, B, heads h, N languages:

    share[A,h]    = s[A,h] / sum_h' |s[A,h']|         languages differ in scale, so compare shares
    others[A,h]   = mean_{B != A} share[B,h]
    contrast[A,h] = share[A,h] - others[A,h]

Each document i of A has a pseudo-value, the share and the document's influence on it (delta method
for the score, see `MeanProduct.influence`, and for the division by the language's own total):

    x[A,i,h] = share[A,h] + (f[i,h] - share[A,h] sum_h' sign(s[A,h']) f[i,h']) / sum_h' |s[A,h']|

Their mean over the n_A documents is the share; with their variance var[A,h], v = var / n,

    T[A,h] = contrast[A,h] / sqrt(v[A,h] + sum_{B != A} v[B,h] / (N - 1)^2)

which is biased where documents are skewed; with k[A,h] the skewness of the contrast (third moments
added up as variances are, those of the others with - 1 / (N - 1)^3) it is corrected to

    T + k T^2 / 3 + k^2 T^3 / 27 + k / 6               (Hall 1992, JRSS B 54)

Departure: k is multiplied by k^2 / (k^2 + 6 / n_A^2), since for normal documents it is noise, of
variance 6 / n_A^2.

p: the language labels of the x are permuted over all documents (each language keeps its number of
documents) and T computed again with the variances of the permuted groups;
p = (1 + #{permuted >= observed}) / (1 + permutations), one-sided. Without dividing by the
standard error, the null has the same noise in every language, and a noisier language is claimed for
too often (at .05 in 7 to 15% of draws; now 3 to 6%). Studentised, p is valid for "the contrast is
0" with many documents, whatever the languages' noise (Janssen 1997, Statistics & Probability
Letters 36; Chung and Romano 2013, Annals of Statistics 41). Departure: x is computed once, not
again in every permutation, so that every language is brought to its own scale before labels are
exchanged; p is therefore approximate even where labels are exchangeable.

q: Benjamini-Hochberg over all heads and languages. Of the heads with q < alpha, on average at most
the share alpha have no contrast (labels exchangeable, or at least contrast <= 0), where the
p-values are independent or positively dependent. Shares add up to 1, so that heads of one language
are slightly negatively dependent, for which BH is not proven; simulations (see the tests) found no
excess. q says nothing about the size of a contrast.

low: the lower end of share - min_ratio * max(others, 0), which is the smaller of share and
share - min_ratio * others; so the smaller of their lower ends, each an estimate minus t standard
errors (v as above; degrees of freedom by Welch and Satterthwaite). The t quantile is that of
1 - 0.05 / (heads * languages) (Bonferroni), so that a run claims any head of no more than
`min_ratio` in at most 5% of cases, however the heads depend on each other (simulated: .4 to 1.4%
for 20 such heads of 100). A bootstrap would need some 100,000 draws for so far a tail, and its
maximum over heads depends on the head with the fewest helped documents. Far below 0 and with very
skewed documents the end is too close, which makes no claim. A signed score can have negative
shares; a head that every language is better off without is no language's head.

Limits: in the far tail, which BH over many heads uses, p of a language with much noisier documents
is too small (.005 is reached in up to 78 of 10,000 tests of no contrast with 12 or 48
documents); very skewed documents of one language (log-normal, sd 1.2) bring .058 to .063 at .05 in
the others (.067 to .073 without k). Texts that are translations of each other (`aligned`) are not
paired: where a sentence affects a head equally in all languages, errors are fewer (of 5% nominal
3.9% without it, 1.7% where it makes half of the variance, none at .9), and so are finds. And the
rule separates texts, not languages: of two sorts of English text (dialogue and stories) it claims a
head that is used six times as much in one, correctly, but for no language. The claim about a
language needs proof by ablation, on texts that differ in nothing else.

A head is specific to A where q < alpha and `low` lies above 0.

Departure from a test alone: with enough documents every head differs between languages by a
little, which the permutation test correctly finds. `min_ratio` (default 3) requires that A uses the
head at least so many times as much as the others do on average; 1 is the test alone.
The default was raised from 2 to 3 after 2 had made 16 claims for the 14 planted heads of a demo
model, so the demo's precision is no independent evidence for this value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy
from einops import rearrange
from jaxtyping import Bool, Float, Int

from langheads import stats
from langheads.io.arguments import check_seed
from langheads.io.errors import InputError, logger
from langheads.scores.formulas import MeanProduct
from langheads.stats import ALPHA

# Numbers in one array of a chunk of permutations: 8 MiB, which a cache holds.
_AT_ONCE = 2**20
# Share of the pooled variance; less is rounding.
_LEAST_VARIANCE = 1e-12

Heads = Float[np.ndarray, "*permutation language heads"]
Maps = Float[np.ndarray, "language layer head"]


@dataclass(frozen=True)
class Contrast:
    """Contrasts of every language and head, all arrays ``[language, layer, head]``."""

    share: Maps  # share of the language's summed score, 0 to 1 (signed for signed scores)
    contrast: Maps  # share minus the other languages' mean share
    se: Maps  # standard error of the contrast over documents, by linearisation
    # Lower end of share - min_ratio * max(others, 0), at 95% confidence for all heads and languages
    # together.
    low: Maps
    p: Maps  # one-sided permutation p-value
    q: Maps  # the same after Benjamini-Hochberg over all heads and languages

    def specific(self, alpha: float) -> Bool[np.ndarray, "language layer head"]:
        """Where a head is specific to a language."""
        return (self.q < alpha) & (self.low > 0)


def contrast(
    gradients: Mapping[str, Float[np.ndarray, "_ layer head"]],
    formula: MeanProduct,
    *,
    min_ratio: float = 3.0,
    permutations: int = 9999,
    seed: int = 0,
) -> Contrast:
    """Test every head of every language against the other languages.

    `gradients` are those of `gate_gradients`, and `formula` the score that they make. p is never
    below 1 / (1 + permutations). Refuses fewer than two languages, or two documents of one.

    Memory: a few arrays ``[doc, layer * head]`` over all documents, and some 8 MiB.
    """
    counts = np.array([len(g) for g in gradients.values()])
    if len(counts) < 2 or counts.min() < 2:
        raise InputError(
            "the contrast rule compares languages: it needs at least 2, with at least 2 documents "
            f"each; found {', '.join(f'{k} ({len(g)})' for k, g in gradients.items())}"
        )
    shape = next(iter(gradients.values())).shape[1:]
    tests = len(counts) * math.prod(shape)
    if tests > ALPHA * (1 + permutations):
        logger.warning(
            "%d tests, %d permutations: the smallest p is %.1g, so that a single specific head "
            "cannot reach q < %g; %d permutations would do",
            *(tests, permutations, 1 / (1 + permutations), ALPHA, math.ceil(tests / ALPHA)),
        )
    values = [_pseudo_values(formula, g) for g in gradients.values()]
    share = np.stack([x.mean(axis=0) for x in values])
    squared_error = np.stack([stats.standard_error(x) ** 2 for x in values])
    rng = np.random.default_rng(check_seed(seed))
    p = _permutation_p(np.concatenate(values), counts, permutations, rng)
    q = scipy.stats.false_discovery_control(p, axis=None, method="bh")
    se = np.sqrt(_plus_others(squared_error, (len(counts) - 1.0) ** -2))
    low = np.minimum(
        *(_lower_end(share, squared_error, counts, ratio, tests) for ratio in (0.0, min_ratio))
    )
    maps = (share, _minus_others(share), se, low, p, q)
    return Contrast(*(array.reshape(-1, *shape) for array in maps))


def _pseudo_values(
    formula: MeanProduct, gradients: Float[np.ndarray, "doc layer head"]
) -> Float[np.ndarray, "doc heads"]:
    """A row a document: their mean is the language's share, their spread its spread."""
    score = formula.values(gradients).ravel()
    influence = rearrange(formula.influence(gradients), "doc layer head -> doc (layer head)")
    total = np.abs(score).sum() or 1.0
    share = score / total
    return share + (influence - (influence @ np.sign(score))[:, None] * share) / total


def _permutation_p(
    values: Float[np.ndarray, "doc heads"],
    counts: Int[np.ndarray, " language"],
    permutations: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "language heads"]:
    """p of each head's T in each language."""
    # T does not depend on offset or unit; variances as means of squares do.
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    moments = np.concatenate([scaled, scaled**2, scaled**3], axis=1)
    labels = np.repeat(np.arange(len(counts)), counts)
    observed = _studentised(moments, labels, counts)
    beyond = np.zeros(observed.shape, dtype=int)
    chunk = max(1, _AT_ONCE // (len(counts) * max(moments.shape)))
    for start in range(0, permutations, chunk):
        drawn = [rng.permutation(labels) for _ in range(min(chunk, permutations - start))]
        beyond += (_studentised(moments, np.stack(drawn), counts) >= observed).sum(axis=0)
    return np.asarray(stats.p_value(beyond, permutations))


def _studentised(
    moments: Float[np.ndarray, "doc thrice_heads"],
    labels: Int[np.ndarray, "*permutation doc"],
    counts: Int[np.ndarray, " language"],
) -> Heads:
    """T of the documents with these labels, corrected for skewness, from their moments."""
    n, weight = counts[:, None], (len(counts) - 1.0) ** -2
    members = (labels[..., None, :] == np.arange(len(counts))[:, None]).astype(float)
    mean, square, cube = np.split(members @ moments / n, 3, axis=-1)
    squared = _plus_others(np.maximum(square - mean**2, _LEAST_VARIANCE) / (n - 1), weight)
    t = _minus_others(mean) / np.sqrt(squared)
    third = (cube - 3 * mean * square + 2 * mean**3) / n**2
    skew = _minus_others(third, weight) / squared**1.5
    skew *= skew**2 / (skew**2 + 6 / n**2)
    return np.asarray(t + skew * (t**2 / 3 + 1 / 6) + skew**2 * t**3 / 27)


def _minus_others(share: Heads, ratio: float = 1.0) -> Heads:
    """Each language's share less `ratio` times the others' mean."""
    others = (share.sum(axis=-2, keepdims=True) - share) / (share.shape[-2] - 1)
    return share - ratio * others


def _plus_others(squared_error: Heads, weight: float) -> Heads:
    """Each language's squared error plus `weight` times the sum of the others'."""
    others = squared_error.sum(axis=-2, keepdims=True) - squared_error
    # The sum less one of its parts may round below 0.
    return squared_error + weight * np.maximum(others, 0)


def _lower_end(
    share: Heads,
    squared_error: Heads,
    counts: Int[np.ndarray, " language"],
    ratio: float,
    tests: int,
) -> Heads:
    """Lower end of share - ratio * others, so low that all `tests` of them hold together."""
    weight = (ratio / (len(counts) - 1)) ** 2
    squared = _plus_others(squared_error, weight)
    # Degrees of freedom by Welch and Satterthwaite.
    fourth = _plus_others(squared_error**2 / (counts[:, None] - 1), weight**2)
    df = np.divide(squared**2, fourth, out=np.ones_like(squared), where=fourth > 0)
    return _minus_others(share, ratio) - scipy.stats.t.isf(ALPHA / tests, df) * np.sqrt(squared)

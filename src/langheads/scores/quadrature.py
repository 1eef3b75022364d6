"""Quadrature: exact knock-out estimated in nats, from four backward passes over the documents.

With L(u) the NLL per token when gate h is u and all others are 1, and g_h = dL/du, the change
in NLL when head h is removed is an integral over its gate, by Gauss-Radau quadrature with two nodes

    delta_h = L(0) - L(1) = - int_0^1 g_h(u) du  ~  - (1/4 g_h(1) + 3/4 g_h(1/3))

which is exact where L is a cubic in the gate. First order alone (`taylor`, -g_h(1)) fails because
the size of a head's output is itself trained, so that its gradient at 1 is near 0.

g_h(1) of all heads comes from one backward pass. g_h(1/3) would take one pass a head; instead every
document is seen three times more with a few random heads at 1/3, one a layer on average. S_ih says
that head h of document i is drawn; every head is drawn equally often and independently of all
others. With y_ih = g_ih(under the draw) - g_ih(1),

    g_h(1/3)  ~  g_h(1) + mean_{i in S} y_ih - mean_{i not in S} y_ih

Call the difference of the two means a_h. The second mean removes the effect of the other drawn
heads on g_h: a randomised experiment with the documents as their own controls, without bias where
heads interact in pairs, m_h m_k. Not covered is an interaction that is curved in gate h. Documents
are weighted by predicted tokens, as in exact knock-out, so the two can be compared: the estimate is
nats over tokens, and its standard error that of a ratio by linearisation, as in
`stats.paired_ratio`.

Most of a_h's noise comes from the heads drawn with h. It is shrunk towards the value that the
curvature of the loss predicts, x_h = - mean_i g_ih^2 / mean_i tokens_i with g of the summed NLL
(the Fisher information of the gate), by the empirical Bayes estimate over the heads of a language,

    a_h ~ N(beta x_h, se_h^2 + (tau beta x_h)^2)

beta and tau at the maximum of this likelihood, a_h moved to its posterior mean and by at most se_h.
The standard error stays that of a_h before shrinkage, from the draws of documents and heads, and is
too small where a head's curvature is not what its Fisher information predicts (such heads: 87% in
1.96 standard errors, all heads 96%). Nothing is fitted to knock-outs. Nodes and weights:
Hildebrand, Introduction to Numerical Analysis, 8.11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import InputError, logger
from langheads.io.parts import together
from langheads.model import head_shape
from langheads.scores.gradient import gate_gradients
from langheads.scores.registry import QUADRATURE, OfLanguage
from langheads.stats import standard_error
from langheads.text import Documents

NODE, WEIGHT = 1 / 3, 3 / 4
_FEWEST = 8  # heads that two parameters can be fitted to
_NOISY = (
    "quadrature on %d documents of %s: each of the %d heads of a layer is drawn in few of them, "
    "so the estimate is noisy"
)


def quadrature(
    model: TransformerBridge,
    documents: Documents,
    gradients: Float[np.ndarray, "doc layer head"],
    *,
    seed: int | Sequence[int] = 0,
    shrink: bool = True,
    **how: Any,
) -> Float[np.ndarray, "doc layer head"]:
    """Every document's contribution to the estimated ΔNLL, head by head, nats per token.

    The mean over documents is the score, its standard deviation over the square root of their
    number the standard error.

    Args:
        documents: of one language, at least 2; every head is drawn in one out of as many as its
            layer has heads, so a few times that many are needed for a usable estimate.
        gradients: `gate_gradients` of the same documents.
        seed: of the draw; give languages different ones.
        shrink: move the noisy part towards the gradients' prediction, see above.
        how: see `map_documents`, as for errors; progress counts every document three times.
    """
    shape = head_shape(model)
    if len(documents) < 2:
        raise InputError(
            f"quadrature compares documents: at least 2 are needed, language {documents.language} "
            f"has {len(documents)}"
        )
    if len(documents) < 2 * shape[1]:
        logger.warning(_NOISY, len(documents), documents.language, shape[1])
    size = documents.n_predicted / documents.n_predicted.mean()
    weighted = gradients * size[:, None, None]
    rng = np.random.default_rng(seed)
    drawn = np.stack([_draw(len(documents), shape, rng) for _ in range(QUADRATURE.repeats)])
    gates = np.where(drawn, NODE, 1.0)
    gradient_at = []
    with together() as each:
        for at in gates:
            with each:
                gradient_at.append(gate_gradients(model, documents, at=at, **how)[0])
    change = np.stack(gradient_at) * size[:, None, None] - weighted
    inside, outside = drawn.sum(axis=(0, 1)), (~drawn).sum(axis=(0, 1))
    mean_inside = np.where(drawn, change, 0).sum(axis=(0, 1)) / inside
    mean_outside = np.where(drawn, 0, change).sum(axis=(0, 1)) / outside
    # Each document's contribution to the two means, so that rows spread as the estimate does.
    spread = np.where(drawn, (change - mean_inside) / inside, (mean_outside - change) / outside)
    difference = mean_inside - mean_outside + len(documents) * spread.sum(axis=0)
    if shrink:
        estimate, error = difference.mean(axis=0), standard_error(difference)
        fisher = (gradients * documents.n_predicted[:, None, None]) ** 2
        toward = -fisher.mean(axis=0) / documents.n_predicted.mean()
        moved = shrunk(estimate.ravel(), error.ravel(), toward.ravel())
        difference += moved.reshape(shape) - estimate
    rows = -(weighted + WEIGHT * difference)
    # The mean is per token of documents that are a sample: a long one adds to both.
    return rows - (size - 1)[:, None, None] * rows.mean(axis=0)


def shrunk(
    a: Float[np.ndarray, " head"], se: Float[np.ndarray, " head"], x: Float[np.ndarray, " head"]
) -> Float[np.ndarray, " head"]:
    """Estimates moved towards a multiple of x, the noisier the further, by at most `se` each.

    Posterior means under a ~ N(beta x, se^2 + (tau beta x)^2), see the head of this module;
    estimates with a standard error of 0 stay.
    """
    fitted = (se > 0) & (x != 0)
    if fitted.sum() < _FEWEST:
        return a
    # Units cancel, so that the search starts at 1 for every model.
    a_, se_, x_ = a[fitted], se[fitted], x[fitted]
    unit = np.sum(a_ * x_ / se_**2) / np.sum((x_ / se_) ** 2) or 1.0

    def expected(parameters: Float[np.ndarray, " 2"]) -> tuple[np.ndarray, np.ndarray]:
        mean = parameters[0] * unit * x_
        return mean, (np.exp(parameters[1]) * mean) ** 2

    def surprise(parameters: Float[np.ndarray, " 2"]) -> float:
        mean, spread = expected(parameters)
        variance = se_**2 + spread
        return float(np.sum(np.log(variance / se_**2) + (a_ - mean) ** 2 / variance))

    slopes = (1.0, np.median(a_ / x_) / unit)
    starts = [np.array([slope, np.log(tau)]) for slope in slopes for tau in (0.1, 1.0)]
    found = min((minimize(surprise, s, method="Nelder-Mead") for s in starts), key=lambda r: r.fun)
    mean, spread = expected(found.x)
    posterior = (a_ * spread + mean * se_**2) / (spread + se_**2)
    moved = a.copy()
    moved[fitted] = np.clip(posterior, a_ - se_, a_ + se_)
    return moved


def quadrature_pass(of: OfLanguage) -> dict[str, np.ndarray]:
    """See `quadrature`."""
    rows = quadrature(of.model, of.documents, of.rows["gradient"], seed=of.seed, **of.settings)
    return {"quadrature": rows}


def _draw(
    count: int, shape: tuple[int, int], rng: np.random.Generator
) -> Bool[np.ndarray, "doc layer head"]:
    """Every head in an equal number of documents, each head's independent of the others'."""
    each = min(count - 1, max(1, round(count / shape[1])))
    # The first `each` of a random order of the documents, head by head.
    order = rng.permuted(np.broadcast_to(np.arange(count)[:, None, None], (count, *shape)), axis=0)
    return order < each

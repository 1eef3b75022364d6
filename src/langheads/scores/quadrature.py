"""Quadrature: exact knock-out estimated in nats, from four backward passes over the documents.

With L(u) the NLL per token when gate h is u and all others are 1, and g_h = dL/du, the rise in
NLL when head h is removed is an integral over its gate, by Gauss-Radau quadrature with two nodes

    delta_h = L(0) - L(1) = - int_0^1 g_h(u) du  ~  - (1/4 g_h(1) + 3/4 g_h(1/3))

which is exact where L is a cubic in the gate. First order alone (`taylor`, -g_h(1)) fails because
the size of a head's output is itself trained, so that its gradient at 1 is near 0.

g_h(1) of all heads comes from one backward pass. g_h(1/3) would take one pass a head; instead every
document is seen three times more with a few random heads at 1/3, one a layer on average. S_ih says
that head h of document i is drawn; every head is drawn equally often and independently of all
others. With y_ih = g_ih(under the draw) - g_ih(1),

    g_h(1/3)  ~  g_h(1) + mean_{i in S} y_ih - mean_{i not in S} y_ih

The second mean takes away what the other drawn heads do to g_h: a randomised experiment with the
documents as their own controls, without bias where heads interact in pairs, m_h m_k. What is left
out is an interaction that is curved in gate h. Documents are weighted by predicted tokens, as in
exact knock-out, so the two can be laid over each other: the estimate is nats over tokens, and its
standard error that of a ratio by linearisation, as `stats.paired_ratio` has it.

No constant is fitted. Nodes and weights: Hildebrand, Introduction to Numerical Analysis, 8.11.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import InputError
from langheads.model import head_shape
from langheads.scores.gradient import gate_gradients
from langheads.scores.registry import QUADRATURE, OfLanguage
from langheads.text import Documents

logger = logging.getLogger("langheads")
NODE, WEIGHT = 1 / 3, 3 / 4
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
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[np.ndarray, "doc layer head"]:
    """Every document's contribution to the estimated rise in NLL, head by head.

    Args:
        model: the model.
        documents: of one language, at least 2; every head is drawn in one out of as many as its
            layer has heads, so a few times that many are needed for a usable estimate.
        gradients: `gate_gradients` of the same documents.
        seed: of the draw; give languages different ones.
        batch_tokens: tokens a batch, see `map_documents`.
        progress: updated by documents done, three times each.

    Returns:
        ``[doc, layer, head]`` in nats per token: the mean over documents is the score, its standard
        deviation over the square root of their number the standard error.

    Raises:
        InputError: fewer than 2 documents.
        NonFiniteError, OutOfMemoryError: see `map_documents`.
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
    settings: dict[str, Any] = {"batch_tokens": batch_tokens, "progress": progress}
    gates = np.where(drawn, NODE, 1.0)
    change = np.stack([gate_gradients(model, documents, at=at, **settings)[0] for at in gates])
    change = change * size[:, None, None] - weighted
    inside, outside = drawn.sum(axis=(0, 1)), (~drawn).sum(axis=(0, 1))
    mean_inside = np.where(drawn, change, 0).sum(axis=(0, 1)) / inside
    mean_outside = np.where(drawn, 0, change).sum(axis=(0, 1)) / outside
    # What each document adds to the two means, so that rows spread as the estimate does.
    spread = np.where(drawn, (change - mean_inside) / inside, (mean_outside - change) / outside)
    difference = mean_inside - mean_outside + len(documents) * spread.sum(axis=0)
    rows = -(weighted + WEIGHT * difference)
    # The mean is per token of documents that are a sample: a long one adds to both.
    return rows - (size - 1)[:, None, None] * rows.mean(axis=0)


def quadrature_pass(of: OfLanguage) -> dict[str, np.ndarray]:
    """See `quadrature`."""
    gradients = of.rows["gradient"]
    return {
        "quadrature": quadrature(of.model, of.documents, gradients, seed=of.seed, **of.settings)
    }


def _draw(
    count: int, shape: tuple[int, int], rng: np.random.Generator
) -> Bool[np.ndarray, "doc layer head"]:
    """Every head in an equal number of documents, each head's independent of the others'."""
    each = min(count - 1, max(1, round(count / shape[1])))
    # The first `each` of a random order of the documents, head by head.
    order = rng.permuted(np.broadcast_to(np.arange(count)[:, None, None], (count, *shape)), axis=0)
    return order < each

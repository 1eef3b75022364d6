"""Gradient scores of heads: LAHIS (arXiv 2511.07498) as code and as paper, and first-order Taylor.

With g_i = d NLL_i / d m, the gradient of document i's mean NLL (nats per predicted token) with
respect to the gates m, at m = 1:

    lahis            mean_i(|g_i m|) * mean_i[g_i m < 0]
    lahis-paper      mean_i(|g_i m| * [g_i < 0])
    taylor           -mean_i(g_i m)          first-order rise in NLL when the head is removed
    lahis-sequential as lahis, times 1000, but AdamW steps m after every document

`lahis` is the formula of the authors' released code with the gate held at 1; `lahis-paper` the
one in the paper's text (section 3.2), which puts the indicator inside the mean.
`lahis-sequential` is what their script really does: AdamW (learning rate 1e-2, default betas,
weight decay 1e-2) moves m after each document, so the score depends on their order. It is kept
for comparison. Departure: their script adds up in bfloat16, where a sum of ones stops at 256;
here gates and gradients are float32 or wider and means are float64, whatever the model's dtype.

Standard errors are over documents, from each score's influence function (delta method).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import NonFiniteError
from langheads.model import document_nll, gated, head_shape, map_documents
from langheads.model.batches import told_out_of_memory
from langheads.model.fused_attention import fused_attention
from langheads.model.nll import frozen
from langheads.text import Documents

Gradients = Float[np.ndarray, "doc layer head"]
HeadMap = Float[np.ndarray, "layer head"]


@dataclass(frozen=True)
class Score:
    """A score that is a product of means over documents, ``prod_k mean_i f_k(g_i)``.

    Attributes:
        units: of the values.
        features: the functions f_k, each ``[doc, layer, head]`` -> ``[doc, layer, head]``.
    """

    units: str
    features: tuple[Callable[[Gradients], Gradients], ...]

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
        count = len(gradients)
        if count < 2:
            return np.full(gradients.shape[1:], np.nan)
        return self.influence(gradients).std(axis=0, ddof=1) / np.sqrt(count)


def _helpful(g: Gradients) -> Gradients:
    return (g < 0).astype(float)


SCORES: dict[str, Score] = {
    "lahis": Score("nats per token", (np.abs, _helpful)),
    "lahis-paper": Score("nats per token", (lambda g: np.abs(g) * _helpful(g),)),
    "taylor": Score("nats per token", (np.negative,)),
}
SEQUENTIAL = "lahis-sequential"
SEQUENTIAL_UNITS = "1e-3 nats per token"
METHODS = ("lahis", "lahis-paper", SEQUENTIAL, "taylor")


def gate_gradients(
    model: TransformerBridge,
    documents: Documents,
    *,
    at: Gradients | None = None,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> tuple[Gradients, Float[np.ndarray, " doc"]]:
    """Exact gradient of every document's mean NLL with respect to its own gates.

    Every document of a batch has its own row of gates, so one backward of the summed losses gives
    all per-document gradients at once.

    Args:
        model: the model.
        documents: of one language.
        at: the gates, a row a document; 1 everywhere by default.
        batch_tokens: tokens a batch, see `map_documents`.
        progress: updated by documents done.

    Returns:
        gradients ``[doc, layer, head]`` in nats per token, and the mean NLL ``[doc]`` in nats per
        token; float64 arrays of values computed in float32 or wider.

    Raises:
        NonFiniteError, OutOfMemoryError: see `map_documents`.

    Memory: activations of one batch; the result is 8 bytes x documents x layers x heads.
    """
    shape = head_shape(model)
    gates_of = np.ones((len(documents), *shape)) if at is None else at

    def measure(
        tokens: Int[Tensor, "batch pos"],
        lengths: Int[Tensor, " batch"],
        given: Float[Tensor, "batch layer head"],
    ) -> Tensor:
        gates = given.to(tokens.device).requires_grad_()
        with torch.enable_grad(), gated(model, gates):
            nll = document_nll(model, tokens, lengths)
            mean_nll = nll / (lengths.to(nll.device) - 1)
            (gradient,) = torch.autograd.grad(mean_nll.sum(), gates)
        losses = repeat(mean_nll.detach(), "batch -> batch 1").to(gradient.device)
        return torch.cat([gradient.flatten(start_dim=1), losses], dim=1)

    rows = map_documents(
        model,
        documents,
        measure,
        given=torch.from_numpy(gates_of).to(_gate_dtype(model)),
        batch_tokens=batch_tokens,
        progress=progress,
    ).double()
    return rows[:, :-1].reshape(-1, *shape).numpy(), rows[:, -1].numpy()


def lahis_sequential(
    model: TransformerBridge, documents: Documents, *, progress: tqdm | None = None
) -> HeadMap:
    """The released script's score: AdamW steps the gates after every document.

    For documents i in order, with m_i the gates before the step:

        score = 1000 * mean_i(|g_i m_i|) * mean_i[g_i m_i < 0]

    Args:
        model: the model.
        documents: of one language; their order matters.
        progress: updated by documents done.

    Returns:
        ``[layer, head]``, in 1e-3 nats per token.

    Raises:
        NonFiniteError: a loss or gradient is NaN or infinite.
    """
    gates = torch.ones(
        *head_shape(model), dtype=_gate_dtype(model), device=model.cfg.device
    ).requires_grad_()
    optimizer = torch.optim.AdamW([gates], lr=1e-2, weight_decay=1e-2)
    size = torch.zeros_like(gates, dtype=torch.float64, requires_grad=False)
    helpful = torch.zeros_like(size)
    with (
        told_out_of_memory(f"one document of {documents.language}"),
        frozen(model),
        fused_attention(model),
        torch.enable_grad(),
    ):
        for index, tokens in enumerate(documents.tokens):
            batch = tokens[None].to(model.cfg.device)
            with gated(model, gates):
                nll = document_nll(model, batch, torch.tensor([len(tokens)]))
            (gates.grad,) = torch.autograd.grad(nll.sum() / (len(tokens) - 1), gates)
            product = (gates.grad * gates).detach()
            if not product.isfinite().all():
                raise NonFiniteError(
                    f"gradient of document {index} of language {documents.language} is NaN or "
                    "infinite; check the weights, or use a wider dtype"
                )
            size += product.abs()
            helpful += product < 0
            optimizer.step()
            if progress is not None:
                progress.update(1)
    count = len(documents)
    return (1000 * (size / count) * (helpful / count)).cpu().numpy()


def _gate_dtype(model: TransformerBridge) -> torch.dtype:
    return torch.promote_types(model.cfg.dtype, torch.float32)

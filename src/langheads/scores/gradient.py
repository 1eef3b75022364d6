"""Gradients of every document's loss with respect to gates, and the sequential LAHIS score.

Scores from these gradients are defined in `scores.formulas`. `lahis-sequential` is what the script
of the LAHIS authors (arXiv 2511.07498) really does: AdamW (learning rate 1e-2, default
betas, weight decay 1e-2) moves the gates m after each document, so the score depends on their
order. It is kept for comparison. Departure: their script adds up in bfloat16, where a sum of ones
stops at 256; here gates and gradients are float32 or wider and means are float64, whatever the
model's dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import NonFiniteError
from langheads.model import document_nll, gated, head_shape, map_documents
from langheads.model.batches import out_of_memory_named
from langheads.model.checkpointing import checkpointed
from langheads.model.chunked_losses import chunked_losses
from langheads.model.fused_attention import fused_attention
from langheads.model.kept import kept_as_one
from langheads.model.state import frozen
from langheads.scores.formulas import Gradients, HeadMap
from langheads.scores.registry import OfLanguage
from langheads.text import Documents


def gate_gradients(
    model: TransformerBridge,
    documents: Documents,
    *,
    at: Gradients | None = None,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    **how: Any,
) -> tuple[Gradients, Float[np.ndarray, " doc"]]:
    """Exact gradient of every document's mean NLL with respect to its own gates, and that NLL.

    Every document of a batch has its own row of gates, so one backward of the summed losses gives
    all per-document gradients at once. Both are in nats per token, float64 arrays of values
    computed in float32 or wider.

    Gates are 1 unless `at` gives others; `baseline` is mixed in by gates below 1, see `gated`;
    `how`, and errors, as for `map_documents`.

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
        with torch.enable_grad(), checkpointed(model), gated(model, gates, baseline=baseline):
            nll = document_nll(model, tokens, lengths)
            mean_nll = nll / (lengths.to(nll.device) - 1)
            (gradient,) = torch.autograd.grad(mean_nll.sum(), gates)
        losses = repeat(mean_nll.detach(), "batch -> batch 1").to(gradient.device)
        return torch.cat([gradient.flatten(start_dim=1), losses], dim=1)

    given = torch.from_numpy(gates_of).to(_gate_dtype(model))
    work = ("gate gradients", baseline)
    rows = map_documents(model, documents, measure, work=work, given=given, **how).double()
    return rows[:, :-1].reshape(-1, *shape).numpy(), rows[:, -1].numpy()


def lahis_sequential(
    model: TransformerBridge, documents: Documents, *, progress: tqdm | None = None
) -> HeadMap:
    """The released script's score, 1e-3 nats per token: AdamW steps the gates after each document.

    For documents i in order, with m_i the gates before the step:

        score = 1000 * mean_i(|g_i m_i|) * mean_i[g_i m_i < 0]

    Refuses a gradient that is NaN or infinite.
    """
    gates = torch.ones(
        *head_shape(model), dtype=_gate_dtype(model), device=model.cfg.device
    ).requires_grad_()
    optimizer = torch.optim.AdamW([gates], lr=1e-2, weight_decay=1e-2)
    size = torch.zeros_like(gates, dtype=torch.float64, requires_grad=False)
    helpful = torch.zeros_like(size)
    with (
        out_of_memory_named(f"one document of {documents.language}"),
        frozen(model),
        fused_attention(model),
        chunked_losses(model),
        torch.enable_grad(),
    ):
        for index, tokens in enumerate(documents.tokens):
            batch = tokens[None].to(model.cfg.device)
            with checkpointed(model), gated(model, gates):
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


def gradient_pass(of: OfLanguage) -> dict[str, np.ndarray]:
    """``gradient`` and ``nll`` of every document, see `gate_gradients`."""
    gradient, nll = gate_gradients(of.model, of.documents, **of.settings)
    return {"gradient": gradient, "nll": nll}


def sequential_pass(of: OfLanguage) -> dict[str, np.ndarray]:
    """See `lahis_sequential`; it has no row a document."""
    progress = of.settings.get("progress")

    def scores(some: list[int]) -> Tensor:
        documents = of.documents.only(some)
        return torch.from_numpy(lahis_sequential(of.model, documents, progress=progress))

    return {
        "sequential": kept_as_one(of.model, ["sequential"], of.documents.tokens, scores).numpy()
    }


def sequential_score(languages: Mapping[str, OfLanguage]) -> dict[str, HeadMap]:
    """The pass's result; it has no standard error, since documents depend on each other."""
    return {language: of.rows["sequential"] for language, of in languages.items()}


def _gate_dtype(model: TransformerBridge) -> torch.dtype:
    return torch.promote_types(model.cfg.dtype, torch.float32)

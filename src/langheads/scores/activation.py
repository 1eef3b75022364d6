"""Scores from activations, for comparison with the gradient scores.

With z[p] the head's output before W_O at position p of document i, n tokens, NLL_i the document's
mean NLL:

    output-norm  mean over documents and positions of ||z[p] W_O||_2, what the head writes (in
                 models that normalise attention's output, before that norm)
    grad-act     mean_i sum_p |z[p] . d NLL_i / d z[p]|: as `taylor`, but positions cannot cancel
    entropy      share[A,h] * (log N - H[h]), with share[A,h] the head's output-norm in language A
                 over its sum over the N languages, and H[h] the entropy of these shares

`entropy` is the idea of LAPE (arXiv 2402.16438), which ranks feed-forward neurons by the entropy of
their activation probabilities over languages, carried over to heads. Departure: a head has no
activation probability (no threshold at 0), so its norm takes that place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads import stats
from langheads.model import document_nll, head_shape, map_documents
from langheads.model.hook_z import on_every_hook_z
from langheads.model.quantization import w_o
from langheads.scores.registry import OfLanguage
from langheads.text import Documents


def output_norms(
    model: TransformerBridge, documents: Documents, **how: Any
) -> Float[np.ndarray, "doc layer head"]:
    """Mean norm over positions of what each head writes into the residual stream.

    `how` as for `map_documents`. Memory: one ``[batch, pos, d_model]`` beside the forward: heads
    one after another.
    """
    layers, heads = head_shape(model)

    @torch.no_grad()
    def measure(tokens: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"]) -> Tensor:
        # 1 at a document's own positions, 0 at padding.
        real = torch.arange(tokens.shape[1])[None, :] < lengths[:, None]
        norms = torch.empty(len(tokens), layers, heads, dtype=torch.float64)

        def collect(layer: int, z: Tensor) -> None:
            weight = w_o(model, layer)
            for head in range(heads):
                wide = torch.promote_types(z.dtype, torch.float32)
                own, slice_ = z[:, :, head].to(wide), weight[head].to(z.device, wide)
                written = einsum(
                    own, slice_, "batch pos d_head, d_head d_model -> batch pos d_model"
                )
                size = (written.norm(dim=-1) * real.to(z.device)).sum(dim=1)
                norms[:, layer, head] = size.double().cpu() / lengths

        with on_every_hook_z(model, collect, what="norms"):
            model(tokens, return_type=None)
        return norms

    return map_documents(model, documents, measure, work=["output norms"], **how).numpy()


def gradient_activations(
    model: TransformerBridge, documents: Documents, **how: Any
) -> Float[np.ndarray, "doc layer head"]:
    """Sum over positions of |z . d NLL / d z|, with the NLL a mean over predicted tokens.

    `how` as for `map_documents`. Memory: activations and gradients of z of one batch, all layers.
    """

    def measure(tokens: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"]) -> Tensor:
        zs: list[Tensor] = []

        def collect(layer: int, z: Tensor) -> Tensor:
            # A leaf of its own in layer 0, where nothing below needs a gradient.
            kept = z if z.requires_grad else z.detach().requires_grad_()
            zs.append(kept)
            return kept

        with torch.enable_grad(), on_every_hook_z(model, collect, what="activations"):
            nll = document_nll(model, tokens, lengths)
            gradients = torch.autograd.grad((nll / (lengths.to(nll.device) - 1)).sum(), zs)
        per_position = "batch pos head d_head, batch pos head d_head -> batch pos head"
        products = [
            einsum(z.detach().float(), gradient.float(), per_position).abs().sum(dim=1).cpu()
            for z, gradient in zip(zs, gradients, strict=True)
        ]
        return torch.stack(products, dim=1)

    found = map_documents(model, documents, measure, work=["gradient activations"], **how)
    return found.double().numpy()


def activation_entropy(
    norms: Mapping[str, Float[np.ndarray, "layer head"]],
) -> dict[str, Float[np.ndarray, "layer head"]]:
    """Each language's share of a head's norm, times how far that is from an even spread; nats.

    0 where all languages are alike; `norms` are means over documents.

    Example:
        >>> even = activation_entropy({"en": np.ones((1, 1)), "zh": np.ones((1, 1))})
        >>> float(even["zh"][0, 0])
        0.0
    """
    stacked = np.stack(list(norms.values()))
    total = stacked.sum(axis=0)
    share = stats.ratio(stacked, total, otherwise=1 / len(stacked))
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    missing = np.log(len(stacked)) + (share * logs).sum(axis=0)
    return dict(zip(norms, share * missing, strict=True))


def norms_pass(of: OfLanguage) -> dict[str, np.ndarray]:
    """See `output_norms`."""
    return {"norms": output_norms(of.model, of.documents, **of.settings)}


def grad_act_pass(of: OfLanguage) -> dict[str, np.ndarray]:
    """See `gradient_activations`."""
    return {"grad-act": gradient_activations(of.model, of.documents, **of.settings)}


def entropy_score(languages: Mapping[str, OfLanguage]) -> dict[str, np.ndarray]:
    """See `activation_entropy`."""
    return activation_entropy({x: of.rows["norms"].mean(axis=0) for x, of in languages.items()})

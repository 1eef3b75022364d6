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
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import ModelError
from langheads.model import document_nll, head_shape, map_documents
from langheads.scores.registry import OfLanguage
from langheads.text import Documents


def output_norms(
    model: TransformerBridge,
    documents: Documents,
    *,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[np.ndarray, "doc layer head"]:
    """Mean norm over positions of what each head writes into the residual stream.

    Args:
        model: the model.
        documents: of one language.
        batch_tokens: tokens a batch, see `map_documents`.
        progress: updated by documents done.

    Memory: one ``[batch, pos, d_model]`` beside the forward: heads one after another.
    """
    layers, heads = head_shape(model)

    @torch.no_grad()
    def measure(tokens: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"]) -> Tensor:
        real = _real(tokens, lengths)
        norms = torch.empty(len(tokens), layers, heads, dtype=torch.float64)

        def collect(z: Tensor, hook: Any) -> None:
            layer = int(hook.name.split(".")[1])
            weight = _w_o(model, layer)
            for head in range(heads):
                wide = torch.promote_types(z.dtype, torch.float32)
                written = einsum(
                    z[:, :, head].to(wide),
                    weight[head].to(z.device, wide),
                    "batch pos d_head, d_head d_model -> batch pos d_model",
                )
                size = (written.norm(dim=-1) * real.to(z.device)).sum(dim=1)
                norms[:, layer, head] = size.double().cpu() / lengths

        with model.hooks(fwd_hooks=_at_hook_z(layers, collect)):
            model(tokens, return_type=None)
        return norms

    return map_documents(
        model, documents, measure, batch_tokens=batch_tokens, progress=progress
    ).numpy()


def gradient_activations(
    model: TransformerBridge,
    documents: Documents,
    *,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[np.ndarray, "doc layer head"]:
    """Sum over positions of |z . d NLL / d z|, with the NLL a mean over predicted tokens.

    Args:
        model: the model.
        documents: of one language.
        batch_tokens: tokens a batch, see `map_documents`.
        progress: updated by documents done.

    Memory: activations of one batch, and the gradient of z, of all layers.
    """
    layers, _ = head_shape(model)

    def measure(tokens: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"]) -> Tensor:
        zs: list[Tensor] = []

        def collect(z: Tensor, hook: Any) -> Tensor:
            # A leaf of its own in layer 0, where nothing below needs a gradient.
            kept = z if z.requires_grad else z.detach().requires_grad_()
            zs.append(kept)
            return kept

        with torch.enable_grad(), model.hooks(fwd_hooks=_at_hook_z(layers, collect)):
            nll = document_nll(model, tokens, lengths)
            gradients = torch.autograd.grad((nll / (lengths.to(nll.device) - 1)).sum(), zs)
        products = [
            einsum(
                z.detach().float(),
                gradient.float(),
                "batch pos head d_head, batch pos head d_head -> batch pos head",
            )
            .abs()
            .sum(dim=1)
            .cpu()
            for z, gradient in zip(zs, gradients, strict=True)
        ]
        return torch.stack(products, dim=1)

    return (
        map_documents(model, documents, measure, batch_tokens=batch_tokens, progress=progress)
        .double()
        .numpy()
    )


def activation_entropy(
    norms: Mapping[str, Float[np.ndarray, "layer head"]],
) -> dict[str, Float[np.ndarray, "layer head"]]:
    """Each language's share of a head's norm, times how far that is from an even spread.

    Args:
        norms: language -> mean output norm.

    Returns:
        language -> ``[layer, head]``, nats; 0 where all languages are alike.

    Example:
        >>> even = activation_entropy({"en": np.ones((1, 1)), "zh": np.ones((1, 1))})
        >>> float(even["zh"][0, 0])
        0.0
    """
    stacked = np.stack(list(norms.values()))
    total = stacked.sum(axis=0)
    share = np.divide(stacked, total, out=np.full_like(stacked, 1 / len(stacked)), where=total > 0)
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


def _at_hook_z(layers: int, function: Any) -> list[tuple[str, Any]]:
    return [(f"blocks.{layer}.attn.hook_z", function) for layer in range(layers)]


def _w_o(model: TransformerBridge, layer: int) -> Float[Tensor, "head d_head d_model"]:
    try:
        return model.blocks[layer].attn.W_O
    except NotImplementedError as error:
        raise ModelError(
            f"W_O of layer {layer} cannot be read ({str(error).splitlines()[0]}); load the model "
            "without quantisation for this score"
        ) from error


def _real(tokens: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"]) -> Tensor:
    """1 at a document's own positions, 0 at padding."""
    return torch.arange(tokens.shape[1])[None, :] < lengths[:, None]

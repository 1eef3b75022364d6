"""Losses of documents.

NLL of a document with tokens t_0 .. t_T, in nats, t_0 (BOS or the first token) not predicted:

    NLL = - sum_{p=1..T} log softmax(logits[p-1])[t_p]

Logits are taken to float32 before the softmax whatever the model's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge


def document_nll(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Summed NLL of each document of a right-padded batch, in nats.

    Args:
        model: the model, under gates or not.
        tokens: right-padded documents; the value of the padding does not matter.
        lengths: tokens of each document, padding not counted.

    Memory: logits and their float32 copy, ``[batch, pos, vocab]``.
    """
    logits = model(tokens, return_type="logits")
    targets = tokens[:, 1:].to(logits.device)
    position = torch.arange(1, tokens.shape[1], device=logits.device)
    targets = targets.masked_fill(position >= lengths.to(logits.device)[:, None], -100)
    wide = torch.promote_types(logits.dtype, torch.float32)
    losses = F.cross_entropy(
        rearrange(logits[:, :-1].to(wide), "batch pos vocab -> (batch pos) vocab"),
        rearrange(targets, "batch pos -> (batch pos)"),
        reduction="none",
        ignore_index=-100,
    )
    return rearrange(losses, "(batch pos) -> batch pos", batch=tokens.shape[0]).sum(dim=1)


@contextmanager
def frozen(model: TransformerBridge) -> Iterator[None]:
    """No parameter collects a gradient inside the block; flags are put back after it."""
    parameters = list(model.original_model.parameters())
    flags = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)

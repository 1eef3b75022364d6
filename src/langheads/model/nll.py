"""Losses of documents.

NLL of a document with tokens t_0 .. t_T, in nats, t_0 (BOS or the first token) not predicted:

    NLL = - sum_{p=1..T} log softmax(logits[p-1])[t_p]

Logits are taken to float32 or wider before the softmax, whatever the model's dtype.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.model.state import evaluating


def token_nll(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, " batch"],
    starts: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch predicted"]:
    """NLL of each token but the first of a right-padded batch, in nats.

    Args:
        model: the model, under gates or not.
        tokens: right-padded; the value of the padding does not matter.
        lengths: tokens of each row, padding not counted.
        starts: the first token of each row that counts, at least 1; by default 1.

    Returns:
        ``[batch, pos - 1]``, 0 where a token does not count.

    Memory: logits ``[batch, pos, vocab]``, and a float32 copy of those that count.
    """
    with evaluating(model):
        logits = model(tokens, return_type="logits")[:, :-1]
    position = torch.arange(1, tokens.shape[1], device=logits.device)
    counted = position < lengths.to(logits.device)[:, None]
    if starts is not None:
        counted = counted & (position >= starts.to(logits.device)[:, None])
    wide = torch.promote_types(logits.dtype, torch.float32)
    nll = torch.zeros(counted.shape, dtype=wide, device=logits.device)
    nll[counted] = F.cross_entropy(
        logits[counted].to(wide), tokens[:, 1:].to(logits.device)[counted], reduction="none"
    )
    return nll


def document_nll(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, " batch"],
    starts: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, " batch"]:
    """Summed NLL of each row, or of its tokens from a start on, in nats; see `token_nll`."""
    return token_nll(model, tokens, lengths, starts).sum(dim=1)

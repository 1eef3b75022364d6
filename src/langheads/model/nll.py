"""Losses of documents.

NLL of a document with tokens t_0 .. t_T, in nats, t_0 (BOS or the first token) not predicted:

    NLL = - sum_{p=1..T} log softmax(logits[p-1])[t_p]

Logits are converted to float32 or wider before the softmax, whatever the model's dtype.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.model.chunked_losses import in_chunks, last_hidden, nll_of_rows
from langheads.model.state import evaluating


def token_nll(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, " batch"],
    starts: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch predicted"]:
    """NLL of each token but the first of a right-padded batch, in nats; 0 where it does not count.

    Counted are the tokens of each row from `starts` on, at least 1 and by default 1; the value of
    the padding does not matter.

    Memory: inside `langheads.model.chunked_losses` the logits of a few positions that count; else
    ``[batch, pos, vocab]``, and a float32 copy of those that count.
    """
    chunks = in_chunks(model)
    with evaluating(model):
        before = last_hidden(model, tokens) if chunks else model(tokens, return_type="logits")
        before = before[:, :-1]
        position = torch.arange(1, tokens.shape[1], device=before.device)
        counted = position < lengths.to(before.device)[:, None]
        if starts is not None:
            counted = counted & (position >= starts.to(before.device)[:, None])
        wide = torch.promote_types(before.dtype, torch.float32)
        nll = torch.zeros(counted.shape, dtype=wide, device=before.device)
        targets = tokens[:, 1:].to(before.device)[counted]
        if chunks:
            nll[counted] = nll_of_rows(model, before[counted], targets)
        else:
            nll[counted] = F.cross_entropy(before[counted].to(wide), targets, reduction="none")
    return nll


def document_nll(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, " batch"],
    starts: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, " batch"]:
    """Summed NLL of each row, or of its tokens from a start on, in nats; see `token_nll`."""
    return token_nll(model, tokens, lengths, starts).sum(dim=1)

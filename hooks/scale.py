"""Strengthen one head while the model writes: greedy generation without a cache.

Hook point: blocks.{layer}.attn.hook_z, [batch, pos, head, d_head], the heads' outputs before W_O.

    z'[head] = m z[head],  m = 3;    next token = argmax of the last position's logits

The whole text goes through the model again for every new token, so there is no cache to trust.

    tokens = write(model, model.to_tokens("Good morning!"), layer=1, head=3, m=3.0, n=20)
"""

import torch


def scale(layer, head, m=3.0):
    """(name, hook) for `run_with_hooks(..., fwd_hooks=[...])`."""

    def hook_fn(z, hook):
        z = z.clone()
        z[:, :, head] *= m
        return z

    return f"blocks.{layer}.attn.hook_z", hook_fn


@torch.no_grad()
def write(model, tokens, layer, head, m=3.0, n=20):
    """The n next tokens [n] of one prompt [1, pos]."""
    start = tokens.shape[1]
    for _ in range(n):
        logits = model.run_with_hooks(tokens, fwd_hooks=[scale(layer, head, m)])
        tokens = torch.cat([tokens, logits[:, -1:].argmax(dim=-1)], dim=1)
    return tokens[0, start:]

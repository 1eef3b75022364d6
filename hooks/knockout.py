"""Exact knock-out: the ΔNLL of a text when one head is removed, one full forward a head.

Hook point: blocks.{layer}.attn.hook_z, [batch, pos, head, d_head]; z of the head becomes the
baseline (0, or its mean z, see mean_baseline.py).

    delta[l, h] = (NLL with head (l, h) off - NLL) / size, size = predicted tokens or UTF-8 bytes

    deltas = knockout(model, model.to_tokens("The cat sleeps."), n_layers=4, n_heads=12)
"""

import torch


def knock_out(head, baseline=0.0):
    """Hook that puts the baseline, 0 or [d_head], in the place of one head's z."""

    def hook_fn(z, hook):
        z = z.clone()
        z[:, :, head] = baseline
        return z

    return hook_fn


def total_nll(model, tokens):
    """NLL of all tokens but the first, nats; tokens [1, pos]."""
    log_probs = model(tokens).log_softmax(dim=-1)[0, :-1]
    return -log_probs.gather(-1, tokens[0, 1:, None]).sum()


@torch.no_grad()
def knockout(model, tokens, n_layers, n_heads):
    """ΔNLL in nats per predicted token, [layer, head]."""
    deltas, untouched = torch.zeros(n_layers, n_heads), total_nll(model, tokens)
    for layer in range(n_layers):
        for head in range(n_heads):
            with model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_z", knock_out(head))]):
                deltas[layer, head] = total_nll(model, tokens) - untouched
    return deltas / (tokens.shape[1] - 1)

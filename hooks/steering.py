"""Push one head from language B towards language A.

Hook point: blocks.{layer}.attn.hook_z, [batch, pos, head, d_head], the heads' outputs before W_O.

    z'[head] = z[head] + a (mean z[head] over texts of A - mean z[head] over texts of B)

The means are over documents and positions, BOS too (mean_baseline.py computes them).

    direction = mean_z(model, documents_a, 1, 3) - mean_z(model, documents_b, 1, 3)
    logits = logits_under_steering(model, tokens, layer=1, head=3, direction=direction, a=1.0)
"""

import torch


def steer(layer, head, direction, a=1.0):
    """(name, hook) for `run_with_hooks(..., fwd_hooks=[...])`; direction is [d_head]."""

    def hook_fn(z, hook):
        z = z.clone()
        z[:, :, head] += a * direction
        return z

    return f"blocks.{layer}.attn.hook_z", hook_fn


@torch.no_grad()
def logits_under_steering(model, tokens, layer, head, direction, a=1.0):
    """Logits [batch, pos, vocab] of one forward with one head steered."""
    return model.run_with_hooks(tokens, fwd_hooks=[steer(layer, head, direction, a)])

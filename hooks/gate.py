"""The gate on one head, at hook_z: z' = m z + (1 - m) baseline.

Hook point: blocks.{layer}.attn.hook_z, [batch, pos, head, d_head], the heads' outputs before W_O.
m = 0 switches the head off (zero ablation; with baseline = its mean z, mean ablation, see
mean_baseline.py), m = 3 strengthens it. LAHIS, arXiv 2511.07498, section 3.2, gates the same place.

    logits = logits_under_gate(model, model.to_tokens("The cat sleeps."), layer=1, head=3, m=0.0)
"""

import torch


def gate(layer, head, m=0.0, baseline=0.0):
    """(name, hook) for `run_with_hooks(..., fwd_hooks=[...])`; baseline is 0 or [d_head]."""

    def hook_fn(z, hook):
        z = z.clone()
        z[:, :, head] = m * z[:, :, head] + (1 - m) * baseline
        return z

    return f"blocks.{layer}.attn.hook_z", hook_fn


@torch.no_grad()
def logits_under_gate(model, tokens, layer, head, m=0.0, baseline=0.0):
    """Logits [batch, pos, vocab] of one forward with one head gated."""
    return model.run_with_hooks(tokens, fwd_hooks=[gate(layer, head, m, baseline)])

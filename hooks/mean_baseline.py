"""Mean of one head's z over reference documents: what mean ablation puts in its place.

Hook point: blocks.{layer}.attn.hook_z, [batch, pos, head, d_head].

    baseline[head] = sum over documents and positions of z[head] / number of positions

Every token counts once, BOS too. One document a forward, so there is no padding to leave out.

    baseline = mean_z(model, [model.to_tokens(text)[0] for text in texts], layer=1, head=3)
    logits = logits_under_gate(model, tokens, 1, 3, m=0.0, baseline=baseline)     # gate.py
"""

import torch


@torch.no_grad()
def mean_z(model, documents, layer, head):
    """[d_head], over documents [pos]."""
    seen = []

    def collect(z, hook):
        seen.append(z[0, :, head])

    for tokens in documents:
        model.run_with_hooks(tokens[None], fwd_hooks=[(f"blocks.{layer}.attn.hook_z", collect)])
    return torch.cat(seen).mean(dim=0)

"""Activation patching of one head, from a prompt into its translation, at the last position.

Hook point: blocks.{layer}.attn.hook_z, z, [batch, pos, head, d_head].

    share = (D(corrupt, z[-1, head] := z of clean) - D(corrupt)) / (D(clean) - D(corrupt))

with D = logit(answer) - logit(wrong) at the end. The two prompts may differ in length.

    share = patch(model, clean_tokens, corrupt_tokens, answer, wrong, layer=1, head=3)
"""

import torch


@torch.no_grad()
def patch(model, clean, corrupt, answer, wrong, layer, head):
    """Share of the way from corrupt to clean that the head alone makes good; prompts [pos]."""
    taken = []

    def take(z, hook):
        taken.append(z[0, -1, head].clone())

    def put(z, hook):
        z = z.clone()
        z[0, -1, head] = taken[0]
        return z

    def difference(tokens, *hooks):
        fwd_hooks = [(f"blocks.{layer}.attn.hook_z", hook) for hook in hooks]
        logits = model.run_with_hooks(tokens[None], fwd_hooks=fwd_hooks)[0, -1]
        return logits[answer] - logits[wrong]

    on, off, patched = difference(clean, take), difference(corrupt), difference(corrupt, put)
    return (patched - off) / (on - off)

"""Gradient times activation: how a choice between two tokens leans on one head, to first order.

Hook point: blocks.{layer}.attn.hook_z, z, [batch, pos, head, d_head].

    score = sum over pos, d_head of z * dD / dz,    D = logit(answer) - logit(wrong) at the end

which is dD / dm of the gate z' = m z at m = 1. No gate here: z keeps its own gradient.

    score = grad_activation(model, model.to_tokens("The doctor is a")[0], answer, wrong, 1, 3)
"""

import torch


def grad_activation(model, tokens, answer, wrong, layer, head):
    """First-order fall of D when the head is switched off, in logits; prompt [pos]."""
    kept = []

    def keep(z, hook):
        # A leaf of its own, so that its gradient needs no parameter to ask for one.
        kept.append(z.detach().requires_grad_())
        return kept[0]

    logits = model.run_with_hooks(tokens[None], fwd_hooks=[(f"blocks.{layer}.attn.hook_z", keep)])
    (gradient,) = torch.autograd.grad(logits[0, -1, answer] - logits[0, -1, wrong], kept)
    return (kept[0].detach() * gradient)[:, :, head].sum()

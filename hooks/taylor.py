"""First-order estimate of what removing one head does to the loss: gradient times activation.

Hook point: blocks.{layer}.attn.hook_z, z. Taking m from 1 to 0 in z' = m z changes the loss by

    taylor_i = - d NLL_i / d m = - sum over pos, d_head of z * d NLL_i / d z        (m = 1)

to first order; the score is its mean over documents (Michel et al., arXiv 1905.10650, equation 3,
with its sign kept). Positive: the head helps. No gate here: z keeps its own gradient.

    score = torch.stack([taylor(model, model.to_tokens(t)[0], 1, 3) for t in texts]).mean()
"""

import torch


def taylor(model, tokens, layer, head):
    """Estimated change in the mean NLL of the document [pos], nats per token."""
    kept = []

    def keep(z, hook):
        # A leaf of its own, so that its gradient needs no parameter to ask for one.
        kept.append(z.detach().requires_grad_())
        return kept[0]

    logits = model.run_with_hooks(tokens[None], fwd_hooks=[(f"blocks.{layer}.attn.hook_z", keep)])
    wide = torch.promote_types(logits.dtype, torch.float32)
    nll = torch.nn.functional.cross_entropy(logits[0, :-1].to(wide), tokens[1:])
    (gradient,) = torch.autograd.grad(nll, kept)
    return -(kept[0].detach() * gradient)[:, :, head].sum(dtype=wide)

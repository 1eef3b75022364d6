"""Two scores from activations: what one head writes, and gradient times activation by position.

Hook point: blocks.{layer}.attn.hook_z.

    output-norm  mean_p ||z[p] W_O||
    grad-act     sum_p |z[p] . d NLL / d z[p]|, NLL the mean over the predicted tokens, in nats

    output_norm(model, model.to_tokens(text)[0], layer=1, head=3)
"""

import torch


def output_norm(model, tokens, layer, head):
    """Mean over positions of the norm of what the head adds to the residual stream."""
    _, cache = model.run_with_cache(tokens[None])
    z = cache[f"blocks.{layer}.attn.hook_z"][0, :, head]
    return (z @ model.blocks[layer].attn.W_O[head]).norm(dim=-1).mean()


def gradient_activation(model, tokens, layer, head):
    """Nats per token."""
    seen = []

    def hook_fn(z, hook):
        seen.append(z.detach().requires_grad_())
        return seen[0]

    logits = model.run_with_hooks(
        tokens[None], fwd_hooks=[(f"blocks.{layer}.attn.hook_z", hook_fn)]
    )
    nll = torch.nn.functional.cross_entropy(logits[0, :-1], tokens[1:])
    gradient = torch.autograd.grad(nll, seen[0])[0]
    return (seen[0] * gradient)[0, :, head].sum(dim=-1).abs().sum()

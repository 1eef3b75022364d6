"""LAHIS (arXiv 2511.07498): one head's importance for a language, as code and as paper.

Hook point: blocks.{layer}.attn.hook_z, z' = m z at m = 1. With g_i = d NLL_i / d m, NLL_i the mean
over the predicted tokens of document i, in nats:

    lahis        mean_i(|g_i m|) * mean_i[g_i m < 0]     the released code's formula, m held at 1
    lahis-paper  mean_i(|m g_i| * [g_i < 0])             the formula in the paper's text

    gradients = torch.stack([gate_gradient(model, model.to_tokens(t)[0], 1, 3) for t in texts])
    lahis(gradients), lahis_paper(gradients)
"""

import torch


def gate_gradient(model, tokens, layer, head):
    """d (mean NLL of the document [pos]) / d (gate of the head), nats per token."""
    wide = torch.promote_types(model.cfg.dtype, torch.float32)
    m = torch.ones((), dtype=wide, device=tokens.device, requires_grad=True)

    def hook_fn(z, hook):
        keep = torch.arange(z.shape[2], device=z.device)[:, None] != head
        return torch.where(keep, z, (m * z.to(wide)).to(z.dtype))

    logits = model.run_with_hooks(
        tokens[None], fwd_hooks=[(f"blocks.{layer}.attn.hook_z", hook_fn)]
    )
    nll = torch.nn.functional.cross_entropy(logits[0, :-1].to(wide), tokens[1:])
    return torch.autograd.grad(nll, m)[0]


def lahis(gradients):
    """[doc] -> score, nats per token."""
    return gradients.abs().mean() * (gradients < 0).to(gradients).mean()


def lahis_paper(gradients):
    """[doc] -> score, nats per token."""
    return torch.where(gradients < 0, gradients.abs(), 0).mean()

"""What the LAHIS authors' script does (arXiv 2511.07498, released code): gates learn on the way.

Hook point: blocks.{layer}.attn.hook_z, z' = m z, one gate m[layer, head] for every head, all from
1. After each document AdamW (learning rate 1e-2, default betas, weight decay 1e-2) steps them, so
the score depends on the order of the documents. With m_i the gates before the step:

    score = 1000 * mean_i(|g_i m_i|) * mean_i[g_i m_i < 0],   g_i = d NLL_i / d m at m_i

Departure: sums in float64; in the script's bfloat16 a thousand additions of 1 stop at 256.

    scores = lahis_sequential(model, [model.to_tokens(text)[0] for text in texts])
"""

import torch


def lahis_sequential(model, documents):
    """[layer, head], 1e-3 nats per token, over documents [pos] in this order."""
    wide = torch.promote_types(model.cfg.dtype, torch.float32)
    gates = torch.ones(model.cfg.n_layers, model.cfg.n_heads, dtype=wide, requires_grad=True)
    optimizer = torch.optim.AdamW([gates], lr=1e-2, weight_decay=1e-2)

    def hook_fn(z, hook):
        m = gates[int(hook.name.split(".")[1])].to(z.device)
        return torch.einsum("bphd,h->bphd", z.to(wide), m).to(z.dtype)

    layers = [(f"blocks.{layer}.attn.hook_z", hook_fn) for layer in range(model.cfg.n_layers)]
    size, helpful = torch.zeros(2, *gates.shape, dtype=torch.float64)
    for tokens in documents:
        logits = model.run_with_hooks(tokens[None], fwd_hooks=layers)
        nll = torch.nn.functional.cross_entropy(logits[0, :-1].to(wide), tokens[1:])
        (gates.grad,) = torch.autograd.grad(nll, gates)
        size += (gates.grad * gates).detach().abs() / len(documents)
        helpful += (gates.grad * gates < 0) / len(documents)
        optimizer.step()
    return 1000 * size * helpful

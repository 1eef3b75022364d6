"""Attention transfer: two contradicting facts in one prompt, and whose heads decide between them.

Hook point: blocks.{layer}.attn.hook_z, [batch, pos, head, d_head], the heads' outputs before W_O,
all heads of a set scaled; and blocks.{layer}.attn.hook_pattern, [batch, head, query, key].

    D(m) = log p(a | prompt, z' = m z) - log p(b | prompt, z' = m z);    change = D(m) - D(1)

a and b are the answers after the fact in language A and in B; here their first tokens. Attention to
a fact is the sum of the last position's pattern over the fact's tokens.

    prompt = model.to_tokens("Anna ist Ärztin.\\nAnna es maestra.\\nAnna is a")
    change = transfer(model, prompt, a, b, heads=[(1, 0), (2, 0)], m=3.0)
"""

import torch


def scale_all(heads, m):
    """[(name, hook), ...] for `run_with_hooks(..., fwd_hooks=...)`; heads are (layer, head)."""

    def hook_fn(z, hook):
        z = z.clone()
        for layer, head in heads:
            if layer == int(hook.name.split(".")[1]):
                z[:, :, head] *= m
        return z

    return [(f"blocks.{layer}.attn.hook_z", hook_fn) for layer in sorted({x for x, _ in heads})]


@torch.no_grad()
def transfer(model, prompt, a, b, heads, m=3.0):
    """Change of log p(a) - log p(b), nats, under the gate m; prompt [1, pos], a and b tokens."""
    ahead = []
    for value in (1.0, m):
        logits = model.run_with_hooks(prompt, fwd_hooks=scale_all(heads, value))
        log_probs = logits[0, -1].log_softmax(dim=-1)
        ahead.append(log_probs[a] - log_probs[b])
    return float(ahead[1] - ahead[0])

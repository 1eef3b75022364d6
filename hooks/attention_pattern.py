"""Attention of one head: how much of its look each position gives to each earlier one.

Hook point: blocks.{layer}.attn.hook_pattern, [batch, head, query, key], after the softmax; the
model must compute attention eagerly (`TransformerBridge` does unless told otherwise).

    A[q, k] = softmax_k(q_q . k_k / sqrt(d_head)), 0 for k > q; each row sums to 1

Pieces of one character are shown as one unit: summed over a unit's keys, mean over its queries.

    pattern = attention_pattern(model, model.to_tokens("The cat sleeps."), layer=1, head=3)
    units = pooled(pattern, [0, 1, 3])  # units begin at tokens 0, 1 and 3
"""

import torch


@torch.no_grad()
def attention_pattern(model, tokens, layer, head):
    """Pattern of one head over one text, [query, key]; tokens [1, pos]."""
    seen = []

    def hook_fn(pattern, hook):
        seen.append(pattern[0, head].clone())

    with model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_pattern", hook_fn)]):
        model(tokens)
    return seen[0]


def pooled(pattern, starts):
    """The same over units that begin at the tokens `starts`, [unit, unit]."""
    unit = torch.zeros(len(pattern), len(starts), dtype=pattern.dtype)
    for index, start in enumerate(starts):
        unit[start:] = 0
        unit[start:, index] = 1
    return unit.T @ pattern @ unit / unit.sum(dim=0)[:, None]

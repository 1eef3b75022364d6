"""Task knock-out: what happens to the right answer's probability when one head is removed.

Hook point: blocks.{layer}.attn.hook_z, [batch, pos, head, d_head]; z of the head becomes the
baseline (0, or its mean z, see mean_baseline.py).

    delta[l, h] = log p(answer | prompt, head (l, h) off) - log p(answer | prompt)      nats

summed over the answer's tokens; negative: the answer depends on the head.

    prompt = model.to_tokens("Ann drinks tea.\\nQ: What does Ann drink?\\nA:")
    answer = model.to_tokens(" tea", prepend_bos=False)
    deltas = knockout_answer(model, prompt, answer, n_layers=4, n_heads=12)
"""

import torch


def log_prob(model, prompt, answer, fwd_hooks=()):
    """log p(answer | prompt), nats; tokens [1, pos]."""
    logits = model.run_with_hooks(torch.cat([prompt, answer], dim=1), fwd_hooks=list(fwd_hooks))
    log_probs = logits[0, prompt.shape[1] - 1 : -1].log_softmax(dim=-1)
    return log_probs.gather(-1, answer[0, :, None]).sum()


@torch.no_grad()
def knockout_answer(model, prompt, answer, n_layers, n_heads, baseline=0.0):
    """Change of the answer's log-probability in nats, [layer, head]."""
    deltas = torch.zeros(n_layers, n_heads, dtype=torch.float64)
    for layer in range(n_layers):
        for head in range(n_heads):

            def hook_fn(z, hook, head=head):
                z = z.clone()
                z[:, :, head] = baseline
                return z

            hooks = [(f"blocks.{layer}.attn.hook_z", hook_fn)]
            deltas[layer, head] = log_prob(model, prompt, answer, hooks)
    return deltas - log_prob(model, prompt, answer)

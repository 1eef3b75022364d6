"""Soft head mask: one head's gate, learned by gradient descent on the answer to one prompt.

Hook point: blocks.{layer}.attn.hook_z, [batch, pos, head, d_head]; z of the head becomes m z.

    L(m) = -log p(answer | prompt; m) / answer tokens      nats per answer token
    m <- m - learning_rate * dL/dm                         the library: AdamW, many heads, batches

    prompt = model.to_tokens("Ann drinks tea.\\nQ: What does Ann drink?\\nA:")
    answer = model.to_tokens(" tea", prepend_bos=False)
    m, losses = learn_gate(model, prompt, answer, layer=1, head=3)
"""

import torch


def loss_and_gradient(model, prompt, answer, layer, head, m):
    """L(m) and dL/dm of tokens [1, pos], two numbers."""
    gate = torch.tensor(float(m), dtype=torch.float64, requires_grad=True)

    def hook_fn(z, hook):
        scaled = (gate * z[:, :, head]).to(z.dtype)
        return torch.cat([z[:, :, :head], scaled[:, :, None], z[:, :, head + 1 :]], dim=2)

    hooks = [(f"blocks.{layer}.attn.hook_z", hook_fn)]
    logits = model.run_with_hooks(torch.cat([prompt, answer], dim=1), fwd_hooks=hooks)
    log_probs = logits[0, prompt.shape[1] - 1 : -1].log_softmax(dim=-1)
    loss = -log_probs.gather(-1, answer[0, :, None]).mean()
    return loss.item(), torch.autograd.grad(loss, gate)[0].item()


def learn_gate(model, prompt, answer, layer, head, steps=20, learning_rate=0.1):
    """The gate, and the loss before each step."""
    m, losses = 1.0, []
    for _ in range(steps):
        loss, gradient = loss_and_gradient(model, prompt, answer, layer, head, m)
        losses.append(loss)
        m -= learning_rate * gradient
    return m, losses

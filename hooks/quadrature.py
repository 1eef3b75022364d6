"""Exact knock-out of one head, estimated in nats from its gate's gradient at two gate values.

Hook point: blocks.{layer}.attn.hook_z, z' = m z. With g(m) = d NLL / d m, ΔNLL when the head
is removed is -int_0^1 g(m) dm, by Gauss-Radau quadrature

    ΔNLL = -(1/4 g(1) + 3/4 g(1/3))

    estimated_rise(model, model.to_tokens(text)[0], layer=1, head=3)
"""

import torch


def gradient_at(model, tokens, layer, head, gates):
    """d (mean NLL of the document [pos]) / d (gate of the head), all gates [layer, head] given."""
    gates = gates.clone().requires_grad_()

    def hook_of(number):
        def hook_fn(z, hook):
            return z * gates[number][:, None]

        return (f"blocks.{number}.attn.hook_z", hook_fn)

    hooks = [hook_of(number) for number in range(len(gates))]
    logits = model.run_with_hooks(tokens[None], fwd_hooks=hooks)
    nll = torch.nn.functional.cross_entropy(logits[0, :-1].to(gates), tokens[1:])
    return torch.autograd.grad(nll, gates)[0][layer, head]


def estimated_rise(model, tokens, layer, head):
    """Nats per token, all other heads untouched."""
    ones = torch.ones(model.cfg.n_layers, model.cfg.n_heads, dtype=model.cfg.dtype)
    third = ones.clone()
    third[layer, head] = 1 / 3
    at_one = gradient_at(model, tokens, layer, head, ones)
    return -(at_one / 4 + 3 / 4 * gradient_at(model, tokens, layer, head, third))

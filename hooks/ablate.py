"""ΔNLL of one text, per byte, when a set of heads is off: a cell of the specificity matrix.

Hook point: blocks.{layer}.attn.hook_z of every layer that has one of the heads; z' = 0 there, or
the head's mean z (mean_baseline.py).

    D = (NLL(text, heads off) - NLL(text)) / UTF-8 bytes of the text        nats per byte

NLL is summed over the text's tokens; BOS stands in front and is not predicted, so all of the text
is. Per byte, since token counts cannot be compared across languages. Over several texts: the sum
of the ΔNLL over the sum of the bytes.

    ablate(model, "Die Katze schläft.", [(0, 1), (1, 3)])
"""

import torch


@torch.no_grad()
def ablate(model, text, heads, baseline=None):
    """ΔNLL in nats per byte; heads [(layer, head), ...], baseline {(layer, head): [d_head]}."""
    tokens = model.to_tokens(text, prepend_bos=True)

    def off(z, hook):
        z = z.clone()
        for layer, head in heads:
            if hook.name.startswith(f"blocks.{layer}."):
                z[:, :, head] = 0.0 if baseline is None else baseline[layer, head]
        return z

    def nll(fwd_hooks):
        logits = model.run_with_hooks(tokens, fwd_hooks=fwd_hooks)
        log_probs = logits[0, :-1].double().log_softmax(dim=-1)
        return -log_probs.gather(1, tokens[0, 1:, None]).sum()

    hooks = [(f"blocks.{layer}.attn.hook_z", off) for layer in {layer for layer, _ in heads}]
    return ((nll(hooks) - nll([])) / len(text.encode())).item()

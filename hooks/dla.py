"""Direct logit attribution of one head: what it writes towards one token and away from another.

Hook point: blocks.{layer}.attn.hook_result, z W_O of each head, [batch, pos, head, d_model] (it
fires only after `set_use_attn_result(True)`); ln_final.hook_in for the scale of the final norm.

    direct = hook_result[0, -1, head] . (g (W_U[:, answer] - W_U[:, wrong])) / rms

for a model with a plain RMSNorm at its end (Llama, Mistral, Qwen): g its weight, rms the root mean
square of what it was given in this forward, held.

    dla(model, model.to_tokens("The doctor is a")[0], answer, wrong, layer=1, head=3)
"""

import torch


@torch.no_grad()
def dla(model, tokens, answer, wrong, layer, head):
    """What one head adds to logit(answer) - logit(wrong) after the prompt [pos]."""
    kept = {}

    def keep(value, hook):
        kept[name_of(value)] = value[0, -1]

    def name_of(value):
        return "result" if value.ndim == 4 else "residual"

    before = model.cfg.use_attn_result
    model.set_use_attn_result(True)
    try:
        points = [f"blocks.{layer}.attn.hook_result", "ln_final.hook_in"]
        model.run_with_hooks(tokens[None], fwd_hooks=[(point, keep) for point in points])
    finally:
        model.set_use_attn_result(before)
    rms = (kept["residual"].square().mean() + model.cfg.eps).sqrt()
    direction = model.ln_final.weight * (model.W_U[:, answer] - model.W_U[:, wrong])
    return kept["result"][head] @ direction / rms

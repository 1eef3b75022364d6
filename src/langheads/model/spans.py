"""How much of its look the last position gives to parts of a text, head by head.

mass[l,h,s] = sum over k in span s of A[l,h][last, k]       (``blocks.{l}.attn.hook_pattern``)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import InterventionError
from langheads.model.loading import head_shape


@torch.no_grad()
def attention_to_spans(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, " batch"],
    spans: Int[Tensor, "batch span 2"],
    layers: Iterable[int],
) -> Float[Tensor, "batch layer head span"]:
    """Attention from each row's last real position to spans of its tokens, under gates or not.

    Args:
        model: the model; its hooks and its attention implementation are as before afterwards.
        tokens: right-padded.
        lengths: tokens of each row, padding not counted.
        spans: first token of each span, and the one behind its last.
        layers: which layers to look at, the order of the result.

    Returns:
        Shares of 1, in float32 or wider.

    Raises:
        InterventionError: a layer's ``hook_pattern`` did not fire once, or saw another shape.

    Memory: ``[batch, head, query, key]`` of one layer.
    """
    _, n_heads = head_shape(model)
    batch, size = tokens.shape
    position = torch.arange(size)
    ends = spans.cpu()[..., None]
    inside = (position >= ends[:, :, 0]) & (position < ends[:, :, 1])
    wide = torch.promote_types(model.cfg.dtype, torch.float32)
    mass: dict[int, Tensor] = {}
    fired = dict.fromkeys(layers, 0)

    def keep(pattern: Tensor, hook: Any) -> None:
        layer = int(hook.name.split(".")[1])
        if pattern.shape != (batch, n_heads, size, size):
            raise InterventionError(
                f"hook_pattern of layer {layer} is {list(pattern.shape)}, expected "
                f"[{batch}, {n_heads}, {size}, {size}]"
            )
        fired[layer] += 1
        rows = torch.arange(batch, device=pattern.device)
        last = pattern[rows, :, lengths.to(pattern.device) - 1].to("cpu", wide)
        mass[layer] = einsum(
            last, inside.to(wide), "batch head key, batch span key -> batch head span"
        )

    network: Any = model.original_model
    before = network.config._attn_implementation
    try:
        if before != "eager":
            # A fused kernel has no pattern.
            network.set_attn_implementation("eager")
        names = [(f"blocks.{layer}.attn.hook_pattern", keep) for layer in fired]
        with model.hooks(fwd_hooks=names):
            model(tokens, return_type=None)
    finally:
        if before != "eager":
            network.set_attn_implementation(before)
    for layer, times in fired.items():
        if times != 1:
            raise InterventionError(
                f"hook_pattern of layer {layer} fired {times} times in one forward, expected once"
            )
    return torch.stack([mass[layer] for layer in fired], dim=1)

"""Attention patterns of chosen heads.

    A[l,h][q,k] = softmax_k(q[l,h]_q k[l,h]_k / sqrt(d_head))     (``blocks.{l}.attn.hook_pattern``)

Only pictures need them; everything else runs on fused attention, which has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InputError, InterventionError, NonFiniteError
from langheads.model.loading import head_shape


@torch.no_grad()
def head_patterns(
    model: TransformerBridge, tokens: Int[Tensor, " pos"], heads: HeadSet
) -> Float[np.ndarray, "chosen query key"]:
    """Attention of chosen heads over one text, under gates or not.

    Args:
        model: the model; its hooks and its attention implementation are as before afterwards.
        tokens: one text, special tokens included.
        heads: which heads, in the order of the result.

    Returns:
        ``[head, query, key]`` in float32 or wider, each row a distribution over keys that sums to
        1 (less where the model lets a head look at nothing, as with attention sinks).

    Raises:
        InputError: no heads, or heads of another model.
        InterventionError: a layer's ``hook_pattern`` did not fire once, or saw another shape.
        NonFiniteError: a pattern is NaN.

    Memory: ``[head, query, key]`` of the chosen heads; every layer makes ``[1, head, query, key]``
    of all its heads while it runs.
    """
    shape = head_shape(model)
    if not heads or heads.shape != shape:
        raise InputError(
            f"patterns of {len(heads)} heads of a model of shape {heads.shape} asked for; this one "
            f"has {shape} (layers, heads), and at least one head is needed"
        )
    found: dict[tuple[int, int], Tensor] = {}
    fired = dict.fromkeys((head.layer for head in heads), 0)
    size = len(tokens)

    def keep(pattern: Tensor, hook: Any) -> None:
        layer = int(hook.name.split(".")[1])
        if pattern.shape != (1, shape[1], size, size):
            raise InterventionError(
                f"hook_pattern of layer {layer} is {list(pattern.shape)}, expected "
                f"[1, {shape[1]}, {size}, {size}]"
            )
        fired[layer] += 1
        for head in heads:
            if head.layer == layer:
                wide = torch.promote_types(pattern.dtype, torch.float32)
                found[head] = pattern[0, head.head].to("cpu", wide)

    network: Any = model.original_model
    before = network.config._attn_implementation
    try:
        if before != "eager":
            # A fused kernel has no pattern to show.
            network.set_attn_implementation("eager")
        names = [(f"blocks.{layer}.attn.hook_pattern", keep) for layer in fired]
        with model.hooks(fwd_hooks=names):
            model(tokens[None].to(model.cfg.device), return_type=None)
    finally:
        if before != "eager":
            network.set_attn_implementation(before)
    for layer, times in fired.items():
        if times != 1:
            raise InterventionError(
                f"hook_pattern of layer {layer} fired {times} times in one forward, expected once"
            )
    patterns = torch.stack([found[head] for head in heads]).numpy()
    if not np.isfinite(patterns).all():
        raise NonFiniteError("attention patterns are NaN or infinite; check the weights")
    return patterns

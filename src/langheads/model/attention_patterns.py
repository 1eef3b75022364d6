"""Attention patterns of chosen heads, and their attention to parts of a text.

    A[l,h][q,k] = softmax_k(q[l,h]_q k[l,h]_k / sqrt(d_head))     (``blocks.{l}.attn.hook_pattern``)
    mass[l,h,s] = sum over k in span s of A[l,h][last, k]

Only pictures and attention transfer need them; everything else runs on fused attention, which makes
none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InputError, InterventionError, NonFiniteError
from langheads.model.shape import head_shape
from langheads.model.state import evaluating


def head_patterns(
    model: TransformerBridge, tokens: Int[Tensor, " pos"], heads: HeadSet
) -> Float[np.ndarray, "chosen query key"]:
    """Attention of chosen heads over one text, under gates or not.

    Each row is a distribution over keys that sums to 1 (less where the model lets a head look at
    nothing, as with attention sinks), in float32 or wider; heads are in the order given.

    Raises:
        InputError: no heads, or heads of another model.
        InterventionError: a layer's ``hook_pattern`` did not fire once, or saw another shape.
        NonFiniteError: a pattern is NaN.

    Memory: that of the result; every layer makes ``[1, head, query, key]`` of all its heads.
    """
    shape = head_shape(model)
    if not heads or heads.shape != shape:
        raise InputError(
            f"patterns of {len(heads)} heads of a model of shape {heads.shape} asked for; this one "
            f"has {shape} (layers, heads), and at least one head is needed"
        )

    def keep(layer: int, pattern: Tensor) -> dict[int, Tensor]:
        wide = torch.promote_types(pattern.dtype, torch.float32)
        return {h.head: pattern[0, h.head].to("cpu", wide) for h in heads if h.layer == layer}

    found = _of_layers(model, tokens[None], [head.layer for head in heads], keep)
    patterns = torch.stack([found[head.layer][head.head] for head in heads]).numpy()
    if not np.isfinite(patterns).all():
        raise NonFiniteError("attention patterns are NaN or infinite; check the weights")
    return patterns


def attention_to_spans(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, " batch"],
    spans: Int[Tensor, "batch span 2"],
    layers: Iterable[int],
) -> Float[Tensor, "batch layer head span"]:
    """Attention from each row's last real position to spans of its tokens, under gates or not.

    Tokens are right-padded; a span is its first token and the one behind its last; layers are in
    the order given. Shares of 1, in float32 or wider.

    Raises:
        InterventionError: a layer's ``hook_pattern`` did not fire once, or saw another shape.

    Memory: ``[batch, head, query, key]`` of one layer.
    """
    position = torch.arange(tokens.shape[1])
    ends = spans.cpu()[..., None]
    inside = (position >= ends[:, :, 0]) & (position < ends[:, :, 1])
    wide = torch.promote_types(model.cfg.dtype, torch.float32)

    def mass(layer: int, pattern: Tensor) -> Tensor:
        rows = torch.arange(len(tokens), device=pattern.device)
        last = pattern[rows, :, lengths.to(pattern.device) - 1].to("cpu", wide)
        return einsum(last, inside.to(wide), "batch head key, batch span key -> batch head span")

    return torch.stack(list(_of_layers(model, tokens, layers, mass).values()), dim=1)


@torch.no_grad()
def _of_layers(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    layers: Iterable[int],
    look: Callable[[int, Float[Tensor, "batch head query key"]], Any],
) -> dict[int, Any]:
    """`look` at each layer's patterns in one forward with eager attention; what it returns."""
    found: dict[int, Any] = {}
    fired = dict.fromkeys(layers, 0)
    batch, size = tokens.shape
    expected = [batch, head_shape(model)[1], size, size]

    def hook_fn(pattern: Tensor, hook: Any) -> None:
        layer = int(hook.name.split(".")[1])
        if list(pattern.shape) != expected:
            raise InterventionError(
                f"hook_pattern of layer {layer} is {list(pattern.shape)}, expected {expected}"
            )
        fired[layer] += 1
        found[layer] = look(layer, pattern)

    network: Any = model.original_model
    before = network.config._attn_implementation
    try:
        if before != "eager":
            # A fused kernel has no pattern to show.
            network.set_attn_implementation("eager")
        names = [(f"blocks.{layer}.attn.hook_pattern", hook_fn) for layer in fired]
        with evaluating(model), model.hooks(fwd_hooks=names):
            model(tokens.to(model.cfg.device), return_type=None)
    finally:
        if before != "eager":
            network.set_attn_implementation(before)
    for layer, times in fired.items():
        if times != 1:
            raise InterventionError(
                f"hook_pattern of layer {layer} fired {times} times in one forward, expected once"
            )
    return {layer: found[layer] for layer in fired}

"""What every head, MLP and the embedding add to a logit difference, at the last position.

The logits are k (W_U N(r) + b_U), r the residual stream after the last block, N the final norm and
k a constant (Cohere: 1/16). With its scale frozen at what it was in this forward, a norm is
linear except for its bias:

    N(x) = s g * C(x) + b,   C(x) = x - mean(x) (LayerNorm) or x (RMSNorm),   s one number a row

so that the difference of two logits is a sum over whatever is added to r. A norm between the
attention and the residual stream (Gemma-2 and 3, OLMo-2) is frozen in the same way. Nothing here
depends on the architecture: g, b and C come from what the norm does to two known vectors, s from
its input and output, k from all logits, and the parts are compared with the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import InputError, InterventionError
from langheads.model.quantization import w_o
from langheads.model.shape import head_shape
from langheads.model.state import evaluating

PARTS = ("embedding", "heads", "attention_bias", "mlp", "constant")
# Shares of the parts' absolute sum, by dtype; parts and logits are rounded differently.
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4}
_HALF_TOLERANCE = 0.05


class Readout(NamedTuple):
    """Logit differences of a batch and the parts that add up to them, in logits."""

    heads: Float[Tensor, "batch layer head"]
    # In the order of `PARTS`; ``heads`` there is the sum of all heads, ``attention_bias`` b_O and
    # the bias of a norm after it, ``constant`` the final norm's bias and b_U.
    parts: Float[Tensor, "batch part"]
    difference: Float[Tensor, " batch"]  # logit of the answer minus logit of the wrong token


@contextmanager
def last_positions(
    model: TransformerBridge, names: list[str], lengths: Int[Tensor, " batch"]
) -> Iterator[dict[str, Tensor]]:
    """Keep the last real position of each row of hook points, in float32 or wider, fired once."""
    kept: dict[str, Tensor] = {}

    # By closure: a hook point may have another name than the one it was requested by.
    def keep(name: str) -> Any:
        def hook_fn(value: Tensor, hook: Any) -> None:
            if name in kept:
                raise InterventionError(f"{name} fired twice where one forward was expected")
            kept[name] = widened(last(value, lengths)).detach()

        return hook_fn

    with evaluating(model), model.hooks(fwd_hooks=[(name, keep(name)) for name in names]):
        yield kept
    if missing := [name for name in names if name not in kept]:
        raise InterventionError(f"{', '.join(missing)} did not fire")


def last(
    values: Float[Tensor, "batch pos ..."], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch ..."]:
    """The last real position of each row of a right-padded batch."""
    lengths = lengths.to(values.device)
    return values[torch.arange(len(lengths), device=values.device), lengths - 1]


def widened(values: Tensor) -> Tensor:
    """In float32 or wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class FrozenNorm(NamedTuple):
    """A norm at some rows with its scale held: ``x -> scale gain * C(x) + bias``."""

    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    centres: bool  # whether C subtracts the mean
    scale: Float[Tensor, " batch"]

    def back(self, direction: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """The direction before the norm that equals `direction` after it, except for the bias."""
        before = rearrange(self.scale, "batch -> batch 1") * self.gain * direction
        return before - before.mean(dim=1, keepdim=True) if self.centres else before


@torch.no_grad()
def freeze(
    norm: torch.nn.Module,
    dtype: torch.dtype,
    x: Float[Tensor, "batch d_model"],
    y: Float[Tensor, "batch d_model"],
) -> FrozenNorm:
    """The norm frozen where it turned x into y; refuses any but LayerNorm and RMSNorm."""
    d_model = x.shape[1]
    # Mean 0 and mean square 1, so that both kinds of norm leave it unchanged.
    alternating = 1.0 - 2.0 * (torch.arange(d_model, device=x.device) % 2)
    probes = torch.stack([torch.zeros_like(alternating), alternating, alternating + 1])
    answers = widened(norm(rearrange(probes.to(dtype), "probe d_model -> probe 1 d_model")))
    bias, plain, raised = answers[:, 0].to(x)
    gain = (plain - bias) * alternating.to(x)
    centres = bool((raised - plain).abs().max() < 0.1 * (plain - bias).abs().max())
    straight = gain * (x - x.mean(dim=1, keepdim=True) if centres else x)
    scale = ((y - bias) * straight).sum(dim=1) / straight.square().sum(dim=1)
    again = rearrange(scale, "batch -> batch 1") * straight + bias
    if (again - y).abs().max() > _tolerance(dtype) * y.abs().max():
        raise InputError(
            "direct logit attribution needs norms that are a LayerNorm or an RMSNorm, linear once "
            f"their scale is held; {type(norm).__name__} is neither. Leave the measure direct out"
        )
    return FrozenNorm(gain, bias, centres, scale)


def _tolerance(dtype: torch.dtype) -> float:
    return _TOLERANCE.get(dtype, _HALF_TOLERANCE)


def require_linear_readout(model: TransformerBridge) -> None:
    """Refuse a model with a final soft cap (Gemma-2): its logits are not linear in the stream."""
    cap = float(getattr(model.cfg, "output_logits_soft_cap", None) or 0.0)
    if cap > 0:
        raise InputError(
            f"direct logit attribution of {model.cfg.model_name} asked for, but a soft cap of "
            f"{cap:g} follows its unembedding, so its logits are no sum over heads; leave the "
            "measure direct out (gradient and patching do not mind)"
        )


@torch.no_grad()
def readout(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, " batch"],
    answer: Int[Tensor, " batch"],
    wrong: Int[Tensor, " batch"],
) -> Readout:
    """Logit differences (answer minus wrong) after the last real token of each row, part by part.

    Raises:
        InputError: the logits are not linear in the normed residual stream, or the parts do not
            add up to them.

    Memory: W_O of one layer at a time in float32; z, attention and MLP output of every layer at the
    last position only. ``[batch, pos, head, d_model]`` is never made.
    """
    require_linear_readout(model)
    layers, _ = head_shape(model)
    # A norm between the attention and the residual stream.
    after = [getattr(model.blocks[layer], "ln1_post", None) for layer in range(layers)]
    names = ["blocks.0.hook_resid_pre", "ln_final.hook_in", "ln_final.hook_out"]
    for layer in range(layers):
        names += [f"blocks.{layer}.{name}" for name in ("attn.hook_z", "hook_mlp_out")]
        if after[layer] is not None:
            names += [f"blocks.{layer}.ln1_post.{name}" for name in ("hook_in", "hook_out")]
    with last_positions(model, names, lengths) as at:
        logits = widened(last(model(tokens, return_type="logits"), lengths))
    answer, wrong = answer.to(logits.device), wrong.to(logits.device)
    direction, constant = _final_direction(model, at, logits, answer, wrong)
    parts = dict.fromkeys(PARTS, torch.zeros(len(tokens), dtype=logits.dtype, device=logits.device))
    parts |= {"constant": constant, "embedding": _dot(at["blocks.0.hook_resid_pre"], direction)}
    heads = []
    for layer in range(layers):
        of_heads, bias = _of_attention(model, at, layer, after[layer], direction)
        heads.append(of_heads)
        for part in bias:
            parts["attention_bias"] = parts["attention_bias"] + part
        parts["mlp"] = parts["mlp"] + _dot(at[f"blocks.{layer}.hook_mlp_out"], direction)
    by_head = torch.stack(heads, dim=1)
    parts["heads"] = by_head.sum(dim=(1, 2))
    together = torch.stack([parts[name] for name in PARTS], dim=1)
    row = torch.arange(len(tokens), device=logits.device)
    difference = logits[row, answer] - logits[row, wrong]
    off = (together.sum(dim=1) - difference).abs()
    # Large parts that cancel leave their rounding errors.
    size = together.abs().sum(dim=1) + by_head.abs().sum(dim=(1, 2))
    if bool((off > _tolerance(model.cfg.dtype) * size).any()):
        raise _refusal(
            model,
            f"its heads, MLPs and embedding miss the logit difference by {float(off.max()):.3g} "
            "logits: something else is added to its residual stream",
        )
    return Readout(by_head, together, difference)


def _final_direction(
    model: TransformerBridge,
    at: dict[str, Tensor],
    logits: Float[Tensor, "batch vocab"],
    answer: Int[Tensor, " batch"],
    wrong: Int[Tensor, " batch"],
) -> tuple[Float[Tensor, "batch d_model"], Float[Tensor, " batch"]]:
    """The direction of the logit difference before the final norm, and its constant part."""
    dtype = model.cfg.dtype
    w_u, b_u = widened(model.W_U).to(logits), widened(model.b_U).to(logits)
    normed = at["ln_final.hook_out"].to(logits)
    raw = normed @ w_u + b_u
    factor = (logits * raw).sum() / raw.square().sum()
    if (logits - factor * raw).abs().max() > _tolerance(dtype) * logits.abs().max():
        raise _refusal(model, "its logits are no constant times W_U N(r) + b_U")
    direction = factor * (w_u[:, answer] - w_u[:, wrong]).T
    final = freeze(model.ln_final, dtype, at["ln_final.hook_in"].to(normed), normed)
    constant = direction @ final.bias + factor * (b_u[answer] - b_u[wrong])
    return final.back(direction), constant


def _of_attention(
    model: TransformerBridge,
    at: dict[str, Tensor],
    layer: int,
    norm: torch.nn.Module | None,
    direction: Float[Tensor, "batch d_model"],
) -> tuple[Float[Tensor, "batch head"], list[Float[Tensor, " batch"]]]:
    """What each head of a layer adds, and what the biases of a norm after it and of W_O add."""
    biases = []
    if norm is not None:
        x, y = (at[f"blocks.{layer}.ln1_post.{name}"] for name in ("hook_in", "hook_out"))
        frozen = freeze(norm, model.cfg.dtype, x.to(direction), y.to(direction))
        biases.append(direction @ frozen.bias)
        direction = frozen.back(direction)
    attention = model.blocks[layer].attn
    if attention.b_O is not None:
        biases.append(direction @ widened(attention.b_O).to(direction))
    heads = einsum(
        at[f"blocks.{layer}.attn.hook_z"].to(direction),
        widened(w_o(model, layer)).to(direction),
        direction,
        "batch head d_head, head d_head d_model, batch d_model -> batch head",
    )
    return heads, biases


def _refusal(model: TransformerBridge, why: str) -> InputError:
    return InputError(
        f"direct logit attribution of {model.cfg.model_name} asked for, but {why}; leave the "
        "measure direct out"
    )


def _dot(
    part: Float[Tensor, "batch d_model"], direction: Float[Tensor, "batch d_model"]
) -> Float[Tensor, " batch"]:
    return einsum(part.to(direction), direction, "batch d_model, batch d_model -> batch")

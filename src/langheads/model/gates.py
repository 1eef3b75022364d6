"""The gate: one intervention switches off, weakens and strengthens heads.

    z'[l,h] = m[l,h] z[l,h] + (1 - m[l,h]) baseline[l,h]

m = 1 leaves the head untouched, bit by bit; m = 0 puts the baseline (0: zero ablation; the mean of
z: mean ablation) in its place; m = 3 strengthens it. A gate inside steering gives m (z + a d),
steering inside a gate m z + a d (see `langheads.model.hook_z`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.heads.given import ByLanguage, Named
from langheads.heads.mask import HeadMask
from langheads.io.arguments import check_gate
from langheads.io.errors import InputError
from langheads.model.hook_z import Z, on_every_hook_z
from langheads.model.identity import described_before
from langheads.model.kept import kept_as_one
from langheads.model.shape import head_shape, heads_of
from langheads.model.state import evaluating
from langheads.text import length_batches, pad_right

Gates = (
    Named
    | ByLanguage
    | HeadMask
    | Mapping[str | tuple[int, int], Any]
    | np.ndarray
    | Float[Tensor, "*batch layer head"]
)
"""Heads, which get one value; one gate a head; or the gates of all heads."""


def gates_of_all(
    model: TransformerBridge,
    gates: Gates,
    value: float = 0.0,
    language: str | None = None,
    baseline: Tensor | None = None,
) -> Float[Tensor, "*batch layer head"]:
    """The gates of all heads of a model; arguments and errors as for `gated`.

    Refuses gates that are not finite: every logit would be NaN, and every reply one token.
    """
    layers, heads = head_shape(model)
    if isinstance(gates, HeadMask):
        gates.require_model("the mask", described_before(model), (layers, heads), baseline)
        gates = gates.gates()
    elif isinstance(gates, np.ndarray):
        if gates.dtype.kind not in "biuf":
            raise InputError(f"gates of dtype {gates.dtype}; they must be numbers")
        gates = torch.from_numpy(gates.astype(np.promote_types(gates.dtype, np.float32)))
    elif isinstance(gates, Mapping) and all(isinstance(m, Real) for m in gates.values()):
        gates = _of_heads(gates, (layers, heads))  # type: ignore[arg-type]
    elif not isinstance(gates, Tensor):
        gates = torch.from_numpy(heads_of(model, gates, language).gates(value))
    if gates.ndim not in (2, 3) or gates.shape[-2:] != (layers, heads):
        raise InputError(
            f"gates of shape {list(gates.shape)}, expected [{layers}, {heads}] or "
            f"[batch, {layers}, {heads}]"
        )
    finite = torch.isfinite(gates)
    if not bool(finite.all()):
        at = tuple(finite.logical_not().nonzero()[0].tolist())
        raise InputError(
            f"the gate of L{at[-2]}H{at[-1]} is {gates[at].item()}; gates must be finite numbers"
        )
    return gates


def _of_heads(
    gates: Mapping[str | tuple[int, int], Any], shape: tuple[int, int]
) -> Float[Tensor, "layer head"]:
    """The gates of all heads from those of some."""
    named, of_all = HeadSet(list(gates), shape), torch.ones(shape)
    if len(named) < len(gates):
        raise InputError("a head was given two gates, by name and by pair; give it one")
    for head, value in zip(named, gates.values(), strict=True):
        of_all[head] = check_gate(value, f"the gate of {head}")
    return of_all


@contextmanager
def gated(
    model: TransformerBridge,
    gates: Gates,
    value: float = 0.0,
    *,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    language: str | None = None,
    first_layer: int = 0,
) -> Iterator[TransformerBridge]:
    """Run every forward inside the block under gates.

    Args:
        model: the model; its hooks are as before when the block ends, however it ends.
        gates: heads (a `HeadSet`, names like ``["L3H7"]``, or those of `language`), which get
            `value` while all others get 1; or head -> its gate, ``{"L3H7": 0.5}``; or the gates
            themselves, ``[layer, head]`` or ``[batch, layer, head]``, the second for different
            gates in every row of the batch. Gates that require a gradient get one. Or a
            `HeadMask`, with the baseline that it was learned with.
        value: the gate of heads that are given without one.
        baseline: what stands in for a head at gate 0, ``[layer, head, d_head]`` (see `mean_z`);
            None is zero.
        language: whose heads, where `gates` are heads a language, such as `LanguageHeads`.
        first_layer: the first layer that runs, inside `langheads.model.replay.starting_at`; the
            gates of earlier layers must be 1.

    Yields:
        The model.

    Raises:
        InputError: gates or baseline of another shape than the model's, or a value that is no
            finite number; another baseline than a mask was learned with.
        ProvenanceError: a mask that was learned in another model.
        InterventionError: see `on_every_hook_z`.

    Example:
        >>> from langheads import load, gated
        >>> model = load("demo")
        >>> tokens = model.to_tokens("The cat sleeps.")
        >>> with gated(model, ["L1H3"], 0.0):
        ...     logits = model(tokens)
    """
    layers, heads = head_shape(model)
    gates = gates_of_all(model, gates, value, language, baseline)
    if baseline is not None and (baseline.ndim != 3 or baseline.shape[:2] != (layers, heads)):
        raise InputError(
            f"baseline of shape {list(baseline.shape)}, expected [{layers}, {heads}, d_head]"
        )
    if baseline is not None and not bool(torch.isfinite(baseline).all()):
        raise InputError("the baseline has values that are NaN or infinite; it must be finite")
    if not 0 <= first_layer < layers or bool((gates[..., :first_layer, :] != 1).any()):
        raise InputError(
            f"gates of layers before first_layer {first_layer} must be 1: they do not run"
        )
    of_layer = rearrange(gates, "... layer head -> layer ... 1 head 1")
    # Untouched layers are skipped: bit-equal, and nothing to compute.
    idle = [not gates.requires_grad and bool((m == 1).all()) for m in of_layer]

    def change(layer: int, z: Z) -> Z | None:
        if idle[layer]:
            return None
        # Gates stay in float32 or wider whatever the model's dtype, so their gradient is summed
        # over positions in float32 and not in bfloat16.
        wide = torch.promote_types(z.dtype, torch.float32)
        gate = of_layer[layer].to(z.device, wide)
        changed = gate * z
        if baseline is not None:
            changed = changed + (1 - gate) * baseline[layer].to(z.device, wide)
        return changed.to(z.dtype)

    how: dict[str, Any] = {"what": "gates", "first_layer": first_layer}
    how["batch"] = len(gates) if gates.ndim == 3 else None
    if baseline is not None:
        # One number a head would be broadcast without an error.
        how |= {"what": "gates and their baseline", "d_head": baseline.shape[2]}
    with on_every_hook_z(model, change, **how):
        yield model


def mean_over_languages(
    means: Iterable[Float[Tensor, "layer head d_head"]],
) -> Float[Tensor, "layer head d_head"]:
    """One baseline of the `mean_z` of several languages, each with equal weight."""
    return torch.stack(list(means)).mean(dim=0)


@torch.no_grad()
def mean_z(
    model: TransformerBridge,
    tokens: Sequence[Int[Tensor, " _"]],
    *,
    batch_tokens: int = 1024,
) -> Float[Tensor, "layer head d_head"]:
    """Mean of z over all positions of reference documents, the baseline of mean ablation.

    Args:
        model: the model.
        tokens: reference documents, ``[pos]`` each; every token counts once, BOS too.
        batch_tokens: tokens a forward, padding included.

    Returns:
        ``[layer, head, d_head]``, float32 or wider, on the CPU; summed in float64.

    Example:
        >>> from langheads import load
        >>> model = load("demo")
        >>> mean_z(model, [model.to_tokens("The cat sleeps.")[0]]).shape
        torch.Size([4, 12, 16])
    """

    if not tokens:
        raise InputError("a mean of z of no documents asked for; give at least one")

    def mean(some: list[int]) -> Tensor:
        return _mean_z(model, [tokens[i] for i in some], batch_tokens)

    return kept_as_one(model, ["mean z", batch_tokens], tokens, mean, by_all=True)


def _mean_z(
    model: TransformerBridge, tokens: Sequence[Int[Tensor, " _"]], batch_tokens: int
) -> Float[Tensor, "layer head d_head"]:
    sums: dict[int, Tensor] = {}
    for indices in length_batches([len(t) for t in tokens], batch_tokens):
        batch = pad_right([tokens[i] for i in indices]).to(model.cfg.device)
        lengths = torch.tensor([len(tokens[i]) for i in indices])
        real = torch.arange(batch.shape[1])[None, :] < lengths[:, None]

        def collect(layer: int, z: Z, real: Tensor = real) -> None:
            total = z[real.to(z.device)].sum(dim=0, dtype=torch.float64).cpu()
            sums[layer] = sums[layer] + total if layer in sums else total

        with evaluating(model), on_every_hook_z(model, collect, what="means of z"):
            model(batch, return_type=None)
    mean = torch.stack([sums[layer] for layer in sorted(sums)]) / sum(len(t) for t in tokens)
    return mean.to(torch.promote_types(model.cfg.dtype, torch.float32))

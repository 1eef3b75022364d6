"""The gate: one intervention for everything.

    z'[l,h] = m[l,h] z[l,h] + (1 - m[l,h]) baseline[l,h]

z[l,h] is the output of head h of layer l before W_O (``blocks.{l}.attn.hook_z``). m = 1 leaves
the head untouched, bit by bit; m = 0 puts the baseline (0: zero ablation; the mean of z: mean
ablation) in its place; m = 3 strengthens it. Cut here and nowhere later: after
W_O a slice of the attention output is a set of residual coordinates, not a head. Interventions on z
are in the order in which they are opened: a gate inside a shift gives m (z + a d), a shift inside a
gate m z + a d.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InputError, InterventionError
from langheads.model.loading import head_shape
from langheads.text import pad_right


@runtime_checkable
class Mask(Protocol):
    """What has gates of its own, as `langheads.HeadMask` does; a `HeadSet` needs a value."""

    def gates(self) -> Float[Tensor, "layer head"]:
        """The gates of all heads."""


Gates = HeadSet | Mask | Iterable[str | tuple[int, int]] | Float[Tensor, "*batch layer head"]


def check_finite(gates: Float[Tensor, "*batch layer head"]) -> None:
    """Refuse gates that are no numbers: every logit would be NaN, and every reply one token.

    Raises:
        InputError: which head, and its gate.
    """
    if not bool(torch.isfinite(gates).all()):
        *_, layer, head = torch.isfinite(gates).logical_not().nonzero()[0].tolist()
        values = gates[..., layer, head].flatten()
        value = values[~torch.isfinite(values)][0].item()
        raise InputError(f"the gate of L{layer}H{head} is {value}; gates must be finite numbers")


@contextmanager
def gated(
    model: TransformerBridge,
    gates: Gates,
    value: float = 0.0,
    *,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    first_layer: int = 0,
) -> Iterator[TransformerBridge]:
    """Run every forward inside the block under gates.

    Args:
        model: the model; its hooks are as before when the block ends, however it ends.
        gates: heads (a `HeadSet` or names like ``["L3H7"]``), which get `value` while all others
            get 1; or the gates themselves, ``[layer, head]`` or ``[batch, layer, head]``, the
            second for a gate of its own for every row of the batch. Gates that require a gradient
            get one. Or a `HeadMask`, with the baseline that it was learned with.
        value: the gate of the given heads.
        baseline: what stands in for a head at gate 0, ``[layer, head, d_head]`` (see `mean_z`);
            None is zero.
        first_layer: the first layer that runs, inside `langheads.model.replay.starting_at`; the
            gates of earlier layers must be 1.

    Yields:
        The model.

    Raises:
        InputError: gates or baseline of another shape than the model's, or a value that is no
            finite number.
        InterventionError: a layer's hook did not fire exactly once a forward, saw z of another
            shape, or no forward ran in the block.

    Example:
        >>> from langheads import load, gated
        >>> model = load("demo")
        >>> tokens = model.to_tokens("The cat sleeps.")
        >>> with gated(model, ["L1H3"], 0.0):
        ...     logits = model(tokens)
    """
    layers, heads = head_shape(model)
    if isinstance(gates, Mask) and not isinstance(gates, HeadSet):
        gates = gates.gates()
    if not isinstance(gates, Tensor):
        chosen = gates if isinstance(gates, HeadSet) else HeadSet(gates, (layers, heads))
        if chosen.shape != (layers, heads):
            raise InputError(
                f"heads of a model of shape {chosen.shape}, but this one has {(layers, heads)} "
                "(layers, heads)"
            )
        gates = torch.from_numpy(chosen.gates(value))
    if gates.ndim not in (2, 3) or gates.shape[-2:] != (layers, heads):
        raise InputError(
            f"gates of shape {list(gates.shape)}, expected [{layers}, {heads}] or "
            f"[batch, {layers}, {heads}]"
        )
    check_finite(gates)
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
    running = layers - first_layer
    fired = 0

    def apply(layer: int) -> Any:
        m = rearrange(gates[..., layer, :], "... head -> ... 1 head 1")
        # Untouched layers are left alone: bit-equal, and nothing to compute.
        idle = not gates.requires_grad and bool((m == 1).all())

        def hook_fn(z: Tensor, hook: Any) -> Tensor | None:
            nonlocal fired
            expected = first_layer + fired % running
            if layer != expected:
                raise InterventionError(
                    f"hook_z of layer {layer} fired where layer {expected} was due; gates need "
                    "every layer to run once a forward"
                )
            if z.ndim != 4 or z.shape[2] != heads or (m.ndim == 4 and m.shape[0] != z.shape[0]):
                batch = m.shape[0] if m.ndim == 4 else "batch"
                raise InterventionError(
                    f"hook_z of layer {layer} is {list(z.shape)}, gates expect "
                    f"[{batch}, pos, {heads}, d_head]"
                )
            if baseline is not None and baseline.shape[2] != z.shape[3]:
                # One number a head would be broadcast without a word.
                raise InterventionError(
                    f"hook_z of layer {layer} is {list(z.shape)}, but the baseline is "
                    f"{list(baseline.shape)}, [layer, head, d_head]"
                )
            fired += 1
            if idle:
                return None
            # Gates stay in float32 or wider whatever the model's dtype, so their gradient is
            # summed over positions in float32 and not in bfloat16.
            wide = torch.promote_types(z.dtype, torch.float32)
            gate = m.to(z.device, wide)
            gated_z = gate * z
            if baseline is not None:
                gated_z = gated_z + (1 - gate) * baseline[layer].to(z.device, wide)
            return gated_z.to(z.dtype)

        return hook_fn

    hooks = [(f"blocks.{layer}.attn.hook_z", apply(layer)) for layer in range(first_layer, layers)]
    with model.hooks(fwd_hooks=hooks):
        yield model
    if fired == 0:
        raise InterventionError(
            "gates were set, but hook_z did not fire: no forward of the model ran under them"
        )
    if fired % running:
        last = first_layer + fired % running - 1
        raise InterventionError(
            f"the last forward under gates stopped after layer {last} of {layers}"
        )


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
    """
    from langheads.text import length_batches

    layers, _ = head_shape(model)
    sums: list[Tensor | None] = [None] * layers
    for indices in length_batches([len(t) for t in tokens], batch_tokens):
        batch = pad_right([tokens[i] for i in indices]).to(model.cfg.device)
        lengths = torch.tensor([len(tokens[i]) for i in indices])
        real = torch.arange(batch.shape[1])[None, :] < lengths[:, None]

        def collect(z: Tensor, hook: Any, real: Tensor = real) -> None:
            layer = int(hook.name.split(".")[1])
            total = z[real.to(z.device)].sum(dim=0, dtype=torch.float64).cpu()
            previous = sums[layer]
            sums[layer] = total if previous is None else previous + total

        names = [(f"blocks.{layer}.attn.hook_z", collect) for layer in range(layers)]
        with model.hooks(fwd_hooks=names):
            model(batch, return_type=None)
    if any(total is None for total in sums):
        raise InterventionError("hook_z did not fire in every layer, so there is no mean of z")
    mean = torch.stack([t for t in sums if t is not None]) / sum(len(t) for t in tokens)
    return mean.to(torch.promote_types(model.cfg.dtype, torch.float32))

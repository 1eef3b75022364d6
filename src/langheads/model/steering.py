"""The shift: heads of one language pushed towards another.

    z'[l,h] = z[l,h] + a (mean z[l,h] over texts of A - mean z[l,h] over texts of B)

on chosen heads, at every position, at ``blocks.{l}.attn.hook_z``. It steers a reply from B to A.
The two means are `langheads.mean_z` of documents of each language.

On a head that is gated, too, the two are in the order in which they are opened.
``with shifted(...): generate(gates=...)``, and so the verb ``generate`` with both, gives
m (z + a d): a gate of 0 silences the shift and one of 3 triples it.
``with gated(...), shifted(...)`` gives m z + a d.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InputError, InterventionError
from langheads.model.loading import head_shape


@contextmanager
def shifted(
    model: TransformerBridge,
    heads: HeadSet | Iterable[str | tuple[int, int]],
    direction: Float[Tensor, "layer head d_head"],
    amount: float = 1.0,
) -> Iterator[TransformerBridge]:
    """Run every forward inside the block with the outputs of some heads shifted.

    Args:
        model: the model; its hooks are as before when the block ends, however it ends.
        heads: a `HeadSet` or names like ``["L3H7"]``; all others are left alone, bit by bit.
        direction: mean z over language A minus mean z over language B, of all heads; those of
            heads that are not chosen do not matter.
        amount: a, how many times the direction is added; 0 changes nothing, negative goes back.

    Yields:
        The model.

    Raises:
        InputError: heads or direction of another shape than the model's, no heads, values that
            are not finite.
        InterventionError: a layer's hook did not fire exactly once a forward, saw z of another
            shape, or no forward ran in the block.

    Example:
        >>> from langheads import load, mean_z, shifted
        >>> model = load("demo")
        >>> en, de = (mean_z(model, [model.to_tokens(t)[0]]) for t in ("A cat.", "Eine Katze."))
        >>> with shifted(model, ["L1H3"], de - en):
        ...     logits = model(model.to_tokens("The cat sleeps."))
    """
    shape = head_shape(model)
    chosen = heads if isinstance(heads, HeadSet) else HeadSet(heads, shape)
    if chosen.shape != shape:
        raise InputError(
            f"heads of a model of shape {chosen.shape}, but this one has {shape} (layers, heads)"
        )
    if not chosen:
        raise InputError("no heads to shift; name some like L3H7")
    if direction.ndim != 3 or tuple(direction.shape[:2]) != shape:
        raise InputError(
            f"direction of shape {list(direction.shape)}, expected [{shape[0]}, {shape[1]}, d_head]"
        )
    layers, per_layer = shape
    added = torch.zeros_like(direction, dtype=torch.promote_types(direction.dtype, torch.float32))
    for head in chosen:
        added[head.layer, head.head] = amount * direction[head.layer, head.head]
    if not bool(torch.isfinite(added).all()):
        raise InputError(
            f"a shift of amount {amount:g} has values that are NaN or infinite; amount and "
            "direction must be finite"
        )
    touched = [bool(count) for count in chosen.per_layer()]
    fired = 0

    def apply(layer: int) -> Any:
        def hook_fn(z: Tensor, hook: Any) -> Tensor | None:
            nonlocal fired
            due = fired % layers
            if layer != due:
                raise InterventionError(
                    f"hook_z of layer {layer} fired where layer {due} was due; a shift needs "
                    "every layer to run once a forward"
                )
            if z.ndim != 4 or z.shape[2:] != (per_layer, direction.shape[2]):
                raise InterventionError(
                    f"hook_z of layer {layer} is {list(z.shape)}, the direction expects "
                    f"[batch, pos, {per_layer}, {direction.shape[2]}]"
                )
            fired += 1
            if not touched[layer]:
                return None
            wide = torch.promote_types(z.dtype, added.dtype)
            return (z.to(wide) + added[layer].to(z.device, wide)).to(z.dtype)

        return hook_fn

    hooks = [(f"blocks.{layer}.attn.hook_z", apply(layer)) for layer in range(layers)]
    with model.hooks(fwd_hooks=hooks):
        yield model
    if fired == 0:
        raise InterventionError(
            "a shift was set, but hook_z did not fire: no forward of the model ran under it"
        )
    if fired % layers:
        raise InterventionError(
            f"the last forward under a shift stopped after layer {fired % layers - 1} of {layers}"
        )

"""Steering: the heads of one language are pushed towards another.

    z'[l,h] = z[l,h] + a (mean z[l,h] over texts of A - mean z[l,h] over texts of B)

on chosen heads, at every position, at ``blocks.{l}.attn.hook_z``. It steers a reply from B to A.
The two means are `langheads.mean_z` of documents of each language.

On a head that is also gated, the two act in the order in which they are opened.
``with steered(...): generate(gates=...)``, and so the verb ``generate`` with both, gives
m (z + a d): a gate of 0 silences the steering and one of 3 triples it.
``with gated(...), steered(...)`` gives m z + a d.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads.given import ByLanguage, Named
from langheads.io.errors import InputError
from langheads.model.hook_z import Z, on_every_hook_z
from langheads.model.shape import heads_of


@contextmanager
def steered(
    model: TransformerBridge,
    heads: Named | ByLanguage,
    direction: Float[Tensor, "layer head d_head"],
    amount: float = 1.0,
) -> Iterator[TransformerBridge]:
    """Run every forward inside the block with the outputs of some heads steered.

    Args:
        model: the model; its hooks are as before when the block ends, however it ends.
        heads: a `HeadSet`, names like ``["L3H7"]``, or heads of one language; all others are left
            alone, bit by bit.
        direction: mean z over language A minus mean z over language B, of all heads; those of
            heads that are not chosen do not matter.
        amount: a, how many times the direction is added; 0 changes nothing, negative goes back.

    Yields:
        The model.

    Raises:
        InputError: heads or direction of another shape than the model's, no heads, values that
            are not finite.
        InterventionError: see `on_every_hook_z`.

    Example:
        >>> from langheads import load, mean_z, steered
        >>> model = load("demo")
        >>> en, de = (mean_z(model, [model.to_tokens(t)[0]]) for t in ("A cat.", "Eine Katze."))
        >>> with steered(model, ["L1H3"], de - en):
        ...     logits = model(model.to_tokens("The cat sleeps."))
    """
    chosen = heads_of(model, heads)
    if not chosen:
        raise InputError("no heads to steer; name some like L3H7")
    if direction.ndim != 3 or tuple(direction.shape[:2]) != chosen.shape:
        layers, per_layer = chosen.shape
        raise InputError(
            f"direction of shape {list(direction.shape)}, expected [{layers}, {per_layer}, d_head]"
        )
    added = torch.zeros_like(direction, dtype=torch.promote_types(direction.dtype, torch.float32))
    for head in chosen:
        added[head] = amount * direction[head]
    if not bool(torch.isfinite(added).all()):
        raise InputError(
            f"steering by {amount:g} times the direction has values that are NaN or infinite; "
            "amount and direction must be finite"
        )
    touched = chosen.per_layer()

    def change(layer: int, z: Z) -> Z | None:
        if not touched[layer]:
            return None
        wide = torch.promote_types(z.dtype, added.dtype)
        return (z.to(wide) + added[layer].to(z.device, wide)).to(z.dtype)

    with on_every_hook_z(model, change, what="directions", d_head=direction.shape[2]):
        yield model

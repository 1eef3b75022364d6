"""Interventions on z[l,h], the output of head h of layer l before W_O, at
``blocks.{l}.attn.hook_z``.

Heads are cut here and nowhere later: after W_O a slice of the attention output is a set of residual
coordinates, not a head. Interventions on z act in the order in which they are opened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import InterventionError
from langheads.io.parts import spared
from langheads.model.kept import are_declared
from langheads.model.shape import head_shape

_thread = threading.local()
Z = Float[Tensor, "batch pos head d_head"]


@contextmanager
def again() -> Iterator[None]:
    """Marks what a backward pass computes again in this thread, which is not a new forward."""
    before = computing_again()
    _thread.again = True
    try:
        yield
    finally:
        _thread.again = before


def computing_again() -> bool:
    """Whether a backward pass computes a block again, see `langheads.model.checkpointing`."""
    return getattr(_thread, "again", False)


@contextmanager
def on_every_hook_z(
    model: TransformerBridge,
    change: Callable[[int, Z], Z | None],
    *,
    what: str,
    batch: int | None = None,
    d_head: int | None = None,
    first_layer: int = 0,
) -> Iterator[None]:
    """Change z of every layer in every forward inside the block.

    Args:
        model: its hooks are as before when the block ends, however it ends.
        change: (layer, z) -> the new z, or None for no change; deterministic, as backward passes
            may compute a layer again.
        what: the name of what is set, in the plural, for errors.
        batch: rows that z must have; None for any number.
        d_head: width that z must have; None for any.
        first_layer: the first layer that runs, see `langheads.model.replay.starting_at`.

    Raises:
        InterventionError: a layer's hook did not fire exactly once a forward, saw z of another
            shape, or no forward ran in the block.
    """
    layers, heads = head_shape(model)
    running = layers - first_layer
    wanted = (batch, None, heads, d_head)
    fired = 0

    def at(layer: int) -> Any:
        def hook_fn(z: Tensor, hook: Any) -> Tensor | None:
            nonlocal fired
            if computing_again():
                return change(layer, z)
            due = first_layer + fired % running
            if layer != due:
                raise InterventionError(
                    f"hook_z of layer {layer} fired where layer {due} was due; {what} need every "
                    "layer to run once a forward, and inside their block nothing else that sets "
                    "heads, such as a knock-out, which starts at the layer of its heads"
                )
            if z.ndim != 4 or any(n not in (None, m) for n, m in zip(wanted, z.shape, strict=True)):
                raise InterventionError(
                    f"hook_z of layer {layer} is {list(z.shape)}, {what} expect "
                    f"[{batch or 'batch'}, pos, {heads}, {d_head or 'd_head'}]"
                )
            fired += 1
            return change(layer, z)

        return hook_fn

    hooks = [(f"blocks.{layer}.attn.hook_z", at(layer)) for layer in range(first_layer, layers)]
    before = spared()
    with model.hooks(fwd_hooks=hooks):
        yield
    if fired == 0 and not (are_declared() and spared() > before):
        raise InterventionError(
            f"{what} were set, but hook_z did not fire: no forward of the model ran under them"
        )
    if fired % running:
        last = first_layer + fired % running - 1
        raise InterventionError(
            f"the last forward under {what} stopped after layer {last} of {layers}"
        )

"""Exact forwards from a later block: what a gate in layer l cannot change is computed once.

A gate in layer l changes nothing before layer l. So the residual stream that enters each block is
captured in one forward, and every further forward of the same tokens starts at block l: the
blocks before it pass the captured residual on. Everything else is the model's own forward
(masks, rotary angles, final norm, logit scale, soft cap), so the losses are those of a full
forward, bit by bit.

TransformerLens' ``start_at_layer`` gives the same values but still runs the earlier blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InterventionError
from langheads.model.gates import gated
from langheads.model.shape import head_shape
from langheads.model.state import evaluating, forwards


@dataclass
class BlockInputs:
    """The residual stream entering each block in one forward."""

    # Per layer; empty until the forward has run.
    residuals: list[Float[Tensor, "batch pos d_model"]] = field(default_factory=list)
    # How many values beside the residual each block returns in its tuple; None where it returns
    # the bare residual.
    extras: list[int | None] = field(default_factory=list)


@contextmanager
def captured_block_inputs(model: TransformerBridge) -> Iterator[BlockInputs]:
    """Capture the residual stream of the one forward that runs inside the block.

    Raises `InterventionError` where not exactly one did, or a block takes no residual. Memory:
    layers x ``[batch, pos, d_model]``.
    """
    captured = BlockInputs()
    layers, _ = head_shape(model)

    def before(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        residual = args[0] if args else kwargs.get("hidden_states")
        if not isinstance(residual, Tensor):
            raise InterventionError("a block was called without hidden states")
        captured.residuals.append(residual.detach())

    def after(module: Any, args: tuple, output: Any) -> None:
        captured.extras.append(len(output) - 1 if isinstance(output, tuple) else None)

    handles = []
    try:
        for layer in range(layers):
            block: torch.nn.Module = model.blocks[layer]
            # Before the user's hooks, which run again in a forward that starts here.
            handles.append(block.register_forward_pre_hook(before, with_kwargs=True, prepend=True))
            handles.append(block.register_forward_hook(after))
        with evaluating(model):
            yield captured
    finally:
        for handle in handles:
            handle.remove()
    if len(captured.residuals) != layers or len(captured.extras) != layers:
        raise InterventionError(
            f"{len(captured.residuals)} blocks ran where one forward of {layers} was expected"
        )


@contextmanager
def starting_at(
    model: TransformerBridge, inputs: BlockInputs, layer: int, *, copies: int = 1
) -> Iterator[None]:
    """Forwards inside the block start at block `layer` from captured residuals.

    The tokens given to the model must be those of the captured forward, `copies` times over, one
    whole batch after another. Gates inside need ``gated(..., first_layer=layer)``. The
    model's blocks are as before when the block ends, however it ends.
    """
    skipped: list[Any] = [model.blocks[index] for index in range(layer)]
    hooks = [block.__dict__["_forward_hooks"] for block in skipped]
    residual = repeat(
        inputs.residuals[layer], "batch pos d_model -> (copy batch) pos d_model", copy=copies
    )
    outputs = [
        residual if extras is None else (residual, *[None] * extras)
        for extras in inputs.extras[:layer]
    ]
    given = [lambda *args, _output=output, **kwargs: _output for output in outputs]
    try:
        for block in skipped:
            # Their effect on a block's output is in the residual.
            block.__dict__["_forward_hooks"] = OrderedDict()
        with forwards(zip(skipped, given, strict=True)), evaluating(model):
            yield
    finally:
        for block, of_block in zip(skipped, hooks, strict=True):
            block.__dict__["_forward_hooks"] = of_block


Condition = tuple[HeadSet, float, Float[Tensor, "layer head d_head"] | None]
"""Heads, the gate that they get, and what stands in for them; None is 0."""


def under_each(
    model: TransformerBridge, conditions: Iterable[Condition], run: Callable[[], Tensor]
) -> Iterator[Tensor]:
    """The result of one forward with nothing gated, then of the same under each condition."""
    with captured_block_inputs(model) as inputs:
        untouched = run()
    yield untouched
    for heads, gate, baseline in conditions:
        first = min(head.layer for head in heads)
        with (
            starting_at(model, inputs, first),
            gated(model, heads, gate, baseline=baseline, first_layer=first),
        ):
            changed = run()
        yield changed

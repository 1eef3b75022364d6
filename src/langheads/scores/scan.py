"""The scan that exact knock-outs share: one loss of a batch, with every head off alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch
from accelerate.utils.memory import clear_device_cache
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import Head, HeadSet
from langheads.io.errors import InputError
from langheads.model import captured_block_inputs, gated, starting_at, token_budget
from langheads.model.batches import out_of_memory
from langheads.model.replay import BlockInputs

BASELINES = ("zero", "mean")
logger = logging.getLogger("langheads")


def heads_off(
    model: TransformerBridge,
    loss: Callable[[int], Float[Tensor, " rows"]],
    heads: HeadSet,
    *,
    batch_shape: tuple[int, int],
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[Tensor, "batch conditions"]:
    """A loss of every row of one batch, with nothing off and with each head off alone.

    Args:
        model: the model.
        loss: runs one forward of the batch, so many copies of it one after another, and gives
            each row's loss.
        heads: which heads to knock out, one at a time.
        batch_shape: rows and positions of one copy.
        baseline: what stands in for a head; None is zero.
        batch_tokens: tokens a forward, which says how many heads run side by side.
        progress: updated by rows times heads done.

    Returns:
        ``[batch, 1 + heads]``, nothing off first.

    Memory: layers x ``[batch, pos, d_model]`` beside a forward's own.
    """
    rows, width = batch_shape
    side_by_side = max(1, token_budget(model, batch_tokens) // (rows * width))
    with captured_block_inputs(model) as inputs:
        columns: dict[Head | None, Tensor] = {None: loss(1)}
    for layer in range(heads.shape[0]):
        left = [head for head in heads if head.layer == layer]
        while left:
            together = left[:side_by_side]
            try:
                found = _together(model, loss, together, inputs, rows, baseline, heads.shape)
            except Exception as error:
                if len(together) == 1 or not out_of_memory(error):
                    raise
                found = None
            if found is None:
                # Outside the except block: the traceback holds on to the memory.
                clear_device_cache(garbage_collection=True)
                side_by_side = max(1, len(together) // 2)
                logger.warning("out of memory: going on with %d heads at once", side_by_side)
                continue
            columns |= dict(zip(together, found, strict=True))
            left = left[len(together) :]
            if progress is not None:
                progress.update(len(together) * rows)
    return torch.stack([columns[None], *(columns[h] for h in heads)], dim=1)


def _together(
    model: TransformerBridge,
    loss: Callable[[int], Float[Tensor, " rows"]],
    together: list[Head],
    inputs: BlockInputs,
    rows: int,
    baseline: Float[Tensor, "layer head d_head"] | None,
    shape: tuple[int, int],
) -> Float[Tensor, "copy batch"]:
    """Heads of one layer, each in a copy of the batch of its own."""
    copies, layer = len(together), together[0].layer
    gates = torch.stack([torch.from_numpy(HeadSet([h], shape).gates(0.0)) for h in together])
    with (
        starting_at(model, inputs, layer, copies=copies),
        gated(
            model,
            repeat(gates, "copy l h -> (copy batch) l h", batch=rows),
            baseline=baseline,
            first_layer=layer,
        ),
    ):
        return rearrange(loss(copies), "(copy batch) -> copy batch", copy=copies)


def check_baselines(baseline: str | Iterable[str]) -> list[str]:
    """The baselines asked for, each once.

    Raises:
        InputError: none, or an unknown one.
    """
    baselines = [baseline] if isinstance(baseline, str) else list(dict.fromkeys(baseline))
    if not baselines or not set(baselines) <= set(BASELINES):
        raise InputError(
            f"baseline {', '.join(baselines) or 'none'} asked for; allowed are "
            f"{', '.join(BASELINES)}"
        )
    return baselines


def check_heads(heads: HeadSet | Iterable[str] | None, shape: tuple[int, int]) -> HeadSet:
    """The heads asked for; None is all of the model.

    Raises:
        InputError: none, or one that the model does not have.
    """
    if heads is None:
        heads = HeadSet([(x, y) for x in range(shape[0]) for y in range(shape[1])], shape)
    chosen = HeadSet(heads, shape)
    if not chosen:
        raise InputError("no heads asked for; give at least one, or leave heads out for all")
    return chosen

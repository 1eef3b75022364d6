"""Backward passes that fit in memory: a block keeps only what is expensive to compute, or its
input.

A gradient of gates needs no gradient of a weight, but a block's elementwise steps (norms, rotary
angles, activations) store as much for the backward pass as its matrix products. So the first block
of a forward runs normally and measures what the others would keep. Where that does not fit, they
keep matrix products and fused attention, and the backward pass repeats the elementwise steps; where
that does not fit either, some keep only their input and fused attention, the most expensive step
for its size. This is PyTorch's selective activation checkpointing. Hooks fire once more in what is
computed again.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)
from transformer_lens.model_bridge import TransformerBridge

from langheads.model.chunked_losses import in_chunks
from langheads.model.hook_z import again
from langheads.model.identity import hooked
from langheads.model.state import forwards

_ATEN: Any = torch.ops.aten
_PRODUCTS = {_ATEN.mm.default: 0, _ATEN.addmm.default: 1}
_ATTENTION = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu.default,
    _ATEN._scaled_dot_product_flash_attention.default,
    _ATEN._scaled_dot_product_efficient_attention.default,
    _ATEN._scaled_dot_product_cudnn_attention.default,
}
# With the rest of a backward pass 1.5 GiB, for 1.2 billion weights and 2,048 tokens.
_ROOM_ON_CPU = 18 * 2**26


class Kept(NamedTuple):
    """What a block keeps for the backward pass, bytes."""

    whole: int  # without checkpointing, at most
    dear: int  # its input, matrix products and fused attention
    bare: int  # its input and fused attention


def blocks_to_cut(blocks: int, kept: Kept, room: int) -> tuple[int, int]:
    """How many of the blocks keep (``bare``, ``dear``); the others keep all.

    As little is computed again as `room` bytes allow; where nothing fits, as much as possible.

    Example:
        >>> [blocks_to_cut(10, Kept(8, 5, 1), room) for room in (80, 50, 49, 30, 3)]
        [(0, 0), (0, 10), (1, 9), (5, 5), (10, 0)]
    """
    if blocks * kept.whole <= room:
        return 0, 0
    over = blocks * kept.dear - room
    bare = min(blocks, max(0, -(-over // max(1, kept.dear - kept.bare))))
    return bare, blocks - bare


def room_for_backward(device: torch.device) -> int:
    """Bytes that may be kept for a backward pass: half of what is free."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (torch.cuda.mem_get_info(device)[0] + unused) // 2
    return min(psutil.virtual_memory().available // 2, _ROOM_ON_CPU)


@contextmanager
def checkpointed(model: TransformerBridge, room: int | None = None) -> Iterator[None]:
    """Forwards inside the block, with their backward passes, keep what fits in `room` bytes, by
    default `room_for_backward`.

    Changes nothing outside `langheads.model.chunked_losses`, nor while other hooks are set (of
    torch, too), which may count, store or draw random numbers; interventions of langheads inside
    the block run again.
    """
    if not in_chunks(model) or hooked(model):
        yield
        return
    device = next(model.original_model.parameters()).device
    plan = _Plan(model, room_for_backward(device) if room is None else room)
    blocks = enumerate(model.blocks)
    with forwards((block, partial(plan.run, n, block.forward)) for n, block in blocks):
        yield


class _Plan:
    """What each block of a forward keeps, decided after its first."""

    def __init__(self, model: TransformerBridge, room: int):
        self._room, self._blocks = room, len(model.blocks)
        # The MLP's last product is not kept: only a norm after it needs its value.
        self._left_out = None if hasattr(model.blocks[0], "ln2_post") else model.cfg.d_mlp
        self._cut = (0, 0)

    def run(self, number: int, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        if number == 0 and args:
            with _Counted(self._is_dear) as counted:
                output = forward(*args, **kwargs)
            room = self._room - counted.kept_here
            self._cut = blocks_to_cut(self._blocks - 1, counted.by_others(args[0].nbytes), room)
            return output
        bare, dear = self._cut
        if number > bare + dear:
            return forward(*args, **kwargs)
        keeps = _is_attention if number <= bare else self._is_dear
        output = checkpoint(
            forward, *args, use_reentrant=False, preserve_rng_state=False,
            context_fn=partial(_selective, keeps), **kwargs,
        )  # fmt: skip
        trim()
        return output

    def _is_dear(self, op: Any, args: Any) -> bool:
        if op in _PRODUCTS:
            return bool(args[_PRODUCTS[op]].shape[-1] != self._left_out)
        return _is_attention(op, args)


def _is_attention(op: Any, args: Any) -> bool:
    return op in _ATTENTION


def _selective(
    keeps: Callable[[Any, Any], bool],
) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Contexts for a block's forward, and for its recomputation."""

    def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE if keeps(op, args) else CheckpointPolicy.PREFER_RECOMPUTE

    first, second = create_selective_checkpoint_contexts(policy)
    return first, _second(second)


@contextmanager
def _second(context: AbstractContextManager[Any]) -> Iterator[None]:
    with context, again():
        yield


def trim() -> None:
    """Return free memory between kept tensors to the system, where the C library can.

    glibc seldom fits a block's temporary tensors into the gaps that the last one left.
    """
    on_cpu = sys.platform == "linux" and not torch.cuda.is_initialized()
    if on_cpu and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


class _Counted(TorchDispatchMode):
    """Counts what the first block keeps, and what others would keep.

    Its input needs no gradient, so it keeps less than they do: they keep at most all that is made.
    """

    def __init__(self, is_dear: Callable[[Any, Any], bool]):
        super().__init__()
        self._is_dear, self._made, self._dear, self._attention = is_dear, 0, 0, 0
        self._storages: dict[int, int] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda of: of)

    def __enter__(self) -> Any:
        self._hooks.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._hooks.__exit__(*error)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = op(*args, **(kwargs or {}))
        given, made = (
            {
                of.untyped_storage().data_ptr(): of.nbytes
                for of in tree_leaves(each)
                if isinstance(of, Tensor)
            }
            for each in (args, output)
        )
        size = sum(made[at] for at in made.keys() - given.keys())
        self._made += size
        self._dear += size * self._is_dear(op, args)
        self._attention += size * (op in _ATTENTION)
        return output

    def _pack(self, of: Tensor) -> Tensor:
        if not isinstance(of, torch.nn.Parameter):
            self._storages[of.untyped_storage().data_ptr()] = of.untyped_storage().nbytes()
        # The tensor itself would hold a reference to the node that holds it.
        return of.detach()

    @property
    def kept_here(self) -> int:
        """Bytes that this block keeps."""
        return sum(self._storages.values())

    def by_others(self, given: int) -> Kept:
        """What other blocks keep, whose input has so many bytes."""
        return Kept(given + self._made, given + self._dear, given + self._attention)

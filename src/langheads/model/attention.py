"""Fused attention while gates need no attention patterns.

TransformerLens computes attention eagerly so that patterns can be hooked, and stores
``[batch, head, pos, pos]`` in every layer. Gates hook z and need no pattern. Inside
`fused_attention` every attention component delegates to the Hugging Face module that it wraps (as
TransformerLens' base class does) under PyTorch's scaled-dot-product attention; ``hook_z`` fires
as before. There is no public switch for this, so this module is the one place that does it.

Not every architecture survives it: some refuse the kernel, one lost its gradients. So the first
use on a model compares losses and gate gradients with eager attention on a padded random batch,
and keeps eager attention where they differ.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components import AttentionBridge

logger = logging.getLogger("langheads")

_trusted: WeakKeyDictionary[TransformerBridge, bool] = WeakKeyDictionary()


@contextmanager
def fused_attention(model: TransformerBridge) -> Iterator[bool]:
    """Run forwards inside the block with fused attention where it is known to be equal.

    Args:
        model: the model; its attention is as before when the block ends, however it ends.

    Yields:
        Whether attention is fused; False where the model's check failed and it stays eager.

    Memory: without ``[batch, head, pos, pos]`` a layer. ``hook_pattern`` does not fire inside.
    """
    if model not in _trusted:
        _trusted[model] = _equal_to_eager(model)
    if not _trusted[model]:
        yield False
        return
    with _fused(model):
        yield True


@contextmanager
def _fused(model: TransformerBridge) -> Iterator[None]:
    network: Any = model.original_model
    before = network.config._attn_implementation
    components = [m for m in model.modules() if isinstance(m, AttentionBridge)]
    try:
        network.set_attn_implementation("sdpa")
        for component in components:
            # Through __dict__: a bridge component passes attributes on to the module it wraps.
            component.__dict__["forward"] = MethodType(AttentionBridge.forward, component)
        yield
    finally:
        for component in components:
            component.__dict__.pop("forward", None)
        network.set_attn_implementation(before)


def _equal_to_eager(model: TransformerBridge) -> bool:
    try:
        eager = _probe(model)
        with _fused(model):
            fused = _probe(model)
    except Exception as error:
        # Whatever an architecture raises here, eager attention works; say why it is kept.
        logger.info("fused attention is not used: %s", error)
        return False
    # Kernels round differently, by some units in the last place of the model's dtype.
    tolerance = min(1000 * torch.finfo(model.cfg.dtype).eps, 0.1)
    equal = all(_close(f, e, tolerance) for f, e in zip(fused, eager, strict=True))
    if not equal:
        logger.info("fused attention is not used: gate gradients differ from eager attention")
    return equal


def _close(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


def _probe(
    model: TransformerBridge,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch layer head"]]:
    """Losses and gate gradients of a padded batch of two random documents."""
    from langheads.model.gates import gated
    from langheads.model.loading import head_shape
    from langheads.model.loss import document_nll, frozen

    generator = torch.Generator().manual_seed(0)
    vocab = min(int(model.cfg.d_vocab), 1000)
    tokens = torch.randint(vocab, (2, 12), generator=generator).to(model.cfg.device)
    gates = torch.ones(2, *head_shape(model), device=model.cfg.device, requires_grad=True)
    with frozen(model), torch.enable_grad(), gated(model, gates):
        nll = document_nll(model, tokens, torch.tensor([12, 7]))
    (gradient,) = torch.autograd.grad(nll.sum(), gates)
    return nll.detach(), gradient

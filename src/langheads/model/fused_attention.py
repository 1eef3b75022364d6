"""Fused attention while gates need no attention patterns.

TransformerLens computes attention eagerly so that patterns can be hooked, and stores
``[batch, head, pos, pos]`` in every layer. Gates hook z and need no pattern. Inside
`fused_attention` every attention component delegates to the Hugging Face module that it wraps (as
TransformerLens' base class does) under PyTorch's scaled-dot-product attention; ``hook_z`` fires
as before. There is no public switch for this, so this module is the one place that does it. Norms
delegate as well; TransformerLens would compute values for hooks that are not set.

It does not work for every architecture: some refuse the kernel, one lost its gradients. So the
first use on a model compares losses and gate gradients with eager attention on a padded random
batch, with hooks removed, and keeps eager attention where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components import (
    AttentionBridge,
    NormalizationBridge,
)

from langheads.io.errors import logger
from langheads.model.gates import gated
from langheads.model.nll import document_nll
from langheads.model.shape import head_shape
from langheads.model.state import evaluating, forwards, frozen, modules_of, without_hooks
from langheads.model.tokens import probe_tokens

_NATIVE_NORM = "_hf_autograd_forward_with_hooks"
_trusted: WeakKeyDictionary[TransformerBridge, bool] = WeakKeyDictionary()


@contextmanager
def fused_attention(model: TransformerBridge) -> Iterator[bool]:
    """Run forwards inside the block with fused attention where it is known to be equal.

    Yields whether it is fused; it stays eager where the model's check failed, or at a hook on a
    point that only eager attention has (patterns, say).

    Memory: without ``[batch, head, pos, pos]`` a layer, where the wrapped module has a fused kernel
    (BLOOM's has none and stays eager). ``hook_pattern`` need not fire inside.
    """
    inside = _has_hooks_inside(model)
    if model not in _trusted and not inside:
        _trusted[model] = _equal_to_eager(model)
    fused = not inside and _trusted[model]
    with evaluating(model), _fused(model) if fused else nullcontext():
        yield fused


def _has_hooks_inside(model: TransformerBridge) -> bool:
    """Whether there is a hook inside an attention component, where the fused kernel skips it.

    Only the ends of the component and of its output projection, with ``hook_z``, have the same
    values as in eager attention.
    """
    for component in _components(model):
        ends = [end for of in (component, component.o) for end in (of.hook_in, of.hook_out)]
        for point in modules_of(component):
            if isinstance(point, HookPoint) and point.has_hooks() and point not in ends:
                return True
    return False


def _components(model: TransformerBridge) -> list[AttentionBridge]:
    return [module for module in modules_of(model) if isinstance(module, AttentionBridge)]


@contextmanager
def _fused(model: TransformerBridge) -> Iterator[None]:
    network: Any = model.original_model
    before = network.config._attn_implementation
    norms = [module for module in modules_of(model) if isinstance(module, NormalizationBridge)]
    try:
        network.set_attn_implementation("sdpa")
        for norm in norms:
            norm.__dict__[_NATIVE_NORM] = partial(_unseen, norm, getattr(norm, _NATIVE_NORM))
        fused = ((of, MethodType(AttentionBridge.forward, of)) for of in _components(model))
        with forwards(fused):
            yield
    finally:
        for norm in norms:
            norm.__dict__.pop(_NATIVE_NORM, None)
        network.set_attn_implementation(before)


def _unseen(norm: NormalizationBridge, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The wrapped norm's own output, which TransformerLens returns after values for hooks."""
    if norm.hook_scale.has_hooks() or norm.hook_normalized.has_hooks():
        return run(x)
    output: Tensor = norm.original_component(x)  # type: ignore[misc]
    return output.to(x.dtype)


def _equal_to_eager(model: TransformerBridge) -> bool:
    # Under gates of 0 every kernel would be equal.
    with without_hooks(model):
        # An error here says nothing about the fused kernel.
        eager = _probe(model)
        try:
            with _fused(model):
                fused = _probe(model)
        except Exception as error:
            # An architecture may raise anything here; eager attention still works.
            logger.info("fused attention is not used: %s", error)
            return False
    equal = _close(fused, eager, torch.finfo(model.cfg.dtype).eps)
    if not equal:
        logger.info("fused attention is not used: gate gradients differ from eager attention")
    return equal


Probe = tuple[Float[Tensor, " batch"], Float[Tensor, "batch layer head"]]


def _close(ours: Probe, theirs: Probe, eps: float) -> bool:
    """Whether losses and every layer's gate gradients agree as far as the dtype allows.

    Layer by layer, since a lost gradient of one layer is small beside another layer's. In 16 bits
    single gradients differ by a tenth between kernels; there their direction must agree. Losses
    that do not depend on any head prove nothing.
    """
    (nll, gradient), (eager_nll, eager_gradient) = ours, theirs
    off = (nll - eager_nll).abs().max() > max(4 * eps, 1e-5) * eager_nll.abs().max()
    if off or not eager_gradient.any():
        return False
    by_layer = rearrange(gradient, "batch layer head -> layer (batch head)").double()
    expected = rearrange(eager_gradient, "batch layer head -> layer (batch head)").double()
    if eps > 1e-4:
        return bool((torch.cosine_similarity(by_layer, expected, dim=1) > 0.98).all())
    largest = expected.abs().amax(dim=1)
    return bool(((by_layer - expected).abs().amax(dim=1) <= 1000 * eps * largest).all())


def _probe(model: TransformerBridge) -> Probe:
    """Losses and gate gradients of a padded batch of two random documents."""
    tokens = probe_tokens(model, 24)
    gates = torch.ones(2, *head_shape(model), device=model.cfg.device, requires_grad=True)
    with frozen(model), torch.enable_grad(), gated(model, gates):
        nll = document_nll(model, tokens, torch.tensor([24, 7]))
        (gradient,) = torch.autograd.grad(nll.sum(), gates)
    return nll.detach(), gradient

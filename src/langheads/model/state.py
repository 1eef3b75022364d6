"""The model in evaluation mode, without gradients of weights or hooks; restored afterwards."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where torch keeps the hooks of a module."""


@contextmanager
def forwards(of: Iterable[tuple[torch.nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Replace the forward of each module; an earlier one, such as accelerate's, is restored."""
    before: list[tuple[torch.nn.Module, Any]] = []
    try:
        for module, forward in of:
            before.append((module, module.__dict__.get("forward")))
            # Through __dict__: a bridge component passes attributes on to the module it wraps.
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, forward in before:
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.__dict__["forward"] = forward


def modules_of(*networks: torch.nn.Module) -> list[torch.nn.Module]:
    """Every module of them once, in no order; torch's own walk builds names, which is slow."""
    found: dict[int, torch.nn.Module] = {}
    left: list[torch.nn.Module | None] = list(networks)
    while left:
        module = left.pop()
        if module is not None and id(module) not in found:
            found[id(module)] = module
            left += module.__dict__["_modules"].values()
    return list(found.values())


@contextmanager
def evaluating(model: TransformerBridge) -> Iterator[None]:
    """Evaluation mode inside the block, so that dropout is off; every module's mode is restored."""
    # The bridge keeps the Hugging Face model outside its own tree of modules.
    both = modules_of(model, model.original_model)
    # Through __dict__: a bridge component passes attributes on to the module it wraps.
    training = [module for module in both if module.__dict__["training"]]
    try:
        for module in training:
            module.__dict__["training"] = False
        yield
    finally:
        for module in training:
            module.__dict__["training"] = True


@contextmanager
def frozen(model: TransformerBridge) -> Iterator[None]:
    """No dropout, and no parameter collects a gradient; modes and flags are restored."""
    parameters = list(model.original_model.parameters())
    flags = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        # Inside inference mode gates have no gradient. Leaving it turns gradients on.
        inside = torch.is_inference_mode_enabled()
        with torch.inference_mode(False) if inside else nullcontext(), evaluating(model):
            yield
    finally:
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)


@contextmanager
def without_hooks(model: TransformerBridge) -> Iterator[None]:
    """Only TransformerLens' own, permanent hooks are active inside the block."""
    saved = []
    try:
        for point in modules_of(model):
            if isinstance(point, HookPoint):
                users = {h.hook.id for h in point.fwd_hooks + point.bwd_hooks if not h.is_permanent}
                for key in ("_forward_hooks", "_backward_hooks") if users else ():
                    hooks = point.__dict__[key]
                    saved.append((point, key, hooks))
                    kept = ((id_, hook) for id_, hook in hooks.items() if id_ not in users)
                    point.__dict__[key] = OrderedDict(kept)
        yield
    finally:
        for point, key, hooks in saved:
            point.__dict__[key] = hooks

"""The self-test of a model: whether gates in it do what they should.

A few forwards of one short fixed input, when a model is loaded for measuring:

- two forwards are the same, so no dropout is left on;
- every hook_z fires once a forward;
- gates of 1 change nothing, and gates of 0, or of another value for every head of all layers, do
  what the same factors do on each head's slice of what W_O reads, which is the same as on its slice
  of W_O. These slices, ``[head * d_head : (head + 1) * d_head]``, are cut without TransformerLens;
- padding on the right, as scores pad, and on the left, as replies do, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import Head
from langheads.io.errors import InterventionError, ModelError, NonFiniteError
from langheads.model.decoding import decode
from langheads.model.gates import gated
from langheads.model.identity import SELF_TESTS, self_test_of, weights_in_memory
from langheads.model.shape import head_shape
from langheads.model.state import evaluating

_LONG, _SHORT = 8, 5


def run_self_test(model: TransformerBridge, wanted: bool | None = None) -> None:
    """Refuse (`ModelError`) a model whose heads cannot be gated correctly; once for its weights.

    A model that carries hooks is not tested, as they may change anything. `wanted` False records
    that the test was skipped; None does not repeat a skipped test.
    """
    busy = model.cfg.use_attn_result or any(p.has_hooks() for p in model.hook_dict.values())
    outcome = self_test_of(model)
    if busy or outcome == "passed" or (outcome == "skipped" and not wanted):
        return
    if wanted is False:
        SELF_TESTS[model] = ("skipped", weights_in_memory(model))
        return
    try:
        with torch.no_grad(), evaluating(model):
            found = _what_is_wrong(model)
    except InterventionError as error:
        found = str(error)
    except NonFiniteError:
        # Measurements refuse such a model themselves, and name the document.
        return
    if found:
        kind = model.cfg.architecture or type(model.original_model).__name__
        raise ModelError(
            f"self-test of {kind} failed: {found}; its results would be wrong (--no-self-test, "
            "self_test=False in Python, goes on all the same)"
        )
    SELF_TESTS[model] = ("passed", weights_in_memory(model))


def _what_is_wrong(model: TransformerBridge) -> str:
    """The first failure in words; empty where there is none."""
    shape, vocab = head_shape(model), int(model.cfg.d_vocab)
    # From the middle of the vocabulary: special tokens are at its ends.
    tokens = (vocab // 2 + 7 * torch.arange(_LONG)).remainder(vocab).to(model.cfg.device)
    ends = [(layer, head) for layer in (0, shape[0] - 1) for head in (0, shape[1] - 1)]
    gates = torch.ones(2 + len(ends), *shape)
    # Different gates, so that swapped heads are noticed.
    gates[1] = torch.linspace(0.5, 1.5, shape[0] * shape[1]).reshape(shape)
    for row, (layer, head) in enumerate(ends, start=2):
        gates[row, layer, head] = 0
    rows = tokens.expand(len(gates), -1)
    fired: list[int] = []
    hooks = [
        (f"blocks.{layer}.attn.hook_z", lambda z, hook, layer=layer: fired.append(layer))
        for layer in range(shape[0])
    ]
    with model.hooks(fwd_hooks=hooks):
        plain = model(rows).float()
    if fired != list(range(shape[0])):
        return f"hook_z fired in layers {fired} of one forward, expected each once and in order"
    if not bool(plain.isfinite().all()):
        raise NonFiniteError("logits are NaN or infinite")
    eps = max(torch.finfo(model.cfg.dtype).eps, torch.finfo(torch.float32).eps)
    noise, largest = (model(rows).float() - plain).abs().max(), plain.abs().max()
    if noise > 16 * eps * largest:
        return "two forwards of the same tokens differ, as if dropout were on"
    # Where gradients are needed, gates of 1 are multiplied like any others.
    with gated(model, gates.requires_grad_()):
        ours = model(rows).float()
    with _w_o_scaled(model, gates.detach()):
        by_w_o = model(rows).float()
    what = [
        "gates of 1 change something",
        "gates of all heads are not those of their slices of W_O",
    ]
    what += [f"gate 0 of {Head(*end)} is not its slice of W_O at zero" for end in ends]
    for name, of_gates, expected, before in zip(what, ours, by_w_o, plain, strict=True):
        # The same factors on the same numbers: equal to the bit on a deterministic device.
        allowed = 0.01 * (expected - before).abs().max() + 4 * noise + 1e-6 * largest
        if not (of_gates - expected).abs().max() <= allowed:
            return name
    tolerance = min(1000 * eps, 0.05)
    if _apart(plain[0, :_SHORT], model(tokens[None, :_SHORT])[0]) > tolerance:
        return "logits of a text depend on its padding on the right"
    alone = _next_logits(model, [tokens[:_SHORT]])
    try:
        padded = _next_logits(model, [tokens, tokens[:_SHORT]])
    except NonFiniteError:
        # Masks of float64 are too low for float32 softmax; replies in it would fail visibly.
        return ""
    if _apart(padded[1], alone[0]) > tolerance:
        return "logits of a reply depend on its padding on the left"
    return ""


def _apart(found: Tensor, expected: Tensor) -> float:
    """Distance as a share of the expected logits' own spread."""
    expected = expected.float()
    spread = (expected - expected.mean(dim=-1, keepdim=True)).norm()
    return float((found.float() - expected).norm() / spread)


@contextmanager
def _w_o_scaled(
    model: TransformerBridge, factors: Float[Tensor, "batch layer head"]
) -> Iterator[None]:
    """Scale each head's slice of what W_O reads, with hooks of torch on W_O's own modules."""

    def at(layer: int) -> Callable[..., Any]:
        def before(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z = given[0]
            each = factors[:, layer].repeat_interleave(z.shape[-1] // factors.shape[-1], dim=1)
            wide = torch.promote_types(z.dtype, torch.float32)
            return ((z * each[:, None].to(z.device, wide)).to(z.dtype), *given[1:])

        return before

    handles = [
        block.attn.o.original_component.register_forward_pre_hook(at(layer))
        for layer, block in enumerate(model.blocks)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _next_logits(model: TransformerBridge, rows: list[Tensor]) -> Float[Tensor, "batch vocab"]:
    """Logits of the first token of each row's reply, as in `decode`."""
    kept: list[Tensor] = []
    keep = ("unembed.hook_out", lambda logits, hook: kept.append(logits[:, -1]))
    with model.hooks(fwd_hooks=[keep]):
        decode(model, [row.cpu() for row in rows], max_new_tokens=1)
    return kept[0]

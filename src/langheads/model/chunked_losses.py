"""Losses without the logits of all positions.

``[batch, pos, vocab]`` fills a GPU's memory long before the model does. So the network's forward is
cut where its decoder returns the last hidden states, after the final norm, and what follows
(unembedding and its bias, Cohere's logit scale, Gemma's soft cap) runs for some positions at a
time, in the network's own code. A position's loss depends only on its own hidden state: its
gradient is taken while its logits are in memory, and no product is computed twice. PyTorch's
``linear_cross_entropy``, which also has chunks, does not know scales and caps.

The first use on a model compares losses and gradients with those of whole logits, with hooks
removed, and keeps whole logits where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import logger
from langheads.model.state import HOOKS, forwards, frozen, without_hooks
from langheads.model.tokens import probe_tokens

# Logits of one product: of many rows, since each product reads all of the weights.
_CHUNK_BYTES = {"cpu": 2**27, "elsewhere": 2**28}
# Of them, in float32, those of one softmax. A CPU keeps them in its cache, and its allocator
# reuses blocks below 32 MB, while it fetches larger ones page by page every time.
_SOFTMAX_BYTES = {"cpu": 2**22, "elsewhere": 2**28}
# Bytes of all logits, in float32, below which they are not cut.
_WHOLE_BYTES = 2**25

_OUTPUTS: WeakKeyDictionary[TransformerBridge, type | None] = WeakKeyDictionary()
"""Model whose check is done -> the class that its decoder returns; None: its logits stay whole."""
_inside: WeakSet[TransformerBridge] = WeakSet()


@contextmanager
def chunked_losses(model: TransformerBridge) -> Iterator[bool]:
    """Inside the block `langheads.model.token_nll` holds the logits of a few positions at a time;
    yields whether it does, False where the model's check failed.

    Logits stay whole also while the unembedding, the decoder or the whole model carries a hook,
    which sees all positions, and where weights collect gradients.
    """
    if model not in _OUTPUTS and not _equal_to_whole(model):
        _OUTPUTS[model] = None
    entered = _OUTPUTS[model] is not None and model not in _inside
    if entered:
        _inside.add(model)
    try:
        yield _OUTPUTS[model] is not None
    finally:
        if entered:
            _inside.discard(model)


def in_chunks(model: TransformerBridge) -> bool:
    """Whether a forward would now compute its losses in chunks, see `chunked_losses`."""
    if model not in _inside:
        return False
    network: Any = model.original_model
    ends = (model, network, network.get_decoder(), *model.unembed.modules())
    hooked = any(module.__dict__[key] for module in ends for key in HOOKS)
    weights = network.parameters()
    return not hooked and not (torch.is_grad_enabled() and any(w.requires_grad for w in weights))


def last_hidden(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d_model"]:
    """The decoder's last hidden states of one forward, without the unembedding."""
    kept: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        kept.append(hidden)
        return hidden[:, :0]

    with _hidden_states(model, keep):
        # Keys and values are for forwards that continue a text.
        model(tokens, return_type=None, use_cache=False)
    return kept[0]


def nll_of_rows(
    model: TransformerBridge, hidden: Float[Tensor, "row d_model"], targets: Int[Tensor, " row"]
) -> Float[Tensor, " row"]:
    """NLL of one token after each hidden state, nats, in float32 or wider."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    if len(hidden) * int(model.cfg.d_vocab) * wide.itemsize <= _WHOLE_BYTES:
        return F.cross_entropy(_logits(model, hidden).to(wide), targets, reduction="none")
    nll: Tensor = _ChunkedNLL.apply(hidden, targets, model)
    return nll


class _ChunkedNLL(torch.autograd.Function):
    """The loss, some rows at a time, and where needed its gradient, of first order only."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, model: TransformerBridge) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        vocab = int(model.cfg.d_vocab)
        device = "cpu" if hidden.device.type == "cpu" else "elsewhere"
        size = max(1, _CHUNK_BYTES[device] // (vocab * hidden.element_size()))
        some = max(1, _SOFTMAX_BYTES[device] // (vocab * wide.itemsize))
        nll, slopes = [], []
        for part, target in zip(hidden.split(size), targets[:, None].split(size), strict=True):
            part = part.detach().requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                logits = _logits(model, part)
            # The gradient overwrites the logits, which nothing reads again. Where a network does,
            # PyTorch refuses to overwrite them, and logits stay whole.
            values = logits.detach()
            for start in range(0, len(part), some):
                rows = slice(start, min(start + some, len(part)))
                log_p = F.log_softmax(values[rows].to(wide), dim=-1)
                nll.append(-log_p.gather(1, target[rows])[:, 0])
                if wanted:
                    slope = log_p.exp_()
                    slope.scatter_add_(1, target[rows], slope.new_full((len(slope), 1), -1))
                    values[rows] = slope
            if wanted:
                slopes.append(torch.autograd.grad(logits, part, values)[0])
            # Freed before the next are made.
            del logits, values
        ctx.save_for_backward(torch.cat(slopes) if wanted else hidden.new_empty(0))
        return torch.cat(nll)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return (slopes * gradient[:, None]).to(slopes.dtype), None, None


def _logits(
    model: TransformerBridge, hidden: Float[Tensor, "row d_model"]
) -> Float[Tensor, "row vocab"]:
    """The network's logits of last hidden states."""
    network: Any = model.original_model
    unembed = model.unembed.original_component
    # TransformerLens puts zeros where the checkpoint has no bias; they are not added.
    zeros = unembed._buffers.get("bias")
    idle = zeros is not None and not bool(zeros.any())
    output = _OUTPUTS[model]
    assert output is not None
    given = output(last_hidden_state=hidden[None])
    tokens = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
    try:
        if idle:
            unembed._buffers["bias"] = None
        with forwards([(network.get_decoder(), lambda *args, **kwargs: given)]):
            logits: Tensor = network(input_ids=tokens).logits[0]
            return logits
    finally:
        if idle:
            unembed._buffers["bias"] = zeros


@contextmanager
def _hidden_states(model: TransformerBridge, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change the decoder's last hidden states in forwards inside the block."""
    network: Any = model.original_model
    decoder = network.get_decoder()
    run = decoder.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = run(*args, **kwargs)
        _OUTPUTS[model] = type(output)
        return type(output)(last_hidden_state=change(output.last_hidden_state))

    with forwards([(decoder, forward)]):
        yield


def _equal_to_whole(model: TransformerBridge) -> bool:
    """Whether losses of random tokens, and their gradients, are those of whole logits."""
    tokens = probe_tokens(model, 6)
    targets, leaves = tokens[:, 1:].flatten(), []

    def leaf(hidden: Tensor) -> Tensor:
        leaves.append(hidden.detach().requires_grad_())
        return leaves[0]

    with without_hooks(model), frozen(model), torch.enable_grad():
        try:
            with _hidden_states(model, leaf):
                logits = model(tokens, use_cache=False)[:, :-1].flatten(0, 1)
            wide = torch.promote_types(logits.dtype, torch.float32)
            whole = F.cross_entropy(logits.to(wide), targets, reduction="none")
            hidden = leaves[0][:, :-1].flatten(0, 1)
            # In chunks, as for long texts.
            ours = torch.cat(
                [
                    _ChunkedNLL.apply(hidden[at], targets[at], model)
                    for at in (slice(5), slice(5, 16))
                ]
            )
            found = [torch.autograd.grad(nll.sum(), leaves)[0] for nll in (ours, whole)]
        except Exception as error:
            # An architecture may raise anything here; whole logits still work.
            logger.info("losses are taken from whole logits: %s", error)
            return False
    # Products of other sizes round differently; in 16 bits by some percent.
    allowed = min(1000 * torch.finfo(model.cfg.dtype).eps, 0.05)
    equal = all(
        bool((a - b).norm() <= allowed * b.norm()) for a, b in [(ours, whole), tuple(found)]
    )
    if not equal:
        logger.info("losses are taken from whole logits: those of single positions differ")
    return equal

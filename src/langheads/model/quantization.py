"""Weights of 4 or 8 bits, packed by bitsandbytes through its configuration in transformers.

In 4 bits as NF4, in blocks of 64 numbers with a scale each; in 8 bits as integers with a scale a
row; linear layers except the unembedding. Products are not those of bitsandbytes: every one unpacks
its weights into the model's dtype, so the model is one whose weights were rounded once, and gates
and gradients work as usual. LLM.int8() also rounds activations, depending on what else is in a
batch; the 4-bit kernel for some CPUs has no gradient.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import copy
from importlib.metadata import version
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformer_lens.model_bridge import TransformerBridge
from transformers import BitsAndBytesConfig

from langheads.io.arguments import asked_name
from langheads.io.errors import InputError, ModelError
from langheads.model.checkpoint import stored_weights

WIDTHS = ("4bit", "8bit")
BEFORE: WeakKeyDictionary[TransformerBridge, dict[str, Callable[[], Tensor] | None]]
BEFORE = WeakKeyDictionary()
"""Model that was packed when it was loaded -> name of a packed weight -> what reads the original;
names of tensors that packing added -> None."""


def quantization_config(width: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    """How transformers packs weights; refuses unknown widths, float64, and a missing
    bitsandbytes."""
    asked_name("quantize", width, WIDTHS)
    if dtype == torch.float64:
        raise InputError("quantize asked for in float64; allowed are float32, bfloat16, float16")
    # It complains at import about kernels that are not used.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"quantize {width} needs bitsandbytes: pip install 'langheads[quantize]'"
        ) from error
    return BitsAndBytesConfig(
        **{f"load_in_{width}": True}, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def quantization_of(model: TransformerBridge) -> str:
    """How weights are packed, for provenance; empty where they are not."""
    config: Any = getattr(model.original_model.config, "quantization_config", None)
    if isinstance(config, BitsAndBytesConfig):
        width = WIDTHS[0] if config.load_in_4bit else WIDTHS[1]
        kind = config.quantization_method().removeprefix("llm_")
        return f"{width} ({kind}, bitsandbytes {version('bitsandbytes')})"
    method = config.get("quant_method") if isinstance(config, dict) else config
    return "" if method is None else str(getattr(method, "quant_method", method))


def use_unpacked(model: TransformerBridge) -> None:
    """Products of packed weights are those of the weights unpacked."""
    module: Any
    for module in model.original_model.modules():
        if _is_packed(module):
            if module.weight.dtype == torch.int8 and module.weight.CB is not None:
                module.init_8bit_state()
            module.forward = MethodType(_forward, module)


def remember_checkpoint(model: TransformerBridge, name: str, revision: str | None) -> None:
    """Remember where the original weights can be read, to identify the model."""
    stored, network = stored_weights(name, revision), model.original_model
    paths: dict[nn.Module, list[str]] = {}
    # TransformerLens adds names of its own to the network's.
    for path, module in network.named_modules(remove_duplicate=False):
        if _is_packed(module):
            paths.setdefault(module, []).append(path)
    state = list(network.state_dict())
    before: dict[str, Callable[[], Tensor] | None] = {}
    for every in paths.values():
        known = (f"{path}.weight".replace("._original_component", "") for path in every)
        key = next((key for key in known if key in stored), None)
        if key is None:
            # Stored in another form; the packed weights then identify the model.
            return
        for path in every:
            made = (of for of in state if of.startswith(f"{path}.") and of != f"{path}.bias")
            before |= {**dict.fromkeys(made), f"{path}.weight": stored[key]}
    BEFORE[model] = before


def w_o(model: TransformerBridge, layer: int) -> Float[Tensor, "head d_head d_model"]:
    """W_O of a layer, unpacked; `ModelError` where it is packed in another way, or offloaded."""
    attention = model.blocks[layer].attn
    module = attention.o.original_component
    if _is_packed(module):
        pattern = "d_model (head d_head) -> head d_head d_model"
        return rearrange(_unpacked(module), pattern, head=int(model.cfg.n_heads))
    try:
        found: Tensor = attention.W_O
    except NotImplementedError as error:
        raise ModelError(
            f"W_O of layer {layer} cannot be read ({str(error).splitlines()[0]}); load the model "
            "without quantisation for this score"
        ) from error
    return found


def _is_packed(module: nn.Module) -> bool:
    return type(module).__name__ in ("Linear4bit", "Linear8bitLt")


def _unpacked(module: Any) -> Float[Tensor, "out in"]:
    from bitsandbytes import functional

    packed = module.weight.data
    if packed.dtype == torch.int8:
        return functional.int8_vectorwise_dequant(packed, module.state.SCB)
    # Row by row, a kernel for AVX-512 takes wrong scales where a row ends inside a block.
    state, shape = copy(module.weight.quant_state), module.weight.quant_state.shape
    size, block = shape.numel(), state.blocksize
    state.shape = torch.Size((1, size) if size % block else (size // block, block))
    return functional.dequantize_4bit(packed, state).view(shape)


def _forward(module: Any, x: Tensor) -> Tensor:
    output: Tensor = _Product.apply(x, module)
    return output


class _Product(torch.autograd.Function):
    """A product that keeps no unpacked weights for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Any) -> Tensor:
        ctx.module = module
        return F.linear(x, _unpacked(module).to(x.dtype), module.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ _unpacked(ctx.module).to(gradient.dtype), None

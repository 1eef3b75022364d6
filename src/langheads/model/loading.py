"""Loading a model as a TransformerLens `TransformerBridge`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources._hf_format import determine_architecture_from_hf_config
from transformer_lens.model_bridge.sources.transformers.helpers import (
    get_hf_model_class_for_architecture,
)
from transformer_lens.utilities.devices import get_device
from transformers import AutoConfig, PreTrainedModel

from langheads.io.arguments import asked_name
from langheads.io.errors import InputError, LangheadsError, ModelError
from langheads.io.hub import hub_or_cache
from langheads.model.checkpoint import Whole, check_checkpoint, check_hub
from langheads.model.identity import EMBEDDED, TAKES_OTHERS
from langheads.model.own_tokenizer import check_tokenizer
from langheads.model.quantization import quantization_config, remember_checkpoint, use_unpacked
from langheads.model.self_test import run_self_test
from langheads.model.shape import head_shape
from langheads.model.state import evaluating

_DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")}


# A model loaded inside inference mode could not be measured outside of it.
@torch.inference_mode(False)
def load(
    model: str | Path | TransformerBridge | PreTrainedModel,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    device_map: str | dict[str, str | int] | None = None,
    quantize: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    other_weights: bool = False,
    self_test: bool | None = None,
) -> TransformerBridge:
    """Load a model whose attention heads can be gated.

    Args:
        model: a Hugging Face id, a local folder, or an embedded model: ``demo`` (planted language
            heads), ``demo-hard`` (harder to read).
        dtype: ``float32`` (the default on a CPU), ``float64``, ``bfloat16``, ``float16``; on other
            devices the default is the checkpoint's own. bfloat16 ranks heads as float32 does, but
            loses effects below about 0.05 / sqrt(tokens of a language) nats per token.
        device: where to put it; by default TransformerLens' choice (CUDA, MPS, CPU), or the card of
            the rank under ``torchrun``.
        device_map: Hugging Face's placement over several devices, instead of `device`.
        quantize: ``4bit`` (NF4) or ``8bit``: how the weights of linear layers, except the
            unembedding, are stored; computes in `dtype`; needs ``langheads[quantize]``.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run code that the repository brings along. Off unless asked for.
        other_weights: take heads, masks and scores of another checkpoint of the same shape, such as
            a base model's in the model tuned from it; results say so.
        self_test: check in a few short forwards that gating a head is zeroing its slice of W_O,
            that padding changes nothing and that dropout is off; results say whether it passed. By
            default once a model, and not where it was switched off before.

    Returns:
        A `TransformerBridge` in evaluation mode, weights as in the checkpoint. Given a model of
        transformers, that model wrapped, with the tokenizer from where it was loaded; given a
        bridge, that bridge.

    Raises:
        ModelError: no such model, a gated one without a token, weights that are missing, left
            over or pickled, another model's tokenizer, an architecture that TransformerLens does
            not know, or one without heads at ``hook_z``; a self-test that fails.
        InputError: an unknown dtype, device or way to quantize.

    Example:
        >>> model = load("demo")
        >>> head_shape(model)
        (4, 12)
    """
    if not isinstance(model, str | Path):
        if (dtype, device, device_map, quantize, revision) != (None,) * 5:
            raise InputError(
                "a model that is loaded is taken as it is: dtype, device, quantization and revision"
            )
        return _ready(_wrapped(model), other_weights, self_test)
    name = str(EMBEDDED.get(str(model), model))
    if dtype is not None and not isinstance(dtype, torch.dtype):
        asked_name("dtype", dtype, _DTYPES)
    if device is not None and device_map is not None:
        raise InputError("device and device_map were both given; give one")
    if device is None and device_map is None:
        device = _card_of_the_rank()
    where = None if device is None else _usable(device)
    _check_local(name)
    with hub_or_cache(name, revision):
        bridge = _from_checkpoint(
            name, str(model), dtype, where, device_map, quantize, revision, trust_remote_code
        )
    return _ready(bridge, other_weights, self_test)


def _from_checkpoint(
    name: str,
    model: str,
    dtype: str | torch.dtype | None,
    where: torch.device | None,
    device_map: str | dict[str, str | int] | None,
    quantize: str | None,
    revision: str | None,
    trust_remote_code: bool,
) -> TransformerBridge:
    """The model at `name`, checked before it is read; errors call it `model`."""
    check_checkpoint(name, revision)
    config = _config(name, revision, trust_remote_code)
    check_hub(name, getattr(config, "_commit_hash", None) or revision)
    if dtype is None:
        on_cpu = str(where or get_device()) == "cpu" and device_map is None
        dtype = torch.float32 if on_cpu else (getattr(config, "dtype", None) or torch.float32)
    dtype = dtype if isinstance(dtype, torch.dtype) else _DTYPES[dtype]
    packed = {}
    if quantize is not None:
        if getattr(config, "quantization_config", None) is not None:
            raise InputError(f"{model} is quantised already; load it without quantize")
        packed = {"quantization_config": quantization_config(quantize, dtype)}
        # Weights that are packed while they are read are not moved afterwards.
        device_map = device_map or {"": str(where or get_device())}
    with _as_model_errors(model, where, packed=bool(packed)):
        kind = get_hf_model_class_for_architecture(determine_architecture_from_hf_config(config))
        bridge = TransformerBridge.boot_transformers(
            name,
            dtype=dtype,
            device=where if device_map is None else None,
            device_map=device_map,
            revision=revision,
            trust_remote_code=trust_remote_code,
            model_class=Whole(kind, **packed),
        )
        if packed:
            remember_checkpoint(bridge, name, revision)
        return _checked(bridge)


def _wrapped(model: Any) -> TransformerBridge:
    """A bridge as it is, a model of transformers in a bridge."""
    if isinstance(model, TransformerBridge):
        return model
    if not isinstance(model, PreTrainedModel):
        raise InputError(
            f"{type(model).__name__} given as a model; allowed are a folder, a Hugging Face id, "
            "demo, a TransformerBridge, or a model of transformers"
        )
    name = str(model.config._name_or_path or "")
    if not name:
        raise InputError(
            "a model of transformers that was not loaded from anywhere has no tokenizer; save it "
            "and its tokenizer in a folder and load that"
        )
    with hub_or_cache(name, None), _as_model_errors(name, None):
        return _checked(
            TransformerBridge.boot_transformers(name, hf_model=model, dtype=model.dtype)
        )


def _ready(
    bridge: TransformerBridge, other_weights: bool, self_test: bool | None
) -> TransformerBridge:
    """Self-tested; once loaded with `other_weights`, a model stays so."""
    if other_weights:
        TAKES_OTHERS.add(bridge)
    run_self_test(bridge, self_test)
    return bridge


def _checked(bridge: TransformerBridge) -> TransformerBridge:
    head_shape(bridge)
    use_unpacked(bridge)
    _probe(bridge)
    check_tokenizer(bridge)
    return bridge


@contextmanager
def _as_model_errors(
    model: str, where: torch.device | None, packed: bool = False
) -> Iterator[None]:
    """Any error of TransformerLens and transformers over a checkpoint, as a `ModelError`."""
    try:
        yield
    except LangheadsError:
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and "out of memory" in str(error):
            message = (
                f"does not fit in memory on {where or 'the default device'}; try --dtype bfloat16"
            )
            raise ModelError(f"{model} {message} or a device_map") from error
        why = "; to be quantised, query, key and value weights must not be one matrix"
        message = f"cannot load model {model}: {_first_line(error)}{why if packed else ''}"
        raise ModelError(message) from error


def _card_of_the_rank() -> str | None:
    """Under ``torchrun`` the GPU of this rank; the default would be the first one for all."""
    if "TORCHELASTIC_RUN_ID" in os.environ and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return None


def _usable(device: str | torch.device) -> torch.device:
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"device {device!r} asked for; allowed are cpu, cuda, cuda:1 and so on, mps"
        ) from error
    try:
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device} cannot be used here: {_first_line(error)}") from error
    return where


def _check_local(name: str) -> None:
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not Path(name).is_dir():
        raise ModelError(f"no model folder {name}; give a folder, a Hugging Face id, or demo")


def _config(name: str, revision: str | None, trust_remote_code: bool) -> Any:
    """The model's configuration, read first so that a wrong name costs no download."""
    try:
        return AutoConfig.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        # A configuration with values of the wrong type raises many kinds of error.
        text = str(error)
        if "gated repo" in text or "restricted" in text:
            raise ModelError(
                f"model {name} is gated: accept its licence on huggingface.co and set HF_TOKEN"
            ) from error
        if Path(name).is_dir():
            raise ModelError(f"{name} is not a model folder: {_first_line(error)}") from error
        if not isinstance(error, OSError):
            raise ModelError(f"cannot load model {name}: {_first_line(error)}") from error
        raise ModelError(
            f"no model {name}: not a local folder, and not on the Hugging Face Hub as far as it "
            "can be reached from here; give a folder, a Hugging Face id, or demo"
        ) from error


def _probe(model: TransformerBridge) -> None:
    """One forward of two texts of two tokens: every hook_z must fire once, with the same number of
    heads, and no token may see a later one."""
    layers, heads = head_shape(model)
    seen: list[tuple[int, tuple[int, ...]]] = []
    hooks = [
        (f"blocks.{at}.attn.hook_z", lambda z, hook, at=at: seen.append((at, tuple(z.shape))))
        for at in range(layers)
    ]
    with torch.no_grad(), evaluating(model), model.hooks(fwd_hooks=hooks):
        logits = model(torch.tensor([[0, 1], [0, 2]], device=model.cfg.device))
    kind = model.cfg.architecture or type(model.original_model).__name__
    if [layer for layer, _ in seen] != list(range(layers)):
        raise ModelError(
            f"{kind}: hook_z fired in layers {[layer for layer, _ in seen]} of one forward, "
            f"expected each of {layers} once and in order"
        )
    for layer, shape in seen:
        if len(shape) != 4 or shape[:3] != (2, 2, heads):
            raise ModelError(
                f"{kind}: hook_z of layer {layer} is {list(shape)}, expected [2, 2, {heads}, "
                "d_head]; models whose layers differ in their number of heads are not supported"
            )
    first, second = logits[:, 0].float()
    if (first - second).abs().max() > 0.01 * first.abs().max():
        raise ModelError(
            f"{kind} lets a token see later ones; langheads needs a causal language model"
        )


def _first_line(error: BaseException) -> str:
    """The first line that is not blank; with the next, if it ends in a colon."""
    first, _, more = str(error).strip().partition("\n")
    goes_on = more.strip().partition("\n")[0] if first.endswith(":") else ""
    return f"{first} {goes_on}".strip() or type(error).__name__

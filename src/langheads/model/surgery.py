"""A plain Hugging Face model without some heads, made from the weights of a loaded model.

A head writes z[l,h] W_O[l,h] into the residual stream, so it is gone when its slice of W_O is zero.
That is exact in every architecture and saves nothing. Shapes shrink only as far as a configuration
can express: it has one number of heads for all layers, and key-value heads that query heads share.
So as many whole key-value groups as are off in *every* layer are cut out of q, k, v and o, and the
other heads are zeroed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import ModelError
from langheads.model.gates import gated
from langheads.model.shape import head_shape
from langheads.model.state import evaluating
from langheads.model.tokens import probe_tokens

# Attention of separate q, k, v and o, each with a bias or not, and no parameter of its own that
# is as long as the number of heads.
_SHRINKS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


@dataclass(frozen=True)
class Pruned:
    """A network without some heads."""

    network: Any  # a Hugging Face model to be saved; it shares no weight with the one it came from
    zeroed: HeadSet  # heads whose slice of W_O is zero
    cut: HeadSet  # heads that are gone from the shapes of q, k, v and o
    # Per layer the old numbers of the remaining heads, in their new order; empty where nothing is
    # cut and heads keep their numbers.
    kept: list[list[int]]
    w_o: list[str]  # per layer the name of the network's module that holds W_O
    parameters_zeroed: int  # entries of W_O set to zero
    parameters_saved: int  # fewer parameters than before; 0 where nothing is cut
    bytes_saved: int  # their size in the model's dtype


@torch.no_grad()
def without_heads(model: TransformerBridge, heads: HeadSet) -> Pruned:
    """Copy a model's weights into a plain network and take heads out; the model stays as it is.

    Refuses (`ModelError`) quantised or offloaded weights, or a W_O that cannot be located. Memory:
    a copy of all weights on the CPU.
    """
    original = model.original_model
    kind = model.cfg.architecture or type(original).__name__
    if getattr(original.config, "quantization_config", None) is not None:
        raise ModelError(f"{kind} is quantised; heads are removed from unquantised weights only")
    config: Any = copy.deepcopy(original.config)
    # TransformerLens sets eager attention; saved, that would slow down every later user.
    config.output_attentions = False
    with torch.device("meta"):
        network = type(original)(config)
    state = {name: _copied(original, name, kind) for name in network.state_dict()}
    shape = head_shape(model)
    names = [_output_projection(model, network, layer) for layer in range(shape[0])]
    groups = int(model.cfg.n_key_value_heads or shape[1])
    cut: dict[int, list[int]] = {}
    if type(original).__name__ in _SHRINKS:
        cut, config = _cut_groups(heads, groups, config)
    for layer, name in enumerate(names):
        weight = state[f"{name}.weight"]
        slices = _by_head(weight, network.get_submodule(name), shape[1])
        slices[[head.head for head in heads if head.layer == layer]] = 0
    size = sum(tensor.numel() for tensor in _stored(network, state))
    if cut:
        for layer, name in enumerate(names):
            _cut_layer(state, name.rpartition(".")[0], cut[layer], groups)
        with torch.device("meta"):
            network = type(original)(config)
    network.load_state_dict(state, assign=True)
    network.tie_weights()  # type: ignore[operator]
    network.config.dtype = weight.dtype
    network.generation_config = copy.deepcopy(original.generation_config)
    saved = size - sum(tensor.numel() for tensor in _stored(network, state))
    share = shape[1] // groups
    gone = HeadSet(
        [(layer, g * share + i) for layer, of in cut.items() for g in of for i in range(share)],
        shape,
    )
    zeroed = heads - gone
    return Pruned(
        network=network.eval(),
        zeroed=zeroed,
        cut=gone,
        kept=_kept(gone) if cut else [],
        w_o=names,
        parameters_zeroed=len(zeroed) * slices[0].numel(),
        parameters_saved=saved,
        bytes_saved=saved * weight.element_size(),
    )


@torch.no_grad()
def differs_from_gates(model: TransformerBridge, heads: HeadSet, network: Any) -> Float[Tensor, ""]:
    """Largest difference of logits between a plain network and the model with these heads at gate
    0, as a share of the largest logit, on two random documents."""
    tokens = probe_tokens(model, 24)
    with evaluating(model), gated(model, heads, 0.0):
        expected = model(tokens, return_type="logits").double().cpu()
    found = network(tokens.to(network.device)).logits.double().cpu()
    return (found - expected).abs().max() / expected.abs().max()


@torch.no_grad()
def wrong_slices(
    model: TransformerBridge,
    heads: HeadSet,
    network: Any,
    names: Sequence[str],
    kept: Sequence[Sequence[int]],
) -> HeadSet:
    """Heads whose slice of W_O in a network read from files is not, to the bit, what it should be:
    zero for removed heads, the model's own for all others.

    `names` and `kept`: see `Pruned.w_o` and `Pruned.kept`.
    """
    per_layer = heads.shape[1]
    wrong = []
    for layer, name in enumerate(names):
        old = _tensor(model.original_model, f"{name}.weight")
        new, module = network.get_submodule(name).weight, network.get_submodule(name)
        left = kept[layer] if kept else range(per_layer)
        own = _by_head(old.detach().to("cpu", new.dtype), module, per_layer)  # type: ignore[union-attr]
        for head, found in zip(left, _by_head(new.detach().cpu(), module, len(left)), strict=True):
            should = torch.zeros_like(found) if (layer, head) in heads else own[head]
            if not torch.equal(found, should):
                wrong.append((layer, head))
    return HeadSet(wrong, heads.shape)


def _by_head(
    weight: Float[Tensor, "rows columns"], module: nn.Module, count: int
) -> Float[Tensor, "head d_head d_model"]:
    """W_O as a view: GPT-2's Conv1D keeps [in, out], a linear layer [out, in]."""
    in_first = weight if _is_conv1d(module) else weight.T
    return rearrange(in_first, "(head d_head) d_model -> head d_head d_model", head=count)


def _stored(network: Any, state: dict[str, Tensor]) -> list[Tensor]:
    """The tensors that are saved; tied ones only once."""
    tied = set(network.all_tied_weights_keys or ())
    return [tensor for name, tensor in state.items() if name not in tied]


def _plain(module: nn.Module) -> nn.Module:
    """The Hugging Face module that TransformerLens wrapped."""
    while "_original_component" in module._modules:
        module = module._modules["_original_component"]  # type: ignore[assignment]
    return module


def _module(root: nn.Module, path: str) -> nn.Module | None:
    module: nn.Module | None = _plain(root)
    for part in filter(None, path.split(".")):
        child = module._modules.get(part) if module is not None else None
        module = None if child is None else _plain(child)
    return module


def _tensor(root: nn.Module, name: str) -> Tensor | None:
    path, _, leaf = name.rpartition(".")
    module = _module(root, path)
    if module is None:
        return None
    found = module._parameters.get(leaf)
    return module._buffers.get(leaf) if found is None else found


def _copied(root: nn.Module, name: str, kind: str) -> Tensor:
    """A weight in memory of its own, on the CPU."""
    tensor = _tensor(root, name)
    if tensor is None or tensor.is_meta:
        raise ModelError(f"{kind}: weight {name} is offloaded or cannot be located")
    return tensor.detach().to("cpu", copy=True)


def _is_conv1d(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"


def _output_projection(model: TransformerBridge, network: Any, layer: int) -> str:
    """The name of a layer's W_O in the plain network: the module that reads hook_z."""
    kind = model.cfg.architecture or type(model.original_model).__name__
    wrapped = getattr(model.blocks[layer].attn, "o", None)
    ours = None if wrapped is None else _plain(wrapped)
    for name, module in network.named_modules():
        if ours is None or _module(model.original_model, name) is not ours:
            continue
        if isinstance(module, nn.Linear) or _is_conv1d(module):
            width = module.weight.shape[0 if _is_conv1d(module) else 1]
            if width % int(model.cfg.n_heads) == 0 and module.weight.is_floating_point():
                return str(name)
    raise ModelError(
        f"{kind}: W_O of layer {layer} cannot be located; heads can be removed where a linear "
        "layer of heads x d_head inputs reads hook_z"
    )


def _cut_groups(heads: HeadSet, groups: int, config: Any) -> tuple[dict[int, list[int]], Any]:
    """Whole key-value groups to cut, as many in every layer, and the configuration for that.

    Nothing where some layer has no group that is off, or where the configuration refuses the
    number of heads that would be left (Llama's must divide d_model).
    """
    layers, per_layer = heads.shape
    share = per_layer // groups
    off = {
        layer: [
            g for g in range(groups) if all((layer, g * share + i) in heads for i in range(share))
        ]
        for layer in range(layers)
    }
    for count in range(min(len(of_layer) for of_layer in off.values()), 0, -1):
        left = groups - count
        if left < 1:
            continue
        smaller = copy.deepcopy(config)
        smaller.head_dim = getattr(config, "head_dim", None) or config.hidden_size // per_layer
        smaller.num_attention_heads = left * share
        smaller.num_key_value_heads = left
        try:
            # The constructor checks what loading will check.
            type(config).from_dict(smaller.to_dict())
        except (ValueError, StrictDataclassError):
            continue
        return {layer: of_layer[:count] for layer, of_layer in off.items()}, smaller
    return {}, config


def _kept(gone: HeadSet) -> list[list[int]]:
    layers, per_layer = gone.shape
    return [[h for h in range(per_layer) if (layer, h) not in gone] for layer in range(layers)]


def _cut_layer(
    state: dict[str, Tensor], attention: str, groups_off: list[int], groups: int
) -> None:
    """Take key-value groups out of a layer's q, k, v and o; o's bias stays."""
    kept = [g for g in range(groups) if g not in groups_off]
    for name in ("q_proj", "k_proj", "v_proj"):
        for leaf in ("weight", "bias"):
            key = f"{attention}.{name}.{leaf}"
            if key in state:
                rows = rearrange(state[key], "(group d) ... -> group d ...", group=groups)
                state[key] = rearrange(rows[kept], "group d ... -> (group d) ...").contiguous()
    key = f"{attention}.o_proj.weight"
    columns = rearrange(state[key], "d_model (group d) -> group d_model d", group=groups)
    state[key] = rearrange(columns[kept], "group d_model d -> d_model (group d)").contiguous()

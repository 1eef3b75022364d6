"""How many heads a model has, and names of heads as heads of that model."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet, LanguageHeads, as_language_heads, every_head, one_head_set
from langheads.heads.given import ByLanguage, Named
from langheads.heads.same_model import require_same_model
from langheads.io.errors import InputError, ModelError
from langheads.model.identity import described_before

_SHAPES: WeakKeyDictionary[TransformerBridge, tuple[int, int]] = WeakKeyDictionary()
"""Model whose every block has heads -> (layers, heads a layer)."""


def head_shape(model: TransformerBridge) -> tuple[int, int]:
    """(layers, heads a layer); `ModelError` where a layer has no attention heads at ``hook_z``
    (Mamba, hybrids, encoder-decoders)."""
    if not isinstance(model, TransformerBridge):
        raise InputError(f"{type(model).__name__} given as a model; langheads.load it first")
    layers, heads = int(model.cfg.n_layers), int(model.cfg.n_heads or 0)
    if _SHAPES.get(model) == (layers, heads):
        return layers, heads
    # This dict is built anew on each access.
    hooks = model.hook_dict
    without = [layer for layer in range(layers) if f"blocks.{layer}.attn.hook_z" not in hooks]
    if without or not layers or heads < 1:
        kind = model.cfg.architecture or type(model.original_model).__name__
        which = "no layer" if len(without) == layers else f"not every layer (L{without[0]} is one)"
        raise ModelError(
            f"{kind} has {which} with attention heads at hook_z; langheads gates heads of "
            "decoder-only transformers whose every block has self-attention"
        )
    _SHAPES[model] = layers, heads
    return layers, heads


def heads_of(
    model: TransformerBridge, heads: Named | ByLanguage, language: str | None = None
) -> HeadSet:
    """Heads, or names like ``["L3H7"]``, as a `HeadSet` of this model; see `one_head_set`. Heads of
    another model are refused."""
    _require_of(model, heads)
    return one_head_set(heads, head_shape(model), language=language)


def all_heads_of(model: TransformerBridge, heads: Named | ByLanguage | None) -> HeadSet:
    """As `heads_of`, of all languages together; None for every head. Refuses an empty set."""
    shape = head_shape(model)
    if heads is None:
        return HeadSet(np.ndindex(shape), shape)
    _require_of(model, heads)
    if not (chosen := every_head(heads, shape)):
        raise InputError("no heads asked for; give at least one, or leave heads out for all")
    return chosen


def require_heads_of(model: TransformerBridge, heads: ByLanguage) -> LanguageHeads:
    """The head set of this model, or heads by name as one; refuses that of another model."""
    found = as_language_heads(heads, head_shape(model), str(model.cfg.model_name))
    _require_of(model, found)
    return found


def _require_of(model: TransformerBridge, heads: object) -> None:
    if isinstance(heads, LanguageHeads) and heads.provenance:
        require_same_model("the head set", described_before(model), heads.provenance)

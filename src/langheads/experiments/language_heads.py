"""Heads by the name of the language that they serve, in the model that they were chosen in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import Head, LanguageHeads, as_language_heads, heads_of
from langheads.heads.given import ByLanguage
from langheads.heads.same_model import require_same_model
from langheads.io.arguments import check_gate
from langheads.io.errors import InputError
from langheads.model import head_shape


def require_heads_of(
    model: TransformerBridge, described: Mapping[str, str], heads: ByLanguage
) -> LanguageHeads:
    """The head set of this model, or heads by name as one; refuses that of another model."""
    of = as_language_heads(heads, head_shape(model), str(model.cfg.model_name))
    if of.provenance:
        require_same_model("the head set", described, of.provenance)
    return of


def named_gates(heads: LanguageHeads, values: Mapping[str, float]) -> Float[Tensor, "layer head"]:
    """Gates from values a language, or ``general``; all other heads get 1.

    Refuses a head of two languages that were given different values.

    Example:
        >>> from langheads.heads import HeadSet
        >>> en = HeadSet(["L0H1"], (1, 3))
        >>> named_gates(LanguageHeads({"en": en}, HeadSet([], (1, 3)), "m"), {"en": 3.0})
        tensor([[1., 3., 1.]])
    """
    given: dict[Head, tuple[str, float]] = {}
    for name, value in values.items():
        check_gate(value, f"the gate of {name}")
        for head in heads_of(heads, name):
            other, before = given.get(head, (name, value))
            if before != value:
                raise InputError(
                    f"head {head} serves {other} and {name}, but their gates differ, {before:g} "
                    f"and {value:g}; give both the same"
                )
            given[head] = name, value
    gates = torch.ones(heads.shape)
    for head, (_, value) in given.items():
        gates[head] = value
    return gates

"""Heads by the name of the language that they serve, in the model that they were chosen in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import Head, HeadSet, LanguageHeads, require_shape
from langheads.io.arguments import check_gate
from langheads.io.errors import InputError
from langheads.io.results import require_same_model
from langheads.model import describe, head_shape

GENERAL = "general"
"""Stands for the general heads where a language could stand."""


def require_heads_of(model: TransformerBridge, heads: LanguageHeads) -> None:
    """Refuse a head set of another model.

    Raises:
        ProvenanceError: another shape, or other weights or tokenizer.
    """
    require_shape("the head set", heads.shape, head_shape(model))
    if heads.provenance:
        require_same_model("the head set", describe(model), heads.provenance)


def heads_of(heads: LanguageHeads, name: str) -> HeadSet:
    """The specific heads of a language, or the general ones.

    Raises:
        InputError: a name that the head set does not have, or a set without heads.
    """
    if name != GENERAL and name not in heads.specific:
        raise InputError(
            f"heads of {name} asked for; the head set has {', '.join([*heads.specific, GENERAL])}"
        )
    chosen = heads.general if name == GENERAL else heads.specific[name]
    if not chosen:
        raise InputError(f"the head set has no heads of {name}, so there is nothing to gate")
    return chosen


def named_gates(heads: LanguageHeads, values: Mapping[str, float]) -> Float[Tensor, "layer head"]:
    """Gates from values a language.

    Args:
        heads: which head serves which language.
        values: language, or ``general``, -> the gate of its heads; all other heads get 1.

    Raises:
        InputError: an unknown language, one without heads, a head of two languages that were given
            different values, or a value that float32 cannot hold.

    Example:
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

"""Gates of heads by the name of the language that they serve."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from langheads.heads import Head, LanguageHeads, heads_of
from langheads.io.arguments import check_gate
from langheads.io.errors import InputError


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

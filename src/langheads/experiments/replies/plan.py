"""Interventions on a model while it replies: gates and steering by the names of languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.matched_heads import Matched, matched_gates, matched_set
from langheads.heads import Head, HeadSet, LanguageHeads, heads_of
from langheads.heads.mask import HeadMask
from langheads.io.arguments import BASELINES, asked_name, check_gate
from langheads.io.errors import InputError
from langheads.model import mean_over_languages, mean_z, tokenize_languages
from langheads.text import Corpus

Steering = tuple[HeadSet, Float[Tensor, "layer head d_head"], float]
"""Heads, the direction that is added to their z, and how many times."""


@dataclass(frozen=True)
class Intervention:
    """Gates and steering of one run; by default the model is left alone."""

    gates: Float[Tensor, "*prompt layer head"] | None = None  # of every prompt, or each its own
    steering: tuple[Steering, ...] = ()  # what is added, on which heads
    # What stands in for a head at gate 0; None is 0.
    baseline: Float[Tensor, "layer head d_head"] | None = None

    def touched(self, shape: tuple[int, int]) -> HeadSet:
        """The heads that are not left alone."""
        touched = HeadSet([], shape)
        if self.gates is not None:
            touched |= HeadSet(map(tuple, (self.gates != 1).nonzero().tolist()), shape)
        for heads, _, _ in self.steering:
            touched |= heads
        return touched

    def on(self, control: Matched) -> Intervention:
        """The same on other heads."""
        return Intervention(
            None if self.gates is None else matched_gates(self.gates, control),
            tuple((matched_set(heads, control), step, a) for heads, step, a in self.steering),
            self.baseline,
        )


@dataclass(frozen=True)
class NamedIntervention:
    """An intervention by the names of languages; see `langheads.generate_replies`."""

    heads: LanguageHeads | None
    gate: Mapping[str, float]
    steer: Mapping[tuple[str, str], float]
    baseline: str
    corpus: Corpus | None
    mask: HeadMask | None = None
    docs: int = 100
    max_tokens: int = 2048

    def check(self) -> None:
        """Refuse gates and steering that cannot be had, without a model; see `named_gates`."""
        asked_name("baseline", self.baseline, BASELINES)
        if self.baseline == "mean" and not self.gate:
            raise InputError(
                "baseline mean asked for without gates by language; a mask keeps the baseline that "
                "it was learned with, and without gates there is nothing for a mean to stand in for"
            )
        if not self.gate and not self.steer:
            return
        if self.heads is None:
            raise InputError("gates and steering are by language, which needs a head set (--heads)")
        named_gates(self.heads, self.gate)
        for (to, away), amount in self.steer.items():
            check_gate(amount, f"the steering {to}-{away}")
        named = {name for pair in self.steer for name in pair if heads_of(self.heads, name)}
        if self.corpus is None and (self.steer or self.baseline == "mean"):
            raise InputError("steering and baseline mean need texts for the mean of z (--text)")
        if self.corpus is not None and (missing := sorted(named - set(self.corpus.languages))):
            raise InputError(
                f"steering needs texts of language {', '.join(missing)}; found "
                f"{', '.join(self.corpus.languages)}"
            )

    def on(self, model: TransformerBridge, bos: bool | None) -> Intervention:
        """Gates, steering and baseline as tensors; refuses gates and a mask together."""
        if self.mask is not None and self.gate:
            raise InputError("gates and a mask were both given; give one")
        gates, steering, mean, heads = None, [], None, self.heads
        if heads is not None and (self.gate or self.steer):
            gates = named_gates(heads, self.gate) if self.gate else None
            if self.corpus is not None and (self.steer or self.baseline == "mean"):
                texts = self.corpus.front(self.docs)
                if self.baseline == "zero":
                    texts = {language: texts[language] for pair in self.steer for language in pair}
                means = mean_z_by_language(model, texts, max_tokens=self.max_tokens, bos=bos)
                for (to, away), amount in self.steer.items():
                    both = heads_of(heads, to) | heads_of(heads, away)
                    steering.append((both, means[to] - means[away], amount))
                if self.baseline == "mean":
                    mean = mean_over_languages(means.values())
        if self.mask is not None:
            gates = self.mask.gates()
        return Intervention(gates, tuple(steering), mean)

    def settings(self) -> dict[str, Any]:
        """The arguments, in the form of records and provenance."""
        mask = self.mask and dict(zip(map(str, self.mask.heads), self.mask.values, strict=True))
        shift = {f"{to}-{away}": amount for (to, away), amount in self.steer.items()}
        return {"gates": dict(self.gate), "mask": mask, "shift": shift}


def mean_z_by_language(
    model: TransformerBridge,
    texts: Mapping[str, Sequence[str]],
    *,
    max_tokens: int = 2048,
    bos: bool | None = None,
) -> dict[str, Float[Tensor, "layer head d_head"]]:
    """Mean of z over each language's documents, for steering and mean baselines."""
    documents = tokenize_languages(model, texts, max_tokens=max_tokens, bos=bos)
    return {language: mean_z(model, of.tokens) for language, of in documents.items()}


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

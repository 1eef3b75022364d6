"""What is done to a model while it replies: gates and steering by the names of languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.language_heads import heads_of, named_gates
from langheads.experiments.matched_heads import Matched, matched_gates, matched_set
from langheads.heads import HeadSet, LanguageHeads
from langheads.heads.mask import HeadMask
from langheads.io.arguments import check_gate
from langheads.io.errors import InputError
from langheads.model import mean_z, tokenize_languages
from langheads.text import Corpus

Steering = tuple[HeadSet, Float[Tensor, "layer head d_head"], float]
"""Heads, what is added to their z, and how many times."""


@dataclass(frozen=True)
class Intervention:
    """Gates and steering of one run; by default the model is left alone.

    Attributes:
        gates: of all heads, for every prompt or for each its own, or a set of heads that are off.
        steering: what is added, on which heads.
        baseline: what stands in for a head at gate 0; None is 0.
    """

    gates: HeadSet | Float[Tensor, "*prompt layer head"] | None = None
    steering: tuple[Steering, ...] = ()
    baseline: Float[Tensor, "layer head d_head"] | None = None

    def touched(self, shape: tuple[int, int]) -> HeadSet:
        """The heads that are not left alone."""
        touched = HeadSet([], shape)
        if isinstance(self.gates, Tensor):
            touched |= HeadSet(map(tuple, (self.gates != 1).nonzero().tolist()), shape)
        for heads, _, _ in self.steering:
            touched |= heads
        return touched

    def on(self, control: Matched) -> Intervention:
        """The same on other heads."""
        gates = self.gates
        return Intervention(
            matched_gates(gates, control) if isinstance(gates, Tensor) else gates,
            tuple((matched_set(heads, control), step, a) for heads, step, a in self.steering),
            self.baseline,
        )


def check_steering(
    heads: LanguageHeads | None,
    gate: Mapping[str, float],
    steer: Mapping[tuple[str, str], float],
    baseline: str,
    corpus: Corpus | None,
) -> None:
    """Refuse gates and steering that cannot be had, without a model.

    Raises:
        InputError: gates or steering without a head set; steering or baseline mean without texts;
            an unknown language or baseline; see `named_gates`.
    """
    if baseline not in ("zero", "mean"):
        raise InputError(f"baseline {baseline} asked for; allowed are zero, mean")
    if baseline == "mean" and not gate:
        raise InputError(
            "baseline mean asked for without gates by language; a mask keeps the baseline that it "
            "was learned with, and without gates there is nothing for a mean to stand in for"
        )
    if not gate and not steer:
        return
    if heads is None:
        raise InputError("gates and steering are by language, which needs a head set (--heads)")
    named_gates(heads, gate)
    for (to, away), amount in steer.items():
        check_gate(amount, f"the steering {to}-{away}")
    named = {name for pair in steer for name in pair if heads_of(heads, name)}
    if corpus is None and (steer or baseline == "mean"):
        raise InputError("steering and baseline mean need texts for the mean of z (--text)")
    if corpus is not None and (missing := sorted(named - set(corpus.languages))):
        raise InputError(
            f"steering needs texts of language {', '.join(missing)}; found "
            f"{', '.join(corpus.languages)}"
        )


def plan_intervention(
    model: TransformerBridge,
    heads: LanguageHeads | None,
    gate: Mapping[str, float],
    steer: Mapping[tuple[str, str], float],
    *,
    mask: HeadMask | None = None,
    baseline: str = "zero",
    corpus: Corpus | None = None,
    docs: int = 100,
    max_tokens: int = 2048,
    bos: bool | None = None,
) -> Intervention:
    """Gates, steering and baseline as tensors; arguments and errors as for `reply_records`."""
    if mask is not None and gate:
        raise InputError("gates and a mask were both given; give one")
    gates, steering, mean = None, [], None
    if heads is not None and (gate or steer):
        gates = named_gates(heads, gate) if gate else None
        if corpus is not None and (steer or baseline == "mean"):
            texts = corpus.front(docs)
            if baseline == "zero":
                texts = {language: texts[language] for pair in steer for language in pair}
            means = mean_z_by_language(model, texts, max_tokens=max_tokens, bos=bos)
            for (to, away), amount in steer.items():
                both = heads_of(heads, to) | heads_of(heads, away)
                steering.append((both, means[to] - means[away], amount))
            mean = torch.stack(list(means.values())).mean(dim=0) if baseline == "mean" else None
    if mask is not None:
        gates = mask.gates()
    return Intervention(gates, tuple(steering), mean)


def mean_z_by_language(
    model: TransformerBridge,
    texts: Mapping[str, Sequence[str]],
    *,
    max_tokens: int = 2048,
    bos: bool | None = None,
) -> dict[str, Float[Tensor, "layer head d_head"]]:
    """Mean of z over each language's documents: the ends of steering, and mean baselines.

    Args:
        model: the model.
        texts: language -> documents.
        max_tokens: documents are cut here.
        bos: prepend BOS; None does what the model's tokenizer does by itself.
    """
    documents = tokenize_languages(model, texts, max_tokens=max_tokens, bos=bos)
    return {language: mean_z(model, of.tokens) for language, of in documents.items()}

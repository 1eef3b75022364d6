"""Gates and shifts by the names of languages, from a head set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.specificity.summarise import GENERAL
from langheads.heads import Head, HeadSet, LanguageHeads
from langheads.io.arguments import check_gate
from langheads.io.errors import InputError, ProvenanceError
from langheads.io.results import require_same_model
from langheads.model import describe, head_shape, mean_z, tokenize_languages
from langheads.text import Corpus


def require_heads_of(model: TransformerBridge, heads: LanguageHeads) -> None:
    """Refuse a head set of another model.

    Raises:
        ProvenanceError: another shape, or other weights or tokenizer.
    """
    shape = head_shape(model)
    if heads.shape != shape:
        raise ProvenanceError(
            f"the head set is for a model of {heads.shape[0]} layers x {heads.shape[1]} heads, but "
            f"this one has {shape[0]} x {shape[1]}"
        )
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


def check_steering(
    heads: LanguageHeads | None,
    gate: Mapping[str, float],
    shift: Mapping[tuple[str, str], float],
    baseline: str,
    corpus: Corpus | None,
) -> None:
    """Refuse gates and shifts that cannot be set, without a model.

    Raises:
        InputError: gates or shifts without a head set; a shift or baseline mean without texts;
            an unknown language or baseline; see `named_gates`.
    """
    if baseline not in ("zero", "mean"):
        raise InputError(f"baseline {baseline} asked for; allowed are zero, mean")
    if baseline == "mean" and not gate:
        raise InputError(
            "baseline mean asked for without gates by language; a mask keeps the baseline that it "
            "was learned with, and without gates there is nothing for a mean to stand in for"
        )
    if not gate and not shift:
        return
    if heads is None:
        raise InputError("gates and shifts are given by language, which needs a head set (--heads)")
    named_gates(heads, gate)
    for (to, away), amount in shift.items():
        check_gate(amount, f"the shift {to}-{away}")
    named = {name: heads_of(heads, name) for pair in shift for name in pair}
    if corpus is None and (shift or baseline == "mean"):
        raise InputError("a shift and baseline mean need texts for the mean of z (--text)")
    if corpus is not None and (missing := sorted(set(named) - set(corpus.languages))):
        raise InputError(
            f"a shift needs texts of language {', '.join(missing)}; found "
            f"{', '.join(corpus.languages)}"
        )


def mean_z_by_language(
    model: TransformerBridge,
    texts: Mapping[str, Sequence[str]],
    *,
    max_tokens: int = 2048,
    bos: bool | None = None,
) -> dict[str, Float[Tensor, "layer head d_head"]]:
    """Mean of z over each language's documents: the ends of a shift, and mean baselines.

    Args:
        model: the model.
        texts: language -> documents.
        max_tokens: documents are cut here.
        bos: prepend BOS; None does what the model's tokenizer does by itself.
    """
    documents = tokenize_languages(model, texts, max_tokens=max_tokens, bos=bos)
    return {language: mean_z(model, of.tokens) for language, of in documents.items()}

"""Gates and shifts by the names of languages, from a head set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.language_heads import heads_of, named_gates
from langheads.heads import LanguageHeads
from langheads.io.arguments import check_gate
from langheads.io.errors import InputError
from langheads.model import mean_z, tokenize_languages
from langheads.text import Corpus


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

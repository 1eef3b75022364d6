"""What every proof by ablation shares: losses with heads off, on documents that were not scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import ProvenanceError
from langheads.model import (
    captured_block_inputs,
    document_nll,
    gated,
    map_documents,
    starting_at,
)
from langheads.text import Documents, reaches_into


def losses_with_heads_off(
    model: TransformerBridge,
    documents: Documents,
    conditions: Sequence[tuple[HeadSet, Float[Tensor, "layer head d_head"] | None]],
    batch_tokens: int | str,
    bar: tqdm,
) -> Float[np.ndarray, "doc condition"]:
    """Summed NLL of every document, nats: nothing off, then each condition (heads, baseline).

    Blocks below a condition's first head are not run again, see `langheads.model.replay`.
    """

    @torch.no_grad()
    def measure(tokens: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"]) -> Tensor:
        with captured_block_inputs(model) as inputs:
            losses = [document_nll(model, tokens, lengths)]
        for heads_off, baseline in conditions:
            first = min(head.layer for head in heads_off)
            with (
                starting_at(model, inputs, first),
                gated(model, heads_off, 0.0, baseline=baseline, first_layer=first),
            ):
                losses.append(document_nll(model, tokens, lengths))
            bar.update(len(tokens))
        return torch.stack(losses, dim=1)

    return map_documents(model, documents, measure, batch_tokens=batch_tokens).double().numpy()


def check_held_out(
    proof: Mapping[str, Sequence[str]], scored: Mapping[str, Any], *, allow_overlap: bool
) -> int:
    """How many proof documents were scored, or may have been; -1 where the scores cannot say.

    Args:
        proof: language -> documents.
        scored: provenance of the scores or of the heads made from them.
        allow_overlap: do not refuse them.

    Raises:
        ProvenanceError: some were, and that is not allowed.
    """
    if "scored_up_to" not in scored:
        return -1
    cutoffs = json.loads(scored["scored_up_to"])
    overlap = sum(
        reaches_into(texts, int(scored["seed"]), cutoffs[language])
        for language, texts in proof.items()
        if language in cutoffs
    )
    if overlap > 0 and not allow_overlap:
        raise ProvenanceError(
            f"{overlap} of the documents asked for were used to score these heads, or may have "
            f"been ({scored.get('docs')} a language were); ask for fewer --docs, give "
            "more or other texts, or pass --allow-overlap"
        )
    return overlap

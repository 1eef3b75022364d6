"""The scan that exact knock-outs share: every document's loss, with every head off alone.

A head of layer l changes nothing before layer l, so the residual stream is captured once a batch
and only blocks l .. L-1 run again (`langheads.model.replay`); the heads of a layer run side by side
as rows of one batch, as many as the token budget allows, each row with its own gates.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import Head, HeadSet, every_head
from langheads.heads.given import ByLanguage, Named
from langheads.io.errors import InputError
from langheads.model import (
    captured_block_inputs,
    document_nll,
    gated,
    map_documents,
    starting_at,
    token_budget,
)
from langheads.model.batches import Batches
from langheads.text import Documents

BASELINES = ("zero", "mean")


def knockout_nll(
    model: TransformerBridge,
    documents: Documents,
    heads: HeadSet,
    *,
    starts: Int[np.ndarray, " doc"] | None = None,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[np.ndarray, "doc conditions"]:
    """Summed NLL of every document, with nothing off and with each head off alone.

    Args:
        model: the model.
        documents: of one language.
        heads: which heads to knock out, one at a time.
        starts: the first token of each document that counts; by default all but the first do.
        baseline: what stands in for a head, ``[layer, head, d_head]``; None is zero.
        batch_tokens: tokens a forward, which says how many heads run side by side.
        progress: updated by documents times heads done.

    Returns:
        ``[doc, 1 + heads]``, nothing off first, nats.

    Memory: layers x ``[batch, pos, d_model]`` beside a forward's own.
    """
    off = partial(
        _nll_with_heads_off,
        model,
        heads,
        baseline=baseline,
        budget=token_budget(model, batch_tokens),
        progress=progress,
    )
    given = None if starts is None else torch.from_numpy(starts)
    nll = map_documents(model, documents, off, given=given, batch_tokens=batch_tokens)
    return nll.double().numpy()


@torch.no_grad()
def _nll_with_heads_off(
    model: TransformerBridge,
    heads: HeadSet,
    *batch: Int[Tensor, "batch ..."],
    baseline: Float[Tensor, "layer head d_head"] | None,
    budget: int,
    progress: tqdm | None,
) -> Float[Tensor, "batch conditions"]:
    """One batch, given as `document_nll` takes it."""

    def nll(copies: int) -> Float[Tensor, "copy batch"]:
        many = [repeat(of, "batch ... -> (copy batch) ...", copy=copies) for of in batch]
        return rearrange(document_nll(model, *many), "(copy batch) -> copy batch", copy=copies)

    rows, size = len(batch[0]), batch[0].numel()
    with captured_block_inputs(model) as inputs:
        columns: dict[Head | None, Tensor] = {None: nll(1)[0]}
    batches = Batches(budget)
    for layer in range(heads.shape[0]):
        of_layer = [head for head in heads if head.layer == layer]

        def off(some: list[int], layer: int = layer, of_layer: list[Head] = of_layer) -> Tensor:
            gates = np.stack([HeadSet([of_layer[i]], heads.shape).gates(0.0) for i in some])
            each = repeat(torch.from_numpy(gates), "copy l h -> (copy batch) l h", batch=rows)
            with (
                starting_at(model, inputs, layer, copies=len(some)),
                gated(model, each, baseline=baseline, first_layer=layer),
            ):
                found = nll(len(some))
            if progress is not None:
                progress.update(found.numel())
            return found

        columns |= zip(of_layer, batches.map([size] * len(of_layer), off), strict=True)
    return torch.stack([columns[None], *(columns[head] for head in heads)], dim=1)


def check_baselines(baseline: str | Iterable[str]) -> list[str]:
    """The baselines asked for, each once.

    Raises:
        InputError: none, or an unknown one.
    """
    baselines = [baseline] if isinstance(baseline, str) else list(dict.fromkeys(baseline))
    if not baselines or not set(baselines) <= set(BASELINES):
        raise InputError(
            f"baseline {', '.join(baselines) or 'none'} asked for; allowed are "
            f"{', '.join(BASELINES)}"
        )
    return baselines


def check_heads(heads: Named | ByLanguage | None, shape: tuple[int, int]) -> HeadSet:
    """The heads asked for; None is all of the model.

    Raises:
        InputError: none, or one that the model does not have.
    """
    if heads is None:
        heads = HeadSet([(x, y) for x in range(shape[0]) for y in range(shape[1])], shape)
    chosen = every_head(heads, shape)
    if not chosen:
        raise InputError("no heads asked for; give at least one, or leave heads out for all")
    return chosen

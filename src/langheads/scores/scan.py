"""The scan that exact knock-outs share: every document's loss, with every head off alone.

A head of layer l changes nothing before layer l, so the residual stream is captured once a batch
and only blocks l .. L-1 run again (`langheads.model.replay`); the heads of a layer run side by side
as rows of one batch, as many as the token budget allows, each row with its own gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import Head, HeadSet
from langheads.io.parts import together
from langheads.model import (
    captured_block_inputs,
    document_nll,
    gated,
    map_documents,
    starting_at,
    token_budget,
)
from langheads.model.batches import Batches
from langheads.model.checkpointing import trim
from langheads.text import Documents

_HEADS_A_PART = 64
# Logits of a forward from which on its free memory is returned to the system.
_MANY_LOGITS = 2**20
Baseline = Float[Tensor, "layer head d_head"] | None
"""What stands in for a head that is off; None is zero."""


def knockout_nll(
    model: TransformerBridge,
    documents: Documents,
    heads: HeadSet,
    *,
    starts: Int[np.ndarray, " doc"] | None = None,
    baseline: Baseline = None,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[np.ndarray, "doc conditions"]:
    """Summed NLL of every document, nats, with nothing off and then with each head off alone.

    `starts` are the first tokens that count, by default all but a document's first. The tokens of
    a batch say how many heads run side by side; `progress` is updated by documents times heads.

    Memory: layers x ``[batch, pos, d_model]`` beside a forward's own.
    """
    budget = token_budget(model, batch_tokens)
    given = None if starts is None else torch.from_numpy(starts)
    parts = {}
    with together() as each:
        for some in _whole_layers(heads):
            with each:
                off = partial(_nll_with_heads_off, model, some, baseline, budget, progress)
                parts[some] = map_documents(
                    model, documents, off, work=("knockout", str(some), baseline), given=given,
                    batch_tokens=batch_tokens, progress=progress, updates=len(some),
                    cost=1 + sum(1 - head.layer / heads.shape[0] for head in some),
                    row=(1 + len(some),),
                )  # fmt: skip
    of_head = {
        head: nll[:, 1 + i].double() for some, nll in parts.items() for i, head in enumerate(some)
    }
    on = next(iter(parts.values()))[:, 0].double()
    return torch.stack([on, *(of_head[head] for head in heads)], dim=1).numpy()


def _whole_layers(heads: HeadSet) -> Iterator[HeadSet]:
    """The heads layer by layer: enough to a part that capturing the blocks' inputs costs little,
    and few enough that a killed run does not lose much."""
    some: list[Head] = []
    for _, of_layer in groupby(sorted(heads), key=lambda head: head.layer):
        some += of_layer
        if len(some) >= _HEADS_A_PART:
            yield HeadSet(some, heads.shape)
            some = []
    if some:
        yield HeadSet(some, heads.shape)


@torch.no_grad()
def _nll_with_heads_off(
    model: TransformerBridge,
    heads: HeadSet,
    baseline: Baseline,
    budget: int,
    progress: tqdm | None,
    *batch: Int[Tensor, "batch ..."],
) -> Float[Tensor, "batch conditions"]:
    """One batch, in the form that `document_nll` takes."""

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
            if len(some) * size * int(model.cfg.d_vocab) > _MANY_LOGITS:
                # Gaps of some MB a forward, after a hundred forwards, are as large as the model.
                trim()
            if progress is not None:
                progress.update(found.numel())
            return found

        columns |= zip(of_layer, batches.map([size] * len(of_layer), off), strict=True)
    return torch.stack([columns[None], *(columns[head] for head in heads)], dim=1)

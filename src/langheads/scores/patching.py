"""Activation patching of heads: one prompt's run with a head of another prompt's run put in.

With D the logit difference (answer minus wrong token) at the last position, z_clean the head's
output there in the clean run:

    share[l,h] = (D(corrupt run, z[l,h] at the last position := z_clean) - D(corrupt))
                 / (D(clean) - D(corrupt))

1: the head alone brings the clean run's preference back; 0: it does nothing (denoising, Heimersheim
and Nanda, arXiv 2404.15255). A prompt and its translation have different lengths, and only their
last positions correspond, so z is put in at the last position only: effects of a head at earlier
ones are not seen.

TransformerLens' own `patching` runs every layer again for each head and patches by absolute
position, which does not correspond in prompts of different length; here all heads of a layer run
side by side from that layer on (see `model.replay`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import Head, HeadSet
from langheads.io.errors import InterventionError
from langheads.model import captured_block_inputs, head_shape, starting_at
from langheads.model.batches import Batches
from langheads.model.logit_attribution import last, last_positions, widened


def logit_difference(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, " batch"],
    answer: Int[Tensor, " batch"],
    wrong: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Logit of the answer minus that of the wrong token after each row's last real token."""
    logits = widened(last(model(tokens, return_type="logits"), lengths))
    row = torch.arange(len(tokens), device=logits.device)
    return logits[row, answer.to(logits.device)] - logits[row, wrong.to(logits.device)]


@torch.no_grad()
def patched_differences(
    model: TransformerBridge,
    clean: tuple[Int[Tensor, "batch pos"], Int[Tensor, " batch"]],
    corrupt: tuple[Int[Tensor, "batch corrupt_pos"], Int[Tensor, " batch"]],
    answer: Int[Tensor, " batch"],
    wrong: Int[Tensor, " batch"],
    heads: HeadSet,
    *,
    budget: int,
) -> Float[Tensor, "batch columns"]:
    """Logit differences of the clean run, the corrupt run, and the corrupt run with each head.

    Runs are right-padded tokens with their lengths; heads of the clean one are put into the
    corrupt one, with as many side by side as fit into `budget` tokens.

    Memory: layers x ``[batch, corrupt_pos, d_model]`` beside a forward's own.
    """
    layers, _ = head_shape(model)
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(layers)]
    with last_positions(model, names, clean[1]) as z:
        columns: dict[Any, Tensor] = {"clean": logit_difference(model, *clean, answer, wrong)}
    tokens, lengths = corrupt
    with captured_block_inputs(model) as inputs:
        columns["corrupt"] = logit_difference(model, tokens, lengths, answer, wrong)
    batches, batch = Batches(budget), (tokens, lengths, answer, wrong)
    for layer, name in enumerate(names):
        of_layer = [head for head in heads if head.layer == layer]

        def patched(
            some: list[int], layer: int = layer, name: str = name, of: list[Head] = of_layer
        ) -> Tensor:
            copies, indices = len(some), torch.tensor([of[i].head for i in some])
            with (
                starting_at(model, inputs, layer, copies=copies),
                _put_in(model, name, z[name], indices, lengths) as fired,
            ):
                many = [repeat(x, "batch ... -> (copy batch) ...", copy=copies) for x in batch]
                differences = logit_difference(model, *many)
            if fired != [name]:
                raise InterventionError(f"{name} fired {len(fired)} times in one forward")
            return rearrange(differences, "(copy batch) -> copy batch", copy=copies)

        sizes = [tokens.numel()] * len(of_layer)
        columns |= zip(of_layer, batches.map(sizes, patched), strict=True)
    return torch.stack([columns["clean"], columns["corrupt"], *(columns[h] for h in heads)], dim=1)


@contextmanager
def _put_in(
    model: TransformerBridge,
    name: str,
    clean: Float[Tensor, "batch head d_head"],
    heads: Int[Tensor, " copy"],
    lengths: Int[Tensor, " batch"],
) -> Iterator[list[str]]:
    """Copy i of the batch gets head ``heads[i]`` of the clean run at its last positions."""
    fired: list[str] = []

    def put(z: Tensor, hook: Any) -> Tensor:
        if z.ndim != 4 or len(z) != len(heads) * len(clean) or z.shape[2:] != clean.shape[1:]:
            raise InterventionError(
                f"{name} is {list(z.shape)}, patching expects [{len(heads) * len(clean)}, pos, "
                f"{clean.shape[1]}, {clean.shape[2]}]"
            )
        fired.append(name)
        patched = rearrange(z.clone(), "(copy batch) ... -> copy batch ...", copy=len(heads))
        batch = torch.arange(len(clean), device=z.device)
        for copy, head in enumerate(heads.tolist()):
            ends = lengths.to(z.device) - 1
            patched[copy, batch, ends, head] = clean[:, head].to(z)
        return rearrange(patched, "copy batch ... -> (copy batch) ...")

    with model.hooks(fwd_hooks=[(name, put)]):
        yield fired

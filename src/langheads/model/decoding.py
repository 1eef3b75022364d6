"""Continuing token rows with the model's own `generate`, under whatever hooks are set.

Hugging Face's `generate` on the network inside the bridge keeps its own cache and fires every
hook once a forward: once for the prompts, then once for each new token. It is given a blank
generation configuration, so a checkpoint's repetition penalty, top-p or suppressed tokens have no
effect; only its end-of-sequence tokens are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge
from transformers import GenerationConfig, LogitsProcessor

from langheads.io.errors import NonFiniteError
from langheads.model.batches import Batches
from langheads.model.budget import token_budget
from langheads.model.fused_attention import fused_attention
from langheads.model.gates import gated
from langheads.model.kept import batch_keeper
from langheads.model.state import evaluating

# Any value will do: padding is masked, and tokens after the end are cut off.
_PADDING = 0


def decode_rows(
    model: TransformerBridge,
    rows: Sequence[Int[Tensor, " _"]],
    *,
    max_new_tokens: int,
    gates: Float[Tensor, "*gates layer head"] | None = None,
    gates_of: Sequence[int] | None = None,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    seeds: Sequence[int] | None = None,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
    **settings: Any,
) -> list[Int[Tensor, " _"]]:
    """Continue many token rows, each under its own gates, in batches of like length; on the CPU.

    Args:
        model: the model, under other interventions or not.
        rows: special tokens included.
        max_new_tokens: at least 1.
        gates: for all rows, or one a row.
        gates_of: the number of each row's gates; by default row n has gates n.
        baseline: what stands in for a head at gate 0, see `gated`.
        batch_tokens: tokens a batch, padding and new tokens included; halved when memory runs out.
        progress: updated by the number of rows done.
        seeds, settings: see `decode`.

    Raises:
        OutOfMemoryError: one row alone does not fit.
        NonFiniteError, InterventionError: see `decode` and `gated`.
        Waiting: see `langheads.in_parts`.
    """

    def gates_at(batch: list[int]) -> Tensor | None:
        if gates is None or gates.ndim == 2:
            return gates
        return gates[batch if gates_of is None else [gates_of[i] for i in batch]]

    def work(batch: list[int]) -> list[Int[Tensor, " _"]]:
        own = gates_at(batch)
        with nullcontext() if own is None else gated(model, own, baseline=baseline):
            return decode(
                model,
                [rows[i] for i in batch],
                max_new_tokens=max_new_tokens,
                seeds=[] if seeds is None else [seeds[i] for i in batch],
                **settings,
            )

    def alone(index: int) -> str:
        return (
            f"one prompt of {len(rows[index])} tokens and {max_new_tokens} new ones; ask for fewer "
            "or use a smaller dtype"
        )

    lengths = [len(row) + max_new_tokens for row in rows]
    budget = token_budget(model, batch_tokens)
    network: Any = model.original_model
    kernel = str(network.config._attn_implementation)
    work_on = ("replies", max_new_tokens, baseline, settings, end_tokens(model), kernel)
    keep = batch_keeper(
        model, work_on, rows, budget,
        lambda batch: (gates_at(batch), None if seeds is None else [seeds[i] for i in batch]),
        progress=progress,
    )  # fmt: skip
    return Batches(budget).map(lengths, work, alone=alone, progress=progress, keep=keep)


def decode_under_each(
    model: TransformerBridge,
    rows: Sequence[Int[Tensor, " _"]],
    gates: Float[Tensor, "gates layer head"],
    **how: Any,
) -> list[list[Int[Tensor, " _"]]]:
    """New tokens ``[gates][row]`` of every row under each of some gates, side by side."""
    gates_of = [number for number in range(len(gates)) for _ in rows]
    with fused_attention(model):
        found = decode_rows(model, [*rows] * len(gates), gates=gates, gates_of=gates_of, **how)
    return [found[i : i + len(rows)] for i in range(0, len(found), len(rows))]


@torch.no_grad()
def decode(
    model: TransformerBridge,
    rows: Sequence[Int[Tensor, " _"]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seeds: Sequence[int] = (),
    use_cache: bool = True,
) -> list[Int[Tensor, " _"]]:
    """Continue a batch of token rows, each up to and with its first end-of-sequence token.

    At temperature T > 0 the next token is argmax(logits / T + Gumbel noise), which is a sample of
    softmax(logits / T); every row draws its noise from a seed of its own, so a sample depends
    neither on the other rows nor on the cache. At 0 it is the likeliest.

    Rows have their special tokens, and are padded on the left here; new tokens are on the CPU.
    Flags and configurations of the model are as before afterwards. Raises `NonFiniteError` where
    logits are NaN or infinite.

    Memory: keys and values of all positions, and attention ``[batch, head, pos, pos]`` of one layer
    for the prompts.
    """
    device = model.cfg.device
    width = max(map(len, rows))
    tokens = torch.full((len(rows), width), _PADDING)
    real = torch.zeros_like(tokens)
    for i, row in enumerate(rows):
        tokens[i, width - len(row) :] = row
        real[i, width - len(row) :] = 1
    ends = end_tokens(model)
    network: Any = model.original_model
    with evaluating(model), _blank_generation_config(network):
        grown = network.generate(
            tokens.to(device),
            attention_mask=real.to(device),
            generation_config=GenerationConfig(
                max_new_tokens=max_new_tokens,
                do_sample=False,
                use_cache=use_cache,
                eos_token_id=ends or None,
                pad_token_id=_PADDING,
            ),
            logits_processor=[
                _Finite(),
                *([_Gumbel(temperature, seeds)] if temperature > 0 else []),
            ],
        )
    return [_until_end(row, ends) for row in grown[:, width:].cpu()]


def reply_text(model: TransformerBridge, tokens: Int[Tensor, " new"]) -> str:
    """New tokens as text, without special ones."""
    text = model.tokenizer.decode(
        tokens.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return str(text)


def end_tokens(model: TransformerBridge) -> list[int]:
    """The end-of-sequence tokens of the checkpoint's generation settings and of its tokenizer."""
    settings = getattr(model.original_model, "generation_config", None)
    ends = getattr(settings, "eos_token_id", None)
    listed = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    own = getattr(model.tokenizer, "eos_token_id", None)
    # TransformerLens gives a tokenizer without EOS one that the model has no logit for.
    known = [own] if own is not None and own < model.cfg.d_vocab else []
    return list(dict.fromkeys([*listed, *known]))


def _until_end(row: Int[Tensor, " new"], ends: Sequence[int]) -> Int[Tensor, " _"]:
    at = torch.isin(row, torch.tensor(ends, dtype=row.dtype)).nonzero()
    return row[: int(at[0]) + 1] if len(at) else row


@contextmanager
def _blank_generation_config(network: Any) -> Iterator[None]:
    """`generate` fills missing settings from the checkpoint's: hide those."""
    before = network.generation_config
    try:
        network.generation_config = GenerationConfig()
        yield
    finally:
        network.generation_config = before


class _Finite(LogitsProcessor):
    """Refuses NaN and infinite logits, whose argmax would be a token like any other."""

    def __call__(
        self, input_ids: Int[Tensor, "batch pos"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        # A model may exclude tokens by -inf, but not all of them.
        if not bool(torch.isfinite(scores.max(dim=-1).values).all()):
            raise NonFiniteError(
                "logits of a reply are NaN or infinite; check the weights, or take gates "
                "nearer to 1, steering nearer to 0, or a wider --dtype"
            )
        return scores


class _Gumbel(LogitsProcessor):
    """Adds each row's own noise to its logits, so that the argmax is a sample."""

    def __init__(self, temperature: float, seeds: Sequence[int]):
        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(
        self, input_ids: Int[Tensor, "batch pos"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        # -log of exponential noise is Gumbel noise; drawn on the CPU, the same on every device.
        noise = torch.stack(
            [torch.empty(scores.shape[1]).exponential_(generator=g) for g in self._generators]
        )
        return scores.float() / self._temperature - noise.log().to(scores.device)

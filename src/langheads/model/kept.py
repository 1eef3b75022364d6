"""Results of batches, kept as parts of a run; see `langheads.io.parts`.

A part is identified by everything its values depend on. Beside the tokens these are the model as it
is in memory, the measurement, its gates, the versions of the libraries, and the budget of a batch,
as sums of floating-point numbers depend on what else is in it. Interventions of langheads are
`declared` for this. A user's hook cannot be identified: under one nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.digest import digest, versions
from langheads.io.estimate import Estimate
from langheads.io.part_file import Piece
from langheads.io.parts import Waiting, active_parts
from langheads.io.progress import count_part
from langheads.model.identity import described_before

Keeper = Callable[[int, int, list[int], Callable[[], list[Any]]], list[Any] | None]
"""(number of a batch, of how many, its rows, what makes their results) -> the results, read or
made; None if another shard makes them."""

_under: ContextVar[tuple[Any, ...]] = ContextVar("under", default=())


@contextmanager
def declared(model: TransformerBridge, *interventions: Any) -> Iterator[None]:
    """Hooks that are set inside the block are declared by these values, so that parts can be kept.

    Hooks that the model carries already cannot be declared.
    """
    unknown = not _under.get() and "hooks" in described_before(model)
    token = _under.set(() if unknown else (*_under.get(), *interventions))
    try:
        yield
    finally:
        _under.reset(token)


def are_declared() -> bool:
    """Whether the hooks that are set now are declared; under others every forward must run."""
    return bool(_under.get())


def batch_keeper(
    model: TransformerBridge,
    work: Sequence[Any] | None,
    rows: Sequence[Int[Tensor, " _"]],
    budget: int,
    given: Callable[[list[int]], Any] | None = None,
    *,
    progress: tqdm | None = None,
    updates: int | float = 1,
    cost: int | float = 1,
    row: tuple[int, ...] | None = None,
    by_all: bool = False,
) -> Keeper | None:
    """Keeps the batches of a measurement in the parts of this run; None where none are kept.

    Args:
        model, work: the measurement and what it depends on; None keeps nothing.
        rows, budget: tokens of each row, and how many a batch has.
        given: rows of a batch -> further input of their measurement.
        progress, updates: a bar, and by how much each row that is read, not made, updates it.
        cost, row: forwards that each row takes, and the shape of its result, if known.
        by_all: a batch is made by the first process that needs it, not by its shard.
    """
    parts = active_parts()
    if parts is None or work is None or (of_all := _shared(model, work, budget)) is None:
        return None
    # The shard that begins, so that not all short measurements fall to the first.
    first = int(digest(of_all, [len(row) for row in rows])[:8], 16)

    def keep(
        number: int, batches: int, batch: list[int], make: Callable[[], list[Any]]
    ) -> list[Any] | None:
        name = digest(of_all, [rows[i] for i in batch], given and given(batch))
        tokens = len(batch) * max(len(rows[i]) for i in batch)
        piece = Piece(
            str(work[0]),
            of_all,
            name,
            first + number,
            number,
            batches,
            len(batch),
            tokens,
            cost,
            row,
        )
        if by_all:
            return parts.shared(piece, make)
        found, made = parts.rows(piece, make)
        if progress is not None:
            units, done = updates * len(batch), found is not None
            own = piece.first % parts.shards == parts.shard
            count_part(progress, units, parts.shards, own=own, done=done, made=made)
            if done and not made:
                progress.update(units)
        return found

    return keep


def _shared(model: TransformerBridge, work: Sequence[Any], budget: int) -> str | None:
    """Digest of what all batches of a measurement share; None under undeclared hooks."""
    model_now = described_before(model)
    if "hooks" in model_now and not _under.get():
        return None
    device = model_now.pop("device").partition(":")[0]
    autocast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None
    how = [device, budget, torch.get_float32_matmul_precision(), autocast]
    return digest(work, _under.get(), model_now, versions(), how)


def kept_as_one(
    model: TransformerBridge,
    work: Sequence[Any],
    rows: Sequence[Int[Tensor, " _"]],
    make: Callable[[list[int]], Tensor],
    *,
    by_all: bool = False,
) -> Tensor:
    """A tensor that is made from rows one after another, kept as one part.

    Made by one shard, for which the others wait, or `by_all`: by the first that needs it.
    """
    whole = list(range(len(rows)))
    if isinstance(parts := active_parts(), Estimate):
        return parts.at_once(str(work[0]), [len(row) for row in rows], make)
    keep = batch_keeper(model, work, rows, 0, by_all=by_all)
    if keep is None:
        return make(whole)
    found = keep(0, 1, whole, lambda: [make(whole)])
    if found is None:
        raise Waiting(1)
    return torch.as_tensor(found[0])

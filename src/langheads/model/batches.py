"""Running a measurement over many documents, in batches that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from jaxtyping import Float, Shaped
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import NonFiniteError, OutOfMemoryError, logger
from langheads.io.parts import Waiting
from langheads.model.budget import token_budget
from langheads.model.chunked_losses import chunked_losses
from langheads.model.fused_attention import fused_attention
from langheads.model.kept import Keeper, batch_keeper
from langheads.model.state import frozen
from langheads.text import Documents, length_batches, pad_right

Row = TypeVar("Row")


class Batches:
    """Batches of rows of similar length, smaller for good once memory has run out.

    Attributes:
        tokens: budget of a batch, padding included.

    Example:
        >>> Batches(12).map([3, 9, 4], lambda batch: [f"{i} of {batch}" for i in batch])
        ['0 of [2, 0]', '1 of [1]', '2 of [2, 0]']
    """

    def __init__(self, tokens: int):
        self.tokens = tokens

    def map(
        self,
        lengths: Sequence[int],
        work: Callable[[list[int]], Iterable[Row]],
        *,
        alone: Callable[[int], str] | None = None,
        progress: tqdm | None = None,
        keep: Keeper | None = None,
    ) -> list[Row]:
        """Do the work batch by batch; one that does not fit is halved, with a warning.

        Args:
            lengths: tokens of each row.
            work: indices of a batch -> the result of each row.
            alone: index -> what does not fit and what to do about it, for the `OutOfMemoryError`
                of a single row; by default the error is passed on.
            progress: updated by the number of rows done.
            keep: keeps the results of each batch, see `Keeper`; rows are then tensors, and
                `Waiting` is raised where another shard makes some of them.
        """
        rows: dict[int, Row] = {}
        missing = 0
        batches = length_batches(lengths, self.tokens)
        for number, batch in enumerate(batches):
            make = partial(self._within, batch, lengths, work, alone, progress)
            found = make() if keep is None else keep(number, len(batches), batch, make)
            missing += found is None
            rows |= zip(batch, found or (), strict=found is not None)
        if missing:
            raise Waiting(missing)
        return [rows[i] for i in range(len(lengths))]

    def _within(
        self,
        batch: list[int],
        lengths: Sequence[int],
        work: Callable[[list[int]], Iterable[Row]],
        alone: Callable[[int], str] | None,
        progress: tqdm | None,
    ) -> list[Row]:
        """One batch, cut further where memory has run out."""
        queue = self._cut(batch, lengths)
        rows: dict[int, Row] = {}
        while queue:
            some, found = queue.pop(0), None
            try:
                found = work(some)
            except Exception as error:
                if not out_of_memory(error) or (len(some) == 1 and alone is None):
                    raise
                if len(some) == 1 and alone is not None:
                    raise OutOfMemoryError(f"out of memory on {alone(some[0])}") from error
            if found is None:
                # Outside the except block: the traceback holds on to the batch's memory.
                clear_device_cache(garbage_collection=True)
                self.tokens = max(lengths[some[0]], lengths[some[0]] * len(some) // 2)
                logger.warning("out of memory: going on with %d tokens a batch", self.tokens)
                queue = self._cut([i for group in (some, *queue) for i in group], lengths)
                continue
            rows |= zip(some, found, strict=True)
            if progress is not None:
                progress.update(len(some))
        return [rows[i] for i in batch]

    def _cut(self, batch: list[int], lengths: Sequence[int]) -> list[list[int]]:
        groups = length_batches([lengths[i] for i in batch], self.tokens)
        return [[batch[i] for i in group] for group in groups]


def map_documents(
    model: TransformerBridge,
    documents: Documents,
    measure: Callable[..., Tensor],
    *,
    work: Sequence[Any] | None = None,
    given: Shaped[Tensor, "doc ..."] | None = None,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
    updates: int | float | None = None,
    cost: int | float = 1,
    row: tuple[int, ...] | None = None,
) -> Float[Tensor, "doc ..."]:
    """Apply `measure` to every document, in batches of like length; rows are on the CPU.

    Args:
        model: its parameters collect no gradients meanwhile.
        documents: of one language.
        measure: (tokens ``[batch, pos]``, lengths ``[batch]``) -> one row a document, on any
            device.
        work: names the measurement, with everything that its values depend on beside the model,
            tokens and `given`; identifies its parts (`langheads.in_parts`). None keeps nothing.
        given: something for every document, handed to `measure` as a third argument.
        batch_tokens: see `token_budget`; halved when memory runs out.
        progress: updated by the number of documents done.
        updates: by how much `measure` itself updates `progress` for each document; None where this
            function does it.
        cost: forwards that `measure` runs on each document, for estimates of the time.
        row: shape of a row, if known, also for estimates.

    Raises:
        NonFiniteError: a row is NaN or infinite; names the language and the document.
        OutOfMemoryError: one document alone does not fit.
        Waiting: see `langheads.in_parts`.
    """
    lengths = [len(tokens) for tokens in documents.tokens]

    def measured(batch: list[int]) -> Tensor:
        tokens = pad_right([documents.tokens[i] for i in batch]).to(model.cfg.device)
        sizes = torch.tensor([lengths[i] for i in batch])
        rows = measure(tokens, sizes, *(() if given is None else (given[batch],))).cpu()
        finite = rows.isfinite().reshape(len(batch), -1).all(dim=1)
        if not finite.all():
            raise NonFiniteError(
                f"loss or gradient of document {batch[int((~finite).nonzero()[0])]} of language "
                f"{documents.language} is NaN or infinite; check the weights, or use a wider dtype"
            )
        return rows

    def alone(index: int) -> str:
        return (
            f"one document of {lengths[index]} tokens ({documents.language}); lower --max-tokens "
            "or use a smaller dtype"
        )

    budget = token_budget(model, batch_tokens)
    keep = batch_keeper(
        model, work, documents.tokens, budget, None if given is None else given.__getitem__,
        progress=progress, updates=1 if updates is None else updates,
        cost=cost, row=row,
    )  # fmt: skip
    how: dict[str, Any] = {"alone": alone, "progress": progress if updates is None else None}
    with frozen(model), fused_attention(model), chunked_losses(model):
        return torch.stack(Batches(budget).map(lengths, measured, keep=keep, **how))


@contextmanager
def out_of_memory_named(what: str) -> Iterator[None]:
    """Name, in a one-line error, what memory ran out on, where there is no batch to halve."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"out of memory on {what}; lower --max-tokens or use a smaller dtype"
        ) from error


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on any device."""
    return isinstance(error, MemoryError) or should_reduce_batch_size(error)

"""Running a measurement over many documents, in batches that fit in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from jaxtyping import Float, Shaped
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import InputError, NonFiniteError, OutOfMemoryError
from langheads.model.fused_attention import fused_attention
from langheads.model.nll import frozen
from langheads.text import Documents, length_batches, pad_right

logger = logging.getLogger("langheads")


def map_documents(
    model: TransformerBridge,
    documents: Documents,
    measure: Callable[..., Tensor],
    *,
    given: Shaped[Tensor, "doc ..."] | None = None,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[Tensor, "doc ..."]:
    """Apply `measure` to every document, in batches of like length.

    A batch that does not fit in memory is halved, said once on the log, and all later ones keep
    the smaller budget.

    Args:
        model: the model; its parameters do not collect gradients meanwhile.
        documents: of one language.
        measure: (tokens ``[batch, pos]``, lengths ``[batch]``) -> one row a document, on any
            device.
        given: something for every document, handed to `measure` as a third argument
            ``[batch, ...]``.
        batch_tokens: tokens a batch, padding included; ``auto`` is 1,024 on a CPU and 16,384
            elsewhere.
        progress: updated by the number of documents done.

    Returns:
        ``[doc, ...]`` on the CPU, in the order of `documents`.

    Raises:
        NonFiniteError: a row is NaN or infinite; names the language and the document.
        OutOfMemoryError: one document alone does not fit.
    """
    budget = token_budget(model, batch_tokens)
    lengths = [len(tokens) for tokens in documents.tokens]
    queue = length_batches(lengths, budget)
    rows: list[Tensor | None] = [None] * len(documents)
    with frozen(model), fused_attention(model):
        while queue:
            indices = queue.pop(0)
            batch = pad_right([documents.tokens[i] for i in indices]).to(model.cfg.device)
            try:
                rows_given = () if given is None else (given[indices],)
                sizes = torch.tensor([lengths[i] for i in indices])
                result = measure(batch, sizes, *rows_given).cpu()
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if len(indices) == 1:
                    raise OutOfMemoryError(
                        f"out of memory on one document of {lengths[indices[0]]} tokens "
                        f"({documents.language}); lower --max-tokens or use a smaller dtype"
                    ) from error
                result = None
            if result is None:
                # Outside the except block: the traceback holds on to the batch's memory.
                clear_device_cache(garbage_collection=True)
                budget = max(lengths[indices[0]], batch.numel() // 2)
                logger.warning("out of memory: going on with %d tokens a batch", budget)
                left = [i for group in (indices, *queue) for i in group]
                queue = [
                    [left[i] for i in group]
                    for group in length_batches([lengths[i] for i in left], budget)
                ]
                continue
            finite = result.isfinite().reshape(len(indices), -1).all(dim=1)
            if not finite.all():
                bad = indices[int((~finite).nonzero()[0])]
                raise NonFiniteError(
                    f"loss or gradient of document {bad} of language {documents.language} is NaN "
                    "or infinite; check the weights, or use a wider dtype"
                )
            for row, index in enumerate(indices):
                rows[index] = result[row]
            if progress is not None:
                progress.update(len(indices))
    return torch.stack([row for row in rows if row is not None])


def token_budget(model: TransformerBridge, batch_tokens: int | str) -> int:
    """Tokens a batch: the number given, or for ``auto`` 1,024 on a CPU and 16,384 elsewhere."""
    if batch_tokens == "auto":
        return 1024 if str(model.cfg.device) == "cpu" else 16384
    if isinstance(batch_tokens, int) and batch_tokens > 0:
        return batch_tokens
    raise InputError(f"batch_tokens {batch_tokens!r} asked for; allowed are auto or a number > 0")


@contextmanager
def told_out_of_memory(what: str) -> Iterator[None]:
    """Tell running out of memory in one line, where there is nothing to halve."""
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

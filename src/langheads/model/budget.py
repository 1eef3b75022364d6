"""The number of tokens a batch where langheads chooses it.

The last bits of a sum of floating-point numbers depend on what else is in the batch. So the number
must not depend on memory that happens to be free: it follows from the shape of the model and from
the whole memory of its devices, and all processes of a run in parts take the first one's number, on
any device. Where other programs use that memory, a batch is halved, see `langheads.model.batches`.

    tokens = (0.9 total - weights) / 2 / what all blocks keep of a token

so that a backward pass, which may take half of what is free (`langheads.model.checkpointing`),
repeats no matrix product; not more than a device can use, nor less than keeps it busy.
"""

from __future__ import annotations

import psutil
import torch
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.digest import digest
from langheads.io.errors import InputError
from langheads.io.estimate import estimating
from langheads.io.part_file import Piece
from langheads.io.parts import active_parts

# So many keep a CPU busy, and its caches hold no more.
_ON_CPU = 1024
_LEAST, _MOST = 1024, 16384
_SHARE = 0.9


def token_budget(model: TransformerBridge, batch_tokens: int | str) -> int:
    """Tokens a batch: the number given, or for ``auto`` 1,024 on a CPU and what fits elsewhere."""
    if batch_tokens == "auto":
        return _agreed(model)
    if isinstance(batch_tokens, int) and batch_tokens > 0:
        return batch_tokens
    raise InputError(f"batch_tokens {batch_tokens!r} asked for; allowed are auto or a number > 0")


def budget_settings(model: TransformerBridge) -> dict[str, str]:
    """For provenance, where memory decides: the number for ``auto``, and the devices' memory."""
    if not (total := _memory(model)):
        return {}
    return {
        "auto_batch_tokens": str(_agreed(model)),
        "device_memory_gib": f"{total / 2**30:.1f}",
    }


def kept_of_a_token(model: TransformerBridge) -> int:
    """Bytes that all blocks keep of a token for a backward pass that repeats no matrix product:
    their inputs, matrix products but for the last, and fused attention with its normaliser."""
    cfg = model.cfg
    kv_heads = cfg.n_key_value_heads or cfg.n_heads
    mlp = (2 if cfg.gated_mlp else 1) * int(cfg.d_mlp or 4 * cfg.d_model)
    numbers = 2 * cfg.d_model + 2 * (cfg.n_heads + kv_heads) * cfg.d_head + mlp
    return int(cfg.n_layers * (numbers * cfg.dtype.itemsize + 4 * cfg.n_heads))


def _agreed(model: TransformerBridge) -> int:
    """The number for ``auto``, of this model in this run."""
    if not (total := _memory(model)):
        return _ON_CPU
    weights = sum(weight.nbytes for weight in model.original_model.parameters())
    fitting = int((_SHARE * total - weights) / 2) // kept_of_a_token(model)
    tokens = min(_MOST, max(_LEAST, fitting // _LEAST * _LEAST))
    parts = active_parts()
    if parts is None or estimating():
        return tokens
    name = digest("tokens a batch", weights, kept_of_a_token(model))
    piece = Piece("tokens a batch", name, name, 0, 0, 1, 1, 0, 1, None)
    return int(parts.shared(piece, lambda: [torch.tensor([tokens])])[0])


def _memory(model: TransformerBridge) -> int:
    """Bytes of memory of the weights' devices; 0 on a CPU, where they decide nothing."""
    if str(model.cfg.device) == "cpu":
        return 0
    devices = {weight.device for weight in model.original_model.parameters()}
    cards = [device for device in devices if device.type == "cuda"]
    if cards:
        return sum(torch.cuda.get_device_properties(card).total_memory for card in cards)
    return int(psutil.virtual_memory().total)

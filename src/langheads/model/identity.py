"""Which model it is, for provenance."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from langheads.model.loading import EMBEDDED


def describe(model: TransformerBridge) -> dict[str, str]:
    """Name, revision or weight hash, tokenizer hash, dtype and device, for provenance.

    A model from the Hub is identified by its commit; any other by SHA-256 over its weights, rounded
    to bfloat16, which reads them all once.
    """
    config = model.original_model.config
    name = str(getattr(config, "_name_or_path", "") or model.cfg.model_name)
    revision = str(getattr(config, "_commit_hash", None) or "")
    return {
        "model": {str(folder): short for short, folder in EMBEDDED.items()}.get(name, name),
        "revision": revision,
        "weight_hash": "" if revision else _weight_hash(model),
        "tokenizer_hash": _tokenizer_hash(model.tokenizer),
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
        "device": str(model.cfg.device),
    }


def _weight_hash(model: TransformerBridge) -> str:
    """SHA-256 over the weights as bfloat16, so that it does not depend on the dtype they were
    loaded in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.original_model.state_dict().items()):
        digest.update(name.encode())
        flat = tensor.detach().to("cpu", torch.bfloat16).contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tokenizer_hash(tokenizer: Any) -> str:
    """Of vocabulary, merges and normalisation; not of truncation and padding, which are settings
    of the last call."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        spelled = "" if tokenizer is None else repr(sorted(tokenizer.get_vocab().items()))
    else:
        state = json.loads(backend.to_str())
        spelled = json.dumps({k: v for k, v in state.items() if k not in ("truncation", "padding")})
    return hashlib.sha256(spelled.encode()).hexdigest()

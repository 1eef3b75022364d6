"""Which model it is, for provenance."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from langheads.model.budget import budget_settings
from langheads.model.quantization import BEFORE, quantization_of
from langheads.model.state import HOOKS

_DATA = Path(str(resources.files("langheads"))) / "demo"
EMBEDDED = {"demo": _DATA / "model", "demo-hard": _DATA / "hard_model"}
"""The embedded models, made by ``analyses/train_demo_model.py``."""
DEMO = EMBEDDED["demo"]
SELF_TESTS: WeakKeyDictionary[TransformerBridge, tuple[str, int]] = WeakKeyDictionary()
"""Model -> the outcome of its self-test, and its weights at that time."""
_HASHED: WeakKeyDictionary[TransformerBridge, tuple[dict[str, str], int]] = WeakKeyDictionary()
TAKES_OTHERS: WeakSet[TransformerBridge] = WeakSet()
"""Models that were loaded to take heads, masks and scores of another checkpoint."""

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32}
# Keys of a configuration that change no number: where it was read from, and by what.
_NOT_OF_THE_MODEL = (
    *("transformers_version", "dtype", "torch_dtype", "use_cache", "pad_token_id", "return_dict"),
    *("architectures", "initializer_range", "quantization_config"),
)


def describe(model: TransformerBridge) -> dict[str, str]:
    """Name, revision, hashes, dtype and device of a model as it is in memory, for provenance.

    - ``weight_hash``: SHA-256 over the weights rounded to bfloat16, the same in whatever dtype or
      quantization they are loaded;
    - ``exact_weight_hash``: over their bytes as they are, to compare models of one dtype;
    - ``config_hash``: of the configuration, where it differs from its class's defaults;
    - ``model_type``: the name of that class;
    - ``tokenizer_hash``;
    - ``quantization``: the width of packed weights and what packed them, where there are any;
    - ``self_test``: passed, skipped, or not run, see `langheads.model.self_test`;
    - ``hooks``: the hook points and modules that carry a hook, where there are any;
    - ``auto_batch_tokens``, ``device_memory_gib``: except on a CPU, see
      `langheads.model.budget`;
    - ``other_weights``: for `require_same_model`, where the model was loaded with it.

    Reads all weights once.
    """
    now = {"self_test": self_test_of(model), **_as_used(model), **budget_settings(model)}
    read, _ = _HASHED[model] = _read(model), weights_in_memory(model)
    return {**read, **now}


def described_before(model: TransformerBridge) -> dict[str, str]:
    """`describe` without the self-test; weights are hashed again only where they changed."""
    read, weights = _HASHED.get(model, ({}, 0))
    if weights != (now := weights_in_memory(model)):
        read = _read(model)
        _HASHED[model] = read, now
    # The configuration may change without the weights.
    config = {"config_hash": _config_hash(model.original_model.config)}
    return {**read, **config, **_as_used(model)}


def _read(model: TransformerBridge) -> dict[str, str]:
    config: Any = model.original_model.config
    rounded, exact = _weight_hashes(model)
    return {
        "model": model_name(model),
        "revision": str(getattr(config, "_commit_hash", None) or ""),
        "weight_hash": rounded,
        "exact_weight_hash": exact,
        "config_hash": _config_hash(config),
        "model_type": str(config.model_type),
        "tokenizer_hash": _tokenizer_hash(model.tokenizer),
        "dtype": str(model.cfg.dtype).removeprefix("torch."),
        **({"quantization": packed} if (packed := quantization_of(model)) else {}),
        "device": str(model.cfg.device),
    }


def hooked(model: TransformerBridge) -> set[str]:
    """The hook points and modules that carry a hook."""
    hooks = {name for name, point in model.hook_dict.items() if point.has_hooks()}
    # Torch's hooks; modules of both trees get the network's name.
    named = {of: name for net in (model, model.original_model) for name, of in net.named_modules()}
    for of, name in named.items():
        of_torch = (hook for key in HOOKS for hook in of.__dict__[key].values())
        if not isinstance(of, HookPoint) and any(map(_of_the_user, of_torch)):
            hooks.add(re.sub(r"\._?original_component\b", "", name))
    return hooks


def _as_used(model: TransformerBridge) -> dict[str, str]:
    hooks = hooked(model)
    return {
        **({"hooks": ",".join(sorted(hooks))} if hooks else {}),
        **({"other_weights": "taken"} if model in TAKES_OTHERS else {}),
    }


def _of_the_user(hook: Any) -> bool:
    """Not one that TransformerLens or transformers set, on norms and to keep outputs."""
    package, _, _ = str(getattr(hook, "__module__", "")).partition(".")
    return package not in ("transformer_lens", "transformers")


def model_name(model: TransformerBridge) -> str:
    """An embedded model's short name, else the folder or id that it was loaded from."""
    name = str(getattr(model.original_model.config, "_name_or_path", "") or model.cfg.model_name)
    return {str(folder): short for short, folder in EMBEDDED.items()}.get(name, name)


def self_test_of(model: TransformerBridge) -> str:
    """passed, skipped, or not run with the weights that the model has now."""
    outcome, weights = SELF_TESTS.get(model, ("not run", 0))
    return outcome if weights == weights_in_memory(model) else "not run"


def weights_in_memory(model: TransformerBridge) -> int:
    """How often each weight was written to, and, since torch does not count writes through
    ``.data``, sums over the bits of each."""
    # Weights have several names each, for TransformerLens and where embeddings are tied; packed
    # weights come with tensors that are made anew each time.
    state = model.original_model.state_dict().values()
    each = {(of.data_ptr(), of.shape, of.stride()): of for of in state}
    return hash(tuple((of._version, *at[1:], *_bit_sums(of)) for at, of in each.items()))


def _bit_sums(tensor: torch.Tensor) -> Iterator[bytes]:
    """The bits as integers, summed exactly over each row and each column: a changed number, or
    another order of rows or columns, changes them. One pass over memory each."""
    rows = torch.atleast_2d(tensor.detach()).flatten(0, -2).contiguous()
    if rows.shape[1] == 1:
        # Packed weights are one column.
        rows = rows.view(-1, math.gcd(len(rows), 4096))
    size = rows.element_size()
    whole = all(n * size % 8 == 0 for n in (rows.shape[1], rows.storage_offset()))
    bits = rows.view(torch.int64 if whole else _INTEGERS[size])
    # Modulo 2^64 two flipped top bits would cancel. A few MB at a time.
    some = bits.split(1 + 2**20 // max(1, bits.shape[1]))
    top = torch.cat([(of >> 32).sum(1) for of in some])
    for sums in (bits.sum(0), bits.sum(1), top):
        yield sums.cpu().numpy().tobytes()


def _weight_hashes(model: TransformerBridge) -> tuple[str, str]:
    """SHA-256 over names and weights: unpacked and rounded to bfloat16, and as they are."""
    state = sorted(model.original_model.state_dict().items())
    rounded, exact, before = hashlib.sha256(), hashlib.sha256(), BEFORE.get(model, {})
    for name, tensor in state:
        flat = tensor.detach().cpu().contiguous().flatten()
        read = before.get(name, flat.flatten)
        if read is not None:
            whole = read().flatten().to(torch.bfloat16)
            rounded.update(name.encode() + whole.view(torch.uint8).numpy().tobytes())
        if tensor.dtype != torch.bfloat16:
            exact.update(name.encode())
            exact.update(flat.view(torch.uint8).numpy())
    if all(tensor.dtype == torch.bfloat16 for _, tensor in state):
        # The same bytes: read once.
        return rounded.hexdigest(), rounded.hexdigest()
    # Bfloat16 weights of a mixed model need no rounding.
    exact.update(rounded.digest())
    return rounded.hexdigest(), exact.hexdigest()


def _config_hash(config: Any) -> str:
    try:
        defaults = type(config)().to_dict()
    except Exception:
        # A class from a repository's own code may have none.
        defaults = {}
    # Another version of transformers may add settings, all at their defaults.
    settings = {
        key: value
        for key, value in config.to_dict().items()
        if not key.startswith(("_", "output_"))
        and key not in _NOT_OF_THE_MODEL
        and (key not in defaults or defaults[key] != value)
    }
    spelled = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(spelled.encode()).hexdigest()


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

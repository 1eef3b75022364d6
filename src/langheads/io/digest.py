"""Digests that identify measurements and runs."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("langheads", "torch", "transformers", "transformer-lens")


def digest(*of: Any) -> str:
    """SHA-256 of values, arrays and tensors with their types and shapes, in any nesting.

    Raises `TypeError` for an object without a digest.

    Example:
        >>> digest("nll", [1, 2]) == digest("nll", (1, 2)), digest("1") == digest(1)
        (True, False)
    """
    hashed = hashlib.sha256()
    for each in of:
        _add(hashed, each)
    return hashed.hexdigest()


def _add(hashed: Any, of: Any) -> None:
    if hasattr(of, "detach"):
        import torch

        of = of.detach().cpu().contiguous()
        hashed.update(f"<{of.dtype} {list(of.shape)}>".encode())
        hashed.update(of.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif hasattr(of, "dtype"):
        hashed.update(f"<{of.dtype.str} {list(of.shape)}>".encode() + of.tobytes())
    elif isinstance(of, Mapping):
        _add(hashed, sorted(of.items()))
    elif isinstance(of, (list, tuple)):
        hashed.update(f"[{len(of)}".encode())
        for each in of:
            _add(hashed, each)
    elif of is None or isinstance(of, (str, int, float, bool)):
        text = repr(of)
        hashed.update(f"{type(of).__name__} {len(text)} {text}".encode())
    else:
        raise TypeError(f"{type(of).__name__} has no digest")


def command_hash(settings: Mapping[str, Any] | None) -> str:
    """Hash of a run's settings, which its result has in its provenance."""
    return hashlib.sha256(spelled(settings).encode()).hexdigest()


def spelled(settings: Mapping[str, Any] | None) -> str:
    """Settings as JSON; equal settings give equal text."""
    return json.dumps(settings or {}, ensure_ascii=False, indent=1, sort_keys=True, default=str)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the libraries that compute values, and a hash of langheads' own code."""
    package = Path(__file__).parents[1]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(package.rglob("*.py"))))
    return {"code": code.hexdigest()[:16], **{name: version(name) for name in PACKAGES}}

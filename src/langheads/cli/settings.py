"""What identifies a run: its result, parts and estimate are found again by it."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from langheads.cli.signatures import read_function
from langheads.io.files import TEXT_SUFFIXES


def run_settings(
    verb: str, given: Mapping[str, Any], work: partial[Any], model: Any
) -> dict[str, Any]:
    """The verb, what it was given, the model as it is in memory (None: the verb's own), and
    versions."""
    return {"verb": verb, **asked(given, work), **_about(model)}


def asked(given: Mapping[str, Any], work: partial[Any]) -> dict[str, Any]:
    """The arguments; files and data sets by their content, a detector by its version."""
    from langheads.io.digest import command_hash
    from langheads.text.identify import installed_version

    beside = {p.name for p in read_function("load").parameters}
    beside |= {"out", "csv", "on", "shard", "fresh", "keep_parts", "dry_run", "merge"}
    settings = {name: _as_text(value) for name, value in given.items() if name not in beside}
    for name in settings:
        if str(given[name]).startswith("hf:") and name in work.keywords:
            settings[name] = f"{given[name]} ({command_hash(work.keywords[name].hashes)[:16]})"
    if (of := inspect.signature(work.func).parameters.get("detector")) is not None:
        settings["detector version"] = installed_version(given.get("detector", of.default))
    return settings


def _about(model: Any) -> dict[str, str]:
    from langheads.io.digest import versions
    from langheads.model.decoding import end_tokens
    from langheads.model.identity import described_before

    if model is None:
        return versions()
    now = described_before(model)
    template = str(getattr(model.tokenizer, "chat_template", None) or "")
    also = {
        # Any card of a kind does.
        "device": now["device"].partition(":")[0],
        "ends of replies": str(end_tokens(model)),
        "chat template": hashlib.sha256(template.encode()).hexdigest(),
    }
    return versions() | now | also


def _as_text(value: Any) -> Any:
    """A setting; a file or a folder of texts with a hash of what is in it."""
    if (
        not isinstance(value, str)
        or len(value) > 4096
        or "\0" in value
        or not os.path.exists(value)
    ):
        return value
    path, content = Path(value), hashlib.sha256()
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    for file in files:
        if file.is_file() and (file == path or file.suffix in TEXT_SUFFIXES):
            content.update(str(file.relative_to(path)).encode())
            content.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{value} ({content.hexdigest()[:16]})"

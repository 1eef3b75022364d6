"""What the results were made with: every setting of every file, each value once.

A reader first checks model, texts and versions; everything else is for reference, and folded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from langheads.io.schemas import as_shown
from langheads.view.table import Table, plain

_FIRST = (
    *("model", "model_type", "revision", "weight_hash", "config_hash", "tokenizer_hash"),
    *("quantization", "hooks", "text", "seed", "docs"),
    *("langheads", "transformer_lens", "torch", "transformers", "python"),
)
_HASH = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{40,64}(?![0-9A-Za-z])")
_SHORT = 12
_ALL = "all files"


def provenance_tables(sources: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Table]:
    """Tables with a row a setting and value, and the files that share it: the first settings, all
    others, and the hashes in full. Sources are file name and provenance."""
    found = [
        (name, {key: plain(of) for key, of in as_shown(attrs).items()})
        for name, attrs in sources
        if attrs
    ]
    keys = dict.fromkeys(key for _, attrs in found for key in attrs)
    header = ["setting", "value", "files"]
    first = [key for key in _FIRST if key in keys]
    tables = [
        Table(
            "What the results were made with; hashes by their first 12 digits.",
            header,
            [row for key in first for row in _rows(key, found)],
        )
    ]
    if rest := [row for key in keys if key not in _FIRST for row in _rows(key, found)]:
        tables.append(Table("Every other setting of every file.", header, rest, folded=True))
    if whole := _hashes(keys, found):
        tables.append(Table("The hashes in full.", ["starts with", "hash", "of"], whole, True))
    return tables


def _rows(key: str, found: list[tuple[str, dict[str, str]]]) -> list[list[str]]:
    """A row a value, with its files; files without the setting have no row."""
    files: dict[str, list[str]] = {}
    for name, attrs in found:
        if key in attrs:
            files.setdefault(attrs[key], []).append(name)
    everything = [name for name, _ in found]
    return [[key, _short(value), _named(names, everything)] for value, names in files.items()]


def _named(names: list[str], everything: list[str]) -> str:
    """These files in words; as all but the missing ones, if that is far shorter."""
    missing = [name for name in everything if name not in names]
    if not missing:
        return _ALL
    if 3 * len(missing) <= len(names):
        return f"{_ALL} but {', '.join(missing)}"
    return ", ".join(names)


def _short(value: str) -> str:
    return _HASH.sub(lambda found: found[0][:_SHORT], value)


def _hashes(keys: Iterable[str], found: list[tuple[str, dict[str, str]]]) -> list[list[str]]:
    """Every hash once, with the settings that contain it."""
    settings: dict[str, dict[str, None]] = {}
    for key in keys:
        for _, attrs in found:
            for whole in _HASH.findall(attrs.get(key, "")):
                settings.setdefault(whole, {})[key] = None
    return [[whole[:_SHORT], whole, ", ".join(of)] for whole, of in settings.items()]

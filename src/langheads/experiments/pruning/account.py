"""What was removed from a pruned model and what that cost: ``pruned.json`` beside the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langheads.io.errors import InputError
from langheads.io.files import read_json, write_text_atomically

_LOSSES = ("before", "after", "rise")
_ENDS = ("rise_low", "rise_high", "control_mean", "control_low", "control_high", "control_p")


@dataclass(frozen=True)
class Pruning:
    """The account of `langheads.prune`.

    Attributes:
        dropped: languages, or ``general``, whose heads were removed.
        losses: language -> ``before``, ``after``, ``rise`` in nats per byte, the ends of the
            rise's interval and what random heads do; NaN where the file has no such number. Empty
            where nothing was measured.
        n_controls: random head sets behind these.
        account: the whole file.
    """

    dropped: tuple[str, ...]
    losses: Mapping[str, Mapping[str, float]]
    n_controls: int
    account: Mapping[str, Any]

    @property
    def provenance(self) -> dict[str, Any]:
        """That of the pruning; the head set's own is in its file."""
        return {k: v for k, v in self.account.get("provenance", {}).items() if k != "heads"}

    @classmethod
    def of(cls, account: Mapping[str, Any]) -> Pruning:
        """Made from the content of the file."""
        losses = {
            str(language): {name: float(of[name]) for name in _LOSSES}
            | {name: math.nan if of.get(name) is None else float(of[name]) for name in _ENDS}
            for language, of in account.get("nats_per_byte", {}).items()
        }
        return cls(
            tuple(map(str, account["dropped"])),
            losses,
            int(account.get("controls", 0)),
            dict(account, provenance=dict(account.get("provenance", {}))),
        )

    def save(self, path: str | Path) -> Path:
        """Write the JSON file (format 1), atomically; returns its path."""
        text = json.dumps(self.account, ensure_ascii=False, indent=1)
        return write_text_atomically(path, text)

    @classmethod
    def load(cls, path: str | Path) -> Pruning:
        """Read a file that `save` wrote.

        Raises:
            InputError: no such file, or not one of ``prune``.
        """
        account = read_json(path)
        if not isinstance(account, dict) or account.get("kind") != "pruned":
            raise InputError(f"{path} is not an account of prune")
        try:
            return cls.of(account)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is broken: {error!r}") from error

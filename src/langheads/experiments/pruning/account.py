"""What was removed from a pruned model and what that cost: ``pruned.json`` beside the weights.

It has ``removed`` heads, of which ``cut`` and ``zeroed``; ``kept`` old numbers of each layer's
heads where some were cut; ``parameters_zeroed``, ``parameters_saved`` and ``bytes_saved`` (0 where
nothing was cut); with texts, ``nats_per_byte`` of every language, see `pruning.experiment`, and how
many ``controls``; ``provenance``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.io.records import Count, Name, Record, Saved, Shape, expected


class _Loss(Record):
    before: float
    after: float
    rise: float
    rise_low: float | None = None
    rise_high: float | None = None
    control_mean: float | None = None
    control_low: float | None = None
    control_high: float | None = None
    control_p: Annotated[float, Field(ge=0, le=1), expected("a number from 0 to 1")] | None = None


class _Account(Record):
    what: ClassVar[str] = "an account of prune"

    kind: Literal["pruned"] = "pruned"
    dropped: list[Name]
    shape: Shape | None = None
    removed: list[str] = Field(default=[])
    cut: list[str] = Field(default=[])
    zeroed: list[str] = Field(default=[])
    parameters_zeroed: Count = 0
    parameters_saved: Count = 0
    bytes_saved: Count = 0
    logits_differ_by: float = 0.0
    nats_per_byte: dict[Name, _Loss] = Field(default={})
    controls: Count = 0
    provenance: dict[str, Any] = Field(default={})


@dataclass(frozen=True)
class Pruning(Saved):
    """The account of `langheads.prune`."""

    dropped: tuple[str, ...]  # languages, or ``general``, whose heads were removed
    # Language -> ``before``, ``after``, ``rise`` in nats per byte, the ends of its interval
    # and the same of random heads; NaN where the file has no such number. Empty where nothing was
    # measured.
    losses: Mapping[str, Mapping[str, float]]
    n_controls: int  # random head sets behind these
    account: Mapping[str, Any] = field(repr=False)  # the whole file

    _record = _Account
    _allow_nan = True

    def _rows(self) -> Iterator[dict[str, Any]]:
        return ({"language": language, **loss} for language, loss in self.losses.items())

    @property
    def provenance(self) -> dict[str, Any]:
        """The provenance of the pruning; that of the head set is in its own file."""
        return {k: v for k, v in self.account.get("provenance", {}).items() if k != "heads"}

    @classmethod
    def of(cls, given: Any, path: str | Path = "pruned.json") -> Pruning:
        """From the content of the file."""
        return replace(
            super().of(given, path), account={**given, "provenance": given.get("provenance", {})}
        )

    def _document(self) -> dict[str, Any]:
        return {**self.account}

    @classmethod
    def _of(cls, record: _Account) -> Pruning:
        removed = HeadSet(record.removed, record.shape or (10**9, 10**9))
        gone = sorted(record.cut + record.zeroed)
        if not sorted(record.removed) == sorted(map(str, removed)) == gone:
            raise InputError("each head removed must be cut or zeroed, once")
        losses = {
            language: {
                name: math.nan if value is None else value
                for name, value in loss.model_dump().items()
            }
            for language, loss in record.nats_per_byte.items()
        }
        return cls(tuple(record.dropped), losses, record.controls, {})

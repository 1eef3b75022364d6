"""Heads in the four classes of two languages, and the file that holds them; see
`langheads.classify`.

The classes are A-specific, B-specific, agnostic (both languages need the head), undecided (one
needs it, and for the other nothing is shown) and other.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field
from typing_extensions import TypedDict

from langheads.heads.head_set import HeadSet
from langheads.io.errors import InputError
from langheads.io.records import (
    From1,
    Heads,
    ModelName,
    Name,
    Number,
    Record,
    Saved,
    Shape,
    expected,
    holds,
)

Interval = Float[np.ndarray, "bound layer head"]
_BOUNDS = ("delta", "low", "high")
_SHARED = ("agnostic", "undecided", "other")  # classes that belong to no language
_Values = list[list[Number | None]]


class _Bounds(Record):
    delta: _Values
    low: _Values
    high: _Values


class _Rule(TypedDict):
    measure: Any
    baseline: Any
    level: Annotated[float, Field(gt=0, lt=1), expected("a number between 0 and 1")]
    min_drop: Number
    aligned: Any
    examples: dict[str, From1]


class _ClassesFile(Record):
    what: ClassVar[str] = "a file of head classes"

    format: Literal[1] = 1
    kind: Literal["head-classes"] = "head-classes"
    model: ModelName
    shape: Shape
    languages: Annotated[tuple[Name, Name], Field(strict=False), expected("two texts")]
    units: Name
    harm: Annotated[Literal[-1, 1], expected("-1 or 1")]
    rule: Annotated[dict[str, Any], holds(_Rule)]
    specific: dict[str, Heads]
    agnostic: Heads
    undecided: Heads = Field(default_factory=list)
    other: Heads
    deltas: dict[str, _Bounds]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class HeadClasses(Saved):
    """Heads sorted by what two languages lose without them.

    Attributes:
        specific: language -> heads that it needs, and the other is shown to need far less, largest
            effect first.
        agnostic: heads that both need, largest smaller effect first.
        undecided: heads that one needs, while for the other neither harm nor little harm is shown.
        other: the rest of those that were measured.
        deltas: language (and ``difference``, first minus second) -> ``[3, layer, head]``: the
            change, and the lower and upper end of its interval; NaN where not measured.
        harm: -1 where a negative change is harm (a task), +1 where a positive one is (a loss).
        model: the model's name.
        units: of the changes.
        rule: measure, baseline, thresholds, examples a language, and whether they are aligned.
        provenance: of the knock-out.
    """

    specific: dict[str, HeadSet]
    agnostic: HeadSet
    undecided: HeadSet
    other: HeadSet
    deltas: dict[str, Interval] = field(repr=False)
    harm: int
    model: str
    units: str
    rule: dict[str, Any] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)

    _record = _ClassesFile

    @property
    def languages(self) -> tuple[str, str]:
        """A and B."""
        first, second = self.specific
        return first, second

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads a layer)."""
        return self.other.shape

    @property
    def by_class(self) -> dict[str, HeadSet]:
        """Class -> its heads: ``<language>-specific`` of both, then the others."""
        specific = {f"{language}-specific": of for language, of in self.specific.items()}
        return specific | {name: getattr(self, name) for name in _SHARED}

    @property
    def counts(self) -> dict[str, int]:
        """Heads in each class, and those not measured."""
        counts = {name: len(of) for name, of in self.by_class.items()}
        return counts | {"not measured": self.shape[0] * self.shape[1] - sum(counts.values())}

    @property
    def expected_by_chance(self) -> dict[str, float]:
        """Heads that each class would hold if no head mattered, languages independent of each
        other and `min_drop` 0; fewer with a higher one."""
        measured = sum(self.counts.values()) - self.counts["not measured"]
        alpha = self.rule["level"] / 2
        one = measured * alpha * (1 - alpha)
        return {f"{language}-specific": one for language in self.specific} | {
            "agnostic": measured * alpha**2
        }

    @property
    def distinct(self) -> dict[str, HeadSet]:
        """Language -> those of its specific heads whose harm is shown to be larger in it: the
        interval of the difference lies on its side of 0."""
        _, low, high = self.harm * self.deltas["difference"]
        # With the sign changed, the lower end is the larger one.
        low, high = np.minimum(low, high), np.maximum(low, high)
        first, second = self.languages
        return {
            first: HeadSet([h for h in self.specific[first] if low[h] > 0], self.shape),
            second: HeadSet([h for h in self.specific[second] if high[h] < 0], self.shape),
        }

    def _rows(self) -> Iterator[dict[str, Any]]:
        for group, heads in self.by_class.items():
            for layer, head in heads:
                values = {
                    name if bound == "delta" else f"{name}_{bound}": float(of[i, layer, head])
                    for name, of in self.deltas.items()
                    for i, bound in enumerate(_BOUNDS)
                }
                yield {"class": group, "layer": layer, "head": head, **values}

    def _document(self) -> dict[str, Any]:
        def listed(values: Float[np.ndarray, "layer head"]) -> list[list[float | None]]:
            # JSON has no NaN.
            return [[float(v) if np.isfinite(v) else None for v in row] for row in values]

        return super()._document() | {
            "counts": self.counts,
            "expected_by_chance": self.expected_by_chance,
            "distinct": self.distinct,
            "deltas": {
                name: dict(zip(_BOUNDS, map(listed, values), strict=True))
                for name, values in self.deltas.items()
            },
        }

    @classmethod
    def _of(cls, record: _ClassesFile) -> HeadClasses:
        shape, names = record.shape, (*record.languages, "difference")
        if not (record.specific.keys() >= {*record.languages} and record.deltas.keys() >= {*names}):
            raise InputError(f"it needs specific heads of {names[:2]}, and deltas of {names}")
        deltas = {
            name: np.array([getattr(record.deltas[name], end) for end in _BOUNDS], dtype=float)
            for name in names
        }
        if {values.shape for values in deltas.values()} != {(3, *shape)}:
            raise InputError(f"deltas of another shape than {shape}")
        specific = {name: HeadSet(record.specific[name], shape) for name in record.languages}
        shared = {name: HeadSet(getattr(record, name), shape) for name in _SHARED}
        classed = Counter(itertools.chain(*specific.values(), *shared.values()))
        if twice := [str(head) for head, times in classed.items() if times > 1]:
            raise InputError(f"{', '.join(twice):.60} in more than one class")
        return cls._like(record, specific=specific, deltas=deltas, **shared)

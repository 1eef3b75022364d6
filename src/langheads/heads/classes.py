"""Heads in the four classes of two languages, and the file that holds them; see `classification`.

The classes are A-specific, B-specific, agnostic (both languages need the head) and other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.io.files import read_json, write_text_atomically

_FORMAT = 1
Interval = Float[np.ndarray, "bound layer head"]


@dataclass(frozen=True)
class HeadClasses:
    """Heads sorted by what two languages lose without them.

    Attributes:
        specific: language -> heads that only it needs, largest effect first.
        agnostic: heads that both need, largest smaller effect first.
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
    other: HeadSet
    deltas: dict[str, Interval]
    harm: int
    model: str
    units: str
    rule: dict[str, Any]
    provenance: dict[str, Any]

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
    def counts(self) -> dict[str, int]:
        """Heads in each class, and those not measured."""
        counts = {f"{language}-specific": len(of) for language, of in self.specific.items()}
        counts |= {"agnostic": len(self.agnostic), "other": len(self.other)}
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
        interval of the difference lies on its side of 0. The others are specific because the
        other language's interval is wide, not because it is shown to differ."""
        _, low, high = self.harm * self.deltas["difference"]
        # Turned over, the lower end is the larger one.
        low, high = np.minimum(low, high), np.maximum(low, high)
        first, second = self.languages
        return {
            first: HeadSet([h for h in self.specific[first] if low[h] > 0], self.shape),
            second: HeadSet([h for h in self.specific[second] if high[h] < 0], self.shape),
        }

    def save(self, path: str | Path) -> Path:
        """Write the JSON file (format 1), atomically; returns its path."""
        document = {
            "format": _FORMAT,
            "kind": "head-classes",
            "model": self.model,
            "shape": list(self.shape),
            "languages": list(self.languages),
            "units": self.units,
            "harm": self.harm,
            "rule": self.rule,
            "counts": self.counts,
            "expected_by_chance": self.expected_by_chance,
            "specific": {name: _pairs(heads) for name, heads in self.specific.items()},
            "distinct": {name: _pairs(heads) for name, heads in self.distinct.items()},
            "agnostic": _pairs(self.agnostic),
            "other": _pairs(self.other),
            "deltas": {
                name: dict(zip(("delta", "low", "high"), map(_listed, values), strict=True))
                for name, values in self.deltas.items()
            },
            "provenance": self.provenance,
        }
        return write_text_atomically(
            path, json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)
        )

    @classmethod
    def load(cls, path: str | Path) -> HeadClasses:
        """Read a file that `save` wrote.

        Raises:
            InputError: no such file, no JSON, another format, or a head outside the shape.
        """
        document = read_json(path)
        if (
            not isinstance(document, Mapping)
            or document.get("format") != _FORMAT
            or document.get("kind") != "head-classes"
        ):
            raise InputError(f"{path} is not a file of head classes of format {_FORMAT}")
        try:
            shape = (int(document["shape"][0]), int(document["shape"][1]))
            first, second = map(str, document["languages"])
            deltas = {
                name: np.array(
                    [document["deltas"][name][part] for part in ("delta", "low", "high")],
                    dtype=float,
                )
                for name in (first, second, "difference")
            }
            if {values.shape for values in deltas.values()} != {(3, *shape)}:
                raise ValueError(f"deltas of another shape than {shape}")
            rule = dict(document["rule"])
            for key in ("measure", "baseline", "level", "min_drop", "aligned", "examples"):
                rule[key]
            return cls(
                specific={
                    name: HeadSet(map(tuple, document["specific"][name]), shape)
                    for name in (first, second)
                },
                agnostic=HeadSet(map(tuple, document["agnostic"]), shape),
                other=HeadSet(map(tuple, document["other"]), shape),
                deltas=deltas,
                harm=int(document["harm"]),
                model=str(document["model"]),
                units=str(document["units"]),
                rule=rule,
                provenance=dict(document["provenance"]),
            )
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"{path} is not a file of head classes: {type(error).__name__} at {error}"
            ) from error


def _pairs(heads: HeadSet) -> list[list[int]]:
    return [list(head) for head in heads]


def _listed(values: Float[np.ndarray, "layer head"]) -> list[list[float | None]]:
    flat = [float(v) if np.isfinite(v) else None for v in values.flatten()]
    width = values.shape[1]
    return [flat[start : start + width] for start in range(0, len(flat), width)]

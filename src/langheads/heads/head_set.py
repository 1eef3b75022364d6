"""Attention heads by name, sets of them, and the file that says which head serves which language.

A head is (layer, head), printed ``L3H7``. A `HeadSet` is an ordered set of the heads of one
model: order is the order of evidence (strongest first), equality ignores it. `LanguageHeads` is
what selection gives and ablation takes: per language its specific heads, and the general ones.
"""

from __future__ import annotations

import json
import logging
import operator
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from langheads.io.arguments import check_gate
from langheads.io.errors import InputError, ProvenanceError
from langheads.io.fields import SHAPE, TEXT
from langheads.io.files import parse_json, read_json, write_text_atomically

_FORMAT = 1

logger = logging.getLogger("langheads")


class Head(NamedTuple):
    """One attention head.

    Example:
        >>> str(Head(3, 7)), Head.parse("L3H7").layer
        ('L3H7', 3)
    """

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"

    @classmethod
    def parse(cls, name: str) -> Head:
        """Read ``L3H7``; raises `InputError` for anything else."""
        match = re.fullmatch(r"L(\d{1,9})H(\d{1,9})", name.strip())
        if match is None:
            raise InputError(f"{name!r:.60} is not a head; write layer and head like L3H7")
        return cls(int(match[1]), int(match[2]))


class HeadSet(Set[Head]):
    """An ordered set of heads of a model with ``shape = (layers, heads a layer)``.

    Set algebra (``|``, ``&``, ``-``, ``^``, ``<=``, ``==``) as for `set`; the left side's order is
    kept. Immutable and hashable.

    Args:
        heads: `Head`, ``(layer, head)`` or ``"L3H7"``, strongest first; repeats are dropped.
        shape: (layers, heads a layer) of the model.

    Raises:
        InputError: a head that the model does not have.

    Example:
        >>> heads = HeadSet(["L3H7", (1, 0)], shape=(4, 8))
        >>> print(heads, len(heads), Head(1, 0) in heads)
        L3H7 L1H0 2 True
    """

    __slots__ = ("_heads", "shape")

    def __init__(self, heads: Iterable[Head | tuple[int, int] | str], shape: tuple[int, int]):
        layers, per_layer = (int(n) for n in shape)
        ordered: dict[Head, None] = {}
        for item in heads:
            layer, index = Head.parse(item) if isinstance(item, str) else item
            head = Head(operator.index(layer), operator.index(index))
            if not (0 <= head.layer < layers and 0 <= head.head < per_layer):
                raise InputError(
                    f"head {head} asked for, but the model has {layers} layers of {per_layer} "
                    f"heads, L0H0 to L{layers - 1}H{per_layer - 1}"
                )
            ordered[head] = None
        self._heads = ordered
        self.shape = (layers, per_layer)

    def __contains__(self, head: object) -> bool:
        return head in self._heads

    def __iter__(self) -> Iterator[Head]:
        return iter(self._heads)

    def __len__(self) -> int:
        return len(self._heads)

    def __hash__(self) -> int:
        return self._hash()

    def __str__(self) -> str:
        return " ".join(str(head) for head in self)

    def __repr__(self) -> str:
        return f"HeadSet([{', '.join(str(h) for h in self)}], shape={self.shape})"

    def _same_model(self, other: Iterable[Any]) -> HeadSet:
        if not isinstance(other, HeadSet):
            return HeadSet(other, self.shape)
        if other.shape != self.shape:
            raise ProvenanceError(
                f"head sets of models of different shape, {self.shape} and {other.shape} "
                "(layers, heads), cannot be combined"
            )
        return other

    def __or__(self, other: Iterable[Any]) -> HeadSet:
        return HeadSet([*self, *self._same_model(other)], self.shape)

    def __and__(self, other: Iterable[Any]) -> HeadSet:
        other = self._same_model(other)
        return HeadSet((h for h in self if h in other), self.shape)

    def __sub__(self, other: Iterable[Any]) -> HeadSet:
        other = self._same_model(other)
        return HeadSet((h for h in self if h not in other), self.shape)

    def __xor__(self, other: Iterable[Any]) -> HeadSet:
        other = self._same_model(other)
        return (self - other) | (other - self)

    def top(self, n: int) -> HeadSet:
        """The first n heads."""
        return HeadSet(list(self)[:n], self.shape)

    def per_layer(self) -> tuple[int, ...]:
        """How many heads of each layer are in the set, ``[layer]``."""
        counts = Counter(head.layer for head in self)
        return tuple(counts[layer] for layer in range(self.shape[0]))

    def gates(self, value: float = 0.0) -> np.ndarray:
        """Gates ``[layer, head]``: ``value`` on the heads of this set, 1 elsewhere.

        Raises:
            InputError: a value that is no finite number, or that float32 cannot hold.
        """
        gates = np.ones(self.shape, dtype=np.float32)
        for head in self:
            gates[head] = check_gate(value, f"the gate of {head}")
        return gates

    def layer_matched(self, rng: np.random.Generator) -> HeadSet:
        """A random set with as many heads in each layer as this one, drawn from all heads.

        Drawing from all heads, those of this set too, makes the null of a permutation test: the
        set itself is one of the sets that could have been drawn.

        Example:
            >>> heads = HeadSet(["L1H0", "L1H2", "L3H7"], shape=(4, 8))
            >>> heads.layer_matched(np.random.default_rng(0)).per_layer()
            (0, 2, 0, 1)
        """
        drawn = [
            Head(layer, int(index))
            for layer, count in enumerate(self.per_layer())
            for index in sorted(rng.choice(self.shape[1], size=count, replace=False))
        ]
        return HeadSet(drawn, self.shape)

    def other_sets(
        self, n: int, rng: np.random.Generator, *, avoid: Sequence[HeadSet] = ()
    ) -> list[HeadSet]:
        """Different random sets with as many heads in each layer as this one, of other heads.

        Heads of this set, and of `avoid`, come in only where a layer has not enough others.

        Args:
            n: how many sets; fewer where there are not so many that differ from this one and from
                each other, which is told.
            rng: source of the draw.
            avoid: further heads to leave out, those to leave out most first.

        Example:
            >>> heads = HeadSet(["L0H0", "L1H0", "L1H1"], shape=(2, 3))
            >>> sets = heads.other_sets(3, np.random.default_rng(0))
            >>> [some.per_layer() for some in sets], [len(some & heads) for some in sets]
            ([(1, 2), (1, 2), (1, 2)], [1, 1, 1])
        """
        last = [*avoid, self]
        drawn: dict[HeadSet, None] = {}
        # Many times as often as needed; what is not found by then is not worth waiting for.
        for _ in range(50 * n):
            heads: list[Head] = []
            for layer, count in enumerate(self.per_layer()):
                order = [Head(layer, int(index)) for index in rng.permutation(self.shape[1])]
                heads += sorted(order, key=lambda head: [head in some for some in last])[:count]
            if (found := HeadSet(heads, self.shape)) != self:
                drawn.setdefault(found)
            if len(drawn) == n:
                break
        if len(drawn) < n:
            logger.warning(
                "%d random head sets asked for, but only %d differ from %s and from each other",
                n, len(drawn), self,
            )  # fmt: skip
        return list(drawn)


@dataclass(frozen=True)
class LanguageHeads:
    """Which heads serve which language in one model.

    Attributes:
        specific: language -> its specific heads, strongest first; may be empty.
        general: heads that serve many languages.
        model: the model's name.
        rule: how they were chosen, name and parameters.
        provenance: model and text hashes, how many documents were scored, seed, versions.
    """

    specific: dict[str, HeadSet]
    general: HeadSet
    model: str
    rule: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads a layer)."""
        return self.general.shape

    def save(self, path: str | Path) -> Path:
        """Write the JSON file (format 1), atomically; returns its path."""

        def pairs(heads: HeadSet) -> list[list[int]]:
            return [list(head) for head in heads]

        document = {
            "format": _FORMAT,
            "model": self.model,
            "shape": list(self.shape),
            "specific": {language: pairs(heads) for language, heads in self.specific.items()},
            "general": pairs(self.general),
            "rule": self.rule,
            "provenance": self.provenance,
        }
        return write_text_atomically(path, json.dumps(document, ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, path: str | Path) -> LanguageHeads:
        """Read a file that `save` wrote.

        Raises:
            InputError: no such file, no JSON, another format, or a head outside the shape.
        """
        document = read_json(path)
        if not isinstance(document, Mapping) or document.get("format") != _FORMAT:
            raise InputError(f"{path} is not a head set of format {_FORMAT} (heads.json of select)")
        try:
            for key, kind in (("shape", SHAPE), ("model", TEXT)):
                if not kind.fits(document[key]):
                    raise TypeError(f"{key} {document[key]!r:.40}, expected {kind.words}")
            layers, per_layer = document["shape"]
            shape = (layers, per_layer)
            provenance = dict(document["provenance"])
            for key in ("seed", "docs", "max_tokens", "bos"):
                if key in provenance:
                    operator.index(provenance[key])
            cutoffs = parse_json(provenance.get("scored_up_to", "{}"), "scored_up_to")
            if not all(isinstance(cutoff, str) for cutoff in cutoffs.values()):
                raise TypeError("scored_up_to")
            return cls(
                specific={
                    str(language): HeadSet(map(tuple, heads), shape)
                    for language, heads in document["specific"].items()
                },
                general=HeadSet(map(tuple, document["general"]), shape),
                model=document["model"],
                rule=dict(document["rule"]),
                provenance=provenance,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise InputError(f"{path}: {error}") from error
            raise InputError(
                f"{path} is not a head set: {type(error).__name__} at {error}; "
                "expected model, shape, specific, general, rule, provenance"
            ) from error

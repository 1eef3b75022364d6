"""Attention heads by name, and sets of them.

A head is (layer, head), printed ``L3H7``. A `HeadSet` is an ordered set of the heads of one
model: order is the order of evidence (strongest first), equality ignores it.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from langheads.io.arguments import check_gate
from langheads.io.errors import InputError, ProvenanceError, logger

# Heads that a repr names.
_SHOWN = 16


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
        heads: `Head`, ``(layer, head)`` or ``"L3H7"``, strongest first; repeats are dropped. Or
            one string of names, ``"L3H7,L5H0"``.
        shape: (layers, heads a layer) of the model.

    Raises:
        InputError: a head that the model does not have, or something that is not a head.

    Example:
        >>> heads = HeadSet(["L3H7", (1, 0)], shape=(4, 8))
        >>> print(heads, len(heads), Head(1, 0) in heads)
        L3H7 L1H0 2 True
    """

    __slots__ = ("_heads", "shape")

    def __init__(self, heads: Iterable[Head | tuple[int, int] | str], shape: tuple[int, int]):
        layers, per_layer = (int(n) for n in shape)
        ordered: dict[Head, None] = {}
        for head in map(_head, _each(heads)):
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
        named = [str(head) for head in itertools.islice(self, _SHOWN)]
        more = [f"… {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return f"HeadSet([{', '.join(named + more)}], shape={self.shape})"

    def __or__(self, other: Iterable[Any]) -> HeadSet:
        return HeadSet([*self, *as_head_set(other, self.shape)], self.shape)

    def __and__(self, other: Iterable[Any]) -> HeadSet:
        other = as_head_set(other, self.shape)
        return HeadSet((h for h in self if h in other), self.shape)

    def __sub__(self, other: Iterable[Any]) -> HeadSet:
        other = as_head_set(other, self.shape)
        return HeadSet((h for h in self if h not in other), self.shape)

    def __xor__(self, other: Iterable[Any]) -> HeadSet:
        other = as_head_set(other, self.shape)
        return (self - other) | (other - self)

    @classmethod
    def ranked(cls, values: np.ndarray, count: int | None = None) -> HeadSet:
        """The heads by falling value ``[layer, head]``, all or the first `count`.

        Ties are in the model's order, NaN last.
        """
        order = np.argsort(-values, axis=None, kind="stable")[:count]
        layers, heads = np.unravel_index(order, values.shape)
        shape = (values.shape[0], values.shape[1])
        return cls(zip(layers.tolist(), heads.tolist(), strict=True), shape)

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
            InputError: a value that is not finite, or that float32 cannot hold.
        """
        gates = np.ones(self.shape, dtype=np.float32)
        for head in self:
            gates[head] = check_gate(value, f"the gate of {head}")
        return gates

    def matched_sets(self, n: int, rng: np.random.Generator) -> list[HeadSet]:
        """Different random sets with as many heads in each layer as this one, and not this one.

        Drawn from all heads, this set's own too: if this set were itself such a draw, its rank
        among them would be uniform, as the p-value of a permutation test requires.

        Args:
            n: how many sets; fewer, with a warning, where there are not so many.
            rng: source of the draw, and of the order.

        Example:
            >>> heads = HeadSet(["L1H0", "L1H2", "L3H7"], shape=(4, 8))
            >>> sets = heads.matched_sets(20, np.random.default_rng(0))
            >>> len(set(sets)), {some.per_layer() for some in sets}
            (20, {(0, 2, 0, 1)})
        """
        counts, per_layer = self.per_layer(), self.shape[1]
        drawn: dict[HeadSet, None] = {}
        there = math.prod(math.comb(per_layer, count) for count in counts) - 1
        if there <= 2 * n:
            # So few are listed; of more, at least every second draw is new.
            layers = [itertools.combinations(range(per_layer), count) for count in counts]
            mine = ((h for layer, h in self if layer == i) for i in range(self.shape[0]))
            own = tuple(tuple(sorted(of)) for of in mine)
            others = [chosen for chosen in itertools.product(*layers) if chosen != own]
            drawn = dict.fromkeys(self._of_layers(others[i]) for i in rng.permutation(there)[:n])
        while len(drawn) < min(n, there):
            found = self._of_layers(
                sorted(rng.choice(per_layer, size=count, replace=False)) for count in counts
            )
            if found != self:
                drawn.setdefault(found)
        self._tell_few(len(drawn), n)
        return list(drawn)

    def _of_layers(self, chosen: Iterable[Iterable[int]]) -> HeadSet:
        """The heads chosen in each layer, as a set of the same model."""
        return HeadSet(((i, head) for i, of in enumerate(chosen) for head in of), self.shape)

    def _tell_few(self, found: int, n: int) -> None:
        if found < n:
            logger.warning(
                "%d random head sets asked for, but only %d differ from %s and from each other",
                n, found, self,
            )  # fmt: skip

    def other_sets(
        self, n: int, rng: np.random.Generator, *, avoid: Sequence[HeadSet] = ()
    ) -> list[HeadSet]:
        """Different random sets with as many heads in each layer as this one, of other heads.

        Heads of this set, and of `avoid`, are used only where a layer has too few others.

        Args:
            n: how many sets; fewer, with a warning, where there are not so many that differ from
                this one and from each other.
            rng: source of the draw.
            avoid: further heads to leave out, the most important to leave out first.

        Example:
            >>> heads = HeadSet(["L0H0", "L1H0", "L1H1"], shape=(2, 3))
            >>> sets = heads.other_sets(3, np.random.default_rng(0))
            >>> [some.per_layer() for some in sets], [len(some & heads) for some in sets]
            ([(1, 2), (1, 2), (1, 2)], [1, 1, 1])
        """
        last = [*avoid, self]
        drawn: dict[HeadSet, None] = {}
        # Many more draws than needed; sets that are not found by then are too rare.
        for _ in range(50 * n):
            heads: list[Head] = []
            for layer, count in enumerate(self.per_layer()):
                order = [Head(layer, int(index)) for index in rng.permutation(self.shape[1])]
                heads += sorted(order, key=lambda head: [head in some for some in last])[:count]
            if (found := HeadSet(heads, self.shape)) != self:
                drawn.setdefault(found)
            if len(drawn) == n:
                break
        self._tell_few(len(drawn), n)
        return list(drawn)


def _each(heads: Any) -> Iterable[Any]:
    """The items of a head set; a string is names with commas or spaces between."""
    if isinstance(heads, str):
        return re.split(r"[,\s]+", heads.strip())
    try:
        # Of a mapping only the keys would be taken, and its values dropped silently.
        if not isinstance(heads, Mapping):
            return iter(heads)
    except TypeError:
        pass
    raise InputError(
        f"{type(heads).__name__} {heads!r:.60} given for heads; write names like L3H7,L5H0, "
        "pairs (layer, head), or a HeadSet"
    )


def _head(item: Any) -> Head:
    if isinstance(item, str):
        return Head.parse(item)
    try:
        layer, index = item
        return Head(operator.index(layer), operator.index(index))
    except (TypeError, ValueError) as error:
        raise InputError(f"{item!r:.60} is not a head; write L3H7, or (3, 7)") from error


def as_head_set(
    heads: HeadSet | Iterable[Head | tuple[int, int] | str],
    shape: tuple[int, int],
) -> HeadSet:
    """Heads, given as a set or by name, of the model of this shape.

    Raises:
        InputError: a head that the model does not have.
        ProvenanceError: a set of heads of a model of another shape.

    Example:
        >>> print(as_head_set(["L3H7"], (4, 8)))
        L3H7
    """
    if not isinstance(heads, HeadSet):
        return HeadSet(heads, shape)
    require_shape("the head set", heads.shape, shape)
    return heads


def require_shape(what: str, found: tuple[int, int], shape: tuple[int, int]) -> None:
    """Refuse (`ProvenanceError`) what is of heads of a model of another shape; `what`, for the
    message."""
    if tuple(found) != tuple(shape):
        raise ProvenanceError(
            f"{what} is for a model of {found[0]} layers x {found[1]} heads, but this one has "
            f"{shape[0]} x {shape[1]}"
        )

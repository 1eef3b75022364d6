"""What a run will take, by doing a little of it.

Of every kind of measurement a few batches are run and timed: the longest, which needs the most
memory, and one of middle length. The time of the others follows from their tokens and the forwards
that each token is in. Their rows are copied from rows that were measured, so that the run goes
through all its stages; its result means nothing and is thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from langheads.io.part_file import Piece
from langheads.io.parts import Parts, active_parts, use_parts

if TYPE_CHECKING:
    from torch import Tensor

_PROBES, _LONGER = 2, 1.1


@dataclass
class Estimate(Parts):
    """Parts that are timed, most of which are not run."""

    folder: Path = Path()
    # Kind of measurement -> how many there are.
    batches: dict[str, int] = field(default_factory=dict)
    # Kind of measurement -> how many of them this shard would run.
    own: dict[str, int] = field(default_factory=dict)
    probing: float = 0.0  # seconds that the batches took which were made
    _times: dict[str, list[float]] = field(default_factory=dict)
    _sizes: dict[str, float] = field(default_factory=dict)
    _own_sizes: dict[str, float] = field(default_factory=dict)
    _longest: dict[str, int] = field(default_factory=dict)
    _like: dict[str, list[Tensor]] = field(default_factory=dict)

    def rows(
        self, piece: Piece, make: Callable[[], list[Tensor]]
    ) -> tuple[list[Tensor] | None, bool]:
        """Rows of a batch of this measurement that was made, and that they were not made now."""
        import torch

        what, size = piece.what, piece.tokens * piece.cost
        # Rows of one language, say, are like each other, and not like those of another.
        alike = f"{piece.work}-{piece.first - piece.number}"
        times = self._times.setdefault(what, [])
        middle = 0 < piece.number == piece.batches // 2
        # Memory is what the longest batch takes, whatever measurement of the kind it is in.
        longer = piece.tokens > _LONGER * self._longest.get(what, 0)
        if longer or (len(times) < _PROBES and (middle or piece.batches == 1)):
            self._longest[what] = max(piece.tokens, self._longest.get(what, 0))
            started = time.perf_counter()
            self._like[what] = self._like[alike] = make()
            took = time.perf_counter() - started
            self.probing += took
            times.append(took / size)
        elif alike not in self._like:
            # Other columns of the same measurement.
            like = self._like[what]
            if like[0].is_floating_point():
                # With both signs, so that heads are found and the run goes on to measure them.
                found = torch.cat([row.flatten() for row in like]).double()
                like = [found[torch.randint(len(found), tuple(piece.row or like[0].shape))]]
            self._like[alike] = like
        self._count(what, size, piece.first % self.shards == self.shard)
        self.found += 1
        return list(islice(cycle(self._like[alike]), piece.rows)), False

    def at_once(
        self, what: str, lengths: Sequence[int], make: Callable[[list[int]], Tensor]
    ) -> Tensor:
        """The result of the first rows of a measurement that goes through them one by one."""
        some = list(range(min(_PROBES, len(lengths))))
        started = time.perf_counter()
        found = make(some)
        took = time.perf_counter() - started
        self.probing += took
        self._times[what] = [took / sum(lengths[i] for i in some)]
        # Shards that do not make it wait for it.
        self._count(what, sum(lengths), own=True)
        return found

    def _count(self, what: str, size: int | float, own: bool) -> None:
        for batches, sizes, of in (
            (self.batches, self._sizes, True),
            (self.own, self._own_sizes, own),
        ):
            batches[what] = batches.get(what, 0) + of
            sizes[what] = sizes.get(what, 0.0) + size * of

    def predicted(self, *, own: bool = False) -> dict[str, float]:
        """Kind of measurement -> seconds of all its batches, or of this shard's `own`."""
        sizes = self._own_sizes if own else self._sizes
        return {what: size * self._times[what][-1] for what, size in sizes.items()}

    def check(self) -> None:
        """There are no parts that could be another run's."""


def estimating() -> bool:
    """Whether results mean nothing, since `estimated` copies rows."""
    return isinstance(active_parts(), Estimate)


@contextmanager
def estimated(shard: tuple[int, int] = (1, 1)) -> Iterator[Estimate]:
    """Estimate what langheads measures inside, whose results mean nothing; for a shard (which, of
    how many, from 1) also its own part of it."""
    estimate = Estimate(shard=shard[0] - 1, shards=shard[1])
    with use_parts(estimate):
        yield estimate

"""Progress of long work: a bar at a terminal or in a notebook, a line a minute in a log.

For work in parts it shows how many parts are done of about how many, of all and of this shard's
own, and the time left for this shard's own: at the pace of those that it made, since parts that
were there take no time.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from tqdm import auto, std
from tqdm.asyncio import tqdm_asyncio

_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}{parts}, {elapsed} gone, {left} left{postfix}"
_BAR = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}{parts} "
    "[{elapsed}<{left}{postfix}]"
)


def progress_bar(*, total: int, unit: str, desc: str) -> auto.tqdm:
    """tqdm's bar for these units of work; without a terminal, a line in ``TQDM_MININTERVAL``
    seconds, by default 60."""
    in_notebook = auto.tqdm is not tqdm_asyncio
    if in_notebook or sys.stderr.isatty():
        return _Bar(total=total, unit=unit, desc=desc, bar_format=_BAR)
    return _Lines(total=total, unit=unit, desc=desc)


def count_part(
    bar: auto.tqdm, units: int | float, shards: int, *, own: bool, done: bool, made: bool
) -> None:
    """Count a part of so many units in a bar of `progress_bar`; other bars are left alone.

    The part is this shard's `own` or another's; it is `done`, and perhaps `made` by this process.
    """
    if (tally := getattr(bar, "tally", None)) is None:
        return
    tally.shards = shards
    tally.units += units
    tally.read += units if done and not made else 0
    tally.others += 0 if done else units
    for counts in (tally.all, tally.own) if own else (tally.all,):
        counts[0] += done
        counts[1] += 1


@dataclass
class _Tally:
    """Parts that were reached so far, and their units."""

    shards: int = 1
    units: float = 0
    read: float = 0  # of parts that were there
    others: float = 0  # of parts that other shards still have to make
    all: list[int] = field(default_factory=lambda: [0, 0])  # done, reached
    own: list[int] = field(default_factory=lambda: [0, 0])


class _Tallied(std.tqdm):
    """A bar that also counts parts."""

    def __init__(self, **settings: Any):
        self.tally = _Tally()
        super().__init__(**settings)

    @property
    def format_dict(self) -> Any:
        """The names that a format can use."""
        shown, tally = super().format_dict, self.tally
        n, total, parts, left = shown["n"], shown["total"], "", "?"
        if tally.units:
            # Parts are of like size, so those to come have as many units.
            whole, own = (
                f"{done} of about {round(by * total / tally.units)}"
                for done, by in (tally.all, tally.own)
            )
            parts = f", parts {whole}" + (f" (own {own})" if tally.shards > 1 else "")
        if (made := n - tally.read) > 0:
            to_make = max(0, total - n - tally.others) / tally.shards
            left = self.format_interval(to_make * shown["elapsed"] / made)
        # Half a prompt is not counted.
        return shown | {"n": int(n), "parts": parts, "left": left}


class _Bar(_Tallied, auto.tqdm):
    """The bar of a terminal or a notebook."""


class _Lines(_Tallied, tqdm_asyncio):
    """Whole lines, none for short work."""

    # No thread that would print between two updates.
    monitor_interval = 0

    def __init__(self, **settings: Any):
        self._printed_at = time.monotonic()
        super().__init__(mininterval=0, miniters=1, leave=False, bar_format=_LINE, **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print a line if it is time for one."""
        now, every = time.monotonic(), float(os.environ.get("TQDM_MININTERVAL", 60))
        if msg is None and now - self._printed_at >= every:
            self._printed_at = now
            print(self, file=sys.stderr, flush=True)
        return False

"""Progress of long work: a bar at a terminal or in a notebook, a line a minute in a log."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from tqdm import auto
from tqdm.asyncio import tqdm_asyncio

_FORMAT = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} gone, {remaining} left{postfix}"


def progress_bar(*, total: int, unit: str, desc: str) -> auto.tqdm:
    """tqdm's bar for these units of work; without a terminal, a line in ``TQDM_MININTERVAL``
    seconds, by default 60."""
    in_notebook = auto.tqdm is not tqdm_asyncio
    kind = auto.tqdm if in_notebook or sys.stderr.isatty() else _Lines
    return kind(total=total, unit=unit, desc=desc)


class _Lines(tqdm_asyncio):
    """Whole lines, none for work that is done sooner."""

    # No thread that would print between two updates.
    monitor_interval = 0

    def __init__(self, **settings: Any):
        self._said = time.monotonic()
        super().__init__(mininterval=0, miniters=1, leave=False, bar_format=_FORMAT, **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """A line, where it is time for one."""
        now, every = time.monotonic(), float(os.environ.get("TQDM_MININTERVAL", 60))
        if msg is None and now - self._said >= every:
            self._said = now
            print(self, file=sys.stderr, flush=True)
        return False

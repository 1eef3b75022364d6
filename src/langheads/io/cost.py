"""What a command took, in time and memory: printed at its end, and stored in its result."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from langheads.io.errors import InputError
from langheads.io.files import read_json, write_text_atomically
from langheads.io.parts import ESTIMATE, active_parts


@dataclass
class _Running:
    started: float = field(default_factory=time.perf_counter)
    read: float = 0.0  # seconds that it took to make the parts which this process read
    estimated: dict[str, float] = field(default_factory=dict)


_running: ContextVar[_Running | None] = ContextVar("running", default=None)


@contextmanager
def counted() -> Iterator[None]:
    """Count time from here, for `spent`."""
    token = _running.set(_Running())
    try:
        yield
    finally:
        _running.reset(token)


def spent() -> dict[str, float]:
    """What has been spent since `counted` began; empty outside of it.

    - ``took_seconds``: as if this process had made the parts that it read;
    - ``took_before_seconds``: those parts, where there are any;
    - ``peak_memory_gib``: of the process, see `peak_memory`;
    - ``estimated_seconds`` and ``estimated_memory_gib``, where a dry run was made.
    """
    if (running := _running.get()) is None:
        return {}
    if (parts := active_parts()) is not None:
        running.read = parts.seconds - parts.again
    before = {"took_before_seconds": round(running.read, 2)} if running.read else {}
    return {
        "took_seconds": round(time.perf_counter() - running.started + running.read, 2),
        **before,
        "peak_memory_gib": round(peak_memory() / 2**30, 3),
        **{f"estimated_{name}": value for name, value in running.estimated.items()},
    }


def spent_in_words(spent: dict[str, float]) -> str:
    """A line for people.

    Example:
        >>> spent_in_words({"took_seconds": 312.3, "peak_memory_gib": 1.5})
        'took 5 min 12 s; memory 1.50 GiB at most'
    """
    line = f"took {in_words(spent['took_seconds'])}"
    if before := spent.get("took_before_seconds"):
        line += f", {in_words(before)} of it before or elsewhere"
    line += f"; memory {spent['peak_memory_gib']:.2f} GiB at most"
    if "estimated_seconds" in spent:
        line += f"; estimated were {in_words(spent['estimated_seconds'])} and "
        line += f"{spent['estimated_memory_gib']:.2f} GiB"
    return line


def keep_estimate(folder: Path, command: str, seconds: float, memory_gib: float) -> None:
    """Keep the estimate of the run with this `command_hash` where its parts will be."""
    estimate = {command: {"seconds": seconds, "memory_gib": memory_gib}}
    # Where it cannot be kept, it was still printed.
    with suppress(InputError):
        write_text_atomically(folder / ESTIMATE, json.dumps(estimate))


def recall_estimate(folder: Path, command: str) -> None:
    """Have `spent` include the estimate of the run with this `command_hash`, if there is one."""
    running = _running.get()
    with suppress(InputError, KeyError, TypeError, ValueError):
        estimate = read_json(folder / ESTIMATE)[command]
        if running is not None:
            running.estimated = {name: float(estimate[name]) for name in ("seconds", "memory_gib")}


def peak_memory() -> int:
    """The most memory that this process had at once so far, bytes; on GPUs, of the most used."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        cards = range(torch.cuda.device_count())
        if used := max(map(torch.cuda.max_memory_allocated, cards), default=0):
            return int(used)
    with suppress(OSError):
        # On Linux `getrusage` includes the memory of the process that started this one.
        if own := re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()):
            return int(own[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_words(seconds: int | float) -> str:
    """A time in words.

    Example:
        >>> in_words(7.4), in_words(312), in_words(40000)
        ('7 s', '5 min 12 s', '11 h 6 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, left = divmod(whole, 60)
    return f"{minutes} min {left} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

"""Files that no reader can be trusted with are read in a process of its own.

HDF5 and parquet are read by libraries in C that can hang, end the whole process or fill the memory
over a file with one byte changed.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

_PROCESS = "import sys; sys.path[:] = {!r}; from langheads.io.apart import _serve; _serve(*{!r})"


def apart(function: str, path: Path, *, seconds: int, memory: int) -> bytes | None:
    """What ``module:function`` gives for a path, as bytes; None where the process did not end well.

    Args:
        function: of one `Path`, in a module that imports nothing large.
        path: for it.
        seconds: of a processor that it may take; of the clock, 20 times as many.
        memory: addresses that it may take, in bytes.
    """
    how = (function, str(path), seconds + 1, memory)
    command = [sys.executable, "-c", _PROCESS.format(sys.path, how)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20 * (seconds + 1))
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def _serve(function: str, path: str, seconds: int, memory: int) -> None:
    try:
        import resource
    except ImportError:  # On Windows the limit by the clock is all there is.
        pass
    else:
        limits = {"RLIMIT_CPU": seconds, "RLIMIT_AS": memory, "RLIMIT_CORE": 0}
        for what, most in limits.items():
            resource.setrlimit(getattr(resource, what), (most, most))
    module, _, name = function.partition(":")
    sys.stdout.buffer.write(getattr(import_module(module), name)(Path(path)))

"""Files that may crash their reader are read in processes of their own.

HDF5 and parquet are read by libraries in C that can hang, end the whole process or fill the memory
over a file with one byte changed. Starting Python for each file would take longer than reading it,
so one process is kept for each reader, which forks for each file.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Lock, Timer

_PROCESS = "import sys; sys.path[:] = {!r}; from langheads.io.apart import _serve; _serve({!r})"
# By the process that it serves, so that a fork does not share it, and by the function that reads.
_KEPT: dict[tuple[int, str], subprocess.Popen[bytes]] = {}
_LOCK = Lock()


def apart(function: str, path: Path, *, seconds: int, memory: int) -> bytes | None:
    """What ``module:function`` returns for a path, as bytes; None where its process failed.

    Slow imports that only the reader needs are named in its module's ``APART``. The limits are
    `seconds` of a processor, 20 times as many of the clock, and `memory` bytes of addresses.
    """
    asked = json.dumps([os.path.abspath(path), seconds + 1, memory])
    key = (os.getpid(), function)
    with _LOCK:
        server = _server(key)
        late = Timer(20 * (seconds + 1), _kill, [server])
        late.start()
        said = None
        try:
            said = _answer(server, asked)
        finally:
            late.cancel()
            # One stopped midway would answer the next question with this one's answer.
            if said is None or not hasattr(os, "fork"):
                _end(key)
    return said


def ready(function: str) -> None:
    """Start the process that reads for `apart` before it is needed."""
    with _LOCK:
        _server((os.getpid(), function))


def _server(key: tuple[int, str]) -> subprocess.Popen[bytes]:
    kept = _KEPT.get(key)
    if kept is None or kept.poll() is not None:
        _end(key)
        kept = _KEPT[key] = subprocess.Popen(
            [sys.executable, "-c", _PROCESS.format(sys.path, key[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return kept


def _answer(server: subprocess.Popen[bytes], asked: str) -> bytes | None:
    assert server.stdin
    assert server.stdout
    try:
        server.stdin.write(asked.encode() + b"\n")
        server.stdin.flush()
    except BrokenPipeError:
        return None
    size = server.stdout.read(8)
    said = server.stdout.read(int.from_bytes(size, "big"))
    return said if len(size) == 8 and len(said) == int.from_bytes(size, "big") else None


def _kill(server: subprocess.Popen[bytes]) -> None:
    """Also the process that it forked, which would keep the pipe open."""
    if hasattr(os, "killpg"):
        os.killpg(server.pid, signal.SIGKILL)
    else:
        server.kill()


def _end(key: tuple[int, str]) -> None:
    server = _KEPT.pop(key, None)
    if server is not None:
        # Closing its pipe fails where a request was not read.
        with suppress(OSError), server:
            _kill(server)


@atexit.register
def _end_all() -> None:
    for key in list(_KEPT):
        if key[0] == os.getpid():
            _end(key)


def _serve(function: str) -> None:
    name, _, of = function.partition(":")
    module = import_module(name)
    for needed in getattr(module, "APART", ()):
        import_module(needed)
    for line in sys.stdin.buffer:
        path, seconds, memory = json.loads(line)
        if hasattr(os, "fork") and (child := os.fork()):
            if os.waitpid(child, 0)[1]:
                return
            continue
        _limit(seconds, memory)
        said = getattr(module, of)(Path(path))
        sys.stdout.buffer.write(len(said).to_bytes(8, "big") + said)
        sys.stdout.buffer.flush()
        os._exit(0)


def _limit(seconds: int, memory: int) -> None:
    try:
        import resource
    except ImportError:  # On Windows the limit by the clock is all there is.
        return
    limits = {"RLIMIT_CPU": seconds, "RLIMIT_AS": memory, "RLIMIT_CORE": 0}
    for what, most in limits.items():
        resource.setrlimit(getattr(resource, what), (most, most))

"""As much of Ray as `langheads.cli.on_ray` uses, in this process: workers one after another."""

import contextlib
import io
import sys
from types import ModuleType, SimpleNamespace


class _Task:
    def __init__(self, function):
        self._function = function

    def remote(self, *given):
        # What a worker prints is in a log of its own.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return self._function(*given)


def put_in(monkeypatch, *, cores=1):
    """Have it imported instead of Ray."""

    def actor(kind, *given):
        made = kind(*given)
        return SimpleNamespace(work=_Task(made.work))

    class Pool:
        def __init__(self, actors):
            self._actors = actors

        def map_unordered(self, function, values):
            # The answer of the last one was lost, say, and it is given again.
            again = enumerate([*values, values[-1]])
            return [function(self._actors[i % len(self._actors)], of) for i, of in again]

    ray = ModuleType("ray")
    ray.init = lambda **_: None
    ray.shutdown = lambda: None
    ray.cluster_resources = lambda: {"CPU": float(cores)}
    ray.remote = lambda **_: lambda kind: SimpleNamespace(remote=lambda *given: actor(kind, *given))
    errors, util = ModuleType("ray.exceptions"), ModuleType("ray.util")
    errors.RayError = errors.RayTaskError = type("RayError", (Exception,), {})
    util.ActorPool = Pool
    for module in (ray, errors, util):
        monkeypatch.setitem(sys.modules, module.__name__, module)

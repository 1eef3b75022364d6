"""A verb's work shared by workers of a Ray cluster, as shards of a run in parts.

Each worker is an actor that keeps the model and does one shard after another. Ray starts them,
restarts one that is lost with its machine, and has its shard done again; finished batches of it
are in its parts. OUT is on a disk that all of them can write to.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from langheads.cli.carry_out import carry_out, prepare
from langheads.cli.tell import printed_lines, tell
from langheads.io.errors import InputError, LangheadsError
from langheads.io.parts import kept_folders, parts_folder

_CORES_A_WORKER = 8
_SHARDS_A_WORKER = 4
_TRIES = 10


def run_on_ray(verb: str, given: Mapping[str, Any]) -> None:
    """Have the workers do the verb, and say what the last of them says; refuses to without Ray."""
    prepare(verb, given)
    found = re.fullmatch(r"ray(?::([1-9]\d{0,4}))?", given["on"].strip())
    if not found or "shard" in given or given.get("fresh"):
        raise InputError(
            f"--on {given['on']!r} asked for; allowed are ray and ray:N, neither with --shard nor "
            "with --fresh"
        )
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
        from ray.util import ActorPool
    except ImportError as error:
        raise InputError("--on ray needs Ray: pip install 'langheads[ray]'") from error
    asked = {name: value for name, value in given.items() if name != "on"}
    try:
        ray.init(ignore_reinit_error=True, logging_level=logging.ERROR, log_to_driver=False)
        there = ray.cluster_resources()
        cards, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        workers = int(found[1] or cards or max(1, cores // _CORES_A_WORKER))
        if workers > (cards or cores):
            raise InputError(
                f"{workers} workers asked for, but the cluster has {cards} cards and {cores} cores"
            )
        share = {"num_gpus": 1} if cards else {"num_cpus": max(1, cores // workers)}
        anew: dict[str, Any] = {"max_restarts": _TRIES, "max_task_retries": _TRIES, **share}
        actor = ray.remote(**anew)(Worker)
        pool = ActorPool([actor.remote(verb, asked, os.getcwd()) for _ in range(workers)])
        number = _SHARDS_A_WORKER * workers
        shards = [f"{n}/{number}" for n in range(1, number + 1)]
        said: list[list[tuple[str, bool]]] = []
        folder, there_before = parts_folder(str(given["out"])), -1
        kept_folders.append(folder)
        while not any(said):
            parts = len(list(folder.glob("*.part")))
            if parts == there_before:
                raise LangheadsError("the workers wait for each other; are they alike?")
            there_before = parts
            # Ray's messages about lost workers are not the result.
            with contextlib.redirect_stdout(sys.stderr):
                done = pool.map_unordered(lambda worker, shard: worker.work.remote(shard), shards)
                said = list(done)
        # A shard that ends after the one that wrote OUT only says that OUT is there.
        for line, beside in max(said, key=len):
            tell(line, beside=beside)
    except RayTaskError as error:
        if isinstance(error.cause, LangheadsError):
            raise error.cause from None
        raise
    except (RayError, ConnectionError) as error:
        raise LangheadsError(f"Ray: {str(error).splitlines()[0]}") from error
    finally:
        ray.shutdown()


class Worker:
    """Keeps the model, and does shards of a verb."""

    def __init__(self, verb: str, given: Mapping[str, Any], folder: str):
        os.chdir(folder)
        self._verb, self._given = verb, given
        self._model: Any = None

    def work(self, shard: str) -> list[tuple[str, bool]]:
        """The verb's output if this shard was the last; nothing where it waits."""
        from langheads.io.parts import Waiting

        printed_lines.clear()
        with contextlib.suppress(Waiting):
            carry_out(self._verb, {**self._given, "shard": shard}, load=self._load)
        return [*printed_lines]

    def _load(self, **asked: Any) -> Any:
        import langheads

        self._model = self._model or langheads.load(**asked)
        return self._model

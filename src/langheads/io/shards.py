"""A run in parts, by one process or by several that share a folder; see `langheads.io.parts`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from langheads.io.errors import InputError, LangheadsError
from langheads.io.parts import Waiting, kept_in_parts

Result = TypeVar("Result")
Agree = Callable[[bool], bool]


def in_parts(
    work: Callable[[], Result],
    folder: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    save: Callable[[Result], Any] | None = None,
    shard: tuple[int, int] | None = None,
    fresh: bool = False,
    keep: bool = False,
    make: bool = True,
) -> Result:
    """Do long work so that it can be killed and continued, and shared by several processes.

    What langheads measures inside is kept in parts; parts that are there are not measured again.
    Under ``torchrun`` every rank does its share, and all of them return the whole result.

    Args:
        work: calls functions of langheads; anything else that it does is repeated each time.
        folder: for the parts, one that all processes can write to.
        settings: what identifies this run, in types of JSON; parts of a run with other settings are
            refused, parts of one with the same are used as far as they fit. Name here what was
            changed in a model beside weights, configuration and hooks, such as a module's forward.
        save: called with the result before the parts are removed; under ``torchrun`` in the
            first rank only.
        shard: (which, of how many), from 1; None for all, or what ``torchrun`` says.
        fresh: start over.
        keep: leave the parts when the work is done; else all in the folder are removed.
        make: False makes no part, and merges those that shards have made.

    Returns:
        What `work` returns.

    Raises:
        Waiting: a shard has done what it can, and others have not; without `make`, parts are
            missing.
        InputError: a shard number out of range, or parts of a run with other settings.

    Example:
        >>> from langheads import score
        >>> scores = in_parts(lambda: score(model, "texts/", docs=4), "scores.parts")
    """
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise InputError(f"shard {shard[0]} of {shard[1]} asked for; shards are 1 to their number")
    if shard is not None and fresh:
        raise InputError("fresh asked for with a shard, which would remove what others have done")
    with _ranks() as (rank, ranks, all_agree):
        if ranks > 1 and shard is not None:
            raise InputError("a shard asked for under torchrun, which has ranks of its own")
        if fresh and rank == 0:
            with kept_in_parts(folder, fresh=True):
                pass
        all_agree(True)
        mine = (rank, ranks) if shard is None else (shard[0] - 1, shard[1])
        mine = mine if make else (-1, mine[1])
        result, finished, made_here = list[Result](), False, set[str]()
        while not finished:
            with kept_in_parts(folder, settings, shard=mine) as parts:
                parts.mine = made_here
                try:
                    result = result or [work()]
                except Waiting as waiting:
                    # Other ranks may have waited for what it made, and have ended.
                    if ranks == 1 and (parts.gone or not parts.made):
                        raise Waiting(waiting.missing, parts.late) from waiting
                finished = all_agree(bool(result))
                if not finished and all_agree(not parts.made):
                    raise LangheadsError("the ranks wait for each other; are they alike?")
        if rank == 0:
            if save is not None:
                save(result[0])
            if not keep:
                parts.remove()
        all_agree(True)
    return result[0]


@contextmanager
def _ranks() -> Iterator[tuple[int, int, Agree]]:
    """Which rank of how many this process is, and a function: whether all ranks say yes.

    Only under ``torchrun``: other launchers set the same variables for processes that share
    nothing.
    """
    ranks = int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if ranks == 1:
        yield 0, 1, lambda yes: yes
        return
    import torch
    from torch import distributed

    # A rank may wait for hours for what another one measures.
    distributed.init_process_group("gloo", timeout=timedelta(days=30))

    def all_agree(yes: bool) -> bool:
        agreed = torch.tensor(int(yes))
        distributed.all_reduce(agreed, distributed.ReduceOp.MIN)
        return bool(agreed)

    try:
        yield distributed.get_rank(), ranks, all_agree
    finally:
        distributed.destroy_process_group()

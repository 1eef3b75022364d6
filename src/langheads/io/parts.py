"""Work in parts: what a killed run has done is kept, and several processes share one run.

A part is the result of one batch of documents, or prompts, under one measurement: a file in a
folder beside the result, written whole or not at all, with a checksum. Its name is a digest of
everything that its values depend on: the model as it is in memory, the tokens, the gates, the
measurement and the versions of the libraries. So a part is never taken for another, whatever
changed between two runs. All processes cut the same batches, so the values do not depend on which
process made which part, nor on how often the run was killed: they are those of one process, bit by
bit.

Of N shards each makes the parts whose number has its remainder. Parts that one of them still has
to make are missing for the others, which do other work meanwhile (`together`) and then wait
(`Waiting`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langheads.io import part_file
from langheads.io.digest import spelled
from langheads.io.errors import InputError, LangheadsError
from langheads.io.files import parse_json, temporary_prefix, write_text_atomically
from langheads.io.part_file import Piece

if TYPE_CHECKING:
    # Torch takes seconds to import, and --help does not need it.
    from torch import Tensor

_SETTINGS = "settings.json"
ESTIMATE = "estimate.json"
"""What the run was estimated to take, by hash of the command."""
COMMAND = "command.json"
"""The arguments of a shard that waits."""
KEPT = "kept"
"""A file that is there if the parts of a finished run were to be kept."""


class Waiting(LangheadsError):  # noqa: N818 - nothing went wrong
    """This shard has done all that it can; parts of other shards are missing."""

    def __init__(self, missing: int, late: Collection[int] = ()):
        some = ", ".join(map(str, sorted(late)[:9])) + (" and more" if len(late) > 9 else "")
        super().__init__(
            f"this shard's parts are done; {missing} that other shards make are missing: give the "
            f"same command again when they are there{f' (late: shards {some})' if late else ''}"
        )
        self.missing, self.late = missing, some


@dataclass
class Parts:
    """The parts of one run."""

    folder: Path  # where they are; made with the first of them
    settings: str = "{}"  # what the run was asked for, as JSON
    shard: int = 0  # which of the shards this process is, from 0
    shards: int = 1  # how many there are
    made: int = 0  # parts that this process made
    found: int = 0  # parts that it read
    left: int = 0  # parts that other shards still have to make
    late: set[int] = field(default_factory=set)  # those shards, from 1
    seconds: float = 0.0  # that it took to make the parts which this process read
    again: float = 0.0  # of these, those in `mine`, which it made itself in an earlier round
    mine: set[str] = field(default_factory=set)
    _names: set[str] = field(default_factory=set)

    def rows(
        self, piece: Piece, make: Callable[[], list[Tensor]]
    ) -> tuple[list[Tensor] | None, bool]:
        """The rows of a part, a tensor each, read or made now, and whether they were made now.

        None for rows that another shard makes. Raises where the part cannot be written.
        """
        name = piece.name
        if name in self._names:
            # The same again, or a name that does not identify the measurement: never shared.
            return make(), True
        self._names.add(name)
        path = self.folder / f"{piece.work[:12]}-{piece.number:05d}-{name[:32]}.part"
        rows = self._read(path, name)
        if rows is None and piece.first % self.shards == self.shard:
            return self._make(path, name, make), True
        if rows is None:
            self.left += 1
            self.late.add(piece.first % self.shards + 1)
        return rows, False

    def shared(self, piece: Piece, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        """The rows of a part that every shard needs first, made by the first shard to need them.

        All take the same rows: on another kind of machine the last bits may differ, and the names
        of later parts depend on them. A part without a forward is not worth keeping by itself.
        """
        suffix = ".part" if piece.tokens else ".all"
        path = self.folder / f"{piece.work[:12]}-all-{piece.name[:32]}{suffix}"
        if (rows := self._read(path, piece.name)) is not None:
            return rows
        if self.shard < 0 and piece.tokens:
            self.late.update(range(1, self.shards + 1))
            raise Waiting(1)  # A merge makes none; any shard can.
        own = path.with_name(f"{path.stem}-{os.getpid()}-{platform.node()[:40]}{suffix}")
        made = self._make(own, piece.name, make)
        try:
            os.link(own, path)
        except OSError:
            # Another was first, or its file is damaged, or there are no hard links, as on Colab.
            if part_file.read_part(path, piece.name)[0] is None:
                own.replace(path)
        own.unlink(missing_ok=True)
        return part_file.read_part(path, piece.name)[0] or made

    def _make(self, path: Path, name: str, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        started = time.perf_counter()
        rows = [] if self.gone else make()
        seconds = time.perf_counter() - started
        if self.gone:
            raise Waiting(0)
        self.write_settings()
        part_file.write_part(path, name, rows, seconds)
        self.made += 1
        self.mine.add(name)
        return rows

    def _read(self, path: Path, name: str) -> list[Tensor] | None:
        rows, seconds = part_file.read_part(path, name)
        if rows is not None:
            self.found += 1
            self.seconds += seconds
            self.again += seconds if name in self.mine else 0.0
        return rows

    @property
    def gone(self) -> bool:
        """Whether another shard has finished meanwhile and removed the parts."""
        return self.shards > 1 and not (self.folder / _SETTINGS).exists()

    @property
    def command_hash(self) -> str:
        """See `command_hash`."""
        return hashlib.sha256(self.settings.encode()).hexdigest()

    def write_settings(self) -> None:
        """Write the run's settings where they are missing."""
        if not (self.folder / _SETTINGS).exists():
            write_text_atomically(self.folder / _SETTINGS, self.settings)

    def check(self) -> None:
        """Refuse parts of a run with other settings."""
        path = self.folder / _SETTINGS
        try:
            before = path.read_text("utf-8")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}; --fresh starts over") from error
        if before == self.settings:
            return
        there, now = parse_json(before, f"{path} (--fresh starts over)"), json.loads(self.settings)
        if not isinstance(there, dict):
            raise InputError(f"{path} holds no settings; --fresh starts over")
        names = [n for n in {**there, **now} if there.get(n) != now.get(n)]
        apart = "; ".join(f"{n} was {_short(there.get(n))}, is {_short(now.get(n))}" for n in names)
        how = "give what was given before, or --fresh to start over"
        how = how if self.shard >= 0 else "merge them as, and where, they were made"
        raise InputError(f"{self.folder} has parts of another run ({apart}); {how}")

    def remove(self) -> None:
        """Remove the parts, and the folder where nothing else is in it."""
        with suppress(OSError):
            (self.folder / _SETTINGS).unlink(missing_ok=True)
            for pattern in ("*.part", "*.all", ESTIMATE, COMMAND, KEPT, ".langheads.*.tmp"):
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)
            self.folder.rmdir()


kept_folders: list[Path] = []
"""Where this process has kept parts, for the message after an interrupt."""
_active: ContextVar[Parts | None] = ContextVar("parts", default=None)


def parts_folder(out: str) -> Path:
    """Where the command line keeps the parts of a result."""
    return Path(f"{out.rstrip('/')}.parts")


def active_parts() -> Parts | None:
    """The parts of the enclosing `kept_in_parts`; None outside."""
    return _active.get()


def spared() -> int:
    """How many parts this process did not have to make so far."""
    return 0 if (parts := _active.get()) is None else parts.found + parts.left


def clock() -> float:
    """Seconds, as if this process had made the parts that it read."""
    return time.perf_counter() + (0.0 if (parts := _active.get()) is None else parts.seconds)


@contextmanager
def kept_in_parts(
    folder: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    shard: tuple[int, int] = (0, 1),
    fresh: bool = False,
) -> Iterator[Parts]:
    """Keep what is measured inside the block in parts, and read those that are there.

    Parts of a run with other `settings` (in types of JSON) are refused, with what differs; `fresh`
    removes them. A shard is which of how many this process is, from 0.
    """
    parts = Parts(Path(folder), spelled(settings), *shard)
    if fresh:
        parts.remove()
        if any(parts.folder.glob("*.part")):
            raise InputError(f"the parts in {parts.folder} cannot be removed; remove them by hand")
    parts.check()
    kept_folders.append(parts.folder)
    temporary_prefix(parts.folder)
    if parts.shards > 1:
        # The file exists as long as the parts do, see `gone`.
        parts.write_settings()
    try:
        with use_parts(parts):
            yield parts
    finally:
        if not any(parts.folder.glob("*.part")) and parts.shards == 1:
            parts.remove()


@contextmanager
def use_parts(parts: Parts) -> Iterator[None]:
    """Take the rows of what is measured inside the block from these parts."""
    token = _active.set(parts)
    try:
        yield
    finally:
        _active.reset(token)


@contextmanager
def together() -> Iterator[AbstractContextManager[None]]:
    """Go on with other pieces of work where one waits for parts of other shards.

    Yields:
        A context for each piece of work; at the end of the block `Waiting` is raised if one had to
        wait.
    """
    each = _Each()
    yield each
    if each.waiting:
        raise Waiting(sum(one.missing for one in each.waiting))


class _Each(AbstractContextManager[None]):
    def __init__(self) -> None:
        self.waiting: list[Waiting] = []

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> bool:
        if isinstance(error, Waiting):
            self.waiting.append(error)
        return isinstance(error, Waiting)


def _short(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) < 60 else f"{text[:57]}..."

"""Verbs that run a model: an estimate of their cost, and work that is kept in ``OUT.parts/`` and
can be shared by the shards of a job array or by ranks.

The same command continues a killed run; one with other settings is refused, with what differs. The
result holds a hash of the settings that it was made with, so the same command does nothing when
all is done.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from langheads.cli.settings import run_settings
from langheads.cli.tell import tell, write_csv
from langheads.cli.values import flag, keyword
from langheads.cli.verbs import IN_PARTS
from langheads.io.errors import InputError, LangheadsError, OutOfMemoryError
from langheads.io.files import RUN_FILES, write_text_atomically
from langheads.io.parts import COMMAND, ESTIMATE, KEPT, parts_folder


def _option(name: str, kind: Any, text: str, metavar: str | None = None) -> inspect.Parameter:
    option = typer.Option(flag(name), help=text, metavar=metavar)
    if kind is bool:
        return keyword(name, Annotated[bool, option], False)
    return keyword(name, Annotated[str | None, option], None)


DRY_RUN = _option("dry_run", bool, "Say what time and memory the run will take, and stop.")
"""What a verb takes that runs a model."""
PARTS_OPTIONS = (
    _option(
        "shard",
        str,
        "Do only this share of the work, such as 3/16, beside processes that do the others with "
        "the same OUT on a disk that all can write to; the last one writes OUT. With --dry-run, "
        "what this share will take is said, too.",
        "I/N",
    ),
    _option(
        "on",
        str,
        "ray shares the work among workers of a Ray cluster (that of RAY_ADDRESS, else one on this "
        "machine), one a GPU or one in eight cores; ray:4 asks for four.",
        "ray[:N]",
    ),
    DRY_RUN,
    _option("fresh", bool, "Start over, whatever is in OUT.parts/ or OUT."),
    _option("keep_parts", bool, "Leave OUT.parts/ when OUT is written."),
)
"""What a verb takes whose work is kept in parts."""


def run_model(
    work: partial[Any],
    given: Mapping[str, Any],
    finish: Callable[[Any], None],
    *,
    verb: str,
    model: Any,
    out: str,
) -> None:
    """Do the work (a function with its arguments), of a verb whose work is kept in parts what is
    missing of it, and finish with its result; in a dry run only say what it will take."""
    from langheads.io.cost import keep_estimate, recall_estimate
    from langheads.io.digest import command_hash

    folder, in_parts, settings = parts_folder(out), verb in IN_PARTS, dict[str, Any]()
    shard = _shard(given["shard"]) if "shard" in given else None
    waiting = (folder / ESTIMATE).exists()
    if in_parts or waiting or given.get("dry_run"):
        settings = run_settings(verb, given, work, model)
        if given.get("dry_run"):
            keep_estimate(folder, command_hash(settings), *_tell_estimate(work, shard))
            return
        recall_estimate(folder, command_hash(settings))
    if in_parts:
        _run_in_parts(work, {"verb": verb, **given}, finish, settings, shard, out)
        return
    finish(work())
    if waiting:
        with suppress(OSError):
            (folder / ESTIMATE).unlink()
            folder.rmdir()


def _run_in_parts(
    work: partial[Any],
    given: Mapping[str, Any],
    finish: Callable[[Any], None],
    settings: Mapping[str, Any],
    shard: tuple[int, int] | None,
    out: str,
) -> None:
    from langheads.io.digest import command_hash
    from langheads.io.parts import Waiting, kept_in_parts
    from langheads.io.shards import in_parts

    folder = parts_folder(out)
    fresh = bool(given.get("fresh"))
    keep = bool(given.get("keep_parts")) or (not fresh and (folder / KEPT).exists())
    how: dict[str, Any] = {"shard": shard, "fresh": fresh, "keep": keep}

    def done() -> bool:
        if fresh or not _made_by(command_hash(settings), Path(out)):
            return False
        if not keep:
            # It was killed after it had written its result.
            with suppress(InputError), kept_in_parts(folder, settings) as left:
                left.remove()
        # Tables on the disk may be an older command's, or a killed one's.
        for table in write_csv(_saved(Path(out)), out, None) if given.get("csv") else ():
            tell(str(table), beside=True)
        tell(f"{out} is there, made by this same command; --fresh makes it again")
        return True

    if done():
        return
    try:
        in_parts(work, folder, settings, save=finish, make=not given.get("merge"), **how)
    except Waiting as waiting:
        # Meanwhile another shard may have been the last.
        if done():
            return
        if given.get("merge"):
            late = f"parts of {out} that are missing: {waiting.missing}, of shards {waiting.late}"
            raise InputError(f"{late}; give those again") from None
        # Another shard may have removed the parts; and on a full disk it still waits.
        if folder.is_dir():
            with suppress(InputError):
                write_text_atomically(folder / COMMAND, json.dumps(given))
        raise
    finally:
        if keep and folder.is_dir():
            with suppress(OSError):
                (folder / KEPT).touch()


def _tell_estimate(work: partial[Any], shard: tuple[int, int] | None) -> tuple[float, float]:
    """Print what the work and a shard of it will take; seconds and GiB of the whole."""
    from langheads.io.cost import in_words, spent
    from langheads.io.estimate import estimated

    more = ""
    with TemporaryDirectory() as folder, estimated(shard or (1, 1)) as estimate:
        if "out" in work.keywords:
            work = partial(work, out=Path(folder) / "out")
        try:
            work()
        except LangheadsError as error:
            if isinstance(error, OutOfMemoryError) or not estimate.found:
                raise
            # Made-up rows are not text of any language, say.
            more = f", and what comes after them, which was not reached ({error})"
        cost = spent()
        beside = cost["took_seconds"] - estimate.probing
    whole = estimate.predicted()
    for what, seconds in whole.items():
        typer.echo(f"{what}: {estimate.batches[what]} batches, {in_words(seconds)}")
    if not whole:
        typer.echo("no batches: all of it was run, and no result written")
    # Rounded as it is kept, so that the note after the run says the same.
    memory, total = cost["peak_memory_gib"], round(beside + sum(whole.values()), 2)
    typer.echo(f"about {in_words(total)} in all{more}; memory {memory:.2f} GiB at most")
    if shard is not None:
        typer.echo(
            f"shard {shard[0]} of {shard[1]}: {sum(estimate.own.values())} of "
            f"{sum(estimate.batches.values())} batches, "
            f"about {in_words(beside + sum(estimate.predicted(own=True).values()))}"
        )
    return total, memory


def _shard(value: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value.strip())
    if not found:
        raise InputError(f"--shard {value!r}: write which of how many, like 3/16")
    return int(found[1]), int(found[2])


def _saved(out: Path) -> Any:
    """A result on the disk; of a chain its page."""
    from langheads.experiments.replies.files import Replies, summary_path
    from langheads.io.results import load_result

    if out.is_dir():
        return out / RUN_FILES[-1]
    return Replies.load(summary_path(out)) if out.suffix == ".jsonl" else load_result(out)


def _made_by(command_hash: str, out: Path) -> bool:
    """Whether a result, and of a chain all results, are of this command; files that are written
    later may be an older command's, or a killed one's."""

    def newer(last: Path, first: Path) -> bool:
        return last.stat().st_mtime >= first.stat().st_mtime

    try:
        result = _saved(out)
        if isinstance(result, Path):
            # `run` begins with the scores, and ends with the page, which `report` writes, too.
            scores, _, proof, seen, _ = (out / name for name in RUN_FILES)
            made = _made_by(command_hash, scores) and _made_by(command_hash, proof)
            # No picture of attention: none could be made, or the run was killed before.
            left = any(parts_folder(str(out)).glob("*.part"))
            shown = newer(seen, proof) if seen.exists() else not left
            return made and shown and newer(result, proof)
        attrs = result.provenance if out.suffix == ".jsonl" else result.attrs
        return out.is_file() and attrs.get("command_hash") == command_hash
    except (OSError, InputError, AttributeError):
        return False

"""The command line: each verb is one Python function with the same keywords.

Nothing heavy is imported before a verb runs, so ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import sys

import typer

from langheads.cli.app import make_app
from langheads.cli.verbs import VERBS
from langheads.io.errors import LangheadsError, printable
from langheads.io.files import written_files
from langheads.io.parts import Waiting, kept_folders

__all__ = ["VERBS", "main", "make_app"]

# typer brings its own copy of click in some versions and uses the real one in others; the base of
# its public exceptions is the same class name in both.
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)


def main() -> None:
    """Entry point: one line on stderr and exit code 2 for every expected error, 130 for Ctrl-C and
    143 for SIGTERM."""
    stopped = ("interrupted", 130)

    def terminate(*_: object) -> None:
        nonlocal stopped
        stopped = ("terminated", 143)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    # Until the libraries are imported, whose many objects are not garbage: looking for some among
    # them takes a quarter of the time.
    gc.disable()
    written_files.clear()
    kept_folders.clear()
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    # Before torch is imported: on a busy machine, threads that spin for long while they wait for
    # each other cost ten times the work itself; threads that never spin cost a quarter on an idle
    # one.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if not sys.stderr.isatty():
        # Bars of loading are for people; langheads itself gives a log a line a minute.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # One warning for every try of every file.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        # Some versions of typer turn Ctrl-C into a returned exit code.
        arguments = arguments or ["--help"]
        app = make_app(arguments[0])
        if app(arguments, prog_name="langheads", standalone_mode=False) == 130:
            raise KeyboardInterrupt
    except Waiting as waiting:
        typer.echo(printable(str(waiting)), err=True)
        sys.exit(os.EX_TEMPFAIL)
    except (LangheadsError, _UsageError) as error:
        if debug:
            raise
        message = error.format_message() if isinstance(error, _UsageError) else str(error)  # type: ignore[attr-defined]
        typer.echo(f"error: {printable(' '.join(message.split()))}", err=True)
        sys.exit(2)
    except OSError as error:
        # What only looking at a path raises.
        if debug or error.errno != errno.ENAMETOOLONG:
            raise
        typer.echo(f"error: {printable(str(error.filename))[:60]}...: {error.strerror}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo(f"error: {stopped[0]}; {_kept()}", err=True)
        sys.exit(stopped[1])
    finally:
        gc.unfreeze()
        gc.enable()
        signal.signal(signal.SIGTERM, before)


def _kept() -> str:
    """What an interrupted verb leaves, and how to go on."""
    for folder in kept_folders:
        if made := sum(1 for _ in folder.glob("*.part")):
            parts = f"{made} finished part{'s are' if made > 1 else ' is'} kept in {folder}"
            return f"nothing half-written was left; {parts}; give the same command again to go on"
    # What was written into a folder that was then removed is gone.
    kept = [str(path) for path in dict.fromkeys(written_files) if path.exists()]
    more = f" and {len(kept) - 4} more" if len(kept) > 4 else ""
    return (
        f"nothing half-written was left; kept: {', '.join(kept[-4:]) or 'nothing'}{more}; give the "
        "same command again to start over"
    )

"""The command line: each verb is one Python function with the same keywords.

Nothing heavy is imported before a verb runs, so ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import logging
import os
import sys

import typer

from langheads.cli.app import VERBS, make_app
from langheads.io.errors import LangheadsError

__all__ = ["VERBS", "main", "make_app"]

# typer brings its own copy of click in some versions and uses the real one in others; the base of
# its public exceptions is the same class name in both.
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)


def main() -> None:
    """Entry point: one line on stderr and exit code 2 for every expected error."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    # Before torch is imported: on a busy machine, threads that spin for long while they wait for
    # each other cost ten times the work itself; threads that never spin cost a quarter on an idle
    # one.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if not sys.stderr.isatty():
        # Progress bars are for people; in a log they bury the one line that matters.
        os.environ.setdefault("TQDM_DISABLE", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        # Some versions of typer turn Ctrl-C into a returned exit code.
        if make_app()(arguments or ["--help"], prog_name="langheads", standalone_mode=False) == 130:
            raise KeyboardInterrupt
    except (LangheadsError, _UsageError) as error:
        if debug:
            raise
        message = error.format_message() if isinstance(error, _UsageError) else str(error)  # type: ignore[attr-defined]
        typer.echo(f"error: {' '.join(message.split())}", err=True)
        sys.exit(2)
    except OSError as error:
        # What only looking at a path raises.
        if debug or error.errno != errno.ENAMETOOLONG:
            raise
        typer.echo(f"error: {error.filename!s:.60}...: {error.strerror}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("error: interrupted; nothing half-written was left", err=True)
        sys.exit(130)

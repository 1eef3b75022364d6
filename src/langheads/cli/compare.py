"""The verb that compares scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langheads.cli.app import app
from langheads.io.files import check_writable


@app.command()
def compare(
    run: Annotated[Path, typer.Argument(help="Folder with scores.nc and knockout.nc.")],
    out: Annotated[Path | None, typer.Option(help="By default RUN/comparison.nc.")] = None,
) -> None:
    """Which score is right: all of a folder against exact knock-out and planted heads."""
    target = run / "comparison.nc" if out is None else out
    read = ("scores.nc", "knockout.nc", "deletion.nc", "planted.json")
    check_writable(target, *(run / name for name in read))
    import langheads
    from langheads.experiments.benchmark.compare import as_text

    comparison = langheads.compare(run)
    typer.echo(as_text(comparison))
    typer.echo(langheads.save(comparison, target))

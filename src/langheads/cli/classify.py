"""The verb that sorts heads into classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langheads.cli.app import app
from langheads.cli.options import SeedOpt, split_list
from langheads.io.files import check_writable


@app.command()
def classify(
    knockout: Annotated[Path, typer.Argument(help="What knockout wrote.")],
    languages: Annotated[str, typer.Option(help="Two languages, e.g. en,hi.")],
    out: Annotated[Path, typer.Option(help="Classes, e.g. classes.json.")],
    measure: Annotated[
        str | None, typer.Option(help="Which measure of the file; default: its first.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Which baseline of the file; default: its first.")
    ] = None,
    level: Annotated[float, typer.Option(help="Intervals cover 1 - level.")] = 0.05,
    min_drop: Annotated[float, typer.Option(help="Harm up to this is no drop.")] = 0.0,
    bootstraps: Annotated[int, typer.Option(help="Resamples of the examples.")] = 2000,
    seed: SeedOpt = 0,
) -> None:
    """Heads that one of two languages needs, both, or neither."""
    check_writable(out, knockout)
    import langheads

    classes = langheads.classify(
        langheads.load_result(knockout),
        split_list(languages) or [],
        measure=measure,
        baseline=baseline,
        level=level,
        min_drop=min_drop,
        bootstraps=bootstraps,
        seed=seed,
    )
    classes.save(out)
    groups = {f"{name}-specific": heads for name, heads in classes.specific.items()}
    groups["agnostic"] = classes.agnostic
    for name, heads in groups.items():
        chance = f"by chance {classes.expected_by_chance[name]:.2g}"
        typer.echo(f"{name}: {len(heads)} ({chance}) {heads}".rstrip(), err=True)
    for language, heads in classes.distinct.items():
        typer.echo(
            f"shown to matter more to {language}: {len(heads)} of its "
            f"{len(classes.specific[language])} {heads}".rstrip(),
            err=True,
        )
    for name in ("other", "not measured"):
        typer.echo(f"{name}: {classes.counts[name]}", err=True)
    typer.echo(out)

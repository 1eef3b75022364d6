"""The verb that attributes a choice between two answers to heads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langheads.cli.app import app
from langheads.cli.options import BatchOpt, BosOpt, Loader, budget, split_list, takes_model
from langheads.io.files import check_writable


@app.command()
@takes_model
def attribute(
    model: Loader,
    prompts: Annotated[
        Path,
        typer.Option(help='A line of {"prompt", "answer", "wrong"} each, also language, corrupt.'),
    ],
    out: Annotated[Path, typer.Option(help="Result, e.g. attribution.nc.")],
    measures: Annotated[
        str | None,
        typer.Option(help="Of direct, gradient, patching; patching needs prompts with corrupt."),
    ] = None,
    heads: Annotated[str | None, typer.Option(help="Patch only these, e.g. L3H7,L5H0.")] = None,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
) -> None:
    """What each head adds to the choice between two answers."""
    check_writable(out, prompts)
    tokens = budget(batch_tokens)
    import langheads
    from langheads.text.prompts import read_prompts

    # Before gigabytes are loaded.
    read_prompts(prompts)
    dataset = langheads.attribute(
        model(),
        prompts,
        measures=split_list(measures),
        heads=split_list(heads),
        bos=bos,
        batch_tokens=tokens,
    )
    typer.echo(langheads.save(dataset, out))

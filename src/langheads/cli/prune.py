"""The verb that removes heads for good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langheads.cli.app import app
from langheads.cli.options import (
    BatchOpt,
    BosOpt,
    ControlsOpt,
    LanguagesOpt,
    Loader,
    ScoredSeedOpt,
    budget,
    split_list,
    takes_model,
)


@app.command()
@takes_model
def prune(
    model: Loader,
    heads: Annotated[Path, typer.Option(help="What select wrote.")],
    drop: Annotated[str, typer.Option(help="Languages, e.g. zh,hi, or general.")],
    out: Annotated[Path, typer.Option(help="New folder for the model.")],
    text: Annotated[
        str | None, typer.Option(help="Texts to measure the loss on, before and after.")
    ] = None,
    languages: LanguagesOpt = None,
    docs: Annotated[int, typer.Option(help="Documents a language.")] = 100,
    max_tokens: Annotated[int | None, typer.Option(help="By default that of the scores.")] = None,
    controls: ControlsOpt = 20,
    seed: ScoredSeedOpt = None,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Measure on scored documents all the same.")
    ] = False,
) -> None:
    """A plain Hugging Face model without some languages' heads."""
    import langheads
    from langheads.experiments.language_heads import heads_of
    from langheads.experiments.pruning.experiment import check_folder

    check_folder(out)
    chosen = langheads.LanguageHeads.load(heads)
    names = split_list(drop) or []
    for name in names:
        heads_of(chosen, name)
    corpus = None
    if text is not None:
        order = int(chosen.provenance.get("seed", 0)) if seed is None else seed
        corpus = langheads.read_texts(text, languages=split_list(languages), seed=order)
    account = langheads.prune(
        model(),
        chosen,
        drop=names,
        out=out,
        text=corpus,
        docs=docs,
        max_tokens=max_tokens,
        controls=controls,
        seed=seed,
        bos=bos,
        batch_tokens=budget(batch_tokens),
        allow_overlap=allow_overlap,
    ).account
    for key in ("cut", "zeroed"):
        typer.echo(f"{key}: {len(account[key])} {' '.join(account[key])}".rstrip(), err=True)
    typer.echo(
        f"parameters zeroed: {account['parameters_zeroed']}; saved: "
        f"{account['parameters_saved']} parameters, {account['bytes_saved']} bytes",
        err=True,
    )
    if not account["cut"]:
        typer.echo("slices of W_O were zeroed only, so nothing is smaller or faster", err=True)
    if text is None:
        typer.echo("no --text, so what this costs was not measured", err=True)
    for language, loss in account.get("nats_per_byte", {}).items():
        told = f"{language}: {loss['before']:.4f} -> {loss['after']:.4f} nats per byte"
        if loss["rise_low"] is not None:
            told += f", {loss['rise']:+.4f} [{loss['rise_low']:+.4f}, {loss['rise_high']:+.4f}]"
        if "control_mean" in loss:
            told += f"; random heads {loss['control_mean']:+.4f}, p {loss['control_p']:.3f}"
        typer.echo(told, err=True)
    typer.echo(out)

"""The verb that asks whose fact is believed: cross-lingual attention transfer."""

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
    SeedOpt,
    budget,
    split_list,
    takes_model,
)
from langheads.io.errors import InputError
from langheads.io.files import check_writable


@app.command()
@takes_model
def transfer(
    model: Loader,
    heads: Annotated[Path, typer.Option(help="What select wrote.")],
    out: Annotated[Path, typer.Option(help="Result, e.g. transfer.nc.")],
    languages: LanguagesOpt = None,
    pairs: Annotated[
        str | None, typer.Option(help="A:B of the head set, e.g. hi:zh,zh:hi; all by default.")
    ] = None,
    query: Annotated[str, typer.Option(help="Language of the question.")] = "en",
    enhance: Annotated[str, typer.Option(help="Gates of A's heads, e.g. 1.5,3,5.")] = "3",
    weaken: Annotated[str, typer.Option(help="Gates of B's heads, e.g. 0,0.5.")] = "0",
    order: Annotated[
        str, typer.Option(help="Where A's fact stands, of first, last.")
    ] = "first,last",
    controls: ControlsOpt = 20,
    templates: Annotated[
        Path | None, typer.Option(help="Folder of <language>.jsonl with sentences and words.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Occupations; every ordered pair is a prompt.")] = 10,
    limit: Annotated[int | None, typer.Option(help="A random subset of so many pairs.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Length of the answers.")] = 5,
    attention: Annotated[
        bool, typer.Option("--attention/--no-attention", help="Measure attention to the facts.")
    ] = True,
    seed: SeedOpt = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
) -> None:
    """Enhance one language's heads or weaken another's: whose fact is believed?"""
    check_writable(out, heads, templates)
    tokens = budget(batch_tokens)
    gates = _numbers("--enhance", enhance), _numbers("--weaken", weaken)
    asked = None if pairs is None else [_pair(each) for each in split_list(pairs) or []]
    import langheads
    from langheads.text.templates import read_templates

    chosen = langheads.LanguageHeads.load(heads)
    if templates is not None:
        # Before gigabytes are loaded.
        read_templates(templates)
    dataset = langheads.transfer(
        model(),
        chosen,
        languages=split_list(languages),
        pairs=asked,
        query=query,
        gates_enhance=gates[0],
        gates_weaken=gates[1],
        orders=[f"A {place}" for place in split_list(order) or []],
        n_controls=controls,
        templates=templates,
        n_occupations=jobs,
        limit=limit,
        max_new_tokens=max_new_tokens,
        attention=attention,
        seed=seed,
        bos=bos,
        batch_tokens=tokens,
    )
    typer.echo(langheads.save(dataset, out))


def _numbers(option: str, value: str) -> list[float]:
    """The numbers of ``1.5,3``; none of an empty text."""
    try:
        return [float(part) for part in value.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"{option} {value!r}: write numbers like 1.5,3") from None


def _pair(value: str) -> tuple[str, str]:
    a, _, b = value.partition(":")
    if not a or not b or ":" in b:
        raise InputError(f"--pairs {value!r}: write two languages, A and B, like hi:zh")
    return a, b

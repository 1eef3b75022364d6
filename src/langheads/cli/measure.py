"""Verbs that measure heads and choose among them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langheads.cli.app import app
from langheads.cli.options import (
    BatchOpt,
    BosOpt,
    DocsOpt,
    GeneralOpt,
    LanguagesOpt,
    Loader,
    MaxTokensOpt,
    MethodOpt,
    QuantileOpt,
    ScoreOpt,
    ShareOpt,
    TextOpt,
    budget,
    split_list,
    takes_model,
)
from langheads.files import check_writable


@app.command()
@takes_model
def score(
    model: Loader,
    text: TextOpt,
    out: Annotated[Path, typer.Option(help="Result, e.g. scores.nc.")],
    method: MethodOpt = "lahis,lahis-paper,taylor",
    languages: LanguagesOpt = None,
    docs: DocsOpt = 1000,
    max_tokens: MaxTokensOpt = 2048,
    seed: int = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
    gradients: Annotated[
        bool, typer.Option(help="Keep every document's gradients, for the contrast rule.")
    ] = True,
) -> None:
    """Gradient scores of every head."""
    check_writable(out)
    import langheads

    corpus = langheads.read_texts(text, languages=split_list(languages), seed=seed)
    dataset = langheads.score(
        model(),
        corpus,
        method=split_list(method) or [],
        docs=docs,
        max_tokens=max_tokens,
        seed=seed,
        bos=bos,
        batch_tokens=budget(batch_tokens),
        gradients=gradients,
    )
    typer.echo(langheads.save(dataset, out))


@app.command()
@takes_model
def knockout(
    model: Loader,
    text: TextOpt,
    out: Annotated[Path, typer.Option(help="Result, e.g. knockout.nc.")],
    heads: Annotated[str | None, typer.Option(help="Only these, e.g. L3H7,L5H0.")] = None,
    baseline: Annotated[str, typer.Option(help="zero, mean or both.")] = "zero",
    languages: LanguagesOpt = None,
    docs: DocsOpt = 100,
    max_tokens: MaxTokensOpt = 2048,
    seed: int = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
) -> None:
    """Exact rise in NLL with each head off alone."""
    check_writable(out)
    import langheads

    corpus = langheads.read_texts(text, languages=split_list(languages), seed=seed)
    dataset = langheads.knockout(
        model(),
        corpus,
        heads=split_list(heads),
        baseline=split_list(baseline) or [],
        docs=docs,
        max_tokens=max_tokens,
        seed=seed,
        bos=bos,
        batch_tokens=budget(batch_tokens),
    )
    typer.echo(langheads.save(dataset, out))


@app.command()
def select(
    scores: Annotated[Path, typer.Argument(help="What score wrote.")],
    out: Annotated[Path, typer.Option(help="Head set, e.g. heads.json.")],
    rule: Annotated[str, typer.Option(help="count or contrast.")] = "count",
    score: ScoreOpt = "lahis",
    quantile: QuantileOpt = 0.96,
    general_at: GeneralOpt = 4,
    share: ShareOpt = 0.02,
    times: Annotated[float, typer.Option(help="Own share over the others', contrast rule.")] = 3.0,
    level: Annotated[float, typer.Option(help="Largest q-value, contrast rule.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the contrast rule.")] = 0,
) -> None:
    """Language-specific and language-general heads."""
    check_writable(out)
    import langheads

    heads = langheads.select(
        langheads.load_result(scores, "scores"),
        rule=rule,
        score=score,
        quantile=quantile,
        general_at=general_at,
        share=share,
        times=times,
        level=level,
        seed=seed,
    )
    heads.save(out)
    for language, specific in heads.specific.items():
        typer.echo(f"{language}: {len(specific)} specific {specific}", err=True)
    typer.echo(f"general: {len(heads.general)} {heads.general}", err=True)
    typer.echo(out)

"""Verbs that prove and show, and the whole chain in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langheads.cli.app import app
from langheads.cli.options import (
    BatchOpt,
    BosOpt,
    ControlsOpt,
    DocsOpt,
    GeneralOpt,
    LanguagesOpt,
    Loader,
    MaxTokensOpt,
    MethodOpt,
    QuantileOpt,
    ScoredSeedOpt,
    SeedOpt,
    ShareOpt,
    TextOpt,
    budget,
    split_list,
    takes_model,
)
from langheads.io.files import check_writable


@app.command()
@takes_model
def ablate(
    model: Loader,
    heads: Annotated[Path, typer.Option(help="What select wrote.")],
    text: TextOpt,
    out: Annotated[Path, typer.Option(help="Result, e.g. ablation.nc.")],
    baseline: Annotated[str, typer.Option(help="zero, mean or both.")] = "zero,mean",
    controls: ControlsOpt = 100,
    languages: LanguagesOpt = None,
    docs: DocsOpt = 100,
    max_tokens: Annotated[int | None, typer.Option(help="By default that of the scores.")] = None,
    seed: ScoredSeedOpt = None,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Prove on scored documents all the same.")
    ] = False,
) -> None:
    """Specificity matrix with matched random controls."""
    check_writable(out, heads, text)
    import langheads

    chosen = langheads.LanguageHeads.load(heads)
    corpus = langheads.read_texts(text, languages=split_list(languages), seed=seed or 0)
    dataset = langheads.ablate(
        model(),
        chosen,
        corpus,
        baseline=split_list(baseline) or [],
        n_controls=controls,
        docs=docs,
        max_tokens=max_tokens,
        seed=seed,
        bos=bos,
        batch_tokens=budget(batch_tokens),
        allow_overlap=allow_overlap,
    )
    typer.echo(langheads.save(dataset, out))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of results.")],
    out: Annotated[Path | None, typer.Option(help="Page; RUN/report.html by default.")] = None,
) -> None:
    """One offline page from a folder of results."""
    if out is not None and run.is_dir():
        results = (".nc", ".json", ".jsonl")
        check_writable(out, *(path for path in run.iterdir() if path.suffix in results))
    import langheads

    typer.echo(langheads.report(run, out))


@app.command()
@takes_model
def run(
    model: Loader,
    text: TextOpt,
    out: Annotated[Path, typer.Option(help="Folder for results and page.")],
    method: MethodOpt = "lahis,lahis-paper,taylor",
    languages: LanguagesOpt = None,
    docs: DocsOpt = 1000,
    proof_docs: Annotated[int, typer.Option(help="Held-out documents a language.")] = 100,
    controls: ControlsOpt = 100,
    quantile: QuantileOpt = 0.96,
    general_at: GeneralOpt = 4,
    share: ShareOpt = 0.02,
    max_tokens: MaxTokensOpt = 2048,
    seed: SeedOpt = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
) -> None:
    """score, select, ablate and report in one go."""
    from langheads import pipeline, read_texts

    corpus = read_texts(text, languages=split_list(languages), seed=seed)
    page = pipeline.run(
        model(),
        corpus,
        out,
        method=split_list(method) or [],
        docs=docs,
        proof_docs=proof_docs,
        controls=controls,
        max_tokens=max_tokens,
        seed=seed,
        bos=bos,
        batch_tokens=budget(batch_tokens),
        selection={"quantile": quantile, "general_at": general_at, "share": share},
    )
    typer.echo(page)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for texts, results and page.")],
    docs: Annotated[int, typer.Option(help="Documents a language for scoring.")] = 48,
    controls: ControlsOpt = 25,
) -> None:
    """The whole chain on the embedded model with planted heads, offline."""
    from langheads import pipeline

    page, table = pipeline.demo(out, docs=docs, controls=controls)
    typer.echo(table)
    typer.echo(page)

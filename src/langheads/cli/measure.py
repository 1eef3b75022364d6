"""Verbs that measure heads and choose among them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    SeedOpt,
    ShareOpt,
    TextOpt,
    budget,
    split_list,
    takes_model,
)
from langheads.io.errors import InputError
from langheads.io.files import check_writable


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
    seed: SeedOpt = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
    gradients: Annotated[
        bool, typer.Option(help="Keep every document's gradients, for the contrast rule.")
    ] = True,
) -> None:
    """Gradient scores of every head."""
    check_writable(out, text)
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
    out: Annotated[Path, typer.Option(help="Result, e.g. knockout.nc.")],
    text: Annotated[
        str | None,
        typer.Option(help="Folder of <language>.jsonl/.txt/.parquet, or hf:REPO[:CONFIG]."),
    ] = None,
    qa: Annotated[
        str | None,
        typer.Option(help="Instead of --text: folder of <language>.jsonl with questions."),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(
            help="With --qa, of answer-logprob, exact-match, f1, substring; all by default."
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="With --qa: longest reply; default 10.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="With --qa: prompt, with {context} and {question}.")
    ] = None,
    heads: Annotated[str | None, typer.Option(help="Only these, e.g. L3H7,L5H0.")] = None,
    screen: Annotated[
        str | None,
        typer.Option(help="With --text: only the share of heads a score ranks highest, lahis:0.1."),
    ] = None,
    baseline: Annotated[str, typer.Option(help="zero, mean or both.")] = "zero",
    languages: LanguagesOpt = None,
    docs: DocsOpt = 100,
    max_tokens: MaxTokensOpt = 2048,
    seed: SeedOpt = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
) -> None:
    """Exact rise in NLL, or fall of right answers, with each head off alone."""
    if (text is None) == (qa is None):
        raise InputError(
            f"{'neither' if text is None else 'both'} of --text and --qa given; give one: texts "
            "for the rise in NLL, or questions for the fall of right answers"
        )
    for_qa = {"measure": measure, "max-new-tokens": max_new_tokens, "template": template}
    misplaced = [name for name, value in for_qa.items() if value is not None and qa is None]
    if screen is not None and qa is not None:
        misplaced.append("screen")
    if misplaced:
        raise InputError(
            f"--{misplaced[0]} given with {'--text' if qa is None else '--qa'}; it belongs to "
            f"{'--qa' if qa is None else '--text'}"
        )
    check_writable(out, text, qa)
    import langheads

    shared: dict[str, Any] = {
        "heads": split_list(heads),
        "baseline": split_list(baseline) or [],
        "docs": docs,
        "max_tokens": max_tokens,
        "seed": seed,
        "bos": bos,
        "batch_tokens": budget(batch_tokens),
    }
    if text is not None:
        corpus = langheads.read_texts(text, languages=split_list(languages), seed=seed)
        dataset = langheads.knockout(model(), corpus, screen=screen, **shared)
    else:
        questions = langheads.read_questions(str(qa), languages=split_list(languages), seed=seed)
        # What was not given is left to the function's own defaults.
        given: dict[str, Any] = {"measure": split_list(measure), "max_new_tokens": max_new_tokens}
        given |= {"template": None if template is None else template.replace("\\n", "\n")}
        given = {name: value for name, value in given.items() if value is not None}
        dataset = langheads.knockout_task(model(), questions, **given, **shared)
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
    permutations: Annotated[int, typer.Option(help="Of labels, contrast rule.")] = 9999,
    seed: SeedOpt = 0,
) -> None:
    """Language-specific and language-general heads."""
    check_writable(out, scores)
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
        permutations=permutations,
        seed=seed,
    )
    heads.save(out)
    for language, specific in heads.specific.items():
        typer.echo(f"{language}: {len(specific)} specific {specific}", err=True)
    typer.echo(f"general: {len(heads.general)} {heads.general}", err=True)
    typer.echo(out)

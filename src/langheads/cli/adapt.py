"""Verbs that learn a soft head mask, and that ask questions with and without it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langheads.cli.app import app
from langheads.cli.options import BatchOpt, BosOpt, Loader, budget, takes_model
from langheads.files import check_writable

QaOpt = Annotated[
    str, typer.Option(help='Folder of <language>.jsonl with {"context", "question", "answers"}.')
]
LanguageOpt = Annotated[str, typer.Option(help="Of the questions, e.g. hi.")]


@app.command()
@takes_model
def adapt(
    model: Loader,
    heads: Annotated[Path, typer.Option(help="What select wrote.")],
    qa: QaOpt,
    language: LanguageOpt,
    out: Annotated[Path, typer.Option(help="Learned gates, e.g. mask.json.")],
    heads_of: Annotated[
        str | None, typer.Option(help="Heads of this language, or general; default: --language.")
    ] = None,
    train: Annotated[int, typer.Option(help="Questions to train on.")] = 200,
    epochs: int = 2,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW.")] = 1e-2,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW, towards 0.")] = 1e-2,
    batch_size: Annotated[int, typer.Option(help="Questions a step.")] = 4,
    validation: Annotated[float, typer.Option(help="Questions to watch, share of --train.")] = 0.1,
    template: Annotated[
        str | None, typer.Option(help="Prompt, with {context} and {question}.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Longer questions are left out.")] = 2048,
    seed: int = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
) -> None:
    """Learn the gates of a language's heads from questions (soft head mask)."""
    check_writable(out)
    import langheads
    from langheads.experiments.steering import heads_of as named
    from langheads.experiments.steering import require_heads_of

    of_languages = langheads.LanguageHeads.load(heads)
    chosen = named(of_languages, heads_of or language)
    questions = langheads.read_questions(qa, languages=[language], seed=seed)
    loaded = model()
    require_heads_of(loaded, of_languages)
    # What was not given is left to the function's own default.
    given = {} if template is None else {"template": template.replace("\\n", "\n")}
    mask = langheads.adapt(
        loaded,
        chosen,
        questions,
        language=language,
        train=train,
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch_size=batch_size,
        validation=validation,
        max_tokens=max_tokens,
        seed=seed,
        bos=bos,
        batch_tokens=budget(batch_tokens),
        **given,  # type: ignore[arg-type]
    )
    mask.save(out)
    for head, value in zip(mask.heads, mask.values, strict=True):
        typer.echo(f"{head}: {value:.4f}", err=True)
    for name, side in (("training", "train_set"), ("validation", "validation")):
        for step, loss in mask.losses[side]:
            typer.echo(f"{name} after {step} steps: {loss:.4f} nats per answer token", err=True)
    typer.echo(out)


@app.command(name="evaluate-qa")
@takes_model
def evaluate_qa(
    model: Loader,
    qa: QaOpt,
    language: LanguageOpt,
    out: Annotated[Path, typer.Option(help="Result, e.g. qa.nc.")],
    mask: Annotated[Path | None, typer.Option(help="What adapt wrote.")] = None,
    docs: Annotated[int | None, typer.Option(help="Questions; default: all.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Length limit of a reply.")] = 10,
    template: Annotated[
        str | None, typer.Option(help="Prompt, with {context} and {question}; default: the mask's.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Longer questions are left out.")] = 2048,
    bootstraps: Annotated[int, typer.Option(help="Resamples of the questions.")] = 2000,
    seed: int = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Ask the mask's training questions, too.")
    ] = False,
) -> None:
    """Right answers and their likelihood, with and without a mask."""
    check_writable(out)
    import langheads

    gates = None if mask is None else langheads.HeadMask.load(mask)
    questions = langheads.read_questions(qa, languages=[language], seed=seed)
    dataset = langheads.evaluate_qa(
        model(),
        questions,
        language=language,
        gates=gates,
        docs=docs,
        max_tokens=max_tokens,
        max_new_tokens=max_new_tokens,
        template=None if template is None else template.replace("\\n", "\n"),
        seed=seed,
        bos=bos,
        batch_tokens=budget(batch_tokens),
        bootstraps=bootstraps,
        allow_overlap=allow_overlap,
    )
    langheads.save(dataset, out)
    for condition in dataset.condition.values.tolist():
        told = dataset.sel(condition=condition)
        measured = ("accuracy", "exact_match", "f1", "answer_nll")
        values = " ".join(f"{name}={told[name].item():.4f}" for name in measured)
        typer.echo(f"{condition}: {values}", err=True)
    typer.echo(out)

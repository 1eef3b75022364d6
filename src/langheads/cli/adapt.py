"""Verbs that learn a soft head mask, and that ask questions with and without it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from langheads.cli.app import app
from langheads.cli.options import BatchOpt, BosOpt, Loader, SeedOpt, budget, takes_model
from langheads.io.arguments import MAX_CONTROLS
from langheads.io.files import check_writable

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
    seed: SeedOpt = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
) -> None:
    """Learn the gates of a language's heads from questions (soft head mask)."""
    check_writable(out, heads, qa)
    import langheads
    from langheads.experiments.language_heads import heads_of as named
    from langheads.experiments.language_heads import require_heads_of

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
    controls: Annotated[
        int | None,
        typer.Option(
            max=MAX_CONTROLS,
            help="Random heads beside a mask: in its own language and settings trained alike, "
            "with one mask of all heads; else under its gates; default: 3.",
        ),
    ] = None,
    docs: Annotated[int | None, typer.Option(help="Questions; default: all.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Length limit of a reply.")] = 10,
    template: Annotated[
        str | None, typer.Option(help="Prompt, with {context} and {question}; default: the mask's.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longer questions are left out; default: as for the mask.")
    ] = None,
    bootstraps: Annotated[int, typer.Option(help="Resamples of the questions.")] = 2000,
    seed: SeedOpt = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Ask the mask's training questions, too.")
    ] = False,
) -> None:
    """Right answers and their likelihood, with and without a mask, and beside random heads."""
    check_writable(out, qa, mask)
    import langheads
    from langheads.experiments.softmask.controls import (
        LANGUAGE,
        compare_masks,
        evaluate_moved,
    )
    from langheads.experiments.softmask.evaluation import MEASURES
    from langheads.io.errors import InputError

    if controls is not None and (controls < 0 or (controls and mask is None)):
        raise InputError(
            f"--controls {controls} asked for; it takes a number from 0, and needs --mask"
        )
    gates = None if mask is None else langheads.HeadMask.load(mask)
    if controls is None:
        controls = 0 if gates is None else 3
    questions = langheads.read_questions(qa, languages=[language], seed=seed)
    shared: dict[str, Any] = {
        "language": language,
        "docs": docs,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "batch_tokens": budget(batch_tokens),
        "bootstraps": bootstraps,
    }
    own: dict[str, Any] = {
        "template": None if template is None else template.replace("\\n", "\n"),
        "max_tokens": max_tokens,
        "bos": bos,
    }
    as_learned = not allow_overlap and all(value is None for value in own.values())
    own["allow_overlap"] = allow_overlap
    if gates is not None and controls and as_learned and gates.language == language:
        dataset = compare_masks(model(), gates, qa, controls=controls, **shared)
    elif gates is not None and controls:
        dataset = evaluate_moved(model(), gates, questions, controls=controls, **shared, **own)
    else:
        dataset = langheads.evaluate_qa(model(), questions, gates=gates, **shared, **own)
    langheads.save(dataset, out)

    for condition in dataset.condition.values.tolist():
        told = dataset.sel(condition=condition)
        values = " ".join(f"{name}={told[name].item():.4f}" for name in MEASURES)
        typer.echo(f"{condition}: {values}", err=True)
    if controls:
        told = dataset.sel(condition=LANGUAGE)
        for name in MEASURES:
            mean, low, high = (
                told[f"versus_random_{name}{end}"].item() for end in ("", "_low", "_high")
            )
            typer.echo(
                f"{name}, language heads over random heads: {mean:+.4f} [{low:+.4f}, {high:+.4f}]",
                err=True,
            )
    typer.echo(out)

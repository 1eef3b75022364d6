"""The verb that shows where heads look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from langheads.cli.app import app
from langheads.cli.options import BosOpt, Loader, ScoreOpt, split_list, takes_model
from langheads.io.errors import InputError
from langheads.io.files import check_writable


@app.command()
@takes_model
def attention(
    model: Loader,
    text: Annotated[str, typer.Option(help="The text itself.")],
    heads: Annotated[
        str, typer.Option(help="What select wrote, scores.nc for its top heads, or L3H7,L5H0.")
    ],
    out: Annotated[Path, typer.Option(help="attention.json for the report, or a page .html.")],
    beside: Annotated[str | None, typer.Option(help="A second text, shown beside it.")] = None,
    gates: Annotated[
        str | None, typer.Option(help="Show the text again with these heads gated, L3H7,L5H0.")
    ] = None,
    gate: Annotated[float, typer.Option(help="Their gate; 0 is off.")] = 0.0,
    language: Annotated[str | None, typer.Option(help="Whose heads or scores.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Gives each head its score.")] = None,
    score: ScoreOpt = "lahis",
    top: Annotated[int, typer.Option(help="How many heads, of scores.nc.")] = 8,
    labels: Annotated[str | None, typer.Option(help="Names of the texts, e.g. zh,en.")] = None,
    span: Annotated[
        list[str] | None, typer.Option(help="Points out a part, name=part; may be repeated.")
    ] = None,
    window: Annotated[str | None, typer.Option(help="Show only these units, e.g. 100:200.")] = None,
    words: Annotated[
        bool | None, typer.Option("--words/--tokens", help="Join tokens to words.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Texts are cut here.")] = 512,
    bos: BosOpt = None,
) -> None:
    """Where chosen heads look in a text."""
    check_writable(out, heads, scores)
    if out.suffix not in (".json", ".html"):
        raise InputError(f"cannot save attention as {out}; allowed are .html and .json")
    for given in (text, beside):
        # A folder is what --text takes in other verbs.
        if given is not None and len(given) < 255 and "\0" not in given and Path(given).exists():
            raise InputError(f"{given} is a file or folder; give the text itself, in quotes")
    options: dict[str, Any] = {"spans": _spans(span), "window": _window(window)}
    import langheads

    chosen: Any
    if heads.endswith(".nc"):
        chosen = langheads.load_result(heads)
    elif heads.endswith(".json"):
        chosen = langheads.LanguageHeads.load(heads)
    else:
        chosen = split_list(heads)
    view = langheads.show_attention(
        model(),
        text,
        chosen,
        language=language,
        top=top,
        scores=None if scores is None else langheads.load_result(scores),
        score=score,
        beside=beside,
        gates=split_list(gates),
        gate=gate,
        labels=split_list(labels),
        pool_words=words,
        max_tokens=max_tokens,
        bos=bos,
        **options,
    )
    typer.echo(view.save(out))


def _spans(given: list[str] | None) -> dict[str, str]:
    spans = {}
    for each in given or []:
        name, equals, part = each.partition("=")
        if not (name and equals and part):
            raise InputError(f"--span {each!r}: write name=part, such as answer=baker")
        spans[name] = part
    return spans


def _window(given: str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    start, _, stop = given.partition(":")
    try:
        return int(start), int(stop)
    except ValueError:
        raise InputError(f"--window {given!r}: write first and last + 1, like 100:200") from None

"""The verb that lets a model reply under gates and shifts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langheads.cli.app import app
from langheads.cli.options import BatchOpt, BosOpt, Loader, SeedOpt, budget, split_list, takes_model
from langheads.io.arguments import MAX_CONTROLS
from langheads.io.errors import InputError
from langheads.io.files import check_writable, write_text_atomically

if TYPE_CHECKING:
    from langheads.heads import LanguageHeads


@app.command()
@takes_model
def generate(
    model: Loader,
    prompts: Annotated[Path, typer.Option(help='Lines of {"prompt", "language", "id"}.')],
    out: Annotated[Path, typer.Option(help="Replies, e.g. replies.jsonl.")],
    heads: Annotated[Path | None, typer.Option(help="What select wrote.")] = None,
    gate: Annotated[
        list[str] | None, typer.Option(help="zh=0, or general=0; may be given again.")
    ] = None,
    shift: Annotated[
        list[str] | None, typer.Option(help="zh-en=1: from en to zh; needs --text.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Gates that adapt learned.")] = None,
    baseline: Annotated[str, typer.Option(help="zero or mean (needs --text).")] = "zero",
    text: Annotated[
        str | None, typer.Option(help="Folder of <language>.jsonl/.txt/.parquet, or hf:REPO.")
    ] = None,
    docs: Annotated[int, typer.Option(help="Documents a language for means of z.")] = 100,
    max_tokens: Annotated[int, typer.Option(help="Those documents are cut here.")] = 2048,
    max_new_tokens: Annotated[int, typer.Option(help="Length limit of a reply.")] = 40,
    temperature: Annotated[float, typer.Option(help="0 is greedy; else from 1e-4 to 1e4.")] = 0.0,
    seed: SeedOpt = 0,
    detector: Annotated[str, typer.Option(help="py3langid, lingua or fasttext.")] = "py3langid",
    detector_model: Annotated[Path | None, typer.Option(help="fastText's model file.")] = None,
    candidates: Annotated[
        str | None, typer.Option(help="Languages a reply can be in, e.g. en,zh; default: all.")
    ] = None,
    min_words: Annotated[int, typer.Option(help="Shorter lines are not judged.")] = 5,
    sure: Annotated[float, typer.Option(help="The detector must be surer than this.")] = 0.3,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Let the untouched model reply, too.")
    ] = True,
    controls: Annotated[
        int,
        typer.Option(
            max=MAX_CONTROLS, help="Draws of random heads of the same layers under the same gates."
        ),
    ] = 3,
    chat: Annotated[bool, typer.Option("--chat", help="Use the chat template.")] = False,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keys and values.")] = True,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
) -> None:
    """Replies under gates, with language measures; OUT.summary.json has their means and origin."""
    summary_out = out.with_suffix(".summary.json")
    for written in (out, summary_out):
        check_writable(written, prompts, heads, mask, text, detector_model)
    if docs < 1:
        raise InputError(f"--docs {docs} asked for; at least 1 document a language is needed")
    if controls < 0:
        raise InputError(f"--controls {controls} asked for; 0 or more are allowed")
    gates, shifts = _assigned("--gate", gate), _assigned("--shift", shift)
    import langheads
    from langheads.experiments.replies.judge import require_known
    from langheads.experiments.replies.plan import check_steering
    from langheads.experiments.replies.records import reply_provenance, reply_records
    from langheads.text import Rules
    from langheads.text import detector as detector_of
    from langheads.text.requests import read_requests

    requests = read_requests(prompts)
    detect = detector_of(detector, candidates=split_list(candidates), model_path=detector_model)
    learned = None if mask is None else langheads.HeadMask.load(mask)
    chosen = None if heads is None else langheads.LanguageHeads.load(heads)
    corpus = None if text is None else langheads.read_texts(text, seed=seed)
    pairs = {_pair(name, chosen): amount for name, amount in shifts.items()}
    # Before the model is loaded.
    check_steering(chosen, gates, pairs, baseline, corpus)
    require_known([request.language for request in requests], detect)
    settings: dict[str, Any] = {
        "heads": chosen,
        "gate": gates,
        "shift": pairs,
        "mask": learned,
        "baseline": baseline,
        "corpus": corpus,
        "docs": docs,
        "max_tokens": max_tokens,
        "compare": compare,
        "controls": controls,
        "rules": Rules(min_words=min_words, sure=sure),
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
        "use_cache": cache,
        "chat": chat,
        "bos": bos,
    }
    loaded = model()
    records, summary = reply_records(
        loaded, requests, detect, **settings, batch_tokens=budget(batch_tokens)
    )
    made = reply_provenance(loaded, requests, detect, source=str(prompts), **settings)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    write_text_atomically(out, "".join(lines))
    document = {"summary": summary, "provenance": made}
    write_text_atomically(summary_out, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    random = summary.pop("random_heads", None)
    typer.echo(_shown(summary), err=True)
    if random is not None:
        draws = random.pop("draws")
        means = {name: found and found["mean"] for name, found in random.items()}
        typer.echo(f"random heads, mean of {len(draws)}: {_shown(means)}", err=True)
    typer.echo(out)


def _shown(numbers: dict[str, Any]) -> str:
    """Names and rounded numbers in one line."""
    told = {k: round(v, 4) if isinstance(v, float) else v for k, v in numbers.items()}
    return " ".join(f"{key}={'none' if v is None else v}" for key, v in told.items())


def _assigned(option: str, given: list[str] | None) -> dict[str, float]:
    """Name -> number of each ``zh=0``."""
    found: dict[str, float] = {}
    for each in given or ():
        name, _, value = each.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not name or not abs(number) < float("inf"):
            example = "zh=0" if option == "--gate" else "zh-en=1"
            raise InputError(f"{option} {each!r}: write name and number like {example}")
        if name in found:
            raise InputError(f"{option} {name} was given twice; give it once")
        found[name] = number
    return found


def _pair(name: str, heads: LanguageHeads | None) -> tuple[str, str]:
    """The two languages of ``zh-en``; a language's own name may have a hyphen."""
    known = () if heads is None else tuple(heads.specific)
    cuts = [i for i, character in enumerate(name) if character == "-"]
    pairs = [(name[:i], name[i + 1 :]) for i in cuts]
    fitting = [pair for pair in pairs if pair[0] in known and pair[1] in known]
    if len(fitting) != 1:
        raise InputError(
            f"--shift {name}: write two languages of the head set like zh-en; it has "
            f"{', '.join(known) or 'none, since --heads was not given'}"
        )
    return fitting[0]

"""The command line: each verb is one Python function with the same keywords.

Nothing heavy is imported before a verb runs, so ``--help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langheads.errors import InputError, LangheadsError
from langheads.files import check_writable

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# typer brings its own copy of click in some versions and uses the real one in others; the base of
# its public exceptions is the same class name in both.
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)

app = typer.Typer(
    name="langheads",
    help="Find the attention heads that carry a language, and prove whether they do.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ModelArg = Annotated[str, typer.Argument(help="Hugging Face id, local folder, or demo.")]
TextOpt = Annotated[
    str, typer.Option(help="Folder of <language>.jsonl/.txt/.parquet, or hf:REPO[:CONFIG].")
]
LanguagesOpt = Annotated[str | None, typer.Option(help="Languages, e.g. en,zh; all by default.")]
MethodOpt = Annotated[
    str, typer.Option(help="Scores, of lahis, lahis-paper, lahis-sequential, taylor.")
]
DocsOpt = Annotated[int, typer.Option(help="Documents a language.")]
MaxTokensOpt = Annotated[int, typer.Option(help="Documents are cut here.")]
ControlsOpt = Annotated[int, typer.Option(help="Random head sets, matched layer by layer.")]
BosOpt = Annotated[
    bool | None, typer.Option("--bos/--no-bos", help="Prepend BOS; default: as the tokenizer.")
]
BatchOpt = Annotated[str, typer.Option(help="Tokens a batch, or auto; halved if memory runs out.")]
DtypeOpt = Annotated[str | None, typer.Option(help="float32, float64, bfloat16, float16.")]
DeviceOpt = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.")]
DeviceMapOpt = Annotated[str | None, typer.Option(help="Placement over several devices: auto.")]
RevisionOpt = Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")]
RemoteOpt = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that the model's repository brings.")
]
ScoreOpt = Annotated[str, typer.Option(help="Which score of the file.")]
QuantileOpt = Annotated[float, typer.Option(help="Heads above this quantile are listed.")]
GeneralOpt = Annotated[int, typer.Option(help="Heads on so many lists are general.")]
ShareOpt = Annotated[float, typer.Option(help="At most this share of all heads a language.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Find the attention heads that carry a language, and prove whether they do."""


@app.command()
def score(
    model: ModelArg,
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
    dtype: DtypeOpt = None,
    device: DeviceOpt = None,
    device_map: DeviceMapOpt = None,
    revision: RevisionOpt = None,
    trust_remote_code: RemoteOpt = False,
) -> None:
    """Gradient scores of every head."""
    check_writable(out)
    import langheads

    corpus = langheads.read_texts(text, languages=_list(languages), seed=seed)
    dataset = langheads.score(
        _load(model, dtype, device, device_map, revision, trust_remote_code),
        corpus,
        method=_list(method) or [],
        docs=docs,
        max_tokens=max_tokens,
        seed=seed,
        bos=bos,
        batch_tokens=_budget(batch_tokens),
        gradients=gradients,
    )
    typer.echo(langheads.save(dataset, out))


@app.command()
def knockout(
    model: ModelArg,
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
    dtype: DtypeOpt = None,
    device: DeviceOpt = None,
    device_map: DeviceMapOpt = None,
    revision: RevisionOpt = None,
    trust_remote_code: RemoteOpt = False,
) -> None:
    """Exact rise in NLL with each head off alone."""
    check_writable(out)
    import langheads

    corpus = langheads.read_texts(text, languages=_list(languages), seed=seed)
    dataset = langheads.knockout(
        _load(model, dtype, device, device_map, revision, trust_remote_code),
        corpus,
        heads=_list(heads),
        baseline=_list(baseline) or [],
        docs=docs,
        max_tokens=max_tokens,
        seed=seed,
        bos=bos,
        batch_tokens=_budget(batch_tokens),
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


@app.command()
def ablate(
    model: ModelArg,
    heads: Annotated[Path, typer.Option(help="What select wrote.")],
    text: TextOpt,
    out: Annotated[Path, typer.Option(help="Result, e.g. ablation.nc.")],
    baseline: Annotated[str, typer.Option(help="zero, mean or both.")] = "zero,mean",
    controls: ControlsOpt = 100,
    languages: LanguagesOpt = None,
    docs: DocsOpt = 100,
    max_tokens: Annotated[int | None, typer.Option(help="By default that of the scores.")] = None,
    seed: Annotated[int | None, typer.Option(help="By default that of the scores.")] = None,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Prove on scored documents all the same.")
    ] = False,
    dtype: DtypeOpt = None,
    device: DeviceOpt = None,
    device_map: DeviceMapOpt = None,
    revision: RevisionOpt = None,
    trust_remote_code: RemoteOpt = False,
) -> None:
    """Specificity matrix with matched random controls."""
    check_writable(out)
    import langheads

    chosen = langheads.LanguageHeads.load(heads)
    corpus = langheads.read_texts(text, languages=_list(languages), seed=seed or 0)
    dataset = langheads.ablate(
        _load(model, dtype, device, device_map, revision, trust_remote_code),
        chosen,
        corpus,
        baseline=_list(baseline) or [],
        controls=controls,
        docs=docs,
        max_tokens=max_tokens,
        seed=seed,
        bos=bos,
        batch_tokens=_budget(batch_tokens),
        allow_overlap=allow_overlap,
    )
    typer.echo(langheads.save(dataset, out))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of results.")],
    out: Annotated[Path | None, typer.Option(help="Page; RUN/report.html by default.")] = None,
) -> None:
    """One offline page from a folder of results."""
    import langheads

    typer.echo(langheads.report(run, out))


@app.command()
def run(
    model: ModelArg,
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
    seed: int = 0,
    bos: BosOpt = None,
    batch_tokens: BatchOpt = "auto",
    dtype: DtypeOpt = None,
    device: DeviceOpt = None,
    device_map: DeviceMapOpt = None,
    revision: RevisionOpt = None,
    trust_remote_code: RemoteOpt = False,
) -> None:
    """score, select, ablate and report in one go."""
    from langheads import pipeline, read_texts

    corpus = read_texts(text, languages=_list(languages), seed=seed)
    page = pipeline.run(
        _load(model, dtype, device, device_map, revision, trust_remote_code),
        corpus,
        out,
        method=_list(method) or [],
        docs=docs,
        proof_docs=proof_docs,
        controls=controls,
        max_tokens=max_tokens,
        seed=seed,
        bos=bos,
        batch_tokens=_budget(batch_tokens),
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


def main() -> None:
    """Entry point: one line on stderr and exit code 2 for every expected error."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    # Before torch is imported: on a busy machine, threads that spin for long while they wait for
    # each other cost ten times the work itself; threads that never spin cost a quarter on an idle
    # one.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if not sys.stderr.isatty():
        # Progress bars are for people; in a log they bury the one line that matters.
        os.environ.setdefault("TQDM_DISABLE", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        # Some versions of typer turn Ctrl-C into a returned exit code.
        if app(arguments or ["--help"], prog_name="langheads", standalone_mode=False) == 130:
            raise KeyboardInterrupt
    except (LangheadsError, _UsageError) as error:
        if debug:
            raise
        message = error.format_message() if isinstance(error, _UsageError) else str(error)  # type: ignore[attr-defined]
        typer.echo(f"error: {' '.join(message.split())}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("error: interrupted; nothing half-written was left", err=True)
        sys.exit(130)


def _load(
    model: str,
    dtype: str | None,
    device: str | None,
    device_map: str | None,
    revision: str | None,
    trust_remote_code: bool,
) -> TransformerBridge:
    import langheads

    return langheads.load(
        model,
        dtype=dtype,
        device=device,
        device_map=device_map,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )


def _list(value: str | None) -> list[str] | None:
    return None if value is None else [part.strip() for part in value.split(",")]


def _budget(value: str) -> Any:
    if value == "auto":
        return value
    try:
        return int(value)
    except ValueError:
        raise InputError(f"--batch-tokens {value!r}: allowed are auto or a number > 0") from None

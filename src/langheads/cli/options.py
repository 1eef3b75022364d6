"""Options that several verbs share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langheads.io.arguments import MAX_CONTROLS, MAX_SEED
from langheads.io.errors import InputError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

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
ControlsOpt = Annotated[
    int, typer.Option(max=MAX_CONTROLS, help="Random head sets, matched layer by layer.")
]
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
SeedOpt = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="Order of documents, and of whatever is drawn.")
]
ScoredSeedOpt = Annotated[
    int | None, typer.Option(min=0, max=MAX_SEED, help="By default that of the scores.")
]
ScoreOpt = Annotated[str, typer.Option(help="Which score of the file.")]
QuantileOpt = Annotated[float, typer.Option(help="Heads above this quantile are listed.")]
GeneralOpt = Annotated[int, typer.Option(help="Heads on so many lists are general.")]
ShareOpt = Annotated[float, typer.Option(help="At most this share of all heads a language.")]

Loader = Callable[[], "TransformerBridge"]


def takes_model(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb MODEL and the options that load it; its `model` is then a function that does.

    So a verb can look at its other arguments before it loads gigabytes.
    """

    @functools.wraps(verb)
    def command(
        model: str,
        dtype: str | None,
        device: str | None,
        device_map: str | None,
        revision: str | None,
        trust_remote_code: bool,
        **arguments: Any,
    ) -> None:
        def load() -> TransformerBridge:
            import langheads

            return langheads.load(
                model,
                dtype=dtype,
                device=device,
                device_map=device_map,
                revision=revision,
                trust_remote_code=trust_remote_code,
            )

        verb(model=load, **arguments)

    def option(name: str, kind: Any, default: Any) -> inspect.Parameter:
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
        )

    first, *own = inspect.signature(verb, eval_str=True).parameters.values()
    parameters = [
        first.replace(annotation=ModelArg),
        *own,
        option("dtype", DtypeOpt, None),
        option("device", DeviceOpt, None),
        option("device_map", DeviceMapOpt, None),
        option("revision", RevisionOpt, None),
        option("trust_remote_code", RemoteOpt, False),
    ]
    # typer reads the signature and the annotations of what it is given.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def split_list(value: str | None) -> list[str] | None:
    """The parts of ``en,zh``; None for an option that was not given."""
    return None if value is None else [part.strip() for part in value.split(",")]


def budget(value: str) -> int | str:
    """Of --batch-tokens."""
    if value == "auto":
        return value
    try:
        return int(value)
    except ValueError:
        raise InputError(f"--batch-tokens {value!r}: allowed are auto or a number > 0") from None

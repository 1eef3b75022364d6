"""The verbs, each made from one Python function: its signature gives the options, its docstring
their help.

The command line itself adds only what follows from types: MODEL and the options of `load` where
a function takes a model, files where it takes what is in them, ``--out`` where it gives a result,
``--csv`` for its table.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from langheads.cli.carry_out import carry_out
from langheads.cli.on_ray import run_on_ray
from langheads.cli.parts import DRY_RUN, PARTS_OPTIONS
from langheads.cli.signatures import Function, Parameter, plain, read_function
from langheads.cli.tell import tell
from langheads.cli.values import LIMITS, flag, keyword, shown_default, type_of
from langheads.cli.verbs import DEFAULT_OUT, IN_PARTS, MODEL, VERBS, WRITTEN, runs_a_model
from langheads.io.apart import ready
from langheads.io.errors import InputError
from langheads.io.parts import COMMAND, parts_folder
from langheads.io.schemas import files_in_words

_CSV = Parameter(
    "csv", ("bool",), False, False, "Write results as tables, too, each beside its file as .csv."
)
_NOT_MERGED = ("trust_remote_code", "on")


def make_app(asked: str | None = None) -> typer.Typer:
    """The verb asked for, or all; built on each call, as scores can be registered in between."""
    app = typer.Typer(
        name="langheads",
        help="Find the attention heads that carry a language, and prove whether they do.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for verb, name in VERBS.items() if asked not in VERBS else [(asked, VERBS[asked])]:
        function = read_function(name)
        first_line, text = function.text.partition("\n")[0], plain(function.text)
        more = files_in_words() if verb == "report" else None
        command = app.command(verb, help=text, short_help=first_line, epilog=more)
        command(_command(verb, function))
    app.command()(merge)
    return app


def _tell_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"langheads {version('langheads')}")
        raise typer.Exit
    return asked


def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show it and stop.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """Options before a verb; `main` has removed them by then."""


def _command(verb: str, function: Function) -> Callable[..., None]:
    """The function that typer makes a command of."""

    def command(**given: Any) -> None:
        if any(name != "out" and str(of).endswith(".nc") for name, of in given.items()):
            # Starts while others import, which is most of what a small verb takes.
            ready("langheads.io.netcdf:digest_and_harm")
        asked = {k: v for k, v in given.items() if v not in (None, [])}
        on_ray = "on" in asked and not asked.get("dry_run")
        (run_on_ray if on_ray else carry_out)(verb, asked)

    parameters = [*_parameters(verb, function)]
    # typer reads the signature and the annotations of what it is given.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _parameters(verb: str, function: Function) -> Iterator[inspect.Parameter]:
    """What typer asks for: the function's first argument, what must be given, what may be."""
    first, *others = function.parameters
    loading = read_function("load").parameters if MODEL in first.types else ()
    options = [p for p in others if type_of(p) is not None]
    if first.name == "out":
        options.insert(0, first)
    else:
        given = loading[0] if loading else first
        name = given.name.upper()
        argument = typer.Argument(help=given.help, metavar=name, show_default=False)
        yield keyword(given.name, Annotated[str, argument])
    if "out" not in (p.name for p in function.parameters):
        default = DEFAULT_OUT.get(verb)
        text = WRITTEN[function.returns].format(verb=verb)
        if default:
            text = f"By default {first.name.upper()}/{default}."
        options.append(Parameter("out", ("str", "Path"), not default, None, text))
    options.append(_CSV)
    yield from map(_option, sorted(options, key=lambda p: not p.required))
    yield from map(_option, loading[1:])
    yield from PARTS_OPTIONS if verb in IN_PARTS else (DRY_RUN,) if runs_a_model(function) else ()


def _option(parameter: Parameter) -> inspect.Parameter:
    kind = type_of(parameter)
    assert kind is not None
    name = flag(parameter.name)
    if kind.shell is bool and parameter.default is not False:
        name += f"/--no-{name[2:]}"
    low, high = LIMITS.get(parameter.name, (None, None)) if kind.shell is int else (None, None)
    option = typer.Option(
        name,
        help=f"{parameter.help} {kind.note}".strip(),
        metavar=kind.metavar,
        min=low,
        max=high,
    )
    if parameter.required:
        return keyword(parameter.name, Annotated[kind.shell, option])
    default = shown_default(parameter.default)
    return keyword(parameter.name, Annotated[kind.shell | None, option], default)


def merge(
    out: Annotated[
        str, typer.Argument(help="The result, as the shards were given it.", metavar="OUT")
    ],
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="As the shards were given it.")
    ] = False,
) -> None:
    """Write the result of shards that are done.

    The last of them does so by itself. Run it in the folder that the shards were started in, on a
    machine of the same kind; makes no part, and names the shards whose parts are missing.
    """
    from langheads.io.files import read_json
    from langheads.io.records import parse

    path = parts_folder(out) / COMMAND
    if Path(out).exists() and not path.parent.exists():
        tell(f"{out} is there, and no shard waits")
        return
    if not path.is_file():
        raise InputError(f"no {path}: no shard waits; give the command itself again")
    given = parse(dict[str, Any], read_json(path), path)
    if (verb := given.pop("verb", None)) not in IN_PARTS:
        raise InputError(f"{path}: verb is {verb!r:.60}, expected one of {', '.join(IN_PARTS)}")
    given |= {"out": out}
    expected = {p.name: p for p in _parameters(verb, read_function(VERBS[verb]))}
    for name, parameter in expected.items():
        if name in given or parameter.default is parameter.empty:
            parse(parameter.annotation, given.get(name), f"{path}: {name}")
    # Code of others is run, and a cluster is used, only where that was asked for here.
    given = {name: value for name, value in given.items() if name not in _NOT_MERGED}
    given |= {"trust_remote_code": True} if trust_remote_code else {}
    carry_out(verb, given | {"merge": True})

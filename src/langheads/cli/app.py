"""The verbs, each made from one Python function: its signature gives the options, its docstring
their help.

By itself the command line adds only what follows from types: MODEL and the options of `load` where
a function takes a model, files where it takes what is in them, ``--out`` where it gives a result,
``--csv`` for its table.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from langheads.cli.checks import check
from langheads.cli.on_ray import run_on_ray
from langheads.cli.parts import DRY_RUN, PARTS_OPTIONS, merge, run_in_parts, run_model
from langheads.cli.signatures import Function, Parameter, plain, read_function
from langheads.cli.tell import ending_of, lines_about, path_of, table_of, tell, write_csv
from langheads.cli.values import LIMITS, flag, keyword, kind_of, shown_default
from langheads.io.apart import ready
from langheads.io.cost import counted, spent, spent_in_words
from langheads.io.files import check_suffix, check_writable
from langheads.io.schemas import files_in_words

VERBS = {
    "score": "score",
    "knockout": "knockout",
    "knockout-task": "knockout_task",
    "select": "select",
    "classify": "classify",
    "ablate": "ablate",
    "attribute": "attribute",
    "attention": "show_attention",
    "generate": "generate_replies",
    "transfer": "transfer",
    "adapt": "adapt",
    "evaluate-qa": "evaluate_qa",
    "prune": "prune",
    "compare": "compare",
    "report": "report",
    "cite": "cite",
    "run": "run",
    "demo": "pipeline.demo",
}
"""Verb -> the public function that it is."""
IN_PARTS = (
    *("score", "knockout", "knockout-task", "ablate", "generate", "transfer", "evaluate-qa", "run"),
)
"""Verbs whose work is kept in parts."""
_MODEL = "TransformerBridge"
_RESULTS = (".nc", ".json", ".jsonl")
_WRITTEN = {
    "xr.Dataset": "Result, e.g. {verb}.nc.",
    "LanguageHeads": "Head set, e.g. heads.json.",
    "HeadClasses": "Classes, e.g. classes.json.",
    "HeadMask": "Learned gates, e.g. mask.json.",
    "Replies": "Replies, e.g. replies.jsonl; OUT.summary.json stands beside it.",
    "AttentionView": "For the report attention.json, or a page .html.",
}
"""Type of a result -> what --out is."""
_SUFFIX = {
    "xr.Dataset": ".nc",
    **dict.fromkeys(("LanguageHeads", "HeadClasses", "HeadMask"), ".json"),
    "Replies": ".jsonl",
}
_CSV = Parameter(
    "csv", ("bool",), False, False, "Write results as tables, too, each beside its file as .csv."
)
_DEFAULT_OUT = {"compare": "comparison.nc", "report": "report.html", "cite": "references.bib"}
"""Where a verb writes to by itself, in the folder that it reads."""


def make_app(asked: str | None = None) -> typer.Typer:
    """The verb that is asked for, or all if it is none; read anew each time, as scores can be
    registered in the meantime."""
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
    """What may stand before a verb; `main` has taken it out by then."""


def _command(verb: str, function: Function) -> Callable[..., None]:
    """What typer makes a command of."""

    def command(**given: Any) -> None:
        if any(name != "out" and str(of).endswith(".nc") for name, of in given.items()):
            # Starts while others import, which is most of what a small verb takes.
            ready("langheads.io.netcdf:told")
        carry_out(verb, {k: v for k, v in given.items() if v not in (None, [])})

    more = PARTS_OPTIONS if verb in IN_PARTS else (DRY_RUN,) if _runs_a_model(function) else ()
    parameters = [*_parameters(verb, function), *more]
    # typer reads the signature and the annotations of what it is given.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _parameters(verb: str, function: Function) -> Iterator[inspect.Parameter]:
    """What typer asks for: the function's first argument, what must be given, what may be."""
    first, *others = function.parameters
    loading = read_function("load").parameters if _MODEL in first.types else ()
    options = [p for p in others if kind_of(p) is not None]
    if first.name == "out":
        options.insert(0, first)
    else:
        given = loading[0] if loading else first
        argument = typer.Argument(help=given.help, show_default=False)
        yield keyword(given.name, Annotated[str, argument])
    if "out" not in (p.name for p in function.parameters):
        default = _DEFAULT_OUT.get(verb)
        told = _WRITTEN[function.returns].format(verb=verb)
        if default:
            told = f"By default {first.name.upper()}/{default}."
        options.append(Parameter("out", ("str", "Path"), not default, None, told))
    options.append(_CSV)
    yield from map(_option, sorted(options, key=lambda p: not p.required))
    yield from map(_option, loading[1:])


def _option(parameter: Parameter) -> inspect.Parameter:
    kind = kind_of(parameter)
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


@counted()
def carry_out(verb: str, given: Mapping[str, Any], load: Callable[..., Any] | None = None) -> None:
    """Read what was given, refuse what cannot work, load the model (`load`, or `langheads.load`),
    call, save and tell."""
    function = read_function(VERBS[verb])
    first = function.parameters[0]
    values, files = {}, {}
    for parameter in function.parameters:
        kind, name = kind_of(parameter), parameter.name
        if kind is None or name not in given or _MODEL in parameter.types:
            continue
        values[name] = given[name] if kind.parse is None else kind.parse(flag(name), given[name])
        if kind.read is not None and name != "out":
            files[name] = kind.read
    default_out = _DEFAULT_OUT.get(verb)
    out = given.get("out")
    if out is None and default_out is not None:
        out = str(Path(given[first.name]) / default_out)
    _check_out(function, str(out), [given[name] for name in files], default_out)
    absent = dict.fromkeys(p.name for p in function.parameters)
    for name, read in files.items():
        values[name] = read(values[name], absent | values)
    if given.get("csv") and function.returns in _WRITTEN:
        check_writable(Path(str(out)).with_suffix(".csv"))
    check(verb, values | {"out": out})
    if values.get("as_published"):
        import langheads
        from langheads.experiments.published import published_settings

        published_settings(getattr(langheads, function.name), values)
    if "on" in given and not given.get("dry_run"):
        run_on_ray(verb, given)
        return
    module, _, name = f"langheads.{function.name}".rpartition(".")
    called = getattr(import_module(module), name)
    if _MODEL in first.types:
        import langheads

        asked = {p.name: given[p.name] for p in read_function("load").parameters if p.name in given}
        load = load or langheads.load
        _look_for_garbage()
        values[first.name] = load(**asked)
    _look_for_garbage()
    work = partial(called, **values)
    finish = partial(_save_and_tell, function, str(out), given)
    if _runs_a_model(function):
        run = run_in_parts if verb in IN_PARTS else run_model
        run(work, given, finish, verb=verb, model=values.get("model"), out=str(out))
    else:
        finish(work())


def _runs_a_model(function: Function) -> bool:
    return _MODEL in function.parameters[0].types or function.name == "pipeline.demo"


def _look_for_garbage() -> None:
    """See `main`; what was imported stays, and need never be looked through."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _check_out(function: Function, out: str, inputs: list[str], default_out: str | None) -> None:
    """Refuse a file that cannot be written, or that is read."""
    if function.parameters[0].name == "run" and Path(inputs[0]).is_dir():
        inputs = [
            str(path)
            for path in Path(inputs[0]).iterdir()
            if path.suffix in _RESULTS and path.name != default_out
        ]
    if function.returns in _WRITTEN or default_out is not None:
        check_writable(out, *inputs)
        named = Path(default_out).suffix if default_out else _SUFFIX.get(function.returns)
        if named:
            check_suffix(out, named)
    if function.returns == "Replies":
        check_writable(Path(out).with_suffix(".summary.json"), *inputs)


def _save_and_tell(function: Function, out: str, given: Mapping[str, Any], result: Any) -> None:
    """Save a result that its function has not saved; say what it is and where."""
    if function.returns == "xr.Dataset":
        from langheads import save

        save(result, out)
    elif function.returns in _WRITTEN:
        result.save(out)
    if given.get("csv"):
        for path in write_csv(result, out, given.get("run")):
            tell(str(path), beside=True)
    end = ending_of(function.name, result)
    for line in end.headline if end else lines_about(result):
        tell(line.rstrip(), beside=True)
    if (table := end.table if end else table_of(result)) is not None:
        for line in table.split("\n"):
            tell(line)
    tell(str(path_of(result) or out))
    if _runs_a_model(function):
        tell(spent_in_words(spent()), beside=True)
    if end:
        tell(f"next: {end.next}", beside=True)

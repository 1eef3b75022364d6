"""One verb, from its arguments to what is printed about its result."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from langheads.cli.checks import check
from langheads.cli.parts import run_model
from langheads.cli.signatures import Function, read_function
from langheads.cli.tell import ending_of, lines_about, path_of, table_of, tell, write_csv
from langheads.cli.values import flag, type_of
from langheads.cli.verbs import DEFAULT_OUT, MODEL, SUFFIX, VERBS, WRITTEN, runs_a_model
from langheads.io.cost import counted, spent, spent_in_words
from langheads.io.files import check_suffix, check_writable

_RESULTS = (".nc", ".json", ".jsonl")


class Prepared(NamedTuple):
    """A verb that can be carried out, as far as is known before its model is loaded."""

    function: Function
    values: dict[str, Any]
    out: str


def prepare(verb: str, given: Mapping[str, Any]) -> Prepared:
    """Read what was given; refuse what cannot work."""
    function = read_function(VERBS[verb])
    values, files = {}, {}
    for parameter in function.parameters:
        kind, name = type_of(parameter), parameter.name
        if kind is None or name not in given or MODEL in parameter.types:
            continue
        values[name] = given[name] if kind.parse is None else kind.parse(flag(name), given[name])
        if kind.read is not None and name != "out":
            files[name] = kind.read
    default_out = DEFAULT_OUT.get(verb)
    out = given.get("out")
    if out is None and default_out is not None:
        out = str(Path(given[function.parameters[0].name]) / default_out)
    _check_out(function, str(out), [given[name] for name in files], default_out)
    absent = dict.fromkeys(p.name for p in function.parameters)
    for name, read in files.items():
        values[name] = read(values[name], absent | values)
    if given.get("csv") and function.returns in WRITTEN:
        check_writable(Path(str(out)).with_suffix(".csv"))
    check(verb, values | {"out": out})
    if values.get("as_published"):
        import langheads
        from langheads.experiments.published import published_settings

        published_settings(getattr(langheads, function.name), values)
    return Prepared(function, values, str(out))


@counted()
def carry_out(verb: str, given: Mapping[str, Any], load: Callable[..., Any] | None = None) -> None:
    """Prepare, load the model (`load`, or `langheads.load`), call, save, and print what it made."""
    function, values, out = prepare(verb, given)
    module, _, name = f"langheads.{function.name}".rpartition(".")
    called = getattr(import_module(module), name)
    first = function.parameters[0]
    if MODEL in first.types:
        import langheads

        asked = {p.name: given[p.name] for p in read_function("load").parameters if p.name in given}
        load = load or langheads.load
        _look_for_garbage()
        values[first.name] = load(**asked)
    _look_for_garbage()
    work = partial(called, **values)
    finish = partial(_save_and_print, function, out, given)
    if runs_a_model(function):
        run_model(work, given, finish, verb=verb, model=values.get("model"), out=out)
    else:
        finish(work())


def _look_for_garbage() -> None:
    """See `main`; imported objects stay, so they are never searched."""
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
    if function.returns in WRITTEN or default_out is not None:
        check_writable(out, *inputs)
        named = Path(default_out).suffix if default_out else SUFFIX.get(function.returns)
        if named:
            check_suffix(out, named)
    if function.returns == "Replies":
        check_writable(Path(out).with_suffix(".summary.json"), *inputs)


def _save_and_print(function: Function, out: str, given: Mapping[str, Any], result: Any) -> None:
    """Save a result that its function has not saved; say what it is and where."""
    if function.returns == "xr.Dataset":
        from langheads import save

        save(result, out)
    elif function.returns in WRITTEN:
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
    if runs_a_model(function):
        tell(spent_in_words(spent()), beside=True)
    if end:
        tell(f"next: {end.next}", beside=True)

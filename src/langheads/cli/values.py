"""What each type of argument looks like on a command line, and how it is read from there."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from langheads.cli.signatures import Parameter
from langheads.io.arguments import MAX_CONTROLS, MAX_SEED
from langheads.io.errors import InputError
from langheads.scores import registry

LIMITS = {"seed": (0, MAX_SEED), "n_controls": (0, MAX_CONTROLS)}
"""Lowest and highest number, by the name of the argument."""


@dataclass(frozen=True)
class ArgumentType:
    """How arguments of one type are written and read."""

    metavar: str | None = None  # what stands for the value in the help
    # The type of the shell's text; a list where the option may be repeated.
    shell: Any = str
    # The value, from the option's name and the text; None takes it as it is.
    parse: Callable[[str, Any], Any] | None = None
    # The value where it is in a file, from what was parsed and the other arguments. It is read
    # before a model is loaded, and never written over.
    read: Callable[[Any, Mapping[str, Any]], Any] | None = None
    note: str = ""  # what the help says after the argument's own


def keyword(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """An argument of a command as typer reads it from a signature."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def flag(name: str) -> str:
    """An option by the name of its argument."""
    return f"--{name.replace('_', '-')}"


def type_of(parameter: Parameter) -> ArgumentType | None:
    """How an argument is given; None for what no command line can give, such as a tensor."""
    if parameter.name == "template":
        return ArgumentType("TEXT", parse=lambda _, value: value.replace("\\n", "\n"))
    if parameter.name == "method":
        return ArgumentType("A,B", parse=_names, note=f"Known are {', '.join(registry.names())}.")
    types = [name for name in _TYPES if name in parameter.types]
    if not types:
        return None
    if {"int", "str"} <= set(types):
        return ArgumentType("N|auto", parse=_auto)
    if {"int", "float"} <= set(types):
        return ArgumentType("SHARE|N", parse=_share_or_number)
    if types[0] == "int" and "None" in parameter.types and parameter.default is not None:
        return ArgumentType("N|none", parse=_number_or_none)
    if types[0] in _LISTS and (files := [name for name in types if name in _FILES]):
        return replace(_HEADS, read=lambda value, _: _file_or_names(value, files))
    if types == ["xr.Dataset"] and parameter.name == "scores":
        return _file("xr.Dataset", "scores")
    return _TYPES[types[0]]


def shown_default(default: object) -> Any:
    """A constant of Python as it would be written on the command line."""
    if isinstance(default, (tuple, list)):
        return ",".join(f"{x:g}" if isinstance(x, float) else str(x) for x in default)
    return default.replace("\n", "\\n") if isinstance(default, str) else default


def _names(option: str, value: str) -> list[str]:
    return [part.strip() for part in value.split(",")]


def _pairs(option: str, value: str) -> list[tuple[str, str]]:
    pairs = [tuple(part.split(":")) for part in _names(option, value)]
    for pair in pairs:
        if len(pair) != 2 or not all(pair):
            text = ":".join(pair)
            raise InputError(f"{option} {text!r}: write two languages, A and B, like hi:zh")
    return pairs  # type: ignore[return-value]


def _range(value: str) -> tuple[int, int]:
    start, _, stop = value.partition(":")
    return int(start), int(stop)


def _read_by(read: Callable[[str], Any], otherwise: str) -> Callable[[str, str], Any]:
    """The text as `read` parses it; a ValueError becomes an error with an example."""

    def parse(option: str, value: str) -> Any:
        try:
            return read(value)
        except ValueError:
            raise InputError(otherwise.format(option, value)) from None

    return parse


_numbers = _read_by(
    lambda value: [float(part) for part in value.split(",") if part.strip()],
    "{} {!r}: write numbers like 1.5,3",
)
_auto = _read_by(
    lambda value: value if value == "auto" else int(value),
    "{} {!r}: allowed are auto or a number > 0",
)
_share_or_number = _read_by(
    lambda value: int(value) if value.strip().isdecimal() else float(value),
    "{} {!r}: write a share like 0.1, or a number",
)
_number_or_none = _read_by(
    lambda value: None if value == "none" else int(value),
    "Invalid value for '{}': {!r} is not a valid integer, nor none",
)


def _parts(option: str, given: list[str]) -> dict[str, str]:
    parts = dict(_split(option, given, "name=part, such as answer=baker"))
    if not all(parts.values()):
        raise InputError(f"{option}: write name=part, such as answer=baker")
    return parts


def _amounts(option: str, given: list[str]) -> dict[str, float]:
    example = f"name and number like {'zh=0' if option == '--gate' else 'zh-en=1'}"
    found: dict[str, float] = {}
    for name, value in _split(option, given, example):
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise InputError(f"{option} {f'{name}={value}'!r}: write {example}")
    return found


def _split(option: str, given: list[str], example: str) -> Iterator[tuple[str, str]]:
    """Name and value of each ``name=value``."""
    seen = set()
    for each in given:
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise InputError(f"{option} {each!r}: write {example}")
        if name in seen:
            raise InputError(f"{option} {name} was given twice; give it once")
        seen.add(name)
        yield name, value


def _texts(value: str, others: Mapping[str, Any]) -> Any:
    from langheads import read_texts

    languages, seed = others.get("languages"), others.get("seed")
    aligned = others.get("aligned", False)
    if aligned is None and "allow_overlap" in others:
        # A proof takes it from the scores, which are not read yet, or from the texts themselves.
        found = read_texts(value, languages=languages, seed=seed or 0, aligned=False)
        return replace(found, aligned=None)
    return read_texts(value, languages=languages, seed=seed or 0, aligned=aligned)


def _questions(value: str, others: Mapping[str, Any]) -> Any:
    from langheads import read_questions

    languages = [others["language"]] if others.get("language") else others.get("languages")
    return read_questions(value, languages=languages, seed=others.get("seed") or 0)


def _load(name: str, path: str, *expected: str) -> Any:
    """A file, read as one of the expected types or kinds of result."""
    import langheads

    read = langheads.load_result if name == "xr.Dataset" else getattr(langheads, name).load
    return read(path, *expected)


def _file_or_names(value: str, types: list[str]) -> Any:
    for name in types:
        if value.endswith(_SUFFIX.get(name, ".json")):
            return _load(name, value)
    if "=" not in value:
        return _names("", value)
    # Heads a language, zh=L0H1,L5H7,en=L1H2: a head without a name goes to the name before.
    found: dict[str, list[str]] = {}
    for part in _names("", value):
        language, equals, head = part.rpartition("=")
        if (equals and language in found) or not (equals or found):
            raise InputError(f"--heads {value!r:.80}: write heads like zh=L0H1,L5H7,en=L1H2")
        found.setdefault(language if equals else list(found)[-1], []).append(head)
    return found


def _file(name: str, *expected: str) -> ArgumentType:
    return ArgumentType("FILE", read=lambda value, _: _load(name, value, *expected))


def _repeated(metavar: str, parse: Callable[[str, list[str]], Any]) -> ArgumentType:
    return ArgumentType(metavar, list[str], parse, note="May be given again.")


_FILES = ("LanguageHeads", "HeadMask", "HeadClasses", "xr.Dataset")
_SUFFIX = {"xr.Dataset": ".nc"}
_LIST = ArgumentType("A,B", parse=_names)
_HEADS = ArgumentType(
    "FILE|HEADS",
    read=lambda value, _: _file_or_names(value, ["LanguageHeads"]),
    note="Heads like L3H7,L5H0 or zh=L3H7,L5H0.",
)
_LISTS = {
    "HeadSet": _HEADS,
    "Iterable[str]": _LIST,
    "Sequence[str]": _LIST,
    "Sequence[float]": ArgumentType("X,Y", parse=_numbers),
    "Iterable[Pair]": ArgumentType("A:B,C:D", parse=_pairs),
}
# The first that fits is taken.
_TYPES: dict[str, ArgumentType] = {
    "Corpus": ArgumentType(
        "TEXTS",
        read=_texts,
        note="Folder of <language>.jsonl/.txt/.parquet, or hf:REPO[:CONFIG].",
    ),
    "Questions": ArgumentType(
        "FOLDER",
        read=_questions,
        note='Folder of <language>.jsonl with {"context", "question", "answers"}.',
    ),
    **_LISTS,
    **{name: _file(name) for name in _FILES},
    "tuple[int, int]": ArgumentType(
        "START:STOP", parse=_read_by(_range, "{} {!r}: write first and last + 1, like 100:200")
    ),
    "Mapping[str, float]": _repeated("NAME=NUMBER", _amounts),
    "Mapping[str, str | tuple[int, int]]": _repeated("NAME=PART", _parts),
    "Path": ArgumentType("PATH", read=lambda value, _: value),
    "bool": ArgumentType(shell=bool),
    "int": ArgumentType(shell=int),
    "float": ArgumentType(shell=float),
    "str": ArgumentType(),
}

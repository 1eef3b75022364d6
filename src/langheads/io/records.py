"""JSON as declared records (pydantic), checked where it is read and not where it is used.

An error is one line: file, line and key, what was found, what is expected. Types are strict:
``"3"`` is not a number and true is not 1. Keys that no record declares are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    WrapValidator,
    with_config,
)
from pydantic import ValidationError as Misfit
from pydantic_core import PydanticCustomError

from langheads.io.arguments import MAX_MODEL, MAX_NAME, MAX_SEED
from langheads.io.errors import InputError, LangheadsError
from langheads.io.files import check_suffix, json_lines, read_json, write_text_atomically
from langheads.io.tables import Tabular

# Not Self, which beartype knows only in decorated classes.
R = TypeVar("R", bound="Record")
S = TypeVar("S", bound="Saved")
_WORDS = {
    "string_type": "a text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
}


class Record(BaseModel):
    """What an object of JSON must hold: subclasses declare its keys.

    A record of a whole file declares, where it has them, ``format`` and ``kind`` with the only
    value that they may have, and for messages `what` the file is and what it is `made` by.
    Where `null_is_absent`, a key that holds null counts as missing.

    Example:
        >>> class Reading(Record):
        ...     gates: list[Number]
        >>> Reading.parse({"gates": [1, True]}, "a.jsonl, line 3")
        Traceback (most recent call last):
        langheads.io.errors.InputError: a.jsonl, line 3: gates[1] is True, expected a finite number
    """

    model_config = ConfigDict(strict=True, frozen=True)
    what: ClassVar[str] = "a record"
    made: ClassVar[str] = ""
    null_is_absent: ClassVar[bool] = False

    @classmethod
    def parse(cls: type[R], given: Any, where: object, **absent: Any) -> R:
        """`given`, read at `where`, as a record; `absent` fills in missing keys. Refuses other keys
        that are missing, or hold something else."""
        if not isinstance(given, Mapping):
            needed = [key for key, field in cls.model_fields.items() if field.is_required()]
            keys = ", ".join(f'"{key}"' for key in needed if key not in absent)
            raise InputError(f"{where}: expected {{{keys}}}, found {given!r:.60}")
        there = {k: v for k, v in given.items() if v is not None or not cls.null_is_absent}
        try:
            return cls.model_validate(absent | there)
        except Misfit as error:
            raise InputError(f"{where}: {_message(error, cls.model_fields)}") from error

    @classmethod
    def lines(cls: type[R], path: Path) -> Iterator[tuple[str, R]]:
        """Place and record of each line of JSON that is not blank; raises as `parse` does."""
        return ((where, cls.parse(given, where)) for where, given in json_lines(path))

    @classmethod
    def by_id(cls: type[R], given: Iterable[tuple[str, Any]]) -> dict[str, R]:
        """Id -> record of each place and content, or record; a number from 1 where one has no id.
        Refuses an id that comes twice, and as `parse` does."""
        found: dict[str, R] = {}
        for number, (where, of) in enumerate(given, start=1):
            record: Any = of if isinstance(of, cls) else cls.parse(of, where, id=number)
            if record.id in found:
                raise InputError(f"{where}: id {record.id:.60} a second time; ids must differ")
            found[record.id] = record
        return found

    @classmethod
    def load(cls: type[R], path: str | Path) -> R:
        """A JSON file as a record; refuses another format or kind, or as `parse`."""
        return cls.of_file(read_json(path), path)

    @classmethod
    def of_file(cls: type[R], given: Any, path: str | Path) -> R:
        """The content of a JSON file as a record; raises as `load`."""
        fields = cls.model_fields
        head = {key: fields[key].default for key in ("format", "kind") if key in fields}
        if not isinstance(given, Mapping) or any(given.get(k) != v for k, v in head.items()):
            version = f" of format {head['format']}" if "format" in head else ""
            raise InputError(f"{path} is not {cls.what}{version}{cls.made and f' ({cls.made})'}")
        return cls.parse(given, f"{path} is not {cls.what}")


class Saved(Tabular):
    """An object stored as a JSON file; a subclass names its `Record` and is built from one."""

    _record: ClassVar[type[Record]]
    _allow_nan: ClassVar[bool] = False

    def _document(self) -> dict[str, Any]:
        """The keys of the record, each from the attribute of its name."""
        fields = self._record.model_fields
        return {key: getattr(self, key, field.default) for key, field in fields.items()}

    @classmethod
    def _of(cls: type[S], record: Any) -> S:
        raise NotImplementedError

    @classmethod
    def _like(cls: type[S], record: Any, **made: Any) -> S:
        """From `made`, and for other fields from the record's keys of the same names."""
        names = (of.name for of in fields(cls))  # type: ignore[arg-type]
        return cls(**made, **{name: getattr(record, name) for name in names if name not in made})

    def save(self, path: str | Path) -> Path:
        """Write the JSON file (format 1), atomically; returns its path."""
        check_suffix(path, ".json")
        form: dict[str, Any] = {"ensure_ascii": False, "indent": 1, "default": list}
        text = json.dumps(self._document(), allow_nan=self._allow_nan, **form)
        return write_text_atomically(path, text)

    @classmethod
    def load(cls: type[S], path: str | Path) -> S:
        """Read a file that `save` wrote.

        Raises:
            InputError: no such file, no JSON, another format, a key that is missing or holds
                another kind of value, or values that do not belong together.
        """
        return cls.of(read_json(path), path)

    @classmethod
    def of(cls: type[S], given: Any, path: str | Path) -> S:
        """Made of the content of such a file; raises as `load`."""
        record = cls._record.of_file(given, path)
        try:
            return cls._of(record)
        except (LangheadsError, ValueError) as error:
            raise InputError(f"{path} is not {record.what}: {error}") from error


def parse(kind: Any, given: Any, where: object) -> Any:
    """A piece of JSON as a type other than a `Record`, such as ``dict[str, float]``.

    Raises:
        InputError: where it was read, key, what was found and what is expected.

    Example:
        >>> parse(dict[str, float], {"forward": 2}, "seconds")
        {'forward': 2.0}
    """
    try:
        return _adapter(kind).validate_python(given)
    except Misfit as error:
        raise InputError(f"{where}: {_message(error)}") from error


# A reader asks for one kind once a line.
@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def _message(error: Misfit, allowed: Iterable[str] = ()) -> str:
    """The first misfit in a line, or all keys that are unknown or missing."""
    errors = error.errors(include_url=False)
    first = errors[0]
    if unknown := [_key(each["loc"]) for each in errors if each["type"] == "extra_forbidden"]:
        return f"unknown key {', '.join(unknown)}; allowed are {', '.join(allowed)}"
    if absent := [each for each in errors if each["type"] == "missing"]:
        there = ", ".join(map(str, absent[0]["input"])) or "nothing"
        return f"{', '.join(_key(each['loc']) for each in absent)} missing; found {there:.80}"
    key, kind, found = _key(first["loc"]), first["type"], first["input"]
    if kind == "value_error":
        return f"{key} {first['ctx']['error']}".strip()
    words = first["msg"] if kind == "expected" else _WORDS.get(kind, "keys and values")
    return f"{key or 'it'} is {found!r:.60}, expected {words}"


def _key(place: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    key = "".join(parts).removeprefix(".")
    return key if len(key) <= 2 * MAX_NAME else f"{key[:MAX_NAME]}…"


def holds(kind: type) -> AfterValidator:
    """Checks the keys of a `TypedDict` in a mapping, which stays as it is, other keys included."""
    fits: Callable[[Any], Any] = TypeAdapter(
        with_config(ConfigDict(strict=True))(kind)
    ).validate_python

    def check(given: Any) -> Any:
        fits(given)
        return given

    return AfterValidator(check)


def expected(words: str) -> WrapValidator:
    """Our words for what a key must hold, in place of pydantic's."""

    def check(value: Any, fits: Callable[[Any], Any]) -> Any:
        try:
            return fits(value)
        except Misfit as error:
            # A validator's own message says more.
            if error.errors()[0]["type"] == "value_error":
                raise
            raise PydanticCustomError("expected", "{words}", {"words": words}) from None

    return WrapValidator(check)


def _without_lone_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"has a lone surrogate at character {error.start + 1}") from error
    return text


def _at_most(most: int) -> AfterValidator:
    def check(name: str) -> str:
        if len(name) > most:
            raise ValueError(f"is a name of {len(name)} characters, at most {most}")
        return name

    return AfterValidator(check)


def _as_text(given: Any) -> Any:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


Text = Annotated[str, AfterValidator(_without_lone_surrogates)]
Filled = Annotated[Text, Field(min_length=1), expected("a text, not empty")]
Name = Annotated[str, _at_most(MAX_NAME)]
ModelName = Annotated[str, _at_most(MAX_MODEL)]
Id = Annotated[Text, BeforeValidator(_as_text), expected("a text or a whole number")]
Number = Annotated[float, Field(allow_inf_nan=False), expected("a finite number")]
From0 = Annotated[int, Field(ge=0), expected("a whole number from 0")]
From1 = Annotated[int, Field(ge=1), expected("a whole number from 1")]
# The largest whole number that a float holds exactly.
Count = Annotated[int, Field(ge=0, le=2**53), expected("a whole number from 0")]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), expected(f"a whole number from 0 to {MAX_SEED}")]
Shape = Annotated[tuple[From1, From1], Field(strict=False), expected("two whole numbers from 1")]
Heads = list[Annotated[tuple[int, int], Field(strict=False), expected("a head [layer, head]")]]
"""Heads as pairs of layer and head."""

"""Prompts that want a reply: a line of JSON each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langheads.io.errors import InputError
from langheads.text.readers import _text, json_lines


@dataclass(frozen=True)
class Request:
    """What a reply is wanted to.

    Attributes:
        prompt: the text that the model continues.
        language: the language the reply should be in; None where none is wanted.
        id: as given, else the number of the prompt, from 1.
    """

    prompt: str
    language: str | None
    id: str


def read_requests(source: str | Path | Sequence[Mapping[str, Any]]) -> tuple[Request, ...]:
    """Read prompts for generation.

    Args:
        source: a file with a line ``{"prompt"}`` a prompt, where wanted with ``"language"`` and
            ``"id"``; or a list of such mappings. Other keys are left alone.

    Raises:
        InputError: no such file, not UTF-8 or JSON, a line without a prompt, or with an id or
            language that is none (with file and line), an id given twice, or no prompts.

    Example:
        >>> read_requests([{"prompt": "Hola, ", "language": "es"}])
        (Request(prompt='Hola, ', language='es', id='1'),)
    """
    records: list[tuple[str, Any]] = []
    if isinstance(source, str | Path):
        if not Path(source).is_file():
            raise InputError(f'no file {source}; prompts are a line of {{"prompt": ...}} each')
        records = list(json_lines(Path(source)))
    else:
        records = [(f"prompt {number}", record) for number, record in enumerate(source, start=1)]
    found: dict[str, Request] = {}
    for number, (where, record) in enumerate(records, start=1):
        request = _request(record, where, number)
        if request.id in found:
            raise InputError(f"{where}: id {request.id} was given before; ids must differ")
        found[request.id] = request
    if not found:
        name = source if isinstance(source, str | Path) else "the list"
        raise InputError(f"no prompts in {name}")
    return tuple(found.values())


def _request(record: Any, where: str, number: int) -> Request:
    prompt = record.get("prompt") if isinstance(record, Mapping) else None
    if not isinstance(prompt, str) or not prompt:
        raise InputError(f'{where}: expected {{"prompt": "..."}}, found {record!r:.60}')
    language, name = record.get("language"), record.get("id")
    if language is not None and (not isinstance(language, str) or not language):
        raise InputError(f"{where}: language must be a code like en, found {language!r:.60}")
    name = number if name is None else name
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise InputError(f"{where}: an id is a string or a number, found {name!r:.60}")
    return Request(
        prompt=_text(prompt, where),
        language=None if language is None else _text(language, where),
        id=_text(str(name), where),
    )

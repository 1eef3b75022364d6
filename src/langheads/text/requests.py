"""Prompts for replies: a line of JSON each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langheads.io.records import Filled, Id, Record
from langheads.text.readers import records


class Request(Record):
    """A prompt, and the language that its reply should be in."""

    null_is_absent = True

    prompt: Filled  # the text that the model continues
    language: Filled | None = None  # the language the reply should be in; None where none is wanted
    id: Id  # as given, else the number of the prompt, from 1


def read_requests(
    source: str | Path | Sequence[Mapping[str, Any] | Request],
) -> tuple[Request, ...]:
    """Read prompts for generation.

    Args:
        source: a file with a line ``{"prompt"}`` a prompt, optionally with ``"language"`` and
            ``"id"``; or a list of such mappings, or of requests. Other keys are ignored.

    Raises:
        InputError: no such file, not UTF-8 or JSON, a line without a prompt, or with an invalid id
            or language (with file and line), an id given twice, or no prompts.

    Example:
        >>> read_requests([{"prompt": "Hola, ", "language": "es"}])
        (Request(prompt='Hola, ', language='es', id='1'),)
    """
    return tuple(Request.by_id(records(source)).values())

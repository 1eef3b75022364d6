"""Prompts, a line of JSON each: for replies; and with a right and a wrong answer, and the tokens
between which a model must choose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import model_validator

from langheads.io.errors import InputError
from langheads.io.records import Filled, Id, Record
from langheads.text.documents import bos_prefix, shared_beginning
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


class _Line(Record, extra="forbid"):
    null_is_absent = True

    prompt: Filled
    answer: Filled
    wrong: Filled
    clean: Filled | None = None
    corrupt: Filled | None = None
    language: Filled = "und"  # ISO 639-2's code for an unnamed language

    @model_validator(mode="after")
    def _can_be_patched(self) -> _Line:
        if self.clean is not None and self.corrupt is None:
            raise ValueError("clean without corrupt; patching needs both")
        if self.corrupt == (self.clean or self.prompt):
            raise ValueError("clean and corrupt are the same, so patching changes nothing")
        return self


@dataclass(frozen=True)
class Prompt:
    """A prompt and two continuations."""

    prompt: str  # what the model reads
    answer: str  # the right continuation, with its leading space where the language writes one
    wrong: str  # the wrong continuation
    language: str  # of the prompt; ``und`` where none was given
    clean: str  # the prompt whose heads are put into the other run, usually `prompt` itself
    corrupt: str | None  # its counterpart, for instance its translation, or None
    where: str  # file and line, or number in the list, for messages

    def record(self) -> str:
        """As one line of JSON, without `where`."""
        fields = {key: value for key, value in asdict(self).items() if key != "where"}
        return json.dumps(fields, ensure_ascii=False, sort_keys=True)


class Choice(NamedTuple):
    """The tokens that the model reads, and the two candidates for the next one."""

    tokens: tuple[int, ...]
    answer: int
    wrong: int


def read_prompts(source: str | Path | Sequence[Mapping[str, Any]]) -> tuple[Prompt, ...]:
    """Read prompts.

    Args:
        source: a file with a line of JSON a prompt, ``{"prompt", "answer", "wrong"}`` and optional
            ``"language"`` and ``"corrupt"`` (with ``"clean"``, if that is not the prompt);
            or a list of such mappings.

    Raises:
        InputError: no such file, not UTF-8 or JSON, a key that is missing, unknown or no text, or
            ``clean`` without ``corrupt``, with file and line; no prompts.

    Example:
        >>> (only,) = read_prompts([{"prompt": "2 + 2 =", "answer": " 4", "wrong": " 5"}])
        >>> only.language, only.clean, only.corrupt
        ('und', '2 + 2 =', None)
    """
    found = []
    for where, record in records(source):
        line = _Line.parse(record, where)
        fields = line.model_dump() | {"clean": line.clean or line.prompt}
        found.append(Prompt(**fields, where=where))
    return tuple(found)


def choice(tokenizer: Any, text: str, prompt: Prompt, *, bos: bool) -> Choice:
    """The tokens of `text`, a form of the prompt, and the first two in which the answers differ.

    Both answers are appended to the text and tokenised as one. The model reads the tokens that the
    two share: the text, and the common beginning of the answers (``"te"`` of ``"teacher"`` and
    ``"tester"``). Refuses answers of which one begins with the whole of the other, or that share no
    token.
    """
    prefix = bos_prefix(tokenizer, bos)
    right, wrong = (
        prefix + tokenizer(text + end, add_special_tokens=False, verbose=False)["input_ids"]
        for end in (prompt.answer, prompt.wrong)
    )
    shared = shared_beginning(right, wrong)
    asked = f"{prompt.where}: answer {prompt.answer!r:.40} and wrong {prompt.wrong!r:.40}"
    if shared == min(len(right), len(wrong)):
        raise InputError(
            f"{asked} have no token in which they differ after the prompt: one begins with the "
            "whole of the other; change one of them"
        )
    if shared <= len(prefix):
        raise InputError(
            f"{asked} differ in the first token of the prompt; nothing is left to read"
        )
    return Choice(tuple(right[:shared]), right[shared], wrong[shared])

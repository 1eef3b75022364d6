"""Prompts with a right and a wrong answer, and the tokens between which a model must choose."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from langheads.io.errors import InputError
from langheads.text.readers import _text, json_lines

_NEEDED = ("prompt", "answer", "wrong")
_OPTIONAL = ("clean", "corrupt", "language")
# The code of ISO 639-2 for a language that nobody named.
_UNNAMED = "und"


@dataclass(frozen=True)
class Prompt:
    """A prompt and two ways to go on.

    Attributes:
        prompt: what the model reads.
        answer: the right way to go on, with its leading space where the language writes one.
        wrong: the other way.
        language: of the prompt; ``und`` where none was given.
        clean: the prompt whose heads are put into the other run, as a rule `prompt` itself.
        corrupt: its counterpart, for instance its translation, or None.
        where: file and line, or number in the list, for messages.
    """

    prompt: str
    answer: str
    wrong: str
    language: str
    clean: str
    corrupt: str | None
    where: str

    def record(self) -> str:
        """As one line of JSON, without where it was read."""
        fields = {key: value for key, value in asdict(self).items() if key != "where"}
        return json.dumps(fields, ensure_ascii=False, sort_keys=True)


class Choice(NamedTuple):
    """What the model reads, and the two tokens of which one comes next."""

    tokens: tuple[int, ...]
    answer: int
    wrong: int


def read_prompts(source: str | Path | Sequence[Mapping[str, Any]]) -> tuple[Prompt, ...]:
    """Read prompts.

    Args:
        source: a file with a line of JSON a prompt, ``{"prompt", "answer", "wrong"}`` and where
            wanted ``"language"`` and ``"corrupt"`` (with ``"clean"``, if that is not the prompt);
            or a list of such mappings.

    Raises:
        InputError: no such file, not UTF-8 or JSON, a key that is missing, unknown or no text, or
            ``clean`` without ``corrupt``, with file and line; no prompts.

    Example:
        >>> (only,) = read_prompts([{"prompt": "2 + 2 =", "answer": " 4", "wrong": " 5"}])
        >>> only.language, only.clean, only.corrupt
        ('und', '2 + 2 =', None)
    """
    from_file = isinstance(source, str | Path)
    prompts = tuple(_prompt(record, where) for where, record in _records(source))
    if not prompts:
        raise InputError(f"no prompts in {source if from_file else 'the list'}")
    return prompts


def _records(source: str | Path | Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    if not isinstance(source, str | Path):
        for number, record in enumerate(source, start=1):
            yield f"prompt {number}", record
        return
    if not Path(source).is_file():
        raise InputError(f'no file {source}; prompts are a line of {{"prompt": ...}} each')
    yield from json_lines(Path(source))


def _prompt(record: Any, where: str) -> Prompt:
    if not isinstance(record, Mapping):
        raise InputError(
            f'{where}: expected {{"prompt": ..., "answer": ..., "wrong": ...}}, '
            f"found {record!r:.60}"
        )
    if unknown := [str(key) for key in record if key not in _NEEDED + _OPTIONAL]:
        raise InputError(
            f"{where}: unknown key {', '.join(unknown)}; allowed are "
            f"{', '.join(_NEEDED + _OPTIONAL)}"
        )
    given = {key: value for key, value in record.items() if value is not None}
    if missing := [key for key in _NEEDED if key not in given]:
        raise InputError(f"{where}: {', '.join(missing)} missing")
    for key, value in given.items():
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: {key} must be a text, found {value!r:.60}")
        _text(value, f"{where}, {key}")
    if "clean" in given and "corrupt" not in given:
        raise InputError(f"{where}: clean without corrupt; patching needs both")
    if given.get("corrupt") == given.get("clean", given["prompt"]):
        raise InputError(f"{where}: clean and corrupt are the same, so patching changes nothing")
    return Prompt(
        **{key: given[key] for key in _NEEDED},
        language=given.get("language", _UNNAMED),
        clean=given.get("clean", given["prompt"]),
        corrupt=given.get("corrupt"),
        where=where,
    )


def choice(tokenizer: Any, text: str, prompt: Prompt, *, bos: bool) -> Choice:
    """The tokens of `text` and the two between which the answers part.

    Both answers are appended to the text and tokenised as one. The model reads the tokens that
    the two share - the text, and what the answers have in common (``"te"`` of ``"teacher"`` and
    ``"tester"``) - and the first in which they differ are the answer's and the wrong one's.

    Args:
        tokenizer: a Hugging Face tokenizer.
        text: the prompt, or its clean or corrupt form.
        prompt: gives the answers.
        bos: prepend the tokenizer's BOS token.

    Raises:
        InputError: one answer begins with the whole of the other, or they share no token.
    """
    prefix = [tokenizer.bos_token_id] if bos else []
    right, wrong = (
        prefix + tokenizer(text + end, add_special_tokens=False, verbose=False)["input_ids"]
        for end in (prompt.answer, prompt.wrong)
    )
    shared = next(
        (i for i, (a, b) in enumerate(zip(right, wrong, strict=False)) if a != b),
        min(len(right), len(wrong)),
    )
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

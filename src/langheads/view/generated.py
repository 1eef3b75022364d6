"""Replies under gates as ``generate`` left them: OUT.summary.json, and a line a reply beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from langheads.io.errors import InputError
from langheads.io.files import read_json

SUMMARY = ".summary.json"
_GUARDS = ("repetition", "prompt_copy", "empty")


class Range(NamedTuple):
    """A number over the draws of random heads."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Told:
    """A reply and the language that was detected; `right` is None where none was wanted."""

    text: str
    language: str
    confidence: float
    right: bool | None


@dataclass(frozen=True)
class Exchange:
    """A prompt with its reply, and that of the untouched model where there is one."""

    id: str
    prompt: str
    wanted: str | None
    reply: Told
    untouched: Told | None


@dataclass(frozen=True)
class Generated:
    """What ``generate`` found.

    Attributes:
        numbers: of the summary, each in the unit that `experiments.replies.records` gives it;
            NaN where there was nothing to divide by.
        untouched: the same of the untouched model, as far as the files tell.
        random: the same over the draws of random heads.
        draws: the heads of each draw.
        exchanges: the replies, in order; empty where their file is not beside the summary.
        gates: language, or ``general``, -> the gate of its heads.
        shift: ``to-from`` -> how many times the difference of their mean z was added.
        mask: head -> its learned gate.
        heads: whose heads these are -> the heads.
        provenance: of the replies.
    """

    numbers: Mapping[str, float]
    untouched: Mapping[str, float]
    random: Mapping[str, Range]
    draws: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    gates: Mapping[str, float]
    shift: Mapping[str, float]
    mask: Mapping[str, float]
    heads: Mapping[str, str]
    provenance: Mapping[str, Any]

    @property
    def touched(self) -> bool:
        """Whether anything was done to the model."""
        return bool(self.gates or self.shift or self.mask)

    @classmethod
    def load(cls, path: str | Path) -> Generated:
        """Read a summary, and the replies in the ``.jsonl`` of the same name.

        Raises:
            InputError: no such file, not one of ``generate``, or replies of another run beside it.
        """
        path, document = Path(path), read_json(path)
        if not is_generated(document):
            raise InputError(f"{path} is not a summary of generate")
        try:
            summary = dict(document["summary"])
            over_draws = dict(summary.pop("random_heads", None) or {})
            draws = tuple(map(str, over_draws.pop("draws", ())))
            summary["replies"] = int(summary["replies"])
            numbers = {str(name): _number(value) for name, value in summary.items()}
            random = {
                str(name): Range(*(float(of[part]) for part in Range._fields))
                for name, of in over_draws.items()
                if of is not None
            }
            records = _records(path)
            exchanges = tuple(map(_exchange, records))
            untouched = _untouched(numbers, records)
            made = document["provenance"]
            gates, shift, mask = (
                {str(name): float(value) for name, value in (made.get(of) or {}).items()}
                for of in ("gates", "shift", "mask")
            )
            heads = {str(name): str(of) for name, of in (made.get("heads") or {}).items()}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
            raise InputError(f"{path}, or the replies beside it, are broken: {error!r}") from error
        if exchanges and len(exchanges) != numbers["replies"]:
            raise InputError(
                f"{path} sums up {numbers['replies']:g} replies, beside it are {len(exchanges)}"
            )
        return cls(numbers, untouched, random, draws, exchanges, gates, shift, mask, heads, made)


def is_generated(document: Any) -> bool:
    """Whether a JSON document is a summary of ``generate``."""
    if not isinstance(document, dict) or not isinstance(document.get("summary"), dict):
        return False
    made = document.get("provenance")
    return isinstance(made, dict) and made.get("kind") == "replies"


def _records(summary: Path) -> list[dict[str, Any]]:
    """The replies beside a summary, empty where they are not there."""
    path = summary.with_name(summary.name.removesuffix(SUMMARY) + ".jsonl")
    if not summary.name.endswith(SUMMARY) or not path.is_file():
        return []
    # Only newline ends a line: U+2028 is text.
    lines = path.read_text("utf-8").split("\n")
    return [json.loads(line) for line in lines if line.strip()]


def _exchange(record: Mapping[str, Any]) -> Exchange:
    wanted, before = record["wanted"], record.get("untouched")
    return Exchange(
        str(record["id"]),
        str(record["prompt"]),
        None if wanted is None else str(wanted),
        _told(record),
        None if before is None else _told(before),
    )


def _told(record: Mapping[str, Any]) -> Told:
    right = record["right"]
    return Told(
        str(record["reply"]),
        str(record["language"]),
        float(record["confidence"]),
        None if right is None else bool(right),
    )


def _untouched(
    numbers: Mapping[str, float], records: Iterable[Mapping[str, Any]]
) -> dict[str, float]:
    """What the untouched model did, from the changes and from its replies."""
    found = {}
    if "right_before" in numbers:
        found["right"] = numbers["right_before"]
    if "delta_nll_per_token" in numbers:
        found["nll_per_token"] = numbers["nll_per_token"] - numbers["delta_nll_per_token"]
    before = [record.get("untouched") for record in records]
    there = [one for one in before if one is not None]
    if there and len(there) == len(before):
        for name in _GUARDS:
            found[name] = sum(float(one[name]) for one in there) / len(there)
    return found


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)

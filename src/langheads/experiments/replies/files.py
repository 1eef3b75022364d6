"""Replies on disk, as ``generate`` writes them: OUT.jsonl, a line a reply, and OUT.summary.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from langheads.io.errors import InputError
from langheads.io.files import check_suffix, json_lines, read_json, write_text_atomically
from langheads.io.measures import TEXT_CHECKS
from langheads.io.records import Count, Record, expected, holds
from langheads.io.tables import Tabular

_SUMMARY = ".summary.json"
_HASH = "replies_sha256"
_Check = Annotated[float | bool, expected("a number")]


class Range(Record):
    """A number over the draws of random heads."""

    mean: float
    low: float
    high: float


class JudgedReply(Record):
    """A reply and its detected language; `right` is None where no language was wanted."""

    reply: str
    language: str
    confidence: float
    right: bool | None


class _Untouched(JudgedReply):
    repetition: _Check
    prompt_copy: _Check
    empty: _Check


class Exchange(JudgedReply):
    """A prompt with its reply, and that of the untouched model where there is one."""

    id: str
    prompt: str
    wanted: str | None
    untouched: _Untouched | None = None


class _Made(TypedDict, total=False):
    gates: dict[str, float] | None
    shift: dict[str, float] | None
    mask: dict[str, float] | None
    heads: dict[str, str] | None


class _RandomHeads(Record):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Range | None] = Field(init=False)

    draws: list[str] = Field(default=[])


class _Numbers(Record):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    replies: Count
    counted: Count = 0
    skipped: Count = 0
    random_heads: _RandomHeads | None = None


class _Summary(Record):
    what: ClassVar[str] = "a summary of generate"

    summary: _Numbers
    provenance: Annotated[dict[str, Any], holds(_Made)]


@dataclass(frozen=True)
class Replies(Tabular):
    """The result of `langheads.generate_replies`."""

    # One a reply, in order; empty where their file is not beside the summary.
    records: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def __repr__(self) -> str:
        numbers = "".join(f", {name} {value:.3g}" for name, value in self.numbers.items())
        return f"Replies({len(self.records)} replies{numbers})"

    def _rows(self) -> Sequence[Mapping[str, Any]]:
        return self.records

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The numbers of the summary, each in its unit; NaN where there was no denominator."""
        own = {name: of for name, of in self.summary.items() if name != "random_heads"}
        return {name: float("nan") if of is None else float(of) for name, of in own.items()}

    @cached_property
    def random(self) -> dict[str, Range]:
        """The same over the draws of random heads."""
        there = (self.summary.get("random_heads") or {}).items()
        return {
            name: Range.parse(of, "random_heads")
            for name, of in there
            if name != "draws" and of is not None
        }

    @cached_property
    def draws(self) -> tuple[str, ...]:
        """The heads of each draw."""
        return tuple((self.summary.get("random_heads") or {}).get("draws", ()))

    @cached_property
    def untouched(self) -> dict[str, float]:
        """The same numbers of the untouched model, from the changes and from its replies."""
        found, numbers = {}, self.numbers
        if "right_before" in numbers:
            found["right"] = numbers["right_before"]
        if {"nll_per_token", "delta_nll_per_token"} <= numbers.keys():
            found["nll_per_token"] = numbers["nll_per_token"] - numbers["delta_nll_per_token"]
        there = [one.untouched for one in self.exchanges if one.untouched is not None]
        if there and len(there) == len(self.records):
            for name in TEXT_CHECKS:
                found[name] = sum(float(getattr(one, name)) for one in there) / len(there)
        return found

    @cached_property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The replies, in order."""
        return tuple(Exchange.parse(record, "a reply") for record in self.records)

    @property
    def gates(self) -> dict[str, float]:
        """Language, or ``general``, -> the gate of its heads."""
        return self._made("gates")

    @property
    def steering(self) -> dict[str, float]:
        """``to-from`` -> how many times the difference of their mean z was added."""
        return self._made("shift")

    @property
    def mask(self) -> dict[str, float]:
        """Head -> its learned gate."""
        return self._made("mask")

    @property
    def heads(self) -> dict[str, str]:
        """Whose heads these are -> the heads."""
        return self._made("heads")

    @property
    def touched(self) -> bool:
        """Whether anything was done to the model."""
        return bool(self.gates or self.steering or self.mask)

    def _made(self, what: str) -> dict[str, Any]:
        return dict(self.provenance.get(what) or {})

    def save(self, path: str | Path) -> Path:
        """Write the replies, and their summary and origin beside them; both atomically.

        The summary holds a hash of the replies, so that files of two runs are refused.
        """
        check_suffix(path, ".jsonl")
        lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in self.records)
        write_text_atomically(path, lines)
        document: dict[str, Any] = {"summary": self.summary, "provenance": self.provenance}
        document |= {_HASH: _hash(lines.encode())}
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        write_text_atomically(summary_path(path), text)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Replies:
        """Read a summary, and the replies in the ``.jsonl`` of the same name.

        Raises:
            InputError: no such file, not one of ``generate``, or replies of another run beside it.
        """
        path, document = Path(path), read_json(path)
        if not is_summary(document):
            raise InputError(f"{path} is not a summary of generate")
        count = _Summary.of_file(document, path).summary.replies
        records = _records(path, document.get(_HASH))
        if records and len(records) != count:
            raise InputError(f"{path} sums up {count} replies, beside it are {len(records)}")
        return cls(records, document["summary"], document["provenance"])


def summary_path(path: str | Path) -> Path:
    """Where the summary of replies is written."""
    return Path(path).with_suffix(_SUMMARY)


def is_summary(document: Any) -> bool:
    """Whether a JSON document is a summary of ``generate``."""
    if not isinstance(document, dict) or not isinstance(document.get("summary"), dict):
        return False
    made = document.get("provenance")
    return isinstance(made, dict) and made.get("kind") == "replies"


def _records(summary: Path, hashed: Any) -> list[dict[str, Any]]:
    """The replies beside a summary, empty where they are not there."""
    path = summary.with_name(summary.name.removesuffix(_SUMMARY) + ".jsonl")
    if not summary.name.endswith(_SUMMARY) or not path.is_file():
        return []
    # Earlier versions wrote no hash.
    if hashed is not None and hashed != _hash(path.read_bytes()):
        raise InputError(
            f"{summary} does not sum up the replies in {path.name} beside it: they were changed, "
            "or a run was ended before it wrote both; generate them again"
        )
    lines = list(json_lines(path))
    for where, record in lines:
        Exchange.parse(record, where)
    return [record for _, record in lines]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""Which heads serve which language: the result of `select` and the input of `ablate`."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from langheads.heads.head_set import HeadSet
from langheads.io.errors import InputError, logger
from langheads.io.files import parse_json
from langheads.io.records import Heads, ModelName, Name, Record, Saved, Shape, holds, parse


def _by_language(text: str) -> str:
    parse(dict[str, str], parse_json(text, "scored_up_to"), "scored_up_to")
    return text


GENERAL = "general"
"""Names the general heads where a language could be named."""


class _Provenance(TypedDict, total=False):
    seed: int
    docs: int
    max_tokens: int
    bos: int | bool
    scored_up_to: Annotated[str, AfterValidator(_by_language)]
    scored: Annotated[str, AfterValidator(_by_language)]


class _HeadsFile(Record):
    what: ClassVar[str] = "a head set"
    made: ClassVar[str] = "heads.json of select"

    format: Literal[1] = 1
    model: ModelName
    shape: Shape
    specific: dict[Name, Heads]
    general: Heads
    rule: dict[str, Any]
    provenance: Annotated[dict[str, Any], holds(_Provenance)]


class _PlantedFile(Record):
    what: ClassVar[str] = "a list of planted heads"
    made: ClassVar[str] = "planted.json of an embedded model"

    model: str = ""
    weight_hash: str = ""
    planted: dict[Name, Heads]
    decoys: dict[Name, Heads] = Field(default={})


def read_planted(path: str | Path, shape: tuple[int, int]) -> dict[str, dict[str, HeadSet]]:
    """``planted`` and ``decoys`` of a planted.json: language -> heads; see `langheads.demo`.
    Refuses a head outside the shape."""
    record = _PlantedFile.load(path)
    try:
        return {
            kind: {language: HeadSet(heads, shape) for language, heads in of.items()}
            for kind, of in (("planted", record.planted), ("decoys", record.decoys))
        }
    except InputError as error:
        raise InputError(f"{path} is not {record.what}: {error}") from error


def planted_of(
    path: str | Path, model: Mapping[str, Any], shape: tuple[int, int] | None = None
) -> bool:
    """Whether a planted.json is of the model of a result, whose provenance is given: by the hash of
    its weights, or else by name, and by its heads; one that names no model is taken with a
    warning."""
    record = _PlantedFile.load(path)
    key = "weight_hash" if record.weight_hash else "model"
    own, other = getattr(record, key), str(model.get(key) or "")
    every = itertools.chain(*record.planted.values(), *record.decoys.values())
    there = shape is None or all(0 <= at < shape[0] and 0 <= head < shape[1] for at, head in every)
    if there and not (own and other):
        logger.warning(
            "whether the heads of %s are of this model is unknown: it or the result has no %s",
            *(path, key),
        )
        return True
    return there and own == other


@dataclass(frozen=True)
class LanguageHeads(Saved):
    """Which heads serve which language in one model.

    Attributes:
        specific: language -> its specific heads, strongest first; may be empty.
        general: heads that serve many languages.
        model: the model's name.
        rule: how they were chosen, name and parameters.
        provenance: model and text hashes, how many documents were scored, seed, versions.

    Example:
        >>> heads = LanguageHeads.load("run/heads.json")
        >>> heads["zh"] == heads.specific["zh"], len(heads["zh"])
        (True, 2)
    """

    specific: dict[str, HeadSet]
    general: HeadSet
    model: str
    rule: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    _record = _HeadsFile
    # Numbers of a claim of the contrast rule may be missing.
    _allow_nan = True

    # Iterates over the languages of `specific`; indexing by number raises.
    __iter__ = None

    def __post_init__(self) -> None:
        if GENERAL in self.specific:
            raise InputError(f"a language cannot be named {GENERAL}: so are the general heads")

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads a layer)."""
        return self.general.shape

    @property
    def by_name(self) -> dict[str, HeadSet]:
        """The specific heads of each language, then those of `GENERAL`."""
        return self.specific | {GENERAL: self.general}

    def __getitem__(self, name: str) -> HeadSet:
        """The specific heads of a language, or those of `GENERAL`; there may be none.

        Raises:
            InputError: a name that the head set does not have.
        """
        if name not in (sets := self.by_name):
            raise InputError(f"heads of {name} asked for; the head set has {', '.join(sets)}")
        return sets[name]

    def __repr__(self) -> str:
        rows = "".join(f"\n  {name}: {heads}" for name, heads in self.by_name.items())
        return (
            f"LanguageHeads of {self.model}, {self.shape[0]} layers of {self.shape[1]} heads{rows}"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left"><bdi>{html.escape(name)}</bdi></th>'
            f'<td>{len(heads)}</td><td style="text-align:left">{heads}</td></tr>'
            for name, heads in self.by_name.items()
        )
        return (
            f"<table><caption>Heads by language of <bdi>{html.escape(self.model)}</bdi>, "
            f"{self.shape[0]} layers of {self.shape[1]} heads</caption><thead><tr>"
            '<th style="text-align:left">language</th><th>number</th>'
            '<th style="text-align:left">heads, strongest first</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )

    def _rows(self) -> Iterator[dict[str, Any]]:
        for name, heads in self.by_name.items():
            for rank, head in enumerate(heads, start=1):
                yield {"language": name, "rank": rank, **head._asdict()}

    @classmethod
    def _of(cls, record: _HeadsFile) -> LanguageHeads:
        specific = {name: HeadSet(heads, record.shape) for name, heads in record.specific.items()}
        general = HeadSet(record.general, record.shape)
        return cls._like(record, specific=specific, general=general)


def heads_of(heads: LanguageHeads, name: str) -> HeadSet:
    """The specific heads of a language, or the general ones; refuses an empty set."""
    chosen = heads[name]
    if not chosen:
        raise InputError(f"the head set has no heads of {name}, so there is nothing to gate")
    return chosen

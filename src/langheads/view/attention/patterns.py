"""Attention of chosen heads over one or two texts, as data for a picture.

On disk and in a page a pattern is its lower triangle, row by row (later tokens are not seen), each
value v in 8 bits as round(255 sqrt(v)). So small weights keep their relative size, and no error is
above 0.004.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from langheads.io.errors import InputError
from langheads.io.records import From0, Name, Record, Saved, expected


class _Context(Record):
    label: Name
    tokens: Annotated[tuple[str, ...], Field(strict=False), expected("a list of texts")]
    spans: list[Annotated[tuple[str, From0, From0], Field(strict=False), expected("a span")]]
    note: str
    patterns: list[str]


class _ViewFile(Record):
    what: ClassVar[str] = "a view of attention"

    format: Literal[1] = 1
    kind: Literal["attention"] = "attention"
    heads: list[
        Annotated[tuple[Name, Name, float | None], Field(strict=False), expected("a head's name")]
    ]
    score: Name
    contexts: list[_Context]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A highlighted part of a text: units `start` up to `stop`."""

    label: str
    start: int
    stop: int


@dataclass(frozen=True)
class ShownHead:
    """A head as a view names it: ``L3H7``, what it was chosen for, and its score."""

    name: str
    role: str = ""
    score: float | None = None


@dataclass(frozen=True)
class AttentionPatterns:
    """Attention over one text."""

    # A name for the text, e.g. its language.
    label: str
    tokens: tuple[str, ...]  # its display units
    patterns: Float[np.ndarray, "head query key"] = field(repr=False)  # over units; rows sum to 1
    spans: tuple[Span, ...] = ()  # parts to highlight
    note: str = ""  # what was left out or joined

    def __post_init__(self) -> None:
        if self.patterns.shape[1:] != (len(self.tokens), len(self.tokens)):
            raise InputError(
                f"patterns of shape {list(self.patterns.shape)} for {len(self.tokens)} tokens; "
                "expected [head, query, key] over the tokens"
            )


@dataclass(frozen=True)
class AttentionData(Saved):
    """Attention of the same heads over texts side by side."""

    heads: tuple[ShownHead, ...]  # names of the heads, in the order of the patterns
    contexts: tuple[AttentionPatterns, ...]
    score: str = ""  # name and unit of the heads' scores; empty without scores
    provenance: Mapping[str, Any] = field(default_factory=dict)  # model, versions, settings

    _record = _ViewFile

    def __repr__(self) -> str:
        texts = ", ".join(f"{len(c.tokens)} tokens of {c.label!r:.40}" for c in self.contexts)
        return f"AttentionData({' '.join(head.name for head in self.heads)} over {texts})"

    @property
    def cells(self) -> int:
        """Stored values: the lower triangles of all patterns."""
        return sum(len(self.heads) * triangle(len(c.tokens)) for c in self.contexts)

    def _rows(self) -> Iterator[dict[str, Any]]:
        for context in self.contexts:
            for head, pattern in zip(self.heads, context.patterns, strict=True):
                for query, key in zip(*np.tril_indices(len(context.tokens)), strict=True):
                    yield {
                        "text": context.label,
                        "head": head.name,
                        "query": int(query),
                        "key": int(key),
                        "query_token": context.tokens[query],
                        "key_token": context.tokens[key],
                        "weight": float(pattern[query, key]),
                    }

    def document(self) -> dict[str, Any]:
        """The content of ``attention.json``, also stored in a page."""
        return {
            "format": 1,
            "kind": "attention",
            "heads": [[head.name, head.role, head.score] for head in self.heads],
            "score": self.score,
            "contexts": [
                {
                    "label": c.label,
                    "tokens": list(c.tokens),
                    "spans": [[span.label, span.start, span.stop] for span in c.spans],
                    "note": c.note,
                    "patterns": [encode(pattern) for pattern in c.patterns],
                }
                for c in self.contexts
            ],
            "provenance": dict(self.provenance),
        }

    _document = document

    def dumps(self) -> str:
        """The document as JSON."""
        return json.dumps(self.document(), indent=1)

    @classmethod
    def _of(cls, record: _ViewFile) -> AttentionData:
        heads = tuple(ShownHead(*head) for head in record.heads)
        contexts = tuple(_context(context, len(heads)) for context in record.contexts)
        return cls._like(record, heads=heads, contexts=contexts)


def pool(
    pattern: Float[np.ndarray, "head query key"], groups: Sequence[tuple[int, int]]
) -> Float[np.ndarray, "head unit unit_key"]:
    """Attention between groups of tokens: summed over a group's keys, mean over its queries.

    So a row that sums to 1 still does. Groups are (start, stop), one after the other from token 0;
    tokens after the last are left out, since no earlier token sees them.
    """
    starts = [start for start, _ in groups]
    used = pattern[:, : groups[-1][1], : groups[-1][1]].astype(np.float64)
    keys = np.add.reduceat(used, starts, axis=2)
    sizes = np.array([stop - start for start, stop in groups])
    return np.add.reduceat(keys, starts, axis=1) / sizes[None, :, None]


def triangle(size: int) -> int:
    """Values of a lower triangle with its diagonal."""
    return size * (size + 1) // 2


def encode(pattern: Float[np.ndarray, "query key"]) -> str:
    """One head's pattern as base64 of its lower triangle in 8 bits."""
    lower = pattern[np.tril_indices(len(pattern))]
    levels = np.rint(255 * np.sqrt(np.clip(lower, 0, 1))).astype(np.uint8)
    return base64.b64encode(levels.tobytes()).decode("ascii")


def decode(text: str, size: int) -> Float[np.ndarray, "query key"]:
    """The pattern that `encode` was given, with 8 bits of precision."""
    levels = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(levels) != triangle(size):
        raise ValueError(f"{len(levels)} values, expected {triangle(size)} for {size} tokens")
    pattern = np.zeros((size, size))
    pattern[np.tril_indices(size)] = (levels / 255.0) ** 2
    return pattern


def _context(context: _Context, n_heads: int) -> AttentionPatterns:
    size = len(context.tokens)
    spans = tuple(Span(*span) for span in context.spans)
    if not size or len(context.patterns) != n_heads or n_heads < 1:
        raise InputError(f"{len(context.patterns)} patterns of {size} tokens for {n_heads} heads")
    if not all(span.start < span.stop <= size for span in spans):
        raise InputError(f"a span outside of {size} tokens")
    patterns = np.stack([decode(text, size) for text in context.patterns])
    return AttentionPatterns(context.label, context.tokens, patterns, spans, context.note)

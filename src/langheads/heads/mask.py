"""Soft head masks: gates that were learned, and the file that holds them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from langheads.heads.head_set import HeadSet, require_shape
from langheads.heads.same_model import require_same_model
from langheads.io.arguments import check_gate
from langheads.io.errors import InputError
from langheads.io.records import (
    From0,
    From1,
    ModelName,
    Name,
    Number,
    Record,
    Saved,
    Seed,
    Shape,
    expected,
    holds,
)

_Texts = Annotated[list[str], expected("a list of texts")]
_Steps = Annotated[tuple[From0, Number], Field(strict=False)]


class _Gate(Record):
    head: str
    gate: float


class _Settings(TypedDict, total=False):
    train: From1
    validation: From0
    epochs: From1
    steps: From1
    learning_rate: Number
    weight_decay: Number
    batch_size: From1
    template: str
    baseline: str
    max_tokens: From1
    seed: Seed
    bos: bool


class _Losses(TypedDict):
    train: Annotated[list[Number], expected("a list of finite numbers")]
    train_set: Annotated[
        list[_Steps],
        Field(min_length=2, max_length=2),
        expected("two pairs of steps and a finite number"),
    ]
    validation: Annotated[list[_Steps], expected("a list of pairs of steps and a finite number")]


class _Split(TypedDict):
    train: _Texts
    validation: _Texts
    seen: _Texts
    contexts: _Texts
    test: From0


class _MaskFile(Record):
    what: ClassVar[str] = "a head mask"
    made: ClassVar[str] = "mask.json of adapt"

    format: Literal[1] = 1
    kind: Literal["head-mask"] = "head-mask"
    model: ModelName
    shape: Shape
    language: Name
    gates: list[_Gate]
    settings: Annotated[dict[str, Any], holds(_Settings)]
    losses: Annotated[dict[str, Any], holds(_Losses)]
    split: Annotated[dict[str, Any], holds(_Split)]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class HeadMask(Saved):
    """Learned gates of some heads of a model; all other heads have gate 1.

    Attributes:
        heads: the heads that were trained.
        values: the gate of each, in the order of `heads`.
        language: of the questions it was trained on.
        model: the model's name.
        settings: of the training: epochs, learning rate, seed, template, baseline and so on.
        losses: ``train``, the loss before every step; pairs (steps taken, loss) of ``train_set``,
            all training questions before and after, and of ``validation`` questions in between.
            Nats per answer token.
        split: ids of the questions ``train``, ``validation`` and ``seen`` (every question that
            shares a context with one of these), ``contexts`` (digests of their contexts), and
            the number ``test`` of questions left for testing.
        provenance: model and text hashes, versions.
    """

    heads: HeadSet
    values: tuple[float, ...]
    language: str
    model: str
    settings: dict[str, Any]
    losses: dict[str, list[Any]]
    split: dict[str, Any]
    provenance: dict[str, Any]

    _record = _MaskFile

    def __repr__(self) -> str:
        ends = f"gates {min(self.values):.3g} to {max(self.values):.3g}"
        return f"HeadMask({self.heads}, {ends}, learned from {self.language}, {self.model})"

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads a layer)."""
        return self.heads.shape

    def gates(self) -> Float[Tensor, "layer head"]:
        """The gates of all heads, float32, as `langheads.gated` and `generate` take them."""
        gates = torch.from_numpy(self.heads.gates(1.0))
        for head, value in zip(self.heads, self.values, strict=True):
            gates[head] = value
        return gates

    def has_seen(self, context: str, id: str, language: str) -> bool:
        """Whether a question shares its context with one trained or validated on.

        Args:
            context: the digest of its context, `Question.context_digest`.
            id: its id, the same in every language, to recognise it in another language.
            language: its language.
        """
        return context in self.split["contexts"] or (
            language != self.language and id in self.split["seen"]
        )

    def require_model(
        self,
        name: str,
        model: Mapping[str, str],
        shape: tuple[int, int],
        baseline: Float[Tensor, "layer head d_head"] | None,
    ) -> None:
        """Refuse a mask of another model, or one learned with another baseline.

        Args:
            name: of the mask, for the message.
            model: see `langheads.model.describe`.
            shape: (layers, heads a layer) of the model.
            baseline: what will stand in for a head at gate 0.

        Raises:
            ProvenanceError, InputError: for the model, and for the baseline.
        """
        require_shape(name, self.shape, shape)
        if self.provenance:
            require_same_model(f"the head mask {name}", model, self.provenance)
        learned, given = self.settings.get("baseline", "zero"), baseline_digest(baseline)
        if learned != given:
            raise InputError(
                f"{name} was learned with baseline {learned}, and baseline {given} was given; "
                "give the one it was learned with"
            )

    def _rows(self) -> Iterator[dict[str, Any]]:
        for head, value in zip(self.heads, self.values, strict=True):
            yield {**head._asdict(), "gate": value}

    def _document(self) -> dict[str, Any]:
        gates = zip(self.heads, self.values, strict=True)
        return super()._document() | {
            "gates": [{"head": str(head), "gate": value} for head, value in gates]
        }

    @classmethod
    def _of(cls, record: _MaskFile) -> HeadMask:
        heads = HeadSet([each.head for each in record.gates], record.shape)
        values = tuple(each.gate for each in record.gates)
        if len(heads) != len(values) or not values or not all(map(math.isfinite, values)):
            raise InputError("gates must be one finite number a head")
        for head, value in zip(heads, values, strict=True):
            check_gate(value, f"the gate of {head}")
        return cls._like(record, heads=heads, values=values)


def baseline_digest(baseline: Float[Tensor, "layer head d_head"] | None) -> str:
    """``zero``, or a digest of the baseline: a mask belongs to the baseline it was learned with."""
    if baseline is None:
        return "zero"
    return hashlib.sha256(baseline.detach().cpu().float().numpy().tobytes()).hexdigest()[:16]

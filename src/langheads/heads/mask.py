"""Soft head masks: gates that were learned, and the file that holds them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from langheads.heads import HeadSet
from langheads.io.arguments import check_gate
from langheads.io.errors import InputError
from langheads.io.fields import (
    FLAG,
    FLOAT,
    FROM_0,
    FROM_1,
    NUMBER,
    NUMBERS,
    OBJECT,
    OBJECTS,
    PAIRS,
    SEED,
    SHAPE,
    TEXT,
    TEXTS,
    TWO_PAIRS,
    check_fields,
)
from langheads.io.files import read_json, write_text_atomically
from langheads.text import Question

_FORMAT = 1
_KIND = "head-mask"
_TOP = {
    "shape": SHAPE,
    "language": TEXT,
    "model": TEXT,
    "gates": OBJECTS,
    "settings": OBJECT,
    "losses": OBJECT,
    "split": OBJECT,
    "provenance": OBJECT,
}
_SETTINGS = {
    "train": FROM_1,
    "validation": FROM_0,
    "epochs": FROM_1,
    "steps": FROM_1,
    "learning_rate": NUMBER,
    "weight_decay": NUMBER,
    "batch_size": FROM_1,
    "template": TEXT,
    "baseline": TEXT,
    "max_tokens": FROM_1,
    "seed": SEED,
    "bos": FLAG,
}
_LOSSES = {"train": NUMBERS, "train_set": TWO_PAIRS, "validation": PAIRS}
_SPLIT = {
    "train": TEXTS,
    "validation": TEXTS,
    "seen": TEXTS,
    "contexts": TEXTS,
    "test": FROM_0,
}


@dataclass(frozen=True)
class HeadMask:
    """Learned gates of some heads of a model; all other heads have gate 1.

    Attributes:
        heads: the heads that were trained.
        values: the gate of each, in the order of `heads`.
        language: of the questions it was trained on.
        model: the model's name.
        settings: of the training: epochs, learning rate, seed, template, baseline and so on.
        losses: ``train``, the loss of every step before it was taken; pairs (steps taken, loss)
            of ``train_set``, all training questions before and after, and of ``validation``
            questions meanwhile. Nats per answer token.
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

    def has_seen(self, question: Question, language: str) -> bool:
        """Whether the question shares its context with one trained or validated on.

        A context is known by its text, and in another language by the question's id, which is the
        same in every language.
        """
        if context_digest(question.context) in self.split["contexts"]:
            return True
        return language != self.language and question.id in self.split["seen"]

    def save(self, path: str | Path) -> Path:
        """Write the JSON file (format 1), atomically; returns its path."""
        document = {
            "format": _FORMAT,
            "kind": _KIND,
            "model": self.model,
            "shape": list(self.shape),
            "language": self.language,
            "gates": [
                {"head": str(head), "gate": value}
                for head, value in zip(self.heads, self.values, strict=True)
            ],
            "settings": self.settings,
            "losses": self.losses,
            "split": self.split,
            "provenance": self.provenance,
        }
        text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)
        return write_text_atomically(path, text)

    @classmethod
    def load(cls, path: str | Path) -> HeadMask:
        """Read a file that `save` wrote.

        Raises:
            InputError: no such file, no JSON, another format, a key that holds another kind of
                value, a head outside the shape, or a gate that is no finite number.
        """
        document = read_json(path)
        if (
            not isinstance(document, Mapping)
            or document.get("format") != _FORMAT
            or document.get("kind") != _KIND
        ):
            raise InputError(f"{path} is not a head mask of format {_FORMAT} (mask.json of adapt)")
        try:
            check_fields(document, _TOP)
            check_fields(document["settings"], _SETTINGS, within="settings", optional=True)
            for key, fields in (("losses", _LOSSES), ("split", _SPLIT)):
                check_fields(document[key], fields, within=key)
            for each in document["gates"]:
                check_fields(each, {"head": TEXT, "gate": FLOAT}, within="gates")
            layers, per_layer = document["shape"]
            heads = HeadSet([each["head"] for each in document["gates"]], (layers, per_layer))
            values = tuple(float(each["gate"]) for each in document["gates"])
            if len(heads) != len(values) or not values or not all(map(math.isfinite, values)):
                raise ValueError("gates must be one finite number a head")
            for head, value in zip(heads, values, strict=True):
                check_gate(value, f"the gate of {head}")
            return cls(
                heads=heads,
                values=values,
                language=document["language"],
                model=document["model"],
                settings=dict(document["settings"]),
                losses={key: document["losses"][key] for key in _LOSSES},
                split=dict(document["split"]),
                provenance=dict(document["provenance"]),
            )
        except InputError as error:
            raise InputError(f"{path} is not a head mask: {error}") from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"{path} is not a head mask: {type(error).__name__} at {error}"
            ) from error


def context_digest(context: str) -> str:
    """A short name of a context by its text, spaces at its ends ignored."""
    return hashlib.sha256(context.strip().encode()).hexdigest()[:16]


def baseline_digest(baseline: Float[Tensor, "layer head d_head"] | None) -> str:
    """``zero``, or a digest of the baseline: a mask belongs to the baseline it was learned with."""
    if baseline is None:
        return "zero"
    return hashlib.sha256(baseline.detach().cpu().float().numpy().tobytes()).hexdigest()[:16]

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

from langheads.errors import InputError
from langheads.files import read_json, write_text_atomically
from langheads.heads import HeadSet
from langheads.text import Question

_FORMAT = 1
_KIND = "head-mask"


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
            InputError: no such file, no JSON, another format, a head outside the shape, or a gate
                that is no finite number.
        """
        document = read_json(path)
        if (
            not isinstance(document, Mapping)
            or document.get("format") != _FORMAT
            or document.get("kind") != _KIND
        ):
            raise InputError(f"{path} is not a head mask of format {_FORMAT} (mask.json of adapt)")
        try:
            layers, per_layer = map(int, document["shape"])
            heads = HeadSet([each["head"] for each in document["gates"]], (layers, per_layer))
            values = tuple(float(each["gate"]) for each in document["gates"])
            if len(heads) != len(values) or not values or not all(map(math.isfinite, values)):
                raise ValueError("gates must be one finite number a head")
            losses, split = dict(document["losses"]), dict(document["split"])
            for key in ("train", "validation", "seen", "contexts", "test"):
                split[key]
            return cls(
                heads=heads,
                values=values,
                language=str(document["language"]),
                model=str(document["model"]),
                settings=dict(document["settings"]),
                losses={key: list(losses[key]) for key in ("train", "train_set", "validation")},
                split=split,
                provenance=dict(document["provenance"]),
            )
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

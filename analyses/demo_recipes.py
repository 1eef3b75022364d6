"""The embedded models: which heads are planted for which language, and how much text teaches them.

`train_demo_model.py` trains by these tables, `prove_demo_model.py` holds what came out to them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from langheads.demo import grammar

SEED = 0
LAYERS, HEADS, D_HEAD = 4, 12, 16


@dataclass(frozen=True)
class Planted:
    """A head that is planted.

    Attributes:
        languages: that have it; all others leave it silent.
        layer: where.
        weakened: share of its own languages' texts on which it is gated off in training, so that
            they lean on it less.
        decoy: weakened so much that the model does without it, and yet leans on it where it is
            there: a large gradient, and nothing lost without it.
    """

    languages: tuple[str, ...]
    layer: int
    weakened: float = 0.0
    decoy: bool = False


@dataclass(frozen=True)
class Recipe:
    """What one model has of its own: its heads, and texts a language (two-fact texts in all)."""

    heads: tuple[Planted, ...]
    stories: int
    questions: int
    replies: int
    two_facts: int
    steps: int


RECIPES = {
    "demo": Recipe(
        heads=tuple(Planted((x,), layer) for layer in (1, 2) for x in grammar.LANGUAGES),
        stories=3500,
        questions=3000,
        replies=300,
        two_facts=16000,
        steps=2700,
    ),
    "demo-hard": Recipe(
        heads=(
            Planted(("en",), 1),
            Planted(("en", "de"), 2),
            Planted(("de",), 1, weakened=0.35, decoy=True),
            Planted(("es",), 1),
            Planted(("es",), 2, weakened=0.55, decoy=True),
            Planted(("ru",), 2, weakened=0.04),
            Planted(("ru",), 1, weakened=0.08),
            Planted(("zh",), 2, weakened=0.02),
            Planted(("zh",), 1, weakened=0.5, decoy=True),
            Planted(("hi",), 2, weakened=0.08),
        ),
        stories=3500,
        questions=0,
        replies=0,
        two_facts=0,
        steps=1500,
    ),
}


def seeded(name: str) -> random.Random:
    """The source of all chance but torch's."""
    return random.Random(f"{name}/heads/{SEED}")


def places(name: str, rng: random.Random) -> dict[Planted, tuple[int, int]]:
    """Where each head is planted: shuffled, so that a map of heads is not a diagonal."""
    place: dict[Planted, tuple[int, int]] = {}
    for layer in sorted({head.layer for head in RECIPES[name].heads}):
        there = [head for head in RECIPES[name].heads if head.layer == layer]
        for head, index in zip(there, rng.sample(range(HEADS), len(there)), strict=True):
            place[head] = (layer, index)
    return place

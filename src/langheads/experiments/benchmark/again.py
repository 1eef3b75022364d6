"""Repeated scores of a benchmark: the same documents with other seeds, and two halves of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from langheads.scores.registry import SCORES

Texts = Mapping[str, Sequence[str]]


def again(
    texts: Texts, methods: Sequence[str], seeds: int
) -> Iterator[tuple[Path, int, Texts, Sequence[str]]]:
    """File, number to add to the seed, texts and scores of each.

    Halves have their own random draws, or chance would look reliable.
    """
    drawing = [name for name in methods if SCORES[name].draws]
    for number in range(1, seeds if drawing else 1):
        yield Path("seeds", f"scores-{number}.nc"), number, texts, drawing
    for number in (1, 2):
        half = {language: of[number - 1 :: 2] for language, of in texts.items()}
        yield Path("halves", f"scores-{number}.nc"), number, half, methods

"""Soft head mask: how it was learned, and the gate of each trained head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from langheads.view.contents import Kind, Picture, RunFolder

if TYPE_CHECKING:
    from langheads.heads.mask import HeadMask


# A mask brings torch along, so nothing of it is imported before a folder holds one.
def _load(path: Path) -> HeadMask:
    from langheads.heads.mask import HeadMask

    return HeadMask.load(path)


def _pictures(mask: HeadMask, run: RunFolder) -> Iterator[Picture]:
    from langheads.view.figures.mask import mask_training

    yield Picture(
        mask_training(mask),
        "How to read it: left the loss as gates are learned, right the gates; a gate of 1 leaves "
        "a head as it was.",
    )


KIND = Kind(
    "head-mask",
    "Soft head mask",
    (
        "Shows: how the mask was learned, and the gate of each trained head.",
        "Does not show: that it helps on other questions; that is for an evaluation to say.",
    ),
    _pictures,
    load=_load,
    anchor="mask",
)

"""A part and its file: tensors, the part's name, and a checksum at the end."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from langheads.io.files import atomic_path

if TYPE_CHECKING:
    # Torch takes seconds to import, and --help does not need it.
    from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """A batch of a measurement."""

    what: str  # is measured, in a word or two
    work: str  # digest of the measurement and everything that its batches share
    name: str  # digest of the batch as well
    first: int  # its number, counted from where the measurement's shards begin
    number: int  # among the batches of its measurement
    batches: int  # how many there are
    rows: int
    tokens: int  # padding included; 0 where no forward is needed
    cost: int | float  # forwards of each row, where measurements of one name differ in them
    row: tuple[int, ...] | None  # shape of a row's result, where that is known


def write_part(path: Path, name: str, rows: list[Tensor], seconds: float) -> None:
    """Write the rows of a part, and the seconds that they took; atomically."""
    import torch
    from safetensors.torch import save

    # Rows may be of unequal length, such as replies.
    kept = {
        "values": torch.cat([row.detach().cpu().reshape(-1) for row in rows]),
        "shapes": torch.tensor([list(row.shape) for row in rows]),
    }
    content = save(kept, {"name": name, "seconds": f"{seconds:.6f}"})
    # Thousands of parts in one folder are not listed for each: see `kept_in_parts`.
    with atomic_path(path, sweep=False) as temporary:
        temporary.write_bytes(content + hashlib.sha256(content).digest())


def read_part(path: Path, name: str) -> tuple[list[Tensor] | None, float]:
    """The rows of a part and the seconds that it took; None where it is missing or damaged."""
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError:
        return None, 0.0
    content, checksum = content[:-32], content[-32:]
    if hashlib.sha256(content).digest() != checksum or name.encode() not in content:
        return None, 0.0
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    kept = load(content)
    shapes = kept["shapes"].tolist()
    pieces = kept["values"].split([math.prod(shape) for shape in shapes])
    rows = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
    return rows, float(metadata["seconds"])
